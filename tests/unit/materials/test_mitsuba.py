"""The shading against an independent renderer, Mitsuba 3.

Metals are compared as they are: Mitsuba's `principled` with metallic 1 is GGX with alpha = roughness² and Schlick's
Fresnel too. Its masking and shadowing are two independent factors where ours are height-correlated; within 50° of the
normal and up to roughness 0.6 they differ by at most 0.6 %. Of dielectrics Mitsuba has no equal of the coupled diffuse
term, so there the light that arrives is compared, by way of a Lambertian plane.

Tolerances: under a flash and in even light both compute the same integrals, so 0.5 % is left for masking and for the
points that a pixel averages. Under surroundings ours takes the split sum, whose own error `split_sum` states.
"""

import math

import numpy as np
import pytest
import torch

from neuropbr_core.materials.cameras import look_at
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.environments import build_environment, environment_from_map, irradiance, specular_light
from neuropbr_core.materials.render import Lighting, render_view
from neuropbr_core.materials.sphere import directions
from neuropbr_core.materials.surface import build_surface

mi = pytest.importorskip("mitsuba", reason="the independent renderer is installed with the extra `dev`")

SIZE, FOCAL = 24, 2.6
OVERHEAD, TILTED = (0.05, -0.03, 1.2), (0.45, -0.6, 0.95)
DARK = build_environment(torch.zeros(3, 8, 16))


@pytest.fixture(scope="module", autouse=True)
def variant():
    mi.set_variant("scalar_rgb")


def waves(texels=64):
    """Smooth maps of a metal that differ along u and v, with bumps."""
    u, v = torch.meshgrid(*[(torch.arange(texels) + 0.5) / texels * 2 * math.pi] * 2, indexing="xy")
    base = torch.stack((0.6 + 0.3 * torch.sin(u), 0.6 + 0.3 * torch.sin(v), 0.5 + 0.2 * torch.cos(u + v)))[None]
    slopes = torch.stack((0.15 * torch.cos(2 * u + v), 0.15 * torch.sin(u - 2 * v)))
    return {
        "albedo": linear_to_srgb(base),
        "roughness": (0.5 + 0.1 * torch.sin(2 * v + u))[None, None],
        "metallic": torch.ones(1, 1, texels, texels),
        "normal": torch.nn.functional.normalize(torch.cat((slopes, torch.ones(1, texels, texels))), dim=0)[None],
    }, base


def even(roughness, base=0.8, texels=8):
    shape = (1, 3, texels, texels)
    return {
        "albedo": linear_to_srgb(torch.full(shape, base)),
        "roughness": torch.full((1, 1, texels, texels), roughness),
        "metallic": torch.ones(1, 1, texels, texels),
        "normal": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(shape).clone(),
    }


def own_render(maps, position, lighting):
    camera = look_at(torch.tensor(position), torch.zeros(2), FOCAL)
    return render_view(build_surface(maps, 4 * SIZE), camera, lighting, SIZE)


def texture(values):
    """A Mitsuba texture of linear values `(C, H, W)`; its v points up."""
    pixels = values.flip(1).permute(1, 2, 0).contiguous().numpy().astype(np.float32)
    return {"type": "bitmap", "bitmap": mi.Bitmap(pixels), "raw": True, "wrap_mode": "repeat"}


def metal(maps, base_linear):
    bumpy = {
        "type": "principled",
        "base_color": texture(base_linear[0]),
        "roughness": texture(maps["roughness"][0]),
        "metallic": 1.0,
    }
    return {"type": "normalmap", "normalmap": texture(maps["normal"][0] / 2 + 0.5), "bsdf": bumpy}


def even_metal(roughness, base=0.8):
    return {
        "type": "principled",
        "base_color": {"type": "rgb", "value": [base] * 3},
        "roughness": roughness,
        "metallic": 1.0,
    }


def surround(environment, height=129):
    """An environment emitter of ours.

    Mitsuba's has y up, sees azimuth grow the other way, and its first and last rows are the poles themselves.
    """
    polar = (torch.arange(height) / (height - 1) * math.pi)[:, None]
    azimuth = -((torch.arange(2 * height) + 0.5) / height * math.pi)[None, :]
    towards = torch.stack(
        torch.broadcast_tensors(polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos())
    )
    pixels = specular_light(environment, towards, torch.zeros(1, *towards.shape[1:]))
    turned = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)
    bitmap = mi.Bitmap(pixels.permute(1, 2, 0).contiguous().numpy())
    return {"type": "envmap", "bitmap": bitmap, "to_world": mi.ScalarTransform4f(turned)}


def mitsuba_render(bsdf, position, emitter, samples):
    scene = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "direct", "emitter_samples": samples, "bsdf_samples": samples}
            if samples > 1
            else {"type": "direct"},
            "plane": {
                "type": "rectangle",
                "to_world": mi.ScalarTransform4f().scale([0.5, 0.5, 1.0]),
                "material": {"type": "twosided", "bsdf": bsdf},
            },
            "emitter": emitter,
            "sensor": {
                "type": "perspective",
                "fov": math.degrees(2 * math.atan(0.5 / FOCAL)),
                "to_world": mi.ScalarTransform4f().look_at(list(position), [0, 0, 0], [0, 1, 0]),
                "film": {
                    "type": "hdrfilm",
                    "width": SIZE,
                    "height": SIZE,
                    "rfilter": {"type": "box"},
                    "pixel_format": "rgb",
                },
                "sampler": {"type": "multijitter", "sample_count": 64 if samples == 1 else 16},
            },
        }
    )
    return torch.from_numpy(np.array(mi.render(scene))).permute(2, 0, 1)


def relative(rendered, expected):
    return ((rendered - expected).abs() / expected.clamp_min(0.02 * float(expected.max()))).flatten()


@pytest.mark.parametrize("position", [OVERHEAD, TILTED])
def test_flash_on_a_bumpy_metal(position):
    maps, base = waves()
    light = {"type": "point", "position": list(position), "intensity": {"type": "rgb", "value": [3.0] * 3}}
    errors = relative(
        own_render(maps, position, Lighting(3.0, DARK)), mitsuba_render(metal(maps, base), position, light, 1)
    )
    assert errors.mean() < 0.005
    assert errors.quantile(0.99) < 0.02


@pytest.mark.parametrize("roughness", [0.3, 0.5])
def test_metal_in_even_light(roughness):
    environment = build_environment(torch.ones(3, 32, 64))
    light = {"type": "constant", "radiance": {"type": "rgb", "value": [1.0] * 3}}
    rendered = own_render(even(roughness), TILTED, Lighting(0.0, environment))
    expected = mitsuba_render(even_metal(roughness), TILTED, light, 16)
    assert float(rendered.mean()) == pytest.approx(float(expected.mean()), rel=0.005)


def hall(height=64):
    """Walls of soft colours, a window, and a lamp near the zenith."""
    vectors = directions(height, 2 * height)
    walls = 0.6 + 0.3 * vectors + 0.2 * vectors.flip(0)
    window = torch.sigmoid(12 * (vectors[0] * 0.6 + vectors[1] * 0.5 + vectors[2] * 0.62 - 0.9))
    lamp = torch.sigmoid(20 * (vectors[2] + 0.15 * vectors[1] - 0.95))
    return environment_from_map(walls.clamp_min(0.1) + 6 * window + 10 * lamp)


def test_light_that_arrives_on_a_plane():
    environment = hall()
    bsdf = {"type": "diffuse", "reflectance": {"type": "rgb", "value": [0.5] * 3}}
    expected = mitsuba_render(bsdf, OVERHEAD, surround(environment), 4).mean(dim=(1, 2))
    rendered = irradiance(environment.radiance) * 0.5 / math.pi
    torch.testing.assert_close(rendered, expected, rtol=0.005, atol=0)


@pytest.mark.parametrize(("roughness", "bound"), [(0.2, 0.04), (0.4, 0.08)])
def test_metal_mirrors_the_surroundings(roughness, bound):
    environment = hall()
    rendered = own_render(even(roughness), TILTED, Lighting(0.0, environment))
    expected = mitsuba_render(even_metal(roughness), TILTED, surround(environment), 16)
    errors = relative(rendered, expected)
    assert errors.mean() < bound
    assert np.corrcoef(rendered.flatten(), expected.flatten())[0, 1] > 0.98
