"""The composed schema: sound, closed, free of `oneOf`, and right about files that extend others."""

import json
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from neuropbr_core.errors import RecipeError
from neuropbr_core.kinds import KINDS
from neuropbr_core.plugin import BELONGS_TO, Meta
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.reference import editor_schema
from neuropbr_core.recipe.schema import Schema, compose, owned_options, section_order
from neuropbr_core.recipe.yaml_tree import parse
from neuropbr_core.registry import Registry
from neuropbr_core.shipped import recipe_names, resolve


@pytest.fixture(scope="module")
def schema() -> Schema:
    composed, broken = editor_schema(Registry())
    assert broken == []
    return composed


def valid(schema: Schema, text: str) -> bool:
    return bool(Draft202012Validator(schema).is_valid(yaml.safe_load(text)))


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from subschemas(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from subschemas(value)


def test_it_is_a_json_schema(schema: Schema) -> None:
    Draft202012Validator.check_schema(json.loads(json.dumps(schema)))


def test_no_alternative_is_told_by_trial(schema: Schema) -> None:
    assert not any("oneOf" in part for part in subschemas(schema))


def test_every_reference_has_its_definition(schema: Schema) -> None:
    refs = {part["$ref"] for part in subschemas(schema) if isinstance(part.get("$ref"), str)}
    assert refs
    assert refs <= {f"#/$defs/{name}" for name in schema["$defs"]}


def test_every_mapping_of_sections_and_options_is_closed(schema: Schema) -> None:
    slots = {kind.name for kind in KINDS.values()}
    described = [schema, *schema["properties"].values()]
    described += [part for name, part in schema["$defs"].items() if name not in slots]
    mappings = [part for part in described if part.get("type") == "object"]
    assert len(mappings) > 10
    assert all("additionalProperties" in part for part in mappings)


def test_sections_stand_in_the_order_of_the_recipe() -> None:
    assert section_order() == ["data", "model", "teacher", "losses", "optimizer", "training", "observers", "export"]
    assert list(compose([])["properties"])[4:] == section_order()


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_as_they_are_written(schema: Schema, name: str) -> None:
    root, _ = parse(resolve(f"neuropbr:{name}").read_text(encoding="utf-8"), name)
    assert [error.message for error in Draft202012Validator(schema).iter_errors(root.plain())] == []


WHOLE = "model: {encoder: {use: resnet}, fusion: {use: vit}}\nlosses: {l1: {}, mine: {use: l1, albedo: 2}}\n"


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE.replace("resnet", "'neuropbr:resnet'"),
        WHOLE + "data: {source: {}, root: x}",
        WHOLE + "data: {source: {use: layout}}",
        "extends: base.yaml",
        "extends: [a.yaml, 'neuropbr:teacher_default']\nlosses: {gan: null, other: {weight: 2}}",
        "extends: a.yaml\nmodel: {encoder: {variant: resnet18}}",
    ],
)
def test_it_accepts(schema: Schema, text: str) -> None:
    assert valid(schema, text)


@pytest.mark.parametrize(
    "text",
    [
        "training: {}",
        WHOLE.replace("use: vit", ""),
        WHOLE.replace("use: l1,", ""),
        WHOLE.replace("resnet", "restnet"),
        WHOLE.replace("albedo: 2", "albdo: 2"),
        WHOLE.replace("l1: {}", "l1: {albdo: 1}"),
        WHOLE.replace("l1: {}", "l1: {maps: [albedo]}"),
        "extends: a.yaml\nlosses: {l1: {albdo: 1}}",
        WHOLE + "data: {source: {file: x}}",
        WHOLE + "data: {source: {use: lay-out}}",
        "extends: 3",
        "extends: a.yaml\nlosses: {'a.b': {use: l1}}",
    ],
)
def test_it_refuses(schema: Schema, text: str) -> None:
    assert not valid(schema, text)


@pytest.mark.parametrize("use", ["../../etc/passwd", "a~b", "a%2Fb", "a b", "ünet", "a#b", "a?b"])
def test_a_component_of_any_name_is_reported_as_unknown(use: str) -> None:
    with pytest.raises(RecipeError, match="no installed distribution offers encoder/") as caught:
        load_recipe("neuropbr:quickstart", [f"model.encoder.use={json.dumps(use)}"])
    assert use in str(caught.value)


@dataclass(frozen=True)
class Owned:
    """Options that belong to others: with a default, with a factory of defaults, and without a default."""

    margin: str
    plain: str = "wide"
    scales: tuple[int, ...] = field(default_factory=lambda: (1, 2))
    of_margin: Annotated[int, Meta(extra={BELONGS_TO: "margin"})] = 1
    of_plain: Annotated[int, Meta(extra={BELONGS_TO: "plain"})] = 1
    of_scales: Annotated[int, Meta(extra={BELONGS_TO: "scales"})] = 1


def test_options_that_belong_to_a_choice_know_its_default() -> None:
    assert owned_options(Owned) == {
        "of_margin": ("margin", MISSING),
        "of_plain": ("plain", "wide"),
        "of_scales": ("scales", (1, 2)),
    }


PYRAMID = """
from dataclasses import dataclass, field
from typing import Annotated

from neuropbr_core.plugin import BELONGS_TO, Meta, hookimpl

NEUROPBR_API = 1

@dataclass(frozen=True)
class Options:
    scales: tuple[int, ...] = field(default_factory=lambda: (1, 2))
    blur: Annotated[float, Meta(extra={BELONGS_TO: "scales"})] = 0.0

@hookimpl
def loss_options():
    return Options

@hookimpl
def create_loss(options):
    raise NotImplementedError
"""


@pytest.mark.parametrize(("scales", "blur"), [("[1, 2]", 0.5), ("[1, 4]", 0.0)])
def test_the_default_choice_that_is_written_out_keeps_what_belongs_to_it(
    scales: str, blur: float, tmp_path: Path
) -> None:
    (tmp_path / "pyramid.py").write_text(PYRAMID)
    base = "extends: neuropbr:quickstart\nplugins: [pyramid.py]\nlosses: {pyramid: {blur: 0.5}}\n"
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "top.yaml").write_text(f"extends: base.yaml\nlosses: {{pyramid: {{scales: {scales}}}}}\n")
    recipe = load_recipe(tmp_path / "top.yaml", registry=Registry())
    assert recipe.losses["pyramid"].options.blur == blur
