"""Standard streams that are closed, narrow, or whose reader goes away."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT

CODE = """
import contextlib
import os
import sys
from running.streams import outlive_readers
outlive_readers()
for number in range(20_000):
    print("é λ", number, file=sys.stderr if number % 2 else sys.stdout, flush=number % 3 == 0)
with open(sys.argv[1], "w") as file:
    file.write("done")
    with contextlib.suppress(OSError):
        os.write(2, b"what a library says")
"""


def shell(line: str, tmp_path, **environment: str) -> subprocess.CompletedProcess:
    """Runs CODE as `$RUN` in a line of bash."""
    names = {"RUN": f"{sys.executable} {tmp_path}/code.py {tmp_path}/end", "PYTHONPATH": str(ROOT)} | environment
    (tmp_path / "code.py").write_text(CODE)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], env=os.environ | names, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "line",
    [
        "$RUN | head -1",
        "$RUN 2>&1 | head -1",
        "$RUN >&-",
        "$RUN >&- 2>&-",
        "$RUN >/dev/full 2>&1",
        "$RUN <&-",
        "$RUN <&- >&- 2>&-",
    ],
)
def test_a_program_outlives_its_streams(tmp_path, line):
    ended = shell(line, tmp_path)
    assert ended.returncode == 0
    assert (tmp_path / "end").read_text() == "done", "and no line of a stream that was closed"


def test_ascii_streams_take_any_text(tmp_path):
    ended = shell("$RUN", tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[0] == rb"\xe9 \u03bb 0"
    assert (len(ended.stdout.splitlines()), len(ended.stderr.splitlines())) == (10_000, 10_000)


@pytest.mark.parametrize("script", ["train_mnist.py", "reproduce.py", "visualize.py", "compare_losses.py"])
def test_each_script_outlives_its_streams(script):
    for target in ("&-", "/dev/full"):
        line = f"{sys.executable} {script} --help >{target}"
        ended = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, timeout=120, check=False)
        assert ended.returncode == 0, "what can't be said is no error"
        assert b"Traceback" not in ended.stderr
        assert b"ignored" not in ended.stderr
