import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.evaluation.metrics import PSNR_CAP
from neuropbr_core.evaluation.rerender import measure_rerendering, rendering
from neuropbr_core.materials.relight import heldout_relightings


def random_maps(seed: int, batch: int = 2, size: int = 16) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    slopes = torch.rand(batch, 2, size, size, generator=random) - 0.5
    return {
        "albedo": torch.rand(batch, 3, size, size, generator=random),
        "roughness": torch.rand(batch, 1, size, size, generator=random),
        "metallic": (torch.rand(batch, 1, size, size, generator=random) > 0.5).float(),
        "normal": F.normalize(torch.cat((slopes, torch.ones(batch, 1, size, size)), 1), dim=1),
    }


def test_equal_maps_look_equal() -> None:
    values = measure_rerendering(random_maps(0), random_maps(0), torch.ones(2, 1, 16, 16))
    assert set(values) == {"rerender/mae", "rerender/rmse", "rerender/psnr", "rerender/ssim"}
    torch.testing.assert_close(values["rerender/mae"], torch.zeros(2))
    torch.testing.assert_close(values["rerender/psnr"], torch.full((2,), PSNR_CAP))
    torch.testing.assert_close(values["rerender/ssim"], torch.ones(2), atol=1e-6, rtol=0)


def test_a_change_of_any_map_is_visible() -> None:
    truth = random_maps(0)
    other = random_maps(1)
    valid = torch.ones(2, 1, 16, 16)
    for name in truth:
        values = measure_rerendering({**truth, name: other[name]}, truth, valid)
        assert (values["rerender/rmse"] > 0.01).all(), name


def test_the_error_is_that_of_the_pictures_over_all_lamps() -> None:
    prediction = random_maps(1)
    truth = random_maps(0)
    mae = measure_rerendering(prediction, truth, torch.ones(2, 1, 16, 16))["rerender/mae"]
    errors: list[Tensor] = []
    for relighting in heldout_relightings():
        picture = rendering(prediction, relighting)
        assert 0 <= picture.min() <= picture.max() <= 1
        errors.append((picture - rendering(truth, relighting)).abs().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(mae, torch.stack(errors).mean(dim=0))


def test_pixels_that_do_not_count_have_no_influence() -> None:
    prediction = random_maps(1)
    truth = random_maps(0)
    valid = torch.ones(2, 1, 16, 16)
    valid[:, :, :4] = 0
    changed = {name: value.clone() for name, value in prediction.items()}
    changed["albedo"][:, :, :4] = 1
    expected = measure_rerendering(prediction, truth, valid)
    for name, value in measure_rerendering(changed, truth, valid).items():
        torch.testing.assert_close(value, expected[name])
