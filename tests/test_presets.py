"""The presets' graphs, held against the recipes of the blog and of the paper."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import yaml

import config
from running import precision
from training_graph import build_graph

CONFIGS = Path(config.__file__).parent / "configs"
KERNELS = 25 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
CHANNELS = 2 * (32 + 64 + 128)  # of the six convolutions together
FEATURE = 3 * 3 * 128 * 2 + 2


def read(name: str) -> config.Config:
    """The settings of a file in configs/, by its path without the ending."""
    return config.parse_command_line(["--config", str(CONFIGS / f"{name}.yaml")]).config


@pytest.fixture
def started():
    """Builds a preset's graph and initializes it: the settings, the handles and the session."""
    sessions = []

    def start(name):
        settings = read(name)
        settings = dataclasses.replace(settings, precision=precision.resolve_precision(settings.precision)[0])
        graph = tf.Graph()
        with graph.as_default():
            handles = build_graph(settings, 10, (28, 28))
            session = tf.Session(graph=graph)
            session.run(tf.global_variables_initializer())
        sessions.append(session)
        return settings, handles, session

    yield start
    for session in sessions:
        session.close()


def trainable(session) -> dict[str, np.ndarray]:
    variables = session.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    return session.run({variable.op.name.removeprefix("lenet/"): variable for variable in variables})


def scalars_at(handles, session, step: int) -> tuple[float, float]:
    with session.graph.as_default():
        tf.train.get_global_step().load(step, session)
    return session.run([handles.scalars["learning_rate"], handles.scalars["center_loss_weight"]])


def range_of_input(handles, session) -> tuple[float, float]:
    """What the first convolution sees of pixels 0 and 255."""
    first = next(op for op in session.graph.get_operations() if op.type == "Conv2D")
    images = np.zeros((1, 28, 28), np.uint8)
    images[0, 0, 0] = 255
    seen = session.run(first.inputs[0], {handles.images: images})
    return float(seen.min()), float(seen.max())


def test_blog(started):
    settings, handles, session = started("blog/lambda_0.01")
    values = trainable(session)
    assert sum(value.size for value in values.values()) == KERNELS + 3 * CHANNELS + FEATURE + 2 + (2 * 10 + 10)
    kernels = {name: value for name, value in values.items() if name.endswith("/kernel")}
    assert len(kernels) == 8
    for value in kernels.values():
        assert np.abs(value).max() <= 0.2  # two standard deviations of 0.1
    assert np.std(values["conv3b/kernel"]) == pytest.approx(0.088, abs=0.001)  # of a normal cut off there
    for name, value in values.items():
        if not name.endswith("/kernel"):
            assert np.unique(value).tolist() == [1.0 if name.endswith("/scale") else 0.0], name
    assert not any(name.startswith("conv") and name.endswith("/bias") for name in values)
    np.testing.assert_array_equal(session.run(handles.centers), np.zeros((10, 2)))
    for step in (0, 1, 15_999):
        assert scalars_at(handles, session, step) == pytest.approx([1e-3, 0.01])
    assert range_of_input(handles, session) == (0.0, 1.0)
    assert (settings.batch_size, settings.center_alpha, settings.optimizer) == (100, 0.5, "adam")
    assert (settings.validation_fraction, settings.batch_norm_decay) == (0.2, 0.999)


def test_paper(started):
    settings, handles, session = started("paper/lambda_0.1")
    values = trainable(session)
    assert sum(value.size for value in values.values()) == KERNELS + 2 * CHANNELS + FEATURE + 2 + 2 * 10
    for name, value in values.items():
        if name.endswith("/kernel"):
            bound = np.sqrt(3 / np.prod(value.shape[:-1]))
            assert 0.8 * bound < np.abs(value).max() <= bound, name
        else:
            assert np.unique(value).tolist() == [0.25 if name.endswith("/slope") else 0.0], name
    assert "classifier/bias" not in values
    assert not any(name.startswith("norm") for name in values)
    assert values["feature_prelu/slope"].shape == (2,)
    rates = {0: 1.0, 4_999: 1.0, 5_000: 0.8, 7_999: 0.8, 8_000: 0.64, 9_999: 0.64, 10_000: 0.512}
    for step, factor in rates.items():
        assert scalars_at(handles, session, step) == pytest.approx([0.01 * factor, 0.1])
    low, high = range_of_input(handles, session)
    assert (low, high) == (-127.5 / 128, 127.5 / 128)
    assert (settings.batch_size, settings.momentum, settings.weight_decay) == (128, 0.9, 5e-4)
    assert (settings.validation_fraction, settings.steps, settings.center_alpha) == (0.0, 10_000, 0.5)
    np.testing.assert_array_equal(session.run(handles.centers), np.zeros((10, 2)))
    assert [op.type for op in session.graph.get_operations()].count("ResourceApplyMomentum") == len(values)


def test_the_third_pool_of_the_paper_is_three_wide(started):
    for name, sizes in (("blog/softmax", [2, 2, 2]), ("paper/softmax", [2, 2, 3])):
        _, _, session = started(name)
        pools = [op for op in session.graph.get_operations() if op.type == "MaxPool"][:3]
        assert [list(op.get_attr("ksize"))[1] for op in pools] == sizes
        assert {(tuple(op.get_attr("strides")), op.get_attr("padding")) for op in pools} == {((1, 2, 2, 1), b"VALID")}


@pytest.mark.parametrize(
    ("name", "weight", "weight_eff", "steps"),
    [
        ("blog/softmax", 0, 0, 16_000), ("blog/lambda_0.01", 0.01, 1, 16_000), ("blog/lambda_0.1", 0.1, 10, 16_000),
        ("blog/lambda_1", 1, 100, 25_000), ("paper/softmax", 0, 0, 10_000),
        ("paper/lambda_0.001", 0.001, 0.001, 10_000), ("paper/lambda_0.01", 0.01, 0.01, 10_000),
        ("paper/lambda_0.1", 0.1, 0.1, 10_000), ("paper/lambda_1", 1, 1, 10_000),
        ("long/softmax", 0, 0, 6_000), ("long/lambda_eff_0.01", 0.01, 0.01, 6_000),
        ("long/lambda_eff_0.1", 0.1, 0.1, 6_000), ("long/lambda_eff_1", 1, 1, 6_000),
        ("long/lambda_eff_3", 3, 3, 6_000),
        ("fast/softmax", 0, 0, 2_600), ("fast/lambda_eff_0.01", 0.01, 0.01, 2_600),
        ("fast/lambda_eff_0.1", 0.1, 0.1, 2_600), ("fast/lambda_eff_1", 1, 1, 2_600), ("quickstart", 1, 1, 2_600),
    ],
)  # fmt: skip
def test_weights_and_steps(name, weight, weight_eff, steps):
    settings = read(name)
    assert settings.center_loss_weight == weight
    assert settings.lambda_eff == pytest.approx(weight_eff)
    assert settings.steps == steps


@pytest.mark.parametrize(("preset", "count"), [("paper", 5), ("fast", 4), ("long", 5)])
def test_the_files_of_a_preset_are_identical_but_for_the_weight(preset, count):
    files = {path.stem: path.read_text().splitlines() for path in (CONFIGS / preset).glob("*.yaml")}
    assert len(files) == count
    assert len({tuple(lines[2:]) for lines in files.values()}) == 1
    for lines in files.values():
        assert lines[1].startswith("center_loss_weight: ")


def test_the_quickstart_is_a_fast_config_on_any_data_and_watched():
    quickstart, fast = (dataclasses.asdict(read(name)) for name in ("quickstart", "fast/lambda_eff_1"))
    differing = {name for name in quickstart if quickstart[name] != fast[name]}
    assert differing == {"dataset", "validation_fraction", "evaluate_every_steps"}


def test_the_differences_are_one_setting_each_from_the_paper_to_the_blog():
    names = [path.stem for path in (CONFIGS / "differences").glob("*.yaml")]
    differences = {name: dataclasses.asdict(read(f"differences/{name}")) for name in names}
    blog, paper = dataclasses.asdict(config.Config()), dataclasses.asdict(read("paper/lambda_0.1"))
    base = differences.pop("paper")
    assert {name for name in base if base[name] != paper[name]} == {"steps", "schedule", "multi_step_at"}
    assert base["steps"] < min(paper["multi_step_at"])  # the paper's rate has not dropped by then
    differing = {
        stem: {name for name in base if base[name] != settings[name]} for stem, settings in differences.items()
    }
    assert differing["reduction"] == {"center_loss_reduction", "center_loss_weight"}  # at the same weight it diverges
    differing["reduction"].remove("center_loss_weight")
    assert differing == {
        "batch_norm": {"batch_norm"}, "classifier_bias": {"classifier_bias"}, "prelu_start": {"prelu_start"},
        "reduction": {"center_loss_reduction"},
    }  # fmt: skip
    for stem, (name,) in differing.items():
        assert differences[stem][name] == blog[name]


def test_fast(started):
    _, handles, session = started("fast/lambda_eff_1")
    peak, rising = 0.0045, (780 / 2080) ** 3
    for step, rate, weight in ((0, peak / 25, 0), (780, peak, rising), (2080, None, 1), (2600, peak / 1e4, 1)):
        seen_rate, seen_weight = scalars_at(handles, session, step)
        assert seen_weight == pytest.approx(weight)
        if rate is not None:
            assert seen_rate == pytest.approx(rate, rel=1e-3)
    directions = trainable(session)["classifier/kernel"]
    assert np.hypot(*directions) == pytest.approx(1)
    for one, other in ((4, 9), (1, 7), (3, 5)):  # taken for each other most often
        angle = np.degrees(np.arccos(directions[:, one] @ directions[:, other]))
        assert angle <= 73, (one, other)


def test_the_files_hold_only_what_differs_from_the_defaults():
    defaults = config.Config()
    for path in (CONFIGS / "paper").glob("*.yaml"):
        held = yaml.safe_load(path.read_text())
        settings = read(f"paper/{path.stem}")
        same = {name for name in held if getattr(settings, name) == getattr(defaults, name)}
        assert same <= {"center_loss_weight"}, path  # said in each, since the files differ in it


def test_what_is_said_to_be_as_in_the_quickstart_is():
    quickstart = yaml.safe_load((CONFIGS / "quickstart.yaml").read_text())
    lines = [line for path in CONFIGS.rglob("*.yaml") for line in path.read_text().splitlines()]
    said = [line for line in lines if line.endswith("as in quickstart.yaml")]
    assert said
    for line in said:
        ((name, value),) = yaml.safe_load(line).items()
        assert value == quickstart[name], line


def test_the_update_in_the_graph_waits_for_all_that_read_the_centers():
    with tf.Graph().as_default() as graph:
        handles = build_graph(config.Config(center_update="in_graph"), 10, (28, 28))
    writes = [op for op in graph.get_operations() if "Scatter" in op.type and op.name.startswith("center_update/")]
    assert writes
    for op in writes:
        before, todo = set(), [op]
        while todo:
            one = todo.pop()
            new = ({tensor.op for tensor in one.inputs} | set(one.control_inputs)) - before
            before |= new
            todo += new
        assert handles.scalars["center_loss"].op in before
        assert any(read.type == "ResourceGather" for read in before)
