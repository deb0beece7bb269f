"""The whole work from Python: a recipe, a run, its errors, maps of photos, and files for other programs.

Run it as `python examples/workflow.py FOLDER`, or copy its parts into the cells of a notebook, where predictions and
evaluations show their pictures. The network and its training are as small as they can be: minutes on a laptop, and maps
that show how the parts fit together, not what NeuroPBR can do.
"""

import argparse
import os
from pathlib import Path

import neuropbr_core as neuropbr
from neuropbr_core.shipped import shipped_root

CAPTURES = shipped_root() / "examples" / "captures"


def main(folder: Path) -> None:
    """Do everything once, with all results in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    # Runs and rendered data go to folders of the working directory, as they do for the command line.
    os.chdir(folder)

    # A recipe as a dictionary has the sections of a recipe file. What is not said comes from the quickstart.
    recipe = neuropbr.load_recipe(
        {
            "extends": "neuropbr:quickstart",
            "name": "tiny",
            "data": {
                "synthesize": {"samples": 16, "size": 64},
                "image_size": 64,
                "output_size": 64,
                "crop_size": 32,
                "repeats": 1,
            },
            "training": {"epochs": 2, "batch_size": 4},
        }
    )
    run = neuropbr.run(recipe, overwrite=True)

    print(neuropbr.evaluate(run))  # noqa: T201 - an example shows its results

    material = neuropbr.infer(CAPTURES / "bricks")
    print(material)  # noqa: T201
    material.write("maps")

    neuropbr.package(material, {"blender": {"metres": 1.0}, "gltf": {}}, "packages", overwrite=True)

    for file in neuropbr.export(run, "torchscript", photos=CAPTURES / "bricks", output="exports"):
        print(file.path, file.verification)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder for all results")
    main(parser.parse_args().folder)
