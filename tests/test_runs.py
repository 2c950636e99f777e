"""What the files of a run's folder are called, and what is told of damaged ones."""

import subprocess

import pytest

import runs
from config import Config
from running import machine
from running.run_folder import RunFolderError


def test_only_files_named_as_snapshots_are_snapshots(tmp_path):
    (tmp_path / "snapshots").mkdir()
    others = (".partial-x.npz", "._000000001.npz", "000000000 (conflicted copy).npz", "1.npz", "000000001.npz.bak")
    for name in (*others, "000000500.npz", "000000003.npz"):
        (tmp_path / "snapshots" / name).touch()
    assert list(runs.snapshots(tmp_path).items()) == [
        (3, runs.snapshot_path(tmp_path, 3)),
        (500, runs.snapshot_path(tmp_path, 500)),
    ]


@pytest.mark.parametrize("content", [b"", b'{"step": 3', b"\x00\x00\x00", b"\xff\xfe", b"step: 3", b"[3]", b"null"])
def test_read_json_of_damaged_names_the_file_and_the_next_step(tmp_path, content):
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"m\.json: damaged .*resume the run"):
        runs.read_json(path)


def test_the_commit_is_that_of_the_codes_own_repository(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    assert machine.commit(inner) is None
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "outer"]):
        subprocess.run([*git, *words], check=True)
    assert machine.commit(inner) is None
    outer = machine.commit(tmp_path)
    assert outer is not None
    assert len(outer) == 12
    subprocess.run([*git, "tag", "-a", "-m", "a tag", "with-dirty"], check=True)
    assert machine.commit(tmp_path) == outer, "a tag can be moved"


def test_the_commit_does_not_depend_on_gits_own_environment(tmp_path, monkeypatch):
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a").write_text("a")
    for words in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *words], check=True)
    clean = machine.commit(tmp_path)
    for name in ("GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_DIR"):  # as in a hook of another repository
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert machine.commit(tmp_path) == clean


def test_a_folder_with_the_name_of_a_runs_file_is_told_before_anything_is_removed(tmp_path):
    (tmp_path / "clusters_test.png").mkdir()
    (tmp_path / "features_test.npz").touch()
    assert "clusters_test.png" in runs.missing(tmp_path, Config())
    with pytest.raises(RunFolderError, match=r"clusters_test.png: a folder, where a file of the run belongs; move it"):
        runs.make_ready(tmp_path, Config(), 0)
    assert (tmp_path / "features_test.npz").exists()


def test_what_cannot_be_read_of_the_machine_is_none(monkeypatch):
    assert machine.version("no-such-package") is None
    assert machine.cpu("no such field") is None
    monkeypatch.setattr(machine, "Path", lambda path: runs.Path("/nowhere") / "cpuinfo")
    assert machine.cpu("flags") is None
    monkeypatch.setenv("PATH", "")
    assert machine.commit(runs.Path(runs.__file__).parent) is None
