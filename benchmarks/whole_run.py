"""Row 7: what a whole run costs beside its steps.

It is `make train` on MNIST: its wall time without the seconds that its steps took, as its sessions.csv has them, and by
the times of its files what the rest went into.
"""

import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.table import Row
from running.run_folder import read_table

ROOT = Path(__file__).resolve().parent.parent


def around_the_steps() -> Row:
    """Row 7."""
    with tempfile.TemporaryDirectory() as folder:
        words, run = f"ARGS=--dataset mnist --output_dir {folder} --run_name run", Path(folder) / "run"
        start = time.time()
        subprocess.run(["make", "train", words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds, steps = time.time() - start, training_seconds(run)
        ends = [run / "config.yaml", run / "sessions.csv", run / "features_test.npz", run / "metrics.json"]
        begun, trained, seen, told = np.diff([start, *(path.stat().st_mtime for path in ends)])
    detail = (
        f"{seconds:.0f} s in all, {steps:.0f} s of them steps; of the rest {begun:.0f} s import and data, "
        f"{trained - steps:.0f} s graph, validation and snapshots, {seen:.0f} s features of both splits, "
        f"{told:.0f} s pictures and metrics"
    )
    return Row(7, "`make train` on MNIST without its steps", f"{seconds - steps:.0f} s", "≤ 20 s", detail)


def training_seconds(run: Path) -> float:
    """What the steps of the run took, by its sessions.csv."""
    return sum(float(row["seconds"]) for row in read_table(run / "sessions.csv"))


def measure() -> list[Row]:
    """Row 7."""
    return [around_the_steps()]
