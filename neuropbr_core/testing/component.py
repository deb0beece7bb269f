"""What every conformance suite does first: find a component by its name, and build it from options.

A plugin author subclasses the suite of a kind in a test file of their own package:

    class TestConvNeXt(EncoderSuite):
        use = "convnext"
        option_sets = ({}, {"variant": "small"})

The component is resolved through the registry, so its package must be installed (an editable install will do).
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest

from neuropbr_core.registry import default_registry

_HEAVY = ("torch", "timm", "torchvision", "lightning", "lightning_fabric", "jsonschema", "coremltools", "onnx", "wandb")
_LIST_HEAVY_IMPORTS = (
    "import importlib, sys; importlib.import_module(sys.argv[1]); print(*set(sys.argv[2:]) & set(sys.modules))"
)


class ComponentSuite:
    """Base of the suites: one set of tests, run for every entry of `option_sets`.

    Attributes:
        kind: Kind of component; set by the suite of that kind.
        use: The component's name, as a recipe writes it; set by the author.
        option_sets: Options to test the component with, as a recipe writes them; the empty set is all defaults.
    """

    kind: ClassVar[str]
    use: ClassVar[str]
    option_sets: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)

    @classmethod
    def options_type(cls) -> type:
        """The component's options dataclass, from the registry."""
        return default_registry().options(cls.kind, cls.use)

    @classmethod
    def make_options(cls, values: Mapping[str, Any]) -> Any:
        """Turn options as a recipe writes them into the component's dataclass, checking types and ranges."""
        options_type = cls.options_type()
        return msgspec.convert(msgspec.to_builtins(options_type(**values)), options_type)

    @classmethod
    def create(cls, options: Any, **context: Any) -> Any:
        """Build the component through the registry; `context` is what the kind's create hook takes beside options."""
        return default_registry().create(cls.kind, cls.use, options, **context)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that takes `options` once for every option set."""
        if "options" in metafunc.fixturenames:
            metafunc.parametrize("options", self.option_sets, ids=_describe, indirect=True)

    @pytest.fixture
    def options(self, request: pytest.FixtureRequest) -> Any:
        """One option set as the component's options dataclass."""
        return self.make_options(request.param)

    def test_options_are_a_frozen_dataclass(self) -> None:
        """Options are a frozen dataclass."""
        options_type = self.options_type()
        assert dataclasses.is_dataclass(options_type), f"{options_type} is not a dataclass"
        frozen = options_type.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert frozen, f"{options_type} is not frozen: use @dataclass(frozen=True)"

    def test_options_have_a_json_schema(self) -> None:
        """Recipes can be checked against the options: msgspec derives a JSON Schema that names every field."""
        options_type = self.options_type()
        definitions = msgspec.json.schema(options_type)["$defs"]
        properties = set(definitions[options_type.__name__]["properties"])
        fields = {field.name for field in dataclasses.fields(options_type)}
        assert properties == fields, f"the schema has {properties}, the dataclass {fields}"

    def test_options_survive_a_recipe(self, options: Any) -> None:
        """Options written to a resolved recipe and read again are equal."""
        written = msgspec.json.encode(options)
        assert msgspec.json.decode(written, type=type(options)) == options, f"{written!r} reads back differently"

    def test_thin_module_imports_nothing_heavy(self) -> None:
        """Importing the entry point's module costs no torch; the implementation is imported by the create hook."""
        module = default_registry().find(self.kind, self.use).value.partition(":")[0]
        done = subprocess.run(  # noqa: S603 (our own interpreter, an entry point's module)
            [sys.executable, "-c", _LIST_HEAVY_IMPORTS, module, *_HEAVY],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stdout.strip(), f"importing {module} imported {done.stdout.strip()}: move it into the hook"


def _describe(values: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items()) or "defaults"
