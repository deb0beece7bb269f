"""Files that ship with the package: recipes, example materials, example photos, and trained models.

A reference such as `neuropbr:recipes/quickstart.yaml` names one. During development the files are in the repository's
root; in a built wheel they are inside the package, which is used only where no checkout surrounds the package.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.suggestions import did_you_mean

SCHEME = "neuropbr:"

DEFAULT_MODEL = "flash-3"
"""Name of the shipped model that `neuropbr infer` uses when no other is named."""
CARD = "MODEL_CARD.md"
MATERIALS = "materials.json"

_PACKAGE = Path(__file__).resolve().parent


def shipped_root() -> Path:
    """Folder that holds `recipes/`, `examples/` and `models/`."""
    checkout = _PACKAGE.parent
    # `site-packages` may hold a folder `recipes` of somebody else, but no pyproject.toml.
    if (checkout / "pyproject.toml").is_file() and (checkout / "recipes").is_dir():
        return checkout
    return _PACKAGE / "_shipped"


def resolve(reference: str) -> Path:
    """Turn a path or a `neuropbr:` reference into a path.

    Args:
        reference: A path, which is returned as it is, or `neuropbr:` and a path below the shipped files; a bare name
            such as `neuropbr:quickstart` means a recipe, and one such as `neuropbr:flash-3` a model.

    Raises:
        NeuroPBRError: No shipped file has that name.
    """
    if not reference.startswith(SCHEME):
        return Path(reference)
    name = reference.removeprefix(SCHEME)
    for candidate in (name, f"recipes/{name}.yaml", f"recipes/{name}", f"models/{name}"):
        path = shipped_root() / candidate
        if path.exists():
            return path
    recipes = recipe_names()
    models = model_names()
    near = did_you_mean(name, [*recipes, *models])
    raise NeuroPBRError(
        f"{reference}: nothing of that name ships with neuropbr.{near} Recipes: {', '.join(recipes)}. "
        f"Models: {', '.join(models)}"
    )


def is_shipped_model(path: Path) -> bool:
    """Whether weights belong to a model that ships.

    Args:
        path: Folder of the weights, or a file in it.
    """
    return path.resolve().is_relative_to((shipped_root() / "models").resolve())


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in (shipped_root() / "recipes").glob("*.yaml"))


class ShippedModel(NamedTuple):
    """A trained model that ships with the package.

    Attributes:
        name: Its name, as `--model` takes it.
        folder: Folder of its weights, its architecture (`model.json`) and its card.
        summary: One sentence from its card.
        license: SPDX identifier of the weights' licence, from its card.
    """

    name: str
    folder: Path
    summary: str
    license: str


def chosen_materials(model: Path) -> tuple[str, ...]:
    """Materials that choices about a model which ships were made on, as its card lists them; none for other models.

    Args:
        model: Folder of its weights, or a file in it.
    """
    if not is_shipped_model(model):
        return ()
    return tuple(_card_facts(_folder_of(model)).get("chosen_on", ()))


def trained_materials(model: Path) -> tuple[str, ...]:
    """Materials that a model which ships was trained on, from the list beside its weights; none for other models.

    Args:
        model: Folder of its weights, or a file in it.
    """
    if not is_shipped_model(model):
        return ()
    records = json.loads((_folder_of(model) / MATERIALS).read_text(encoding="utf-8"))
    return tuple(record["name"] for record in records)


def _folder_of(model: Path) -> Path:
    """The folder of a model that is given as its folder or as a file in it."""
    if model.is_dir():
        return model
    return model.parent


def model_names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.parent.name for path in (shipped_root() / "models").glob(f"*/{CARD}"))


def shipped_model(name: str) -> ShippedModel:
    """Look up a shipped model.

    Args:
        name: One of `model_names()`.

    Raises:
        NeuroPBRError: There is none of that name; the message lists those that there are.
    """
    names = model_names()
    if name not in names:
        near = did_you_mean(name, names)
        raise NeuroPBRError(f"{name}: no model of that name ships with neuropbr.{near} Models: {', '.join(names)}")
    folder = shipped_root() / "models" / name
    facts = _card_facts(folder)
    return ShippedModel(name, folder, facts["summary"], facts["license"])


def _card_facts(folder: Path) -> dict[str, Any]:
    """What a model's card states as data."""
    # The card begins with YAML between two lines of dashes, as model cards elsewhere do.
    _, front, _ = (folder / CARD).read_text(encoding="utf-8").split("---\n", 2)
    facts: dict[str, Any] = yaml.safe_load(front)
    return facts
