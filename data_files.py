"""Labelled images in files: IDX, plain or packed by gzip or xz, and npz. Nothing that a file claims is trusted.

Images are uint8, [N, H, W], [N, H, W, 1] or [N, H, W, 3], with H and W from 8 to 128 pixels. Labels are integers, [N]
or [N, 1]; of QMNIST's [N, 8] the first column is the class. Letters in the shapes: N images, H height, W width.
"""

import gzip
import lzma
import math
import os
import zlib
from pathlib import Path

import numpy as np

IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4"}  # those of whole numbers, by the format's code
IDX_RANKS = {"images": (3, 4), "labels": (1, 2)}
NPZ_NAMES = (  # Keras', MedMNIST's
    {"train": ("x_train", "y_train"), "test": ("x_test", "y_test"), "validation": ("x_val", "y_val")},
    {
        "train": ("train_images", "train_labels"),
        "test": ("test_images", "test_labels"),
        "validation": ("val_images", "val_labels"),
    },
)
MAX_EXAMPLES = 1_000_000  # in a file
PACKED = {
    b"\x1f\x8b": (gzip.open, 1032),
    b"\xfd7": (lzma.open, 10_000),
}  # by first bytes: the most that each can shrink

Arrays = tuple[np.ndarray, np.ndarray]  # images [N, H, W] or [N, H, W, 3] uint8, labels [N] int64


class DataError(Exception):
    """The data can't be had or can't be used; the message names the file and what to do about it."""


def malformed(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}; put a whole file in its place")


def read_idx(path: Path | str, kind: str) -> np.ndarray:
    """The IDX file at `path`, packed or plain whatever its name. No size that its header claims is ever allocated.

    Returns:
        For the `kind` "images" [N, H, W] or [N, H, W, 3] uint8; for "labels" [N] int64. N > 0.

    Raises:
        DataError: if the file is anything but that, whole and nothing more.
    """
    path = Path(path)
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise malformed(path, "missing, or not a regular file")
        with path.open("rb") as file:
            unpack, ratio = PACKED.get(file.peek(2)[:2], (lambda file: file, 1))
            stream = unpack(file)
            head = stream.read(4)
            code, rank = (head[2], head[3]) if len(head) == 4 else (0, 0)
            if len(head) == 4 and (head[:2] != b"\0\0" or code not in IDX_TYPES or rank not in IDX_RANKS[kind]):
                raise malformed(path, f"begins with {int.from_bytes(head, 'big')}, expected an IDX file of {kind}")
            header = stream.read(4 * rank)
            if rank == 0 or len(header) < 4 * rank:
                raise malformed(path, f"header of {len(head + header)} bytes, expected 8 or more")
            count, *size = (int.from_bytes(header[at : at + 4], "big") for at in range(0, len(header), 4))
            each = math.prod(size) * np.dtype(IDX_TYPES[code]).itemsize
            capacity = os.fstat(file.fileno()).st_size * ratio
            if not (most := min(MAX_EXAMPLES, capacity // max(each, 1))) >= count > 0:
                raise malformed(path, f"{count:,} {kind} by its header, expected 1 … {most:,} in a file of its size")
            payload, expected = bytearray(), count * each
            # One byte more than expected is asked for: it shows trailing ones, and has gzip check its CRC.
            while chunk := stream.read(min(2**16, expected + 1 - len(payload))):
                payload += chunk
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise malformed(path, f"can't be read ({error})") from error
    if len(payload) != expected:
        got = "more" if len(payload) > expected else f"{len(payload):,}"
        raise malformed(path, f"{got} bytes after its header, expected {expected:,}")
    array = np.frombuffer(payload, IDX_TYPES[code]).reshape(count, *size)
    if kind == "images":
        return as_images(array, path)
    return as_labels(array[:, 0] if size == [8] and code == 12 else array, path)  # QMNIST's: the class, and whose digit


def read_npz(path: Path, column: int | None = None) -> tuple[dict[str, Arrays], np.ndarray | None]:
    """The npz file at `path`, its arrays named as Keras or as MedMNIST names them.

    Of several labels an image, the one in the `column` is the class.

    Returns:
        Images and labels by split, "train", "test" and, where there is one, "validation"; and the array `class_names`,
        or None.

    Raises:
        DataError: if it is damaged, arrays are missing, or one is not as the module says.
    """
    try:
        with path.open("rb") as file:
            if (start := file.read(2)) and start != b"PK":  # NumPy would take it for a pickle, and advise to load it
                raise malformed(path, "not an npz file by its first bytes")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file}
    except DataError:
        raise
    except Exception as error:  # whatever a damaged file makes the readers of zip and NumPy raise
        raise malformed(path, f"can't be read ({type(error).__name__}: {error})") from error
    for names in NPZ_NAMES:
        splits = {split: pair for split, pair in names.items() if set(pair) <= arrays.keys()}
        if splits.keys() >= {"train", "test"}:
            read = {
                split: (as_images(arrays[images], path, images), as_labels(arrays[labels], path, labels, column))
                for split, (images, labels) in splits.items()
            }
            return read, arrays.get("class_names")
    expected = " or ".join(", ".join(name for split in ("train", "test") for name in n[split]) for n in NPZ_NAMES)
    raise DataError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}, expected {expected}")


def as_images(array: np.ndarray, path: Path, name: str = "images") -> np.ndarray:
    """`array`, from the file at `path`, as [N, H, W] or [N, H, W, 3] uint8; raises DataError if it can't be that."""
    shape = array.shape
    fits = len(shape) in (3, 4) and min(shape) > 0 and min(shape[1:3]) >= 8 and max(shape[1:3]) <= 128
    if array.dtype != np.uint8 or not fits or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise DataError(
            f"{path}: {name} of {array.dtype} {list(shape)}, expected uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3], "
            "H and W from 8 to 128; import_data.py converts other pictures"
        )
    return array[..., 0] if array.ndim == 4 and shape[3] == 1 else array


def as_labels(array: np.ndarray, path: Path, name: str = "labels", column: int | None = None) -> np.ndarray:
    """`array`, or a `column` of it, from the file at `path`, as [N] int64; raises DataError if it can't be that."""
    if column is not None and array.ndim == 2 and 0 <= column < array.shape[1]:
        array = array[:, column]
    shape = array.shape
    if array.dtype.kind not in "iu" or array.size == 0 or shape not in ((array.size,), (array.size, 1)):
        raise DataError(
            f"{path}: {name} of {array.dtype} {list(shape)}, expected integers [N] or [N, 1], one class an image; "
            "import_data.py --label chooses one of several"
        )
    if array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{path}: {name} up to {array.max()}, expected numbers of classes")
    return array.ravel().astype(np.int64)
