"""Generators with weights that a few steps of training have shaped, and real views to look at.

Untrained weights amplify rounding, so that exports are judged on trained ones.
"""

from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.data.images import read_map
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import identity_frame, view_directions, warp_views
from neuropbr_core.materials.capture import render_capture
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.model import Generator, ModelSpec, build_generator
from neuropbr_core.recipe.sections import ModelSection
from neuropbr_core.registry import Chosen, default_registry
from neuropbr_core.shipped import resolve

Options = dict[str, Any]


def model_spec(
    encoder: Options, fusion: Options, section: Options, *, size: int, views: int = 3, aligned: bool = False
) -> ModelSpec:
    """The spec of a small model; `encoder` and `fusion` have a `use`, as in a recipe."""
    model = msgspec.convert(section, ModelSection)
    output = size * (model.decoder.super_resolution or 1)
    alignment = "recorded" if aligned else "none"
    parts = (_component("encoder", encoder), _component("fusion", fusion))
    return ModelSpec(*parts, model, views, size, size, output, alignment)


def _component(kind: str, written: Options) -> Chosen:
    options = {key: value for key, value in written.items() if key != "use"}
    use = written["use"]
    return default_registry().choose(kind, use, options)


def real_sample(spec: ModelSpec, material: str, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs as the generator takes them, from a rendered capture of a shipped material, and its true maps."""
    folder = resolve("neuropbr:examples/materials") / material
    maps = {
        name: decode_map(m, torch.from_numpy(read_map(folder / m.file_name, m, spec.output_size))[None])
        for name, m in MAPS.items()
    }
    capture = render_capture(maps, spec.views, spec.image_size, torch.Generator().manual_seed(seed))
    views, frame = capture.views[None].float() / 255, identity_frame(1)
    inputs = {"views": views}
    if spec.aligned:
        homographies = torch.stack([camera.homography for camera in capture.cameras])[None]
        inputs["views"], inputs["visible"] = warp_views(views, homographies, frame, spec.image_size)
    if spec.section.directed:
        positions = torch.stack([camera.position for camera in capture.cameras])[None]
        inputs["directions"] = view_directions(positions, frame, spec.image_size)
    return inputs, maps


def lightly_trained(spec: ModelSpec, steps: int = 30, seed: int = 0) -> Generator:
    """Build a generator and fit it to two captures; in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = build_generator(spec).train()
        samples = [real_sample(spec, material, seed) for material in ("acg_Bricks102", "acg_Metal053C")]
        optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-3)
        for step in range(steps):
            inputs, truth = samples[step % len(samples)]
            predicted = generator(**inputs).maps
            optimizer.zero_grad()
            torch.stack([F.l1_loss(predicted[name], value) for name, value in truth.items()]).sum().backward()
            optimizer.step()
    return generator.eval()
