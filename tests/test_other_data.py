"""Runs on data of other kinds than MNIST, from file to picture: colors, sizes, classes, widths, unknown classes."""

import json

import numpy as np
import pytest
import scipy.sparse
from PIL import Image
from sklearn.metrics import roc_auc_score

import predict
import runs
from config import Config
from data_files import DataError
from made_data import glyphs, mnist, resized, twenty, write_idx, write_npz
from mnist_data import load
from splits import divide, fingerprint
from training_graph import misfit

TINY = [
    "--channels",
    "[2,2,4]",
    "--batch_norm_decay",
    "0.5",
    "--steps",
    "6",
    "--batch_size",
    "20",
    "--snapshot_steps",
    "[0,6]",
]


@pytest.fixture(scope="module")
def made():
    return glyphs(each=16)


@pytest.fixture(scope="module")
def colored_run(run_script, tmp_path_factory, made):
    """A run on 62 classes of colored 16×16 images, five of them unknown, D = 3: folder, output, data."""
    place = tmp_path_factory.mktemp("colored")
    tint = np.array([1.0, 0.6, 0.3])
    colors = {split: ((x[..., None] * tint).astype(np.uint8), y) for split, (x, y) in resized(made, 16, 2000).items()}
    write_npz(place / "neon.npz", colors)
    words = ["--dataset", "neon", "--data_dir", place, "--feature_width", "3", "--unknown_classes", "[0,7,20,40,61]"]
    done = run_script("train_mnist.py", *TINY, *words, "--output_dir", place, "--run_name", "run")
    assert done.returncode == 0, done.stderr
    return place / "run", done.stdout, place


def test_a_run_on_colors_with_unknown_classes_leaves_its_files(colored_run, made):
    run, stdout, _ = colored_run
    assert "data: neon, " in stdout
    assert "unknown classes by distance to the nearest center: area under the ROC curve 0." in stdout
    unknown = runs.read_features(runs.features_path(run, "unknown"))
    assert unknown.features.shape[1] == 3
    assert set(unknown.labels) == {0, 7, 20, 40, 61}
    np.testing.assert_array_equal(made["test"][1][unknown.index], unknown.labels)
    test = runs.read_features(runs.features_path(run, "test"))
    assert len(test.class_names) == 57
    assert test.image_shape == (16, 16, 3)
    names = [str(j) for j in range(62) if j not in (0, 7, 20, 40, 61)]
    assert test.class_names == tuple(names)
    np.testing.assert_array_equal([int(names[j]) for j in test.labels], made["test"][1][test.index])
    assert len(test.labels) + len(unknown.labels) == len(made["test"][1])


def test_unknown_classes_are_measured_as_scikit_learn_does(colored_run):
    run = colored_run[0]
    test, unknown = (runs.read_features(runs.features_path(run, split)) for split in ("test", "unknown"))
    both = np.concatenate([test.features, unknown.features]).astype(np.float64)
    is_unknown = np.arange(len(both)) >= len(test.features)
    distances = np.linalg.norm(both[:, None] - test.centers, axis=2).min(axis=1)
    logits = both @ test.classifier_weights + test.classifier_bias
    most = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).max(axis=1)
    said = json.loads((run / "metrics.json").read_text())["unknown"]
    assert said == {
        "images": len(unknown.labels),
        "auroc_distance": pytest.approx(roc_auc_score(is_unknown, distances)),
        "auroc_softmax": pytest.approx(roc_auc_score(is_unknown, 1 - most)),
    }


def test_wide_features_are_drawn_and_moved_in_one_plane(colored_run, run_script):
    run = colored_run[0]
    done = run_script("visualize.py", run, "--animate")
    assert done.returncode == 0, done.stderr
    with Image.open(run / "clusters_test.png") as picture, Image.open(run / "animation.gif") as film:
        assert picture.size > (500, 500)
        assert film.n_frames > 10


def test_the_same_run_is_finished_already_and_predicts_its_own_test_images(colored_run, run_script, capsys):
    run, _, place = colored_run
    again = run_script("train_mnist.py", "--resume", run)
    assert "finished already, at step 6" in again.stdout, again.stderr
    test = runs.read_features(runs.features_path(run, "test"))
    images = load("neon", place).test.images[test.index]
    np.savez(place / "some.npz", images=images[:30])
    assert predict.main([str(run), str(place / "some.npz"), "--csv", str(place / "p.csv")]) == 0
    table = [line.split(",") for line in (place / "p.csv").read_text().splitlines()]
    assert table[0] == [
        "image",
        "label",
        "probability",
        "nearest_center",
        "distance",
        "feature_1",
        "feature_2",
        "feature_3",
    ]
    assert [row[1] for row in table[1:]] == [test.class_names[j] for j in test.predictions[:30]]
    np.testing.assert_allclose(
        np.array([row[5:] for row in table[1:]], float), test.features[:30], rtol=1e-3, atol=1e-4
    )
    assert "some.npz[29]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("no.png", None, "no.png: no such file"),
        ("a.png", b"\x89PNG\r\n\x1a\n cut", "a.png: no picture that can be read"),
        ("a.txt", b"a text", "a.txt: no picture that can be read"),
        ("a.npz", b"PK\x03\x04 cut", "a.npz: can't be read"),
        ("a-idx3-ubyte", b"\0\0\x08\x03\0\0", "a-idx3-ubyte: header of 6 bytes"),
    ],
)
def test_what_is_no_image_is_told_in_one_line(colored_run, tmp_path, capsys, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert predict.main([str(colored_run[0]), str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/{told}")
    assert error.count("\n") == 1


def test_images_of_another_size_in_an_npz_file_are_told(colored_run, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 28, 28), np.uint8), y=np.zeros(3))
    assert predict.main([str(colored_run[0]), str(tmp_path / "a.npz")]) == 2
    assert "a.npz: holds x [3, 28, 28], y [3], expected one array of uint8 [N, 16, 16, 3]" in capsys.readouterr().err


def test_a_stroke_is_brought_to_where_mnists_are():
    drawn = Image.new("L", (300, 200), "white")
    drawn.paste("black", (250, 20, 260, 100))
    pixels = predict.fitted(drawn, (28, 28), invert=True)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    assert len(rows) == 20
    assert (rows.mean(), columns.mean()) == pytest.approx((13.5, 13.5), abs=0.51)
    as_it_is = Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28))
    np.testing.assert_array_equal(predict.fitted(as_it_is, (28, 28), invert=False), np.asarray(as_it_is))
    assert not predict.fitted(Image.new("L", (50, 50)), (28, 28), invert=False).any()


def test_more_than_a_hundred_classes_of_large_images(run_script, tmp_path):
    random = np.random.default_rng(0)
    sizes = {"train": 606, "test": 202}
    made = {split: (random.integers(0, 256, (n, 64, 64), np.uint8), np.arange(n) % 101) for split, n in sizes.items()}
    write_npz(tmp_path / "large.npz", made)
    words = ["--dataset", "large", "--data_dir", tmp_path, "--output_dir", tmp_path, "--center_update", "auto"]
    done = run_script("train_mnist.py", *TINY, *words, "--run_name", "run")
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "confusion" not in saved["test"]
    confusion = scipy.sparse.load_npz(tmp_path / "run" / "confusion_test.npz")
    assert confusion.shape == (101, 101)
    assert confusion.sum() == 202


@pytest.mark.parametrize(
    ("settings", "classes", "shape", "told"),
    [
        ({"batch_size": 101}, 10, (28, 28), "batch_size: 101 is more than the 100 training images"),
        ({"crop": 2}, 10, (8, 8), "crop and third_pool_size: of images of 8 pixels 4 are left"),
        ({"third_pool_size": 3}, 10, (8, 8), "crop and third_pool_size: of images of 8 pixels 8 are left"),
        ({"augment_shift": 8}, 10, (8, 30, 3), "augment_shift: 8 pixels are the whole of images of 8"),
        ({"classifier_ring": tuple(range(10))}, 20, (28, 28), "classifier_ring: expected all 20 classes, got 10"),
        ({}, 2, (8, 8, 3), None),
    ],
)
def test_settings_that_do_not_fit_the_data_are_told(settings, classes, shape, told):
    found = misfit(Config(**({"batch_size": 20} | settings)), classes, shape, 100)
    assert found is None if told is None else found.startswith(told)


@pytest.mark.parametrize("unknown", [[62], list(range(61))])
def test_unknown_classes_must_be_there_and_leave_two(tmp_path, made, unknown):
    write_npz(tmp_path / "glyphs.npz", made)
    with pytest.raises(DataError, match=r"unknown_classes: expected some of the 62 classes, 0 to 61, and two others"):
        divide(load("glyphs", tmp_path), 0.2, 0, unknown)


def test_a_class_too_small_to_be_split_is_told_by_its_name(tmp_path, made):
    (x, y), test = made["train"], made["test"]
    lonely = np.flatnonzero(y == 5)[1:]
    write_npz(tmp_path / "glyphs.npz", {"train": (np.delete(x, lonely, 0), np.delete(y, lonely)), "test": test})
    with pytest.raises(DataError, match=r"can't hold out 0.2 of the 1 images of class 5; give it more, or hold out 0"):
        divide(load("glyphs", tmp_path), 0.2, 0)


def test_mnist_under_another_name_is_mnist_to_the_bit(real_data, tmp_path):
    (tmp_path / "other").symlink_to(real_data / "mnist")
    data, other = load("mnist", real_data), load("other", tmp_path)
    assert fingerprint(data) == fingerprint(other)
    assert data.class_names == other.class_names
    assert (other.name, other.note) == ("other", "")
    write_npz(tmp_path / "third.npz", mnist(real_data))
    assert fingerprint(load("third", tmp_path)) == fingerprint(data)


def test_mnist_and_fashion_mnist_in_one_set_of_twenty(real_data, tmp_path):
    made = twenty(real_data)
    write_npz(tmp_path / "npz.npz", made)
    write_idx(tmp_path / "idx", made)
    data, other = load("npz", tmp_path), load("idx", tmp_path)
    assert fingerprint(data) == fingerprint(other)
    assert data.class_names == tuple(map(str, range(20)))
    assert (len(data.train.labels), len(data.test.labels)) == (120_000, 20_000)
