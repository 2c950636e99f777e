"""Starting trainings as processes, and waiting for them."""

import contextlib
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults.campaign import require

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = """--dataset digits --channels [4,4,8] --batch_size 20 --batch_norm_decay 0.9 --steps 200 --log_every_steps 1
    --checkpoint_every_steps 25 --evaluate_every_steps 50 --snapshot_steps [0,50,100,150,200]"""
FULL = "--config configs/quickstart.yaml --dataset mnist --precision bfloat16 --log_every_steps 1 --snapshot_steps []"
STEP_KINDS = [
    f"--precision {precision} --center_update {update}"
    for precision, update in itertools.product(("float32", "bfloat16"), ("py_func", "in_graph"))
]
LONGEST = 900  # seconds that any one training here may take


@contextlib.contextmanager
def started(words: str, *more: object, stdout: int | None = subprocess.PIPE) -> Iterator[subprocess.Popen]:
    """A training in a process of its own, killed at the end of the block if it still runs."""
    command = [sys.executable, str(ROOT / "train_mnist.py"), *words.split(), *map(str, more)]
    pipes = {"stdout": stdout or subprocess.DEVNULL, "stderr": stdout, "text": True, "errors": "backslashreplace"}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def ending(process: subprocess.Popen, *codes: int) -> tuple[str, str]:
    """Waits for one of the exit codes; what was printed, and what was complained of, which is no traceback."""
    output, errors = process.communicate(timeout=LONGEST)
    require(process.returncode in codes, f"exit code {process.returncode}, expected {codes}: {errors[-400:]}")
    require("Traceback" not in errors, errors[-400:])
    return output, errors


def finish(words: str, *more: object, code: int = 0) -> tuple[str, str]:
    """A whole training, as `ending`."""
    with started(words, *more) as process:
        return ending(process, code)


def wait_until(condition: Callable[[], object], process: subprocess.Popen, pause: float = 0.01) -> None:
    while not condition():
        require(process.poll() is None, "ended too early")
        time.sleep(pause)


def at(run: Path) -> list[str]:
    """The words that make `run` the run's folder."""
    return [f"--output_dir={run.parent}", f"--run_name={run.name}"]


def start_step(output: str) -> int:
    """The step from which a training said that it starts."""
    told = re.search(r"(?:going on from|starting at|trained already, to|finished already, at) step ([\d,]+)", output)
    require(told, f"does not tell where it starts: {output}")
    return int(told[1].replace(",", ""))
