"""The data of the experiments: found or fetched, checked, parsed, split and put in order.

The four IDX files are in `data_dir/<data set>/`, in torchvision's folders, or in `data_dir` itself. What is missing is
fetched and held to its checksum. What is there is the user's own: it is checked by structure, and never changed.
"""

import gzip
import hashlib
import itertools
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

FASHION = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
CLASS_NAMES = {"mnist": tuple("0123456789"), "fashion_mnist": tuple(FASHION.split(", ")), "digits": tuple("0123456789")}
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}  # torchvision's folders
MIRRORS = {  # tried in this order
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
SHA256 = {  # of the .gz files
    "mnist/train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "mnist/train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "mnist/t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "mnist/t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    "fashion_mnist/train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "fashion_mnist/train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "fashion_mnist/t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "fashion_mnist/t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
ORIGINALS = {  # by `fingerprint`
    "1e35582d42a90940c55b956deb61875c020b567ed20e3c5b174f52bf7809ed9b": "mnist",
    "ece172613115fb18b120bec8f6c02271af90b8b8f0a5af5c51cbd5ceed68e619": "fashion_mnist",
}
SILENCE_SECONDS = 8.0  # a mirror that sends nothing for so long is given up
MAX_EXAMPLES = 1_000_000  # in a file: 784 MB of images


class DataError(Exception):
    """The data can't be had or can't be used; the message names the file and what to do about it."""


class _UnavailableError(DataError):
    """A file is missing and can't be fetched or stored: the only thing `auto` falls back for."""


class Split(NamedTuple):
    images: np.ndarray  # [N, 28, 28] uint8
    labels: np.ndarray  # [N] int64, each in 0 … 9


class Splits(NamedTuple):
    """The images of a run, by use."""

    train: Split
    validation: Split  # may be empty
    test: Split
    train_index: np.ndarray  # [N] int64, where the training images are in the data set's own training split


class Dataset(NamedTuple):
    name: str  # mnist, fashion_mnist or digits
    source: str  # one line for the user: where it came from
    class_names: tuple[str, ...]  # by label
    train: Split
    test: Split
    note: str = ""  # one line for the user: what is unusual about it, if anything


def load(name: str, data_dir: Path | str, fetch: bool = True) -> Dataset:
    """The data set `name`: "mnist", "fashion_mnist", "digits" (scikit-learn's, needs no files) or "auto".

    "auto" is MNIST if it is there or can be fetched, else the digits, and `note` says so.

    Args:
        name: of the data set.
        data_dir: where its files are looked for.
        fetch: whether to fetch the missing ones.

    Raises:
        DataError: if `name` is unknown, a file is unreadable or malformed, or one is missing and can't be had.
    """
    if name not in (*CLASS_NAMES, "auto"):
        raise DataError(f"data set {name!r}: expected one of {', '.join(CLASS_NAMES)} or auto")
    if name == "auto":
        try:
            return load("mnist", data_dir, fetch)
        except _UnavailableError:
            return _load_digits()._replace(note="the digits are used INSTEAD OF MNIST; --dataset mnist says why")
    return _load_digits() if name == "digits" else _load_idx_files(name, Path(data_dir).expanduser(), fetch)


def fingerprint(data: Dataset) -> str:
    """SHA-256 of all images and labels in their order, in hexadecimal: the same for the same data, however stored."""
    digest = hashlib.sha256()
    for array in (*data.train, *data.test):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def read_idx(path: Path | str, kind: str) -> np.ndarray:
    """The IDX file at `path`, gzipped or plain whatever its name. No size that its header claims is ever allocated.

    Returns:
        For the `kind` "images" [N, 28, 28] uint8; for "labels" [N] int64, each in 0 … 9. N > 0.

    Raises:
        DataError: if the file is anything but that, whole and nothing more.
    """
    path, (magic, shape) = Path(path), {"images": (0x803, (28, 28)), "labels": (0x801, ())}[kind]
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise _malformed(path, "missing, or not a regular file")
        with path.open("rb") as file:
            stream = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
            header = stream.read(8 + 4 * len(shape))
            sizes = [int.from_bytes(header[at : at + 4], "big") for at in range(0, len(header), 4)]
            if len(header) < 8 + 4 * len(shape) or [sizes[0], *sizes[2:]] != [magic, *shape]:
                raise _malformed(path, f"header of {len(header)} bytes, {sizes}, expected {[magic, 'N', *shape]}")
            count, expected = sizes[1], sizes[1] * math.prod(shape)
            capacity = os.fstat(file.fileno()).st_size * (1 if stream is file else 1032)  # the most deflate can do
            if not (most := min(MAX_EXAMPLES, capacity // math.prod(shape))) >= count > 0:
                raise _malformed(path, f"{count:,} {kind} by its header, expected 1 … {most:,} in a file of its size")
            payload = bytearray()
            # One byte more than expected is asked for: it shows trailing ones, and has gzip check its CRC.
            while chunk := stream.read(min(2**16, expected + 1 - len(payload))):
                payload += chunk
    except (OSError, EOFError, zlib.error) as error:
        raise _malformed(path, f"can't be read ({error})") from error
    if len(payload) != expected:
        got = "more" if len(payload) > expected else f"{len(payload):,}"
        raise _malformed(path, f"{got} bytes after its header, expected {expected:,}")
    array = np.frombuffer(payload, np.uint8).reshape(count, *shape)
    if kind == "labels" and array.max() > 9:
        raise _malformed(path, f"label {array.max()} at position {array.argmax()}, expected 0 … 9")
    return array if kind == "images" else array.astype(np.int64)


def divide(data: Dataset, fraction: float, split_seed: int) -> Splits:
    """Holds out images for validation, as `stratified_split`, which also says what it raises."""
    training, validation = stratified_split(data.train.labels, fraction, split_seed)
    parts = (Split(data.train.images[index], data.train.labels[index]) for index in (training, validation))
    return Splits(*parts, data.test, training)


def stratified_split(labels: np.ndarray, fraction: float, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Holds out round(`fraction` · N) of the [N] class ids, the same share of each class, chosen by `split_seed` alone.

    Returns:
        Indices kept and indices held out, each sorted, int64; together 0 … N − 1.

    Raises:
        DataError: if `fraction` is neither 0 nor leaves at least one member of every class on both sides.
        ValueError: if `split_seed` is not in [0, 2³²).
    """
    index = np.arange(len(labels), dtype=np.int64)
    if fraction == 0:
        return index, index[:0]
    smallest = min(np.unique(labels, return_counts=True)[1], default=0)
    if not (smallest * fraction >= 1 and smallest - smallest * fraction >= 1):
        raise DataError(f"labels: can't hold out {fraction:g} of a class of {smallest}; use 0, or nearer to 0.5")
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
    """[B, 28, 28] uint8: each image moved by up to `pixels` in either direction, background moving in.

    How far depends on `seed` and `step` alone, so that a run goes on as if never stopped; the 1 beside them keeps the
    numbers apart from those of `batches`.
    """
    if pixels == 0:
        return images
    framed = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, images.shape[1:], axis=(1, 2))
    down, right = np.random.default_rng([seed, step, 1]).integers(0, 2 * pixels + 1, (2, len(images)))
    return windows[np.arange(len(images)), down, right]


def _malformed(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}; put a whole file in its place")


def _find(folder: Path) -> dict[str, Path]:
    """Those of FILES that are in `folder`, known by their whole names; of several the last one here counts."""
    names = {file.replace("-idx", idx) + end: file for file in FILES for end in ("", ".gz") for idx in (".idx", "-idx")}
    # lexists, and not exists: a link that leads nowhere is there, and an error.
    return {file: folder / name for name, file in names.items() if os.path.lexists(folder / name)}


def _load_idx_files(name: str, data_dir: Path, fetch: bool) -> Dataset:
    below = "", "raw", f"{TORCHVISION[name]}/raw"
    # The first of those folders that hold most of the files.
    folder = max((base / end for base in (data_dir / name, data_dir) for end in below), key=lambda at: len(_find(at)))
    found = _find(folder)
    # What is there comes first: that a file is damaged must be told before `auto` falls back for a missing one.
    arrays = {file: read_idx(path, file.split("-")[1]) for file, path in found.items()}
    for file in (missing := [file for file in FILES if file not in found]):
        found[file] = folder / f"{file}.gz"
        answers = _fetch(found[file], SHA256[f"{name}/{file}"], MIRRORS[name] if fetch else ())
        if not os.path.lexists(found[file]):
            raise _UnavailableError(_what_is_missing(folder, missing, answers, {path.name for path in found.values()}))
        arrays[file] = read_idx(found[file], file.split("-")[1])
    train, test = (Split(arrays[images], arrays[labels]) for images, labels in (FILES[:2], FILES[2:]))
    for file, (images, labels) in ((FILES[1], train), (FILES[3], test)):
        if len(images) != len(labels):
            raise _malformed(found[file], f"{len(labels):,} labels for {len(images):,} images")
    source = f"{folder}: {len(train.labels):,} training and {len(test.labels):,} test images"
    data = Dataset(name, source + ", fetched" * bool(missing), CLASS_NAMES[name], train, test)
    whose = ORIGINALS.get(fingerprint(data), "other")
    note = f"by their checksum these are {whose} files, not the original {name}"
    return data if whose == name else data._replace(note=note)


def _what_is_missing(folder: Path, missing: list[str], answers: list[str], known: set[str]) -> str:
    what = missing[0] + (f" and {len(missing) - 1} more files are" if missing[1:] else " is")
    why = f" and can't be fetched ({', '.join(dict.fromkeys(answers))})" if answers else ""
    names = sorted(n for n in next(os.walk(folder), ("", [], []))[2] if n not in known and not n.startswith("."))
    others = f"; there are {', '.join(name[:30] for name in names[:3])}, which are not read" if names else ""
    return f"{folder}: {what} missing{why}{others}; put the four IDX files there, or name their folder by --data_dir"


def _fetch(path: Path, sha256: str, mirrors: Sequence[str]) -> list[str]:
    """Fetches `path`, whole or not at all, from the first mirror that has it; returns what the others answered."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    # Without the header, requests would unpack what a server declares as packed.
    downloader = pooch.HTTPDownloader(timeout=SILENCE_SECONDS, headers={"Accept-Encoding": "identity"})
    made, answers = list(itertools.filterfalse(os.path.exists, path.parents)), []
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + path.name, sha256, path.name, path.parent.absolute(), downloader=downloader)
            path.chmod(0o644)  # pooch makes it for its owner only
            break
        except ValueError:
            answers.append("wrong checksum")
        except OSError as error:  # of requests, or of the disk
            status = getattr(getattr(error, "response", None), "status_code", None)
            answers.append(f"HTTP {status}" if status else error.strerror or type(error).__name__)
    with suppress(OSError):  # the folder holds the file
        for folder in made:
            folder.rmdir()
    return answers


def _load_digits() -> Dataset:
    """scikit-learn's 8×8 digits, brought to 24×24 by linear interpolation and framed to 28×28."""
    from sklearn.datasets import load_digits

    small = load_digits()
    at = (np.arange(24) + 0.5) / 3 - 0.5  # where the centers of the 24 pixels lie, counted in the 8
    weights = np.stack([np.interp(at, np.arange(8), row) for row in np.eye(8)], axis=1)  # [24, 8]
    enlarged = np.rint(weights @ small.images @ weights.T * (255 / 16)).astype(np.uint8)
    images, labels = np.pad(enlarged, ((0, 0), (2, 2), (2, 2))), small.target.astype(np.int64)
    train, test = (Split(images[i], labels[i]) for i in stratified_split(labels, fraction=0.2, split_seed=0))
    source = f"scikit-learn's digits: {len(train.labels):,} training and {len(test.labels)} test images"
    return Dataset("digits", source, CLASS_NAMES["digits"], train, test)
