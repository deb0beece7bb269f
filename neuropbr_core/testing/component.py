"""Base of the conformance suites: it finds a component by its name and builds it from options.

The author of a plugin subclasses the suite of a kind in a test file of the plugin's package:

    class TestConvNeXt(EncoderSuite):
        use = "convnext"
        option_sets = ({}, {"variant": "small"})

The suite asks the registry for the component, so its package must be installed; an editable install is enough.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.registry.options import missing_words, options_to_set

_HEAVY = ("torch", "timm", "torchvision", "lightning", "lightning_fabric", "jsonschema", "coremltools", "onnx", "wandb")
"""Packages that take a tenth of a second or more to import."""

_LIST_HEAVY_IMPORTS = (
    "import importlib, sys; importlib.import_module(sys.argv[1]); print(*set(sys.argv[2:]) & set(sys.modules))"
)
"""Program that imports the module named first and prints which of the packages named after it were imported."""

FULL_VARIABLE = "NEUROPBR_FULL_SUITE"
"""Environment variable that, when it is 1, runs the long checks of the suites too, as `plugin check --full` does."""


class ComponentSuite:
    """Base of the suites: one set of tests, run for every entry of `option_sets`.

    Attributes:
        kind: Kind of component; the suite of that kind sets it.
        use: The component's name, as a recipe writes it; the author sets it.
        option_sets: Options to test the component with, as a recipe writes them; an empty set takes all defaults.
    """

    kind: ClassVar[str]
    use: ClassVar[str]
    option_sets: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)

    @classmethod
    def options_type(cls) -> type:
        """Return the component's options dataclass, from the registry."""
        return default_registry().options(cls.kind, cls.use)

    @classmethod
    def make_options(cls, values: Mapping[str, Any]) -> Any:
        """Convert options, as a recipe writes them, to the component's dataclass.

        Args:
            values: Options by name.

        Returns:
            The dataclass.

        Raises:
            msgspec.ValidationError: A value has the wrong type or is out of range.
        """
        options_type = cls.options_type()
        missing = options_to_set(options_type, values)
        if missing:
            pytest.fail(f"{missing_words(missing)} (in `option_sets` of the suite)", pytrace=False)
        # The constructor checks no types; plain data that msgspec reads back is checked like a recipe.
        return msgspec.convert(msgspec.to_builtins(options_type(**values)), options_type)

    @classmethod
    def create(cls, options: Any, **context: Any) -> Any:
        """Build the component through the registry.

        Args:
            options: The component's options dataclass.
            context: The other arguments of the kind's create hook.

        Returns:
            The component.
        """
        return default_registry().create(cls.kind, cls.use, options, **context)

    @classmethod
    def attributes_for(cls, use: str, option_sets: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:  # noqa: ARG003
        """Return the attributes with which this suite suits a component; `plugin check` sets them.

        Args:
            use: The component's name.
            option_sets: Options to test it with.

        Returns:
            Attributes beside `use` and `option_sets`; none unless overridden.
        """
        return {}

    def create_from_defaults(self, folder: Path) -> None:  # noqa: ARG002 - for kinds that write
        """Build the component from default options, as cheaply as its kind allows.

        Args:
            folder: An empty folder.
        """
        self.create(self.options_type()())

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that takes `options` once for every option set."""
        if "options" in metafunc.fixturenames:
            metafunc.parametrize("options", self.option_sets, ids=_describe, indirect=True)

    @pytest.fixture
    def options(self, request: pytest.FixtureRequest) -> Any:
        """One option set as the component's options dataclass."""
        return self.make_options(request.param)

    @pytest.fixture
    def full(self) -> None:
        """Skip a long check unless long checks are asked for."""
        if os.environ.get(FULL_VARIABLE) != "1":
            pytest.skip(f"a long check: `neuropbr plugin check --full`, or {FULL_VARIABLE}=1 for pytest")

    def test_options_are_a_frozen_dataclass(self) -> None:
        """Options are a frozen dataclass."""
        options_type = self.options_type()
        assert dataclasses.is_dataclass(options_type), (
            f"the options hook must return a dataclass, but returned {options_type!r}: use @dataclass(frozen=True)"
        )
        # Recipes share options, so no component may change them.
        frozen = options_type.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert frozen, f"options must be frozen, but {options_type!r} is not: use @dataclass(frozen=True)"

    def test_options_have_a_json_schema(self) -> None:
        """Recipes can be checked against the options: msgspec derives a JSON Schema that names every field."""
        options_type = self.options_type()
        # msgspec puts every dataclass under its name into `$defs` and refers to it.
        definitions = msgspec.json.schema(options_type)["$defs"]
        properties = set(definitions[options_type.__name__]["properties"])
        fields = {field.name for field in dataclasses.fields(options_type)}
        assert properties == fields, (
            f"the JSON Schema of the options must name every field of the dataclass, but it has {sorted(properties)} "
            f"and the dataclass has {sorted(fields)}"
        )

    def test_options_survive_a_recipe(self, options: Any) -> None:
        """Options written to a resolved recipe and read again are equal."""
        # A resumed run builds its components from the recipe that the first one wrote.
        written = msgspec.json.encode(options)
        read_back = msgspec.json.decode(written, type=type(options))
        assert read_back == options, (
            f"options must survive a resolved recipe, but {options!r} is written as {written!r} and read back as "
            f"{read_back!r}"
        )

    def test_options_out_of_range_are_refused(self, options: Any) -> None:
        """A value of a wrong type, or just beyond a declared range, is refused before anything is built."""
        options_type = type(options)
        written = msgspec.to_builtins(options)
        definitions = msgspec.json.schema(options_type)["$defs"]
        for name, schema in definitions[options_type.__name__]["properties"].items():
            for value in _refused_values(schema):
                try:
                    msgspec.convert({**written, name: value}, options_type)
                except msgspec.ValidationError:
                    continue
                pytest.fail(
                    f"options must refuse values outside their declared type and range, but option {name!r} takes "
                    f"{value!r}: declare it as Annotated[TYPE, Meta(...)]",
                    pytrace=False,
                )

    def test_defaults_build(self, tmp_path: Path) -> None:
        """A recipe that names the component and no option gets a component."""
        for name in options_to_set(self.options_type(), {}):
            pytest.skip(f"option {name!r} has no default, so that recipes must set it")
        self.create_from_defaults(tmp_path)

    def test_thin_module_imports_nothing_heavy(self) -> None:
        """Importing the entry point's module imports no torch; the create hook imports the implementation."""
        # A single file has no second module to keep its implementation in, and listings find only installed ones.
        if default_registry().find(self.kind, self.use).file:
            pytest.skip("a plugin file may import anything, because only commands that name it load it")
        # The part before the colon is the module; what follows, if anything, is an object in it.
        module = default_registry().find(self.kind, self.use).value.partition(":")[0]
        # A process of its own, because this one has imported torch already.
        completed = subprocess.run(  # noqa: S603 (our own interpreter, an entry point's module)
            [sys.executable, "-c", _LIST_HEAVY_IMPORTS, module, *_HEAVY],
            # The new process must find the plugin even where pytest put its folder on the path.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, (
            f"the entry point's module {module} must import without an error, but: {completed.stderr}"
        )
        heavy = completed.stdout.strip()
        assert not heavy, (
            f"the entry point's module must import nothing heavy, so that listing components stays fast, but importing "
            f"{module} imported {heavy}: move the import into the create hook"
        )


def _refused_values(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Values that an option with this JSON Schema must not take."""
    # An option of type `Any` has an empty schema, and takes everything.
    if "type" in schema or "enum" in schema:
        wrong: Any = {"not": ["an", "option"]}
        if schema.get("type") == "object":
            wrong = "not a mapping"
        yield wrong
    if "enum" in schema:
        yield "no such choice"
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maximum" in schema:
        yield schema["maximum"] + 1
    # The bound itself is outside an open range.
    if "exclusiveMinimum" in schema:
        yield schema["exclusiveMinimum"]
    if "exclusiveMaximum" in schema:
        yield schema["exclusiveMaximum"]


def _describe(values: Mapping[str, Any]) -> str:
    """Name an option set in the id of a test."""
    # pytest itself would only number the option sets.
    if not values:
        return "defaults"
    return ",".join(f"{key}={value}" for key, value in values.items())
