"""Digests of files: of the whole content, remembered for as long as a file is not touched."""

import os
import time

import pytest

from neuropbr_core.data.pack import digest as fingerprint
from neuropbr_core.data.pack.digest import FileDigests


@pytest.fixture
def paths(tmp_path):
    """Three files that were written a while ago, as far as the digests can tell."""
    found = [tmp_path / f"{name}.png" for name in "abc"]
    for index, path in enumerate(found):
        path.write_bytes(bytes([index]) * 20_000)
    return found


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read."""
    found, digest = [], fingerprint.hashlib.file_digest
    monkeypatch.setattr(
        fingerprint.hashlib, "file_digest", lambda file, name: found.append(file.name) or digest(file, name)
    )
    return found


@pytest.fixture
def settled(monkeypatch):
    monkeypatch.setattr(fingerprint, "_SETTLED", -1.0)


def test_equal_content_has_equal_digests(paths):
    digests = FileDigests().of([*paths, paths[0]])
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3
    assert all(len(digest) == 32 for digest in digests)


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once(paths, reads, tmp_path):
    memo = tmp_path / ".pack" / "digests.json"
    first = FileDigests(memo).of(paths)
    assert len(reads) == 3
    assert FileDigests(memo).of(paths) == first
    assert len(reads) == 3


@pytest.mark.usefixtures("settled")
def test_a_change_in_the_middle_is_seen_although_size_and_time_stay(paths, tmp_path):
    memo = tmp_path / "digests.json"
    first = FileDigests(memo).of(paths)
    before = paths[1].stat()
    with paths[1].open("r+b") as file:
        file.seek(10_000)
        file.write(b"!")
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert paths[1].stat().st_mtime_ns == before.st_mtime_ns
    second = FileDigests(memo).of(paths)
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False, True]


@pytest.mark.usefixtures("settled")
def test_a_file_that_takes_the_place_of_another_is_seen(paths, tmp_path):
    memo = tmp_path / "digests.json"
    first = FileDigests(memo).of(paths)
    stamp = paths[0].stat()
    paths[1].replace(paths[0])
    os.utime(paths[0], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert FileDigests(memo).of(paths[:1]) == first[1:2]


def test_a_file_that_has_just_changed_is_not_remembered(paths, reads, tmp_path):
    memo = tmp_path / "digests.json"
    FileDigests(memo).of(paths)
    FileDigests(memo).of(paths)
    assert len(reads) == 6
    past = time.time() + 60  # what the clock will say in a minute
    for _ in range(2):
        with pytest.MonkeyPatch.context() as later:
            later.setattr(fingerprint.time, "time", lambda: past)
            FileDigests(memo).of(paths)
    assert len(reads) == 9


@pytest.mark.usefixtures("settled")
def test_a_damaged_memo_is_no_harm(paths, tmp_path):
    memo = tmp_path / "digests.json"
    first = FileDigests(memo).of(paths)
    for content in (b"", b"{", b'{"a.png": 3}'):
        memo.write_bytes(content)
        assert FileDigests(memo).of(paths) == first


@pytest.mark.usefixtures("settled")
def test_a_memo_that_cannot_be_written_is_no_harm(paths, tmp_path):
    (tmp_path / "file").write_text("")
    assert FileDigests(tmp_path / "file" / "digests.json").of(paths) == FileDigests().of(paths)
