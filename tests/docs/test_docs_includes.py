"""Files shown in the docs are the files themselves: behind each `<!-- include: PATH -->` stands PATH."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml"}
INCLUDE = re.compile(r"<!-- include: (?P<path>\S+) -->\n(?:\n```\w*\n(?P<text>.*?)\n```\n)?", re.DOTALL)


def expand(text: str) -> str:
    """Put each included file behind its marker."""

    def block(match: re.Match[str]) -> str:
        path = ROOT / match["path"]
        content = path.read_text(encoding="utf-8").rstrip("\n")
        return f"<!-- include: {match['path']} -->\n\n```{LANGUAGES[path.suffix]}\n{content}\n```\n"

    return INCLUDE.sub(block, text)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_included_files_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == expand(text), f"{page}: run `python tests/docs/test_docs_includes.py`"


def test_an_outdated_include_is_noticed() -> None:
    stale = "<!-- include: examples/acme-neuropbr/recipe.yaml -->\n\n```yaml\nold: true\n```\n"
    assert expand(stale) != stale
    assert expand(expand(stale)) == expand(stale)


if __name__ == "__main__":
    for page in (ROOT / "docs").rglob("*.md"):
        page.write_text(expand(page.read_text(encoding="utf-8")), encoding="utf-8")
