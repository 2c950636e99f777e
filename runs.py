"""A run's folder and an export: what their files and arrays are called, and their writing, reading and checking.

No TensorFlow, no matplotlib. The features come with the classifier that saw them, so that anyone can compute everything
in metrics.json again.
"""

import json
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse

import metrics
from config import Config, read_config, to_yaml
from mnist_data import CLASS_NAMES
from running import machine
from running.command_line import typed
from running.run_folder import RunFolderError, read_table, write_json, write_text, write_whole

SPLITS = ("train", "test")
CONFIG_NAME = r"\w(?:[\w+=-]|\.(?=\d))*"  # of a config file, without .yaml; not of an editor's or a sync client's copy
# The pictures that are written to a run's folder.
PICTURES = (
    *(
        f"{what}_{split}.{format}"
        for what in ("clusters", "regions", "confusion", "distances")
        for split in SPLITS
        for format in ("png", "pdf", "svg")
    ),
    *(f"curves.{format}" for format in ("png", "pdf", "svg")),
    "outliers.png",
    "outliers.csv",
    "animation.gif",
    "explorer.html",
)
MANY_CLASSES = 100  # with more the confusion matrices get files of their own


class Features(NamedTuple):
    """A file of features: images of a split as a network sees them. N images, C classes, D feature width."""

    features: np.ndarray  # [N, D] float32, in an export float16
    labels: np.ndarray  # [N] integer class ids
    predictions: np.ndarray  # [N] integer class ids, by softmax
    centers: np.ndarray  # [C, D] float32, the learned ones
    step: int
    # What the network takes and gives; files of an earlier version don't say.
    image_shape: tuple[int, ...] = (28, 28)  # or [H, W, 3]
    class_names: tuple[str, ...] = ()  # C of them
    # In a finished run's files alone:
    index: np.ndarray | None = None  # [N], where in the data set's split the images are
    classifier_weights: np.ndarray | None = None  # [D, C] float32
    classifier_bias: np.ndarray | None = None  # [C] float32


class Run(NamedTuple):
    """A run, in its own folder or in an export."""

    name: str  # of its config file, without .yaml
    path: Path  # its folder; in an export the file of its features
    config: Config
    metrics: dict | None  # metrics.json; None for one that is not finished
    features: dict[str, Path]  # by split; an export has only the test split


def features_path(folder: Path, split: str) -> Path:
    """The file of a split's features in a run's folder."""
    return folder / f"features_{split}.npz"


def snapshot_path(folder: Path, step: int) -> Path:
    """The file of a run's snapshot after `step` steps."""
    return folder / "snapshots" / f"{step:09d}.npz"


def snapshots(folder: Path) -> dict[int, Path]:
    """A run's snapshots by step, ascending. Whatever else lies in their folder is not ours."""
    names = sorted(path.name for path in (folder / "snapshots").glob("*.npz"))
    return {int(name[:9]): folder / "snapshots" / name for name in names if re.fullmatch(r"[0-9]{9}\.npz", name)}


def events_path(folder: Path, split: str) -> Path:
    """The folder of TensorBoard's event files of the "train" or the "validation" split in a run's folder."""
    return folder / split


def write_features(path: Path, features: Features) -> None:
    """Writes an npz file, whole; its arrays are called as the fields."""
    arrays = {name: value for name, value in features._asdict().items() if value is not None and np.size(value)}
    with write_whole(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_features(path: Path) -> Features:
    """A file of features; whatever is wrong with it raises, and `reading` says so."""
    with np.load(path, allow_pickle=False) as arrays:
        features = Features(**{name: arrays[name] for name in Features._fields if name in arrays})
    if features.predictions.shape != features.labels.shape:
        raise ValueError(
            f"predictions: expected shape {features.labels.shape} as the labels, got {features.predictions.shape}"
        )
    if features.centers.shape[1:] != features.features.shape[1:]:
        width = features.features.shape[1:]
        raise ValueError(f"centers: expected width {width[-1]} as the features, got {features.centers.shape}")
    return features._replace(
        features=features.features.astype(np.float32),
        step=int(features.step),
        image_shape=tuple(map(int, features.image_shape)),
        class_names=tuple(map(str, features.class_names)),
    )


def newest_features(folder: Path) -> Features:
    """The last file of features that the run in `folder` wrote, of its end or a snapshot, with the classes' names.

    Raises:
        RunFolderError: if it is no run's folder, or has no such file, or a damaged one.
    """
    config = read_settings(folder)
    paths = [path for path in (features_path(folder, "test"), *reversed(snapshots(folder).values())) if path.exists()]
    if not paths:
        raise RunFolderError(f"{folder}: no features and no snapshot yet; go on with the run: {resume_command(folder)}")
    with reading(paths[0], "delete it, and have it written again by --resume"):
        view = read_features(paths[0])
    return view._replace(class_names=view.class_names or CLASS_NAMES[config.dataset])


@contextmanager
def reading(path: Path, advice: str) -> Iterator[None]:
    """In the block, any error becomes a RunFolderError about the file at `path`, with the cause and the `advice`."""
    try:
        yield
    except Exception as error:  # whatever a damaged file makes the readers of zip and NumPy raise
        state = "damaged" if path.exists() else "missing"
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunFolderError(f"{path}: {state} ({reason}); {advice}") from error


def read_settings(folder: Path) -> Config:
    """The settings of the run in `folder`.

    Raises:
        RunFolderError: if it is no run's folder, or its config.yaml can't be read.
    """
    if not folder.is_dir():
        raise RunFolderError(f"{folder}: no such run folder; see the folders in {folder.parent}/")
    path = folder / "config.yaml"
    if not path.is_file():
        raise RunFolderError(f"{path}: missing; is {folder} a run folder of train_mnist.py?")
    try:
        return read_config(path)
    except ValueError as error:
        raise RunFolderError(f"{' '.join(str(error).split())}; choose another run, or train this one anew") from error


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        RunFolderError: if it is not JSON, or no object.
    """
    with reading(path, "delete it and resume the run; in an export, export that anew"):
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, got {value!s:.40}")
    return value


def check_data(folder: Path, fingerprint: str, source: str) -> None:
    """Writes the data's `fingerprint` into a new run's folder.

    Raises:
        RunFolderError: if the run was begun with other data than those from `source`.
    """
    known = folder / "data.sha256"
    if not known.exists():
        write_text(known, fingerprint + "\n")
    if known.read_bytes() != (fingerprint + "\n").encode():
        raise RunFolderError(f"{source}: not the data that {folder} was begun with; give it those by --data_dir")


def make_ready(folder: Path, config: Config, step: int) -> None:
    """Prepares a run's folder for training from `step` on: no file of a later step or of an earlier end stays there.

    Raises:
        RunFolderError: if a folder has the name of such a file; nothing is removed then.
    """
    names = (*last_files(config), *PICTURES, *(f"confusion_{split}.npz" for split in SPLITS))
    if others := [name for name in names if (folder / name).is_dir()]:
        raise RunFolderError(f"{folder / others[0]}: a folder, where a file of the run belongs; move it away")
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for later, path in snapshots(folder).items():
        if later > step:  # these steps are taken again
            path.unlink()
    write_text(folder / "config.yaml", to_yaml(config))
    for part in ("checkpoints", "snapshots"):
        (folder / part).mkdir(exist_ok=True)


def last_files(config: Config) -> list[str]:
    """What a run leaves after its last step, in the order of making."""
    seen = (*SPLITS, "unknown") if config.unknown_classes else SPLITS
    return [
        *(f"features_{split}.npz" for split in seen),
        *(f"clusters_{split}.png" for split in SPLITS),
        "metrics.json",
    ]


def missing(folder: Path, config: Config) -> list[str]:
    """Which of its `last_files` the run in `folder` does not have."""
    return [name for name in last_files(config) if not (folder / name).is_file()]


def finished_step(folder: Path) -> int | None:
    """The step at which the run in `folder` finished, by metrics.json, which is written last; None if it has not.

    Raises:
        RunFolderError: if metrics.json is damaged.
    """
    path = folder / "metrics.json"
    return read_json(path).get("step") if path.is_file() else None


def finished(folder: Path, config: Config) -> bool:
    """Whether the run in `folder` has all the steps of its settings, and every file that follows them."""
    return finished_step(folder) == config.steps and not missing(folder, config)


def read_folders(out: Path) -> list[Run]:
    """Every run folder `out`/<config>-seed<n>, finished or not, in the order of tables and panels."""
    runs = []
    for folder in (path.parent for path in out.glob("*/config.yaml")):
        if name := re.fullmatch(rf"({CONFIG_NAME})-seed[0-9]+", folder.name):
            config = read_config(folder / "config.yaml")
            found = read_json(folder / "metrics.json") if finished_step(folder) == config.steps else None
            runs.append(Run(name[1], folder, config, found, {split: features_path(folder, split) for split in SPLITS}))
    return sorted(runs, key=order)


def read_export(folder: Path) -> list[Run]:
    """The runs of an export, in the same order."""
    runs = []
    for path in folder.glob("*/*.npz"):
        if re.fullmatch(rf"{CONFIG_NAME}/seed_[0-9]+\.npz", str(path.relative_to(folder))):
            config = read_config(path.with_suffix(".config.yaml"))
            found = read_json(path.with_suffix(".metrics.json"))
            runs.append(Run(path.parent.name, path, config, found, {"test": path}))
    return sorted(runs, key=order)


def order(run: Run) -> tuple:
    """Softmax alone first, then rising lambda; seeds ascending."""
    return run.config.center_loss_weight, run.name, run.config.seed


def write_metrics(folder: Path, config: Config, data_source: str) -> None:
    """Computes metrics.json of the run in `folder`, and writes it.

    `train` and `test` are as `metrics.split_metrics` says, with the `cross_entropy` (mean, nats) and for the test split
    the `silhouette`; `last_step` is the last row of metrics.csv, of one training batch.

    Args:
        folder: with features_train.npz, features_test.npz, metrics.csv and sessions.csv.
        config: as the run used it.
        data_source: where the images came from, in words.
    """
    splits = {}
    for split in SPLITS:
        view = read_features(features_path(folder, split))
        splits[split] = metrics.split_metrics(*view[:4])
        if len(view.centers) > MANY_CLASSES:
            with write_whole(folder / f"confusion_{split}.npz") as temporary:
                scipy.sparse.save_npz(temporary, splits[split].pop("confusion"))
        else:
            splits[split]["confusion"] = splits[split]["confusion"].toarray().tolist()
        splits[split]["cross_entropy"] = metrics.cross_entropy(
            view.features, view.labels, view.classifier_weights, view.classifier_bias
        )
    splits["test"]["silhouette"] = metrics.silhouette(view.features, view.labels)  # of the others it takes minutes
    if config.unknown_classes:
        unknown = read_features(features_path(folder, "unknown")).features
        classifier = view.classifier_weights, view.classifier_bias
        splits["unknown"] = metrics.unknown_metrics(view.features, unknown, view.centers, *classifier)

    sessions = read_table(folder / "sessions.csv")
    timed_steps = sum(int(row["steps"]) for row in sessions)
    seconds = sum(float(row["seconds"]) for row in sessions)
    logged = read_table(folder / "metrics.csv")  # of a stopped run whose steps were then cut, maybe no row
    result = {
        "dataset": config.dataset,
        "data_source": data_source,
        "step": view.step,
        "lambda": config.center_loss_weight,
        "lambda_eff": config.lambda_eff,
        "seed": config.seed,
        **splits,
        "last_step": {name: float(value) for name, value in logged[-1].items()} if logged else None,
        "seconds_per_step": seconds / timed_steps if timed_steps else None,
        "commit": machine.commit(Path(__file__).resolve().parent),
        "python": platform.python_version(),
        "tensorflow": machine.version("tensorflow"),
        "numpy": np.__version__,
        "cpu": machine.cpu("model name"),
    }
    write_json(folder / "metrics.json", result)


def resume_command(folder: Path) -> str:
    """What goes on with the run in `folder`."""
    return f"python train_mnist.py --resume {typed(folder)}"
