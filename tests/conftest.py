"""What the tests share: where the real data are, and runs of the scripts as a user starts them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # as the programs do
ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--count", type=int, default=100, help="random cases of each test that draws some")


def pytest_configure(config):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the processes of the tests would ignore it, too
    # Times on a busy machine say nothing.
    settings.register_profile("patient", deadline=None, max_examples=config.getoption("--count"))
    settings.load_profile("patient")


@pytest.fixture
def cases(request) -> range:
    """Numbers of the random cases to try."""
    return range(request.config.getoption("--count"))


@pytest.fixture(scope="session")
def real_path():
    """A file below $CENTERLOSS_DATA, by its name there; a missing one skips the test, or fails it where required."""

    def find(name: str) -> Path:
        path = Path(os.environ.get("CENTERLOSS_DATA") or "data") / name
        if not path.exists():
            message = f"needs {path}: set CENTERLOSS_DATA to the folder that holds {name}"
            pytest.fail(message) if os.environ.get("CENTERLOSS_REQUIRE_DATA") == "1" else pytest.skip(message)
        return path

    return find


@pytest.fixture(scope="session")
def real_data(real_path) -> Path:
    """The folder that holds mnist/."""
    return real_path("mnist/train-images-idx3-ubyte.gz").parent.parent


@pytest.fixture(scope="session")
def run_script():
    """Runs one of the project's scripts in a process of its own, with its output as text."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    return run
