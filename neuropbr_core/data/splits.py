"""Chooses the materials that are held back for validation, and how often the others are trained on.

A split is by material, never by sample: views of one material on both sides would measure memory. Each name is hashed
with the seed, and the materials with the smallest hashes are held back, as many as the share asks for. A material
therefore keeps its place in the order when others are added or removed. It changes sides only when the number of
held-back materials grows or shrinks past that place. A group of look-alikes is hashed as a unit, by the group's name.
Procedural materials, recognised by their names, are trained on unless an explicit list holds them back; the other
materials are split as if the procedural ones did not exist.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from neuropbr_core.errors import DataError
from neuropbr_core.materials.procedural.naming import is_procedural
from neuropbr_core.samples import Sample
from neuropbr_core.suggestions import did_you_mean


class Guide(NamedTuple):
    """What a split follows, in words.

    Attributes:
        name: What it is.
        remedy: What else a user can do whose list of held-back materials contradicts it.
    """

    name: str
    remedy: str


TEACHER = Guide("the teacher", "name another teacher")
RUN = Guide("the run", "use --run-name for a new run")


@dataclass(frozen=True)
class Split:
    """A split of materials; `asdict` of it is what a run records.

    Attributes:
        train: Materials to train on, sorted.
        val: Materials held back, sorted; empty when there is no validation.
        seed: Seed of the hash.
        val_ratio: Share asked for; None for an explicit list.
        groups: Look-alikes of this dataset that were kept together.
        notes: Remarks for a person on how the split came about.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    seed: int
    val_ratio: float | None
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def split_materials(
    materials: Iterable[str],
    *,
    val_ratio: float,
    seed: int,
    val_materials: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Split:
    """Split materials into training and validation.

    Args:
        materials: Names; repeats count once.
        val_ratio: Share of the materials to hold back, in [0, 1): the nearest number of them, at least one; 0 holds
            back none. Procedural materials do not count.
        seed: Seed of the hash.
        val_materials: Hold back exactly these instead.
        groups: Materials that stay on one side, by a name for them. Members that the dataset lacks are left out, and
            a note lists them.

    Returns:
        The split. With two materials or groups or more and a ratio above 0, neither side is empty.

    Raises:
        DataError: `val_materials` names an unknown material, takes part of a group, or leaves none to train on; or a
            material is in two groups.
    """
    names = sorted(set(materials))
    present, notes = _present_groups(names, groups or {})
    if val_materials:
        # An explicit list is followed to the letter; no hash is involved.
        held_back = set(val_materials)
        _check_explicit(names, held_back, present)
        ratio = None
    else:
        held_back, more_notes = _draw(names, present, val_ratio, seed)
        notes += more_notes
        ratio = val_ratio
    train = sorted(set(names) - held_back)
    return Split(tuple(train), tuple(sorted(held_back)), seed, ratio, present, tuple(notes))


def follow_split(  # noqa: PLR0913 - the options of `split_materials`, and whose split is followed
    materials: Iterable[str],
    trained: Collection[str],
    held_back: Collection[str],
    *,
    seed: int,
    val_ratio: float,
    val_materials: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    guide: Guide = TEACHER,
) -> Split:
    """Split materials as they were split before, so that no material that was trained on is used for validation.

    The guide is what trained before: a student's teacher, or the run itself before it stopped. Materials that were held
    back from the guide are held back again, and so are their look-alikes that are new to the guide. All other materials
    are trained on, even if they are new to the guide. If all materials but procedural ones are new to the
    guide, they are split as if there were none.

    Args:
        materials: Names; repeats count once.
        trained: Materials that the guide trained on.
        held_back: Materials that were held back from the guide.
        seed: As for `split_materials`, for materials that are all new to the guide.
        val_ratio: As for `split_materials`, for materials that are all new to the guide.
        val_materials: Materials that the recipe itself holds back. They must be those held back from the guide.
        groups: Materials that stay on one side, as far as the guide's split allows; a note names the others.
        guide: How messages and notes call the guide.

    Returns:
        The split.

    Raises:
        DataError: `val_materials` contradicts the guide's split, in which case the message lists the differences; or a
            material is in two groups.
    """
    names = sorted(set(materials))
    held_from_guide = set(held_back).intersection(names)
    # Procedural materials have the same names in every dataset, and do not make a dataset the guide's.
    common = [name for name in set(trained).intersection(names) if not is_procedural(name)]
    if not held_from_guide and not common:
        return split_materials(names, val_ratio=val_ratio, seed=seed, val_materials=val_materials, groups=groups)

    # A look-alike of a validation material would give its appearance away, so the group follows its members.
    present, notes = _present_groups(names, groups or {})
    look_alikes = set[str]()
    for members in present.values():
        if held_from_guide.intersection(members):
            look_alikes.update(members)
    # A look-alike that the guide trained on cannot be held back any more: its predictions would be memory.
    held = held_from_guide | look_alikes.difference(trained)
    if val_materials:
        # No groups here: the comparison with the guide's split below covers them.
        _check_explicit(names, set(val_materials), {})
        _check_followed(set(val_materials), held_from_guide, held - held_from_guide, set(trained), guide)

    together = {}
    # The guide may have been trained without these groups, and have parted one.
    for group, members in present.items():
        if 0 < len(held.intersection(members)) < len(members):
            notes.append(f"data.groups.{group}: {guide.name} trained on some of it and held some back")
        else:
            together[group] = members
    if not held:
        notes.append(f"no validation: {guide.name} trained on these materials and held none of them back")
    train = sorted(set(names) - held)
    if new_to_guide := sorted(set(train).difference(trained)):
        notes.append(f"trained on although they are new to {guide.name}: {_listed(new_to_guide)}")
    return Split(tuple(train), tuple(sorted(held)), seed, None, together, tuple(notes))


def keep_split(
    materials: Iterable[str],
    drawn: Callable[[Iterable[str]], Split],
    recorded: Callable[[Iterable[str]], Split],
    held_back: Collection[str],
) -> Split:
    """Split the materials of a run that goes on: as its recipe says, where that still holds back the same materials.

    Args:
        materials: Names; repeats count once.
        drawn: Splits them as the recipe says.
        recorded: Splits them as they were split before the run stopped (`follow_split`).
        held_back: Materials that were held back then.

    Returns:
        The split; a note tells where it is not the recipe's.

    Raises:
        DataError: The recipe names materials to hold back (`data.val_materials`), and they are not those of the run.
    """
    names = set(materials)
    wanted = drawn(names)
    # Not only materials that were trained on: where others are held back, the scores of epochs do not compare either.
    if set(wanted.val) == names.intersection(held_back):
        return wanted
    kept = recorded(names)
    if kept.val == wanted.val:  # all materials are new to the run
        return wanted
    note = (
        "stays as it was when the run stopped: validation must not use materials that the run trained on; "
        "data.val_ratio, data.groups and training.seed split the materials of new runs"
    )
    return replace(kept, notes=(note, *kept.notes))


def _draw(
    names: Sequence[str], groups: Mapping[str, Sequence[str]], val_ratio: float, seed: int
) -> tuple[set[str], list[str]]:
    """Choose the materials to hold back by their hashes. Returns them, and notes for a person."""
    if val_ratio == 0:
        return set(), []
    # A unit is a group or a single material, by the key that is hashed. No material's name contains a NUL, so the keys
    # of groups and of materials differ.
    candidates: dict[str, Sequence[str]] = {}
    grouped = set[str]()
    for group, members in groups.items():
        candidates[f"group\0{group}"] = members
        grouped.update(members)
    for name in names:
        if name not in grouped:
            candidates[name] = (name,)
    units = {}
    for key, members in candidates.items():
        if not any(map(is_procedural, members)):
            units[key] = members
    if not units:
        return set(), ["no validation: all materials are procedural; hold some back with data.val_materials"]
    if len(units) == 1:
        return set(), ["no validation: there is only one material, or one group of look-alikes"]

    order = sorted(units, key=lambda key: _hash_position(key, seed))
    wanted = val_ratio * sum(map(len, units.values()))
    # A unit is taken when that brings the number nearer to the wanted one; a large group that would overshoot is
    # passed over. The first unit is always held back and the last one always trained on: no side is empty.
    held = set(units[order[0]])
    for key in order[1:-1]:
        members = units[key]
        if abs(len(held) + len(members) - wanted) < abs(len(held) - wanted):
            held.update(members)
    return held, []


def _check_followed(wanted: set[str], held: set[str], look_alikes: set[str], trained: set[str], guide: Guide) -> None:
    """Refuse an explicit list that contradicts the guide's split."""
    differences = []
    if names := sorted(wanted & trained):
        differences.append(f"holds back {_listed(names)}, which {guide.name} trained on")
    if names := sorted(wanted - held - look_alikes - trained):
        differences.append(f"holds back {_listed(names)}, which was not held back from {guide.name}")
    if names := sorted(held - wanted):
        differences.append(f"trains on {_listed(names)}, which was held back from {guide.name}")
    if names := sorted(look_alikes - wanted):
        differences.append(f"trains on {_listed(names)}, grouped with what was held back from {guide.name}")
    if differences:
        raise DataError(
            f"data.val_materials contradicts {guide.name}'s split: it {'; it '.join(differences)}. Leave val_materials "
            f"out to have {guide.name}'s split, or {guide.remedy}"
        )


def _present_groups(
    names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the groups without the members that the dataset lacks, and notes about these members."""
    group_of: dict[str, str] = {}
    present = {}
    problems = []
    notes = []
    # All problems are collected first, so that one run of the program reports all of them.
    for group, members in groups.items():
        for name in members:
            if group_of.setdefault(name, group) != group:
                other = group_of[name]
                problems.append(f"data.groups: {name!r} is in {other!r} and in {group!r}; name it in one group")
            if name not in names:
                suggestion = did_you_mean(name, names)
                notes.append(f"data.groups.{group}: {name!r} is no material of this dataset.{suggestion}")
        # Groups may list more than this dataset has, so that several recipes can share them.
        if members_present := sorted(set(members).intersection(names)):
            present[group] = tuple(members_present)
    if problems:
        raise DataError("\n".join(problems))
    return present, notes


def _check_explicit(names: Sequence[str], held: set[str], groups: Mapping[str, Sequence[str]]) -> None:
    """Refuse an explicit list of held-back materials that cannot be followed."""
    problems = []
    for name in sorted(held.difference(names)):
        problems.append(f"data.val_materials: {name!r} is no material of this dataset.{did_you_mean(name, names)}")
    if problems:
        raise DataError("\n".join([*problems, f"Materials: {', '.join(names)}"]))
    for group, members in groups.items():
        # A part of a group on each side is what groups exist to prevent.
        missing = [name for name in members if name not in held]
        if missing and len(missing) < len(members):
            problems.append(
                f"data.val_materials: holds back part of data.groups.{group}; "
                f"add {_listed(missing)}, or take the group apart"
            )
    if problems:
        raise DataError("\n".join(problems))
    if held.issuperset(names):
        raise DataError("data.val_materials holds back every material; leave at least one to train on")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _hash_position(key: str, seed: int) -> float:
    """Return the place of a key in [0, 1), uniform over keys and fixed for a seed."""
    # Not Python's own hash, which differs from process to process.
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def oversample(samples: Sequence[Sample[Any]], factors: Mapping[str, int]) -> list[Sample[Any]]:
    """Repeat samples by their material.

    Args:
        samples: The training samples.
        factors: Number of repetitions by pattern (`fnmatch`) of material names. The last pattern that fits a material
            counts; the factor is 1 when none fits.

    Returns:
        Every sample as often as its material's factor, the first occurrence of each before the second of any.

    Raises:
        DataError: No sample is left.
    """
    repetitions = {}
    for sample in samples:
        repetitions[sample.material] = 1
        # The last fitting pattern wins, so that a recipe can name a rule first and its exceptions behind it.
        for pattern, factor in factors.items():
            if fnmatchcase(sample.material, pattern):
                repetitions[sample.material] = factor
    # In rounds: samples of the first round keep their places when a factor grows.
    repeated = []
    for turn in range(max(repetitions.values(), default=0)):
        for sample in samples:
            if turn < repetitions[sample.material]:
                repeated.append(sample)
    if samples and not repeated:
        raise DataError("data.oversample: leaves out every training material; give one a factor above 0")
    return repeated


def unmatched(materials: Collection[str], factors: Mapping[str, int]) -> Iterator[str]:
    """Yield the patterns that fit no material, which may be misspelt."""
    for pattern in factors:
        if not any(fnmatchcase(material, pattern) for material in materials):
            yield pattern
