"""Files that ship with the package: recipes and example materials.

A reference `neuropbr:recipes/quickstart.yaml` names one. They lie in the repository's root during development and
inside the package in a built wheel; an installed copy wins only where there is no checkout around the package.
"""

from pathlib import Path

from neuropbr_core.errors import NeuroPBRError

SCHEME = "neuropbr:"

_PACKAGE = Path(__file__).resolve().parent


def shipped_root() -> Path:
    """Folder that holds `recipes/` and `examples/`."""
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "recipes").is_dir():
        return checkout
    return _PACKAGE / "_shipped"


def resolve(reference: str) -> Path:
    """Turn a path or a `neuropbr:` reference into a path.

    Args:
        reference: A path, which is returned as it is, or `neuropbr:` and a path below the shipped files; a bare name
            such as `neuropbr:quickstart` means a recipe.

    Raises:
        NeuroPBRError: No shipped file has that name.
    """
    if not reference.startswith(SCHEME):
        return Path(reference)
    name = reference.removeprefix(SCHEME)
    for candidate in (name, f"recipes/{name}.yaml", f"recipes/{name}"):
        if (path := shipped_root() / candidate).exists():
            return path
    raise NeuroPBRError(f"{reference}: nothing of that name ships with neuropbr. Recipes: {', '.join(recipe_names())}")


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in (shipped_root() / "recipes").glob("*.yaml"))
