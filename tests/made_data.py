"""Data sets made of MNIST, Fashion-MNIST and matplotlib's fonts, to try data of other kinds on; and their writing.

    python tests/made_data.py twenty     # MNIST's and Fashion-MNIST's classes in one set of twenty
    python tests/made_data.py thousand   # a thousand classes: pairs of digits and a turn

Both are made of what the training script's data folder holds, and written there. A set is by split, "train" and
"test", its images and labels.
"""

import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import rotate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from config import Config
from mnist_data import load

Made = dict[str, tuple[np.ndarray, np.ndarray]]


def mnist(data_dir: Path, name: str = "mnist") -> Made:
    data = load(name, data_dir, fetch=False)
    return {"train": data.train[:2], "test": data.test[:2]}


def twenty(data_dir: Path) -> Made:
    """The digits as classes 0 to 9, Fashion-MNIST's as 10 to 19, in one random order."""
    made = {}
    for split in ("train", "test"):
        (digits, digit_labels), (clothes, labels) = mnist(data_dir)[split], mnist(data_dir, "fashion_mnist")[split]
        order = np.random.default_rng(0).permutation(len(digits) + len(clothes))
        both = np.concatenate([digits, clothes]), np.concatenate([digit_labels, labels + 10])
        made[split] = both[0][order], both[1][order]
    return made


def many(data_dir: Path, classes: int, each: int, each_test: int) -> Made:
    """Up to 1,200 classes: a digit above another, both half as high, turned by one of 12 angles."""
    made = {}
    for split, count in (("train", each), ("test", each_test)):
        digits, labels = mnist(data_dir)[split]
        random = np.random.default_rng([len(digits), classes])
        members = [np.flatnonzero(labels == j) for j in range(10)]
        images = np.empty((classes * count, 28, 28), np.uint8)
        for j in range(classes):
            upper, lower, turn = j % 10, j // 10 % 10, j // 100
            for i in range(count):
                a, b = (digits[random.choice(members[d])][::2] for d in (upper, lower))
                images[j * count + i] = rotate(np.concatenate([a, b]), 30 * turn, reshape=False, order=1)
        ids = np.repeat(np.arange(classes), count)
        order = random.permutation(len(ids))
        made[split] = images[order], ids[order]
    return made


def tinted(data_dir: Path) -> Made:
    """Fashion-MNIST in three channels, each class tinted differently."""
    tints = np.random.default_rng(0).uniform(0.3, 1, (10, 3))
    return {
        split: (np.rint(images[..., np.newaxis] * tints[labels][:, None, None]).astype(np.uint8), labels)
        for split, (images, labels) in mnist(data_dir, "fashion_mnist").items()
    }


def resized(made: Made, side: int, count: int) -> Made:
    """The first `count` images of each split at `side` × `side` pixels."""
    return {
        split: (
            np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in images[:count]]),
            labels[:count],
        )
        for split, (images, labels) in made.items()
    }


def glyphs(each: int = 144, side: int = 28) -> Made:
    """62 classes, 0-9 A-Z a-z, drawn from the fonts inside matplotlib; an eighth of them for the test."""
    import matplotlib

    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVu*.ttf"))
    fonts = [path for path in fonts if "Display" not in path.name]
    random = np.random.default_rng(0)
    characters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    images, labels = [], []
    for j, character in enumerate(characters):
        for i in range(each):
            font = ImageFont.truetype(str(fonts[i % len(fonts)]), int(random.integers(16, 25)))
            image = Image.new("L", (side, side))
            at = tuple(side / 2 + random.uniform(-3, 3, 2))
            ImageDraw.Draw(image).text(at, character, fill=255, font=font, anchor="mm")
            images.append(np.asarray(image.rotate(random.uniform(-12, 12))))
            labels.append(j)
    order = random.permutation(len(labels))
    images, labels = np.stack(images)[order], np.array(labels)[order]
    cut = len(labels) // 8
    return {"train": (images[cut:], labels[cut:]), "test": (images[:cut], labels[:cut])}


def write_npz(path: Path, made: Made, **more: np.ndarray) -> Path:
    (x, y), (x_test, y_test) = made["train"], made["test"]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test, **more)
    return path


CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12}


def idx_bytes(array: np.ndarray) -> bytes:
    """`array` in the IDX format, its numbers most significant byte first."""
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(folder: Path, made: Made, prefix: str = "", test: str = "t10k", dtype: str = "uint8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "train"), ("test", test)):
        images, labels = made[split]
        (folder / f"{prefix}{name}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{prefix}{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels.astype(dtype)))
    return folder


if __name__ == "__main__":
    which, data_dir = sys.argv[1], Path(Config().data_dir)
    made = {"twenty": lambda: twenty(data_dir), "thousand": lambda: many(data_dir, 1000, 60, 10), "glyphs": glyphs}[
        which
    ]()
    print(write_npz(data_dir / f"{which}.npz", made))
