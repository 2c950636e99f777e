"""The newest whole checkpoint, among ones that a Saver wrote and that were damaged afterwards."""

import random
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from running import checkpoints
from running.checkpoints import CheckpointError

SHAPES = {"lenet/conv1a/kernel": [5, 5, 1, 8], "lenet/conv1a/slope": [8], "centers": [10, 2], "lenet/scale": []}
STEPS = (90, 100, 1000)  # the newest is not the last one by name


def build():
    """The variables of the checkpoints and the global step, in the default graph."""
    step = tf.train.get_or_create_global_step()
    return step, [
        tf.get_variable(n, s, initializer=tf.zeros_initializer(), use_resource=True) for n, s in SHAPES.items()
    ]


def values_at(step):
    """What the variables hold at `step`."""
    numbers = np.random.default_rng(step)
    return [numbers.normal(size=shape).astype(np.float32) for shape in SHAPES.values()]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with checkpoints at STEPS."""
    folder = tmp_path_factory.mktemp("saved")
    with tf.Graph().as_default(), tf.Session() as session:
        step, variables = build()
        saver = tf.train.Saver(max_to_keep=5)
        session.run(tf.global_variables_initializer())
        for number in STEPS:
            step.load(number, session)
            for variable, value in zip(variables, values_at(number), strict=True):
                variable.load(value, session)
            saver.save(session, str(folder / "model.ckpt"), global_step=number)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of `saved`, to be damaged."""
    return shutil.copytree(saved, tmp_path / "checkpoints")


def data(folder, step=1000):
    return folder / f"model.ckpt-{step}.data-00000-of-00001"


def index(folder, step=1000):
    return folder / f"model.ckpt-{step}.index"


def holds(found, step):
    """Whether a Saver restores what was saved at `step` from what was found."""
    with tf.Graph().as_default(), tf.Session() as session:
        global_step, variables = build()
        tf.train.Saver().restore(session, found.path)
        got = session.run([global_step, *variables])
    return got[0] == step and all(np.array_equal(a, b) for a, b in zip(got[1:], values_at(step), strict=True))


def passed_over(folder):
    """Whether the newest was passed over for the one before, with a text that names it."""
    found = checkpoints.newest_whole(folder)
    prefix = str(folder / "model.ckpt-1000")
    return (
        found.step == 100
        and found.path == str(folder / "model.ckpt-100")
        and found.whole == [str(folder / f"model.ckpt-{step}") for step in (90, 100)]
        and len(found.damaged) == 1
        and found.damaged[0].startswith(f"{prefix}: ")
        and len(found.damaged[0]) > len(prefix) + 5
    )


def test_newest_is_by_step_and_not_by_name(folder):
    found = checkpoints.newest_whole(folder)
    assert found == (
        str(folder / "model.ckpt-1000"), 1000, [str(folder / f"model.ckpt-{step}") for step in STEPS], [],
    )  # fmt: skip
    assert holds(found, 1000)


def test_none_at_all_is_step_0(tmp_path):
    assert checkpoints.newest_whole(tmp_path) == (None, 0, [], [])
    assert checkpoints.newest_whole(tmp_path / "no folder") == (None, 0, [], [])
    (tmp_path / "events.out.tfevents.1").touch()
    (tmp_path / "model.ckpt-5.meta").touch()
    (tmp_path / "model.ckpt-x.index").touch()
    assert checkpoints.newest_whole(tmp_path) == (None, 0, [], [])


@pytest.mark.parametrize(
    "content", [None, b"", b'model_checkpoint_path: "mod', b"\x00\xff", b'model_checkpoint_path: "x"']
)
def test_state_file_is_not_asked(folder, content):
    if content is None:
        (folder / "checkpoint").unlink()
    else:
        (folder / "checkpoint").write_bytes(content)
    found = checkpoints.newest_whole(folder)
    assert found.step == 1000
    assert holds(found, 1000)


@pytest.mark.parametrize("part", [data, index])
@pytest.mark.parametrize("keep", ["nothing", "one byte", "half", "all but one byte"])
def test_truncated_is_passed_over(folder, part, keep):
    content = part(folder).read_bytes()
    kept = {"nothing": 0, "one byte": 1, "half": len(content) // 2, "all but one byte": len(content) - 1}[keep]
    part(folder).write_bytes(content[:kept])
    assert passed_over(folder)
    assert holds(checkpoints.newest_whole(folder), 100)


@pytest.mark.parametrize("part", [data, index])
def test_missing_file_is_passed_over(folder, part):
    part(folder).unlink()
    assert passed_over(folder)


@pytest.mark.parametrize("part", [data, index])
def test_zeros_as_after_a_power_cut_are_passed_over(folder, part):
    part(folder).write_bytes(bytes(part(folder).stat().st_size))
    assert passed_over(folder)


@pytest.mark.parametrize("part", [data, index])
def test_file_of_another_step_is_passed_over(folder, part):
    shutil.copy(part(folder, 90), part(folder))
    assert passed_over(folder)


def test_whole_checkpoint_under_another_step_is_passed_over(folder):
    for part in (data, index):
        shutil.copy(part(folder, 90), part(folder))
    assert passed_over(folder)
    assert checkpoints.newest_whole(folder).damaged == [f"{folder / 'model.ckpt-1000'}: holds step 90"]


def test_every_flipped_byte_of_the_data_is_noticed(folder, cases):
    whole = data(folder).read_bytes()
    draw = random.Random(0)
    for _ in cases:
        place = draw.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        data(folder).write_bytes(flipped)
        assert passed_over(folder), f"byte {place}"


def test_flipped_bytes_of_the_index_never_give_a_wrong_answer(folder, cases):
    # Some bytes of the index mean nothing, its padding for one. A checkpoint flipped there is as it was.
    whole = index(folder).read_bytes()
    draw = random.Random(0)
    noticed = 0
    for _ in cases:
        flipped = bytearray(whole)
        for _ in range(draw.choice([1, 1, 3])):
            flipped[draw.randrange(len(whole))] = draw.randrange(256)
        index(folder).write_bytes(flipped)
        found = checkpoints.newest_whole(folder)
        assert found.step in (100, 1000)
        assert holds(found, found.step)
        assert passed_over(folder) == (found.step == 100)
        noticed += found.step == 100
    assert noticed > len(cases) / 2


def test_flipped_length_of_the_index_block_is_passed_over(folder):
    # The footer, the last 48 bytes, is two pairs of varints and then zeros: place and length of either block.
    content = bytearray(index(folder).read_bytes())
    footer = bytes(content[-48:]).rstrip(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb").rstrip(b"\x00")
    content[-48 + len(footer) - 1] ^= 0x40  # the last byte that is not zero: the length of the index block
    index(folder).write_bytes(content)
    assert passed_over(folder)


def test_damaged_older_ones_do_not_matter(folder):
    data(folder, 100).write_bytes(b"")
    found = checkpoints.newest_whole(folder)
    assert (found.step, found.damaged) == (1000, [])
    assert found.whole == [str(folder / f"model.ckpt-{step}") for step in (90, 1000)]


def test_two_damaged_ones_are_both_told(folder):
    data(folder).write_bytes(b"")
    index(folder, 100).unlink()
    found = checkpoints.newest_whole(folder)
    assert found.step == 90
    assert [text.partition(": ")[0] for text in found.damaged] == [
        str(folder / f"model.ckpt-{step}") for step in (100, 1000)
    ]
    assert holds(found, 90)


def test_none_whole_is_an_error_that_names_each(folder):
    for step in STEPS:
        data(folder, step).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no whole checkpoint there; start anew") as raised:
        checkpoints.newest_whole(folder)
    for step in STEPS:
        assert f"model.ckpt-{step}: " in str(raised.value)


# --- check_fits


def test_fitting_variables_fit(folder):
    with tf.Graph().as_default():
        step, variables = build()
        checkpoints.check_fits(checkpoints.newest_whole(folder), [step, *variables], steps=1000)


def test_differences_are_named(folder):
    with tf.Graph().as_default():
        step, _ = build()
        others = [
            tf.get_variable("extra", [3], use_resource=True),
            *[variable for variable in tf.global_variables() if variable.op.name in ("lenet/scale", "centers")],
        ]
        with tf.variable_scope("lenet"):
            others.append(tf.get_variable("conv1a/slope_2", [8], use_resource=True))
        with pytest.raises(CheckpointError) as raised:
            checkpoints.check_fits(checkpoints.newest_whole(folder), [step, *others], steps=1000)
    assert str(raised.value) == (
        f"{folder / 'model.ckpt-1000'}: of another network, 4 variables differ: "
        "extra: missing in the checkpoint, [3] in the graph; "
        "lenet/conv1a/kernel: [5, 5, 1, 8] in the checkpoint, missing in the graph; "
        "lenet/conv1a/slope: [8] in the checkpoint, missing in the graph"
    )


def test_another_shape_is_named(folder):
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        shapes = SHAPES | {"centers": [62, 2]}
        variables = [tf.get_variable(name, shape, use_resource=True) for name, shape in shapes.items()]
        with pytest.raises(
            CheckpointError, match=r"1 variables differ: centers: \[10, 2\] in .*, \[62, 2\] in the graph"
        ):
            checkpoints.check_fits(checkpoints.newest_whole(folder), [step, *variables], steps=1000)


# --- odd names


@pytest.mark.parametrize("name", ["~", " ", "é"])
def test_in_a_folder_of_any_name_checkpoints_are_found_restored_and_deleted(tmp_path, name):
    """Eight saves of which two are kept, four of them by a later saver."""
    folder = tmp_path / name
    folder.mkdir()
    for first in (1, 5):
        with tf.Graph().as_default(), tf.Session() as session:
            step, _ = build()
            saver = tf.train.Saver(max_to_keep=2)
            session.run(tf.global_variables_initializer())
            found = checkpoints.newest_whole(folder)
            if found.path is not None:
                saver.recover_last_checkpoints(found.whole)
                saver.restore(session, found.path)
                assert session.run(step) == 4
            for number in range(first, first + 4):
                step.load(number, session)
                saver.save(session, str(folder / "model.ckpt"), global_step=number, write_meta_graph=False)
    kept = [f"model.ckpt-{step}.{ending}" for step in (7, 8) for ending in ("data-00000-of-00001", "index")]
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", *kept]


def test_through_a_link_checkpoints_are_found(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert checkpoints.newest_whole(tmp_path / "link").step == 1000


@pytest.mark.parametrize(
    "name",
    [
        "._model.ckpt-5000.index", "model.ckpt-5000 (conflicted copy).index", "model.ckpt-5000.index.tmp",
        "model.ckpt-5000.index\n", "model.ckpt-05000.index", "model.ckpt-٥.index", "model.ckpt-5000.index~",
        "model.ckpt-5000.data-00000-of-00001.tempstate123", "model.ckpt-5000.meta", "my-model.ckpt-5000.index",
    ],
)  # fmt: skip
def test_files_of_others_are_left_alone(folder, name):
    (folder / name).write_text("of another program")
    found = checkpoints.newest_whole(folder)
    assert (found.step, found.damaged) == (1000, [])
    assert (folder / name).read_text() == "of another program"


def test_a_folder_named_as_a_checkpoint_is_none(folder):
    (folder / "model.ckpt-6000.index").mkdir()
    found = checkpoints.newest_whole(folder)
    assert (found.step, found.damaged) == (1000, [])
