"""Which names a package and its components may have."""

import keyword
import re
import sys
from importlib import metadata
from importlib.metadata import PackageNotFoundError

import yaml

from neuropbr_core.errors import ScaffoldError
from neuropbr_core.kinds import KINDS
from neuropbr_core.registry.catalog import Registry
from neuropbr_core.registry.installed import locate
from neuropbr_core.registry.names import normalized
from neuropbr_core.shown import shortened
from neuropbr_core.suggestions import did_you_mean

LONGEST = 60
"""Characters of a name; file systems take 255, and several names make a path."""

_COMPONENT = re.compile(r"[a-z][a-z0-9_]*")
_DISTRIBUTION = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def check_kind(kind: str) -> None:
    """Refuse a kind that does not exist.

    Raises:
        ScaffoldError: The kind does not exist; the message has the nearest one.
    """
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS)
        raise ScaffoldError(f"there is no kind {shortened(kind, 80)!r} of component.{near} Kinds: {', '.join(KINDS)}")


def check_component_name(name: str) -> None:
    """Refuse a name that cannot be a module, an entry point and a word in a recipe.

    Raises:
        ScaffoldError: The name has other characters, is too long, or means something else to Python or YAML.
    """
    shown = repr(shortened(name, 80))
    if not _COMPONENT.fullmatch(name) or len(name) > LONGEST:
        raise ScaffoldError(
            f"component name {shown}: write at most {LONGEST} of a-z, 0-9 and _, a letter first, such as wavelet"
        )
    if keyword.iskeyword(name):
        raise ScaffoldError(f"component name {shown}: is a word of Python, so that no module can have it")
    # `use: on` in a recipe would be a truth value.
    if yaml.safe_load(name) != name:
        meaning = yaml.safe_load(name)
        raise ScaffoldError(f"component name {shown}: YAML reads it as {meaning!r}, so recipes cannot name it")


def check_component_is_new(kind: str, name: str, distribution: str, registry: Registry) -> None:
    """Refuse a name that a component of another distribution has.

    Raises:
        ScaffoldError: The name is taken. Recipes would have to name one of the two with its distribution.
    """
    for entry in registry.entries(kind):
        if entry.name == name and entry.distribution != normalized(distribution):
            raise ScaffoldError(
                f"{kind}/{name} is the name of a component of {entry.distribution} {entry.version}; choose another "
                f"name, because recipes would have to name yours with its package"
            )


def module_name(distribution: str) -> str:
    """Turn a distribution's name into the name by which its package is imported.

    Raises:
        ScaffoldError: It is no name of a distribution, or the import name means something else to Python.
    """
    shown = repr(shortened(distribution, 80))
    if not _DISTRIBUTION.fullmatch(distribution) or len(distribution) > LONGEST:
        raise ScaffoldError(
            f"package name {shown}: write at most {LONGEST} letters, digits, - and _, a letter first, such as "
            f"acme-neuropbr"
        )
    module = normalized(distribution).replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise ScaffoldError(f"package name {shown}: Python itself has {module}; write neuropbr-{module} or the like")
    return module


def check_package_is_new(distribution: str, module: str) -> None:
    """Refuse a package whose name, or whose import name, an installed package has.

    Raises:
        ScaffoldError: One of the two would replace the other when it is installed, or hide it when it is imported.
    """
    # Looked up without an import: what is found belongs to somebody else.
    path = locate(module)
    if path is not None:
        raise ScaffoldError(
            f"package name {distribution!r}: this environment already has the module {module} ({path}); choose another "
            f"name"
        )
    # The module may be named otherwise: that of scikit-learn is sklearn.
    try:
        metadata.distribution(distribution)
    except PackageNotFoundError:
        return
    raise ScaffoldError(
        f"package name {distribution!r}: this environment already has the package {normalized(distribution)}, which "
        f"yours would replace; choose another name"
    )
