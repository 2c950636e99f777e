import io

import numpy as np
import pytest
from matplotlib import image, rc_context
from matplotlib.colors import to_rgb, to_rgba
from PIL import Image

from pictures import clusters

DIGITS = tuple("0123456789")

# Machado, Oliveira, Fernandes (2009), severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def made_panel(seed=0, *, points=300, scale=10.0, title="a title", names=DIGITS):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, points)
    centers = rng.uniform(-scale, scale, (10, 2)).astype(np.float32)
    features = (centers[labels] + rng.normal(0, 0.05 * scale, (points, 2))).astype(np.float32)
    return clusters.Panel(features, labels, centers, names, title)


def points_of(axes):
    (found,) = [artist for artist in axes.collections if artist.get_gid() == "points"]
    return found


def centers_of(axes):
    (found,) = [artist for artist in axes.lines if artist.get_gid() == "centers"]
    return found


def legend_of(drawn):
    (legend,) = drawn.legends
    colors = [handle.get_color() for handle in legend.legend_handles]
    return dict(zip([text.get_text() for text in legend.get_texts()], colors, strict=True))


def limits(axes):
    return (*axes.get_xlim(), *axes.get_ylim())


def test_every_point_is_drawn_in_the_color_of_its_class():
    panel = made_panel()
    (axes,) = clusters.figure([panel]).axes
    points = points_of(axes)
    drawn = {(x, y, *color[:3]) for (x, y), color in zip(points.get_offsets(), points.get_facecolors(), strict=True)}
    expected = {(x, y, *to_rgb(clusters.COLORS[j])) for (x, y), j in zip(panel.features, panel.labels, strict=True)}
    assert len(points.get_offsets()) == 300
    assert drawn == expected
    assert points.get_rasterized()


def test_no_class_is_drawn_over_the_others():
    panel = made_panel(points=2000)
    panel = panel._replace(labels=np.sort(panel.labels))
    (axes,) = clusters.figure([panel]).axes
    last = {tuple(color) for color in points_of(axes).get_facecolors()[-200:]}
    assert len(last) == 10


def test_centers_are_black_rings_with_a_white_edge_and_named_beside():
    panel = made_panel()
    (axes,) = clusters.figure([panel]).axes
    centers = centers_of(axes)
    np.testing.assert_array_equal(np.transpose(centers.get_data()), panel.centers)
    assert to_rgba(centers.get_markeredgecolor()) == to_rgba("black")
    assert centers.get_markerfacecolor() == "none", "what lies at the center stays in sight"
    assert centers.get_zorder() > points_of(axes).get_zorder()
    named = {text.get_text(): tuple(text.xy) for text in axes.texts}
    assert named == {name: tuple(center) for name, center in zip(DIGITS, panel.centers, strict=True)}


CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@pytest.mark.parametrize(("names", "seed"), [(CLOTHES, 0), (CLOTHES, 1), (DIGITS, 0), (DIGITS, 1)])
def test_names_lie_inside_the_axes_and_off_their_markers(names, seed):
    panel = made_panel(seed, names=names)
    tight = panel._replace(features=panel.centers[panel.labels])  # the outermost centers are beside the frame
    drawn = clusters.figure([panel, panel, tight, tight])
    drawn.draw_without_rendering()
    for axes in drawn.axes:
        frame = axes.get_window_extent()
        for text in axes.texts:
            box = text.get_window_extent().padded(drawn.dpi / 72)  # its white edge, 1 pt
            assert frame.x0 <= box.x0
            assert box.x1 <= frame.x1
            assert frame.y0 <= box.y0
            assert box.y1 <= frame.y1
            assert not box.contains(*axes.transData.transform(text.xy))


@pytest.mark.parametrize("small", [False, True])
def test_each_classs_points_have_the_color_of_its_entry_in_the_file(small):
    panel = made_panel(points=3000)
    content = clusters.encoded(clusters.figure([panel]), "png", small=small)
    pixels = np.round(255 * image.imread(io.BytesIO(content))[..., :3]).astype(int).reshape(-1, 3)
    for color in clusters.COLORS:
        exactly = np.round(255 * np.array(to_rgb(color))).astype(int)
        assert (pixels == exactly).all(axis=1).sum() > 300, "more than the entry of the legend has"


def test_two_classes_one_on_the_other_never_look_like_a_third():
    panel = made_panel(points=3000)
    panel = panel._replace(labels=np.where(panel.labels % 2, 3, 6), features=panel.features / 5)
    few = panel._replace(labels=panel.labels[:2], features=panel.features[:2])
    seen = []
    for shown in (panel, few):
        content = clusters.encoded(clusters.figure([shown], limits=(-5, 5, -5, 5)), "png", small=True)
        seen.append(dict(map(reversed, Image.open(io.BytesIO(content)).convert("RGB").getcolors())))
    for j, color in enumerate(clusters.COLORS):
        more, fewer = (counts[tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))] for counts in seen)
        assert (more == fewer) == (j not in (3, 6)), "the legend's, and nothing else"


def test_a_class_without_an_image_has_neither_name_nor_center():
    panel = made_panel()
    panel.labels[panel.labels == 3] = 4
    panel.centers[3] = 1000
    (axes,) = clusters.figure([panel]).axes
    assert max(limits(axes)) < 100
    assert {text.get_text() for text in axes.texts} == set(DIGITS) - {"3"}
    np.testing.assert_array_equal(np.transpose(centers_of(axes).get_data()), np.delete(panel.centers, 3, axis=0))


def test_the_users_own_style_is_not_taken():
    panel = made_panel()
    usual = clusters.encoded(clusters.figure([panel]), "png")
    theirs = {"text.usetex": True, "figure.facecolor": "black", "text.color": "white", "font.size": 30}
    with rc_context(theirs):
        assert clusters.encoded(clusters.figure([panel]), "png") == usual


def test_names_of_centers_in_one_place_part():
    panel = made_panel()._replace(centers=np.zeros((10, 2)))
    drawn = clusters.figure([panel])
    drawn.draw_without_rendering()
    places = [tuple(np.round(text.get_window_extent().p0)) for text in drawn.axes[0].texts]
    assert len(set(places)) == 10


def test_legend_has_every_class_in_its_color_and_the_center():
    entries = legend_of(clusters.figure([made_panel()]))
    assert entries == {**dict(zip(DIGITS, clusters.COLORS, strict=True)), "center": "black"}


def test_legend_has_the_names_of_all_panels():
    other = made_panel(names=tuple("abcdefghij"))
    entries = legend_of(clusters.figure([made_panel(), other, made_panel(1)]))
    assert list(entries)[:2] == ["0 · a", "1 · b"]


def test_names_are_not_read_as_mathtext():
    clusters.encoded(clusters.figure([made_panel(names=("$a_", "b$", "$_$", *"defghij"))]), "png")


def cielab(colors, vision):
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(VISION[vision]), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = seen @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def closest_pair(colors, vision):
    lab = cielab(colors, vision)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    return apart[np.triu_indices(len(colors), 1)].min()


@pytest.mark.parametrize(
    ("vision", "least"), [("normal", 28), ("deuteranopia", 24), ("protanopia", 24), ("tritanopia", 17)]
)
def test_colors_stay_apart_for_color_blind_readers(vision, least):
    assert closest_pair(clusters.COLORS, vision) > least


def test_the_color_measure_sees_what_deuteranopes_confuse():
    assert closest_pair(["#2ca02c", "#d62728", "#8c564b"], "normal") > 25
    assert closest_pair(["#2ca02c", "#d62728", "#8c564b"], "deuteranopia") < 15


def test_no_color_is_too_pale_on_white():
    assert cielab(clusters.COLORS, "normal")[:, 0].max() < 82


def test_default_limits_show_an_outlier_and_far_centers():
    panel = made_panel()
    panel.features[7] = (4000, -3)
    panel.centers[2] = (0, 900)
    (axes,) = clusters.figure([panel]).axes
    x0, x1, y0, y1 = limits(axes)
    assert x0 < panel.features[:, 0].min()
    assert x1 > 4000
    assert y0 < panel.features[:, 1].min()
    assert y1 > 900
    assert axes.get_title() == "a title"


def test_aspect_is_equal_and_the_frame_fits_it():
    for drawn in (clusters.figure([made_panel()] * 3), clusters.figure([made_panel()], limits=(-3, 9, 1, 4))):
        drawn.draw_without_rendering()
        for axes in drawn.axes:
            assert axes.get_aspect() == 1
            x0, x1, y0, y1 = limits(axes)
            frame = axes.get_window_extent()
            assert frame.width / (x1 - x0) == pytest.approx(frame.height / (y1 - y0))
            assert axes.get_position(original=True).bounds == pytest.approx(axes.get_position().bounds)


def test_common_scale():
    panels = [made_panel(scale=300), made_panel(scale=3)]
    own = clusters.figure(panels).axes
    common = clusters.figure(panels, limits=clusters.limits_of(panels)).axes
    assert limits(own[0]) != limits(own[1])
    assert limits(common[0]) == limits(common[1]) == clusters.limits_of(panels)


def test_given_limits_and_what_they_leave_out():
    panel = made_panel()._replace(features=np.array([[0, 0], [1, 1], [5, 0], [0, -5]]), labels=np.arange(4))
    for axes in clusters.figure([panel, panel], limits=(-1, 1, -2, 2)).axes:
        assert limits(axes) == (-1, 1, -2, 2)
        assert axes.get_title() == "a title\n2 of 4 points outside"


@pytest.mark.parametrize("wrong", [(1, 1, 0, 1), (0, 1, 2, 1), (float("nan"), 1, 0, 1), (0, float("inf"), 0, 1)])
def test_wrong_limits(wrong):
    with pytest.raises(ValueError, match="limits: expected finite x0 < x1"):
        clusters.figure([made_panel()], limits=wrong)


@pytest.mark.parametrize("place", [0.0, 3.0, -1e6, 1e-20])
def test_collapse_is_drawn_with_sane_limits(place):
    panel = clusters.Panel(np.full((50, 2), place, np.float32), np.arange(50) % 10, np.full((10, 2), place), DIGITS, "")
    drawn = clusters.figure([panel])
    x0, x1, y0, y1 = limits(drawn.axes[0])
    assert x0 < place < x1
    assert y0 < place < y1
    assert x1 - x0 > 0.01 * abs(place)
    clusters.encoded(drawn, "png")


def test_a_second_row_shows_all_at_one_scale():
    panels = [made_panel(seed, title="own") for seed in range(3)]
    panels[1] = panels[1]._replace(features=10 * panels[1].features, centers=10 * panels[1].centers)
    drawn = clusters.figure(panels, second_row=True)
    assert [axes.get_title() for axes in drawn.axes] == ["own"] * 3 + ["at one scale"] * 3
    assert len({limits(axes) for axes in drawn.axes[:3]}) == 3
    assert {limits(axes) for axes in drawn.axes[3:]} == {clusters.limits_of(panels)}
    assert [len(axes.texts) for axes in drawn.axes] == [10] * 3 + [0] * 3


@pytest.mark.parametrize(
    ("count", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (5, (1, 5)), (6, (2, 3)), (7, (3, 3))]
)
def test_one_subplot_a_panel_row_by_row(count, grid):
    drawn = clusters.figure([made_panel(seed, title=f"run {seed}\nλ") for seed in range(count)])
    places = [axes.get_position() for axes in drawn.axes]
    assert [axes.get_title() for axes in drawn.axes] == [f"run {seed}\nλ" for seed in range(count)]
    assert (len({round(p.y0, 6) for p in places}), len({round(p.x0, 6) for p in places})) == grid
    assert [(-round(p.y0, 6), round(p.x0, 6)) for p in places] == sorted(
        (-round(p.y0, 6), round(p.x0, 6)) for p in places
    )
    boxes = [axes.get_tightbbox() for axes in drawn.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((300, 3))}, r"features: expected shape .* 2-D feature layer, got \(300, 3\)"),
        ({"features": np.zeros(300)}, "features: expected shape"),
        ({"features": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "features: expected shape"),
        ({"features": np.full((300, 2), np.nan)}, "features: 300 of 300 rows are not finite"),
        ({"centers": np.full((10, 2), np.inf)}, "centers: 10 of 10 rows are not finite"),
        ({"centers": np.zeros((10, 3))}, "centers: expected shape"),
        ({"labels": np.zeros(299, int)}, "labels: expected 300 integers"),
        ({"labels": np.zeros(300)}, "labels: expected 300 integers, got float64"),
        ({"labels": np.full(300, 10)}, "labels: expected 0 … 9, got 10 … 10"),
        ({"labels": np.full(300, -1)}, "labels: expected 0 … 9, got -1 … -1"),
        ({"class_names": ("a",)}, "class_names: expected 10, one for each center, got 1"),
    ],
)
def test_wrong_arrays_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        clusters.figure([made_panel()._replace(**change)])


def test_no_panels():
    with pytest.raises(ValueError, match="panels: expected at least one"):
        clusters.figure([])


def test_a_single_class():
    panel = clusters.Panel(np.ones((3, 2)), np.zeros(3, int), np.zeros((1, 2)), ("only",), "")
    clusters.encoded(clusters.figure([panel]), "png")


@pytest.mark.parametrize(("format", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_encoded_is_the_same_each_time_and_carries_no_date(format, start):
    first, second = (clusters.encoded(clusters.figure([made_panel()]), format) for _ in range(2))
    assert first == second
    assert first.startswith(start)
    assert not any(mark in first for mark in (b"CreationDate", b"<dc:date>", b"Software"))


def test_vector_files_stay_small():
    for format in ("pdf", "svg"):
        assert len(clusters.encoded(clusters.figure([made_panel(points=10_000)]), format)) < 500_000


def test_colors_reach_the_picture():
    pixels = image.imread(io.BytesIO(clusters.encoded(clusters.figure([made_panel()]), "png")))[..., :3]
    codes = np.rint(255 * pixels).astype(int) @ (1 << 16, 1 << 8, 1)
    for color in clusters.COLORS:
        assert (codes == int(color[1:], 16)).sum() > 50
