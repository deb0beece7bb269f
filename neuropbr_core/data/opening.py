"""A recipe's dataset: captures rendered when needed, samples found, materials split."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from neuropbr_core.contracts import SampleSource
from neuropbr_core.data.batches.batch import Item
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.drawn import DrawnDataset
from neuropbr_core.data.layout.scan import raise_problems
from neuropbr_core.data.oversampling import oversample, unmatched
from neuropbr_core.data.pack.choose import digest_images, open_images, pack_images
from neuropbr_core.data.pack.digest import fingerprint_samples
from neuropbr_core.data.pack.format import choose_folder
from neuropbr_core.data.pack.write import prune_pack
from neuropbr_core.data.splits import Split, split_materials
from neuropbr_core.data.synthesis.capture_folder import Pool, Settings, setting_changes
from neuropbr_core.data.synthesis.render import plan_settings, synthesize
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Data, Recipe, Synthesize
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.reporting import reporter
from neuropbr_core.samples import Sample
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
        view_digests: Name of the content of each sample's views, by the sample's id.
    """

    all: MaterialDataset
    train: MaterialDataset
    val: MaterialDataset
    split: dict[str, Any]
    fingerprint: str
    view_digests: Mapping[str, tuple[str, ...]]

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
    choose_split: Callable[[Iterable[str]], Split] | None = None,
    overviews: bool = False,
) -> OpenedDataset:
    """Open the dataset that a recipe names.

    `data.synthesize` is rendered first where it is missing, and images are packed as `data.pack` says.

    Args:
        recipe: A checked recipe, or the file of one.
        overrides: `key=value` settings on top, when `recipe` is a file.
        choose_split: Splits the materials, given all that the dataset has; default: as section `data` says.
        overviews: Whether someone beside the recipe's own model wants the whole frame in few pixels with each crop.

    Returns:
        Training and validation samples.

    Raises:
        RecipeError: The recipe is wrong.
        DataError: The dataset is; all problems at once.
    """
    if isinstance(recipe, Recipe):
        checked = recipe
    else:
        checked = load_recipe(recipe, overrides)
    data = checked.data
    seed = checked.training.seed
    ensure_captures(data, device=checked.training.device)
    source, samples = open_source(checked.source, data)
    split = (choose_split or partial(_own_split, data, seed))(source.materials(samples))
    # What is held back stays so in later runs on this dataset; but only what is read is trained on.
    present = {sample.material for sample in samples}
    split = replace(split, train=tuple(name for name in split.train if name in present))
    digests = digest_images(source, samples)
    images = open_images(source, samples, data, digests)
    for note in split.notes:
        reporter().line(f"split: {note}")
    held = set(split.val)
    if held and not any(sample.material in held for sample in samples):
        reporter().line("split: no validation: the recipe reads no sample of the materials that are held back")
    whole = MaterialDataset(samples, data, images)
    drawer = source.drawer(held)
    training = oversample([sample for sample in samples if sample.material not in held], data.oversample)
    for pattern in unmatched([sample.material for sample in samples], data.oversample):
        reporter().line(f"data.oversample: no material fits {pattern!r}")
    validation = [sample for sample in samples if sample.material in held]
    cropped = data.crop_side < data.image_size
    train = MaterialDataset(
        training,
        data,
        images,
        train=True,
        seed=seed,
        buffers=whole.buffers,
        overviews=cropped and (overviews or checked.model.reflectance_profile),
    )
    fingerprint = fingerprint_samples(samples, digests)
    if drawer is not None:
        train = DrawnDataset(train, drawer)
        fingerprint = f"{fingerprint}-{drawer.content}"
    return OpenedDataset(
        all=whole,
        train=train,
        val=MaterialDataset(validation, data, images, buffers=whole.buffers),
        split=asdict(split),
        fingerprint=fingerprint,
        view_digests={sample.id: tuple(digests[key] for key in sample.views) for sample in samples},
    )


def _own_split(data: Data, seed: int, materials: Iterable[str]) -> Split:
    return split_materials(
        materials, val_ratio=data.val_ratio, seed=seed, val_materials=data.val_materials, groups=data.groups
    )


@dataclass(frozen=True)
class PackedDataset:
    """What packing a dataset did.

    Attributes:
        folder: The pack.
        samples: Samples of the dataset.
        packed: Images decoded and written.
        kept: Images that were there.
        nbytes: Bytes of pixels written.
        seconds: Time it took.
        freed: Bytes removed by pruning.
    """

    folder: Path
    samples: int
    packed: int
    kept: int
    nbytes: int
    seconds: float
    freed: int


def pack_dataset(
    component: Chosen,
    data: Data,
    *,
    prune: bool = False,
) -> PackedDataset:
    """Pack a dataset's images as a run would on first use, also where `data.pack` is `off`.

    Args:
        component: The component at `data.source`.
        data: Section `data`.
        prune: Whether to remove packed images of which the dataset uses none.

    Raises:
        DataError: The dataset cannot be used, or the pack cannot be written.
    """
    if data.pack == "off":
        data = replace(data, pack="auto")
    folder = choose_folder(data)
    if folder is None:
        raise DataError("there is no folder to pack into: set data.root, or data.pack to a folder")
    ensure_captures(data)
    source, samples = open_source(component, data)
    digests = digest_images(source, samples)
    report = pack_images(source, samples, data, digests, folder)
    freed = 0
    if prune:
        freed = prune_pack(folder, set(digests.values()))
    return PackedDataset(folder, len(samples), **asdict(report), freed=freed)


def open_source(component: Chosen, data: Data) -> tuple[SampleSource, Sequence[Sample[Any]]]:
    """Build a recipe's source of samples, and list and check them.

    Args:
        component: The component at `data.source`.
        data: Section `data`.

    Raises:
        DataError: The dataset cannot be used, or what the source lists breaks its contract.
    """
    source: SampleSource = component.create(data=data)
    samples = source.samples()
    problems = []
    for problem in _breaches(samples, data):
        problems.append(f"{component.use}: {problem}")
    raise_problems(problems)
    return source, samples


def _breaches(samples: Sequence[Sample[Any]], data: Data) -> Iterator[str]:
    """What a source must not list."""
    if not samples:
        yield "lists no samples"
    for name, count in Counter(sample.id for sample in samples).items():
        if count > 1:
            yield f"lists {count} samples with the id {name}"
    for sample in samples:
        if len(sample.views) != data.views:
            yield f"{sample.id}: lists {len(sample.views)} views, data.views is {data.views}"
        if missing := MAPS.keys() - sample.maps.keys():
            yield f"{sample.id}: lists no {', '.join(sorted(missing))}"
        cameras = len(sample.cameras or ())
        if data.aligned and cameras != data.views:
            wanted = f"{data.views}, as data.alignment is {data.alignment}"
            yield f"{sample.id}: lists {cameras} cameras, wanted {wanted}"
        if cameras and not data.aligned:
            yield f"{sample.id}: lists {cameras} cameras, wanted none"


def ensure_captures(data: Data, *, device: str = "cpu") -> None:
    """Render the captures that `data.synthesize` asks for, unless they are there.

    Args:
        data: Section `data`; nothing happens without `synthesize`.
        device: What renders.

    Raises:
        DeviceError: The device is not there.
        DataError: `data.root` is missing, or holds other captures or another dataset.
    """
    missing = captures_missing(data)
    if data.synthesize is not None and missing:
        root = _require_root(data)
        plan = data.synthesize
        beside = ""
        if plan.procedural:
            beside = f" and {plan.procedural} procedural ones"
        reporter().line(
            f"Rendering {missing} captures of the materials in {resolve(plan.materials)}{beside} into {root}"
        )
        synthesize(plan, root, views=data.views, resume=True, device=device)


def captures_missing(data: Data) -> int:
    """Count the captures that `data.synthesize` asks for and that are not there.

    Raises:
        DataError: As `ensure_captures`.
    """
    if data.synthesize is None:
        return 0
    root = _require_root(data)
    plan = data.synthesize
    pool = Pool(root)
    settings = plan_settings(plan, data.views)
    _require_same(pool, settings, plan, root)
    return len(pool.missing(settings, plan.samples))


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
