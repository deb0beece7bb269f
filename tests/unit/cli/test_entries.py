"""Components that `--to` and `--for` name."""

import click
import pytest

from neuropbr_core.cli.entries import named_entries, spelled
from neuropbr_core.errors import RecipeError
from neuropbr_core.kinds import KINDS
from neuropbr_core.recipe import load_entries


def test_a_qualified_name_reaches_the_component_of_a_distribution() -> None:
    words = spelled(["neuropbr:torchscript.resolution=64", "onnx.batch=fixed", "super_resolution=bypass"])
    entries = named_entries("exporter", "--to", "neuropbr:torchscript, onnx", words)
    assert {name: entry.use for name, entry in entries.items()} == {
        "torchscript": "neuropbr:torchscript",
        "onnx": "neuropbr:onnx",
    }
    assert entries["torchscript"].entry.resolution == 64
    assert entries["onnx"].options.batch == "fixed"
    assert {entry.entry.super_resolution for entry in entries.values()} == {"bypass"}


def test_two_components_of_one_name_would_write_one_file() -> None:
    with pytest.raises(click.UsageError, match="--to names two components torchscript"):
        named_entries("exporter", "--to", "torchscript,acme:torchscript", [])
    with pytest.raises(RecipeError, match=r"export\.onnx: is named twice, first as `exporter onnx`"):
        load_entries(KINDS["exporter"], {"onnx": "exporter onnx", "neuropbr:onnx": "exporter neuropbr:onnx"}, [])
