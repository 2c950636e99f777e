"""Time and memory of a step against the number of classes, C = 10 to 1,000,000, for four ways to write it.

The loop over the classes and the gather of `centerloss.py`, each with `update_centers` through py_func; the gather with
the update in the graph; and in PyTorch the squared distances of all B features to all C centers, of which a mask keeps
the own ones and autograd moves the centers, as the most used repository does it. D = 64, B = 256, float32.
A way is given up where it is not ready for its first timed step after five minutes, or where its process dies.
"""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.center_updates import graph_step
from benchmarks.table import DOCS
from benchmarks.turns import take_turns
from compare_losses import draw_inputs
from running.run_folder import write_whole

WIDTH, BATCH = 64, 256
CLASSES = (10, 100, 1000, 10_000, 100_000, 1_000_000)
SET_UP_SECONDS, ROUNDS = 300, 5
COLORS = ("#d55e00", "#0072b2", "#009e73", "#777777")


def by_distance_matrix(classes: int, width: int, batch: int) -> Callable[[], object]:
    """KaiyangZhou's way: [B, C] distances and mask, the centers a parameter of SGD."""
    import torch

    features, labels, _ = (torch.from_numpy(a) for a in draw_inputs(0, batch, classes, width, scale=1.0, distance=1.0))
    features.requires_grad_()
    c = torch.nn.Parameter(torch.zeros(classes, width))
    optimizer = torch.optim.SGD([c], lr=0.5)

    def step():
        squares = features.square().sum(1, keepdim=True) + c.square().sum(1)
        distances = torch.addmm(squares, features, c.t(), alpha=-2)
        mask = labels[:, None] == torch.arange(classes)
        loss = (distances * mask).clamp(1e-12, 1e12).sum() / batch
        optimizer.zero_grad()
        features.grad = None
        loss.backward()
        optimizer.step()

    return step


WAYS = {  # by name: what makes the step, and its first arguments
    "loop, py_func": (graph_step, ("naive", "py_func")),
    "gather, py_func": (graph_step, ("gather", "py_func")),
    "gather, in graph": (graph_step, ("gather", "in_graph")),
    "B×C distances, PyTorch": (by_distance_matrix, ()),
}


def measure() -> list[tuple]:
    """(way, C, ms per step, MB of the whole process) for each that came through."""
    rows = []
    alive = dict(WAYS)
    for classes in CLASSES:
        peers = {name: (make, (*how, classes, WIDTH, BATCH)) for name, (make, how) in alive.items()}
        turns = take_turns(peers, rounds=ROUNDS, steps=3, set_up_seconds=SET_UP_SECONDS)
        rows += [(name, classes, 1000 * np.median(turn.seconds), turn.megabytes) for name, turn in turns.items()]
        for name in set(alive) - set(turns):
            print(f"{name}: dead, or not ready after {SET_UP_SECONDS} s, at C = {classes:,}: given up")
            del alive[name]
    return rows


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


def main(out: Path = DOCS) -> None:
    """Writes many_classes.csv and many_classes.png."""
    rows = measure()
    with (out / "many_classes.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["way", "classes", "ms_per_step", "peak_megabytes"])
        writer.writerows([name, classes, f"{ms:.4g}", f"{megabytes:.0f}"] for name, classes, ms, megabytes in rows)
    curves = {way: [row[1:] for row in rows if row[0] == way] for way in WAYS}
    title = f"Center loss, its gradient and the update of the centers, D = {WIDTH}, B = {BATCH}"
    with write_whole(out / "many_classes.png") as temporary:
        draw_many_classes(curves, title=title).savefig(temporary, dpi=150)


if __name__ == "__main__":
    main()
