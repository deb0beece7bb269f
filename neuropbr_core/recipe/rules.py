"""What the sections of a recipe demand of each other, beyond what a schema can say.

A rule is a small function over typed sections that yields faults; `RULES` lists them with the sections that they read.
A rule runs when those sections are in order themselves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from neuropbr_core.plugin import Needs
from neuropbr_core.recipe.sections import Data, ModelSection, Optimizer, Teacher
from neuropbr_core.recipe.yaml_tree import Keys
from neuropbr_core.shipped import SCHEME


@dataclass(frozen=True)
class Fault:
    """One demand that is not met.

    Attributes:
        keys: The value at fault, then others that could be changed instead. The problem is shown at the one that the
            user had the last word on: on the command line, in the recipe itself, in one that it extends.
        message: What was found, what is allowed, what to do.
    """

    keys: tuple[Keys, ...]
    message: str


@dataclass(frozen=True)
class Rule:
    """A demand on some sections.

    Attributes:
        sections: Names of the sections that `check` takes, in order; a mapping of components is passed as what each of
            them needs, None for one that is not in order.
        check: Yields the faults.
    """

    sections: tuple[str, ...]
    check: Callable[..., Iterator[Fault]]


def output_size_fits(data: Data, model: ModelSection) -> Iterator[Fault]:
    """The maps have the size that the decoder produces."""
    factor = model.decoder.super_resolution or 1
    # 0 turns super-resolution off, and the decoder's output then has the size of its input.
    size = data.image_size * factor
    if data.output_size != size:
        keys = (("data", "output_size"), ("data", "image_size"), ("model", "decoder", "super_resolution"))
        yield Fault(
            keys,
            f"found {data.output_size}, but the model makes {size} (image_size {data.image_size} × super-resolution "
            f"{factor}); write `output_size: {size}`, or change image_size or model.decoder.super_resolution",
        )


def crop_fits(data: Data) -> Iterator[Fault]:
    """A crop is no larger than what it is cut from."""
    # Also checked where datasets are opened without a recipe; here the problem has a place in the file.
    if data.crop_size is not None and data.crop_size > data.image_size:
        message = f"found {data.crop_size}; allowed: at most data.image_size, {data.image_size}, or null for no crops"
        yield Fault((("data", "crop_size"), ("data", "image_size")), message)


def directions_need_alignment(data: Data, model: ModelSection) -> Iterator[Fault]:
    """Directions are known only where views are aligned by known cameras."""
    # The direction of a pixel follows from the camera's position and the pixel's place on the texture.
    if model.directed and not data.aligned:
        yield Fault(
            (("model", "view_conditioning"), ("data", "alignment")),
            "`direction` needs views with known cameras; set `data.alignment: recorded` or `estimated`, or write "
            "`none`",
        )


def profile_needs_directions(model: ModelSection) -> Iterator[Fault]:
    """Reflectance by angle needs the angle."""
    # The profile sorts the pixels of the whole frame by their angle to the flash.
    if model.reflectance_profile and model.view_conditioning != "direction":
        yield Fault(
            (("model", "reflectance_profile"), ("model", "view_conditioning")),
            "needs the direction to the flash; set `model.view_conditioning: direction`, or write `false`",
        )


def residual_needs_alignment(data: Data, model: ModelSection) -> Iterator[Fault]:
    """The median of views means something only where they show the same point."""
    # A highlight moves between aligned views, so their median is close to albedo; without alignment it is a blur.
    if model.albedo == "residual" and not data.aligned:
        yield Fault(
            (("model", "albedo"), ("data", "alignment")),
            "`residual` starts from the median of aligned views; set `data.alignment: recorded` or `estimated`, or "
            "write `direct`",
        )


def shaking_needs_alignment(data: Data) -> Iterator[Fault]:
    """Alignment can be off only where there is one."""
    # Jitter changes the homographies that views are warped with; without them there is nothing to change.
    if data.jitter.alignment and not data.aligned:
        yield Fault(
            (("data", "jitter", "alignment"), ("data", "alignment")),
            f"found {data.jitter.alignment:g}, but views are not aligned; set `data.alignment: recorded` or "
            "`estimated`, or write 0",
        )


def photos_of_another_size_need_alignment(data: Data) -> Iterator[Fault]:
    """Photos are brought to the input's size by aligning them, or before."""
    # Photos that are not warped reach the network pixel by pixel, so only one size fits.
    if not data.aligned and data.photo_size != data.image_size:
        yield Fault(
            (("data", "view_size"), ("data", "alignment"), ("data", "image_size")),
            f"found {data.view_size}, but views that are not aligned are read at data.image_size, {data.image_size}; "
            "set `data.alignment: recorded` or `estimated`, or remove view_size",
        )


def synthesis_needs_a_root(data: Data) -> Iterator[Fault]:
    """Rendered captures need a folder to be written to."""
    # Rendering writes `input` and `output` side by side, so it needs the folder around them.
    if data.synthesize is not None and data.root is None:
        yield Fault(
            (("data", "synthesize"),),
            "needs `data.root`, the folder to render into; add it, or give `--data DIR`",
        )


def learning_rate_falls(optimizer: Optimizer) -> Iterator[Fault]:
    """A falling schedule ends below its start, for the generator and for the critics."""
    # `step` and `none` never read `min_lr`, so its default does no harm there.
    if optimizer.scheduler not in ("cosine", "plateau"):
        return
    # The critics follow the same schedule from a rate of their own, which may be the lower one.
    for name in ("lr", "critic_lr"):
        rate = getattr(optimizer, name)
        if optimizer.min_lr >= rate:
            yield Fault(
                (("optimizer", "min_lr"), ("optimizer", name)),
                f"found {optimizer.min_lr}; `{optimizer.scheduler}` needs it below optimizer.{name}, {rate}",
            )


def one_teacher_is_named(teacher: Teacher | None) -> Iterator[Fault]:
    """A teacher is a run, a checkpoint or what a recipe makes."""
    if teacher is None:
        return
    names = ("run", "checkpoint", "recipe")
    given = []
    for name in names:
        if getattr(teacher, name) is not None:
            given.append(name)
    if not given:
        yield Fault((("teacher",),), "names no teacher; write one of `run`, `checkpoint` and `recipe`")
    elif len(given) > 1:
        # All of them are named, so that the problem is shown at the one that the user wrote last.
        keys = tuple(("teacher", name) for name in given)
        yield Fault(keys, f"found {' and '.join(given)}; keep one (`{given[0]}: null` drops an inherited one)")
    # A teacher that is trained already cannot be changed; overrides would be ignored without a word.
    if teacher.overrides and teacher.recipe is None:
        yield Fault(
            (("teacher", "overrides"),), "changes `teacher.recipe`, and there is none; add it, or leave this out"
        )
    checkpoint = teacher.checkpoint or ""
    if checkpoint.startswith(SCHEME) and teacher.mode == "shards" and teacher.shards is None:
        keys = (("teacher", "checkpoint"), ("teacher", "mode"))
        yield Fault(
            keys,
            "ships with NeuroPBR, and nothing is stored beside it; write `mode: online`, or name a folder for its "
            "predictions in `shards`",
        )
    if teacher.shards is not None and teacher.mode == "online":
        keys = (("teacher", "shards"), ("teacher", "mode"))
        yield Fault(keys, "is not read by `mode: online`; leave it out, or write `mode: shards`")


def losses_have_a_teacher(losses: dict[str, Needs | None], teacher: Teacher | None) -> Iterator[Fault]:
    """A loss that compares with a teacher has one, of the kind that it needs, and a teacher has such a loss."""
    for name, needs in losses.items():
        keys: Keys = ("losses", name)
        # None is a loss with problems of its own, which are reported; what it needs is not known.
        if needs is None or not needs.teacher:
            continue
        if teacher is None:
            yield Fault((keys,), "needs a teacher; add a section such as `teacher: {run: runs/teacher_default}`")
        elif needs.features and teacher.mode == "shards":
            yield Fault(
                (keys, ("teacher", "mode")),
                "compares features and needs a live teacher: set `teacher.mode: online`, or let it compare maps alone "
                "(shards hold no features)",
            )
    # Running a teacher that no loss reads costs a forward pass in every step. A loss with problems may be the reader.
    if teacher is not None and not any(needs is None or needs.teacher for needs in losses.values()):
        yield Fault((("teacher",),), "no loss learns from it; add `distillation: {}` to losses, or remove this section")


RULES: tuple[Rule, ...] = (
    Rule(("data", "model"), output_size_fits),
    Rule(("data",), crop_fits),
    Rule(("data", "model"), directions_need_alignment),
    Rule(("model",), profile_needs_directions),
    Rule(("data", "model"), residual_needs_alignment),
    Rule(("data",), shaking_needs_alignment),
    Rule(("data",), photos_of_another_size_need_alignment),
    Rule(("data",), synthesis_needs_a_root),
    Rule(("optimizer",), learning_rate_falls),
    Rule(("teacher",), one_teacher_is_named),
    Rule(("losses", "teacher"), losses_have_a_teacher),
)


def faults(sections: dict[str, Any]) -> Iterator[Fault]:
    """The faults of all rules whose sections are there."""
    for rule in RULES:
        # A section that is not in order is absent: its own problems come first, and its values mean nothing yet.
        if all(name in sections for name in rule.sections):
            yield from rule.check(*(sections[name] for name in rule.sections))
