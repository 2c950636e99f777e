"""Rows 1 to 4: a training step of the preset blog, batch 100, against the same step written otherwise.

Ours is the step of `train_mnist.py`. The others have the same network, loss, update of the centers and optimizer:
PyTorch eager (channels last) and compiled, in float32 and with bfloat16 autocast of the convolutional stages; the graph
with the blog's own PReLU and batch norm; and the cross entropy alone. Images are random: no time depends on them.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np

from benchmarks.table import Row
from benchmarks.turns import milliseconds, ratio, take_turns
from config import Config

BATCH, CLASSES, WIDTH = 100, 10, 2
ROUNDS, STEPS = 21, 4


def random_batch() -> tuple[np.ndarray, np.ndarray]:
    """Images [B, 28, 28] uint8 and labels [B] int64."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, [BATCH, 28, 28], np.uint8), random.integers(0, CLASSES, BATCH)


def ours(precision: str) -> Callable[[], object]:
    """The step of `train_mnist.py`."""
    _graph_mode()
    from train_mnist import build_graph

    graph = build_graph(Config(precision=precision), CLASSES)
    return _session_step([graph.train_op, graph.update_step], graph.images, graph.labels)


def cross_entropy_alone() -> Callable[[], object]:
    """The network and optimizer of `ours("float32")`, without center loss, centers and update."""
    tf = _graph_mode()
    from network import lenet
    from train_mnist import NETWORK_SETTINGS

    images, labels, scaled = _inputs()
    settings = {name: getattr(Config(), name) for name in NETWORK_SETTINGS}
    logits = lenet(scaled, "lenet", CLASSES, training=True, **settings).logits
    l_s = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    minimize = tf.compat.v1.train.AdamOptimizer(1e-3).minimize(l_s)
    updates = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)
    return _session_step([minimize, *updates], images, labels)


def blogs_ops(precision: str) -> Callable[[], object]:
    """`ours` with the blog's PReLU, from relu and abs, and its batch norm, both branches of a condition."""
    tf = _graph_mode()
    import network
    import train_mnist

    batch_norm = network.normalize
    is_training = tf.compat.v1.placeholder_with_default(True, [])

    def prelu(x, slope):
        return tf.nn.relu(x) + tf.cast(slope, x.dtype) * (x - tf.abs(x)) * 0.5

    def normalize(x, scope, *, decay, training):
        def branch(mode):
            y = batch_norm(x, scope, decay=decay, training=mode)
            updates = tf.compat.v1.get_default_graph().get_collection_ref(tf.compat.v1.GraphKeys.UPDATE_OPS)
            with tf.control_dependencies(updates):  # those of this branch, which has a graph of its own
                updates.clear()
                return tf.identity(y)

        y = tf.cond(is_training, lambda: branch(True), lambda: branch(False))
        return tf.ensure_shape(y, x.shape)

    with mock.patch.object(network, "_prelu", prelu), mock.patch.object(network, "normalize", normalize):
        graph = train_mnist.build_graph(Config(precision=precision), CLASSES)
    return _session_step([graph.train_op, graph.update_step], graph.images, graph.labels)


def _graph_mode():
    """TensorFlow with one default graph for the whole process, which is the peer's own."""
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    return tf


def _inputs() -> tuple:
    """Placeholders of images and labels, and the images scaled as the blog does."""
    tf = _graph_mode()
    images = tf.compat.v1.placeholder(tf.uint8, [None, 28, 28])
    return images, tf.compat.v1.placeholder(tf.int64, [None]), tf.cast(images, tf.float32) / 255.0


def _session_step(fetches: list, images, labels) -> Callable[[], object]:
    tf = _graph_mode()
    session = tf.compat.v1.Session()
    session.run(tf.compat.v1.global_variables_initializer())
    image_batch, label_batch = random_batch()
    return lambda: session.run(fetches, {images: image_batch, labels: label_batch})


def pytorch(precision: str, compiled: bool) -> Callable[[], object]:
    """The same step in PyTorch."""
    import torch
    from torch import nn

    from benchmarks.torch_lenet import lenet, scaled

    torch.manual_seed(0)
    trunk, feature, classifier = lenet(batch_norm=True, prelu_start=0.0)
    model = nn.ModuleList([trunk, feature, classifier]).train()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    images, labels = random_batch()
    c, labels = torch.zeros(CLASSES, WIDTH), torch.from_numpy(labels)

    def losses():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            x = trunk(scaled(images))
        x = feature(x.float())
        l_c = 0.5 * (x - c[labels]).square().sum()
        return x, nn.functional.cross_entropy(classifier(x), labels) + 0.01 * l_c

    @torch.no_grad()
    def update(x):
        counts = torch.bincount(labels, minlength=CLASSES)[:, None]
        c.sub_(0.5 * (counts * c - torch.zeros_like(c).index_add_(0, labels, x)) / (1 + counts))

    forward = torch.compile(losses) if compiled else losses

    def step():
        x, loss = forward()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update(x.detach())

    return step


def measure() -> list[Row]:
    """Rows 1 to 4, all from one group of peers."""
    peers = {f"ours, {precision}": (ours, (precision,)) for precision in ("float32", "bfloat16")}
    peers |= {"cross entropy alone, float32": (cross_entropy_alone, ())}
    for precision in ("float32", "bfloat16"):
        peers[f"the blog's ops, {precision}"] = (blogs_ops, (precision,))
        for how in ("eager", "compiled"):
            peers[f"PyTorch {how}, {precision}"] = (pytorch, (precision, how == "compiled"))
    turns = take_turns(peers, rounds=ROUNDS, steps=STEPS)
    rows = []
    for number, precision, goal in ((1, "float32", 0.95), (2, "bfloat16", 0.75)):
        names = [f"PyTorch {how}, {precision}" for how in ("eager", "compiled")]
        best = min(names, key=lambda name: np.median(turns[name].seconds))
        rows.append(_row(turns, number, f"ours, {precision}", best, goal, [name for name in names if name != best]))
    also = ["the blog's ops, bfloat16"]
    rows.append(_row(turns, 3, "ours, bfloat16", "the blog's ops, float32", 0.27, also))
    return [*rows, _row(turns, 4, "ours, float32", "cross entropy alone, float32", 1.02)]


def _row(turns, number: int, ours: str, other: str, goal: float, also: list[str] | None = None) -> Row:
    detail = "; ".join(f"{name} {milliseconds(turns, name)}" for name in (ours, other, *(also or [])))
    what = f"training step, batch {BATCH}: {ours} / {other}"
    return Row(number, what, f"{ratio(turns, ours, other):.3f}", f"≤ {goal}", detail)
