"""Time and memory of a step against the number of classes, C = 10 to 1,000,000, for four ways to write it.

The loop over the classes and the gather of `centerloss.py`, each with `update_centers` through py_func; the gather with
the update in the graph; and in PyTorch the squared distances of all B features to all C centers, of which a mask keeps
the own ones and autograd moves the centers, as the most used repository does it. D = 64, B = 256, float32.
A way is given up where it is not ready for its first timed step after five minutes, or where the machine's memory ends.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.center_updates import graph_step
from benchmarks.table import DOCS
from benchmarks.turns import take_turns
from compare_losses import draw_inputs
from running.run_folder import write_whole

WIDTH, BATCH = 64, 256
CLASSES = (10, 100, 1000, 10_000, 100_000, 1_000_000)
SET_UP_SECONDS, ROUNDS = 300, 5


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


WAYS = {  # by name: what makes the step, its first arguments, the color of its curve
    "loop, py_func": (graph_step, ("naive", "py_func"), "C3"),
    "gather, py_func": (graph_step, ("gather", "py_func"), "C0"),
    "gather, in graph": (graph_step, ("gather", "in_graph"), "C2"),
    "B×C distances, PyTorch": (by_distance_matrix, (), "C7"),
}


def measure() -> list[tuple]:
    """(way, C, ms per step, MB of the whole process) for each that came through."""
    rows = []
    alive = dict(WAYS)
    for classes in CLASSES:
        peers = {name: (make, (*how, classes, WIDTH, BATCH)) for name, (make, how, _) in alive.items()}
        turns = take_turns(peers, rounds=ROUNDS, steps=3, set_up_seconds=SET_UP_SECONDS)
        rows += [(name, classes, 1000 * np.median(turn.seconds), turn.megabytes) for name, turn in turns.items()]
        for name in set(alive) - set(turns):
            print(f"{name}: not ready after {SET_UP_SECONDS} s at C = {classes:,}, given up")
            del alive[name]
    return rows


def draw(rows: list[tuple]) -> plt.Figure:
    """Two panels on logarithmic axes; a cross ends the curve of a way that was given up."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for name, (_, _, color) in WAYS.items():
        classes, *values = zip(*(row[1:] for row in rows if row[0] == name), strict=True)
        for axis, value in zip(axes, values, strict=True):
            axis.plot(classes, value, "o-", color=color, label=name)
            if classes[-1] < CLASSES[-1]:
                axis.plot(classes[-1], value[-1], "x", color=color, markersize=14, markeredgewidth=2.5)
    for axis, label in zip(axes, ("ms per step", "MB of the process at its peak"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="classes C", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(title="×: goes no further")
    figure.suptitle(f"center loss, its gradient and the update of the centers, D = {WIDTH}, B = {BATCH}")
    return figure


def main(out: Path = DOCS) -> None:
    """Writes many_classes.csv and many_classes.png."""
    rows = measure()
    with (out / "many_classes.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["way", "classes", "ms_per_step", "peak_megabytes"])
        writer.writerows([name, classes, f"{ms:.4g}", f"{megabytes:.0f}"] for name, classes, ms, megabytes in rows)
    with write_whole(out / "many_classes.png") as temporary:
        draw(rows).savefig(temporary, dpi=150)


if __name__ == "__main__":
    main()
