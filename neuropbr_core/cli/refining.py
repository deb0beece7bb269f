"""The option `--refine`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from neuropbr_core.errors import DataError
from neuropbr_core.shipped import DEFAULT_MODEL

if TYPE_CHECKING:
    from neuropbr_core.inference import ExportedGenerator, LoadedGenerator

Command = TypeVar("Command", bound=Callable[..., Any])


class _Steps(click.IntRange):
    """The optional number behind `--refine`, which takes the folder of the photos when it comes before it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.BadParameter(
                f"{error.message} Write the photos before --refine, or give the steps: --refine=200.", ctx, param
            ) from None


def refine_option_with(text: str) -> "Callable[[Command], Command]":
    """The option, with a help text."""
    return click.option(
        "--refine",
        "refine_steps",
        type=_Steps(0, 10000),
        is_flag=False,
        flag_value=200,
        metavar="[STEPS]",
        help=text,
    )


refine_option = refine_option_with(
    "Fit the maps to photos with a flash; 0 leaves them as predicted.  [default: 200 with a model that ships]"
)
scored_refine_option = refine_option_with(
    "Score maps that were fitted to the photos, as `neuropbr infer` does by default with a model that ships; 200 steps "
    "where no number is given.  [default: 0, maps as predicted]"
)


def chosen_steps(
    steps: int | None,
    model: "LoadedGenerator | ExportedGenerator",
    resolution: int | None,
    max_memory: int | None,
) -> int:
    """Number of steps that `--refine` asks for, or the usual one where it is not given.

    Args:
        steps: The option's value.
        model: The model.
        resolution: Side of the network's input in pixels, where it was given.
        max_memory: Bytes that tiles may take, where they were given.

    Raises:
        UsageError: The maps are too large to be refined.
        DataError: The model takes views as they are, so that it is not known which texel a pixel shows.
    """
    from neuropbr_core.inference.effort import REFINED_SIDE, usual_steps

    if steps is None:
        return usual_steps(model, resolution, max_memory)
    if steps and resolution and resolution > REFINED_SIDE:
        raise click.UsageError(f"--refine holds all maps at once; give --resolution up to {REFINED_SIDE} with it")
    if steps and not model.needs_cameras:
        raise DataError(
            f"{model.origin}: was trained on views as they are, so that it is not known which texel a pixel shows; "
            f"--refine needs a model that was trained on aligned views, such as --model {DEFAULT_MODEL}"
        )
    return steps
