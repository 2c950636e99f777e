"""The update of the class centers, Eq. 4 of Wen et al. (ECCV 2016): in NumPy, and as a graph op.

    Δc_j = sum_i [y_i = j] (c_j − x_i) / (1 + sum_i [y_i = j])        c_j ← c_j − alpha · Δc_j

It is not the gradient of Eq. 2: with n_j the samples of class j in the batch, the 1 + n_j damps rare classes
(one sample moves a center by half of alpha at most) and keeps an absent class (n_j = 0) exactly where it is.

By hand, with alpha = 0.5, c_0 = (1, 1), c_1 = (5, 5), and a batch of x = (3, 1), (5, 4), both of class 0:
Δc_0 = ((1, 1) − (3, 1) + (1, 1) − (5, 4)) / (1 + 2) = (−6, −3) / 3 = (−2, −1), so c_0 becomes (2, 1.5), and
c_1 stays:

>>> update_centers([[1, 1], [5, 5]], [[3, 1], [5, 4]], [0, 0], alpha=0.5)
array([[2. , 1.5],
       [5. , 5. ]], dtype=float32)

Letters in the shapes: B batch, C classes, D feature width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf


def update_centers(centers: np.ndarray, features: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """Eq. 4. Writes into none of its inputs: what `py_func` hands over may be a variable's own memory.

    Args:
        centers: [C, D] float, the c_j before the step.
        features: [B, D] float, the x_i.
        labels: [B] integer class ids, the y_i.
        alpha: the rate of the centers, in [0, 1].

    Returns:
        [C, D] float32, a new array: the c_j after the step.

    Raises:
        ValueError: if shapes do not fit, a label lies outside [0, C), or alpha outside [0, 1].
    """
    centers = np.asarray(centers, np.float32)
    features = np.asarray(features, np.float32)
    labels = np.asarray(labels)
    if centers.ndim != 2:
        raise ValueError(f"centers: expected shape [C, D], got {centers.shape}")
    if features.ndim != 2 or features.shape[1] != centers.shape[1]:
        raise ValueError(
            f"features: expected shape [B, {centers.shape[1]}] as the centers' width, got {features.shape}"
        )
    if labels.shape != features.shape[:1]:
        raise ValueError(f"labels: expected shape [{features.shape[0]}], one a feature, got {labels.shape}")
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: expected integer class ids, got {labels.dtype}")
    if labels.size and not (labels.min() >= 0 and labels.max() < len(centers)):
        raise ValueError(
            f"labels: expected class ids in [0, {len(centers)}), got {labels.min()} to {labels.max()}; "
            "check the labels, or the number of centers"
        )
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha: expected a number in [0, 1], got {alpha}")

    # Class by class, in float64: the same to float32's last bits in whatever order the batch came.
    labels = labels.astype(np.intp, copy=False)
    order = np.argsort(labels, kind="stable")
    classes, first, n = np.unique(labels[order], return_index=True, return_counts=True)  # [U] each: j, where, n_j
    differences = np.subtract(centers[labels], features, dtype=np.float64)[order]  # [B, D], c_j − x_i
    delta = np.add.reduceat(differences, first) / (1 + n[:, np.newaxis])  # [U, D], Δc_j
    new_centers = centers.copy()
    new_centers[classes] -= alpha * delta
    return new_centers


def update_centers_op(centers: tf.Tensor, features: tf.Tensor, labels: tf.Tensor, alpha: float) -> tf.Tensor:
    """`update_centers` as an op: NumPy called from the graph through `tf.py_func`.

    Args:
        centers: [C, D] float32 tensor. Pass one read of the variable, the one that the loss uses too, so that
            both see the centers from before the step.
        features: [B, D] float32.
        labels: [B] integer class ids.
        alpha: the rate of the centers, in [0, 1].

    Returns:
        [C, D] float32, the centers after the step, with its static shape; to be assigned to the variable.

    Raises:
        tf.errors.InvalidArgumentError: in `session.run`, where `update_centers` raises a ValueError.
    """
    import tensorflow.compat.v1 as tf

    new_centers = tf.py_func(
        lambda c, x, y: update_centers(c, x, y, alpha), [centers, features, labels], tf.float32, name="update_centers"
    )
    new_centers.set_shape(centers.shape)
    return new_centers


def update_centers_in_graph(
    centers: tf.Variable, own_centers: tf.Tensor, features: tf.Tensor, labels: tf.Tensor, alpha: float
) -> tuple[tf.Operation, tf.Tensor]:
    """Eq. 4 in the graph, for many classes: reads and writes at most B of the C rows of the variable.

    Other ops may need the old centers in the same step. They must read them before this update runs: call this function
    under `tf.control_dependencies` of those ops.

    Args:
        centers: [C, D] float32 variable, which is assigned to.
        own_centers: [B, D] float32, the c_{y_i} from before the step.
        features: [B, D] float32, the x_i.
        labels: [B] integer class ids; one outside [0, C) ends the step with an error.
        alpha: the rate of the centers, in [0, 1].

    Returns:
        The operation that updates `centers`, and [U, D] float32, by how much the U classes of the batch move.
    """
    import tensorflow.compat.v1 as tf

    classes, which, n = tf.unique_with_counts(labels)  # [U] each but for which, [B]: j, position of y_i in j, n_j
    sums = tf.unsorted_segment_sum(own_centers - features, which, tf.size(classes))  # [U, D], of c_j − x_i
    delta = sums / (1.0 + tf.cast(n, tf.float32)[:, tf.newaxis])  # [U, D], Δc_j
    moves = -alpha * delta
    return tf.scatter_add(centers, classes, moves).op, moves
