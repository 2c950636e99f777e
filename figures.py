"""Pictures of runs, drawn from the files of their folders: cluster plots, one subplot a run or several, animations."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import metrics
import run_panels
import runs
from mnist_data import load
from pictures import animation, clusters, diagnostics
from running.run_folder import read_table, write_bytes
from splits import Dataset, Splits, divide, fingerprint


def draw(
    run_folders: Sequence[Path],
    *,
    splits: Sequence[str] = runs.SPLITS,
    common_scale: bool = False,
    limits: clusters.Limits | None = None,
    format: str = "png",
    out: Path | None = None,
) -> list[Path]:
    """Writes `clusters_<split>.<format>` of one run, or `panel_<split>.<format>` of several, one subplot a run.

    Everything is read and drawn before anything is written.

    Args:
        run_folders: hold config.yaml and features_<split>.npz.
        splits: of "train" and "test".
        common_scale: the same limits for all splits and runs.
        limits: x0, x1, y0, y1 in feature units, instead of those that show all points.
        format: "png", "pdf" or "svg".
        out: folder for the figures, made if missing; None is the run's own, or outputs for several.

    Returns:
        The files written, in the order of `splits`.

    Raises:
        RunFolderError: if a file of a run is missing or damaged; the message names it and the next step.
        ValueError: if `limits` are not finite or not ascending.
    """
    several = len(run_folders) > 1
    out = out or (Path("outputs") if several else run_folders[0])
    names = [folder.resolve().name for folder in run_folders]
    panels = {
        split: run_panels.with_run_names([run_panels.run_panel(folder, split) for folder in run_folders], names)
        for split in splits
    }
    if common_scale and limits is None:
        limits = clusters.limits_of([panel for row in panels.values() for panel in row])
    drawn = [clusters.encoded(clusters.figure(row, limits=limits), format) for row in panels.values()]
    paths = [out / f"{'panel' if several else 'clusters'}_{split}.{format}" for split in splits]
    out.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, drawn, strict=True):
        write_bytes(path, content)
    return paths


def diagnose(run_folder: Path, what: str, split: str, *, format: str = "png", out: Path | None = None) -> list[Path]:
    """Writes one picture of a run: `<what>_<split>.<format>`, or `curves.<format>`.

    Args:
        run_folder: as for `draw`.
        what: "regions", "confusion", "distances" or "curves".
        split: of the first three, "train" or "test".
        format: "png", "pdf" or "svg".
        out: folder for the picture; None is the run's own.

    Raises:
        RunFolderError: as `draw`.
        ValueError: if regions are asked for of features that are wider than 2.
    """
    panel = run_panels.run_panel(run_folder, split)
    view = runs.read_features(runs.features_path(run_folder, split))
    name = f"{what}_{split}"
    if what == "regions":
        if view.features.shape[1] > 2:
            raise ValueError(f"regions: {run_folder} has {view.features.shape[1]} features; regions are drawn of 2")
        classifier, wrong = (view.classifier_weights, view.classifier_bias), view.predictions != view.labels
        drawn = clusters.figure([panel._replace(classifier=classifier, wrong=wrong)])
    elif what == "confusion":
        counts = metrics.split_metrics(*view[:4])["confusion"].toarray()
        drawn = diagnostics.confusion(counts, panel.class_names, panel.title)
    elif what == "distances":
        drawn = diagnostics.distances(
            *metrics.own_and_other(view.features, view.labels, view.centers),
            view.labels, panel.class_names, panel.title,
        )  # fmt: skip
    else:
        name = what
        tables = [columns(run_folder / f"{table}.csv") for table in ("metrics", "validation")]
        drawn = diagnostics.curves(*tables, panel.title)
    return [_written(drawn, out or run_folder, f"{name}.{format}")]


def columns(table: Path) -> dict[str, np.ndarray]:
    """The columns of a run's table; none if there is no such file."""
    rows = read_table(table) if table.is_file() else []
    return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else ())}


def outliers(run_folder: Path, count: int, data_dir: str | None = None, *, out: Path | None = None) -> list[Path]:
    """Writes outliers.png and outliers.csv: the test images that lie farthest on the side of another center.

    The first is the one whose distance to its own center exceeds that to the nearest other center the most.

    Args, raises: as `explore`; `count` images, or all if there are fewer.
    """
    panel, splits, _ = _with_images(run_folder, data_dir)
    view = runs.read_features(runs.features_path(run_folder, "test"))
    own, other = metrics.own_and_other(view.features, view.labels, view.centers)
    worst = np.argsort(other - own, kind="stable")[:count]
    names, predicted = view.class_names or panel.class_names, view.predictions
    rows = [
        {"image": view.index[i], "label": names[view.labels[i]], "prediction": names[predicted[i]],
         "own_distance": f"{own[i]:.6g}", "other_distance": f"{other[i]:.6g}"}
        for i in worst
    ]  # fmt: skip
    captions = [
        f"{row['label']}, by softmax {row['prediction']}\n{own[i]:.2f} and {other[i]:.2f}"
        for row, i in zip(rows, worst, strict=True)
    ]
    title = f"{panel.title}\ndistance to the own center and to the nearest other one"
    drawn = diagnostics.captioned(splits.test.images[worst], captions, title)
    target = out or run_folder
    path = _written(drawn, target, "outliers.png")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(target / "outliers.csv", text.getvalue().encode())
    return [path, target / "outliers.csv"]


def _with_images(run_folder: Path, data_dir: str | None) -> tuple[clusters.Panel, Splits, Dataset]:
    """The test panel of a finished run, and the images it was made from; raises as `explore`."""
    config, panel = runs.read_settings(run_folder), run_panels.run_panel(run_folder, "test")
    data = load(config.dataset, data_dir or config.data_dir, transpose=config.transpose_images)
    runs.check_data(run_folder, fingerprint(data), data.source)
    return panel, divide(data, config.validation_fraction, config.split_seed, config.unknown_classes), data


def _written(drawn, folder: Path, name: str) -> Path:
    content = clusters.encoded(drawn, name.rpartition(".")[2])
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / name, content)
    return folder / name


def animate(run_folder: Path, *, out: Path | None = None) -> list[Path]:
    """Writes `animation.gif`, one run's snapshots in motion, to `out` or the run's folder; raises as `draw`."""
    content = animation.gif(run_panels.snapshot_panels(run_folder))
    target = (out or run_folder) / "animation.gif"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, content)
    return [target]


def explore(run_folder: Path, data_dir: str | None = None, *, out: Path | None = None) -> list[Path]:
    """Writes `explorer.html`, a page to look into a run's test features, to `out` or the run's folder.

    Args:
        run_folder: of a finished run.
        data_dir: where its data set is; None: where it was when the run began.
        out: folder for the page.

    Raises:
        RunFolderError: as `draw`, or if the data are not the run's.
        DataError: if the data can't be had.
    """
    from pictures import explorer  # here, since Bokeh takes a second to import

    panel, splits, data = _with_images(run_folder, data_dir)
    view, others = runs.read_features(runs.features_path(run_folder, "test")), []
    for snapshot, shown in zip(
        runs.snapshots(run_folder).values(), run_panels.snapshot_panels(run_folder), strict=True
    ):
        seen = runs.read_features(snapshot)
        if seen.step < view.step:
            others.append(explorer_frame(shown, seen))
    unknown_names, note, index = [], "", view.index
    if panel.unknown is not None:
        more = runs.read_features(runs.features_path(run_folder, "unknown"))
        view = view._replace(
            features=np.concatenate([view.features, more.features]),
            predictions=np.concatenate([view.predictions, more.predictions]),
        )
        index = np.concatenate([index, more.index])
        unknown_names = [data.class_names[j] for j in splits.unknown.labels]
    plane = view.features.shape[1] > 2
    if plane:
        note = "The plane holds the first two principal components. Distances and nearest centers are of all features."
    classifier = None if plane else (view.classifier_weights, view.classifier_bias)
    images = np.concatenate([splits.test.images, splits.unknown.images])
    text = explorer.page([*others, explorer_frame(panel, view)], images, index, unknown_names, classifier, note)
    target = (out or run_folder) / "explorer.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, text.encode())
    return [target]


def explorer_frame(panel: clusters.Panel, view: runs.Features):
    """An `explorer.Frame` of a file of features; images behind the labelled ones are unknown."""
    from pictures import explorer

    panel = panel._replace(title=panel.title.replace(r"$_\mathrm{eff}$", "_eff").replace(r"\$", "$"))  # no mathtext
    own = np.full(len(view.features), np.nan)
    own[: len(view.labels)] = np.linalg.norm(view.features[: len(view.labels)] - view.centers[view.labels], axis=1)
    nearest, distance = metrics.nearest_centers(view.features, view.centers)
    return explorer.Frame(panel, view.predictions, nearest, own, distance)
