"""Files that ship with the package: recipes and example materials.

A reference such as `neuropbr:recipes/quickstart.yaml` names one. During development the files are in the repository's
root; in a built wheel they are inside the package, which is used only where no checkout surrounds the package.
"""

from pathlib import Path

from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.suggestions import did_you_mean

SCHEME = "neuropbr:"

_PACKAGE = Path(__file__).resolve().parent


def shipped_root() -> Path:
    """Folder that holds `recipes/` and `examples/`."""
    checkout = _PACKAGE.parent
    # `site-packages` may hold a folder `recipes` of somebody else, but no pyproject.toml.
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
        path = shipped_root() / candidate
        if path.exists():
            return path
    known = recipe_names()
    near = did_you_mean(name, known)
    raise NeuroPBRError(f"{reference}: nothing of that name ships with neuropbr.{near} Recipes: {', '.join(known)}")


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in (shipped_root() / "recipes").glob("*.yaml"))
