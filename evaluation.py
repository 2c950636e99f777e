"""What the trained network makes of images: evaluation while it trains, and what a finished run leaves."""

import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import figures
import runs
from config import Config
from running import checkpoints
from running.command_line import typed
from running.session import reason
from splits import Split, Splits
from training_graph import TrainGraph

BATCH = 1000  # images a session.run; only speed and memory depend on it


def evaluate(session: tf.Session, graph: TrainGraph, split: Split) -> tuple[runs.Features, float]:
    """What the evaluation tower makes of `split`, in order, and the mean cross entropy; changes no variable."""
    parts = []
    for start in range(0, len(split.labels), BATCH):
        batch = slice(start, start + BATCH)
        feed = {graph.images: split.images[batch], graph.labels: split.labels[batch]}
        parts.append(session.run([graph.features, graph.predictions, graph.cross_entropies], feed))
    features, predictions, cross_entropies = (np.concatenate(part) for part in zip(*parts, strict=True))
    centers, step = session.run([graph.centers, graph.scalars["step"]])
    cross_entropy = float(cross_entropies.mean(dtype=np.float64))
    shape = split.images.shape[1:]
    return runs.Features(features, split.labels, predictions, centers, int(step), shape), cross_entropy


def extract(graph: TrainGraph, run_folder: Path, name: str, splits: Splits) -> None:
    """Writes features_<name>.npz: every image of a split, as the newest checkpoint in `run_folder` sees it."""
    found = checkpoints.newest_whole(run_folder / "checkpoints")
    reader, split = checkpoints.read(found.path), getattr(splits, name)
    weights, bias = reader.get_tensor("lenet/classifier/kernel"), "lenet/classifier/bias"
    bias = reader.get_tensor(bias) if reader.has_tensor(bias) else np.zeros_like(weights[0])
    # The network has no class for unknown images. Any will do for their cross entropy, which is not used.
    fed = split._replace(labels=np.zeros_like(split.labels)) if name == "unknown" else split
    with tf.Session(graph=graph.features.graph) as session:
        graph.saver.restore(session, found.path)
        view, _ = evaluate(session, graph, fed)
    view = view._replace(labels=split.labels, index=split.index, class_names=splits.class_names)
    view = view._replace(classifier_weights=weights, classifier_bias=bias)
    runs.write_features(runs.features_path(run_folder, name), view)


def finish(graph: TrainGraph, config: Config, splits: Splits, run_folder: Path, source: str) -> None:
    """Makes every file of a trained run that is missing. Where one fails, tells the error and goes on."""
    for name in runs.missing(run_folder, config):
        kind, _, split = name.partition(".")[0].partition("_")
        try:
            if kind == "features":
                extract(graph, run_folder, split, splits)
            elif kind == "clusters":
                figures.draw([run_folder], splits=[split])
            else:
                runs.write_metrics(run_folder, config, source)
        except Exception as error:  # whatever it is: the training behind it took hours
            kind = type(error).__name__
            print(f"error: {run_folder / name}: not made ({kind}: {reason(error)})", file=sys.stderr)


def print_results(run_folder: Path, config: Config) -> None:
    """Prints the results of a finished run, and a note if it may have been too short."""
    results = runs.read_json(run_folder / "metrics.json")
    test = results["test"]
    ratio = "infinite" if test["inter_over_intra"] is None else f"{test['inter_over_intra']:.1f}"
    print(f"test: {test['accuracy']:.2%} by softmax, {test['accuracy_nearest_center']:.2%} by nearest center")
    print(f"smallest inter-class / mean intra-class distance: {ratio}")
    near_chance = test["accuracy"] < max(0.5, 1.2 / len(test["accuracy_per_class"]))
    if near_chance and config.center_loss_weight > 0:
        print(
            "note: the center loss first pulls all features to one point, and the classes\n"
            "part only later: in the blog's recipe after some 1,000 steps at lambda 0.01,\n"
            f"2,000 at 0.1 and 4,000 at 1. This run has {config.steps:,}. Perhaps only more steps\n"
            "are missing: --resume with --steps."
        )
    if "unknown" in results:
        area = results["unknown"]["auroc_distance"]
        print(f"unknown classes by distance to the nearest center: area under the ROC curve {area:.4f}")
    print(*(f"picture: {run_folder / name}" for name in runs.last_files(config) if name.endswith(".png")), sep="\n")
    print(f"look into it: python visualize.py {typed(run_folder)} --html")
