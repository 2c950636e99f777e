"""A run's folder: its making and lock, and files that are there whole or not at all."""

import csv
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

MARKER = ".run"  # in every folder made here: the lock, with its holder's process id


class RunFolderError(Exception):
    """The folder can't be used. The message names it and says what to do."""


class InUseError(RunFolderError):
    """Another process holds the folder. Trying again later may help."""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Adds `path` to an OSError that has none, as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` and renames it to `path` at the end; on an error nothing stays.

    Whoever reads `path` finds the old file or the new one, whatever moment the process dies at.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        with _naming(path):
            yield temporary
            with suppress(OSError):  # some file systems know no modes
                temporary.chmod(0o644)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content`, whole."""
    with write_whole(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON, whole; a NaN or an infinity, which JSON does not have, becomes null."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    write_text(path, json.dumps(finite, indent=2) + "\n")


def create(folder: Path, *, overwrite: bool) -> None:
    """Makes an empty run folder.

    Args:
        folder: where; its parents are made too.
        overwrite: remove an earlier run that stands there.

    Raises:
        RunFolderError: if something stands there and `overwrite` is off, if it is no run of this program (no
            marker in it) or a link, or if it is in use.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite:
            raise RunFolderError(f"{folder}: already exists; go on with it, replace it, or choose another name")
        if not (folder / MARKER).is_file():
            raise RunFolderError(
                f"{folder}: not a run folder of this program (no {MARKER} in it), so it is not removed"
            )
        if folder.is_symlink():
            raise RunFolderError(f"{folder}: a link, so what it leads to is not removed; name that folder itself")
        with locked(folder):
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run folder for this process; the kernel lets go of it when the process dies, however it dies.

    Raises:
        RunFolderError: if it is no run folder.
        InUseError: if another process holds it, whose id the message gives.
    """
    if not (folder / MARKER).is_file():
        raise RunFolderError(f"{folder}: no run here (no {MARKER} in it); see the folders in {folder.parent}/")
    with (folder / MARKER).open("r+", encoding="utf-8") as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(
                f"{folder}: in use by process {marker.read().strip() or '(unknown)'}; wait for it, or stop it first"
            ) from None
        except OSError as error:
            raise RunFolderError(
                f"{folder}: its file system gives no lock ({error.strerror}); use a folder on another one, "
                "or move the run to one"
            ) from error
        marker.truncate(0)
        marker.write(f"{os.getpid()}\n")
        marker.flush()
        yield


class TableFile:
    """A CSV file that grows row by row. Each row has a `step`, and is in the file as soon as `append` returns.

    Args:
        path: the file; made with its first row.
        keep_to: rows of a later step are dropped, and a torn last row: what a resumed run writes again.

    Attributes:
        last_step: of the last row; -1 where there is none.

    Raises:
        RunFolderError: if the file is not such a table.
    """

    def __init__(self, path: Path, *, keep_to: int) -> None:
        self.path, self.last_step = path, -1
        if path.exists():
            try:
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                whole = [line for line in lines if line.endswith("\n")]
                rows = {line: step for line in whole[1:] if (step := int(line.split(",")[0])) <= keep_to}
            except ValueError as error:
                raise RunFolderError(f"{path}: damaged, a row does not start with its step ({error})") from None
            self.last_step = max(rows.values(), default=-1)
            write_text(path, "".join([*whole[:1], *rows]))

    def append(self, row: Mapping[str, object]) -> None:
        """Adds a row; the first one also writes the header. Floats are written so that they read back exactly."""
        with _naming(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
            self.last_step = row["step"]
            file.flush()


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column name, as it is at one moment; none where there is no file yet."""
    if not path.exists():
        return []
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
