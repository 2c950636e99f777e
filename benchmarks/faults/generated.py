"""Campaigns 7, 8, 9, 11: more cases of the tests that draw them at random or answer from a real mirror."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.faults.campaign import Seen, require


def pass_with(seen: Seen, count: int, *tests: str) -> None:
    """Requires that the named tests pass, with `count` random cases each."""
    command = [sys.executable, "-m", "pytest", "-q", f"--count={count}", *tests]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    passed = re.search(r"^(\d+) passed(?!.*(?:failed|skipped))", result.stdout, re.MULTILINE)
    require(result.returncode == 0 and passed, result.stdout[-2000:])
    seen["tests"].append(f"run of {passed[1]} tests" + (f", {count:,} cases each" if count > 1 else ""))


def checkpoints(number: int, folder: Path, seen: Seen) -> None:
    """Bytes of a checkpoint flipped: the newest whole one is used and the others named; no wrong number is read"""
    pass_with(seen, 1000, "tests/test_checkpoints.py", "-k", "flipped_byte")


def data_files(number: int, folder: Path, seen: Seen) -> None:
    """IDX files, plain or gzipped, mutated before or after they were packed: read right, or refused with a DataError"""
    pass_with(seen, 20_000, "tests/test_mnist_data.py", "-k", "arbitrary_and_mutated")


def settings(number: int, folder: Path, seen: Seen) -> None:
    """Any text for any setting, as option and in a file: read alike in both, or refused by its name"""
    pass_with(seen, 5000, "tests/test_config.py", "-k", "any_text")


def mirrors(number: int, folder: Path, seen: Seen) -> None:
    """A mirror answers with an error, hangs, breaks off, or sends another file: the next one is asked"""
    pass_with(seen, 1, "tests/test_mnist_data.py", "-k", "mirror")
