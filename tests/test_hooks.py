"""The hooks, in the session that the training loop opens, and by hand where values matter."""

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import training_graph
from running import checkpoints, hooks, session
from running.signals import StopSignals


@pytest.fixture(autouse=True)
def own_graph():
    """A graph for each test, and no event writers of earlier ones."""
    with tf.Graph().as_default():
        yield
    tf.summary.FileWriterCache.clear()


class Toy:
    """w ← w + fed, with loss w²: what is fed decides what breaks, and when.

    The loss is of before the step, as in training: a variable can be broken when the loss is still fine.
    """

    def __init__(self):
        step = tf.train.get_or_create_global_step()
        before = step.read_value()
        self.fed = tf.placeholder(tf.float32, [])
        self.w = tf.get_variable("w", [], initializer=tf.zeros_initializer(), use_resource=True)
        tf.get_variable("count", [], tf.int64, initializer=tf.zeros_initializer(), use_resource=True)
        w = self.w.read_value()
        with tf.control_dependencies([before, w]):
            self.train_op = tf.group(self.w.assign_add(self.fed), step.assign_add(1))
        self.scalars = {"step": before, "loss": w**2, "w": w}

    def run(self, folder, feeds, riding, save_steps):
        """Trains over `feeds`, from the newest whole checkpoint of `folder`; returns the steps that were run."""
        opened = session.open_session(
            folder,
            checkpoints.newest_whole(folder),
            tf.train.Saver(max_to_keep=3),
            self.scalars,
            riding,
            save_every_steps=save_steps,
        )
        done = 0
        with opened as running:
            for value in feeds:
                if running.should_stop():
                    break
                running.run(self.train_op, {self.fed: value})
                done += 1
        return done


def saved(folder):
    """Step and w of the newest checkpoint, which must be whole."""
    found = checkpoints.newest_whole(folder)
    assert found.damaged == []
    return found.step, float(tf.train.NewCheckpointReader(found.path).get_tensor("w"))


# --- finite


@pytest.mark.parametrize("save_steps", [1, 2, 3, 100])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_newest_checkpoint_stays_finite(tmp_path, bad, save_steps):
    toy = Toy()
    with pytest.raises(hooks.NonFiniteError, match=r"step [45]: "):
        toy.run(tmp_path, [1, 1, 1, bad, 1, 1, 1], [], save_steps)
    step, w = saved(tmp_path)
    assert step == w, "w counts the steps as long as all is well"
    assert step == {1: 3, 2: 2, 3: 3, 100: 0}[save_steps], "the newest that was due before the break"


def test_message_names_step_scalars_and_values():
    hook = hooks.FiniteHook({})
    hook.after_step(6, {"step": 5, "loss": 1e30, "rate": 0.0})
    with pytest.raises(hooks.NonFiniteError) as raised:
        hook.after_step(7, {"step": 6, "loss": np.float32("nan"), "scale": np.float32("inf"), "rate": 0.5})
    assert str(raised.value) == "step 7: loss and scale not finite (loss nan, scale inf, rate 0.5)"


def test_variable_broken_under_a_finite_loss_is_not_saved(tmp_path):
    toy = Toy()
    # Saves after steps 2 and 4. Step 4 breaks w; its loss, of before, is 9.
    with pytest.raises(hooks.NonFiniteError, match=r"step 4: variables not finite: w \(loss 9, w 3\)"):
        toy.run(tmp_path, [1, 1, 1, math.inf, 1], [], save_steps=2)
    assert saved(tmp_path) == (2, 2.0)


def test_loss_broken_over_finite_variables_is_not_saved(tmp_path):
    toy = Toy()
    scalars = toy.scalars | {"loss": tf.sqrt(toy.scalars["w"])}
    # Step 2 makes w −2. At step 3, when a checkpoint is due, the loss is the root of that, and w is finite.
    with pytest.raises(hooks.NonFiniteError, match=r"step 3: loss not finite \(loss nan, w -2\)"):
        toy.run(tmp_path, [1, -3, 1, 1], [hooks.FiniteHook(scalars)], save_steps=3)
    assert saved(tmp_path) == (0, 0.0)


def test_without_a_break_all_steps_are_run_and_the_last_is_saved(tmp_path):
    toy = Toy()
    assert toy.run(tmp_path, [1] * 7, [], save_steps=100) == 7
    assert saved(tmp_path) == (7, 7.0)


# --- stop


def test_stop_saves_and_stops_and_the_rest_can_be_run_later(tmp_path, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda signum, handler: None)  # the test runner's handlers stay
    signals = StopSignals()

    def feeds():
        for number in range(10):
            if number == 4:
                signals.note(15)
            yield 1

    toy = Toy()
    assert toy.run(tmp_path, feeds(), [hooks.StopHook(signals)], save_steps=100) == 5, "the step under way is finished"
    assert saved(tmp_path) == (5, 5.0)
    with tf.Graph().as_default():
        toy, signals = Toy(), StopSignals()
        assert toy.run(tmp_path, [1] * 5, [hooks.StopHook(signals)], save_steps=100) == 5
        assert saved(tmp_path) == (10, 10.0)


# --- collapse


@pytest.fixture
def collapse():
    """A hook with patience 3 for ten classes (ln 10 = 2.303), and what it warned of."""
    warnings = []
    wrong = functools.partial(training_graph.collapse, num_classes=10)
    return hooks.PatienceHook({}, wrong, 3, warnings.append), warnings


def feed(hook, first, values):
    for step, (spread, cross_entropy) in enumerate(values, start=first):
        hook.after_step(step, {"step": step - 1, "feature_spread": spread, "cross_entropy": cross_entropy})


COLLAPSED = (1e-4, 2.3026)


def test_collapse_warns_once_and_not_before_patience(collapse):
    hook, warnings = collapse
    feed(hook, 1, [COLLAPSED] * 2)
    assert warnings == []
    feed(hook, 3, [COLLAPSED])
    (warning,) = warnings
    for part in (
        "step 3",
        "for 3 steps on end, collapse",
        "0.0001",
        "ln C = 2.30",
        "--center_loss_weight",
        "--center_loss_warmup_steps",
    ):
        assert part in warning
    feed(hook, 4, [COLLAPSED] * 50)
    assert len(warnings) == 1


@pytest.mark.parametrize(
    "healthy", [(0.5, 2.3026), (1e-4, 1.0), (1e-4, 2.15), (0.051, 2.31), (math.nan, 2.3), (1e-4, math.nan)]
)
def test_a_healthy_step_resets_the_patience(collapse, healthy):
    hook, warnings = collapse
    feed(hook, 1, [COLLAPSED, COLLAPSED, healthy] * 5)
    assert warnings == []
    feed(hook, 16, [COLLAPSED] * 3)
    assert len(warnings) == 1


def test_a_second_collapse_is_not_told_again(collapse):
    hook, warnings = collapse
    feed(hook, 1, [COLLAPSED] * 5 + [(3.0, 0.1)] + [COLLAPSED] * 5)
    assert [warning.split(":")[1] for warning in warnings] == [" step 3"]


# --- rows


def test_rows_are_every_so_many_steps_and_at_the_last(tmp_path):
    toy = Toy()
    rows = []
    toy.run(tmp_path, [0.1] * 7, [hooks.TableHook(toy.scalars, 3, 7, rows.append)], save_steps=100)
    assert [row["step"] for row in rows] == [3, 6, 7]
    assert all(list(row) == ["step", "loss", "w"] for row in rows)
    w = np.float32(0)
    for step in range(1, 8):
        if step in (3, 6, 7):
            row = rows[[3, 6, 7].index(step)]
            assert np.float32(row["w"]) == w, "of the forward pass of this step"
            assert np.float32(row["loss"]) == w**2
        w += np.float32(0.1)


def test_rows_give_back_every_float32():
    rows = []
    hook = hooks.TableHook({}, 1, 1, rows.append)
    values = np.random.default_rng(0).integers(0, 0x7F800000, 500, np.uint32).view(np.float32)
    for value in values:
        hook.after_step(1, {"step": 0, "x": value})
    np.testing.assert_array_equal(np.array([row["x"] for row in rows]).astype(np.float32), values)


# --- progress


def test_progress_prints_lines_where_there_is_no_terminal(tmp_path, capsys):
    toy = Toy()
    progress = hooks.ProgressHook(toy.scalars, {"loss": "loss"}, 0, 50, every_steps=20)
    with progress:
        toy.run(tmp_path, [0.5] * 50, [progress], save_steps=100)
    lines = capsys.readouterr().out.splitlines()
    # The first step is not timed, so twenty have been at step 21; 29 are left.
    estimates = [line for line in lines if line.startswith("about ")]
    assert len(estimates) == 1
    assert " minutes for 29 more steps (" in estimates[0]
    assert estimates[0].endswith(" ms a step), evaluation aside")
    assert [line for line in lines if line not in estimates] == [
        "step 20/50 loss 90.25",  # w is 19 · 0.5 before the 20th step
        "step 40/50 loss 380.2",
        "step 50/50 loss 600.2",
    ]
    assert lines.index(estimates[0]) == 1
    assert (progress.step, progress.steps) == (50, 49)
    assert progress.seconds > 0


def test_progress_estimate_is_the_time_left(capsys, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: 3.0 * next(clock))  # three seconds a step
    progress = hooks.ProgressHook({}, {}, 100, 1000, every_steps=10_000)
    for step in range(101, 140):
        progress.before_run(None)
        progress.before_run(None)
        progress.after_step(step, {"step": step - 1})
    # Twenty timed steps at step 121: 879 left, of 3 s each, are 43.95 minutes.
    assert capsys.readouterr().out in [
        f"about {minutes} minutes for 879 more steps (3000 ms a step), evaluation aside\n"
        for minutes in ("43.9", "44.0")
    ]
    assert (progress.steps, progress.seconds) == (38, 114.0)


def test_progress_gives_no_estimate_for_a_short_run(capsys):
    progress = hooks.ProgressHook({}, {}, 0, 21, every_steps=100)
    for step in range(1, 22):
        progress.before_run(None)
        progress.before_run(None)
        progress.after_step(step, {"step": step - 1})
    assert capsys.readouterr().out.rstrip() == "step 21/21"


def test_progress_is_a_bar_on_a_terminal_and_keeps_its_step_at_80_columns(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    shown = {"L_S": "loss", "L_C": "loss", "acc": "loss"}
    progress = hooks.ProgressHook({}, shown, 16_000_000, 16_000_030, every_steps=1)
    with progress:
        for step in range(16_000_001, 16_000_031):
            progress.before_run(None)
            progress.before_run(None)
            progress.after_step(step, {"step": step - 1, "loss": 1.2345e-10})
    output = capsys.readouterr().out
    assert "step 16000030/16000030" not in output, "no lines beside the bar"
    (last,) = (line for line in output.splitlines()[-2:] if "16000030/16000030" in line)
    for text in ("steps/s", "L_S 1.234e-10", "L_C"):
        assert text in last


# --- events


def events(folder: Path) -> dict[tuple[int, str], float]:
    """What the event files in a folder hold, by step and tag."""
    return {
        (event.step, value.tag): value.simple_value
        for file in folder.glob("events.*")
        for event in tf.train.summary_iterator(str(file))
        for value in event.summary.value
    }


def test_events_hold_the_last_step_and_every_so_many(tmp_path):
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        tf.summary.scalar("loss/total", tf.cast(step, tf.float32))
        count = tf.assign_add(step, 1)
        hook = hooks.EventsHook(tmp_path / "train", first_step=10, every_steps=4, last_step=18)
        with tf.train.SingularMonitoredSession([hook]) as session:
            session.raw_session().run(step.initializer)
            for _ in range(8):
                session.run(count)
    assert [step for step, tag in events(tmp_path / "train") if tag == "loss/total"] == [12, 16, 18]
    files = list((tmp_path / "train").glob("events.*"))
    logs = [event for file in files for event in tf.train.summary_iterator(str(file)) if event.graph_def]
    assert len(logs) == 1


def test_events_of_validation_are_in_a_folder_of_their_own(tmp_path):
    hooks.write_events(tmp_path / "validation", 7, {"accuracy/softmax": 0.5, "loss/cross_entropy": 1.25})
    assert events(tmp_path / "validation") == {(7, "accuracy/softmax"): 0.5, (7, "loss/cross_entropy"): 1.25}
