"""Blender imports each package that it can read, and its picture is that of our renderer.

Validators do not notice swapped maps or a wrong colour space; a picture does. Blender is the package `bpy`, which needs
Python 3.13. Its environment is `.venv-blender` in the repository, made on first use, or the one whose interpreter
`NEUROPBR_BLENDER_PYTHON` names.
"""

import fcntl
import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuropbr_core.kinds import PackagerEntryOptions
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.materials.ggx import brdf, dot, reflectance
from neuropbr_core.outputs import Material, choose_targets, read_material, write_packages
from neuropbr_core.registry import default_registry
from neuropbr_core.shipped import shipped_root

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
ENVIRONMENT = ROOT / ".venv-blender"
BPY = "bpy>=5.2,<6"
SIDE = 128
# Steep enough that relief casts no shadows, which our renderer leaves out, and oblique enough to show it.
LIGHT = torch.nn.functional.normalize(torch.tensor([0.2, 0.15, 1.0]), dim=0)
ACCEPTED, REFUSED = 0.99, 0.98


def interpreters() -> Iterator[str]:
    """Interpreters of Python 3.13 that may be on this machine."""
    yield "python3.13"
    for path in sorted((Path.home() / ".pyenv" / "versions").glob("3.13*/bin/python3.13")):
        yield str(path)


@pytest.fixture(scope="module")
def blender() -> str:
    """An interpreter with `bpy`."""
    named = os.environ.get("NEUROPBR_BLENDER_PYTHON")
    if named:
        return named
    # Workers of pytest-xdist wait for the one that makes the environment.
    with (ENVIRONMENT.parent / f"{ENVIRONMENT.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return environment_with_bpy()


def environment_with_bpy() -> str:
    """The interpreter of `ENVIRONMENT`, which is made, or completed, where it has no `bpy`."""
    python = ENVIRONMENT / "bin" / "python"
    if python.exists() and run(str(python), "-c", "import bpy").returncode == 0:
        return str(python)
    for interpreter in (str(python), *interpreters()):
        # An environment that a killed process left may lack pip, which this adds.
        made = shutil.which(interpreter) and run(interpreter, "-m", "venv", str(ENVIRONMENT))
        if made and made.returncode == 0:
            break
    else:
        pytest.skip("bpy needs Python 3.13, which is not on this machine; or set NEUROPBR_BLENDER_PYTHON")
    installed = run(str(python), "-m", "pip", "install", "--quiet", BPY)
    if installed.returncode != 0:
        pytest.skip(f"{BPY} could not be installed: {installed.stderr.strip()[-200:]}")
    return str(python)


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    # The variables of this process's environment would lead the other interpreter to our packages.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def picture(blender: str, folder: Path, packages: dict[str, Path]) -> dict[str, np.ndarray]:
    """Blender's rendering of each package, linear `(SIDE, SIDE, 3)`."""
    jobs = []
    for name, path in packages.items():
        job = {"path": str(path), "image": str(folder / f"{name}.npy"), "side": SIDE, "light": LIGHT.tolist()}
        jobs.append(job)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = run(blender, str(Path(__file__).with_name("blender_render.py")), str(folder / "jobs.json"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {name: np.load(folder / f"{name}.npy") for name in packages}


def reference(material: Material) -> np.ndarray:
    """Our rendering: the same light, seen from straight above."""
    maps = material.maps
    surface = reflectance(srgb_to_linear(maps["albedo"][0]), maps["roughness"][0], maps["metallic"][0])
    normal = maps["normal"][0]
    light = LIGHT.view(3, 1, 1).expand_as(normal)
    view = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand_as(normal)
    radiance = brdf(surface, normal, view, light) * dot(normal, light).clamp_min(0) * math.pi
    return radiance.permute(1, 2, 0).numpy()


def correlation(image: np.ndarray, expected: np.ndarray) -> float:
    return float(np.corrcoef(image.ravel(), expected.ravel())[0, 1])


def write(material: Material, folder: Path, use: str, name: str, **overrides: Any) -> Path:
    chosen = default_registry().choose("packager", use, entry=PackagerEntryOptions(**overrides))
    (path,) = write_packages(material, choose_targets({name: chosen}), folder)
    return path


@pytest.mark.parametrize("source", ["acg_Bricks102", "acg_MetalPlates006"])
def test_blender_shows_what_our_renderer_shows(blender: str, tmp_path: Path, source: str) -> None:
    material = read_material(shipped_root() / "examples" / "materials" / source).resized(SIDE)
    name = material.name
    gltf = write(material, tmp_path, "gltf", "gltf")
    usd = write(material, tmp_path, "usd", "usd")
    # The other depths and the other convention, which the script turns round.
    deep = write(material, tmp_path, "blender", "deep", depth=16, normals="directx")
    light = write(material, tmp_path, "blender", "light", depth="exr")
    packages = {
        "glb": gltf / f"{name}.glb",
        "gltf": gltf / f"{name}.gltf",
        "usda": usd / f"{name}.usda",
        "usdz": usd / f"{name}.usdz",
        "script": write(material, tmp_path, "blender", "blender") / f"import_{name}.py",
        "directx": deep / f"import_{name}.py",
        "exr": light / f"import_{name}.py",
    }
    expected = reference(material)
    scores = {}
    for package, image in picture(blender, tmp_path, packages).items():
        scores[package] = correlation(image, expected)
    assert min(scores.values()) >= ACCEPTED, scores


def test_each_mistake_would_be_noticed(blender: str, tmp_path: Path) -> None:
    material = read_material(shipped_root() / "examples" / "materials" / "acg_Bricks102").resized(SIDE)
    maps = material.maps
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    mistakes = {
        "flipped green": {"normal": maps["normal"] * torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1)},
        "roughness as sRGB": {"roughness": srgb_to_linear(maps["roughness"])},
        "swapped metal and roughness": {"roughness": maps["metallic"], "metallic": maps["roughness"]},
        "linear albedo": {"albedo": linear_to_srgb(maps["albedo"])},
        "smoothness": {"roughness": 1 - maps["roughness"]},
        "no normal": {"normal": flat.expand_as(maps["normal"]).contiguous()},
    }
    packages = {}
    for number, changes in enumerate(mistakes.values()):
        wrong = replace(material, maps={**maps, **changes})
        packages[str(number)] = write(wrong, tmp_path, "gltf", f"mistake_{number}") / f"{material.name}.glb"
    expected = reference(material)
    scores = {}
    for mistake, image in zip(mistakes, picture(blender, tmp_path, packages).values(), strict=True):
        scores[mistake] = correlation(image, expected)
    assert max(scores.values()) < REFUSED, scores
