"""Peers that take turns: each in a process of its own, timed a few steps at a time, one after the other.

What a noisy machine does to one it does to the next, so ratios within a round hold where times do not. A process each,
since TensorFlow's and PyTorch's threads would stand in each other's way in one, and since its peak memory is its own.
"""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

WARM_UP = 3  # untimed steps, in which graphs are optimized and kernels compiled
Maker = tuple[Callable[..., Callable[[], object]], tuple]  # a function of a module's top level, its arguments


class Turns(NamedTuple):
    """What one peer did."""

    seconds: np.ndarray  # [rounds] per step
    megabytes: float  # the process's memory at its peak


def peak_megabytes() -> float:
    """This process's memory at its peak so far. On Linux not by getrusage: there a child begins with its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10


def _serve(connection, make: Callable[..., Callable[[], object]], arguments: tuple) -> None:
    step = make(*arguments)
    for _ in range(WARM_UP):
        step()
    connection.send(None)
    while steps := connection.recv():
        step()  # its caches are cold after the others' turns
        start = time.perf_counter()
        for _ in range(steps):
            step()
        connection.send((time.perf_counter() - start) / steps)
    connection.send(peak_megabytes())


def take_turns(
    peers: Mapping[str, Maker], *, rounds: int, steps: int, set_up_seconds: float | None = None
) -> dict[str, Turns]:
    """Times every peer `rounds` times, in turns of `steps`.

    Args:
        peers: by name, the function that makes a step, a callable without arguments, and that function's arguments.
        rounds: turns of each peer.
        steps: timed ones in a turn.
        set_up_seconds: a peer that is not ready to be timed after so many, or dies before, is left out; None: no limit.

    Returns:
        By name, what was measured.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # of the peers; nothing is imported here
    context = multiprocessing.get_context("spawn")
    connections = {}
    for name, maker in peers.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, *maker), daemon=True)
        process.start()
        theirs.close()
        try:
            ready = ours.poll(set_up_seconds)  # before the next one starts: setting up is no one's turn
            if ready:
                ours.recv()
        except EOFError:  # out of memory, say
            ready = False
        if ready:
            connections[name] = ours
        else:
            process.kill()
    seconds = {name: np.empty(rounds) for name in connections}
    for turn in range(rounds):
        for name, connection in connections.items():
            connection.send(steps)
            seconds[name][turn] = connection.recv()
    for connection in connections.values():
        connection.send(0)
    return {name: Turns(seconds[name], connection.recv()) for name, connection in connections.items()}


def ratio(turns: Mapping[str, Turns], ours: str, other: str) -> float:
    """The median over the rounds of the time of `ours` / that of `other`."""
    return float(np.median(turns[ours].seconds / turns[other].seconds))


def times(turns: Mapping[str, Turns], names: Iterable[str]) -> str:
    """The median times of a step of those named, in words."""
    return "; ".join(f"{name} {1000 * np.median(turns[name].seconds):.3g} ms" for name in names)


def graph_mode():
    """TensorFlow with one default graph for the whole process, for a peer."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    return tf
