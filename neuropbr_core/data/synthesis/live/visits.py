"""Draws training visits: a material, a scene and cameras, shaded where the crop lies."""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from neuropbr_core.contracts import OVERVIEW_SIDE, Crop, DrawnVisit, VisitDrawer
from neuropbr_core.data.synthesis.live.surroundings import Surroundings
from neuropbr_core.errors import DataError
from neuropbr_core.materials.live.crop_grid import CropGrid, frame_points
from neuropbr_core.materials.live.editing import FLAT_SLOPE, METAL, Cell, Edit, draw_cell, draw_edit, is_pure
from neuropbr_core.materials.live.framing import Array, draw_viewpoints
from neuropbr_core.materials.live.mixing import Mask, draw_mask, mix
from neuropbr_core.materials.live.options import Cameras, Cells, Light, Materials, Photos
from neuropbr_core.materials.live.photos import draw_errors
from neuropbr_core.materials.live.scene import OVERVIEW_POINTS, draw_light, photograph
from neuropbr_core.materials.live.shading import single_thread
from neuropbr_core.materials.live.textures import Pose, SurfaceValues, Texture, Values, slopes_to_normals
from neuropbr_core.materials.procedural.naming import is_procedural

_REVISION = 3
"""Grows when the same options and numbers draw other visits."""
_CLOSER = 0.58
"""Share of a map's pixel at which a crop looks its material up.

Interpolation between texels that are as far apart as the pixels would blur where a material is zoomed or turned, while
maps that are read from files are averages over their pixels. A network that learns from both cannot tell a soft map
from an unsharp photo. Texels 0.4 to 0.8 pixels apart give about the deviation of an average, 1 / √12 pixels.
"""


class Distributions(NamedTuple):
    """What visits are drawn from."""

    cells: Cells
    materials: Materials
    cameras: Cameras
    light: Light
    photos: Photos


class Layer(NamedTuple):
    """One material of a visit.

    Attributes:
        texture: The material.
        pose: Where it lies in the frame.
        edit: What is changed about it; None leaves it as it is.
    """

    texture: Texture
    pose: Pose
    edit: Edit | None

    def look_up(self, points: Array, spacing: float) -> SurfaceValues:
        """The material at points of the frame."""
        values = self.texture.look_up(points, self.pose, spacing)
        if self.edit is None:
            return values
        return self.edit.apply(values)

    @property
    def metallic(self) -> float:
        """Mean of metallic."""
        if self.edit is None or self.edit.metallic is None:
            return self.texture.traits.metallic
        return self.edit.metallic


class LiveMaterial(NamedTuple):
    """The material of a visit: one layer, or two with a mask.

    Attributes:
        layers: One or two layers.
        mask: Where the second one shows.
    """

    layers: tuple[Layer, ...]
    mask: Mask | None

    @property
    def name(self) -> str:
        """Names of its layers."""
        return "+".join(layer.texture.name for layer in self.layers)

    def look_up(self, points: Array, spacing: float) -> SurfaceValues:
        """The material at points of the frame `(N, 2)` that lie `spacing` sides apart."""
        first = self.layers[0].look_up(points, spacing)
        if self.mask is None:
            return first
        return mix(first, self.layers[1].look_up(points, spacing), self.mask.share(points, first.albedo))


class TextureBank:
    """Textures by what they are good for: real or procedural, metal or not, bumpy or not."""

    def __init__(self, textures: Sequence[Texture]) -> None:
        """Sort textures.

        Raises:
            DataError: There is none.
        """
        if not textures:
            raise DataError("data.source: there is no material to draw from; name folders, or set `procedural` above 0")
        self.textures = list(textures)
        self._natural: dict[bool, list[Texture]] = {True: [], False: []}
        self._editable: dict[tuple[bool, bool, bool], list[Texture]] = {}
        for texture in textures:
            real = not is_procedural(texture.name)
            self._natural[real].append(texture)
            # Mixed materials are shown as they are: exchanged as a whole they would lose what they consist of.
            if is_pure(texture.traits):
                metal = texture.traits.metallic > METAL
                bumpy = texture.traits.slope >= FLAT_SLOPE
                self._editable.setdefault((real, metal, bumpy), []).append(texture)

    def draw_natural(self, rng: np.random.Generator, *, real: bool) -> Texture:
        """Draw any texture, of the other origin where the one asked for has none."""
        textures = self._natural[real] or self._natural[not real]
        return textures[rng.integers(len(textures))]

    def draw_for(self, rng: np.random.Generator, cell: Cell, *, real: bool, exchange: bool) -> Texture:
        """Draw a texture to edit into a cell.

        Bumpy cells need a bumpy texture above all, since no edit adds relief; any texture can be flattened.

        Args:
            rng: Source of the draw.
            cell: The cell.
            real: Whether the texture should come from a folder.
            exchange: Whether it may be metal for a dielectric cell, and dielectric for a metal one.
        """
        reliefs = (False, True) if cell.flat else (True,)
        metals = (True, False) if exchange else (cell.metal,)
        # From the narrowest to the widest choice; the first that has textures counts.
        for origins, substances in (
            ((real,), metals),
            ((not real,), metals),
            ((real,), (True, False)),
            ((not real,), (True, False)),
        ):
            fitting: list[Texture] = []
            for origin in origins:
                for metal in substances:
                    for bumpy in reliefs:
                        fitting += self._editable.get((origin, metal, bumpy), [])
            if fitting:
                return fitting[rng.integers(len(fitting))]
        return self.draw_natural(rng, real=real)


class LiveVisits(VisitDrawer):
    """Visits of drawn materials under drawn light.

    Attributes:
        visits: Visits in an epoch.
        share: Share of visits that are drawn.
        content: Names everything that visits depend on beside their seed.
        materials: Names of the bank's materials.
    """

    def __init__(
        self,
        bank: TextureBank,
        surroundings: Surroundings,
        distributions: Distributions,
        *,
        visits: int,
        share: float,
        contents: Sequence[str] = (),
    ) -> None:
        """Draw nothing yet.

        Args:
            bank: The materials.
            surroundings: The environments.
            distributions: What to draw from.
            visits: Visits in an epoch.
            share: Share of visits that are drawn, in [0, 1]; the others show listed samples.
            contents: Names of the contents of materials and surroundings.
        """
        self.bank = bank
        self.surroundings = surroundings
        self.distributions = distributions
        self.visits = visits
        self.share = share
        self.materials = [texture.name for texture in bank.textures]
        # What a record of a run is compared by: anything that changes a visit changes it.
        described = msgspec.json.encode([_REVISION, distributions, visits, share, sorted(contents)])
        self.content = hashlib.blake2b(described, digest_size=16).hexdigest()

    def draw(self, rng: np.random.Generator, crop: Crop) -> DrawnVisit:
        """Draw a visit."""
        drawn = self.distributions
        with single_thread():
            material = self.draw_material(rng)
            grid = CropGrid(crop.x, crop.y, crop.side, crop.frame, crop.scale, crop.photo)
            near = material.look_up(grid.shaded(), _CLOSER / (crop.frame * crop.scale))
            # What a crop's texels average away belongs to its maps' pixels, which have no such channel.
            near = near._replace(spread=np.zeros_like(near.spread))
            frame_side = OVERVIEW_SIDE * OVERVIEW_POINTS
            far = material.look_up(frame_points(frame_side), 1 / frame_side)
            # The order of draws is part of a visit's identity: a new draw goes last, or all visits change.
            dirty = bool(rng.random() < drawn.photos.dirty)
            viewpoints = draw_viewpoints(rng, crop.views, drawn.cameras)
            light = draw_light(rng, viewpoints, self.surroundings.draw(rng), drawn.light, dirty=dirty)
            errors = draw_errors(rng, crop.views, drawn.photos, dirty=dirty)
            photos = photograph(rng, (near, grid), far, viewpoints, light, errors)
            # Photos need points around the crop, since blur and misalignment bring them in; the true maps do not.
            maps = {}
            for name, values in stored_maps(near).items():
                maps[name] = grid.inner(values)
            return DrawnVisit(
                material=material.name,
                views=photos.views.numpy(),
                visible=photos.visible.numpy(),
                overview=photos.overview.numpy(),
                positions=viewpoints.positions.astype(np.float32),
                maps=maps,
            )

    def draw_material(self, rng: np.random.Generator) -> LiveMaterial:
        """Draw the material of a visit."""
        first = self._draw_layer(rng)
        if rng.random() >= self.distributions.materials.mix:
            return LiveMaterial((first,), None)
        second = self._draw_layer(rng)
        # 0.1: half a metal does not exist, but dust on one does.
        hard = abs(first.metallic - second.metallic) > 0.1
        return LiveMaterial((first, second), draw_mask(rng, hard=hard))

    def _draw_layer(self, rng: np.random.Generator) -> Layer:
        cells = self.distributions.cells
        materials = self.distributions.materials
        real = bool(rng.random() < materials.real)
        # Edits fill the rare cells; a material as it is keeps what an edit makes even, such as metal with rust on it.
        if rng.random() < materials.natural:
            return Layer(self.bank.draw_natural(rng, real=real), draw_pose(rng, materials), None)
        cell = draw_cell(rng, cells)
        texture = self.bank.draw_for(rng, cell, real=real, exchange=bool(rng.random() < materials.exchange))
        edit = draw_edit(rng, cell, texture.traits, cells, materials)
        return Layer(texture, draw_pose(rng, materials), edit)


def draw_pose(rng: np.random.Generator, materials: Materials) -> Pose:
    """Draw where a material lies in the frame: quarter-turned, flipped, shifted, and in part zoomed and turned further.

    Args:
        rng: Source of the draw.
        materials: The distributions.
    """
    angle = float(rng.integers(4)) * math.pi / 2
    # Angle and zoom are drawn even where they are not used: changing a share keeps the other draws.
    further = rng.random() < materials.turned
    beyond = rng.uniform(0, math.pi / 2)
    if further:
        angle += beyond
    flip = float(rng.choice((-1.0, 1.0)))
    cosine = math.cos(angle)
    sine = math.sin(angle)
    turn = np.array([[cosine * flip, -sine], [sine * flip, cosine]])
    zoomed = rng.random() < materials.zoomed
    zoom = math.exp(rng.uniform(*np.log(materials.zoom)))
    if not zoomed:
        zoom = 1.0
    # Whole texels of the usual frame of 256 pixels: a material that is only shifted is not interpolated.
    return Pose(turn, zoom, rng.integers(0, 256, 2) / 256)


def stored_maps(values: SurfaceValues) -> dict[str, np.ndarray]:
    """A material's values in stored form, uint8 `(C, N)` by map."""
    # From [-1, 1] to [0, 1], as image files store normals.
    directions = slopes_to_normals(values.slopes) * np.float32(0.5) + np.float32(0.5)
    maps: dict[str, Values] = {
        "albedo": values.albedo,
        "roughness": values.roughness[None],
        "metallic": values.metallic[None],
        "normal": directions,
    }
    return {name: np.rint(each * 255).clip(0, 255).astype(np.uint8) for name, each in maps.items()}
