"""What formats that can hold one text hold: shapes of the inputs, names of the outputs, and the metadata."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from neuropbr_core.contracts import ExportSpec
from neuropbr_core.errors import ExportError

NAME = "neuropbr.json"


@dataclass(frozen=True)
class Manifest:
    """The content of `neuropbr.json` in a file.

    Attributes:
        inputs: Shapes by name, in call order; -1 for extents that are open.
        outputs: Names of the maps, in the program's order.
        metadata: The spec's.
    """

    inputs: dict[str, list[int]]
    outputs: list[str]
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: ExportSpec) -> "Manifest":
        """The manifest of a file whose sizes are those of the spec's example inputs."""
        shapes = {name: list(value.shape) for name, value in spec.inputs.items()}
        return cls(shapes, list(spec.outputs), spec.metadata)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, text: str | bytes, path: Path) -> "Manifest":
        """Read what `text` wrote.

        Raises:
            ExportError: It is something else.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ExportError(f"{path}: its {NAME} cannot be read ({error}); export the model again") from error
