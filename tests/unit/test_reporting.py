"""Where progress bars are shown."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from types import ModuleType

import pytest

from neuropbr_core.reporting import ConsoleReporter


@pytest.mark.parametrize("notebook", [False, True])
def test_bars_are_shown_in_notebooks_and_not_in_files(
    notebook: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    bar = ConsoleReporter().bar(3, "refining")
    bar.advance()
    bar.close()
    assert ("refining" in capsys.readouterr().err) == notebook


WORK = """
import sys, time
from neuropbr_core.reporting import doing, pulse, reporter
with pulse(silence=0.3, every=0.1):
    with doing("loading the model"):
        time.sleep(0.8)
    reporter().line("loaded")
    bar = reporter().bar(2, "refining")
    time.sleep(1.5)
    bar.close()
print("done")
"""


def on_a_terminal(code: str, term: str) -> str:
    """What a program writes to a terminal."""
    main, other = pty.openpty()
    environment = {**os.environ, "TERM": term}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=other, stdout=other, stderr=other, env=environment
    ) as process:
        os.close(other)
        text = b""
        with suppress(OSError):  # which is how Linux says that nobody writes to the terminal any more
            while part := os.read(main, 65536):
                text += part
        assert process.wait() == 0
    os.close(main)
    return text.decode()


def test_a_terminal_shows_that_the_program_works() -> None:
    text = on_a_terminal(WORK, "xterm")
    said, _, bar = text.partition("loaded\r\n")
    assert "loading the model (" in said
    assert said.endswith("\r\x1b[2K"), "the line goes before the next one comes"
    # The item takes longer than a second, and the bar goes on counting its seconds.
    assert "[00:01<?" in bar
    assert "working" not in bar
    assert text.endswith("done\r\n")


def test_a_terminal_that_cannot_erase_is_left_alone() -> None:
    assert "loading the model" not in on_a_terminal(WORK, "dumb")


def test_a_file_gets_lines_only() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "loaded\n")
