"""A report replaces reports alone."""

import os
from pathlib import Path

import pytest

from neuropbr_core.errors import DataError
from neuropbr_core.report import Report, check_report_place, report_key, write_page, write_report


def test_a_report_is_recognised(tmp_path: Path):
    path = tmp_path / "report.html"
    check_report_place(path)
    write_report(path, write_page(Report("a", key="12ab")))
    assert report_key(path) == "12ab"
    check_report_place(path)


def test_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text("<!doctype html><title>mine</title>")
    assert report_key(path) is None
    with pytest.raises(DataError, match="is no report; choose another --output, or give --overwrite"):
        check_report_place(path)
    check_report_place(path, overwrite=True)


def test_a_folder_and_a_pipe_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="is a folder"):
        check_report_place(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is no report"):
        check_report_place(tmp_path / "pipe")


def test_a_title_cannot_pass_for_the_generator(tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text("x" * 5000 + '<meta name="generator" content="neuropbr report">')
    assert report_key(path) is None
