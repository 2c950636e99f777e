"""Standard output and error that never end a program: what they can't take is lost, and the program goes on."""

import io
import os
import sys


class _Outliving(io.FileIO):
    """A descriptor that takes everything: what can't be written, as when a reader went away, counts as written."""

    def write(self, data):
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written  # also where the descriptor would have to be waited for


def outlive_readers() -> None:
    """Makes `sys.stdout` and `sys.stderr` take any text, whatever becomes of the terminal, pipe or file behind them.

    Call this once, at the start of a script. A stream that is closed by then gets a new descriptor. Otherwise the next
    file that is opened would take its number, and libraries would write their messages into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        descriptor = old.fileno() if old else descriptor
        raw = io.BufferedWriter(_Outliving(descriptor, "w", closefd=False))
        encoding, lines = (old.encoding, old.line_buffering) if old else ("utf-8", True)
        setattr(sys, name, io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=lines))
