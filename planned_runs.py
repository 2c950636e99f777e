"""The runs that a preset or a sweep asks for, trained one after the other, or several at once by an engine."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from config import Config
from running import jobs
from running.run_folder import InUseError, RunFolderError, locked
from running.signals import URGENT, Child, Stopped, take_over
from runs import finished, missing

TRAIN_MNIST = Path(__file__).resolve().parent / "train_mnist.py"
TRIES = 3  # of a run that is killed, or whose folder is in use
PAUSE = 10  # seconds before another
LACKS_FILES, IN_USE = 4, 5  # exit codes of train_mnist.py
STOP_FILE = "CENTERLOSS_STOP_FILE"  # the variable that names it, for a process that trains one of several runs


class Planned(NamedTuple):
    """A run that was asked for."""

    name: str  # of the config
    folder: Path  # <out>/<config>-seed<n>
    config: Config
    arguments: list[str]  # of train_mnist.py


def unfinished(planned: list[Planned]) -> list[Planned]:
    """Those that lack steps or files; prints how many."""
    left = [run for run in planned if not finished(run.folder, run.config)]
    print(f"runs: {len(planned)}, {len(planned) - len(left)} of them finished", flush=True)
    return left


def train_all(planned: list[Planned], parent: int | None) -> list[str]:
    """Runs what is not finished, one after the other; returns what failed, each with its reason.

    Args:
        planned: the runs.
        parent: the id of the process that started this one. If it is an engine's worker, this one is not to outlive it.

    Raises:
        Stopped: after a signal, when the run under way has its checkpoint.
    """
    stop_file = os.environ.get(STOP_FILE)
    child = Child(parent, Path(stop_file)) if stop_file else Child()  # one of several, or alone
    left, failed = unfinished(planned), []
    while left:
        steps = sum(run.config.steps for run in left)
        runs = f"{len(left)} run{'s' * (len(left) != 1)}"
        print(f"left: {runs}, {steps:,} steps; each run says after 20 steps how long it takes", flush=True)
        run = left.pop(0)
        for again in reversed(range(TRIES)):
            code = train(run, child)
            lost = code < 0 or code == IN_USE  # killed, or of a process that may be ending
            if not (lost and again):
                break
            print(f"{run.folder.name}: exit code {code}; trying again", flush=True)
            child.sleep(PAUSE)
        if code != 0:
            lacks = ", ".join(missing(run.folder, run.config))
            why = f"trained, but without {lacks}" if code == LACKS_FILES else f"exit code {code}"
            failed.append(f"{run.folder.name} ({why})")
    return failed


def train(run: Planned, child: Child) -> int:
    """Starts a run, or goes on with it; returns the exit code of train_mnist.py."""
    if (run.folder / "config.yaml").is_file():
        arguments = ["--resume", str(run.folder), "--data_dir", run.config.data_dir]
    else:  # a folder without settings is of a run that was ended while it was being made
        arguments = [*run.arguments, *(["--overwrite"] if run.folder.exists() else [])]
    print(f"--- {run.folder.name} {'goes on' if arguments[0] == '--resume' else 'starts'}", flush=True)
    return child.run([sys.executable, str(TRAIN_MNIST), *arguments])


def train_at_once(
    planned: list[Planned], command: Callable[[Planned], list[str]], stop_file: Path, **engine: Any
) -> list[str]:
    """As `train_all`, but several at once, by an engine.

    Args:
        planned: the runs.
        command: the words of the command that makes one of them, and does nothing once it is finished.
        stop_file: a path that all processes see. A file there stops them.
        engine: the keyword arguments of `jobs.run_all`.

    Raises:
        jobs.EngineError: if the engine can't be used, or loses workers again and again.
        Stopped: after a signal, when all runs have their checkpoints.
    """

    def stop(signum: int, frame: object) -> None:
        if not stop_file.exists():
            stop_file.touch()  # where an engine's workers are on other machines, nothing else reaches them
            wait_for(planned)  # the engine kills what still runs when it hears of the signal
        elif signum not in URGENT:
            return
        raise Stopped(signum)

    stop_file.parent.mkdir(parents=True, exist_ok=True)
    stop_file.unlink(missing_ok=True)
    take_over(stop)
    env = os.environ | {STOP_FILE: str(stop_file)}
    for again in reversed(range(TRIES)):
        left = unfinished(planned)
        try:
            codes = jobs.run_all([command(run) for run in left], env, **engine) if left else []
            break
        except jobs.LostWorkerError as error:
            if not again:
                raise
            print(f"warning: {error}; trying again what is not finished", file=sys.stderr, flush=True)
            wait_for(planned)
    return [f"{run.folder.name} (exit code {code})" for run, code in zip(left, codes, strict=True) if code]


def wait_for(planned: list[Planned]) -> None:
    """Waits until no process holds the folder of a run, but no longer than a slow checkpoint takes."""
    end = time.monotonic() + 120
    for run in planned:
        while time.monotonic() < end:
            try:
                with locked(run.folder):
                    break
            except InUseError:
                time.sleep(0.5)
            except RunFolderError:  # not begun
                break
