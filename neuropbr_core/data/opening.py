"""Opens a recipe's dataset: renders captures if needed, lists samples, splits materials and packs images."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from neuropbr_core.contracts import SampleSource, VisitDrawer
from neuropbr_core.data.batches.batch import Item
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.drawn import DrawnDataset
from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.data.layout.paths import AUTO, chosen_conditions
from neuropbr_core.data.pack.choose import digest_images, open_images, pack_images
from neuropbr_core.data.pack.digest import fingerprint_samples
from neuropbr_core.data.pack.write import prune_pack
from neuropbr_core.data.splits import Split, oversample, split_materials, unmatched
from neuropbr_core.data.synthesis.capture_folder import CaptureFolder, setting_changes
from neuropbr_core.data.synthesis.parts import refuse_parts
from neuropbr_core.data.synthesis.render import plan_settings, synthesize
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.loading import load_recipe
from neuropbr_core.recipe.sections import Data, Recipe, Synthesize
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.reporting import reporter
from neuropbr_core.samples import Sample
from neuropbr_core.shipped import resolve

_log = logging.getLogger(__name__)

_NO_DIRTY = "data.render_curriculum: auto reads the clean renders, because there are no dirty ones"


@dataclass(frozen=True)
class OpenedDataset:
    """The dataset of a recipe.

    As a sequence it holds every sample once, whole and unturned: `len(dataset)`, `dataset[0]` (a `batch.Item`).

    Attributes:
        all: Every sample, whole.
        train: Training visits, drawn as the recipe asks.
        val: Validation samples, whole; empty when no material is held back.
        split: The materials of each side, and the reasons for the split: `splits.Split` as plain data.
        drawn: Materials that drawn visits may show, sorted; None where what draws them does not name them.
        fingerprint: Digest of the dataset's content.
        view_digests: Digests of the content of each sample's views, by the sample's id.
    """

    all: MaterialDataset
    train: MaterialDataset
    val: MaterialDataset
    split: dict[str, Any]
    drawn: tuple[str, ...] | None
    fingerprint: str
    view_digests: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        """Count all samples."""
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

    Captures of `data.synthesize` that are missing are rendered first, and images are packed as `data.pack` asks.

    Args:
        recipe: A checked recipe, or the file of one.
        overrides: `key=value` settings on top, when `recipe` is a file.
        choose_split: Function that splits the dataset's materials; default: the split of section `data`.
        overviews: Whether a reader other than the recipe's own model needs an overview with each crop: the whole
            photos in few pixels.

    Returns:
        Training and validation samples.

    Raises:
        RecipeError: The recipe is wrong.
        DataError: The dataset is wrong. The message lists all problems.
    """
    if isinstance(recipe, Recipe):
        checked = recipe
    else:
        checked = load_recipe(recipe, overrides)
    data = checked.data
    seed = checked.training.seed
    ensure_captures(data, device=checked.training.device)
    listing = list_samples(checked, choose_split)
    source = listing.source
    samples = listing.samples
    split = listing.split
    # Digests come before images: a pack finds an image by the digest of its content.
    digests = digest_images(source, samples)
    images = open_images(source, samples, data, digests)
    for note in listing.notes:
        reporter().line(note)
    for pattern in unmatched({sample.material for sample in samples}, data.oversample):
        reporter().line(f"data.oversample: no material fits {pattern!r}")
    whole = MaterialDataset(samples, data, images)
    drawer = source.drawer(set(split.val))
    # A crop that is the whole photo needs no overview of it.
    cropped = data.crop_side < data.image_size
    # The datasets share their buffers, so that a batch of one is filled into memory that a batch of another has left.
    train = MaterialDataset(
        oversample(listing.train, data.oversample),
        data,
        images,
        train=True,
        seed=seed,
        buffers=whole.buffers,
        overviews=cropped and (overviews or checked.model.reflectance_profile),
    )
    fingerprint = fingerprint_samples(samples, digests)
    drawn: tuple[str, ...] | None = ()
    if drawer is not None:
        # Drawn captures are part of the content that a run trains on, so they are part of its fingerprint.
        train = DrawnDataset(train, drawer)
        fingerprint = f"{fingerprint}-{drawer.content}"
        drawn = _drawn_materials(drawer, split.val)
    return OpenedDataset(
        all=whole,
        train=train,
        val=MaterialDataset(listing.val, data, images, buffers=whole.buffers),
        split=asdict(split),
        drawn=drawn,
        fingerprint=fingerprint,
        view_digests=_view_digests(samples, digests),
    )


def _drawn_materials(drawer: VisitDrawer, held_back: Collection[str]) -> tuple[str, ...] | None:
    """Materials that visits may show; None where the drawer does not name them.

    Raises:
        DataError: One of them is held back for validation.
    """
    if drawer.share == 0:
        return ()
    if drawer.materials is None:
        return None
    if shown := sorted(set(held_back).intersection(drawer.materials)):
        raise DataError(f"the dataset draws visits of materials that are held back for validation: {', '.join(shown)}")
    return tuple(sorted(drawer.materials))


def _view_digests(samples: Sequence[Sample[Any]], digests: Mapping[Hashable, str]) -> dict[str, tuple[str, ...]]:
    of_views = {}
    for sample in samples:
        of_views[sample.id] = tuple(digests[key] for key in sample.views)
    return of_views


class OpenedSamples(NamedTuple):
    """Samples that belong to no recipe.

    Attributes:
        samples: All of them, whole.
        view_digests: As in `OpenedDataset`.
    """

    samples: MaterialDataset
    view_digests: dict[str, tuple[str, ...]]


def open_samples(data: Data) -> OpenedSamples:
    """Open all samples of a dataset folder for a model that has no recipe, such as one that ships.

    Args:
        data: The folder, and the sizes and views of the model.

    Raises:
        DataError: The folder is no dataset, or holds unusable files. The message lists all problems.
    """
    source, samples = open_source(default_registry().choose("dataset", "layout", name="source"), data)
    digests = digest_images(source, samples)
    images = open_images(source, samples, data, digests)
    return OpenedSamples(MaterialDataset(samples, data, images), _view_digests(samples, digests))


@dataclass(frozen=True)
class Listing:
    """The samples of a recipe, listed and split; no image is read for it.

    Attributes:
        source: The source of the samples.
        samples: All samples that the recipe reads.
        train: Those to train on.
        val: Those of the materials that are held back.
        split: The split of the materials.
        notes: Remarks for a person: on the split, and on the curriculum.
    """

    source: SampleSource
    samples: Sequence[Sample[Any]]
    train: Sequence[Sample[Any]]
    val: Sequence[Sample[Any]]
    split: Split
    notes: tuple[str, ...]


def list_samples(recipe: Recipe, choose_split: Callable[[Iterable[str]], Split] | None = None) -> Listing:
    """List the samples of a recipe and split their materials.

    Args:
        recipe: A checked recipe, whose captures exist.
        choose_split: As for `open_dataset`.

    Raises:
        DataError: The dataset cannot be used, or cannot be split as the recipe asks.
    """
    data = recipe.data
    source, samples = open_source(recipe.source, data)
    # All materials of the dataset are split, those included of which this recipe reads no sample: a material that is
    # held back stays so when a later run reads other samples.
    choose_split = choose_split or splitter(data, recipe.training.seed)
    split = choose_split(source.materials(samples))
    # The record of a run lists what it trained on, which are the materials that it reads.
    present = {sample.material for sample in samples}
    split = replace(split, train=tuple(name for name in split.train if name in present))
    notes = [f"split: {note}" for note in split.notes]
    held = set(split.val)
    training = []
    validation = []
    for sample in samples:
        if sample.material in held:
            validation.append(sample)
        else:
            training.append(sample)
    if held and not validation:
        notes.append("split: no validation: the recipe reads no sample of the materials that are held back")
    if data.render_curriculum == AUTO and all(sample.condition != "dirty" for sample in samples):
        notes.append(_NO_DIRTY)
    return Listing(source, samples, training, validation, split, tuple(notes))


@dataclass(frozen=True)
class Survey:
    """What a recipe will train on, as far as that is known before anything is rendered or read.

    Attributes:
        train: Number of samples to train on.
        val: Number of samples that are held back.
        split: The split of the materials.
        notes: Remarks for a person.
    """

    train: int
    val: int
    split: Split
    notes: tuple[str, ...]


def survey_dataset(recipe: Recipe, choose_split: Callable[[Iterable[str]], Split] | None = None) -> Survey:
    """Find out what a recipe will train on; changes nothing.

    Captures that are not rendered yet are counted from the settings that will render them.

    Args:
        recipe: A checked recipe.
        choose_split: As for `open_dataset`.

    Raises:
        DataError: The dataset cannot be used, cannot be split as the recipe asks, or has no sample to train on.
    """
    data = recipe.data
    if data.synthesize is not None and captures_missing(data):
        survey = _survey_captures(recipe, data.synthesize, choose_split)
    else:
        if data.alignment == "estimated":
            # Photos are registered, and their cameras written, only when a run needs them.
            recipe = replace(recipe, data=replace(data, alignment="none"))
        listing = list_samples(recipe, choose_split)
        survey = Survey(len(listing.train), len(listing.val), listing.split, listing.notes)
    # A source that draws its training visits may do so without a sample to train on.
    draws = type(recipe.source.create(data=data)).drawer is not SampleSource.drawer
    if not survey.train and not draws:
        raise DataError(
            "no sample is left to train on: the recipe reads samples of held-back materials only "
            f"({', '.join(survey.split.val)}); hold fewer back with data.val_ratio or data.val_materials, or set "
            "another data.render_curriculum"
        )
    return survey


def _survey_captures(recipe: Recipe, plan: Synthesize, choose_split: Callable[[Iterable[str]], Split] | None) -> Survey:
    """Count the samples of captures that will be rendered."""
    settings = plan_settings(plan, recipe.data.views)
    materials = list(settings.materials)
    captures = []
    for index in range(plan.samples):
        for condition in settings.conditions(index):
            captures.append((materials[index % len(materials)], condition))
    read = chosen_conditions(recipe.data, has_dirty=any(condition == "dirty" for _, condition in captures))
    shown = Counter(material for material, condition in captures if condition in read)
    if not shown:
        raise DataError(
            f"data.synthesize renders no {' or '.join(read)} captures, which are all that data.render_curriculum: "
            f"{recipe.data.render_curriculum} reads; set data.synthesize.dirty_fraction=0.5, or "
            "data.render_curriculum=auto"
        )
    choose_split = choose_split or splitter(recipe.data, recipe.training.seed)
    split = choose_split(materials)
    held = set(split.val)
    notes = [f"split: {note}" for note in split.notes]
    if recipe.data.render_curriculum == AUTO and "dirty" not in read:
        notes.append(_NO_DIRTY)
    val = sum(count for material, count in shown.items() if material in held)
    return Survey(shown.total() - val, val, split, tuple(notes))


def splitter(data: Data, seed: int) -> Callable[[Iterable[str]], Split]:
    """The function that splits materials as section `data` and the seed say."""
    return partial(
        split_materials,
        val_ratio=data.val_ratio,
        seed=seed,
        val_materials=data.val_materials,
        groups=data.groups,
    )


@dataclass(frozen=True)
class PackedDataset:
    """The outcome of packing a dataset.

    Attributes:
        folder: The pack.
        samples: Number of samples of the dataset.
        packed: Number of images decoded and written.
        kept: Number of images that the pack had already.
        nbytes: Bytes of pixels written.
        seconds: Time that packing took.
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
    """Pack a dataset's images as a run would on first use, even if `data.pack` is `off`.

    Args:
        component: The component at `data.source`.
        data: Section `data`.
        prune: Whether to remove packed images that the dataset does not use.

    Returns:
        Counts of the images that were packed, kept and removed.

    Raises:
        DataError: The dataset cannot be used, or the pack cannot be written.
    """
    if data.pack == "off":  # somebody who packs by hand wants a pack, whatever later runs do
        data = replace(data, pack="auto")
    folder = data.pack_folder
    if folder is None:
        raise DataError("there is no folder to pack into: set data.root, or data.pack to a folder")
    ensure_captures(data)
    source, samples = open_source(component, data)
    digests = digest_images(source, samples)
    report = pack_images(source, samples, data, digests, folder)
    freed = 0
    if prune:  # after packing, so that an interruption never leaves less than there was
        freed = prune_pack(folder, set(digests.values()))
    return PackedDataset(folder, len(samples), **asdict(report), freed=freed)


def open_source(component: Chosen, data: Data) -> tuple[SampleSource, Sequence[Sample[Any]]]:
    """Create a recipe's source of samples, and list and check the samples.

    Args:
        component: The component at `data.source`.
        data: Section `data`.

    Returns:
        The source and its samples.

    Raises:
        DataError: The dataset cannot be used, or the samples of the source break its contract.
    """
    source: SampleSource = component.create(data=data)
    samples = source.samples()
    # A source may be a plugin: its samples are checked once here, so that nothing behind this line has to.
    problems = []
    for problem in _contract_breaches(samples, data):
        problems.append(f"{component.declared}: {problem}")
    raise_problems(problems)
    return source, samples


def _contract_breaches(samples: Sequence[Sample[Any]], data: Data) -> Iterator[str]:
    """Describe how samples break the contract of `SampleSource`."""
    if not samples:
        yield "lists no samples"
    # Ids must be unique: digests and teacher predictions are looked up by them.
    counts = Counter[str]()
    for sample in samples:
        counts[sample.id] += 1
    for name, count in counts.items():
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
    """Render the captures that `data.synthesize` asks for, unless they exist.

    Args:
        data: Section `data`; nothing happens without `synthesize`.
        device: Device that renders.

    Raises:
        DeviceError: The device is not available.
        DataError: `data.root` is missing, or holds other captures or another dataset.
    """
    missing = captures_missing(data)  # compares fingerprints of the materials, and decodes nothing
    if data.synthesize is not None and missing:
        root = _require_root(data)
        plan = data.synthesize
        beside = ""
        if plan.procedural:
            beside = f" and {plan.procedural} procedural ones"
        reporter().line(
            f"Rendering {missing} captures of the materials in {resolve(plan.materials)}{beside} into {root}"
        )
        # `captures_missing` has refused a folder with other captures, so resuming adds to this recipe's own.
        synthesize(plan, root, views=data.views, resume=True, device=device)


def captures_missing(data: Data) -> int:
    """Count the captures that `data.synthesize` asks for and that do not exist.

    Raises:
        DataError: As `ensure_captures`.
    """
    if data.synthesize is None:
        return 0
    root = _require_root(data)
    plan = data.synthesize
    refuse_parts(root)  # they would all be rendered a second time
    capture_folder = CaptureFolder(root)
    settings = plan_settings(plan, data.views)
    recorded = capture_folder.settings()
    remedy = "set another data.root, or remove that folder"
    if recorded is None and capture_folder.materials:
        raise DataError(f"{root}: holds a dataset that data.synthesize did not render; remove that key, or {remedy}")
    if recorded is not None:
        changes = setting_changes(recorded, settings)
        # More samples can be added to a folder, but samples beyond those that the recipe asks for would be read too.
        if len(capture_folder.materials) > plan.samples:
            changes.append(f"samples {len(capture_folder.materials)} there, {plan.samples} wanted")
        if changes:
            raise DataError(f"{root}: was rendered with other settings: {'; '.join(changes)}; {remedy}")
    return len(capture_folder.missing(settings, range(plan.samples)))


def _require_root(data: Data) -> Path:
    # Captures are rendered into the usual layout. Folders named one by one would read from somewhere else.
    if data.root is None:
        raise DataError("data.synthesize needs data.root: the folder to render into")
    if data.input_dir is not None or data.output_dir is not None or data.metadata is not None:
        raise DataError(
            "data.synthesize writes data.root/input and data.root/output; "
            "remove data.input_dir, data.output_dir and data.metadata"
        )
    return Path(data.root)
