"""`neuropbr package`: maps as packages that other programs open."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from neuropbr_core.cli.completing import ComponentNames
from neuropbr_core.cli.entries import named_entries, option_option, spelled
from neuropbr_core.cli.output import OUTPUT, command, result

if TYPE_CHECKING:
    from neuropbr_core.outputs import Material, Target

Command = TypeVar("Command", bound=Callable[..., Any])


def target_options(*, required: bool, named: bool = True) -> Callable[[Command], Command]:
    """Add the options that choose targets: `--for`, `--option`, `--tileable` and, for one material, `--name`."""

    def add(function: Command) -> Command:
        options = [
            click.option(
                "--for",
                "targets",
                required=required,
                metavar="NAME[,NAME…]",
                type=ComponentNames("packager"),
                help="Packages to write: `neuropbr list-plugins --kind packager` lists them.",
            ),
            option_option("packager"),
            click.option("--tileable", is_flag=True, help="Cut the maps so that they tile, unless they do already."),
        ]
        if named:
            words = "Name of the material; default: that of the input's folder."
            options.append(click.option("--name", metavar="NAME", help=words))
        for option in reversed(options):
            function = option(function)
        return function

    return add


def chosen_targets(targets: str | None, options: Sequence[str]) -> "list[Target]":
    """The targets that the command line names; none when it names none.

    Raises:
        click.UsageError: Options are given without targets.
        NeuroPBRError: A target or an option is wrong.
    """
    from neuropbr_core.outputs import choose_targets

    if targets is None:
        if options:
            raise click.UsageError("--option belongs to a package; name one with --for NAME")
        return []
    return choose_targets(named_entries("packager", "--for", targets, spelled(options)))


def write_targets(material: "Material", targets: "Sequence[Target]", folder: Path, *, overwrite: bool) -> None:
    """Write packages, and print how visible the seams are and where the packages are."""
    from neuropbr_core.outputs import write_packages

    verdict = "does not tile"
    if material.seams.tiles:
        verdict = "tiles"
    if material.tiling == "cut":
        verdict += ", after it was cut"
    result(f"seam score {material.seams.worst:.2f}: the material {verdict}")
    for path in write_packages(material, targets, folder, overwrite=overwrite):
        result(f"wrote {path}")


@command()
@click.argument("maps", metavar="MAPS")
@target_options(required=True)
@click.option(*OUTPUT, "output_folder", required=True, metavar="DIR", help="Folder for the packages.")
@click.option("--overwrite", is_flag=True, help="Replace packages with all that was added to them.")
def package(
    *,
    maps: str,
    targets: str,
    options: tuple[str, ...],
    tileable: bool,
    name: str | None,
    output_folder: str,
    overwrite: bool,
) -> None:
    """Package maps for other programs.

    MAPS is a folder with albedo.png, roughness.png, metallic.png and normal.png, as `neuropbr infer` writes them. Each
    package becomes a folder of its own in DIR, with a manifest.json; it is complete or absent. Height, occlusion,
    cavity and edge are derived from the normals.

    Every packager takes the options depth (8, 16 or exr), normals (opengl or directx), size (pixels) and metres (side
    of the texture); `neuropbr plugin show packager/NAME` lists its own.
    """
    from neuropbr_core.outputs import check_places, read_material

    # Targets and places before maps, because reading and deriving maps takes time.
    chosen = chosen_targets(targets, options)
    check_places(chosen, output_folder, overwrite=overwrite)
    material = read_material(maps, name)
    if tileable:
        material = material.tileable()
    write_targets(material, chosen, Path(output_folder), overwrite=overwrite)
