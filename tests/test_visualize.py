from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib import image

import figures
import run_panels
import visualize
from pictures import animation, clusters
from running.run_folder import RunFolderError


def make_run(folder: Path, *, seed=0, scale=10.0, points=200, step=16000, **settings) -> Path:
    """A run folder as train_mnist.py leaves it, as far as drawing goes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    config = {"dataset": "mnist", "center_loss_weight": 0.01, "center_loss_reduction": "sum", "batch_size": 100}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"steps": 16000, "run_name": "run"} | settings))
    centers = rng.uniform(-scale, scale, (10, 2)).astype(np.float32)
    for split, spread in (("train", 0.05), ("test", 0.2)):
        labels = rng.integers(0, 10, points)
        predictions = labels.copy()
        predictions[: points // 100] = (predictions[: points // 100] + 1) % 10  # 99 % are right
        features = (centers[labels] + rng.normal(0, spread * scale, (points, 2))).astype(np.float32)
        np.savez(
            folder / f"features_{split}.npz",
            features=features, labels=labels, predictions=predictions, index=np.arange(points), centers=centers,
            classifier_weights=np.zeros((2, 10)), classifier_bias=np.zeros(10), step=step,
        )  # fmt: skip
    return folder


def change_arrays(path: Path, **changes) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        content = dict(arrays) | changes
    np.savez(path, **{name: array for name, array in content.items() if array is not None})


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, in order."""
    figures = []
    draw = clusters.figure

    def remember(*args, **kwargs):
        figures.append(draw(*args, **kwargs))
        return figures[-1]

    monkeypatch.setattr(clusters, "figure", remember)
    return figures


def limits(axes):
    return (*axes.get_xlim(), *axes.get_ylim())


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def failure(capsys, *arguments) -> str:
    """The one line with which the command failed."""
    with pytest.raises(SystemExit) as stopped:
        visualize.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_one_run_as_a_user_starts_it(tmp_path, run_script):
    run = make_run(tmp_path / "Läufe mit λ" / "run eins $1")
    result = run_script("visualize.py", run)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [f"{run}/clusters_train.png", f"{run}/clusters_test.png"]
    for name in result.stdout.splitlines():
        pixels = image.imread(name)
        assert min(pixels.shape[:2]) > 1000
        assert len(np.unique(pixels[::5, ::5, 0])) > 20
    assert not list(run.glob(".partial*"))


@pytest.mark.parametrize("script", ["train_mnist.py", "visualize.py", "reproduce.py", "compare_losses.py"])
def test_a_notebooks_backend_and_a_users_damaged_style_hinder_no_script(tmp_path, run_script, script):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe: 3")
    hostile = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(tmp_path)}
    assert run_script("-c", "import matplotlib", **hostile).returncode != 0
    result = run_script(script, "--help", **hostile)
    assert result.returncode == 0, result.stderr


def test_redrawing_in_another_process_gives_the_same_bytes(tmp_path, run_script):
    run = make_run(tmp_path / "run")
    formats = ("png", "pdf", "svg")
    code = f"import sys, visualize\nfor f in {formats}: visualize.main([sys.argv[1], '--split', 'test', '--format', f])"
    assert run_script("-c", code, run).returncode == 0
    for format in formats:
        path = run / f"clusters_test.{format}"
        first = path.read_bytes()
        path.unlink()
        assert figures.draw([run], splits=["test"], format=format) == [path]
        assert path.read_bytes() == first


def test_tensorflow_is_not_imported(run_script):
    code = "import sys, visualize; print([name for name in sys.modules if 'tensorflow' in name or 'pyplot' in name])"
    assert run_script("-c", code).stdout == "[]\n"


def test_title_tells_data_split_lambdas_step_and_accuracy(tmp_path):
    title = run_panels.run_panel(make_run(tmp_path / "a"), "test").title
    assert title == "MNIST test · λ = 0.01 (λ$_\\mathrm{eff}$ = 1)\nstep 16,000 · seed 0 · accuracy 99.00%"


def test_lambda_eff_of_the_mean_is_lambda(tmp_path):
    run = make_run(tmp_path / "a", center_loss_reduction="mean", center_loss_weight=0.003, batch_size=128)
    assert "λ = 0.003 (λ$_\\mathrm{eff}$ = 0.003)" in run_panels.run_panel(run, "train").title


def test_digits_are_not_taken_for_mnist(tmp_path):
    assert run_panels.run_panel(make_run(tmp_path / "a", dataset="digits"), "train").title.startswith(
        "digits (8×8, not MNIST) train"
    )


def test_draw_run_draws_the_arrays_of_the_split(tmp_path, drawn):
    run = make_run(tmp_path / "run")
    assert figures.draw([run]) == [run / "clusters_train.png", run / "clusters_test.png"]
    for figure, split in zip(drawn, ("train", "test"), strict=True):
        (axes,) = figure.axes
        (points,) = axes.collections
        with np.load(run / f"features_{split}.npz") as arrays:
            expected = arrays["features"]
        np.testing.assert_array_equal(np.sort(points.get_offsets(), axis=0), np.sort(expected, axis=0))
        assert f"MNIST {split}" in axes.get_title()
    assert limits(drawn[0].axes[0]) != limits(drawn[1].axes[0])


def test_common_scale_joins_the_splits_of_one_run(tmp_path, drawn):
    visualize.main([str(make_run(tmp_path / "run")), "--common_scale", "true"])
    assert limits(drawn[0].axes[0]) == limits(drawn[1].axes[0])


def test_panels_have_one_subplot_a_run(tmp_path, drawn, capsys):
    weights = [0.0, 0.01, 0.1, 1.0]
    runs = [
        make_run(tmp_path / f"r{w}", seed=i, scale=100 / (i + 1), center_loss_weight=w) for i, w in enumerate(weights)
    ]
    out = tmp_path / "new" / "folder"
    visualize.main([*map(str, runs), "--common_scale", "true", "--out", str(out), "--format", "svg"])
    assert capsys.readouterr().out.splitlines() == [f"{out}/panel_train.svg", f"{out}/panel_test.svg"]
    for figure in drawn:
        assert len({limits(axes) for axes in figure.axes}) == 1
        for title, weight in zip(titles(figure), weights, strict=True):
            assert (f"λ = {weight:g} " if weight else "softmax") in title
            assert title.count("\n") == 1


def test_runs_of_one_lambda_are_told_apart_by_name(tmp_path, drawn):
    runs = [make_run(tmp_path / name, seed=seed) for seed, name in enumerate(("seed $0", "seed_1$"))]
    runs.append(make_run(tmp_path / "other", center_loss_weight=0.5))
    figures.draw(runs, splits=["test"], out=tmp_path)
    assert [title.split("\n")[2:] for title in titles(drawn[0])] == [[r"seed \$0"], [r"seed_1\$"], []]


def test_panels_go_to_outputs_by_default(tmp_path, monkeypatch):
    runs = [make_run(tmp_path / name) for name in "ab"]
    monkeypatch.chdir(tmp_path)
    assert figures.draw(runs, splits=["train"]) == [Path("outputs/panel_train.png")]
    assert (tmp_path / "outputs" / "panel_train.png").is_file()


def test_given_limits_may_be_negative(tmp_path, drawn):
    run = make_run(tmp_path / "run")
    visualize.main([str(run), "--split", "test", "--limits", "-16.5", "7", "-.5", "11.3"])
    assert limits(drawn[0].axes[0]) == (-16.5, 7, -0.5, 11.3)
    assert [path.name for path in run.glob("*.png")] == ["clusters_test.png"]


def test_missing_run(tmp_path, capsys):
    assert f"{tmp_path}/nothing: no such run folder" in failure(capsys, tmp_path / "nothing")


def test_folder_that_is_no_run(tmp_path, capsys):
    assert f"{tmp_path}/config.yaml: missing" in failure(capsys, tmp_path)


@pytest.mark.parametrize("text", ["", "a: [1", "dataset: mnist\n", "- 1\n", "\x00", "center_loss_weight: much\n"])
def test_damaged_config(tmp_path, capsys, text):
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(text)
    assert f"{run}/config.yaml: can't be used" in failure(capsys, run)


def test_unfinished_run_says_how_to_go_on(tmp_path, capsys):
    run = make_run(tmp_path / "my run")
    (run / "features_test.npz").unlink()
    message = failure(capsys, run)
    assert f"{run}/features_test.npz: missing" in message
    assert f"python train_mnist.py --resume '{run}'" in message
    assert not list(run.glob("*.png")), "what was read of the other split must not be drawn alone"


@pytest.mark.parametrize("keep", [0, 10, 1000, -30])
def test_torn_features(tmp_path, capsys, keep):
    run = make_run(tmp_path / "run")
    path = run / "features_train.npz"
    path.write_bytes(path.read_bytes()[:keep])
    message = failure(capsys, run)
    assert f"{path}: damaged" in message
    assert "--resume" in message


def test_flipped_bits_in_features_are_noticed(tmp_path):
    run = make_run(tmp_path / "run")
    path = run / "features_train.npz"
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF  # within the features
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"features_train\.npz: damaged \(BadZipFile"):
        figures.draw([run])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.full((200, 2), np.nan)}, "200 of 200 rows are not finite"),
        ({"features": np.zeros((200, 64))}, "centers: expected width 64 as the features, got (10, 2)"),
        ({"predictions": np.zeros(1, int)}, "predictions: expected shape (200,)"),
        ({"centers": None}, "centers"),
        ({"labels": np.array([{}] * 200, dtype=object)}, "allow_pickle"),
    ],
)
def test_wrong_arrays_name_the_file(tmp_path, capsys, changes, message):
    run = make_run(tmp_path / "run")
    change_arrays(run / "features_test.npz", **changes)
    line = failure(capsys, run)
    assert f"{run}/features_test.npz: damaged" in line
    assert message in line


def test_wrong_limits_and_out(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    assert "limits: expected finite" in failure(capsys, run, "--limits", 1, 0, 0, 1)
    assert "--out" in failure(capsys, run, "--split", "test", "--out", run / "config.yaml")


@pytest.mark.parametrize(
    "arguments", [[], ["--format", "gif"], ["--split", "validation"], ["--limits", "1", "2"], ["--colour", "red"]]
)
def test_wrong_command_lines(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        visualize.main([str(tmp_path), *arguments] if arguments else [])
    assert stopped.value.code == 2
    assert "error" in capsys.readouterr().err


def test_no_traceback_in_a_real_process(tmp_path, run_script):
    result = run_script("visualize.py", tmp_path / "nothing")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    result = run_script("visualize.py", tmp_path, "--wrong")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    (path,) = figures.draw([run], splits=["test"])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        figures.draw([run], splits=["test"], limits=(0, 1, 0, 1))
    assert path.read_bytes() == before
    assert sorted(p.name for p in run.iterdir()) == [
        "clusters_test.png", "config.yaml", "features_test.npz", "features_train.npz",
    ]  # fmt: skip


def add_snapshots(run: Path, steps=(0, 1, 8, 1500)) -> Path:
    """Gives the run the snapshots that train_mnist.py leaves: no class names in them."""
    (run / "snapshots").mkdir()
    with np.load(run / "features_test.npz") as arrays:
        final = {name: arrays[name] for name in ("features", "labels", "predictions", "centers")}
    for number, step in enumerate(steps, 1):
        moved = {name: (final[name] * np.float32(number / len(steps))) for name in ("features", "centers")}
        np.savez(run / "snapshots" / f"{step:09d}.npz", **final | moved, step=step)
    return run


@pytest.fixture
def few_frames(monkeypatch):
    draw = animation.gif
    monkeypatch.setattr(animation, "gif", lambda snapshots: draw(snapshots, frames=3))


def test_animation_as_a_user_starts_it(tmp_path, run_script):
    run = add_snapshots(make_run(tmp_path / "Lauf 1"), steps=[7])
    code = "import sys, visualize; visualize.main(sys.argv[1:]); print([m for m in sys.modules if 'tensorflow' in m])"
    result = run_script("-c", code, run, "--animate")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [f"{run}/animation.gif", "[]"]
    assert (run / "animation.gif").read_bytes().startswith(b"GIF89a")
    assert not list(run.glob("*.png"))


@pytest.mark.usefixtures("few_frames")
def test_animation_goes_where_out_says(tmp_path, capsys):
    run = add_snapshots(make_run(tmp_path / "run"))
    visualize.main([str(run), "--animate", "--out", str(tmp_path / "new" / "folder")])
    assert capsys.readouterr().out == f"{tmp_path}/new/folder/animation.gif\n"
    assert not (run / "animation.gif").exists()


def test_snapshots_are_in_the_order_of_training_and_titled(tmp_path):
    run = add_snapshots(make_run(tmp_path / "run"))
    (run / "snapshots" / ".partial-x.npz").touch()  # of a run that goes on
    panels = run_panels.snapshot_panels(run)
    head = "MNIST, 200 test images · λ = 0.01 (λ$_\\mathrm{eff}$ = 1)\nstep "
    assert [panel.title for panel in panels] == [
        f"{head}{n} · seed 0 · accuracy 99.00%" for n in ("0", "1", "8", "1,500")
    ]


def test_snapshots_of_an_unfinished_run_have_the_names_of_its_data_set(tmp_path):
    run = add_snapshots(make_run(tmp_path / "run", dataset="fashion_mnist"))
    (run / "features_test.npz").unlink()
    assert run_panels.snapshot_panels(run)[0].class_names[9] == "Ankle boot"


def test_no_snapshots(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    for _ in range(2):
        message = failure(capsys, run, "--animate")
        assert f"{run}: no snapshots" in message
        assert "snapshot_steps" in message
        (run / "snapshots").mkdir(exist_ok=True)


@pytest.mark.parametrize("step", [8, 1500])
def test_damaged_snapshot_is_named(tmp_path, capsys, step):
    run = add_snapshots(make_run(tmp_path / "run"))
    path = run / "snapshots" / f"{step:09d}.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    assert f"{path}: damaged" in failure(capsys, run, "--animate")
    path.write_bytes(whole)
    change_arrays(path, features=np.zeros((200, 3), np.float32))
    message = failure(capsys, run, "--animate")
    assert f"{path}: damaged (ValueError: centers: expected width 3 as the features" in message
    assert not list(run.glob("*.gif"))


def test_animation_of_several_runs_is_refused(tmp_path, capsys):
    runs = [add_snapshots(make_run(tmp_path / name)) for name in "ab"]
    assert "--animate: expected one run, got 2" in failure(capsys, *runs, "--animate")


def test_a_home_folder_is_expanded_and_another_machines_refused(tmp_path, monkeypatch, capsys):
    run = make_run(tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path))
    visualize.main(["~/run", "--split", "test", "--out=~/new"])
    assert (tmp_path / "new" / "clusters_test.png").exists()
    for words in (["gs://bucket/run"], [str(run), "--out=gs://bucket"]):
        with pytest.raises(SystemExit):
            visualize.main(words)
        assert "expected a folder of this machine, got 'gs://bucket" in capsys.readouterr().err
