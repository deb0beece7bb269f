"""A bank of surroundings: drawn ones, and radiance maps of a folder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuropbr_core.data.pack.digest import fingerprint_files
from neuropbr_core.data.seeding import LIVE, torch_generator
from neuropbr_core.data.synthesis.environments import find_environments, read_environments
from neuropbr_core.materials.color import luminance
from neuropbr_core.materials.environments import Environment, irradiance, sample_environment, scale_environment
from neuropbr_core.reporting import track
from neuropbr_core.shipped import resolve


@dataclass(frozen=True)
class Surroundings:
    """Environments that alone make a white card look like 1.

    Attributes:
        drawn: Drawn ones.
        photographed: Those of a folder; half of the draws where there are some.
        content: Names the files of the folder.
    """

    drawn: Sequence[Environment]
    photographed: Sequence[Environment]
    content: str

    def draw(self, rng: np.random.Generator) -> Environment:
        """Draw one of them."""
        # Both numbers are drawn in every case, so that adding a folder leaves the draws that follow as they are.
        kind = rng.random()
        place = rng.random()
        bank = self.drawn
        if self.photographed and kind < 0.5:
            bank = self.photographed
        return bank[int(place * len(bank))]


def open_surroundings(folder: str | None, count: int, seed: int) -> Surroundings:
    """Draw surroundings and read those of a folder.

    Args:
        folder: Folder of radiance maps, or None.
        count: How many to draw, at least 1.
        seed: Seed of the draw.

    Raises:
        DataError: The folder or some of its files cannot be used.
    """
    files: dict[str, Path] = {}
    if folder is not None:
        files = find_environments(resolve(folder))
    photographed = []
    for environment in read_environments(files).values():
        photographed.append(_neutral(environment))
    drawn = []
    for index in track(range(count), count, "drawing surroundings"):
        # A generator for each index: a larger bank begins with the same surroundings as a smaller one.
        drawn.append(_neutral(sample_environment(torch_generator(seed, LIVE, index))))
    # Drawn surroundings need no fingerprint: seed and count, which name them, are in the recipe.
    content = ""
    if files:
        content = fingerprint_files(files.values())
    return Surroundings(drawn, photographed, content)


def _neutral(environment: Environment) -> Environment:
    # A Lambertian white card that receives π looks like 1, whatever the direction it is seen from.
    received = float(luminance(irradiance(environment.radiance).view(3, 1, 1)))
    return scale_environment(environment, math.pi / received)
