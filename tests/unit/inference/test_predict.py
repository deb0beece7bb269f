"""Maps at another size."""

import numpy as np
import torch
from PIL import Image

from neuropbr_core.inference import resample_maps


def test_it_is_the_lanczos_of_an_image_program() -> None:
    """Within the two roundings to 8 bits (one a pass), Pillow's own result on the stored image."""
    random = np.random.default_rng(0)
    stored = Image.fromarray(random.integers(60, 200, (24, 24, 3), dtype=np.uint8))
    value = torch.from_numpy(np.array(stored)).permute(2, 0, 1)[None] / 255
    found = resample_maps({"albedo": value}, 64)["albedo"]
    expected = np.asarray(stored.resize((64, 64), Image.Resampling.LANCZOS), np.float32) / 255
    assert found.shape == (1, 3, 64, 64)
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=1.5 / 255)


def test_overshoot_is_cut_and_normals_stay_unit_vectors() -> None:
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    roughness = resample_maps({"roughness": edge}, 32)["roughness"]
    assert roughness.min() == 0
    assert roughness.max() == 1
    normal = torch.nn.functional.normalize(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    found = resample_maps({"normal": normal}, 20)["normal"]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1, 20, 20))


def test_the_same_size_changes_nothing() -> None:
    value = torch.rand(1, 1, 8, 8)
    assert resample_maps({"metallic": value}, 8)["metallic"] is value
