"""The training step and the training script: Eq. 5 and 4 in the graph, what a run leaves, how it goes on."""

import csv
import json
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import yaml

import config
import evaluation
import train_mnist
import training_graph
from config import Config
from conftest import ROOT
from mnist_data import load
from running import precision as precisions
from splits import Split, batches, divide
from update_centers import update_centers

TINY = {"dataset": "digits", "channels": (2, 3, 4), "batch_size": 20}
TINY_RUN = [
    "--dataset", "digits", "--channels", "[2,3,4]", "--batch_size", "20", "--log_every_steps", "5",
    "--evaluate_every_steps", "10", "--checkpoint_every_steps", "10", "--crop", "4", "--snapshot_steps", "[0,10,30]",
]  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return load("digits", "nowhere")


@pytest.fixture
def session_of():
    """Builds a config's graph and opens an initialized session on it; closes all at the end."""
    opened = []

    def build(**settings):
        graph = tf.Graph()
        with graph.as_default():
            handles = training_graph.build_graph(Config(**(TINY | settings)), num_classes=10, image_shape=(28, 28))
            session = tf.Session()
            session.run(tf.global_variables_initializer())
        opened.append(session)
        return handles, session

    yield build
    for session in opened:
        session.close()


@pytest.mark.parametrize("margin", [0, 2, 8])
def test_crop_leaves_the_inner_pixels_and_no_others(session_of, digits, margin):
    graph, session = session_of(crop=margin, channels=(4, 4, 4), prelu_start=1.0)  # a linear network sees every pixel
    images, inner = digits.test.images[:20].copy(), np.zeros((28, 28), bool)
    inner[margin : 28 - margin, margin : 28 - margin] = True
    features = session.run(graph.features, {graph.images: images})
    images[:, ~inner] ^= 255
    assert np.array_equal(session.run(graph.features, {graph.images: images}), features)
    images[:, margin, margin : -margin or None] ^= 255  # the outermost row that is left
    assert not np.array_equal(session.run(graph.features, {graph.images: images}), features)


def feeds(graph, split, count, first_step=0):
    order = batches(len(split.labels), 20, seed=3, first_step=first_step)
    for _, index in zip(range(count), order, strict=False):
        yield {graph.images: split.images[index], graph.labels: split.labels[index]}


@pytest.mark.parametrize("update", ["py_func", "in_graph"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("kind", ["gather", "naive"])
def test_one_step_is_eq_5_on_the_old_centers_and_eq_4_on_the_old_features(session_of, digits, kind, reduction, update):
    graph, session = session_of(
        center_loss=kind, center_loss_reduction=reduction, center_loss_weight=0.3, center_update=update
    )
    features = session.graph.get_tensor_by_name("training/lenet/features:0")
    for feed in feeds(graph, digits.train, 8):
        old = session.run(graph.centers)
        scalars, x, _ = session.run([graph.scalars, features, [graph.train_op, graph.center_update]], feed)
        labels = feed[graph.labels]
        l_c = 0.5 * ((x.astype(np.float64) - old[labels]) ** 2).sum() / (len(labels) if reduction == "mean" else 1)
        assert scalars["center_loss"] == pytest.approx(l_c, rel=1e-4)
        assert scalars["loss"] == pytest.approx(scalars["cross_entropy"] + 0.3 * l_c, rel=1e-4)
        new, expected = session.run(graph.centers), update_centers(old, x, labels, 0.5)
        if update == "py_func":
            np.testing.assert_array_equal(new, expected)
        np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)
        assert new[np.setdiff1d(np.arange(10), labels)].tobytes() == old[np.setdiff1d(np.arange(10), labels)].tobytes()
        assert scalars["center_shift"] == pytest.approx(np.linalg.norm(new - old, axis=1).mean(), rel=1e-3)
        assert scalars["center_shift"] > 0


@pytest.mark.parametrize("update", ["py_func", "in_graph"])
def test_whatever_reads_the_centers_in_a_step_stands_before_their_assignment(session_of, update):
    """By the graph itself: without an edge the order may still come out right, run after run."""
    graph, _session = session_of(center_update=update)
    assignments = ("AssignVariableOp", "ResourceScatterAdd")

    def before(op):
        found, left = set(), [op]
        while left:
            for other in (*(tensor.op for tensor in left[-1].inputs), *left.pop().control_inputs):
                if other not in found:
                    found.add(other)
                    left.append(other)
        return found

    of_the_centers = graph.centers.handle.consumers()
    fetched = [graph.train_op, graph.center_update, *(tensor.op for tensor in graph.scalars.values())]
    in_a_step = set(fetched).union(*map(before, fetched)) & set(of_the_centers)
    (assignment,) = (op for op in in_a_step if op.type in assignments)
    readers = {op for op in in_a_step if op.type in ("ReadVariableOp", "ResourceGather")}
    assert readers
    assert readers <= before(assignment)


def test_the_update_in_the_graph_trains_as_the_one_by_py_func(session_of, digits):
    """200 steps. Rounding differs in the last bit, and training amplifies it: hence a small rate, and a tolerance."""
    centers, losses = {}, {}
    for kind in ("py_func", "in_graph"):
        graph, session = session_of(center_update=kind, learning_rate=1e-4, center_loss_weight=0.001)
        losses[kind] = []
        for feed in feeds(graph, digits.train, 200):
            scalars, _ = session.run([graph.scalars, [graph.train_op, graph.center_update]], feed)
            losses[kind].append(scalars["loss"])
        centers[kind] = session.run(graph.centers)
    np.testing.assert_allclose(losses["in_graph"], losses["py_func"], rtol=0.01)
    np.testing.assert_allclose(centers["in_graph"], centers["py_func"], rtol=0.01, atol=0.01)


def test_the_step_uses_the_features_from_before_the_weights_move(session_of, digits):
    graph, session = session_of(batch_norm=False, learning_rate=0.1)
    features = session.graph.get_tensor_by_name("training/lenet/features:0")
    feed = next(feeds(graph, digits.train, 1))
    before = session.run(features, feed)
    _, during = session.run([[graph.train_op, graph.center_update], features], feed)
    after = session.run(features, feed)
    np.testing.assert_array_equal(during, before)
    assert np.abs(after - before).max() > 1e-3


def test_centers_get_no_gradient_and_stay_out_of_the_optimizer(session_of):
    graph, session = session_of()
    with session.graph.as_default():
        names = [variable.op.name for variable in tf.global_variables()]
        assert graph.centers.op.name not in {v.op.name for v in tf.trainable_variables()}
    assert "centers" in names
    assert not any(name.startswith("centers/") for name in names)
    np.testing.assert_array_equal(session.run(graph.centers), np.zeros((10, 2)))


def test_training_moves_the_centers_and_evaluation_leaves_every_variable_alone(session_of, digits):
    graph, session = session_of()
    with session.graph.as_default():
        variables = tf.global_variables()
    start = session.run(graph.centers)
    for feed in feeds(graph, digits.train, 3):
        session.run([graph.train_op, graph.center_update], feed)
    trained = session.run(variables)
    evaluation.evaluate(session, graph, digits.test)
    for before, after in zip(trained, session.run(variables), strict=True):
        assert np.asarray(before).tobytes() == np.asarray(after).tobytes()
    assert np.abs(session.run(graph.centers) - start).max() > 0


def test_softmax_alone_still_moves_its_centers_and_has_their_loss_weightless(session_of, digits):
    graph, session = session_of(center_loss_weight=0.0)
    for feed in feeds(graph, digits.train, 2):
        scalars, _ = session.run([graph.scalars, [graph.train_op, graph.center_update]], feed)
        assert scalars["loss"] == scalars["cross_entropy"]
    assert np.abs(session.run(graph.centers)).max() > 0


def test_centers_in_a_variable_equal_the_blogs_centers_through_a_placeholder(session_of, digits):
    """The blog feeds the centers and takes them back from py_func in each step; 50 steps agree bit for bit."""
    ours, our_session = session_of()
    theirs, their_session = session_of()
    update = their_session.graph.get_operation_by_name("center_update/update_centers")
    read, new_centers = update.inputs[0], update.outputs[0]  # fed instead of read: the variable is never assigned
    centers = np.zeros((10, 2), np.float32)
    for step, (our_feed, their_feed) in enumerate(
        zip(feeds(ours, digits.train, 50), feeds(theirs, digits.train, 50), strict=True)
    ):
        our_scalars, _ = our_session.run([ours.scalars, [ours.train_op, ours.center_update]], our_feed)
        their_scalars, centers, _ = their_session.run(
            [theirs.scalars, new_centers, theirs.train_op], their_feed | {read: centers}
        )
        assert our_scalars == their_scalars, f"step {step}"
        assert our_session.run(ours.centers).tobytes() == centers.tobytes(), f"step {step}"
    np.testing.assert_array_equal(their_session.run(theirs.centers), 0)


def test_two_runs_with_one_seed_are_equal_to_the_bit_and_two_seeds_are_not(session_of, digits):
    def trained(**settings):
        graph, session = session_of(**settings)
        for feed in feeds(graph, digits.train, 10):
            session.run([graph.train_op, graph.center_update], feed)
        with session.graph.as_default():
            return [np.asarray(value).tobytes() for value in session.run(tf.global_variables())]

    for precision in ("float32", "bfloat16"):
        assert trained(seed=1, precision=precision) == trained(seed=1, precision=precision)
    assert trained(seed=1) != trained(seed=2)


def test_naive_and_gather_loss_train_alike(session_of, digits):
    losses = {}
    for kind in ("gather", "naive"):
        graph, session = session_of(center_loss=kind)
        losses[kind] = [
            session.run([graph.scalars, [graph.train_op, graph.center_update]], feed)[0]["loss"]
            for feed in feeds(graph, digits.train, 20)
        ]
    np.testing.assert_allclose(losses["gather"], losses["naive"], rtol=1e-3)


def test_evaluation_covers_the_whole_split_in_order(session_of, digits, monkeypatch):
    graph, session = session_of()
    whole, cross_entropy = evaluation.evaluate(session, graph, digits.test)
    monkeypatch.setattr(evaluation, "BATCH", 100)  # 359 images: a short last batch
    parts, again = evaluation.evaluate(session, graph, digits.test)
    assert again == pytest.approx(cross_entropy, rel=1e-5)
    assert whole.features.shape == (len(digits.test.labels), 2)
    np.testing.assert_allclose(parts.features, whole.features, rtol=1e-5, atol=1e-5)
    one, _ = evaluation.evaluate(session, graph, Split(digits.test.images[7:8], digits.test.labels[7:8]))
    np.testing.assert_allclose(one.features[0], whole.features[7], rtol=1e-5, atol=1e-5)


def test_weight_decay_adds_the_kernels_alone(session_of, digits):
    plain, plain_session = session_of(optimizer="sgd", momentum=0.0, learning_rate=1.0, batch_norm=False)
    decayed, decayed_session = session_of(
        optimizer="sgd", momentum=0.0, learning_rate=1.0, batch_norm=False, weight_decay=0.01
    )

    def values(session):
        with session.graph.as_default():
            variables = {variable.op.name: variable for variable in tf.trainable_variables()}
        return session.run(variables)

    start = values(plain_session)
    for graph, session in ((plain, plain_session), (decayed, decayed_session)):
        session.run(graph.train_op, next(feeds(graph, digits.train, 1)))
    without, with_decay = values(plain_session), values(decayed_session)
    for name, value in start.items():
        expected = without[name] - (0.01 * value if name.endswith("/kernel") else 0)
        np.testing.assert_allclose(with_decay[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


# --- the script


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def checkpoint_arrays(run, step):
    reader = tf.train.NewCheckpointReader(str(run / "checkpoints" / f"model.ckpt-{step}"))
    return {name: reader.get_tensor(name).tobytes() for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def finished_run(run_script, tmp_path_factory):
    """A run of 30 steps and what it printed."""
    folder = tmp_path_factory.mktemp("räume mit platz")
    words = [*TINY_RUN, "--steps", "30", "--snapshot_steps", "null", "--output_dir", folder, "--run_name", "whole"]
    done = run_script("train_mnist.py", *words)
    assert done.returncode == 0, done.stderr
    return folder / "whole", done.stdout


def test_a_run_says_how_large_its_images_are(digits):
    told = train_mnist.first_lines(Config(crop=0), "", divide(digits, 0.2, 0, ()))
    assert "\nimages: 28×28 pixels\n" in told


def test_a_run_says_first_what_it_is(finished_run):
    run, output = finished_run
    for text in (
        "data: digits", "1,150 training, 288 validation, 359 test", "lambda 0.01", "lambda_eff 0.2",
        "\nimages: 28×28 pixels, of which the middle 20×20\n",
        "sum over the batch of 20", "alpha 0.5", str(run), "about ", "step 30: validation ", "test: ",
    ):  # fmt: skip
        assert text in output
    accuracy = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]["accuracy"]
    assert ("note: the center loss first pulls all features to one point" in output) == (accuracy < 0.5)
    assert max(len(line) for line in output.splitlines() if str(run.parent) not in line) <= 80
    assert "step 5/30" in output
    assert "Traceback" not in output


def test_a_run_leaves_every_documented_file(finished_run):
    run, _ = finished_run
    for name in (
        "config.yaml", "metrics.csv", "validation.csv", "metrics.json", "features_train.npz", "features_test.npz",
        "clusters_train.png", "clusters_test.png", "sessions.csv", "data.sha256",
    ):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert not list(run.rglob(".partial-*"))
    steps = config.resolve_snapshot_steps(None, 30)
    assert sorted(int(path.stem) for path in (run / "snapshots").iterdir()) == list(steps)
    assert [int(row["step"]) for row in rows(run / "metrics.csv")] == [5, 10, 15, 20, 25, 30]
    assert [int(row["step"]) for row in rows(run / "validation.csv")] == [10, 20, 30]
    with np.load(run / "features_test.npz", allow_pickle=False) as saved:
        assert {key: saved[key].shape for key in saved} == {
            "features": (359, 2), "labels": (359,), "predictions": (359,), "index": (359,), "centers": (10, 2),
            "classifier_weights": (2, 10), "classifier_bias": (10,), "step": (), "image_shape": (2,),
            "class_names": (10,),
        }  # fmt: skip
        logits = saved["features"] @ saved["classifier_weights"] + saved["classifier_bias"]
        np.testing.assert_array_equal(logits.argmax(axis=1), saved["predictions"])
        accuracy = (saved["predictions"] == saved["labels"]).mean()
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["accuracy"] == pytest.approx(accuracy)
    assert metrics["step"] == 30
    assert metrics["lambda_eff"] == pytest.approx(0.2)
    assert metrics["seconds_per_step"] > 0


def test_event_files_hold_the_same_tags_for_both_splits_up_to_the_last_step(finished_run):
    run, _ = finished_run
    seen = {}
    for split in ("train", "validation"):
        for file in (run / split).glob("events.out.tfevents.*"):
            for event in tf.train.summary_iterator(str(file)):
                for value in event.summary.value:
                    seen.setdefault((split, value.tag), []).append(event.step)
    shared = {"accuracy/softmax", "loss/cross_entropy"}
    own = {
        "loss/total", "loss/center_loss", "schedule/center_loss_weight", "schedule/learning_rate", "centers/shift",
        "centers/distance", "features/spread", "features/scale", "features",
    }  # fmt: skip
    assert {tag for split, tag in seen if split == "train"} == shared | own
    assert {tag for split, tag in seen if split == "validation"} == shared | {"accuracy/nearest_center"}
    assert seen["train", "loss/total"] == [5, 10, 15, 20, 25, 30]
    assert seen["validation", "accuracy/softmax"] == [10, 20, 30]


def test_the_saved_config_runs_the_same_again(finished_run, run_script, tmp_path):
    run, _ = finished_run
    done = run_script(
        "train_mnist.py", "--config", run / "config.yaml", "--output_dir", tmp_path, "--run_name", "again"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()
    assert checkpoint_arrays(tmp_path / "again", 30) == checkpoint_arrays(run, 30)
    for split in ("train", "test"):
        name = f"features_{split}.npz"
        assert np.load(tmp_path / "again" / name)["features"].tobytes() == np.load(run / name)["features"].tobytes()


def test_a_run_cut_short_and_resumed_equals_the_whole_run(finished_run, run_script, tmp_path):
    run, _ = finished_run
    first = run_script("train_mnist.py", *TINY_RUN, "--steps", "17", "--output_dir", tmp_path, "--run_name", "parts")
    assert first.returncode == 0, first.stderr
    second = run_script("train_mnist.py", "--resume", tmp_path / "parts", "--steps", "30")
    assert second.returncode == 0, second.stderr
    assert "going on from step 17" in second.stdout
    assert checkpoint_arrays(tmp_path / "parts", 30) == checkpoint_arrays(run, 30)
    assert [row["step"] for row in rows(tmp_path / "parts" / "validation.csv")] == ["10", "17", "20", "30"]
    kept = [row for row in rows(tmp_path / "parts" / "metrics.csv") if row["step"] != "17"]
    assert kept == rows(run / "metrics.csv")


def killed_after(line_start, words, signum):
    """Starts a training, sends it the signal once a line of its output starts so; its exit code and errors."""
    with subprocess.Popen(
        [sys.executable, "-u", "train_mnist.py", *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for line in process.stdout:
            if line.startswith(line_start):
                break
        process.send_signal(signum)
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_and_resumed_run_equals_the_whole_run_to_the_bit(run_script, tmp_path, precision):
    """With all that depends on the step: one cycle, warm-up, shifts, several epochs, moving averages, Adam's slots."""
    words = [
        *TINY_RUN, "--steps", "90", "--schedule", "one_cycle", "--center_loss_warmup_steps", "60",
        "--augment_shift", "2", "--precision", precision, "--batch_size", "50", "--center_update", "in_graph",
        "--snapshot_steps", "[0,10,20,40,60,90]", "--output_dir", tmp_path,
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_script("train_mnist.py", *words, "--run_name", "whole").returncode == 0
    code, _ = killed_after("step 35/", [*words, "--run_name", "killed"], signal.SIGKILL)
    assert code == -signal.SIGKILL
    done = run_script("train_mnist.py", "--resume", killed)
    assert done.returncode == 0, done.stderr
    start = int(done.stdout.partition("going on from step ")[2].split("\n")[0])
    assert start % 10 == 0
    assert 30 <= start < 90
    assert checkpoint_arrays(killed, 90) == checkpoint_arrays(whole, 90)
    for name in ("metrics.csv", "validation.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    names = sorted(str(path.relative_to(whole)) for path in whole.rglob("*.npz"))
    assert names == sorted(str(path.relative_to(killed)) for path in killed.rglob("*.npz"))
    for name in names:
        with np.load(whole / name) as expected, np.load(killed / name) as resumed:
            for key in expected:
                assert expected[key].tobytes() == resumed[key].tobytes(), (name, key)


def test_a_signal_checkpoints_and_the_resumed_run_equals_the_whole_one(finished_run, run_script, tmp_path):
    run, _ = finished_run
    words = [*TINY_RUN, "--steps", "100000", "--output_dir", tmp_path, "--run_name", "stopped"]
    code, errors = killed_after("step 5/", words, signal.SIGINT)
    assert code == 130
    assert f"--resume {tmp_path / 'stopped'}" in errors
    assert "Traceback" not in errors
    stopped_at = train_mnist.checkpoints.newest_whole(tmp_path / "stopped" / "checkpoints").step
    assert stopped_at >= 5
    steps = max(30, stopped_at + 1)
    done = run_script("train_mnist.py", "--resume", tmp_path / "stopped", "--steps", steps)
    assert done.returncode == 0, done.stderr
    assert f"going on from step {stopped_at}" in done.stdout
    whole = rows(run / "metrics.csv")
    assert rows(tmp_path / "stopped" / "metrics.csv")[: len(whole)] == whole


SIGNAL_IN_STEP_10 = """
import os, signal, sys, train_mnist

def shifted(images, pixels, seed, step):
    if step == 9:
        os.kill(os.getpid(), signal.SIGTERM)
    return images

train_mnist.shifted = shifted
sys.exit(train_mnist.main(sys.argv[1:]))
"""


def test_a_signal_does_not_wait_for_an_evaluation_which_the_resumed_run_makes_up_for(
    finished_run, run_script, tmp_path
):
    run, _ = finished_run
    words = [*TINY_RUN, "--steps", "30", "--output_dir", str(tmp_path), "--run_name", "stopped"]
    stopped = subprocess.run(
        [sys.executable, "-c", SIGNAL_IN_STEP_10, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert stopped.returncode == 143, stopped.stderr
    assert train_mnist.checkpoints.newest_whole(tmp_path / "stopped" / "checkpoints").step == 10
    assert not (tmp_path / "stopped" / "validation.csv").exists()
    done = run_script("train_mnist.py", "--resume", tmp_path / "stopped")
    assert done.returncode == 0, done.stderr
    assert checkpoint_arrays(tmp_path / "stopped", 30) == checkpoint_arrays(run, 30)
    for name in ("metrics.csv", "validation.csv"):
        assert (tmp_path / "stopped" / name).read_bytes() == (run / name).read_bytes(), name


def test_a_run_killed_before_its_first_checkpoint_starts_at_step_0_and_says_so(finished_run, run_script, tmp_path):
    run, _ = finished_run
    killed = tmp_path / run.name
    killed.mkdir()
    for name in (".run", "config.yaml"):
        (killed / name).write_bytes((run / name).read_bytes())
    done = run_script("train_mnist.py", "--resume", killed)
    assert done.returncode == 0, done.stderr
    assert "no checkpoint yet: starting at step 0" in done.stdout
    assert checkpoint_arrays(killed, 30) == checkpoint_arrays(run, 30)


def test_resuming_a_finished_run_says_so(finished_run, run_script):
    run, _ = finished_run
    before = {file: file.read_bytes() for file in run.glob("[!.]*.*")}
    done = run_script("train_mnist.py", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert "finished already, at step 30" in done.stdout
    assert {file: file.read_bytes() for file in run.glob("[!.]*.*")} == before


def test_a_refused_resume_leaves_the_run_as_it_was(finished_run, run_script, tmp_path):
    run = shutil.copytree(finished_run[0], tmp_path / "run")

    def refused(steps, reason):
        before = {file: file.read_bytes() for file in run.rglob("[!.]*.*")}
        done = run_script("train_mnist.py", "--resume", run, "--steps", steps)
        assert done.returncode == 2
        assert reason in done.stderr
        assert {file: file.read_bytes() for file in run.rglob("[!.]*.*")} == before

    refused("10", "at step 30 already")
    for file in (run / "checkpoints").glob("model.ckpt-*"):
        file.unlink()
    with tf.Graph().as_default(), tf.Session() as session:  # a whole one, but of another network
        tf.get_variable("global_step", initializer=tf.constant(30, tf.int64))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(run / "checkpoints" / "model.ckpt"), 30, write_state=False)
    refused("40", "of another network")


def test_a_run_cut_to_the_steps_that_it_had_when_stopped_finishes_though_no_row_was_logged(run_script, tmp_path):
    words = [*TINY_RUN, "--log_every_steps", "100", "--steps", "30", "--output_dir", str(tmp_path), "--run_name", "cut"]
    stopped = subprocess.run(
        [sys.executable, "-c", SIGNAL_IN_STEP_10, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert stopped.returncode == 143, stopped.stderr
    done = run_script("train_mnist.py", "--resume", tmp_path / "cut", "--steps", "10")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "cut" / "metrics.json").read_text())
    assert (written["step"], written["last_step"]) == (10, None)


def test_an_extended_run_has_no_features_and_pictures_of_its_earlier_end(finished_run, run_script, tmp_path):
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    done = run_script("train_mnist.py", "--resume", run, "--steps", "40", "--learning_rate", "1e30")
    assert done.returncode == 3, done.stderr
    assert {path.name for path in run.glob("*.*")} == {
        ".run", "config.yaml", "data.sha256", "metrics.csv", "sessions.csv", "validation.csv",
    }  # fmt: skip


def test_files_of_others_in_a_run_folder_are_neither_read_nor_removed(finished_run, run_script, tmp_path):
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    others = [
        *(f"snapshots/{name}" for name in (".partial-x.npz", "._000000001.npz", "000000040 (conflicted copy).npz")),
        "clusters_for_my_paper.png", "features_notes.npz", "clusters_test (1).png",
        "checkpoints/model.ckpt-30 copy.index",
    ]  # fmt: skip
    ours = ["clusters_test.pdf", "clusters_train.svg", "animation.gif"]
    for name in (*others, *ours):
        (run / name).write_text("of its user, or of an earlier end")
    done = run_script("train_mnist.py", "--resume", run, "--steps", "40")
    assert done.returncode == 0, done.stderr
    assert {(run / name).read_text() for name in others} == {"of its user, or of an earlier end"}
    assert not [name for name in ours if (run / name).exists()]
    assert run_script("visualize.py", run, "--animate").returncode == 0


FAILING_PICTURE = """
import sys, figures, train_mnist
draw = figures.draw
def drawn(folders, *, splits):
    if splits == ["train"]:
        raise RuntimeError("no TeX here")
    return draw(folders, splits=splits)
figures.draw = drawn
sys.exit(train_mnist.main(sys.argv[1:]))
"""


def test_what_fails_after_the_training_is_said_and_made_alone_by_resume(finished_run, run_script, tmp_path):
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    (run / "clusters_train.png").unlink()
    (run / "metrics.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".run"}
    failed = run_script("-c", FAILING_PICTURE, "--resume", run)
    assert failed.returncode == 4, failed.stderr
    assert f"{run / 'clusters_train.png'}: not made (RuntimeError: no TeX here)" in failed.stderr
    assert f"--resume '{run}'" in failed.stderr or f"--resume {run}" in failed.stderr
    assert (run / "metrics.json").exists()
    assert not (run / "clusters_train.png").exists()
    mended = run_script("train_mnist.py", "--resume", run)
    assert mended.returncode == 0, mended.stderr
    assert "trained already, to step 30; making clusters_train.png\n" in mended.stdout
    assert (run / "clusters_train.png").read_bytes() == (finished_run[0] / "clusters_train.png").read_bytes()
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions left out are those of x86")
def test_a_precision_that_the_processor_lacks_is_refused_or_replaced(run_script, tmp_path):
    words = [*TINY_RUN, "--steps", "2", "--output_dir", tmp_path, "--run_name"]
    without = {"ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": "1"}
    refused = run_script("train_mnist.py", *words, "wanted", "--precision", "bfloat16", **without)
    if precisions.fastest() == "bfloat16":  # hidden above; where there is none, TensorFlow computes it in software
        assert refused.returncode == 2, refused.stderr
        assert "precision: bfloat16 does not run here" in refused.stderr
        assert not (tmp_path / "wanted").exists()
    left_to_it = run_script("train_mnist.py", *words, "auto", "--precision", "auto", **without)
    assert left_to_it.returncode == 0, left_to_it.stderr
    assert config.read_config(tmp_path / "auto" / "config.yaml").precision == "float32"
    if precisions.fastest() == "bfloat16":
        assert "note: precision float32, since bfloat16 does not run here" in left_to_it.stdout


def test_a_run_is_not_resumed_on_other_data(run_script, tmp_path):
    folder, digits = tmp_path / "data" / "mnist", load("digits", "")
    folder.mkdir(parents=True)

    def write(name, array, magic):
        header = np.array([magic, *array.shape], ">u4").tobytes()
        (folder / name).write_bytes(header + array.astype(np.uint8).tobytes())

    for prefix, split in (("train", digits.train), ("t10k", digits.test)):
        write(f"{prefix}-images-idx3-ubyte", split.images, 0x803)
        write(f"{prefix}-labels-idx1-ubyte", split.labels, 0x801)
    words = ["--dataset", "mnist", "--data_dir", tmp_path / "data", "--channels", "[2, 2, 2]", "--batch_size", "10"]
    words += ["--output_dir", tmp_path, "--run_name", "run", "--snapshot_steps", "[]"]
    begun = run_script("train_mnist.py", *words, "--steps", 4)
    assert begun.returncode == 0, begun.stderr
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    other = digits.train.labels.copy()
    other[-1] = (other[-1] + 1) % 10
    write("train-labels-idx1-ubyte", other, 0x801)
    refused = run_script("train_mnist.py", "--resume", tmp_path / "run", "--steps", 6)
    assert refused.returncode == 2
    assert f"error: {tmp_path / 'data' / 'mnist'}: " in refused.stderr
    assert f"not the data that {tmp_path / 'run'} was begun with" in refused.stderr
    after = {path: path.read_bytes() for path in before}
    marker = tmp_path / "run" / ".run"  # has its holder's process id
    assert {path for path in before if before[path] != after[path]} <= {marker}
    write("train-labels-idx1-ubyte", digits.train.labels, 0x801)
    (tmp_path / "data").rename(tmp_path / "moved")
    refused = run_script("train_mnist.py", "--resume", tmp_path / "run", "--steps", 6)
    assert refused.returncode == 2
    assert f"{folder}: train-images-idx3-ubyte and 3 more files are missing; " in refused.stderr
    assert "--data_dir" in refused.stderr
    assert not (tmp_path / "data").exists()
    words = ["--data_dir", tmp_path / "moved" / "mnist"]
    resumed = run_script("train_mnist.py", "--resume", tmp_path / "run", "--steps", 6, *words)
    assert resumed.returncode == 0, resumed.stderr
    note = "by their checksum these are other files, not the original mnist"
    assert f"\nnote: {note}\n" in resumed.stdout
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert saved["data_source"].endswith(f"/mnist: 1,438 training and 359 test images; {note}")


def test_an_earlier_run_is_not_overwritten_unasked(finished_run, run_script):
    run, _ = finished_run
    done = run_script("train_mnist.py", *TINY_RUN, "--steps", "1", "--output_dir", run.parent, "--run_name", run.name)
    assert done.returncode == 2
    assert f"{run}: already exists; go on with it, replace it, or choose another name\n" in done.stderr
    assert f"go on with: python train_mnist.py --resume {shlex.quote(str(run))}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_diverging_run_stops_with_code_3_and_keeps_a_finite_checkpoint(run_script, tmp_path):
    done = run_script(
        "train_mnist.py", *TINY_RUN, "--steps", "100", "--learning_rate", "1e6", "--optimizer", "sgd",
        "--batch_norm", "false", "--output_dir", tmp_path, "--run_name", "far",
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    for text in ("step", "cross_entropy", "center_loss", "center_loss_weight", "learning_rate", "feature_scale", "Try"):
        assert text in done.stderr
    assert "Traceback" not in done.stderr
    found = train_mnist.checkpoints.newest_whole(tmp_path / "far" / "checkpoints")
    for name, value in checkpoint_arrays(tmp_path / "far", found.step).items():
        assert name == "global_step" or np.isfinite(np.frombuffer(value, np.float32)).all(), name


def test_a_collapse_is_a_warning_said_once(run_script, tmp_path):
    done = run_script(
        "train_mnist.py", *TINY_RUN, "--steps", "400", "--center_loss_weight", "1e9", "--center_loss_reduction", "mean",
        "--output_dir", tmp_path, "--run_name", "flat", "--evaluate_every_steps", "400",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("for 300 steps on end, collapse") == 1
    assert "center_loss_warmup_steps" in done.stdout


@pytest.mark.parametrize(
    "words", [["--steps", "0"], ["--batch_size", "5000"], ["--dataset", "mnist"], ["--run_name", "x" * 300]]
)
def test_what_cannot_run_is_refused_with_code_2_and_no_traceback(words, run_script, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"not gzip")  # so that nothing is fetched
    words = [*words, "--data_dir", tmp_path]
    done = run_script("train_mnist.py", *TINY_RUN, *words, "--output_dir", tmp_path / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "error" in done.stderr
    assert not (tmp_path / "out").exists()


def test_hundred_steps_on_the_real_mnist(real_data, run_script, tmp_path):
    done = run_script(
        "train_mnist.py", "--config", "configs/quickstart.yaml", "--steps", "100", "--dataset", "mnist", "--channels",
        "[4,8,16]", "--batch_norm_decay", "0.9", "--center_loss_weight", "0.001", "--learning_rate", "0.02",
        "--crop", "4", "--snapshot_steps", "[0,100]",
        "--output_dir", tmp_path, "--run_name", "mnist", CENTERLOSS_DATA=str(real_data),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "48,000 training, 12,000 validation, 10,000 test" in done.stdout
    metrics = json.loads((tmp_path / "mnist" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["images"] == 10_000
    assert metrics["test"]["accuracy"] > 0.7


# --- command-line manners


@pytest.mark.parametrize(
    ("classes", "accuracy", "noted"), [(10, 0.1, True), (10, 0.6, False), (2, 0.5, True), (2, 0.7, False)]
)
def test_a_run_that_ends_near_chance_says_that_more_steps_may_be_missing(tmp_path, capsys, classes, accuracy, noted):
    test = {"accuracy": accuracy, "accuracy_nearest_center": accuracy, "inter_over_intra": 1.0}
    results = {"test": test | {"accuracy_per_class": [accuracy] * classes}}
    (tmp_path / "metrics.json").write_text(json.dumps(results))
    evaluation.print_results(tmp_path, config.Config())
    assert ("more steps\nare missing" in capsys.readouterr().out) == noted


def test_a_dry_run_says_the_settings_the_graph_and_the_time_and_leaves_no_file(tmp_path, run_script):
    words = ["--channels", "[2,3,4]", "--steps", 500, "--output_dir", tmp_path / "out", "--data_dir", tmp_path / "none"]
    result = run_script("train_mnist.py", "--dataset", "auto", *words, "--dry_run", TF_CONFIG="")
    assert result.returncode == 0, result.stderr
    settings, _, rest = result.stdout.partition("\n\n")
    assert "note: the digits are used INSTEAD OF MNIST" in rest
    assert yaml.safe_load(settings)["channels"] == [2, 3, 4]
    weights = 25 * (1 * 2 + 2 * 2 + 2 * 3 + 3 * 3 + 3 * 4 + 4 * 4) + 2 * 2 * (2 + 3 + 4) + 6 * 1
    assert re.search(r"^graph: [0-9,]+ ops, [0-9,]+ trained numbers, centers \[10, 2\]$", rest, re.M)
    assert int(re.search(r"([0-9,]+) trained", rest)[1].replace(",", "")) > weights
    assert re.search(r"^about [0-9.]+ minutes for 500 steps \([0-9]+ ms a step\), evaluation aside$", rest, re.M)
    assert not (tmp_path / "out").exists()


def test_help_has_the_groups_of_the_settings_and_examples(run_script):
    text = run_script("train_mnist.py", "--help").stdout
    groups = re.findall(r"^(\S.*):$", text, re.M)
    assert groups == ["options", "data", "network", "loss, Eq. 5", "optimizer", "the run", "examples"]
    firsts = {"--crop": "data", "--feature_width": "network", "--center_alpha": "loss, Eq. 5", "--dry_run": "options"}
    for name, group in firsts.items():
        after = text.partition(f"\n{group}:\n")[2]
        assert f"\n  {name}" in f"\n{re.split(r'^[^ ].*:$', after, flags=re.M)[0]}", name
    commands = [line.split() for line in text.partition("\nexamples:\n")[2].splitlines() if line.strip()]
    assert all(words[:2] == ["python", "train_mnist.py"] for words in commands)


def test_the_last_line_of_a_run_is_a_command_to_look_into_it(finished_run):
    run, output = finished_run
    assert output.rstrip().splitlines()[-1] == f"look into it: python visualize.py {shlex.quote(str(run))} --html"
