import csv
import dataclasses
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import config
import planned_runs
import reproduce
import results
import runs
from pictures import clusters
from running import run_folder
from running.signals import Child, Stopped

ROOT = Path(reproduce.__file__).parent
TABLE = {"results.csv", "results.md"}
PANEL_FIGURE = results._panel_figure
PANELS = {"panel_train.png", "panel_test.png"}
ENDS = ("config.yaml", "metrics.json", "npz", "validation.csv")
VALIDATION = "step,cross_entropy,accuracy\n20,0.1,0.95\n"


def make_presets(folder: Path, steps: int = 20, **presets: dict[str, str]) -> Path:
    """A folder of presets on the digits: settings by config by preset."""
    for preset, files in presets.items():
        (folder / preset).mkdir(parents=True)
        for name, text in files.items():
            (folder / preset / f"{name}.yaml").write_text(f"dataset: digits\nsteps: {steps}\n{text}\n")
    return folder


@pytest.fixture
def presets(tmp_path):
    three = {
        "lambda_0.1": "center_loss_weight: 0.1",
        "softmax": "center_loss_weight: 0.0",
        "lambda_0.02": "center_loss_weight: 0.02",
    }
    return make_presets(tmp_path / "configs", tiny=three, fast={"softmax": "center_loss_weight: 0.0"})


AUTO = {"auto": "float32"}  # what the processor chooses


def finish(folder: Path, settings: config.Config, *, points=300, scale=10.0, pace=0.25) -> None:
    """Leaves a finished run of `settings` in `folder`, as train_mnist.py does, from made-up features."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.replace(
        settings, run_name=folder.name, precision=AUTO.get(settings.precision, settings.precision)
    )
    (folder / "config.yaml").write_text(config.to_yaml(settings))
    rng = np.random.default_rng([settings.seed, round(1000 * settings.center_loss_weight)])
    centers = rng.uniform(-scale, scale, (10, 2)).astype(np.float32)
    for split in ("train", "test"):
        labels = rng.integers(0, 10, points)
        predictions = np.where(rng.random(points) < 0.05, 0, labels)
        features = (centers[labels] + rng.normal(0, 0.1 * scale, (points, 2))).astype(np.float32)
        np.savez(
            folder / f"features_{split}.npz", features=features, labels=labels, predictions=predictions,
            index=np.arange(points), centers=centers, classifier_weights=np.ones((2, 10)), classifier_bias=np.ones(10),
            step=settings.steps,
        )  # fmt: skip
    (folder / "metrics.csv").write_text("step,loss\n20,1.0\n")
    (folder / "validation.csv").write_text(VALIDATION)
    (folder / "sessions.csv").write_text(f"step,steps,seconds\n{settings.steps},4,{4 * pace}\n")
    for split in runs.SPLITS:
        (folder / f"clusters_{split}.png").touch()
    if settings.unknown_classes:
        np.savez(
            folder / "features_unknown.npz", features=features[:9] + 1, labels=labels[:9], predictions=labels[:9],
            centers=centers, step=settings.steps,
        )  # fmt: skip
    runs.write_metrics(folder, settings, f"{settings.data_dir}/digits: made up")


class Trainer:
    """In the place of `Child`: finishes runs at once, without TensorFlow."""

    def __init__(self):
        self.commands, self.failing, self.made, self.stop_after = [], {}, {}, None

    def __call__(self):
        self.commands.clear()
        return self

    def run(self, command):
        assert command[:2] == [sys.executable, str(ROOT / "train_mnist.py")]
        asked = config.parse_command_line(command[2:])
        self.commands.append(command[2:])
        if len(self.commands) == self.stop_after:
            (asked.run_folder / "checkpoints").mkdir(parents=True)
            (asked.run_folder / "checkpoints" / "model.ckpt-7.index").touch()
            (asked.run_folder / "config.yaml").write_text(config.to_yaml(asked.config))
            raise Stopped(signal.SIGTERM)
        code = self.failing.get(asked.run_folder.name, 0)
        if code in (0, 4):
            finish(asked.run_folder, asked.config, **self.made)
        if code == 4:
            (asked.run_folder / "clusters_test.png").unlink()
        return code


@pytest.fixture
def trainer(monkeypatch):
    """Finishes runs at once, and draws nothing unless `drawing` is asked for too."""
    trainer = Trainer()
    monkeypatch.setattr(results, "_panel_figure", lambda runs, split, common_scale: split.encode())
    monkeypatch.setattr(planned_runs, "Child", trainer)
    return trainer


@pytest.fixture
def drawing(trainer, monkeypatch):
    monkeypatch.setattr(results, "_panel_figure", PANEL_FIGURE)


@pytest.fixture
def call(tmp_path, presets, trainer):
    """The command on the preset `tiny`, or another, with its runs in tmp_path/out; gives the exit code."""

    def call(*arguments, preset="tiny"):
        words = [preset, "--configs", presets, "--out", tmp_path / "out", *arguments]
        return reproduce.main(list(map(str, words)))

    return call


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name in TABLE | PANELS}


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


# --- what is run


def test_softmax_comes_first_then_rising_lambda_seed_by_seed(tmp_path, call, trainer, presets):
    assert call("--seeds", 1, 0, 1) == 0
    names = [words[-1].removeprefix("--run_name=") for words in trainer.commands]
    assert names == [f"{name}-seed{seed}" for seed in (1, 0) for name in ("softmax", "lambda_0.02", "lambda_0.1")]
    assert trainer.commands[1] == [
        "--config", str(presets / "tiny" / "lambda_0.02.yaml"),
        "--seed=1", f"--output_dir={tmp_path / 'out'}", "--run_name=lambda_0.02-seed1",
    ]  # fmt: skip


@pytest.mark.parametrize(("preset", "runs"), [("tiny", 3), ("fast", 5)])
def test_seeds_where_none_are_said(call, trainer, preset, runs):
    assert call(preset=preset) == 0
    assert len(trainer.commands) == runs


def test_only_some_configs_are_run_and_the_others_stay_in_the_tables(tmp_path, call, trainer):
    assert call("--only", "softmax", "--export", str(tmp_path / "docs")) == 0
    assert call("--only", "lambda_0.1", "lambda_0.02", "--export", str(tmp_path / "docs")) == 0
    assert [words[words.index("--config") + 1].rpartition("/")[2] for words in trainer.commands] == [
        "lambda_0.02.yaml", "lambda_0.1.yaml",
    ]  # fmt: skip
    assert [row["config"] for row in rows(tmp_path / "docs" / "tiny" / "results.csv")] == [
        "softmax", "lambda_0.02", "lambda_0.1",
    ]  # fmt: skip


def test_steps_and_settings_go_over_the_configs(tmp_path, call):
    assert call("--steps", 9, "--set", "learning_rate=0.5", "multi_step_at=[3,4]", "precision=bfloat16") == 0
    run = config.read_config(tmp_path / "out" / "lambda_0.1-seed0" / "config.yaml")
    assert (run.steps, run.learning_rate, run.multi_step_at, run.precision) == (9, 0.5, (3, 4), "bfloat16")
    assert {row["precision"] for row in rows(tmp_path / "out" / "results.csv")} == {"bfloat16"}


def test_what_is_left_is_told_before_each_run(call, capsys):
    assert call() == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("left:")] == [
        f"left: {runs}, {steps} steps; each run says after 20 steps how long it takes"
        for runs, steps in (("3 runs", 60), ("2 runs", 40), ("1 run", 20))
    ]


def test_what_is_finished_is_skipped_and_the_files_stay_the_same(tmp_path, call, trainer, capsys):
    assert call() == 0
    before = contents(tmp_path / "out")
    assert set(before) == TABLE | PANELS
    capsys.readouterr()
    assert call() == 0
    assert trainer.commands == []
    assert capsys.readouterr().out.startswith("runs: 3, 3 of them finished\n")
    assert contents(tmp_path / "out") == before


def test_a_signal_ends_it_and_a_second_call_goes_on(tmp_path, call, trainer, capsys):
    trainer.stop_after = 2
    assert call("--seeds", 0) == 143
    assert len(trainer.commands) == 2
    assert f"stopped by SIGTERM; go on with: python reproduce.py tiny --configs {tmp_path}" in capsys.readouterr().err
    assert contents(tmp_path / "out") == {}
    trainer.stop_after = None
    assert call("--seeds", 0) == 0
    resumed, new = trainer.commands
    assert resumed[:2] == ["--resume", str(tmp_path / "out" / "lambda_0.02-seed0")]
    assert new[0] == "--config"


def test_a_run_ended_while_its_folder_was_made_starts_again(tmp_path, call, trainer):
    run_folder.create(tmp_path / "out" / "softmax-seed0", overwrite=False)
    assert call() == 0
    assert ["--overwrite" in words for words in trainer.commands] == [True, False, False]


def test_a_failing_run_is_named_and_the_others_are_made(tmp_path, call, trainer, capsys):
    trainer.failing = {"softmax-seed0": 4, "lambda_0.02-seed0": 3}
    assert call() == 1
    assert len(trainer.commands) == 3
    assert capsys.readouterr().err == (
        "failed: softmax-seed0 (trained, but without clusters_test.png), lambda_0.02-seed0 (exit code 3). "
        "A run without metrics.json is in no table. A second call tries again.\n"
    )
    assert [row["config"] for row in rows(tmp_path / "out" / "results.csv")] == ["softmax", "lambda_0.1"]
    trainer.failing = {}
    assert call() == 0
    assert [words[0] for words in trainer.commands] == ["--resume", "--config"]


def test_where_all_fail_there_is_no_table(tmp_path, call, trainer):
    trainer.failing = {f"{name}-seed0": 3 for name in ("softmax", "lambda_0.02", "lambda_0.1")}
    assert call() == 1
    assert not (tmp_path / "out").exists()


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--steps", 30], "steps 20 instead of 30"),
        (["--set", "precision=bfloat16"], "precision float32 instead of bfloat16"),
        (["--set", "dataset=mnist"], "dataset digits instead of mnist"),
        (["--set", "split_seed=1"], "split_seed 0 instead of 1"),
    ],
)
def test_a_folder_with_runs_of_other_settings_is_refused(tmp_path, call, trainer, capsys, arguments, named):
    assert call() == 0
    assert call("--seeds", 5, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(tmp_path / "out" / "softmax-seed0") in error
    assert named in error
    assert trainer.commands[-1][-1] == "--run_name=lambda_0.1-seed0"  # of the first call


def test_where_and_how_often_are_no_other_settings(call, trainer):
    assert call() == 0
    intervals = ("log_every_steps=3", "evaluate_every_steps=3", "checkpoint_every_steps=3")
    assert call("--set", "data_dir=elsewhere", *intervals) == 0
    assert trainer.commands == []
    assert {field.name for field in dataclasses.fields(config.Config)} > config.names(config.NOT_COMPARED)


def test_a_folder_with_runs_of_another_preset_is_refused(tmp_path, call, capsys):
    assert call() == 0
    assert call(preset="fast") == 2
    assert "lambda_0.02-seed0: of no config asked for (softmax)" in capsys.readouterr().err


def test_auto_is_the_same_as_what_it_stood_for(call, trainer, monkeypatch):
    monkeypatch.setitem(AUTO, "auto", "bfloat16")
    assert call("--set", "precision=auto") == 0
    assert call("--set", "precision=bfloat16", "dataset=auto") == 0
    assert trainer.commands == []
    monkeypatch.setitem(AUTO, "auto", "float32")
    assert call("--set", "precision=auto") == 0, "made on another processor"
    assert trainer.commands == []


def test_a_trial_is_not_in_the_way_of_the_whole_runs(call, presets, trainer, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["tiny", "--configs", str(presets)]
    assert reproduce.main([*words, "--steps", "3"]) == reproduce.main(words) == 0
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == [
        "reproduce-tiny", "reproduce-tiny-3-steps",
    ]  # fmt: skip
    assert reproduce.main([*words, "--set", "learning_rate=1"]) == 2
    assert "choose another folder by --out" in capsys.readouterr().err


def test_files_of_others_are_neither_presets_nor_runs_nor_exported(tmp_path, call, presets):
    for name in ("._softmax.yaml", "softmax (conflicted copy).yaml", ".partial-x.yaml"):
        (presets / "tiny" / name).write_text("no settings")
    assert call("--export", tmp_path / "docs") == 0
    for folder in ("softmax-seed0 (copy)", "notes", "softmax-seed0.bak"):
        (tmp_path / "out" / folder).mkdir()
        (tmp_path / "out" / folder / "config.yaml").write_text("no settings")
    for name in ("._seed_0.npz", "seed_0 (1).npz", ".partial-x.npz", "seed_x.npz"):
        (tmp_path / "docs" / "tiny" / "softmax" / name).touch()
    assert call("--export", tmp_path / "docs") == 0
    assert len(rows(tmp_path / "docs" / "tiny" / "results.csv")) == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nothing"], "expected one of fast, tiny"),
        (["../tiny"], "plain name"),
        (["tiny", "--export_as", "a/b"], "plain name"),
        (["tiny", "--set", "seed=3"], "--set seed=3"),
        (["tiny", "--set", "learning_rate"], "--set learning_rate"),
        (["tiny", "--set", "rate=3"], "weight_decay, weight_init"),
        (["tiny", "--set", "lr=3"], "--set lr=3: expected <name>=<value>; did you mean --learning_rate?"),
        (["tiny", "--seedz", "1"], "--seedz: no such option here; did you mean seeds?"),
        (["tiny", "--set", "learning_rate=fast"], "learning_rate"),
        (["tiny", "--steps", "0"], "steps"),
        (["tiny", "--seeds", "-1"], "seeds"),
        (["tiny", "--only", "softmax", "lambda"], "--only lambda: no such config, expected softmax, lambda_0.02"),
        (["tiny", "--from", "nowhere"], "nowhere/tiny: no export there"),
    ],
)
def test_a_bad_command_line_says_what_is_expected(presets, trainer, capsys, tmp_path, arguments, named):
    words = [*arguments, "--configs", str(presets), "--out", str(tmp_path / "out")]
    try:
        code = reproduce.main(words)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert named in capsys.readouterr().err
    assert trainer.commands == []


# --- tables and panels


def test_the_tables_say_what_metrics_json_says(tmp_path, call):
    assert call("--seeds", 0, 1, 2, "--set", "center_loss_reduction=sum", "batch_size=50") == 0
    out = tmp_path / "out"
    table = rows(out / "results.csv")
    names = ["softmax", "lambda_0.02", "lambda_0.1"]
    assert [(row["config"], row["seed"]) for row in table] == [
        *((name, str(seed)) for name in names for seed in range(3)),
        *((name, kind) for name in names for kind in ("mean", "deviation")),
    ]
    for row in table[:9]:
        metrics = metrics_of(out / f"{row['config']}-seed{row['seed']}")
        for name in results.MEASURES:
            expected = 5.0 if name == "seconds" else metrics["test"][name]  # 20 steps of 250 ms
            assert float(row[name]) == expected
        assert (float(row["lambda"]), float(row["lambda_eff"])) == (metrics["lambda"], metrics["lambda_eff"])
        assert float(row["lambda_eff"]) == 50 * float(row["lambda"])
        assert (row["steps"], row["training_images"], row["precision"]) == ("20", "300", "float32")
    three = [float(row["accuracy"]) for row in table[3:6]]
    assert float(table[11]["accuracy"]) == pytest.approx(statistics.mean(three))
    assert float(table[12]["accuracy"]) == pytest.approx(np.std(three, ddof=1))
    cell = f"{100 * statistics.mean(three):.2f}% ± {100 * np.std(three, ddof=1):.2f}%"
    line = next(line for line in (out / "results.md").read_text().splitlines() if line.startswith("| lambda_0.02 | 3"))
    assert line.startswith(f"| lambda_0.02 | 3 | 0.02 | 1 | digits | 20 | 300 | float32 | {cell} |")


def test_what_is_not_known_stays_blank(tmp_path, call):
    assert call("--seeds", 0, 1) == 0
    path = tmp_path / "out" / "softmax-seed1" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["seconds_per_step"] = metrics["test"]["silhouette"] = None
    path.write_text(json.dumps(metrics))
    assert call("--seeds", 0, 1) == 0
    table = {(row["config"], row["seed"]): row for row in rows(tmp_path / "out" / "results.csv")}
    for seed in ("1", "mean", "deviation"):
        assert table["softmax", seed]["seconds"] == table["softmax", seed]["silhouette"] == ""
    assert table["softmax", "0"]["seconds"] == "5.0"


def test_one_seed_has_no_mean(tmp_path, call):
    assert call() == 0
    assert len(rows(tmp_path / "out" / "results.csv")) == 3
    assert "±" not in (tmp_path / "out" / "results.md").read_text()


def test_a_panel_has_a_subplot_a_config_of_the_seed_with_the_median_accuracy(call, drawing, monkeypatch, tmp_path):
    drawn = []
    draw = clusters.figure
    monkeypatch.setattr(clusters, "figure", lambda *args, **kwargs: drawn.append(draw(*args, **kwargs)) or drawn[-1])
    assert call("--seeds", 4, 3, 6, 5, "--common_scale", "true") == 0
    table = [row for row in rows(tmp_path / "out" / "results.csv") if row["seed"].isdigit()]
    ranked = {
        name: sorted((float(row["accuracy"]), int(row["seed"])) for row in table if row["config"] == name)
        for name in ("softmax", "lambda_0.02", "lambda_0.1")
    }
    for figure, split in zip(drawn, ("train", "test"), strict=True):
        heads, details = zip(*(axes.get_title().split("\n") for axes in figure.axes), strict=True)
        assert [head.partition(" · ")[2] for head in heads] == [
            "softmax",
            "λ = 0.02 (λ$_\\mathrm{eff}$ = 2)",
            "λ = 0.1 (λ$_\\mathrm{eff}$ = 10)",
        ]
        assert all(f" {split} · " in head for head in heads)
        shown = [int(re.match(r"step 20 · seed (\d) · accuracy 9", detail)[1]) for detail in details]
        assert shown == [seeds[1][1] for seeds in ranked.values()]  # of four the lower of the two in the middle
        assert len({(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}) == 1


# --- export


def test_an_export_redraws_itself(tmp_path, call, trainer, drawing):
    trainer.made = {"points": 10_000, "scale": 300.0}
    assert (
        call("--seeds", 0, 1, "--export", tmp_path / "docs", "--set", f"data_dir={tmp_path}/data", preset="fast") == 0
    )
    exported = tmp_path / "docs" / "fast"
    first = contents(exported)
    assert set(first) == TABLE | PANELS
    ours = contents(tmp_path / "out")
    assert {name for name in first if first[name] == ours[name]} == {*TABLE, "panel_train.png"}

    files = sorted(path.name for path in (exported / "softmax").iterdir())
    assert (exported / "softmax" / "seed_1.validation.csv").read_text() == VALIDATION
    assert files == [f"seed_{seed}.{end}" for seed in (0, 1) for end in ENDS]
    assert str(tmp_path) not in "".join(path.read_text() for path in exported.glob("*/*.[yj]*"))
    path = exported / "softmax" / "seed_1.npz"
    assert path.stat().st_size <= 100_000
    with np.load(path) as saved, np.load(tmp_path / "out" / "softmax-seed1" / "features_test.npz") as run:
        assert {name: saved[name].dtype.name for name in saved} == {
            "features": "float16", "labels": "uint8", "predictions": "uint8", "centers": "float32", "step": "int64",
            "image_shape": "int64",
        }  # fmt: skip
        for name in ("labels", "predictions", "centers", "step"):
            np.testing.assert_array_equal(saved[name], run[name])
        np.testing.assert_allclose(saved["features"], run["features"], rtol=2**-11)

    for name in first:
        (exported / name).unlink()
    assert reproduce.main(["fast", "--from", str(tmp_path / "docs")]) == 0
    assert contents(exported) == {name: first[name] for name in first if name != "panel_train.png"}
    assert reproduce.main(["fast", "--from", str(tmp_path / "docs"), "--out", str(tmp_path / "drawn")]) == 0
    assert contents(tmp_path / "drawn") == contents(exported)


def test_a_presets_export_takes_whole_runs_of_it_alone(tmp_path, call, trainer, capsys):
    export = ["--export", tmp_path / "docs"]
    assert call("--steps", 10, *export) == 2
    assert "docs/tiny/softmax: of other settings than asked for, steps 10 instead of 20" in capsys.readouterr().err
    assert call("--steps", 10, *export, "--export_as", "fast") == 2
    assert trainer.commands == []  # told before the training, not after it
    assert not (tmp_path / "docs").exists()
    assert call("--steps", 10, *export, "--export_as", "short") == 0
    assert {row["steps"] for row in rows(tmp_path / "docs" / "short" / "results.csv")} == {"10"}


def test_a_presets_export_takes_runs_of_any_precision_and_says_it(tmp_path, call):
    assert call("--set", "precision=bfloat16", "--export", tmp_path / "docs") == 0
    assert {row["precision"] for row in rows(tmp_path / "docs" / "tiny" / "results.csv")} == {"bfloat16"}


def test_an_export_takes_further_seeds_but_no_other_settings(tmp_path, presets, trainer, capsys):
    words = ["tiny", "--configs", str(presets), "--export", str(tmp_path / "docs"), "--export_as", "short"]
    assert reproduce.main([*words, "--steps", "9", "--out", str(tmp_path / "a")]) == 0
    drawn = (tmp_path / "docs" / "short" / "panel_train.png").read_bytes()
    assert reproduce.main([*words, "--steps", "9", "--out", str(tmp_path / "b"), "--seeds", "1"]) == 0
    # Of some config the seed to be shown is in the other folder, so that the picture can't be made here.
    assert (tmp_path / "docs" / "short" / "panel_train.png").read_bytes() == drawn
    seeds = [row["seed"] for row in rows(tmp_path / "docs" / "short" / "results.csv")]
    assert seeds[:4] == ["0", "1", "0", "1"]
    assert reproduce.main([*words, "--steps", "8", "--out", str(tmp_path / "c"), "--seeds", "2"]) == 2
    assert "seed_0.npz: of other settings than asked for, steps 9 instead of 8" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_features_that_float16_cant_hold_are_told(tmp_path, call, trainer, drawing, capsys):
    trainer.made = {"scale": 70_000.0}
    assert call("--export", tmp_path / "docs") == 2
    assert "seed_0.npz: damaged (ValueError: features: " in capsys.readouterr().err


def test_some_configs_of_an_export_are_redrawn_elsewhere(tmp_path, call, trainer, capsys):
    assert call("--export", tmp_path / "docs") == 0
    words = ["tiny", "--from", str(tmp_path / "docs"), "--only", "softmax", "lambda_0.02"]
    assert reproduce.main([*words, "--out", str(tmp_path / "two")]) == 0
    with (tmp_path / "two" / "results.csv").open(newline="") as file:
        assert {row["config"] for row in csv.DictReader(file)} == {"softmax", "lambda_0.02"}
    before = (tmp_path / "docs" / "tiny" / "results.csv").read_bytes()
    for wrong, told in ((words, "say another folder by --out"), ([*words, "lambda"], "--only lambda: no such config")):
        assert reproduce.main(wrong) == 2
        assert told in capsys.readouterr().err
    assert (tmp_path / "docs" / "tiny" / "results.csv").read_bytes() == before


def test_a_damaged_file_is_named(tmp_path, call, capsys, request):
    assert call("--export", tmp_path / "docs") == 0
    path = tmp_path / "docs" / "tiny" / "softmax" / "seed_0.npz"
    path.write_bytes(path.read_bytes()[:1000])
    request.getfixturevalue("drawing")
    assert reproduce.main(["tiny", "--from", str(tmp_path / "docs")]) == 2
    assert f"{path}: damaged" in capsys.readouterr().err


# --- signals


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_each_signal_reaches_the_child_once(tmp_path, signals):
    """The child notes its signals and ends half a second after the last that is expected."""
    child = f"""
import signal, sys, time
got = []
for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, lambda signum, frame: got.append(signum))
print("ready", flush=True)
while len(got) < {len(signals)}:
    time.sleep(0.02)
time.sleep(0.5)
print([int(signum) for signum in got], flush=True)
sys.exit(128 + got[0])
"""
    parent = f"""
import sys
from running.signals import Child, Stopped
try:
    print(Child().run([sys.executable, "-c", {child!r}]))
except Stopped as stopped:
    print("stopped by", int(stopped.signum))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "ready\n"
    for signum in signals:
        os.killpg(process.pid, signum)  # to the whole group, as the terminal does
        time.sleep(0.2)
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == [str([int(s) for s in signals]), f"stopped by {int(signals[0])}"]


def test_a_child_that_dies_of_a_signal_did_not_stop_us():
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        child = Child()
        assert child.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == -9
        assert child.run(["true"]) == 0, "and no signal is left"
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


# --- as a user starts it


SMALL = "channels: [2, 2, 2]\nlog_every_steps: 5\ncenter_loss_weight: 0.01\n"


def test_tensorflow_is_not_imported(run_script):
    code = "import sys, reproduce; print([name for name in sys.modules if 'tensorflow' in name or 'pyplot' in name])"
    assert run_script("-c", code).stdout == "[]\n"


def test_a_real_run_that_diverges(tmp_path, run_script):
    configs = make_presets(tmp_path / "configs", tiny={"wild": SMALL + "learning_rate: 1.0e+30"})
    result = run_script("reproduce.py", "tiny", "--configs", configs, "--out", tmp_path / "out")
    assert result.returncode == 1, result.stderr
    assert "failed: wild-seed0 (exit code 3)" in result.stderr
    assert contents(tmp_path / "out") == {}


def test_ctrl_c_checkpoints_a_real_run_and_a_second_call_goes_on(tmp_path, run_script):
    configs = make_presets(tmp_path / "configs", steps=150, tiny={"lambda_0.01": SMALL})
    words = ["reproduce.py", "tiny", "--configs", configs, "--out", tmp_path / "out", "--export", tmp_path / "docs"]
    process = subprocess.Popen(
        [sys.executable, *map(str, words)], cwd=ROOT, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    next(line for line in process.stdout if line.startswith("step 5/150"))
    os.killpg(process.pid, signal.SIGINT)  # to the whole group, as the terminal does
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    assert "stopped by SIGINT; go on with: python reproduce.py tiny" in errors
    assert errors.count("go on with") == 1
    run = tmp_path / "out" / "lambda_0.01-seed0"
    step = max(int(path.stem.rpartition("-")[2]) for path in run.glob("checkpoints/*.index"))
    assert 5 <= step < 150
    assert contents(tmp_path / "out") == {}

    result = run_script(*words)
    assert result.returncode == 0, result.stderr
    assert "left: 1 run, 150 steps" in result.stdout
    assert [int(row["step"]) for row in rows(run / "metrics.csv")] == list(range(5, 151, 5))
    (row,) = rows(tmp_path / "out" / "results.csv")
    metrics = metrics_of(run)
    for name in set(results.MEASURES) - {"seconds"}:
        assert float(row[name]) == metrics["test"][name]
    assert row["training_images"] == str(metrics["train"]["images"])

    exported = contents(tmp_path / "docs" / "tiny")
    assert set(exported) == TABLE | PANELS
    words = ["tiny", "--from", str(tmp_path / "docs"), "--out", str(tmp_path / "drawn")]
    assert reproduce.main(words) == 0
    assert contents(tmp_path / "drawn") == {name: exported[name] for name in exported if name != "panel_train.png"}
