"""Predictions from several sides: turns are exact, and doubts are where passes differ."""

import pytest
import torch
from torch.nn import functional as F

from neuropbr_core.errors import ModelError
from neuropbr_core.inference.ensemble import (
    missing_side,
    predict_ensemble,
    predict_turned,
    turned_inputs,
    turned_maps,
    turned_vectors,
)


def make_inputs(views: int = 3, side: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    directions = torch.rand(1, views, 3, side, side, generator=generator) - 0.5
    directions[:, :, 2] = 1
    return {
        "views": torch.rand(1, views, 3, side, side, generator=generator) * 0.9,
        "visible": torch.ones(1, views, 1, side, side),
        "directions": F.normalize(directions, dim=2),
    }


def from_directions(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A model that turns with its inputs: its normals are the first view's directions."""
    first = inputs["views"][:, 0]
    return {
        "albedo": first,
        "roughness": first[:, :1],
        "metallic": first[:, 1:2],
        "normal": inputs["directions"][:, 0],
    }


def test_four_quarter_turns_are_none_and_a_turn_back_is_exact() -> None:
    inputs = make_inputs()
    for name, value in turned_inputs(inputs, 4).items():
        assert torch.equal(value, inputs[name])
    maps = from_directions(inputs)
    for name, value in turned_maps(turned_maps(maps, 3), -3).items():
        assert torch.equal(value, maps[name])


def test_vectors_turn_with_their_picture() -> None:
    # A bump's right flank faces right. A quarter-turn counter-clockwise takes it to the top, where it faces up.
    normal = torch.zeros(1, 3, 4, 4)
    normal[:, 2] = 1
    normal[:, :, 1, 3] = torch.tensor([1.0, 0.0, 0.0])
    turned = turned_maps({"normal": normal}, 1)["normal"]
    assert torch.equal(turned[0, :, 0, 1], torch.tensor([0.0, 1.0, 0.0]))


def test_a_model_that_turns_with_its_inputs_agrees_with_itself() -> None:
    inputs = make_inputs(views=2)
    result = predict_ensemble(from_directions, inputs)
    for name, value in from_directions(inputs).items():
        assert torch.allclose(result.maps[name], value, atol=1e-6)
    assert result.confidence.min() > 0.999


def test_the_mean_of_turns_forgets_what_does_not_turn_with_the_photos() -> None:
    inputs = make_inputs()

    def leaning(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A model that believes all light to come from the right."""
        maps = from_directions(given)
        maps["normal"] = F.normalize(maps["normal"] + torch.tensor([0.5, 0, 0]).view(1, 3, 1, 1), dim=1)
        return maps

    truth = from_directions(inputs)
    mean = predict_turned(leaning, inputs)
    for name in ("albedo", "roughness", "metallic"):
        assert torch.allclose(mean[name], truth[name], atol=1e-6)
    assert (mean["normal"].mean(dim=(2, 3)) - truth["normal"].mean(dim=(2, 3))).abs().max() < 0.05
    assert (leaning(inputs)["normal"].mean(dim=(2, 3)) - truth["normal"].mean(dim=(2, 3))).abs().max() > 0.2
    # Without directions, the light's side would be lost in a turn.
    del inputs["directions"]
    calls: list[torch.Tensor] = []

    def undirected(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        calls.append(given["views"])
        return {"roughness": given["views"][:, 0, :1]}

    predict_turned(undirected, inputs)
    assert len(calls) == 1


def test_turns_of_vectors_add_up() -> None:
    vectors = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    twice = turned_vectors(turned_vectors(vectors, 1, dim=1), 1, dim=1)
    assert torch.equal(twice, vectors * torch.tensor([-1.0, -1.0, 1.0]))
    assert torch.equal(turned_vectors(twice, -2, dim=1), vectors)


def test_confidence_falls_where_passes_differ() -> None:
    inputs = {"views": make_inputs()["views"]}  # without directions nothing is turned, so the corner stays in its place

    def doubtful(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        roughness = torch.full((1, 1, 8, 8), 0.3)
        # Leaving a photo out changes one corner of the roughness.
        roughness[..., :4, :4] += 0.2 * (given["views"].shape[1] - 2)
        return {"roughness": roughness}

    confidence = predict_ensemble(doubtful, inputs).confidence
    assert confidence[..., 4:, 4:].min() == 1
    assert confidence[..., :4, :4].max() < 0.5


def test_texels_that_no_photo_shows_have_no_confidence_and_clipped_ones_half() -> None:
    inputs = make_inputs(views=2)
    inputs["visible"][..., 0, 0] = 0
    inputs["views"][..., 7, 7] = 1
    confidence = predict_ensemble(from_directions, inputs).confidence
    assert confidence[0, 0, 0, 0] == 0
    assert confidence[0, 0, 7, 7] == pytest.approx(0.5, abs=0.01)


def test_one_prediction_alone_has_no_confidence() -> None:
    """Without directions nothing is turned, and of two photos none is left out."""
    inputs = {"views": make_inputs(views=2)["views"]}
    with pytest.raises(ModelError, match="gives one from these photos"):
        predict_ensemble(lambda given: {"roughness": given["views"][:, 0, :1]}, inputs)


@pytest.mark.parametrize(
    ("photos", "side"),
    [
        (((0, 0), (0, 0.8)), "right"),
        (((0, 0), (-0.8, 0), (0.8, 0), (0, 0.3)), "bottom"),
        (((0, 0), (0.2, 0.8), (0.2, -0.8)), "left"),
    ],
)
def test_the_missing_side_is_where_no_photo_is(photos: tuple[tuple[float, float], ...], side: str) -> None:
    vectors = torch.tensor([(*photo, 1.0) for photo in photos])
    directions = F.normalize(vectors, dim=1)[None, :, :, None, None].expand(1, -1, 3, 2, 2)
    answer = missing_side(directions)
    if len(photos) == 2:  # both ends of the axis are equally far
        assert answer in ("right", "left")
    else:
        assert answer == side
