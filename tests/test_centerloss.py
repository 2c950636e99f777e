"""Eq. 2 by gather and by the loop: against NumPy in float64, against each other, and against finite differences."""

import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from centerloss import center_loss, center_loss_naive

EPS = float(np.finfo(np.float32).eps)
LOSSES = {"gather": lambda x, y, c, n: center_loss(x, y, c), "naive": center_loss_naive}


def evaluate(loss: str, features, labels, centers, *, batch=None, as_variable=False):
    """Value and gradient by the features, run in a graph of its own; `batch` is the static batch size."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(features.dtype, [batch, features.shape[1]])
        y = tf.placeholder(labels.dtype, [batch])
        c = tf.get_variable("c", initializer=centers, use_resource=True) if as_variable else tf.constant(centers)
        value = LOSSES[loss](x, y, c, len(centers))
        gradient = tf.convert_to_tensor(tf.gradients(value, x)[0])
        session.run(tf.global_variables_initializer())
        return session.run([value, gradient], {x: features, y: labels})


def exact(features, labels, centers):
    """Eq. 2 and Eq. 3 in float64."""
    difference = features.astype(np.float64) - centers.astype(np.float64)[labels]
    return 0.5 * np.sum(difference**2), difference


@pytest.fixture(scope="module")
def losses_of_five_classes():
    """Both losses and their gradients for C = 5, D = 3 and any batch size, in one session for many batches."""
    with tf.Graph().as_default(), tf.Session() as session:
        x, y, c = (
            tf.placeholder("float32", [None, 3]),
            tf.placeholder("int64", [None]),
            tf.placeholder("float32", [5, 3]),
        )
        values = [LOSSES[loss](x, y, c, 5) for loss in ("gather", "naive")]
        gradients = [tf.convert_to_tensor(tf.gradients(value, x)[0]) for value in values]
        yield lambda *batch: session.run([values, gradients], dict(zip((x, y, c), batch, strict=True)))


LABELS = {
    "all classes": lambda random: random.permutation(np.arange(20) % 5),
    "a class absent": lambda random: random.choice([0, 1, 2, 4], size=20),
    "a class alone": lambda random: random.permutation([3] + [0, 1] * 9 + [2]),
    "one class fills the batch": lambda random: np.full(20, 2),
    "one example": lambda random: random.integers(5, size=1),
    "no example": lambda random: np.zeros(0, int),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_both_forms_are_eq_2_and_eq_3_up_to_cancellation(losses_of_five_classes, kind, scale):
    for seed in range(20):
        random = np.random.default_rng(seed)
        labels = LABELS[kind](random).astype(np.int64)
        centers = (scale * random.normal(size=(5, 3))).astype(np.float32)
        features = (centers[labels] + random.normal(size=(len(labels), 3))).astype(np.float32)
        values, gradients = losses_of_five_classes(features, labels, centers)
        value, gradient = exact(features, labels, centers)
        # x², c² and 2xc are each rounded, and so are their partial sums: a few eps·max(x², c²) per entry, B·D entries.
        largest = max(np.abs(features).max(initial=0), np.abs(centers).max())
        assert abs(values[0] - value) <= EPS * (features.size + 4) * value
        assert abs(values[1] - value) <= 4 * EPS * largest**2 * features.size + EPS * (features.size + 4) * value
        # The gradient is a sum of x/2, x/2 and −c: one order of |x| less is lost.
        np.testing.assert_allclose(gradients[0], gradient, rtol=EPS, atol=0)
        np.testing.assert_allclose(gradients[1], gradient, rtol=0, atol=4 * EPS * largest)


def test_value_and_gradient_by_hand():
    features = np.float32([[1, 2], [3, 4], [0, 0]])
    labels, centers = np.int64([1, 0, 1]), np.float32([[3, 1], [0, 2], [9, 9]])
    for loss in LOSSES:  # differences (1, 0), (0, 3), (0, −2): half of 1 + 9 + 4
        value, gradient = evaluate(loss, features, labels, centers)
        assert value == 7
        np.testing.assert_array_equal(gradient, [[1, 0], [0, 3], [0, -2]])


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_by_finite_differences(loss):
    random = np.random.default_rng(0)
    labels, centers, step = np.int64([0, 2, 2, 1]), random.normal(size=(4, 3)), 1e-4
    features = random.normal(size=(4, 3))
    gradient = evaluate(loss, features, labels, centers)[1]
    for i, d in np.ndindex(*features.shape):
        shift = np.zeros_like(features)
        shift[i, d] = step
        up, down = exact(features + shift, labels, centers)[0], exact(features - shift, labels, centers)[0]
        assert gradient[i, d] == pytest.approx((up - down) / (2 * step), abs=1e-9)


def test_finite_differences_of_the_loss_itself_give_eq_3():
    random = np.random.default_rng(1)
    labels, centers = np.int64([0, 2, 2, 1]), random.normal(size=(4, 3))
    features, direction, step = random.normal(size=(4, 3)), random.normal(size=(4, 3)), 1e-4
    for loss in LOSSES:
        up, down = (evaluate(loss, features + s * direction, labels, centers)[0] for s in (step, -step))
        assert (up - down) / (2 * step) == pytest.approx(np.sum((features - centers[labels]) * direction), abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch", [None, 30])
def test_label_dtype_variable_and_static_batch_size_change_no_bit(loss, batch):
    random = np.random.default_rng(2)
    features, centers = random.normal(size=(30, 2)).astype("f4"), random.normal(size=(7, 2)).astype("f4")
    labels = random.integers(7, size=30)
    value, gradient = evaluate(loss, features, labels, centers)
    for dtype in (np.int32, np.int64):
        for as_variable in (False, True):
            again = evaluate(loss, features, labels.astype(dtype), centers, batch=batch, as_variable=as_variable)
            assert again[0] == value
            np.testing.assert_array_equal(again[1], gradient)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_variable_and_no_collection_is_made(loss):
    with tf.Graph().as_default() as graph:
        x, y, c = tf.placeholder("float32", [4, 2]), tf.placeholder("int32", [4]), tf.placeholder("float32", [3, 2])
        value = LOSSES[loss](x, y, c, 3)
        assert value.shape == []
        assert value.dtype == tf.float32
        assert not any(graph.get_collection(name) for name in graph.get_all_collection_keys())
        assert not any("Variable" in op.type or "VarHandle" in op.type for op in graph.get_operations())


def test_gather_reads_only_the_rows_it_needs_of_a_variable():
    with tf.Graph().as_default() as graph:
        centers = tf.get_variable("c", [1000, 2], use_resource=True)
        built_before = len(graph.get_operations())
        center_loss(tf.placeholder("float32", [4, 2]), tf.placeholder("int32", [4]), centers)
        types = [op.type for op in graph.get_operations()[built_before:]]
        assert "ResourceGather" in types
        assert "ReadVariableOp" not in types


def count_ops(loss: str, classes: int) -> int:
    with tf.Graph().as_default() as graph:
        x, y = tf.placeholder("float32", [4, 2]), tf.placeholder("int32", [4])
        LOSSES[loss](x, y, tf.placeholder("float32", [classes, 2]), classes)
        return len(graph.get_operations())


def test_ops_are_constant_in_the_classes_by_gather_and_linear_by_the_loop():
    assert count_ops("gather", 2) == count_ops("gather", 1000) < 10
    naive = [count_ops("naive", classes) for classes in (2, 3, 12)]
    a_class = naive[1] - naive[0]
    assert naive[2] - naive[0] == 10 * a_class
    assert 10 <= a_class <= 30


GOOD = {"features": ("float32", [4, 2]), "labels": ("int64", [4]), "centers": ("float32", [3, 2])}
BAD = [
    ({"features": ("int32", [4, 2])}, "features: expected a floating dtype, got int32"),
    ({"features": ("float32", [4])}, "features: expected rank 2"),
    ({"features": ("float32", [4, 2, 1])}, "features: expected rank 2"),
    ({"features": ("float32", None)}, "features: expected rank 2"),
    ({"labels": ("float32", [4])}, "labels: expected int32 or int64 class ids, got float32"),
    ({"labels": ("uint8", [4])}, "labels: expected int32 or int64 class ids, got uint8"),
    ({"labels": ("int64", [4, 3])}, "labels: expected rank 1, [B] (class ids, not one-hot)"),
    ({"labels": ("int64", [4, 1])}, "labels: expected rank 1"),
    ({"labels": ("int64", [])}, "labels: expected rank 1"),
    ({"centers": ("float64", [3, 2])}, "centers: expected float32 as the features, got float64"),
    ({"centers": ("float32", [3])}, "centers: expected rank 2"),
    ({"centers": ("float32", [3, 5])}, "features and centers: expected the same width D"),
    ({"labels": ("int64", [5])}, "features and labels: expected the same batch size B"),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("wrong", "message"), BAD, ids=[str(wrong) for wrong, _ in BAD])
def test_what_does_not_fit_is_named(loss, wrong, message):
    with tf.Graph().as_default():
        tensors = [tf.placeholder(*argument) for argument in (GOOD | wrong).values()]
        with pytest.raises(ValueError, match=re.escape(message)):
            LOSSES[loss](*tensors, 3)


@pytest.mark.parametrize("num_classes", [2, 4, 0])
def test_naive_refuses_a_number_of_classes_that_is_not_the_centers_own(num_classes):
    with tf.Graph().as_default():
        tensors = [tf.placeholder(*argument) for argument in GOOD.values()]
        message = f"centers: expected {num_classes} rows (num_classes), got shape (3, 2)"
        with pytest.raises(ValueError, match=re.escape(message)):
            center_loss_naive(*tensors, num_classes)


def test_naive_takes_centers_of_a_static_shape_that_does_not_tell_the_rows():
    features, labels, centers = np.float32([[1, 0], [0, 2]]), np.int64([0, 1]), np.zeros((2, 2), np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        c = tf.placeholder("float32", [None, 2])
        assert session.run(center_loss_naive(features, labels, c, 2), {c: centers}) == 2.5


def test_import_flips_no_global_switch():
    program = """
import tensorflow.compat.v1 as tf
switches = lambda: (tf.resource_variables_enabled(), tf.control_flow_v2_enabled(), tf.logging.get_verbosity())
before = switches()
import centerloss
assert tf.executing_eagerly()
assert switches() == before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
