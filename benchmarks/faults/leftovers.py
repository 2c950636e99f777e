"""What a training left in its folder."""

import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks.faults.campaign import require
from benchmarks.faults.trainings import at, finish
from config import Config
from running.checkpoints import newest_whole
from running.run_folder import read_table
from runs import missing, snapshots


def steps_done(run: Path) -> int:
    """By metrics.csv, which gets a row a step here."""
    rows = read_table(run / "metrics.csv")
    return int(rows[-1]["step"]) if rows else 0


def phase_of(run: Path, last_step: int) -> str:
    """What a run is at, or was at when it died, by its folder alone."""
    if not (run / "metrics.csv").exists():
        return "start"
    if any((run / "snapshots").glob(".partial-*")):
        return "snapshot"
    if (run / "features_test.npz").exists():
        return "drawing" if missing(run, Config()) else "finished"
    names = [path.name for path in (run / "checkpoints").iterdir()]
    index, data = ({int(name[11:].split(".")[0]) for name in names if part in name} for part in (".index", ".data-"))
    newest, state = max(index | data, default=0), run / "checkpoints" / "checkpoint"
    told = state.exists() and f'/model.ckpt-{newest}"' in state.read_text(encoding="utf-8")
    if "temp" in "".join(names) or index != data or not told:
        return "checkpointing"
    return "extraction" if newest == last_step else "training"


def tensors(prefix: str) -> dict[str, np.ndarray]:
    """All of a checkpoint."""
    reader = tf.train.NewCheckpointReader(prefix)
    return {name: np.array(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}


def contents(run: Path) -> dict[str, object]:
    """What two runs of the same settings must have in common, to the bit."""
    saved = tensors(newest_whole(run / "checkpoints").path)
    seen = {f"tensor {name}": value.tobytes() for name, value in saved.items()}
    seen |= {name: (run / name).read_bytes() for name in ("metrics.csv", "validation.csv")}
    for path in (*run.glob("features_*.npz"), *snapshots(run).values()):
        with np.load(path) as arrays:
            seen |= {f"{path.name} {key}": arrays[key].tobytes() for key in arrays}
    measured = json.loads((run / "metrics.json").read_text(encoding="utf-8")).items()
    seen |= {f"metrics.json {key}": value for key, value in measured if key not in ("seconds_per_step", "commit")}
    return seen | dict.fromkeys((path.name for path in run.glob("*.png")), True)


@functools.cache
def left_alone(words: str, folder: Path) -> dict[str, object]:
    """The `contents` of a run with which nothing is done, made once in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        finish(words, *at(Path(place) / "run"))
        return contents(Path(place) / "run")


def require_as_left_alone(run: Path, words: str, folder: Path) -> None:
    """`folder` is the try's own; the run to compare with is made beside it."""
    seen, expected = contents(run), left_alone(words, folder.parent)
    different = sorted(name for name in seen.keys() | expected.keys() if seen.get(name) != expected.get(name))
    require(not different, f"{len(different)} of {len(expected)} differ: {', '.join(different[:5])}")
