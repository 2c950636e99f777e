"""Rows 5 and 6: `update_centers` against nested loops, and how the update in the graph grows with the classes.

Row 5 in one process, in turns: Eq. 4 by NumPy against Eq. 4 by a loop over the classes and, in it, over their samples.
Row 6: loss, its gradient and `update_centers_in_graph` with few and with many classes, a process each.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.table import Row
from benchmarks.turns import milliseconds, ratio, take_turns
from compare_losses import draw_inputs
from update_centers import update_centers

ROUNDS = 21


def update_centers_by_loops(centers: np.ndarray, features: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """Eq. 4 as its formula reads; arguments and result as of `update_centers`."""
    new_centers = centers.copy()
    for j in range(len(centers)):
        total, count = np.zeros_like(centers[j]), 0
        for i in np.flatnonzero(labels == j):
            total += centers[j] - features[i]
            count += 1
        new_centers[j] -= alpha * total / (1 + count)
    return new_centers


def graph_step(loss: str, update: str, classes: int, width: int, batch: int) -> Callable[[], object]:
    """Eq. 2, its gradient by the features, and Eq. 4 on a variable.

    Args:
        loss: `gather` or `naive`.
        update: `in_graph`, or `py_func`.
        classes, width, batch: C, D, B.
    """
    import tensorflow as tf

    from centerloss import center_loss, center_loss_naive
    from update_centers import update_centers_in_graph, update_centers_op

    tf.compat.v1.disable_eager_execution()
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    features, labels, _ = draw_inputs(0, batch, classes, width, scale=1.0, distance=1.0)
    x, y = tf.compat.v1.placeholder(tf.float32, [batch, width]), tf.compat.v1.placeholder(tf.int64, [batch])
    variable = tf.compat.v1.get_variable(
        "centers", [classes, width], initializer=tf.zeros_initializer(), trainable=False, use_resource=True
    )
    c = variable if update == "in_graph" else variable.read_value()
    l_c = center_loss_naive(x, y, c, classes) if loss == "naive" else center_loss(x, y, c)
    if update == "in_graph":
        own_c = tf.gather(c, y)
        with tf.control_dependencies([l_c, own_c]):
            updated, _ = update_centers_in_graph(variable, own_c, x, y, 0.5)
    else:
        updated = variable.assign(update_centers_op(c, x, y, 0.5), read_value=False)
    session = tf.compat.v1.Session()
    session.run(variable.initializer)
    step = session.make_callable([l_c, tf.compat.v1.gradients(l_c, x)[0], updated], [x, y])
    return lambda: step(features, labels)


def by_loops(classes: int, width: int, batch: int) -> tuple[float, str]:
    """Row 5 for one size: the ratio, and the times in words."""
    features, labels, centers = draw_inputs(0, batch, classes, width, scale=1.0, distance=1.0)
    functions = update_centers, update_centers_by_loops
    exact, loops = (function(centers, features, labels, 0.5) for function in functions)
    np.testing.assert_allclose(exact, loops, atol=1e-5)
    seconds, repeats = np.empty((ROUNDS, 2)), max(1, 20_000 // (classes + batch))
    for turn in range(ROUNDS):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            for _ in range(repeats):
                function(centers, features, labels, 0.5)
            seconds[turn, i] = (time.perf_counter() - start) / repeats
    measured = float(np.median(seconds[:, 0] / seconds[:, 1]))
    ours, other = 1000 * np.median(seconds, axis=0)
    return measured, f"C={classes:,} D={width} B={batch:,}: {ours:.3g} ms / {other:.3g} ms"


def measure() -> list[Row]:
    """Rows 5 and 6."""
    (small, small_times), (large, large_times) = by_loops(10, 2, 100), by_loops(10_000, 128, 1000)
    what = "`update_centers` / nested loops: C=10 D=2 B=100; C=10,000 D=128 B=1,000"
    rows = [Row(5, what, f"{small:.3f}; {large:.3f}", "≤ 0.2; ≤ 0.03", f"{small_times}; {large_times}")]
    peers = {f"C={c:,}": (graph_step, ("gather", "in_graph", c, 64, 256)) for c in (1000, 1_000_000)}
    turns = take_turns(peers, rounds=ROUNDS, steps=200)
    measured = ratio(turns, "C=1,000,000", "C=1,000")
    detail = "; ".join(f"{name} {milliseconds(turns, name)}" for name in turns)
    what = "loss and in-graph update, D=64, B=256: C=1,000,000 / C=1,000"
    return [*rows, Row(6, what, f"{measured:.3f}", "≤ 1.2", detail)]
