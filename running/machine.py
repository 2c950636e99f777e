"""What this machine and this code are: the processor, installed versions, the commit. None where it can't be read."""

import os
import subprocess
from importlib import metadata
from pathlib import Path


def cpu(field: str) -> str | None:
    """A line of the first processor in /proc/cpuinfo (Linux): `model name`, or `flags`, separated by spaces."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next(
        (text.strip() for name, _, text in (line.partition(":") for line in lines) if name.strip() == field), None
    )


def version(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit(folder: Path) -> str | None:
    """The commit that is checked out in `folder`, with `-dirty` if files differ; not that of a repository around it."""
    git = ["git", f"--git-dir={folder / '.git'}", f"--work-tree={folder}"]
    try:
        described = subprocess.run(
            [*git, "describe", "--always", "--exclude=*", "--dirty", "--abbrev=12"],  # no tag: it can be moved
            cwd=folder, capture_output=True, text=True, timeout=10, check=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
