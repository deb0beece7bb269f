"""The program itself: help, global options, errors and exit codes."""

import errno
import io
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import neuropbr_core
from neuropbr_core.cli import COMMANDS, root
from neuropbr_core.cli.faults import Session, exit_code
from neuropbr_core.cli.lazy import LazyCommand

HEAVY = ("torch", "timm", "jsonschema", "lightning", "numpy", "rich")


def program(*args: str, code: str = "", check: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run the program in a process of its own; `code` runs first."""
    script = f"{code}\nimport sys\nfrom neuropbr_core.cli import main\nsys.argv = ['neuropbr', *sys.argv[1:]]\nmain()"
    return subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, check=check)


def failing(body: str) -> str:
    """Code that makes `doctor` a command that does `body`."""
    return (
        "import click, neuropbr_core.cli as cli\nfrom neuropbr_core.errors import *\n"
        f"@click.command()\ndef failing():\n    {body}\n"
        "import types, sys\nmodule = types.ModuleType('nbr_failing'); module.failing = failing\n"
        "sys.modules['nbr_failing'] = module\n"
        "cli.root.table['doctor'] = cli.LazyCommand('nbr_failing:failing', '')\n"
    )


class TestHelp:
    def test_lists_every_command(self):
        done = CliRunner().invoke(root, ["--help"])
        assert done.exit_code == 0
        listed = [line.split()[0] for line in done.output.partition("Commands:\n")[2].splitlines()]
        assert listed == list(COMMANDS)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_line_is_the_commands_own(self, name):
        command = COMMANDS[name].load()
        assert COMMANDS[name].short_help == command.get_short_help_str(200)
        assert len(name) + len(COMMANDS[name].short_help) < 76

    @pytest.mark.parametrize("args", [("--help",), ("--version",), ("list-plugins",), ("plugin", "show", "loss/l1")])
    def test_imports_nothing_heavy(self, args):
        code = (
            f"import atexit, os, sys; atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules]))\n"
            "os.environ['NEUROPBR_DATA_HOME'] = f'{os.devnull}/home'"  # where no answer of an earlier call is kept
        )
        done = program(*args, code=code, check=True)
        assert done.stdout.splitlines()[-1] == "[]"

    def test_imports_no_command(self):
        code = (
            "import atexit, sys; atexit.register(lambda: "
            "print(sorted(m for m in sys.modules if m.startswith('neuropbr_core.cli.'))))"
        )
        done = program("--help", code=code, check=True)
        modules = [f"neuropbr_core.cli.{name}" for name in ("faults", "lazy", "output")]
        assert done.stdout.splitlines()[-1] == str(modules)

    def test_version(self):
        assert CliRunner().invoke(root, ["--version"]).output == f"neuropbr {neuropbr_core.__version__}\n"

    def test_unknown_command_gets_a_suggestion(self):
        done = CliRunner().invoke(root, ["list-plugin"])
        assert done.exit_code == 2
        assert "There is no command 'list-plugin'. Did you mean 'list-plugins'? Commands: run, infer," in done.output

    def test_targets_name_commands(self):
        for command in COMMANDS.values():
            module, _, attribute = command.target.partition(":")
            assert isinstance(getattr(import_module(module), attribute), click.Command)

    def test_places_of_files_are_spelled_alike(self):
        spellings = []

        def walk(command):
            for parameter in command.params:
                if {"--output", "--out", "-o"} & set(parameter.opts):
                    spellings.append(parameter.opts)
            if isinstance(command, click.Group):
                context = click.Context(command)
                for name in command.list_commands(context):
                    walk(command.get_command(context, name))

        walk(root)
        assert len(spellings) >= 10
        assert all(spelling == ["-o", "--output", "--out"] for spelling in spellings)


class TestBlock:
    def test_reaches_the_command(self, declare):
        declare("acme", "neuropbr.encoders", "tiny = nbr_tiny")
        done = CliRunner().invoke(root, ["--block", "acme:tiny", "plugin", "show", "encoder/tiny"])
        assert "encoder/tiny of acme 1.0 is blocked by 'acme:tiny' in --block" in str(done.exception)

    def test_ends_with_the_command(self, declare):
        declare("acme", "neuropbr.encoders", "tiny = nbr_tiny")
        CliRunner().invoke(root, ["--block", "tiny", "list-plugins"])
        assert "blocked" not in CliRunner().invoke(root, ["list-plugins"]).output

    def test_that_matches_nothing_warns(self):
        done = CliRunner().invoke(root, ["--block", "no-such", "list-plugins"])
        assert done.exit_code == 0
        assert done.stderr == "warning: 'no-such' in --block matches no installed component\n"


class TestErrors:
    def test_of_the_user_are_one_message(self):
        done = program("doctor", code=failing("raise DataError('x.png: not an image')"))
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: x.png: not an image\n")

    def test_show_the_traceback_with_debug(self):
        done = program("--debug", "doctor", code=failing("raise DataError('x.png: not an image')"))
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback (most recent call last):")
        assert done.stderr.endswith("error: x.png: not an image\n")

    def test_of_the_program_ask_for_a_report(self):
        done = program("doctor", code=failing("raise ZeroDivisionError('oh')"))
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback (most recent call last):")
        assert (
            f"error: ZeroDivisionError: oh\nThis is a fault in neuropbr {neuropbr_core.__version__} or in a plugin. "
            "Please report it to the authors together with the traceback above.\n"
        ) in done.stderr

    def test_of_the_machine_are_one_message(self, capsys):
        def full_disk() -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a")

        assert exit_code(Session(), full_disk) == 1
        assert capsys.readouterr().err == (
            "error: runs/a: no space left on device; free space on that disk, or name a place on another one\n"
        )

    @pytest.mark.parametrize(
        "number",
        [errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES, errno.EMFILE, errno.ENOENT, errno.EPROTO],
    )
    def test_of_the_operating_system_are_one_line(self, number, capsys):
        def fails() -> None:
            raise OSError(number, os.strerror(number), "a\x1b[2Jb")

        assert exit_code(Session(), fails) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: a\\x1b[2Jb: ")
        assert said.count("\n") == 1

    def test_of_threads_that_cannot_start(self, capsys):
        def fails() -> None:
            raise RuntimeError("can't start new thread")

        assert exit_code(Session(), fails) == 1
        assert "allows no more threads" in capsys.readouterr().err

    def test_of_a_file_in_the_way_of_a_folder_are_one_message(self, capsys, tmp_path):
        (tmp_path / "maps").touch()
        assert exit_code(Session(), (tmp_path / "maps").mkdir) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {tmp_path / 'maps'}: file exists; something is there already")

    def test_of_usage_exit_with_2(self):
        done = program("list-plugins", "--no-such")
        assert done.returncode == 2
        assert "No such option" in done.stderr

    @pytest.mark.parametrize(
        "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")]
    )
    def test_memory_that_ran_out_is_no_fault_of_the_program(self, error, capsys):
        import torch  # noqa: F401 - then it is torch that knows how its devices say it

        def starved():
            raise error

        assert exit_code(Session(), starved) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: out of memory (")
        assert said.endswith("or compute with --device cpu\n")
        assert "Traceback" not in said

    def test_a_command_chooses_its_exit_code(self):
        assert program("doctor", code=failing("click.get_current_context().exit(7)")).returncode == 7

    def test_ctrl_c_exits_with_130(self):
        # A shell's background job, as tests may be, ignores Ctrl-C and so would this process: listen to it again.
        listen = "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        done = program("doctor", code=failing(f"{listen}; os.kill(os.getpid(), {int(signal.SIGINT)})"))
        assert done.returncode == 130
        assert "Traceback" not in done.stderr

    def test_an_ended_input_exits_with_1(self):
        done = program("doctor", code=failing("raise EOFError"))
        assert (done.returncode, done.stderr.strip()) == (1, "")

    @pytest.mark.parametrize("body", ["[click.echo('x' * 999) for _ in range(999)]", "print('x' * 999999)"])
    def test_a_closed_pipe_is_quiet(self, body):
        script = f"{failing(body)}\nsys.argv = ['neuropbr', 'doctor']\ncli.main()"
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 1

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
    @pytest.mark.parametrize("body", ["print('x')", "[click.echo('x' * 999) for _ in range(999)]"])
    def test_a_full_disk_behind_standard_output_is_said_once(self, body):
        script = f"{failing(body)}\nsys.argv = ['neuropbr', 'doctor']\ncli.main()"
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "error: no space left on device; free space on that disk, or name a place on another one"
        ]

    def test_a_pipe_that_closes_at_the_last_flush_is_quiet(self, monkeypatch, tmp_path):
        class Closed(io.StringIO):
            def flush(self) -> None:
                raise BrokenPipeError

            def fileno(self) -> int:
                return target.fileno()

        with (tmp_path / "out").open("w") as target:
            monkeypatch.setattr(sys, "stdout", Closed())
            assert exit_code(Session(), lambda: None) == 1


def test_a_lazy_command_loads_its_target():
    assert LazyCommand("neuropbr_core.cli:root", "").load() is root
