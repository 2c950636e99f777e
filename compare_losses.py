"""Eq. 2 by the loop over the classes against Eq. 2 by gather, on the same random inputs.

classes.csv: what a class costs, in graph ops, and in time to build, of the first step and of a later one.
feature_scale.csv: what the loop's expanded square costs: the errors for features about 0.1 from their centers, when
the length of the centers, the feature scale, grows.
A step is the loss and its gradient by the features. Errors are against Eq. 2 and 3 in float64 NumPy on the same float32
numbers: of the value, relative to it; of the gradient, the largest deviation over the largest entry.
"""

import csv
import os
import time
from collections import namedtuple
from collections.abc import Callable
from itertools import product
from pathlib import Path

if __name__ == "__main__":
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # the user's own can make matplotlib's import fail

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from config import Count, PositiveCount
from pictures.loss_comparison import draw_loss_comparison
from running.command_line import Parser, folder
from running.run_folder import write_whole
from running.streams import outlive_readers

LOSSES = ("naive", "gather")
NAIVE_UP_TO = 1000  # classes: at 1,000 the loop takes a minute to build and to start, at 10,000 hours
SCALES = np.logspace(0, 4, 9)
SCALE_CLASSES, SCALE_DRAWS, SCALE_DISTANCE = 10, 25, 0.1

# A row of classes.csv. The first step includes TensorFlow's optimizing of the graph. The next two are medians: of a
# later step, and of its ratio to the step by gather timed just after it.
Cost = namedtuple(
    "Cost",
    "classes loss value value_error gradient_error ops_loss ops_step build_s first_step_s step_ms over_gather",
)
# A row of feature_scale.csv; the errors are the largest of SCALE_DRAWS batches.
ScaleError = namedtuple("ScaleError", "feature_scale loss value_error gradient_error")


def draw_inputs(seed, batch: int, classes: int, width: int, scale: float, distance: float) -> tuple:
    """Float32 features [B, D], labels [B], centers [C, D] of length `scale`; x − c is normal times `distance`."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(classes, width))
    centers *= scale / np.linalg.norm(centers, axis=1, keepdims=True)
    labels = random.integers(classes, size=batch)
    features = centers[labels] + distance * random.normal(size=(batch, width))
    return features.astype(np.float32), labels, centers.astype(np.float32)


def build_loss_graph(loss: str, batch: int, classes: int, width: int) -> tuple[Callable, tuple]:
    """The step of a loss, "naive" or "gather", in a graph of its own, and its sizes.

    The step maps features [B, D], labels [B] and centers [C, D] to the loss [] and its gradient by the features [B, D].
    The sizes are the graph ops of the loss and of the step, without the placeholders, and the seconds to build them.
    """
    import tensorflow.compat.v1 as tf  # not at the top: a wrong argument is told at once

    from centerloss import center_loss, center_loss_naive

    start = time.perf_counter()
    with tf.Graph().as_default() as graph:
        shapes = ((tf.float32, [batch, width]), (tf.int64, [batch]), (tf.float32, [classes, width]))
        inputs = tuple(tf.placeholder(dtype, shape) for dtype, shape in shapes)
        value = center_loss_naive(*inputs, classes) if loss == "naive" else center_loss(*inputs)
        ops_loss = len(graph.get_operations()) - len(inputs)
        gradient = tf.convert_to_tensor(tf.gradients(value, inputs[0])[0])
        sizes = ops_loss, len(graph.get_operations()) - len(inputs), time.perf_counter() - start
        # Both are fetched: what only a tf.group asks for, TensorFlow prunes, and nothing would be timed.
        return tf.Session().make_callable([value, gradient], inputs), sizes


def measure_errors(step: Callable, features, labels, centers) -> tuple[float, float, float]:
    """Value, its relative error, and the relative error of the gradient."""
    value, gradient = step(features, labels, centers)
    exact = features.astype(np.float64) - centers.astype(np.float64)[labels]
    exact_value = 0.5 * np.sum(exact**2)
    return value, abs(value - exact_value) / exact_value, np.abs(gradient - exact).max() / np.abs(exact).max()


def measure_costs(losses: tuple, classes: int, batch_size: int, width: int, seed: int, repeats: int) -> list[Cost]:
    """The rows of one C; the losses take turns, each timed step after an untimed one of the same loss."""
    batch = draw_inputs(seed, batch_size, classes, width, scale=1.0, distance=1.0)
    steps, sizes = zip(*(build_loss_graph(loss, batch_size, classes, width) for loss in losses), strict=True)
    seconds = np.empty((repeats + 1, len(losses), 2))
    for repeat, i, again in np.ndindex(*seconds.shape):
        start = time.perf_counter()
        steps[i](*batch)
        seconds[repeat, i, again] = time.perf_counter() - start
    later = seconds[1:, :, 1]  # [repeats, losses]
    times = [seconds[0, :, 0], *np.median([1000 * later, later / later[:, -1:]], axis=1)]  # gather is the last loss
    errors = [measure_errors(step, *batch) for step in steps]
    return [Cost(classes, loss, *errors[i], *sizes[i], *(t[i] for t in times)) for i, loss in enumerate(losses)]


def measure_scale_errors(batch_size: int, width: int, seed: int) -> list[ScaleError]:
    """The rows of feature_scale.csv; both losses see the same batches."""
    shape = batch_size, SCALE_CLASSES, width
    steps = {loss: build_loss_graph(loss, *shape)[0] for loss in LOSSES}
    rows = []
    for scale, loss in product(SCALES, LOSSES):
        batches = (draw_inputs([seed, draw], *shape, scale, SCALE_DISTANCE) for draw in range(SCALE_DRAWS))
        errors = np.max([measure_errors(steps[loss], *batch)[1:] for batch in batches], axis=0)
        rows.append(ScaleError(scale, loss, *errors))
    return rows


def write_table(path: Path, rows: list) -> None:
    """Writes the rows as CSV and prints them."""
    with write_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([rows[0]._fields, *rows])
    names = [name.replace("_", " ").replace("gradient", "grad.") for name in rows[0]._fields]
    columns = [Column(name, min_width=max(map(len, name.split()))) for name in names]
    table = Table(*columns, title=path.name, box=None, pad_edge=False, collapse_padding=True)
    for row in rows:
        table.add_row(*(str(x) if isinstance(x, int | str) else _short(x) for x in row))
    Console(width=max(80, Console().width)).print(table)


def _short(x: float) -> str:
    """At most five characters of a number, so that a row fits into 80."""
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 1 else f"{x:.2f}" if x >= 0.1 else f"{x:.1g}"


def compare(
    classes: tuple[PositiveCount, ...] = (10, 100, 1000, 10_000),
    batch_size: PositiveCount = 100,
    width: PositiveCount = 2,
    repeats: PositiveCount = 50,
    seed: Count = 0,
    out: str = "outputs/compare_losses",
) -> None:
    """Measures and writes classes.csv, feature_scale.csv and compare_losses.png.

    Args:
        classes: the numbers of classes C, as '[10, 100]'; gather alone above 1,000
        batch_size: B
        width: D, of the features
        repeats: timed steps of each loss; their median counts
        seed: of the random inputs
        out: folder for the results
    """
    costs, out = [], folder("--out", out)
    for count in sorted(set(classes)):
        print(f"C = {count:,} ...", flush=True)
        losses = LOSSES if count <= NAIVE_UP_TO else ("gather",)
        costs += measure_costs(losses, count, batch_size, width, seed, repeats)
    write_table(out / "classes.csv", costs)
    errors = measure_scale_errors(batch_size, width, seed)
    write_table(out / "feature_scale.csv", errors)
    drawn_costs = {loss: [(r.classes, r.step_ms, r.ops_step) for r in costs if r.loss == loss] for loss in LOSSES}
    drawn_errors = {loss: [(r[0], *r[2:]) for r in errors if r.loss == loss] for loss in LOSSES}
    figure = draw_loss_comparison(drawn_costs, drawn_errors, distance=SCALE_DISTANCE)
    with write_whole(out / "compare_losses.png") as temporary:
        figure.savefig(temporary, dpi=200)
    print(f"in {out}: classes.csv, feature_scale.csv, compare_losses.png")


def main() -> None:
    parser = Parser(
        prog="compare_losses.py", description="The center loss by a loop over the classes against the one by gather."
    )
    parser.add_function_arguments(compare)
    options = parser.parse_args()
    if not options.classes:
        parser.error("--classes: expected at least one number of classes, as '[10, 100]', got none")
    try:
        folder("--out", options.out).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(f"--out {options.out}: expected a folder that is there or can be made ({error})")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # else TensorFlow imports Keras 3, for seconds and in vain
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    compare(**options)


if __name__ == "__main__":
    outlive_readers()
    main()
