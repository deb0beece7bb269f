"""Real views to verify exports on: a folder of the user's, or a capture rendered for the purpose."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import ExportError
from neuropbr_core.exporting import OpenedExport, Signature, Subject, Views, make_subject, prepare_inputs
from neuropbr_core.inference.predict import load_generator
from neuropbr_core.inference.views import ViewSet, read_capture, read_views
from neuropbr_core.model import weights_digest
from neuropbr_core.recipe.sections import Synthesize

_MATERIALS = "neuropbr:examples/materials"
_LARGEST = 1024
"""Side of rendered views at most, in pixels; a larger input is resampled from them."""


@dataclass(frozen=True)
class RealViews:
    """Views to verify on.

    Attributes:
        views: The views.
        description: Where they are from, in words.
    """

    views: ViewSet
    description: str

    def prepare(self, signature: Signature) -> Views:
        """The views as a model of that signature takes them; begun again from the first when it takes more.

        Raises:
            DataError: The model needs cameras and the views have none.
        """
        photos = self.views.photos.repeated(signature.views)
        return Views(prepare_inputs(photos, signature, where=str(self.views.folder)), self.description)


def real_views(folder: str | None, cameras: str | None, signature: Signature) -> RealViews:
    """Read the user's views, or render a capture of a material that ships with the package.

    Args:
        folder: Views of one material; None to render.
        cameras: Their cameras file.
        signature: The model's: size of rendered views, and whether photos without cameras must be registered.

    Raises:
        DataError: The views cannot be used.
    """
    if folder is not None:
        return RealViews(read_capture(folder, cameras, register=signature.aligned), f"views of {folder}")
    size = min(signature.image_size, _LARGEST)
    with tempfile.TemporaryDirectory() as made:
        synthesize(Synthesize(_MATERIALS, samples=1, size=size, seed=1), Path(made), views=signature.views)
        views = read_views(Path(made) / "input" / "clean" / "sample_0000")
    return RealViews(views, "a rendered capture")


def original(opened: OpenedExport, run: str | Path, checkpoint: str | None = None) -> Subject:
    """The model that a file was exported from, changed as the file was.

    Args:
        opened: The file.
        run: The run's folder, or a checkpoint's.
        checkpoint: Of the run; default: the one that the file says it was made from, else the best.

    Raises:
        ExportError: The file was made from other weights than these.
        CheckpointError: There is no such checkpoint.
    """
    said = opened.record.metadata
    loaded = load_generator(run, checkpoint or said.get("checkpoint", "best"))
    found = weights_digest(loaded.checkpoint)
    if said.get("weights", found) != found:
        raise ExportError(
            f"{opened.path}: was made from {said.get('checkpoint')} of run {said.get('run')}, whose weights are others "
            f"than those in {loaded.checkpoint}; name the run and the checkpoint that it came from, or export it again"
        )
    return make_subject(loaded.generator, loaded.spec, opened.entry, str(opened.path))
