"""One process after another, each handed the signals that ask this one to end."""

from __future__ import annotations

import subprocess

from running.signals import take_over


class Child:
    """Takes over the signals of `signals.ENDING` for the rest of the process, and hands each on to the child, once.

    The child is in a session of its own. In ours it would get the terminal's Ctrl-C a second time, directly, and the
    second signal is the one that ends a run without a checkpoint.

    Attributes:
        stopped_by: the first signal that came; None so far.
    """

    def __init__(self) -> None:
        self.stopped_by: int | None = None
        self._process: subprocess.Popen | None = None
        self._waiting: list[int] = []  # signals that the child is yet to get
        take_over(self._receive)

    def _receive(self, signum: int, frame: object) -> None:
        self.stopped_by = self.stopped_by or signum
        self._waiting.append(signum)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._process is not None and self._waiting:
            self._process.send_signal(self._waiting.pop(0))

    def run(self, command: list[str]) -> int:
        """Runs `command` to its end; its exit code, negative for the signal that it died of."""
        with subprocess.Popen(command, start_new_session=True) as process:
            self._process = process
            self._pass_on()  # one that came while the process was being made
            try:
                return process.wait()
            finally:
                self._process = None
