"""Tests of mnist_data.py: real files, real sockets on 127.0.0.1, and no mock of anything it does itself."""

import contextlib
import gzip
import hashlib
import http.server
import importlib
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnist_data
from data_files import DataError, read_idx
from made_data import idx_bytes
from mnist_data import load
from splits import batches, shifted, stratified_split

ROOT = Path(mnist_data.__file__).parent
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = STEMS


def images_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def labels_of(count: int) -> np.ndarray:
    return (np.arange(count) % 10).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def plain_files(train: int = 30, test: int = 20) -> dict[str, bytes]:
    arrays = images_of(train), labels_of(train), images_of(test), labels_of(test)
    return dict(zip(STEMS, map(idx, arrays), strict=True))


PLAIN = plain_files()
GZIPPED = {stem: gzip.compress(content, mtime=0) for stem, content in PLAIN.items()}


def place(data_dir: Path, files: dict[str, bytes], gz: bool = False, name: str = "mnist") -> Path:
    folder = data_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        path = folder / (f"{stem}.gz" if gz else stem)
        path.write_bytes(gzip.compress(content) if gz else content)
    return folder


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """No test leaves this machine: nothing listens on port 1."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(mnist_data, "MIRRORS", dict.fromkeys(mnist_data.MIRRORS, ("http://127.0.0.1:1/",)))


@pytest.fixture
def nobody():
    """The rights of a plain user; root could write anywhere."""
    importlib.import_module("pooch")  # while its files can be read for sure
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that every user can reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


# --- the IDX reader: what is right


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["f", "f.gz"])
def test_files_come_back_as_they_were_written_whatever_their_names(tmp_path, name, pack):
    for count in (1, 7):
        for kind, written, dtype in (("images", images_of(count), np.uint8), ("labels", labels_of(count), np.int64)):
            (tmp_path / name).write_bytes(pack(idx(written)))
            read = read_idx(str(tmp_path / name), kind)
            np.testing.assert_array_equal(read, written)
            assert read.dtype == dtype


def test_gzip_of_several_members_is_one_file(tmp_path):
    content = PLAIN[TRAIN_IMAGES]
    (tmp_path / "f.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    np.testing.assert_array_equal(read_idx(tmp_path / "f.gz", "images"), images_of(30))


# --- the IDX reader: what is wrong

IMAGES, LABELS = PLAIN[TRAIN_IMAGES], PLAIN[TRAIN_LABELS]
BAD_CONTENT = {
    "empty file": ("images", b"", "header of 0 bytes"),
    "ends within the header": ("images", IMAGES[:13], "header of 13 bytes"),
    "labels end within the header": ("labels", LABELS[:7], "header of 7 bytes"),
    "header only": ("images", IMAGES[:16], "30 images by its header|0 bytes after its header"),
    "truncated": ("images", IMAGES[:-1], "30 images by its header|23,519 bytes after its header, expected 23,520"),
    "one byte too many": ("images", IMAGES + b"\0", "more bytes after its header, expected 23,520"),
    "labels read as images": ("images", LABELS, "2049"),
    "images read as labels": ("labels", IMAGES, "2051"),
    "wrong type code": ("images", b"\0\0\x0d\x03" + IMAGES[4:], "3331"),
    "little-endian header": ("images", struct.pack("<4I", 0x803, 30, 28, 28) + IMAGES[16:], "expected"),
    "images too small": ("images", idx(np.zeros((3, 7, 32), np.uint8)), r"uint8 \[3, 7, 32\]"),
    "images too large": ("images", idx(np.zeros((3, 32, 129), np.uint8)), r"uint8 \[3, 32, 129\]"),
    "no examples": ("images", struct.pack(">4I", 0x803, 0, 28, 28), "0 images"),
    "no labels": ("labels", struct.pack(">2I", 0x801, 0), "0 labels"),
    "count too high": ("images", struct.pack(">4I", 0x803, 31, 28, 28) + IMAGES[16:], "31 images|expected 24,304"),
    "count too low": ("images", struct.pack(">4I", 0x803, 29, 28, 28) + IMAGES[16:], "more bytes"),
    "count of all ones": ("labels", struct.pack(">2I", 0x801, 2**32 - 1) + LABELS[8:], "4,294,967,295 labels"),
}


PACKED = GZIPPED[TRAIN_IMAGES]
BAD_GZIP = {
    "another format": b"<html>please log in</html>",
    "cut in the gzip header": PACKED[:5],
    "cut in the data": PACKED[:5000],
    "cut in the checksum": PACKED[:-4],
    "wrong checksum": PACKED[:-8] + b"\1\2\3\4" + PACKED[-4:],
    "damaged in the deflate stream": gzip.compress(bytes(100), mtime=0)[:10] + b"\xff" * 200,
    "garbage after the end": PACKED + b"garbage",
}


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        *BAD_CONTENT.values(),
        *((kind, gzip.compress(content, mtime=0), message) for kind, content, message in BAD_CONTENT.values()),
        *(("images", content, "bad") for content in BAD_GZIP.values()),
    ],
)
def test_bad_content_is_told_with_file_and_fix_and_left_alone(tmp_path, kind, content, message):
    path = tmp_path / "bad.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, kind)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(("; put a whole file in its place", "import_data.py converts other pictures"))
    assert path.read_bytes() == content


def test_what_can_not_be_read_is_told(open_folder, nobody):
    (open_folder / "folder.gz").mkdir()
    os.mkfifo(open_folder / "pipe")
    for name in ("missing", "folder.gz", "pipe"):
        with pytest.raises(DataError, match=f"{name}: missing, or not a regular file"):
            read_idx(open_folder / name, "images")
    (open_folder / "closed").write_bytes(IMAGES)
    (open_folder / "closed").chmod(0)
    with pytest.raises(DataError, match=r"closed: can't be read .*Permission denied"):
        read_idx(open_folder / "closed", "images")


def peak_bytes(path: Path, message: str | None) -> int:
    """Traced while the images at `path` are read, or refused with the `message`."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message) if message else contextlib.nullcontext():
            read_idx(path, "images")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_no_size_that_a_header_claims_is_allocated(tmp_path, pack):
    path, noise = tmp_path / "f", np.random.default_rng(0).bytes(10_000)
    for count in (13_000, 20_000, 60_000, 1_000_001, 2**32 - 1):  # the smallest claim is 10 MB
        path.write_bytes(pack(struct.pack(">4I", 0x803, count, 28, 28) + noise))
        refused = (
            f"{count:,} images by its header, expected 1 … 1" if count > 13_000 or pack is bytes else "10,000 bytes"
        )
        assert peak_bytes(path, refused) < 1_000_000
    path.write_bytes(pack(idx(labels_of(1_000_001))))  # too many for any file
    with pytest.raises(DataError, match="1,000,001 labels by its header, expected 1 … "):
        read_idx(path, "labels")


def test_memory_follows_the_honest_size_even_of_a_gzip_bomb(tmp_path):
    for count in (1, 100):
        with gzip.open(tmp_path / "bomb.gz", "wb") as file:
            file.write(struct.pack(">4I", 0x803, count, 28, 28))
            for _ in range(64):
                file.write(bytes(2**20))
        assert peak_bytes(tmp_path / "bomb.gz", "more bytes") < 4 * 784 * count + 300_000  # 300 kB: buffers, the error
    (tmp_path / "f").write_bytes(gzip.compress(idx(images_of(5000))))
    assert peak_bytes(tmp_path / "f", None) < 4 * 784 * 5000


def right_answer(content: bytes, kind: str) -> np.ndarray | None:
    """The array, or None, by the shortest reading of the format that there is."""
    dtype = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4"}.get(content[2]) if len(content) > 3 else None
    if dtype is None or content[:2] != b"\0\0" or len(content) < (header := 4 + 4 * content[3]):
        return None
    shape, data = struct.unpack(f">{content[3]}I", content[4:header]), content[header:]
    if not shape or shape[0] == 0 or len(data) != math.prod(shape) * np.dtype(dtype).itemsize:
        return None
    array = np.frombuffer(data, dtype).reshape(shape)
    if kind == "images":
        sizes = len(shape) in (3, 4) and all(8 <= side <= 128 for side in shape[1:3])
        fits = dtype == "u1" and sizes and shape[3:] in ((), (1,), (3,))
        return (array[..., 0] if shape[3:] == (1,) else array) if fits else None
    return (
        array.reshape(len(array), -1)[:, 0] if shape[1:] in ((), (1,)) or (dtype, shape[1:]) == (">i4", (8,)) else None
    )


def check_reader(content: bytes, kind: str, suffix: str, right: np.ndarray | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f{suffix}"
        path.write_bytes(content)
        if right is None:
            with pytest.raises(DataError):
                read_idx(path, kind)
        else:
            np.testing.assert_array_equal(read_idx(path, kind), right)


@st.composite
def mutated(draw, content: bytes) -> bytes:
    """`content` after some flips, insertions, deletions and cuts, most of them near its start."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, min(20, len(content))) | st.integers(0, len(content)))
        how_many = draw(st.integers(0, 4) | st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=4)) + content[at + how_many :]
    return content


FILES_OF_KINDS = [
    ("images", idx(images_of(2))),
    ("images", idx_bytes(images_of(2)[:, :9, :8, np.newaxis])),
    ("images", idx_bytes(np.stack([images_of(2)[:, :8, :10]] * 3, axis=-1))),
    ("labels", idx(labels_of(12))),
    ("labels", idx_bytes(labels_of(12).astype(np.int16)[:, np.newaxis] * 300)),
    ("labels", idx_bytes(np.arange(24, dtype=np.int32).reshape(3, 8))),
]


@given(st.binary(max_size=60), st.data(), st.sampled_from(FILES_OF_KINDS), st.sampled_from(["", ".gz"]))
def test_arbitrary_and_mutated_files_are_read_right_or_refused(arbitrary, data, file, suffix):
    kind, whole = file
    np.testing.assert_array_equal(right_answer(whole, kind).shape[0], struct.unpack(">I", whole[4:8])[0])
    for content in (arbitrary, data.draw(mutated(whole))):
        right = None if content.startswith(b"\x1f\x8b") else right_answer(content, kind)
        check_reader(content, kind, suffix, right)
        check_reader(gzip.compress(content), kind, suffix, right_answer(content, kind))
    content = data.draw(mutated(gzip.compress(whole, mtime=0)))
    try:
        right = right_answer(gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content, kind)
    except Exception:  # zlib.error, EOFError, BadGzipFile: whatever it is, it has to become a DataError
        right = None
    check_reader(content, kind, suffix, right)


# --- loading from a folder


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_local_files_are_loaded_and_others_than_the_original_ones_are_noted(tmp_path, name, gz):
    place(tmp_path, PLAIN, gz, name)
    data = load(name, str(tmp_path))
    assert data.name == name
    assert data.source == f"{tmp_path / name}: 30 training and 20 test images"
    assert data.note == f"by their checksum these are other files, not the original {name}"
    np.testing.assert_array_equal(data.train.images, images_of(30))
    np.testing.assert_array_equal(data.test.labels, labels_of(20))
    assert (data.train.images.dtype, data.train.labels.dtype) == (np.uint8, np.int64)
    assert data.class_names[3:5] == {"mnist": ("3", "4"), "fashion_mnist": ("Dress", "Coat")}[name]
    whole = b"".join(array.tobytes() for array in (*data.train[:2], *data.test[:2]))
    assert mnist_data.fingerprint(data) == hashlib.sha256(whole).hexdigest()  # however stored


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("stems", [STEMS, [stem.replace("-idx", ".idx") for stem in STEMS]])
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        *(("mnist", folder) for folder in (".", "raw", "mnist", "mnist/raw", "MNIST/raw", "mnist/MNIST/raw")),
        ("fashion_mnist", "FashionMNIST/raw"),
    ],
)
def test_folders_and_spellings_in_use_are_found(tmp_path, name, folder, stems, gz):
    place(tmp_path, dict(zip(stems, PLAIN.values(), strict=True)), gz, folder)
    (tmp_path / name).mkdir(exist_ok=True)  # an empty one is no obstacle
    data = load(name, tmp_path)
    assert data.source.startswith(f"{tmp_path / folder}: 30 ")
    np.testing.assert_array_equal(data.train.images, images_of(30))


def test_the_folder_that_holds_most_counts_and_in_it_the_gzipped_file(tmp_path):
    place(tmp_path, {TRAIN_IMAGES: b"a leftover"})
    place(tmp_path, plain_files(train=5), name="MNIST/raw")
    place(tmp_path, PLAIN, gz=True, name="MNIST/raw")
    assert len(load("mnist", tmp_path).train.labels) == 30


def test_files_of_other_names_are_never_read(tmp_path):
    folder = place(tmp_path, PLAIN, gz=True)
    strange = (
        "{}_old",
        "{}_1.gz",
        "copy_of_{}.txt",
        "{}.sync-conflict-20261126-101010-ABCDEFG.gz",
        "._{}.gz",
        "{} (conflicted copy).gz",
        ".partial-{}.gz",
        "{}.gz~",
        "{}.gz.part",
        "tmp{}",
    )
    for stem in STEMS:
        for name in strange:
            (folder / name.format(stem)).write_bytes(b"not read")
    assert len(load("mnist", tmp_path).train.labels) == 30
    (folder / f"{TRAIN_IMAGES}.gz").unlink()
    with pytest.raises(DataError, match=f"{folder}: {TRAIN_IMAGES} is missing"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_files_of_other_sets_are_no_obstacle_and_not_taken(tmp_path, name):
    for prefix in ("emnist-digits-", "emnist-letters-"):
        for stem in STEMS:
            (tmp_path / f"{prefix}{stem}").write_bytes(PLAIN[stem])
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES} and 3 more files are missing"):
        load("mnist", tmp_path, fetch=False)
    folder = place(tmp_path, plain_files(train=10))
    (folder / f"copy_of_{TRAIN_IMAGES}").write_bytes(b"")
    assert len(load(name, tmp_path).train.labels) == 10
    for stem in STEMS:
        (folder / f"kmnist-{stem}").write_bytes(PLAIN[stem])
    with pytest.raises(DataError, match="several data sets, those without a prefix, kmnist-; give each a folder"):
        load(name, tmp_path)


@pytest.mark.parametrize(
    ("said", "meant"), [("MNIST", "mnist"), ("Fashion-MNIST", "fashion_mnist"), ("digits.npz", "digits")]
)
def test_another_spelling_of_a_known_name_is_told(tmp_path, said, meant):
    with pytest.raises(DataError, match=f"dataset: there is no {said} in {tmp_path}; did you mean {meant}\\?"):
        load(said, tmp_path)


def test_names_of_classes_are_utf8_with_or_without_a_mark(tmp_path):
    folder = place(tmp_path, PLAIN, name="mine")
    for mark in (b"", b"\xef\xbb\xbf"):
        (folder / "classes.txt").write_bytes(mark + "café\n".encode() * 10)
        assert load("mine", tmp_path).class_names == ("café",) * 10
    (folder / "classes.txt").write_bytes(b"caf\xe9\n" * 10)
    with pytest.raises(DataError, match=r"classes\.txt: expected UTF-8 text"):
        load("mine", tmp_path)
    (folder / "classes.txt").unlink()
    (folder / "notes-mapping.txt").write_text("not EMNIST's")
    assert load("mine", tmp_path).class_names == tuple("0123456789")


@pytest.mark.parametrize("content", [b"plain text", gzip.compress(b"packed", mtime=0)], ids=["text", "gzip"])
def test_an_npz_file_that_is_none_is_told_without_advice_to_unpickle_it(tmp_path, content):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(
        DataError, match=r"mine\.npz: not an npz file by its first bytes; put a whole file in its place$"
    ):
        load("mine", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_what_does_not_fit_or_leads_nowhere_is_told_and_not_replaced(tmp_path, name):
    folder = place(tmp_path, PLAIN | {TEST_LABELS: idx(labels_of(19))})
    with pytest.raises(DataError, match="mnist: 19 labels for 20 images in the test split"):
        load(name, tmp_path)
    (folder / f"{TRAIN_IMAGES}.gz").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}.gz: missing, or not"):
        load(name, tmp_path)
    assert (folder / f"{TRAIN_IMAGES}.gz").is_symlink()


def test_a_name_without_files_is_told_with_what_is_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"cifar: train-images-.* missing; put .* or name .*, or cifar.npz in .*$"):
        load("cifar", tmp_path)


# --- what is missing; auto and digits


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_what_is_missing_is_told_shortly_and_no_folder_is_made(tmp_path, monkeypatch, name, fetch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        load(name, "not/here", fetch)
    told = (
        f"not/here/{name}: {TRAIN_IMAGES} and 3 more files are missing"
        + " and can't be fetched (ConnectionError)" * fetch
    )
    assert str(caught.value) == f"{told}; put the four IDX files there, or name their folder by --data_dir"
    assert names_in(tmp_path) == set()
    place(Path("data"), {stem: PLAIN[stem] for stem in STEMS[1:]} | {"train.csv": b"", ".DS_Store": b""}, name=name)
    with pytest.raises(DataError) as caught:
        load(name, "data", fetch)
    assert f"data/{name}: {TRAIN_IMAGES} is missing" in str(caught.value)
    assert f"; there are train.csv in data/{name}, which are not read; " in str(caught.value)
    assert len(str(caught.value)) < 300
    assert len(names_in(Path("data") / name)) == 5


def test_auto_falls_back_to_digits_and_says_so_in_a_short_line(tmp_path):
    data = load("auto", tmp_path)
    assert (data.name, data.source) == ("digits", load("digits", "").source)
    assert "INSTEAD OF MNIST" in data.note
    assert len(f"note: {data.note}") <= 80
    assert "\n" not in data.note + data.source
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("stem", STEMS)
def test_auto_never_falls_back_for_a_damaged_file(tmp_path, stem):
    for number, others in enumerate(({}, PLAIN)):
        place(tmp_path / str(number), others | {stem: PLAIN[stem][:-1]})
        with pytest.raises(DataError, match=f"{stem}: "):
            load("auto", tmp_path / str(number))


def test_digits_have_the_shape_of_mnist_and_always_the_same_split():
    from sklearn.datasets import load_digits

    data, again = load("digits", "/nonexistent"), load("digits", "/nonexistent")
    assert (data.name, data.class_names) == ("digits", tuple("0123456789"))
    assert data.train.images.shape == (1438, 28, 28)
    assert data.test.images.shape == (359, 28, 28)
    for part, same in zip(data[3:5], again[3:5], strict=True):
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int64)
        assert (part.images.min(), part.images.max()) == (0, 255)
        np.testing.assert_array_equal(part.images, same.images)
        shares = np.bincount(part.labels, minlength=10) / len(part.labels)
        np.testing.assert_allclose(shares, np.bincount(load_digits().target) / 1797, atol=0.003)
    assert "1,438 training and 359 test" in data.source
    assert data.note == ""


def test_digits_are_the_small_images_smoothly_enlarged_and_framed():
    from sklearn.datasets import load_digits

    small = load_digits().images  # 0 … 16
    data = load("digits", "unused")
    images = np.concatenate([data.train.images, data.test.images]).astype(float)
    frame = np.ones((28, 28), bool)
    frame[2:26, 2:26] = False
    assert not images[:, frame].any()
    # The middle of each 3×3 block is the small pixel itself, whatever the interpolation; a set, as the split reorders.
    middles = images[:, 3:26:3, 3:26:3].reshape(1797, 64)
    expected = np.rint(small.reshape(1797, 64) * 255 / 16)
    np.testing.assert_array_equal(middles[np.lexsort(middles.T)], expected[np.lexsort(expected.T)])
    # Between two middles it is linear: a third of the way is a third of the difference.
    left, third, right = images[:, 3:26:3, 3:24:3], images[:, 3:26:3, 4:25:3][:, :, :7], images[:, 3:26:3, 6:27:3]
    np.testing.assert_allclose(third, left[:, :, :7] * 2 / 3 + right / 3, atol=1)


# --- fetching, from a server that really answers (or doesn't)


class Handler(http.server.BaseHTTPRequestHandler):
    """/<behaviour>/<file>.gz"""

    def do_GET(self):
        behaviour, _, file = self.path.strip("/").partition("/")
        self.server.requests.append(self.path)
        content = GZIPPED[file.removesuffix(".gz")]
        half = content[: len(content) // 2]
        if behaviour == "silent":
            self.server.over.wait(30)
        if behaviour == "garbage":
            self.wfile.write(b"\0\1\2 this is no HTTP\r\n\r\n")
            return
        self.send_response(302 if behaviour == "loop" else int(behaviour) if behaviour.isdigit() else 200)
        bodies = {"wrong": content[:-1] + b"?", "page": b"<html>please log in</html>", "cut": half, "short": half}
        body = (bodies | {"hang": half, "loop": b""}).get(behaviour, content)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", str(len(content if behaviour in ("cut", "hang") else body)))
        self.end_headers()
        self.wfile.write(body)
        if behaviour == "hang":
            self.server.over.wait(30)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    importlib.import_module("pooch")
    importlib.import_module("requests")  # or it would be imported on the clock of the first download
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.over, server.daemon_threads = [], threading.Event(), True
        server.handle_error = lambda *about: None  # clients that hang up are what is tested
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        checksums = {f"mnist/{stem}": hashlib.sha256(content).hexdigest() for stem, content in GZIPPED.items()}
        monkeypatch.setattr(mnist_data, "SHA256", checksums)
        monkeypatch.setattr(mnist_data, "SILENCE_SECONDS", 0.4)

        def serve(*behaviours: str) -> list[str]:
            mirrors = tuple(f"http://127.0.0.1:{server.server_port}/{behaviour}/" for behaviour in behaviours)
            monkeypatch.setattr(mnist_data, "MIRRORS", {"mnist": mirrors})
            return server.requests

        yield serve
        server.over.set()
        server.shutdown()
        thread.join()


FAILURES = {
    "404": "HTTP 404",
    "500": "HTTP 500",
    "wrong": "wrong checksum",
    "page": "wrong checksum",
    "cut": "ChunkedEncodingError",
    "short": "wrong checksum",
    "loop": "HTTP 302",
    "garbage": "ConnectionError",
    "silent": "ReadTimeout",
    "hang": "ConnectionError",
}


def test_missing_files_are_fetched_once_and_quietly(tmp_path, server, capfd, monkeypatch):
    requests = server("good")
    monkeypatch.chdir(tmp_path)  # a relative folder stays relative to where one is
    data = load("auto", "deep/data")
    folder = tmp_path / "deep" / "data" / "mnist"
    assert names_in(folder) == {f"{stem}.gz" for stem in STEMS}
    for stem in STEMS:
        assert (folder / f"{stem}.gz").read_bytes() == GZIPPED[stem]
        assert (folder / f"{stem}.gz").stat().st_mode & 0o777 == 0o644
    np.testing.assert_array_equal(data.train.images, images_of(30))
    assert data.source.endswith(", fetched")
    assert len(requests) == 4
    assert load("mnist", tmp_path / "deep" / "data").source == f"{folder}: 30 training and 20 test images"
    assert len(requests) == 4
    assert capfd.readouterr() == ("", "")


def test_only_what_is_missing_is_fetched_and_what_is_there_stays_as_it_is(tmp_path, server):
    requests = server("good")
    own = gzip.compress(PLAIN[TRAIN_IMAGES], 1, mtime=7)  # whole, but of another checksum
    folder = place(tmp_path, {TEST_LABELS: PLAIN[TEST_LABELS]})
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(own)
    load("mnist", tmp_path)
    assert {request.split("/")[-1] for request in requests} == {f"{TRAIN_LABELS}.gz", f"{TEST_IMAGES}.gz"}
    assert (folder / f"{TRAIN_IMAGES}.gz").read_bytes() == own
    assert not (folder / f"{TEST_LABELS}.gz").exists()


@pytest.mark.parametrize("failure", FAILURES)
def test_when_a_mirror_fails_the_next_one_serves_and_when_all_fail_their_answers_are_told(tmp_path, server, failure):
    requests = server(failure, "good")
    folder = place(tmp_path, {stem: PLAIN[stem] for stem in STEMS[1:]})
    started = time.monotonic()
    assert load("mnist", tmp_path).name == "mnist"
    assert requests[0].startswith(f"/{failure}/")
    assert requests[-1].startswith("/good/")
    assert names_in(folder) == {f"{TRAIN_IMAGES}.gz", *STEMS[1:]}
    server("404", failure)
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path / "new")
    answers = ", ".join(dict.fromkeys(["HTTP 404", FAILURES[failure]]))
    assert f" and 3 more files are missing and can't be fetched ({answers}); put" in str(caught.value)
    assert time.monotonic() - started < 30
    assert names_in(tmp_path) == {"mnist"}


def test_a_folder_that_can_not_be_written_entered_or_made_is_told(open_folder, server, nobody):
    requests = server("good")
    for mode in (0o555, 0):
        (open_folder / "data").mkdir(mode=mode)
        what = f"{TRAIN_IMAGES} .*" if mode else "can't be looked into "
        with pytest.raises(DataError, match=rf"{open_folder}/data/mnist: {what}\(Permission"):
            load("mnist", open_folder / "data")
        (open_folder / "data").rmdir()
    (open_folder / "mnist").write_text("mine")
    with pytest.raises(DataError, match=rf"mnist: {TRAIN_IMAGES} and 3 more files are missing and can't be fetched"):
        load("mnist", open_folder)
    assert (open_folder / "mnist").read_text() == "mine"
    assert requests == []  # known before the download


def in_new_process(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def loading_code(data_dir: Path) -> str:
    return f"""
import mnist_data
mnist_data.MIRRORS, mnist_data.SHA256 = {mnist_data.MIRRORS!r}, {mnist_data.SHA256!r}
try:
    mnist_data.load("mnist", {str(data_dir)!r})
except mnist_data.DataError as error:
    print(error)
"""


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, server):
    server("good")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    done = in_new_process(limit + loading_code(tmp_path))
    assert "can't be fetched (File too large)" in done.stdout, done
    assert names_in(tmp_path) == set()


def test_a_process_killed_while_fetching_does_no_harm(tmp_path, server):
    requests = server("hang")
    process = subprocess.Popen([sys.executable, "-c", loading_code(tmp_path)], cwd=ROOT)
    while not requests and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.2)
    process.kill()
    process.wait()
    assert requests
    assert names_in(tmp_path / "mnist").isdisjoint(f"{stem}{end}" for stem in STEMS for end in ("", ".gz"))
    server("good")
    assert len(load("mnist", tmp_path).train.labels) == 30


def test_importing_loads_neither_the_downloader_nor_scikit_learn_nor_tensorflow():
    heavy = "{'pooch', 'requests', 'sklearn', 'scipy', 'tensorflow', 'matplotlib'}"
    done = in_new_process(f"import sys, mnist_data; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done


def test_every_real_mirror_and_checksum_is_named_in_the_module():
    fresh = in_new_process("import mnist_data; print(mnist_data.MIRRORS); print(mnist_data.SHA256)")
    mirrors, checksums = map(eval, fresh.stdout.splitlines())
    assert set(mirrors) == {"mnist", "fashion_mnist"}
    assert all(len(urls) >= 2 and all(url.endswith("/") for url in urls) for urls in mirrors.values())
    assert set(checksums) == {f"{name}/{stem}" for name in mirrors for stem in STEMS}
    assert len({*checksums.values()}) == 8


# --- the stratified split


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=200),
    st.floats(0, 0.99),
    st.integers(0, 2**32 - 1),
)
def test_split_keeps_the_share_of_every_class_or_refuses(labels, fraction, seed):
    labels = np.array(labels, dtype=np.int64)
    classes, counts = np.unique(labels, return_counts=True)
    possible = fraction == 0 or bool(((counts * fraction >= 1) & (counts - counts * fraction >= 1)).all())
    if not possible:
        with pytest.raises(DataError, match="can't hold out"):
            stratified_split(labels, fraction, seed)
        return
    kept, held_out = stratified_split(labels, fraction, seed)
    assert (kept.dtype, held_out.dtype) == (np.int64, np.int64)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(len(labels)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held_out) > 0).all()
    assert len(held_out) == round(len(labels) * fraction)
    for label, count in zip(classes, counts, strict=True):
        assert abs((labels[held_out] == label).sum() - count * len(held_out) / len(labels)) < 1.0001


def test_split_depends_on_its_seed_and_on_no_other():
    labels, state = np.arange(1000) % 10, np.random.get_state()[1].copy()
    first, again, other = (stratified_split(labels, 0.2, seed)[1] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert len(stratified_split(np.zeros(100, np.int64), 0.07, 0)[1]) == 7


def test_split_refuses_what_is_no_fraction_and_a_class_too_small():
    for fraction in (-0.1, 1.0, 1.5, float("nan"), float("inf")):
        with pytest.raises(DataError, match="can't hold out"):
            stratified_split(np.arange(100) % 10, fraction, 0)
    for labels in ([], [0], [0] * 50 + [1], [0] * 50 + [1] * 4):
        with pytest.raises(DataError, match="can't hold out"):
            stratified_split(np.array(labels, np.int64), 0.2, 0)
        kept, held_out = stratified_split(np.array(labels, np.int64), 0, 0)
        np.testing.assert_array_equal(kept, np.arange(len(labels)))
        assert (held_out.shape, held_out.dtype) == ((0,), np.int64)


# --- the order of the batches


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**40), st.integers(0, 200))
def test_every_epoch_holds_every_example_once_and_goes_on_from_any_step(num_examples, batch_size, seed, first_step):
    steps = -(-num_examples // batch_size)
    stream = list(islice(batches(num_examples, batch_size, seed), first_step + 3 * steps))
    for start in range(0, 3 * steps, steps):
        epoch = stream[start : start + steps]
        assert [len(batch) for batch in epoch[:-1]] == [batch_size] * (steps - 1)  # the last alone may be short
        assert {batch.dtype for batch in epoch} == {np.dtype(np.int64)}
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(num_examples))
    resumed = islice(batches(num_examples, batch_size, seed, first_step), 3 * steps)
    for expected, got in zip(stream[first_step:], resumed, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_epochs_and_seeds_differ_and_the_batch_size_only_cuts():
    def epochs(seed, batch_size=10):
        stream = batches(100, batch_size, seed, 0)
        return [np.concatenate(list(islice(stream, 100 // batch_size))) for _ in range(3)]

    orders = [*epochs(0), *epochs(1), np.arange(100)]
    assert len({order.tobytes() for order in orders}) == 7
    np.testing.assert_array_equal(epochs(0, 10), epochs(0, 25))


def test_the_order_is_the_documented_one_whatever_numpy_s_global_seed():
    for global_seed in (1, 2):
        np.random.seed(global_seed)
        second_epoch = np.random.default_rng([3, 1]).permutation(7)
        for got, expected in zip(islice(batches(7, 5, 3, 2), 2), (second_epoch[:5], second_epoch[5:]), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_far_first_step_costs_nothing_and_wrong_arguments_are_refused_at_the_call():
    started = time.monotonic()
    assert len(next(batches(60_000, 1, 0, first_step=10**12))) == 1
    assert time.monotonic() - started < 10
    for name, value in (("num_examples", 0), ("batch_size", 0), ("seed", -1), ("first_step", -1)):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            batches(**{"num_examples": 10, "batch_size": 5, "seed": 0, "first_step": 0} | {name: value})


# --- the real data

HISTOGRAM = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # of MNIST's test labels, 0 … 9


@pytest.mark.parametrize(("name", "other"), [("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")])
def test_real_data_are_known_by_their_checksums_even_in_another_s_place(real_path, tmp_path, name, other):
    folder = real_path(f"{name}/{TRAIN_IMAGES}.gz").parent.absolute()
    for stem in STEMS:
        packed = (folder / f"{stem}.gz").read_bytes()
        assert hashlib.sha256(packed).hexdigest() == mnist_data.SHA256[f"{name}/{stem}"]
    data = load(name, folder.parent)
    assert (data.source, data.note) == (f"{folder}: 60,000 training and 10,000 test images", "")
    assert (data.train.images.shape, data.test.images.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    histogram = HISTOGRAM if name == "mnist" else [1000] * 10
    np.testing.assert_array_equal(np.bincount(data.test.labels), histogram)
    kept, held_out = stratified_split(data.train.labels, 0.2, 0)
    assert (len(kept), len(held_out)) == (48_000, 12_000)
    (tmp_path / other).symlink_to(folder)
    assert load(other, tmp_path).note == f"by their checksum these are {name} files, not the original {other}"


def test_real_mnist_is_what_auto_takes(real_data):
    data = load("auto", real_data)
    assert data.name == "mnist"
    np.testing.assert_array_equal(data.train.labels[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    assert data.train.images.mean() == pytest.approx(0.1307 * 255, abs=0.02)


def test_shifted_images_are_the_images_moved_and_nothing_else():
    images = np.random.default_rng(0).integers(1, 256, (200, 28, 28)).astype(np.uint8)
    moved = shifted(images, 2, seed=1, step=5)
    assert (moved.shape, moved.dtype) == (images.shape, images.dtype)
    places = [(slice(down, down + 28), slice(right, right + 28)) for down in range(5) for right in range(5)]
    matches = [
        [np.array_equal(np.pad(before, 2)[p], after) for p in places]
        for before, after in zip(images, moved, strict=True)
    ]
    assert {sum(row) for row in matches} == {1}
    assert np.any(matches, axis=0).all()  # each of the 25 is drawn
    np.testing.assert_array_equal(shifted(images, 2, seed=1, step=5), moved)
    assert not np.array_equal(shifted(images, 2, seed=1, step=6), moved)
    assert shifted(images, 0, seed=1, step=5) is images
