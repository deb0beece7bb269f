"""Put a run's model into `models/`: `python models/ship.py RUN NAME [--checkpoint NAME]`.

Copies weights and architecture, and writes the model's scores on the example captures into `scores.json`; a test holds
the shipped weights to them. The card, `MODEL_CARD.md`, and the list of materials with their licences, `materials.json`,
are written by hand, the list first: it must name all that the run was trained on.
"""

from dataclasses import replace
from pathlib import Path

import click
import torch
from safetensors.torch import load_file

from neuropbr_core.contracts import Maps
from neuropbr_core.data.images import read_map
from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.files import write_json
from neuropbr_core.inference import load_generator, read_views
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.procedural.naming import is_procedural
from neuropbr_core.model.weights import save_model
from neuropbr_core.runs.trained_on import trained_on
from neuropbr_core.shipped import MATERIALS, shipped_root, trained_materials

CAPTURES = {"bricks": "acg_Bricks102", "metal_plates": "acg_MetalPlates006"}
"""Material of each example capture; no shipped model is trained on either."""
SCORES = ("albedo/psnr", "roughness/mae", "metallic/mae", "normal/angle")


def captured_scores(model: Path) -> dict[str, dict[str, float]]:
    """Errors of a model on the example captures, by capture and metric.

    Args:
        model: Folder of the model.
    """
    examples = shipped_root() / "examples"
    loaded = load_generator(model)
    scores: dict[str, dict[str, float]] = {}
    for capture, material in CAPTURES.items():
        maps = loaded.predict(read_views(examples / "captures" / capture))
        truth: Maps = {}
        for name, spec in MAPS.items():
            stored = read_map(examples / "materials" / material / f"{name}.png", spec, loaded.spec.output_size)
            truth[name] = decode_map(spec, torch.from_numpy(stored)[None])
        errors = measure(maps, truth, torch.ones_like(truth["roughness"]))
        scores[capture] = {metric: round(float(errors[metric]), 4) for metric in SCORES}
    return scores


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument("name")
@click.option("--checkpoint", default="best", show_default=True, help="best, latest or a checkpoint's name.")
@click.option(
    "--flash/--no-flash", default=None, help="Whether its photos had a flash; needed when its record does not tell."
)
def main(run: Path, name: str, checkpoint: str, flash: bool | None) -> None:
    """Put the model of RUN into models/NAME."""
    folder = shipped_root() / "models" / name
    loaded = load_generator(run, checkpoint)
    # Captures that were rendered before training leave no record in the recipe; `infer` warns by this fact.
    if loaded.spec.flash is None and flash is None:
        raise click.UsageError(
            "the model's record does not tell whether its photos had a flash; give --flash or --no-flash"
        )
    spec = loaded.spec
    if spec.flash is None:
        spec = replace(spec, flash=flash)
    if not (folder / MATERIALS).is_file():
        raise click.UsageError(f"write {folder / MATERIALS} first: the materials that the model was trained on")
    listed = trained_materials(folder)
    unlisted = []
    for material in trained_on(loaded.checkpoint).materials:
        if material not in listed and not is_procedural(material):
            unlisted.append(material)
    if unlisted:
        raise click.UsageError(f"{folder / MATERIALS} does not list all that the model saw: {', '.join(unlisted)}")
    save_model(loaded.generator, spec, folder)
    scores = captured_scores(folder)
    write_json(folder / "scores.json", scores)
    size = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    click.echo(f"{folder}: {size:,} values of {loaded.checkpoint}; now write {folder / 'MODEL_CARD.md'}")
    for capture, row in scores.items():
        click.echo(f"  {capture}: {row}")


if __name__ == "__main__":
    main()
