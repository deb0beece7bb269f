"""Contents of a report -> one HTML page that needs nothing else.

Python writes everything that can be read: pictures with alternative texts, tables, records. The programs in `assets/`
add the preview, the wipe and the curves. A content security policy lets the page run its own programs alone, which it
names by their hashes, and forbids every request.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from neuropbr_core import __version__
from neuropbr_core.evaluation.groups import GROUP_METRICS
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.relight import heldout_relightings, relight
from neuropbr_core.report.contents import Facts, Report, RunContent, Showcase, Version
from neuropbr_core.report.pictures import colour_picture, exact_picture, map_pictures, shrunk_maps, small_picture
from neuropbr_core.report.tables import comparison_table, score_tables, score_tiles
from neuropbr_core.report.writing import GENERATOR
from neuropbr_core.viewer.html import Html, data_script, element, inline_program, join
from neuropbr_core.viewer.markup import style, viewer, viewer_data, viewer_programs
from neuropbr_core.viewer.studio import render_ball

_ROOM = Path(__file__).resolve().parent
_PROGRAMS = ("curves.js", "start.js")
MAP_SIDE = 1024
"""Largest side of maps on a page, in pixels: a page with one material of this size has about 5 MB."""
_RELIGHTING = 2
"""Lamp and eye of pictures under a lamp: seen from above, with a lamp 38° from the vertical, which shows relief."""
_BALL_SIDE = 240
_STRIDE = 2
"""Pixels of the ball of which its thumbnail keeps one; thumbnails are about 100 pixels wide."""

_CHARTS = (
    ("loss", ("train loss/total", "validation loss")),
    *((name.replace("/", " "), (f"train {name}", f"validation {name}")) for name in GROUP_METRICS),
    ("learning rate", ("train lr",)),
)
"""Charts that every report begins with, as far as a run has their curves."""


def write_page(report: Report, *, map_side: int = MAP_SIDE) -> str:
    """Write a report's page.

    Args:
        report: What it shows.
        map_side: Largest side of maps in pixels.

    Returns:
        The page as text.
    """
    programs: list[Html] = []
    hashes: list[str] = []
    texts = viewer_programs()
    for name in _PROGRAMS:
        texts.append((_ROOM / "assets" / name).read_text(encoding="utf-8"))
    for text in texts:
        program, source = inline_program(text)
        programs.append(program)
        hashes.append(source)
    head = page_head(report.title, key=report.key, scripts=hashes)
    footer = (
        f"Written by neuropbr {__version__}. The page is one file, opens offline and sends nothing. "
        "The preview is drawn by three.js (MIT licence)."
    )
    parts = [_header(report), _main(report, map_side), element("footer", footer), _data(report)]
    body = element("body", *parts, *programs)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def showcase_part(showcase: Showcase, *, map_side: int = MAP_SIDE) -> Html:
    """The preview, the comparison and the pictures of a material, with the data of their programs, for other pages.

    Args:
        showcase: The material.
        map_side: Largest side of maps in pixels.

    Returns:
        A part of a page. The viewer's programs bring it to life: `new Page()`, once it is in the document.
    """
    showcases = (showcase,)
    return join(_showcases(showcases, map_side), _data(Report(showcase.name, showcases)))


def page_head(title: str, *, key: str = "", scripts: Sequence[str] = ()) -> Html:
    """The head of a page: its style, and the policy that forbids requests and programs of others.

    Args:
        title: The page's title.
        key: As for `contents.Report`.
        scripts: The programs that may run, as a content security policy names them.
    """
    programs = " ".join(scripts) or "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {programs}"
    return element(
        "head",
        element("meta", charset="utf-8"),
        # Near the beginning, where `writing` looks for them.
        element("meta", name="generator", content=GENERATOR),
        element("meta", name="neuropbr-key", content=key),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title} · NeuroPBR"),
        style(),
    )


def _header(report: Report) -> Html:
    chips: list[Html] = []
    # Facts of one among several would look like facts of all.
    facts: Facts = ()
    if len(report.runs) == 1:
        facts = report.runs[0].facts
    elif len(report.showcases) == 1:
        facts = report.showcases[0].facts
    for name, value in facts:
        chips.append(element("li", element("b", name), f" {value}"))
    parts = [element("p", "NeuroPBR report"), element("h1", report.title)]
    if chips:
        parts.append(element("ul", join(*chips), class_="chips"))
    for run in report.runs:
        for note in run.notes:
            parts.append(element("p", f"{_owner(report, run)}{note}", class_="warning"))
    return element("header", join(*parts))


def _main(report: Report, map_side: int) -> Html:
    parts: list[Html] = []
    if report.showcases:
        parts.append(_showcases(report.showcases, map_side))
    records = {run.name: run.record for run in report.runs if run.record is not None}
    if records:
        parts.append(element("h2", "Scores"))
        # What a reader wants to know first is open; the rest opens on demand.
        if len(records) > 1:
            parts.append(comparison_table(records))
        for name, record in records.items():
            size = f"{record.samples} held-back samples of {len(record.materials)} materials"
            if len(records) == 1:
                parts.append(score_tiles(record))
                parts.append(element("p", f"Means over {size}.", class_="note"))
                parts.append(_details("All errors beside those of the baselines", score_tables(record)))
            else:
                parts.append(_details(f"{name}: scores beside baselines ({size})", score_tables(record)))
    for run in report.runs:
        for name, record in run.evaluations.items():
            size = f"{record.samples} samples of {len(record.materials)} materials"
            parts.append(_details(f"{_owner(report, run)}evaluation {name} ({size})", score_tables(record)))
    if any(run.curves for run in report.runs):
        parts.append(_curves(report.runs))
    if report.runs:
        parts.append(element("h2", "How it was made"))
    for run in report.runs:
        owner = _owner(report, run)
        if run.provenance:
            parts.append(_details(f"{owner}provenance", _facts_table(run.provenance)))
        if run.exports:
            parts.append(_details(f"{owner}exports", _facts_table(run.exports)))
        if run.recipe:
            parts.append(_details(f"{owner}recipe", element("pre", run.recipe, tabindex=0)))
    return element("main", join(*parts))


def _owner(report: Report, run: RunContent) -> str:
    """The beginning of a title that tells whose it is, where there are several runs."""
    if len(report.runs) == 1:
        return ""
    return f"{run.name}: "


def _details(summary: str, content: Html) -> Html:
    return element("details", element("summary", summary), element("div", content))


def _facts_table(facts: Facts) -> Html:
    rows = []
    for name, value in facts:
        rows.append(element("tr", element("th", name, scope="row"), element("td", value)))
    return element("table", element("tbody", join(*rows)), class_="facts")


def _showcases(showcases: tuple[Showcase, ...], map_side: int) -> Html:
    tabs: list[Html] = []
    sets: list[Html] = []
    for index, showcase in enumerate(showcases):
        name = f"set-{index}"
        ball = render_ball(showcase.versions[0].maps, _BALL_SIDE)
        picture = small_picture(colour_picture(ball))
        thumbnail = small_picture(colour_picture(ball[:, ::_STRIDE, ::_STRIDE]))
        label = element("b", showcase.name, title=showcase.name)
        note = None
        if showcase.note:
            note = element("small", showcase.note, title=showcase.note)
        button = element("button", element("img", src=thumbnail, alt=""), label, note, type="button", data_shows=name)
        tabs.append(button)
        sets.append(_set(name, showcase, picture, map_side))
    # One material needs no choice.
    navigation = element("nav", join(*tabs), class_="tabs needs-program", aria_label="Materials")
    workbench = element("div", viewer(), element("div", join(*sets), class_="sets"), class_="workbench")
    return join(navigation if len(showcases) > 1 else None, workbench)


def _set(name: str, showcase: Showcase, ball: str, map_side: int) -> Html:
    heading: list[Html] = [element("h3", showcase.name)]
    if showcase.note:
        heading.append(element("span", showcase.note, class_="note"))
    parts = [
        element("div", join(*heading), class_="heading"),
        element("img", src=ball, alt=f"{showcase.name}, rendered on a ball", class_="poster"),
    ]
    if showcase.views:
        figures: list[Html] = []
        for index, view in enumerate(showcase.views):
            label = f"photo {index + 1}"
            alt = f"{label} of {showcase.name}, as the model saw it"
            picture = small_picture(colour_picture(view), map_side)
            figures.append(_figure(f"{name}-photo-{index}", picture, alt, label, group="photos", kind="photo"))
        parts.append(_group("Photos", figures))
    for index, version in enumerate(showcase.versions):
        parts.append(_version(f"{name}-{index}", showcase.name, version, map_side))
    if showcase.extras:
        figures = []
        for index, (label, extra) in enumerate(showcase.extras.items()):
            alt = f"{label} of {showcase.name}"
            figures.append(
                _figure(f"{name}-extra-{index}", small_picture(extra, map_side), alt, label, group="more", kind="extra")
            )
        parts.append(_group("More", figures))
    return element("section", join(*parts), id=name, class_="set", aria_label=showcase.name)


def _version(name: str, material: str, version: Version, map_side: int) -> Html:
    figures: list[Html] = []
    shrunk = shrunk_maps(version.maps, map_side)
    pictures = map_pictures(shrunk, map_side)
    for map_name, stored in pictures.items():
        alt = f"{map_name} of {material}, {version.name}"
        picture = exact_picture(stored)
        figure = _figure(
            f"{name}-{map_name}", picture, alt, map_name, group=version.name, kind="map", map_name=map_name
        )
        figures.append(figure)
    # A material that lacks a map cannot be lit as its author meant it.
    if len(pictures) == len(MAPS):
        lit = relight(shrunk, heldout_relightings()[_RELIGHTING])[0]
        alt = f"{material} under a lamp, {version.name}"
        picture = small_picture(colour_picture(linear_to_srgb(lit)))
        figures.append(_figure(f"{name}-lit", picture, alt, "under a lamp", group=version.name, kind="lit"))
    maps = _group(version.name.capitalize(), figures, version=version.name)
    if not version.errors:
        return maps
    figures = []
    for map_name, error in version.errors.items():
        group = f"error of {version.name}"
        alt = f"{map_name} of {material}, {group}: dark where it is small, bright where it is large"
        picture = small_picture(error, map_side)
        figures.append(
            _figure(f"{name}-{map_name}-error", picture, alt, map_name, group=group, kind="error", map_name=map_name)
        )
    return join(maps, _group(f"Error of {version.name}", figures))


def _group(title: str, figures: Iterable[Html], version: str | None = None) -> Html:
    pictures = element("div", join(*figures), class_="pictures")
    return element("div", element("h4", title), pictures, data_version=version)


def _figure(
    name: str, picture: str, alt: str, label: str, *, group: str, kind: str, map_name: str | None = None
) -> Html:
    return element(
        "figure",
        element("img", src=picture, alt=alt, loading="lazy"),
        element("figcaption", label),
        id=name,
        data_group=group,
        data_label=label,
        data_kind=kind,
        data_map=map_name,
    )


def _curves(runs: tuple[RunContent, ...]) -> Html:
    legend: list[Html] = []
    if len(runs) > 1:
        for index, run in enumerate(runs):
            mark = element("i", class_=f"colour-{index % 6}")
            legend.append(element("li", mark, run.name))
    choice = element("label", "Any metric: ", element("select", aria_label="Metric"))
    return element(
        "section",
        element("h2", "Curves"),
        element("ul", join(*legend), class_="legend") if legend else None,
        element("div", class_="charts"),
        element("p", choice),
        element("div", class_="any"),
        id="curves",
    )


def _data(report: Report) -> Html:
    """The data of the page's programs."""
    parts: list[Html] = []
    if report.showcases:
        parts.append(viewer_data())
    runs: list[Mapping[str, object]] = []
    for run in report.runs:
        if run.curves:
            runs.append({"name": run.name, "curves": {name: curve._asdict() for name, curve in run.curves.items()}})
    if runs:
        charts = []
        for title, curves in _CHARTS:
            charts.append({"title": title, "curves": list(curves)})
        parts.append(data_script("curve-data", {"runs": runs, "charts": charts}))
    return join(*parts)
