"""The students' networks go through `torch.export` and its decompositions, where exporters begin."""

import pytest
import torch

from neuropbr_core.maps import MAPS
from neuropbr_core.model import ModelSpec, build_generator
from neuropbr_core.recipe import load_recipe


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student_mobilenetv3_512", "student_convattn_1024"])
def test_students_are_captured_and_decomposed(name: str) -> None:
    sizes = ["data.image_size=256", "data.output_size=512", "model.decoder.super_resolution=2"]
    recipe = load_recipe(f"neuropbr:{name}", sizes)
    generator = build_generator(ModelSpec.from_recipe(recipe)).eval()
    program = torch.export.export(generator, (torch.rand(1, 3, 3, 256, 256),)).run_decompositions({})
    shapes = {spec.arg.name for spec in program.graph_signature.output_specs}
    found = {tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in shapes}
    assert found >= {(1, spec.channels, 512, 512) for spec in MAPS.values()}
