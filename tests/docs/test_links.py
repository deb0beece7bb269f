"""Links between the Markdown files of the repository lead to files and headings that exist; needs no network."""

import os
import re
from functools import cache
from pathlib import Path

import pytest
from assemble import TITLE, diagram_file, diagrams, repository_pages
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "docs", "examples", "models", "neuropbr_core", "plugins")
OF_OTHERS = {"docs/16-bit.md", "docs/unsupported-layers.md"}
"""Pages of another project, which are named as sources."""
MENTIONED = re.compile(r"(?<![\w/:])docs/[\w/-]+\.md\b")


def markdown_files() -> list[Path]:
    files = list(ROOT.glob("*.md"))
    for folder in FOLDERS:
        files += (ROOT / folder).rglob("*.md")
    # The site's own pages are checked when it is built: their links are those of the place that they get there.
    return sorted(path for path in files if "site" not in path.parts)


def tokens(text: str) -> list[Token]:
    """The tokens of a text, with those inside paragraphs."""
    # The slugs of headings are those that forges make.
    parser = MarkdownIt("commonmark").enable("table").use(anchors_plugin, max_level=6)
    parsed = []
    for token in parser.parse(text):
        parsed.append(token)
        parsed += token.children or []
    return parsed


@cache
def anchors(path: Path) -> set[str]:
    slugs = set()
    for token in tokens(path.read_text(encoding="utf-8")):
        if token.type == "heading_open":
            slugs.add(str(token.attrs["id"]))
    return slugs


def dead_links(path: Path, text: str) -> list[str]:
    """What is wrong with the links and pictures of a text that is stored at `path`."""
    dead = []
    for token in tokens(text):
        # Only links in Markdown are checked, so there must be no others.
        if token.type in ("html_inline", "html_block") and re.search(r"(href|src)=", token.content):
            dead.append(f"a link in HTML: {token.content}")
        target = token.attrs.get("href") or token.attrs.get("src")
        if target is None or re.match(r"https?://|mailto:", str(target)):
            continue
        file, _, anchor = str(target).partition("#")
        place = Path(os.path.normpath(path.parent / file)) if file else path
        if not place.exists():
            dead.append(f"no such file: {target}")
        elif anchor and (place.suffix != ".md" or anchor not in anchors(place)):
            dead.append(f"no such heading: {target}")
    return dead


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert dead_links(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a](docs/nowhere.md)", "no such file: docs/nowhere.md"),
        ("[a](docs/recipes.md#nowhere)", "no such heading: docs/recipes.md#nowhere"),
        ("[a](Makefile#install)", "no such heading: Makefile#install"),
        ("| a |\n| - |\n| ![a](docs/images/none.png) |", "no such file: docs/images/none.png"),
        ("a <a href='docs/recipes.md'>b</a>", "a link in HTML: <a href='docs/recipes.md'>"),
        ("[a][b]\n\n[b]: nowhere.md", "no such file: nowhere.md"),
    ],
)
def test_a_dead_link_is_noticed(text: str, problem: str) -> None:
    assert dead_links(ROOT / "README.md", text) == [problem]


def test_sound_links_are_not_reported() -> None:
    text = "[a](docs/logging.md#weights--biases) [b](#install-it) [c](examples/acme-neuropbr) `[d](nowhere.md)`\n"
    assert dead_links(ROOT / "README.md", text) == []


def test_pages_that_messages_and_comments_mention_exist() -> None:
    mentioned: dict[str, Path] = {}
    for folder in ("benchmarks", "examples", "neuropbr_core", "plugins", "recipes"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".md", ".toml"):
                for name in MENTIONED.findall(path.read_text(encoding="utf-8")):
                    mentioned[name] = path
    assert mentioned
    assert {name: path for name, path in mentioned.items() if not (ROOT / name).exists()}.keys() == OF_OTHERS


def test_diagrams_have_titles_and_pictures() -> None:
    texts = []
    for page in repository_pages():
        texts += diagrams((ROOT / page).read_text(encoding="utf-8"))
    assert texts
    assert [text for text in texts if TITLE.search(text) is None] == []
    assert [text for text in texts if not diagram_file(text).exists()] == [], "run docs/site/diagrams.py"


def test_every_page_of_the_docs_is_on_the_site() -> None:
    on_the_site = {ROOT / page for page in repository_pages()}
    pages = {path for path in (ROOT / "docs").rglob("*.md") if "site" not in path.parts}
    assert pages - on_the_site == set()


def test_the_contents_of_the_site_list_every_page() -> None:
    contents = (ROOT / "docs/site/contents.md").read_text(encoding="utf-8").splitlines()
    for page in repository_pages():
        # README is the start page, which has the contents.
        assert page == Path("README.md") or page.with_suffix("").as_posix() in contents, page
