"""Campaigns 7 and 8: files of checkpoints, images and labels are damaged, or made to do harm."""

from __future__ import annotations

import functools
import gzip
import random
import shutil
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np

import mnist_data
from benchmarks.faults.campaign import Seen, require
from benchmarks.faults.leftovers import require_as_left_alone, tensors
from benchmarks.faults.trainings import SMALL, at, finish, start_step
from running.checkpoints import CheckpointError, newest_whole

INDEX, DATA, STATE, BOTH = "model.ckpt-100.index", "model.ckpt-100.data-*", "checkpoint", "model.ckpt-100.*"
DAMAGES = [  # what is done to which files, and the step that the run then goes on from; 0: it is refused
    *((damage, files, 75) for damage in ("flipped", "cut", "zeros", "missing") for files in (INDEX, DATA)),
    *((damage, STATE, 100) for damage in ("cut", "zeros", "another run's", "missing")),
    *(("an older one's", BOTH, 75), ("another run's", BOTH, 0), ("cut", "*.data-*", 0), ("missing", "*.index", 0)),
]
FLIPS = 200
BOMB = gzip.compress(bytes(2**21))  # 2 MB of zeros in 2 kB


def flip(content: bytes) -> bytes:
    """One bit."""
    changed = bytearray(content)
    changed[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(content: bytes) -> bytes:
    """At a random place."""
    return content[: random.randrange(len(content))]


@functools.cache
def stopped_halfway(folder: Path) -> tuple[Path, Path]:
    """Two runs of 100 steps, the second of another network, made once in `folder`."""
    runs = folder / "half", folder / "other"
    for run, channels in zip(runs, ("[4,4,8]", "[2,3,4]"), strict=True):
        finish(f"{SMALL} --steps 100 --channels {channels}", *at(run))
    return runs


def flip_one_bit(file: str, alone: bool, saved: Path, seen: Seen) -> None:
    """The part of `checkpoints` that is found out without a training."""
    newest = saved / "model.ckpt-100"
    before = tensors(str(newest))
    for path in saved.glob("model.ckpt-*"):
        if path.match(file):
            path.write_bytes(flip(path.read_bytes()))
        elif alone and not path.match(BOTH):
            path.unlink()
    try:
        found = newest_whole(saved)
    except CheckpointError as error:
        require(alone and f"{newest}: " in str(error), f"refused: {error}")
        seen["flips"].append("flips refused")
        return
    if found.step == 100:
        after = tensors(found.path)
        same = after.keys() == before.keys() and all(after[n].tobytes() == before[n].tobytes() for n in before)
        require(same, "takes other tensors than were saved")
        seen["flips"].append("flips without effect")
    else:
        require(found.step == 75 and not alone, f"starts at step {found.step}")
        require(found.damaged[0].startswith(f"{newest}: "), f"names {found.damaged}")
        seen["flips"].append("flips passed over")


def do_damage(damage: str, path: Path, others: Path) -> None:
    """Does to the file at `path` what a name in DAMAGES says; `others` are the checkpoints of another run."""
    if damage == "missing":
        path.unlink()
    elif damage == "another run's":
        shutil.copy(others / path.name, path)
    elif damage == "an older one's":
        shutil.copy(path.with_name(path.name.replace("-100.", "-75.")), path)
    else:  # zeros: as many, as after a power cut
        change = {"flipped": flip, "cut": cut, "zeros": lambda content: bytes(len(content))}[damage]
        path.write_bytes(change(path.read_bytes()))


def checkpoints(number: int, folder: Path, seen: Seen) -> None:
    """Checkpoints flipped, cut, missing or foreign: the newest whole one is used and the others named, or refused

    200 single bits of either file of the newest, half of them without older ones beside it: it must be found with every
    tensor as it was; or the one before be found and the newest named; or, if there is none, that be the error, naming
    it. Then every kind of damage to a run that goes on from step 100 to 200: it must start at the newest whole one,
    name what it passed over, and equal a run that was left alone; or be refused with code 2, naming it, and no file be
    changed.
    """
    (half, other), run = stopped_halfway(folder.parent), folder / "run"
    shutil.copytree(half, run)
    if number < FLIPS:
        flip_one_bit((INDEX, DATA)[number % 2], number % 4 < 2, run / "checkpoints", seen)
        return
    damage, files, start = DAMAGES[number - FLIPS]
    what, newest = f"{files} {damage}", run / "checkpoints" / "model.ckpt-100"
    for path in list((run / "checkpoints").glob(files)):
        do_damage(damage, path, other / "checkpoints")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".run"}
    output, errors = finish("--steps 200 --resume", run, code=0 if start else 2)
    if start:
        begun = start_step(output)
        require(begun == start or (damage == "flipped" and begun == 100), f"{what}: begins at step {begun}")
        passed_over = f"warning: passed over a damaged checkpoint, {newest}: " in output
        require(passed_over == (begun == 75), f"{what}: passed over? {output}")
        require_as_left_alone(run, SMALL, folder)
    else:
        require(f"{newest}: " in errors, f"{what}: does not name it: {errors}")
        changed = [path.name for path in before if not path.exists() or path.read_bytes() != before[path]]
        require(not changed, f"{what}: refused, but changed {changed}")


def other_header(content: bytes) -> bytes:
    """With another number in one of its fields, or where one would be."""
    count, place = int.from_bytes(content[4:8], "big"), 4 * random.randrange(4)
    field = random.choice((0, 1, count - 1, count + 1, 2000, 2**20, -1, 2**31, 0x801, 0x803, 0x3080000)) % 2**32
    return content[:place] + field.to_bytes(4, "big") + content[place + 4 :]


def longer(content: bytes) -> bytes:
    """With a byte, many bytes, all of itself or a bomb behind it."""
    return content + random.choice((b"\0", random.randbytes(2000), content, BOMB))


def mutated(content: bytes) -> bytes:
    """After one to three changes."""
    for _ in range(random.choice((1, 1, 2, 3))):
        content = random.choice((flip, cut, other_header, longer) if content else (longer,))(content)
    return content


def right_answer(content: bytes, kind: str) -> np.ndarray | None:
    """The array, or None, by the shortest reading of the format that there is."""
    header, fixed = (16, (0x803, 28, 28)) if kind == "images" else (8, (0x801,))
    if len(content) < header:
        return None
    magic, count, *shape = struct.unpack(f">{header // 4}I", content[:header])
    values = np.frombuffer(content, np.uint8, offset=header)
    if (magic, *shape) != fixed or count == 0 or values.size != count * (784 if kind == "images" else 1):
        return None
    return None if kind == "labels" and values.max() > 9 else values.reshape(count, *shape)


def data_files(number: int, folder: Path, seen: Seen) -> None:
    """IDX files, plain or gzipped, mutated before or after they were packed: read right, or refused with a DataError

    The reader must give the array that Python's gzip and the shortest reading of the format give, or else a DataError
    that names the file; within 1 s; and at a traced peak of at most 4 times the honest size and 300 kB. The honest size
    is that of the file, or of the array that is in it, as it is returned, if that is larger. The 300 kB are what any
    gzip file takes, however small: buffers, the decompressor, the error.
    """
    kind, packed, late = ("images", "labels")[number % 2], number // 2 % 3 > 0, number // 6 % 2
    if kind == "images":
        count = random.choice((1, 3, 60))
        content = struct.pack(">4I", 0x803, count, 28, 28) + random.randbytes(784 * count)
    else:
        count = random.choice((1, 12, 3000))
        content = struct.pack(">2I", 0x801, count) + bytes(random.choices(range(10), k=count))
    if packed:
        content = gzip.compress(content if late else mutated(content), random.choice((1, 9)))
    if late or not packed:
        content = mutated(content)
    path = folder / random.choice(("file", "file.gz"))  # its name says nothing
    path.write_bytes(content)
    try:
        right = right_answer(gzip.decompress(content) if packed else content, kind)
    except (OSError, EOFError, zlib.error):
        right = None
    read = None
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        read = mnist_data.read_idx(path, kind)
    except mnist_data.DataError as error:
        require(str(error).startswith(f"{path}: "), f"does not name the file: {error}")
    finally:
        seconds, peak = time.perf_counter() - begin, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    told = f"{path.name}, {kind}, {len(content)} bytes: {content[:60].hex()}"
    require((read is None) == (right is None), f"{'refused' if read is None else 'taken'}: {told}")
    require(read is None or np.array_equal(read, right), f"another array than is in it: {told}")
    over = peak - 4 * max(len(content), 0 if read is None else read.nbytes)
    require(seconds < 1 and over <= 300_000, f"{seconds:.2f} s, {peak} bytes: {told}")
    seen["seconds"].append(seconds)
    seen["kB beyond 4 times the honest size"].append(over / 1000)
    seen["answer"].append("refused" if read is None else "read")
