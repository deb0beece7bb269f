"""`neuropbr data procedural`: materials out of nothing."""

from pathlib import Path

import click

from neuropbr_core.cli.output import OUTPUT, command, result


@command()
@click.option(
    *OUTPUT, "output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the material folders."
)
@click.option("--count", default=25, show_default=True, type=click.IntRange(1), help="Materials to write.")
@click.option(
    "--size", default=512, show_default=True, type=click.IntRange(16, 4096), help="Side of the maps in pixels."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="First seed of each kind.")
@click.option("--kinds", metavar="A,B", help="Kinds to take in turn; default: all.")
@click.option("--overwrite", is_flag=True, help="Replace files that neuropbr did not write.")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Draw a picture of the kinds (PNG).")
def procedural(
    *, output: Path | None, count: int, size: int, seed: int, kinds: str | None, overwrite: bool, sheet: Path | None
) -> None:
    """Make materials from noise: bricks, metals, woods, cloths, ….

    Each is a folder proc_KIND_SEED with albedo.png, roughness.png, metallic.png and normal.png (OpenGL) that tile.
    Kinds take turns; when each has had one, the seed grows by one. The same kind and seed always give the same
    material. With --sheet alone, nothing else is written.
    """
    if output is None and sheet is None:
        raise click.UsageError("give --output DIR for materials, --sheet FILE for a picture of them, or both")
    # Imported after the check of the usage, because drawing needs PyTorch, which takes seconds to import.
    from neuropbr_core.data.synthesis.procedural import contact_sheet, procedural_materials, write_materials
    from neuropbr_core.files import replacing
    from neuropbr_core.maps import MAPS
    from neuropbr_core.materials.procedural.catalog import KINDS
    from neuropbr_core.ownership import refuse_foreign, remember_written, remembering

    # An unknown kind is an error of `procedural_materials`, which lists the known ones.
    chosen = KINDS
    if kinds is not None:
        chosen = tuple(map(str.strip, kinds.split(",")))
    materials = procedural_materials(count, seed, chosen)
    if sheet is not None:
        refuse_foreign(sheet.parent, [sheet.name], overwrite=overwrite, option="--sheet")
    if output is not None:
        names = []
        for material in materials:
            names += [f"{material.name}/{spec.file_name}" for spec in MAPS.values()]
        refuse_foreign(output, names, overwrite=overwrite)
        # Noted however it ends: what an interrupted call wrote is replaced by the next one without being asked.
        with remembering(output, [output / name for name in names]):
            write_materials(materials, output, size)
        result(f"Wrote {len(materials)} materials into {output}")
    if sheet is not None:
        with replacing(sheet) as aside:
            contact_sheet(chosen, seed).save(aside, "PNG", optimize=True)
        remember_written(sheet.parent, [sheet])
        result(f"Drew {len(chosen)} kinds into {sheet}")
