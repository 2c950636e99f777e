"""The graph of a training step: two towers of one network, Eq. 5, Eq. 4, the optimizer, and what is watched.

A step is one `session.run([train_op, center_update])`. Letters in the shapes: B batch, C classes, D feature width.
"""

import math
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from centerloss import center_loss, center_loss_naive
from config import Config
from network import Outputs, lenet
from running import schedules
from update_centers import update_centers_in_graph, update_centers_op

if TYPE_CHECKING:
    from running.cluster import Cluster

CHECKPOINTS_KEPT = 3
TAGS = {  # TensorBoard's, by the names of metrics.csv and validation.csv
    "loss": "loss/total", "cross_entropy": "loss/cross_entropy", "center_loss": "loss/center_loss",
    "accuracy": "accuracy/softmax", "accuracy_nearest_center": "accuracy/nearest_center",
    "center_loss_weight": "schedule/center_loss_weight", "learning_rate": "schedule/learning_rate",
    "center_shift": "centers/shift", "center_distance": "centers/distance", "feature_spread": "features/spread",
    "feature_scale": "features/scale",
}  # fmt: skip
LARGE_CENTERS = 250_000  # C · D: with more, py_func's copies cost above 0.2 ms a step (docs/performance.md, row 8)


class TrainGraph(NamedTuple):
    """The handles that the training loop uses."""

    images: tf.Tensor  # [B, H, W] or [B, H, W, 3] uint8, fed
    labels: tf.Tensor  # [B] int64, fed
    train_op: tf.Operation  # one optimizer step on Eq. 5
    center_update: tf.Operation  # Eq. 4, to be run beside train_op
    scalars: dict[str, tf.Tensor]  # [] each, of this training step, by the names of metrics.csv
    centers: tf.Variable  # [C, D] float32, not trained
    features: tf.Tensor  # [B, D] float32, of the evaluation tower
    predictions: tf.Tensor  # [B] int64, of the evaluation tower
    probabilities: tf.Tensor  # [B, C] float32, of the evaluation tower
    cross_entropies: tf.Tensor  # [B] float32, of the evaluation tower
    saver: tf.train.Saver  # of all variables


def build_graph(
    config: Config, num_classes: int, image_shape: tuple[int, ...], cluster: "Cluster | None" = None
) -> TrainGraph:
    """Builds everything that a run needs into the default graph.

    Args:
        config: the settings, `precision` resolved.
        num_classes: C.
        image_shape: [H, W] or [H, W, 3].
        cluster: where several processes train together: a step then is fed this one's part of the batch.

    Returns:
        The handles; every variable is made, and the graph may be finalized.
    """
    tf.set_random_seed(config.seed)
    images = tf.placeholder(tf.uint8, [None, *image_shape], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    step = tf.train.get_or_create_global_step().read_value()
    scaled = scale(cropped(images, config.crop), config.input_range)

    with tf.name_scope("training"):
        x, logits = tower(scaled, config, num_classes, training=True)
    y = labels
    if cluster is not None:  # all that follows is of the whole batch, and the same on each process
        x, logits, y = cluster.whole(config.batch_size, x, logits, y)
    centers = tf.get_variable(
        "centers", [num_classes, config.feature_width], initializer=tf.zeros_initializer(), trainable=False
    )
    # in_graph reads the rows of the batch from the variable itself; the whole of it would be copied in each step.
    in_graph = updates_in_graph(config, num_classes)
    c = centers if in_graph else centers.read_value()
    own_c = tf.gather(c, y)  # [B, D], the c_{y_i}

    # Eq. 5: L = L_S + lambda · L_C
    with tf.name_scope("cross_entropy"):
        l_s = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    with tf.name_scope("center_loss"):
        naive = config.center_loss == "naive"
        l_c = center_loss_naive(x, y, c, num_classes) if naive else center_loss(x, y, c)
        if config.center_loss_reduction == "mean":
            l_c /= tf.cast(tf.shape(y)[0], tf.float32)
    lambda_ = schedules.warm_up(
        step, config.center_loss_weight, config.center_loss_warmup_steps, config.center_loss_warmup_power
    )
    loss = l_s + lambda_ * l_c

    # Eq. 4 stands beside the optimizer, as in the blog, and not behind it. The loss and the update see the features
    # and centers from before the step, whichever of the two assignments runs first. Both use one forward pass. With
    # py_func both use one read of the centers. With in_graph the update waits until all readers have read.
    with tf.name_scope("center_update"):
        if in_graph:
            center_update, moves = move_in_graph(centers, own_c, x, y, config.center_alpha, readers=[l_c, own_c])
        else:
            center_update, moves = move_by_py_func(centers, c, x, y, config.center_alpha)

    rate = schedules.learning_rate(
        step,
        config.schedule,
        config.learning_rate,
        steps=config.steps,
        one_cycle_rise=config.one_cycle_rise,
        multi_step_at=config.multi_step_at,
        multi_step_factor=config.multi_step_factor,
    )
    train_op = optimize(loss, rate, step, config, cluster)

    scalars = {
        "step": step,
        "loss": loss,
        "cross_entropy": l_s,
        "center_loss": l_c,
        "accuracy": tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, axis=1), y), tf.float32)),
        "center_loss_weight": lambda_,
        "learning_rate": rate,
        "center_shift": tf.reduce_sum(tf.norm(moves, axis=1)) / num_classes,  # how far the centers moved, mean
        "center_distance": tf.reduce_mean(tf.norm(x - own_c, axis=1)),  # to the own center, mean
        "feature_spread": tf.sqrt(tf.reduce_mean(tf.reduce_sum((x - tf.reduce_mean(x, axis=0)) ** 2, axis=1))),
        "feature_scale": tf.reduce_max(tf.abs(x)),
    }
    summarize(scalars, x)

    with tf.name_scope("evaluation"):
        evaluated = tower(scaled, config, num_classes, training=False)
    return TrainGraph(
        images=images,
        labels=labels,
        train_op=train_op,
        center_update=center_update,
        scalars=scalars,
        centers=centers,
        features=evaluated.features,
        predictions=tf.argmax(evaluated.logits, axis=1),
        probabilities=tf.nn.softmax(evaluated.logits),
        cross_entropies=tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=evaluated.logits),
        saver=tf.train.Saver(max_to_keep=CHECKPOINTS_KEPT),
    )


def misfit(
    config: Config, num_classes: int, image_shape: tuple[int, ...], num_images: int, processes: int = 1
) -> str | None:
    """Why the settings don't fit C classes of N training images [H, W] or [H, W, 3]; None if they do."""
    if config.batch_size > num_images:
        return f"batch_size: {config.batch_size} is more than the {num_images} training images"
    smallest = num_images % config.batch_size or config.batch_size
    if smallest < processes:
        return (
            f"batch_size: of batches of {config.batch_size} the last one of an epoch has {smallest} of the "
            f"{num_images} training images, too few for {processes} processes"
        )
    side = min(image_shape[:2])
    left = side - 2 * config.crop
    if left // 4 < config.third_pool_size:
        return f"crop and third_pool_size: of images of {side} pixels {left} are left, too few for three pools"
    if config.augment_shift >= side:
        return f"augment_shift: {config.augment_shift} pixels are the whole of images of {side}"
    if len(config.classifier_ring) not in (0, num_classes):
        return f"classifier_ring: expected all {num_classes} classes, got {len(config.classifier_ring)}"
    return None


def updates_in_graph(config: Config, num_classes: int) -> bool:
    """Whether the centers are updated in the graph, and not by py_func."""
    large = num_classes * config.feature_width >= LARGE_CENTERS
    return config.center_update == "in_graph" or (config.center_update == "auto" and large)


def cropped(images: tf.Tensor, margin: int) -> tf.Tensor:
    """[B, H, W, …] without the outer `margin` pixels of each side."""
    return images[:, margin:-margin, margin:-margin] if margin else images


def scale(images: tf.Tensor, input_range: str) -> tf.Tensor:
    """[B, H, W, …] uint8 as float32: `unit` in 0 … 1 (blog), `centered` in −1 … 1 (paper)."""
    offset, divisor = (0.0, 255.0) if input_range == "unit" else (127.5, 128.0)
    return (tf.cast(images, tf.float32) - offset) / divisor


def tower(images: tf.Tensor, config: Config, num_classes: int, *, training: bool) -> Outputs:
    """One tower of the network that `config` describes. The variables are made by the first call and then shared."""
    return lenet(
        images,
        "lenet",
        num_classes,
        feature_width=config.feature_width,
        training=training,
        channels=config.channels,
        batch_norm=config.batch_norm,
        batch_norm_decay=config.batch_norm_decay,
        prelu_start=config.prelu_start,
        third_pool_size=config.third_pool_size,
        feature_activation=config.feature_activation,
        classifier_bias=config.classifier_bias,
        weight_init=config.weight_init,
        classifier_ring=config.classifier_ring,
        precision=config.precision,
    )


def move_by_py_func(
    centers: tf.Variable, c: tf.Tensor, x: tf.Tensor, labels: tf.Tensor, alpha: float
) -> tuple[tf.Operation, tf.Tensor]:
    """Eq. 4 by NumPy: the op that assigns the new centers, and [C, D], by how much each center moves.

    `c` is the one read of `centers` that the loss takes too.
    """
    new_c = update_centers_op(c, x, labels, alpha)
    return centers.assign(new_c, read_value=False), new_c - c


def move_in_graph(
    centers: tf.Variable, own_c: tf.Tensor, x: tf.Tensor, labels: tf.Tensor, alpha: float, *, readers: list[tf.Tensor]
) -> tuple[tf.Operation, tf.Tensor]:
    """Eq. 4 in the graph: the op that moves the batch's U classes, and [U, D], by how much.

    `readers` are the tensors that read `centers` in this step; the op waits for them.
    """
    with tf.control_dependencies(readers):
        return update_centers_in_graph(centers, own_c, x, labels, alpha)


def decay(weight_decay: float) -> tf.Tensor | float:
    """Half the squared kernels, times `weight_decay`; biases, slopes and batch norm are spared."""
    kernels = [v for v in tf.trainable_variables() if v.op.name.endswith("/kernel")]
    return weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels]) if weight_decay else 0.0


def optimize(
    loss: tf.Tensor, rate: tf.Tensor, step: tf.Tensor, config: Config, cluster: "Cluster | None"
) -> tf.Operation:
    """One step on `loss` and the weight decay, the moving averages of batch norm, and the count of steps."""
    if config.optimizer == "adam":
        optimizer = tf.train.AdamOptimizer(rate)
    else:
        optimizer = tf.train.MomentumOptimizer(rate, config.momentum)
    # Each process of a cluster has the gradient through its own images; the weight decay is the same on all.
    loss += decay(config.weight_decay / (cluster.size if cluster is not None else 1))
    gradients, variables = zip(*optimizer.compute_gradients(loss), strict=True)
    if cluster is not None:
        gradients = cluster.sums(gradients)
    with tf.control_dependencies([step]):  # else the step might be read after it is counted up
        pairs = list(zip(gradients, variables, strict=True))
        minimize = optimizer.apply_gradients(pairs, global_step=tf.train.get_global_step())
    return tf.group(minimize, *tf.get_collection(tf.GraphKeys.UPDATE_OPS))


def summarize(scalars: dict[str, tf.Tensor], features: tf.Tensor) -> None:
    """TensorBoard's summaries of a training step."""
    for name, value in scalars.items():
        if name != "step":
            tf.summary.scalar(TAGS[name], value)
    # A NaN in a histogram would end the session before the finite check can say what happened.
    finite = tf.where_v2(tf.math.is_finite(features), features, tf.zeros_like(features))
    tf.summary.histogram("features", finite)


def collapse(values: dict[str, float], num_classes: int) -> str | None:
    """A message if the features of a batch are almost one point and its cross entropy is near chance; else None."""
    spread, chance = values["feature_spread"], math.log(num_classes)
    # In the blog's recipe at lambda 0.01 the spread is ten times this once the cross entropy has fallen by a tenth.
    if not (spread < 0.05 and values["cross_entropy"] > chance - 0.1):
        return None
    return (
        f"collapse: the features have been all but equal (spread {spread:.2g}) and the cross entropy near ln C = "
        f"{chance:.2f}. The center loss outweighs the cross entropy. In the blog's recipe at lambda 0.1 and 1 this "
        "passes. Else try a smaller --center_loss_weight, or let it rise slowly by --center_loss_warmup_steps"
    )


def rehearsal(
    config: Config,
    num_classes: int,
    image_shape: tuple[int, ...],
    images: np.ndarray,
    labels: np.ndarray,
    steps: int = 5,
) -> str:
    """How large the graph is, and how long the training will take by `steps` trial steps on one batch, in two lines."""
    with tf.Graph().as_default() as built, tf.Session() as session:
        graph = build_graph(config, num_classes, image_shape)
        session.run(tf.global_variables_initializer())
        step = session.make_callable([graph.train_op, graph.center_update], [graph.images, graph.labels])
        step(images, labels)  # which also compiles and allocates
        begin = time.perf_counter()
        for _ in range(steps):
            step(images, labels)
        pace = (time.perf_counter() - begin) / steps
        trained = sum(variable.shape.num_elements() for variable in tf.trainable_variables())
        ops, centers = len(built.get_operations()), list(graph.centers.shape)
    return (
        f"graph: {ops:,} ops, {trained:,} trained numbers, centers {centers}\n"
        f"about {pace * config.steps / 60:.1f} minutes for {config.steps:,} steps ({1000 * pace:.0f} ms a step), "
        "evaluation aside"
    )
