"""The images of a run: divided into splits, batch by batch in their order, shifted.

Letters in the shapes: N images, H height, W width, C classes, B batch.
"""

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_files import DataError


class Split(NamedTuple):
    """Images of one use, and their classes."""

    images: np.ndarray  # [N, H, W] or [N, H, W, 3] uint8
    labels: np.ndarray  # [N] int64 class ids, each in 0 … C − 1
    index: np.ndarray | None = None  # [N] int64, in a part of a split where the images are in the whole


class Splits(NamedTuple):
    """The images of a run, by use."""

    train: Split
    validation: Split  # may be empty
    test: Split
    unknown: Split  # test images of classes left out of training, by the data set's own class ids; may be empty
    class_names: tuple[str, ...]  # C of them, by class id


class Dataset(NamedTuple):
    """A data set as it was found, its labels brought to 0 … C − 1."""

    name: str
    source: str  # one line for the user: where it came from
    class_names: tuple[str, ...]  # C of them, by class id
    train: Split
    test: Split
    validation: Split | None = None  # the data set's own
    note: str = ""  # one line for the user: what is unusual about it, if anything


def fingerprint(data: Dataset) -> str:
    """SHA-256 of all images and labels in their order, in hexadecimal: the same for the same data, however stored."""
    digest = hashlib.sha256()
    for split in filter(None, (data.train, data.test, data.validation)):
        digest.update(np.ascontiguousarray(split.images))
        digest.update(np.ascontiguousarray(split.labels))
    return digest.hexdigest()


def divide(data: Dataset, fraction: float, split_seed: int, unknown_classes: Sequence[int] = ()) -> Splits:
    """The splits of a run. Held out is the data set's own validation split, or what `stratified_split` chooses.

    Args:
        data: the data set.
        fraction: of the training images, to be held out.
        split_seed: which of them.
        unknown_classes: class ids that are left out. The others become 0 … C − 1 in their order.

    Raises:
        DataError: if a class is too small to be split, unknown to the data set, or fewer than two are left.
    """
    known = np.setdiff1d(np.arange(len(data.class_names)), unknown_classes)
    if len(known) < 2 or len(known) + len(set(unknown_classes)) != len(data.class_names):
        raise DataError(
            f"unknown_classes: expected some of the {len(data.class_names)} classes, 0 to {len(data.class_names) - 1}, "
            f"and two others to train on, got {list(unknown_classes)}"
        )

    def part(split: Split, chosen: np.ndarray) -> Split:
        return Split(split.images[chosen], np.searchsorted(known, split.labels[chosen]), chosen)

    training, test = (np.flatnonzero(np.isin(split.labels, known)) for split in (data.train, data.test))
    if data.validation is not None:
        validation = part(data.validation, np.flatnonzero(np.isin(data.validation.labels, known)))
    else:
        names = data.class_names
        kept, held_out = stratified_split(data.train.labels[training], fraction, split_seed, names)
        validation, training = part(data.train, training[held_out]), training[kept]
    left_out = np.setdiff1d(np.arange(len(data.test.labels)), test)
    unknown = Split(data.test.images[left_out], data.test.labels[left_out], left_out)
    names = tuple(data.class_names[j] for j in known)
    return Splits(part(data.train, training), validation, part(data.test, test), unknown, names)


def stratified_split(
    labels: np.ndarray, fraction: float, split_seed: int, names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out round(`fraction` · N) of the [N] class ids, the same share of each class, chosen by `split_seed` alone.

    Returns:
        Indices kept and indices held out, each sorted, int64; together 0 … N − 1.

    Raises:
        DataError: if `fraction` is neither 0 nor leaves at least one member of every class on both sides. The message
            calls the class by its name in `names`.
        ValueError: if `split_seed` is not in [0, 2³²).
    """
    index = np.arange(len(labels), dtype=np.int64)
    if fraction == 0:
        return index, index[:0]
    classes, counts = np.unique(labels, return_counts=True)
    smallest, j = min(zip(counts.tolist(), classes.tolist(), strict=True), default=(0, 0))
    if not (smallest * fraction >= 1 and smallest - smallest * fraction >= 1):
        which = names[j] if names else j
        raise DataError(
            f"can't hold out {fraction:g} of the {smallest} images of class {which}; give it more, or hold out 0, or "
            "nearer to 0.5"
        )
    from sklearn.model_selection import train_test_split

    size = round(fraction * len(labels))  # given a float, scikit-learn takes the ceiling: 8 of 100 for 0.07
    training, validation = train_test_split(index, test_size=size, stratify=labels, random_state=split_seed)
    return np.sort(training), np.sort(validation)


def batches(num_examples: int, batch_size: int, seed: int, first_step: int = 0) -> Iterator[np.ndarray]:
    """Batches of indices without end, each int64 [batch_size]; the last of an epoch is shorter if need be.

    The order depends on `seed` and the epoch alone, so that a run goes on from `first_step` as if never stopped.

    Raises:
        ValueError: at the call, if `num_examples` or `batch_size` is below 1, or `seed` or `first_step` below 0.
    """
    if min(num_examples, batch_size) < 1 or min(seed, first_step) < 0:
        raise ValueError(f"expected {num_examples=} and {batch_size=} >= 1, {seed=} and {first_step=} >= 0")
    first_epoch, skipped = divmod(first_step, math.ceil(num_examples / batch_size))
    return (
        order[start : start + batch_size]
        for epoch in itertools.count(first_epoch)
        for order in [np.random.default_rng([seed, epoch]).permutation(num_examples)]
        for start in range(skipped * batch_size if epoch == first_epoch else 0, num_examples, batch_size)
    )


def shifted(images: np.ndarray, pixels: int, seed: int, step: int) -> np.ndarray:
    """[B, H, W, …] uint8: each image moved by up to `pixels` in either direction, background moving in.

    How far depends on `seed` and `step` alone, so that a run goes on as if never stopped; the 1 beside them keeps the
    numbers apart from those of `batches`.
    """
    if pixels == 0:
        return images
    framed = np.pad(images, [(0, 0), (pixels, pixels), (pixels, pixels), (0, 0)][: images.ndim])
    windows = np.lib.stride_tricks.sliding_window_view(framed, images.shape[1:3], axis=(1, 2))
    down, right = np.random.default_rng([seed, step, 1]).integers(0, 2 * pixels + 1, (2, len(images)))
    moved = windows[np.arange(len(images)), down, right]  # [B, …, H, W]
    return moved if images.ndim == 3 else moved.transpose(0, 2, 3, 1)
