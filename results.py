"""What finished runs of a preset amount to: tables, panels, and an export small enough for a repository.

A table has a row a run, and the mean and standard deviation over seeds. A panel has a subplot a config, of the seed
with the median accuracy. That of the test images has a second row at one scale, if it has two to five subplots whose
scales differ by more than a factor of two. Both are made from `Run` records, read from run folders or from an export
alike, so that an export redraws itself without its run folders. No TensorFlow.
"""

import csv
import dataclasses
import io
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

import run_panels
from config import NOT_COMPARED, Config, names, to_yaml
from pictures import clusters, sensitivity
from running.run_folder import write_bytes, write_json
from runs import Features, Run, read_export, read_features, write_features

# What a run was asked for, and what was measured in it: column → format. Settings that vary have a column, too.
SETTINGS = {"lambda": "g", "lambda_eff": "g", "dataset": "", "steps": ",", "training_images": ",", "precision": ""}
MEASURES = {
    "accuracy": ".2%", "accuracy_nearest_center": ".2%", "intra": ".4g", "inter_smallest": ".4g",
    "inter_over_intra": ".4g", "silhouette": ".3f", "largest_coordinate": ".4g", "seconds": ",.0f",
}  # fmt: skip
OF_UNKNOWN = {"auroc_distance": ".4f", "auroc_softmax": ".4f"}  # where runs have unknown classes
SHOWN = ("accuracy", "accuracy_nearest_center", "inter_over_intra", "auroc_distance", "auroc_softmax")  # of a sweep
MADE_BY = ("commit", "cpu", "tensorflow")  # of metrics.json


def columns(runs: Sequence[Run]) -> dict[str, str]:
    """The columns of a table of `runs`, with their formats; those of OF_UNKNOWN where a run has them."""
    unknown = OF_UNKNOWN if any("unknown" in run.metrics for run in runs) else {}
    return SETTINGS | dict.fromkeys(varied(runs), "") | MEASURES | unknown


def varied(runs: Sequence[Run]) -> list[str]:
    """The settings in which `runs` differ, but for those that have a column anyway."""
    said = names(NOT_COMPARED) | {"center_loss_weight", "dataset", "steps", "precision", "validation_fraction"}
    fields = [field.name for field in dataclasses.fields(Config) if field.name not in said]
    return [name for name in fields if len({getattr(run.config, name) for run in runs}) > 1]


def row(run: Run, wanted: Iterable[str]) -> dict[str, object]:
    """A finished run's values of the `wanted` columns; None where metrics.json has none. Accuracies are in 0..1.

    All are of all test images.
    """
    step, rate = run.metrics["step"], run.metrics["seconds_per_step"]
    values = dataclasses.asdict(run.config) | run.metrics["test"] | run.metrics.get("unknown", {})
    values |= {
        "lambda": run.config.center_loss_weight,
        "lambda_eff": run.config.lambda_eff,
        "steps": step,
        "training_images": run.metrics["train"]["images"],
        "seconds": None if rate is None else round(rate * step, 1),
    }
    return {name: str(list(v)) if isinstance(v := values.get(name), tuple) else v for name in wanted}


def over_seeds(rows: Sequence[dict[str, object]]) -> tuple[dict[str, object], dict[str, object]]:
    """Mean and standard deviation (n − 1) of the measured columns; None where a run has no value, or n is 1.

    The columns that were asked for stay as they are in the mean; where the runs differ, all values, joined.
    """
    mean, deviation = {}, dict.fromkeys(rows[0])
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in MEASURES | OF_UNKNOWN:
            known = None not in values
            mean[name] = statistics.fmean(values) if known else None
            deviation[name] = statistics.stdev(values) if known and len(values) > 1 else None
        else:
            distinct = list(dict.fromkeys(values))
            mean[name] = distinct[0] if len(distinct) == 1 else " and ".join(map(str, distinct))
    return mean, deviation


def table_csv(runs: Sequence[Run]) -> str:
    """A row a run, in full precision; then, for each config with several seeds, rows `mean` and `deviation`."""
    text = io.StringIO()
    head = columns(runs)
    writer = csv.DictWriter(text, ["config", "seed", *head, *MADE_BY], lineterminator="\n")
    writer.writeheader()
    for run in runs:
        made_by = {name: run.metrics[name] for name in MADE_BY}
        writer.writerow({"config": run.name, "seed": run.config.seed} | row(run, head) | made_by)
    for name, seeds in _by_config(runs).items():
        rows = [row(run, head) for run in seeds]
        if len(rows) > 1:
            for seed, values in zip(("mean", "deviation"), over_seeds(rows), strict=True):
                writer.writerow({"config": name, "seed": seed} | values)
    return text.getvalue()


def table_markdown(title: str, runs: Sequence[Run]) -> str:
    """The same for readers: first a row a config over its seeds, if any has several, then a row a run."""
    which = ", of the known classes, at" if any("unknown" in run.metrics for run in runs) else ", at"
    lines = [
        f"# Results: {title}",
        "",
        f"All test images{which} the last step. `accuracy` is by softmax, `accuracy_nearest_center` by nearest learned "
        "center; `intra` is the mean distance of a feature to the mean of its class, `inter_smallest` the smallest "
        "between two class means; `seconds` are of the training alone. The panel of the test images "
        "shows, of each config, the seed with the median accuracy (of two middle ones the lower).",
    ]
    head = columns(runs)
    configs = {name: [row(run, head) for run in seeds] for name, seeds in _by_config(runs).items()}
    if any(len(rows) > 1 for rows in configs.values()):
        lines += ["", "## Over seeds: mean ± standard deviation (n − 1)", "", *_head(["config", "seeds", *head])]
        for name, rows in configs.items():
            mean, deviation = over_seeds(rows)
            spreads = [f" ± {_cell(deviation[c], of)}" if deviation[c] is not None else "" for c, of in head.items()]
            cells = [_cell(mean[c], of) + spread for (c, of), spread in zip(head.items(), spreads, strict=True)]
            lines.append(_line([name, str(len(rows)), *cells]))
    lines += ["", "## Runs", "", *_head(["config", "seed", *head])]
    for run in runs:
        values = row(run, head)
        lines.append(_line([run.name, str(run.config.seed), *(_cell(values[c], of) for c, of in head.items())]))
    lines += ["", "## Made by", "", *_head(["runs", "commit", "processor", "TensorFlow"])]
    makers: dict[tuple, list[str]] = {}
    for run in runs:
        commit, *others = (str(run.metrics[name] or "not recorded") for name in MADE_BY)
        if commit.endswith("-dirty"):
            commit = f"{commit.removesuffix('-dirty')}, with changes that were not committed"
        makers.setdefault((commit, *others), []).append(f"{run.name} seed {run.config.seed}")
    lines += [_line([", ".join(names), *maker]) for maker, names in makers.items()]
    return "\n".join(lines) + "\n"


def _by_config(runs: Sequence[Run]) -> dict[str, list[Run]]:
    seeds: dict[str, list[Run]] = {}
    for run in runs:
        seeds.setdefault(run.name, []).append(run)
    return seeds


def _cell(value: object, format_: str) -> str:
    return "" if value is None else value if isinstance(value, str) else format(value, format_)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(columns: list[str]) -> list[str]:
    return [_line(columns), _line(["---"] * len(columns))]


def median_seeds(runs: Sequence[Run]) -> list[Run]:
    """Of each config the run with the median test accuracy by softmax, of two middle ones the lower; in order."""
    ranked = (sorted(seeds, key=lambda run: run.metrics["test"]["accuracy"]) for seeds in _by_config(runs).values())
    return [seeds[(len(seeds) - 1) // 2] for seeds in ranked]


def write(folder: Path, title: str, runs: Sequence[Run], *, common_scale: bool, pictures: bool = True) -> list[Path]:
    """Writes panel_<split>.png for each split that the runs have, results.csv and results.md to `folder`.

    Of a sweep over one or two settings also sensitivity.png. Without `pictures`, only the tables.
    """
    splits = runs[0].features if pictures else ()
    contents = {f"panel_{split}.png": _panel_figure(runs, split, common_scale) for split in splits}
    if pictures and (points := sweep_points(runs)):
        contents["sensitivity.png"] = clusters.encoded(sensitivity.figure(*points), "png")
    contents["results.csv"] = table_csv(runs).encode()
    contents["results.md"] = table_markdown(title, runs).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_bytes(folder / name, content)
    return [folder / name for name in contents]


def sweep_points(runs: Sequence[Run]) -> tuple[dict[str, list], dict[str, np.ndarray]] | None:
    """The values of the one or two settings that a sweep varies, and what was measured at each.

    Returns:
        By setting its values, as they are written in the runs' names, in the order of `runs`; by measure an array
        [values of the first setting, of the second, seeds], NaN where there is no run. None if `runs` are of no sweep,
        or of one of more settings.
    """
    points = [dict(part.partition("=")[::2] for part in run.name.split("+")) for run in runs]
    settings = list(points[0])
    fields = {field.name for field in dataclasses.fields(Config)}
    alike = all(list(point) == settings and all(point.values()) for point in points)  # a config's name has no values
    if not set(settings) <= fields or len(settings) > 2 or not alike:
        return None
    axes = {name: sorted({point[name] for point in points}, key=_in_order) for name in settings}
    seeds = sorted({run.config.seed for run in runs})
    shown = [name for name in SHOWN if name in columns(runs)]
    grids = {name: np.full([*(len(axis) for axis in axes.values()), len(seeds)], np.nan) for name in shown}
    for run, point in zip(runs, points, strict=True):
        at = (*(axes[name].index(point[name]) for name in settings), seeds.index(run.config.seed))
        for name, value in row(run, shown).items():
            grids[name][at] = np.nan if value is None else value
    return axes, grids


def _in_order(value: str) -> tuple[float, str]:
    """Numbers first, ascending, then words."""
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _panel_figure(runs: Sequence[Run], split: str, common_scale: bool) -> bytes:
    shown = median_seeds(runs)
    panels = run_panels.with_run_names([_panel(run, split) for run in shown], [run.name for run in shown])
    limits = clusters.limits_of(panels) if common_scale else None
    reaches = [x1 - x0 for x0, x1, _, _ in (clusters.limits_of([panel]) for panel in panels)]
    apart = limits is None and max(reaches) > 2 * min(reaches) and len(panels) <= clusters.MOST_IN_A_ROW
    figure = clusters.figure(panels, limits=limits, second_row=apart)
    most = max(len(panel.class_names) for panel in panels)
    return clusters.encoded(figure, "png", small=True, num_classes=most)


def _panel(run: Run, split: str) -> clusters.Panel:
    return run_panels.panel(run.features[split], run.config, f" {split}", "remove its run and have it made anew")


def export(runs: Sequence[Run], folder: Path, *, common_scale: bool) -> list[Path]:
    """Writes `folder`/<config>/seed_<n>.npz of each run with .config.yaml, .metrics.json and .validation.csv beside it.

    Then panels and tables of all runs in `folder`. panel_test and the tables come from the files of the export alone.
    panel_train.png needs the runs themselves: it stays as it is if `runs` lacks one that it would show.
    """
    for run in runs:
        path = folder / run.name / f"seed_{run.config.seed}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Where this machine has its data and outputs tells nobody anything.
        config = dataclasses.replace(run.config, data_dir="data", output_dir="outputs")
        source, place = run.metrics["data_source"], os.path.expanduser(Path(run.config.data_dir))  # noqa: PTH111 - as mnist_data
        source = "data" + source.removeprefix(place) if source.startswith(place) else source
        write_bytes(path.with_suffix(".config.yaml"), to_yaml(config).encode())
        write_json(path.with_suffix(".metrics.json"), run.metrics | {"data_source": source})
        validation = run.path / "validation.csv"
        if validation.is_file():  # a run without a validation split has none
            write_bytes(path.with_suffix(".validation.csv"), validation.read_bytes())
        write_features(path, _packed(run))
    exported = read_export(folder)
    written = write(folder, folder.name, exported, common_scale=common_scale)
    at_hand = {(run.name, run.config.seed): run for run in runs}
    shown = [at_hand.get((run.name, run.config.seed)) for run in median_seeds(exported)]
    if None not in shown:
        write_bytes(folder / "panel_train.png", _panel_figure(shown, "train", common_scale))
        written = [folder / "panel_train.png", *written]
    return written


def _packed(run: Run) -> Features:
    """The test images in file order, features as float16."""
    view = read_features(run.features["test"])
    small = np.min_scalar_type(len(view.centers) - 1)
    labels, predictions = view.labels.astype(small), view.predictions.astype(small)
    return Features(view.features.astype(np.float16), labels, predictions, view.centers, view.step, *view[5:7])
