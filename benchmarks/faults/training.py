"""Campaigns 6 and 10: a training that gets out of hand, and one that goes on for long."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks.faults.campaign import Seen, require
from benchmarks.faults.leftovers import tensors
from benchmarks.faults.trainings import SMALL, STEP_KINDS, at, finish
from benchmarks.whole_run import memory_of_run, while_training
from running.checkpoints import newest_whole
from running.run_folder import read_table

LONG_STEPS = 100_000


def save_with_infinity(prefix: str) -> str:
    """Writes an infinity into a checkpoint; the name of the variable hit."""
    values = tensors(prefix)
    hit = random.choice(sorted(values.keys() - {"global_step"}))
    values[hit].flat[random.randrange(values[hit].size)] = random.choice((np.inf, -np.inf))
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=[*values], shape_and_slices=[""] * len(values), tensors=[*values.values()]
    )
    return hit


def divergence(number: int, folder: Path, seen: Seen) -> None:
    """Rate 1e6, or an infinity in a checkpoint: code 3 and where; a center loss of weight 1e9: a warning

    With --learning_rate 1e6 it must end with code 3, the newest checkpoint be finite, and the run resumed with a
    smaller rate end with code 0. From a checkpoint with an infinity it must end with code 3 and name the variable. With
    --center_loss_weight 1e9 it must warn of the collapse, once.
    """
    run, fault, kind = folder / "run", number % 3, f"{SMALL} {STEP_KINDS[number // 3 % 4]}"
    seen["fault"].append(("of rate 1e6", "with an infinity", "of weight 1e9")[fault])
    if fault == 0:
        _, errors = finish(f"{kind} --optimizer sgd --batch_norm false --learning_rate 1e6", *at(run), code=3)
        require("diverged at step" in errors and f"--resume {run}" in errors, errors)
        saved = tensors(newest_whole(run / "checkpoints").path)
        require(all(np.isfinite(value).all() for value in saved.values()), "the newest checkpoint is not finite")
        finish("--learning_rate 1e-3 --resume", run)
        require((run / "metrics.json").exists(), "resumed with a smaller rate, but not finished")
    elif fault == 1:
        finish(kind, *at(run))
        hit = save_with_infinity(newest_whole(run / "checkpoints").path)
        _, errors = finish("--steps 250 --resume", run, code=3)
        require(f"variables not finite: {hit} " in errors, f"{hit} is not named: {errors}")
    else:
        heavy = "--steps 400 --center_loss_weight 1e9 --center_loss_reduction mean"
        output, _ = finish(f"{kind} {heavy}", *at(run))
        require(output.count("for 300 steps on end, collapse") == 1, output)


def long_run(number: int, folder: Path, seen: Seen) -> None:
    """100,000 steps: memory, the time of a step, and the number and size of files stay as they were

    A line through the resident memory from the first quarter of the training to its end must rise by less than 1 %; the
    median step of the last quarter, by the times in the event file, take less than 1.1 times that of the first;
    metrics.csv have a row each 100 steps; and there be three checkpoints, one event file of at most 12 kB a row and
    2 MB, no snapshot, and no temporary file.
    """
    samples, run = memory_of_run(LONG_STEPS, folder), folder / "run"
    seconds, megabytes = while_training(samples, run, part=0.75).T
    seconds -= seconds[0]
    growth = float(np.polyfit(seconds, megabytes, 1)[0] * seconds[-1])
    (events,) = run.glob("checkpoints/events.*")
    times = {event.step: event.wall_time for event in tf.train.summary_iterator(str(events)) if event.step}
    first, *_, last = np.array_split(np.diff(list(times.values())), 4)
    slowing = float(np.median(last) / np.median(first))
    rows = [int(row["step"]) for row in read_table(run / "metrics.csv")]
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    seen["MB of memory more"].append(growth)
    seen["last quarter's step / first quarter's"].append(slowing)
    seen["MB in files"].append(sum((run / file).stat().st_size for file in files) / 2**20)
    require(growth < megabytes[0] / 100, f"memory grows from {megabytes[0]:.0f} MB by {growth:.2f} MB")
    require(slowing < 1.1, f"the last quarter's step takes {slowing:.2f} times the first's")
    require(rows == list(range(100, LONG_STEPS + 1, 100)), f"rows at {rows[:3]} … {rows[-3:]}")
    kept = {f"checkpoints/model.ckpt-{LONG_STEPS - back}" for back in (0, 1000, 2000)}
    whole = {f"{prefix}{suffix}" for prefix in kept for suffix in (".index", ".data-00000-of-00001")}
    require({file for file in files if "model.ckpt" in file} == whole, files)
    require(not [file for file in files if re.search("temp|partial|snapshots", file)], files)
    require(events.stat().st_size < 12_000 * len(rows) + 2**21, f"{events.stat().st_size} bytes of events")
