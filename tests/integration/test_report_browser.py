"""The report in headless Chromium: no error, no request, and a preview that equals our own renderer."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Tab, browser, installed_browser
from PIL import Image
from preview_pixels import compare, drawn

from neuropbr_core.materials.cameras import look_at
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.render import render_view
from neuropbr_core.materials.surface import build_surface
from neuropbr_core.outputs import read_material
from neuropbr_core.report import Report, RunContent, Showcase, Version, write_page, write_report
from neuropbr_core.report.batch_page import CaptureLine, write_batch_page
from neuropbr_core.report.curves import Curve
from neuropbr_core.shipped import shipped_root
from neuropbr_core.viewer.studio import DISTANCE, FIELD_OF_VIEW, lighting, render_ball

MATERIALS = shipped_root() / "examples" / "materials"
NAMES = ("acg_Bricks102", "acg_MetalPlates006")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed_browser() is None, reason="needs Chromium: apt install chromium, or similar"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two materials, of which one has a truth, and a run with curves."""
    showcases = []
    for name in NAMES:
        material = read_material(MATERIALS / name)
        views = (material.maps["albedo"][0],)
        versions = (Version("prediction", material.maps), Version("truth", material.maps))
        showcases.append(Showcase(name, versions, "a note", views))
    curves = {
        "train loss/total": Curve((1, 2, 3), (3.0, None, 1.0)),
        "validation loss": Curve((3,), (2.0,)),
        "</script><b>hostile": Curve((1, 2), (1.0, 2.0)),
    }
    report = Report("</script><script>alert(1)</script>", tuple(showcases), (RunContent("a run", curves=curves),))
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, write_page(report))
    return path


@pytest.fixture
def opened(tab: Tab, page: Path) -> Tab:
    tab.problems.clear()
    tab.requests.clear()
    tab.open(page)
    tab.wait_for("neuropbr.panel.preview.material.uniforms.normalMap.value")
    return tab


def rendered(name: str, eye: tuple[float, float, float], size: int) -> np.ndarray:
    """The same plane by our renderer, `(N, N, 3)` in [0, 1]."""
    position = torch.tensor(eye)
    camera = look_at(position, torch.zeros(2), 1 / (2 * math.tan(FIELD_OF_VIEW / 2)))
    surface = build_surface(read_material(MATERIALS / name).maps, 2 * size)
    linear = render_view(surface, camera, lighting(position), size)
    return linear_to_srgb(linear.clamp(0, 1)).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("index", range(len(NAMES)))
@pytest.mark.parametrize("view", [(0.0, 0.0), (0.5, 0.3)])
def test_plane_is_shaded_as_by_our_renderer(opened: Tab, index: int, view: tuple[float, float]) -> None:
    azimuth, elevation = view
    opened.value(f"neuropbr.show('set-{index}')")
    opened.value("document.querySelector('input[value=plane]').click()")
    opened.value(f"void Object.assign(neuropbr.panel.preview, {{azimuth: {azimuth}, elevation: {elevation}}})")
    pixels = drawn(opened)
    level = DISTANCE * math.cos(elevation)
    eye = (level * math.sin(azimuth), DISTANCE * math.sin(elevation), level * math.cos(azimuth))
    difference, correlation = compare(pixels, rendered(NAMES[index], eye, pixels.shape[0]))
    assert difference < 2 / 255
    assert correlation > 0.98


@pytest.mark.parametrize("index", range(len(NAMES)))
def test_ball_is_shaded_as_by_our_renderer(opened: Tab, index: int) -> None:
    opened.value(f"neuropbr.show('set-{index}')")
    pixels = drawn(opened)
    expected = render_ball(read_material(MATERIALS / NAMES[index]).maps, pixels.shape[0], backdrop=False)
    difference, correlation = compare(pixels, expected[:3].permute(1, 2, 0).numpy())
    assert difference < 0.012
    assert correlation > 0.98


@pytest.mark.parametrize(
    "mistake",
    [
        "preview.setMapOn('normal', false)",
        "preview.setMapOn('metallic', false)",
        "preview.setLamp(0.5, 0.6)",
        "preview.setUniform('roomLight', 0.5)",
    ],
)
def test_controls_change_the_picture(opened: Tab, mistake: str) -> None:
    """Each of them falls below the marks that the tests above demand."""
    opened.value("neuropbr.show('set-1')")
    opened.value("document.querySelector('input[value=plane]').click()")
    opened.value(f"neuropbr.panel.{mistake}")
    pixels = drawn(opened)
    difference, _ = compare(pixels, rendered(NAMES[1], (0.0, 0.0, DISTANCE), pixels.shape[0]))
    assert difference > 0.015


def test_no_error_and_no_request(opened: Tab) -> None:
    for shape in ("plane", "cube", "ball"):
        opened.value(f"document.querySelector('input[value={shape}]').click()")
        drawn(opened)
    opened.value("document.querySelector('[data-action=swap]').click()")
    opened.value("document.querySelector('[data-action=reset]').click()")
    opened.value("document.querySelectorAll('nav button')[1].click()")
    drawn(opened)
    assert opened.problems == []
    assert opened.requests == []
    assert opened.value("document.querySelector('h1').textContent") == "</script><script>alert(1)</script>"


def test_scripts_of_others_do_not_run(opened: Tab) -> None:
    opened.value(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.stranger = 1'}))"
    )
    assert opened.value("typeof window.stranger") == "undefined"


def test_keys_turn_the_material_and_move_the_border(opened: Tab) -> None:
    opened.value("document.querySelector('.preview canvas').focus()")
    opened.press("ArrowRight")
    assert opened.value("neuropbr.panel.preview.azimuth") == pytest.approx(math.pi / 36)
    before = opened.value("neuropbr.panel.preview.lampAround")
    opened.press("ArrowDown", shift=True)
    assert opened.value("neuropbr.panel.preview.lampAround") != before
    opened.value("document.querySelector('.wipe input[type=range]').focus()")
    opened.press("ArrowRight")
    assert opened.value("document.querySelector('.wipe input[type=range]').value") == "50.5"


def test_pictures_are_chosen_with_the_keyboard(opened: Tab) -> None:
    opened.value("document.querySelector('#set-0-1-roughness img').focus()")
    opened.press("Enter")
    shown = opened.value("document.querySelector('[data-side=right]').alt")
    assert shown == "roughness of acg_Bricks102, truth"


def test_curves_are_drawn_and_described(opened: Tab) -> None:
    labels = opened.value("[...document.querySelectorAll('.chart svg')].map(e => e.getAttribute('aria-label'))")
    assert labels[0].startswith("loss. train loss/total: from 3 to 1, lowest 1, highest 3. validation loss: from 2")
    options = opened.value("[...document.querySelectorAll('#curves option')].map(e => e.textContent)")
    assert "</script><b>hostile" in options


@pytest.mark.parametrize("width", [320, 390, 768])
def test_small_screens_need_no_sideways_scrolling(tab: Tab, page: Path, width: int) -> None:
    tab.open(page, width=width, height=800, mobile=True)
    tab.wait_for("window.neuropbr")
    assert tab.value("document.documentElement.scrollWidth") <= width


def test_dark_and_light(tab: Tab, page: Path) -> None:
    tab.open(page)
    colours = []
    for scheme in ("light", "dark"):
        tab.colour_scheme(scheme)
        colours.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(244, 244, 242)", "rgb(22, 23, 25)"]


def test_without_the_program_everything_is_readable(tab: Tab, page: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(page)
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    visible = "[...document.querySelectorAll('figure img, .poster')].every(e => e.getClientRects().length)"
    assert tab.value(visible)
    assert not tab.value("document.querySelector('.preview').getClientRects().length")


def test_page_of_a_batch(tab: Tab, tmp_path: Path) -> None:
    ball = io.BytesIO()
    Image.new("RGB", (8, 8), "brown").save(ball, format="JPEG")
    cells = ("3", "1.00", "", "tiles", "0.5")
    lines = [
        CaptureLine("</a><script>alert(1)</script>", "done", ball.getvalue(), cells),
        CaptureLine("b", "failed", None, cells, ("a photo is damaged " * 20,)),
    ]
    write_batch_page(tmp_path / "batch.html", "a batch", lines, {"model": "flash"})
    tab.problems.clear()
    tab.requests.clear()
    tab.open(tmp_path / "batch.html", width=390, height=800, mobile=True)
    assert tab.value("document.querySelectorAll('script').length") == 0
    assert tab.value("document.querySelector('tbody a').textContent") == "</a><script>alert(1)</script>"
    # The picture is decoded when it comes into view, which may be after the page has loaded.
    tab.wait_for("document.querySelector('tbody img').naturalWidth === 8")
    assert tab.value("document.documentElement.scrollWidth") <= 390
    assert tab.problems == []
    assert tab.requests == []
