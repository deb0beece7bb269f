"""Batches: which folders are captures, what is done already, and what a fault does."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_run
from PIL import Image

from neuropbr_core.cli.package import chosen_targets
from neuropbr_core.errors import DataError
from neuropbr_core.inference import Effort, LoadedGenerator, load_generator
from neuropbr_core.inference.batch import Batch, Capture, Order, Row, check_batch_place, find_captures, watch
from neuropbr_core.ownership import remember_written
from neuropbr_core.report import report_key
from neuropbr_core.reporting import SilentReporter, reporting_to
from neuropbr_core.shipped import DEFAULT_MODEL, shipped_root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedGenerator:
    """A small network that takes photos as they are."""
    folder = small_run.save_run(tmp_path_factory.mktemp("runs") / "plain", small_run.small_recipe(*small_run.PLAIN))
    return load_generator(folder)


def capture(folder: Path, colour: str = "red") -> Path:
    folder.mkdir(parents=True)
    for index in range(3):
        Image.new("RGB", (32, 32), colour).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """Two captures, one of them in a folder of folders."""
    capture(tmp_path / "captures" / "oak")
    capture(tmp_path / "captures" / "metals" / "rust")
    return tmp_path / "captures"


class TestFinding:
    def test_at_any_depth_in_order(self, captures: Path) -> None:
        (captures / "empty").mkdir()
        capture(captures / ".hidden")
        assert find_captures([captures]) == [
            Capture("metals/rust", captures / "metals" / "rust"),
            Capture("oak", captures / "oak"),
        ]

    def test_a_capture_itself(self, captures: Path) -> None:
        assert find_captures([captures / "oak"]) == [Capture("oak", captures / "oak")]

    def test_links_and_written_maps_are_passed_over(self, captures: Path, model: LoadedGenerator) -> None:
        (captures / "circle").symlink_to(captures)
        Batch(model, captures / "maps").predict(Capture("oak", captures / "oak"))
        assert [found.name for found in find_captures([captures])] == ["metals/rust", "oak"]

    def test_two_of_one_name_are_refused(self, captures: Path, tmp_path: Path) -> None:
        capture(tmp_path / "more" / "oak")
        with pytest.raises(DataError, match="both are named 'oak'"):
            find_captures([captures, tmp_path / "more"])

    def test_a_missing_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such folder"):
            find_captures([tmp_path / "nothing"])

    @pytest.mark.parametrize("name", ["batch.json", "batch.html/inner"])
    def test_names_of_the_batchs_own_files_are_refused(self, tmp_path: Path, name: str) -> None:
        capture(tmp_path / "captures" / name)
        with pytest.raises(DataError, match=r"is the name of the batch's own file"):
            find_captures([tmp_path / "captures"])

    def test_maps_within_those_of_another_capture_are_refused(self, tmp_path: Path) -> None:
        capture(tmp_path / "first" / "wall")
        capture(tmp_path / "second" / "wall" / "left")
        with pytest.raises(DataError, match="its maps would be within those of"):
            find_captures([tmp_path / "first", tmp_path / "second"])

    def test_a_name_that_is_no_text_is_refused(self, tmp_path: Path) -> None:
        capture(tmp_path / "captures" / "o\udcffk")
        with pytest.raises(DataError, match="is not UTF-8 text; rename it"):
            find_captures([tmp_path / "captures"])

    def test_a_folder_that_may_not_be_read_is_left_out(
        self, captures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        listed = Path.iterdir

        def iterdir(self: Path) -> Iterator[Path]:
            if self.name == "metals":
                raise PermissionError(13, "Permission denied", str(self))
            return listed(self)

        monkeypatch.setattr(Path, "iterdir", iterdir)
        assert [found.name for found in find_captures([captures])] == ["oak"]
        assert "metals: cannot be looked into: Permission denied; it is left out" in capsys.readouterr().err


class TestPlace:
    def test_maps_never_replace_photos(self, captures: Path) -> None:
        with pytest.raises(DataError, match="maps would replace photos"):
            check_batch_place(captures, [captures / "oak"], overwrite=True, resume=False)

    def test_output_among_the_captures_is_refused(self, captures: Path) -> None:
        for place in (captures, captures / "oak" / "maps"):
            with pytest.raises(DataError, match="would be taken for photos"):
                check_batch_place(place, [captures], overwrite=False, resume=False)

    def test_an_earlier_batch_needs_a_word(self, tmp_path: Path) -> None:
        (tmp_path / "batch.json").write_text("{}")
        with pytest.raises(DataError, match="continue it with --resume"):
            check_batch_place(tmp_path, [], overwrite=False, resume=False)
        check_batch_place(tmp_path, [], overwrite=False, resume=True)

    def test_a_page_of_others_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "batch.html").write_text("mine")
        with pytest.raises(DataError, match="is no report"):
            check_batch_place(tmp_path, [], overwrite=False, resume=True)


def oak(captures: Path) -> Capture:
    return Capture("oak", captures / "oak")


def test_a_capture_becomes_a_folder_and_a_row(captures: Path, tmp_path: Path, model: LoadedGenerator) -> None:
    batch = Batch(model, tmp_path / "out", Order(Effort(ensemble=True), size=16))
    row = batch.predict(oak(captures))
    assert (row.state, row.photos, row.size) == ("done", 3, 16)
    assert row.confidence is not None
    with Image.open(tmp_path / "out" / "oak" / "confidence.png") as confidence:
        assert confidence.size == (16, 16)
    names = {path.name for path in (tmp_path / "out" / "oak").iterdir()}
    assert {"albedo.png", "roughness.png", "metallic.png", "normal.png", "views", "preview.jpg"} <= names
    (stored,) = json.loads((tmp_path / "out" / "batch.json").read_text())["captures"]
    assert stored["name"] == "oak"
    batch.write_page()
    page = (tmp_path / "out" / "batch.html").read_text()
    assert report_key(tmp_path / "out" / "batch.html") == ""
    assert 'href="oak/"' in page
    assert 'alt="oak on a ball"' in page


def test_what_is_done_is_known_by_photos_model_order_and_files(
    captures: Path, tmp_path: Path, model: LoadedGenerator
) -> None:
    out = tmp_path / "out"
    Batch(model, out).predict(oak(captures))

    def later(**order: object) -> Batch:
        batch = Batch(model, out, Order(**order))  # type: ignore[arg-type]
        batch.read()
        return batch

    assert later().is_done(oak(captures))
    assert later(effort=Effort(max_memory=1)).is_done(oak(captures))
    assert not later(size=16).is_done(oak(captures))
    (out / "oak" / "albedo.png").unlink()
    assert not later().is_done(oak(captures))
    assert later().predict(oak(captures)).state == "done"
    Image.new("RGB", (32, 32), "blue").save(captures / "oak" / "1.png")
    assert not later().is_done(oak(captures))


def test_photos_that_are_gone_are_not_done(captures: Path, tmp_path: Path, model: LoadedGenerator) -> None:
    """They make a failed row, and do not end the batch."""
    batch = Batch(model, tmp_path / "out")
    assert batch.predict(oak(captures)).state == "done"
    for path in (captures / "oak").iterdir():
        path.unlink()
    assert not batch.is_done(oak(captures))
    assert batch.predict(oak(captures)).state == "failed"


def test_a_failure_is_forgotten_with_its_capture(captures: Path, tmp_path: Path, model: LoadedGenerator) -> None:
    (captures / "oak" / "0.png").write_bytes(b"damaged")
    batch = Batch(model, tmp_path / "out")
    assert batch.predict(oak(captures)).state == "failed"
    batch.forget_failed([oak(captures)])
    assert set(batch.rows) == {"oak"}
    batch.forget_failed([Capture("metals/rust", captures / "metals" / "rust")])
    assert not batch.rows


class InterruptingReporter(SilentReporter):
    """Presses Ctrl-C at the third step of a bar."""

    def bar(self, total: int, what: str, **options: object) -> "InterruptingReporter":
        self.left = 3
        assert (total, what) == (20, "refining")
        return self

    def advance(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        assert text.startswith("objective ")

    def close(self) -> None:
        self.left = -1


def test_an_interrupted_refinement_is_no_capture(captures: Path, tmp_path: Path) -> None:
    """Ctrl-C ends the batch; `--resume` must not take a capture for done that was refined by a few steps."""
    place = tmp_path / "out"
    batch = Batch(load_generator(f"neuropbr:{DEFAULT_MODEL}"), place, Order(Effort(refine=20)))
    bricks = Capture("bricks", shipped_root() / "examples" / "captures" / "bricks")
    with reporting_to(InterruptingReporter()), pytest.raises(KeyboardInterrupt):
        batch.predict(bricks)
    assert not batch.is_done(bricks)
    assert not list(place.rglob("*.png"))


def test_files_of_others_make_a_row_fail(captures: Path, tmp_path: Path, model: LoadedGenerator) -> None:
    out = tmp_path / "out"
    (out / "oak").mkdir(parents=True)
    (out / "oak" / "notes.txt").write_text("mine")
    row = Batch(model, out).predict(oak(captures))
    assert row.state == "failed"
    assert "notes.txt: there already, and not as neuropbr wrote it" in row.error
    assert [path.name for path in (out / "oak").iterdir()] == ["notes.txt"]
    assert Batch(model, out, overwrite=True).predict(oak(captures)).state == "done"


def test_a_link_in_the_place_of_a_folder_is_kept(captures: Path, tmp_path: Path, model: LoadedGenerator) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "oak").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in Batch(model, out, overwrite=True).predict(oak(captures)).error
    assert not list((tmp_path / "elsewhere").iterdir())


def test_any_fault_becomes_a_row(
    captures: Path, tmp_path: Path, model: LoadedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **options: object) -> None:
        raise ZeroDivisionError("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr("neuropbr_core.inference.batch.write_packages", broken)
        row = Batch(model, tmp_path / "out").predict(oak(captures))
    assert row.error == "ZeroDivisionError: on purpose"
    # Nothing half-written is left.
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["batch.json"]


def test_doubts_are_told_or_refused(captures: Path, tmp_path: Path, model: LoadedGenerator) -> None:
    (captures / "oak" / "2.png").unlink()
    row = Batch(model, tmp_path / "out").predict(oak(captures))
    assert row.state == "done"
    assert row.doubts
    strict = Batch(model, tmp_path / "strict", Order(strict=True)).predict(oak(captures))
    assert strict.state == "failed"
    assert "--strict refuses" in strict.error


@pytest.mark.parametrize("name", ["../outside", "/etc", "a//b", ".."])
def test_names_of_an_edited_table_lead_nowhere(tmp_path: Path, model: LoadedGenerator, name: str) -> None:
    row = {"name": name, "folder": "x", "state": "done", "key": "", "seconds": 0}
    (tmp_path / "batch.json").write_text(json.dumps({"model": {}, "captures": [row]}))
    with pytest.raises(DataError, match="is no name of a capture"):
        Batch(model, tmp_path).read()


def test_a_damaged_table_is_refused(tmp_path: Path, model: LoadedGenerator) -> None:
    (tmp_path / "batch.json").write_text("{")
    with pytest.raises(DataError, match="start again with --overwrite"):
        Batch(model, tmp_path).read()


def test_hostile_names_stay_text(tmp_path: Path, model: LoadedGenerator) -> None:
    name = "<img src=x onerror=alert(1)>&\"'"
    batch = Batch(model, tmp_path / "out")
    batch.predict(Capture(name, capture(tmp_path / "captures" / name)))
    batch.predict(Capture("bad" + name, tmp_path / "captures"))
    batch.write_page()
    page = (tmp_path / "out" / "batch.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "script-src &#x27;none&#x27;" in page


def test_watching_waits_until_photos_are_copied(captures: Path, tmp_path: Path, model: LoadedGenerator) -> None:
    shutil.rmtree(captures / "metals")
    batch = Batch(model, tmp_path / "out")
    told: list[Row] = []
    looks = 0

    def wait(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            assert told == []
        elif looks == 2:
            assert [row.name for row in told] == ["oak"]
            capture(captures / "late")
        elif looks == 3:
            # Another photo arrives, so that the capture is not whole yet.
            Image.new("RGB", (32, 32)).save(captures / "late" / "3.png")
        elif looks == 4:
            assert len(told) == 1
        elif looks == 5:
            assert [row.name for row in told] == ["oak", "late"]
            assert told[-1].photos == 4
            (captures / "oak" / "0.png").write_bytes(b"damaged")
        elif looks == 8:
            # A capture that failed is not tried again and again.
            assert [row.state for row in told] == ["done", "done", "failed"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(batch, [captures], told.append, wait)
    assert "late on a ball" in (tmp_path / "out" / "batch.html").read_text()


def test_watching_goes_on_when_a_capture_is_removed_while_another_is_predicted(
    captures: Path, tmp_path: Path, model: LoadedGenerator
) -> None:
    told: list[Row] = []
    looks = 0

    def tell(row: Row) -> None:
        told.append(row)
        # "oak" is in the list of this look already.
        shutil.rmtree(captures / "oak")

    def wait(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(Batch(model, tmp_path / "out"), [captures], tell, wait)
    assert [(row.name, row.state) for row in told] == [("metals/rust", "done")]


def test_materials_are_named_by_the_whole_path(captures: Path, tmp_path: Path, model: LoadedGenerator) -> None:
    """Programs replace materials of one name, and every dataset has a sample_0000 in two folders."""
    capture(captures / "wood" / "rust")
    batch = Batch(model, tmp_path / "out", Order(targets=tuple(chosen_targets("godot", ()))))
    for found in find_captures([captures]):
        assert batch.predict(found).state == "done"
    names = sorted(path.name for path in (tmp_path / "out").rglob("*.tres"))
    assert names == ["metals_rust.tres", "oak.tres", "wood_rust.tres"]


def test_other_cameras_of_the_dataset_are_noticed_from_within_it(
    tmp_path: Path, model: LoadedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tmp_path / "input" / "clean"
    capture(clean / "sample_0000")
    monkeypatch.chdir(clean)
    batch = Batch(model, tmp_path / "out")
    (found,) = find_captures([Path()])
    before = batch.key(found)
    (tmp_path / "input" / "cameras.json").write_text("{}")
    assert batch.key(found) != before


def test_a_picture_among_captures_hides_none_of_them(captures: Path) -> None:
    """The record of a picture that `report` drew there is no record of maps."""
    (captures / "overview.txt").write_text("drawn")
    remember_written(captures, [captures / "overview.txt"])
    assert len(find_captures([captures])) == 2


def test_names_that_differ_in_case_alone_are_one(captures: Path, tmp_path: Path) -> None:
    capture(tmp_path / "more" / "Oak")
    with pytest.raises(DataError, match="both are named 'Oak'"):
        find_captures([captures, tmp_path / "more"])


def test_a_path_that_is_no_text_stands_in_the_table_with_escapes(tmp_path: Path, model: LoadedGenerator) -> None:
    folder = tmp_path / "caf\udce9" / "oak"
    capture(folder)
    (folder / "b\udce9.png").write_bytes(b"damaged")
    batch = Batch(model, tmp_path / "out", Order(targets=tuple(chosen_targets("plain", ()))))
    row = batch.predict(Capture("oak", folder))
    assert row.state == "failed"
    assert "b\\udce9.png" in row.error
    (folder / "b\udce9.png").unlink()
    assert batch.predict(Capture("oak", folder)).state == "done"
    batch.write_page()
    (told,) = json.loads((tmp_path / "out/batch.json").read_text())["captures"]
    assert told["folder"].endswith("caf\\udce9/oak")
