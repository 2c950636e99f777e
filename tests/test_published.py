"""What docs/ and the README show is what the exports in docs/results/ hold: tables, and numbers quoted from them."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import metrics
import results
import runs

ROOT = Path(results.__file__).resolve().parent
EXPORTS = sorted(folder for folder in (ROOT / "docs" / "results").iterdir() if (folder / "results.csv").is_file())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
QUOTED = {
    "lambda": "lambda",
    "lambda_eff": "lambda_eff",
    "precision": "precision",
    "softmax": "accuracy",
    "nearest learned center": "accuracy_nearest_center",
    "mean intra": "intra",
    "smallest inter": "inter_smallest",
    "smallest inter / mean intra": "inter_over_intra",
    "silhouette": "silhouette",
    "largest coordinate": "largest_coordinate",
}  # column of a page → column of results.csv


@pytest.mark.parametrize("folder", EXPORTS, ids=lambda folder: folder.name)
def test_an_exports_tables_are_of_its_runs(folder):
    exported = runs.read_export(folder)
    assert (folder / "results.csv").read_text() == results.table_csv(exported)
    assert (folder / "results.md").read_text() == results.table_markdown(folder.name, exported)
    for run in exported:
        with np.load(run.path) as saved:
            features, labels = saved["features"].astype(np.float32), saved["labels"].astype(np.int64)
            again = metrics.split_metrics(features, labels, saved["predictions"], saved["centers"])
        said = run.metrics["test"]
        assert (again["images"], again["confusion"]) == (10_000, said["confusion"])
        assert again["accuracy"] == said["accuracy"]
        # The export's features are rounded to float16, which moves a few over the line between two centers.
        assert again["accuracy_nearest_center"] == pytest.approx(said["accuracy_nearest_center"], abs=1e-3)
        for name in ("intra", "inter_smallest", "inter_over_intra", "largest_coordinate"):
            assert again[name] == pytest.approx(said[name], rel=1e-3)


@pytest.mark.parametrize("folder", EXPORTS, ids=lambda folder: folder.name)
def test_an_exports_panel_is_drawn_from_its_runs(folder, tmp_path):
    results.write(tmp_path, folder.name, runs.read_export(folder), common_scale=False)
    published, again = imread(folder / "panel_test.png"), imread(tmp_path / "panel_test.png")
    assert published.shape == again.shape
    assert np.abs(published - again).mean() < 0.003  # another seed: 0.01; other versions of matplotlib: some letters


def quoted_tables():
    """Every table under a comment `<!-- from: folder of docs/results -->`: its page, the folder, its lines."""
    for page in PAGES:
        for match in re.finditer(r"<!-- from: (\S+) -->\n\n?((?:\|.*\n)+)", page.read_text(encoding="utf-8")):
            yield pytest.param(match[1], match[2].splitlines(), id=f"{page.relative_to(ROOT)}: {match[1]}")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def as_rounded_in(cell: str, values: list[str]) -> str:
    """The `values` with the decimals, the ± and the percent sign of `cell`."""
    numbers, percent = cell.removesuffix(" %").split(" ± "), cell.endswith(" %")
    decimals = [len(number.partition(".")[2]) for number in numbers]
    shown = [f"{float(v) * (100 if percent else 1):.{d}f}" for v, d in zip(values, decimals, strict=True)]
    return " ± ".join(shown) + (" %" if percent else "")


QUOTED_TABLES = list(quoted_tables())


@pytest.mark.parametrize(("name", "lines"), QUOTED_TABLES)
def test_numbers_on_a_page_are_those_of_the_export(name, lines):
    with (ROOT / "docs" / "results" / name / "results.csv").open(encoding="utf-8") as file:
        rows = {(row["config"], row["seed"]): row for row in csv.DictReader(file)}
    head = cells(lines[0])
    for line in lines[2:]:
        said = dict(zip(head, cells(line), strict=True))
        config = re.match(r"`(\w[\w.]*)`", said.pop(head[0]))[1]
        over_seeds = [rows[config, kind] for kind in ("mean", "deviation") if (config, kind) in rows]
        for column, cell in said.items():
            values = [source[QUOTED[column]] for source in over_seeds or [rows[config, "0"]]]
            expected = values[0] if column == "precision" else as_rounded_in(cell, [v for v in values if v])
            assert cell == expected, (config, column)


def test_there_are_tables_to_check():
    assert EXPORTS
    assert len(QUOTED_TABLES) > 1


def test_the_table_of_the_two_losses_is_of_the_measured_costs():
    costs: dict[str, dict[str, dict[str, str]]] = {}
    with (ROOT / "docs" / "compare_losses" / "classes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            costs.setdefault(row["classes"], {})[row["loss"]] = row
    for classes, of in costs.items():

        def pair(column, form, of=of):
            return " / ".join(
                format(float(of[loss][column]), form) if loss in of else "–" for loss in ("naive", "gather")
            )

        ratio = format(float(of["naive"]["over_gather"]), ".1f") if "naive" in of else "–"
        line = [
            format(int(classes), ","),
            pair("ops_step", ",.0f"),
            pair("build_s", ".2g"),
            pair("step_ms", ".2f"),
            ratio,
        ]
        assert f"| {' | '.join(line)} |\n" in (ROOT / "README.md").read_text(encoding="utf-8")
