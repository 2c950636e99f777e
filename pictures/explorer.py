"""A page to look into the clusters: one HTML file, by Bokeh, that needs no network. Arrays in, the page's text out.

The reader's side, which brings the page to what its controls say, is explorer.js.

Letters in the shapes: N images, C classes.
"""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bokeh.embed import file_html
from bokeh.layouts import column, row
from bokeh.models import (  # fmt: skip
    CDSView,
    CheckboxGroup,
    ColumnDataSource,
    CustomJS,
    Div,
    HoverTool,
    IndexFilter,
    Legend,
    LegendItem,
    RadioGroup,
    Slider,
    Toggle,
)
from bokeh.plotting import figure
from bokeh.resources import INLINE
from PIL import Image

from pictures.cells import cells, nearest_cells
from pictures.clusters import MOST_NAMED, Limits, Panel, colors, limits_of

MOST_BYTES = 5_000_000  # of the images: of more, fewer are shown
MOST_IMAGES = 20_000
MOST_ENTRIES = 128  # classes in the legend; with more, no class can be switched off alone
MOST_SIDE = 32  # pixels of an image
COLUMNS = 100  # images in a row of the sprite
SIDE = 560  # pixels of the plot's side
UNKNOWN = "#999999"


class Frame(NamedTuple):
    """The images at one step. A snapshot has the first of them alone."""

    panel: Panel  # its `unknown` are the images behind the others
    predictions: np.ndarray  # [N] class ids, by softmax
    nearest: np.ndarray  # [N] class ids, by nearest center
    own_distance: np.ndarray  # [N], to the center of the own class; NaN for an unknown image
    nearest_distance: np.ndarray  # [N], to the nearest center


def page(
    frames: Sequence[Frame],
    images: np.ndarray,
    index: np.ndarray,
    unknown_names: Sequence[str] = (),
    classifier: tuple[np.ndarray, np.ndarray] | None = None,
    note: str = "",
) -> str:
    """The text of the HTML file.

    Args:
        frames: in the order of training; the last has all N images, the known ones first, the others their beginning.
        images: [N, H, W] or [N, H, W, 3] uint8.
        index: [N], by which the reader finds an image in the data set.
        unknown_names: of each of the last frame's unknown images, its class.
        classifier: weights [2, C] and bias [C] of the last frame; None where the features are wider, so that neither
            its regions nor the cells of the centers are in the plane.
        note: a line for the reader.
    """
    last, names = frames[-1].panel, frames[-1].panel.class_names
    kept, sprite = _kept_and_sprite(images, min(len(frame.predictions) for frame in frames[:-1] or frames))
    labels = np.concatenate([last.labels, np.full(len(unknown_names), len(names))])[kept]
    shown_names = [*(names[j] for j in last.labels), *(f"{name}, unknown" for name in unknown_names)]
    palette = [*colors(len(names))[: len(names)], UNKNOWN]
    outlined = classifier is not None and len(names) <= MOST_ENTRIES
    arrays = [_as_arrays(frame, kept[kept < len(frame.predictions)], outlined) for frame in frames]
    end = arrays[-1]
    height, width = sprite.size[1] // -(-len(kept) // COLUMNS), sprite.size[0] // COLUMNS
    tile = f"display:inline-block;width:{width}px;height:{height}px;image-rendering:pixelated;background:var(--sprite) "
    points = ColumnDataSource({
        "x": end["x"], "y": end["y"], "near": end["near"],
        "own": ["none" if math.isnan(own) else f"{own:.3f}" for own in end["own"]],
        "name": [shown_names[i] for i in kept],
        "predicted": [names[j] for j in end["predicted"]], "nearest": [names[j] for j in end["nearest"]],
        "index": index[kept],
        "color": [palette[j] for j in labels],
        "sprite": [f"-{i % COLUMNS * width}px -{i // COLUMNS * height}px" for i in range(len(kept))],
    }, name="points")  # fmt: skip

    # Which images a legend entry switches off and on, and its color: by class, of too many classes all in one.
    groups = [(name, palette[j], labels == j) for j, name in enumerate(names)]
    if len(names) > MOST_ENTRIES:
        groups = [("all classes", "color", labels < len(names))]  # each dot in its own color
    if unknown_names:
        groups.append(("unknown", UNKNOWN, labels == len(names)))
    members = [np.flatnonzero(chosen) for _, _, chosen in groups]
    views = [CDSView(filter=IndexFilter(indices)) for indices in members]

    plot = _empty_plot(end, last.axis)
    areas = cells(*classifier, _around(end["limits"])) if outlined else []
    pale = ColumnDataSource(_outlines(areas) | {"color": palette[: len(areas)]})
    edges = ColumnDataSource(end["edges"])
    regions = plot.patches("xs", "ys", source=pale, color="color", alpha=0.15, visible=False)
    lines = {"fill_color": None, "line_color": "#555555", "line_dash": "dotted"}
    boundaries = plot.patches("xs", "ys", source=edges, visible=False, **lines)
    dots, items = _dots(
        plot, points, [(name, color, view) for (name, color, _), view in zip(groups, views, strict=True)]
    )
    centers = ColumnDataSource({"x": end["centers_x"], "y": end["centers_y"]})
    ring = {"size": 13, "fill_color": None} if len(names) <= MOST_NAMED else {"size": 1, "fill_color": "black"}
    rings = [
        plot.scatter("x", "y", source=centers, line_color=color, line_width=width, **ring)
        for color, width in (("white", 4), ("black", 2))
    ]
    _add_legend(plot, [*items, LegendItem(label="center", renderers=rings)])
    plot.add_tools(HoverTool(renderers=dots, tooltips=_tooltip(tile, height), limit=1))

    several, hint = (
        len(frames) > 1,
        "The box and the lasso select: the images appear here. The legend switches classes.",
    )
    ends = {"start": 0, "end": max(len(frames) - 1, 1), "value": len(frames) - 1, "show_value": False}
    slider = Slider(title="snapshot", width=260, name="slider", visible=several, **ends)
    play = Toggle(label="▶ play", width=70, name="play", visible=several)
    which = RadioGroup(labels=["all images", "wrong by softmax", "wrong by nearest center"], active=0, name="which")
    behind = ["regions of the classifier, at the end", "cells of the nearest centers"]
    background = CheckboxGroup(labels=behind, active=[], name="background", visible=outlined)
    sheet, status = Div(text=hint, width=420, name="sheet"), Div(text=f"{len(kept):,} images", name="status")
    update = CustomJS(
        args={
            "points": points, "centers": centers, "edges": edges, "plot": plot, "regions": regions, "slider": slider,
            "boundaries": boundaries, "play": play, "which": which, "background": background, "sheet": sheet,
            "status": status, "hint": hint, "tile": tile.replace("inline-block", "inline-block;zoom:1.6;margin:1px"),
            "frames": arrays, "labels": labels, "names": list(names), "num_classes": len(names), "members": members,
            "views": views,
        },
        code=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
    )  # fmt: skip
    for control, changes in ((slider, "value"), (play, "active"), (which, "active"), (background, "active")):
        control.js_on_change(changes, update)
    points.selected.js_on_change("indices", update)

    thinned = f" {len(kept):,} of {len(images):,} images are shown." if len(kept) < len(images) else ""
    wraps = {"flex-wrap": "wrap", "gap": "4px 24px"}
    controls = row(column(slider, row(play, status)), which, background, styles=wraps)
    above = Div(text=note + thinned, width=700)
    layout = column(above, controls, row(plot, sheet, styles=wraps), sizing_mode="stretch_width")
    buffer = io.BytesIO()
    sprite.save(buffer, "png", optimize=True)
    template = "{% block postamble %}" + _SPRITE + "{% endblock %}"  # Bokeh's own page is what it extends
    more = {"sprite": base64.b64encode(buffer.getvalue()).decode()}
    return file_html(layout, INLINE, end["title"].partition("\n")[0], template=template, template_variables=more)


def _empty_plot(end: dict[str, object], axis: str):
    x0, x1, y0, y1 = end["limits"]
    return figure(
        frame_width=SIDE, frame_height=SIDE, output_backend="webgl", title=end["title"], name="plot",
        min_border_left=85,  # room for any tick label: where the legend is moved, Bokeh leaves its entries without dots
        x_range=(x0, x1), y_range=(y0, y1), x_axis_label=f"{axis} 1", y_axis_label=f"{axis} 2",
        tools="pan,wheel_zoom,box_select,lasso_select,reset,save", active_scroll="wheel_zoom",
    )  # fmt: skip


def _dots(plot, points: ColumnDataSource, groups: Sequence[tuple[str, str, CDSView]]):
    """A renderer and a legend entry for each group, of its name, its color and its view of the points."""
    # A group without a dot would have none in the legend, so each entry has one of its own, that is nowhere.
    nowhere = ColumnDataSource({"x": [math.nan], "y": [math.nan], "color": ["black"]})
    dots, items = [], []
    for name, color, view in groups:
        looks = {"fill_color": color, "line_color": None}
        dots.append(plot.scatter("x", "y", source=points, view=view, size=4, nonselection_fill_alpha=0.1, **looks))
        swatch = plot.scatter("x", "y", source=nowhere, size=8, **looks)
        items.append(LegendItem(label=name, renderers=[swatch, dots[-1]]))
    return dots, items


def _add_legend(plot, items: list[LegendItem]) -> None:
    legend = Legend(items=items, click_policy="hide", ncols=-(-len(items) // 24), spacing=0, padding=2, name="legend")
    legend.label_text_font_size = "9pt" if len(items) <= 24 else "7pt"
    plot.add_layout(legend, "right")


# A data URL of some megabytes in a CSS variable stays blank, without an error; a Blob's URL does not.
_SPRITE = """
<style>body { margin: 8px; font-family: sans-serif; }</style>
<script id="sprite" type="text/plain">{{ sprite }}</script>
<script>
  const bytes = Uint8Array.from(atob(document.getElementById("sprite").textContent), c => c.charCodeAt(0))
  const url = URL.createObjectURL(new Blob([bytes], {type: "image/png"}))
  document.documentElement.style.setProperty("--sprite", `url(${url})`)
</script>
"""


def _tooltip(tile: str, height: int) -> str:
    return f"""
<div style="display:flex;gap:8px;align-items:center">
  <span style="{tile}@sprite;zoom:{max(1, round(112 / height))}"></span>
  <div>
    <b>@name</b><br>by softmax @predicted<br>nearest center @nearest<br>
    distances: own @own, nearest @near{{0.000}}<br>image @index
  </div>
</div>"""


def _kept_and_sprite(images: np.ndarray, first: int) -> tuple[np.ndarray, Image.Image]:
    """[K] ascending indices of the images that a page has room for, with the `first` ones, and all of them in one."""
    count = min(len(images), MOST_IMAGES)
    while True:
        rest = np.random.default_rng(0).permutation(np.arange(min(first, count), len(images)))
        kept = np.sort(np.concatenate([np.arange(min(first, count)), rest[: count - min(first, count)]]))
        height, width = (min(MOST_SIDE, side) for side in images.shape[1:3])
        sheet = Image.new("RGB" if images.ndim == 4 else "L", (COLUMNS * width, -(-count // COLUMNS) * height))
        for at, i in enumerate(kept):
            image = Image.fromarray(images[i])
            image = image if image.size == (width, height) else image.resize((width, height))
            sheet.paste(image, (at % COLUMNS * width, at // COLUMNS * height))
        buffer = io.BytesIO()
        sheet.save(buffer, "png")
        if buffer.tell() <= MOST_BYTES:
            return kept, sheet
        count = math.floor(0.9 * count * MOST_BYTES / buffer.tell())


def _as_arrays(frame: Frame, kept: np.ndarray, outlined: bool) -> dict[str, object]:
    """What explorer.js needs of a frame; the cells of the centers if they are to be `outlined`."""
    panel = frame.panel
    features = panel.features if panel.unknown is None else np.concatenate([panel.features, panel.unknown])
    small, limits = np.min_scalar_type(len(panel.class_names)), limits_of([panel])
    return {
        "x": features[kept, 0].astype(np.float32),
        "y": features[kept, 1].astype(np.float32),
        "predicted": frame.predictions[kept].astype(small),
        "nearest": frame.nearest[kept].astype(small),
        "own": frame.own_distance[kept].astype(np.float32),
        "near": frame.nearest_distance[kept].astype(np.float32),
        "centers_x": panel.centers[:, 0].astype(np.float32),
        "centers_y": panel.centers[:, 1].astype(np.float32),
        "edges": _outlines(nearest_cells(panel.centers, _around(limits)) if outlined else []),
        "limits": limits,
        "title": panel.title,
    }


def _outlines(polygons: Sequence[np.ndarray]) -> dict[str, list[list[float]]]:
    """The corners of polygons as the columns of a source."""
    return {"xs": [p[:, 0].tolist() for p in polygons], "ys": [p[:, 1].tolist() for p in polygons]}


def _around(limits: Limits) -> Limits:
    """Three times the limits, for those who zoom out."""
    x0, x1, y0, y1 = limits
    return 2 * x0 - x1, 2 * x1 - x0, 2 * y0 - y1, 2 * y1 - y0
