"""What the Tab key completes."""

import os
import subprocess
import sys

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
    ],
)
def test_completes(words: tuple[str, ...], item: str) -> None:
    assert item in completions(*words)
