"""A page of the web exporter in headless Chromium: it runs the model as `neuropbr infer` does, and asks for nothing."""

import base64
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import web_runtime
from browser import Tab, browser, installed_browser
from click.testing import CliRunner
from PIL import Image

from neuropbr_core.cli import root
from neuropbr_core.contracts import Maps
from neuropbr_core.data.images import fit_photo, read_photo
from neuropbr_core.data.layout.paths import list_photos
from neuropbr_core.data.registration.register import (
    FOCAL_RANGE,
    NOMINAL_FOCAL,
    camera_pose,
    focal_length,
    plane_homography,
)
from neuropbr_core.exporting import PASS_MARKS, PhotoSet, Signature, compare, prepare_inputs
from neuropbr_core.inference.predict import ExportedGenerator, load_exported, write_maps
from neuropbr_core.inference.views import read_views
from neuropbr_core.materials.cameras import nominal_cameras, project, sample_cameras
from neuropbr_core.shipped import shipped_root
from neuropbr_core.viewer.studio import render_ball

CAPTURES = shipped_root() / "examples" / "captures"
CORNERS = torch.tensor([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed_browser() is None, reason="needs Chromium: apt install chromium, or similar"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm and the network"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that ships, in a page."""
    folder = tmp_path_factory.mktemp("web")
    try:
        package = web_runtime.install(folder)
    except subprocess.CalledProcessError:
        pytest.skip("npm could not install onnxruntime-web; its words are on standard error")
    command = ["export", "--run", str(shipped_root() / "models" / "flash-3"), "--to", "web", "--output", str(folder)]
    command += ["--input", str(CAPTURES / "bricks"), "--option", f"web.runtime={package}"]
    done = CliRunner().invoke(root, command)
    assert done.exit_code == 0, done.exception
    return folder / "web.html"


@pytest.fixture(scope="module")
def model(page: Path) -> ExportedGenerator:
    """What `neuropbr infer --model web.html` runs."""
    return load_exported(page)


@pytest.fixture
def opened(tab: Tab, page: Path) -> Tab:
    """The page without photos; it is loaded once, because starting the model takes seconds."""
    if tab.value("typeof neuropbr") == "undefined":
        tab.open(page)
        tab.value("neuropbr.model.started")
    tab.value("void [...neuropbr.photos].forEach((photo) => neuropbr.remove(photo))")
    tab.value("void (neuropbr.problems.replaceChildren(), neuropbr.cameras = null, delete window.saved)")
    tab.problems.clear()
    tab.requests.clear()
    return tab


def drop(tab: Tab, *paths: Path) -> None:
    """Choose files, as a person does, and wait until they are read."""
    document = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=document, selector="#drop input")["nodeId"]
    # The page's own answer to the choice is waited for, since no mark tells when it is through.
    tab.value("void (window.added = new Promise((done) => { const add = neuropbr.add.bind(neuropbr); "
              "neuropbr.add = (files) => add(files).then(() => { neuropbr.add = add; done(); }); }))")  # fmt: skip
    tab.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])
    tab.value("window.added")


def predict(tab: Tab) -> Maps:
    """Press the button, and read the maps out of the page."""
    assert not tab.value("neuropbr.button.disabled"), tab.value("find('#hint').textContent")
    tab.value("neuropbr.button.click()")
    tab.wait_for("!neuropbr.isBusy")
    maps: Maps = {}
    for name in tab.value("neuropbr.facts.outputs"):
        maps[name] = torch.from_numpy(array(tab, f"neuropbr.prediction.maps.{name}"))
    return maps


def array(tab: Tab, expression: str) -> npt.NDArray[np.float32]:
    """The float32 values of {values, shape} in the page."""
    shape = tab.value(f"{expression}.shape.map(Number)")
    content = data(tab, f"new Blob([{expression}.values])")
    return np.frombuffer(content, np.float32).reshape(shape).copy()


def data(tab: Tab, blob: str) -> bytes:
    """The content of a Blob in the page."""
    url = tab.value(
        f"new Promise(async (done) => {{ const reader = new FileReader(); reader.onload = () => done(reader.result); "
        f"reader.readAsDataURL(await {blob}); }})"
    )
    return base64.b64decode(url.partition(",")[2])


def in_page(pixels: npt.NDArray[np.uint8]) -> str:
    """Pixels `(3, h, w)` as the page's programs hold them."""
    text = base64.b64encode(np.moveaxis(pixels, 0, -1).tobytes()).decode()
    height, width = pixels.shape[1:]
    return f"({{width: {width}, height: {height}, values: Uint8Array.from(atob('{text}'), (c) => c.charCodeAt(0))}})"


def assert_passes(maps: Maps, expected: Maps) -> None:
    """The mark of an fp32 export."""
    mark = PASS_MARKS["fp32"]
    for name, comparison in compare(maps, expected).items():
        assert comparison.psnr >= mark.psnr, (name, comparison)
        assert comparison.max_difference <= mark.difference, (name, comparison)


def test_page_starts_without_an_error_or_a_request(tab: Tab, page: Path) -> None:
    tab.open(page)
    tab.value("neuropbr.model.started")
    assert "The model is loaded" in tab.value("neuropbr.status.textContent")
    assert tab.value("neuropbr.problems.textContent") == ""
    assert tab.problems == []
    assert tab.requests == []


@pytest.mark.parametrize("capture", ["bricks", "metal_plates"])
def test_maps_are_those_of_infer(opened: Tab, model: ExportedGenerator, capture: str) -> None:
    drop(opened, *sorted((CAPTURES / capture).iterdir()))
    maps = predict(opened)
    views = read_views(CAPTURES / capture, size=model.signature.photo_size)
    for name, expected in model.prepare(views).items():
        np.testing.assert_allclose(array(opened, f"neuropbr.prediction.inputs.{name}"), expected, atol=1e-4)
    assert_passes(maps, model.predict(views))
    assert opened.value("neuropbr.problems.textContent") == ""
    assert "Predicted in" in opened.value("neuropbr.status.textContent")
    assert opened.problems == []
    assert opened.requests == []


def test_saved_maps_and_preview(opened: Tab, model: ExportedGenerator, tmp_path: Path) -> None:
    folder = CAPTURES / "bricks"
    drop(opened, *sorted(folder.iterdir()))
    predict(opened)
    # Again, because pictures of the first time must leave the page and the graphics card.
    predict(opened)
    assert opened.value("neuropbr.page.panel.preview.textures.size") == 4
    expected = model.predict(read_views(folder, size=model.signature.photo_size))
    opened.value("void (window.save = (blob, name) => { window.saved = { blob, name }; })")
    opened.value("document.getElementById('save-all').click()")
    opened.wait_for("window.saved")
    assert opened.value("saved.name") == "maps.zip"
    with zipfile.ZipFile(io.BytesIO(data(opened, "saved.blob"))) as archive:
        assert archive.testzip() is None
        for path in write_maps(expected, tmp_path):
            saved = np.asarray(Image.open(archive.open(path.name)).convert("RGB"), dtype=int)
            truth = np.asarray(Image.open(path).convert("RGB"), dtype=int)
            assert np.abs(saved - truth).max() <= 1
    opened.wait_for("neuropbr.page.panel.preview.material.uniforms.normalMap.value")
    opened.value("neuropbr.page.panel.preview.draw()")
    url = opened.value("neuropbr.page.panel.preview.canvas.toDataURL('image/png')")
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA")) / 255
    ball = render_ball(expected, drawn.shape[0], backdrop=False).permute(1, 2, 0).numpy()
    solid = (drawn[..., 3] == 1) & (ball[..., 3] == 1)
    assert solid.mean() > 0.2
    assert np.corrcoef(drawn[solid][:, :3].ravel(), ball[solid][:, :3].ravel())[0, 1] > 0.98


def test_marked_corners_give_what_infer_gives_with_the_saved_cameras(
    opened: Tab, model: ExportedGenerator, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(CAPTURES / "bricks", folder)
    cameras = json.loads((folder / "cameras.json").read_text())["bricks"]
    (folder / "cameras.json").unlink()
    drop(opened, *sorted(folder.iterdir()))
    for index, camera in enumerate(cameras):
        corners = project(torch.tensor(camera["homography"]), CORNERS).tolist()
        opened.value(f"void neuropbr.photos[{index}].setCorners({corners}, null)")
    # One corner by mouse, away and back, and by keyboard.
    opened.value("neuropbr.photos[1].card.scrollIntoView({ behavior: 'instant' })")
    box = opened.value("(() => { const b = neuropbr.photos[1].handles[2].getBoundingClientRect(); "
                       "return [b.x + b.width / 2, b.y + b.height / 2]; })()")  # fmt: skip
    before = opened.value("neuropbr.photos[1].corners[2]")
    for kind, offset in (("mousePressed", 0), ("mouseMoved", 20), ("mouseMoved", 0), ("mouseReleased", 0)):
        opened.call(
            "Input.dispatchMouseEvent", type=kind, x=box[0] + offset, y=box[1], button="left", buttons=1, clickCount=1
        )
    np.testing.assert_allclose(opened.value("neuropbr.photos[1].corners[2]"), before, atol=0.01)
    opened.press("ArrowLeft")
    opened.press("ArrowRight", shift=True)
    assert opened.value("neuropbr.photos[1].corners[2][0]") > before[0] + 0.005
    opened.value(
        f"void neuropbr.photos[1].setCorners({project(torch.tensor(cameras[1]['homography']), CORNERS).tolist()}, null)"
    )
    maps = predict(opened)
    # Positions follow from the corners alone; they are near those that the photos were rendered from.
    found = opened.value("neuropbr.camerasInUse()")
    for camera, truth in zip(found, cameras, strict=True):
        np.testing.assert_allclose(camera["position"], truth["position"], atol=0.02)
    opened.value("void (window.save = (blob, name) => { window.saved = { blob, name }; })")
    opened.value("document.getElementById('save-cameras').click()")
    (folder / "cameras.json").write_bytes(data(opened, "saved.blob"))
    views = read_views(folder, size=model.signature.photo_size)
    assert_passes(maps, model.predict(views))


def test_saved_cameras_follow_the_names_of_photos(opened: Tab, tmp_path: Path) -> None:
    """The arrows change which photo is the first in the page, and not which file `infer` reads first."""
    folder = tmp_path / "photos"
    shutil.copytree(CAPTURES / "bricks", folder)
    (folder / "cameras.json").unlink()
    truth = json.loads((CAPTURES / "bricks" / "cameras.json").read_text())["bricks"]
    photos = sorted(folder.iterdir())
    drop(opened, *photos)
    for index, camera in enumerate(truth):
        corners = project(torch.tensor(camera["homography"]), CORNERS).tolist()
        opened.value(f"void neuropbr.photos[{index}].setCorners({corners}, null)")
    opened.value("neuropbr.changed()")
    assert opened.value("find('#cameras-hint').textContent") == ""
    opened.value("neuropbr.move(neuropbr.photos[2], -2)")
    assert opened.value("neuropbr.photos.map((photo) => photo.name)") == ["2.jpg", "0.jpg", "1.jpg"]
    assert "0.jpg is the first photo, which should be from straight above, and not 2.jpg" in opened.value(
        "find('#cameras-hint').textContent"
    )
    opened.value("void (window.save = (blob, name) => { window.saved = { blob, name }; })")
    opened.value("document.getElementById('save-cameras').click()")
    (folder / "cameras.json").write_bytes(data(opened, "saved.blob"))
    views = read_views(folder)
    assert views.homographies is not None
    assert views.positions is not None
    for index, camera in enumerate(truth):
        np.testing.assert_allclose(views.homographies[index], camera["homography"], atol=1e-4)
        np.testing.assert_allclose(views.positions[index], camera["position"], atol=0.02)
    # The file goes back to the same photos, although the order in the page is still another.
    drop(opened, folder / "cameras.json")
    found = opened.value("neuropbr.photos.map((photo) => photo.camera.homography)")
    np.testing.assert_allclose(found, views.homographies[[2, 0, 1]], atol=1e-6)


def test_cameras_are_not_saved_for_another_folder(opened: Tab, tmp_path: Path) -> None:
    bricks = sorted((CAPTURES / "bricks").glob("*.jpg"))
    shutil.copy(bricks[0], tmp_path / "3.jpg")
    drop(opened, *bricks, tmp_path / "3.jpg")
    assert "remove the spare photo:" in opened.value("find('#cameras-hint').textContent")
    assert opened.value("find('#save-cameras').disabled")
    opened.value("neuropbr.remove(neuropbr.photos[3])")
    assert opened.value("find('#cameras-hint').textContent") == ""
    assert not opened.value("find('#save-cameras').disabled")
    opened.value("neuropbr.remove(neuropbr.photos[2])")
    drop(opened, bricks[0])
    assert "two are named 0.jpg" in opened.value("find('#cameras-hint').textContent")
    assert opened.value("find('#save-cameras').disabled")


def test_photos_are_sorted_as_infer_sorts_them(opened: Tab, tmp_path: Path) -> None:
    names = ["a.jpg", "B.jpg", "b.jpg", "10.jpg", "9.jpg", "09.jpg", "1a.jpg", "1.jpg", "_1.jpg", "IMG (2).jpg"]
    names += ["IMG (10).jpg", "IMG-1.jpg", "é.jpg", "z.jpg", "2.10.jpg", "2.9.jpg", "1234567890123.jpg", "a.JPG"]
    names += ["٣.jpg", "٢١.jpg", "𝟘.jpg", "𝟙𝟘.jpg", "😀.jpg", "\uff5e.jpg", "a1b20.jpg", "a1b3.jpg", "a01b1.jpg"]
    for name in names:
        (tmp_path / name).touch()
    expected = [path.name for path in list_photos(tmp_path)]
    assert opened.value(f"sortByName({json.dumps(names)}.map((name) => ({{ name }}))).map((p) => p.name)") == expected


def test_later_photos_leave_the_order_of_the_arrows(opened: Tab, tmp_path: Path) -> None:
    source = CAPTURES / "bricks" / "0.jpg"
    paths = {}
    for name in ("1", "2", "9", "10", "3"):
        paths[name] = tmp_path / f"{name}.jpg"
        shutil.copy(source, paths[name])
    order = "neuropbr.photos.map((photo) => photo.name.split('.')[0]).join(' ')"
    drop(opened, paths["9"])
    drop(opened, paths["2"])
    assert opened.value(order) == "2 9"
    opened.value("find('[aria-label=\"Move up 2.jpg\"]').click()")  # it is the first already
    drop(opened, paths["1"])
    assert opened.value(order) == "1 2 9"
    opened.value("find('[aria-label=\"Move up 9.jpg\"]').click()")
    drop(opened, paths["10"], paths["3"])
    assert opened.value(order) == "1 9 2 3 10"
    opened.value("void [...neuropbr.photos].forEach((photo) => neuropbr.remove(photo))")
    drop(opened, paths["9"])
    drop(opened, paths["2"])
    assert opened.value(order) == "2 9"


def test_photos_that_are_no_frame_are_told(opened: Tab) -> None:
    drop(opened, *sorted((CAPTURES / "bricks").glob("*.jpg")))
    assert "No corners are marked" in opened.value("find('#hint').textContent")
    predict(opened)
    nominal = [camera.position.tolist() for camera in nominal_cameras(3)]
    np.testing.assert_allclose([c["position"] for c in opened.value("neuropbr.camerasInUse()")], nominal, rtol=1e-6)
    assert "Photo 2 hardly looks like photo 1" in opened.value("neuropbr.problems.textContent")


def test_mistakes_are_explained(opened: Tab, tmp_path: Path) -> None:
    bricks = sorted((CAPTURES / "bricks").glob("*.jpg"))
    assert opened.value("find('#hint').textContent") == "The model takes 3 photos of one material; 0 are there."
    (tmp_path / "photo.heic").write_bytes(b"no photo")
    (tmp_path / "notes.txt").write_text("no photo")
    Image.new("RGBA", (8, 8), (9, 9, 9, 100)).save(tmp_path / "glass.png")
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "several.json").write_text(json.dumps({"a": [], "b": []}))
    drop(opened, bricks[0], *sorted(tmp_path.iterdir()))
    told = opened.value("neuropbr.problems.innerText")
    assert "photo.heic cannot be opened. This browser cannot read HEIC; Safari can." in told
    assert "notes.txt cannot be opened. It may be damaged, or no photo." in told
    assert "glass.png has transparent parts" in told
    assert "torn.json is no JSON file." in told
    assert "several.json must hold the cameras of one capture, as neuropbr writes them; it holds 2." in told
    assert opened.value("find('#hint').textContent") == "The model takes 3 photos of one material; 1 is there."
    assert opened.value("neuropbr.button.disabled")
    drop(opened, CAPTURES / "bricks" / "cameras.json")
    assert "has 3, and there are 1 photos; add or remove some" in opened.value("neuropbr.problems.textContent")
    drop(opened, *bricks[1:], bricks[2])
    assert opened.value("neuropbr.photos.every((photo) => !photo.camera)")
    opened.value("neuropbr.photos[3].tools.lastElementChild.click()")
    # Four photos were too many for the cameras, which wait for the right number.
    assert opened.value("neuropbr.photos.length === 3 && neuropbr.photos.every((photo) => photo.camera)")
    assert not opened.value("neuropbr.button.disabled")
    opened.value("void neuropbr.photos[0].setCorners([[0, 0], [0, 1], [1, 1], [1, 0]], null)")
    opened.value("neuropbr.changed()")
    assert "corners of photo 1 are in a wrong order" in opened.value("find('#hint').textContent")
    assert opened.value("neuropbr.button.disabled")
    assert opened.problems == []


@pytest.mark.parametrize("orientation", [1, 6])
def test_photos_are_read_upright(opened: Tab, tmp_path: Path, orientation: int) -> None:
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    small.resize((1200, 900), Image.Resampling.BICUBIC).save(path, quality=95, exif=exif)
    drop(opened, path)
    values = np.frombuffer(data(opened, "new Blob([neuropbr.photos[0].pixels.values])"), np.uint8)
    expected = fit_photo(read_photo(path, 384).pixels, 384)
    difference = np.abs(values.reshape(384, 384, 3).astype(int) - np.moveaxis(expected, 0, -1))
    # Decoders of JPEG may differ by a level.
    assert difference.max() <= 1


def test_large_photos_are_nearly_the_same(opened: Tab, tmp_path: Path) -> None:
    """`infer` shrinks them while it decodes them, which a browser does not offer."""
    photo = Image.open(CAPTURES / "bricks" / "0.jpg").resize((2800, 2100), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 6, (2100, 2800, 3))
    path = tmp_path / "photo.jpg"
    Image.fromarray((np.asarray(photo) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=92)
    drop(opened, path)
    values = np.frombuffer(data(opened, "new Blob([neuropbr.photos[0].pixels.values])"), np.uint8)
    expected = np.moveaxis(fit_photo(read_photo(path, 384).pixels, 384), 0, -1)
    difference = np.abs(values.reshape(384, 384, 3).astype(int) - expected)
    assert difference.max() <= 3
    assert difference.mean() < 0.5


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(64, 64, 32), (96, 128, 32), (77, 50, 32), (40, 20, 32), (20, 15, 32), (32, 32, 32), (43, 43, 32), (128, 16, 32)],
)
def test_photos_are_fitted_alike(opened: Tab, width: int, height: int, size: int) -> None:
    photo = np.random.default_rng(width).integers(0, 256, (3, height, width), dtype=np.uint8)
    fitted = np.frombuffer(data(opened, f"new Blob([fitPhoto({in_page(photo)}, {size}).values])"), np.uint8)
    np.testing.assert_array_equal(fitted.reshape(size, size, 3), np.moveaxis(fit_photo(photo, size), 0, -1))


@pytest.mark.parametrize("inputs", [("views", "visible", "directions"), ("views",)])
@pytest.mark.parametrize("zoom", [1.0, 2.5])
def test_photos_are_aligned_alike(opened: Tab, inputs: tuple[str, ...], zoom: float) -> None:
    """With one point a pixel and with several, and with what no view sees filled in."""
    signature = Signature(
        3, 24, 48, 24, "recorded", directed=True, geometry="nominal" if len(inputs) == 1 else "inputs"
    )
    cameras = sample_cameras(torch.Generator().manual_seed(4), 3)
    larger = torch.tensor([[zoom, 0.0, 0.5 - zoom / 2], [0.0, zoom, 0.5 - zoom / 2], [0.0, 0.0, 1.0]])
    homographies = torch.stack([camera.homography @ larger for camera in cameras])
    positions = torch.stack([camera.position for camera in cameras])
    photos = np.random.default_rng(1).integers(0, 256, (3, 3, 48, 48), dtype=np.uint8)
    expected = prepare_inputs(PhotoSet(list(torch.from_numpy(photos)), homographies, positions), signature)
    records = [{"homography": h.tolist(), "position": p.tolist()} for h, p in zip(homographies, positions, strict=True)]
    facts = {"size": 24, "photoSize": 48, "aligned": True, "inputs": list(inputs)}
    pixels = ", ".join(in_page(photo) for photo in photos)
    opened.value(f"void (window.prepared = prepareInputs([{pixels}], {json.dumps(records)}, {json.dumps(facts)}))")
    taps = opened.value(f"tapsNeeded({json.dumps(homographies.tolist())}, 48, 24)")
    assert taps == (1 if zoom == 1.0 else 3)
    assert list(expected) == list(inputs)
    for name, values in expected.items():
        np.testing.assert_allclose(array(opened, f"prepared.{name}"), values, atol=2e-5)


@pytest.mark.parametrize("size", [32, 96, 128])
def test_agreement_of_photos(opened: Tab, size: int) -> None:
    random = np.random.default_rng(size)
    common = random.random((1, 3, size, size))
    views = (0.6 * common + 0.4 * random.random((3, 3, size, size))).astype(np.float32)
    edges = np.arange(65) * size // 64
    pictures = []
    for brightness in np.einsum("vchw,c->vhw", views.astype(float), (0.3, 0.6, 0.1)):
        cells = np.empty((64, 64))
        for row, column in np.ndindex(64, 64):
            # A cell smaller than a pixel has the value of the pixel that it begins in.
            rows = slice(edges[row], edges[row + 1] if size >= 64 else edges[row] + 1)
            columns = slice(edges[column], edges[column + 1] if size >= 64 else edges[column] + 1)
            cells[row, column] = brightness[rows, columns].mean()
        differences = cells - local_means(cells)
        pictures.append(differences / (np.sqrt(local_means(differences**2)) + 0.01))
    expected = [np.corrcoef(pictures[0].ravel(), picture.ravel())[0, 1] for picture in pictures[1:]]
    values = json.dumps(views.ravel().tolist())
    assert opened.value(f"agreements(Float32Array.from({values}), 3, {size})") == pytest.approx(expected, abs=1e-6)


def local_means(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means of 7 × 7 values, whose border repeats outside."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, 3, mode="edge"), (7, 7))
    means: npt.NDArray[np.float64] = windows.mean((-1, -2))
    return means


def test_photos_of_a_model_without_alignment_stay_as_they_are(opened: Tab) -> None:
    signature = Signature(2, 24, 24, 24, "none", directed=False)
    photos = np.random.default_rng(1).integers(0, 256, (2, 3, 24, 24), dtype=np.uint8)
    expected = prepare_inputs(PhotoSet(list(torch.from_numpy(photos))), signature)
    facts = {"size": 24, "photoSize": 24, "aligned": False, "inputs": ["views"]}
    pixels = ", ".join(in_page(photo) for photo in photos)
    opened.value(f"void (window.prepared = prepareInputs([{pixels}], [], {json.dumps(facts)}))")
    np.testing.assert_allclose(array(opened, "prepared.views"), expected["views"], atol=1e-7)


def test_cameras_follow_from_corners(opened: Tab) -> None:
    assert opened.value("[NOMINAL_FOCAL, ...FOCAL_RANGE]") == [NOMINAL_FOCAL, *FOCAL_RANGE]
    sizes = [(400, 300), (300, 400), (500, 500)]
    for seed in range(5):
        cameras = sample_cameras(torch.Generator().manual_seed(seed), 3)
        homographies = [camera.homography.double().numpy() for camera in cameras]
        corners = [project(camera.homography.double(), CORNERS.double()).tolist() for camera in cameras]
        found = opened.value(f"{json.dumps(corners)}.map(homographyOfCorners)")
        np.testing.assert_allclose(found, homographies, atol=1e-5)
        planes = [plane_homography(np.array(h), *size) for h, size in zip(found, sizes, strict=True)]
        focal = focal_length(planes)
        assert opened.value(f"focalLength({json.dumps([plane.tolist() for plane in planes])})") == pytest.approx(focal)
        poses = opened.value(f"findPositions({json.dumps(found)}, {json.dumps(sizes)})")
        for pose, plane in zip(poses, planes, strict=True):
            expected = camera_pose(plane, focal or NOMINAL_FOCAL)
            np.testing.assert_allclose(pose["position"], expected.position, atol=1e-9)
            assert pose["tilt"] == pytest.approx(expected.tilt, abs=1e-9)
    # From straight above, photos do not tell a focal length.
    assert opened.value("focalLength([[[1, 0, 0], [0, -1, 0], [0, 0, 1]]])") is None


def test_page_fits_a_phone(opened: Tab) -> None:
    opened.colour_scheme("dark")
    opened.resize(390, 844, mobile=True)
    drop(opened, *sorted((CAPTURES / "bricks").iterdir()))
    predict(opened)
    assert opened.value("document.documentElement.scrollWidth") <= 390
    nameless = (
        "findAll('button, input, canvas, select').filter((e) => !(e.labels?.length || e.ariaLabel || e.innerText))"
    )
    assert opened.value(f"{nameless}.map((e) => e.outerHTML)") == []
    assert opened.value("findAll('#results figure img').every((image) => image.alt && image.naturalWidth)")
    # Light text on a dark page.
    luminance = "(colour) => colour.match(/[0-9]+/g).slice(0, 3).reduce((sum, value) => sum + Number(value), 0)"
    text, ground = opened.value(
        f"['color', 'backgroundColor'].map((n) => ({luminance})(getComputedStyle(document.body)[n]))"
    )
    assert text > 600
    assert ground < 150
    assert opened.problems == []
    opened.colour_scheme("light")
    opened.resize(1280, 900)
