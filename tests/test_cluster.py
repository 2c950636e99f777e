"""A cluster on this machine: real processes, real servers, the digits."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow.compat.v1 as tf

from running.cluster import ClusterError, read_tf_config

ROOT = Path(__file__).resolve().parent.parent
# Batch norm would have each process's own statistics. There are 1,150 training images.
RUN = [
    "--dataset", "digits", "--channels", "[2,3,4]", "--batch_norm", "false", "--weight_init", "xavier",
    "--prelu_start", "0.25", "--feature_activation", "linear", "--center_loss_reduction", "mean",
    "--center_loss_weight", "0.1", "--batch_size", "20", "--weight_decay", "0.001", "--augment_shift", "1",
    "--log_every_steps", "5", "--evaluate_every_steps", "40", "--checkpoint_every_steps", "20", "--snapshot_steps",
    "[]", "--learning_rate", "0.003",
]  # fmt: skip


def addresses(number: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    names = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return names


class Processes:
    """Processes of a cluster, by the name of the task; each writes to a file."""

    def __init__(self, folder: Path, workers: int) -> None:
        chief, *others = addresses(1 + workers)
        self.cluster, self.folder = {"chief": [chief], "worker": others}, folder
        self.tasks = ["chief 0", *(f"worker {index}" for index in range(workers))]
        self.running: dict[str, subprocess.Popen] = {}

    def start(self, task: str, *arguments: object, code: str | None = None) -> None:
        kind, index = task.split()
        described = {"cluster": self.cluster, "task": {"type": kind, "index": int(index)}}
        with (self.folder / f"{task}.log").open("a") as log:
            self.running[task] = subprocess.Popen(
                [sys.executable, *(["-c", code] if code else ["train_mnist.py"]), *map(str, arguments)],
                cwd=ROOT, env=os.environ | {"TF_CONFIG": json.dumps(described)}, stdout=log, stderr=log,
            )  # fmt: skip

    def log(self, task: str) -> str:
        return (self.folder / f"{task}.log").read_text()

    def until(self, task: str, text: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while text not in self.log(task):
            assert time.monotonic() < end, f"{task} never said {text!r}:\n{self.log(task)}"
            assert self.running[task].poll() is None, self.log(task)
            time.sleep(0.1)

    def codes(self, seconds: float = 150) -> dict[str, int]:
        return {task: process.wait(seconds) for task, process in self.running.items()}


@pytest.fixture
def processes(tmp_path):
    made = []

    def make(workers: int) -> Processes:
        folder = tmp_path / f"logs{len(made)}"
        folder.mkdir()
        made.append(Processes(folder, workers))
        return made[-1]

    yield make
    for process in (process for each in made for process in each.running.values()):
        process.kill()
        process.wait()


def train_alone(run_script, folder: Path, *settings: object) -> Path:
    result = run_script("train_mnist.py", *RUN, *settings, "--output_dir", folder, "--run_name", "alone")
    assert result.returncode == 0, result.stderr
    return folder / "alone"


def rows(run: Path) -> np.ndarray:
    with (run / "metrics.csv").open() as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


def variables(run: Path, step: int) -> dict[str, np.ndarray]:
    reader = tf.train.NewCheckpointReader(str(run / "checkpoints" / f"model.ckpt-{step}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.parametrize(
    ("workers", "tolerance", "settings"),
    [
        (1, 1e-4, ["--center_update", "py_func", "--optimizer", "sgd", "--learning_rate", "0.1"]),
        (
            2, 2e-3, ["--center_update", "in_graph", "--optimizer", "sgd", "--learning_rate", "0.1",
            "--center_loss_reduction", "sum", "--center_loss_weight", "0.001"],
        ),
        (1, 2e-3, ["--optimizer", "adam"]),  # whose steps are as long for the smallest gradient, which is all rounding
    ],
)  # fmt: skip
def test_a_cluster_takes_the_steps_of_one_process(tmp_path, run_script, processes, workers, tolerance, settings):
    # The twelfth batch is the last of an epoch, and has 61 images.
    settings = ["--batch_size", "99", "--steps", "16", "--log_every_steps", "1", *settings]
    alone, cluster = train_alone(run_script, tmp_path, *settings), processes(workers)
    for task in cluster.tasks:
        cluster.start(task, *RUN, *settings, "--output_dir", tmp_path, "--run_name", "together")
    assert set(cluster.codes().values()) == {0}, [cluster.log(task) for task in cluster.tasks]
    together = tmp_path / "together"
    np.testing.assert_allclose(rows(together), rows(alone), rtol=tolerance, atol=1e-9)
    own = variables(alone, 16)
    for name, value in variables(together, 16).items():
        np.testing.assert_allclose(value, own[name], rtol=tolerance, atol=tolerance, err_msg=name)
    assert {path.name for path in together.iterdir()} == {path.name for path in alone.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "together", "logs0"}, "workers leave no file"


def test_a_stop_a_lost_worker_and_a_lost_chief_change_nothing(tmp_path, processes, cases):
    """One training for each hundred cases, each stopped and killed at other steps."""
    settings = [*RUN, "--steps", "240", "--output_dir", tmp_path]
    whole = processes(1)
    for task in whole.tasks:
        whole.start(task, *settings, "--run_name", "whole")
    assert set(whole.codes().values()) == {0}, [whole.log(task) for task in whole.tasks]
    wanted = variables(tmp_path / "whole", 240)

    for case in range(max(1, len(cases) // 100)):
        first, second, third = (np.random.default_rng(case).integers([4, 18, 34], [14, 30, 44]) * 5).tolist()
        run, cluster = tmp_path / f"disturbed{case}", processes(1)
        for task in cluster.tasks:
            cluster.start(task, *settings, "--run_name", run.name)
        cluster.until("chief 0", f"step {first}/240")
        cluster.running["worker 0"].terminate()
        assert set(cluster.codes().values()) == {128 + signal.SIGTERM}
        assert f"--resume {run}" in cluster.log("chief 0")

        for task in cluster.tasks:
            cluster.start(task, "--resume", run)
        cluster.until("chief 0", f"step {second}/240")
        cluster.running["worker 0"].kill()
        cluster.until("chief 0", "was lost")
        cluster.start("worker 0", *settings, "--run_name", run.name)  # a worker needs no run folder
        cluster.until("chief 0", f"step {third}/240")
        cluster.running["chief 0"].kill()
        cluster.until("worker 0", "was lost")
        cluster.start("chief 0", "--resume", run)
        assert set(cluster.codes().values()) == {0}, [cluster.log(task) for task in cluster.tasks]
        np.testing.assert_allclose(rows(run), rows(tmp_path / "whole"), rtol=1e-5)
        for name, value in variables(run, 240).items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-5, atol=1e-7, err_msg=name)


HASTY = """
import sys
import running.cluster, train_mnist
running.cluster.START = 3
sys.exit(train_mnist.main(sys.argv[1:]))
"""


def test_one_that_is_not_there_is_named(tmp_path, processes):
    cluster = processes(2)
    for task in ("chief 0", "worker 1"):
        cluster.start(task, *RUN, "--output_dir", tmp_path, "--run_name", "never", code=HASTY)
    assert set(cluster.codes().values()) == {2}
    for task in ("chief 0", "worker 1"):
        assert f"error: worker 0 at {cluster.cluster['worker'][0]}: not reached in 3 seconds" in cluster.log(task)
    assert not (tmp_path / "never").exists(), "the same command works, once all are there"


def test_a_taken_port_and_too_small_a_last_batch_are_told(tmp_path, processes):
    taken, small = processes(1), processes(1)
    with socket.create_server(("127.0.0.1", int(taken.cluster["worker"][0].rpartition(":")[2]))):
        taken.start("worker 0", *RUN)
        small.start("worker 0", *RUN, "--batch_size", "383")  # 1,150 are three times that, and one
        assert taken.codes() == small.codes() == {"worker 0": 2}
    assert "port" in taken.log("worker 0")
    assert "Address already in use" in taken.log("worker 0")
    assert "batch_size: of batches of 383 the last one of an epoch has 1 of the 1150" in small.log("worker 0")


def test_other_settings_are_named_by_all(tmp_path, processes):
    cluster = processes(2)
    for task in cluster.tasks:
        other = ["--learning_rate", "0.1", "--seed", "1"] if task == "worker 1" else []
        cluster.start(task, *RUN, *other, "--output_dir", tmp_path, "--run_name", "mixed")
    assert set(cluster.codes().values()) == {2}
    for task in cluster.tasks:
        assert "not the same on all processes of the cluster: learning_rate, seed;" in cluster.log(task)


CHIEF, WORKER = {"chief": ["a:1"]}, {"chief": ["a:1"], "worker": ["b:1"]}


@pytest.mark.parametrize(
    ("described", "named"),
    [
        ("chief=a:1", "not JSON"),
        ([], "expected an object"),
        ({"cluster": [], "task": {}}, None),
        ({}, None),
        ({"cluster": CHIEF, "task": {"type": "chief", "index": 0}}, None),  # of one process
        ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}, "expected one chief, got []"),
        ({"cluster": WORKER | {"chief": ["a:1", "c:1"]}, "task": {"type": "chief", "index": 0}}, "expected one chief"),
        ({"cluster": WORKER | {"ps": ["c:1"]}, "task": {"type": "ps", "index": 0}}, "cluster: ps: expected chief and"),
        ({"cluster": {"chief": "a:1"}, "task": {"type": "chief", "index": 0}}, "expected a list of addresses"),
        ({"cluster": ["a:1"], "task": {"type": "chief", "index": 0}}, "expected a list of addresses"),
        ({"cluster": WORKER | {"worker": ["b"]}, "task": {"type": "chief", "index": 0}}, "'host:port', got 'b'"),
        ({"cluster": WORKER | {"worker": ["b:70000"]}, "task": {"type": "chief", "index": 0}}, "got 'b:70000'"),
        ({"cluster": WORKER | {"worker": [7]}, "task": {"type": "chief", "index": 0}}, "'host:port', got 7"),
        ({"cluster": WORKER | {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}, "have one address"),
        ({"cluster": WORKER, "task": {"type": "worker", "index": 1}}, "one of chief 0, worker 0"),
        ({"cluster": WORKER, "task": {"type": "worker", "index": -1}}, "one of chief 0, worker 0"),
        ({"cluster": WORKER, "task": {"type": ["worker"], "index": 0}}, "one of chief 0, worker 0"),
        ({"cluster": WORKER, "task": "worker"}, "one of chief 0, worker 0"),
        ({"cluster": WORKER}, "got null"),
    ],
)  # fmt: skip
def test_tf_config_is_read_or_refused(described, named):
    text = described if isinstance(described, str) else json.dumps(described)
    if named is None:
        assert read_tf_config(text) is None
        return
    with pytest.raises(ClusterError, match=r"^TF_CONFIG: [^\n]+$") as error:
        read_tf_config(text)
    assert named in str(error.value)


def test_a_wrong_tf_config_is_one_line_and_nothing_is_imported_without_one(tmp_path, run_script):
    wrong = run_script("train_mnist.py", "--output_dir", tmp_path, TF_CONFIG="{")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-2].startswith("error: TF_CONFIG: not JSON")
    code = "import sys, train_mnist; print([name for name in sys.modules if 'cluster' in name and 'running' in name])"
    assert run_script("-c", code).stdout == "[]\n"


def test_a_local_cluster_by_one_command(tmp_path, run_script):
    settings = [*RUN, "--steps", "20", "--output_dir", tmp_path, "--run_name", "one"]
    result = run_script("scripts/local_cluster.py", "--workers", "1", *settings)
    assert result.returncode == 0, result.stdout
    assert "chief 0 | test: " in result.stdout
    assert "worker 0 | done" in result.stdout
    (tmp_path / "one" / "clusters_test.png").unlink()
    result = run_script("scripts/local_cluster.py", "--workers", "1", "--resume", tmp_path / "one")
    assert result.returncode == 0, result.stdout
    assert "chief 0 | trained already, to step 20; making clusters_test.png" in result.stdout


def test_all_processes_of_a_cluster_end_when_it_diverges(tmp_path, run_script):
    wild = [*RUN, "--optimizer", "sgd", "--learning_rate", "1e30", "--output_dir", tmp_path]
    result = run_script("scripts/local_cluster.py", *wild)
    assert result.returncode == 3, result.stdout
    assert result.stdout.count("| error: diverged at step") == 2


def test_the_others_end_at_once_when_one_of_a_local_cluster_is_killed(tmp_path):
    command = [sys.executable, "scripts/local_cluster.py", *RUN, "--steps", "9999", "--output_dir", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    next(line for line in process.stdout if "step 20/" in line)
    psutil.Process(process.pid).children()[1].kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL, output
    assert "waiting until all are there" not in output


def test_ctrl_c_ends_a_local_cluster_with_a_checkpoint(tmp_path):
    command = [sys.executable, "scripts/local_cluster.py", *RUN, "--steps", "9999", "--output_dir", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "step 20/" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT, lines
    (run,) = tmp_path.iterdir()
    assert lines[-1] == f"go on with: python scripts/local_cluster.py --workers 1 --resume {run}\n"
    assert sorted(path.name for path in (run / "checkpoints").glob("*.index"))[-1] != "model.ckpt-0.index"
