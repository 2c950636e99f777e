"""What a campaign is: one kind of fault, brought about again and again, and a count of how often all held."""

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.table import Row

Seen = defaultdict[str, list]  # what the tries note down: words are counted, of numbers the largest is told


class Campaign(NamedTuple):
    number: int | str  # of its row in the table
    tries: int
    what: str  # what must hold
    attempt: Callable[[int, Path, Seen], None]  # makes one, given its number, an empty folder, what was seen so far


class NotHeldError(Exception):
    """What was found instead."""


def require(condition: object, otherwise: object) -> None:
    if not condition:
        raise NotHeldError(otherwise)


def passing(words: str, count: int = 1) -> Callable[[int, Path, Seen], None]:
    """An attempt in which the tests that `words` select pass, with `count` random cases each."""

    def attempt(number: int, folder: Path, seen: Seen) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--count={count}", *words.split()]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        summary = result.stdout.strip().rpartition("\n")[2]
        require(result.returncode == 0 and "skipped" not in summary, result.stdout[-2000:])
        seen["tests"].append(f"run of `pytest {words}`" + f", {count:,} cases" * (count > 1))

    return attempt


def run(name: str, campaign: Campaign, count: int | None) -> tuple[Row, Seen]:
    """All tries, or `count` of them drawn at random. Those that did not hold, an exception of any kind, are printed."""
    number, tries, what, attempt = campaign
    numbers = range(tries) if count is None else sorted(random.sample(range(tries), min(count, tries)))
    seen, held = defaultdict(list), 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for n in numbers:
            random.seed(f"{name} {n}")
            place = Path(folder) / str(n)
            place.mkdir()
            try:
                attempt(n, place, seen)
                held += 1
            except (Exception, SystemExit) as error:
                print(f"{name} {n}: {type(error).__name__}: {error}", flush=True)
            shutil.rmtree(place, ignore_errors=True)
    words = Counter(value for values in seen.values() for value in values if isinstance(value, str))
    numbers_seen = {key: [v for v in values if isinstance(v, int | float)] for key, values in seen.items()}
    notes = [f"{times:,} {word}" for word, times in words.items()]
    notes += [f"{key}: up to {max(values):.3g}" for key, values in numbers_seen.items() if values]
    return Row(number, what, f"{held:,} of {len(numbers):,} held", "all", "; ".join(notes)), seen
