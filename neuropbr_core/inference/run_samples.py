"""A sample of a run's dataset, to predict from as from photos."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from neuropbr_core.data.opening import open_dataset
from neuropbr_core.errors import DataError
from neuropbr_core.inference.views import ViewSet
from neuropbr_core.runs.folder import RECIPE, RunFolder
from neuropbr_core.training.provenance import recorded_split


class DatasetSample(NamedTuple):
    """A sample of a run's dataset.

    Attributes:
        views: Its views at the run's `data.image_size`, with cameras where the run aligns.
        id: Its id.
        material: Its material.
        held_back: Whether the run held its material back, so that the model was not trained on it.
    """

    views: ViewSet
    id: str
    material: str
    held_back: bool


def read_sample(run: str | Path, index: int) -> DatasetSample:
    """Read one sample of the dataset of a run's recipe.

    Args:
        run: A run's folder, or the folder of one of its checkpoints.
        index: Index among all samples, from 0, in the order of their names.

    Raises:
        RunError: The folder is no run.
        DataError: The dataset cannot be used, or has no such sample.
    """
    folder = Path(run)
    if not (folder / RECIPE).is_file():
        folder = folder.resolve().parent.parent  # a checkpoint `RUN/checkpoints/NAME`
    recipe = RunFolder(folder).recipe()
    # Without `synthesize`, so that captures that were removed since are an error instead of being rendered again.
    dataset = open_dataset(replace(recipe, data=replace(recipe.data, synthesize=None)))
    if not 0 <= index < len(dataset):
        raise DataError(
            f"{recipe.data.root}: has {len(dataset)} samples; found index {index}, allowed 0 to {len(dataset) - 1}"
        )
    try:
        held_back = recorded_split(RunFolder(folder).provenance)["val"]
    except DataError:  # the record is lost
        held_back = dataset.split["val"]
    # Whole and unturned, with the cameras that the run trained on, estimated ones included.
    item = dataset[index]
    # The dataset may come from any source, so its views have no files; the names serve messages alone.
    names = tuple(Path(item.id) / str(view) for view in range(item.views.shape[0]))
    images = tuple(item.views)
    views = ViewSet(names, images, item.homographies, item.positions)
    return DatasetSample(views, item.id, item.material, item.material in held_back)
