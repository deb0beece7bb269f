"""The table of a batch as a page: a line for each capture, with its material on a ball."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from neuropbr_core.report.page import page_head
from neuropbr_core.report.writing import write_report
from neuropbr_core.viewer.html import Html, element, join

_HEADS = ("", "capture", "photos", "sharpness", "confidence", "tiling", "seconds", "remarks")


@dataclass(frozen=True)
class CaptureLine:
    """One capture in the table.

    Attributes:
        name: Its name, which is also the path of its folder beside the page.
        state: `done` or `failed`.
        picture: Its material on a ball, as a JPEG file; None without.
        cells: Photos, sharpness, confidence, tiling and seconds, as text.
        remarks: What makes its maps doubtful, or why it failed.
    """

    name: str
    state: str
    picture: bytes | None
    cells: tuple[str, str, str, str, str]
    remarks: tuple[str, ...] = ()


def write_batch_page(path: Path, title: str, lines: Sequence[CaptureLine], facts: Mapping[str, str]) -> None:
    """Write the page; it replaces an earlier one.

    Args:
        path: The file; the captures' folders are beside it.
        title: Heading of the page.
        lines: The captures.
        facts: What made the maps.

    Raises:
        OSError: It could not be written; `path` is as it was.
    """
    failed = sum(line.state == "failed" for line in lines)
    counts = f"{len(lines)} capture"
    if len(lines) != 1:
        counts += "s"
    if failed:
        counts += f", {failed} failed"
    chips = [element("li", counts)]
    for name, value in facts.items():
        chips.append(element("li", element("b", name), f" {value}"))
    header = element(
        "header",
        element("p", "NeuroPBR batch"),
        element("h1", title),
        element("ul", join(*chips), class_="chips"),
    )
    head = element("thead", element("tr", *(element("th", text, scope="col") for text in _HEADS)))
    body = element("tbody", join(*(_row(line) for line in lines)))
    table = element("table", head, body, class_="batch")
    scroll = element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Captures")
    page = element("html", page_head(title), element("body", header, element("main", scroll)), lang="en")
    write_report(path, f"<!doctype html>\n{page}\n")


def _row(line: CaptureLine) -> Html:
    picture = None
    name = element("th", line.name, scope="row", title=line.name)
    if line.picture is not None:
        source = f"data:image/jpeg;base64,{base64.b64encode(line.picture).decode('ascii')}"
        picture = element("img", src=source, alt=f"{line.name} on a ball", loading="lazy")
        # Quoted, because a name may hold characters that mean something in addresses.
        link = element("a", line.name, href=f"{quote(line.name, errors='surrogateescape')}/")
        name = element("th", link, scope="row", title=line.name)
    remarks: list[Html] = []
    for remark in line.remarks:
        remarks.append(element("div", remark))
    cells = []
    for text in line.cells:
        cells.append(element("td", text))
    last = element("td", join(*remarks), class_="remarks")
    return element("tr", element("td", picture), name, *cells, last, class_=line.state)
