"""Sweeps: which runs a YAML file of lists asks for, and the pictures of what came of them."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

import reproduce
import results
import runs
from pictures import sensitivity
from presets import read_preset
from test_reproduce import call, metrics_of, presets, rows, trainer  # noqa: F401 - fixtures

ROOT = Path(reproduce.__file__).parent
CONFIGS = ROOT / "configs"


@pytest.fixture
def sweep(tmp_path):
    """Writes a sweep beside a base config, and gives its path."""
    (tmp_path / "base.yaml").write_text("dataset: digits\nsteps: 20\ncenter_loss_weight: 0.5\n")

    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"base: base.yaml\n{text}")
        return path

    return write


def test_a_setting_that_is_there_twice_is_refused(sweep):
    with pytest.raises(ValueError, match=r"mine\.yaml: not a sweep .*center_alpha is there twice"):
        read_preset(sweep("center_alpha: [0.5]\nseed: [1]\ncenter_alpha: [0.1]\n"))


def test_copies_of_a_config_are_no_configs(tmp_path):
    for name in (
        "a_0.01", "b", ".b", "b (1)", "b.orig", "b.LOCAL.1234", "b.sync-conflict-20261126-101010-ABCDEFG", "b~",
    ):  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text("steps: 20\n")
    assert set(read_preset(tmp_path).arguments) == {"a_0.01", "b"}


def test_every_combination_is_a_config_softmax_first(sweep):
    preset = read_preset(sweep("center_alpha: [0.5, 0.1]\ncenter_loss_weight: [1e-1, 0]\nchannels: [[2, 2, 2]]\n"))
    assert (preset.name, preset.seeds, list(preset.arguments)) == ("mine", (0,), [
        "center_alpha=0.1+center_loss_weight=0", "center_alpha=0.5+center_loss_weight=0",
        "center_alpha=0.1+center_loss_weight=1e-1", "center_alpha=0.5+center_loss_weight=1e-1",
    ])  # fmt: skip
    _, settings = preset.run("center_alpha=0.1+center_loss_weight=1e-1", 7)
    assert (settings.center_alpha, settings.center_loss_weight, settings.seed) == (0.1, 0.1, 7)
    assert (settings.dataset, settings.channels) == ("digits", (2, 2, 2))


def test_lists_and_words_have_names_too(sweep):
    preset = read_preset(sweep("classifier_ring: [[], [1, 0]]\nschedule: [constant, one_cycle]\n"))
    assert next(iter(preset.arguments)) == "classifier_ring=1-0+schedule=constant"
    assert preset.run("classifier_ring=none+schedule=one_cycle", 0)[1].classifier_ring == ()


def test_what_goes_along_with_a_seed(sweep):
    preset = read_preset(sweep("seed: [3, 5]\nwith_seed:\n  unknown_classes: [[1], [2, 4]]\n"))
    assert preset.seeds == (3, 5)
    assert [preset.run("base", seed)[1].unknown_classes for seed in preset.seeds] == [(1,), (2, 4)]
    with pytest.raises(ValueError, match=r"mine: seed 0 has no values in with_seed, seeds \[3, 5\] have"):
        preset.run("base", 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("center_alpha: 0.5\n", "lists of values"),
        ("center_alpha: []\n", "lists of values"),
        ("seed: []\n", "lists of values"),
        ("seed: [a]\n", "not a sweep"),
        ("seed: [0, 1]\nwith_seed:\n  center_alpha: [0.1]\n", "a value for each of 2 seeds"),
        ("alpha: [1]\n", "alpha: no setting to sweep"),
        ("run_name: [a]\n", "run_name: no setting to sweep"),
        ("steps: [10]\n", "steps: no setting to sweep, or one that is said twice"),
        ("{", "not a sweep"),
        ("learning_rate: [0.1, 1e-1, '0.1']\n", "two runs of the name learning_rate=0.1"),
        ("seed: [0]\ncenter_alpha: [1]\nwith_seed:\n  center_alpha: [1]\n", "center_alpha: no setting to sweep, or"),
    ],
)
def test_what_is_no_sweep_is_refused_by_name(sweep, text, message):
    with pytest.raises(ValueError, match=f"mine.yaml: .*{re.escape(message)}"):
        read_preset(sweep(text), ["--steps=5"])


def test_a_sign_and_an_exponent_stay_apart(sweep):
    preset = read_preset(sweep("prelu_start: [-0.25, 0.25, 2.5e+1, 2.5e-1]\n"))
    values = {name: preset.run(name, 0)[1].prelu_start for name in preset.arguments}
    assert values == {f"prelu_start={text}": float(text) for text in ("-0.25", "0.25", "2.5e1", "2.5e-1")}


@pytest.mark.parametrize("text", ["", "a: b\n", "- base\n"])
def test_a_file_without_a_base_is_no_sweep(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml: not a sweep"):
        read_preset(tmp_path / "mine.yaml")


def test_a_value_out_of_range_is_named(sweep, capsys):
    with pytest.raises(SystemExit):
        read_preset(sweep("center_alpha: [0.5, 2]\n"))
    assert "center_alpha: expected" in capsys.readouterr().err


def test_a_sweep_is_run_tabled_and_drawn(tmp_path, call, trainer, sweep):  # noqa: F811
    text = "center_loss_weight: [0.1, 1]\ncenter_alpha: [0.1, 0.5]\nseed: [0, 1]\n"
    assert call("--export", tmp_path / "docs", preset=sweep(text)) == 0
    assert len(trainer.commands) == 8
    table = [row for row in rows(tmp_path / "docs" / "mine" / "results.csv") if row["seed"].isdigit()]
    assert [(row["lambda"], row["center_alpha"], row["seed"]) for row in table] == [
        (weight, alpha, seed) for weight in ("0.1", "1.0") for alpha in ("0.1", "0.5") for seed in ("0", "1")
    ]
    assert (tmp_path / "out" / "sensitivity.png").read_bytes() == (
        tmp_path / "docs" / "mine" / "sensitivity.png"
    ).read_bytes()
    axes, grids = results.sweep_points(runs.read_export(tmp_path / "docs" / "mine"))
    assert axes == {"center_loss_weight": ["0.1", "1"], "center_alpha": ["0.1", "0.5"]}
    got = [float(row["accuracy_nearest_center"]) for row in table]
    assert grids["accuracy_nearest_center"].tolist() == np.reshape(got, (2, 2, 2)).tolist()
    assert call(preset=tmp_path / "mine.yaml") == 0
    assert trainer.commands == []  # all are finished
    assert call("--set", "center_alpha=0.3", preset=tmp_path / "mine.yaml") == 2


def test_areas_have_columns_where_classes_are_unknown(tmp_path, call, trainer, sweep):  # noqa: F811
    path = sweep("feature_width: [2]\nseed: [0, 1]\nwith_seed:\n  unknown_classes: [[1], [2]]\n")
    assert call(preset=path) == 0
    table = {row["seed"]: row for row in rows(tmp_path / "out" / "results.csv")}
    areas = [metrics_of(tmp_path / "out" / f"base-seed{seed}")["unknown"]["auroc_distance"] for seed in (0, 1)]
    assert [float(table[seed]["auroc_distance"]) for seed in ("0", "1", "mean")] == [*areas, sum(areas) / 2]
    assert table["mean"]["unknown_classes"] == "[1] and [2]"


def test_what_is_of_no_sweep_has_no_sensitivity(tmp_path, call, trainer):  # noqa: F811
    assert call() == 0
    assert results.sweep_points(runs.read_folders(tmp_path / "out")) is None
    assert not (tmp_path / "out" / "sensitivity.png").exists()


def test_a_config_that_is_called_as_a_setting_is_no_sweep():
    (run,) = (run for run in runs.read_export(ROOT / "docs" / "results" / "differences") if run.name == "batch_norm")
    assert results.sweep_points([run]) is None


def test_a_heat_map_writes_the_means_and_a_line_has_bars():
    grid = np.array([[[0.9, 0.92], [0.5, np.nan]], [[np.nan, np.nan], [0.7, 0.7]]])
    drawn = sensitivity.figure({"center_loss_weight": ["0", "1"], "center_alpha": ["0.1", "1"]}, {"accuracy": grid})
    assert [text.get_text() for text in drawn.axes[0].texts] == ["91.00", "50.00", "70.00"]
    assert drawn.axes[0].get_ylabel() == "λ"
    drawn = sensitivity.figure({"feature_width": ["2", "64"]}, {"inter_over_intra": grid[0]})
    line, _, (bars,) = drawn.axes[0].containers[0]
    assert line.get_ydata().tolist() == pytest.approx([0.91, 0.5])
    assert np.diff(bars.get_segments()[0][:, 1])[0] == pytest.approx(2 * 0.02 / 2**0.5)


def test_the_sets_of_unknown_classes_are_those_of_the_seeds():
    said = yaml.safe_load((CONFIGS / "open_set" / "sweep.yaml").read_text())
    drawn = [sorted(np.random.default_rng(seed).choice(10, 4, replace=False).tolist()) for seed in said["seed"]]
    assert said["with_seed"]["unknown_classes"] == drawn


@pytest.mark.parametrize("name", ["lambda_alpha", "open_set"])
def test_the_projects_sweeps_are_as_they_should_be(name):
    preset = read_preset(CONFIGS / name)
    for variant in preset.arguments:
        for seed in preset.seeds:
            _, settings = preset.run(variant, seed)
            assert settings.validation_fraction == 0
