"""Rows 7 and 9: what a quickstart costs beside its steps, and against the quickstart before it was made shorter.

Both are runs of train_mnist.py on MNIST, from the start of the process to its end, in turns. By sessions.csv and the
times of the other files, row 7 tells what the time went into.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.table import Row
from config import Config
from running.run_folder import read_table

ROOT = Path(__file__).resolve().parent.parent
BEFORE = "4c31e84"  # the commit of 24 November 2026 with 1,500 steps of 100 images of 28×28 pixels
ROUNDS = 3


def quickstart(tree: Path, run: Path) -> tuple[float, float]:
    """Trains the quickstart of the code in `tree`, as `run`; when it started and ended, seconds since 1970."""
    command = [sys.executable, "train_mnist.py", "--config", "configs/quickstart.yaml", "--dataset", "mnist"]
    command += ["--data_dir", Path(Config().data_dir).resolve(), "--output_dir", run.parent, "--run_name", run.name]
    start = time.time()
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    return start, time.time()


def training_seconds(run: Path) -> float:
    """What the steps of the run took, by its sessions.csv."""
    return sum(float(row["seconds"]) for row in read_table(run / "sessions.csv"))


def around_the_steps(run: Path, start: float, end: float) -> Row:
    """Row 7, of one run."""
    ends = [run / "data.sha256", run / "sessions.csv", run / "features_test.npz", run / "metrics.json"]
    begun, trained, extracted, drawn = np.diff([start, *(path.stat().st_mtime for path in ends)])
    steps = training_seconds(run)
    detail = (
        f"{end - start:.0f} s in all, {steps:.0f} s of them steps; of the rest {begun:.0f} s import and data, "
        f"{trained - steps:.0f} s graph, validation and snapshots, {extracted:.0f} s features of both splits, "
        f"{drawn:.0f} s pictures and metrics"
    )
    return Row(7, "the quickstart on MNIST without its steps", f"{end - start - steps:.0f} s", "≤ 20 s", detail)


def measure() -> list[Row]:
    """Rows 7 and 9."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        before.mkdir()
        archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", before], input=archive, check=True)
        times = {"now": [], "before": []}
        for turn in range(ROUNDS):
            for name, tree in (("now", ROOT), ("before", before)):
                times[name].append(quickstart(tree, Path(folder) / f"{name}-{turn}"))
        row = around_the_steps(Path(folder) / "now-0", *times["now"][0])
    seconds = {name: [end - start for start, end in each] for name, each in times.items()}
    ratio = np.median(np.divide(seconds["now"], seconds["before"]))
    detail = "; ".join(f"{name} " + ", ".join(f"{took:.0f}" for took in each) + " s" for name, each in seconds.items())
    return [row, Row(9, f"the whole quickstart on MNIST: now / at commit {BEFORE}", f"{ratio:.2f}", "≤ 0.5", detail)]
