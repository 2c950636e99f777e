"""Data sets: found or fetched, and put together. What is done with them then is in splits.py.

A data set NAME is `data_dir/NAME.npz`, or four IDX files in `data_dir/NAME/`. Its shape of images, classes and their
names are what the files say; all else derives from them. MNIST and Fashion-MNIST are also found in torchvision's
folders and in `data_dir` itself, and what is missing of them is fetched and held to its checksum. What is there is the
user's own, and never changed.
"""

import itertools
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from data_files import Arrays, DataError, malformed, read_idx, read_npz
from splits import Dataset, Split, fingerprint, stratified_split

FASHION = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
CLASS_NAMES = {"mnist": tuple("0123456789"), "fashion_mnist": tuple(FASHION.split(", ")), "digits": tuple("0123456789")}
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}  # torchvision's folders
MIRRORS = {  # tried in this order
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
SHA256 = {  # of the .gz files
    "mnist/train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "mnist/train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "mnist/t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "mnist/t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    "fashion_mnist/train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "fashion_mnist/train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "fashion_mnist/t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "fashion_mnist/t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
ORIGINALS = {  # by `fingerprint`
    "1e35582d42a90940c55b956deb61875c020b567ed20e3c5b174f52bf7809ed9b": "mnist",
    "ece172613115fb18b120bec8f6c02271af90b8b8f0a5af5c51cbd5ceed68e619": "fashion_mnist",
}
SILENCE_SECONDS = 8.0  # a mirror that sends nothing for so long is given up
MAX_CLASSES = 100_000


class _UnavailableError(DataError):
    """A file is missing and can't be fetched or stored: the only thing `auto` falls back for."""


def load(name: str, data_dir: Path | str, fetch: bool = True, transpose: bool = False) -> Dataset:
    """The data set `name`; "digits" is scikit-learn's, and "auto" MNIST if it can be had, else the digits, with a note.

    Args:
        name: of the data set.
        data_dir: where its files are looked for.
        fetch: whether to fetch what is missing of MNIST and Fashion-MNIST.
        transpose: whether the images lie on their sides, as EMNIST's do, and are to be turned upright.

    Raises:
        DataError: if a file is unreadable or malformed, or one is missing and can't be had.
    """
    data_dir = Path(os.path.expanduser(data_dir))  # noqa: PTH111 - Path.expanduser raises where a user is unknown
    if name == "auto":
        try:
            return load("mnist", data_dir, fetch, transpose)
        except _UnavailableError:
            note = "the digits are used INSTEAD OF MNIST; --dataset mnist says why"
            return load("digits", data_dir, fetch, transpose)._replace(note=note)
    usual = re.sub(r"\W", "_", name.lower().removesuffix(".npz"))
    if usual != name and usual in (*CLASS_NAMES, "auto") and not os.path.lexists(data_dir / name):
        raise DataError(f"dataset: there is no {name} in {data_dir}; did you mean {usual}?")
    if name == "digits":
        data = _load_digits()
    elif os.path.isfile(data_dir / f"{name}.npz"):  # noqa: PTH113 - Path.is_file raises where a folder is closed
        data = _load_npz(name, data_dir / f"{name}.npz")
    else:
        data = _load_idx_files(name, data_dir, fetch)
    if transpose:
        turned = {
            key: split._replace(images=np.ascontiguousarray(split.images.swapaxes(1, 2)))
            for key, split in data._asdict().items() if isinstance(split, Split)
        }  # fmt: skip
        data = data._replace(**turned)
    return data


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the folders and of the files in `folder`; none where there is no such folder."""

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise DataError(f"{folder}: can't be looked into ({error.strerror}); open it, or name another folder")

    # A link that leads nowhere is among the files, and an error.
    return next(os.walk(folder, onerror=refuse), ("", [], []))[1:]


def _find(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of FILES that are in `folder`, by their prefix; known by their whole names, the last of several counts.

    A name may have a prefix, and "test" in the place of "t10k", as EMNIST's and QMNIST's have.
    """
    _, names = _listed(folder)
    names.sort(key=lambda name: (name.endswith((".gz", ".xz")), "-idx" in name, name))
    sets: dict[str, dict[str, Path]] = {}
    for match in filter(None, map(_NAME.fullmatch, names)):
        role = f"{match['split'].replace('test', 't10k')}-{match['kind']}"
        sets.setdefault(match["prefix"], {})[role] = folder / match[0]
    return sets


_NAME = re.compile(
    r"(?P<prefix>(?:\w[\w.+-]*[-_])?)(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d-"
    r"(?:ubyte|byte|short|int)(?:\.gz|\.xz)?"
)


def _load_idx_files(name: str, data_dir: Path, fetch: bool) -> Dataset:
    fetched = name in MIRRORS
    named, bare = [data_dir / name / end for end in ("", "raw")], []
    if fetched:
        named += [base / TORCHVISION[name] / end for base in (data_dir / name, data_dir) for end in ("", "raw")]
        bare += [data_dir, data_dir / "raw"]  # whose files with a prefix are of other sets
    candidates = [(at, _find(at)) for at in named] + [(at, {"": _find(at).get("", {})}) for at in bare]
    # The first of those folders that hold most of the files.
    folder, sets = max(candidates, key=lambda candidate: max(map(len, candidate[1].values()), default=0))
    most = max(map(len, sets.values()), default=0)
    if len(prefixes := [prefix for prefix, files in sets.items() if len(files) == most]) > 1:
        names = ", ".join(prefix or "those without a prefix" for prefix in sorted(prefixes))
        raise DataError(f"{folder}: files of several data sets, {names}; give each a folder")
    prefix = prefixes[0] if prefixes else ""
    found = dict(sets.get(prefix, {}))
    roles = {"-".join(file.split("-")[:2]): file for file in FILES}
    # What is there comes first: that a file is damaged must be told before `auto` falls back for a missing one.
    arrays = {role: read_idx(path, role.split("-")[1]) for role, path in found.items()}
    for role in (missing := [role for role in roles if role not in found]):
        found[role] = folder / f"{roles[role]}.gz"
        mirrors = MIRRORS[name] if fetch and fetched else ()
        answers = _fetch(found[role], SHA256[f"{name}/{roles[role]}"], mirrors) if mirrors else []
        if not os.path.lexists(found[role]):
            names = [roles[r] for r in missing]
            others = "" if fetched else f", or {name}.npz in {data_dir}"
            known = {path.name for path in found.values()}
            raise _UnavailableError(_what_is_missing(folder, names, answers, known) + others)
        arrays[role] = read_idx(found[role], role.split("-")[1])
    splits = {
        split: (arrays[f"{key}-images"], arrays[f"{key}-labels"])
        for split, key in (("train", "train"), ("test", "t10k"))
    }
    return _assembled(
        name, folder, splits, _names_in(folder, prefix, arrays["train-labels"]), ", fetched" * bool(missing)
    )


def _load_npz(name: str, path: Path) -> Dataset:
    splits, names = read_npz(path)
    return _assembled(name, path, splits, None if names is None else list(map(str, names.ravel())), "")


def _names_in(folder: Path, prefix: str, labels: np.ndarray) -> list[str] | None:
    """The names of the classes, by `classes.txt`, a name a line, or by EMNIST's mapping of labels to characters."""
    names, mapping = folder / "classes.txt", folder / f"{prefix}mapping.txt"
    try:
        if names.is_file():
            return names.read_text(encoding="utf-8-sig").splitlines()
        if prefix and mapping.is_file():
            lines = [line.split() for line in mapping.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            known = {int(label): "".join(chr(int(code)) for code in codes) for label, *codes in lines}
            return [known[label] for label in np.unique(labels).tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"{names if names.is_file() else mapping}: expected UTF-8 text ({error})") from None
    except (ValueError, KeyError) as error:
        raise DataError(f"{mapping}: expected lines of each label and codes of characters ({error})") from None
    return None


def _assembled(name: str, path: Path, splits: dict[str, Arrays], names: list[str] | None, remark: str) -> Dataset:
    """The data set from its arrays: labels become class ids, 0 … C − 1 in the order of the labels in training."""
    for split, (images, labels) in splits.items():
        if len(images) != len(labels):
            raise malformed(path, f"{len(labels):,} labels for {len(images):,} images in the {split} split")
        if images.shape[1:] != splits["train"][0].shape[1:]:
            shapes = f"{list(images.shape[1:])} in the {split} split, {list(splits['train'][0].shape[1:])} in training"
            raise DataError(f"{path}: images of {shapes}, expected one size; import_data.py brings them to one")
    known = np.unique(splits["train"][1])
    if not 2 <= len(known) <= MAX_CLASSES:
        raise DataError(f"{path}: {len(known):,} classes, expected 2 to {MAX_CLASSES:,}")
    if names is None and list(known) == list(range(len(CLASS_NAMES.get(name, ())))):
        names = CLASS_NAMES[name]
    if names is not None and len(names) != len(known):
        raise DataError(
            f"{path}: {len(names)} names of classes, expected {len(known)}, one for each label in its order"
        )
    class_names = tuple(map(str, known) if names is None else names)
    parts = {}
    for split, (images, labels) in splits.items():
        if strange := sorted(set(np.unique(labels)) - set(known)):
            raise DataError(
                f"{path}: label {strange[0]} is in the {split} split, but of no training image; remove its images, or "
                "add some to the training split"
            )
        parts[split] = Split(images, np.searchsorted(known, labels))
    source = f"{path}: {len(parts['train'].labels):,} training and {len(parts['test'].labels):,} test images{remark}"
    data = Dataset(name, source, class_names, parts["train"], parts["test"], parts.get("validation"))
    if name in MIRRORS and (whose := ORIGINALS.get(fingerprint(data), "other")) != name:
        note = f"by their checksum these are {whose} files, not the original {name}"
        return data._replace(note=note, class_names=CLASS_NAMES.get(whose, class_names))
    return data


def _what_is_missing(folder: Path, missing: list[str], answers: list[str], known: set[str]) -> str:
    what = missing[0] + (f" and {len(missing) - 1} more files are" if missing[1:] else " is")
    why = f" and can't be fetched ({', '.join(dict.fromkeys(answers))})" if answers else ""
    at = folder if folder.is_dir() else folder.parent
    folders, files = _listed(at)
    names = sorted(n for n in [*(f"{name}/" for name in folders), *files] if n not in known and not n.startswith("."))
    others = f"; there are {', '.join(name[:30] for name in names[:3])} in {at}, which are not read" if names else ""
    return f"{folder}: {what} missing{why}{others}; put the four IDX files there, or name their folder by --data_dir"


def _fetch(path: Path, sha256: str, mirrors: Sequence[str]) -> list[str]:
    """Fetches `path`, whole or not at all, from the first mirror that has it; returns what the others answered."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    # Without the header, requests would unpack what a server declares as packed.
    downloader = pooch.HTTPDownloader(timeout=SILENCE_SECONDS, headers={"Accept-Encoding": "identity"})
    made, answers = list(itertools.filterfalse(os.path.exists, path.parents)), []
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + path.name, sha256, path.name, path.parent.absolute(), downloader=downloader)
            path.chmod(0o644)  # pooch makes it for its owner only
            break
        except ValueError:
            answers.append("wrong checksum")
        except OSError as error:  # of requests, or of the disk
            status = getattr(getattr(error, "response", None), "status_code", None)
            answers.append(f"HTTP {status}" if status else error.strerror or type(error).__name__)
    with suppress(OSError):  # the folder holds the file
        for folder in made:
            folder.rmdir()
    return answers


def _load_digits() -> Dataset:
    """scikit-learn's 8×8 digits, brought to 24×24 by linear interpolation and framed to 28×28."""
    from sklearn.datasets import load_digits

    small = load_digits()
    at = (np.arange(24) + 0.5) / 3 - 0.5  # where the centers of the 24 pixels lie, counted in the 8
    weights = np.stack([np.interp(at, np.arange(8), row) for row in np.eye(8)], axis=1)  # [24, 8]
    enlarged = np.rint(weights @ small.images @ weights.T * (255 / 16)).astype(np.uint8)
    images, labels = np.pad(enlarged, ((0, 0), (2, 2), (2, 2))), small.target.astype(np.int64)
    train, test = (Split(images[i], labels[i]) for i in stratified_split(labels, fraction=0.2, split_seed=0))
    source = f"scikit-learn's digits: {len(train.labels):,} training and {len(test.labels)} test images"
    return Dataset("digits", source, CLASS_NAMES["digits"], train, test)
