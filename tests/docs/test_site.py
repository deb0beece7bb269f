"""The documentation as a site: built without a warning, complete, without dead links, and good without a network."""

import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
from browser import Tab, browser, installed_browser

import neuropbr_core
from neuropbr_core import contracts, errors
from neuropbr_core.cli import root
from neuropbr_core.kinds import KINDS
from neuropbr_core.recipe.schema import core_sections
from neuropbr_core.registry import Registry

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow
in_browser = pytest.mark.skipif(installed_browser() is None, reason="needs Chromium: apt install chromium, or similar")


class Page(HTMLParser):
    """What a page of the site offers and asks for.

    Attributes:
        ids: Names that links can lead to.
        links: Where its links lead.
        parts: Files that a browser loads with it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.parts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.add(str(values["id"]))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.parts.append(str(values["href"]))
        elif values.get("src"):
            self.parts.append(str(values["src"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "docs/site/assemble.py", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"the documentation is in {folder / 'index.html'}\n"
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    dead = []
    checked = 0
    for path, page in pages.items():
        for target in page.links:
            if target.startswith(("http://", "https://")):
                continue
            checked += 1
            file, _, anchor = unquote(target).partition("#")
            place = Path(os.path.normpath(path.parent / file)) if file else path
            if not place.is_file():
                dead.append(f"{path.relative_to(site)}: no such file: {target}")
            elif anchor and anchor not in pages[place].ids:
                dead.append(f"{path.relative_to(site)}: no such place: {target}")
    assert dead == []
    assert checked > 1000


def test_pages_consist_of_files_of_the_site(site: Path, pages: dict[Path, Page]) -> None:
    missing = []
    for path, page in pages.items():
        for part in page.parts:
            if not (path.parent / unquote(part.partition("?")[0])).is_file():
                missing.append(f"{path.relative_to(site)}: {part}")
    assert missing == []


def test_the_python_api_is_there(site: Path, pages: dict[Path, Page]) -> None:
    workflow = pages[site / "api" / "workflow.html"].ids
    public = set(neuropbr_core.__all__) - {"__version__"}
    assert {name for name in public if f"neuropbr_core.{name}" not in workflow} == set()
    for module in (contracts, errors):
        short = module.__name__.rpartition(".")[2]
        ids = pages[site / "api" / f"{short}.html"].ids
        defined = set()
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) == module.__name__ and not name.startswith("_"):
                defined.add(f"{module.__name__}.{name}")
        assert defined
        assert defined - ids == set()
    suites = pages[site / "api" / "testing.html"].ids
    for kind in KINDS:
        assert f"neuropbr_core.testing.{kind}.{kind.capitalize()}Suite" in suites


def test_the_reference_is_whole(site: Path, pages: dict[Path, Page]) -> None:
    def names(command: click.Command, path: str) -> Iterator[str]:
        yield path
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                inner = command.get_command(click.Context(command), name)
                assert inner is not None
                yield from names(inner, f"{path}-{name}")

    assert set(names(root, "neuropbr")) - pages[site / "reference" / "commands.html"].ids == set()
    assert set(core_sections()) - pages[site / "reference" / "recipes.html"].ids == set()
    components = set()
    for entry in Registry().entries():
        if entry.distribution == "neuropbr":
            components.add(f"{entry.kind}-{entry.name}")
    assert components - pages[site / "reference" / "components.html"].ids == set()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def outside(tab: Tab, site: Path) -> list[str]:
    """What a page asked for that is not of the site."""
    return [address for address in tab.requests if not address.startswith(site.as_uri())]


@in_browser
@pytest.mark.parametrize("name", ["index", "docs/recipes", "ARCHITECTURE", "reference/commands", "api/workflow"])
def test_pages_are_shown_without_errors_and_requests(tab: Tab, site: Path, name: str) -> None:
    tab.problems.clear()
    tab.requests.clear()
    tab.open(site / f"{name}.html")
    assert tab.problems == []
    assert outside(tab, site) == []
    assert tab.value("[...document.images].filter(image => image.complete && !image.naturalWidth).length") == 0
    # On a phone nothing is wider than the page; wide tables and code have scroll bars of their own.
    tab.open(site / f"{name}.html", width=400, height=800, mobile=True)
    assert tab.value("document.documentElement.scrollWidth") <= 400


@in_browser
def test_the_search_works_from_a_disk(tab: Tab, site: Path) -> None:
    tab.problems.clear()
    tab.requests.clear()
    tab.call("Page.navigate", url=(site / "search.html").as_uri() + "?q=homography")
    tab.wait_for("document.querySelectorAll('#search-results li a').length > 2")
    links = tab.value("[...document.querySelectorAll('#search-results li a')].map(link => link.href)")
    assert any("alignment" in link for link in links)
    assert tab.problems == []
    assert outside(tab, site) == []
