"""Builds the documentation as a site that opens offline.

    python docs/site/assemble.py FOLDER

The pages of the repository keep their places, so that their links to each other work on a forge and on the site. Pages
about commands, keys of recipes and components are made from the program itself, as are the pages of the Python API.
Every warning of Sphinx is an error, and FOLDER appears only when the whole site is built.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import reference
from markdown_it import MarkdownIt
from sphinx.cmd.build import main as sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DIAGRAMS = HERE / "diagrams"
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/RESULTS.md",
    "examples/materials/LICENSES.md",
    "models/*/MODEL_CARD.md",
    "docs/*.md",
    "docs/plugins/*.md",
)
LANGUAGES = {".py": "python", ".sbatch": "bash", ".toml": "toml", ".yaml": "yaml"}
MERMAID = re.compile(r"^```mermaid\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r"^\s*accTitle: (?P<title>.+)$", re.MULTILINE)


def repository_pages() -> list[Path]:
    """The Markdown pages of the site that are files of the repository, relative to it."""
    pages: list[Path] = []
    for pattern in PAGES:
        pages += sorted(path.relative_to(ROOT) for path in ROOT.glob(pattern))
    return pages


def diagram_file(text: str) -> Path:
    """The picture of a Mermaid diagram; its name changes with the text, so that an outdated picture is never shown."""
    return DIAGRAMS / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.svg"


def diagrams(text: str) -> list[str]:
    """The Mermaid diagrams of a page."""
    return [match["text"] for match in MERMAID.finditer(text)]


def link_targets(text: str) -> Iterator[str]:
    """Where the links of a page lead, in order."""
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        for token in block.children or ():
            if token.type == "link_open":
                yield str(token.attrs["href"])


def arrange(source: Path) -> None:
    """Write everything that Sphinx reads into a folder."""
    pages = repository_pages()
    shown: set[Path] = set()
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        text = _with_pictures(text, page)
        text, files = _with_shown_files(text, page, pages)
        shown |= files
        if page == Path("README.md"):
            # The start page of the site; its tables of contents are hidden, and the sidebar shows them.
            _write(source / "index.md", text + (HERE / "contents.md").read_text(encoding="utf-8"))
        else:
            _write(source / page, text)
    for path in shown:
        _write(source / _page_of(path), _shown(path))
    shutil.copytree(ROOT / "docs" / "images", source / "docs" / "images")
    shutil.copytree(DIAGRAMS, source / "docs" / "diagrams")
    shutil.copytree(HERE / "pages", source, dirs_exist_ok=True)
    _append(source / "reference" / "commands.md", reference.commands())
    _append(source / "reference" / "recipes.md", reference.sections())
    _append(source / "reference" / "components.md", reference.components())
    schema = json.dumps(reference.schema(), indent=2, ensure_ascii=False)
    _write(source / "reference" / "recipe.schema.json", schema + "\n")
    for name, text in reference.materials_pages().items():
        _write(source / "api" / "materials" / f"{name}.rst", text)


def build(folder: Path) -> int:
    """Build the site into a folder, which is replaced when everything went well.

    Returns:
        The exit status of Sphinx: 0 when there was no warning.

    Raises:
        SystemExit: The folder is there and holds no site.
    """
    # Sphinx writes this file into every site, so that a folder without it holds something else.
    if folder.exists() and not (folder / ".buildinfo").is_file():
        raise SystemExit(f"{folder}: is there and is no site; name a new folder, or move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, because the finished site is moved, which works within one file system only.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        source = Path(work, "source")
        arrange(source)
        site = Path(work, "site")
        options = ["-b", "html", "-c", str(HERE), "-d", str(Path(work, "doctrees"))]
        status = sphinx([*options, "--fail-on-warning", "--keep-going", "--quiet", str(source), str(site)])
        if status == 0:
            shutil.rmtree(folder, ignore_errors=True)
            site.rename(folder)
    return status


def _with_pictures(text: str, page: Path) -> str:
    """Put pictures in the place of Mermaid diagrams: drawing them in the reader's browser takes 5 MB of JavaScript."""

    def picture(match: re.Match[str]) -> str:
        title = TITLE.search(match["text"])
        file = diagram_file(match["text"])
        if title is None or not file.exists():
            problem = "has no line `accTitle: …`" if title is None else f"has no picture {file.name}"
            raise SystemExit(f"{page}: a Mermaid diagram {problem}; see docs/site/diagrams.py")
        up = "../" * (len(page.parts) - 1)
        return f"```{{image}} {up}docs/diagrams/{file.name}\n:alt: {title['title']}\n:class: diagram\n```"

    return MERMAID.sub(picture, text)


def _with_shown_files(text: str, page: Path, pages: list[Path]) -> tuple[str, set[Path]]:
    """Let links to files and folders of the repository lead to pages that show them.

    Returns:
        The text, and the files and folders, relative to the repository.
    """
    shown = set()
    for target in set(link_targets(text)):
        if target.startswith(("#", "http:", "https:")):
            continue
        # What leads nowhere stays as it is: Sphinx reports it, with its line.
        path = Path(os.path.normpath(page.parent / target.partition("#")[0]))
        if path == Path("README.md"):
            text = text.replace(f"]({target})", f"]({target.replace('README.md', 'index.md')})")
        elif path not in pages and ((ROOT / path).is_dir() or path.suffix in LANGUAGES) and (ROOT / path).exists():
            shown.add(path)
            there = os.path.relpath(_page_of(path), page.parent)
            text = text.replace(f"]({target})", f"]({there})")
    return text, shown


def _page_of(path: Path) -> Path:
    """The page that shows a file or a folder."""
    if (ROOT / path).is_dir():
        return path / "index.md"
    return path.with_name(path.name + ".md")


def _shown(path: Path) -> str:
    """A page with a file, or with the files of a folder."""
    files = [ROOT / path]
    if (ROOT / path).is_dir():
        files = sorted(file for file in (ROOT / path).rglob("*") if file.suffix in LANGUAGES)
    parts = ["---\norphan: true\n---", f"# `{path}`"]
    for file in files:
        if len(files) > 1:
            parts.append(f"## `{file.relative_to(ROOT / path)}`")
        content = file.read_text(encoding="utf-8").rstrip("\n")
        # Four backticks, since a file may contain three.
        parts.append(f"````{LANGUAGES[file.suffix]}\n{content}\n````")
    return "\n\n".join(parts) + "\n"


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the documentation as a site.")
    parser.add_argument("folder", type=Path, help="the site's folder, which is replaced")
    chosen = parser.parse_args().folder
    failed = build(chosen)
    if not failed:
        print(f"the documentation is in {chosen / 'index.html'}")
    sys.exit(failed)
