"""Which materials are held back for validation.

A split is by material, never by sample: views of one material on both sides would measure memory. Each name is hashed
with the seed and compared with a threshold, so a material stays on its side when others are added or removed. A group
of look-alikes is hashed as one, by the group's name. Procedural materials, known by their names, are trained on unless
an explicit list holds them back; the others are split as if they were not there.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from neuropbr_core.errors import DataError
from neuropbr_core.materials.procedural.naming import is_procedural
from neuropbr_core.suggestions import did_you_mean


@dataclass(frozen=True)
class Split:
    """A split of materials; `asdict` of it is what a run records.

    Attributes:
        train: Materials to train on, sorted.
        val: Materials held back, sorted; empty when there is no validation.
        seed: Seed of the hash.
        val_ratio: Share asked for; None for an explicit list.
        groups: Look-alikes of this dataset that were kept together.
        notes: What a person should know about how the split came about.
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
        val_ratio: Share of the materials to hold back, in [0, 1), a group counting as one; 0 holds back none.
            Procedural materials do not count.
        seed: Seed of the hash.
        val_materials: Hold back exactly these instead.
        groups: Materials that stay on one side, by a name for them. Members that the dataset lacks are left out, and
            a note says so.

    Returns:
        The split. With two materials or groups or more and a ratio above 0, neither side is empty.

    Raises:
        DataError: `val_materials` names an unknown material, takes part of a group, or leaves none to train on; or a
            material is in two groups.
    """
    names = sorted(set(materials))
    kept, notes = _present_groups(names, groups or {})
    if val_materials:
        held = set(val_materials)
        _check_explicit(names, held, kept)
        val_ratio_used = None
    else:
        held, more = _hashed(_drawn_units(_units(names, kept)), val_ratio, seed)
        notes, val_ratio_used = notes + more, val_ratio
    train = tuple(name for name in names if name not in held)
    return Split(train, tuple(sorted(held)), seed, val_ratio_used, kept, tuple(notes))


def follow_split(
    materials: Iterable[str],
    trained: Collection[str],
    held_back: Collection[str],
    *,
    seed: int,
    val_ratio: float,
    val_materials: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Split:
    """Split materials as they were split for a teacher, so that none it trained on is validated with.

    What the teacher held back is held back, and so are look-alikes of it that the teacher has never seen; all else is
    trained on, also other materials that it has never seen. Where it has seen none of them, they are split as if there
    were no teacher.

    Args:
        materials: Names; repeats count once.
        trained: What the teacher trained on.
        held_back: What was held back from it.
        seed: As for `split_materials`, when the teacher has seen none.
        val_ratio: Likewise.
        val_materials: What the recipe itself wants held back; it must be what was held back from the teacher.
        groups: Materials that stay on one side, as far as the teacher's split lets them; a note says where it does not.

    Raises:
        DataError: `val_materials` is not what the teacher's split says, and the message has what differs; or a material
            is in two groups.
    """
    names = sorted(set(materials))
    theirs = {name for name in names if name in held_back}
    if not theirs and not any(name in trained for name in names):
        return split_materials(names, val_ratio=val_ratio, seed=seed, val_materials=val_materials, groups=groups)
    kept, notes = _present_groups(names, groups or {})
    alike = {name for members in kept.values() if theirs.intersection(members) for name in members}
    held = theirs | alike.difference(trained)
    if val_materials:
        _check_explicit(names, set(val_materials), {})
        _check_followed(set(val_materials), theirs, held - theirs, set(trained))
    apart = [group for group, members in kept.items() if 0 < len(held.intersection(members)) < len(members)]
    notes += [f"data.groups.{group}: the teacher trained on some of it and held some back" for group in apart]
    if not held:
        notes.append("no validation: the teacher trained on these materials and held none of them back")
    if new := [name for name in names if name not in held and name not in trained]:
        notes.append(f"trained on although the teacher has not seen them: {_shown(new)}")
    together = {group: members for group, members in kept.items() if group not in apart}
    train = tuple(name for name in names if name not in held)
    return Split(train, tuple(sorted(held)), seed, None, together, tuple(notes))


def _check_followed(wanted: set[str], held: set[str], alike: set[str], trained: set[str]) -> None:
    differences = []
    if seen := sorted(wanted & trained):
        differences.append(f"holds back {_shown(seen)}, which the teacher trained on")
    if new := sorted(wanted - held - alike - trained):
        differences.append(f"holds back {_shown(new)}, which was not held back from the teacher")
    if unheld := sorted(held - wanted):
        differences.append(f"trains on {_shown(unheld)}, which was held back from the teacher")
    if unheld := sorted(alike - wanted):
        differences.append(f"trains on {_shown(unheld)}, grouped with what was held back from the teacher")
    if differences:
        raise DataError(
            f"data.val_materials contradicts the teacher's split: it {'; it '.join(differences)}. Leave val_materials "
            f"out to have the teacher's split, or name another teacher"
        )


def _present_groups(
    names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Groups without the members that the dataset lacks, and notes about these."""
    owner: dict[str, str] = {}
    problems, notes = [], []
    for group, members in groups.items():
        for name in members:
            if owner.setdefault(name, group) != group:
                problems.append(f"data.groups: {name!r} is in {owner[name]!r} and in {group!r}; name it in one group")
            if name not in names:
                notes.append(
                    f"data.groups.{group}: {name!r} is no material of this dataset.{did_you_mean(name, names)}"
                )
    if problems:
        raise DataError("\n".join(problems))
    present = {group: tuple(sorted(set(members) & set(names))) for group, members in groups.items()}
    return {group: members for group, members in present.items() if members}, notes


def _units(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """What moves as one, by the key that is hashed: groups and single materials."""
    grouped = {name for members in groups.values() for name in members}
    units = {name: (name,) for name in names if name not in grouped}
    return units | {f"group\0{group}": tuple(members) for group, members in groups.items()}  # no name holds a NUL


def _drawn_units(units: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Those that may be held back by hash: without procedural materials."""
    return {key: members for key, members in units.items() if not any(map(is_procedural, members))}


def _hashed(units: Mapping[str, tuple[str, ...]], val_ratio: float, seed: int) -> tuple[set[str], list[str]]:
    """Materials whose unit falls below the ratio, at least one unit and never all."""
    held = {key for key in units if _position(key, seed) < val_ratio}
    notes = []
    if val_ratio > 0 and not units:
        notes = ["no validation: all materials are procedural; hold some back with data.val_materials"]
    elif val_ratio > 0 and len(units) < 2:
        held, notes = set(), ["no validation: there is only one material, or one group of look-alikes"]
    elif val_ratio > 0 and not held:
        held = {key := min(units, key=lambda key: _position(key, seed))}
        text = f"no material fell under data.val_ratio {val_ratio:g}; the nearest, {_shown(units[key])}, is held back"
        notes = [text]
    elif units and len(held) == len(units):
        held.remove(key := max(units, key=lambda key: _position(key, seed)))
        text = (
            f"all materials fell under data.val_ratio {val_ratio:g}; the farthest, {_shown(units[key])}, is trained on"
        )
        notes = [text]
    return {name for key in held for name in units[key]}, notes


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _check_explicit(names: Sequence[str], held: set[str], groups: Mapping[str, Sequence[str]]) -> None:
    problems = [
        f"data.val_materials: {name!r} is no material of this dataset.{did_you_mean(name, names)}"
        for name in sorted(held.difference(names))
    ]
    if problems:
        raise DataError("\n".join([*problems, f"Materials: {', '.join(names)}"]))
    for group, members in groups.items():
        if missing := [name for name in members if name not in held] if held.intersection(members) else []:
            problems.append(
                f"data.val_materials: holds back part of data.groups.{group}; "
                f"add {_shown(missing)}, or take the group apart"
            )
    if problems:
        raise DataError("\n".join(problems))
    if held.issuperset(names):
        raise DataError("data.val_materials holds back every material; leave at least one to train on")


def _position(key: str, seed: int) -> float:
    """Place of a key in [0, 1), uniform over keys and fixed for a seed."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
