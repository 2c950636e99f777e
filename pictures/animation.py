"""A run's cluster plot in motion: the same points at each of its snapshots, as a GIF that repeats for ever.

The network was run for the snapshots only. In the frames between two of them every point and center moves along a
straight line at constant speed, under the title of the earlier one. Each snapshot lasts as long as any other: spaced by
the logarithm of the step, as they are by default, they give the few early steps as much time as the many later ones.

Letters in the shapes: F frames.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pictures import clusters

FRAMES = 140
FRAME_MS = 50  # in GIF a multiple of 10
FIRST_MS, LAST_MS = 500, 2000  # how long the first and the last frame stand
DPI = 92  # for about 550 × 490 pixels
MARGIN, LEGEND_GAP = 8, 6  # pixels
ZOOM_OUT, ZOOM_IN = 0.08, 0.02  # the most that the logarithm of the scale changes by from a frame to the next
SOFTENED = 6  # frames to either side that a change of the zoom is spread over


@rc_context(rcParamsDefault)  # whatever the user's own style is
def gif(snapshots: Sequence[clusters.Panel], *, frames: int = FRAMES) -> bytes:
    """The content of the GIF file: the same bytes each time.

    Args:
        snapshots: at least one, in the order of training, all of the same points and classes, and with titles of the
            same number of lines.
        frames: F, of them the last is the last snapshot; a single snapshot makes a single frame.

    Raises:
        ValueError: if there is no snapshot, or one does not pass `clusters.check` or has other points than the first.
    """
    if not snapshots:
        raise ValueError("snapshots: expected at least one, got none")
    for number, snapshot in enumerate(snapshots):
        clusters.check(snapshot)
        if not np.array_equal(snapshot.labels, snapshots[0].labels):
            raise ValueError(f"labels: expected the same points in each snapshot, got others in number {number}")
    panels = in_between(snapshots, frames if len(snapshots) > 1 else 1)
    images = _images(panels, limits_over(panels))
    durations = [FIRST_MS, *[FRAME_MS] * (len(images) - 2), LAST_MS][-len(images) :]
    buffer = io.BytesIO()
    images[0].save(buffer, "gif", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return buffer.getvalue()


def in_between(snapshots: Sequence[clusters.Panel], frames: int) -> list[clusters.Panel]:
    """F panels, evenly spaced from the first snapshot to the last, features and centers interpolated linearly."""
    panels = []
    for place in np.linspace(0, len(snapshots) - 1, frames):
        earlier, later = snapshots[int(place)], snapshots[min(int(place) + 1, len(snapshots) - 1)]
        features, centers = (
            np.asarray(old, np.float64) + (place % 1) * (np.asarray(new, np.float64) - old)
            for old, new in ((earlier.features, later.features), (earlier.centers, later.centers))
        )
        panels.append(earlier._replace(features=features, centers=centers))
    return panels


def limits_over(panels: Sequence[clusters.Panel]) -> list[clusters.Limits]:
    """Squares, one a frame, that contain all its points and centers and follow them calmly.

    All have the shape of the last one, scaled about the origin, which so stays at its place in the picture. The
    logarithm of the scale changes by ZOOM_OUT or -ZOOM_IN at most from frame to frame, and its speed changes gradually.
    """
    needed = np.array([clusters.limits_of([panel]) for panel in panels])  # [F, 4]
    last = panels[-1]
    shape = clusters.limits_of([last._replace(features=np.concatenate([last.features, np.zeros((1, 2))]))])
    scale = np.log((needed / shape).max(axis=1))  # [F], the smallest that will do

    ahead = np.arange(len(panels)) - np.arange(len(panels))[:, None]  # [F, F], of the row's frame
    speed = np.where(ahead > 0, ZOOM_OUT, ZOOM_IN)
    reached = (scale - speed * np.maximum(np.abs(ahead) - SOFTENED, 0)).max(axis=1)  # enough SOFTENED frames around
    window = np.ones(2 * SOFTENED + 1) / (2 * SOFTENED + 1)
    softened = np.convolve(np.pad(reached, SOFTENED, mode="edge"), window, mode="valid")
    return [tuple(square) for square in (np.exp(softened)[:, None] * shape).tolist()]


def _images(panels: Sequence[clusters.Panel], limits: Sequence[clusters.Limits]) -> list[Image.Image]:
    """The frames, cropped by what is white in all of them, in the colors of `clusters.palette`."""
    frames, legend = [], None
    for panel, its_limits in zip(panels, limits, strict=True):
        drawn = clusters.figure([panel], limits=its_limits, arranged=panels[-1].centers)
        drawn.set_dpi(DPI)
        (axes,) = drawn.axes
        axes.yaxis.set_label_coords(-0.1, 0.5)  # else it moves with the width of the numbers beside it
        if legend is None:
            legend = _pixels(drawn)
            legend[:, : int(axes.bbox.x1) + LEGEND_GAP] = 255
        drawn.legends[0].remove()  # drawing it in each frame would take longer than the points
        frames.append(np.minimum(_pixels(drawn), legend))
    inked = np.min(frames, axis=(0, 3)) < 255
    rows, columns = (np.flatnonzero(inked.any(axis=axis)) for axis in (1, 0))
    crop = tuple(slice(max(ink[0] - MARGIN, 0), ink[-1] + MARGIN) for ink in (rows, columns))
    colors = clusters.palette(len(panels[0].class_names))
    return [Image.fromarray(frame[crop].copy()).quantize(palette=colors, dither=0) for frame in frames]


def _pixels(drawn: Figure) -> np.ndarray:
    """[height, width, 3] uint8."""
    (canvas := FigureCanvasAgg(drawn)).draw()
    return np.array(canvas.buffer_rgba())[..., :3]
