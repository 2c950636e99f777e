"""What a run says of itself: its first lines, its features, and metrics.json (no TensorFlow).

The last is made from the files of the run's folder alone. The features come with the classifier that saw them, so that
anyone can compute everything in it again.
"""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

import metrics
from config import Config
from running import run_folder


def first_lines(config: Config, data_source: str, training: int, validation: int, test: int) -> str:
    """What a run says before it starts: its data, the sizes of its splits, its loss, its precision."""
    over = f"{config.center_loss_reduction} over the batch of {config.batch_size}"
    return (
        f"data: {config.dataset}, {data_source}\n"
        f"split: {training:,} training, {validation:,} validation, {test:,} test\n"
        f"loss: mean cross entropy + {config.center_loss_weight:g} · L_C, {over}\n"
        f"lambda {config.center_loss_weight:g}, lambda_eff {config.lambda_eff:g}, alpha {config.center_alpha:g}\n"
        f"precision: {config.precision} in the convolutional stages"
    )


def collapse(values: Mapping[str, float], num_classes: int) -> str | None:
    """Says so where all features are in one place and nothing is told apart; None elsewhere.

    Args:
        values: of one batch, `feature_spread` (feature units) and `cross_entropy` (nats) among them.
        num_classes: C; a network that tells nothing apart has a cross entropy of ln C.
    """
    spread, chance = values["feature_spread"], math.log(num_classes)
    # In the blog's recipe the spread is ten times this once the cross entropy has fallen by a tenth (step 200).
    if not (spread < 0.05 and values["cross_entropy"] > chance - 0.1):
        return None
    return (
        f"collapse: the features have been all but equal (spread {spread:.2g}) and the cross entropy near ln C = "
        f"{chance:.2f}. The center loss outweighs the cross entropy: try a smaller --center_loss_weight, or let it "
        "rise slowly by --center_loss_warmup_steps"
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
    logged = run_folder.read_table(run / "metrics.csv")  # of a stopped run whose steps were then cut, maybe no row
    result = {
        "dataset": config.dataset,
        "data_source": data_source,
        "step": int(step),
        "lambda": config.center_loss_weight,
        "lambda_eff": config.lambda_eff,
        "seed": config.seed,
        **splits,
        "last_step": {name: float(value) for name, value in logged[-1].items()} if logged else None,
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
