"""The layout's samples for validation, and drawn visits for training."""

from collections.abc import Collection

from neuropbr_core.contracts import VisitDrawer
from neuropbr_core.data.synthesis.live.surroundings import open_surroundings
from neuropbr_core.data.synthesis.live.textures_on_disk import (
    REVISION,
    MaterialFile,
    list_materials,
    open_textures,
)
from neuropbr_core.data.synthesis.live.visits import Distributions, LiveVisits, TextureBank
from neuropbr_core.datasets.layout.source import LayoutSource
from neuropbr_core.datasets.live import Options
from neuropbr_core.errors import DataError
from neuropbr_core.materials.live.options import unordered
from neuropbr_core.recipe.sections import Data

_TEXTURES = "textures"


class LiveSource(LayoutSource):
    """A source whose samples are the layout's and whose training visits are drawn.

    A subclass may override `material_files` to draw from other materials.
    """

    def __init__(self, options: Options, data: Data) -> None:
        """Read nothing yet.

        Raises:
            DataError: Options contradict each other; all of them at once.
        """
        super().__init__(data)
        self._options = options
        # JSON Schema checks each number by itself, and cannot compare the ends of a range.
        if problems := list(unordered(options, "data.source.")):
            raise DataError("\n".join(problems))

    def material_files(self) -> list[MaterialFile]:
        """List the materials to draw from, held-back ones too.

        Raises:
            DataError: Folders are missing or incomplete.
        """
        options = self._options
        return list_materials(options.materials, options.procedural, options.seed)

    def drawer(self, held_back: Collection[str]) -> VisitDrawer:
        """Open the banks of materials and light, without what is held back."""
        options = self._options
        # A look-alike of a held-back material would show the network what validation asks it for.
        hidden = set(held_back)
        for group in self._data.groups.values():
            if not hidden.isdisjoint(group):
                hidden.update(group)
        files = [file for file in self.material_files() if file.name not in hidden]
        folder = self._data.pack_folder
        # Beside the pack: both hold what can be made again, and are removed together.
        cache = None
        if folder is not None:
            cache = folder / _TEXTURES
        surroundings = open_surroundings(options.light.environments, options.light.drawn_environments, options.seed)
        # All that decides what is drawn goes into the fingerprint, so that a resumed run notices a change.
        contents = [f"{file.name} {file.content}" for file in files]
        contents += [surroundings.content, str(options.seed), f"textures of {options.texture_size}, form {REVISION}"]
        return LiveVisits(
            TextureBank(open_textures(files, options.texture_size, cache)),
            surroundings,
            Distributions(options.cells, options.editing, options.cameras, options.light, options.photos),
            visits=options.visits,
            share=options.share,
            contents=contents,
        )
