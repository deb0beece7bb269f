"""The app in headless Chromium, with the model that ships: photos are dropped, and a zip file is downloaded."""

import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Tab, browser, installed_browser
from preview_pixels import compare, drawn

from neuropbr_core.outputs import read_material
from neuropbr_core.shipped import shipped_root
from neuropbr_core.viewer.studio import render_ball

CAPTURE = shipped_root() / "examples" / "captures" / "bricks"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed_browser() is None, reason="needs Chromium: apt install chromium, or similar"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of the app, which has to end without an error."""
    command = [sys.executable, "-c", "from neuropbr_core.cli import main; main()", "app", "--port", "0"]
    command.append("--refine=40")  # a fifth of the usual steps, to save time
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("model ")
            line = process.stdout.readline()
            yield re.findall(r"http://[\d.:]+/", line)[0]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_dropped_photos_become_a_material_and_a_zip_file(tab: Tab, address: str, tmp_path: Path) -> None:
    tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    damaged = tmp_path / "9 <img src=x onerror=alert(1)>.jpg"
    damaged.write_bytes((CAPTURE / "0.jpg").read_bytes()[:4000])
    tab.open(address)
    x, y = tab.value("(r => [r.x + r.width / 2, r.y + r.height / 2])(find('#drop').getBoundingClientRect())")
    tab.drop([*(CAPTURE / f"{index}.jpg" for index in (2, 0, 1)), damaged], int(x), int(y))
    tab.wait_for("job.state && job.state.photos.length === 4 && !find('#start').disabled")
    # In the order of their names, whatever the order in which they were dropped.
    cards = tab.value("findAll('#cards li').map(card => find('b', card).textContent)")
    assert cards == ["0.jpg", "1.jpg", "2.jpg", damaged.name]
    assert tab.value("find('#cards li:last-child p').textContent").startswith("not used: cannot be decoded")
    assert tab.value("findAll('#cards img').map(image => image.alt)") == ["Photo 0.jpg", "Photo 1.jpg", "Photo 2.jpg"]
    tab.value("void (find('#name').value = 'Old bricks')")
    tab.value("find('#start').focus()")
    tab.press("Enter")
    tab.wait_for("['working', 'done'].includes(job.state.state)")
    # The browser is closed in the middle, and its address is opened again later.
    place = tab.value("location.href")
    assert place.startswith(f"{address}jobs/")
    tab.open("about:blank")
    tab.open(place)
    tab.wait_for("window.neuropbr && neuropbr.panel && neuropbr.panel.preview.material.uniforms.normalMap.value")
    assert tab.value("find('#status').textContent") == "Done"
    assert tab.value("job.state.photos.map(photo => photo.state)") == ["used", "used", "used", "refused"]
    pixels = drawn(tab)
    tab.value("find('input[value=blender]').click()")
    tab.value("find('#zip').focus()")
    tab.press("Enter")
    tab.wait_for("find('#zips a')")
    tab.value("find('#zips a').click()")
    archive = tmp_path / "Old_bricks_blender_plain.zip"
    deadline = time.monotonic() + 60
    while not archive.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        file.extractall(tmp_path)
    manifest = json.loads((tmp_path / "Old_bricks" / "plain" / "manifest.json").read_text())
    assert manifest["material"] == "Old_bricks"
    assert manifest["made_by"]["views"] == "0.jpg, 1.jpg, 2.jpg"
    assert re.fullmatch(r"40 steps, relief scaled by \d\.\d\d", manifest["made_by"]["refined"])
    assert (tmp_path / "Old_bricks" / "blender" / "manifest.json").is_file()
    # The preview shows the very maps that are in the zip file, as our renderer does.
    material = read_material(tmp_path / "Old_bricks" / "plain")
    expected = render_ball(material.maps, pixels.shape[0], backdrop=False)
    difference, correlation = compare(pixels, expected[:3].permute(1, 2, 0).numpy())
    assert difference < 0.012
    assert correlation > 0.98
    for width in (320, 390):
        tab.resize(width, 800, mobile=True)
        assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.problems == []
    assert [url for url in tab.requests if not url.startswith((address, "about:"))] == []


def test_dark_and_light(tab: Tab, address: str) -> None:
    tab.open(address)
    colours = []
    for scheme in ("light", "dark"):
        tab.colour_scheme(scheme)
        colours.append(tab.value("getComputedStyle(find('.drop')).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(31, 32, 35)"]


def test_programs_of_others_do_not_run_and_nothing_is_asked_of_others(tab: Tab, address: str) -> None:
    tab.open(address)
    tab.value(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.stranger = 1'}))"
    )
    assert tab.value("typeof window.stranger") == "undefined"
    asked = tab.value("fetch('http://127.0.0.1:9/').then(() => 'answered', error => error.message)")
    assert asked != "answered"
    # The policy refused it, and not the closed port.
    assert any("Content Security Policy" in problem and "127.0.0.1:9" in problem for problem in tab.problems)
