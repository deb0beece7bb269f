"""Writes a trained generator through an exporter, and keeps the file only when it equals the model."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core import __version__
from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_core.exporting.verify import PASS_MARKS_DB, Comparison, compare, passes
from neuropbr_core.files import write_text
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.model import Generator, ModelSpec
from neuropbr_core.recipe.sections import Component
from neuropbr_core.registry import Registry


@dataclass(frozen=True)
class Exported:
    """A file that was written and verified.

    Attributes:
        path: The file or folder.
        precision: The pass mark that it met.
        comparisons: Its distance from the model, by map.
        details: What the exporter says of it.
    """

    path: Path
    precision: str
    comparisons: dict[str, Comparison]
    details: dict[str, str]


def create_exporter(part: Component, registry: Registry) -> Exporter:
    """Create an exporter that can work on this machine.

    Raises:
        ExportError: It cannot; the message has its reason and the install line.
    """
    exporter: Exporter = registry.create("exporter", part.use, part.options)
    available = exporter.requirements()
    if not available.ok:
        raise ExportError(f"export.{part.name}: exporter {part.use} cannot work here: {available.reason}")
    return exporter


def example_inputs(spec: ModelSpec, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs of the shapes that a generator takes, in its call order.

    Args:
        spec: The generator's spec.
        seed: Seed of the values.

    Returns:
        `views` in [0, 1]; `visible`, partly zero, when views are aligned; unit `directions` when view-conditioned.
    """
    random = torch.Generator().manual_seed(seed)
    shape = (1, spec.views, 3, spec.image_size, spec.image_size)
    inputs = {"views": torch.rand(shape, generator=random)}
    if spec.alignment != "none":
        inputs["visible"] = (torch.rand(shape, generator=random)[:, :, :1] > 0.1).float()
        inputs["views"] *= inputs["visible"]
    if spec.section.view_conditioning == "direction":
        inputs["directions"] = F.normalize(
            torch.randn(shape, generator=random) + torch.tensor([0, 0, 4.0]).view(3, 1, 1), dim=2
        )
    return inputs


@torch.no_grad()
def export_generator(
    generator: Generator,
    spec: ModelSpec,
    exporter: Exporter,
    final: Path,
    *,
    metadata: dict[str, str],
    inputs: dict[str, Tensor] | None = None,
) -> Exported:
    """Export, load the file back, compare it with the model, and only then move it to its final name.

    A report is written beside it as `<name>.verify.json`.

    Args:
        generator: In eval mode, on the CPU.
        spec: Its spec.
        exporter: Writes and reads the file.
        final: Where the file shall be, without suffix.
        metadata: Stored in the file where its format can.
        inputs: Real inputs to verify on; random ones when None.

    Raises:
        ExportError: The exporter failed, or the file does not equal the model; nothing is left under the final name.
    """
    target = final.with_name(final.name + exporter.suffix)
    aside = final.with_name(f".writing-{final.name}{exporter.suffix}")
    aside.parent.mkdir(parents=True, exist_ok=True)
    export_spec = ExportSpec(example_inputs(spec, seed=1), MAP_NAMES, {"neuropbr": __version__, **metadata})
    try:
        report = exporter.export(generator, export_spec, aside)
        comparisons = verify_export(generator, exporter, report, inputs or example_inputs(spec, seed=2))
        _remove(target)
        report.path.rename(target)
    except OSError as error:
        raise ExportError(f"{target}: could not be written ({error})") from error
    finally:
        _remove(aside)
    exported = Exported(target, report.precision, comparisons, report.details)
    write_text(target.with_name(target.name + ".verify.json"), json.dumps(_plain(exported), indent=2) + "\n")
    return exported


def verify_export(
    generator: Generator, exporter: Exporter, report: ExportReport, inputs: dict[str, Tensor]
) -> dict[str, Comparison]:
    """Compare a written file with the model on `inputs`.

    Raises:
        ExportError: A map misses the pass mark of the report's precision.
    """
    if report.precision not in PASS_MARKS_DB:
        raise ExportError(f"the exporter reports precision {report.precision!r}; known: {', '.join(PASS_MARKS_DB)}")
    expected: Maps = generator(**inputs).maps
    comparisons = compare(exporter.load(report.path)(inputs), expected)
    if not passes(comparisons, report.precision):
        worst = min(comparisons, key=lambda name: comparisons[name].psnr)
        found = comparisons[worst]
        raise ExportError(
            f"the exported {worst} differs from the model's: {found.psnr:.1f} dB (at least "
            f"{PASS_MARKS_DB[report.precision]:.0f} is needed for {report.precision}), largest difference "
            f"{found.max_difference:.2g}; the file was not kept"
        )
    return comparisons


def _plain(exported: Exported) -> dict[str, Any]:
    maps = {name: asdict(comparison) for name, comparison in exported.comparisons.items()}
    return {"file": exported.path.name, "precision": exported.precision, "maps": maps, "details": exported.details}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
