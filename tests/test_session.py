"""A session that an error ends: nothing starts again from the first weights."""

import csv

import pytest
import tensorflow.compat.v1 as tf

from running.session import reason

RUN = [
    "--dataset", "digits", "--channels", "[2,3,4]", "--batch_size", "20", "--log_every_steps", "5", "--steps", "30",
    "--evaluate_every_steps", "10", "--checkpoint_every_steps", "10", "--crop", "4", "--snapshot_steps", "[]",
]  # fmt: skip
# A step of the training that fails once, in one of TensorFlow's classes, or for want of memory.
CODE = """
import sys
import tensorflow.compat.v1 as tf
import train_mnist
from running import hooks

def fail(self, step, values):
    if step == 17:
        if sys.argv[1] == "MemoryError":
            raise MemoryError("could not create a primitive")
        raise getattr(tf.errors, sys.argv[1])(None, None, "could not create a primitive")

hooks.PatienceHook.after_step = fail
sys.exit(train_mnist.main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def undisturbed(run_script, tmp_path_factory):
    """The folder of a run in which no step fails."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run_script("train_mnist.py", *RUN, "--output_dir", folder, "--run_name", "whole")
    assert done.returncode == 0, done.stderr
    return folder / "whole"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("AbortedError", "plain"), ("UnavailableError", "ein Lauf/é 1"), ("OutOfRangeError", "plain"),
        ("MemoryError", "plain"),
    ],
)  # fmt: skip
def test_a_failed_step_ends_the_run_and_resume_equals_the_undisturbed_one(
    undisturbed, tmp_path, run_script, kind, name
):
    folder = tmp_path / "runs" / name
    failed = run_script("-c", CODE, kind, *RUN, "--output_dir", folder.parent, "--run_name", folder.name)
    assert failed.returncode == 2, failed.stderr
    assert "could not create a primitive" in failed.stderr
    assert "--resume" in failed.stderr
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["5", "10", "15"]
    assert not (folder / "metrics.json").exists()
    resumed = run_script("train_mnist.py", "--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step 10" in resumed.stdout
    for table in ("metrics.csv", "validation.csv"):
        assert (folder / table).read_bytes() == (undisturbed / table).read_bytes()


def test_the_reason_of_an_error_is_one_line():
    message = (
        "Graph execution error:\n\nDetected at node 'a' defined at:\nNode: 'a'\n/x; No space left\n\t [[{{node a}}]]"
    )
    assert reason(tf.errors.InternalError(None, None, message)) == "/x; No space left"
    assert reason(OSError("first\nsecond")) == "first"
    assert reason(MemoryError()) == "MemoryError"
