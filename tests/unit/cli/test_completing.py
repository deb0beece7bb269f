"""What the Tab key completes."""

import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest


def completions(*words: str) -> list[str]:
    """What the shell zsh would be offered for the last of these words."""
    line = ["neuropbr", *words]
    environment = {
        **os.environ,
        "_NEUROPBR_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    code = "import sys; from neuropbr_core.cli import main; sys.argv = ['neuropbr']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return [item.replace("\\:", ":") for item in done.stdout.split("\n")[1::3]]  # zsh escapes the colon


@pytest.mark.parametrize(
    ("words", "item"),
    [
        (("ru",), "run"),
        (("run", "neuropbr:quick"), "neuropbr:quickstart"),
        (("recipe", "check", "quick"), "neuropbr:quickstart"),
        (("plugin", "show", "loss/ss"), "loss/ssim"),
        (("export", "--to", "onnx,pt"), "onnx,pt2"),
        (("infer", "--outp"), "--output"),
        (("package", "maps", "--for", "plain,gl"), "plain,gltf"),
    ],
)
def test_completes(words: tuple[str, ...], item: str) -> None:
    assert item in completions(*words)


LINES = {
    "neuropbr recipe check quickstart_": "neuropbr recipe check neuropbr:quickstart_student",
    "neuropbr run mi": "neuropbr run mine.yaml",
    "neuropbr plugin show loss/ss": "neuropbr plugin show loss/ssim",
    "neuropbr export --to onnx,pt": "neuropbr export --to onnx,pt2",
    "neuropbr infer --outp": "neuropbr infer --output",
}
"""Beginnings of lines, and what the Tab key makes of them."""


def of_shell(shell: str, folder: Path) -> dict[str, str]:
    """The environment of a shell that finds the program; skips the test where one of them is not installed."""
    scripts = Path(sys.executable).parent
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    if not (scripts / "neuropbr").is_file():
        pytest.skip("the script neuropbr is not installed beside Python")
    (folder / "mine.yaml").touch()
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(folder), "TERM": "dumb", "PS1": "$ ", "PROMPT": "$ "}


def test_fish_completes(tmp_path: Path) -> None:
    environment = of_shell("fish", tmp_path)
    script = "_NEUROPBR_COMPLETE=fish_source neuropbr | source\n"
    for line in LINES:
        script += f"complete -C '{line}'; echo ====\n"
    script += "complete -C 'neuropbr recip'\n"
    done = subprocess.run(
        ["fish", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    *offers, described = done.stdout.split("====\n")
    for offer, (line, whole) in zip(offers, LINES.items(), strict=True):
        words = [row.partition("\t")[0] for row in offer.splitlines()]
        assert whole.rpartition(" ")[2] in words, line
    assert described == "recipe\tCheck, show and compare recipes.\n"


START = {
    "bash": (
        ["bash", "--norc", "-i"],
        'COMP_WORDBREAKS=${COMP_WORDBREAKS//:}; eval "$(_NEUROPBR_COMPLETE=bash_source neuropbr)"',
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit; compinit -u -D; eval "$(_NEUROPBR_COMPLETE=zsh_source neuropbr)"',
    ),
}


@pytest.mark.parametrize("shell", START)
def test_an_interactive_shell_completes(shell: str, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    environment = of_shell(shell, tmp_path)
    words, start = START[shell]
    # A shell completes for a terminal alone.
    terminal, side = pty.openpty()
    process = subprocess.Popen(
        words, env=environment, cwd=tmp_path, stdin=side, stdout=side, stderr=side, start_new_session=True
    )
    os.close(side)

    def answer(keys: str, pattern: str) -> str:
        os.write(terminal, keys.encode())
        shown = ""
        end = time.monotonic() + 60
        while time.monotonic() < end and re.search(pattern, shown) is None:
            if select.select([terminal], [], [], 0.2)[0]:
                # A terminal moves the cursor back to write over what is there; here the text counts.
                shown += os.read(terminal, 65536).decode(errors="replace")
        return shown

    try:
        answer(f'{start}; PS1="$ "; echo rea""dy\n', "ready\r")
        for line, whole in LINES.items():
            ending = re.escape(whole.rpartition(" ")[2])
            # Ctrl-U removes what an earlier line left.
            assert re.search(ending, answer(f"\x15{line}\t", ending)), line
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
