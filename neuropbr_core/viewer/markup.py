"""The viewer: a preview with its controls and a wipe between two pictures, for pages that hold a material.

A page has three parts of this module: `viewer` in its body, `viewer_data` and the programs of `viewer_programs` after
it, and `style` in its head. A section of class `set` then has the pictures that the programs find: figures with
`data-group`, `data-label`, `data-kind` and, for maps, `data-map`.
"""

from collections.abc import Iterable
from pathlib import Path

from neuropbr_core.viewer.html import Html, data_script, element, join
from neuropbr_core.viewer.studio import preview_settings, shader_constants

_ROOM = Path(__file__).resolve().parent
PROGRAM_FILES = (_ROOM / "three" / "three.js", _ROOM / "assets" / "preview.js", _ROOM / "assets" / "viewer.js")
"""The viewer's programs, in the order in which a page has to load them; the first one is the library that draws."""
STYLE_FILE = _ROOM / "assets" / "page.css"
"""The style of a page."""


def style() -> Html:
    """The style of a page."""
    return element("style", Html(STYLE_FILE.read_text(encoding="utf-8")))


def viewer_programs() -> list[str]:
    """The texts of the viewer's programs, in their order."""
    return [file.read_text(encoding="utf-8") for file in PROGRAM_FILES]


def viewer_data() -> Html:
    """The data of the viewer's programs: light, camera and shader."""
    # The shader is data for the browser: it is compiled by the graphics card, and no program of the page.
    shader = shader_constants() + (_ROOM / "assets" / "shading.glsl").read_text(encoding="utf-8")
    return data_script("preview-settings", {**preview_settings(), "shader": shader})


def viewer() -> Html:
    """The preview, its controls, and the wipe."""
    return element("div", _preview(), _wipe(), id="viewer")


def _preview() -> Html:
    # A canvas has no content that a screen reader could find, so its label says what it shows and how it is moved.
    canvas = element(
        "canvas",
        tabindex=0,
        role="img",
        aria_label=(
            "Interactive preview of the material. Arrow keys turn it, plus and minus zoom, Shift with arrow keys "
            "moves the lamp."
        ),
    )
    stage = element("div", element("img", alt=""), canvas, class_="stage")
    message = element(
        "p", "This browser has no WebGL 2, so the preview is a still picture.", data_message=True, hidden=True
    )
    shapes = _segments("shape", "Shape", "radio", ("ball", "plane", "cube"), checked=("ball",))
    maps = ("albedo", "roughness", "metallic", "normal")
    toggles = _segments("map", "Maps in use", "checkbox", maps, checked=maps)
    version = element("label", "Show ", element("select", name="version"), class_="check", data_field="version")
    sliders = element(
        "div",
        _slider("tiles", "Tiling", 1, 8, 1, 1),
        _slider("exposure", "Exposure", -3, 3, 0.5, 0),
        _slider("around", "Lamp around", 0, 360, 1, 130),
        _slider("towards", "Lamp height", 3, 90, 1, 48),
        _slider("flash", "Lamp", 0, 3, 0.05, 1),
        _slider("room", "Surroundings", 0, 3, 0.05, 1),
        class_="sliders",
    )
    turning = element("label", element("input", type="checkbox", name="turning"), "Lamp goes round", class_="check")
    buttons = element(
        "div",
        turning,
        element("button", "Reset", type="button", class_="button", data_action="reset"),
        element("button", "Save picture", type="button", class_="button", data_action="save"),
        class_="row",
    )
    mouse = element(
        "span", "Drag to turn. Right button or Shift: move the lamp. Click, then wheel: zoom.", class_="for-mouse"
    )
    touch = element("span", "Drag to turn, pinch to zoom; the sliders move the lamp.", class_="for-touch")
    hint = element("p", mouse, touch, class_="hint")
    controls = element(
        "div", element("div", shapes, version, class_="row"), toggles, sliders, buttons, class_="controls"
    )
    return element("div", stage, message, hint, controls, class_="panel preview needs-program")


def _segments(name: str, legend: str, kind: str, values: Iterable[str], checked: Iterable[str]) -> Html:
    labels: list[Html] = []
    for value in values:
        box = element("input", type=kind, name=name, value=value, checked=value in checked)
        labels.append(element("label", box, element("span", value)))
    return element("fieldset", element("legend", legend), element("div", join(*labels), class_="segments"))


def _slider(name: str, label: str, low: float, high: float, step: float, value: float) -> Html:
    slider = element("input", type="range", id=f"slider-{name}", name=name, min=low, max=high, step=step, value=value)
    # Named, because the label would otherwise belong to the first control that it holds, which is the output.
    output = element("output", for_=f"slider-{name}")
    return element("label", element("span", label), output, slider, for_=f"slider-{name}")


def _wipe() -> Html:
    slider = element(
        "input", type="range", min=0, max=100, step=0.5, value=50, aria_label="Border between the two pictures"
    )
    # The slider covers both pictures and is invisible, so that dragging works anywhere and by keyboard too.
    stage = element(
        "div",
        element("img", alt="", data_side="right"),
        element("img", alt="", data_side="left"),
        element("div", class_="edge"),
        element("span", class_="caption", data_caption="left"),
        element("span", class_="caption", data_caption="right"),
        slider,
        class_="stage",
    )
    choices = element(
        "div",
        element("select", name="left", aria_label="Picture on the left"),
        element("button", "⇄", type="button", class_="button", data_action="swap", aria_label="Swap the pictures"),
        element("select", name="right", aria_label="Picture on the right"),
        class_="choices",
    )
    text = "Drag the border. A click on a picture below shows it on the right, with Shift on the left."
    return element("div", stage, choices, element("p", text, class_="hint"), class_="panel wipe needs-program")
