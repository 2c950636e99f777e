"""Says which class a trained run sees in each image: `python predict.py outputs/<run> image.png more.npz ...`

Pictures (PNG, JPEG, ...) are made to fit as MNIST's were: in grey, cut to what is not background, brought to 20 of 28
pixels, its center of mass in the middle. One that has the size of the run's images is taken as it is, and so are the
images in npz and IDX files. The weights are those of the run's newest whole checkpoint.
"""

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # before TensorFlow, which reads it while it is imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # else TensorFlow imports Keras 3, for seconds and in vain

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.table import Table
from scipy.ndimage import center_of_mass, shift

import runs
from data_files import DataError, read_idx
from running.command_line import Parser, folder
from running.run_folder import RunFolderError, write_whole
from running.streams import outlive_readers

BATCH = 1000  # images a session.run
NEAREST = 2  # centers shown


def read_images(path: Path, shape: tuple[int, ...], invert: bool) -> np.ndarray:
    """[N, *shape] uint8: the images in the file at `path`.

    Raises:
        DataError: if there are none of this shape in it.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a picture, an npz file or an IDX file")
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file}
        except Exception as error:  # whatever a damaged file makes the readers of zip and NumPy raise
            raise DataError(f"{path}: can't be read ({type(error).__name__}: {error})") from error
        fitting = [name for name in arrays if arrays[name].dtype == np.uint8 and arrays[name].shape[1:] == shape]
        if len(fitting) != 1:
            held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "nothing"
            raise DataError(f"{path}: holds {held}, expected one array of uint8 [N, {', '.join(map(str, shape))}]")
        return arrays[fitting[0]]
    if start[:2] in (b"\0\0", b"\x1f\x8b"):
        images = read_idx(path, "images")
        if images.shape[1:] != shape:
            raise DataError(f"{path}: images of {list(images.shape[1:])}, the run's are {list(shape)}")
        return images
    try:
        with Image.open(path) as image:
            return fitted(image, shape, invert)[np.newaxis]
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no picture that can be read ({error})") from error


def fitted(image: Image.Image, shape: tuple[int, ...], invert: bool) -> np.ndarray:
    """A picture as the network takes it, `shape` uint8, brought to it as the module says."""
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image.convert("RGBA"))
    flat = flat.convert("RGB" if len(shape) == 3 else "L")
    flat = ImageOps.invert(flat) if invert else flat
    height, width = shape[:2]
    if flat.size == (width, height):
        return np.asarray(flat)
    if len(shape) == 3:
        return np.asarray(ImageOps.pad(flat, (width, height)))
    box = flat.point(lambda value: 255 * (value > 40)).getbbox() or (0, 0, *flat.size)
    inner = ImageOps.contain(flat.crop(box), (round(width * 20 / 28), round(height * 20 / 28)))
    placed = Image.new("L", (width, height))
    placed.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    pixels = np.asarray(placed, np.float64)
    middle = np.array([height - 1, width - 1]) / 2
    off = middle - center_of_mass(pixels) if pixels.any() else np.zeros(2)
    return np.clip(np.rint(shift(pixels, np.rint(off), order=0)), 0, 255).astype(np.uint8)


def predictions(run: Path, images: np.ndarray, view: runs.Features) -> Iterator[tuple]:
    """(features [D], probabilities [C], distances to the centers [C]) of each image."""
    import tensorflow.compat.v1 as tf

    from running import checkpoints
    from training_graph import build_graph

    tf.logging.set_verbosity(tf.logging.ERROR)
    found = checkpoints.newest_whole(run / "checkpoints")
    if found.path is None:
        raise RunFolderError(f"{run}: no checkpoint yet; go on with the run: {runs.resume_command(run)}")
    with tf.Graph().as_default(), tf.Session() as session:
        graph = build_graph(runs.read_settings(run), len(view.class_names), tuple(images.shape[1:]))
        checkpoints.check_fits(found, tf.global_variables(), steps=found.step)
        graph.saver.restore(session, found.path)
        centers = session.run(graph.centers)
        for start in range(0, len(images), BATCH):
            x, p = session.run([graph.features, graph.probabilities], {graph.images: images[start : start + BATCH]})
            for features, probabilities in zip(x, p, strict=True):
                yield features, probabilities, np.linalg.norm(features - centers, axis=1)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code, 0, or 2 for a bad setting, file or folder."""
    parser = Parser(prog="predict.py", description=__doc__)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("images", nargs="+", type=str, help="pictures, npz files, IDX files")
    parser.add_argument(
        "--invert", action="store_true", help="light and dark change places: for dark ink on white paper"
    )
    parser.add_argument("--csv", type=str, help="write all of it to this file, too")
    options = parser.parse_args(arguments)
    try:
        run = folder("run", options.run)
        view = runs.newest_features(run)
        read = [(name, read_images(Path(name), view.image_shape, options.invert)) for name in options.images]
        labels = [Path(name).name + f"[{i}]" * (len(images) > 1) for name, images in read for i in range(len(images))]
        table = Table("image", "label", "probability", "features", "nearest centers", box=None, pad_edge=False)
        rows = []
        results = predictions(run, np.concatenate([images for _, images in read]), view)
        for label, (features, probabilities, distances) in zip(labels, results, strict=True):
            nearest = np.argsort(distances)[:NEAREST]
            by_softmax = view.class_names[probabilities.argmax()]
            shown = " ".join(f"{value:.2f}" for value in features[:4]) + " …" * (len(features) > 4)
            centers = ", ".join(f"{view.class_names[j]} at {distances[j]:.2f}" for j in nearest)
            table.add_row(label, by_softmax, f"{probabilities.max():.4f}", shown, centers)
            best = nearest[0]
            rows.append([label, by_softmax, probabilities.max(), view.class_names[best], distances[best], *features])
        Console().print(table)
        if options.csv:
            head = ["image", "label", "probability", "nearest_center", "distance"]
            head += [f"feature_{i + 1}" for i in range(len(rows[0]) - len(head))]
            with write_whole(Path(options.csv)) as path, path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([head, *rows])
    except (DataError, RunFolderError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
