"""A trained teacher on disk: what it is, what it was trained on, and that it goes with a student."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

from neuropbr_core.data.batches.teacher_logits import TeacherMark
from neuropbr_core.data.splits import Split, follow_split
from neuropbr_core.errors import DataError
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import SPEC, WEIGHTS, read_spec
from neuropbr_core.recipe.sections import Data, Jitter
from neuropbr_core.training.provenance import PROVENANCE, recorded_split

Alignment = Literal["none", "recorded", "estimated"]


@dataclass(frozen=True)
class TrainedTeacher:
    """A trained teacher.

    Attributes:
        checkpoint: Folder of its weights.
        home: Folder of its run; of the checkpoint where that is all there is.
        spec: What it was built from.
        trained: Materials that it trained on.
        held_back: Materials that were held back from it.
    """

    checkpoint: Path
    home: Path
    spec: ModelSpec
    trained: tuple[str, ...]
    held_back: tuple[str, ...]

    @property
    def mark(self) -> TeacherMark:
        """What tells its predictions from another teacher's."""
        # The weights alone do not tell: with other options, the same weights predict something else.
        document = json.loads((self.checkpoint / SPEC).read_text(encoding="utf-8"))["model"]
        model = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        with (self.checkpoint / WEIGHTS).open("rb") as file:
            return TeacherMark(hashlib.file_digest(file, "sha256").hexdigest(), model)

    @property
    def record(self) -> dict[str, str]:
        """What a student's run keeps of its teacher."""
        return {"checkpoint": str(self.checkpoint), "weights": self.mark.weights, "model": self.mark.model}

    def logits_folder(self, size: int) -> Path:
        """Where its predictions of this size are stored when a recipe does not say."""
        return self.home / f"shards-{size}"

    def splitter(self, data: Data, seed: int) -> Callable[[Iterable[str]], Split]:
        """Splits a student's materials as its own were split."""
        return partial(
            follow_split,
            trained=self.trained,
            held_back=self.held_back,
            seed=seed,
            val_ratio=data.val_ratio,
            val_materials=data.val_materials,
            groups=data.groups,
        )


def open_teacher(checkpoint: Path) -> TrainedTeacher:
    """Read what a teacher's checkpoint and its run say of it; the weights are not loaded.

    Args:
        checkpoint: The checkpoint's folder: in its run, or with the run's `provenance.json` copied into it.

    Raises:
        DataError: Nothing says what it was trained on.
        CheckpointError: The checkpoint is damaged.
        PluginError: A component of it is not installed.
    """
    spec = read_spec(checkpoint)
    # `RUN/checkpoints/NAME`: the run is two folders up, also when the path is relative and short.
    around = checkpoint if len(checkpoint.parents) > 1 else checkpoint.resolve()
    # The checkpoint's folder first: a record that was copied into it is meant for it.
    home = checkpoint
    if not (home / PROVENANCE).is_file():
        home = around.parents[1]
    if not (home / PROVENANCE).is_file():
        raise DataError(
            f"{checkpoint}: nothing says what this teacher was trained on, so a student's validation could hold the "
            f"same materials; name a checkpoint in its run's folder, or copy the run's {PROVENANCE} into this one"
        )
    split = recorded_split(home / PROVENANCE)
    return TrainedTeacher(checkpoint, home, spec, tuple(split["train"]), tuple(split["val"]))


def teachers_data(data: Data, spec: ModelSpec) -> Data:
    """Section `data` of a recipe, changed to what a teacher is shown of the same samples: whole frames at its size."""
    return replace(
        data,
        image_size=spec.image_size,
        view_size=spec.photo_size,
        output_size=spec.output_size,
        views=spec.views,
        alignment=cast("Alignment", spec.alignment),
        # Whole frames, once each and without changes: what is stored must not depend on a draw.
        crop_size=None,
        repeats=1,
        augment=False,
        jitter=Jitter(),
    )
