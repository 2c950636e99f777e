"""Trains LeNet++ with center loss on MNIST, TF1 style, and leaves a run folder with metrics and pictures.

    python train_mnist.py --config configs/blog/lambda_0.01.yaml
    python train_mnist.py --resume outputs/<run>

In reading order: the training loop, one run, the command line. The graph is in `training_graph.py`.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # before TensorFlow, which reads it while it is imported, and takes seconds to be
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # else TensorFlow imports Keras 3, for seconds and in vain
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # the user's own can make matplotlib's import fail
    signal.signal(signal.SIGINT, lambda signum, frame: os._exit(128 + signum))

import numpy as np
import tensorflow.compat.v1 as tf

import metrics
import runs
from config import NOT_COMPARED, CommandLine, Config, names, parse_command_line, resolve_snapshot_steps, to_yaml
from data_files import DataError
from evaluation import evaluate, finish, print_results
from mnist_data import load
from running import checkpoints, hooks
from running.precision import PrecisionError, resolve_precision
from running.run_folder import InUseError, RunFolderError, TableFile, create, locked
from running.session import Session, open_session, reason
from running.signals import Stopped, StopSignals
from running.streams import outlive_readers
from splits import Split, Splits, batches, divide, fingerprint, shifted
from training_graph import TAGS, TrainGraph, build_graph, collapse, misfit, rehearsal

if TYPE_CHECKING:
    from running.cluster import Cluster

PATIENCE = 300  # steps of a collapse before it is told: the blog's recipe at lambda 0.01 leaves its own before step 200
WATCHED = 2000  # test images in each snapshot
SHOWN = {"L_S": "cross_entropy", "L_C": "center_loss", "acc": "accuracy"}  # while it trains, by their labels


def fed(
    graph: TrainGraph, config: Config, split: Split, first_step: int, cluster: "Cluster | None"
) -> Iterator[tuple[int, dict[tf.Tensor, np.ndarray]]]:
    """The steps from `first_step` on, each with what is fed: the batch, or this process's part of it."""
    own = slice(None) if cluster is None else slice(cluster.rank, None, cluster.size)
    order = batches(len(split.labels), config.batch_size, config.seed, first_step)
    for step, index in zip(range(first_step, config.steps), order, strict=False):  # the order has no end
        images = shifted(split.images[index], config.augment_shift, config.seed, step)
        yield step, {graph.images: images[own], graph.labels: split.labels[index][own]}


def train(
    graph: TrainGraph,
    config: Config,
    splits: Splits,
    run_folder: Path,
    start: checkpoints.Found,
    signals: StopSignals,
    cluster: "Cluster | None" = None,
) -> None:
    """Trains from the checkpoint `start`, or from step 0, up to `config.steps`; files of the run go to `run_folder`.

    In a `cluster`, this is what its chief does.

    Raises:
        hooks.NonFiniteError: if a loss or variable is not finite; the newest checkpoint is from before.
        RunFolderError: if a table of the run is damaged.
        Stopped: after a checkpoint, if a signal came.
    """
    print(f"going on from step {start.step:,}" if start.path else "no checkpoint yet: starting at step 0", flush=True)
    checkpoint_folder = run_folder / "checkpoints"
    rows = TableFile(run_folder / "metrics.csv", keep_to=start.step)
    validation_rows = TableFile(run_folder / "validation.csv", keep_to=start.step)

    watched = Split(splits.test.images[:WATCHED], splits.test.labels[:WATCHED])
    snapshot_steps = set(resolve_snapshot_steps(config.snapshot_steps, config.steps))

    def look(step: int, session: tf.Session) -> None:
        """Evaluates what is due after `step` steps. What a stopped run has done already is not done again."""
        evaluation_due = step > 0 and (step % config.evaluate_every_steps == 0 or step == config.steps)
        if evaluation_due and step > validation_rows.last_step and len(splits.validation.labels):
            evaluation, cross_entropy = evaluate(session, graph, splits.validation)
            row = {"cross_entropy": cross_entropy} | metrics.accuracies(*evaluation[:4])
            validation_rows.append({"step": step} | row)
            tagged = {TAGS[name]: value for name, value in row.items()}
            hooks.write_events(runs.events_path(run_folder, "validation"), step, tagged)
            by_softmax, by_center = row["accuracy"], row["accuracy_nearest_center"]
            print(f"step {step}: validation {by_softmax:.2%} by softmax, {by_center:.2%} by nearest center", flush=True)
        if step in snapshot_steps:
            snapshot, _ = evaluate(session, graph, watched)
            runs.write_features(runs.snapshot_path(run_folder, step), snapshot._replace(class_names=splits.class_names))

    progress = hooks.ProgressHook(graph.scalars, SHOWN, start.step, config.steps, config.log_every_steps)
    num_classes = graph.centers.shape[0]
    watchers = [
        hooks.PatienceHook(graph.scalars, lambda values: collapse(values, num_classes), PATIENCE),
        hooks.TableHook(graph.scalars, config.log_every_steps, config.steps, rows.append),
        hooks.EventsHook(runs.events_path(run_folder, "train"), start.step, config.log_every_steps, config.steps),
        hooks.StopHook(signals) if cluster is None else cluster.hook(signals),
        progress,
    ]
    every, saver = config.checkpoint_every_steps, graph.saver
    with signals.deferred():
        with (
            progress,
            open_session(checkpoint_folder, start, saver, graph.scalars, watchers, every, cluster) as session,
        ):
            look(start.step, session.raw_session())
            for step, feed in fed(graph, config, splits.train, start.step, cluster):
                session.run([graph.train_op, graph.center_update], feed)
                if session.should_stop():  # before an evaluation: the run that goes on from here begins with it
                    break
                look(step + 1, session.raw_session())  # fires no hook of a training step
        if progress.steps:
            row = {"step": progress.step, "steps": progress.steps, "seconds": round(progress.seconds, 3)}
            TableFile(run_folder / "sessions.csv", keep_to=start.step).append(row)


def follow(graph: TrainGraph, config: Config, splits: Splits, signals: StopSignals, cluster: "Cluster") -> None:
    """Trains along with the chief of a `cluster`, from its step on. Leaves no file."""
    watchers = [hooks.FiniteHook(graph.scalars), cluster.hook(signals)]
    with signals.deferred(), Session(watchers, master=cluster.target, config=cluster.config) as session:
        start = int(session.raw_session().run(graph.scalars["step"]))
        print(f"going on with the chief from step {start:,}", flush=True)
        for _, feed in fed(graph, config, splits.train, start, cluster):
            session.run([graph.train_op, graph.center_update], feed)
            if session.should_stop():
                break
    print("done; the chief has the run's files")


def run(command: CommandLine, signals: StopSignals, cluster: "Cluster | None" = None) -> int:
    """Does what the command line asks for, from loading the data to the pictures; returns the exit code of `main`.

    Of a `cluster`, the workers take part in the training and leave all else to the chief. Errors in settings, data and
    checkpoints are raised before any file of an earlier run changes.
    """
    config, run_folder = command.config, command.run_folder
    fetch = not command.resume  # a run that goes on had its data here
    data = load(config.dataset, config.data_dir, fetch, config.transpose_images)
    splits = divide(data, config.validation_fraction, config.split_seed, config.unknown_classes)
    sizes = len(splits.class_names), splits.train.images.shape[1:]
    if problem := misfit(config, *sizes, len(splits.train.labels), cluster.size if cluster is not None else 1):
        raise DataError(problem)
    precision, problem = resolve_precision(config.precision)
    # `auto` and the default name become what they stood for, so that config.yaml tells the whole run.
    config = dataclasses.replace(config, dataset=data.name, precision=precision, run_name=run_folder.resolve().name)
    beginning = [first_lines(config, data.source, splits), *(f"note: {note}" for note in (problem, data.note) if note)]
    if command.dry_run:
        images, labels = (part[: config.batch_size] for part in splits.train[:2])
        print(to_yaml(config), *beginning, rehearsal(config, *sizes, images, labels), sep="\n")
        return 0
    may_be_trained = cluster is not None and not command.overwrite
    if may_be_trained and checkpoints.newest_whole(run_folder / "checkpoints").step == config.steps:
        if cluster.rank:
            return 0
        cluster = None  # what may be left to do, the chief does alone
    if cluster is not None:
        # All that decides a step, and not where and how often something is written. The seed draws the batches.
        compared = sorted((dataclasses.asdict(config).keys() - names(NOT_COMPARED)) | {"seed"})
        same = {name: str(getattr(config, name)) for name in compared}
        cluster.join(same | {"data": fingerprint(data), "TensorFlow": tf.__version__})
        if cluster.rank:
            with tf.Graph().as_default(), tf.device(cluster.device):
                follow(build_graph(config, *sizes, cluster), config, splits, signals, cluster)
            return 0
    if not command.resume:
        create(run_folder, overwrite=command.overwrite)
    with locked(run_folder), tf.Graph().as_default():
        runs.check_data(run_folder, fingerprint(data), data.source)
        print(*beginning, f"run: {run_folder}", sep="\n", flush=True)
        if runs.finished(run_folder, config):
            print(f"finished already, at step {config.steps:,}; --steps with a larger number goes on")
            return 0
        start = checkpoints.newest_whole(run_folder / "checkpoints")
        print(*(f"warning: passed over a damaged checkpoint, {damaged}\n" for damaged in start.damaged), sep="", end="")
        with tf.device(None if cluster is None else cluster.device):
            graph = build_graph(config, *sizes, cluster)
        checkpoints.check_fits(start, tf.global_variables(), config.steps)
        # Features are written after the last step alone, and go when a run goes on from an earlier end.
        if start.step == config.steps and any(runs.features_path(run_folder, name).exists() for name in runs.SPLITS):
            lacks = ", ".join(runs.missing(run_folder, config))
            print(f"trained already, to step {start.step:,}; making {lacks}", flush=True)
        else:
            runs.make_ready(run_folder, config, start.step)
            train(graph, config, splits, run_folder, start, signals, cluster)
            if cluster is not None:  # its graph is of a place there, where a session of the chief alone finds nothing
                with tf.Graph().as_default():
                    graph = build_graph(config, *sizes)
        finish(graph, config, splits, run_folder, "; ".join(filter(None, (data.source, data.note))))
    if runs.missing(run_folder, config):
        again = runs.resume_command(run_folder)
        print(f"The training is done and kept. Once that is mended, {again} makes what is missing", file=sys.stderr)
        return 4
    print_results(run_folder, config)
    return 0


def first_lines(config: Config, source: str, splits: Splits) -> str:
    """What a run says before it starts: its data, the sizes of its splits and images, its loss, its precision."""
    train, validation, test = (f"{len(split.labels):,}" for split in splits[:3])
    side, *_ = shape = splits.train.images.shape[1:]
    middle = f", of which the middle {side - 2 * config.crop}×{side - 2 * config.crop}" if config.crop else ""
    weight, over = f"{config.center_loss_weight:g}", f"{config.center_loss_reduction} over the batch"
    return (
        f"data: {config.dataset}, {source}\nsplit: {train} training, {validation} validation, {test} test\n"
        f"images: {'×'.join(map(str, shape))} pixels{middle}\n"
        f"loss: mean cross entropy + {weight} · L_C, {over} of {config.batch_size}\n"
        f"lambda {weight}, lambda_eff {config.lambda_eff:g}, alpha {config.center_alpha:g}\n"
        f"precision: {config.precision} in the convolutional stages"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code.

    0; 2 for a bad setting, file or folder; 3 for a diverged run; 4 if the training is done, but a file that comes after
    it could not be made; 5 if another process holds the run's folder; 128 and the signal's number after a signal.
    """
    tf.logging.set_verbosity(tf.logging.ERROR)  # py_func's deprecation, for one
    arguments = sys.argv[1:] if arguments is None else arguments
    command, cluster, signals = parse_command_line(arguments), None, StopSignals()
    try:
        if os.environ.get("TF_CONFIG"):
            from running.cluster import read_tf_config

            cluster = read_tf_config(os.environ["TF_CONFIG"])
        return run(command, signals, cluster)
    except Stopped as stopped:
        code, message = 128 + stopped.signum, f"stopped by {stopped}"
    except hooks.NonFiniteError as error:
        advice = "The newest checkpoint is from before. Try a smaller --learning_rate or --center_loss_weight"
        code, message = 3, f"error: diverged at {error}\n{advice}"
    except tf.errors.OpError as error:  # TensorFlow's own files, or its servers: disk full, folder gone, process lost
        code, message = 2, f"error: {reason(error)}"
        if cluster is not None and signals.received is not None:  # the others were asked to stop, too, and went first
            code, message = 128 + signals.received, "stopped"
        elif cluster is not None and isinstance(error, cluster.LOST):
            message = "error: a process of the cluster was lost, again or before the first step; see what it says"
            if cluster.may_restart:
                print("warning: a process of the cluster was lost; waiting until all are there", file=sys.stderr)
                if cluster.rank == 0 and (command.run_folder / "config.yaml").is_file():
                    arguments = ["--resume", str(command.run_folder), "--data_dir", command.config.data_dir]
                cluster.restart([__file__, *arguments])
    except (DataError, PrecisionError, RunFolderError, checkpoints.CheckpointError, OSError) as error:
        code, message = 5 if isinstance(error, InUseError) else 2, f"error: {error}"
    except MemoryError as error:
        code, message = 2, f"error: out of memory ({error or 'no more is known'})"
    if code > 128 and signals.parent is not None:  # which says so, and how to go on with all
        return code
    begun = (command.run_folder / "config.yaml").is_file()
    again = f"go on with: {runs.resume_command(command.run_folder)}" if begun else "nothing begun"
    print(message, again, sep="\n", file=sys.stderr)
    return code


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
