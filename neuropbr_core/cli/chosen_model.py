"""Options that choose a model: one that ships, that of a run, or a file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from neuropbr_core.shipped import DEFAULT_MODEL, model_names, shipped_model

if TYPE_CHECKING:
    from neuropbr_core.inference import ExportedGenerator, LoadedGenerator

BEST = "best"
"""The checkpoint of a run that is taken where none is named."""

Command = TypeVar("Command", bound=Callable[..., Any])


def model_options(function: Command) -> Command:
    """Add `--run`, `--checkpoint`, `--model`, `--exporter` and `--trust`."""
    options = (
        click.option(
            "--run", "run_folder", metavar="DIR", help="Use a run's model: the run's folder, or a checkpoint's."
        ),
        click.option(
            "--checkpoint", default=BEST, show_default=True, help="Of a run: best, latest or a checkpoint's name."
        ),
        click.option(
            "--model",
            metavar="NAME|FILE",
            help="A shipped model (neuropbr list-models), an exported file, or .safetensors. [default: flash-3]",
        ),
        click.option(
            "--exporter", metavar="NAME", help="The file's exporter, where its record and its suffix do not tell."
        ),
        click.option("--trust", is_flag=True, help="Run FILE whatever is in it; see docs/security.md."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def load_chosen(
    run_folder: str | None, checkpoint: str, model: str | None, exporter: str | None, device: str, *, trust: bool
) -> "LoadedGenerator | ExportedGenerator":
    """Load the model that the options name: a run's, a file, or one that ships.

    Raises:
        click.UsageError: A checkpoint is named, and no run.
        NeuroPBRError: The model cannot be loaded.
    """
    if not run_folder and checkpoint != BEST:
        raise click.UsageError("--checkpoint belongs to --run DIR; name the run")
    from neuropbr_core.devices import choose_device
    from neuropbr_core.inference import load_exported, load_generator

    if run_folder:
        return load_generator(run_folder, checkpoint).to(choose_device(device))
    if model is not None and model not in model_names():
        path = Path(model)
        # The name of a shipped model has neither a suffix nor a folder.
        if path.suffix == ".safetensors":
            return load_generator(model).to(choose_device(device))
        if path.exists() or path.name != model or path.suffix:
            return load_exported(model, exporter, trust=trust)
    return load_generator(shipped_model(model or DEFAULT_MODEL).folder).to(choose_device(device))
