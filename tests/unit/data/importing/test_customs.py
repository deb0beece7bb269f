"""Texture sets named and stored as libraries, engines and exporters do it."""

import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from neuropbr_core.cli import root
from neuropbr_core.data.decoding import encode_srgb
from neuropbr_core.data.images import read_image, read_map
from neuropbr_core.data.importing import looks
from neuropbr_core.data.importing.import_sets import import_materials
from neuropbr_core.data.importing.names import read_name, unneeded_kind
from neuropbr_core.data.importing.sources import SourceFile
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS

SIDE = 64
ALBEDO = (150, 100, 70)
BLUE = (60, 60, 90)


def plain(value):
    """An image of one value, with a little noise so that it looks like a photo."""
    value = np.asarray(value if isinstance(value, tuple) else (value,))
    noise = np.random.default_rng(int(value.sum())).integers(-3, 4, (SIDE, SIDE, 1))
    return (value + noise).clip(0, 255).astype(np.uint8)


def normal(*, directx=False):
    """A bumpy surface."""
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi * 3 / SIDE)
    slopes = np.stack((0.4 * np.cos(x) * np.sin(y), 0.4 * np.sin(x) * np.cos(y)))
    vectors = np.stack((-slopes[0], slopes[1], np.ones((SIDE, SIDE))), axis=2)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    if directx:
        vectors[..., 1] *= -1
    return np.rint((vectors + 1) * 127.5).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path, **options)


def means(folder):
    """Mean of each map of a material."""
    found = {}
    for name, spec in MAPS.items():
        values = read_map(folder / spec.file_name, spec).reshape(spec.channels, -1).mean(axis=1)
        found[name] = values.round().astype(int).tolist()
    return found


def check(folder, *, albedo=ALBEDO, roughness, metallic=0):
    found = means(folder)
    assert np.abs(np.subtract(found["albedo"], albedo)).max() <= 2
    assert abs(found["roughness"][0] - roughness) <= 2
    assert abs(found["metallic"][0] - metallic) <= 2
    expected = normal().reshape(-1, 3).mean(axis=0)
    assert np.abs(np.subtract(found["normal"], expected)).max() <= 2
    pixels = np.moveaxis(read_map(folder / "normal.png", MAPS["normal"]), 0, 2).astype(int)
    assert np.abs(pixels - normal()).mean() < 4


# Files of a set, what each shows, and the roughness and metallic that come of it.
CUSTOMS = {
    "megascans": (
        {
            "Brick_vbq_2K_surface_ms/vbq_2K_Albedo.jpg": ALBEDO,
            "Brick_vbq_2K_surface_ms/vbq_2K_Roughness.jpg": 200,
            "Brick_vbq_2K_surface_ms/vbq_2K_Gloss.jpg": 10,
            "Brick_vbq_2K_surface_ms/vbq_2K_Specular.jpg": (56, 56, 56),
            "Brick_vbq_2K_surface_ms/vbq_2K_Cavity.jpg": 128,
            "Brick_vbq_2K_surface_ms/vbq_2K_Normal_LOD0.jpg": "normal",
        },
        ("vbq", 200, 0),
    ),
    "fab": (
        {"T_vbq_2K_B.png": ALBEDO, "T_vbq_2K_N.png": "directx", "T_vbq_2K_ORM.png": (220, 180, 5)},
        ("T_vbq", 180, 5),
    ),
    "megascans for unreal": (
        {"T_vbq_4K_D.png": ALBEDO, "T_vbq_4K_N.png": "directx", "T_vbq_4K_ORDp.png": (220, 180, 90)},
        ("T_vbq", 180, 0),
    ),
    "poly haven, old": (
        {"red_diff_2k.jpg": ALBEDO, "red_rough_2k.jpg": 180, "red_nor_2k.jpg": "normal", "red_spec_2k.jpg": 100},
        ("red", 180, 0),
    ),
    "poly haven": (
        {
            "a/textures/red_diff_2k.jpg": ALBEDO,
            "a/textures/red_arm_2k.png": (9, 180, 5),
            "a/textures/red_nor_dx_2k.png": "directx",
        },
        ("red", 180, 5),
    ),
    "texture haven": (
        {
            "red_diff_2k.jpg": ALBEDO,
            "red_rough_ao_2k.jpg": (0, 99, 220),
            "red_rough_2k.jpg": 180,
            "red_nor_2k.jpg": "normal",
            "red_spec_2k.jpg": 30,
        },
        ("red", 180, 0),
    ),
    "sharetextures": (
        {
            "wood_10-1K/wood_10_diffuse-1K.png": ALBEDO,
            "wood_10-1K/wood_10_roughness-1K.png": 180,
            "wood_10-1K/wood_10_normal-1K.png": "normal",
            "wood_10-1K/wood_10_specular-1K.png": 60,
        },
        ("wood_10", 180, 0),
    ),
    "poliigon, specular": (
        {
            "R/REGULAR/1K/R_COL_1K.jpg": ALBEDO,
            "R/REGULAR/1K/R_GLOSS_1K.jpg": 60,
            "R/REGULAR/1K/R_REFL_1K.jpg": 50,
            "R/REGULAR/1K/R_NRM_1K.png": "normal",
            "R/REGULAR/1K/R_NRM16_1K.tif": "normal",
        },
        ("R", 195, 0),
    ),
    "poliigon, both workflows": (
        {
            "R_COL_2K_METALNESS.png": ALBEDO,
            "R_COL_2K_SPECULAR.png": (9, 9, 9),
            "R_METALNESS_2K_METALNESS.png": 40,
            "R_ROUGHNESS_2K_METALNESS.png": 70,
            "R_NRM_2K_METALNESS.png": "normal",
        },
        ("R", 70, 40),
    ),
    "freepbr": (
        {
            "rust-bl/rust_albedo.png": ALBEDO,
            "rust-bl/rust_normal-ogl.png": "normal",
            "rust-bl/rust_roughness.png": 70,
            "rust-bl/rust_metallic.png": 40,
            "rust-bl/rust_preview.jpg": BLUE,
        },
        ("rust", 70, 40),
    ),
    "hdrp": (
        {"Floor_BaseMap.png": ALBEDO, "Floor_MaskMap.png": (10, 230, 128, 90), "Floor_Normal.png": "normal"},
        ("Floor", 165, 10),
    ),
    "unity": (
        {
            "Floor_AlbedoTransparency.png": ALBEDO,
            "Floor_MetallicSmoothness.png": (10, 10, 10, 90),
            "Floor_Normal.png": "normal",
        },
        ("Floor", 165, 10),
    ),
    "unity, alpha of metallic": (
        {"Floor_Albedo.png": ALBEDO, "Floor_Metallic.png": (10, 10, 10, 90), "Floor_Normal.png": "normal"},
        ("Floor", 165, 10),
    ),
    "unity, alpha of albedo": (
        {"Floor_AlbedoSmoothness.png": (*ALBEDO, 90), "Floor_Metallic.png": 10, "Floor_Normal.png": "normal"},
        ("Floor", 165, 10),
    ),
    "unreal": (
        {"T_Rock_D.png": ALBEDO, "T_Rock_N.png": "directx", "T_Rock_R.png": 180, "T_Rock_M.png": 0},
        ("T_Rock", 180, 0),
    ),
    "unreal, packed": (
        {"T_Rock_BC.png": ALBEDO, "T_Rock_N.png": "directx", "T_Rock_ORM.png": (220, 180, 5)},
        ("T_Rock", 180, 5),
    ),
    "unreal, mixed": (
        {"Ash_BaseColor.png": ALBEDO, "Ash_N.png": "directx", "Ash_RMAO.png": (180, 5, 220)},
        ("Ash", 180, 5),
    ),
    "substance": (
        {
            "L_Base_color_sRGB.png": ALBEDO,
            "L_Normal_Raw.png": "normal",
            "L_Roughness_Raw.png": 180,
            "L_Metallic_Raw.png": 0,
        },
        ("L", 180, 0),
    ),
    "substance, ocio": (
        {
            "L_BaseColor_Utility - sRGB - Texture.png": ALBEDO,
            "L_Normal_Utility - Raw.png": "normal",
            "L_Roughness_Utility - Raw.png": 180,
            "L_Metalness_Utility - Raw.png": 0,
        },
        ("L", 180, 0),
    ),
    "substance, tile": (
        {"L_BaseColor.1001.png": ALBEDO, "L_Normal.1001.png": "normal", "L_Roughness.1001.png": 180},
        ("L", 180, 0),
    ),
    "blender": (
        {"L_Base Color.png": ALBEDO, "L_Normal_Non-Color.png": "normal", "L_Roughness_Non-Color.png": 180},
        ("L", 180, 0),
    ),
    "numbered by a browser": (
        {
            "X_Color (1).png": ALBEDO,
            "X_NormalGL.png": "normal",
            "X_Roughness(2).png": 180,
            "X_Metalness - Copy.png": 7,
        },
        ("X", 180, 7),
    ),
    "role first": (
        {"Albedo_4K__abc.jpg": ALBEDO, "Normal_4K__abc.png": "normal", "Roughness_4K__abc.jpg": 180},
        ("abc", 180, 0),
    ),
}


@pytest.mark.parametrize("custom", CUSTOMS)
def test_sets_as_the_world_names_them(tmp_path, custom):
    files, (name, roughness, metallic) = CUSTOMS[custom]
    for file, content in files.items():
        options = {"quality": 97} if file.endswith("jpg") else {}
        pixels = normal(directx=content == "directx") if isinstance(content, str) else plain(content)
        save(tmp_path / "in" / file, pixels, **options)
    report = import_materials(tmp_path / "in", tmp_path / "out")
    assert [(one.name, one.status) for one in report.materials] == [(name, "imported")]
    check(tmp_path / "out/output" / name, roughness=roughness, metallic=metallic)


@pytest.mark.parametrize(
    "pattern", ["{}_COL_VAR{}_1K.png", "{}_col{}_1k.png", "{}_col_{}_1k.png", "{}_col_0{}_1k.png", "{}_coll{}_1k.png"]
)
def test_colour_variants_are_materials_that_share_the_rest(tmp_path, pattern):
    save(tmp_path / "in" / pattern.format("book", 1), plain(ALBEDO))
    save(tmp_path / "in" / pattern.format("book", 2), plain(BLUE))
    save(tmp_path / "in/book_nor_gl_1k.png", normal())
    save(tmp_path / "in/book_rough_1k.png", plain(170))
    report = import_materials(tmp_path / "in", tmp_path / "out")
    assert [one.name for one in report.materials] == ["book_var1", "book_var2"]
    assert "name all of them in one entry of data.groups" in report.materials[0].notes[0]
    check(tmp_path / "out/output/book_var1", roughness=170)
    check(tmp_path / "out/output/book_var2", albedo=BLUE, roughness=170)


def test_one_variant_is_the_material(tmp_path):
    save(tmp_path / "in/book_col_1_1k.png", plain(ALBEDO))
    save(tmp_path / "in/book_nor_gl_1k.png", normal())
    save(tmp_path / "in/book_rough_1k.png", plain(170))
    assert [one.name for one in import_materials(tmp_path / "in", tmp_path / "out").materials] == ["book"]


def test_tiles_are_materials(tmp_path):
    for tile in (1001, 1002):
        save(tmp_path / f"in/L_BaseColor.{tile}.png", plain(ALBEDO if tile == 1001 else BLUE))
        save(tmp_path / f"in/L_Normal.{tile}.png", normal())
        save(tmp_path / f"in/L_Roughness.{tile}.png", plain(170))
    report = import_materials(tmp_path / "in", tmp_path / "out")
    assert [one.name for one in report.materials] == ["L_1001", "L_1002"]
    check(tmp_path / "out/output/L_1002", albedo=BLUE, roughness=170)


@pytest.mark.parametrize("same", [True, False])
def test_a_second_material_under_the_same_names(tmp_path, same):
    for mark, colour in (("", ALBEDO), (" (1)", ALBEDO if same else BLUE)):
        save(tmp_path / f"in/albedo{mark}.png", plain(colour))
        save(tmp_path / f"in/normal{mark}.png", normal())
        save(tmp_path / f"in/roughness{mark}.png", plain(170))
    names = [one.name for one in import_materials(tmp_path / "in", tmp_path / "out").materials]
    assert names == (["in"] if same else ["in", "in_2"])
    check(tmp_path / "out/output" / names[-1], albedo=ALBEDO if same else BLUE, roughness=170)


def test_resolutions_in_folders_are_one_material(tmp_path):
    for size in ("1K", "2K"):
        save(tmp_path / f"in/R/{size}/R_COL.png", plain(ALBEDO if size == "2K" else BLUE))
        save(tmp_path / f"in/R/{size}/R_NRM.png", normal())
        save(tmp_path / f"in/R/{size}/R_ROUGHNESS.png", plain(170))
    assert [one.name for one in import_materials(tmp_path / "in", tmp_path / "out").materials] == ["R"]
    check(tmp_path / "out/output/R", roughness=170)


@pytest.mark.parametrize(
    ("specular", "roughness_file", "reason"),
    [
        ((56, 56, 56), "X_Gloss.png", None),
        ((120, 120, 120), "X_Roughness.png", None),
        ((120, 120, 120), "X_Gloss.png", "as bright as 12"),
        ((200, 200, 200), "X_Roughness.png", "as bright as 20"),
        ((120, 90, 50), "X_Roughness.png", "is coloured"),
    ],
)
def test_specular_maps_tell_metal(tmp_path, specular, roughness_file, reason):
    save(tmp_path / "in/X_Color.png", plain(ALBEDO))
    save(tmp_path / "in/X_NormalGL.png", normal())
    save(tmp_path / "in" / roughness_file, plain(100))
    save(tmp_path / "in/X_Specular.png", plain(specular))
    (material,) = import_materials(tmp_path / "in", tmp_path / "out").materials
    if reason is None:
        assert material.status == "imported"
        assert any(note.startswith("metallic: 0 everywhere: X_Specular.png is grey") for note in material.notes)
        return
    assert material.status == "refused"
    assert reason in material.notes[0]
    assert "--assume-nonmetal" in material.notes[0]
    (material,) = import_materials(tmp_path / "in", tmp_path / "out", assume_nonmetal=True).materials
    assert material.status == "imported"


@pytest.mark.parametrize("suffix", ["Utility - Linear - Rec.709", "lin_srgb", "ACES - ACEScg", "ACES - ACES2065-1"])
def test_colour_spaces_are_converted_or_refused(tmp_path, suffix):
    linear = np.array([0.3, 0.13, 0.06])
    if "ACEScg" in suffix:
        # Forward: Rec. 709 to AP1. Source: OpenColorIO's studio configuration.
        to_ap1 = np.array(
            [[0.613097, 0.339523, 0.047379], [0.070194, 0.916354, 0.013452], [0.020616, 0.109570, 0.869815]]
        )
        stored = to_ap1 @ linear
    else:
        stored = linear
    save(tmp_path / f"in/L_BaseColor_{suffix}.png", np.full((SIDE, SIDE, 3), np.rint(stored * 255), np.uint8))
    save(tmp_path / "in/L_Normal_Raw.png", normal())
    save(tmp_path / "in/L_Roughness_Raw.png", plain(180))
    (material,) = import_materials(tmp_path / "in", tmp_path / "out").materials
    if "2065" in suffix:
        assert material.status == "refused"
        assert "states a colour space that cannot be converted" in material.notes[0]
        return
    assert any("converted to sRGB" in note for note in material.notes)
    expected = encode_srgb(linear.astype(np.float32)) * 255
    assert np.abs(means(tmp_path / "out/output/L")["albedo"] - expected).max() <= 2


def test_what_is_not_understood_is_named_with_what_it_looks_like(tmp_path):
    save(tmp_path / "in/X_Color.png", plain(ALBEDO))
    save(tmp_path / "in/X_NormalGL.png", normal())
    save(tmp_path / "in/X_Roughness.png", plain(100))
    save(tmp_path / "in/X_AmbientOcclusion.png", plain(200))
    save(tmp_path / "in/X_Tint.png", plain(BLUE))
    save(tmp_path / "in/X_Foo.png", plain(30))
    save(tmp_path / "in/X_Bar.png", normal())
    (tmp_path / "in/X_Baz.psd").write_bytes(b"8BPS")
    (tmp_path / "in/X_Broken.png").write_bytes(b"no image")
    report = import_materials(tmp_path / "in", tmp_path / "out")
    looks = {image.path.rsplit("/", 1)[1]: image.kind or image.looks for image in report.ignored}
    assert looks == {
        "X_AmbientOcclusion.png": "occlusion map",
        "X_Bar.png": "looks like a normal map",
        "X_Baz.psd": ".psd files are not read; convert it to PNG, TIFF or JPEG",
        "X_Broken.png": "cannot be decoded",
        "X_Foo.png": "looks like a grey map: roughness, glossiness, metalness, height or occlusion",
        "X_Tint.png": "looks like a colour image, such as an albedo map or a photo",
    }


def test_a_refusal_names_the_file_that_looks_like_what_is_missing(tmp_path):
    save(tmp_path / "in/X_Tint.png", plain(ALBEDO))
    save(tmp_path / "in/X_NormalGL.png", normal())
    save(tmp_path / "in/X_Roughness.png", plain(100))
    (material,) = import_materials(tmp_path / "in", tmp_path / "out").materials
    assert "has no albedo map; X_Tint.png looks like it, but its name does not tell" in material.notes[0]


def test_sources_without_materials_name_their_files(tmp_path):
    for number in range(14):
        save(tmp_path / f"in/IMG_{number:04}.png", plain(ALBEDO))
    with pytest.raises(DataError, match=r"IMG_0000\.png: looks like a colour image[\s\S]*and 2 more"):
        import_materials(tmp_path / "in", tmp_path / "out")


def test_a_dry_run_writes_nothing_and_tells_all(tmp_path):
    save(tmp_path / "in/X_Color.png", plain(ALBEDO))
    save(tmp_path / "in/X_Normal.png", normal(directx=True))
    save(tmp_path / "in/X_ORM.png", plain((200, 100, 5)))
    save(tmp_path / "in/Y_Color.png", plain(ALBEDO))
    with zipfile.ZipFile(tmp_path / "in/Z.zip", "w") as archive:
        for file in ("X_Color.png", "X_Normal.png", "X_ORM.png"):
            archive.write(tmp_path / "in" / file, file.replace("X", "Z"))
    run = CliRunner().invoke(
        root, ["data", "import", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--dry-run"]
    )
    assert run.exit_code == 1
    assert not (tmp_path / "out").exists()
    assert f"roughness: from {tmp_path}/in/X_ORM.png (green)" in run.output
    assert f"metallic: from {tmp_path}/in/Z.zip/Z_ORM.png (blue)" in run.output
    assert "so it is DirectX; converted to OpenGL" in run.output
    assert "Y  refused" in run.output
    assert f"Would import 2 of 3 materials into {tmp_path}/out/output, 1 refused" in run.output
    report = import_materials(tmp_path / "in", tmp_path / "out")
    assert [one.status for one in report.materials] == ["imported", "refused", "imported"]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("rusty_metal_2k_metalness.png", {"stem": "rusty_metal", "role": "metallic", "workflow": ""}),
        ("metal_plate_02.png", None),
        ("rock_AO.png", None),
        ("rusty_metal_rough_1k.jpg", {"stem": "rusty_metal", "role": "roughness"}),
        ("Lamp_BaseColor_u1_v2.png", {"tile": "u1_v2"}),
        ("Lamp_BaseColor_1024.png", {"tile": "", "resolution": 1024}),
        ("Lamp_BaseColor_ACES - ACES2065-1.exr", {"space": "other", "variant": ""}),
        ("stone_albedo3b.png", {"variant": "3b"}),
        ("X_Color_Kopie (3).png", {"stem": "X", "copy": 3}),
        ("X_NRM16_2K_METALNESS.tif", {"role": "normal", "workflow": "metalness"}),
    ],
)
def test_parts_of_names(file, expected):
    name = read_name(file)
    if expected is None:
        assert name is None or name.tentative
        return
    for field, value in expected.items():
        assert getattr(name, field) == value, field


@pytest.mark.parametrize(
    ("file", "kind"),
    [("X_disp_2k.png", "height map"), ("X_AmbientOcclusion.jpg", "occlusion map"), ("IMG_0001.jpg", None)],
)
def test_kinds_that_are_not_needed(file, kind):
    assert unneeded_kind(file) == kind


def test_letters_count_only_in_company(tmp_path):
    save(tmp_path / "in/logo_D.png", plain(ALBEDO))
    save(tmp_path / "in/logo_R.png", plain(9))
    save(tmp_path / "in/X_Color.png", plain(ALBEDO))
    save(tmp_path / "in/X_NormalGL.png", normal())
    save(tmp_path / "in/X_Roughness.png", plain(100))
    report = import_materials(tmp_path / "in", tmp_path / "out")
    assert [one.name for one in report.materials] == ["X"]
    assert "its name may mean albedo, which counts only beside" in report.ignored[0].looks


def test_images_of_an_archive_are_looked_at_one_at_a_time(tmp_path, monkeypatch):
    """A hundred large ones would fill the disk."""
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for index in range(3):
            save(tmp_path / "one.png", plain((200, 100, 50)))
            archive.write(tmp_path / "one.png", f"a{index}.png")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    unpacked = []

    def read(path):
        unpacked.append(len([file for file in scratch.rglob("*") if file.is_file()]))
        return read_image(path)

    monkeypatch.setattr(looks, "read_image", read)
    files = [SourceFile(tmp_path / "set.zip", f"a{index}.png", archived=True) for index in range(3)]
    assert len(looks.describe_ignored(files, scratch)) == 3
    assert unpacked == [1, 1, 1]
    assert not list(scratch.iterdir())
