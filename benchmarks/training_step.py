"""Rows 1 to 4: a training step of the preset blog, batch 100, against the same step written otherwise.

Ours is the step of `train_mnist.py`. The others have the same network, loss, update of the centers and optimizer:
PyTorch eager (channels last) and compiled, in float32 and with bfloat16 autocast of the convolutional stages; the graph
with the blog's own PReLU and batch norm; and the cross entropy alone. Images are random: no time depends on them.
For scale: one matrix product of as many multiply-adds, by PyTorch.
"""

from collections.abc import Callable
from unittest import mock

import numpy as np

from benchmarks.table import Row
from benchmarks.turns import graph_mode, ratio, take_turns, times
from config import Config

BATCH, CLASSES, WIDTH = 100, 10, 2
ROUNDS, STEPS = 21, 4


def random_batch() -> tuple[np.ndarray, np.ndarray]:
    """Images [B, 28, 28] uint8 and labels [B] int64."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, [BATCH, 28, 28], np.uint8), random.integers(0, CLASSES, BATCH)


def ours(precision: str, update: bool = True) -> Callable[[], object]:
    """The step of `train_mnist.py`, with or without the update of the centers."""
    tf = graph_mode()
    from training_graph import build_graph

    graph = build_graph(Config(precision=precision), CLASSES, (28, 28))
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    fetches = [graph.train_op, graph.center_update] if update else graph.train_op
    feed = dict(zip((graph.images, graph.labels), random_batch(), strict=True))
    return lambda: session.run(fetches, feed)


def cross_entropy_alone() -> Callable[[], object]:
    """The network and optimizer of `ours("float32")`, without center loss, centers and update."""
    import training_graph

    with mock.patch.object(training_graph, "center_loss", return_value=0.0):  # nothing else reads the centers
        return ours("float32", update=False)


def blogs_ops(precision: str) -> Callable[[], object]:
    """`ours` with the blog's PReLU, from relu and abs, and its batch norm, both branches of a condition."""
    tf = graph_mode()
    import network

    batch_norm = network.normalize
    is_training = tf.placeholder_with_default(True, [])

    def prelu(x, slope):
        return tf.nn.relu(x) + tf.cast(slope, x.dtype) * (x - tf.abs(x)) * 0.5

    def normalize(x, scope, *, decay, training):
        def branch(mode):
            y = batch_norm(x, scope, decay=decay, training=mode)
            updates = tf.get_default_graph().get_collection_ref(tf.GraphKeys.UPDATE_OPS)
            with tf.control_dependencies(updates):  # those of this branch, which has a graph of its own
                updates.clear()
                return tf.identity(y)

        y = tf.cond(is_training, lambda: branch(True), lambda: branch(False))
        return tf.ensure_shape(y, x.shape)

    with mock.patch.multiple(network, _prelu=prelu, normalize=normalize):
        return ours(precision)


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


def matrix_product(precision: str) -> Callable[[], object]:
    """PyTorch's product of two square matrices that takes the multiply-adds of a step's convolutions."""
    import torch

    forward = 25 * (28**2 * (32 + 32 * 32) + 14**2 * (32 * 64 + 64 * 64) + 7**2 * (64 * 128 + 128 * 128))
    side = round((3 * BATCH * forward) ** (1 / 3))  # backward there are twice as many
    a, b = torch.randn(2, side, side).to(getattr(torch, precision))
    return lambda: a @ b


def measure() -> list[Row]:
    """Rows 1 to 4, all from one group of peers."""
    peers = {"cross entropy alone, float32": (cross_entropy_alone, ())}
    for precision in ("float32", "bfloat16"):
        peers[f"ours, {precision}"] = (ours, (precision,))
        peers[f"the blog's ops, {precision}"] = (blogs_ops, (precision,))
        peers[f"a matrix product, {precision}"] = (matrix_product, (precision,))
        for how in ("eager", "compiled"):
            peers[f"PyTorch {how}, {precision}"] = (pytorch, (precision, how == "compiled"))
    turns = take_turns(peers, rounds=ROUNDS, steps=STEPS)

    def row(number: int, ours: str, others: list[str], goal: float) -> Row:
        what = f"training step, batch {BATCH}: {ours} / {others[0]}"
        return Row(number, what, f"{ratio(turns, ours, others[0]):.3f}", f"≤ {goal}", times(turns, [ours, *others]))

    rows = []
    for number, precision, goal in ((1, "float32", 0.95), (2, "bfloat16", 0.75)):
        names = [f"PyTorch {how}, {precision}" for how in ("eager", "compiled")]
        names.sort(key=lambda name: np.median(turns[name].seconds))
        rows.append(row(number, f"ours, {precision}", [*names, f"a matrix product, {precision}"], goal))
    rows.append(row(3, "ours, bfloat16", ["the blog's ops, float32", "the blog's ops, bfloat16"], 0.27))
    return [*rows, row(4, "ours, float32", ["cross entropy alone, float32"], 1.02)]
