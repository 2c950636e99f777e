"""What a sweep measured: heat maps over two settings, or lines over one, with error bars over the seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {
    "center_loss_weight": "λ", "center_alpha": "α", "feature_width": "D", "accuracy": "accuracy by softmax (%)",
    "accuracy_nearest_center": "accuracy by nearest center (%)",
    "inter_over_intra": "smallest inter / mean intra distance", "auroc_distance": "area under ROC, distance",
    "auroc_softmax": "area under ROC, softmax",
}  # fmt: skip


@rc_context(rcParamsDefault)  # whatever the user's own style is
def figure(axes: Mapping[str, Sequence[str]], grids: Mapping[str, np.ndarray]) -> Figure:
    """A subplot for each measure.

    Args:
        axes: by setting, one or two, its values.
        grids: by measure, [values of the first setting, (of the second,) seeds]; NaN where nothing was measured.
            Accuracies in 0..1.
    """
    drawn = Figure(figsize=(3.6 * len(grids), 3.2), layout="constrained")
    subplots = drawn.subplots(1, len(grids), squeeze=False)[0]
    for subplot, (name, grid) in zip(subplots, grids.items(), strict=True):
        grid = 100 * grid if name.startswith("accuracy") else grid
        (_heat_map if len(axes) == 2 else _line)(subplot, axes, grid)
        subplot.set_title(LABELS[name], fontsize=9)
        subplot.tick_params(labelsize=8)
    return drawn


def _heat_map(subplot: Axes, axes: Mapping[str, Sequence[str]], grid: np.ndarray) -> None:
    """The means over the seeds, and each as a number."""
    (down, rows), (across, columns) = axes.items()
    means = np.array([[of[~np.isnan(of)].mean() if not np.isnan(of).all() else np.nan for of in row] for row in grid])
    image = subplot.imshow(means, cmap="Greys", aspect="auto", origin="lower")
    for (i, j), mean in np.ndenumerate(means):
        if not np.isnan(mean):
            color = "white" if image.norm(mean) > 0.5 else "black"
            subplot.text(j, i, f"{mean:#.4g}", ha="center", va="center", fontsize=8, color=color)
    subplot.set_xticks(range(len(columns)), columns)
    subplot.set_yticks(range(len(rows)), rows)
    subplot.set(xlabel=LABELS.get(across, across), ylabel=LABELS.get(down, down))


def _line(subplot: Axes, axes: Mapping[str, Sequence[str]], grid: np.ndarray) -> None:
    """Each seed a dot, their mean a line, their standard deviation (n − 1) bars."""
    (name, values), at = next(iter(axes.items())), np.arange(len(grid))
    known = [of[~np.isnan(of)] for of in grid]
    means = [of.mean() if len(of) else np.nan for of in known]
    bars = [of.std(ddof=1) if len(of) > 1 else 0.0 for of in known]
    subplot.errorbar(at, means, bars, color="black", marker="o", markersize=4, capsize=3, linewidth=1)
    subplot.plot(np.repeat(at, grid.shape[1]), grid.ravel(), ".", color="0.6", markersize=4, zorder=0)
    subplot.set_xticks(at, values)
    subplot.set_xlabel(LABELS.get(name, name))
    subplot.grid(axis="y", color="0.9")
