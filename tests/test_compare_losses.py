"""compare_losses.py as a user starts it, its measuring, and its figure."""

import csv

import numpy as np
import pytest

import compare_losses
from pictures.loss_comparison import EPSILON, NO_ERROR, draw_loss_comparison


@pytest.fixture(scope="module")
def results(run_script, tmp_path_factory):
    """One small run: what it printed, its folder, and its two tables."""
    out = tmp_path_factory.mktemp("compare") / "new" / "folder"
    done = run_script("compare_losses.py", "--classes", "[12, 3]", "--repeats", 3, "--batch_size", 40, "--out", out)
    assert done.returncode == 0, done.stderr
    tables = {}
    for name in ("classes.csv", "feature_scale.csv"):
        with (out / name).open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    return done.stdout, out, tables


def test_the_run_leaves_two_tables_and_a_figure_and_nothing_else(results):
    stdout, out, _ = results
    assert {path.name for path in out.iterdir()} == {"classes.csv", "feature_scale.csv", "compare_losses.png"}
    assert (out / "compare_losses.png").read_bytes().startswith(b"\x89PNG")
    assert str(out) in stdout


def test_the_widest_rows_fit_into_80_columns(tmp_path, capsys):
    row = compare_losses.Cost(10_000, "gather", 10_131.7, 1e-7, 1e-7, 90_020, 99_010, 61.23, 172.3, *[12_345.6] * 2)
    compare_losses.write_table(tmp_path / "classes.csv", [row, row._replace(value=0.012, step_ms=0.123)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[-2:]] == [
        ["10000", "gather", value, "1e-07", "1e-07", "90020", "99010", "61.2", "172", step, "12346"]
        for value, step in (("10132", "12346"), ("0.01", "0.12"))
    ]
    assert "…" not in "".join(lines), "a cell is cut off"


def test_costs_of_each_class_count(results):
    rows = results[2]["classes.csv"]
    assert tuple(rows[0]) == compare_losses.Cost._fields
    assert [(row["classes"], row["loss"]) for row in rows] == [(c, loss) for c in ("3", "12") for loss in ("naive", "gather")]  # fmt: skip  # noqa: E501
    for naive, gather in zip(rows[::2], rows[1::2], strict=True):
        assert float(naive["value"]) == pytest.approx(float(gather["value"]), rel=1e-5)
        assert int(naive["ops_step"]) > int(naive["ops_loss"]) > 10 * int(naive["classes"])
        assert float(gather["over_gather"]) == 1
        for row in (naive, gather):
            assert 0 <= float(row["value_error"]) < 1e-5
            assert 0 <= float(row["gradient_error"]) < 1e-5
            assert float(row["build_s"]) > 0
            assert float(row["first_step_s"]) > 0
            assert float(row["step_ms"]) > 0
    assert rows[1]["ops_step"] == rows[3]["ops_step"]


def test_the_expanded_square_cancels_and_the_gather_form_does_not(results):
    rows = results[2]["feature_scale.csv"]
    assert tuple(rows[0]) == compare_losses.ScaleError._fields
    error = {(row["loss"], float(row["feature_scale"])): float(row["value_error"]) for row in rows}
    assert len(error) == len(rows) == 2 * len(compare_losses.SCALES)
    assert all(error["gather", scale] < 1e-6 for scale in compare_losses.SCALES)
    assert error["naive", 1e4] > 1 > 1e6 * error["gather", 1e4]
    assert error["naive", 1e4] / error["naive", 1e2] == pytest.approx(1e4, rel=0.9)  # grows as the square of the scale
    gradient = {(row["loss"], float(row["feature_scale"])): float(row["gradient_error"]) for row in rows}
    assert all(gradient["naive", scale] <= 20 * EPSILON * scale for scale in compare_losses.SCALES)
    assert all(gradient["gather", scale] <= EPSILON for scale in compare_losses.SCALES)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--classes", "[10, x]"], "classes"),
        (["--classes", "[0]"], "classes"),
        (["--classes", "[]"], "classes"),
        (["--repeats", "0"], "repeats"),
        (["--seed", "-1"], "seed"),
        (["--no_such_option", "1"], "no_such_option"),
        (["--out", "centerloss.py"], "--out centerloss.py"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_its_name(monkeypatch, capsys, arguments, named):
    monkeypatch.chdir(compare_losses.Path(compare_losses.__file__).parent)
    monkeypatch.setattr("sys.argv", ["compare_losses.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        compare_losses.main()
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def test_a_wrong_argument_of_the_command_itself(run_script):
    done = run_script("compare_losses.py", "--width", "0")
    assert done.returncode == 2
    assert "width" in done.stderr
    assert "Traceback" not in done.stderr


def test_above_its_limit_the_loop_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(compare_losses, "NAIVE_UP_TO", 2)
    compare_losses.compare(classes=(2, 4, 4), batch_size=5, repeats=1, out=str(tmp_path))
    lines = (tmp_path / "classes.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in lines] == [["2", "naive"], ["2", "gather"], ["4", "gather"]]


def test_inputs_lie_where_they_should_and_a_seed_repeats_them():
    features, labels, centers = compare_losses.draw_inputs(3, 500, 10, 2, scale=50.0, distance=0.1)
    assert (features.dtype, features.shape, labels.shape, centers.shape) == (np.float32, (500, 2), (500,), (10, 2))
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 50, rtol=1e-6)
    assert (features - centers[labels]).std() == pytest.approx(0.1, rel=0.1)
    again = compare_losses.draw_inputs(3, 500, 10, 2, scale=50.0, distance=0.1)
    np.testing.assert_array_equal(again[0], features)


@pytest.mark.parametrize("wrong", ["value", "gradient"])
def test_errors_are_those_of_the_step(wrong):
    batch = np.float32([[1, 2], [3, 5]]), np.int64([0, 0]), np.float32([[1, 1]])
    value, gradient = 0.5 * (1 + 4 + 16), np.array([[0.0, 1], [2, 4]])
    step = {"value": (value * 1.5, gradient), "gradient": (value, gradient + np.diag([0, 1]))}[wrong]
    errors = compare_losses.measure_errors(lambda *_: step, *batch)
    assert errors == ((value * 1.5, 0.5, 0) if wrong == "value" else (value, 0, 0.25))


def test_figure_shows_the_numbers_given():
    costs = {"naive": [(10, 1.0, 800), (100, 9.0, 8000)], "gather": [(10, 0.3, 9), (100, 0.3, 9), (1000, 0.4, 9)]}
    errors = {"naive": [(1, 1e-6, 1e-7), (100, 1e-2, 0.0)], "gather": [(1, 1e-7, 1e-8), (100, 1e-7, 0.0)]}
    figure = draw_loss_comparison(costs, errors, distance=0.25)
    time, error, ops = (next(a for a in figure.axes if word in a.get_ylabel()) for word in ("time", "error", "ops"))
    assert all(axis.get_xscale() == axis.get_yscale() == "log" for axis in figure.axes)
    lines = {line.get_label(): line.get_xydata().tolist() for line in time.lines}
    assert lines == {"loop over classes": [[10, 1], [100, 9]], "gather": [[10, 0.3], [100, 0.3], [1000, 0.4]]}
    assert [line.get_ydata().tolist() for line in ops.lines] == [[800, 8000], [9, 9, 9]]
    lines = {line.get_label(): list(line.get_ydata()) for line in error.lines}
    assert lines["value, loop over classes"] == [1e-6, 1e-2]
    assert lines["gradient, gather"] == [1e-8, NO_ERROR]
    assert [EPSILON, EPSILON] in lines.values()
    assert "0.25" in error.get_title()


def test_figure_without_the_loop():
    figure = draw_loss_comparison({"naive": [], "gather": [(10, 0.3, 9)]}, {"gather": [(1, 1e-7, 0.0)]}, distance=0.1)
    figure.canvas.draw()
