import pytest
import torch

from neuropbr_core.evaluation.material_classes import material_classes


def maps(
    albedo: float = 0.5, roughness: float = 0.7, metallic: float = 0.0, slope: float = 0.0
) -> dict[str, torch.Tensor]:
    normal = torch.nn.functional.normalize(torch.tensor([slope, 0.0, 1.0]), dim=0)
    return {
        "albedo": torch.full((1, 3, 8, 8), albedo),
        "roughness": torch.full((1, 1, 8, 8), roughness),
        "metallic": torch.full((1, 1, 8, 8), metallic),
        "normal": normal.view(1, 3, 1, 1).expand(1, 3, 8, 8),
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"metallic": 1.0, "roughness": 0.14}, ("mirror-like metal", "flat")),
        ({"metallic": 1.0, "roughness": 0.16}, ("brushed metal", "flat")),
        ({"metallic": 1.0, "roughness": 0.36}, ("rough metal", "flat")),
        ({"roughness": 0.1}, ("non-metal", "flat")),
        ({"roughness": 0.5, "albedo": 0.7}, ("non-metal", "bright smooth non-metal", "flat")),
        ({"roughness": 0.6, "albedo": 0.7}, ("non-metal", "flat")),
        ({"slope": 0.05}, ("non-metal", "flat")),  # 2.9°
        ({"slope": 0.055}, ("non-metal", "bumpy")),  # 3.1°
    ],
)
def test_classes_follow_from_the_true_maps(values: dict[str, float], expected: tuple[str, ...]) -> None:
    assert material_classes(maps(**values)) == [expected]


def test_each_image_of_a_batch_has_its_own_classes() -> None:
    pair = {name: torch.cat([maps()[name], maps(metallic=1.0, slope=0.5)[name]]) for name in maps()}
    assert material_classes(pair) == [("non-metal", "flat"), ("rough metal", "bumpy")]


def test_without_all_maps_nothing_is_known() -> None:
    assert material_classes({"albedo": maps()["albedo"]}) == [()]
