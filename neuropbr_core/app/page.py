"""The page as HTML. Its program shows and hides its parts, and fills in what the server tells about a job."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neuropbr_core import __version__
from neuropbr_core.app.jobs import LONGEST_NAME
from neuropbr_core.app.limits import Limits
from neuropbr_core.data.decoding import READ_SUFFIXES, why_unread
from neuropbr_core.inference.predict import ExportedGenerator, LoadedGenerator
from neuropbr_core.viewer.html import Html, data_script, element, join
from neuropbr_core.viewer.markup import PROGRAM_FILES, STYLE_FILE

if TYPE_CHECKING:
    from neuropbr_core.app.making import Offer

_ROOM = Path(__file__).resolve().parent / "assets"
ASSETS = {path.name: path for path in (STYLE_FILE, _ROOM / "app.css", *PROGRAM_FILES, _ROOM / "app.js")}
"""Files of the page, by their names in addresses."""


def write_page(model: LoadedGenerator | ExportedGenerator, offered: "Sequence[Offer]", limits: Limits) -> str:
    """Write the page.

    Args:
        model: The model.
        offered: Packages that can be chosen.
        limits: How much is accepted.
    """
    programs = []
    for path in (*PROGRAM_FILES, _ROOM / "app.js"):
        programs.append(element("script", src=f"/assets/{path.name}", defer=True))
    settings = {
        "photos": limits.photos,
        "photoBytes": limits.photo_bytes,
        "matches": model.needs_cameras,
        "views": model.signature.views,
    }
    body = element(
        "body",
        _header(model),
        element("main", _photos(model, limits), _progress(), _result(), _packages(offered)),
        element(
            "footer",
            f"neuropbr {__version__}. The page asks nothing of other machines. ",
            "The preview is drawn by three.js (MIT licence).",
        ),
        data_script("app-settings", settings),
    )
    return f"<!doctype html>\n{element('html', _head('Photos to material', *programs), body, lang='en')}\n"


def write_gone_page(reason: str) -> str:
    """Write the page of a job that is not there.

    Args:
        reason: Why it is not.
    """
    header = element("header", element("p", "NeuroPBR"), element("h1", "Nothing here"))
    text = element("main", element("p", reason, class_="warning"), element("p", element("a", "Begin anew", href="/")))
    return f"<!doctype html>\n{element('html', _head('Nothing here'), element('body', header, text), lang='en')}\n"


def _head(title: str, *programs: Html) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title} · NeuroPBR"),
        # An icon of no pixels; browsers ask for one otherwise.
        element("link", rel="icon", href="data:,"),
        element("link", rel="stylesheet", href=f"/assets/{STYLE_FILE.name}"),
        element("link", rel="stylesheet", href="/assets/app.css"),
        *programs,
    )


def _counted(photos: int) -> str:
    if photos == 1:
        return "one photo"
    return f"{photos} photos"


def _header(model: LoadedGenerator | ExportedGenerator) -> Html:
    chips = [
        element("li", element("b", "model"), f" {model.origin.name}"),
        element("li", f"trained with {_counted(model.signature.views)} of each material"),
        element("li", "photos stay on the machine that runs the app"),
    ]
    return element(
        "header",
        element("p", "NeuroPBR"),
        element("h1", "Photos to material"),
        element("ul", join(*chips), class_="chips"),
        element("noscript", element("p", "This page needs JavaScript.", class_="warning")),
        element("p", class_="warning", role="alert", id="problem", hidden=True),
        # Read out when it changes; the bar itself is silent, because it moves too often.
        element("p", class_="unseen", role="status", aria_live="polite", id="status"),
    )


def _photos(model: LoadedGenerator | ExportedGenerator, limits: Limits) -> Html:
    advice = [f"Add {_counted(model.signature.views)} or more of one flat material, {limits.photos} at most."]
    if model.needs_cameras:
        advice.append(
            "Take one from straight above, whose middle square becomes the texture, and the others of the same patch "
            "from different sides."
        )
    if model.signature.flash:
        advice.append("Use the flash, in a dim room.")
    suffixes = [suffix for suffix in READ_SUFFIXES if why_unread(suffix) is None]
    # Phones offer their photo library for `image/*`, and some formats have no type that browsers know.
    accepted = ",".join(["image/*", *suffixes])
    picker = element("input", type="file", multiple=True, accept=accepted, id="files", class_="unseen")
    drop = element(
        "label",
        picker,
        element("b", "Choose photos"),
        element("span", " or drop them here", class_="for-mouse"),
        element("small", " ".join(advice), class_="note"),
        class_="drop",
        id="drop",
    )
    name = element(
        "label",
        "Name of the material ",
        element("input", type="text", id="name", value="material", maxlength=LONGEST_NAME, autocomplete="off"),
        class_="named",
    )
    return element(
        "section",
        element("h2", "Photos", id="photos-title"),
        drop,
        element("ul", id="cards", class_="cards", aria_label="Photos"),
        element("div", name, _button("Make the maps", "start", disabled=True), class_="row", id="starting"),
        id="photos",
        aria_labelledby="photos-title",
    )


def _progress() -> Html:
    return element(
        "section",
        element("h2", "Progress"),
        element("p", id="step"),
        element("progress", id="bar", aria_labelledby="step"),
        element("ul", id="lines", class_="lines", aria_label="Remarks"),
        element(
            "div", _button("Remove this material", "remove"), element("a", "Begin another", href="/"), class_="row"
        ),
        id="progress",
        hidden=True,
    )


def _result() -> Html:
    return element(
        "section",
        element("h2", "Material", id="result-title", tabindex=-1),
        element("ul", class_="chips", id="facts"),
        element("div", id="preview"),
        id="result",
        aria_labelledby="result-title",
        hidden=True,
    )


def _packages(offered: "Sequence[Offer]") -> Html:
    boxes: list[Html] = []
    for offer in offered:
        note = offer.problem or offer.summary
        box = element(
            "input",
            type="checkbox",
            name="target",
            value=offer.name,
            disabled=bool(offer.problem),
            checked=offer.name == "plain" and not offer.problem,
        )
        text = element("span", element("b", offer.name), element("small", note))
        boxes.append(element("label", box, text, class_="target"))
    tileable = element(
        "label",
        element("input", type="checkbox", id="tileable"),
        "Cut the maps so that they tile",
        class_="check",
    )
    return element(
        "section",
        element("h2", "Download"),
        element("fieldset", element("legend", "Packages"), element("div", join(*boxes), class_="targets")),
        element("div", tileable, _button("Make a zip file", "zip"), class_="row"),
        element("ul", id="zips", class_="lines", aria_label="Zip files"),
        id="packages",
        hidden=True,
    )


def _button(text: str, action: str, *, disabled: bool = False) -> Html:
    return element("button", text, type="button", class_="button", id=action, disabled=disabled)
