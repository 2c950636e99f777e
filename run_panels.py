"""What is drawn of a run: its files of features, each as a panel of a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import runs
from config import Config
from mnist_data import CLASS_NAMES
from pictures import clusters
from running.run_folder import RunFolderError

DATASET_TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "digits": "digits (8×8, not MNIST)"}


def run_panel(run_folder: Path, split: str) -> clusters.Panel:
    """One split of a run as it is drawn.

    Raises:
        RunFolderError: if the run has not finished, or a file of it is damaged.
    """
    config = runs.read_settings(run_folder)
    path, resume = runs.features_path(run_folder, split), runs.resume_command(run_folder)
    if not path.exists():
        raise RunFolderError(f"{path}: missing, so the run has not finished; go on with it: {resume}")
    advice = f"delete it, and have it written again: {resume}"
    shown = panel(path, config, f" {split}", advice)
    unknown = runs.features_path(run_folder, "unknown")
    if split != "test" or not unknown.exists():
        return shown
    plane = plane_of(runs.read_features(path).features)
    with runs.reading(unknown, advice):
        return shown._replace(unknown=in_the_plane(runs.read_features(unknown).features, plane))


def plane_of(features: np.ndarray):
    """The first two principal components of the features [N, D] (scikit-learn's PCA), or None where D is 2."""
    if features.shape[1] <= 2:
        return None
    from sklearn.decomposition import PCA  # here, since scikit-learn takes a second to import

    return PCA(2, random_state=0).fit(features)


def in_the_plane(points: np.ndarray, plane) -> np.ndarray:
    """[N, D] points as [N, 2], in the plane of `plane_of`."""
    return points if plane is None else plane.transform(points)


def panel(path: Path, config: Config, shown: str, advice: str, plane=None) -> clusters.Panel:
    """A file of features, checked, and titled with what tells runs apart: data, lambda, step, seed, accuracy.

    Args:
        path: of the file.
        config: of its run.
        shown: follows the name of the data set in the title; may hold a format for the number of images.
        advice: what to do if the file is damaged.
        plane: what `plane_of` gave for other features; None: the file's own.

    Raises:
        RunFolderError: if it is missing or damaged.
    """
    with runs.reading(path, advice):
        view = runs.read_features(path)
        plane = plane or plane_of(view.features)
        weight, accuracy = config.center_loss_weight, np.mean(view.predictions == view.labels)
        head = f"λ = {weight:g} (λ$_\\mathrm{{eff}}$ = {config.lambda_eff:g})" if weight else "softmax"
        data = DATASET_TITLES.get(config.dataset, config.dataset.replace("$", r"\$"))
        title = (
            f"{data}{shown.format(len(view.labels))} · {head}\n"
            f"step {view.step:,} · seed {config.seed} · accuracy {accuracy:.2%}"
        )
        if plane is not None:
            share = plane.explained_variance_ratio_.sum()
            title += f"\n2 of {view.features.shape[1]} components: {share:.0%} of the variance"
        names = view.class_names or CLASS_NAMES[config.dataset]
        points, centers = in_the_plane(view.features, plane), in_the_plane(view.centers, plane)
        axis = "feature" if plane is None else "principal component"
        checked = clusters.Panel(points, view.labels, centers, names, title, axis=axis)
        clusters.check(checked)
    return checked


def with_run_names(panels: Sequence[clusters.Panel], names: Sequence[str]) -> list[clusters.Panel]:
    """The panels, with its run's name under each title whose first line another has too."""
    heads = [panel.title.split("\n")[0] for panel in panels]
    return [
        # A title is read as mathtext.
        panel._replace(title="\n".join([panel.title, name.replace("$", r"\$")])) if heads.count(head) > 1 else panel
        for panel, head, name in zip(panels, heads, names, strict=True)
    ]


def snapshot_panels(run_folder: Path) -> list[clusters.Panel]:
    """A run's snapshots in the order of training, all in the plane of the last.

    Raises:
        RunFolderError: if there are none, or one is damaged.
    """
    config, paths = runs.read_settings(run_folder), list(runs.snapshots(run_folder).values())
    if not paths:
        raise RunFolderError(f"{run_folder}: no snapshots; train a run with snapshot_steps left at its default")
    advice = "delete it to animate the others"
    with runs.reading(paths[-1], advice):
        plane = plane_of(runs.read_features(paths[-1]).features)
    return [panel(path, config, ", {:,} test images", advice, plane) for path in paths]
