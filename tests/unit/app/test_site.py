"""From photos to a zip file, and everything that may go wrong on the way."""

import errno
import io
import json
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from app_client import ADDRESS, finished, new_job, picture, upload
from starlette.testclient import TestClient

from neuropbr_core.app.jobs import Job, JobReporter, Jobs, JobStopped
from neuropbr_core.app.limits import Limits
from neuropbr_core.app.making import offers
from neuropbr_core.app.page import ASSETS
from neuropbr_core.app.site import Site
from neuropbr_core.errors import PackageError
from neuropbr_core.inference import LoadedGenerator, load_exported
from neuropbr_core.outputs import Material
from neuropbr_core.outputs.package import Target
from neuropbr_core.report import Showcase, showcase_part
from neuropbr_core.shipped import shipped_root
from neuropbr_core.viewer.html import Html
from neuropbr_core.workflow import export

CAPTURE = shipped_root() / "examples" / "captures" / "bricks"


def events(client: TestClient, job: str) -> list[dict]:
    """The states that a job's page receives until nothing is done for the job any more."""
    answer = client.get(f"{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    states = []
    parts = answer.text.split("\n\n")
    for part in parts:
        if part.startswith("data: "):
            states.append(json.loads(part.removeprefix("data: ")))
    assert parts[-2] == "event: rest\ndata: "
    return states


def started(client: TestClient, name: str, *photos: bytes) -> str:
    job = new_job(client)
    for index, content in enumerate(photos):
        upload(client, job, f"{name} {index}.png", content)
    answer = client.post(f"{job}/start", json={"name": name, "first": None})
    assert answer.status_code == 202, answer.text
    return job


@contextmanager
def busy(site: Site) -> Iterator[Callable[[], None]]:
    """Context in which the model works for somebody else, until the function that it yields is called."""
    release = threading.Event()
    site._predictions.put("somebody", release.wait)
    try:
        yield release.set
    finally:
        release.set()


def wait_for_queues(site: Site) -> None:
    """Wait for all work of the site that was ordered before."""
    for queue in (site._predictions, site._packages):
        through = threading.Event()
        queue.put("last", through.set)
        assert through.wait(30)


def test_photos_become_maps_preview_and_packages(client: TestClient) -> None:
    job = new_job(client)
    upload(client, job, "<i>.png", picture())
    upload(client, job, "2.png", picture((60, 90, 160)))
    client.post(f"{job}/start", json={"name": " old <b>wall</b> "})
    states = events(client, job)
    assert states[-1]["state"] == "done", states[-1]["error"]
    assert [photo["state"] for photo in states[-1]["photos"]] == ["used", "used"]
    assert ["maps", "32 × 32 pixels"] in states[-1]["facts"]
    # The model was trained with three.
    assert "Add photos from other sides" in states[-1]["lines"][0]["text"]
    preview = client.get(f"{job}/preview").text
    assert "old &lt;b&gt;wall&lt;/b&gt;" in preview
    assert "<b>wall" not in preview
    answer = client.post(f"{job}/zips", json={"targets": ["gltf", "plain"], "tileable": True})
    assert answer.status_code == 202
    (archive,) = finished(client, job)["zips"]
    assert (archive["state"], archive["targets"]) == ("done", ["gltf", "plain"])
    answer = client.get(f"{job}/zips/{archive['key']}")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''old_b_wall_b_gltf_plain.zip"
    assert len(answer.content) == archive["bytes"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        assert file.testzip() is None
        manifest = json.loads(file.read("old_b_wall_b/plain/manifest.json"))
        names = {name.partition("/")[2] for name in file.namelist()}
    assert {f"plain/{record['file']}" for record in manifest["files"]} < names
    assert any(name.endswith(".glb") for name in names)
    assert manifest["tiling"]["tiles"]
    assert manifest["made_by"]["views"] == "<i>.png, 2.png"


def test_the_same_zip_file_is_made_once(client: TestClient) -> None:
    job = started(client, "a", picture())
    finished(client, job)
    for targets in (["plain"], ["plain", "plain"]):
        client.post(f"{job}/zips", json={"targets": targets})
        assert len(finished(client, job)["zips"]) == 1


def test_two_users_at_once_do_not_see_each_other(client: TestClient, site: Site) -> None:
    with busy(site) as release:
        red = started(client, "red", picture((200, 30, 30)))
        blue = started(client, "blue", picture((30, 30, 200)))
        assert client.get(f"{red}/state").json()["before"] == 1
        waiting = client.get(f"{blue}/state").json()
        assert (waiting["state"], waiting["before"]) == ("waiting", 2)
        release()
        states = {job: finished(client, job) for job in (red, blue)}
    for job, own, other in ((red, "red", "blue"), (blue, "blue", "red")):
        assert states[job]["state"] == "done"
        assert [photo["name"] for photo in states[job]["photos"]] == [f"{own} 0.png"]
        assert other not in json.dumps(states[job])
        client.post(f"{job}/zips", json={"targets": ["plain"]})
        (archive,) = finished(client, job)["zips"]
        with zipfile.ZipFile(io.BytesIO(client.get(f"{job}/zips/{archive['key']}").content)) as file:
            assert json.loads(file.read(f"{own}/plain/manifest.json"))["made_by"]["views"] == f"{own} 0.png"
    previews = [client.get(f"{job}/preview").text for job in (red, blue)]
    assert previews[0] != previews[1]


def test_ids_cannot_be_guessed(client: TestClient) -> None:
    ids = {new_job(client) for _ in range(20)}
    assert len(ids) == 20
    assert all(len(job) == len("/jobs/") + 22 for job in ids)
    for path in ("", "/state", "/preview", "/events", "/photos/0", "/zips/zip-0"):
        assert client.get(f"/jobs/AAAAAAAAAAAAAAAAAAAAAA{path}").status_code == 404
    # There is no list of jobs.
    assert client.get("/jobs").status_code == 405


def test_registration_is_shown_for_each_photo(make_site, matching_model: LoadedGenerator) -> None:
    site = make_site(matching_model)
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = new_job(client)
        # The photo from above is uploaded last, and a photo of something else is among them.
        upload(client, job, "side.jpg", (CAPTURE / "1.jpg").read_bytes())
        upload(client, job, "cat.png", picture(size=(300, 300)))
        upload(client, job, "above.jpg", (CAPTURE / "0.jpg").read_bytes())
        client.post(f"{job}/start", json={"name": "bricks", "first": 2})
        states = events(client, job)
    assert states[-1]["state"] == "done", states[-1]["error"]
    assert states[-1]["first"] == 2
    side, cat, above = states[-1]["photos"]
    assert (side["state"], cat["state"], above["state"]) == ("used", "left out", "used")
    assert side["confidence"] > 0.5
    assert above["confidence"] == 1
    assert cat["reason"].startswith("cannot be registered to above.jpg: ")
    (job_of_site,) = site.jobs
    # In the model's order.
    assert job_of_site.made_by["views"] == "above.jpg, side.jpg"
    # Nothing of the server's folders and names is in what the page gets.
    assert "photo-1-" not in json.dumps(states)
    assert str(site.jobs._folder) not in json.dumps(states)
    assert "Matching the photos" in [state["step"] for state in states]


def test_photos_that_do_not_match_can_be_replaced(make_site, matching_model: LoadedGenerator) -> None:
    site = make_site(matching_model)
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = new_job(client)
        upload(client, job, "0.jpg", (CAPTURE / "0.jpg").read_bytes())
        upload(client, job, "cat.png", picture(size=(300, 300)))
        client.post(f"{job}/start", json={})
        state = finished(client, job)
        assert state["state"] == "failed"
        assert state["error"].startswith("cat.png: cannot be registered to 0.jpg: ")
        client.delete(f"{job}/photos/1")
        upload(client, job, "1.jpg", (CAPTURE / "1.jpg").read_bytes())
        client.post(f"{job}/start", json={"first": 0})
        state = finished(client, job)
        assert (state["state"], state["error"]) == ("done", "")
        assert [photo["state"] for photo in state["photos"]] == ["used", "used"]


def test_a_fault_of_the_program_is_told_and_others_go_on(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("neuropbr_core.app.making.find_doubts", lambda *_: 1 / 0)
        state = finished(client, started(client, "a", picture()))
    assert (state["state"], state["error"]) == ("failed", "ZeroDivisionError: division by zero")
    assert "Traceback" in capsys.readouterr().err
    assert finished(client, started(client, "b", picture()))["state"] == "done"


def test_a_packager_that_fails_leaves_no_zip_file(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = started(client, "a", picture())
    finished(client, job)
    folder = next(iter(site.jobs)).folder

    def fail(*_: object, **__: object) -> None:
        (folder / "zip-0" / "plain").mkdir(parents=True)
        raise PackageError("target plain: cannot")

    with monkeypatch.context() as patch:
        patch.setattr("neuropbr_core.app.making.write_packages", fail)
        client.post(f"{job}/zips", json={"targets": ["plain"]})
        (archive,) = finished(client, job)["zips"]
    assert (archive["state"], archive["error"]) == ("failed", "target plain: cannot")
    assert client.get(f"{job}/zips/zip-0").status_code == 404
    assert [path.name for path in folder.glob("*zip*")] == []
    # The next attempt is a new file.
    client.post(f"{job}/zips", json={"targets": ["plain"]})
    assert [archive["state"] for archive in finished(client, job)["zips"]] == ["failed", "done"]


def test_a_zip_file_is_whole_or_absent(client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job = started(client, "a", picture())
    finished(client, job)
    # The disk is full in the middle of the second file.
    written = []
    write = zipfile.ZipFile.write

    def failing(self: zipfile.ZipFile, *arguments: Any) -> None:
        written.append(arguments)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, *arguments)

    monkeypatch.setattr(zipfile.ZipFile, "write", failing)
    client.post(f"{job}/zips", json={"targets": ["plain"]})
    (archive,) = finished(client, job)["zips"]
    assert archive["state"] == "failed"
    assert archive["error"].startswith("The app's folder cannot be used: no space left on device; free some space")
    folder = next(iter(site.jobs)).folder
    assert {path.name for path in folder.iterdir()} == {"photos", "maps.safetensors", "preview.html"}


@pytest.mark.parametrize(
    "path", ["/zips/..%2f..%2fmaps.safetensors", "/zips/%2e%2e/preview.html", "/zips/zip-0.zip", "/zips/zip-1",
             "/photos/-1", "/photos/..%2f0", "/preview/..%2fmaps.safetensors"],
)  # fmt: skip
def test_nothing_else_of_a_job_can_be_downloaded(client: TestClient, path: str) -> None:
    job = started(client, "a", picture())
    finished(client, job)
    client.post(f"{job}/zips", json={"targets": ["plain"]})
    finished(client, job)
    assert client.get(job + path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/assets/..%2fpage.py", "/assets/%2e%2e/page.py", "/assets/page.py", "/assets//etc/passwd", "/../page.py"]
)
def test_nothing_else_of_the_program_can_be_downloaded(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_page_asks_for_its_own_files_alone(client: TestClient) -> None:
    page = client.get("/").text
    for name in ASSETS:
        assert f"/assets/{name}" in page
        assert client.get(f"/assets/{name}").status_code == 200
    assert "://" not in page
    # The policy allows neither.
    assert " style=" not in page
    assert not re.search(r"<[^>]* on\w+=", page)


def test_the_page_of_a_job_that_is_gone_says_so(client: TestClient) -> None:
    answer = client.get("/jobs/nobody")
    assert answer.status_code == 404
    assert "This material is not here any more" in answer.text
    assert '<a href="/">Begin anew</a>' in answer.text


def test_everything_on_the_page_has_a_name(client: TestClient) -> None:
    page = client.get("/").text
    ids = set(re.findall(r'\bid="([\w-]+)"', page))
    for reference in re.findall(r'aria-labelledby="([\w-]+)"', page):
        assert reference in ids
    # Each field is inside of its label.
    outside = re.sub(r"<label.*?</label>", "", page, flags=re.DOTALL)
    assert "<input" in page
    assert "<input" not in outside
    assert 'role="status" aria-live="polite"' in page
    assert 'role="alert"' in page


def test_every_installed_packager_is_offered(client: TestClient) -> None:
    page = client.get("/").text
    offered = offers()
    assert {"blender", "gltf", "plain", "unreal", "usd"} <= {offer.name for offer in offered}
    for offer in offered:
        assert offer.problem == ""
        assert f'name="target" value="{offer.name}"' in page


def test_a_packager_that_cannot_work_cannot_be_chosen(make_site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PackageError("target x: needs another <system>")

    monkeypatch.setattr("neuropbr_core.app.making.choose_targets", refuse)
    site = make_site(offers_of_site=offers())
    with TestClient(site.application, base_url=ADDRESS) as client:
        assert 'value="plain" disabled' in client.get("/").text
        assert "needs another &lt;system&gt;" in client.get("/").text
        answer = client.post(f"{new_job(client)}/zips", json={"targets": ["plain"]})
        assert answer.status_code == 400


@pytest.mark.parametrize(
    ("values", "status", "text"),
    [
        (b"no JSON", 400, "is no JSON object"),
        (b"[1]", 400, "is no JSON object"),
        (b"[" * 16_000, 400, "is no JSON object"),
        (b"{" + b" " * 20_000 + b"}", 413, "larger than 16384 bytes"),
        (b'{"targets": "plain"}', 400, "a list of names"),
        (b'{"targets": [1]}', 400, "a list of names"),
        (b'{"targets": ["plain"], "tileable": "yes"}', 400, "true or false"),
        (b'{"targets": []}', 400, "found none"),
        (b'{"targets": ["../plain"]}', 400, "found ../plain"),
    ],
)
def test_orders_that_are_wrong(client: TestClient, values: bytes, status: int, text: str) -> None:
    answer = client.post(f"{new_job(client)}/zips", content=values)
    assert answer.status_code == status
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"name": 3}, "has a name, which is text"),
        ({"first": "0"}, "has a name, which is text"),
        ({"first": True}, "has a name, which is text"),
        ({"first": 7}, "There is no photo 7"),
    ],
)
def test_starts_that_are_wrong(client: TestClient, values: object, text: str) -> None:
    job = new_job(client)
    upload(client, job, "a.png", picture())
    answer = client.post(f"{job}/start", json=values)
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_what_a_job_cannot_do_yet_or_any_more(client: TestClient, site: Site) -> None:
    with busy(site):
        job = started(client, "a", picture())
        assert client.get(f"{job}/preview").status_code == 409
        assert client.post(f"{job}/zips", json={"targets": ["plain"]}).status_code == 409
        assert client.post(f"{job}/start", json={}).status_code == 409
        assert client.delete(f"{job}/photos/0").status_code == 409
        assert client.post(f"{job}/photos", params={"name": "b.png"}, content=picture()).status_code == 409


def test_jobs_are_limited(make_site) -> None:
    site = make_site(limits=Limits(jobs=1))
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = new_job(client)
        assert client.post("/jobs").status_code == 503
        assert client.delete(job).status_code == 204
        assert client.post("/jobs").status_code == 201


def test_zip_files_are_limited(make_site) -> None:
    site = make_site(limits=Limits(packages=1))
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = started(client, "a", picture())
        finished(client, job)
        assert client.post(f"{job}/zips", json={"targets": ["plain"]}).status_code == 202
        assert client.post(f"{job}/zips", json={"targets": ["gltf"]}).status_code == 409


def test_a_removed_job_leaves_nothing(client: TestClient, site: Site) -> None:
    with busy(site) as release:
        job = started(client, "a", picture())
        assert client.delete(job).status_code == 204
        assert client.get(f"{job}/state").status_code == 404
        release()
    # Its turn comes, and ends at once.
    assert finished(client, started(client, "b", picture()))["state"] == "done"
    (left,) = site.jobs
    assert [path.name for path in site.jobs._folder.iterdir()] == [left.folder.name]


def test_a_job_that_is_removed_in_the_middle_of_its_work_leaves_nothing(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    removed = threading.Event()

    def slow(*_: object) -> list[str]:
        begun.set()
        assert removed.wait(30)
        return []

    monkeypatch.setattr("neuropbr_core.app.making.find_doubts", slow)
    job = started(client, "a", picture())
    assert begun.wait(30)
    assert client.delete(job).status_code == 204
    removed.set()
    # The next one comes after it.
    assert finished(client, started(client, "b", picture()))["state"] == "done"
    (left,) = site.jobs
    assert [path.name for path in site.jobs._folder.iterdir()] == [left.folder.name]


def test_a_removal_while_the_preview_is_drawn_leaves_nothing(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preview and maps are written afterwards, and their folder with them."""
    drawing, removed = threading.Event(), threading.Event()

    def slow(showcase: Showcase) -> Html:
        drawing.set()
        assert removed.wait(30)
        return showcase_part(showcase)

    with monkeypatch.context() as patch:
        patch.setattr("neuropbr_core.app.making.showcase_part", slow)
        job = started(client, "a", picture())
        assert drawing.wait(30)
        assert client.delete(job).status_code == 204
        removed.set()
        wait_for_queues(site)
    assert list(site.jobs._folder.iterdir()) == []


def test_a_removal_while_a_zip_file_is_made_leaves_nothing(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packing, removed = threading.Event(), threading.Event()

    def slow(material: Material, targets: list[Target], folder: Path) -> None:
        packing.set()
        assert removed.wait(30)
        folder.mkdir(parents=True)

    monkeypatch.setattr("neuropbr_core.app.making.write_packages", slow)
    job = started(client, "a", picture())
    finished(client, job)
    client.post(f"{job}/zips", json={"targets": ["plain"]})
    assert packing.wait(30)
    assert client.delete(job).status_code == 204
    removed.set()
    wait_for_queues(site)
    assert list(site.jobs._folder.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_an_exported_file_takes_the_first_photos(make_site, plain_model: LoadedGenerator, tmp_path: Path) -> None:
    (exported,) = export(plain_model.origin, ["torchscript"], output=tmp_path / "exports")
    site = make_site(load_exported(exported.path))
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = new_job(client)
        for number in range(4):
            upload(client, job, f"{number}.png", picture())
        client.post(f"{job}/start", json={"first": 3})
        state = finished(client, job)
    assert state["state"] == "done", state["error"]
    assert [photo["state"] for photo in state["photos"]] == ["used", "used", "left out", "used"]
    assert state["photos"][2]["reason"] == "the file takes 3"
    assert ["photos", "3"] in state["facts"]
    (made,) = site.jobs
    assert made.made_by["views"] == "3.png, 0.png, 1.png"


def test_a_full_disk_ends_the_work_before_it_writes(make_site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site()
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = new_job(client)
        upload(client, job, "a.png", picture())
        full = "The disk of temporary files is full; free some space on it."
        with monkeypatch.context() as patch:
            patch.setattr("neuropbr_core.app.jobs.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
            client.post(f"{job}/start", json={})
            state = finished(client, job)
            assert (state["state"], state["error"]) == ("failed", full)
        client.post(f"{job}/start", json={})
        assert finished(client, job)["state"] == "done"
        monkeypatch.setattr("neuropbr_core.app.jobs.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        answer = client.post(f"{job}/zips", json={"targets": ["plain"]})
        assert (answer.status_code, answer.json()) == (507, {"error": full})


@pytest.mark.parametrize(
    ("number", "status", "end"),
    [(errno.EACCES, 500, "denied"), (errno.ENOSPC, 507, "free some space on the disk of temporary files.")],
)
def test_only_a_full_disk_gets_the_advice_to_free_some_space(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch, number: int, status: int, end: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    job = new_job(client)
    monkeypatch.setattr(site, "_snapshot", fail)
    answer = client.get(f"{job}/state")
    assert answer.status_code == status
    assert answer.json()["error"].endswith(end)


def test_a_job_that_is_removed_during_a_request_is_not_there(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(job: Job) -> None:
        site.jobs.remove(job)
        job.photo_folder.stat()

    job = new_job(client)
    monkeypatch.setattr(site, "_snapshot", remove)
    answer = client.get(f"{job}/state")
    assert answer.status_code == 404
    assert "not here any more" in answer.json()["error"]


def test_old_jobs_are_removed_with_their_files(make_site) -> None:
    site = make_site(limits=Limits(kept_seconds=0.05))
    with TestClient(site.application, base_url=ADDRESS) as client:
        removed = threading.Event()
        forget = site.jobs.remove

        def remove(job: Job) -> None:
            forget(job)
            removed.set()

        site.jobs.remove = remove
        job = new_job(client)
        assert removed.wait(20)
        assert client.get(f"{job}/state").status_code == 404
        assert list(site.jobs._folder.iterdir()) == []


def test_jobs_that_are_worked_on_do_not_expire(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    jobs.create(3).change(state="waiting")
    jobs.create(3).new_photo("is being uploaded.png")
    idle = jobs.create(3)
    assert jobs.expired(-1.0) == [idle]
    assert jobs.expired(60.0) == []


def test_the_end_removes_everything_and_stops_the_work(make_site, tmp_path: Path) -> None:
    site = make_site()
    with TestClient(site.application, base_url=ADDRESS) as client:
        started(client, "a", picture())
        started(client, "b", picture())
    assert not (tmp_path / "app").exists()


def test_a_signal_handler_waits_for_no_lock(site: Site) -> None:
    """A signal may interrupt the thread that holds it."""
    with site.jobs._lock:
        ending = threading.Thread(target=site.end, daemon=True)
        ending.start()
        ending.join(10)
        assert not ending.is_alive()


def test_reports_of_the_work_reach_the_page_and_end_it(tmp_path: Path) -> None:
    job = Job("id", tmp_path)
    reporter = JobReporter(job)
    bar = reporter.bar(3, "refining")
    bar.advance()
    bar.note("nothing")
    assert job.snapshot()["bar"] == {"what": "refining", "total": 3, "done": 1}
    reporter.warning("careful")
    reporter.line("a line")
    assert job.lines == [("careful", True), ("a line", False)]
    job.stopped = True
    for report in (bar.advance, lambda: reporter.line("more"), lambda: reporter.warning("more")):
        with pytest.raises(JobStopped):
            report()
    bar.close()
    assert job.snapshot()["bar"] is None


def test_names_in_messages_are_the_users(tmp_path: Path) -> None:
    """A user's name may look like one of the server's, and is not replaced once more."""
    job = Job("id", tmp_path)
    for index, name in enumerate(("photo-1-1.png", "b.png")):
        job.change(job.new_photo(name), path=job.photo_folder / f"photo-1-{index}.png")
    text = f"{job.photo_folder}/photo-1-0.png: is not like photo-1-1.png of {job.photo_folder}\x1b[2J"
    assert job.shown(text) == "photo-1-1.png: is not like b.png of the photos\\x1b[2J"
