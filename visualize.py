"""Draws the features of finished runs from their folders alone: `python visualize.py outputs/<run> [more runs ...]`.

One run gives a figure for each split; several give a panel figure for each split, one subplot a run. With --animate a
run's snapshots become animation.gif, the first test images over its training.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jsonargparse
import numpy as np

from config import Config, load
from mnist_data import CLASS_NAMES
from pictures import animation, clusters
from running.run_folder import RunFolderError, write_bytes
from running.streams import outlive_readers

SPLITS = ("train", "test")
# The pictures that are written to a run's folder.
PICTURES = (
    *(f"clusters_{split}.{end}" for split in SPLITS for end in ("png", "pdf", "svg")),
    "animation.gif",
)
DATASET_TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "digits": "digits (8×8, not MNIST)"}


def draw_run(
    run_folder: Path,
    *,
    splits: Sequence[str] = ("train", "test"),
    common_scale: bool = False,
    limits: clusters.Limits | None = None,
    format: str = "png",
    out: Path | None = None,
) -> list[Path]:
    """Writes `clusters_<split>.<format>` for each split of one run.

    Args:
        run_folder: holds config.yaml and features_<split>.npz.
        splits: of "train" and "test".
        common_scale: the same limits for all splits.
        limits: x0, x1, y0, y1 in feature units, instead of those that show all points.
        format: "png", "pdf" or "svg".
        out: folder for the figures, made if missing; None is the run folder.

    Returns:
        The files written, in the order of `splits`.

    Raises:
        RunFolderError: if a file of the run is missing or damaged; the message names it and the next step.
        ValueError: if `limits` are not finite or not ascending.
    """
    return _draw([run_folder], "clusters", splits, common_scale, limits, format, out or run_folder)


def draw_panels(
    run_folders: Sequence[Path], *, splits: Sequence[str] = ("train", "test"), common_scale: bool = False,
    limits: clusters.Limits | None = None, format: str = "png", out: Path = Path("outputs"),
) -> list[Path]:  # fmt: skip
    """Writes `panel_<split>.<format>` for each split, one subplot a run in the given order; else as `draw_run`."""
    return _draw(run_folders, "panel", splits, common_scale, limits, format, out)


def _draw(run_folders, stem, splits, common_scale, limits, format, out) -> list[Path]:
    """Reads and draws everything before it writes anything."""
    names = [run.resolve().name for run in run_folders]
    panels = {split: told_apart([read_panel(run, split) for run in run_folders], names) for split in splits}
    if common_scale and limits is None:
        limits = clusters.limits_of([panel for row in panels.values() for panel in row])
    drawn = [clusters.encoded(clusters.figure(row, limits=limits), format) for row in panels.values()]
    paths = [out / f"{stem}_{split}.{format}" for split in splits]
    out.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, drawn, strict=True):
        write_bytes(path, content)
    return paths


def draw_animation(run_folder: Path, *, out: Path | None = None) -> list[Path]:
    """Writes `animation.gif`, one run's snapshots in motion, to `out` or the run folder; raises as `read_snapshots`."""
    path = (out or run_folder) / "animation.gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, animation.gif(read_snapshots(run_folder)))
    return [path]


def snapshots(run_folder: Path) -> list[Path]:
    """The files of a run's snapshots in the order of training. Whatever else lies in that folder is not ours."""
    paths = (run_folder / "snapshots").glob("*.npz")
    return sorted(path for path in paths if re.fullmatch(r"[0-9]{9}\.npz", path.name))


def read_snapshots(run_folder: Path) -> list[clusters.Panel]:
    """A run's snapshots in the order of training, titled as by `read_panel`, with the accuracy on their images.

    Raises:
        RunFolderError: if there is none, or a file is missing or damaged; the message names it and the next step.
    """
    config = _read_settings(run_folder)
    paths = snapshots(run_folder)
    if not paths:
        raise RunFolderError(f"{run_folder}: no snapshots; train a run with snapshot_steps left at its default")
    return [read_features(path, config, ", {:,} test images", "delete it to animate the others") for path in paths]


def read_panel(run_folder: Path, split: str) -> clusters.Panel:
    """One split of a run as it is drawn.

    Raises:
        RunFolderError: if a file is missing or damaged; the message names it and the next step.
    """
    config = _read_settings(run_folder)
    path = run_folder / f"features_{split}.npz"
    resume = f"python train_mnist.py --resume {shlex.quote(str(run_folder))}"
    if not path.exists():
        raise RunFolderError(f"{path}: missing, so the run has not finished; go on with it: {resume}")
    return read_features(path, config, f" {split}", f"delete metrics.json there and have it written again: {resume}")


def read_features(path: Path, config: Config, shown: str, advice: str) -> clusters.Panel:
    """A file of features, checked, and titled with what tells runs apart: data, lambda, step, seed, accuracy.

    Args:
        path: npz with `features`, `labels`, `predictions`, `centers` and `step`.
        config: of its run.
        shown: follows the name of the data set in the title; may hold a format for the number of images.
        advice: what to do if the file is damaged.

    Raises:
        RunFolderError: if it is missing or damaged.
    """
    # Whatever a damaged file makes the zip and NumPy readers raise, it is the file that is at fault.
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels, predictions, centers = (arrays[name] for name in ("labels", "predictions", "centers"))
            features, step = arrays["features"].astype(np.float32), int(arrays["step"])  # an export has float16
        if predictions.shape != labels.shape:
            raise ValueError(f"predictions: expected shape {labels.shape} as the labels, got {predictions.shape}")
        weight, accuracy = config.center_loss_weight, np.mean(predictions == labels)
        head = f"λ = {weight:g} (λ$_\\mathrm{{eff}}$ = {config.lambda_eff:g})" if weight else "softmax"
        title = (
            f"{DATASET_TITLES[config.dataset]}{shown.format(len(labels))} · {head}\n"
            f"step {step:,} · seed {config.seed} · accuracy {accuracy:.2%}"
        )
        panel = clusters.Panel(features, labels, centers, CLASS_NAMES[config.dataset], title)
        clusters.check(panel)
    except Exception as error:
        state = "damaged" if path.exists() else "missing"
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunFolderError(f"{path}: {state} ({reason}); {advice}") from error
    return panel


def _read_settings(run_folder: Path) -> Config:
    if not run_folder.is_dir():
        raise RunFolderError(f"{run_folder}: no such run folder; see the folders in {run_folder.parent}/")
    path = run_folder / "config.yaml"
    if not path.is_file():
        raise RunFolderError(f"{path}: missing; is {run_folder} a run folder of train_mnist.py?")
    try:
        return load(path)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise RunFolderError(f"{reason}; draw another run, or train this one anew") from error


def told_apart(panels: Sequence[clusters.Panel], names: Sequence[str]) -> list[clusters.Panel]:
    """The panels, with its run's name under each title whose first line another has too."""
    heads = [panel.title.split("\n")[0] for panel in panels]
    return [
        # A title is read as mathtext.
        panel._replace(title="\n".join([panel.title, name.replace("$", r"\$")])) if heads.count(head) > 1 else panel
        for panel, head, name in zip(panels, heads, names, strict=True)
    ]


def main(arguments: list[str] | None = None) -> None:
    """The command line; exits with code 2 for a bad setting, file or folder."""
    parser = jsonargparse.ArgumentParser(prog="visualize.py", description=__doc__)
    parser.add_argument("runs", nargs="+", type=str, help="run folders")
    parser.add_argument("--split", type=Literal["train", "test", "both"], default="both", help="which images")
    parser.add_argument("--common_scale", type=bool, default=False, help="the same limits in all figures and subplots")
    parser.add_argument("--limits", nargs=4, type=float, metavar=("X0", "X1", "Y0", "Y1"), help="limits of all axes")
    parser.add_argument("--format", type=Literal["png", "pdf", "svg"], default="png", help="of the files")
    parser.add_argument(
        "--out", type=str, help="folder for the files; default: the run's own, outputs for several runs"
    )
    parser.add_argument("--animate", action="store_true", help="only animation.gif, of one run; ignores all but --out")
    options = parser.parse_args(arguments)

    runs = [Path(run) for run in options.runs]
    settings = {
        "splits": ("train", "test") if options.split == "both" else (options.split,),
        "common_scale": options.common_scale,
        "limits": options.limits and tuple(options.limits),
        "format": options.format,
        **({"out": Path(options.out)} if options.out else {}),
    }
    try:
        if options.animate and len(runs) > 1:
            raise ValueError(f"--animate: expected one run, got {len(runs)}; animate one after the other")
        if options.animate:
            written = draw_animation(runs[0], out=options.out and Path(options.out))
        else:
            written = draw_run(runs[0], **settings) if len(runs) == 1 else draw_panels(runs, **settings)
    except (RunFolderError, ValueError, OSError) as error:
        advice = "; choose another folder with --out" if isinstance(error, OSError) else ""
        print(f"visualize.py: {error}{advice}", file=sys.stderr)
        sys.exit(2)
    print(*written, sep="\n")


if __name__ == "__main__":
    outlive_readers()
    main()
