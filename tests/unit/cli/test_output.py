"""Standard output holds the results of a command alone."""

import json
import math
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from click import HelpFormatter
from click.testing import CliRunner

from neuropbr_core.cli.output import command, help_width, result_json

NOISY = """
import os, sys, click
import neuropbr_core.cli as cli
from neuropbr_core.cli.output import command, result

@command()
def noisy():
    print("printed by a plugin")
    os.write(1, b"written by a compiled library\\n")
    os.system("echo echoed by a child process")
    result('{"ok": true}')

import types
module = types.ModuleType("nbr_noisy")
module.noisy = noisy
sys.modules["nbr_noisy"] = module
cli.root.table["list-plugins"] = cli.LazyCommand("nbr_noisy:noisy", "")
sys.argv = ["neuropbr", "list-plugins"]
cli.main()
"""


def test_whatever_prints_while_a_command_works_its_output_is_its_result() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"ok": True}
    for words in ("printed by a plugin", "written by a compiled library", "echoed by a child process"):
        assert words in done.stderr


def test_a_closed_standard_output_is_no_fault() -> None:
    script = "from neuropbr_core.cli import main; import sys; sys.argv = ['neuropbr', 'list-plugins']; main()"
    command = ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, script]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("columns", [None, "", "0", "-5", "9" * 5000, "wide", "+70", "60", "20", "300"])
def test_help_is_as_wide_as_click_has_it(columns: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert help_width() == HelpFormatter().width


def test_json_stays_json_whatever_is_in_it() -> None:
    """Characters that a terminal must not obey have other escapes in JSON than in messages."""

    @command()
    def show() -> None:
        result_json({"name": "wall\u00adpaper\x7f\u0085\U000e0067", "scores": (1.5, math.nan, math.inf)})

    done = CliRunner().invoke(show)
    assert json.loads(done.stdout) == {"name": "wall\u00adpaper\x7f\u0085\U000e0067", "scores": [1.5, None, None]}
    assert done.stdout.isascii()


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_fault(closed: str, tmp_path: Path) -> None:
    """Started so by schedulers; a warning, a bar and the first opened file must not meet in one descriptor."""
    script = """
        import os, sys, types
        import neuropbr_core.cli as cli
        from neuropbr_core.cli.output import command, result
        from neuropbr_core.reporting import reporter

        @command()
        def work():
            with open(sys.argv[-1], "w") as file:
                reporter().warning("nobody hears this")
                os.write(1, b"nor this")
                result("nor this, unless standard output is open")
                file.write("whole")

        module = types.ModuleType("nbr_work")
        module.work = work
        sys.modules["nbr_work"] = module
        cli.root.table["doctor"] = cli.LazyCommand("nbr_work:work", "")
        place = sys.argv[-1]
        sys.argv = ["neuropbr", "doctor"]
        work.callback.__globals__["sys"] = types.SimpleNamespace(argv=[place])
        cli.main()
    """
    file = tmp_path / "file"
    shell = ["sh", "-c", f'"$0" -c "$1" "$2" {closed}', sys.executable, dedent(script), str(file)]
    done = subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert file.read_text() == "whole"
    if closed == "2>&-":
        assert done.stdout == "nor this, unless standard output is open\n"
