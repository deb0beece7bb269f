"""Writes every map, measured and derived, as an image of its own."""

from collections.abc import Sequence

from neuropbr_core.contracts import Packager, PackageSettings, Texture
from neuropbr_core.maps import MAPS


class PlainPackager(Packager):
    """One image for each map."""

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """All maps that there are, under their own names; those that were not measured are in `derived/`."""
        textures = []
        for name in settings.maps:
            if name == "height":
                textures.append(Texture.height(f"derived/{name}", settings))
            elif name in MAPS:
                textures.append(Texture.of(name, name, name, MAPS[name].channels))
            else:
                textures.append(Texture.of(f"derived/{name}", name, name))
        return textures
