"""Reads a thin module's docstring and API version from its source, so that a listing imports nothing.

`importlib.util.find_spec` imports parent packages; this search does not.
"""

import ast
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ThinModule:
    """What the source of a thin module states.

    Attributes:
        path: The source file.
        docstring: The module's docstring, indentation cleaned.
        api: The literal assigned to `NEUROPBR_API`; None when there is none.
    """

    path: Path
    docstring: str | None
    api: object


def read_thin_module(module: str) -> ThinModule | None:
    """Parse a module's source without importing it or its parents.

    Args:
        module: Dotted name.

    Returns:
        What it states, or None when no source is found or it does not parse.
    """
    path = locate(module)
    if path is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    return ThinModule(path, ast.get_docstring(tree), _api_literal(tree))


def locate(module: str) -> Path | None:
    """Find a module's source file on `sys.path`, or through the import finders of editable installs.

    Args:
        module: Dotted name.
    """
    first, *rest = module.split(".")
    found = _descend([Path(folder) for folder in sys.path], [first, *rest])
    if found is None:
        source, folders = _ask_finders(first)
        found = _descend(folders, rest) if rest else source
    return found


def _descend(folders: Iterable[Path], parts: list[str]) -> Path | None:
    """Follow a dotted name down from `folders`."""
    source: Path | None = None
    for part in parts:
        source, folders = _step(folders, part)
    return source


def _step(folders: Iterable[Path], part: str) -> tuple[Path | None, list[Path]]:
    """Source file of one part of a dotted name, and the folders that its children lie in.

    A package or module wins over namespace portions, which lack a source file but add up.
    """
    portions: list[Path] = []
    for folder in folders:
        package = folder / part
        if (source := package / "__init__.py").is_file():
            return source, [package]
        if (source := folder / f"{part}.py").is_file():
            return source, []
        if package.is_dir():
            portions.append(package)
    return None, portions


def _ask_finders(name: str) -> tuple[Path | None, list[Path]]:
    """Source file and folders of a top-level module that only an import finder knows."""
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, None)
        except Exception:  # noqa: S112 - a finder of somebody else's must not break a listing
            continue
        if spec is not None:
            source = Path(spec.origin) if spec.has_location and spec.origin else None
            return source, [Path(folder) for folder in spec.submodule_search_locations or ()]
    return None, []


def _api_literal(tree: ast.Module) -> object:
    for statement in tree.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="NEUROPBR_API")], value=ast.Constant(value=value))
                | ast.AnnAssign(target=ast.Name(id="NEUROPBR_API"), value=ast.Constant(value=value))
            ):
                return value
            case _:
                pass
    return None
