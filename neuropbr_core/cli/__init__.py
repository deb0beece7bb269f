"""The command line: `neuropbr COMMAND`.

A command's module is imported when the command is called, so that `--help` and a listing start fast. Exit codes: 0
done, 1 an error (said in one message on stderr), 2 wrong usage, 130 interrupted.
"""

import os
import sys
from typing import NoReturn

import click

from neuropbr_core import __version__
from neuropbr_core.cli.faults import Session, contain_threads, exit_code
from neuropbr_core.cli.lazy import LazyCommand, LazyGroup
from neuropbr_core.cli.output import help_width, keep_descriptor_for_results, open_closed_streams, result
from neuropbr_core.reporting import pulse

# Short helps are repeated here, so that `neuropbr --help` imports no command.
COMMANDS = {
    "run": LazyCommand("neuropbr_core.cli.run:run", "Train, evaluate and export what RECIPE says."),
    "infer": LazyCommand("neuropbr_core.cli.infer:infer", "Predict the PBR maps of photos or renders."),
    "batch": LazyCommand("neuropbr_core.cli.batch:batch", "Predict the PBR maps of many captures."),
    "app": LazyCommand("neuropbr_core.cli.app:app", "Make materials in the browser."),
    "package": LazyCommand("neuropbr_core.cli.package:package", "Package maps for other programs."),
    "export": LazyCommand("neuropbr_core.cli.export:export", "Export a model for deployment targets."),
    "verify": LazyCommand("neuropbr_core.cli.verify:verify", "Compare an exported FILE with its model, map by map."),
    "evaluate": LazyCommand("neuropbr_core.cli.evaluate:evaluate", "Score a model's maps beside the baselines."),
    "bench": LazyCommand("neuropbr_core.cli.bench:bench", "Score models and maps of other tools by one protocol."),
    "compare": LazyCommand("neuropbr_core.cli.compare:compare", "Compare the errors of runs, beside the baselines."),
    "sweep": LazyCommand("neuropbr_core.cli.sweep:sweep", "Run RECIPE with every combination of values."),
    "report": LazyCommand("neuropbr_core.cli.report:report", "Show runs and maps on one HTML page."),
    "distill": LazyCommand("neuropbr_core.cli.distill:distill", "Prepare what students learn from."),
    "recipe": LazyCommand("neuropbr_core.cli.recipe:recipe", "Check, show and compare recipes.", keeps_answers=True),
    "data": LazyCommand("neuropbr_core.cli.data:data", "Render, import and check datasets."),
    "list-models": LazyCommand("neuropbr_core.cli.list_models:list_models", "List the models that ship with neuropbr."),
    "list-plugins": LazyCommand(
        "neuropbr_core.cli.list_plugins:list_plugins", "List the installed components.", keeps_answers=True
    ),
    "doctor": LazyCommand("neuropbr_core.cli.doctor:doctor", "Look for what is wrong with this environment."),
    "plugin": LazyCommand("neuropbr_core.cli.plugin:plugin", "Describe, check and begin components."),
}


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="neuropbr %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--block",
    metavar="NAME",
    multiple=True,
    help="Keep a component out: NAME, KIND/NAME or DISTRIBUTION:NAME; may be repeated. Adds to NEUROPBR_BLOCK_PLUGINS.",
)
@click.option(
    "--plugin",
    "plugins",
    metavar="FILE",
    multiple=True,
    help="Load the component of a Python FILE, without installing it; may be repeated.",
)
@click.pass_context
def root(context: click.Context, debug: bool, block: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Turn a few photos of a flat material into PBR texture maps, and train the networks that do it."""
    session = context.ensure_object(Session)
    session.debug = debug
    if not block and not plugins:
        return
    # Imported only for these options: importing the registry takes longer than showing a help text.
    from pathlib import Path

    from neuropbr_core.registry import Registry, set_default_registry

    registry = Registry(block)
    for plugin in plugins:
        registry.add_file(Path(plugin))
    for idle in registry.idle_blocks():
        click.echo(f"warning: {idle} matches no installed component", err=True)
    # The registry of the process, because recipes and checkpoints look their components up in that one.
    set_default_registry(registry)
    session.registry = registry
    # Tests call several commands in one process, and a block must not outlive its command.
    context.call_on_close(lambda: set_default_registry(None))


def main() -> NoReturn:
    """Entry point of the `neuropbr` script."""
    # First of all: what a library prints while it is imported must not get into the results either.
    open_closed_streams()
    keep_descriptor_for_results()
    session = Session()
    contain_threads(session)
    if "_NEUROPBR_COMPLETE" in os.environ:
        import neuropbr_core.cli.completing  # noqa: F401 - click looks the shells' scripts up among those it was told of

    def work() -> object:
        words = sys.argv[1:]
        if words and words[0] in root.table and root.table[words[0]].keeps_answers:
            from neuropbr_core.cli.answers import Question

            session.question = Question(words)
            answer = session.question.answer()
            if answer is not None:
                result(answer)
                return 0
        # Within the faults' report, so that nothing is left on the screen when an error is shown.
        with pulse():
            # Without click's standalone mode, which would end the process before its own faults are reported.
            return root.main(prog_name="neuropbr", obj=session, standalone_mode=False, terminal_width=help_width())

    code = exit_code(session, work)
    sys.exit(code)
