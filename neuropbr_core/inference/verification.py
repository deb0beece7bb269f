"""Real views to verify exports on, from the user or rendered for this check, and the model to compare with."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import ExportError
from neuropbr_core.exporting.export import Views
from neuropbr_core.exporting.inputs import Signature, prepare_inputs
from neuropbr_core.exporting.record import OpenedExport
from neuropbr_core.exporting.subject import Subject, make_subject
from neuropbr_core.inference.predict import load_generator
from neuropbr_core.inference.views import ViewSet, read_capture, read_views
from neuropbr_core.recipe.sections import Synthesize

# Materials that ship with the package, so that every machine verifies on the same capture.
_MATERIALS = "neuropbr:examples/materials"
_LARGEST = 1024
"""Side of rendered views at most, in pixels; a larger input is resampled from them."""


@dataclass(frozen=True)
class RealViews:
    """Views to verify on.

    Attributes:
        views: The views.
        description: Their origin, in words.
    """

    views: ViewSet
    description: str

    def prepare(self, signature: Signature) -> Views:
        """The views as inputs of a model with that signature; they repeat when it takes more than there are.

        Raises:
            DataError: The model needs cameras and the views have none.
        """
        # Repeated views are as good as others here: the file and the model receive the same ones.
        photos = self.views.photos.repeated(signature.views)
        return Views(prepare_inputs(photos, signature, where=str(self.views.folder)), self.description)


def real_views(folder: str | Path | None, cameras: str | Path | None, signature: Signature) -> RealViews:
    """Read the user's views, or render a capture of a material that ships with the package.

    Args:
        folder: Views of one material; None to render.
        cameras: Their cameras file.
        signature: The model's signature. It decides on the size of rendered views, and on whether photos without
            cameras must be registered.

    Raises:
        DataError: The views cannot be used.
    """
    if folder is not None:
        return RealViews(
            read_capture(folder, cameras, register=signature.aligned, size=signature.photo_size), f"views of {folder}"
        )
    # Noise instead of views would excuse errors: on photos, the maps have the range and the smoothness of real use.
    size = min(signature.image_size, _LARGEST)
    with tempfile.TemporaryDirectory() as dataset:
        synthesize(Synthesize(_MATERIALS, samples=1, size=size, seed=1), Path(dataset), views=signature.views)
        views = read_views(Path(dataset) / "input" / "clean" / "sample_0000")
    return RealViews(views, "a rendered capture")


def original(opened: OpenedExport, run: str | Path, checkpoint: str | None = None) -> Subject:
    """The model that a file was exported from, changed as the file was.

    Args:
        opened: The file.
        run: The run's folder, or a checkpoint's.
        checkpoint: Of the run; default: the one in the file's metadata, otherwise the best.

    Raises:
        ExportError: The file was exported from other weights than these.
        CheckpointError: There is no such checkpoint.
    """
    metadata = opened.record.metadata
    loaded = load_generator(run, checkpoint or metadata.get("checkpoint", "best"))
    # A format that stores no metadata has no digest to compare; the maps themselves then tell.
    digest = loaded.weights
    if metadata.get("weights", digest) != digest:
        raise ExportError(
            f"{opened.path}: was made from {metadata.get('checkpoint')} of run {metadata.get('run')}, whose weights "
            f"are others than those in {loaded.checkpoint}; name the run and the checkpoint that it came from, or "
            f"export it again"
        )
    return make_subject(loaded.generator, loaded.spec, opened.entry, str(opened.path))
