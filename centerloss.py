"""The center loss of Wen et al. (ECCV 2016), Eq. 2, written twice.

    L_C = 1/2 · sum_i ||x_i − c_{y_i}||²

`center_loss` is the short form by gather; `center_loss_naive` is the blog's first form, a loop over the
classes, kept to be compared with it (`compare_losses.py`). Both are sums over the batch.

Letters in the shapes: B batch, C classes, D feature width.
"""

import tensorflow.compat.v1 as tf


def center_loss(features: tf.Tensor, labels: tf.Tensor, centers: tf.Tensor | tf.Variable) -> tf.Tensor:
    """Eq. 2 by gather: half the squared distance of each feature to the center of its class, summed.

    Args:
        features: [B, D] float, the x_i.
        labels: [B] int32 or int64 class ids, the y_i, each in [0, C).
        centers: [C, D] of the dtype of `features`, the c_j: a tensor, or the variable itself, of which then
            only the B rows that are needed are read.

    Returns:
        Scalar of the dtype of `features`. Its gradient by `features` is x_i − c_{y_i} (Eq. 3).

    Raises:
        ValueError: if ranks, widths or dtypes do not fit together.
    """
    features, labels = _checked(features, labels, centers)
    return tf.nn.l2_loss(features - tf.gather(centers, labels))


def center_loss_naive(
    features: tf.Tensor, labels: tf.Tensor, centers: tf.Tensor | tf.Variable, num_classes: int
) -> tf.Tensor:
    """Eq. 2 by a loop over the classes, each square expanded to x² + c² − 2·x·c.

    Some twenty graph ops a class (`compare_losses.py` counts them). Equal to `center_loss` in exact arithmetic; in
    float32 the expanded square cancels: an absolute error near |x|² · 1e-7 stays, however small x − c is.

    Args:
        features: [B, D] float, the x_i.
        labels: [B] int32 or int64 class ids, the y_i, each in [0, C).
        centers: [C, D] of the dtype of `features`, the c_j.
        num_classes: C; the classes 0 … C − 1 are summed over.

    Returns:
        Scalar of the dtype of `features`.

    Raises:
        ValueError: if ranks, widths, dtypes or `num_classes` do not fit together.
    """
    features, labels = _checked(features, labels, centers)
    if centers.shape[0] is not None and centers.shape[0] != num_classes:
        raise ValueError(f"centers: expected {num_classes} rows (num_classes), got shape {centers.shape}")
    total = tf.zeros([], features.dtype)
    for j in range(num_classes):
        members = tf.reshape(tf.where(tf.equal(labels, tf.cast(j, labels.dtype))), [-1])
        x = tf.gather(features, members)  # [n_j, D]
        c = tf.gather(centers, j)  # [D]
        total += tf.reduce_sum(x * x + c * c - 2.0 * x * c) / 2.0
    return total


def _checked(features, labels, centers) -> tuple[tf.Tensor, tf.Tensor]:
    """`features` and `labels` as tensors, once shapes and dtypes are known to fit."""
    features, labels = tf.convert_to_tensor(features), tf.convert_to_tensor(labels)
    if not features.dtype.is_floating:
        raise ValueError(f"features: expected a floating dtype, got {features.dtype.name}")
    if labels.dtype not in (tf.int32, tf.int64):
        raise ValueError(f"labels: expected int32 or int64 class ids, got {labels.dtype.name}; cast them first")
    dtype = tf.as_dtype(centers.dtype).base_dtype  # that of a reference variable is one of its own
    if dtype != features.dtype:
        raise ValueError(f"centers: expected {features.dtype.name} as the features, got {dtype.name}")
    for name, tensor, rank, letters in (
        ("features", features, 2, "[B, D]"),
        ("labels", labels, 1, "[B] (class ids, not one-hot)"),
        ("centers", centers, 2, "[C, D]"),
    ):
        if tensor.shape.rank != rank:
            raise ValueError(f"{name}: expected rank {rank}, {letters}, got shape {tensor.shape}")
    if not features.shape[1:].is_compatible_with(centers.shape[1:]):
        raise ValueError(
            f"features and centers: expected the same width D, got shapes {features.shape} and {centers.shape}"
        )
    if not features.shape[:1].is_compatible_with(labels.shape[:1]):
        raise ValueError(
            f"features and labels: expected the same batch size B, got shapes {features.shape} and {labels.shape}"
        )
    return features, labels
