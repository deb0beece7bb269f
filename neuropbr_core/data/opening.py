"""A recipe's dataset: captures rendered when needed, samples found, materials split."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuropbr_core.data.batch import Item
from neuropbr_core.data.cache import DecodedCache
from neuropbr_core.data.dataset import MaterialDataset
from neuropbr_core.data.fingerprint import fingerprint_samples
from neuropbr_core.data.layout import find_samples
from neuropbr_core.data.progress import Progress, silent
from neuropbr_core.data.splits import split_materials
from neuropbr_core.data.synthesis import (
    Pool,
    Settings,
    plan_settings,
    setting_changes,
    synthesize,
)
from neuropbr_core.errors import DataError
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Data, Recipe, Synthesize
from neuropbr_core.shipped import resolve

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedDataset:
    """The dataset of a recipe.

    As a sequence it is every sample once, whole and unturned: `len(dataset)`, `dataset[0]` (a `batch.Item`).

    Attributes:
        all: Every sample, whole.
        train: Training visits, drawn as the recipe says.
        val: Held-back samples, whole; without samples when nothing is held back.
        split: Which materials are on which side, and how that came about: `splits.Split` as plain data.
        fingerprint: Short name of the dataset's content.
    """

    all: MaterialDataset
    train: MaterialDataset
    val: MaterialDataset
    split: dict[str, Any]
    fingerprint: str

    def __len__(self) -> int:
        """Samples in all."""
        return len(self.all)

    def __getitem__(self, index: int) -> Item:
        """Return sample `index`, whole and unturned."""
        return self.all[index]


def open_dataset(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    *,
    say: Callable[[str], None] = _log.info,
    progress: Progress = silent,
) -> OpenedDataset:
    """Open the dataset that a recipe names; `data.synthesize` is rendered first where it is missing.

    Args:
        recipe: A checked recipe, or the file of one.
        overrides: `key=value` settings on top, when `recipe` is a file.
        say: Receives a line before something takes long.
        progress: Shows how far rendering is.

    Returns:
        Training and validation samples.

    Raises:
        RecipeError: The recipe is wrong.
        DataError: The dataset is; all problems at once.
    """
    checked = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    data, seed = checked.data, checked.training.seed
    ensure_captures(data, say=say, progress=progress)
    samples = find_samples(data)
    split = split_materials(
        (sample.material for sample in samples),
        val_ratio=data.val_ratio,
        seed=seed,
        val_materials=data.val_materials,
    )
    held = set(split.val)
    cache = DecodedCache()
    training = [sample for sample in samples if sample.material not in held]
    validation = [sample for sample in samples if sample.material in held]
    return OpenedDataset(
        all=MaterialDataset(samples, data, cache=cache),
        train=MaterialDataset(training, data, train=True, seed=seed, cache=cache),
        val=MaterialDataset(validation, data, cache=cache),
        split=asdict(split),
        fingerprint=fingerprint_samples(samples),
    )


def ensure_captures(data: Data, say: Callable[[str], None] = _log.info, progress: Progress = silent) -> None:
    """Render the captures that `data.synthesize` asks for, unless they are there.

    Args:
        data: Section `data`; nothing happens without `synthesize`.
        say: Receives a line before rendering starts.
        progress: Shows how far rendering is.

    Raises:
        DataError: `data.root` is missing, or holds other captures or another dataset.
    """
    if data.synthesize is None:
        return
    root, plan = _require_root(data), data.synthesize
    pool = Pool(root)
    _require_same(pool, plan_settings(plan, data.views), plan, root)
    missing = sum(not pool.complete(index, data.views) for index in range(plan.samples))
    if missing:
        say(f"Rendering {missing} captures of the materials in {resolve(plan.materials)} into {root}")
        synthesize(plan, root, views=data.views, resume=True, progress=progress)


def _require_root(data: Data) -> Path:
    if data.root is None:
        raise DataError("data.synthesize needs data.root: the folder to render into")
    if data.input_dir is not None or data.output_dir is not None or data.metadata is not None:
        raise DataError(
            "data.synthesize writes data.root/input and data.root/output; "
            "remove data.input_dir, data.output_dir and data.metadata"
        )
    return Path(data.root)


def _require_same(pool: Pool, settings: Settings, plan: Synthesize, root: Path) -> None:
    """Refuse a folder whose captures are not those that the recipe asks for."""
    found = pool.settings()
    other = "set another data.root, or remove that folder"
    if found is None:
        if pool.materials:
            raise DataError(f"{root}: holds a dataset that data.synthesize did not render; remove that key, or {other}")
        return
    changes = setting_changes(found, settings)
    if len(pool.materials) > plan.samples:
        changes.append(f"samples {len(pool.materials)} there, {plan.samples} wanted")
    if changes:
        raise DataError(f"{root}: was rendered with other settings: {'; '.join(changes)}; {other}")
