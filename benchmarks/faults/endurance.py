"""Campaign 10: a training that goes on for long."""

import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.faults.campaign import Seen, require
from benchmarks.faults.trainings import at, started
from running.run_folder import read_table

STEPS = 100_000
WORDS = f"""--dataset digits --channels [4,4,8] --batch_size 10 --steps {STEPS} --evaluate_every_steps {STEPS}
    --snapshot_steps []"""


def endurance(number: int, folder: Path, seen: Seen) -> None:
    """Watches a long run from outside.

    A line through the resident memory from the first quarter of the training to its end must rise by less than 1 %;
    metrics.csv have a row each 100 steps; and there be three checkpoints, no snapshot, and no temporary file.
    """
    run, samples = folder / "run", []
    with started(WORDS, *at(run), stdout=None) as process:
        while process.poll() is None:
            samples.append((time.time(), psutil.Process(process.pid).memory_info().rss / 2**20))
            time.sleep(1)
    require(process.returncode == 0, f"exit code {process.returncode}")
    end = (run / "sessions.csv").stat().st_mtime  # written when the steps are over
    training = float(read_table(run / "sessions.csv")[0]["seconds"])
    seconds, megabytes = np.array([s for s in samples if end - 0.75 * training < s[0] < end]).T
    growth = float(np.polyfit(seconds - seconds[0], megabytes, 1)[0] * (seconds[-1] - seconds[0]))
    seen["MB of memory more"].append(growth)
    require(growth < megabytes[0] / 100, f"memory grows from {megabytes[0]:.0f} MB by {growth:.2f} MB")
    rows = [int(row["step"]) for row in read_table(run / "metrics.csv")]
    require(rows == list(range(100, STEPS + 1, 100)), f"rows at {rows[:3]} … {rows[-3:]}")
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    prefixes = [f"checkpoints/model.ckpt-{STEPS - back}" for back in (0, 1000, 2000)]
    whole = {f"{prefix}{suffix}" for prefix in prefixes for suffix in (".index", ".data-00000-of-00001")}
    require({file for file in files if "model.ckpt" in file} == whole, files)
    require(not [file for file in files if "partial" in file or "snapshots" in file], files)
