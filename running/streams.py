"""Standard output and error that never end a program: what they can't take is lost, and the program goes on."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path


class _Outliving(io.TextIOWrapper):
    """Text to a descriptor; after the first error, as of a reader that went away, it leads to nowhere."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._lead_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._lead_nowhere()

    def _lead_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def outlive_readers() -> None:
    """Makes `sys.stdout` and `sys.stderr` take any text, whatever becomes of the terminal, pipe or file behind them.

    To be called once, where a script starts: a stream that is closed by then also gets a descriptor, since the next
    file that is opened would have its number, and the messages of libraries would go into that file.
    """
    for name in ("stdout", "stderr"):
        old = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        lines = old.line_buffering or name == "stderr"
        encoding = old.encoding
        setattr(sys, name, _Outliving(old.detach(), encoding, "backslashreplace", line_buffering=lines))
