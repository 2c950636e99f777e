"""What a run says of itself: its first lines, its features, and metrics.json (no TensorFlow).

The last is made from the files of the run's folder alone. The features come with the classifier that saw them, so that
anyone can compute everything in it again.
"""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np

import metrics
from config import Config
from running import run_folder


def first_lines(config: Config, data_source: str, training: int, validation: int, test: int) -> str:
    """What a run says before it starts: its data, the sizes of its splits, its loss, its precision."""
    return (
        f"data: {config.dataset}, {data_source}\n"
        f"split: {training:,} training, {validation:,} validation, {test:,} test\n"
        f"loss: mean cross entropy + {config.center_loss_weight:g} · L_C ({config.center_loss_reduction} over the "
        f"batch of {config.batch_size}): lambda {config.center_loss_weight:g}, lambda_eff {config.lambda_eff:g}; "
        f"alpha {config.center_alpha:g}\n"
        f"precision: {config.precision} in the convolutional stages"
    )


def write_features(path: Path, **arrays: object) -> None:
    """Writes the `arrays` by name to an npz file, whole."""
    with run_folder.write_whole(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def write_metrics(run: Path, config: Config, data_source: str) -> dict[str, object]:
    """Computes metrics.json of the run in folder `run`, and writes it.

    Args:
        run: with features_train.npz, features_test.npz, metrics.csv and sessions.csv.
        config: as the run used it.
        data_source: where the images came from, in words.

    Returns:
        What was written: `train` and `test` as `metrics.split_metrics` says, with the `cross_entropy` (mean, nats) and
        for the test split the `silhouette`; the recipe in short; the last row of metrics.csv as `last_step`, of one
        training batch; seconds a step; versions and machine.
    """
    splits = {}
    for split in ("train", "test"):
        with np.load(run / f"features_{split}.npz", allow_pickle=False) as saved:
            features, labels, centers, step = (saved[key] for key in ("features", "labels", "centers", "step"))
            splits[split] = metrics.split_metrics(features, labels, saved["predictions"], centers) | {
                "cross_entropy": metrics.cross_entropy(
                    features, labels, saved["classifier_weights"], saved["classifier_bias"]
                )
            }
            if split == "test":  # of so many images as in the other it would take minutes
                splits[split]["silhouette"] = metrics.silhouette(features, labels)

    sessions = run_folder.read_table(run / "sessions.csv")
    timed_steps = sum(int(row["steps"]) for row in sessions)
    seconds = sum(float(row["seconds"]) for row in sessions)
    last_step = run_folder.read_table(run / "metrics.csv")[-1]
    result = {
        "dataset": config.dataset,
        "data_source": data_source,
        "step": int(step),
        "lambda": config.center_loss_weight,
        "lambda_eff": config.lambda_eff,
        "seed": config.seed,
        **splits,
        "last_step": {name: float(value) for name, value in last_step.items()},
        "seconds_per_step": seconds / timed_steps if timed_steps else None,
        "commit": _commit(),
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "numpy": np.__version__,
        "cpu": _cpu_model(),
    }
    run_folder.write_json(run / "metrics.json", result)
    return result


def _commit() -> str | None:
    """The commit of this code; None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
