"""What exporters share: the module that they write, files that appear whole, and programs that check their inputs."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import ExportError, NeuroPBRError

OPEN = -1
"""Extent of a dimension that a file leaves open."""

Shapes = Mapping[str, Sequence[int]]
"""Shapes of the inputs by name, in call order; `OPEN` where any extent will do."""


class MapsOnly(nn.Module):
    """A generator that returns its maps as a tuple.

    Args:
        generator: Returns a `Prediction`.
        outputs: Names of the maps, in the order of the tuple.
    """

    def __init__(self, generator: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.generator = generator
        self.outputs = outputs

    def forward(
        self, views: Tensor, visible: Tensor | None = None, directions: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Predict.

        Raises:
            ExportError: The generator does not predict one of the maps.
        """
        maps: Maps = self.generator(views, visible, directions).maps
        if missing := [name for name in self.outputs if name not in maps]:
            raise ExportError(f"the model does not predict {', '.join(missing)}; it predicts {', '.join(maps)}")
        return tuple(maps[name] for name in self.outputs)


class Program:
    """An exported file as a function from inputs to maps.

    Args:
        path: The file, for messages.
        shapes: What it takes.
        outputs: Names of the maps, in the order in which `call` returns them.
        call: Runs the file on tensors by name.
    """

    def __init__(
        self, path: Path, shapes: Shapes, outputs: Sequence[str], call: Callable[[dict[str, Tensor]], Sequence[Tensor]]
    ) -> None:
        self._path, self._shapes, self._outputs, self._call = path, shapes, outputs, call

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> Maps:
        """Run the file.

        Args:
            inputs: Tensors by name, of the names and shapes that were exported.

        Raises:
            ExportError: Names or shapes are others (the message has the ones that are taken), or the file does not run.
        """
        self._check({name: tuple(value.shape) for name, value in inputs.items()})
        try:
            maps = self._call({name: inputs[name] for name in self._shapes})
        except Exception as error:  # each runtime has classes of its own
            raise ExportError(f"{self._path}: does not run on this machine: {first_line(error)}") from error
        return dict(zip(self._outputs, maps, strict=True))

    def _check(self, found: Shapes) -> None:
        if set(found) != set(self._shapes) or not all(
            fits(found[name], expected) for name, expected in self._shapes.items()
        ):
            raise ExportError(
                f"{self._path}: got {describe(found)}, but this file takes {describe(self._shapes)}; give it exactly "
                "these, or export the model again for other sizes"
            )


def fits(found: Sequence[int], expected: Sequence[int]) -> bool:
    """Whether a shape is one that a file takes."""
    same = (size in (OPEN, own) for own, size in zip(found, expected, strict=False))
    return len(found) == len(expected) and all(same)


def describe(shapes: Shapes) -> str:
    """Shapes in words, `?` for extents that are open."""
    rows = (
        f"{name} {'×'.join('?' if size == OPEN else str(size) for size in shape)}" for name, shape in shapes.items()
    )
    return ", ".join(rows) or "nothing"


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


@contextmanager
def conversion(name: str) -> Iterator[None]:
    """Turn whatever a converter raises into an `ExportError`; the model's own refusals pass.

    Converters write files on their way, so that a full disk shows here too.

    Args:
        name: The exporter's, for messages.
    """
    try:
        yield
    except NeuroPBRError:
        raise
    except OSError as error:
        raise ExportError(f"{name}: a file could not be written: {error}") from error
    except Exception as error:
        raise ExportError(f"{name}: the model cannot be exported: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """What an exception says, and what the one says that it came from: converters wrap the model's own."""
    texts = [first_line(error)]
    root: BaseException = error
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    return "; ".join(dict.fromkeys([*texts, first_line(root)]))


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path in the same folder to write to, and move the file into place when all went well.

    Raises:
        ExportError: It could not be written; what stood at `path` is untouched, and nothing else is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            aside = Path(folder, path.name)
            yield aside
            aside.replace(path)
    except (OSError, RuntimeError) as error:
        raise ExportError(f"{path}: could not be written: {error}") from error


def existing(path: Path, name: str) -> Path:
    """`path`, when a file stands there.

    Raises:
        ExportError: There is none.
    """
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file; give one that the {name} exporter wrote")
    return path


def mebibytes(path: Path) -> str:
    """Size of a file for a report."""
    return f"{path.stat().st_size / 2**20:.1f}"
