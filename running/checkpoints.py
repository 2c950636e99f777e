"""Finds the newest undamaged checkpoint in a folder, and refuses one that does not fit the graph."""

import re
from pathlib import Path
from typing import NamedTuple

import tensorflow.compat.v1 as tf


class CheckpointError(Exception):
    """No checkpoint can be used. The message names the folder, what is wrong, and what to do."""


def read(prefix: str) -> tf.train.NewCheckpointReader:
    """A reader of the checkpoint at `prefix`."""
    return tf.train.NewCheckpointReader(prefix)


class Found(NamedTuple):
    """What `newest_whole` found."""

    path: str | None  # prefix of the newest whole checkpoint; None where there is no checkpoint at all
    step: int  # its global step; 0 where there is none
    whole: list[str]  # the prefixes of all whole ones, oldest first
    damaged: list[str]  # the newer ones that were passed over, each with what is wrong


def newest_whole(folder: Path) -> Found:
    """The newest checkpoint in `folder` of which every byte is as it was written (each tensor has a checksum).

    The state file `checkpoint` is not asked: it may be torn, missing, or point to a damaged one.

    Raises:
        CheckpointError: if there are checkpoints, but none of them is whole.
    """
    files = (file.name for file in folder.glob("model.ckpt-*") if file.is_file())
    steps = sorted({int(match[1]) for match in map(_NAME.fullmatch, files) if match})
    whole, damaged = [], []
    for step in steps:
        prefix = str(folder / f"model.ckpt-{step}")
        problem = _problem(prefix, step)
        if problem is None:
            whole.append(prefix)
            damaged = []
        else:
            damaged.append(f"{prefix}: {problem}")
    if damaged and not whole:
        raise CheckpointError(f"{folder}: no whole checkpoint there; start anew. " + "; ".join(damaged))
    return Found(whole[-1] if whole else None, int(whole[-1].rpartition("-")[2]) if whole else 0, whole, damaged)


_NAME = re.compile(r"model\.ckpt-(0|[1-9][0-9]*)\.(?:index|data-00000-of-00001)")


def _problem(prefix: str, step: int) -> str | None:
    """Why the checkpoint at `prefix` can't be used; None if it can."""
    try:
        reader = read(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
        saved_step = int(reader.get_tensor("global_step"))
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError, OSError, MemoryError) as error:
        return str(error).partition("\n")[0]
    return None if saved_step == step else f"holds step {saved_step}"


def check_fits(found: Found, variables: list[tf.Variable], steps: int) -> None:
    """Compares what was found with the graph's `variables`, by name and shape, and with the `steps` wanted in all.

    Raises:
        CheckpointError: if the checkpoint is past `steps`, or of another graph. The message says how.
    """
    if found.path is None:
        return
    if found.step > steps:
        raise CheckpointError(f"{found.path}: at step {found.step} already, beyond the {steps} steps asked for")
    saved = read(found.path).get_variable_to_shape_map()
    wanted = {variable.op.name: variable.shape.as_list() for variable in variables}
    differences = [
        f"{name}: {saved.get(name, 'missing')} in the checkpoint, {wanted.get(name, 'missing')} in the graph"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name)
    ]
    if differences:
        raise CheckpointError(
            f"{found.path}: of another network, {len(differences)} variables differ: {'; '.join(differences[:3])}"
        )
