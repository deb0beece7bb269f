"""Which materials weights have learnt from: in their own run, and in those that it started from or was taught by."""

from pathlib import Path
from typing import NamedTuple

from neuropbr_core.errors import CheckpointError, DataError
from neuropbr_core.model.weights import weights_digest
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.shipped import is_shipped_model, trained_materials
from neuropbr_core.training.provenance import PROVENANCE, recorded_drawn, recorded_sources, recorded_trained


class TrainedOn(NamedTuple):
    """Materials that a model was trained on.

    Attributes:
        materials: Those that are known.
        is_complete: Whether nothing else is possible; False where nobody knows all of them.
    """

    materials: tuple[str, ...] = ()
    is_complete: bool = False


def trained_on(place: Path) -> TrainedOn:
    """The materials that a model was trained on, as the list of a model that ships or the records of runs tell.

    Args:
        place: Folder of the model's weights, or its file.
    """
    materials: dict[str, None] = {}
    is_complete = True
    waiting = [place.resolve()]
    visited: set[Path] = set()
    while waiting:
        place = waiting.pop()
        # Records may be edited by hand, so that two of them could name each other.
        if place in visited:
            continue
        visited.add(place)
        if is_shipped_model(place):
            materials.update(dict.fromkeys(trained_materials(place)))
            continue
        # A record that was copied beside the weights is meant for them.
        record = place / PROVENANCE
        if not record.is_file() and (run := RunFolder.around(place)):
            record = run.provenance
        try:
            materials.update(dict.fromkeys(recorded_trained(record)))
            # Visits may have been drawn from materials that nobody named.
            is_complete = is_complete and recorded_drawn(record) is not None
            sources = recorded_sources(record)
        except DataError:  # the record is lost, or there has never been one
            is_complete = False
            continue
        for source in sources:
            checkpoint = Path(source["checkpoint"]).resolve()
            try:
                # Another run may have been written to the same place since.
                is_same = weights_digest(checkpoint) == source["weights"]
            except CheckpointError:
                is_same = False
            if is_same:
                waiting.append(checkpoint)
            else:
                is_complete = False
    return TrainedOn(tuple(materials), is_complete)
