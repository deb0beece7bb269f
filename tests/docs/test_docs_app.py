"""The commands of `docs/app.md` serve the page, and its numbers are those of the code."""

import http.client
import os
import re
import shlex
import signal
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import small_run
from click.testing import CliRunner

from neuropbr_core.app.limits import Limits
from neuropbr_core.app.serving import USUAL_PORT
from neuropbr_core.cli import root

PAGE = (Path(__file__).parents[2] / "docs" / "app.md").read_text(encoding="utf-8")
COMMANDS = re.search(r"```console\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()  # type: ignore[index]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_page_is_served(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run.save_run(tmp_path / "runs" / "quickstart", small_run.small_recipe())
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    served: list[str] = []
    addresses: list[str] = []

    def visit(address: str) -> None:
        try:
            connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
            connection.request("GET", "/")
            served.append(connection.getresponse().read().decode())
            connection.close()
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # what Ctrl-C does

    def tell(text: str) -> None:
        if found := re.search(r"open (http://\S+) in", text):
            addresses.append(found[1])
            threading.Thread(target=visit, args=(found[1],)).start()

    monkeypatch.setattr("neuropbr_core.cli.app.result", tell)
    program, *arguments = shlex.split(line.removeprefix("$ "))
    # The port of the page may be taken on this machine.
    answer = CliRunner().invoke(root, [argument.replace("8000", "0") for argument in arguments], catch_exceptions=False)
    assert (program, answer.exit_code) == ("neuropbr", 0), answer.output
    assert "Photos to material" in served[0]
    assert opened == (addresses if "--open" in line else [])


def test_numbers_are_those_of_the_code() -> None:
    limits = Limits()
    rows = dict(re.findall(r"^\| ([a-z][^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE))
    rows.pop("what")
    assert rows == {
        "photos of one material": f"{limits.photos}",
        "size of one photo": f"{limits.photo_bytes // 2**20} MiB, {limits.pixels // 10**6} million pixels",
        "size of all photos of one material": f"{limits.job_bytes // 2**20} MiB",
        "materials at a time": f"{limits.jobs}",
        "zip files of one material": f"{limits.packages}",
        "space that stays free on the disk of temporary files": f"{limits.free_bytes // 2**20} MiB",
    }
    assert limits.kept_seconds == 3600
    assert "looked at it for an hour (`--keep MINUTES`)" in PAGE
    assert f"at port {USUAL_PORT} or the next one" in PAGE
