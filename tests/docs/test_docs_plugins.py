"""The pages about plugins: the tutorial works as it is written, and every hook and contract is described."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import contract_pages
import pytest

from neuropbr_core import contracts
from neuropbr_core.kinds import KINDS

ROOT = Path(__file__).parents[2]
PAGES = sorted(contract_pages.PAGES.glob("*.md"))
_BLOCK = re.compile(r"(?:as `(?P<file>[\w.]+)`[^`]*?)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def tutorial() -> str:
    _, text = (ROOT / "docs/plugins.md").read_text(encoding="utf-8").split("## A first plugin\n")
    return text.partition("\n## ")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_made_from_contracts_is_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == contract_pages.expand(text), f"{page}: run `python tests/support/contract_pages.py`"
    # A table with an empty cell describes nothing.
    assert not re.search(r"^\| `\w+` \|  \|$", text, re.MULTILINE), page


def test_every_hook_and_contract_is_described() -> None:
    pages = {page.stem: page.read_text(encoding="utf-8") for page in PAGES}
    for kind in KINDS.values():
        page = pages[kind.name]
        assert f"<!-- hooks: {kind.name} -->" in page
        assert f"`{kind.group}`" in page
        contract = kind.contract.partition(":")[2]
        assert f"<!-- methods: {contract} -->" in page
        if kind.many and kind.entry_options.__name__ != "NoEntryOptions":
            assert f"<!-- keys: {kind.name} -->" in page
        for heading in ("## What it receives", "## What it must do", "## What it must not do"):
            assert heading in page or kind.name == "dataset", (kind.name, heading)
    everything = "".join(pages.values())
    for name, thing in vars(contracts).items():
        if not inspect.isclass(thing) or thing.__module__ != contracts.__name__:
            continue
        if contract_pages.field_names(name):
            assert f"<!-- fields: {name} -->" in everything, name
        if contract_pages.own_functions(thing):
            assert f"<!-- methods: {name} -->" in everything, name


def test_a_first_plugin_is_short() -> None:
    source = next(match["text"] for match in _BLOCK.finditer(tutorial()) if match["language"] == "python")
    assert len([line for line in source.splitlines() if line.strip()]) <= 12


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ["PATH"]])}
    ran = []
    for match in _BLOCK.finditer(tutorial()):
        if match["language"] != "console":
            assert match["file"], f"no name for the file: {match['text'][:60]}"
            (tmp_path / match["file"]).write_text(match["text"], encoding="utf-8")
            continue
        for line in match["text"].splitlines():
            command = line.removeprefix("$ ").split()
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            ran.append(command[-1])
    assert ran == ["loss/roughness", "first", "wavelet"]
    assert '"loss/roughness/roughness"' in (tmp_path / "runs/first/metrics.jsonl").read_text(encoding="utf-8")
