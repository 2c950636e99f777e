"""Several runs at once by an engine: real processes, two local workers, the digits."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from config import Config
from running import jobs, run_folder

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
dataset: digits
channels: [2, 3, 4]
batch_size: 20
steps: 400
log_every_steps: 20
checkpoint_every_steps: 20
evaluate_every_steps: 400
snapshot_steps: []
"""


@pytest.fixture
def call(tmp_path):
    """Starts `reproduce.py` on a preset of two configs; ends all that came of it."""
    preset = tmp_path / "configs" / "tiny"
    preset.mkdir(parents=True)
    for weight in ("0.01", "0.02"):
        (preset / f"lambda_{weight}.yaml").write_text(f"{CONFIG}center_loss_weight: {weight}\n")
    started = []

    def start(*arguments, out="out"):
        words = ["reproduce.py", "tiny", "--configs", tmp_path / "configs", "--out", tmp_path / out, *arguments]
        command = [sys.executable, *map(str, words)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(condition, process=None, seconds=240):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)
    return value


def ended(process) -> tuple[int, str]:
    output, errors = process.communicate(timeout=280)
    return process.returncode, output + errors


def of(process, script) -> list[psutil.Process]:
    """The processes that came of `process` and run `script`."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # gone by now
            found += [child] if any(script in word for word in child.cmdline()) else []
    return found


def begun(out: Path) -> set[Path]:
    """The folders of runs that have a checkpoint of a later step than 0."""
    return {path.parent for path in out.glob("*/checkpoints/model.ckpt-[1-9]*.index")}


def whole_rows(out: Path) -> list[str]:
    return [(run / "metrics.csv").read_text() for run in sorted(out.glob("lambda_*"))]


def test_a_worker_that_is_killed_costs_nothing_but_time(call, tmp_path):
    process = call("--jobs", 2)
    until(lambda: len(begun(tmp_path / "out")) == 2, process)
    trainings = of(process, "train_mnist.py")
    worker = psutil.Process(of(process, "reproduce.py")[-1].pid)
    worker = next(parent for parent in worker.parents() if "loky" in " ".join(parent.cmdline()))
    worker.kill()
    code, told = ended(process)
    assert code == 0, told
    assert "TerminatedWorkerError" in told
    assert not any(training.is_running() for training in trainings), "a child goes with its parent"
    assert (tmp_path / "out" / "results.md").is_file()
    assert (tmp_path / "out" / "panel_test.png").is_file()
    assert not (tmp_path / "out" / ".stop").exists()
    alone = call("--only", "lambda_0.02", out="alone")
    assert ended(alone)[0] == 0
    assert whole_rows(tmp_path / "out")[-1:] == whole_rows(tmp_path / "alone")


def test_ctrl_c_ends_all_with_their_checkpoints(call, tmp_path):
    process = call("--jobs", 2)
    until(lambda: len(begun(tmp_path / "out")) == 2, process)
    trainings = of(process, "train_mnist.py")
    process.send_signal(signal.SIGINT)
    code, told = ended(process)
    assert code == 130, told
    assert told.splitlines()[-1].startswith("stopped by SIGINT; go on with: python reproduce.py tiny")
    psutil.wait_procs(trainings, timeout=30)
    assert not any(training.is_running() for training in trainings)
    for run in (tmp_path / "out").glob("lambda_*"):
        with run_folder.locked(run):
            steps = [int(path.stem.rpartition("-")[2]) for path in run.glob("checkpoints/model.ckpt-*.index")]
            assert max(steps) >= len((run / "metrics.csv").read_text().splitlines()) * 20 - 20 > 0
            assert (run / "sessions.csv").is_file(), "which a killed run does not write"


def test_the_plan_is_a_command_a_run_and_each_does_nothing_twice(call, tmp_path):
    code, told = ended(call("--plan", "--steps", 20))
    plan = told.splitlines()
    assert (code, len(plan)) == (0, 2), told
    data = Path(Config().data_dir).resolve()
    assert all(f"data_dir={data}" in shlex.split(line) for line in plan), "it runs from any folder"
    for _ in range(2):
        result = subprocess.run(shlex.split(plan[0]), capture_output=True, text=True, cwd=tmp_path, check=False)
        assert result.returncode == 0, result.stderr
    assert "runs: 1, 1 of them finished" in result.stdout
    assert ended(call("--plan", "--steps", 20))[1].splitlines() == plan[1:]


def test_a_training_ends_with_the_one_that_started_it_and_its_folder_has_an_exit_code(call, tmp_path, run_script):
    process = call("--only", "lambda_0.01", "--steps", 9999)
    run = tmp_path / "out" / "lambda_0.01-seed0"
    until(lambda: (run / "checkpoints" / "model.ckpt-20.index").is_file(), process)
    assert run_script("train_mnist.py", "--resume", run).returncode == 5
    (training,) = of(process, "train_mnist.py")
    process.kill()
    training.wait(60)
    with run_folder.locked(run):
        assert not (run / "metrics.json").exists()


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_an_engine_that_is_not_installed_is_told(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, {"dask": "dask.distributed"}.get(engine, engine), None)
    with pytest.raises(jobs.EngineError, match=rf"{engine} is not installed .*requirements-scale.txt"):
        jobs.run_all([["true"]], os.environ, engine=engine, jobs=2)


def test_a_cluster_of_dask_that_is_not_there_is_told(monkeypatch):
    pytest.importorskip("dask.distributed")
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(jobs.EngineError, match="reached"):
        jobs.run_all([["true"]], os.environ, engine="dask", jobs=2, address="127.0.0.1:9")


@pytest.mark.parametrize("engine", ["loky", "dask", "ray"])
def test_exit_codes_come_back(engine):
    pytest.importorskip({"dask": "dask.distributed", "loky": "joblib"}.get(engine, engine))
    commands = [[sys.executable, "-c", f"raise SystemExit({code})"] for code in (0, 3, 0, 2)]
    assert jobs.run_all(commands, os.environ, engine=engine, jobs=2) == [0, 3, 0, 2]


def test_so_many_run_at_once_however_many_threads_a_dask_cluster_has():
    distributed = pytest.importorskip("dask.distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address=None) as cluster:
        start = time.monotonic()
        address = cluster.scheduler_address
        assert jobs.run_all([["sleep", "1"]] * 4, os.environ, engine="dask", jobs=2, address=address) == [0] * 4
        assert time.monotonic() - start >= 2
