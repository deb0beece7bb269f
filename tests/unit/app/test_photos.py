"""Uploads: the server's own names, limits, and photos that cannot be used."""

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_client import ADDRESS, finished, new_job, picture, upload
from PIL import Image
from starlette.testclient import TestClient

from neuropbr_core.app.jobs import Job, Jobs, Photo, Refused
from neuropbr_core.app.limits import Limits
from neuropbr_core.app.photos import store_upload
from neuropbr_core.app.site import Site


def stored(site: Site) -> list[str]:
    """Names of all files that the site has, below the folders of jobs."""
    names = []
    for path in sorted(site.jobs._folder.rglob("*")):
        if path.is_file():
            names.append(path.relative_to(site.jobs._folder).as_posix().partition("/")[2])
    return names


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../etc/passwd.png", "passwd.png"),
        ("/etc/cron.d/job.PNG", "job.PNG"),
        ("C:\\Windows\\system32\\a.png", "a.png"),
        ("<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png"),
        ("a\n\x1b[31m\u202egnp.png", "a\\n\\x1b[31m\\u202egnp.png"),
        ("photo-1-0.png", "photo-1-0.png"),
        (".png/..png", "..png"),
        ("x" * 300 + ".png", "x" * 100 + "…"),
    ],
)
def test_names_are_only_shown(client: TestClient, site: Site, name: str, shown: str) -> None:
    photo = upload(client, new_job(client), name, picture())
    assert photo["name"] == shown
    # A name of which the end is cut off has no suffix any more.
    if shown.endswith("…"):
        assert (photo["state"], stored(site)) == ("refused", [])
    else:
        assert (photo["state"], stored(site)) == ("uploaded", ["photos/upload-000.png"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("notes.txt", ".txt files are not read; convert it to PNG, TIFF or JPEG"),
        ("IMG_1.CR2", ".cr2 is a camera's raw format; develop the photo to TIFF, PNG or JPEG"),
        ("photo", " files are not read; convert it to PNG, TIFF or JPEG"),
    ],
)
def test_formats_that_are_not_read(client: TestClient, site: Site, name: str, reason: str) -> None:
    photo = upload(client, new_job(client), name, picture())
    assert (photo["state"], photo["reason"]) == ("refused", reason)
    assert stored(site) == []


@pytest.mark.parametrize("content", [b"", b"no picture", picture()[:-200]])
def test_damaged_photos_are_refused_and_the_rest_goes_on(client: TestClient, site: Site, content: bytes) -> None:
    job = new_job(client)
    damaged = upload(client, job, "damaged.png", content)
    assert damaged["state"] == "refused"
    assert damaged["reason"].startswith("cannot be decoded (")
    assert str(site.jobs._folder) not in damaged["reason"]
    upload(client, job, "good.png", picture())
    assert stored(site) == ["photos/upload-001.png"]
    client.post(f"{job}/start", json={"name": "", "first": None})
    state = finished(client, job)
    assert state["state"] == "done", state["error"]
    assert [photo["state"] for photo in state["photos"]] == ["refused", "used"]


def test_too_many_bytes(make_site) -> None:
    content = picture()
    site = make_site(limits=Limits(photo_bytes=len(content)))
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = new_job(client)
        assert upload(client, job, "a.png", content)["state"] == "uploaded"
        photo = upload(client, job, "b.png", content + b"!")
        assert photo["state"] == "refused"
        assert "is larger than" in photo["reason"]
        assert stored(site) == ["photos/upload-000.png"]


def test_too_many_bytes_together(make_site) -> None:
    content = picture()
    site = make_site(limits=Limits(job_bytes=2 * len(content)))
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = new_job(client)
        states = [upload(client, job, f"{index}.png", content)["state"] for index in range(3)]
        assert states == ["uploaded", "uploaded", "refused"]
        # What is taken away counts no more.
        assert client.delete(f"{job}/photos/0").status_code == 200
        assert client.delete(f"{job}/photos/2").status_code == 200
        assert upload(client, job, "3.png", content)["state"] == "uploaded"
        assert stored(site) == ["photos/upload-001.png", "photos/upload-003.png"]


def bomb(width: int, height: int) -> bytes:
    """A small PNG file of very many equal pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    row = bytes(1 + -(-width // 8))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row * height))
        + chunk(b"IEND", b"")
    )


def test_too_many_pixels_are_refused_before_they_are_decoded(make_site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(limits=Limits(pixels=10_000))
    monkeypatch.setattr("neuropbr_core.app.photos.read_photo", lambda *_: pytest.fail("was decoded"))
    with TestClient(site.application, base_url=ADDRESS) as client:
        photo = upload(client, new_job(client), "a.png", bomb(1000, 1000))
    assert photo["state"] == "refused"
    assert photo["reason"] == "has 1000×1000 pixels, and at most 0.01 million are accepted; shrink it"


def test_photos_of_rare_kinds_of_tiff_are_not_decoded_to_learn_their_size(client: TestClient) -> None:
    import cv2

    # Half a gigabyte of float pixels may be few bytes; Pillow does not know this kind.
    encoded = cv2.imencode(".tiff", np.zeros((8, 8, 3), np.float64))[1].tobytes()
    photo = upload(client, new_job(client), "a.tif", encoded)
    assert photo["state"] == "refused"
    assert photo["reason"] == "is a TIFF file of a rare kind; convert it to PNG or JPEG"


def test_a_photo_at_which_the_program_fails_is_refused(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(client)
    with monkeypatch.context() as patch:
        patch.setattr("neuropbr_core.app.photos.read_photo", lambda *_: 1 / 0)
        photo = upload(client, job, "a.png", picture())
    assert (photo["state"], photo["reason"]) == ("refused", "ZeroDivisionError: division by zero")
    assert "Traceback" in capsys.readouterr().err
    assert stored(site) == []
    upload(client, job, "b.png", picture())
    assert client.post(f"{job}/start", json={}).status_code == 202


def test_a_photo_whose_request_ends_while_others_are_decoded_is_refused(site: Site) -> None:
    job = site.jobs.create(1)
    photo = job.new_photo("a.png")
    path = job.photo_folder / "upload-000.png"
    path.write_bytes(picture())
    job.bytes = path.stat().st_size

    async def end() -> None:
        # All decoders are at work.
        while not site._decoding.locked():
            await site._decoding.acquire()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(site._examine(job, photo, path), 0.05)

    asyncio.run(end())
    assert (photo.state, job.bytes, job.is_busy) == ("refused", 0, False)
    assert not path.exists()


def test_a_removal_during_an_upload_leaves_nothing(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job(client)

    def look(_: Job, photo: Photo, path: Path, *__: object) -> None:
        site.jobs.remove(site.jobs.find(job.rpartition("/")[2]))
        # A file that was opened before the removal and written after it.
        path.parent.mkdir(parents=True)
        raise Refused(409, photo.name)

    monkeypatch.setattr("neuropbr_core.app.site.examine", look)
    assert client.post(f"{job}/photos", params={"name": "a.png"}, content=picture()).status_code == 409
    assert list(site.jobs._folder.iterdir()) == []


def test_too_many_photos(make_site) -> None:
    site = make_site(limits=Limits(photos=2))
    with TestClient(site.application, base_url=ADDRESS) as client:
        job = new_job(client)
        upload(client, job, "a.png", picture())
        upload(client, job, "b.txt", b"")
        answer = client.post(f"{job}/photos", params={"name": "c.png"}, content=picture())
        assert answer.status_code == 409
        assert answer.json() == {"error": "c.png: there are 2 photos already, which is the most"}


def test_a_full_disk(make_site) -> None:
    site = make_site(limits=Limits(free_bytes=2**80))
    with TestClient(site.application, base_url=ADDRESS) as client:
        answer = client.post(f"{new_job(client)}/photos", params={"name": "a.png"}, content=picture())
        assert answer.status_code == 507
        assert "disk of temporary files is full" in answer.json()["error"]
        (job,) = site.jobs
        assert (job.photos, job.bytes, stored(site)) == ({}, 0, [])


def test_a_browser_that_is_closed_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    job = Jobs(tmp_path).create(1)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"some bytes"
        assert list(job.photo_folder.iterdir())
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(store_upload(job, "a.png", chunks(), Limits()))
    assert list(job.photo_folder.iterdir()) == []
    assert job.photos == {}
    assert job.bytes == 0


def test_a_job_that_was_started_meanwhile_takes_no_photo(tmp_path: Path) -> None:
    job = Jobs(tmp_path).create(1)
    job.change(state="working")

    async def chunks() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(Refused, match="the photos are complete"):
        asyncio.run(store_upload(job, "a.png", chunks(), Limits()))


def test_photos_of_phones(client: TestClient) -> None:
    """HEIC files are read, and the camera's orientation is applied."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    job = new_job(client)
    image = Image.new("RGB", (64, 48), (20, 160, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    for number, (kind, name) in enumerate([("JPEG", "a.jpg"), ("HEIF", "IMG_0001.HEIC")]):
        encoded = io.BytesIO()
        image.save(encoded, kind, exif=exif.tobytes())
        photo = upload(client, job, name, encoded.getvalue())
        assert (photo["state"], photo["size"]) == ("uploaded", "48×64"), photo
        answer = client.get(f"{job}/photos/{number}")
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as thumbnail:
            assert thumbnail.size == (48, 64)


def test_photos_are_taken_away(client: TestClient, site: Site) -> None:
    job = new_job(client)
    upload(client, job, "a.png", picture())
    assert client.delete(f"{job}/photos/0").json()["photos"] == []
    assert stored(site) == []
    assert client.delete(f"{job}/photos/0").status_code == 404
    assert client.get(f"{job}/photos/0").status_code == 404
    assert client.post(f"{job}/start", json={}).json()["error"].startswith("There is no photo yet")


def test_a_browser_that_says_nothing_any_more(make_site) -> None:
    """A request that stops in the middle ends after a while, and leaves no photo that is being uploaded for ever."""
    site = make_site(limits=Limits(silence_seconds=0.1))
    job = site.jobs.create(1)

    async def ask() -> list[int]:
        messages = [{"type": "http.request", "body": b"half", "more_body": True}]
        statuses = []

        async def receive() -> dict[str, object]:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            statuses.append(message.get("status"))

        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/jobs/{job.id}/photos",
            "query_string": b"name=a.png",
            "headers": [(b"host", b"127.0.0.1:7272")],
        }
        await site.application(scope, receive, send)
        return [status for status in statuses if status is not None]

    assert asyncio.run(ask()) == [400]
    assert job.photos == {}
    assert list(job.photo_folder.iterdir()) == []
