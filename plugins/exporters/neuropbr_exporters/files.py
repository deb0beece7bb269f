"""Exported files: how they are written whole, the manifest inside them, and how they run as a function."""

import json
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from neuropbr_core.contracts import ExportSpec, Maps
from neuropbr_core.errors import ExportError

OPEN = -1
"""Extent of a dimension that a file leaves open."""

_LARGEST_MANIFEST = 16 * 2**20
"""Bytes of a manifest; those of our models have some thousand."""

Shapes = Mapping[str, Sequence[int]]
"""Shapes of the inputs by name, in call order; `OPEN` where the file takes any extent."""

MANIFEST_NAME = "neuropbr.json"
"""Name under which a format stores the manifest."""


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
        return cls(shapes_of(spec.inputs), list(spec.outputs), spec.metadata)

    def text(self) -> str:
        """The manifest as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, text: str | bytes, path: Path) -> "Manifest":
        """Read the JSON that `text` returned.

        Args:
            text: JSON.
            path: The file that it was read from, for messages.

        Raises:
            ExportError: The text is not a manifest.
        """
        try:
            # Typed: a shape that is text, or an output that is a list, would fail where the file is used.
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ExportError(
                f"{path}: its {MANIFEST_NAME} cannot be read ({error}); export the model again"
            ) from error


def read_archived_manifest(path: Path, exporter: str, *, file_type: str, foreign: str) -> Manifest:
    """Read the manifest of a file of `torch.jit` or `torch.export`: both are zip archives with our text as an extra.

    Args:
        path: The file.
        exporter: The exporter's name, for messages.
        file_type: Such a file in words, with its article: `a TorchScript file`.
        foreign: What a zip archive without a manifest is, in words.

    Raises:
        ExportError: The file is missing, damaged, or has no manifest.
    """
    text = b""
    try:
        with zipfile.ZipFile(existing(path, exporter)) as archive:
            for name in archive.namelist():
                # The archive's top folder has a name that depends on how it was saved.
                if name.endswith(f"/extra/{MANIFEST_NAME}"):
                    # No more than a manifest has: a compressed text could unpack to more than the memory holds.
                    with archive.open(name) as file:
                        text = file.read(_LARGEST_MANIFEST)
                    break
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise damaged(path, file_type, error) from error
    if not text:
        raise ExportError(
            f"{path}: {foreign}: it has no {MANIFEST_NAME} that names its inputs and outputs; export the model again"
        )
    return Manifest.read(text, path)


class ExportedFile:
    """An exported file as a function from inputs to maps.

    Args:
        path: The file, for messages.
        manifest: The shapes that it takes and the maps that it returns, in the order in which `call` returns them.
        call: Runs the file on tensors by name.
    """

    def __init__(self, path: Path, manifest: Manifest, call: Callable[[dict[str, Tensor]], Sequence[Tensor]]) -> None:
        self._path = path
        self._manifest = manifest
        self._call = call

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> Maps:
        """Run the file.

        Args:
            inputs: Tensors by name, with the names and shapes that were exported.

        Returns:
            Maps by name, each in its own range.

        Raises:
            ExportError: Names or shapes differ (the message has the ones that the file takes), or the file does not
                run.
        """
        shapes = shapes_of(inputs)
        # Runtimes check shapes in part only: a traced program would be silently wrong on other sizes.
        if not fit(shapes, self._manifest.inputs):
            raise ExportError(
                f"{self._path}: got {describe(shapes)}, but this file takes {describe(self._manifest.inputs)}; give it "
                "exactly these, or export the model again for other sizes"
            )
        try:
            # In the manifest's order: some runtimes take their inputs by place.
            maps = self._call({name: inputs[name] for name in self._manifest.inputs})
        except Exception as error:  # each runtime has classes of its own
            raise ExportError(f"{self._path}: does not run on this machine: {first_line(error)}") from error
        # Its manifest and its program may disagree in a file that somebody changed.
        tensors = isinstance(maps, tuple | list) and all(isinstance(value, Tensor) for value in maps)
        if not tensors or len(maps) != len(self._manifest.outputs):
            raise ExportError(
                f"{self._path}: does not return the {len(self._manifest.outputs)} maps that its {MANIFEST_NAME} names; "
                "export the model again"
            )
        return dict(zip(self._manifest.outputs, maps, strict=True))


def shapes_of(inputs: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Shapes by name, in the order of the inputs."""
    return {name: list(value.shape) for name, value in inputs.items()}


def fit(shapes: Shapes, expected: Shapes) -> bool:
    """Whether inputs have the names and shapes that a file takes."""
    if set(shapes) != set(expected):
        return False
    for name, extents in expected.items():
        if len(shapes[name]) != len(extents):
            return False
        for extent, size in zip(shapes[name], extents, strict=True):
            if size not in (OPEN, extent):
                return False
    return True


def describe(shapes: Shapes) -> str:
    """Shapes in words, `?` for extents that are open."""
    rows = []
    for name, shape in shapes.items():
        extents = "×".join(map(str, shape)).replace(str(OPEN), "?")
        rows.append(f"{name} {extents}")
    return ", ".join(rows) or "nothing"


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that is not blank, or the exception's class."""
    for line in str(error).splitlines():
        if line.strip():
            return line.strip()
    return type(error).__name__


def damaged(path: Path, file_type: str, error: BaseException) -> ExportError:
    """The error for a file that its format's own reader refuses.

    Args:
        path: The file.
        file_type: What it should be, with an article: `an ONNX file`.
        error: What the reader raised.
    """
    return ExportError(f"{path}: not {file_type}, or damaged ({first_line(error)}); export the model again")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path in the same folder to write to, and move the file into place when all went well.

    Args:
        path: The file's final name; missing folders are created.

    Raises:
        ExportError: It could not be written; a file that was at `path` before is untouched, and nothing else is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, since a rename is atomic only within one file system.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            aside = Path(folder, path.name)
            yield aside
            aside.replace(path)
    except (OSError, RuntimeError) as error:  # libraries in C++ report a full disk as RuntimeError
        raise ExportError(f"{path}: could not be written: {error}") from error


def existing(path: Path, exporter: str) -> Path:
    """Return `path`, which must be a file.

    Raises:
        ExportError: There is no such file.
    """
    if path.is_dir():
        raise ExportError(f"{path}: is a folder; give a file that the {exporter} exporter wrote")
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file; give one that the {exporter} exporter wrote")
    return path


def mebibytes(path: Path) -> str:
    """Size of a file for a report."""
    return f"{path.stat().st_size / 2**20:.1f}"
