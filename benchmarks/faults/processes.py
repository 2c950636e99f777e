"""Campaigns 1 to 3: a training is killed, or stopped by signals."""

import contextlib
import json
import random
import shlex
import shutil
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults.campaign import NotHeldError, Seen, require
from benchmarks.faults.leftovers import phase_of, require_as_left_alone, steps_done
from benchmarks.faults.trainings import FULL, SMALL, STEP_KINDS, at, ending, finish, start_step, started, wait_until
from running.checkpoints import newest_whole

STEP_DEPENDENT = "--schedule one_cycle --center_loss_warmup_steps 100 --augment_shift 2"
# Where a run is killed, and within how many seconds from the phase's begin: the small network, the full one.
PHASES = {
    "training": (0.1, 2),
    "snapshot": (0.003, 0.003),
    "checkpointing": (0.003, 0.02),
    "extraction": (0.5, 20),
    "drawing": (0.5, 3),
}


def kill_in(phase: str, words: str, run: Path, full: bool, first: int, last: int) -> bool:
    """Starts a run and kills it in `phase`, from step `first` on; False if it was over before."""
    with started(words, *at(run)) as process, contextlib.suppress(NotHeldError):
        wait_until(lambda: steps_done(run) >= first, process)
        wait_until(lambda: phase_of(run, last) == phase, process, pause=0.0002)
        time.sleep(random.uniform(0, PHASES[phase][full]))
    require(process.returncode in (0, -signal.SIGKILL), f"ended by itself with code {process.returncode}")
    return process.returncode != 0


def require_whole(run: Path) -> None:
    """Loads what stands in a killed run's folder under a name of its own."""
    for path in run.rglob("[!.]*"):
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                require([arrays[key] for key in arrays], f"{path} is empty")
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.verify()
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    *rows, rest = (run / "metrics.csv").read_text(encoding="utf-8").split("\n")
    require(rest == "" and len({row.count(",") for row in rows}) == 1, "a row of metrics.csv is not whole")
    steps = [int(row.split(",")[0]) for row in rows[1:]]
    require(steps == list(range(1, len(steps) + 1)), f"steps of metrics.csv: {steps}")


def kills(number: int, folder: Path, seen: Seen) -> None:
    """Kills a run and resumes it.

    The phase is the one that was hit least often so far, the moment random; what counts is the phase that was hit. One
    in ten is the full network on MNIST, the rest small ones on digits, in float32 or bfloat16, centers by py_func or
    in the graph. Before it is resumed, every npz, PNG and JSON file must load, and metrics.csv have a whole row for
    each step. Resumed, it must end with code 0, have gone back by one interval of checkpoints at most, and equal a run
    that was left alone: each tensor of the last checkpoint, metrics.csv, validation.csv, each array of features and
    snapshots, metrics.json but for its time and commit.
    """
    full, run = number % 10 == 9, folder / "run"
    last, every = (60, 20) if full else (200, 25)
    kind = f"--steps {last} --checkpoint_every_steps {every}" if full else STEP_KINDS[(number + number // 4) % 4]
    words = f"{FULL} {kind} --snapshot_steps [20,30,40]" if full else f"{SMALL} {STEP_DEPENDENT} {kind}"
    while not kill_in(min(PHASES, key=seen["phase"].count), words, run, full, random.randrange(1, last - every), last):
        shutil.rmtree(run)
    killed = {"phase": phase_of(run, last), "network": "full" if full else " ".join(kind.split()[1::2])}
    killed |= {"killed_after_step": steps_done(run), "resumed_from_step": "", "held": 0}
    seen["phase"].append(killed["phase"])
    seen["kills"].append(killed)
    require_whole(run)
    killed["resumed_from_step"] = start_step(finish("--resume", run)[0])
    back = killed["killed_after_step"] - killed["resumed_from_step"]
    seen["steps gone back"].append(back)
    require(back <= every, f"went back by {back} steps")
    require_as_left_alone(run, words, folder)
    killed["held"] = 1


def signals(number: int, folder: Path, seen: Seen) -> None:
    """Stops a run and goes on with the command that it gave.

    Each try goes on where the one before was stopped. It must start at the newest checkpoint and end within 10 s with
    code 130 or 143, on stderr the command that resumes, the newest checkpoint whole and of the last row's step. After a
    second SIGINT it must end with code 130 within 1 s and without waiting for a checkpoint.
    """
    run = folder.parent / "signalled"
    twice, signum = number % 5 == 4, signal.SIGTERM if number % 5 % 2 else signal.SIGINT
    begun, before = steps_done(run), newest_whole(run / "checkpoints").step
    begin = [f"{FULL} --steps 100000 --evaluate_every_steps 20", *at(run)]
    with started(*["--resume", run] if begun else begin) as process:
        wait_until(lambda: steps_done(run) not in (0, begun), process)
        first = steps_done(run) + random.randrange(2, 30)
        # Evaluation, which begins at each 20th step, leaves the time for a second signal before all is over.
        wait_until(lambda: steps_done(run) >= first and not (twice and steps_done(run) % 20), process)
        time.sleep(0.2 if twice else random.uniform(0, 2))
        process.send_signal(signum)
        if twice:
            time.sleep(random.uniform(0.5, 1))
            process.send_signal(signum)
        sent = time.perf_counter()
        output, errors = ending(process, 128 + signum)
    took = time.perf_counter() - sent
    seen[f"seconds from the {'second' if twice else 'first'} signal to the end"].append(took)
    require(took < (1 if twice else 10), f"took {took:.1f} s after {'two signals' if twice else signum.name}")
    require(start_step(output) == before, f"began at step {start_step(output)}, the checkpoint was of {before}")
    if twice:
        require("stopped by" not in errors, "ended by the first signal")
        return
    command = shlex.split(errors.partition("go on with: ")[2].partition("\n")[0])
    require(command == ["python", "train_mnist.py", "--resume", str(run)], errors)
    saved = newest_whole(run / "checkpoints").step
    require(saved == steps_done(run) >= first, f"checkpoint of step {saved}, last row {steps_done(run)}")
