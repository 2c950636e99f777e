"""LeNet++ with a 2-D feature layer, as pure functions on tensors.

[5×5 convolution → batch norm or bias → PReLU] twice, then max-pool: three such stages, a fully connected layer to
the 2-D feature, a fully connected classifier. The defaults of `config.py` make it the blog's, `configs/paper/` the
paper's (Table 1). Every layer is `layer(x, scope, size, *, options)`; variables are float32 and shared between calls
with the same scope, so that calling `lenet` once for training and once for evaluation makes two towers of one network.

Letters in the shapes: B batch, H height, W width, K channels, C classes, D feature width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf


class Outputs(NamedTuple):
    """What one tower of the network gives."""

    features: tf.Tensor  # [B, D] float32, the x_i
    logits: tf.Tensor  # [B, C] float32


def initializer(kind: str) -> Callable[..., tf.Tensor]:
    """The initializer of kernels: `truncated_normal` of stddev 0.1, or `xavier`, uniform within ±sqrt(3 / fan_in).

    Raises:
        ValueError: if `kind` is neither.
    """
    if kind == "truncated_normal":
        return tf.truncated_normal_initializer(stddev=0.1)
    if kind == "xavier":
        return tf.variance_scaling_initializer(scale=1.0, mode="fan_in", distribution="uniform")
    raise ValueError(f"initializer: expected truncated_normal or xavier, got {kind!r}")


def ring_initializer(order: Sequence[int]) -> tf.initializers.constant:
    """The initializer of a [2, C] kernel: unit vectors at equal angles, class `order[0]` at angle 0, then `order[1]`, …

    Classes that start in directions of their own part some two hundred steps sooner than from random directions, of
    which some coincide; and of two neighbours on the ring, the images between them lie between them in the plane too.
    """
    angles = np.empty(len(order))
    angles[list(order)] = 2 * np.pi * np.arange(len(order)) / len(order)
    return tf.constant_initializer(np.stack([np.cos(angles), np.sin(angles)]))


def variable(name: str, shape: list[int], init, *, trainable: bool = True) -> tf.Variable:
    """A float32 variable of the current scope, made at the first call and found again by the next ones."""
    return tf.get_variable(name, shape, tf.float32, init, trainable=trainable, use_resource=True)


def prelu(x: tf.Tensor, scope: str, *, start: float) -> tf.Tensor:
    """max(0, x) + slope · min(0, x) of [B, …, K] `x`, in its dtype; the [K] slopes are learned, from `start` on."""
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        slope = variable("slope", [x.shape[-1]], tf.constant_initializer(start))
    return _prelu(x, tf.convert_to_tensor(slope))


@tf.custom_gradient
def _prelu(x: tf.Tensor, slope: tf.Tensor):
    """The PReLU and its gradients, compiled by XLA.

    As TensorFlow's own ops they are nine passes over the largest tensors of the network. Compiled, they are two, and a
    step of the blog's takes some percent less (docs/performance.md, row 3).
    """

    @tf.function(jit_compile=True)
    def forward(x, slope):
        return tf.where_v2(x > 0, x, tf.cast(slope, x.dtype) * x)

    @tf.function(jit_compile=True)
    def backward(x, slope, dy):
        dx = tf.where_v2(x > 0, dy, tf.cast(slope, x.dtype) * dy)
        negative = tf.cast(tf.where_v2(x > 0, tf.zeros_like(x), x), tf.float32) * tf.cast(dy, tf.float32)
        return dx, tf.reduce_sum(negative, axis=range(x.shape.rank - 1))  # the sum over the batch in float32

    return forward(x, slope), lambda dy: backward(x, slope, dy)


def normalize(x: tf.Tensor, scope: str, *, decay: float, training: bool) -> tf.Tensor:
    """Batch norm of [B, H, W, K] over B, H, W, with scale and offset, epsilon 0.001; statistics in float32.

    In training, by the statistics of the batch, and the updates of the moving averages join UPDATE_OPS; in
    evaluation, by the moving averages.
    """
    channels = [x.shape[-1]]
    zeros, ones = tf.zeros_initializer(), tf.ones_initializer()
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        scale, offset = variable("scale", channels, ones), variable("offset", channels, zeros)
        moving_mean = variable("moving_mean", channels, zeros, trainable=False)
        moving_variance = variable("moving_variance", channels, ones, trainable=False)
    if not training:
        return tf.nn.fused_batch_norm(x, scale, offset, moving_mean, moving_variance, epsilon=0.001, is_training=False)[
            0
        ]
    y, mean, variance = tf.nn.fused_batch_norm(x, scale, offset, epsilon=0.001, is_training=True)
    for moving, batch in ((moving_mean, mean), (moving_variance, variance)):
        update = moving.assign_sub((1.0 - decay) * (moving - batch), read_value=False)
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    return y


def conv(x: tf.Tensor, scope: str, channels: int, *, init, bias: bool) -> tf.Tensor:
    """5×5 convolution, SAME, stride 1, in the dtype of `x`: [B, H, W, K] to [B, H, W, channels]."""
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        kernel = variable("kernel", [5, 5, x.shape[-1], channels], init)
        y = tf.nn.conv2d(x, tf.cast(kernel, x.dtype), strides=1, padding="SAME")
        if bias:
            y = tf.nn.bias_add(y, tf.cast(variable("bias", [channels], tf.zeros_initializer()), x.dtype))
    return y


def dense(x: tf.Tensor, scope: str, size: int, *, init, bias: bool) -> tf.Tensor:
    """Fully connected: [B, K] to [B, size]."""
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        y = tf.matmul(x, variable("kernel", [x.shape[-1], size], init))
        if bias:
            y = tf.nn.bias_add(y, variable("bias", [size], tf.zeros_initializer()))
    return y


def lenet(
    images: tf.Tensor,
    scope: str,
    num_classes: int,
    *,
    feature_width: int,
    training: bool,
    channels: tuple[int, int, int],
    batch_norm: bool,
    batch_norm_decay: float,
    prelu_start: float,
    third_pool_size: int,
    feature_activation: str,
    classifier_bias: bool,
    weight_init: str,
    classifier_ring: Sequence[int],
    precision: str,
) -> Outputs:
    """One tower of LeNet++.

    Args:
        images: [B, H, W] or [B, H, W, 3] float32, scaled as the recipe wants them.
        scope: of the variables.
        num_classes: C.
        feature_width: D.
        training: whether batch norm uses, and records, the statistics of the batch.
        channels: of the three stages.
        batch_norm: batch norm after each convolution; without it the convolutions have a bias.
        batch_norm_decay: of the moving averages, per step.
        prelu_start: first slope of each PReLU.
        third_pool_size: window of the third max-pool, 2 or 3, stride 2; of 28×28 pixels either leaves 3×3.
        feature_activation: `prelu` or `linear`, after the feature layer.
        classifier_bias: whether the last layer has a bias.
        weight_init: `truncated_normal` or `xavier`.
        classifier_ring: the C classes in the order in which the classifier starts with them around a ring; empty: as
            `weight_init`.
        precision: `float32` or `bfloat16`, of the convolutional stages' activations and products; all else,
            the features and the statistics of batch norm among it, is float32.

    Returns:
        The features and the logits of these images.

    Raises:
        ValueError: if `classifier_ring` is not empty and not of C classes, or `weight_init` is unknown.
    """
    if len(classifier_ring) not in (0, num_classes):
        raise ValueError(f"classifier_ring: expected {num_classes} classes, got {list(classifier_ring)}")
    init = initializer(weight_init)
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        x = tf.cast(images, tf.as_dtype(precision))
        x = x[..., tf.newaxis] if x.shape.rank == 3 else x  # [B, H, W, 1 or 3]
        for stage, (width, pool) in enumerate(zip(channels, (2, 2, third_pool_size), strict=True), start=1):
            for half in ("a", "b"):
                x = conv(x, f"conv{stage}{half}", width, init=init, bias=not batch_norm)
                if batch_norm:
                    x = normalize(x, f"norm{stage}{half}", decay=batch_norm_decay, training=training)
                x = prelu(x, f"prelu{stage}{half}", start=prelu_start)
            x = tf.nn.max_pool2d(x, pool, strides=2, padding="VALID")
        x = tf.cast(x, tf.float32)  # [B, H/8, W/8, K], rounded down
        x = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])
        x = dense(x, "feature", feature_width, init=init, bias=True)
        x = prelu(x, "feature_prelu", start=prelu_start) if feature_activation == "prelu" else x
        features = tf.identity(x, "features")
        ring = ring_initializer(classifier_ring) if len(classifier_ring) else init
        return Outputs(features, dense(features, "classifier", num_classes, init=ring, bias=classifier_bias))
