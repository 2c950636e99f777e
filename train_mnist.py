"""Trains LeNet++ with center loss on MNIST, TF1 style, and leaves a run folder with metrics and pictures.

    python train_mnist.py --config configs/blog/lambda_0.01.yaml
    python train_mnist.py --resume outputs/<run>

In reading order: the handles of the graph, the graph (Eq. 5 and the order of a step), evaluation, the training loop,
what a finished run leaves, the command line.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # before TensorFlow, which reads it while it is imported, and takes seconds to be
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGINT, lambda signum, frame: os._exit(128 + signum))

import numpy as np
import tensorflow as tf

import metrics
import report
import visualize
from centerloss import center_loss, center_loss_naive
from config import CommandLine, Config, parse_command_line, resolve_precision, resolve_snapshot_steps, to_yaml
from mnist_data import DataError, Split, batches, fingerprint, load, shifted, stratified_split
from network import FEATURE_WIDTH, lenet
from running import checkpoints, hooks, run_folder, schedules
from running.precision import bfloat16_problem
from running.session import open_session
from running.signals import Stopped, StopSignals
from running.streams import outlive_readers
from update_centers import update_centers_in_graph, update_centers_op

NETWORK_SETTINGS = (
    "channels", "batch_norm", "batch_norm_decay", "prelu_start", "third_pool_size",
    "feature_activation", "classifier_bias", "weight_init", "classifier_ring", "precision",
)  # fmt: skip
SCHEDULE_SETTINGS = ("steps", "one_cycle_rise", "multi_step_at", "multi_step_factor")
PATIENCE = 300  # steps of a collapse before it is told: the blog's recipe leaves its own before step 200
WATCHED = 2000  # test images in each snapshot
CHECKPOINTS_KEPT = 3
EVALUATION_BATCH = 1000  # images a session.run; only speed and memory depend on it


SPLITS = ("train", "test")


class PrecisionError(Exception):
    """The processor can't do what `precision` asks for. The message says why, and what to ask for instead."""


class TrainGraph(NamedTuple):
    """The handles that the training loop uses. B batch, C classes, D feature width."""

    images: tf.Tensor  # [B, 28, 28] uint8, fed
    labels: tf.Tensor  # [B] int64, fed
    train_op: tf.Operation  # one optimizer step on Eq. 5
    update_step: tf.Operation  # Eq. 4, to be run beside train_op
    scalars: dict[str, tf.Tensor]  # [] each, of this training step, by the names of metrics.csv
    centers: tf.Variable  # [C, D] float32, not trained
    features: tf.Tensor  # [B, D] float32, of the evaluation tower
    predictions: tf.Tensor  # [B] int64, of the evaluation tower
    cross_entropies: tf.Tensor  # [B] float32, of the evaluation tower
    saver: checkpoints.Saver  # of all variables


def build_graph(config: Config, num_classes: int) -> TrainGraph:
    """Builds two towers, Eq. 5, Eq. 4 and the optimizer into the default graph.

    One forward pass, and one read of the centers or an explicit dependency, feed both the loss and the update: both see
    the centers and the features from before the step, whatever order the session runs the assignments in.

    Args:
        config: the settings, `precision` resolved.
        num_classes: C.

    Returns:
        The handles; every variable is made, and the graph may be finalized.
    """
    tf.compat.v1.set_random_seed(config.seed)
    images = tf.compat.v1.placeholder(tf.uint8, [None, 28, 28], name="images")
    labels = tf.compat.v1.placeholder(tf.int64, [None], name="labels")
    global_step = tf.compat.v1.train.get_or_create_global_step()
    step = global_step.read_value()

    offset, divisor = (0.0, 255.0) if config.input_range == "unit" else (127.5, 128.0)
    scaled = (tf.cast(images, tf.float32) - offset) / divisor

    settings = {name: getattr(config, name) for name in NETWORK_SETTINGS}
    tower = functools.partial(lenet, scaled, "lenet", num_classes, **settings)
    x, logits = tower(training=True)
    centers = tf.compat.v1.get_variable(
        "centers", [num_classes, FEATURE_WIDTH], initializer=tf.compat.v1.zeros_initializer(), trainable=False
    )
    # in_graph reads the rows of the batch from the variable itself; the whole of it would be copied in each step.
    c = centers if config.center_update == "in_graph" else centers.read_value()
    own_c = tf.gather(c, labels)  # [B, D]

    # Eq. 5: L = L_S + lambda · L_C
    l_s = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    l_c = center_loss_naive(x, labels, c, num_classes) if config.center_loss == "naive" else center_loss(x, labels, c)
    if config.center_loss_reduction == "mean":
        l_c /= tf.cast(tf.shape(labels)[0], tf.float32)
    warmup = config.center_loss_warmup_steps, config.center_loss_warmup_power
    lambda_ = schedules.warm_up(step, config.center_loss_weight, *warmup)
    loss = l_s + lambda_ * l_c

    # Eq. 4
    if config.center_update == "in_graph":
        with tf.control_dependencies([l_c, own_c]):  # what else reads the variable in this step
            update_step, moves = update_centers_in_graph(centers, own_c, x, labels, config.center_alpha)
    else:
        new_c = update_centers_op(c, x, labels, config.center_alpha)
        update_step, moves = centers.assign(new_c, read_value=False), new_c - c

    rate = schedules.learning_rate(
        step, config.schedule, config.learning_rate, **{name: getattr(config, name) for name in SCHEDULE_SETTINGS}
    )
    kernels = [v for v in tf.compat.v1.trainable_variables() if v.op.name.endswith("/kernel")]
    decay = config.weight_decay * tf.add_n(list(map(tf.nn.l2_loss, kernels))) if config.weight_decay else 0.0
    if config.optimizer == "adam":
        optimizer = tf.compat.v1.train.AdamOptimizer(rate)
    else:
        optimizer = tf.compat.v1.train.MomentumOptimizer(rate, config.momentum)
    with tf.control_dependencies([step]):  # else it might be read after it is counted up
        minimize = optimizer.minimize(loss + decay, global_step=global_step)
    train_op = tf.group(minimize, *tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS))

    scalars = {
        "step": step,
        "loss": loss,
        "cross_entropy": l_s,
        "center_loss": l_c,
        "accuracy": tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, axis=1), labels), tf.float32)),
        "center_loss_weight": lambda_,
        "learning_rate": rate,
        "center_shift": tf.reduce_sum(tf.norm(moves, axis=1)) / num_classes,  # how far the centers moved, mean
        "center_distance": tf.reduce_mean(tf.norm(x - own_c, axis=1)),  # to the own center, mean
        "feature_spread": tf.sqrt(tf.reduce_mean(tf.reduce_sum((x - tf.reduce_mean(x, axis=0)) ** 2, axis=1))),
        "feature_scale": tf.reduce_max(tf.abs(x)),
    }
    for name, value in scalars.items():
        if name != "step":
            tf.compat.v1.summary.scalar(f"training/{name}", value)
    # A NaN in a histogram would end the session before the finite check can say what happened.
    tf.compat.v1.summary.histogram("training/features", tf.where(tf.math.is_finite(x), x, tf.zeros_like(x)))

    evaluated = tower(training=False)
    return TrainGraph(
        images=images,
        labels=labels,
        train_op=train_op,
        update_step=update_step,
        scalars=scalars,
        centers=centers,
        features=evaluated.features,
        predictions=tf.argmax(evaluated.logits, axis=1),
        cross_entropies=tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=evaluated.logits),
        saver=checkpoints.Saver(max_to_keep=CHECKPOINTS_KEPT),
    )


class Evaluation(NamedTuple):
    """A whole split seen by the evaluation tower. N images."""

    features: np.ndarray  # [N, D] float32
    predictions: np.ndarray  # [N] int64, by softmax
    centers: np.ndarray  # [C, D] float32
    cross_entropy: float  # mean

    def arrays(self) -> dict[str, np.ndarray]:
        """What is written of it, by name."""
        return {"features": self.features, "predictions": self.predictions, "centers": self.centers}


def evaluate(session: tf.compat.v1.Session, graph: TrainGraph, split: Split) -> Evaluation:
    """Runs the evaluation tower over `split`, in order; changes no variable."""
    parts = []
    for start in range(0, len(split.labels), EVALUATION_BATCH):
        batch = slice(start, start + EVALUATION_BATCH)
        feed = {graph.images: split.images[batch], graph.labels: split.labels[batch]}
        parts.append(session.run([graph.features, graph.predictions, graph.cross_entropies], feed))
    features, predictions, cross_entropies = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Evaluation(features, predictions, session.run(graph.centers), float(cross_entropies.mean(dtype=np.float64)))


def train(
    graph: TrainGraph,
    config: Config,
    splits: dict[str, Split],
    folder: Path,
    start: checkpoints.Found,
    signals: StopSignals,
) -> None:
    """Trains from `start` up to `config.steps`.

    Leaves in the run's folder: checkpoints/, with event files, metrics.csv, validation.csv, sessions.csv, and in
    snapshots/ how the watched images are seen at `config.snapshot_steps`.

    Args:
        graph: as built.
        config: the settings.
        splits: images by use: `train`, `validation` (may be empty), `watched`.
        folder: the run's, with checkpoints/ and snapshots/ in it.
        start: the checkpoint to go on from, which fits the graph, or none.
        signals: asked after each step whether to stop.

    Raises:
        hooks.NonFiniteError: if a loss or variable is not finite; the newest checkpoint is from before.
        run_folder.RunFolderError: if a table of the run is damaged.
        Stopped: after a checkpoint, if a signal came.
    """
    print(f"going on from step {start.step:,}" if start.path else "no checkpoint yet: starting at step 0", flush=True)
    training, validation, watched = splits["train"], splits["validation"], splits["watched"]

    def due(step: int) -> bool:
        return step > 0 and (step % config.evaluate_every_steps == 0 or step == config.steps)

    rows = run_folder.TableFile(folder / "metrics.csv", keep_to=start.step)
    # An evaluation that is due at the start is made again, since the run may have been stopped before it.
    validation_rows = run_folder.TableFile(folder / "validation.csv", keep_to=start.step - due(start.step))
    shown = {"L_S": "cross_entropy", "L_C": "center_loss", "acc": "accuracy"}
    collapse = functools.partial(report.collapse, num_classes=graph.centers.shape[0])
    progress = hooks.ProgressHook(graph.scalars, shown, start.step, config.steps, config.log_every_steps)
    opened = open_session(
        folder / "checkpoints",
        start,
        graph.saver,
        hooks.FiniteHook(graph.scalars),
        [
            hooks.PatienceHook(graph.scalars, collapse, PATIENCE, warn=print),
            hooks.TableHook(graph.scalars, config.log_every_steps, config.steps, rows.append),
            hooks.StopHook(signals),
            progress,
        ],
        save_every_steps=config.checkpoint_every_steps,
        summary_every_steps=config.log_every_steps,
    )

    for path in visualize.snapshots(folder):
        if int(path.stem) > start.step:  # like later rows: of steps that are taken again
            path.unlink()

    def validate(step_context):
        seen = evaluate(step_context.session, graph, validation)
        reached = metrics.accuracies(seen.features, validation.labels, seen.predictions, seen.centers)
        return {"cross_entropy": seen.cross_entropy} | reached

    snapshot_steps = set(resolve_snapshot_steps(config.snapshot_steps, config.steps))
    order = batches(len(training.labels), config.batch_size, config.seed, start.step)
    with signals.deferred():
        with progress, opened as session:
            for step in range(start.step, config.steps + 1):
                if session.should_stop():  # before an evaluation: the run that goes on from here begins with it
                    break
                if due(step) and len(validation.labels):
                    seen = session.run_step_fn(validate)  # fires no training hook
                    validation_rows.append({"step": step} | seen)
                    hooks.write_events(folder / "checkpoints", step, "validation", seen)
                    print(
                        f"step {step}: validation {seen['accuracy']:.2%} by softmax, "
                        f"{seen['accuracy_nearest_center']:.2%} by nearest center",
                        flush=True,
                    )
                if step in snapshot_steps:
                    seen = session.run_step_fn(lambda step_context: evaluate(step_context.session, graph, watched))
                    path = folder / "snapshots" / f"{step:09d}.npz"
                    report.write_features(path, **seen.arrays(), labels=watched.labels, step=step)
                if step == config.steps:
                    break
                index = next(order)
                images = shifted(training.images[index], config.augment_shift, config.seed, step)
                feed = {graph.images: images, graph.labels: training.labels[index]}
                session.run([graph.train_op, graph.update_step], feed)
        if progress.steps:
            run_folder.TableFile(folder / "sessions.csv", keep_to=start.step).append(
                {"step": progress.step, "steps": progress.steps, "seconds": round(progress.seconds, 3)}
            )


def extract(graph: TrainGraph, folder: Path, name: str, split: Split, index: np.ndarray) -> None:
    """Writes features_<name>.npz: every image of the split seen by the newest checkpoint of the run in `folder`.

    Args:
        graph: as built.
        folder: the run's.
        name: of the split.
        split: the images.
        index: [N], where in the data set's split they are.
    """
    found = checkpoints.newest_whole(folder / "checkpoints")
    reader = checkpoints.read(found.path)
    weights, bias = reader.get_tensor("lenet/classifier/kernel"), "lenet/classifier/bias"
    with tf.compat.v1.Session() as session:
        graph.saver.restore(session, found.path)
        seen = evaluate(session, graph, split)
    report.write_features(
        folder / f"features_{name}.npz",
        **seen.arrays(),
        labels=split.labels,
        index=index,
        classifier_weights=weights,
        classifier_bias=reader.get_tensor(bias) if reader.has_tensor(bias) else np.zeros_like(weights[0]),
        step=found.step,
    )


def make_missing(parts: dict[str, Callable[[], object]], folder: Path) -> dict[str, Exception]:
    """Calls the maker of each file that is not in `folder`; what failed, by file, does not keep the others from it."""
    failed = {}
    for name, make in parts.items():
        if not (folder / name).exists():
            try:
                make()
            except Exception as error:  # whatever it is: the training behind it took hours
                failed[name] = error
    return failed


def resolve_and_try_precision(wanted: str) -> str:
    """The `precision` to train in, tried on this processor.

    Raises:
        PrecisionError: if bfloat16 was asked for and does not run here.
    """
    precision = resolve_precision(wanted)
    problem = bfloat16_problem() if precision == "bfloat16" else None
    if problem is None:
        return precision
    if wanted != "auto":
        raise PrecisionError(f"precision: bfloat16 does not run here ({problem}); use --precision auto or float32")
    print(f"warning: precision float32, since bfloat16 does not run here ({problem})")
    return "float32"


def run(command: CommandLine, signals: StopSignals) -> dict[str, Exception]:
    """Does what the command line asks for, from loading the data to the pictures.

    Returns:
        What is missing of a run whose training is done: by file, why it could not be made.

    Raises:
        DataError, PrecisionError, checkpoints.CheckpointError: before anything of an earlier run is changed.
        run_folder.RunFolderError: likewise, but for a damaged table of the run, which is found when its features and
            pictures are gone.
        hooks.NonFiniteError, Stopped: as `train`.
    """
    config, folder = command.config, command.run_folder
    data = load(config.dataset, config.data_dir)
    trained_on, held_out = stratified_split(data.train.labels, config.validation_fraction, config.split_seed)
    if config.batch_size > len(trained_on):
        raise DataError(f"batch_size: {config.batch_size} is more than the {len(trained_on)} training images")
    precision = resolve_and_try_precision(config.precision)
    if not command.resume:
        run_folder.create(folder, overwrite=command.overwrite)
    with run_folder.locked(folder):
        # `auto` and the default name become what they stood for, so that config.yaml tells the whole run.
        name = folder.resolve().name
        config = dataclasses.replace(config, dataset=data.name, precision=precision, run_name=name)
        known, seen = folder / "data.sha256", fingerprint(data)
        if not known.exists():
            run_folder.write_text(known, f"{seen}\n")
        elif known.read_text(encoding="utf-8").strip() != seen:
            raise DataError(f"{data.source}: not the data that {folder} was begun with; give it those by --data_dir")
        print(report.first_lines(config, data.source, len(trained_on), len(held_out), len(data.test.labels)))
        print(f"run: {folder}", flush=True)
        splits = {
            "train": Split(data.train.images[trained_on], data.train.labels[trained_on]),
            "validation": Split(data.train.images[held_out], data.train.labels[held_out]),
            "watched": Split(data.test.images[:WATCHED], data.test.labels[:WATCHED]),
        }
        whole = {"train": (splits["train"], trained_on), "test": (data.test, np.arange(len(data.test.labels)))}
        graph = None

        def built() -> TrainGraph:
            nonlocal graph
            graph = graph or build_graph(config, len(data.class_names))
            return graph

        parts = {
            f"features_{name}.npz": lambda name=name: extract(built(), folder, name, *whole[name]) for name in SPLITS
        }
        parts |= {
            f"clusters_{name}.png": lambda name=name: visualize.draw_run(folder, splits=[name]) for name in SPLITS
        }
        parts["metrics.json"] = lambda: report.write_metrics(folder, config, data.source)
        finished = run_folder.finished_step(folder) == config.steps
        if finished and all((folder / name).exists() for name in parts):
            print(f"finished already, at step {config.steps:,}; --steps with a larger number goes on")
            return {}
        start = checkpoints.newest_whole(folder / "checkpoints")
        for damaged in start.damaged:
            print(f"warning: passed over a damaged checkpoint, {damaged}")
        if start.step > config.steps:
            raise checkpoints.CheckpointError(f"{folder}: at step {start.step} already, beyond --steps {config.steps}")
        with tf.Graph().as_default():
            # Features are written after the last step alone, and go when a run goes on from an earlier end.
            if start.step < config.steps or not any((folder / f"features_{name}.npz").exists() for name in SPLITS):
                built()
                if start.path is not None:
                    checkpoints.check_fits(start.path, tf.compat.v1.global_variables())
                for name in (*parts, *visualize.PICTURES):
                    (folder / name).unlink(missing_ok=True)
                run_folder.write_text(folder / "config.yaml", to_yaml(config))
                for part in ("checkpoints", "snapshots"):
                    (folder / part).mkdir(exist_ok=True)
                train(graph, config, splits, folder, start, signals)
            failed = make_missing(parts, folder)
        print_results(folder, config)
        return failed


def print_results(folder: Path, config: Config) -> None:
    """Says what a run came to, by its files, and that it may have ended too early."""
    if (folder / "metrics.json").exists():
        test = run_folder.read_json(folder / "metrics.json")["test"]
        ratio = "infinite" if test["inter_over_intra"] is None else f"{test['inter_over_intra']:.1f}"
        print(
            f"test: {test['accuracy']:.2%} by softmax, {test['accuracy_nearest_center']:.2%} by nearest center\n"
            f"smallest inter-class / mean intra-class distance: {ratio}"
        )
        if test["accuracy"] < 0.5 and config.center_loss_weight > 0:
            print(
                "note: center loss first pulls all features to one point, and classes part only later. In the blog's\n"
                f"recipe that takes some 2,000 to 15,000 steps; this run has {config.steps:,}. More, by --resume and\n"
                "--steps, or a warm-up of the weight may be all that is missing."
            )
    for name in SPLITS:
        if (folder / f"clusters_{name}.png").exists():
            print(f"picture: {folder / f'clusters_{name}.png'}")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code.

    0; 2 for a bad setting, file or folder; 3 for a diverged run; 4 if the training is done, but a file that comes after
    it could not be made; 128 and the signal's number after a signal.
    """
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # py_func's deprecation, for one
    command = parse_command_line(sys.argv[1:] if arguments is None else arguments)
    again = f"python train_mnist.py --resume {shlex.quote(str(command.run_folder))}"
    try:
        failed = run(command, StopSignals())
        for name, error in failed.items():
            print(f"error: {command.run_folder / name}: not made ({type(error).__name__}: {error})", file=sys.stderr)
        if failed:
            print(f"The training is done and kept. Once that is mended, {again} makes what is missing", file=sys.stderr)
            return 4
    except hooks.NonFiniteError as error:
        print(
            f"error: diverged at {error}\nThe newest checkpoint is from before. Try a smaller --learning_rate or "
            f"--center_loss_weight: {again} --learning_rate …",
            file=sys.stderr,
        )
        return 3
    except (DataError, PrecisionError, run_folder.RunFolderError, checkpoints.CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except tf.errors.OpError as error:  # TensorFlow's own files: disk full, folder gone
        print(f"error: {error.message}\nOnce that is mended: {again}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        hint = f"go on with: {again}" if (command.run_folder / "config.yaml").is_file() else "nothing was begun"
        print(f"stopped by {stopped}; {hint}", file=sys.stderr)
        return 128 + stopped.signum
    return 0


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
