"""Signals that ask the process to end. While a session trains, a signal is only noted, so that it can checkpoint.

At other times it raises `Stopped`. `Child` passes signals on to a child process.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# From a terminal, a user, a lost line, and batch systems whose time is nearly over.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
URGENT = (signal.SIGINT, signal.SIGTERM)  # as a second one. The others come repeatedly: a lost line's from two senders.
ECHO = 0.3  # seconds. Batch systems signal a process and its parent, which hands the signal on.
PARENT = "ENDS_WITH_PROCESS"  # in the environment of a process that is not to outlive its parent: the parent's id


def take_over(handler: Callable[[int, object], None]) -> None:
    """Has `handler` called for each of ENDING, but for SIGHUP where it is ignored, as by nohup."""
    for signum in ENDING:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, handler)


def orphaned(parent: int | None) -> bool:
    """Whether `parent`, the id of this process's parent, is gone; False where it is None."""
    return parent not in (None, os.getppid())


class Stopped(BaseException):
    """A signal asked the process to end. Like KeyboardInterrupt, not an Exception.

    Attributes:
        signum: which signal; the exit code is 128 + signum.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignals:
    """Takes over the signals of ENDING for the rest of the process.

    A second signal of URGENT, later than ECHO, ends the process. Python gets it only after the running TensorFlow step
    or save.

    Attributes:
        parent: the process that this one is not to outlive, its id, as PARENT says; None if it may.
    """

    def __init__(self) -> None:
        self.parent = int(os.environ.get(PARENT, 0)) or None
        self._received, self._time = None, 0.0
        self._deferred = False
        take_over(self._receive)

    @property
    def received(self) -> int | None:
        """The first signal that came, or SIGTERM once the parent is gone; None so far."""
        if self._received is None and orphaned(self.parent):
            self._received = signal.SIGTERM
        return self._received

    def note(self, signum: int) -> None:
        """Takes `signum` for received now, if none was before."""
        if self._received is None:
            self._received, self._time = signum, time.monotonic()

    def _receive(self, signum: int, frame: object) -> None:
        if self._received is not None:
            if signum in URGENT and time.monotonic() > self._time + ECHO:
                os._exit(128 + signum)
            return
        self._received, self._time = signum, time.monotonic()
        if not self._deferred:
            raise Stopped(signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, a signal is only noted in `received`; at the end of the block, a noted one is raised."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.received is not None:
            raise Stopped(self.received)


class Child:
    """Takes over the signals of ENDING for the rest of the process, and hands each on to the child, once.

    While no child runs, a signal raises `Stopped`. The child is in a session of its own. In ours it would get Ctrl-C
    twice, from us and the terminal, and the second signal would end it without a checkpoint.

    Args:
        parent: the process that this one is not to outlive, its id; None if it may.
        stop_file: a path; once a file is there, it is as if SIGTERM had come. None: no such path.
    """

    def __init__(self, parent: int | None = None, stop_file: Path | None = None) -> None:
        self._stopped_by: int | None = None  # the first signal that came
        self._parent, self._stop_file = parent, stop_file
        self._running, self._process = False, None
        self._waiting: list[int] = []  # signals that the child is yet to get
        take_over(self._receive)

    def _receive(self, signum: int, frame: object = None) -> None:
        self._stopped_by = self._stopped_by or signum
        if not self._running:
            raise Stopped(signum)
        self._waiting.append(signum)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._process is not None and self._waiting:
            self._process.send_signal(self._waiting.pop(0))

    def sleep(self, seconds: int) -> None:
        """Waits; raises `Stopped` as soon as a signal comes."""
        for _ in range(seconds):
            self._look_round()
            time.sleep(1)

    def _look_round(self) -> None:
        """Takes the loss of the parent, and a file at `stop_file`, for SIGTERM."""
        asked = self._stop_file is not None and self._stop_file.exists()
        if self._stopped_by is None and (asked or orphaned(self._parent)):
            self._receive(signal.SIGTERM)

    def run(self, command: list[str]) -> int:
        """Runs `command` to its end, as a process that is not to outlive this one.

        Returns:
            Its exit code, negative for a signal that it died of.

        Raises:
            Stopped: once it has ended, if a signal came to this process.
        """
        self._running, env = True, os.environ | {PARENT: str(os.getpid())}
        with subprocess.Popen(command, env=env, start_new_session=True) as self._process:
            self._pass_on()  # one that came while the process was being made
            while self._process.poll() is None:
                self._look_round()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(1)
        code, self._running, self._process = self._process.returncode, False, None
        if self._stopped_by is not None:
            raise Stopped(self._stopped_by)
        return code
