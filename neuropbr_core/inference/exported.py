"""An exported file, applied to views as the model that it came from would be."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import DataError
from neuropbr_core.exporting import OpenedExport, Signature, open_export, prepare_inputs
from neuropbr_core.inference.views import ViewSet


@dataclass(frozen=True)
class ExportedGenerator:
    """An exported file, ready to use; what it says of itself is enough, no run is needed.

    Attributes:
        opened: The file.
    """

    opened: OpenedExport

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.opened.signature

    @property
    def needs_cameras(self) -> bool:
        """Whether it takes aligned views, and so must know where each view was taken from."""
        return self.signature.aligned

    def prepare(self, views: ViewSet) -> dict[str, Tensor]:
        """Make the file's inputs of views, as in training.

        Args:
            views: At least as many as the file takes; the first ones are used.

        Returns:
            Inputs by name; `views` are `(1, V, 3, S, S)`, sRGB-encoded in [0, 1], S being the signature's image size.

        Raises:
            DataError: There are too few views, or cameras are missing.
        """
        wanted = self.signature.views
        given = len(views.paths)
        if given < wanted:
            raise DataError(f"{views.folder}: has {given} views, but {self.opened.path} takes {wanted}; add some")
        photos = views.photos.repeated(wanted)
        return prepare_inputs(photos, self.signature, where=str(views.folder))

    def apply(self, inputs: dict[str, Tensor]) -> Maps:
        """Predict maps `(1, channels, S, S)` from what `prepare` made; S is the signature's output size.

        Raises:
            ExportError: The file does not run.
        """
        return self.opened.program(inputs)

    def predict(self, views: ViewSet) -> Maps:
        """Predict the maps of one material: `apply` on what `prepare` makes of its views."""
        return self.apply(self.prepare(views))


def load_exported(path: str | Path, exporter: str | None = None) -> ExportedGenerator:
    """Load an exported file.

    Args:
        path: What `neuropbr export` or `neuropbr run` wrote.
        exporter: Name of its exporter, where neither a record beside it nor its suffix tells.

    Raises:
        ExportError: It is missing or damaged, or its exporter cannot run here or cannot be told.
        PluginError: Its exporter is not installed.
    """
    loaded = ExportedGenerator(open_export(Path(path), exporter))
    loaded.opened.program  # noqa: B018 - damage shows here, not at the first prediction
    return loaded
