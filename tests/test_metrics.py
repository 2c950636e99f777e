"""Accuracies and distances, against numbers worked by hand and against scikit-learn."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, silhouette_samples

import metrics
from running.run_folder import write_json

# Two points of class 0 around (0, 0), two of class 1 around (3, 4), one of class 2 at (0, 10).
FEATURES = np.array([[-1, 0], [1, 0], [3, 2], [3, 6], [0, 10]], np.float32)
LABELS = np.array([0, 0, 1, 1, 2])


def test_nearest_center_by_hand():
    centers = np.array([[0, 0], [4, 0], [0, 3]], np.float32)
    features = np.array([[1.9, 0], [2.1, 0], [0, 1.4], [0, 1.6], [100, 1], [-1, -1]], np.float32)
    got = metrics.nearest_center(features, centers)
    assert got.tolist() == [0, 1, 0, 2, 1, 0]
    assert got.dtype == np.int64


def test_nearest_center_far_from_the_origin_does_not_cancel():
    centers = np.array([[1e4, 1e4], [1e4 + 2, 1e4]], np.float32)
    assert metrics.nearest_center(np.array([[1e4 + 0.9, 1e4], [1e4 + 1.1, 1e4]], np.float32), centers).tolist() == [
        0,
        1,
    ]


def test_class_means_by_hand_and_of_a_missing_class():
    means = metrics.class_means(FEATURES, LABELS, 4)
    np.testing.assert_array_equal(means[:3], [[0, 0], [3, 4], [0, 10]])
    assert np.isnan(means[3]).all()


def test_distances_by_hand():
    # To the own mean: 1, 1, 2, 2, 0, on average 1.2. Between the means: 5, 10 and √(3² + 6²) = √45.
    assert metrics.distances(FEATURES, LABELS, 3) == pytest.approx(
        {"intra": 1.2, "inter_smallest": 5.0, "inter_mean": (15 + 45**0.5) / 3, "inter_over_intra": 5 / 1.2}
    )


def test_distances_ignore_a_missing_class():
    assert metrics.distances(FEATURES, LABELS, 10) == metrics.distances(FEATURES, LABELS, 3)


def test_distances_of_one_class():
    got = metrics.distances(FEATURES[:2], LABELS[:2], 3)
    assert got == {"intra": 1.0, "inter_smallest": 0.0, "inter_mean": 0.0, "inter_over_intra": 0.0}


def test_distances_of_classes_that_are_points():
    got = metrics.distances(FEATURES[[0, 0, 2]], np.array([0, 0, 1]), 2)
    assert got["intra"] == 0.0
    assert got["inter_smallest"] == pytest.approx(20**0.5)  # from (−1, 0) to (3, 2)
    assert got["inter_over_intra"] == float("inf")


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_distances_turn_with_the_features_and_grow_with_them(seed, angle):
    random = np.random.default_rng(seed)
    features, labels = random.normal(size=(60, 2)), np.arange(60) % 5
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before, after = metrics.distances(features, labels, 5), metrics.distances(3 * features @ turn + 7, labels, 5)
    for name in ("intra", "inter_smallest", "inter_mean"):
        assert after[name] == pytest.approx(3 * before[name], rel=1e-9)
    assert after["inter_over_intra"] == pytest.approx(before["inter_over_intra"], rel=1e-9)


def test_split_metrics_against_scikit_learn():
    random = np.random.default_rng(0)
    labels, predictions = random.integers(7, size=500), random.integers(7, size=500)
    features, centers = random.normal(size=(500, 2)).astype(np.float32), random.normal(size=(7, 2)).astype(np.float32)
    got = metrics.split_metrics(features, labels, predictions, centers)
    counts = confusion_matrix(labels, predictions, labels=range(7))
    assert got["images"] == 500
    assert got["confusion"].toarray().tolist() == counts.tolist(), "rows are the true class"
    assert got["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert got["accuracy_per_class"] == pytest.approx((counts.diagonal() / counts.sum(axis=1)).tolist())
    nearest = np.array([min(range(7), key=lambda j: np.hypot(*(x - centers[j]))) for x in features])
    counts = confusion_matrix(labels, nearest, labels=range(7))
    assert got["accuracy_nearest_center"] == pytest.approx(accuracy_score(labels, nearest))
    assert got["accuracy_nearest_center_per_class"] == pytest.approx((counts.diagonal() / counts.sum(axis=1)).tolist())
    assert got["largest_coordinate"] == float(np.abs(features).max())


def test_split_metrics_of_a_missing_class_are_none():
    centers = np.array([[0, 0], [3, 4], [0, 10], [50, 50]], np.float32)
    got = metrics.split_metrics(FEATURES, LABELS, np.array([0, 1, 1, 1, 3]), centers)
    assert got["accuracy_per_class"] == [0.5, 1.0, 0.0, None]
    assert got["accuracy_nearest_center_per_class"] == [1.0, 1.0, 1.0, None]
    assert got["confusion"].toarray().tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert got["accuracy"] == pytest.approx(0.6)
    assert got["largest_coordinate"] == 10.0


def test_split_metrics_of_equal_points_are_plain_json(tmp_path):
    features, labels = np.full((6, 2), -2.5, np.float32), np.arange(6) % 3
    got = metrics.split_metrics(features, labels, labels, np.zeros((3, 2), np.float32))
    assert np.array_equal(got.pop("confusion").toarray(), 2 * np.eye(3))
    assert (got["intra"], got["inter_smallest"], got["inter_mean"]) == (0.0, 0.0, 0.0)
    assert got["largest_coordinate"] == 2.5
    write_json(tmp_path / "metrics.json", got)
    assert json.loads((tmp_path / "metrics.json").read_text()) == got | {"inter_over_intra": None}


def test_cross_entropy_against_scikit_learn():
    random = np.random.default_rng(1)
    features, labels = random.normal(size=(200, 2)).astype(np.float32), random.integers(5, size=200)
    weights, bias = random.normal(size=(2, 5)), random.normal(size=5)
    odds = np.exp(features @ weights + bias)
    expected = log_loss(labels, odds / odds.sum(axis=1, keepdims=True), labels=range(5))
    assert metrics.cross_entropy(features, labels, weights, bias) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_by_hand():
    zeros = np.zeros((4, 2), np.float32)
    bias = np.log([1.0, 2.0, 5.0])
    assert metrics.cross_entropy(zeros, np.array([0, 1, 2, 2]), np.zeros((2, 3)), bias) == pytest.approx(
        np.log([8, 4, 8 / 5, 8 / 5]).mean()
    )
    assert metrics.cross_entropy(zeros, np.arange(4), np.zeros((2, 10)), np.zeros(10)) == pytest.approx(np.log(10))


def test_cross_entropy_of_large_logits_does_not_overflow():
    features, weights = np.array([[2000, 0], [0, 2000]], np.float32), np.eye(2)
    assert metrics.cross_entropy(features, np.array([0, 1]), weights, np.zeros(2)) == pytest.approx(0.0, abs=1e-12)
    assert metrics.cross_entropy(features, np.array([1, 0]), weights, np.zeros(2)) == pytest.approx(2000.0)


def test_silhouette_by_hand():
    # On a line: 0 and 1 against 10 and 12. Of 0: a = 1, b = 11; of 1: 1, 10; of 10: 2, 9.5; of 12: 2, 11.5.
    features, labels = np.array([[0, 0], [1, 0], [10, 0], [12, 0]], np.float32), np.array([0, 0, 1, 1])
    expected = (10 / 11 + 9 / 10 + 7.5 / 9.5 + 9.5 / 11.5) / 4
    assert metrics.silhouette(features, labels) == pytest.approx(expected, rel=1e-6)


def test_silhouette_is_the_mean_of_the_samples():
    random = np.random.default_rng(2)
    features, labels = random.normal(size=(90, 2)), np.arange(90) % 3
    assert metrics.silhouette(features, labels) == pytest.approx(silhouette_samples(features, labels).mean())


def test_silhouette_is_none_where_it_has_no_meaning():
    features = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    assert metrics.silhouette(features, np.array([0, 1, 2])) is None, "an image a class"
    assert metrics.silhouette(features, np.array([1, 1, 1])) is None, "one class"
    assert metrics.silhouette(features, np.array([0, 0, 2])) > 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory by /proc; getrusage would count the parent's, too")
def test_ten_thousand_classes_stay_within_a_gigabyte(run_script):
    """All numbers of 10,000 images of 10,000 classes in 128 dimensions, half of the images unknown ones, too."""
    code = """
import numpy as np, metrics
random = np.random.default_rng(0)
features, centers = random.normal(size=(2, 10_000, 128)).astype(np.float32)
labels = random.permutation(10_000)
weights, bias = random.normal(size=(128, 10_000)), np.zeros(10_000)
got = metrics.split_metrics(features, labels, labels, centers)
got["cross_entropy"] = metrics.cross_entropy(features, labels, weights, bias)
metrics.unknown_metrics(features[:5000], features[5000:], centers, weights, bias)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(got["confusion"].nnz, got["inter_over_intra"], peak)
"""
    nonzero, ratio, kilobytes = run_script("-c", code).stdout.split()
    assert (nonzero, ratio) == ("10000", "inf")
    assert int(kilobytes) < 1_000_000


def test_distances_between_many_means_are_those_between_few(monkeypatch):
    means = np.random.default_rng(0).normal(size=(50, 3))
    whole = metrics.between(means)
    monkeypatch.setattr(metrics, "AT_ONCE", 400)
    assert metrics.between(means) == pytest.approx(whole)
