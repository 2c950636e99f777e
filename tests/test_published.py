"""What docs/ and the README say is so: numbers are the exports', links and commands lead somewhere, code runs."""

import csv
import dataclasses
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from matplotlib.colors import to_rgb
from matplotlib.image import imread

import config
import metrics
import results
import runs
from pictures.clusters import COLORS
from update_centers import update_centers

ROOT = Path(results.__file__).resolve().parent
EXPORTS = sorted(folder for folder in (ROOT / "docs" / "results").iterdir() if (folder / "results.csv").is_file())
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    "steps": "steps",
    "training, s": "seconds",
    "area by distance": "auroc_distance",
    "area by softmax": "auroc_softmax",
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
        assert (again["images"], again["confusion"].toarray().tolist()) == (10_000, said["confusion"])
        assert again["accuracy"] == said["accuracy"]
        # The export's features are rounded to float16, which moves a few over the line between two centers.
        assert again["accuracy_nearest_center"] == pytest.approx(said["accuracy_nearest_center"], abs=1e-3)
        for name in ("intra", "inter_smallest", "inter_over_intra", "largest_coordinate"):
            assert again[name] == pytest.approx(said[name], rel=1e-3)


@pytest.mark.parametrize("folder", EXPORTS, ids=lambda folder: folder.name)
def test_an_exports_pictures_are_drawn_from_its_runs(folder, tmp_path):
    results.write(tmp_path, folder.name, runs.read_export(folder), common_scale=False)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {path.name for path in folder.glob("*.png")} - {"panel_train.png"}
    for name in drawn:
        published, again = imread(folder / name), imread(tmp_path / name)
        assert published.shape == again.shape
        assert np.abs(published - again).mean() < 0.003  # another seed: 0.01; another matplotlib: some letters


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("docs/results/**/panel_*.png")), ids=lambda path: str(path.parent.name)
)
def test_each_class_has_its_exact_color_in_a_panel(path):
    pixels = {tuple(pixel) for pixel in np.round(255 * imread(path)[..., :3]).astype(int).reshape(-1, 3).tolist()}
    absent = [j for j, color in enumerate(COLORS) if tuple(round(255 * x) for x in to_rgb(color)) not in pixels]
    # It was drawn before colors were kept; its page says so, and its runs' training features are not kept.
    assert absent == ([3] if path.match("blog/panel_train.png") else [])


def quoted_tables():
    """Every table under a comment `<!-- from: folder of docs/results -->`: its page, the folder, its lines.

    In a table from `several` the name of each config begins with its folder.
    """
    for page in PAGES:
        for match in re.finditer(r"<!-- from: (\S+) -->\n\n?((?:\|.*\n)+)", page.read_text(encoding="utf-8")):
            yield pytest.param(match[1], match[2].splitlines(), id=f"{page.relative_to(ROOT)}: {match[1]}")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def as_rounded_in(cell: str, values: list[str]) -> str:
    """The `values` with the decimals, the commas, the ± and the percent sign of `cell`."""
    numbers, percent = cell.removesuffix(" %").split(" ± "), cell.endswith(" %")
    decimals = [len(number.partition(".")[2]) for number in numbers]
    shown = [f"{float(v) * (100 if percent else 1):,.{d}f}" for v, d in zip(values, decimals, strict=True)]
    return " ± ".join(shown) + (" %" if percent else "")


QUOTED_TABLES = list(quoted_tables())


@pytest.mark.parametrize(("name", "lines"), QUOTED_TABLES)
def test_numbers_on_a_page_are_those_of_the_export(name, lines):
    head = cells(lines[0])
    for line in lines[2:]:
        said = dict(zip(head, cells(line), strict=True))
        folder, config = re.match(r"`(?:(\w+)/)?(\w[\w.=+]*)`", said.pop(head[0])).groups()
        places = (ROOT / "docs" / place / (folder or name) / "results.csv" for place in ("results", ""))
        rows = table(next(path for path in places if path.exists()))
        rows = {(row["config"], row["seed"]): row for row in rows}
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
    for row in table(ROOT / "docs" / "compare_losses" / "classes.csv"):
        costs.setdefault(row["classes"], {})[row["loss"]] = row
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
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
        assert f"| {' | '.join(line)} |\n" in page


def test_the_two_precisions_are_compared_by_their_exports():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    exports = [table(ROOT / "docs" / "results" / name / "results.csv") for name in ("fast_bfloat16", "fast_float32")]
    of = [{row["seed"]: row for row in rows if row["config"] == "lambda_eff_1"} for rows in exports]
    lines = page.partition("| | bfloat16 | float32 |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(lines) == 5
    for name, *both, difference in map(cells, lines):
        values = [[float(rows[kind][QUOTED[name]]) for kind in ("mean", "deviation")] for rows in of]
        assert both == [as_rounded_in(cell, pair) for cell, pair in zip(both, values, strict=True)], name
        (one, s1), (other, s2) = values
        expected = abs(one - other), ((s1**2 + s2**2) / 5) ** 0.5
        percent = difference.endswith(" points")
        expected = [value * (100 if percent else 1) for value in expected]
        assert difference.removesuffix(" points") == as_rounded_in(difference.removesuffix(" points"), expected), name


def test_bad_steps_of_the_blogs_recipe_are_counted_right():
    page = (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")
    exported = sorted((ROOT / "docs" / "results" / "blog").glob("*/*.validation.csv"))
    assert exported
    for path in exported:
        late = [float(row["accuracy"]) for row in table(path) if int(row["step"]) >= 7_000]
        name, seed = path.parent.name, path.name.split(".")[0].removeprefix("seed_")
        bad, last = sum(accuracy < 0.985 for accuracy in late), late[-1] < 0.985
        assert f"| `{name}` | {seed} | {bad} of {len(late)} | {'yes' if last else 'no'} |\n" in page


def test_the_kills_are_counted_right():
    kills = table(ROOT / "docs" / "reliability_kills.csv")
    count = Counter(row["phase"] for row in kills)
    names = ("training", "snapshot", "checkpointing", "extraction", "drawing")
    assert set(count) == set(names), "a kill after the end of a run counts for nothing"
    phases = ", ".join(f"{count[name]} in {name}" for name in names)
    full = sum(row["network"] == "full" for row in kills)
    said = " ".join((ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").split())
    assert f"{len(kills)} kills: {phases}." in said
    assert f"trained in {full} of the {len(kills)}" in said
    resuming = " ".join((ROOT / "docs" / "run_folder.md").read_text(encoding="utf-8").split())
    assert f"{len(kills)} kills by SIGKILL, in training, snapshots," in resuming


OF_OTHER_RUNS = {"auroc_distance", "auroc_softmax"}  # with unknown classes; the others are of sessions.csv


def test_every_number_of_a_run_is_explained():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    explained = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    for run in runs.read_export(ROOT / "docs" / "results" / "fast"):
        named = {*run.metrics, *run.metrics["test"], *run.metrics["last_step"]}
        assert named == explained - {"steps", "seconds", *OF_OTHER_RUNS}


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_commands_and_tests_named_on_a_page_are_there(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        there = (page.parent / target) if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"
    for name in set(re.findall(r"`(?:[\w/]*/)?(test_\w+)", text)) - {"test_images", "test_labels"}:
        tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
        assert f"def {name}(" in tests or (ROOT / "tests" / f"{name}.py").is_file(), name
    for file, name in re.findall(r"`(\w+\.py)`,\s+`(\w+)`", text):
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}: {name}"
    for file in re.findall(r"(?<![\w/])configs/[\w./]+", text):
        assert (ROOT / file.rstrip(".")).exists(), file
    for line in re.findall(r"(?:^ {4}|`)((?:make train|python )[^`\n]*)", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        options = {word[2:] for word in shlex.split(" ".join(words).replace("ARGS=", "")) if word.startswith("--")}
        script = "train_mnist.py" if words[0] == "make" else words[1]
        if script in ("train_mnist.py", "scripts/local_cluster.py"):
            names = {field.name for field in dataclasses.fields(config.Config)}
            own = {"workers"} if script.startswith("scripts") else set()
            assert options <= names | {"config", "resume", "overwrite", "help", "dry_run"} | own, line
        else:
            program = (ROOT / script).read_text(encoding="utf-8")
            assert all(f'"--{name}"' in program for name in options), line
        if script == "reproduce.py" and not words[2].endswith(".yaml"):
            assert (ROOT / "configs" / words[2].replace("<preset>", "blog")).is_dir(), line


def test_the_readme_is_short_and_counts_lines_right():
    assert len(README.split()) <= 1_400
    said = re.findall(r"^\| `(\w+\.py)` \| about (\d+) \|", README, re.MULTILINE)
    assert len(said) >= 4
    for file, lines in said:
        assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) == pytest.approx(int(lines), rel=0.15), file


def test_the_readmes_code_trains_and_moves_the_centers_by_eq_4():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 12
    names: dict[str, object] = {}
    exec(code, names)
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 100)
    feed = {names["images"]: random.normal(size=(10, 784))[labels], names["labels"]: labels}
    with tf.Session(graph=names["graph"]) as session:
        with names["graph"].as_default():
            session.run(tf.global_variables_initializer())
        features, first = session.run([names["features"], names["loss"]], feed)
        session.run(names["step"], feed)
        centers = session.run(names["centers"])
        np.testing.assert_array_equal(centers, update_centers(np.zeros((10, 64)), features, labels, 0.5))
        for _ in range(100):
            session.run(names["step"], feed)
        assert session.run(names["loss"], feed) < first / 2


def test_the_readmes_keras_code_trains_and_moves_the_centers_by_eq_4():
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 12
    names: dict[str, object] = {}
    exec(code, names)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(100, 784)), random.integers(0, 10, 100)
    features = names["keras"].Model(names["images"], names["features"]).predict(x, verbose=0)
    names["model"].fit([x, y], y, batch_size=100, verbose=0)
    moved = update_centers(np.zeros((10, 64)), features, y, 0.5)
    np.testing.assert_allclose(names["center_loss"].centers.numpy(), moved, atol=1e-6)
