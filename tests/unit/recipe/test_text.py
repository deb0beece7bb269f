"""Written recipes read back as the same data."""

from typing import Any

import pytest
import yaml

from neuropbr_core.recipe.compare import differences
from neuropbr_core.recipe.yaml_tree import dump, parse, scalar

VALUES: list[Any] = [
    *("", " ", "a b", "yes", "No", "null", "~", "true", "1e-4", "0o17", "12", ".inf", "-", "- a", "a: b", "a #b", "#"),
    *("./data", "/abs/p", "../x", "neuropbr:resnet", "a:", "it's", 'say "x"', "back\\slash", "tab\t", "line\nline"),
    *(
        "ünï",
        "名前",
        "😀",
        "\x7f",
        "\u2028",
        "\u00a0",
        "\ufeff",
        "{a}",
        "[a]",
        "a,b",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
    ),
    *(0, -1, 2**63 - 1, 0.1, 1e-6, 1e300, -0.0, 5.0, True, False, None, [], {}, [1, "a,b", [2.0]]),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_survive_writing(value: Any) -> None:
    tree = {"top": value, "in": {"list": [value], "map": {"k": value}}}
    root, problems = parse(dump(tree), "r.yaml")
    assert problems == []
    assert root.plain() == tree
    assert type(root.plain()["top"]) is type(value)


@pytest.mark.parametrize("value", [value for value in VALUES if isinstance(value, str) and value != "0o17"], ids=repr)
def test_text_stays_text_for_other_readers(value: str) -> None:
    assert yaml.safe_load(scalar(value)) == value


def test_odd_keys_survive_writing() -> None:
    tree = {"1": {"true": 1, "a b": 2}}
    assert parse(dump(tree), "r.yaml")[0].plain() == tree


def test_the_layout() -> None:
    tree = {"name": "x", "data": {"root": None, "sizes": [1, 2]}, "losses": {"l1": {"weight": 1.0}}, "export": {}}
    assert dump(tree) == (
        "name: x\n\ndata:\n  root: null\n  sizes: [1, 2]\n\nlosses:\n  l1:\n    weight: 1.0\n\nexport: {}\n"
    )


def test_differences_are_values_and_whole_entries() -> None:
    old = {"name": "a", "losses": {"l1": {"weight": 1.0}, "gan": {"use": "g", "weight": 0.1}}, "data": {"root": None}}
    new = {"name": "b", "losses": {"l1": {"weight": 2.0}}, "data": {"root": "x"}, "export": {"pt": {}}}
    assert [str(difference) for difference in differences(old, new)] == [
        "losses.l1.weight: 1.0 -> 2.0",
        "losses.gan: {use: g, weight: 0.1} -> (absent)",
        "data.root: null -> x",
        "export: (absent) -> {pt: {}}",
    ]


def test_equal_recipes_do_not_differ() -> None:
    tree = {"name": "a", "data": {"root": None}}
    assert list(differences(tree, {**tree, "name": "b"})) == []
