"""Render the example captures again: `python examples/make_captures.py`.

Each capture in `examples/captures/` is what a user would bring: three flash photos of one material as JPEG files. The
materials are two of `examples/materials/` (CC0-1.0) that no shipped model was trained on.
"""

import tempfile
from pathlib import Path

from PIL import Image

from neuropbr_core.data.layout.paths import read_cameras, write_cameras
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.shipped import shipped_root

CAPTURES = {"bricks": "acg_Bricks102", "metal_plates": "acg_MetalPlates006"}
SIZE = 384
SEED = 5


def main() -> None:
    """Render all materials once and keep the photos of two."""
    materials = shipped_root() / "examples" / "materials"
    names = sorted(path.name for path in materials.iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        synthesize(Synthesize(str(materials), samples=len(names), view_size=SIZE, seed=SEED), root)
        cameras = read_cameras(root / "input" / "cameras.json")
        for capture, material in CAPTURES.items():
            # Sample i shows the material at place i.
            sample = f"sample_{names.index(material):04d}"
            folder = shipped_root() / "examples" / "captures" / capture
            folder.mkdir(parents=True, exist_ok=True)
            for view in sorted((root / "input" / "clean" / sample).glob("*.png")):
                with Image.open(view) as image:
                    # Phones write about this quality. Colours keep their resolution, so that small photos stay sharp.
                    image.save(folder / f"{view.stem}.jpg", quality=95, subsampling=0)
            write_cameras(folder / "cameras.json", {capture: cameras[sample]})


if __name__ == "__main__":
    main()
