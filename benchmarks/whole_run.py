"""Rows 7 to 9: what a whole run costs beside its steps, a step beside its ops, and whether memory grows.

Row 7 is `make train` on MNIST, its wall time without the seconds that its steps took, as its sessions.csv has them, and
by the times of its files what the rest went into.
Row 8 is the training loop of `train_mnist.py` with every 20th step traced: the time between two runs of the session,
and that in a run in which no op ran, against a step's wall time; and which ops took the rest.
Row 9 is a run of a small network on digits, its memory read from outside once a second.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.table import Row
from running.run_folder import read_table

ROOT = Path(__file__).resolve().parent.parent
TRACED_STEPS, TRACE_EVERY, UNTRACED_STEPS = 400, 20, 50
MEMORY_STEPS = 20_000


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


def beside_the_ops() -> Row:
    """Row 8."""
    import tensorflow.compat.v1 as tf

    import train_mnist
    from running.session import open_session

    class Trace(tf.train.SessionRunHook):
        starts, ends, idle, spent = [], [], [], Counter()

        def before_run(self, run_context):
            self.starts.append(time.perf_counter())
            self.traced = len(self.starts) % TRACE_EVERY == 0
            level = tf.RunOptions.SOFTWARE_TRACE if self.traced else tf.RunOptions.NO_TRACE
            return tf.train.SessionRunArgs(None, options=tf.RunOptions(trace_level=level))

        def after_run(self, run_context, run_values):
            self.ends.append(time.perf_counter())
            if self.traced and len(self.starts) > UNTRACED_STEPS:
                self.idle.append(self.ends[-1] - self.starts[-1] - busy_seconds(run_values.run_metadata))
                self.spent.update(seconds_by_kind(run_values.run_metadata))

    trace = Trace()

    def traced(folder, start, saver, losses, hooks, **options):
        return open_session(folder, start, saver, losses, [trace, *hooks], **options)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(train_mnist, "open_session", traced):
        words = f"--config configs/quickstart.yaml --dataset mnist --steps {TRACED_STEPS} --output_dir {folder}"
        code = train_mnist.main([*words.split(), "--run_name", "run", "--snapshot_steps", "[]"])
    if code:
        raise SystemExit(code)
    starts, ends = np.array(trace.starts), np.array(trace.ends)
    steps = np.arange(1, len(starts))  # each to the next one's start
    plain = (steps > UNTRACED_STEPS) & (steps % TRACE_EVERY > 0)
    period, between = np.median(np.diff(starts)[plain]), np.median((starts[1:] - ends[:-1])[plain])
    idle = np.median(trace.idle)
    shares = ", ".join(f"{kind} {spent / trace.spent.total():.0%}" for kind, spent in trace.spent.most_common())
    detail = (
        f"{1000 * period:.1f} ms a step, {1000 * between:.2f} of them between two runs of the session, "
        f"{1000 * idle:.2f} in a run with no op running, the tracing's own included; of the ops' time {shares}"
    )
    what = "time of a step outside the session's ops, at most"
    return Row(8, what, f"{(between + idle) / period:.1%}", "≤ 3 %", detail)


def busy_seconds(run_metadata) -> float:
    """The time in which at least one op ran: the length of the union of all ops' intervals."""
    ops = [node for device in run_metadata.step_stats.dev_stats for node in device.node_stats]
    intervals = sorted((op.all_start_micros, op.all_start_micros + op.all_end_rel_micros) for op in ops)
    total, end = 0, 0
    for first, last in intervals:
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total / 1e6


def seconds_by_kind(run_metadata) -> Counter[str]:
    """The time of the ops, by what they are; where two run at once, both are counted."""
    kinds = {"Conv2D": "convolutions", "BatchNorm": "batch norm", "PartitionedCall": "PReLU", "Adam": "optimizer"}
    spent = Counter()
    for device in run_metadata.step_stats.dev_stats:
        for op in device.node_stats:
            called = op.timeline_label.rpartition(" = ")[2]  # <name> = <op>(<inputs>)
            kind = next((kind for part, kind in kinds.items() if part in called.partition("(")[0]), "other")
            spent[kind] += op.all_end_rel_micros / 1e6
    return spent


def memory_of_run(steps: int, folder: Path, arguments: tuple[str, ...] = ()) -> np.ndarray:
    """Runs a small network on digits for `steps`, in `folder`/run.

    Returns:
        [N, 2]: each second, the time in seconds since the epoch, and the resident megabytes.
    """
    import psutil

    command = [
        *(sys.executable, str(ROOT / "train_mnist.py"), "--dataset", "digits", "--channels", "[4, 4, 8]"),
        *("--batch_size", "10", "--steps", str(steps), "--output_dir", str(folder), "--run_name", "run"),
        *("--evaluate_every_steps", str(steps), "--snapshot_steps", "[]", *arguments),
    ]
    samples = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            samples.append((time.time(), watched.memory_info().rss / 2**20))
            time.sleep(1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return np.array(samples)


def while_training(samples: np.ndarray, run: Path, part: float) -> np.ndarray:
    """Of the samples of `memory_of_run` those of the last `part` of the steps' time."""
    end = (run / "sessions.csv").stat().st_mtime  # written when they are over
    return samples[(samples[:, 0] > end - part * training_seconds(run)) & (samples[:, 0] < end)]


def memory_growth() -> Row:
    """Row 9: a straight line through the resident memory over the second half of the run's steps.

    In the first half the allocator may still take a few megabytes at once: in a run of 40,000 steps it took 7 at the
    4,000th, and less than one more over all that followed.
    """
    with tempfile.TemporaryDirectory() as folder:
        samples = memory_of_run(MEMORY_STEPS, Path(folder))
        seconds, megabytes = while_training(samples, Path(folder) / "run", part=0.5).T
    seconds -= seconds[0]
    slope = np.polyfit(seconds, megabytes, 1)[0]
    scatter = np.std(megabytes - np.poly1d(np.polyfit(seconds, megabytes, 1))(seconds))
    growth = slope * seconds[-1]
    detail = f"{megabytes[0]:.0f} to {megabytes[-1]:.0f} MB, scatter {scatter:.2f} MB"
    what = f"growth of memory over the last half of {MEMORY_STEPS:,} steps with `py_func`"
    return Row(9, what, f"{growth:+.2f} MB", "none", detail)


def measure() -> list[Row]:
    """Rows 7 to 9."""
    return [around_the_steps(), beside_the_ops(), memory_growth()]
