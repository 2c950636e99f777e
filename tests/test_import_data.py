"""Glyphs of 62 classes in each of the formats that people hold, with its trap: the same arrays come back."""

import lzma
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import import_data
from config import Config
from data_files import DataError
from made_data import glyphs, idx_bytes, write_idx, write_npz
from mnist_data import load
from splits import divide

CHARACTERS = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@pytest.fixture(scope="module")
def made():
    return glyphs(each=16)


def assert_same(data, made, names=None):
    for split, part in (("train", data.train), ("test", data.test)):
        np.testing.assert_array_equal(part.images, made[split][0])
        np.testing.assert_array_equal(part.labels, made[split][1])
        assert part.labels.dtype == np.int64
    assert data.class_names == (names or tuple(map(str, range(62))))


def by_class(made, split):
    """Its images and labels, class by class, as folders of files give them back."""
    order = np.argsort(made[split][1], kind="stable")
    return made[split][0][order], made[split][1][order]


def test_keras_npz_with_names(tmp_path, made):
    write_npz(tmp_path / "glyphs.npz", made, class_names=np.array(CHARACTERS))
    data = load("glyphs", tmp_path)
    assert_same(data, made, CHARACTERS)
    assert (data.name, data.note) == ("glyphs", "")
    assert data.source == f"{tmp_path / 'glyphs.npz'}: 868 training and 124 test images"


def test_medmnist_npz_with_columns_a_channel_and_a_validation_split(tmp_path, made):
    (x, y), (x_test, y_test) = made["train"], made["test"]
    arrays = {
        "train_images": x[..., None],
        "train_labels": y[:, None].astype(np.uint8),
        "val_images": x[:99, ..., None],
    }
    arrays |= {"val_labels": y[:99, None], "test_images": x_test, "test_labels": y_test[:, None].astype(np.int16)}
    np.savez(tmp_path / "med.npz", **arrays)
    data = load("med", tmp_path)
    assert_same(data, made)
    splits = divide(data, 0.5, 0)
    np.testing.assert_array_equal(splits.validation.images, x[:99])
    assert len(splits.train.labels) == len(y)


def test_emnist_files_lie_on_their_sides_begin_at_1_and_have_a_mapping(tmp_path, made):
    letters = {split: (images.swapaxes(1, 2), labels + 1) for split, (images, labels) in made.items()}
    folder = write_idx(tmp_path / "letters", letters, prefix="emnist-letters-", test="test")
    lines = [f"{j + 1} {ord(c)}\n" for j, c in enumerate(CHARACTERS)]
    (folder / "emnist-letters-mapping.txt").write_text("".join(lines))
    assert_same(load("letters", tmp_path, transpose=True), made, CHARACTERS)
    (folder / "emnist-letters-mapping.txt").unlink()
    assert load("letters", tmp_path).class_names[:2] == ("1", "2")
    (folder / "classes.txt").write_text("\n".join(CHARACTERS))
    assert load("letters", tmp_path).class_names == CHARACTERS
    (folder / "classes.txt").write_text("\n".join(CHARACTERS[:-1]))
    with pytest.raises(DataError, match=r"letters: 61 names of classes, expected 62, one for each label in its order"):
        load("letters", tmp_path)
    write_idx(folder, letters, prefix="emnist-digits-", test="test")
    with pytest.raises(
        DataError, match=r"files of several data sets, emnist-digits-, emnist-letters-; give each a folder"
    ):
        load("letters", tmp_path)


def test_qmnists_labels_of_eight_columns_packed_as_xz(tmp_path, made):
    folder = tmp_path / "qmnist"
    folder.mkdir()
    for split, (images, labels) in made.items():
        columns = np.zeros((len(labels), 8), np.int32)
        columns[:, 0], columns[:, 1:] = labels, 7
        for name, array in (
            (f"qmnist-{split}-images-idx3-ubyte.xz", images),
            (f"qmnist-{split}-labels-idx2-int.xz", columns),
        ):
            (folder / name).write_bytes(lzma.compress(idx_bytes(array)))
    assert_same(load("qmnist", tmp_path), made)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32"])
def test_idx_labels_of_any_whole_type(tmp_path, made, dtype):
    write_idx(tmp_path / "any", made, dtype=dtype)
    assert_same(load("any", tmp_path), made)


def imported(tmp_path, source: Path, *options: str):
    code = import_data.main([str(source), "--name", "new", "--data_dir", str(tmp_path / "data"), *options])
    assert code == 0
    with Image.open(tmp_path / "data" / "new.png") as sheet:
        assert sheet.size == (120 + 12 * 60, 20 * 60)
    return load("new", tmp_path / "data")


def test_what_is_imported_is_where_the_training_looks(tmp_path, monkeypatch, made):
    monkeypatch.setenv("CENTERLOSS_DATA", str(tmp_path / "elsewhere"))
    source = write_npz(tmp_path / "source.npz", made)
    assert import_data.main([str(source), "--name", "new"]) == 0
    assert load("new", Config().data_dir).train.images.shape == made["train"][0].shape


def test_folders_of_pictures(tmp_path, made):
    for split in ("train", "test"):
        for i, (image, label) in enumerate(zip(*by_class(made, split), strict=True)):
            # Files are read in the order of their names; a class's name must sort as its number.
            path = tmp_path / "pictures" / split / f"{label:02d} {CHARACTERS[label]}" / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            (path.parent / ".DS_Store").touch()
    names = tuple(f"{j:02d} {c}" for j, c in enumerate(CHARACTERS))
    assert_same(imported(tmp_path, tmp_path / "pictures"), {split: by_class(made, split) for split in made}, names)
    (tmp_path / "pictures" / "train" / names[0] / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    assert import_data.main([str(tmp_path / "pictures"), "--name", "new", "--data_dir", str(tmp_path)]) == 2


def test_quick_draws_rows_are_split_by_class(tmp_path, made):
    (tmp_path / "draw").mkdir()
    images, labels = by_class(made, "train")
    for j in range(62):
        np.save(tmp_path / "draw" / f"{j:02d}.npy", images[labels == j].reshape(-1, 784))
    data = imported(tmp_path, tmp_path / "draw")
    assert data.class_names == tuple(f"{j:02d}" for j in range(62))
    assert len(data.test.labels) == round(len(labels) / 6)
    together = np.concatenate([data.train.images, data.test.images])
    ids = np.concatenate([data.train.labels, data.test.labels])
    for j in (0, 30, 61):
        assert {image.tobytes() for image in together[ids == j]} == {image.tobytes() for image in images[labels == j]}


def test_one_of_several_labels_and_turning_greying_inverting_resizing(tmp_path, made, capsys):
    (x, y), (x_test, y_test) = made["train"], made["test"]
    several = {"x_train": x, "y_train": np.stack([y % 2, y], 1)}
    several |= {"x_test": x_test, "y_test": np.stack([y_test % 2, y_test], 1)}
    np.savez(tmp_path / "several.npz", **several)
    assert import_data.main([str(tmp_path / "several.npz"), "--name", "new", "--data_dir", str(tmp_path)]) == 2
    assert "--label chooses one of several" in capsys.readouterr().err
    assert_same(imported(tmp_path, tmp_path / "several.npz", "--label", "1"), made)
    write_npz(tmp_path / "lying.npz", {split: (255 - x.swapaxes(1, 2), y) for split, (x, y) in made.items()})
    assert_same(imported(tmp_path, tmp_path / "lying.npz", "--transpose", "--invert"), made)
    colored = {split: (np.stack([x] * 3, axis=-1), y) for split, (x, y) in made.items()}
    write_npz(tmp_path / "colored.npz", colored)
    data = imported(tmp_path, tmp_path / "colored.npz", "--gray")
    assert np.abs(data.train.images.astype(int) - x).max() <= 1
    assert imported(tmp_path, tmp_path / "colored.npz", "--size", "16").train.images.shape == (len(y), 16, 16, 3)


SMALL = np.zeros((4, 7, 7), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x_test": None}, "holds x_train, y_test, y_train, expected x_train, y_train, x_test, y_test or train_images"),
        ({"x_train": SMALL}, r"x_train of uint8 \[4, 7, 7\], expected uint8"),
        ({"x_train": np.zeros((4, 9, 9))}, r"x_train of float64 \[4, 9, 9\], expected uint8"),
        ({"y_train": np.eye(4)}, r"y_train of float64 \[4, 4\], expected integers"),
        ({"y_train": np.eye(4, dtype=int)}, r"y_train of int64 \[4, 4\], expected integers .*one class an image"),
        ({"y_train": np.arange(3)}, "3 labels for 4 images in the train split"),
        ({"y_train": np.zeros(4, int), "y_test": np.zeros(2, int)}, "1 classes, expected 2 to 100,000"),
        ({"y_test": np.array([1, 7])}, "label 7 is in the test split, but of no training image"),
        ({"x_test": np.zeros((2, 10, 9), np.uint8)}, r"images of \[10, 9\] in the test split, \[9, 9\] in training"),
        ({"y_train": np.array(["a", "b", "c", "d"])}, "y_train of <U1"),
        ({"y_train": np.array([0, 1, 2, 2**64 - 1], np.uint64)}, "up to 18446744073709551615"),
        ({"class_names": np.array(["only one"])}, "1 names of classes, expected 4, one for each label"),
    ],
)
def test_what_is_wrong_in_an_npz_file_is_told_in_one_line(tmp_path, content, message):
    right = {"x_train": np.zeros((4, 9, 9), np.uint8), "y_train": np.arange(4)}
    right |= {"x_test": np.zeros((2, 9, 9), np.uint8), "y_test": np.arange(2)}
    arrays = {name: array for name, array in (right | content).items() if array is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load("bad", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'bad.npz'}: ")
    assert "\n" not in str(caught.value)


def strange_array(random: np.random.Generator, right: np.ndarray) -> np.ndarray | None:
    """`right`, or in its place one of another type, shape or content, or none."""
    kind = random.integers(12)
    shape = tuple(random.integers(0, 12, random.integers(0, 5)))
    if kind == 0:
        return None
    if kind == 1:
        return random.integers(0, 256, shape).astype(random.choice(["u1", "i1", ">i2", "<u8", "f2", "?", "S3", "U2"]))
    if kind == 2:
        return right.astype(random.choice(["i1", "u2", ">i4", "<i8", "u8", "f4", "c8"]))
    if kind == 3:
        return right[..., np.newaxis]
    if kind == 4:
        return np.repeat(right, random.integers(0, 3), axis=0)
    if kind == 5:
        return right.astype(np.int64) - int(random.integers(0, 3)) * 2**61
    return right


def test_mutated_npz_files_are_read_or_refused(tmp_path, cases):
    """Half of them are mutated before they are packed, half after it."""
    made = {split: (np.zeros((n, 8, 8), np.uint8), np.arange(n) % 3) for split, n in (("train", 9), ("test", 6))}
    whole = write_npz(tmp_path / "whole.npz", made).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "mutated.npz"
    with np.load(tmp_path / "whole.npz") as file:
        right = dict(file)
    told = []
    for _ in cases:
        if random.random() < 0.5:
            arrays = {name: strange_array(random, array) for name, array in right.items()}
            np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        else:
            content = bytearray(whole)
            for _ in range(random.integers(1, 4)):
                at = int(random.integers(len(content)))
                content[at : at + int(random.integers(0, 4))] = random.bytes(int(random.integers(0, 4)))
            path.write_bytes(content[: int(random.integers(len(content)))] if random.random() < 0.2 else content)
        try:
            data = load("mutated", tmp_path)
        except DataError as error:
            told.append(str(error))
            continue
        for split in (data.train, data.test):
            assert split.images.dtype == np.uint8
            assert split.images.ndim in (3, 4)
            assert len(split.images) == len(split.labels) > 0
            assert set(split.labels) <= set(range(len(data.class_names)))
    assert 0 < len(told) < len(cases)
    assert all(text.startswith(f"{path}: ") and "\n" not in text for text in told)
