"""Trains LeNet++ with center loss on MNIST, TF1 style, and leaves a run folder with metrics and pictures.

    python train_mnist.py --config configs/blog/lambda_0.01.yaml
    python train_mnist.py --resume outputs/<run>

In reading order: evaluation, the training loop, what a finished run leaves, one run from its data to its pictures, the
command line. The graph is in `training_graph.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # before TensorFlow, which reads it while it is imported, and takes seconds to be
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # the user's own can make matplotlib's import fail
    signal.signal(signal.SIGINT, lambda signum, frame: os._exit(128 + signum))

import numpy as np
import tensorflow.compat.v1 as tf

import figures
import metrics
import runs
from config import CommandLine, Config, parse_command_line, resolve_precision, resolve_snapshot_steps, to_yaml
from mnist_data import DataError, Dataset, Split, batches, fingerprint, load, shifted, stratified_split
from running import checkpoints, hooks, run_folder
from running.precision import bfloat16_problem
from running.session import open_session
from running.signals import Stopped, StopSignals
from running.streams import outlive_readers
from training_graph import TrainGraph, build_graph

PATIENCE = 300  # steps of a collapse before it is told: the blog's recipe leaves its own before step 200
WATCHED = 2000  # test images in each snapshot
EVALUATION_BATCH = 1000  # images a session.run; only speed and memory depend on it
SHOWN = {"L_S": "cross_entropy", "L_C": "center_loss", "acc": "accuracy"}  # while it trains, by their labels


class PrecisionError(Exception):
    """The processor can't do what `precision` asks for. The message says why, and what to ask for instead."""


class Splits(NamedTuple):
    """The images of a run, by use."""

    train: Split
    validation: Split  # may be empty
    test: Split
    train_index: np.ndarray  # [N] int64, where the training images are in the data set's own training split


class Evaluation(NamedTuple):
    """A whole split seen by the evaluation tower. N images."""

    features: np.ndarray  # [N, D] float32
    predictions: np.ndarray  # [N] int64, by softmax
    centers: np.ndarray  # [C, D] float32
    cross_entropy: float  # mean


def evaluate(session: tf.Session, graph: TrainGraph, split: Split) -> Evaluation:
    """Runs the evaluation tower over `split`, in order; changes no variable."""
    parts = []
    for start in range(0, len(split.labels), EVALUATION_BATCH):
        batch = slice(start, start + EVALUATION_BATCH)
        feed = {graph.images: split.images[batch], graph.labels: split.labels[batch]}
        parts.append(session.run([graph.features, graph.predictions, graph.cross_entropies], feed))
    features, predictions, cross_entropies = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Evaluation(features, predictions, session.run(graph.centers), float(cross_entropies.mean(dtype=np.float64)))


def train(
    graph: TrainGraph, config: Config, splits: Splits, folder: Path, start: checkpoints.Found, signals: StopSignals
) -> None:
    """Trains from `start` up to `config.steps`.

    Leaves in the run's folder: checkpoints/, with event files, metrics.csv, validation.csv, sessions.csv, and in
    snapshots/ the evaluations of the watched test images at `config.snapshot_steps`.

    Args:
        graph: as built.
        config: the settings.
        splits: the images.
        folder: the run's, with checkpoints/ and snapshots/ in it.
        start: the checkpoint to go on from, which fits the graph, or none.
        signals: asked after each step whether to stop.

    Raises:
        hooks.NonFiniteError: if a loss or variable is not finite; the newest checkpoint is from before.
        run_folder.RunFolderError: if a table of the run is damaged.
        Stopped: after a checkpoint, if a signal came.
    """
    print(f"going on from step {start.step:,}" if start.path else "no checkpoint yet: starting at step 0", flush=True)
    rows = run_folder.TableFile(folder / "metrics.csv", keep_to=start.step)
    validation_rows = run_folder.TableFile(folder / "validation.csv", keep_to=start.step)
    for step, path in runs.snapshots(folder).items():
        if step > start.step:  # like later rows: of steps that are taken again
            path.unlink()

    watched = Split(splits.test.images[:WATCHED], splits.test.labels[:WATCHED])
    snapshot_steps = set(resolve_snapshot_steps(config.snapshot_steps, config.steps))

    def look(step: int, session: tf.Session) -> None:
        """Evaluates what is due after `step` steps. What a stopped run has done already is not done again."""
        evaluation_due = step > 0 and (step % config.evaluate_every_steps == 0 or step == config.steps)
        if evaluation_due and step > validation_rows.last_step and len(splits.validation.labels):
            seen = evaluate(session, graph, splits.validation)
            row = metrics.accuracies(seen.features, splits.validation.labels, seen.predictions, seen.centers)
            row = {"cross_entropy": seen.cross_entropy} | row
            validation_rows.append({"step": step} | row)
            hooks.write_events(folder / "checkpoints", step, "validation", row)
            by_softmax, by_center = row["accuracy"], row["accuracy_nearest_center"]
            print(f"step {step}: validation {by_softmax:.2%} by softmax, {by_center:.2%} by nearest center", flush=True)
        if step in snapshot_steps:
            seen = evaluate(session, graph, watched)
            shown = runs.Features(seen.features, watched.labels, seen.predictions, seen.centers, step)
            runs.write_features(runs.snapshot_path(folder, step), shown)

    wrong = functools.partial(collapse, num_classes=graph.centers.shape[0])
    progress = hooks.ProgressHook(graph.scalars, SHOWN, start.step, config.steps, config.log_every_steps)
    opened = open_session(
        folder / "checkpoints",
        start,
        graph.saver,
        hooks.FiniteHook(graph.scalars),
        [
            hooks.PatienceHook(graph.scalars, wrong, PATIENCE, warn=print),
            hooks.TableHook(graph.scalars, config.log_every_steps, config.steps, rows.append),
            hooks.StopHook(signals),
            progress,
        ],
        save_every_steps=config.checkpoint_every_steps,
        summary_every_steps=config.log_every_steps,
    )
    order = batches(len(splits.train.labels), config.batch_size, config.seed, start.step)
    with signals.deferred():
        with progress, opened as session:
            look(start.step, session.raw_session())
            for step in range(start.step, config.steps):
                index = next(order)
                images = shifted(splits.train.images[index], config.augment_shift, config.seed, step)
                feed = {graph.images: images, graph.labels: splits.train.labels[index]}
                session.run([graph.train_op, graph.center_update], feed)
                if session.should_stop():  # before an evaluation: the run that goes on from here begins with it
                    break
                look(step + 1, session.raw_session())  # fires no hook of a training step
        if progress.steps:
            run_folder.TableFile(folder / "sessions.csv", keep_to=start.step).append(
                {"step": progress.step, "steps": progress.steps, "seconds": round(progress.seconds, 3)}
            )


def collapse(values: Mapping[str, float], num_classes: int) -> str | None:
    """Says so where all features are in one place and nothing is told apart; None elsewhere.

    Args:
        values: of one batch, `feature_spread` (feature units) and `cross_entropy` (nats) among them.
        num_classes: C; a network that tells nothing apart has a cross entropy of ln C.
    """
    spread, chance = values["feature_spread"], math.log(num_classes)
    # In the blog's recipe the spread is ten times this once the cross entropy has fallen by a tenth (step 200).
    if not (spread < 0.05 and values["cross_entropy"] > chance - 0.1):
        return None
    return (
        f"collapse: the features have been all but equal (spread {spread:.2g}) and the cross entropy near ln C = "
        f"{chance:.2f}. The center loss outweighs the cross entropy: try a smaller --center_loss_weight, or let it "
        "rise slowly by --center_loss_warmup_steps"
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
    with tf.Session() as session:
        graph.saver.restore(session, found.path)
        seen = evaluate(session, graph, split)
    features = runs.Features(
        seen.features,
        split.labels,
        seen.predictions,
        seen.centers,
        found.step,
        index,
        weights,
        reader.get_tensor(bias) if reader.has_tensor(bias) else np.zeros_like(weights[0]),
    )
    runs.write_features(runs.features_path(folder, name), features)


def finishing_parts(
    graph: Callable[[], TrainGraph], config: Config, splits: Splits, folder: Path, data_source: str
) -> dict[str, Callable[[], object]]:
    """What makes each file that a run leaves after its last step, by the file's name, in the order of making."""
    index = np.arange(len(splits.test.labels))
    return {
        "features_train.npz": lambda: extract(graph(), folder, "train", splits.train, splits.train_index),
        "features_test.npz": lambda: extract(graph(), folder, "test", splits.test, index),
        "clusters_train.png": lambda: figures.draw([folder], splits=["train"]),
        "clusters_test.png": lambda: figures.draw([folder], splits=["test"]),
        "metrics.json": lambda: runs.write_metrics(folder, config, data_source),
    }


def make_missing(parts: dict[str, Callable[[], object]], folder: Path) -> dict[str, Exception]:
    """Calls the maker of each file that is not in `folder`; what failed, by file, does not keep the others from it."""
    failed = {}
    for name in runs.missing(folder):
        try:
            parts[name]()
        except Exception as error:  # whatever it is: the training behind it took hours
            failed[name] = error
    return failed


def divide(data: Dataset, config: Config) -> Splits:
    """Holds out the validation images.

    Raises:
        DataError: if the settings do not fit the number of images.
    """
    trained_on, held_out = stratified_split(data.train.labels, config.validation_fraction, config.split_seed)
    if config.batch_size > len(trained_on):
        raise DataError(f"batch_size: {config.batch_size} is more than the {len(trained_on)} training images")
    train, validation = (Split(data.train.images[i], data.train.labels[i]) for i in (trained_on, held_out))
    return Splits(train, validation, data.test, trained_on)


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


def check_same_data(folder: Path, data: Dataset) -> None:
    """Notes in a new run's folder which data it is trained on.

    Raises:
        DataError: if the run was begun with other data.
    """
    known, found = folder / "data.sha256", fingerprint(data)
    if not known.exists():
        run_folder.write_text(known, found + "\n")
    if known.read_bytes() != (found + "\n").encode():
        raise DataError(f"{data.source}: not the data that {folder} was begun with; give it those by --data_dir")


def prepare(folder: Path, config: Config, start: checkpoints.Found, parts: dict[str, Callable[[], object]]) -> None:
    """Makes the run's folder ready for `train`: no file of an earlier end stays beside what is trained now.

    Raises:
        checkpoints.CheckpointError: if the checkpoint at `start` is of another graph, before anything is changed.
    """
    if start.path is not None:
        checkpoints.check_fits(start.path, tf.global_variables())
    for name in (*parts, *runs.PICTURES):
        (folder / name).unlink(missing_ok=True)
    run_folder.write_text(folder / "config.yaml", to_yaml(config))
    for part in ("checkpoints", "snapshots"):
        (folder / part).mkdir(exist_ok=True)


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
    data = load(config.dataset, config.data_dir, fetch=not command.resume)  # a run that goes on had its data here
    splits = divide(data, config)
    # `auto` and the default name become what they stood for, so that config.yaml tells the whole run.
    precision, name = resolve_and_try_precision(config.precision), folder.resolve().name
    config = dataclasses.replace(config, dataset=data.name, precision=precision, run_name=name)
    if not command.resume:
        run_folder.create(folder, overwrite=command.overwrite)
    with run_folder.locked(folder), tf.Graph().as_default():
        check_same_data(folder, data)
        print(first_lines(config, data.source, *(len(split.labels) for split in splits[:3])))
        if data.note:
            print(f"note: {data.note}")
        print(f"run: {folder}", flush=True)
        graph = functools.cache(lambda: build_graph(config, len(data.class_names)))  # takes seconds, if needed at all
        parts = finishing_parts(graph, config, splits, folder, "; ".join(filter(None, (data.source, data.note))))
        if runs.finished_step(folder) == config.steps and not runs.missing(folder):
            print(f"finished already, at step {config.steps:,}; --steps with a larger number goes on")
            return {}
        start = checkpoints.newest_whole(folder / "checkpoints")
        for damaged in start.damaged:
            print(f"warning: passed over a damaged checkpoint, {damaged}")
        if start.step > config.steps:
            raise checkpoints.CheckpointError(f"{folder}: at step {start.step} already, beyond --steps {config.steps}")
        # Features are written after the last step alone, and go when a run goes on from an earlier end.
        if start.step < config.steps or not any((folder / f"features_{name}.npz").exists() for name in runs.SPLITS):
            graph()
            prepare(folder, config, start, parts)
            train(graph(), config, splits, folder, start, signals)
        else:
            print(f"trained already, to step {start.step:,}; making {', '.join(runs.missing(folder))}", flush=True)
        failed = make_missing(parts, folder)
    print_results(folder, config)
    return failed


def first_lines(config: Config, data_source: str, training: int, validation: int, test: int) -> str:
    """What a run says before it starts: its data, the sizes of its splits, its loss, its precision."""
    over = f"{config.center_loss_reduction} over the batch of {config.batch_size}"
    return (
        f"data: {config.dataset}, {data_source}\n"
        f"split: {training:,} training, {validation:,} validation, {test:,} test\n"
        f"loss: mean cross entropy + {config.center_loss_weight:g} · L_C, {over}\n"
        f"lambda {config.center_loss_weight:g}, lambda_eff {config.lambda_eff:g}, alpha {config.center_alpha:g}\n"
        f"precision: {config.precision} in the convolutional stages"
    )


def print_results(folder: Path, config: Config) -> None:
    """Says what a run came to, by its files, and that it may have ended too early."""
    if (folder / "metrics.json").exists():
        test = runs.read_json(folder / "metrics.json")["test"]
        ratio = "infinite" if test["inter_over_intra"] is None else f"{test['inter_over_intra']:.1f}"
        print(
            f"test: {test['accuracy']:.2%} by softmax, {test['accuracy_nearest_center']:.2%} by nearest center\n"
            f"smallest inter-class / mean intra-class distance: {ratio}"
        )
        if test["accuracy"] < 0.5 and config.center_loss_weight > 0:
            print(
                "note: the center loss first pulls all features to one point, and the classes\n"
                "part only later: in the blog's recipe after some 2,000 to 15,000 steps. This run\n"
                f"has {config.steps:,}. Perhaps only more steps are missing: --resume with --steps."
            )
    for name in runs.SPLITS:
        if (folder / f"clusters_{name}.png").exists():
            print(f"picture: {folder / f'clusters_{name}.png'}")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code.

    0; 2 for a bad setting, file or folder; 3 for a diverged run; 4 if the training is done, but a file that comes after
    it could not be made; 128 and the signal's number after a signal.
    """
    tf.logging.set_verbosity(tf.logging.ERROR)  # py_func's deprecation, for one
    command = parse_command_line(sys.argv[1:] if arguments is None else arguments)
    again = runs.resume_command(command.run_folder)
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
        if "CENTERLOSS_ONE_OF_SEVERAL" not in os.environ:  # else reproduce.py says how to go on with all of them
            print(f"stopped by {stopped}; {hint}", file=sys.stderr)
        return 128 + stopped.signum
    return 0


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
