"""The record of a run reads back what a run writes."""

from dataclasses import asdict
from pathlib import Path

import small_run

from neuropbr_core.data.splits import split_materials
from neuropbr_core.training.provenance import (
    PROVENANCE,
    recorded_sources,
    recorded_split,
    recorded_teacher,
    recorded_trained,
    write_provenance,
)


def test_a_whole_record_is_read_back(tmp_path: Path) -> None:
    split = split_materials(["a", "b", "c"], val_ratio=0.3, seed=1, groups={"twins": ["a", "b", "x"]})
    teacher = {"checkpoint": "runs/t/checkpoints/epoch_0001", "weights": "1", "model": "2"}
    start = {"checkpoint": "runs/s/checkpoints/epoch_0001", "weights": "3"}
    facts = {"data": "digest", "split": asdict(split), "teacher": teacher, "init_from": start, "drawn": ["c", "d"]}
    write_provenance(tmp_path, small_run.small_recipe(), facts)
    assert recorded_split(tmp_path / PROVENANCE) == {"train": list(split.train), "val": list(split.val)}
    assert recorded_trained(tmp_path / PROVENANCE) == tuple(sorted({*split.train, "c", "d"}))
    assert recorded_teacher(tmp_path / PROVENANCE) == teacher
    assert recorded_sources(tmp_path / PROVENANCE) == [start, {**teacher}]
