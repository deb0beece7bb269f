import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.evaluation.metrics import PSNR_CAP
from neuropbr_core.evaluation.rerender import measure_rerendering, picture
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


def test_every_map_can_be_seen() -> None:
    truth, other, valid = random_maps(0), random_maps(1), torch.ones(2, 1, 16, 16)
    for name in truth:
        values = measure_rerendering({**truth, name: other[name]}, truth, valid)
        assert (values["rerender/rmse"] > 0.01).all(), name


def test_the_error_is_that_of_the_pictures_over_all_lamps() -> None:
    prediction, truth = random_maps(1), random_maps(0)
    found = measure_rerendering(prediction, truth, torch.ones(2, 1, 16, 16))["rerender/mae"]
    pictures = [(picture(prediction, lamp), picture(truth, lamp)) for lamp in heldout_relightings()]
    expected = torch.stack([(a - b).abs().mean(dim=(1, 2, 3)) for a, b in pictures]).mean(dim=0)
    torch.testing.assert_close(found, expected)
    for a, _ in pictures:
        assert 0 <= a.min() <= a.max() <= 1


def test_pixels_that_do_not_count_have_no_influence() -> None:
    prediction, truth, valid = random_maps(1), random_maps(0), torch.ones(2, 1, 16, 16)
    valid[:, :, :4] = 0
    changed = {name: value.clone() for name, value in prediction.items()}
    changed["albedo"][:, :, :4] = 1
    a, b = (measure_rerendering(maps, truth, valid) for maps in (prediction, changed))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name])
