"""Eq. 4: by hand, against the original rule's cases and against nested loops, and what it must refuse."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import update_centers as module
from update_centers import update_centers


def by_loops(centers, features, labels, alpha):
    """Eq. 4 as it is written, class by class and sample by sample, in float64."""
    new_centers = centers.astype(np.float64)
    for j in range(len(centers)):
        delta, count = np.zeros(centers.shape[1]), 0
        for x, y in zip(features, labels, strict=True):
            if y == j:
                delta += centers[j].astype(np.float64) - x
                count += 1
        new_centers[j] -= alpha * delta / (1 + count)
    return new_centers


@st.composite
def batches(draw):
    """Random centers [C, D], features [B, D], labels [B] (classes absent, alone, filling the batch), alpha."""
    num_classes, width, size = draw(st.integers(1, 8)), draw(st.integers(1, 5)), draw(st.integers(0, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-3, 1.0, 300.0]))
    labels = rng.integers(0, draw(st.integers(1, num_classes)), size)
    centers, features = (rng.normal(0, scale, shape) for shape in ((num_classes, width), (size, width)))
    return centers.astype(np.float32), features.astype(np.float32), labels, draw(st.floats(0, 1))


def test_the_docstrings_example_worked_by_hand():
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0
    new_centers = update_centers([[1, 1], [5, 5]], [[3, 1], [5, 4]], [0, 0], alpha=0.5)
    np.testing.assert_array_equal(new_centers, [[2, 1.5], [5, 5]])


@given(batches())
def test_equals_nested_loops(batch):
    centers, features, labels, alpha = batch
    expected = by_loops(centers, features, labels, alpha)
    result = update_centers(centers, features, labels, alpha)
    assert result.dtype == np.float32
    scale = max(np.abs(centers).max(), np.abs(features).max(initial=0))
    np.testing.assert_allclose(result, expected, rtol=0, atol=3e-7 * scale)


@given(batches())
def test_absent_class_keeps_its_center_to_the_bit(batch):
    centers, features, labels, alpha = batch
    absent = np.setdiff1d(np.arange(len(centers)), labels)
    result = update_centers(centers, features, labels, alpha)
    assert result[absent].tobytes() == centers[absent].tobytes()


@given(batches(), st.randoms(use_true_random=False))
def test_order_of_the_batch_does_not_matter(batch, random):
    centers, features, labels, alpha = batch
    order = list(range(len(labels)))
    random.shuffle(order)
    scale = max(np.abs(centers).max(), np.abs(features).max(initial=0))
    np.testing.assert_allclose(
        update_centers(centers, features[order], labels[order], alpha),
        update_centers(centers, features, labels, alpha),
        rtol=0,
        atol=2e-7 * scale,
    )


@given(batches())
def test_inputs_are_not_written_and_the_result_is_new(batch):
    centers, features, labels, alpha = batch
    for array in (centers, features, labels):
        array.flags.writeable = False
    result = update_centers(centers, features, labels, alpha)
    assert not np.shares_memory(result, centers)


def test_every_duplicate_counts():
    one, three = (update_centers([[0.0]], [[1.0]] * n, [0] * n, alpha=1.0)[0, 0] for n in (1, 3))
    assert one == pytest.approx(1 / 2)
    assert three == pytest.approx(3 / 4)


def test_cases_of_the_original_rule(real_path):
    cases = np.load(real_path("oracles/center_updates.npz"), allow_pickle=False)
    names = sorted({key.partition("/")[0] for key in cases})
    assert len(names) == 60
    for name in names:
        centers, features, labels, alpha, expected = (
            cases[f"{name}/{key}"] for key in ("centers", "features", "labels", "alpha", "new_centers")
        )
        result = update_centers(centers, features, labels, float(alpha))
        assert np.linalg.norm(result - expected) <= 1e-5 * np.linalg.norm(expected), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centers": np.zeros(2)}, "centers: expected shape"),
        ({"features": np.zeros((3, 5))}, "features: expected shape"),
        ({"features": np.zeros(3)}, "features: expected shape"),
        ({"labels": np.zeros(4, int)}, "labels: expected shape"),
        ({"labels": np.zeros((3, 1), int)}, "labels: expected shape"),
        ({"labels": np.array([0, 1, 4])}, r"labels: expected class ids in \[0, 4\), got 0 to 4"),
        ({"labels": np.array([0, -1, 3])}, r"got -1 to 3"),
        ({"labels": np.array([0.0, 1.0, 2.0])}, "labels: expected integer class ids"),
        ({"alpha": 1.5}, "alpha: expected"),
        ({"alpha": -0.1}, "alpha: expected"),
        ({"alpha": float("nan")}, "alpha: expected"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    good = {"centers": np.zeros((4, 2)), "features": np.ones((3, 2)), "labels": np.array([0, 1, 3]), "alpha": 0.5}
    update_centers(**good)
    with pytest.raises(ValueError, match=message):
        update_centers(**(good | change))


def test_the_update_in_the_graph_equals_the_one_in_numpy():
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session:
        x, y = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int64, [None])
        centers = tf.get_variable("centers", [12, 3], use_resource=True)
        start = tf.placeholder(tf.float32, [12, 3])
        own_centers = tf.gather(centers, y)
        with tf.control_dependencies([own_centers]):
            update, moves = module.update_centers_in_graph(centers, own_centers, x, y, alpha=0.7)
        assign = centers.assign(start).op
        for seed in range(200):
            rng = np.random.default_rng(seed)
            old, features = (rng.normal(0, 10, (n, 3)).astype(np.float32) for n in (12, seed % 40))
            labels = rng.integers(0, rng.integers(1, 13), len(features))
            session.run(assign, {start: old})
            _, moved = session.run([update, moves], {x: features, y: labels})
            new = session.run(centers)
            np.testing.assert_allclose(new, update_centers(old, features, labels, 0.7), rtol=1e-5, atol=1e-5)
            assert len(moved) == len(np.unique(labels))
            absent = np.setdiff1d(np.arange(12), labels)
            assert new[absent].tobytes() == old[absent].tobytes()
