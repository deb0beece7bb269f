"""The exporter of torch.export archives."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from neuropbr_core.errors import ExportError
from neuropbr_core.testing.exporter import ExporterSuite, TinyGenerator, example_export_spec
from neuropbr_exporters.pt2 import Options
from neuropbr_exporters.pt2.exporter import ArchiveExporter


class TestArchive(ExporterSuite):
    use = "pt2"


@pytest.mark.slow
class TestArchiveOfOpenSize(ExporterSuite):
    use = "pt2"
    option_sets = ({"batch": "fixed", "size": "open"},)


def export(folder: Path, options: Options | None = None) -> Path:
    path = folder / "deep" / "model.pt2"
    return ArchiveExporter(options or Options()).export(TinyGenerator(directed=True), example_export_spec(), path).path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with the default options, to read only."""
    return export(tmp_path_factory.mktemp("pt2"))


def test_open_batch_and_size_take_what_was_not_exported(tmp_path: Path) -> None:
    program = ArchiveExporter(Options()).load(export(tmp_path, Options(size="open")))
    sample = example_export_spec(size=20).inputs
    inputs = {name: torch.cat((value, value.flip(-1))) for name, value in sample.items()}
    for name, value in TinyGenerator(directed=True)(**inputs).maps.items():
        torch.testing.assert_close(program(inputs)[name], value, atol=1e-5, rtol=0)


def test_pytorch_alone_can_run_it(exported: Path) -> None:
    module = torch.export.load(str(exported)).module()
    maps = module(**example_export_spec().inputs)
    assert [tuple(value.shape) for value in maps] == [(1, n, 16, 16) for n in (3, 1, 1, 3)]


def test_foreign_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt2"
    torch.export.save(torch.export.export(nn.ReLU(), (torch.rand(2),)), str(path))
    with pytest.raises(ExportError, match=r"foreign\.pt2: an archive that .* has no neuropbr\.json"):
        ArchiveExporter(Options()).load(path)


@pytest.mark.parametrize("kept", [0, 500, -200])
def test_truncated_archive_is_refused(kept: int, exported: Path, tmp_path: Path) -> None:
    """A cut archive may still look like one: its weights are an archive inside it."""
    path = tmp_path / "model.pt2"
    path.write_bytes(exported.read_bytes()[:kept])
    with pytest.raises(ExportError, match=r"model\.pt2: .* damaged"):
        ArchiveExporter(Options()).load(path)


def test_an_archive_without_its_program_is_refused(exported: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.pt2"
    with zipfile.ZipFile(exported) as whole, zipfile.ZipFile(bare, "w") as archive:
        for name in whole.namelist():
            if "/extra/" in name:
                archive.writestr(name, whole.read(name))
    with pytest.raises(ExportError, match=r"bare\.pt2: not a torch\.export archive, or damaged"):
        ArchiveExporter(Options()).load(bare)
