"""Draws the Mermaid diagrams of the pages as pictures, which the site shows.

    npm pack mermaid@12.3.0 && tar xf mermaid-12.3.0.tgz
    python docs/site/diagrams.py package/dist/mermaid.min.js

It needs Chromium. Forges draw the diagrams themselves; the site has pictures, because the library has 5 MB.
"""

import json
import sys
import tempfile
from pathlib import Path

from assemble import DIAGRAMS, ROOT, diagram_file, diagrams, repository_pages

sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import browser

SETTINGS = {
    "startOnLoad": False,
    "theme": "neutral",
    # Text of the picture itself: HTML within a picture is not drawn by every program.
    "htmlLabels": False,
    "flowchart": {"htmlLabels": False, "useMaxWidth": False},
    # Fonts that have equal widths, so that labels fit on every machine.
    "fontFamily": "Arial, Helvetica, Liberation Sans, sans-serif",
    "deterministicIds": True,
}


def draw(library: Path) -> list[Path]:
    """Draw every diagram, and remove pictures that no page shows."""
    texts = []
    for page in repository_pages():
        texts += diagrams((ROOT / page).read_text(encoding="utf-8"))
    drawn = []
    with tempfile.TemporaryDirectory() as work:
        page = Path(work, "page.html")
        page.write_text(f"<meta charset='utf-8'><script src='{library.resolve().as_uri()}'></script>", encoding="utf-8")
        with browser(Path(work, "profile")) as tab:
            tab.open(page)
            tab.value(f"mermaid.initialize({json.dumps(SETTINGS)})")
            for text in texts:
                svg = tab.value(f"mermaid.render('diagram', {json.dumps(text)}).then(result => result.svg)")
                diagram_file(text).write_text(svg + "\n", encoding="utf-8")
                drawn.append(diagram_file(text))
    for path in DIAGRAMS.glob("*.svg"):
        if path not in drawn:
            path.unlink()
    return drawn


if __name__ == "__main__":
    DIAGRAMS.mkdir(exist_ok=True)
    for path in draw(Path(sys.argv[1])):
        print(f"wrote {path}")
