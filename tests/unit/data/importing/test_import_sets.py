import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from neuropbr_core.data.images import read_map, write_png
from neuropbr_core.data.importing.import_sets import import_materials
from neuropbr_core.data.importing.sources import read_name
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.lint import normal_convention
from neuropbr_core.shipped import resolve

EXAMPLES = resolve("neuropbr:examples/materials")
SIZE = 128


def stored(name="acg_Metal053C"):
    """An example's stored maps, `(H, W, C)`; this one has metal, rust and relief."""
    return {
        spec.name: np.moveaxis(read_map(EXAMPLES / name / spec.file_name, spec, SIZE), 0, 2) for spec in MAPS.values()
    }


def directx(normal):
    flipped = normal.copy()
    flipped[..., 1] = 255 - normal[..., 1]
    return flipped


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path, **options)


def packed(maps, order):
    channels = {"a": np.full_like(maps["metallic"], 255), "r": maps["roughness"], "m": maps["metallic"]}
    channels["o"] = channels["a"]
    return np.concatenate([channels[letter] for letter in order], axis=2)


def ambientcg(folder, maps, name="Metal053C"):
    """JPEG, both normals, a preview; packed into a zip file."""
    images = {"Color": maps["albedo"], "NormalGL": maps["normal"], "NormalDX": directx(maps["normal"])}
    images |= {"Roughness": maps["roughness"], "Metalness": maps["metallic"], "AmbientOcclusion": maps["roughness"]}
    for suffix, pixels in images.items():
        save(folder / "loose" / f"{name}_1K-JPG_{suffix}.jpg", pixels, quality=97, subsampling=0)
    save(folder / "loose" / f"{name}.png", maps["albedo"])
    with zipfile.ZipFile(folder / f"{name}_1K-JPG.zip", "w") as archive:
        for path in (folder / "loose").iterdir():
            archive.write(path, path.name)
        archive.writestr(f"{name}.usda", "#usda 1.0")
    shutil.rmtree(folder / "loose")


def polyhaven(folder, maps):
    textures = folder / "metal_plate_1k.blend" / "textures"
    save(textures / "metal_plate_diff_1k.webp", maps["albedo"], lossless=True)
    save(textures / "metal_plate_nor_dx_1k.png", directx(maps["normal"]))
    save(textures / "metal_plate_arm_1k.png", packed(maps, "arm"))
    (textures / "metal_plate_disp_1k.exr").write_bytes(b"not read")


def threedtextures(folder, maps):
    """One folder, an unnamed normal map that is DirectX."""
    for suffix, pixels in {
        "basecolor": maps["albedo"],
        "normal": directx(maps["normal"]),
        "roughness": maps["roughness"],
        "metallic": maps["metallic"],
        "ambientOcclusion": maps["roughness"],
    }.items():
        save(folder / "Metal_Plate_015" / f"Metal_Plate_015_{suffix}.png", pixels)


def freepbr(folder, maps):
    base = folder / "rusty-metal-bl"
    save(base / "rusty-metal_albedo.png", maps["albedo"])
    save(base / "rusty-metal_normal-ogl.png", maps["normal"])
    save(base / "rusty-metal_glossiness.png", 255 - maps["roughness"])
    save(base / "rusty-metal_metallic.png", maps["metallic"])


def unreal(folder, maps):
    """Roles alone, in a folder that names the material."""
    save(folder / "T_Rust" / "BaseColor.tif", maps["albedo"])
    save(folder / "T_Rust" / "Normal_OpenGL.tga", maps["normal"])
    save(folder / "T_Rust" / "ORM.bmp", packed(maps, "orm"))


def outcome(report):
    """The only material of a report."""
    (material,) = report.materials
    return material


def close(folder, maps, tolerance):
    for name, spec in MAPS.items():
        found = np.moveaxis(read_map(folder / spec.file_name, spec), 0, 2).astype(int)
        assert np.abs(found - maps[name]).mean() <= tolerance, name


@pytest.mark.parametrize(
    ("pack", "name", "tolerance", "note"),
    [
        (ambientcg, "Metal053C", 2.5, None),
        (polyhaven, "metal_plate", 0, "normal: DirectX by its name; converted to OpenGL"),
        (threedtextures, "Metal_Plate_015", 0, "so it is DirectX; converted to OpenGL"),
        (freepbr, "rusty-metal", 0, "roughness: 1 - glossiness"),
        (unreal, "T_Rust", 0, None),
    ],
)
def test_the_customs_of_libraries(tmp_path, pack, name, tolerance, note):
    maps = stored()
    pack(tmp_path / "source", maps)
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert (material.name, material.status, material.size) == (name, "imported", SIZE)
    assert len(material.files) == 4
    said = [line for line in material.notes if "DirectX" in line or "glossiness" in line]
    assert len(said) == (note is not None)
    assert note is None or note in said[0]
    close(tmp_path / "data/output" / name, maps, tolerance)
    assert sorted(path.name for path in (tmp_path / "data/output").iterdir()) == [name]


@pytest.mark.parametrize(
    ("file", "stem", "role"),
    [
        ("Bricks102_2K-JPG_NormalGL.jpg", "Bricks102", "normal-gl"),
        ("PavingStones070_1K_NormalDX.png", "PavingStones070", "normal-dx"),
        ("Ground054_4K_Color.jpg", "Ground054", "albedo"),
        ("red_brick_03_nor_gl_2k.png", "red_brick_03", "normal-gl"),
        ("red_brick_03_nor_dx_2k.png", "red_brick_03", "normal-dx"),
        ("red_brick_03_Nor_2k.jpg", "red_brick_03", "normal"),
        ("rusty_metal_rough_1k.jpg", "rusty_metal", "roughness"),
        ("rusty_metal_metal_1k.jpg", "rusty_metal", "metallic"),
        ("Sci-Fi_Wall_014_basecolor.jpg", "Sci-Fi_Wall_014", "albedo"),
        ("bamboo-wood-semigloss-normal.png", "bamboo-wood-semigloss", "normal"),
        ("rustediron2_normal-dx.png", "rustediron2", "normal-dx"),
        ("Bricks01_2K_BaseColor.png", "Bricks01", "albedo"),
        ("Rock_Base_Color.png", "Rock", "albedo"),
        ("Rock_Smoothness.png", "Rock", "glossiness"),
        ("Rock_Specular.png", "Rock", "specular"),
        ("T_Rock_OcclusionRoughnessMetallic.png", "T_Rock", "packed"),
        ("rockBaseColor.png", "rock", "albedo"),
        ("wall_2048x2048_diffuse.tif", "wall", "albedo"),
        ("tdbcjh0_2K_Normal_LOD0.jpg", "tdbcjh0", "normal"),
        ("albedo.png", "", "albedo"),
        ("brick_diff_2k.exr", "brick", "albedo"),
    ],
)
def test_names(file, stem, role):
    name = read_name(file)
    assert (name.stem, name.role) == (stem, role)


@pytest.mark.parametrize(
    "file", ["Bricks102.png", "x_height.png", "x_AmbientOcclusion.jpg", "x_opacity.png", "x_Color.txt"]
)
def test_names_that_say_nothing(file):
    assert read_name(file) is None


@pytest.mark.parametrize(("order", "file"), [("orm", "Rock_ORM.png"), ("rma", "Rock_RMA.png"), ("mra", "Rock_mra.png")])
def test_packed_channels_by_their_letters(tmp_path, order, file):
    maps = stored()
    unreal(tmp_path / "source", maps)
    folder = tmp_path / "source/T_Rust"
    (folder / "ORM.bmp").unlink()
    save(folder / file.removeprefix("Rock_"), packed(maps, order))
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert material.files["roughness"].endswith(f" ({('red', 'green', 'blue')[order.index('r')]})")
    close(tmp_path / "data/output/T_Rust", maps, 0)


def test_missing_metalness_is_zero_and_said(tmp_path):
    maps = stored()
    freepbr(tmp_path / "source", maps)
    (tmp_path / "source/rusty-metal-bl/rusty-metal_metallic.png").unlink()
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    note = "metallic: there is no metalness map, so it is 0 everywhere; right if no part is metal"
    assert note in material.notes
    assert material.files["metallic"] == "constant 0"
    close(tmp_path / "data/output/rusty-metal", maps | {"metallic": np.zeros((SIZE, SIZE, 1))}, 0)


@pytest.mark.parametrize("suffix", ["specular", "Specular_Color"])
def test_specular_workflows_are_refused(tmp_path, suffix):
    maps = stored()
    freepbr(tmp_path / "source", maps)
    (tmp_path / "source/rusty-metal-bl/rusty-metal_metallic.png").rename(
        tmp_path / f"source/rusty-metal-bl/rusty-metal_{suffix}.png"
    )
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert material.status == "refused"
    assert "a specular workflow (a specular map and no metalness map)" in material.notes[0]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("albedo", "has no albedo map"),
        ("normal-ogl", "has no normal map"),
        ("glossiness", "has no roughness map, nor glossiness, nor a packed ORM or ARM map; it cannot be guessed"),
    ],
)
def test_incomplete_sets_are_refused(tmp_path, gone, reason):
    freepbr(tmp_path / "source", stored())
    (tmp_path / f"source/rusty-metal-bl/rusty-metal_{gone}.png").unlink()
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert (material.status, material.notes) == ("refused", (f"{tmp_path}/source/rusty-metal-bl: {reason}",))


def test_16_bits_are_rounded_and_maps_brought_to_one_size(tmp_path):
    maps = stored()
    freepbr(tmp_path / "source", maps)
    folder = tmp_path / "source/rusty-metal-bl"
    write_png(folder / "rusty-metal_glossiness.png", (255 - maps["roughness"]).astype(np.uint16) * 257)
    save(folder / "rusty-metal_metallic.png", maps["metallic"][::2, ::2])
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert "roughness: 16 bits rounded to 8" in material.notes
    assert "metallic: enlarged from 64 pixels" in material.notes
    found = read_map(tmp_path / "data/output/rusty-metal/metallic.png", MAPS["metallic"])
    close(tmp_path / "data/output/rusty-metal", maps | {"metallic": np.moveaxis(found, 0, 2)}, 0)
    assert np.abs(found[0].astype(int).mean() - maps["metallic"].mean()) < 4
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data", size=64, overwrite=True))
    assert "albedo, roughness, normal: shrunk from 128 pixels" in material.notes
    assert read_map(tmp_path / "data/output/rusty-metal/normal.png", MAPS["normal"]).shape == (3, 64, 64)


def test_images_that_are_not_square(tmp_path):
    maps = {name: np.concatenate((image, image), axis=1) for name, image in stored().items()}
    freepbr(tmp_path / "source", maps)
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert material.status == "refused"
    assert "rusty-metal_albedo.png: is 256×128 pixels; a map is square. --crop takes" in material.notes[0]
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data", crop=True))
    assert "albedo: 256×128 cut to the square in its middle; it no longer tiles" in material.notes
    close(tmp_path / "data/output/rusty-metal", {name: image[:, 64:192] for name, image in maps.items()}, 0)


def test_a_normal_that_does_not_say_is_taken_as_opengl_and_said(tmp_path):
    maps = stored() | {"normal": np.full((SIZE, SIZE, 3), (128, 128, 255), np.uint8)}
    threedtextures(tmp_path / "source", maps)
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert "normal: neither its name nor its slopes tell OpenGL from DirectX; taken as OpenGL" in material.notes


def test_a_name_that_lies_is_noticed(tmp_path):
    maps = stored()
    freepbr(tmp_path / "source", maps | {"normal": directx(maps["normal"])})
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert any(note.startswith("normal: looks like DirectX (+Y down)") for note in material.notes)


def test_the_largest_and_least_lossy_file_is_taken(tmp_path):
    maps = stored()
    folder = tmp_path / "source"
    for size, suffix in (("1K", "jpg"), ("2K", "jpg"), ("2K", "png")):
        save(folder / f"Rust_{size}_Color.{suffix}", maps["albedo"])
    save(folder / "Rust_2K_NormalGL.png", maps["normal"])
    save(folder / "Rust_2K_Roughness.png", maps["roughness"])
    material = outcome(import_materials(folder, tmp_path / "data"))
    assert material.files["albedo"].endswith("Rust_2K_Color.png")
    assert "albedo: took Rust_2K_Color.png of 3 files" in material.notes


def test_formats_that_are_not_read_are_named(tmp_path):
    freepbr(tmp_path / "source", stored())
    folder = tmp_path / "source/rusty-metal-bl"
    (folder / "rusty-metal_normal-ogl.png").rename(folder / "rusty-metal_normal-ogl.dds")
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert "normal-ogl.dds: .dds files are not read; convert it to PNG, TIFF or JPEG" in material.notes[0]


def test_what_is_not_read_is_replaced_by_what_is(tmp_path, monkeypatch):
    monkeypatch.setattr("neuropbr_core.data.decoding.find_spec", lambda name: None)  # OpenEXR is an extra
    maps = stored()
    polyhaven(tmp_path / "source", maps)
    for role in ("nor_gl", "rough"):  # beside nor_dx and arm, as Poly Haven offers them
        (tmp_path / f"source/metal_plate_1k.blend/textures/metal_plate_{role}_1k.exr").write_bytes(b"not read")
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert material.status == "imported"
    assert "packed: took metal_plate_arm_1k.png, as metal_plate_rough_1k.exr is not read" in material.notes
    assert "normal-dx: took metal_plate_nor_dx_1k.png, as metal_plate_nor_gl_1k.exr is not read" in material.notes
    close(tmp_path / "data/output/metal_plate", maps, 0)


def test_metalness_that_is_not_read_is_not_taken_for_none(tmp_path):
    freepbr(tmp_path / "source", stored())
    folder = tmp_path / "source/rusty-metal-bl"
    (folder / "rusty-metal_metallic.png").rename(folder / "rusty-metal_metallic.dds")
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert material.status == "refused"
    assert "metallic.dds: .dds files are not read" in material.notes[0]


def test_nothing_is_overwritten_unless_asked(tmp_path):
    freepbr(tmp_path / "source", stored())
    import_materials(tmp_path / "source", tmp_path / "data")
    freepbr(tmp_path / "source", stored("acg_Bricks102"))
    before = (tmp_path / "data/output/rusty-metal/albedo.png").read_bytes()
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert material.status == "exists"
    assert (tmp_path / "data/output/rusty-metal/albedo.png").read_bytes() == before
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data", overwrite=True))
    assert material.status == "imported"
    close(tmp_path / "data/output/rusty-metal", stored("acg_Bricks102"), 0)
    assert [path.name for path in (tmp_path / "data/output").iterdir()] == ["rusty-metal"]


def test_a_damaged_file_spoils_its_material_alone(tmp_path):
    polyhaven(tmp_path / "source", stored())
    freepbr(tmp_path / "source", stored())
    path = tmp_path / "source/rusty-metal-bl/rusty-metal_metallic.png"
    path.write_bytes(path.read_bytes()[:-40])
    (tmp_path / "source/broken.zip").write_bytes(b"PK no archive")
    report = import_materials(tmp_path / "source", tmp_path / "data")
    assert [(one.name, one.status) for one in report.materials] == [
        ("broken", "refused"),
        ("metal_plate", "imported"),
        ("rusty-metal", "refused"),
    ]
    assert "cannot be opened as a zip file" in report.materials[0].notes[0]
    assert "rusty-metal_metallic.png: cannot be decoded" in report.materials[2].notes[0]
    assert [path.name for path in (tmp_path / "data/output").iterdir()] == ["metal_plate"]


def test_pipes_and_links_to_nothing_are_named(tmp_path):
    freepbr(tmp_path / "source", stored())
    os.mkfifo(tmp_path / "source/paint_albedo.png")
    (tmp_path / "source/sets.zip").symlink_to(tmp_path / "nowhere.zip")
    os.mkfifo(tmp_path / "source/notes")
    report = import_materials(tmp_path / "source", tmp_path / "data")
    assert [(one.name, one.status) for one in report.materials] == [
        ("paint_albedo", "refused"),
        ("rusty-metal", "imported"),
        ("sets", "refused"),
    ]
    for index in (0, 2):
        assert "is no regular file, or a link to nothing" in report.materials[index].notes[0]


@pytest.mark.parametrize("member", ["Color", "NormalGL", "Metalness"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_archive_is_refused_by_name(tmp_path, member, compression):
    ambientcg(tmp_path / "source", stored())
    path = tmp_path / "source/Metal053C_1K-JPG.zip"
    name = f"Metal053C_1K-JPG_{member}.jpg"
    with zipfile.ZipFile(path) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file, data in files.items():
            archive.writestr(file, data)
        start = archive.getinfo(name).header_offset + 500
    content = bytearray(path.read_bytes())
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert material.status == "refused"
    assert material.notes[0].startswith(f"{path}/{name}: cannot be unpacked (")


def test_errors_name_the_file_in_the_archive(tmp_path):
    """The file that was unpacked is gone when a person reads the message."""
    ambientcg(tmp_path / "source", stored())
    path = tmp_path / "source/Metal053C_1K-JPG.zip"
    with zipfile.ZipFile(path) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, b"no picture" if "Roughness" in file else content)
    material = outcome(import_materials(tmp_path / "source", tmp_path / "data"))
    assert material.status == "refused"
    assert material.notes[0].startswith(f"{path}/Metal053C_1K-JPG_Roughness.jpg: cannot be decoded")
    assert "/neuropbr-import-" not in material.notes[0]


def test_a_material_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from neuropbr_core.data.importing import import_sets as importing

    freepbr(tmp_path / "source", stored())
    original = importing.write_map

    def failing(folder, spec, image):
        if spec.name == "normal":
            raise OSError(28, "No space left on device")
        return original(folder, spec, image)

    monkeypatch.setattr(importing, "write_map", failing)
    with pytest.raises(OSError, match="No space left"):
        import_materials(tmp_path / "source", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data/output").iterdir() if not path.name.startswith(".")] == []
    monkeypatch.undo()
    import_materials(tmp_path / "source", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data/output").iterdir()] == ["rusty-metal"]


def test_names_from_a_template(tmp_path):
    for folder in ("first", "second"):
        freepbr(tmp_path / "source" / folder, stored())
    report = import_materials(tmp_path / "source", tmp_path / "data", name_template="fp {name}")
    assert [(one.name, one.status) for one in report.materials] == [
        ("fp_rusty-metal", "imported"),
        ("fp_rusty-metal", "refused"),
    ]
    assert "has that name too; use --name-template {folder}_{name}" in report.materials[1].notes[0]
    shutil.move(tmp_path / "source/second/rusty-metal-bl", tmp_path / "source/second/other")
    report = import_materials(tmp_path / "source", tmp_path / "data", name_template="{folder}_{name}")
    assert [one.name for one in report.materials] == ["other_rusty-metal", "rusty-metal-bl_rusty-metal"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{nmae}", r"'\{nmae\}': 'nmae'; it may hold \{name\} and \{folder\}"),
        ("{name", r"expected '\}'.*it may hold"),
        ("rust", r"gives every material one name"),
    ],
)
def test_wrong_templates(tmp_path, template, message):
    freepbr(tmp_path / "source", stored())
    with pytest.raises(DataError, match=message):
        import_materials(tmp_path / "source", tmp_path / "data", name_template=template)


def test_sources_without_materials(tmp_path):
    with pytest.raises(DataError, match=r"gone: no such folder or zip file"):
        import_materials(tmp_path / "gone", tmp_path / "data")
    save(tmp_path / "photos/IMG_0001.jpg", stored()["albedo"])
    with pytest.raises(DataError, match=r"no materials found among 1 images; their names must tell what they show"):
        import_materials(tmp_path / "photos", tmp_path / "data")


def test_processes_import_the_same(tmp_path):
    for index in range(16):
        freepbr(tmp_path / "source" / f"set_{index}", {name: image[::4, ::4] for name, image in stored().items()})
        folder = tmp_path / "source" / f"set_{index}"
        for path in list((folder / "rusty-metal-bl").iterdir()):
            path.rename(path.with_name(path.name.replace("rusty-metal", f"rust-{index}")))
    reports = [
        import_materials(tmp_path / "source", tmp_path / f"data_{workers}", workers=workers) for workers in (1, 2)
    ]
    assert reports[0] == reports[1]
    assert reports[0].count("imported") == 16


@pytest.mark.parametrize("folder", [path.name for path in EXAMPLES.iterdir() if path.is_dir()])
def test_every_example_survives_as_directx_of_an_unknown_name(tmp_path, folder):
    maps = stored(folder)
    threedtextures(tmp_path / "source", maps)
    import_materials(tmp_path / "source", tmp_path / "data")
    close(tmp_path / "data/output/Metal_Plate_015", maps, 0)
    normals = read_map(tmp_path / "data/output/Metal_Plate_015/normal.png", MAPS["normal"])
    assert normal_convention(normals / 127.5 - 1).name == "opengl"
