"""Sphinx's settings for the site; `assemble.py` arranges the pages that Sphinx reads."""

import re
from typing import Any

from docutils import nodes

from neuropbr_core import __version__

project = "NeuroPBR"
author = "The NeuroPBR authors"
copyright = "The NeuroPBR authors, Apache-2.0"  # noqa: A001 - Sphinx's name for it
release = __version__
root_doc = "index"
# What has no language is output, drawings and plain commands.
highlight_language = "text"
# Quotes and dashes are meant as they are written: `--option` must not get a long dash.
smartquotes = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

# The slugs that forges make, so that links between the pages work in both places.
myst_heading_anchors = 4

# Every reference must lead somewhere, but for types of projects that are not on this site: asking their sites for
# addresses needs the network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|np|nn|jaxtyping|collections|pathlib|typing|msgspec|pluggy|_pytest)\..*"),
    ("py:class", r"Path|Tensor|ndarray|Registry|Data|.*\.T|'.*'"),
    # Rooms that nobody outside imports: signatures name their classes, and the site does not describe them.
    ("py:class", r"neuropbr_core\.(data|evaluation|exporting|model|outputs|recipe|registry)\..*"),
    # Docstrings write code of every kind between single backticks: names of this site become links, the rest stays.
    ("py:obj", ".*"),
]
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
# Longer signatures show one parameter on each line.
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# As lists: napoleon's own form of attributes repeats what the signatures of dataclasses show.
napoleon_custom_sections = [("Attributes", "params_style"), "Source"]

html_theme = "furo"
html_title = f"NeuroPBR {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
# Summaries of results are read with `fetch`, which browsers refuse to pages that are opened from a disk.
html_show_search_summary = False
html_copy_source = False
copybutton_prompt_text = "$ "

RANGES = re.compile(r"""~?typing\.Annotated\[(.*?), msgspec\.Meta\((?:[^()'"]|'[^']*'|"[^"]*")*\)\]""")
"""Types of options with their ranges and descriptions, which the reference of recipes and components has."""


def mark_drawings(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Mark indented blocks of docstrings as literal text, whose lines are not joined."""
    marked: list[str] = []
    outside = True
    for line in lines:
        # Google's sections are indented too, but there is no empty line between their title and their text.
        if line.startswith("    ") and outside and marked and not marked[-1]:
            marked += ["::", ""]
        if line:
            outside = not line.startswith(" ")
        # napoleon would take the words before a colon in the text of `Returns:` for the type, which the signature has.
        marked.append(":returns:" if line == "Returns:" else line)
    # Of an attribute's docstring too, but only on the first line: an empty comment of reStructuredText.
    if what in ("attribute", "data", "property"):
        marked[:0] = ["..", ""]
    lines[:] = marked


def skip_fields(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what Python writes about the fields of named tuples; the class describes them."""
    if type(obj).__name__ == "_tuplegetter":
        return True
    return None


def shorten_signature(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Shorten signatures to what a caller needs."""
    # Every module of PyTorch has these parameters, and contracts do not use them.
    if signature == "(*args: Any, **kwargs: Any)":
        return "", result
    if signature is None:
        return None, result
    # Python shows a default that a factory makes as `<factory>`, which is no Python.
    return RANGES.sub(r"\1", signature).replace("<factory>", "..."), result


def tidy(app: Any, doctree: nodes.document) -> None:
    """Write real dashes between names and descriptions, and leave out that a class is an object."""
    for text in list(doctree.findall(nodes.Text)):
        # The separator of a parameter is a text of its own; that of an attribute begins the attribute's description.
        if text.startswith(" -- "):
            text.parent.replace(text, nodes.Text(text.replace(" -- ", " – ", 1)))
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)


def setup(app: Any) -> None:
    """Register the hooks."""
    # Before napoleon, which rewrites the sections.
    app.connect("autodoc-process-docstring", mark_drawings, priority=400)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("doctree-read", tidy)
