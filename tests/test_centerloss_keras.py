"""The Keras layer against Eq. 2 and `update_centers`, in all the ways in which Keras runs a layer."""

import ast
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import centerloss_keras
from centerloss_keras import CenterLoss
from update_centers import update_centers

C, D, B = 5, 3, 8


def batches(count: int, seed: int = 0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield random.normal(size=(B, 6)).astype(np.float32), random.integers(0, C, B)


def model(weight=0.3, alpha=0.5, **options) -> tuple[keras.Model, CenterLoss]:
    images, labels = keras.Input([6]), keras.Input([], dtype="int64")
    features = keras.layers.Dense(D, name="features")(images)
    layer = CenterLoss(C, weight, alpha, **options)
    logits = keras.layers.Dense(C, dtype="float32")(layer([features, labels]))
    return keras.Model([images, labels], logits), layer


def compiled(eagerly: bool, **options) -> tuple[keras.Model, CenterLoss]:
    made, layer = model(**options)
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=eagerly)
    return made, layer


def features_of(made: keras.Model, images: np.ndarray) -> np.ndarray:
    kernel, bias = made.get_layer("features").get_weights()
    return images @ kernel + bias


@pytest.mark.parametrize("eagerly", [False, True])
def test_fit_moves_the_centers_as_eq_4(eagerly):
    made, layer = compiled(eagerly)
    expected = np.zeros((C, D), np.float32)
    for images, labels in batches(5):
        expected = update_centers(expected, features_of(made, images), labels, 0.5)
        made.fit([images, labels], labels, batch_size=B, verbose=0)
        np.testing.assert_allclose(layer.centers.numpy(), expected, atol=1e-6)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("eagerly", [False, True])
def test_evaluate_and_predict_leave_them(eagerly):
    made, layer = compiled(eagerly)
    images, labels = next(batches(1))
    made.fit([images, labels], labels, batch_size=B, verbose=0)
    before = layer.centers.numpy().copy()
    made.evaluate([images, labels], labels, verbose=0)
    made.predict([images, labels], verbose=0)
    made([images, labels])
    np.testing.assert_array_equal(layer.centers.numpy(), before)


def test_the_loss_is_that_of_the_centers_from_before_the_step():
    made, layer = compiled(False, weight=2.0)
    plain, _ = compiled(False, weight=0.0)
    images, labels = next(batches(1))
    layer.centers.assign(np.random.default_rng(1).normal(size=(C, D)))
    plain.set_weights(made.get_weights())
    x, c = features_of(made, images), layer.centers.numpy()
    expected = 2.0 * np.sum((x - c[labels]) ** 2, axis=1).mean() / 2
    losses = [of.train_on_batch([images, labels], labels) for of in (made, plain)]
    assert losses[0] - losses[1] == pytest.approx(expected, rel=1e-5)


def test_its_gradient_is_eq_3_and_reaches_the_features_alone():
    import tensorflow as tf

    layer = CenterLoss(C, weight=1.0)
    (images, labels), c = next(batches(1)), np.random.default_rng(1).normal(size=(C, 6)).astype(np.float32)
    x = tf.constant(images)
    layer.build([(B, 6), (B,)])
    layer.centers.assign(c)
    with tf.GradientTape() as tape:
        tape.watch(x)
        layer([x, labels], training=True)
        loss = sum(layer.losses)
    np.testing.assert_allclose(tape.gradient(loss, x), (images - c[labels]) / B, atol=1e-6)
    assert layer.trainable_weights == []


def test_a_model_is_saved_and_loaded_with_its_centers(tmp_path):
    made, layer = compiled(False, weight=0.7, alpha=0.25)
    images, labels = next(batches(1))
    made.fit([images, labels], labels, batch_size=B, verbose=0)
    made.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    twin = next(part for part in again.layers if isinstance(part, CenterLoss))
    np.testing.assert_array_equal(twin.centers.numpy(), layer.centers.numpy())
    assert (twin.num_classes, twin.weight, twin.alpha) == (C, 0.7, 0.25)
    again.fit([images, labels], labels, batch_size=B, verbose=0)
    made.fit([images, labels], labels, batch_size=B, verbose=0)
    np.testing.assert_allclose(twin.centers.numpy(), layer.centers.numpy(), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_half_precision_features_have_float32_centers_and_whole_class_ids(policy):
    layer = CenterLoss(5000, dtype=policy)
    features = keras.ops.cast(np.full((2, 3), 1.5), "float16" if policy == "mixed_float16" else "bfloat16")
    labels = np.array([4097, 4999])  # neither is a number of half precision
    assert layer([features, labels], training=True).dtype == features.dtype
    assert layer.centers.dtype == "float32"
    moved = np.flatnonzero(np.abs(layer.centers.numpy()).sum(axis=1))
    assert moved.tolist() == [4097, 4999]
    np.testing.assert_allclose(layer.centers.numpy()[moved], 0.5 * 1.5 / 2, rtol=1e-6)


def test_labels_may_have_a_column():
    one, other = CenterLoss(C), CenterLoss(C)
    images, labels = next(batches(1))
    one([images, labels], training=True)
    other([images, labels[:, np.newaxis]], training=True)
    np.testing.assert_array_equal(one.centers.numpy(), other.centers.numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CenterLoss(0), "num_classes > 0"),
        (lambda: CenterLoss(3, alpha=1.5), "alpha in 0..1"),
        (lambda: CenterLoss(3, weight=-1), "weight >= 0"),
        (lambda: CenterLoss(C)([np.zeros((B, D)), np.zeros((B, C))]), "argmax one-hot labels"),
        (lambda: CenterLoss(C)([np.zeros((B, 2, D)), np.zeros(B)]), r"features \[B, D\]"),
    ],
)
def test_what_does_not_fit_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_file_stands_alone_and_is_short():
    path = Path(centerloss_keras.__file__)
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in nodes] == ["import keras", "from keras import ops"]
    assert len(path.read_text().splitlines()) <= 60


def test_the_example_learns(run_script):
    """Its moving averages need longer than this for the test images, so the last epoch's own accuracy counts."""
    result = run_script("examples/keras_mnist.py", 6, "digits")
    assert result.returncode == 0, result.stderr
    assert float(re.findall(r"accuracy: ([0-9.]+)", result.stdout)[-1]) > 0.5  # chance: 0.1
    assert re.search(r"^test: [0-9.]+% by softmax, [0-9.]+% by nearest center$", result.stdout, re.M)
