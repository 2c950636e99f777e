"""Rows 5, 6 and 8: `update_centers` against nested loops, and both updates as the classes become more.

Row 5: Eq. 4 by NumPy against Eq. 4 by a loop over the classes and, in it, over their samples.
Row 6: loss, its gradient and `update_centers_in_graph` with few and with many classes.
Row 8: the same with the update by `py_func`, against the update in the graph.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.table import Row
from benchmarks.turns import graph_mode, ratio, take_turns, times
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
    tf = graph_mode()
    from centerloss import center_loss, center_loss_naive
    from update_centers import update_centers_in_graph, update_centers_op

    features, labels, _ = draw_inputs(0, batch, classes, width, scale=1.0, distance=1.0)
    x, y = tf.placeholder(tf.float32, [batch, width]), tf.placeholder(tf.int64, [batch])
    variable = tf.get_variable(
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
    session = tf.Session()
    session.run(variable.initializer)
    step = session.make_callable([l_c, tf.gradients(l_c, x)[0], updated], [x, y])
    return lambda: step(features, labels)


def numpy_step(function: Callable[..., np.ndarray], classes: int, width: int, batch: int) -> Callable[[], object]:
    """Eq. 4 by `function`; classes, width, batch: C, D, B."""
    features, labels, centers = draw_inputs(0, batch, classes, width, scale=1.0, distance=1.0)
    return lambda: function(centers, features, labels, 0.5)


def measure() -> list[Row]:
    """Rows 5, 6 and 8."""
    measured, details = [], []
    functions = {"ours": update_centers, "loops": update_centers_by_loops}
    for classes, width, batch, steps in ((10, 2, 100, 200), (10_000, 128, 1000, 2)):
        size = classes, width, batch
        np.testing.assert_allclose(*(numpy_step(function, *size)() for function in functions.values()), atol=1e-5)
        peers = {name: (numpy_step, (function, *size)) for name, function in functions.items()}
        turns = take_turns(peers, rounds=ROUNDS, steps=steps)
        measured.append(f"{ratio(turns, 'ours', 'loops'):.3f}")
        details.append(times(turns, turns))
    what = "`update_centers` / nested loops: C=10 D=2 B=100; C=10,000 D=128 B=1,000"
    rows = [Row(5, what, "; ".join(measured), "≤ 0.2; ≤ 0.03", "; ".join(details))]
    peers = {f"C={c:,}": (graph_step, ("gather", "in_graph", c, 64, 256)) for c in (1000, 1_000_000)}
    turns = take_turns(peers, rounds=ROUNDS, steps=200)
    what = "loss and in-graph update, D=64, B=256: C=1,000,000 / C=1,000"
    rows.append(Row(6, what, f"{ratio(turns, 'C=1,000,000', 'C=1,000'):.3f}", "≤ 1.2", times(turns, turns)))
    measured, details = [], []
    for classes, width in ((10, 2), (1000, 64), (4000, 64), (1000, 512), (5000, 512)):
        peers = {update: (graph_step, ("gather", update, classes, width, 100)) for update in ("py_func", "in_graph")}
        turns = take_turns(peers, rounds=ROUNDS, steps=50)
        measured.append(f"{ratio(turns, 'py_func', 'in_graph'):.2f}")
        details.append(f"C·D={classes * width:,}: {times(turns, turns)}")
    what = "loss and update, B=100: py_func / in graph, C·D from 20 to 2,560,000"
    return [*rows, Row(8, what, "; ".join(measured), "none", "; ".join(details))]
