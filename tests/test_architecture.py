"""docs/architecture.md tells which of our files each file imports, and keeps its own rules."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for folder in ("", "running", "pictures") for path in (ROOT / folder).glob("[!_]*.py"))
OURS = {path.stem for path in ROOT.glob("*.py")} | {"running", "pictures"}
SCRIPTS = {"train_mnist", "visualize", "reproduce", "compare_losses", "predict", "import_data"}
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\S+\.py)` \|.*\| (.*?) ?\|$", PAGE, re.M)
SAID = {file: set(filter(None, names.split(", "))) for file, names in ROWS}


def imported(path: Path) -> set[str]:
    """The modules that a file imports anywhere in it, with their dots."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = (ROOT / node.module.replace(".", "/")).is_dir()
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if inside else {node.module}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_what_the_page_says(path):
    ours = {name for name in imported(path) if name.partition(".")[0] in OURS}
    assert SAID[str(path.relative_to(ROOT))] == ours
    assert not ours & SCRIPTS, "a script is imported by nobody"
    room = path.parent.name
    if room in ("running", "pictures"):
        assert {name.partition(".")[0] for name in ours} <= {room}
    if any(name.startswith("matplotlib") for name in imported(path)):
        assert room == "pictures"


def test_the_page_has_no_other_files():
    assert SAID.keys() == {str(path.relative_to(ROOT)) for path in FILES}


@pytest.mark.parametrize("module", ["config", "figures", "metrics", "mnist_data"])
def test_tensorflow_is_not_imported_where_nothing_trains(module, run_script):
    result = run_script("-c", f"import sys, {module}; print('tensorflow' in sys.modules)")
    assert result.stdout == "False\n", result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["train_mnist.py", "--help"],
        ["compare_losses.py", "--classes", "[2]", "--repeats", "1", "--out"],
    ],
    ids=lambda words: words[0],
)
def test_keras_is_not_imported(words, tmp_path, run_script):
    """TensorFlow imports it with itself, which takes a third of the time to start."""
    out = [tmp_path] if words[-1] == "--out" else []
    told = run_script("-X", "importtime", *words, *out).stderr
    modules = {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}
    assert not {name for name in modules if name.startswith("keras.")}
    assert "tensorflow" in modules
