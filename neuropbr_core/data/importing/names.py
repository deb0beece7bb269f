"""Recognises what an image of a material set shows from its file name.

The customs of the large free libraries and of exporters: `Bricks102_2K-JPG_NormalGL.jpg`, `red_brick_nor_gl_2k.png`,
`Wood_027_basecolor.jpg`, `rusty-metal_normal-ogl.png`, `Rock_ORM.png`, `albedo.png`.
"""

import re
from dataclasses import dataclass
from itertools import permutations
from pathlib import PurePath
from typing import Literal

Role = Literal[
    "albedo", "normal", "normal-gl", "normal-dx", "roughness", "glossiness", "metallic", "specular", "packed"
]

READABLE = (".png", ".tif", ".tiff", ".tga", ".bmp", ".webp", ".jpg", ".jpeg")
"""Suffixes of images that are read. Of several files for one map, the suffix that comes first wins."""

UNREADABLE = (".exr", ".hdr", ".dds")
"""Suffixes of images that are recognised but not read."""

_WORDS: dict[Role, str] = {
    "albedo": "albedo, alb, base color, base colour, basecolor, basecolour, color, colour, col, diffuse, diff, dif",
    "normal-gl": "normalgl, normal gl, normal ogl, normal opengl, normalogl, normalopengl, nor gl, nor opengl, norgl",
    "normal-dx": "normaldx, normal dx, normal directx, normaldirectx, normal d3d, nor dx, nor directx, nordx",
    "normal": "normal, normals, normal map, normalmap, nor, norm, nrm, nml",
    "roughness": "roughness, rough, rgh",
    "glossiness": "glossiness, gloss, smoothness",
    "metallic": "metalness, metallic, metallness, metal",
    "specular": "specular, spec, specularity, specular color, reflection, refl",
}
_PACKED_WORDS = {
    "occlusionroughnessmetallic": "arm",
    "occlusion roughness metallic": "arm",
    "metallicroughness": "arm",  # glTF: green roughness, blue metallic, red free
    "metalroughness": "arm",
    "roughnessmetallic": "arm",
}
_LONGEST = 3  # tokens

_ROLES: dict[str, Role] = {word: role for role, words in _WORDS.items() for word in words.split(", ")}
_LETTERS = {"".join(order) for occlusion in "ao" for order in permutations((occlusion, "r", "m"))}
_TOKEN = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOISE = re.compile(r"\d{1,2}k|lod\d|256|512|1024|2048|4096|8192|\d+x\d+|\d+px|\d+bits?|jpe?g|png|tiff?|exr|webp|tga")
_THOUSANDS = re.compile(r"(\d{1,2})k|(\d{3,4})(?:x\d+|px)?")


@dataclass(frozen=True)
class ImageName:
    """The parts of a file name.

    Attributes:
        stem: The rest of the name, which is the material; empty when the name is the role alone.
        role: What the image shows.
        channels: For `packed`: the letters of its red, green and blue channels (a or o occlusion, r roughness,
            m metallic).
        resolution: Side in pixels that the name states; 0 for none.
    """

    stem: str
    role: Role
    channels: str = ""
    resolution: int = 0


def read_name(file_name: str) -> ImageName | None:
    """Recognise what an image shows from its name; None when the name does not tell.

    Resolution and format may come before or after the role: `X_2K_Color`, `X_diff_2k`, `X_2K-JPG_Color`.
    """
    path = PurePath(file_name)
    if path.suffix.lower() not in READABLE + UNREADABLE:
        return None
    # CamelCase is split on the second try only, because some roles are written with capitals inside, as in NormalGL.
    return _read_stem(path.stem) or _read_stem(_HUMP.sub("_", path.stem))


def _read_stem(stem: str) -> ImageName | None:
    tokens = list(_TOKEN.finditer(stem))
    words = [token[0].lower() for token in tokens]
    end = _without_noise(words)
    # The longest phrase first: `normal gl` is more specific than `gl`, and `base color` than `color`.
    for length in range(min(_LONGEST, end), 0, -1):
        start = end - length
        role, channels = _role(" ".join(words[start:end]))
        if role is None:
            continue
        named = _without_noise(words[:start])
        name = ""
        if named:
            name = stem[: tokens[named - 1].end()]  # a slice of the file name keeps its capitals and separators
        return ImageName(name, role, channels, _resolution(words[named:]))
    return None


def _without_noise(words: list[str]) -> int:
    """Count the words before trailing resolutions and formats."""
    end = len(words)
    while end and _NOISE.fullmatch(words[end - 1]):
        end -= 1
    return end


def _role(phrase: str) -> tuple[Role | None, str]:
    if phrase in _ROLES:
        return _ROLES[phrase], ""
    letters = _PACKED_WORDS.get(phrase, phrase)
    if letters in _LETTERS:
        return "packed", letters
    return None, ""


def _resolution(words: list[str]) -> int:
    for word in words:
        if match := _THOUSANDS.fullmatch(word):
            if match[1]:
                return int(match[1]) * 1024  # `2K` means 2048
            return int(match[2])
    return 0
