"""A run's folder: whole-file writes through errors and kills, what may be replaced, the lock, the tables."""

import contextlib
import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from running import run_folder
from running.run_folder import MARKER, RunFolderError, TableFile


@contextlib.contextmanager
def another_process(conftest_root, code: str, *arguments: object):
    """Runs `code` in a process of its own up to its first line of output; kills it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=conftest_root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def root(pytestconfig):
    return pytestconfig.rootpath


# --- write_whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_told_with_the_path(tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"),
        run_folder.write_whole(tmp_path / "a.txt") as temporary,
        Path("/dev/full").open("w") as file,
    ):
        file.write("what the disk would take")
    assert not temporary.exists()
    (tmp_path / "rows.csv").symlink_to("/dev/full")
    table = TableFile(tmp_path / "none.csv", keep_to=0)
    table.path = tmp_path / "rows.csv"
    with pytest.raises(OSError, match=r"No space left on device: '.*rows\.csv'"):
        table.append({"step": 1})


def test_write_whole_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with run_folder.write_whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path, "on the same file system, to be renamed"
        assert temporary.suffix == ".txt"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_error_inside_write_whole_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with run_folder.write_whole(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_killed_writer_leaves_the_old_file_whole(tmp_path, root):
    path = tmp_path / "numbers.json"
    path.write_text("[1, 2, 3]\n")
    code = (
        "import sys, time; from pathlib import Path; from running.run_folder import write_whole\n"
        "with write_whole(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('[4, 5'); print('ready', flush=True); time.sleep(60)\n"
    )
    with another_process(root, code, path) as writer:
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    assert path.read_text() == "[1, 2, 3]\n"


def test_reader_beside_a_killed_writer_never_sees_half_a_file(tmp_path, root):
    path = tmp_path / "numbers.json"
    run_folder.write_json(path, [0] * 20_000)
    code = (
        "import sys; from pathlib import Path; from running.run_folder import write_json\n"
        "print('ready', flush=True)\n"
        "for n in range(10**9): write_json(Path(sys.argv[1]), [n] * 20_000)\n"
    )
    with another_process(root, code, path) as writer:
        seen = set()
        end = time.monotonic() + 30
        while len(seen) < 20 and time.monotonic() < end:
            values = json.loads(path.read_text())
            assert len(values) == 20_000
            assert len(set(values)) == 1
            seen.add(values[0])
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert len(seen) > 1, "the writer wrote"
    assert len(set(json.loads(path.read_text()))) == 1


# --- JSON


def test_json_reads_back(tmp_path):
    value = {"accuracy": 0.1 + 0.2, "name": "données", "missing": None, "confusion": [[1, 2], [3, 4]]}
    run_folder.write_json(tmp_path / "m.json", value)
    assert json.loads((tmp_path / "m.json").read_text(encoding="utf-8")) == value


def test_a_number_that_json_does_not_have_is_null(tmp_path):
    run_folder.write_json(tmp_path / "m.json", {"loss": [1.5, float("nan"), float("inf"), -float("inf")]})
    assert json.loads((tmp_path / "m.json").read_text(), parse_constant=pytest.fail) == {
        "loss": [1.5, None, None, None]
    }


# --- file systems that lack something

LACKS = [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL]


@pytest.mark.parametrize("number", LACKS)
def test_without_modes_files_are_written_all_the_same(tmp_path, monkeypatch, number):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.chmod", refuse)
    run_folder.write_text(tmp_path / "a.txt", "text")
    TableFile(tmp_path / "t.csv", keep_to=0).append({"step": 1})
    assert (tmp_path / "a.txt").read_text() == "text"
    assert (tmp_path / "t.csv").read_text() == "step\n1\n"


@pytest.mark.parametrize("number", [*LACKS, errno.ENOLCK])
def test_without_locks_the_folder_is_refused_with_the_way_on(earlier, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_folder.fcntl, "flock", refuse)
    with pytest.raises(RunFolderError, match=r"run: its file system gives no lock .*use a folder on another one"):
        take(earlier)


# --- create


@pytest.mark.parametrize("overwrite", [False, True])
def test_create_makes_the_folder_its_parents_and_the_marker(tmp_path, overwrite):
    run_folder.create(tmp_path / "a" / "b", overwrite=overwrite)
    assert [file.name for file in (tmp_path / "a" / "b").iterdir()] == [MARKER]


def test_create_takes_an_empty_folder(tmp_path):
    (tmp_path / "run").mkdir()
    run_folder.create(tmp_path / "run", overwrite=False)
    assert (tmp_path / "run" / MARKER).is_file()


@pytest.fixture
def earlier(tmp_path):
    """A run folder with something in it."""
    folder = tmp_path / "run"
    run_folder.create(folder, overwrite=False)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "model").write_text("precious")
    return folder


def test_create_refuses_an_earlier_run(earlier):
    with pytest.raises(RunFolderError, match=r"run: already exists; go on with it, replace it, or choose another name"):
        run_folder.create(earlier, overwrite=False)
    assert (earlier / "checkpoints" / "model").read_text() == "precious"


def test_overwrite_empties_an_earlier_run(earlier):
    run_folder.create(earlier, overwrite=True)
    assert [file.name for file in earlier.iterdir()] == [MARKER]


def test_overwrite_does_not_follow_a_link(earlier, tmp_path):
    (tmp_path / "link").symlink_to(earlier)
    with pytest.raises(RunFolderError, match="link: a link, so what it leads to is not removed; name that folder"):
        run_folder.create(tmp_path / "link", overwrite=True)
    assert (earlier / "checkpoints" / "model").read_text() == "precious"


def test_overwrite_refuses_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match=r"not a run folder .*not removed"):
        run_folder.create(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("overwrite", [False, True])
def test_create_refuses_a_file(tmp_path, overwrite):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(RunFolderError, match="run: "):
        run_folder.create(tmp_path / "run", overwrite=overwrite)
    assert (tmp_path / "run").read_text() == "precious"


# --- the lock

HOLDER = (
    "import sys, time; from pathlib import Path; from running.run_folder import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('ready', flush=True); time.sleep(60)\n"
)


def take(folder):
    """Takes the lock and lets it go."""
    with run_folder.locked(folder):
        return (folder / MARKER).read_text()


def test_lock_holds_its_owner_and_can_be_taken_again(earlier):
    assert take(earlier) == f"{os.getpid()}\n"
    assert take(earlier) == f"{os.getpid()}\n"


def test_second_process_is_refused_with_the_id_of_the_first(earlier, root):
    with another_process(root, HOLDER, earlier) as holder:
        with pytest.raises(RunFolderError, match=rf"run: in use by process {holder.pid};"):
            take(earlier)
        with pytest.raises(RunFolderError, match=rf"in use by process {holder.pid};"):
            run_folder.create(earlier, overwrite=True)
        assert (earlier / "checkpoints" / "model").read_text() == "precious"


def test_lock_of_a_killed_process_is_free(earlier, root):
    with another_process(root, HOLDER, earlier) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert take(earlier) == f"{os.getpid()}\n"


def test_error_inside_frees_the_lock(earlier):
    with pytest.raises(KeyError), run_folder.locked(earlier):
        raise KeyError
    take(earlier)


def test_lock_of_no_run_is_refused_and_makes_no_marker(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(RunFolderError, match="no run here"):
            take(folder)
    assert list(tmp_path.iterdir()) == []


# --- tables


def test_rows_read_back_as_written(tmp_path):
    table = TableFile(tmp_path / "t.csv", keep_to=0)
    assert run_folder.read_table(tmp_path / "t.csv") == []
    table.append({"step": 1, "loss": 0.5, "note": 'a, "b"'})
    assert (tmp_path / "t.csv").read_text() == 'step,loss,note\n1,0.5,"a, ""b"""\n', "on disk at once"
    table.append({"step": 2, "loss": 0.25, "note": "é"})
    assert run_folder.read_table(tmp_path / "t.csv") == [
        {"step": "1", "loss": "0.5", "note": 'a, "b"'},
        {"step": "2", "loss": "0.25", "note": "é"},
    ]


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_floats_read_back_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    table = TableFile(path, keep_to=0)
    for step, value in enumerate(values):
        table.append({"step": step, "value": value})
    assert [float(row["value"]) for row in run_folder.read_table(path)] == values


def test_resume_drops_later_rows(tmp_path):
    path = tmp_path / "t.csv"
    table = TableFile(path, keep_to=0)
    for step in (100, 200, 300, 1000):
        table.append({"step": step, "loss": step / 3})
    again = TableFile(path, keep_to=200)
    assert [row["step"] for row in run_folder.read_table(path)] == ["100", "200"]
    again.append({"step": 300, "loss": 7.0})
    assert path.read_text().splitlines() == ["step,loss", f"100,{100 / 3}", f"200,{200 / 3}", "300,7.0"]


@pytest.mark.parametrize("keep_to", range(6))
def test_a_row_of_the_very_step_is_kept_and_the_next_one_not(tmp_path, keep_to):
    table = TableFile(tmp_path / "t.csv", keep_to=0)
    for step in range(1, 5):
        table.append({"step": step})
    assert TableFile(tmp_path / "t.csv", keep_to=keep_to).last_step == (min(keep_to, 4) or -1)
    steps = [int(row["step"]) for row in run_folder.read_table(tmp_path / "t.csv")]
    assert steps == list(range(1, min(keep_to, 4) + 1))


@pytest.mark.parametrize("cut", range(1, 13))
def test_resume_drops_a_torn_last_row(tmp_path, cut):
    path = tmp_path / "t.csv"
    TableFile(path, keep_to=0).append({"step": 100, "loss": 1.5})
    whole = path.read_text()
    torn = "200,0.123456\n"
    path.write_text(whole + torn[:-cut])
    again = TableFile(path, keep_to=1000)
    assert path.read_text() == whole
    again.append({"step": 200, "loss": 2.5})
    assert path.read_text() == whole + "200,2.5\n"


@pytest.mark.parametrize("torn", ["", "s", "step,lo", "step,loss"])
def test_resume_drops_a_torn_header(tmp_path, torn):
    path = tmp_path / "t.csv"
    path.write_text(torn)
    TableFile(path, keep_to=1000).append({"step": 100, "loss": 1.5})
    assert path.read_text() == "step,loss\n100,1.5\n"


def test_resume_before_the_first_row_keeps_the_header(tmp_path):
    path = tmp_path / "t.csv"
    TableFile(path, keep_to=0).append({"step": 100, "loss": 1.5})
    TableFile(path, keep_to=-1).append({"step": 50, "loss": 2.5})
    assert path.read_text() == "step,loss\n50,2.5\n"


def test_numpy_floats_read_back(tmp_path):
    value = np.float64(1) / 3
    TableFile(tmp_path / "t.csv", keep_to=0).append({"step": 1, "value": value})
    with (tmp_path / "t.csv").open() as file:
        assert float(next(csv.DictReader(file))["value"]) == value


@pytest.mark.parametrize("content", [b"step,loss\nten,1\n", b"step,loss\n\xff,1\n"])
def test_a_table_damaged_by_hand_is_told_by_name(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(run_folder.RunFolderError, match=r"metrics\.csv: damaged"):
        run_folder.TableFile(path, keep_to=5)
    assert path.read_bytes() == content
