"""The pictures of errors and of the training, and the sheet of the worst images."""

import csv

import numpy as np
import pytest
from matplotlib.image import imread

import figures
import metrics
import mnist_data
import runs
import visualize
from pictures import clusters, diagnostics


@pytest.fixture(scope="module")
def run(tmp_path_factory, run_script):
    """A short run on the digits."""
    folder = tmp_path_factory.mktemp("drawn")
    result = run_script(
        "train_mnist.py", "--dataset", "digits", "--channels", "[4,8,8]", "--steps", 40, "--batch_norm_decay", 0.9,
        "--feature_activation", "linear", "--log_every_steps", 10, "--evaluate_every_steps", 20,
        "--snapshot_steps", "[]", "--output_dir", folder, "--run_name", "run",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder / "run"


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn."""
    made = []
    encode = clusters.encoded
    monkeypatch.setattr(clusters, "encoded", lambda figure, *rest: made.append(figure) or encode(figure, *rest))
    return made


def test_every_picture_that_is_asked_for(run, tmp_path, capsys):
    visualize.main([str(run), "--what", "clusters,regions,confusion,distances,curves", "--out", str(tmp_path)])
    names = [
        f"{what}_{split}.png" for what in ("clusters", "regions", "confusion", "distances") for split in runs.SPLITS
    ]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / name) for name in [*names, "curves.png"]]
    for name in [*names, "curves.png"]:
        assert imread(tmp_path / name)[..., :3].std() > 0.05
        assert name in runs.PICTURES


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--what", "cluster"], "--what: expected some of clusters,regions,confusion,distances,curves, got cluster"),
        (["--what", ""], "--what: expected some of"),
        (["--outliers", "0"], "outliers: expected a whole number above 0"),
    ],
)
def test_what_is_not_known_is_told(run, capsys, words, told):
    with pytest.raises(SystemExit) as stopped:
        visualize.main([str(run), *words])
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--what", "regions"], ["--outliers", "3"], ["--html"]])
def test_pictures_of_one_run_are_not_drawn_of_two(run, capsys, words):
    with pytest.raises(SystemExit):
        visualize.main([str(run), str(run), *words])
    assert f"{words[0]}: expected one run, got 2" in capsys.readouterr().err


def test_regions_are_the_classifiers_and_the_wrong_ones_are_marked(run, drawn, tmp_path):
    figures.diagnose(run, "regions", "test", out=tmp_path)
    view = runs.read_features(runs.features_path(run, "test"))
    axes = drawn[0].axes[0]
    (marked,) = (of for of in axes.collections if of.get_gid() == "wrong")
    np.testing.assert_allclose(marked.get_offsets(), view.features[view.predictions != view.labels])
    hit = [patch for patch in axes.patches if patch.get_path().contains_point(view.features[0])]
    assert [patch.get_facecolor()[:3] for patch in hit] == [
        tuple(clusters.to_rgb(clusters.colors(10)[view.predictions[0]]))
    ]


def test_a_confusion_matrix_has_its_counts(run, drawn, tmp_path):
    figures.diagnose(run, "confusion", "test", out=tmp_path)
    axes = drawn[0].axes[0]
    counts = np.array(runs.read_json(run / "metrics.json")["test"]["confusion"])
    seen = {(round(text.get_position()[1]), round(text.get_position()[0])): int(text.get_text()) for text in axes.texts}
    assert seen == {(int(i), int(j)): int(counts[i, j]) for i, j in np.argwhere(counts)}


def test_many_classes_have_no_counts():
    assert not diagnostics.confusion(np.eye(40, dtype=int), [str(j) for j in range(40)], "").axes[0].texts


def test_own_and_other_distances_by_hand():
    features, labels = np.array([[0.0, 0], [3, 4], [1, 0]]), np.array([0, 0, 1])
    own, other = metrics.own_and_other(features, labels, np.array([[0.0, 0], [1, 0], [9, 9]]))
    np.testing.assert_allclose(own, [0, 5, 0])
    np.testing.assert_allclose(other, [1, np.sqrt(20), 1])


def test_distances_count_what_is_nearer_to_another_center(run, drawn, tmp_path):
    figures.diagnose(run, "distances", "test", out=tmp_path)
    told = runs.read_json(run / "metrics.json")["test"]
    wrong = round(told["images"] * (1 - told["accuracy_nearest_center"]))
    assert drawn[0].axes[0].get_title().endswith(f"nearer to another center: {wrong} of {told['images']}")


def test_curves_are_of_the_runs_tables(run, drawn, tmp_path):
    figures.diagnose(run, "curves", "test", out=tmp_path)
    lines = {line.get_label(): line for axes in drawn[0].axes for line in axes.get_lines()}
    train, validation = (figures.columns(run / f"{name}.csv") for name in ("metrics", "validation"))
    np.testing.assert_array_equal(lines["center loss"].get_data(), [train["step"], train["center_loss"]])
    assert list(train["step"]) == [10, 20, 30, 40]
    np.testing.assert_array_equal(
        lines["validation, nearest center"].get_data(), [validation["step"], validation["accuracy_nearest_center"]]
    )


def test_outliers_are_the_images_that_are_farthest_on_the_wrong_side(run, drawn, tmp_path):
    sheet, table = figures.outliers(run, 5, out=tmp_path)
    assert sheet.stat().st_size > 1000
    view = runs.read_features(runs.features_path(run, "test"))
    own, other = metrics.own_and_other(view.features, view.labels, view.centers)
    worst = np.argsort(other - own, kind="stable")[:5]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["image"]) for row in rows] == [int(view.index[i]) for i in worst]
    assert [row["label"] for row in rows] == [str(view.labels[i]) for i in worst]
    assert [float(row["own_distance"]) for row in rows] == pytest.approx(own[worst], rel=1e-5)
    test = mnist_data.load("digits", "").test
    for axes, row in zip(drawn[0].axes, rows, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), test.images[int(row["image"])])


def test_data_that_are_not_the_runs_are_refused(run, tmp_path, monkeypatch):
    other = mnist_data.load("digits", "")
    other = other._replace(test=other.test._replace(images=other.test.images + 1))
    monkeypatch.setattr(figures, "load", lambda *words, **named: other)
    with pytest.raises(runs.RunFolderError, match="not the data that"):
        figures.outliers(run, 3, out=tmp_path)


@pytest.mark.parametrize(("count", "shape", "classes"), [(60_000, (28, 28), 100), (3000, (128, 128, 3), 1000)])
def test_a_page_of_many_images_and_classes_stays_small_and_says_what_it_leaves_out(count, shape, classes):
    from pictures import explorer

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape), np.uint8)  # noise, which can't be packed
    labels = random.integers(0, classes, count)
    centers = random.normal(size=(classes, 2))
    panel = clusters.Panel(centers[labels], labels, centers, tuple(map(str, range(classes))), "many")
    frame = explorer.Frame(panel, labels, labels, np.zeros(count), np.zeros(count))
    text = explorer.page([frame], images, np.arange(count), classifier=(centers.T, np.zeros(classes)))
    assert len(text) <= 12_000_000
    assert f" of {count:,} images are shown." in text
