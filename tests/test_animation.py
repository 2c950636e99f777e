import io
from itertools import pairwise

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from PIL import Image

from pictures import animation, clusters

DIGITS = tuple("0123456789")


def made_snapshots(points=300, count=36, *, radius=10.0, seed=0):
    """Points that collapse within eight steps and then fly apart to ten clusters on a circle, centers behind them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, points)
    angles = 2 * np.pi * np.arange(10) / 10
    targets = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    start, noise = rng.normal(0, 0.4, (2, points, 2))
    snapshots, centers = [], np.zeros((10, 2))
    for number in range(count):
        apart = 1 / (1 + np.exp(10 - number))
        features = start * np.exp(-number / 2) + apart * targets[labels] + (0.01 + 2 * apart) * noise
        title = f"some data\nstep {number**2:,}"
        snapshots.append(clusters.Panel(features.astype(np.float32), labels, centers.astype(np.float32), DIGITS, title))
        centers = 0.3 * centers + 0.7 * apart * targets
    return snapshots


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def frame(image: Image.Image, number: int) -> np.ndarray:
    image.seek(number)
    return np.asarray(image.convert("RGB"))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, in order, as (panels, figure)."""
    figures = []
    draw = clusters.figure

    def remember(panels, **settings):
        figures.append((panels, draw(panels, **settings)))
        return figures[-1][1]

    monkeypatch.setattr(clusters, "figure", remember)
    return figures


def test_a_film_of_two_thousand_points_is_small():
    frames = 28  # every fifth: they differ more from each other than all do
    content = animation.gif(made_snapshots(points=2000), frames=frames)
    assert len(content) / frames < 3e6 / animation.FRAMES
    image = opened(content)
    assert image.format == "GIF"
    assert image.n_frames == frames
    assert image.info["loop"] == 0
    assert 480 <= image.width <= 570
    assert 470 <= image.height <= 560


def test_the_film_takes_eight_to_ten_seconds():
    milliseconds = animation.FIRST_MS + animation.LAST_MS + (animation.FRAMES - 2) * animation.FRAME_MS
    assert 8000 <= milliseconds <= 10000
    image = opened(animation.gif(made_snapshots(points=50), frames=4))
    durations = []
    for number in range(4):
        image.seek(number)
        durations.append(image.info["duration"])
    assert durations == [animation.FIRST_MS, animation.FRAME_MS, animation.FRAME_MS, animation.LAST_MS]


def test_the_same_bytes_each_time_whatever_the_users_style():
    snapshots = made_snapshots(points=100)
    first = animation.gif(snapshots, frames=3)
    with rc_context({"xtick.color": "red", "axes.unicode_minus": False, "figure.facecolor": "black"}):
        assert animation.gif(snapshots, frames=3) == first


def test_frames_show_the_interpolated_points_centers_and_the_title_of_the_earlier_snapshot(drawn):
    snapshots = made_snapshots(count=3)
    animation.gif(snapshots, frames=5)
    assert [panel.title for (panel,), _ in drawn] == [snapshots[i].title for i in (0, 0, 1, 1, 2)]
    assert [figure.axes[0].get_title() for _, figure in drawn] == [snapshots[i].title for i in (0, 0, 1, 1, 2)]
    for place, (_, figure) in zip((0, 0.5, 1, 1.5, 2), drawn, strict=True):
        (axes,) = figure.axes
        (centers,) = [line for line in axes.lines if line.get_gid() == "centers"]
        (points,) = [found for found in axes.collections if found.get_gid() == "points"]
        before, after = snapshots[int(place)], snapshots[int(np.ceil(place))]
        np.testing.assert_allclose(centers.get_xydata(), (before.centers + after.centers) / 2, atol=1e-6)
        expected = (before.features.astype(float) + after.features) / 2
        np.testing.assert_allclose(np.sort(points.get_offsets(), axis=0), np.sort(expected, axis=0), atol=1e-6)


def test_colors_legend_and_centers_are_in_every_frame():
    image = opened(animation.gif(made_snapshots(points=50), frames=3))
    first = frame(image, 0)
    for number in range(3):
        pixels = frame(image, number)
        legend = pixels[:, int(0.86 * image.width) :]
        np.testing.assert_array_equal(legend, first[:, int(0.86 * image.width) :])
        colors = {tuple(color) for color in np.unique(legend.reshape(-1, 3), axis=0)}
        wanted = {tuple(np.round(255 * np.array(to_rgb(color))).astype(int)) for color in clusters.COLORS}
        assert (0, 0, 0) in colors
        assert sum(color in colors for color in wanted) == 10
        assert (pixels[0] == 255).all(), "a margin, and no black one where the page ends"
        assert (pixels[:, 0] == 255).all()


def test_names_keep_their_place_beside_their_centers(drawn):
    animation.gif(made_snapshots(points=50), frames=6)
    places = [[text.xyann for text in figure.axes[0].texts] for _, figure in drawn]
    np.testing.assert_allclose(places, np.broadcast_to(places[0], np.shape(places)))


@pytest.mark.parametrize("radius", [1e-3, 10.0, 1e4])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("count", [2, 36, 300])
def test_limits_hold_all_points_and_change_little(radius, reverse, count):
    snapshots = made_snapshots(count=36, radius=radius)[:: -1 if reverse else 1][:count]
    panels = animation.in_between(snapshots, animation.FRAMES)
    limits = np.array(animation.limits_over(panels))
    for panel, (x0, x1, y0, y1) in zip(panels, limits, strict=True):
        shown = np.concatenate([panel.features, panel.centers])
        assert (shown >= [x0, y0]).all()
        assert (shown <= [x1, y1]).all()
    sides = limits[:, 1] - limits[:, 0]
    np.testing.assert_allclose(sides, limits[:, 3] - limits[:, 2])
    zoom = np.diff(np.log(sides))
    assert zoom.max() <= animation.ZOOM_OUT + 1e-9
    assert zoom.min() >= -animation.ZOOM_IN - 1e-9
    assert np.abs(np.diff(zoom)).max() < 0.02
    origin = -limits[:, 0] / sides
    np.testing.assert_allclose(origin, origin[0])


def test_a_collapse_is_seen_and_the_end_fills_the_picture():
    panels = animation.in_between(made_snapshots(), animation.FRAMES)
    sides = np.diff(np.array(animation.limits_over(panels))[:, :2])[:, 0]
    spreads = np.array([np.ptp(panel.features, axis=0).max() for panel in panels])
    filled = spreads / sides
    assert filled[0] > 0.4
    assert filled[:40].min() < 0.15
    assert filled[-1] > 0.85


def test_limits_of_points_far_from_the_origin_and_of_points_in_one_place():
    labels, centers = np.zeros(5, int), np.full((10, 2), 50.0)
    far = clusters.Panel(np.full((5, 2), 50.0), labels, centers, DIGITS, "")
    zero = far._replace(features=np.zeros((5, 2)), centers=np.zeros((10, 2)))
    for panels in ([far] * 3, [zero] * 3, [zero, far], [far, zero]):
        for panel, (x0, x1, y0, y1) in zip(panels, animation.limits_over(panels), strict=True):
            assert np.isfinite([x0, x1, y0, y1]).all()
            assert x0 < panel.features.min() < x1
            assert y0 < panel.features.max() < y1


def test_in_between_runs_from_the_first_to_the_last():
    snapshots = made_snapshots(count=4)
    for frames in (2, 3, 50):
        panels = animation.in_between(snapshots, frames)
        assert len(panels) == frames
        for panel, snapshot in ((panels[0], snapshots[0]), (panels[-1], snapshots[-1])):
            np.testing.assert_array_equal(panel.features, snapshot.features)
            np.testing.assert_array_equal(panel.centers, snapshot.centers)
            assert panel.title == snapshot.title
    steps = [np.abs(b.features - a.features).max() for a, b in pairwise(animation.in_between(snapshots[:2], 11))]
    np.testing.assert_allclose(steps, steps[0])


def test_one_snapshot_is_one_frame():
    assert opened(animation.gif(made_snapshots(count=1))).n_frames == 1


def test_errors():
    first, second = made_snapshots(count=2)
    with pytest.raises(ValueError, match="snapshots: expected at least one"):
        animation.gif([])
    with pytest.raises(ValueError, match="2-D feature layer"):
        animation.gif([first, second._replace(features=np.zeros((300, 3)))])
    with pytest.raises(ValueError, match="same points in each snapshot, got others in number 1"):
        animation.gif([first, second._replace(labels=(second.labels + 1) % 10)])
