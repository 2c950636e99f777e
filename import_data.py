"""Makes a data set of other files: `python import_data.py SOURCE --name NAME` writes <data_dir>/NAME.npz.

SOURCE is one of these:

- a folder with a folder of pictures for each class, or with such folders in train/ and test/;
- a folder of .npy files, one a class, [N, H · H] or [N, H, W], as Quick Draw's;
- a folder with usps.bz2 and usps.t.bz2;
- an npz file, also one with several labels an image (--label), as some of MedMNIST's.

IDX files need no import: put them into <data_dir>/NAME/. Where the source has no test split, a sixth of each class
becomes one. Beside the npz file a contact sheet, NAME.png, shows images of each class as the network will see them:
whether they lie on their sides can't be told by numbers.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from config import Config, Count, Name, Side
from data_files import DataError, as_images, as_labels, read_npz
from pictures.contact_sheet import contact_sheet
from running.command_line import Parser, folder
from running.run_folder import write_bytes, write_whole
from running.streams import outlive_readers
from splits import stratified_split

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
SHEET_CLASSES, SHEET_IMAGES = 20, 12
Read = dict[str, tuple[np.ndarray, np.ndarray]]  # images and labels by split: "train", and "test" if there is one


def read_source(source: Path, size: int, gray: bool, column: int | None) -> tuple[Read, np.ndarray | None]:
    """The images and labels by split, and the names of the classes, if the source says them.

    Raises:
        DataError: if nothing known is there, or something is damaged; the message names the file.
    """
    if source.suffix == ".npz" and source.is_file():
        return read_npz(source, column)
    names = sorted(path.name for path in source.iterdir() if path.name[0] != ".") if source.is_dir() else []
    if arrays := [source / name for name in names if name.endswith(".npy")]:
        images = [squares(path) for path in arrays]
        labels = np.repeat(np.arange(len(arrays)), [len(array) for array in images])
        return {"train": (np.concatenate(images), labels)}, np.array([path.stem for path in arrays])
    if {"usps.bz2", "usps.t.bz2"} <= set(names):
        return {"train": read_usps(source / "usps.bz2"), "test": read_usps(source / "usps.t.bz2")}, None
    parts = {split: source / split for split in ("train", "test") if split in names} or {"train": source}
    classes = [path.name for path in sorted(parts["train"].glob("[!.]*")) if path.is_dir()] if "train" in parts else []
    if not classes:
        held = f"holds {', '.join(names[:5])}" if names else "is no npz file, and no folder with anything in it"
        raise DataError(f"{source}: {held}; expected what import_data.py --help lists")
    return {split: read_pictures(part, classes, size, gray) for split, part in parts.items()}, np.array(classes)


def read_pictures(part: Path, classes: list[str], size: int, gray: bool) -> tuple[np.ndarray, np.ndarray]:
    """The pictures in `part`/<class>/, brought to `size` × `size`, padded to squares in the color of their corner."""
    images, labels = [], []
    for j, name in enumerate(classes):
        for path in sorted(path for path in (part / name).glob("[!.]*") if path.suffix.lower() in PICTURES):
            try:
                with Image.open(path) as image:
                    picture = image.convert("L" if gray or image.mode in ("1", "L") else "RGB")
            except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
                raise DataError(f"{path}: no picture that can be read ({error}); remove it or replace it") from error
            images.append(np.asarray(ImageOps.pad(picture, (size, size), color=picture.getpixel((0, 0)))))
            labels.append(j)
    if len({image.shape for image in images}) != 1:
        what = "pictures with and without colors; make all grey by --gray" if images else "no pictures in its folders"
        raise DataError(f"{part}: {what}")
    return np.stack(images), np.array(labels)


def read_usps(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """USPS in LIBSVM's format: 16×16 pixels in −1 … 1, classes from 1 on."""
    from sklearn.datasets import load_svmlight_file

    try:
        pixels, labels = load_svmlight_file(str(path), n_features=256)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no file in LIBSVM's format ({error}); put a whole file in its place") from error
    images = np.rint((pixels.toarray() + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return images.reshape(-1, 16, 16), labels.astype(np.int64) - 1


def squares(path: Path) -> np.ndarray:
    """The array in a .npy file, [N, H, W], or rows of H · H pixels."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # whatever a damaged file makes NumPy raise
        raise DataError(f"{path}: can't be read ({type(error).__name__}: {error})") from error
    side = round(array.shape[-1] ** 0.5) if array.ndim else 0
    if array.ndim == 2 and side * side == array.shape[1]:
        return array.reshape(-1, side, side)
    if array.ndim != 3:
        raise DataError(f"{path}: array of {list(array.shape)}, expected [N, H, W], or [N, H · H]")
    return array


def converted(images: np.ndarray, options) -> np.ndarray:
    """The uint8 images turned, made grey, inverted and brought to the size that was asked for."""
    images = images.swapaxes(1, 2) if options.transpose else images
    if options.gray and images.ndim == 4:
        images = np.rint(images[..., :3] @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    images = 255 - images if options.invert else images
    if images.shape[1:3] != (options.size, options.size):
        images = np.stack([np.asarray(Image.fromarray(image).resize((options.size, options.size))) for image in images])
    return np.ascontiguousarray(images)


def import_data(options) -> list[Path]:
    """Does what the command line asks for; returns the files written."""
    source, out = folder("source", options.source), folder("--data_dir", options.data_dir)
    read, names = read_source(source, options.size, options.gray, options.label)
    splits = {}
    for split, (images, labels) in read.items():
        checked = as_images(images, source, f"{split} images")
        splits[split] = converted(checked, options), as_labels(labels, source, f"{split} labels")
    if "test" not in splits:
        images, labels = splits["train"]
        parts = stratified_split(labels, 1 / 6, 0)
        splits = {split: (images[part], labels[part]) for split, part in zip(("train", "test"), parts, strict=True)}
    images, labels = splits["train"]
    known = np.unique(labels)
    names = known.astype(str) if names is None else names
    arrays = {f"{split}_images": pair[0] for split, pair in splits.items()}
    arrays |= {f"{split}_labels": pair[1] for split, pair in splits.items()}
    out.mkdir(parents=True, exist_ok=True)
    with write_whole(out / f"{options.name}.npz") as path:
        np.savez_compressed(path, class_names=names, **arrays)
    rows = [(str(name), images[labels == j][:SHEET_IMAGES]) for name, j in zip(names, known, strict=False)]
    write_bytes(out / f"{options.name}.png", contact_sheet(rows[:SHEET_CLASSES]))
    tests = len(splits["test"][1])
    print(f"{len(labels):,} training and {tests:,} test images {list(images.shape[1:])} of {len(known):,} classes")
    return [out / f"{options.name}.npz", out / f"{options.name}.png"]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code, 0, or 2 for a bad setting, file or folder."""
    parser = Parser(prog="import_data.py", description=__doc__)
    parser.add_argument("source", type=str, help="file or folder")
    parser.add_argument("--name", type=Name, required=True, help="of the data set")
    parser.add_argument("--data_dir", type=str, default=Config().data_dir, help="folder of the data sets")
    parser.add_argument("--size", type=Side, default=28, help="pixels of a side, 8 to 128")
    parser.add_argument("--transpose", action="store_true", help="turn images that lie on their sides")
    parser.add_argument("--gray", action="store_true", help="make colors grey")
    parser.add_argument("--invert", action="store_true", help="light and dark change places")
    parser.add_argument(
        "--label", type=Count, help="the column that is the class, of several labels an image, from 0 on"
    )
    options = parser.parse_args(arguments)
    try:
        print(*import_data(options), sep="\n")
    except (DataError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
