"""What a model was trained on: in its run, by its teacher, and before it started."""

import json
from dataclasses import asdict
from pathlib import Path
from unittest.mock import Mock

from small_run import save_run, small_recipe

from neuropbr_core.data.splits import Split
from neuropbr_core.model.weights import weights_digest
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.train import Train
from neuropbr_core.runs.trained_on import trained_on
from neuropbr_core.shipped import resolve, trained_materials
from neuropbr_core.training.teachers import open_teacher


def trained_run(folder: Path, materials: list[str], **sources: Path) -> Path:
    """Write a run with a record; returns the folder of its checkpoint."""
    save_run(folder, small_recipe())
    document: dict[str, object] = {"split": asdict(Split(tuple(materials), (), 0, None)), "drawn": []}
    for name, checkpoint in sources.items():
        record = {"checkpoint": str(checkpoint), "weights": weights_digest(checkpoint)}
        if name == "teacher":
            record["model"] = "digest"
        document[name] = record
    (folder / "provenance.json").write_text(json.dumps(document))
    return folder / "checkpoints/epoch_0001"


def test_start_and_teacher_count_too(tmp_path: Path) -> None:
    first = trained_run(tmp_path / "first", ["a"], init_from=resolve("neuropbr:flash-3"))
    teacher = trained_run(tmp_path / "teacher", ["a", "b"])
    student = trained_run(tmp_path / "student", ["c"], init_from=first, teacher=teacher)
    learnt = trained_on(student)
    assert learnt.is_complete
    assert set(learnt.materials) == {"a", "b", "c", *trained_materials(resolve("neuropbr:flash-3"))}
    assert trained_on(tmp_path / "student") == learnt


def test_what_is_not_known_is_said_and_what_is_known_stays(tmp_path: Path) -> None:
    start = trained_run(tmp_path / "start", ["a"])
    run = trained_run(tmp_path / "run", ["b"], init_from=start)
    assert trained_on(run) == (("b", "a"), True)
    # Another run in the same place is not what this one started from.
    save_run(tmp_path / "start", small_recipe(), seed=1)
    assert trained_on(run) == (("b",), False)
    (tmp_path / "start/checkpoints/epoch_0001/model.safetensors").unlink()
    assert trained_on(run) == (("b",), False)
    (tmp_path / "run/provenance.json").unlink()
    assert trained_on(run) == ((), False)
    assert trained_on(tmp_path / "somewhere/model.safetensors") == ((), False)


def test_records_that_name_each_other_end(tmp_path: Path) -> None:
    start = trained_run(tmp_path / "a", ["a"])
    other = trained_run(tmp_path / "b", ["b"], init_from=start)
    trained_run(tmp_path / "a", ["a"], init_from=other)
    assert trained_on(other) == (("b", "a"), True)


def test_a_resumed_run_keeps_the_record_of_its_start(tmp_path: Path) -> None:
    start = trained_run(tmp_path / "start", ["a"])
    run = trained_run(tmp_path / "run", ["b"], init_from=start)
    train = Train(small_recipe(), RunFolder(tmp_path / "run"), resume=True, overwrite=False)
    split = asdict(Split(("b",), (), 0, None))
    train._write_records(Mock(fingerprint="digest", split=split, drawn=("c",)), None, None)
    assert trained_on(run) == (("b", "c", "a"), True)
    # What a resumed run does not draw any more has been learnt all the same.
    train._write_records(Mock(fingerprint="digest", split=split, drawn=("d",)), None, None)
    assert trained_on(run) == (("b", "c", "d", "a"), True)


def test_drawn_materials_count_and_nameless_ones_leave_doubt(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run", ["b"])
    train = Train(small_recipe(), RunFolder(tmp_path / "run"), resume=True, overwrite=False)
    split = asdict(Split(("b",), (), 0, None))
    train._write_records(Mock(fingerprint="digest", split=split, drawn=("a", "b")), None, None)
    assert trained_on(run) == (("a", "b"), True)
    assert open_teacher(run).trained == ("a", "b")
    train._write_records(Mock(fingerprint="digest", split=split, drawn=None), None, None)
    assert trained_on(run) == (("b",), False)


def test_a_record_that_is_written_anew_does_not_claim_to_know_all(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run", ["b"])
    (tmp_path / "run/provenance.json").unlink()
    train = Train(small_recipe(), RunFolder(tmp_path / "run"), resume=True, overwrite=False)
    split = asdict(Split(("c",), (), 0, None))
    train._write_records(Mock(fingerprint="digest", split=split, drawn=("a",)), None, None)
    assert trained_on(run) == (("c",), False)
