"""Standard output holds the results of a command alone."""

import json
import subprocess
import sys

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
