"""Pictures that say where a run's errors are and how its training went: arrays in, figures out.

Letters in the shapes: N images, C classes.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.figure import Figure

from pictures.clusters import colors

MOST_COUNTED = 30  # classes, whose counts and names can be read


@rc_context(rcParamsDefault)  # whatever the user's own style is
def confusion(counts: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """The [C, C] counts, rows the true class; shades by the logarithm, so that single errors are seen."""
    few = len(counts) <= MOST_COUNTED
    side = max(4.5, 0.42 * len(counts)) if few else 7
    drawn = Figure(figsize=(side + 1, side + 0.6), layout="constrained")
    axes = drawn.subplots()
    image = axes.imshow(np.log1p(counts), cmap="Greys")
    if few:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                color = "white" if image.norm(math.log1p(count)) > 0.5 else "black"
                axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=7, color=color)
        axes.set_xticks(range(len(counts)), class_names, rotation=90 if max(map(len, class_names)) > 2 else 0)
        axes.set_yticks(range(len(counts)), class_names)
    axes.set(xlabel="predicted, by softmax", ylabel="class")
    axes.set_title(title, fontsize=9)
    return drawn


@rc_context(rcParamsDefault)
def distances(own: np.ndarray, other: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """How far each image is from its own center, and from the nearest other one, to which it belongs below the line.

    Args:
        own, other: [N].
        labels: [N] class ids.
        class_names: C of them.
        title: of the figure.
    """
    drawn = Figure(figsize=(6, 5), layout="constrained")
    axes, palette = drawn.subplots(), np.array(colors(len(class_names)))
    order = np.random.default_rng(0).permutation(len(labels))
    axes.scatter(own[order], other[order], 6, c=palette[labels[order]], linewidths=0, rasterized=True)
    ends = [max(min(own.min(), other.min()), 1e-9), max(own.max(), other.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(
        xscale="log", yscale="log", xlabel="distance to the own center", ylabel="distance to the nearest other center"
    )
    for name, color in list(zip(class_names, palette, strict=False))[:MOST_COUNTED]:
        axes.plot([], [], "o", color=color, label=name)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8, title="class", title_fontsize=8)
    wrong = np.sum(own > other)
    axes.set_title(f"{title}\nnearer to another center: {wrong:,} of {len(own):,}", fontsize=9)
    return drawn


@rc_context(rcParamsDefault)
def curves(train: Mapping[str, np.ndarray], validation: Mapping[str, np.ndarray], title: str) -> Figure:
    """Losses, accuracies, schedules and centers over the steps.

    Args:
        train: the columns of metrics.csv.
        validation: the columns of validation.csv; may be empty.
        title: of the figure.
    """
    drawn = Figure(figsize=(9, 6), layout="constrained")
    drawn.suptitle(title, fontsize=9)
    (losses, accuracies), (schedules, centers) = drawn.subplots(2, 2, sharex=True)
    _lines(losses, train, {"cross_entropy": "cross entropy", "center_loss": "center loss"})
    _lines(losses, validation, {"cross_entropy": "cross entropy, validation"}, "o-")
    _lines(accuracies, train, {"accuracy": "training batch"})
    _lines(
        accuracies,
        validation,
        {"accuracy": "validation, softmax", "accuracy_nearest_center": "validation, nearest center"},
        "o-",
    )
    _lines(schedules, train, {"center_loss_weight": "λ", "learning_rate": "learning rate"})
    _lines(centers, train, {"center_distance": "features to their centers", "center_shift": "moves of the centers"})
    for axes, label in ((losses, "loss"), (schedules, "λ and rate"), (centers, "mean distance in a step")):
        axes.set(yscale="log", ylabel=label)
    accuracies.set_ylabel("accuracy")
    for axes in (losses, accuracies, schedules, centers):
        axes.grid(color="0.9")
        axes.legend(frameon=False, fontsize=8)
    for axes in (schedules, centers):
        axes.set_xlabel("step")
    return drawn


def _lines(axes, columns: Mapping[str, np.ndarray], shown: Mapping[str, str], style: str = "-") -> None:
    for name, label in shown.items():
        if name in columns and (columns[name] > 0).any():  # softmax alone has a lambda of 0, which has no logarithm
            axes.plot(columns["step"], columns[name], style, markersize=3, linewidth=1, label=label)


@rc_context(rcParamsDefault)
def captioned(images: np.ndarray, captions: Sequence[str], title: str) -> Figure:
    """The [N, H, W] or [N, H, W, 3] uint8 images side by side, each under its caption."""
    columns = min(len(images), 8)
    rows = -(-len(images) // columns)
    drawn = Figure(figsize=(1.25 * columns, 1.65 * rows + 0.4), layout="constrained")
    drawn.suptitle(title, fontsize=9)
    for axes in drawn.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, image, caption in zip(drawn.axes, images, captions, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(caption, fontsize=7, parse_math=False)
    return drawn
