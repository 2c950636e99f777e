"""How time and memory of a training step grow with the number of classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

COLORS = ("#d55e00", "#0072b2", "#009e73", "#777777")


def draw_many_classes(curves: Mapping[str, np.ndarray], *, title: str) -> Figure:
    """Two subplots on logarithmic axes, time and memory.

    Args:
        curves: by label, four at most, [K, 3]: number of classes, milliseconds a step, megabytes of the process at its
            peak. A curve that ends before others do gets a cross there.
        title: of the figure.

    Returns:
        The figure, 10 by 4.2 inches.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    most = max(rows[-1][0] for rows in curves.values())
    for axes, column, label in zip(
        figure.subplots(1, 2), (1, 2), ("time of a step (ms)", "peak memory (MB)"), strict=True
    ):
        for (name, rows), color in zip(curves.items(), COLORS, strict=False):
            classes, values = np.asarray(rows)[:, [0, column]].T
            axes.plot(classes, values, "o-", color=color, label=name, markersize=5)
            if classes[-1] < most:
                axes.plot(classes[-1], values[-1], "x", color=color, markersize=14, markeredgewidth=2.5)
        ends = [row[column] for rows in curves.values() for row in rows]
        decades = 10 ** np.floor(np.log10(min(ends))), 10 ** np.ceil(np.log10(max(ends)))
        axes.set(xscale="log", yscale="log", ylim=decades, xlabel="number of classes C", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.minorticks_off()
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.axes[0].legend(frameon=False, loc="upper left", title="×: goes no further", alignment="left")
    figure.suptitle(title, fontsize="medium")
    return figure
