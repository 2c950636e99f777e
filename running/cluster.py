"""One training by several processes, on one machine or on many: TensorFlow's servers, and sums over all processes.

The environment variable TF_CONFIG says which processes there are, and which of them this one is:

    {"cluster": {"chief": ["10.0.0.1:2222"], "worker": ["10.0.0.2:2222", "10.0.0.3:2222"]},
     "task": {"type": "worker", "index": 0}}

Every process holds all variables, takes its part of each batch, and then does the same step as all others.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import NoReturn

import tensorflow.compat.v1 as tf

from running.signals import StopSignals

START = 30  # seconds that a process waits for the others
RETURN = 300  # the same, for one that was lost in the training
SETTLE = 10  # seconds until every process has seen that one is lost, and has closed its old server
FROZEN = 900  # seconds that a sum waits for one that is there, but sends nothing: the chief may be evaluating
MOST_RESTARTS = 20  # of one process, so that an error that comes again and again has an end
# In the environment of a process that lost another: the seconds it waits for it, and how often that was.
WAIT, RESTARTS = "CLUSTER_WAIT", "CLUSTER_RESTARTS"


class ClusterError(OSError):
    """TF_CONFIG can't be used, or a process can't be reached. The message says which, and what to do."""


class Cluster:
    """The processes of one training. All must make the same sums, in the same order.

    Args:
        tasks: the addresses, `host:port`, by name: ("chief", 0), ("worker", 0), ("worker", 1), …
        task: the name of this process.

    Attributes:
        rank, size: which of how many processes this is; 0 is the chief.
        device: of this process. The whole graph is to be built on it.
        target, config: for a session, once `join` has been called.
        begun: whether a step has been taken.
        LOST: the classes of errors of which one is raised if another process is lost.
    """

    LOST = (
        tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError,
        tf.errors.DeadlineExceededError,
    )  # fmt: skip

    def __init__(self, tasks: Mapping[tuple[str, int], str], task: tuple[str, int]) -> None:
        self._tasks, self._task = dict(tasks), task
        self.rank, self.size = list(tasks).index(task), len(tasks)
        self.device = f"/job:{task[0]}/task:{task[1]}"
        self.config = tf.ConfigProto()
        self.config.experimental.collective_group_leader = "/job:chief/replica:0/task:0"
        self.begun, self._keys = False, itertools.count(1)

    def join(self, settings: Mapping[str, str]) -> None:
        """Starts this process's server, and waits for all others.

        Args:
            settings: what must be the same on all, as text, by its name; compared when the session begins.

        Raises:
            ClusterError: if the port is taken, or another process can't be reached in time.
        """
        self.settings, wait = dict(settings), int(os.environ.get(WAIT, START))
        if WAIT in os.environ:
            time.sleep(SETTLE)
        port = int(self._tasks[self._task].rpartition(":")[2])
        try:
            socket.create_server(("", port)).close()
        except OSError as error:
            raise ClusterError(f"TF_CONFIG: port {port} of this process can't be used ({error.strerror})") from None
        jobs = {job: [at for (of, _), at in self._tasks.items() if of == job] for job, _ in self._tasks}
        self._server = tf.train.Server(tf.train.ClusterSpec(jobs), *self._task, config=self.config)
        self.target, end = self._server.target, time.monotonic() + wait
        for (job, index), address in self._tasks.items():
            host, _, port = address.rpartition(":")
            while (job, index) != self._task:
                try:
                    socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
                    break
                except OSError as error:
                    if time.monotonic() > end:
                        raise ClusterError(
                            f"{job} {index} at {address}: not reached in {wait} seconds ({error}); "
                            "start all processes of the cluster, each with its TF_CONFIG"
                        ) from None
                    time.sleep(0.2)

    @property
    def may_restart(self) -> bool:
        """Whether `restart` may help: not if it did not the last time, nor the last twenty times."""
        return (self.begun or WAIT not in os.environ) and int(os.environ.get(RESTARTS, 0)) < MOST_RESTARTS

    def restart(self, command: Sequence[str]) -> NoReturn:
        """Starts this process again, as `command` of Python: TensorFlow can't stop a server, nor end its old sums."""
        os.environ[WAIT] = str(RETURN if self.begun else START)
        os.environ[RESTARTS] = str(int(os.environ.get(RESTARTS, 0)) + 1)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.execv(sys.executable, [sys.executable, *command])

    def hook(self, signals: StopSignals) -> "TogetherHook":
        """What every process's session needs. Make it before the graph is finalized, after all variables."""
        return TogetherHook(self, signals)

    def sum(self, tensor: tf.Tensor) -> tf.Tensor:
        """The sum of every process's `tensor`, on each process; all have one shape and dtype."""
        return tf.raw_ops.CollectiveReduceV2(
            input=tensor, group_size=self.size, group_key=1, instance_key=next(self._keys), ordering_token=[],
            merge_op="Add", final_op="Id", timeout_seconds=FROZEN,
        )  # fmt: skip

    def sums(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """`sum` of each of the float32 `tensors`, sent as one."""
        flat = self.sum(tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0))
        parts = tf.split(flat, [tensor.shape.num_elements() for tensor in tensors])
        return [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def from_chief(self, tensor: tf.Tensor) -> tf.Tensor:
        """The chief's `tensor`, on each process."""
        return self.sum(tensor if self.rank == 0 else tf.zeros_like(tensor))

    def whole(self, batch_size: int, *parts: tf.Tensor) -> list[tf.Tensor]:
        """The whole batch, on each process, of which this one has the rows `rank`, `rank + size`, …

        Args:
            batch_size: the most rows that a whole batch has. A sum must keep its shape from step to step.
            parts: [b, …] each. The others' b may differ by one.

        Returns:
            [B, …] each. The gradient of a row goes to the process that has it.
        """
        rows = self.rank + self.size * tf.range(tf.shape(parts[0])[0])
        number = self.sum(tf.size(rows))

        @tf.custom_gradient
        def assembled(part):
            placed = tf.scatter_nd(rows[:, tf.newaxis], part, [batch_size, *part.shape[1:]])
            return self.sum(placed)[:number], lambda gradient: tf.gather(gradient, rows)  # rows of others are zeros

        return [assembled(part) for part in parts]


class TogetherHook(tf.train.SessionRunHook):
    """Has all processes begin with the chief's variables, stop after the same step, and leave together.

    Args:
        cluster: the processes, joined.
        signals: one that any process has received ends all.
    """

    def __init__(self, cluster: Cluster, signals: StopSignals) -> None:
        self._cluster, self._signals = cluster, signals
        own = tf.constant([zlib.crc32(text.encode()) for text in cluster.settings.values()], tf.int64)
        self._differing = cluster.sum(tf.cast(tf.not_equal(own, cluster.from_chief(own)), tf.int32))
        variables = tf.global_variables()
        self._share = tf.group(*(variable.assign(cluster.from_chief(variable.read_value())) for variable in variables))
        self._asked = tf.placeholder(tf.int32, [])
        self._asked_by = cluster.sum(self._asked)
        self._all_here = cluster.sum(tf.constant(1))

    def after_create_session(self, session, coord):
        differing = session.run(self._differing)
        if differing.any():
            self.end(session)
            names = ", ".join(name for name, number in zip(self._cluster.settings, differing, strict=True) if number)
            raise ClusterError(f"not the same on all processes of the cluster: {names}; say the same on each")
        session.run(self._share)

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._asked_by, {self._asked: int(self._signals.received is not None)})

    def after_run(self, run_context, run_values):
        self._cluster.begun = True
        if run_values.results:
            self._signals.note(signal.SIGTERM)
            run_context.request_stop()

    def end(self, session):
        with contextlib.suppress(tf.errors.OpError):  # one that went first has got what it needs
            session.run(self._all_here)


def read_tf_config(text: str) -> Cluster | None:
    """The cluster that TF_CONFIG's `text` describes; None if it has no other process than this.

    Raises:
        ClusterError: if it is no such description.
    """

    def wrong(reason: str) -> ClusterError:
        return ClusterError(f"TF_CONFIG: {reason}. The first lines of running/cluster.py show what is expected")

    try:
        described = json.loads(text)
    except ValueError as error:
        raise wrong(f"not JSON ({error})") from None
    if not isinstance(described, dict):
        raise wrong(f"expected an object of cluster and task, got {described!r}")
    jobs, task = described.get("cluster"), described.get("task")
    if not jobs:  # some platforms set it for a single process
        return None
    if not (isinstance(jobs, dict) and all(isinstance(addresses, list) for addresses in jobs.values())):
        raise wrong(f"cluster: expected a list of addresses for each of chief and worker, got {jobs!r}")
    if others := jobs.keys() - {"chief", "worker"}:
        raise wrong(f"cluster: {', '.join(sorted(others))}: expected chief and worker alone, of which each holds all")
    if len(jobs.get("chief", ())) != 1:
        raise wrong(f"cluster: expected one chief, got {jobs.get('chief', [])}")
    tasks = {(job, index): address for job in ("chief", "worker") for index, address in enumerate(jobs.get(job, ()))}
    for address in tasks.values():
        port = re.fullmatch(r"[^\s/]+:([0-9]{1,5})", address) if isinstance(address, str) else None
        if port is None or not 0 < int(port[1]) < 2**16:
            raise wrong(f"cluster: expected addresses as 'host:port', got {address!r}")
    if len(set(tasks.values())) != len(tasks):
        raise wrong("cluster: two processes have one address")
    own = (task.get("type"), task.get("index")) if isinstance(task, dict) else None
    if own not in list(tasks):  # in a list: it may be of anything
        known = ", ".join(f"{job} {index}" for job, index in tasks)
        raise wrong(f"task: expected the type and index of one of {known}, got {json.dumps(task)}")
    return Cluster(tasks, own) if len(tasks) > 1 else None
