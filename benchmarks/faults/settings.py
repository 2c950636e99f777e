"""Campaign 9: wrong settings, and folders with strange names."""

from __future__ import annotations

import contextlib
import io
import json
import os
import typing
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.campaign import Seen, require
from benchmarks.faults.trainings import LONGEST, SMALL, at, finish, started
from config import Config, FiniteNumber, parse_command_line

TEXTS = ["word", "nan", "inf", "1e999", "9" * 400, "9" * 5000]  # texts in a YAML file, too
WRONG = [*TEXTS, "''", ".nan", ".inf", "-.inf", "-1", "{a: 1}", "[[1]]", "[.nan]", "[-1]", "[word]"]


def wrong_settings() -> Iterator[tuple[str, str, str]]:
    """(field, option or line of a file): wrong type, out of range, NaN, infinity, empty, huge, an unknown name."""
    for name, hint in typing.get_type_hints(Config).items():
        options = lines = [text for text in WRONG if not (text == "-1" and hint is FiniteNumber)]
        if str in (hint, *typing.get_args(hint)):
            options, lines = [], [text for text in WRONG if text not in TEXTS]
        yield from ((name, f"--{name}={text}", "") for text in ("", *options))
        yield from ((name, "", f"{name}: {text}") for text in lines)
        for unknown in (f"{name}x", name[:-1]):
            yield from ((unknown, f"--{unknown}=1", ""), (unknown, "", f"{unknown}: 1"))
    yield from (("run_name", f"--run_name={text}", "") for text in ("..", "a/b"))


WRONG_SETTINGS = list(wrong_settings())
STRANGE_NAMES = ("räume mit platz", "数字 'a' \"b\"", "-dash", "1e-3", "#no: comment", os.fsdecode(b"not \xff UTF-8"))
TRIES = len(WRONG_SETTINGS) + 1 + len(STRANGE_NAMES)


def settings(number: int, folder: Path, seen: Seen) -> None:
    """Every field with every wrong value, as option and in a file: code 2 and its name; strange paths work

    Of the wrong values, a process of train_mnist.py for some twenty, parse_command_line for all. It must end with code
    2, name the field in at most 1,000 characters, and make no folder. --overwrite of a folder that is no run's must be
    refused with code 2, and the folder be untouched. Below paths with spaces, quotes and other alphabets a run must
    train and resume; where a name is not UTF-8, it may also be refused with code 2.
    """
    if number < len(WRONG_SETTINGS):
        require_refused(*WRONG_SETTINGS[number], folder, as_process=number % (len(WRONG_SETTINGS) // 20) == 0)
        seen["kind"].append("wrong settings")
    elif number == len(WRONG_SETTINGS):
        require_kept(folder / "thesis")
        seen["kind"].append("folder that is no run's")
    else:
        require_works(STRANGE_NAMES[number - len(WRONG_SETTINGS) - 1], folder)
        seen["kind"].append("strange names")


def require_kept(thesis: Path) -> None:
    """Other people's files are no earlier run that --overwrite may remove."""
    (thesis / "chapter").mkdir(parents=True)
    (thesis / "chapter" / "1.tex").write_text("precious", encoding="utf-8")
    before = [path.stat()[:9] for path in (thesis, *thesis.rglob("*"))]
    _, errors = finish(SMALL, *at(thesis), "--overwrite", code=2)
    require(str(thesis) in errors, errors)
    require(before == [path.stat()[:9] for path in (thesis, *thesis.rglob("*"))], "the folder was changed")


def require_refused(name: str, option: str, line: str, folder: Path, *, as_process: bool) -> None:
    """A wrong setting, as an option or a line of a file: refused by name."""
    file, what, complaint = folder / "settings.yaml", (option or line)[:60], io.StringIO()
    file.write_text(f"{line}\n", encoding="utf-8")
    words = [option or f"--config={file}"]
    try:
        with contextlib.redirect_stderr(complaint):
            code = f"none, taken as {parse_command_line(words)}"
    except SystemExit as ended:
        code = ended.code
    require(code == 2, f"{what}: code {code}")
    told = [complaint.getvalue()]
    if as_process:
        told += [finish(f"--output_dir={folder}/out --dataset=digits --steps=1", *words, code=2)[1]]
        require(not (folder / "out").exists(), f"{what}: made a folder")
    for error in (text.partition("error: ")[2] for text in told):
        require(name in error and len(error) < 1000, f"{what} does not name {name}, briefly: {error[:300]}")


def require_works(name: str, folder: Path) -> None:
    """A run below paths of that name, and its continuation."""
    run, data = folder / f"out {name}" / name, folder / f"data {name}"
    data.symlink_to(Path(Config().data_dir).absolute())
    with started("--dataset mnist --channels [1,1,1] --steps 3", f"--data_dir={data}", *at(run)) as process:
        _, errors = process.communicate(timeout=LONGEST)
    refused = process.returncode == 2 and "UTF-8" in name
    require("Traceback" not in errors and (process.returncode == 0 or refused), f"{name!r}: {errors}")
    if not refused:
        finish("--steps 5", f"--resume={run}")
        require(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["step"] == 5, "not at step 5")
