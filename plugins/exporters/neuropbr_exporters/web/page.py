"""The page: the model, ONNX Runtime, the programs that connect them, and what people read.

Everything is in one file, because browsers load nothing else beside a page that was opened as a file. What is large is
in data blocks, script elements that no browser runs: gzip in base64.
"""

import base64
import gzip
import html
import re
import zlib
from pathlib import Path

from torch import Tensor

from neuropbr_core.contracts import ExportSpec
from neuropbr_core.errors import ExportError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import nominal_cameras
from neuropbr_core.viewer.html import Html, data_script, element, inline_program, join
from neuropbr_core.viewer.markup import style, viewer, viewer_data, viewer_programs
from neuropbr_exporters.files import damaged
from neuropbr_exporters.web.runtime import PACKAGE, VERSION, Runtime

_ASSETS = Path(__file__).resolve().parent / "assets"
_GENERATOR = "neuropbr export --to web"
_MODEL = "neuropbr-model"
_PROGRAMS = ("prepare.js", "photos.js", "archive.js", "app.js")
_BLOCK = "application/octet-stream"
_FACTS = ("run", "recipe", "checkpoint", "weights", "changes", "neuropbr")
"""Entries of the metadata that a page shows."""
LARGEST_MODEL = 256 * 2**20
"""Bytes of a model in a page. Browsers hold no text of more than about 512 MiB, and base64 takes a third more."""


def write_page(model: bytes, spec: ExportSpec, runtime: Runtime) -> str:
    """Write the page.

    Args:
        model: The ONNX file.
        spec: What was exported.
        runtime: The files of ONNX Runtime.

    Returns:
        The page as text.

    Raises:
        ExportError: The model is too large for a page.
    """
    if len(model) > LARGEST_MODEL:
        raise ExportError(
            f"web: the model has {len(model) / 2**20:.0f} MiB, and a page holds at most {LARGEST_MODEL / 2**20:.0f}: "
            f"browsers hold no longer texts; export a smaller model, such as a student"
        )
    programs: list[Html] = []
    hashes: list[str] = []
    for text in (*viewer_programs(), *_assets(*_PROGRAMS)):
        program, source = inline_program(text)
        programs.append(program)
        hashes.append(source)
    # `blob:` is how a program starts a worker, and the worker its module; only the page's own programs make such
    # addresses. WebAssembly needs a word of its own. Nothing may connect to anywhere.
    policy = (
        f"default-src 'none'; img-src blob: data:; style-src 'unsafe-inline'; worker-src blob:; "
        f"script-src {' '.join(hashes)} 'wasm-unsafe-eval' blob:; form-action 'none'; base-uri 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=_GENERATOR),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", "Photos to material maps · NeuroPBR"),
        style(),
        element("style", Html((_ASSETS / "app.css").read_text(encoding="utf-8"))),
    )
    worker = "\n".join((runtime.loader, *_assets("prepare.js", "worker.js")))
    blocks = join(
        _block(_MODEL, model),
        _block("neuropbr-wasm", runtime.wasm),
        _block("neuropbr-module", runtime.module.encode()),
        _block("neuropbr-program", worker.encode()),
    )
    content = (_header(spec), _main(spec), _footer(spec.metadata))
    body = element("body", *content, blocks, data_script("neuropbr-facts", _facts(spec)), viewer_data(), *programs)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def read_model(path: Path) -> bytes:
    """Take the ONNX file out of a page.

    Args:
        path: The page; no program of it is run.

    Raises:
        ExportError: It is no page of this exporter, or damaged.
    """
    try:
        page = path.read_bytes()
        if f'<meta name="generator" content="{_GENERATOR}">'.encode() not in page[:4096]:
            raise ExportError(f"{path}: is no page that the web exporter wrote; export the model again")
        blocks = re.findall(rb'<script type="%s" id="%s">([^<]*)</script>' % (_BLOCK.encode(), _MODEL.encode()), page)
        if len(blocks) != 1:
            raise ExportError(f"{path}: holds {len(blocks)} models instead of one; export the model again")
        # A page of a stranger could unpack to more than the memory holds.
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        model = unpacker.decompress(base64.b64decode(blocks[0], validate=True), LARGEST_MODEL)
        if not unpacker.eof:
            raise ExportError(f"{path}: its model is cut off, or larger than a page holds; export the model again")
    except (OSError, ValueError, zlib.error) as error:
        raise damaged(path, "a page of the web exporter", error) from error
    return model


def _assets(*names: str) -> list[str]:
    return [(_ASSETS / name).read_text(encoding="utf-8") for name in names]


def _block(name: str, content: bytes) -> Html:
    """A data block. The time in gzip's header is left out, so that the same model gives the same page."""
    packed = base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")
    return Html(f'<script type="{_BLOCK}" id="{html.escape(name)}">{packed}</script>')


def _facts(spec: ExportSpec) -> dict[str, object]:
    """What the page's programs need to know of the model."""
    views = _views(spec)
    size = views.shape[-1]
    maps = {}
    for name in spec.outputs:
        low, high = MAPS[name].value_range
        maps[name] = {"low": low, "high": high, "file": MAPS[name].file_name}
    return {
        "views": views.shape[1],
        "size": size,
        "photoSize": spec.photo_size or size,
        "aligned": spec.aligned,
        "inputs": list(spec.inputs),
        "outputs": list(spec.outputs),
        "maps": maps,
        "nominalPositions": [camera.position.tolist() for camera in nominal_cameras(views.shape[1])],
    }


def _views(spec: ExportSpec) -> Tensor:
    return spec.inputs["views"]


def _header(spec: ExportSpec) -> Html:
    size = _views(spec).shape[-1]
    facts = [("photos", str(_views(spec).shape[1])), ("input", f"{size} × {size}")]
    for name in ("run", "recipe"):
        if spec.metadata.get(name):
            facts.append((name, spec.metadata[name]))
    chips = [element("li", element("b", name), f" {value}") for name, value in facts]
    text = (
        "Everything happens on this device: the model is part of this page, which needs no network and sends nothing "
        "anywhere."
    )
    return element(
        "header",
        element("p", "NeuroPBR"),
        element("h1", "Photos to material maps"),
        element("p", text),
        element("ul", join(*chips), class_="chips"),
    )


def _main(spec: ExportSpec) -> Html:
    views = _views(spec).shape[1]
    photos = f"{views} photos"
    lines = [f"Take {photos} of one flat material, the first from straight above and the others from different sides."]
    if views == 1:
        photos = "one photo"
        lines = ["Take one photo of a flat material, from straight above."]
    if spec.flash is True:
        lines.append("Use the phone's flash, in a room that is not too bright: the model was trained on such photos.")
    elif spec.flash is False:
        lines.append("Use no flash: the model was trained on photos without one.")
    accepted = "image/*"
    if spec.aligned:
        accepted = "image/*,.json"
        lines.append(
            "Then mark the same square piece of the material in each photo: drag the corners 1 to 4 to the same four "
            "points, clockwise from the top left. Photos that are cut to the same square already need no marks. A "
            "cameras.json of the photos can be dropped too."
        )
    drop = element(
        "label",
        element("b", f"Drop {photos} here, or choose files"),
        element("span", "JPEG, PNG, WebP, and what else this browser opens"),
        element("input", type="file", multiple=True, accept=accepted),
        id="drop",
    )
    actions = element(
        "div",
        element("button", "Predict maps", type="button", class_="button", id="predict", disabled=True),
        element("p", id="hint", aria_live="polite"),
        element("p", id="status", role="status"),
        id="actions",
    )
    save = [element("button", "Save all maps (zip)", type="button", class_="button", id="save-all")]
    if spec.aligned:
        save.append(
            element(
                "button",
                "Save cameras.json",
                type="button",
                class_="button",
                id="save-cameras",
                title="For `neuropbr infer`: put it beside the photos, in a folder named `photos`.",
            )
        )
    result_actions = [element("div", join(*save), class_="row")]
    if spec.aligned:
        result_actions.append(element("p", id="cameras-hint", aria_live="polite"))
    pictures = element(
        "section",
        element(
            "div",
            element("h4", "Maps"),
            element("div", class_="pictures", id="set-maps"),
            data_version="maps",
        ),
        element(
            "div", element("h4", "Photos, as the model saw them"), element("div", class_="pictures", id="set-views")
        ),
        id="set",
        class_="set",
        aria_label="Predicted maps",
    )
    results = element(
        "section",
        element("h2", "Material"),
        *result_actions,
        element("div", viewer(), element("div", pictures, class_="sets"), class_="workbench"),
        id="results",
        hidden=True,
    )
    return element(
        "main",
        element("noscript", element("p", "This page needs JavaScript: it runs the model.", class_="warning")),
        element("p", " ".join(lines)),
        drop,
        element("div", id="problems", role="alert"),
        element("ol", id="photos", aria_label="Photos"),
        actions,
        results,
    )


def _footer(metadata: dict[str, str]) -> Html:
    rows: list[Html] = []
    for name in _FACTS:
        if metadata.get(name):
            rows.append(element("tr", element("th", name, scope="row"), element("td", metadata[name])))
    licence = (_ASSETS / "ONNXRUNTIME_LICENSE").read_text(encoding="utf-8")
    details: list[Html] = []
    if rows:
        table = element("table", element("tbody", join(*rows)), class_="facts")
        details.append(element("details", element("summary", "The model"), element("div", table)))
    notices = element("div", element("p", f"{PACKAGE} {VERSION}:"), element("pre", licence, tabindex=0))
    details.append(element("details", element("summary", "Licences"), notices))
    text = (
        f"Written by neuropbr {metadata.get('neuropbr', '')}. The model runs in ONNX Runtime, and the preview is drawn "
        f"by three.js (both MIT licence)."
    )
    return element("footer", join(*details), element("p", text))
