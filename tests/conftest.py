"""What the tests share: where the real data are, and runs of the scripts as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with mnist/ and fashion_mnist/, $CENTERLOSS_DATA; where it is required, missing is a failure."""
    folder = os.environ.get("CENTERLOSS_DATA")
    if folder and (Path(folder) / "mnist").is_dir():
        return Path(folder)
    message = "needs the real MNIST: set CENTERLOSS_DATA to a folder that holds mnist/"
    if os.environ.get("CENTERLOSS_REQUIRE_DATA") == "1":
        pytest.fail(message)
    return pytest.skip(message)


@pytest.fixture(scope="session")
def run_script():
    """Runs one of the project's scripts in a process of its own, with its output as text."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    return run
