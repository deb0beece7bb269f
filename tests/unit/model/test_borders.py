"""The border of a frame is predicted as well as its inside: no convolution sees where the frame ends."""

import pytest
import small_run
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.maps import MAPS
from neuropbr_core.model import Generator, ModelSpec, build_generator

SIDE = 32
STEPS = 150


def fields(batch: int, channels: int, random: torch.Generator) -> Tensor:
    """Smooth noise in [0, 1] that wraps around, so that a border is like any other place of it."""
    noise = torch.rand(batch, channels, SIDE, SIDE, generator=random)
    kernel = torch.ones(channels, 1, 5, 5) / 25
    for _ in range(2):
        noise = F.conv2d(F.pad(noise, (2, 2, 2, 2), mode="circular"), kernel, groups=channels)
    return ((noise - 0.5) * 4 + 0.5).clamp(0.05, 0.95)


def drawn(batch: int, random: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Two views that show every map in the pixel where it belongs, and the maps."""
    values = fields(batch, 7, random)
    slopes = torch.cat((values[:, 5:] - 0.5, torch.ones(batch, 1, SIDE, SIDE)), dim=1)
    maps = {"albedo": values[:, :3], "roughness": values[:, 3:4], "metallic": values[:, 4:5]}
    maps["normal"] = F.normalize(slopes, dim=1)
    second = torch.cat((values[:, 3:5], values[:, 5:6]), dim=1)
    return torch.stack((values[:, :3], second), dim=1), maps


def briefly_trained() -> Generator:
    recipe = small_run.small_recipe(*small_run.PLAIN, f"data.image_size={SIDE}", f"data.output_size={SIDE}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = build_generator(ModelSpec.from_recipe(recipe)).train()
    random = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=5e-3)
    for _ in range(STEPS):
        views, maps = drawn(4, random)
        prediction = generator(views).maps
        optimizer.zero_grad()
        torch.stack([F.l1_loss(prediction[name], value) for name, value in maps.items()]).sum().backward()
        optimizer.step()
    return generator.eval()


def border_over_inside(generator: nn.Module) -> dict[str, float]:
    """Mean error of the outermost pixels by that of the pixels that are far from the border, for each map."""
    with torch.no_grad():
        views, maps = drawn(64, torch.Generator().manual_seed(2))
        prediction = generator(views).maps
    border = torch.ones(SIDE, SIDE, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    ratios = {}
    for name in MAPS:
        error = (prediction[name] - maps[name]).abs().mean(dim=(0, 1))
        ratios[name] = float(error[border].mean() / error[8:-8, 8:-8].mean())
    return ratios


def test_the_border_is_predicted_as_well_as_the_inside() -> None:
    assert border_over_inside(briefly_trained()) == pytest.approx(dict.fromkeys(MAPS, 1.0), abs=0.1)


def test_a_uniform_frame_gets_uniform_maps() -> None:
    """Exactly: no convolution of the network sees where the frame ends."""
    recipe = small_run.small_recipe(*small_run.PLAIN, f"data.image_size={SIDE}", f"data.output_size={SIDE}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        generator = build_generator(ModelSpec.from_recipe(recipe)).eval()
    views = torch.rand(1, 3, 3, 1, 1, generator=torch.Generator().manual_seed(4)).expand(-1, -1, -1, SIDE, SIDE)
    with torch.no_grad():
        prediction = generator(views).maps
    for value in prediction.values():
        torch.testing.assert_close(value, value[..., :1, :1].expand_as(value), atol=1e-6, rtol=0)
