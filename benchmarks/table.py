"""The rows of docs/performance.md, or another page: kept in a CSV file, written into the page between two marks."""

import csv
import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import NamedTuple

from running.machine import cpu, version
from running.run_folder import write_text

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- by make bench, from performance.csv -->", "<!-- end -->"


class Row(NamedTuple):
    """One goal and what was measured."""

    number: int | str  # 3, or "1+2"
    what: str
    measured: str
    goal: str
    detail: str  # the times, or whatever the number comes from
    when: str = ""
    machine: str = ""


def write(rows: list[Row], name: str = "performance", begin: str = BEGIN) -> None:
    """Puts `rows` in the place of the older ones of the same number, and the whole table into the page.

    Args:
        rows: what was measured.
        name: of the page and of the CSV file, in docs/.
        begin: the first of the page's two marks.
    """
    path, page = DOCS / f"{name}.csv", DOCS / f"{name}.md"
    kept = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            kept = {number: Row(number, *rest) for number, *rest in list(csv.reader(file))[1:]}
    kept |= {str(row.number): row._replace(when=_today(), machine=machine()) for row in rows}
    ordered = sorted(kept.values(), key=lambda row: int(str(row.number).partition("+")[0]))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Row._fields, *ordered])
    lines = ["| # | what | measured | goal | from | when |", "| --- | --- | --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(map(str, row[:-1])) + " |" for row in ordered]
    for model in dict.fromkeys(row.machine for row in ordered):
        lines += ["", f"Rows {', '.join(str(row.number) for row in ordered if row.machine == model)}: {model}"]
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(END)[2]
    write_text(page, "\n".join([f"{before}{begin}", *lines, f"{END}{after}"]))


def _today() -> str:
    """The date and the commit; `-dirty` if anything but docs/, where this writes, is not as in the commit."""

    def git(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", *words], cwd=DOCS.parent, capture_output=True, text=True)

    dirty = git("diff", "--quiet", "HEAD", "--", ".", ":!docs").returncode == 1
    commit = git("describe", "--always").stdout.strip() or "no commit"
    return f"{datetime.date.today()}, {commit}{'-dirty' * dirty}"


def machine() -> str:
    """This machine and the versions, in a line."""
    flags = (cpu("flags") or "").split()
    has = ", ".join(flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags) or "no avx512f"
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "torch", "numpy") if version(name))
    return f"{cpu('model name')} ({has}), {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
