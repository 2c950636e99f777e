"""The explorer's page in a real browser: Chromium, without a window and without a network."""

import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

import figures
import runs
from mnist_data import load
from pictures.cells import cells, nearest_cells
from pictures.clusters import colors
from splits import divide

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--window-size=1280,1000", "--force-device-scale-factor=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, run_script):
    """A short run on the digits with two unknown classes."""
    folder = tmp_path_factory.mktemp("explored")
    result = run_script(
        "train_mnist.py", "--dataset", "digits", "--channels", "[4,8,8]", "--steps", 150, "--batch_norm_decay", 0.9,
        "--learning_rate", 0.01, "--feature_activation", "linear", "--unknown_classes", "[3,8]",
        "--snapshot_steps", "[0,9,150]", "--output_dir", folder, "--run_name", "run",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder / "run"


class Page:
    """The page of a run in a browser."""

    def __init__(self, path):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.browser.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        self.browser.get(path.as_uri())
        self.wait(lambda: self.js("return Boolean(window.Bokeh && Bokeh.documents[0] && Bokeh.documents[0].is_idle)"))

    def js(self, code: str, *arguments):
        named = "const model = name => Bokeh.documents[0].get_model_by_name(name);"
        inside = """const inside = function*(root) {
            for (const e of root.querySelectorAll("*")) { yield e; if (e.shadowRoot) yield* inside(e.shadowRoot) } };"""
        return self.browser.execute_script(named + inside + code, *arguments)

    def wait(self, ready) -> None:
        end = time.monotonic() + 60
        while not ready():
            assert time.monotonic() < end, "the page did not get there"
            time.sleep(0.1)

    def column(self, name: str) -> list:
        return self.js("return Array.from(model('points').data[arguments[0]])", name)

    def element(self, condition: str):
        """The first element anywhere on the page, in shadow roots too, of which a JavaScript condition on `e` holds."""
        return self.js(f"for (const e of inside(document)) if ({condition}) return e")

    def place(self, x: float, y: float) -> tuple[int, int]:
        """Where a point of the plane is in the window, in pixels."""
        code = """
        const view = Bokeh.index.find_one(model("plot"))
        const box = view.canvas.el.getBoundingClientRect(), frame = view.frame
        return [box.x + frame.x_scale.compute(arguments[0]), box.y + frame.y_scale.compute(arguments[1])]"""
        return tuple(map(round, self.js(code, x, y)))

    def drag(self, start: tuple[int, int], end: tuple[int, int] | None = None) -> None:
        """Moves the mouse to a place, or from one to another with the button held."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        actions = ActionBuilder(self.browser, duration=100)
        actions.pointer_action.move_to_location(start[0] - 3, start[1] - 3)
        actions.pointer_action.move_to_location(*start)
        if end:
            actions.pointer_action.pointer_down()
            actions.pointer_action.move_to_location((start[0] + end[0]) // 2, (start[1] + end[1]) // 2)
            actions.pointer_action.move_to_location(*end)
            actions.pointer_action.pointer_up()
        actions.perform()

    def drawn(self) -> np.ndarray:
        """[H, W, 3] what the plot looks like."""
        return np.asarray(Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")).astype(int)

    def changed(self, before: np.ndarray) -> int:
        """By how much the plot differs from what it looked like."""
        return np.abs(self.drawn() - before)[200:700, 120:620].max()


@pytest.fixture(scope="module")
def opened(run):
    (path,) = figures.explore(run)
    page = Page(path)
    yield page
    page.browser.quit()


@pytest.fixture
def page(opened):
    """The page as it was at first."""
    opened.js("""
    model("which").active = 0; model("background").active = []; model("slider").value = model("slider").end
    model("points").selected.indices = []; model("plot").toolbar.active_drag = null
    for (const item of model("legend").items) for (const renderer of item.renderers) renderer.visible = true""")
    opened.drag((1200, 500))  # the mouse is off the plot
    time.sleep(0.5)
    return opened


def images_of(run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The page's images in order, the unknown ones last, their names' digits, and where they are in the test split."""
    config = runs.read_settings(run)
    data = load("digits", "")
    splits = divide(data, config.validation_fraction, config.split_seed, config.unknown_classes)
    labels = [*(splits.class_names[j] for j in splits.test.labels), *splits.unknown.labels]
    images, index = ([getattr(part, name) for part in (splits.test, splits.unknown)] for name in ("images", "index"))
    return np.concatenate(images), np.array(labels).astype(int), np.concatenate(index)


def test_it_opens_offline_without_an_error_or_a_request(page):
    log = page.browser.get_log("browser")
    assert [entry for entry in log if entry["level"] in ("SEVERE", "WARNING")] == []
    sent = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in sent if event["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in asked} <= {"file", "blob", "data"}


def test_it_shows_the_runs_test_images_and_the_unknown_ones(run, page):
    view, more = (runs.read_features(runs.features_path(run, split)) for split in ("test", "unknown"))
    np.testing.assert_allclose(page.column("x"), [*view.features[:, 0], *more.features[:, 0]], rtol=1e-6)
    names = page.column("name")
    assert names[: len(view.labels)] == [view.class_names[j] for j in view.labels]
    assert set(names[len(view.labels) :]) == {"3, unknown", "8, unknown"}
    own = np.linalg.norm(view.features - view.centers[view.labels], axis=1)
    np.testing.assert_allclose(np.array(page.column("own")[: len(own)], float), own, atol=6e-4)
    assert set(page.column("own")[len(own) :]) == {"none"}


def test_hovering_shows_the_very_image(run, page):
    images, digits, index = images_of(run)
    x, y = page.column("x"), page.column("y")
    alone = np.argmax([np.sort(np.hypot(np.array(x) - a, np.array(y) - b))[1] for a, b in zip(x, y, strict=True)])
    page.drag(page.place(x[alone], y[alone]))
    found = "e.style && e.style.background.includes('--sprite') && e.getBoundingClientRect().width > 80"
    page.wait(lambda: page.element(found))
    bounds = "const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"

    def off() -> np.ndarray:
        """[N] by how much what is shown differs from each image; the tooltip lets a little of the plot through."""
        left, top, width, height = map(round, page.js(bounds, page.element(found)))
        shown = Image.fromarray(page.drawn()[top : top + height, left : left + width].astype(np.uint8)).convert("L")
        seen = np.asarray(shown.resize((28, 28), Image.Resampling.BOX)).astype(int)
        return np.abs(seen - images.astype(int)).mean(axis=(1, 2))

    page.wait(lambda: off().argmin() == alone)
    assert off().min() < 15
    text = page.js("return arguments[0].parentElement.textContent", page.element(found))
    assert re.match(rf"\s*{digits[alone]}\D", text)
    assert f"image {index[alone]}" in text


def test_a_legend_entry_switches_its_class_off_and_on(page):
    before = page.drawn()
    entry = "e.textContent == '4' && e.className.includes('label')"
    shows = "return model('legend').items[3].renderers.map(r => r.visible)"
    assert page.js("return model('legend').items[3].label.value") == "4"
    for visible in (False, True):
        page.element(entry).click()
        page.wait(lambda visible=visible: page.js(shows) == [visible, visible])
        page.wait(lambda visible=visible: (page.changed(before) > 100) != visible)


@pytest.mark.parametrize(("choice", "column"), [(1, "predicted"), (2, "nearest")])
def test_only_the_wrong_ones(page, choice, column):
    names, given = page.column("name"), page.column(column)
    wrong = [i for i, (a, b) in enumerate(zip(names, given, strict=True)) if a != b and "unknown" not in a]
    assert 0 < len(wrong) < len(names)
    before = page.drawn()
    page.element(f"e.type == 'radio' && e.value == '{choice}'").click()
    views = "return model('legend').items.slice(0, -1).flatMap(i => Array.from(i.renderers[1].view.filter.indices))"
    page.wait(lambda: sorted(page.js(views)) == wrong)
    assert page.js("return model('status').text") == f"{len(wrong)} of {len(names)} images"
    page.wait(lambda: page.changed(before) > 100)


def test_the_slider_moves_the_points_to_a_snapshot(run, page):
    from selenium.webdriver.common.keys import Keys

    snapshot = runs.read_features(runs.snapshots(run)[9])
    page.element("e.className == 'noUi-handle noUi-handle-lower'").send_keys(Keys.LEFT)
    count = len(snapshot.labels)
    page.wait(lambda: "step 9 " in page.js("return model('plot').title.text"))
    np.testing.assert_allclose(page.column("x")[:count], snapshot.features[:, 0], rtol=1e-6)
    assert page.js("return Array.from(model('points').data.x).slice(arguments[0]).every(isNaN)", count)
    low, high = page.js("return [model('plot').x_range.start, model('plot').x_range.end]")
    assert low < snapshot.features[:, 0].min() < snapshot.features[:, 0].max() < high
    assert page.column("predicted")[:3] == [snapshot_name(run, j) for j in snapshot.predictions[:3]]


def snapshot_name(run, j: int) -> str:
    return runs.newest_features(run).class_names[j]


def test_play_goes_through_all_snapshots(page):
    page.js("window.seen = []; model('slider').properties.value.change.connect(() => seen.push(model('slider').value))")
    page.element("e.textContent.includes('play') && e.tagName == 'BUTTON'").click()
    page.wait(lambda: page.js("return seen") == [0, 1, 2])
    page.wait(lambda: not page.js("return model('play').active"))


def test_the_legend_keeps_its_dots_at_every_snapshot(page):
    code = "return [...inside(document)].find(e => ('' + e.className).includes('bk-item')).getBoundingClientRect()"
    for step in (0, 1, 2):
        page.js("model('slider').value = arguments[0]", step)

        def dot() -> np.ndarray:
            box = page.js(code)
            left, top, height = (round(box[name]) for name in ("x", "y", "height"))
            return page.drawn()[top : top + height, left : left + 20]

        time.sleep(0.5)  # what would take it away comes after the first drawing
        page.wait(lambda: np.abs(dot() - np.array(to_rgb(colors(8)[0])) * 255).max(axis=2).min() < 2)


def test_a_box_selects_what_is_in_it_and_shows_its_images(run, page):
    x, y = np.array(page.column("x")), np.array(page.column("y"))
    (x0, x1), (y0, y1) = np.quantile(x, [0.2, 0.6]), np.quantile(y, [0.2, 0.6])
    page.js("const bar = model('plot').toolbar; bar.active_drag = bar.tools.find(t => t.type == 'BoxSelectTool')")
    time.sleep(0.3)
    start, end = page.place(x0, y0), page.place(x1, y1)
    page.drag(start, end)
    page.wait(lambda: page.js("return model('points').selected.indices.length") > 0)
    selected = sorted(page.js("return Array.from(model('points').selected.indices)"))
    edge = 2 * (x1 - x0) / abs(end[0] - start[0])  # two pixels
    clearly = np.flatnonzero((x > x0 + edge) & (x < x1 - edge) & (y > y0 + edge) & (y < y1 - edge))
    around = np.flatnonzero((x > x0 - edge) & (x < x1 + edge) & (y > y0 - edge) & (y < y1 + edge))
    assert set(clearly) <= set(selected) <= set(around)
    tiles = "[...inside(document)].filter(e => e.title && e.style.background.includes('--sprite'))"
    page.wait(lambda: page.js(f"return {tiles}.length") == min(len(selected), 150))
    assert page.js("return model('sheet').text").startswith(f"<b>{len(selected)} selected</b>")


def test_the_background_is_the_classifiers_and_the_centers(run, page):
    before = page.drawn()
    for box in page.js("return [...inside(document)].filter(e => e.type == 'checkbox')"):
        box.click()
    page.wait(lambda: page.changed(before) > 20)


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_cells_hold_what_is_nearest(classes):
    random = np.random.default_rng(classes)
    centers, weights, bias = (
        random.normal(size=(classes, 2)),
        random.normal(size=(2, classes)),
        random.normal(size=classes),
    )
    at = random.uniform(-3, 3, (2000, 2))
    box = (-3, 3, -3, 3)
    nearest = np.linalg.norm(at[:, None] - centers, axis=2).argmin(axis=1)
    for polygons, expected in (
        (nearest_cells(centers, box), nearest),
        (cells(weights, bias, box), (at @ weights + bias).argmax(axis=1)),
    ):
        inside = np.stack([within(corners, at) for corners in polygons], axis=1)
        assert (inside.sum(axis=1) == 1).mean() > 0.999
        assert (inside.argmax(axis=1) == expected).mean() > 0.999


def within(corners: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Which of the points lie in a convex polygon whose corners go around it to the left."""
    if len(corners) == 0:
        return np.zeros(len(at), bool)
    along, to = np.roll(corners, -1, axis=0) - corners, at[:, None] - corners
    return (along[:, 0] * to[..., 1] - along[:, 1] * to[..., 0] >= 0).all(axis=1)


def test_centers_in_one_place_have_the_whole_plane():
    assert all(len(cell) == 4 for cell in nearest_cells(np.zeros((3, 2)), (-1, 1, -1, 1)))
