"""What the loop form of the center loss costs beside the gather form: time, graph ops, accuracy."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

COLORS = {"naive": "#d55e00", "gather": "#0072b2"}
NAMES = {"naive": "loop over classes", "gather": "gather"}
EPSILON = float(np.finfo(np.float32).eps)
NO_ERROR = 2e-9  # where an error of exactly zero is drawn: it has no place on a logarithmic axis


def draw_loss_comparison(
    costs: Mapping[str, np.ndarray], errors: Mapping[str, np.ndarray], *, distance: float
) -> Figure:
    """Left, time and graph ops of a step against the number of classes; right, errors against the feature scale.

    Args:
        costs: for "naive" and "gather" [K, 3]: number of classes, milliseconds a step, graph ops of a step. K may
            differ, and be 0.
        errors: for the same [S, 3]: feature scale, relative error of the value, and of the gradient.
        distance: about how far the features of `errors` are from their centers.

    Returns:
        The figure, 9 by 4.2 inches.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplot_mosaic([["time", "error"], ["ops", "error"]], width_ratios=[1, 1.25])
    for name, column, label in (("time", 1, "time of a step (ms)"), ("ops", 2, "graph ops of a step")):
        for loss, rows in costs.items():
            rows = np.reshape(rows, (-1, 3))
            axes[name].plot(rows[:, 0], rows[:, column], "o-", color=COLORS[loss], label=NAMES[loss], markersize=4)
        axes[name].set(xscale="log", yscale="log", ylabel=label)
    axes["time"].sharex(axes["ops"])
    axes["time"].tick_params(labelbottom=False)
    axes["time"].legend(frameon=False, loc="upper left")
    axes["time"].set_title("Cost of the loss and its gradient", fontsize="medium")
    axes["ops"].set_xlabel("number of classes C")

    for column, name, line in ((1, "value", "o-"), (2, "gradient", "s")):
        for loss, rows in errors.items():
            scale, error = np.reshape(rows, (-1, 3))[:, [0, column]].T
            axes["error"].plot(
                scale, np.where(error > 0, error, NO_ERROR), line, color=COLORS[loss], label=f"{name}, {NAMES[loss]}",
                markersize=7 if (loss, name) == ("naive", "gradient") else 4,  # seen below gather's at the same place
                markerfacecolor="none" if name == "gradient" else None,
            )  # fmt: skip
    axes["error"].set(xscale="log", yscale="log", xlabel="feature scale |c|", ylabel="relative error")
    axes["error"].set_title(f"Error in float32, |x − c| near {distance:g}", fontsize="medium")
    for height, text in ((EPSILON, "float32\nepsilon"), (NO_ERROR, "exact")):
        axes["error"].axhline(height, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        beside = axes["error"].get_yaxis_transform()
        axes["error"].text(1.01, height, text, color="0.3", va="center", transform=beside, fontsize="small")
    axes["error"].legend(frameon=False, loc="upper left")
    for axis in axes.values():
        axis.spines[["top", "right"]].set_visible(False)
        axis.minorticks_off()
        axis.grid(color="0.92", linewidth=0.6)
        axis.set_axisbelow(True)
    return figure
