"""The blog's cluster plots: each image a point at its 2-D feature, colored by class, with the class centers.

Arrays in, figure out. Figures are made without pyplot, so they need no display and no thread gets in another's way.

Letters in the shapes: N points, C classes.
"""

import io
import itertools
import math
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from PIL import Image

from pictures.cells import cells, nearest_cells

# Found by a search for ten colors that stay far apart in normal vision and under simulated color blindness, none
# too pale for a small point on white. CIELAB distance of the closest pair: normal 29, deuteranopia 25,
# protanopia 24, tritanopia 17; of matplotlib's default ten: 28, 7, 5, 15.
COLORS = (
    "#2b96fd", "#790412", "#ccc92a", "#6b38aa", "#ff92a7", "#213e60", "#96942f", "#d253b0", "#4cd4ff", "#975c5d",
)  # fmt: skip

MOST_IN_A_ROW = 5  # subplots
MOST_NAMED, MOST_IN_LEGEND = 64, 20  # classes: of more, names and entries could not be read

# A ring: what lies at the center stays in sight.
CENTER_MARKER = {
    "linestyle": "none", "marker": "o", "color": "black", "markerfacecolor": "none",
    "path_effects": [withStroke(linewidth=2.4, foreground="white")],
}  # fmt: skip

Limits = tuple[float, float, float, float]  # x0, x1, y0, y1, in feature units


class Panel(NamedTuple):
    """What one subplot shows."""

    features: np.ndarray  # [N, 2] float, the x_i
    labels: np.ndarray  # [N] integer class ids, the y_i
    centers: np.ndarray  # [C, 2] float, the c_j
    class_names: tuple[str, ...]  # C of them
    title: str  # may have several lines, and mathtext between dollar signs
    unknown: np.ndarray | None = None  # [M, 2] float, features of images of other classes, if they are to be shown
    axis: str = "feature"  # what the two coordinates are called, with a number behind it
    classifier: tuple[np.ndarray, np.ndarray] | None = None  # weights [2, C] and bias [C], if regions are to be shown
    wrong: np.ndarray | None = None  # [N] bool, the images to be marked


def center_marker(num_classes: int, size: float) -> dict[str, object]:
    """How a center is drawn: a ring, `size` points wide; of many classes a dot, since rings would hide the clusters."""
    many = {"linestyle": "none", "marker": ".", "color": "black", "markersize": size / 3, "markeredgewidth": 0}
    return CENTER_MARKER | {"markersize": size, "markeredgewidth": 1} if num_classes <= MOST_NAMED else many


def colors(num_classes: int) -> list[str]:
    """A color a class, #rrggbb: COLORS, and for more classes colorcet's palette of 256 distinct ones, over and over."""
    if num_classes <= len(COLORS):
        return list(COLORS)
    from colorcet import glasbey_bw_minc_20

    return [to_hex(color) for color in itertools.islice(itertools.cycle(glasbey_bw_minc_20), num_classes)]


def check(panel: Panel) -> None:
    """Raises ValueError, naming the array, if shapes or labels do not fit or a number is not finite."""
    features, labels, centers = (np.asarray(array) for array in panel[:3])
    for name, array in (("features", features), ("centers", centers)):
        if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
            raise ValueError(f"{name}: expected shape [any number > 0, 2], a 2-D feature layer, got {array.shape}")
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            raise ValueError(f"{name}: {np.sum(~finite)} of {len(array)} rows are not finite (NaN or infinity)")
    if labels.shape != features.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: expected {len(features)} integers, got {labels.dtype} of shape {labels.shape}")
    if len(panel.class_names) != len(centers):
        raise ValueError(f"class_names: expected {len(centers)}, one for each center, got {len(panel.class_names)}")
    if labels.min() < 0 or labels.max() >= len(centers):
        raise ValueError(f"labels: expected 0 … {len(centers) - 1}, got {labels.min()} … {labels.max()}")


def limits_of(panels: list[Panel]) -> Limits:
    """The smallest square, and a margin, around all points, and centers of classes with points, of all panels.

    Outliers stay in sight.
    """
    centers = [np.asarray(panel.centers)[np.unique(panel.labels)] for panel in panels]
    unknown = [panel.unknown for panel in panels if panel.unknown is not None]
    shown = np.concatenate([*(panel.features for panel in panels), *centers, *unknown]).astype(np.float64)
    low, high, largest = shown.min(axis=0), shown.max(axis=0), np.abs(shown).max()
    middle, reach = (low + high) / 2, np.max(high - low) / 2
    if reach <= 1e-6 * largest:  # all in one place, as far as float32 can tell: a collapse
        reach = 0.1 * largest or 1.0
    (x0, y0), (x1, y1) = middle - 1.08 * reach, middle + 1.08 * reach
    return float(x0), float(x1), float(y0), float(y1)


@rc_context(rcParamsDefault)  # whatever the user's own style is
def figure(
    panels: list[Panel], *, limits: Limits | None = None, arranged: np.ndarray | None = None, second_row: bool = False
) -> Figure:
    """Draws a subplot for each panel, row by row, with equal aspect: a distance is as long in x as in y.

    Args:
        panels: at least one.
        limits: the same for all panels, which then say how many of their points lie outside; by default each panel
            has its own. `limits_of(panels)` has room for all.
        second_row: shows all panels once more, below, at one scale, so that their sizes can be compared.
        arranged: [C, 2], the names stand about their centers as they would if these were the centers of all panels.

    Raises:
        ValueError: if a panel does not pass `check`, there is none, or the limits are no finite x0 < x1, y0 < y1.
    """
    if not panels:
        raise ValueError("panels: expected at least one, got none")
    for panel in panels:
        check(panel)
    if limits and not (np.isfinite(limits).all() and limits[0] < limits[1] and limits[2] < limits[3]):
        raise ValueError(f"limits: expected finite x0 < x1 and y0 < y1, got {' '.join(f'{v:g}' for v in limits)}")

    shown = [limits or limits_of([panel]) for panel in panels]
    columns = len(panels) if len(panels) <= MOST_IN_A_ROW or second_row else math.ceil(math.sqrt(len(panels)))
    marked = len(panels)  # in the second row centers and names would hide the small ones
    if second_row:
        shown += [limits_of(panels)] * len(panels)
        panels = [*panels, *(panel._replace(title="at one scale") for panel in panels)]
    rows = math.ceil(len(panels) / columns)
    x0, x1, y0, y1 = shown[0]  # all have its shape: the given limits, or squares
    inches = (4.4 if len(panels) == 1 else 2.7) * np.array([x1 - x0, y1 - y0]) / max(x1 - x0, y1 - y0)
    across, down = inches[0] + 0.5, inches[1] + 0.5 + 0.16 * max(panel.title.count("\n") + 2 for panel in panels)
    page = np.array([columns * across + 1.5, rows * down + 0.5])
    drawn = Figure(figsize=tuple(page))
    for number, (panel, its_limits) in enumerate(zip(panels, shown, strict=True)):
        row, column = divmod(number, columns)
        corner = np.array([0.6 + column * across, 0.5 + (rows - 1 - row) * down])
        axes = drawn.add_axes((*corner / page, *inches / page))
        _draw(axes, panel, its_limits, inches, panel.centers if arranged is None else arranged, number < marked)
        axes.set_xlabel(f"{panel.axis} 1" if number + columns >= len(panels) else None, fontsize=9)
        axes.set_ylabel(f"{panel.axis} 2" if column == 0 else None, fontsize=9)
    _add_legend(drawn, panels, left=(columns * across + 0.2) / page[0])
    return drawn


def encoded(drawn: Figure, format: str, *, small: bool = False, num_classes: int = 10) -> bytes:
    """The figure as a png, pdf or svg file's content: the same bytes each time, text in pdf as TrueType fonts.

    Args:
        drawn: the figure.
        format: "png", "pdf" or "svg".
        small: a png of two thirds of the resolution in the colors of `palette`, for a repository.
        num_classes: C, of the figure's panels.
    """
    undated = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    buffer = io.BytesIO()
    with rc_context(rcParamsDefault | {"svg.hashsalt": "clusters", "pdf.fonttype": 42}):
        drawn.savefig(buffer, format=format, dpi=200 if small else 300, bbox_inches="tight", metadata=undated[format])
    if small and format == "png":
        picture = Image.open(buffer).convert("RGB").quantize(palette=palette(num_classes), dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        picture.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def palette(num_classes: int) -> Image.Image:
    """Greys for text and markers, and each class's color, exactly, with three paler shades for edges in the legend.

    With more than 60 classes there is room for the first 240 colors, without shades.
    """
    grays = [np.full(3, level) for level in np.linspace(0, 1, 14)]
    shares = (0.25, 0.5, 0.75, 1) if num_classes <= 60 else (1,)
    shades = [1 - share * (1 - np.array(to_rgb(color))) for color in colors(num_classes)[:240] for share in shares]
    picture = Image.new("P", (1, 1))
    picture.putpalette(np.round(255 * np.array(grays + shades)).astype(np.uint8).tobytes())
    return picture


def _draw(axes: Axes, panel: Panel, limits: Limits, inches: np.ndarray, arranged: np.ndarray, marked: bool) -> None:
    """One panel: points in one shuffled layer, so that no class lies on top of the others.

    If it is to be `marked`, centers and names lie above them.
    """
    features, labels, centers = (np.asarray(array) for array in panel[:3])
    low, high = np.array(limits[::2]), np.array(limits[1::2])
    outside = np.sum(((features < low) | (features > high)).any(axis=1))
    axes.set(xlim=limits[:2], ylim=limits[2:], aspect="equal")
    note = f"\n{outside:,} of {len(labels):,} points outside" if outside else ""
    axes.set_title(panel.title + note, fontsize=9, y=1)  # without y, matplotlib looks for a free place, and takes long
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=6)
    for line in (axes.axhline, axes.axvline):
        line(0, color="0.85", linewidth=0.7, zorder=0)

    if panel.classifier is not None:
        for corners, color in zip(cells(*panel.classifier, limits), colors(len(centers)), strict=False):
            axes.fill(*corners.T, color=color, alpha=0.13, linewidth=0, zorder=0)
        for corners in nearest_cells(centers, limits):
            axes.plot(*np.concatenate([corners, corners[:1]]).T, ":", color="0.4", linewidth=0.8, zorder=0.5)
    size = 1 + 0.28 * inches.max()  # a point's diameter, in points; the markers go with it
    order = np.random.default_rng(0).permutation(len(labels))
    drawing = {
        "s": size**2,
        "linewidths": 0,
        "antialiased": False,
        "rasterized": True,
    }  # blended, two look like a third
    if panel.unknown is not None:
        axes.scatter(*panel.unknown.T, c="0.6", gid="unknown", **drawing)
    axes.scatter(*features[order].T, c=np.array(colors(len(centers)))[labels[order]], gid="points", **drawing)
    if panel.wrong is not None:
        at = features[panel.wrong]
        axes.scatter(*at.T, c="none", s=(2 * size) ** 2, edgecolors="black", linewidths=0.7, gid="wrong")
    if not marked:
        return
    present = np.unique(labels)  # a class without an image has no name, and its center says nothing
    names, centers, arranged = np.array(panel.class_names)[present], centers[present], np.asarray(arranged)[present]
    axes.plot(*centers.T, **center_marker(len(panel.class_names), 3.5 * size), gid="centers")
    if len(present) > MOST_NAMED:
        return

    scale = 72 * inches / (high - low)  # points to a feature unit
    for name, center, away in zip(names, centers, _away_from_others(arranged), strict=True):
        half = np.array([0.35 * len(name), 0.4]) * 8 + 3 * size  # half the name's box, and room for the marker
        inner = half - size  # what the frame must leave to it
        place = np.clip(away * half, (low - center) * scale + inner, (high - center) * scale - inner)
        if (np.abs(place) < half - size).all():  # the frame pushed it back over the marker
            place[1] = math.copysign(half[1], ((low + high) / 2 - center)[1])
        axes.annotate(
            name, center, place, textcoords="offset points", fontsize=8, weight="bold", ha="center", va="center",
            parse_math=False, path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip


def _away_from_others(centers: np.ndarray) -> np.ndarray:
    """[C, 2] where to write each center's name, on the square of half side 1: like charges push each other away."""
    angles = 2 * np.pi * np.arange(len(centers)) / len(centers)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # sends the names of centers in one place apart
    places = centers / (np.ptp(centers, axis=0).max() or 1.0) + 1e-3 * circle
    apart = places[:, None] - places[None]  # [C, C, 2]
    push = (apart / (np.linalg.norm(apart, axis=2) + np.eye(len(centers)))[..., None] ** 3).sum(axis=1) + 1e-9 * circle
    return push / np.abs(push).max(axis=1, keepdims=True)


def _add_legend(drawn: Figure, panels: list[Panel], left: float) -> None:
    """One legend for all panels; where they name a class differently, its entry has all names."""
    columns = zip_longest(*(panel.class_names for panel in panels))
    names = [" · ".join(dict.fromkeys(filter(None, column))) for column in columns]
    num_classes = len(names)
    names = names if num_classes <= MOST_IN_LEGEND else []
    dot = {"linestyle": "none", "marker": "o"}
    handles = [Line2D([], [], color=color, **dot) for color in colors(num_classes)[: len(names)]]
    if any(panel.unknown is not None for panel in panels):
        handles, names = [*handles, Line2D([], [], color="0.6", **dot)], [*names, "unknown"]
    if any(panel.wrong is not None for panel in panels):
        ring = {"markerfacecolor": "none", "markeredgecolor": "black", "markersize": 5, "markeredgewidth": 0.7}
        handles, names = [*handles, Line2D([], [], **dot, **ring)], [*names, "wrong by softmax"]
    title = "class" if num_classes <= MOST_IN_LEGEND else f"{num_classes:,} classes"
    legend = drawn.legend(
        [*handles, Line2D([], [], **center_marker(num_classes, 6))], [*names, "center"], title=title,
        loc="center left", bbox_to_anchor=(left, 0.5), fontsize=8, title_fontsize=8, frameon=False, handletextpad=0.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
