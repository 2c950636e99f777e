"""What the features of a split are worth: accuracies, and distances within and between the classes.

Letters in the shapes: N images of the split, C classes, D feature width. Distances are Euclidean, in feature units.
"""

from collections.abc import Iterator

import numpy as np

SILHOUETTE_IMAGES = 10_000
AT_ONCE = 10**7  # numbers in a part of a large array, 80 MB


def nearest_center(features: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """[N] int64: for each of the [N, D] features, the class of the nearest of the [C, D] centers."""
    from sklearn.metrics import pairwise_distances_argmin  # here, since scikit-learn takes a second to import

    return pairwise_distances_argmin(features.astype(np.float64), centers.astype(np.float64))


def nearest_centers(features: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, and [N] float64, how far it is."""
    from sklearn.metrics import pairwise_distances_argmin_min

    return pairwise_distances_argmin_min(features.astype(np.float64), centers.astype(np.float64))


def own_and_other(features: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N] and [N] float64: how far each of the [N, D] features is from its own center, and from the nearest other."""
    from sklearn.metrics import pairwise_distances_chunked

    def least(part: np.ndarray, start: int) -> np.ndarray:
        part[np.arange(len(part)), labels[start : start + len(part)]] = np.inf
        return part.min(axis=1)

    others = pairwise_distances_chunked(features.astype(np.float64), centers.astype(np.float64), reduce_func=least)
    return np.linalg.norm(features.astype(np.float64) - centers[labels], axis=1), np.concatenate(list(others))


def class_means(features: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """[C, D] float64: the mean feature of each class; NaN for a class without an image."""
    means = np.full((num_classes, features.shape[1]), np.nan)
    for j in np.unique(labels):
        means[j] = features[labels == j].mean(axis=0, dtype=np.float64)
    return means


def distances(features: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, float]:
    """How tight the classes are, and how far apart.

    Args:
        features: [N, D].
        labels: [N] class ids.
        num_classes: C.

    Returns:
        `intra`: mean distance of a feature to the mean of its class in this split; `inter_smallest` and
        `inter_mean`: over the pairs of class means (0 if there is one class); `inter_over_intra`: the smallest inter
        over intra (infinite when every class is one point).
    """
    means = class_means(features, labels, num_classes)
    intra = float(np.linalg.norm(features - means[labels], axis=1).mean())
    smallest, mean = between(means[~np.isnan(means[:, 0])])
    return {
        "intra": intra,
        "inter_smallest": smallest,
        "inter_mean": mean,
        "inter_over_intra": smallest / intra if intra > 0 else float("inf"),
    }


def between(means: np.ndarray) -> tuple[float, float]:
    """The smallest and the mean distance between two of the [C, D] means; 0 and 0 if there is one alone."""
    from scipy.spatial.distance import cdist, pdist

    if len(means) < 2:
        return 0.0, 0.0
    if len(means) ** 2 <= AT_ONCE:
        inter = pdist(means)
        return float(inter.min()), float(inter.mean())
    smallest, total = np.inf, 0.0
    for part in parts(len(means), len(means)):
        inter = cdist(means[part], means)  # [P, C]
        total += inter.sum()
        inter[np.arange(len(inter)), np.arange(len(means))[part]] = np.inf
        smallest = min(smallest, inter.min())
    return float(smallest), float(total / (len(means) * (len(means) - 1)))


def parts(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` rows, each of which holds about AT_ONCE numbers if a row has `width`."""
    step = max(1, AT_ONCE // width)
    return (slice(start, start + step) for start in range(0, count, step))


def accuracies(
    features: np.ndarray, labels: np.ndarray, predictions: np.ndarray, centers: np.ndarray
) -> dict[str, float]:
    """`accuracy` by softmax and `accuracy_nearest_center` by nearest learned center, in 0..1; see `split_metrics`."""
    return {
        "accuracy": float((predictions == labels).mean()),
        "accuracy_nearest_center": float((nearest_center(features, centers) == labels).mean()),
    }


def split_metrics(
    features: np.ndarray, labels: np.ndarray, predictions: np.ndarray, centers: np.ndarray
) -> dict[str, object]:
    """Everything that metrics.json says of a split, as plain numbers and lists; what is infinite is null there.

    Args:
        features: [N, D].
        labels: [N] class ids.
        predictions: [N] class ids by softmax.
        centers: [C, D], the learned centers.

    Returns:
        `images`; `accuracy` by softmax and `accuracy_nearest_center` by nearest learned center, in 0..1, and both
        per class (`…_per_class`, None for a class without an image); `confusion` by softmax, a sparse [C, C] array of
        counts, rows the true class; the `distances`; `center_loss`, Eq. 2 per image; `largest_coordinate`, the largest
        |coordinate| of a feature.
    """
    from scipy.sparse import coo_array

    num_classes = len(centers)
    confusion = coo_array((np.ones(len(labels), int), (labels, predictions)), (num_classes, num_classes))
    by_center = nearest_center(features, centers)
    images = np.bincount(labels, minlength=num_classes)

    def per_class(correct: np.ndarray) -> list[float | None]:
        right = np.bincount(labels, correct, num_classes)
        return [float(r / n) if n else None for r, n in zip(right, images, strict=True)]

    return {
        "images": len(labels),
        **accuracies(features, labels, predictions, centers),
        "accuracy_per_class": per_class(predictions == labels),
        "accuracy_nearest_center_per_class": per_class(by_center == labels),
        "confusion": confusion,
        **distances(features, labels, num_classes),
        "center_loss": float(((features.astype(np.float64) - centers[labels]) ** 2).sum(axis=1).mean() / 2),
        "largest_coordinate": float(np.abs(features).max()),
    }


def cross_entropy(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> float:
    """Mean softmax cross entropy in nats of the classifier `features @ weights + bias`, computed in float64.

    Args:
        features: [N, D].
        labels: [N] class ids.
        weights: [D, C].
        bias: [C].
    """
    losses = []
    for part in parts(len(labels), len(bias)):
        logits = features[part].astype(np.float64) @ weights + bias  # [P, C]
        logits -= logits.max(axis=1, keepdims=True)
        losses.append(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), labels[part]])
    return float(np.concatenate(losses).mean())


def unknown_metrics(
    known: np.ndarray, unknown: np.ndarray, centers: np.ndarray, weights: np.ndarray, bias: np.ndarray
) -> dict[str, float]:
    """How well features tell images of unknown classes from those of known ones.

    Args:
        known: [N, D], the features of test images of the C classes.
        unknown: [M, D], of test images of other classes.
        centers: [C, D].
        weights, bias: [D, C] and [C], of the classifier.

    Returns:
        `images`, M; the area under the ROC curve in 0..1, for which an image is the more likely unknown, the farther it
        is from its nearest center (`auroc_distance`), or the smaller its largest softmax probability
        (`auroc_softmax`).
    """
    from sklearn.metrics import roc_auc_score

    both = np.concatenate([known, unknown]).astype(np.float64)
    is_unknown = np.arange(len(both)) >= len(known)
    _, distance = nearest_centers(both, centers)
    surprise = []  # − ln of the largest probability
    for part in parts(len(both), len(bias)):
        logits = both[part] @ weights + bias
        surprise.append(np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)))
    return {
        "images": len(unknown),
        "auroc_distance": float(roc_auc_score(is_unknown, distance)),
        "auroc_softmax": float(roc_auc_score(is_unknown, np.concatenate(surprise))),
    }


def silhouette(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean silhouette coefficient of the true classes, in −1..1 (scikit-learn).

    None where there is one class, or no class has two images. Time and memory are quadratic in N, about a second for
    10,000 images: of more, 10,000 are drawn at random, always the same.
    """
    from sklearn.metrics import silhouette_score

    if len(labels) > SILHOUETTE_IMAGES:
        chosen = np.random.default_rng(0).choice(len(labels), SILHOUETTE_IMAGES, replace=False)
        features, labels = features[chosen], labels[chosen]
    return float(silhouette_score(features, labels)) if 1 < len(np.unique(labels)) < len(labels) else None
