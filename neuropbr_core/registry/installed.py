"""What is installed: the components that the metadata of distributions declares. Nothing is imported.

Docstrings and API versions are read from the source files of thin modules. `importlib.util.find_spec` would import
their parent packages; the search of this file does not.
"""

import ast
import hashlib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint
from pathlib import Path

from neuropbr_core.errors import PluginBroken, PluginNotFound
from neuropbr_core.kinds import KINDS
from neuropbr_core.reading import read_bytes
from neuropbr_core.registry.names import normalized
from neuropbr_core.shown import shortened

BLOCK_VARIABLE = "NEUROPBR_BLOCK_PLUGINS"
"""Environment variable with names of components to block, separated by commas."""

FILE_DISTRIBUTION = "plugin-file"
"""Stands for the distribution of components that a single file offers: `plugin-file:NAME`."""

_LITERALS = ("NEUROPBR_API", "NEUROPBR_REQUIRES")
"""What thin modules state, in the order of `ThinModule`."""

PARSE_ERRORS = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)
"""What `ast.parse` and `ast.literal_eval` raise: TypeError for a list as a key, MemoryError for deep nesting."""

_KIND_OF_GROUP = {kind.group: kind.name for kind in KINDS.values()}


@dataclass(frozen=True)
class ThinModule:
    """What the source of a thin module states.

    Attributes:
        path: The source file.
        docstring: The module's docstring, indentation cleaned.
        api: The literal assigned to `NEUROPBR_API`; None when there is none.
        requires: The literal assigned to `NEUROPBR_REQUIRES`: what pip installs, by the module that it brings; None
            when there is none.
    """

    path: Path
    docstring: str | None
    api: object
    requires: object = None

    @property
    def summary(self) -> str | None:
        """First line of the docstring; None when there is none."""
        lines = (self.docstring or "").strip().splitlines()
        if not lines:
            return None
        return lines[0].strip()


@dataclass(frozen=True, order=True)
class Entry:
    """One component that an installed distribution declares.

    Attributes:
        kind: Kind of component, a key of `KINDS`.
        name: Entry point's name: what recipes write.
        distribution: Name of the distribution, normalised.
        version: Version of the distribution.
        group: Entry-point group.
        value: Entry point's value: the thin module, as in `acme_convnext`.
        file: Path of the file that is the component's module, for one that no distribution declares; else empty.
            `version` is then the file's hash.
    """

    kind: str
    name: str
    distribution: str
    version: str
    group: str
    value: str
    file: str = ""

    @property
    def qualified(self) -> str:
        """The name that stays unique when another distribution offers the same one: `distribution:name`."""
        return f"{self.distribution}:{self.name}"

    @property
    def module(self) -> str:
        """Dotted name of the thin module."""
        # The value of an entry point may go on with `:attribute` and ` [extra]`.
        return re.split(r"[:\[\s]", self.value, maxsplit=1)[0]

    @property
    def provenance(self) -> dict[str, str]:
        """What a run records about a component that it used, as plain data."""
        return {
            "kind": self.kind,
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "entry_point": self.file or self.value,
        }

    def load(self) -> object:
        """Import the thin module, or what the entry point names in it; raises whatever the module raises."""
        if not self.file:
            return EntryPoint(self.name, self.value, self.group).load()
        # The module's name has the file's hash, so that a file that changed is a module of its own.
        if self.module in sys.modules:
            return sys.modules[self.module]
        content = read_bytes(Path(self.file))
        # A run records the version, so exactly the text that has it must be executed. The file may have been edited
        # since it was added, which the process that started this one may have done; and cached bytecode may be older.
        if _file_version(content) != self.version:
            raise ImportError(f"{self.file} has changed since this command began; start the command again")
        spec = importlib.util.spec_from_file_location(self.module, self.file)
        if spec is None:
            raise ImportError(f"{self.file} is no Python module")
        module = importlib.util.module_from_spec(spec)
        # Dataclasses and pickle look a class's module up by its name.
        sys.modules[self.module] = module
        try:
            exec(compile(content, self.file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - a module is a program
        except BaseException:
            del sys.modules[self.module]
            raise
        return module

    def source(self) -> Path | None:
        """The source file of the thin module; None when there is none."""
        if self.file:
            return Path(self.file)
        return locate(self.module)

    def thin_module(self) -> ThinModule | None:
        """What the thin module's source states; None when there is no source or it does not parse."""
        if self.file:
            return read_source(Path(self.file))
        return read_thin_module(self.module)

    def docstring(self) -> str | None:
        """Docstring of the thin module, read from its source; None when there is no source or no docstring."""
        thin = self.thin_module()
        if thin is None:
            return None
        return thin.docstring

    def summary(self) -> str | None:
        """First line of the thin module's docstring, read without importing anything."""
        thin = self.thin_module()
        if thin is None:
            return None
        return thin.summary

    @property
    def is_well_named(self) -> bool:
        """Whether recipes can write its name: names with `/` and `:` mean a kind or a distribution."""
        return re.fullmatch(r"[\w][\w.-]*", self.name) is not None

    def __str__(self) -> str:
        """How messages name it."""
        return f"{self.kind}/{shortened(self.name, 80)} of {self.distribution} {shortened(self.version, 40)}"


@dataclass(frozen=True)
class Block:
    """A request to keep components out by name, before anything is imported.

    Attributes:
        text: `name`, `kind/name`, `distribution:name` or `kind/distribution:name`, as the user wrote it; compared
            after normalisation (case, `-`, `_` and `.` do not matter).
        origin: Where the user wrote it, for messages.
    """

    text: str
    origin: str

    def matches(self, entry: Entry) -> bool:
        """Whether the block keeps `entry` out."""
        kind, _, rest = self.text.rpartition("/")
        distribution, _, name = rest.rpartition(":")
        return (
            normalized(name) == normalized(entry.name)
            and normalized(kind) in ("", entry.kind)
            and normalized(distribution) in ("", entry.distribution)
        )

    def __str__(self) -> str:
        """How messages name it."""
        return f"{self.text!r} in {self.origin}"


def requested_blocks(block: Iterable[str]) -> tuple[Block, ...]:
    """Join the blocks of the command line (or caller) and of the environment.

    Args:
        block: Names to block beside those in `NEUROPBR_BLOCK_PLUGINS`; each may hold several, separated by commas.
    """
    names = []
    for text in block:
        for name in text.split(","):
            names.append((name.strip(), "--block"))
    for name in os.environ.get(BLOCK_VARIABLE, "").split(","):
        names.append((name.strip(), BLOCK_VARIABLE))
    blocks = []
    for name, origin in names:
        # `a,,b` and an empty variable leave names without text, which would match nothing.
        if name:
            blocks.append(Block(name, origin))
    return tuple(blocks)


def scan() -> tuple[Entry, ...]:
    """Read the components that the distributions on `sys.path` declare.

    A distribution that is on the path twice counts once, as the copy that an import would take. One with damaged
    metadata is passed over.

    Returns:
        The entries, sorted by kind, name and distribution.
    """
    # Names first, then one look-up a name: of two copies on the path, `metadata.distribution` gives the first.
    names = set()
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            # The name comes second because it parses all metadata, which is slow.
            if any(group in text for group in _KIND_OF_GROUP):
                names.add(str(distribution.metadata["Name"]))
        except Exception:  # noqa: S112 - somebody else's damaged metadata must not break a listing
            continue
    entries: set[Entry] = set()
    for name in names:
        try:
            distribution = metadata.distribution(name)
            version = str(distribution.version)
            points = tuple(distribution.entry_points)
        except Exception:  # noqa: S112 - as above
            continue
        for point in points:
            kind = _KIND_OF_GROUP.get(point.group)
            if kind:
                entries.add(Entry(kind, point.name, normalized(name), version, point.group, point.value))
    # Distributions come in the order of the path, which differs between machines; listings must not.
    return tuple(sorted(entries))


def metadata_files() -> list[Path]:
    """Files in folders of `sys.path` that declare components, or may: a listing changes with them."""
    files: list[Path] = []
    for folder in sys.path:
        files += Path(folder).glob("*-info/entry_points.txt")
    return files


def read_thin_module(module: str) -> ThinModule | None:
    """Parse a module's source without importing it or its parents.

    Args:
        module: Dotted name.

    Returns:
        What it states, or None when no source exists or it does not parse.
    """
    path = locate(module)
    if path is None:
        return None
    return read_source(path)


def file_entry(path: Path) -> Entry:
    """Read which component a single file offers; the file is not run.

    Args:
        path: A Python file with the hooks of one kind. Its stem is the component's name.

    Raises:
        PluginNotFound: It cannot be read.
        PluginBroken: It is no Python, or has the hooks of no kind or of several.
    """
    # Two spellings of one path, such as `recipes/../x.py` and `x.py`, are one file; links are left as they are.
    path = Path(os.path.abspath(path))  # noqa: PTH100
    try:
        content = read_bytes(path)  # which waits for no pipe and reads no device to its end
    except OSError as error:
        raise PluginNotFound(f"{path}: is no plugin file that can be read ({error.strerror})") from error
    try:
        tree = ast.parse(content)
    except PARSE_ERRORS as error:
        raise PluginBroken(f"{path}: is not Python: {error}") from error
    functions = [statement.name for statement in tree.body if isinstance(statement, ast.FunctionDef)]
    kinds = [kind for kind in KINDS.values() if kind.create_hook in functions]
    if len(kinds) != 1:
        offered = "none of these hooks"
        if kinds:
            offered = " and ".join(kind.create_hook for kind in kinds)
        hooks = ", ".join(kind.create_hook for kind in KINDS.values())
        raise PluginBroken(f"{path}: a plugin file defines one of {hooks}; this one defines {offered}")
    version = _file_version(content)
    module = re.sub(r"\W", "_", f"neuropbr_plugin_file_{path.stem}_{version}")
    return Entry(kinds[0].name, path.stem, FILE_DISTRIBUTION, version, kinds[0].group, module, str(path))


def _file_version(content: bytes) -> str:
    """The version of a component that is a single file of this content."""
    return f"sha256-{hashlib.sha256(content).hexdigest()[:32]}"


def is_there(module: str) -> bool:
    """Whether a module could be imported, with source or without; nothing is imported.

    Args:
        module: Dotted name.
    """
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
        for part in rest:
            if spec is None:
                break
            spec = PathFinder.find_spec(part, spec.submodule_search_locations or ())
    except (ImportError, ValueError):  # a module that was hidden or damaged by hand
        return False
    return spec is not None


def read_source(path: Path) -> ThinModule | None:
    """Read what a thin module's source states; None when it cannot be read or does not parse."""
    try:
        # Parsing warns about invalid escapes in a plugin's source, which is not the reader's business.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (OSError, *PARSE_ERRORS):
        return None
    literals: dict[str, object] = {}
    # Only a literal at the top level counts: anything else would need the module to run.
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in _LITERALS:
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in _LITERALS:
                pass
            case _:
                continue
        with suppress(*PARSE_ERRORS):
            literals.setdefault(name, ast.literal_eval(value))
    return ThinModule(path, ast.get_docstring(tree), *map(literals.get, _LITERALS))


def locate(module: str) -> Path | None:
    """Find a module's source file on `sys.path`, or through the import finders of editable installs.

    Args:
        module: Dotted name.
    """
    first, *rest = module.split(".")
    path = _descend(list(map(Path, sys.path)), [first, *rest])
    if path is not None:
        return path
    # Editable installs may not be on the path: their finders know where a top-level name is.
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(first, None)
        except Exception:  # noqa: S112 - a finder of somebody else's must not break a listing
            continue
        # Finders of editable installs answer here; the path itself was searched before.
        if spec is None:
            continue
        if rest:
            return _descend(list(map(Path, spec.submodule_search_locations or ())), rest)
        if spec.has_location and spec.origin:
            return Path(spec.origin)
        return None
    return None


def _descend(folders: Iterable[Path], parts: list[str]) -> Path | None:
    """Follow a dotted name down from `folders` to its source file."""
    source: Path | None = None
    for part in parts:
        source = None
        # Folders without `__init__.py` are portions of a namespace package: they lack a source file, but add up.
        children: list[Path] = []
        for folder in folders:
            package = folder / part
            # A package or module wins over namespace portions, also over those of earlier folders.
            if (package / "__init__.py").is_file():
                source = package / "__init__.py"
                children = [package]
                break
            if (folder / f"{part}.py").is_file():
                source = folder / f"{part}.py"
                children = []
                break
            if package.is_dir():
                children.append(package)
        folders = children
    return source
