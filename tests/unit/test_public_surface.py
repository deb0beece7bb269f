"""The public surface is as written down: breaking it is a decision."""

import difflib

import public_surface


def test_the_public_surface_is_as_written_down():
    written = public_surface.FILE.read_text(encoding="utf-8").splitlines()
    now = public_surface.text().splitlines()
    difference = "\n".join(difflib.unified_diff(written, now, "written down", "now", lineterm="", n=1))
    assert not difference, f"{difference}\n\nIf this is meant, run `python tests/support/public_surface.py`"
