"""Campaign 5: a run's disk or folder is taken away."""

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.campaign import Seen, require
from benchmarks.faults.leftovers import phase_of, require_as_left_alone, steps_done
from benchmarks.faults.trainings import SMALL, at, ending, finish, start_step, started, wait_until
from running.checkpoints import newest_whole

PHASES = "training", "extraction", "drawing", "training", "training"  # each has every fault


@contextlib.contextmanager
def mounted(place: Path, *options: object) -> Iterator[None]:
    """Mounts something on `place`; unmounts it at the end, even while a process still uses it."""
    subprocess.run(["mount", *map(str, options), str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def filled(filler: Path) -> None:
    """Fills the disk up to a random rest, so that now this file and now that is the first without room."""
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(2**16)):
            pass
    os.truncate(filler, filler.stat().st_size - random.choice((0, random.randrange(2**16))))


def disk(number: int, folder: Path, seen: Seen) -> None:
    """Takes a run's disk or folder away.

    At a random moment of training, extraction or drawing; the disk is a tmpfs of 16 MB. It must end with code 2 in
    training, with 4 in drawing, with either in extraction, which begins before the session is closed, and a message
    that names a path in the folder, other than in the hint how to go on, and the newest checkpoint from before be
    whole. Resumed when the fault is mended, it must equal a run that was left alone.
    """
    fault = ("full", "read-only", "moved")[number % 3]
    phase, first = PHASES[number // 3 % len(PHASES)], random.randrange(1, 180)
    words = f"{SMALL} --checkpoint_every_steps 75"  # so that a full disk is met by metrics.csv too, not only the saver
    place = folder / "disk"
    place.mkdir()
    run = left = place / "run"
    tmpfs = mounted(place, "-t", "tmpfs", "-o", "size=16m", "tmpfs")
    with tmpfs, contextlib.ExitStack() as mending, started(words, *at(run)) as process:
        wait_until(lambda: steps_done(run) >= first and phase_of(run, 200) == phase, process, pause=0.001)
        seen["fault"].append(f"{fault} in {phase}")
        before = newest_whole(run / "checkpoints").step
        if fault == "full":
            mending.callback((place / "filler").unlink)
            filled(place / "filler")
        elif fault == "read-only":
            mending.enter_context(mounted(run, "--bind", run))
            while subprocess.run(["mount", "-o", "remount,bind,ro", str(run)], check=False).returncode:
                time.sleep(0.01)  # busy: a file is open to be written just now
        else:
            left = run.rename(place / "moved")
        _, errors = ending(process, *{"training": [2], "extraction": [2, 4], "drawing": [4]}[phase])
        require(str(run) in errors.partition("go on with")[0], f"{fault} in {phase}, names no path: {errors}")
        if fault == "read-only":
            _, errors = finish("--resume", run, code=2)
            require(str(run) in errors, errors)
        mending.close()
        kept = newest_whole(left / "checkpoints").step
        require(kept >= before, f"newest whole checkpoint of step {kept}, was {before}")
        require(start_step(finish("--resume", left)[0]) == kept, f"does not go on from step {kept}")
        require_as_left_alone(left, words, folder)
