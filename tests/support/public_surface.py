"""What people outside this repository build on, written down in one file, so that changing it is a decision.

`tests/public_surface.json` holds names and signatures of the Python API and of what plugins import, entry-point groups
and components, recipe keys with types and defaults, and commands with their options. A test compares; after a change
that is meant, rewrite the file and let the review see the difference:

    python tests/support/public_surface.py

Signatures are read from source, so that the file is the same for every version of Python and needs no torch.
"""

import ast
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from neuropbr_core.cli import root
from neuropbr_core.cli.option_rows import OptionRow, option_rows
from neuropbr_core.kinds import KINDS
from neuropbr_core.recipe.schema import core_sections
from neuropbr_core.registry import Registry

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "tests" / "public_surface.json"
FOR_PLUGINS = ("plugin", "kinds", "contracts", "maps", "errors", "testing")
"""Modules of the core that authors of components read; families may also import single names of `materials`."""

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def surface() -> dict[str, Any]:
    """The public surface of this checkout, as plain data."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return {
        "python": python_api(),
        "plugins": plugin_api(),
        "scripts": project["scripts"],
        "entry points": {group: sorted(points) for group, points in project["entry-points"].items()},
        "extras": sorted(project["optional-dependencies"]),
        "recipe": recipe_keys(),
        "commands": commands(),
    }


def python_api() -> dict[str, list[str]]:
    """The names that `neuropbr_core` itself offers."""
    names: list[str] = []
    exports: dict[str, str] = {}
    for statement in tree("neuropbr_core").body:
        if isinstance(statement, ast.Assign):
            target = ast.unparse(statement.targets[0])
            if target == "__all__":
                names = ast.literal_eval(statement.value)
            elif target == "_EXPORTS":
                exports = ast.literal_eval(statement.value)
    lines = {}
    for name in names:
        lines[name] = describe(exports.get(name, "neuropbr_core"), name)
    return lines


def plugin_api() -> dict[str, dict[str, list[str]]]:
    """The modules that authors of components import, with all names that they define or pass on."""
    api: dict[str, dict[str, list[str]]] = {}
    for short in FOR_PLUGINS:
        module = f"neuropbr_core.{short}"
        api[module] = {name: describe(module, name) for name in sorted(public_names(module))}
    for module, name in sorted(imported_materials()):
        api.setdefault(module, {})[name] = describe(module, name)
    return api


def public_names(module: str) -> set[str]:
    """Names that a module lists in `__all__`, or else defines without a leading underscore."""
    names = set()
    for statement in tree(module).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            target = assigned(statement)
            if target == "__all__" and statement.value is not None:
                return set(ast.literal_eval(statement.value))
            names.add(target)
    return {name for name in names if not name.startswith("_")}


def imported_materials() -> Iterator[tuple[str, str]]:
    """Names of `neuropbr_core.materials` that the families of this repository import."""
    for path in (REPOSITORY / "plugins").rglob("*.py"):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("neuropbr_core.materials"):
                for alias in node.names:
                    yield str(node.module), alias.name


def describe(module: str, name: str) -> list[str]:
    """The signature of a function, or a class with its fields and public methods, one line each."""
    definition = find(module, name)
    if isinstance(definition, ast.FunctionDef):
        return [signature(definition)]
    if not isinstance(definition, ast.ClassDef):
        return ["value"]
    bases = ", ".join(ast.unparse(base) for base in definition.bases)
    lines = [f"class({bases})"]
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef):
            if not statement.name.startswith("_") or statement.name in ("__init__", "__call__"):
                lines.append(statement.name + signature(statement))
        elif isinstance(statement, ast.AnnAssign) and not assigned(statement).startswith("_"):
            lines.append(field_line(statement))
    return lines


def find(module: str, name: str) -> Definition | None:
    """The definition of a name, in the module itself or where it imports the name from; None for what others define."""
    for statement in tree(module).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name == name:
            return statement
        if isinstance(statement, ast.Assign | ast.AnnAssign) and assigned(statement) == name:
            return statement
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("neuropbr_core"):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return find(str(statement.module), alias.name)
    return None


def signature(function: ast.FunctionDef) -> str:
    """Parameters with types and defaults, and the type of the result; a property has no parentheses."""
    result = "Any"
    if function.returns is not None:
        result = ast.unparse(function.returns)
    if any(ast.unparse(decorator).endswith("property") for decorator in function.decorator_list):
        return f": {result}"
    return f"({ast.unparse(function.args)}) -> {result}"


def field_line(statement: ast.AnnAssign) -> str:
    """A field with its type and default; ranges and descriptions, which `Annotated` adds, are left out."""
    annotation = statement.annotation
    while isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        inner = annotation.slice
        if not isinstance(inner, ast.Tuple):
            break
        annotation = inner.elts[0]
    line = f"{assigned(statement)}: {ast.unparse(annotation)}"
    if statement.value is not None:
        line += f" = {ast.unparse(statement.value)}"
    return line


def assigned(statement: ast.Assign | ast.AnnAssign) -> str:
    """The name that an assignment gives a value to."""
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0])
    return ast.unparse(statement.target)


def tree(module: str) -> ast.Module:
    """The parsed source of a module of the core."""
    path = REPOSITORY.joinpath(*module.split("."))
    if path.is_dir():
        return ast.parse((path / "__init__.py").read_text())
    return ast.parse(path.with_suffix(".py").read_text())


def recipe_keys() -> dict[str, Any]:
    """Keys of the core's sections, and the options of the components of this repository."""
    keys: dict[str, Any] = {}
    for name, section in core_sections().items():
        keys[name] = [option_line(row) for row in option_rows(section)]
    registry = Registry()
    for kind in KINDS.values():
        keys[f"every {kind.name}"] = [option_line(row) for row in option_rows(kind.entry_options)]
        for entry in registry.entries(kind.name):
            if entry.distribution == "neuropbr":
                rows = option_rows(registry.options(kind.name, entry.qualified))
                keys[f"{kind.name}/{entry.name}"] = [option_line(row) for row in rows]
    return keys


def option_line(row: OptionRow) -> str:
    """One key with what it takes."""
    line = f"{row.name}: {row.type}"
    if row.range:
        line += f", {row.range}"
    if row.required:
        return f"{line} (required)"
    return f"{line} = {json.dumps(row.default)}"


def commands() -> dict[str, list[str]]:
    """Every command with its arguments and options."""
    lines: dict[str, list[str]] = {}

    def walk(command: click.Command, path: str) -> None:
        lines[path] = [parameter_line(parameter) for parameter in command.params]
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                if inner is not None:
                    walk(inner, f"{path} {name}")

    walk(root, "neuropbr")
    return lines


def parameter_line(parameter: click.Parameter) -> str:
    """An argument or option with what it takes."""
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    line = f"{names}: {parameter.type.name}"
    if isinstance(parameter, click.Option) and parameter.is_flag:
        line = f"{names}: flag"
    if isinstance(parameter.type, click.Choice):
        line += f" of {', '.join(map(str, parameter.type.choices))}"
    if parameter.required:
        line += ", required"
    if parameter.multiple or parameter.nargs == -1:
        line += ", repeatable"
    return line


def text() -> str:
    """The public surface as the text of the file."""
    return json.dumps(surface(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
