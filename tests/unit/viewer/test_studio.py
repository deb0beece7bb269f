"""The light of the preview, and the material on a ball."""

import base64

import numpy as np
import pytest
import torch

from neuropbr_core.materials.split_sum import brdf_table
from neuropbr_core.viewer.studio import (
    preview_settings,
    render_ball,
    shader_constants,
    surroundings,
)


def flat_maps(albedo: float = 0.5, roughness: float = 0.8, metallic: float = 0.0) -> dict[str, torch.Tensor]:
    size = (8, 8)
    normal = torch.zeros(1, 3, *size)
    normal[:, 2] = 1
    return {
        "albedo": torch.full((1, 3, *size), albedo),
        "roughness": torch.full((1, 1, *size), roughness),
        "metallic": torch.full((1, 1, *size), metallic),
        "normal": normal,
    }


def test_ball_is_lit_from_the_upper_left():
    ball = render_ball(flat_maps(), 64).mean(dim=0)
    assert ball[20, 20] > ball[20, 44] > 0.1
    assert ball[20, 20] > ball[44, 20]
    assert ball.max() <= 1


def test_coverage_in_place_of_the_backdrop():
    ball = render_ball(flat_maps(), 64, backdrop=False)
    assert ball.shape == (4, 64, 64)
    assert ball[3, 32, 32] == 1
    assert ball[3, 0, 0] == 0
    # The ball's outline as a circle of pixels: its tangent cone seen from the eye.
    assert ball[3].mean() == pytest.approx(0.49, abs=0.02)


def test_neutral_values_replace_missing_maps():
    maps = flat_maps(albedo=0.5, roughness=0.5)
    albedo_alone = {"albedo": maps["albedo"]}
    assert torch.equal(render_ball(albedo_alone, 32), render_ball(maps, 32))


def test_relief_turns_with_the_ball():
    maps = flat_maps(roughness=1.0)
    tilted = maps["normal"].clone()
    tilted[:, 0] = 0.6
    tilted[:, 2] = 0.8
    flat = render_ball(maps, 64).mean(dim=0)
    # Normals that lean to the right, away from the lamp, darken the middle.
    leaning = render_ball({**maps, "normal": tilted}, 64).mean(dim=0)
    assert leaning[32, 32] < flat[32, 32] - 0.02


def test_tables_are_those_of_the_renderer():
    settings = preview_settings()
    table = settings["brdf"]
    rows, columns = table["size"]
    values = np.frombuffer(base64.b64decode(table["halves"]), "<f2").reshape(rows, columns, 4)
    assert np.abs(values[..., :2] - brdf_table().movedim(0, -1).numpy()).max() < 1e-3
    assert settings["levels"]["size"] == list(surroundings().levels.shape[1:])


def test_constants_come_after_the_precision_that_they_need():
    assert shader_constants().startswith("precision highp float;\nconst float DIELECTRIC_F0 = 0.04;\n")
