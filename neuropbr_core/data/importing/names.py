"""Recognises what an image of a material set shows from its file name.

The customs of the large libraries, of game engines and of exporters: `Bricks102_2K-JPG_NormalGL.jpg`,
`red_brick_nor_gl_2k.png`, `RustPlain007_COL_VAR1_1K.jpg`, `vbqlbg1_2K_Albedo.jpg`, `rusty-metal_normal-ogl.png`,
`T_Rock_ORM.png`, `Floor_MaskMap.png`, `Lamp_BaseColor_Utility - sRGB - Texture.png`, `albedo (1).png`.

A name is read from its end: what may follow the role (resolution, format, colour space, tile, variant) is taken off
until the rest ends with a role. What comes before the role is the material.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import PurePath
from typing import Literal

from neuropbr_core.data.decoding import IMAGE_SUFFIXES, suffix_of

Role = Literal[
    "albedo", "normal", "normal-gl", "normal-dx", "roughness", "glossiness", "metallic", "specular", "packed"
]

Space = Literal["", "srgb", "raw", "linear", "acescg", "other"]
"""Colour space that a name states: sRGB, none (`raw`), linear with the primaries of sRGB, ACEScg, or one that cannot be
converted."""

# Words are compared without capitals and separators.
_WORDS: dict[Role, str] = {
    "albedo": "albedo alb albd albedomap basecolor basecolour basecolormap basemap color colour colormap col coll "
    "diffuse diff dif diffusecolor diffusemap maintex maintexture albedotransparency albedoopacity basecoloropacity",
    "normal-gl": "normalgl normalogl normalopengl norgl norogl noropengl nrmgl nrmogl normgl normogl openglnormal",
    "normal-dx": "normaldx normaldirectx normald3d nordx nordirectx nrmdx normdx directxnormal",
    "normal": "normal normals normalmap nor norm nrm nml nrml nrm16 normal16",
    "roughness": "roughness rough rgh roughnessmap roughmap",
    "glossiness": "glossiness gloss glos smoothness smooth glossmap",
    "metallic": "metalness metallic metallness metal met mtl metallicmap metalmap",
    "specular": "specular spec specularity specularcolor specularmap reflection refl reflectivity speclevel f0",
}
# What each channel holds, red first: r roughness, s smoothness, m metallic, o or a occlusion, others unused.
_PACKED_WORDS = {
    "occlusionroughnessmetallic": "orm",
    "aoroughnessmetallic": "orm",
    "aoroughmetal": "orm",
    "metallicroughness": "orm",  # glTF: green roughness, blue metallic, red free
    "metalroughness": "orm",
    "metalrough": "orm",
    "roughnessmetallic": "orm",
    "maskmap": "mods",  # Unity HDRP: metallic, occlusion, detail, smoothness
    "mads": "mads",
    "mods": "mods",
    # Unity's standard shader keeps smoothness in the alpha channel.
    "metallicsmoothness": "mxxs",
    "metallicsmooth": "mxxs",
    "metalsmoothness": "mxxs",
    "metalsmooth": "mxxs",
    "metallicgloss": "mxxs",
    "metallicglossmap": "mxxs",
    "metallicglossiness": "mxxs",
    # Megascans for Unreal: occlusion, roughness, displacement; there is no metal.
    "ord": "orx",
    "ordp": "orx",
    "ard": "orx",
    "orh": "orx",
}
_ONE_WORD = ("metalroughness", "metalrough", "metalsmoothness", "metalsmooth")
"""Packed maps only when written as one word: `rusty_metal_rough` is the roughness of a rusty metal."""

# Roles whose alpha channel holds smoothness.
_WITH_SMOOTHNESS: dict[str, Role] = {
    "albedosmoothness": "albedo",
    "albedogloss": "albedo",
    "basecolorsmoothness": "albedo",
    "basemapsmoothness": "albedo",
    "colorsmoothness": "albedo",
    "diffusegloss": "albedo",
    "specularsmoothness": "specular",
    "specsmooth": "specular",
    "specgloss": "specular",
    "specularglossiness": "specular",
    "specglossmap": "specular",
}
# Letters of Unreal's names. They are words of other meanings too, so `sources` accepts them only beside other maps.
_LETTERS: dict[str, Role] = {
    "d": "albedo",
    "bc": "albedo",
    "b": "albedo",
    "c": "albedo",
    "n": "normal",
    "r": "roughness",
    "m": "metallic",
    "mt": "metallic",
    "s": "specular",
}
# Images of a set from which no map is made.
_UNNEEDED = {
    "height map": "height heightmap displacement disp displace displ bump bumpmap disp16 displacement16 parallax h",
    "occlusion map": "ao ambientocclusion occlusion occ ambient occ mixedao aomap roughao arealight",
    "cavity or curvature map": "cavity curvature curv edge thickness",
    "opacity map": "opacity alpha transparency mask alphamask opac",
    "emission map": "emissive emission emit glow illumination",
    "translucency map": "translucency translucent transmission subsurface sss scattering scatteringcolor fuzz sheen",
    "anisotropy map": "anisotropy anisotropystrength anisotropyrotation anisotropylevel anisotropyangle",
    "coat or index of refraction": "clearcoat coat coatroughness clearcoatroughness ior specior",
    "preview": "preview sphere render thumb thumbnail cube plane sample promo flat",
    "bent normals or an object-space normal map": "bentnormal bentnormals worldspacenormals normalobject position",
    "identity map": "id idmap materialid detail",
}
_LONGEST = 4  # tokens of a role

_ROLES: dict[str, Role] = {}
for _role, _words in _WORDS.items():
    _ROLES |= dict.fromkeys(_words.split(), _role)
_UNNEEDED_WORDS: dict[str, str] = {}
for _kind, _words in _UNNEEDED.items():
    _UNNEEDED_WORDS |= dict.fromkeys(_words.split(), _kind)
_ORDERS: dict[str, str] = {}
for _occlusion in ("o", "a", "ao"):
    for _order in permutations((_occlusion, "r", "m")):
        # A letter for each channel: `rmao` is roughness, metallic, occlusion. A fourth channel holds something else.
        _channels = "".join(_order).replace("ao", "o")
        for _fourth in ("", "h", "d", "e", "t"):
            _ORDERS["".join(_order) + _fourth] = _channels
    for _order in permutations((_occlusion, "s", "m")):
        _ORDERS["".join(_order)] = "".join(_order).replace("ao", "o")

_TOKEN = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOISE = re.compile(
    r"\d{1,2}k|lod\d|256|512|1024|2048|4096|8192|16384|\d+x\d+|\d+px|\d+bits?|8b|16b|jpe?g|png|tiff?|exr|webp|tga|bmp|"
    r"map|tex|texture|seamless|tileable|tiling|hires|lossless"
)
_THOUSANDS = re.compile(r"(\d{1,2})k|(\d{3,5})(?:x\d+|px)?")
_TILE = re.compile(r"1\d{3}")  # UDIM: 1001 is the first tile; 1024 and 1080 are resolutions
_VARIANT = re.compile(r"(?:var|variant|variation|version|ver|v)(\d{1,2})")
_GLUED = re.compile(r"([a-z]+?)_?(\d{1,2}[a-z]?)")  # `col1`, and `albedo3b` of FreePBR
_NUMBER = re.compile(r"\d{1,2}")
_VARIANT_WORDS = ("var", "variant", "variation", "version")
# What browsers and file managers append to the name of a file that was there already.
_COPY = re.compile(
    r"(?:\s?\((?P<number>\d{1,3})\)|\s?[-_ ]\s?(?:copy|kopie|copie|copia)(?:[ _]?\(?(?P<copy>\d{1,3})\)?)?)$",
    re.IGNORECASE,
)
_SPACE_WORDS = frozenset(
    (
        *("srgb", "raw", "linear", "lin", "utility", "texture", "tex", "aces", "acescg", "aces2065", "ap0", "ap1"),
        *("input", "output", "generic", "rec", "rec709", "709", "rec2020", "2020", "bt709", "bt2020", "scene"),
        *("encoded", "adobergb", "p3", "displayp3", "d65", "noncolor", "noncolour", "data", "prophoto"),
    )
)
_UNKNOWN_SPACES = frozenset(("aces2065", "ap0", "rec2020", "2020", "bt2020", "adobergb", "p3", "displayp3", "prophoto"))


@dataclass(frozen=True)
class ImageName:
    """The parts of a file name.

    Attributes:
        stem: The rest of the name, which is the material; empty when the name is the role alone.
        role: What the image shows.
        channels: A letter for each channel that holds a map of its own (r roughness, s smoothness, m metallic, a or o
            occlusion, x nothing). For an albedo or a specular map, `xxxs` means smoothness in alpha.
        resolution: Side in pixels that the name states; 0 for none.
        variant: Colour variant, such as `1` for `X_COL_VAR1`; empty for none.
        tile: UDIM tile, such as `1001`; empty for none.
        copy: Number that a browser or file manager appended; 0 for none.
        space: Colour space that the name states.
        workflow: `metalness` or `specular` where the name states the workflow besides the role, as Poliigon's do.
        tentative: Whether the role counts only beside an albedo and a normal map of the same material, because the
            words have other meanings too.
    """

    stem: str
    role: Role
    channels: str = ""
    resolution: int = 0
    variant: str = ""
    tile: str = ""
    copy: int = 0
    space: Space = ""
    workflow: str = ""
    tentative: bool = False


@dataclass
class _Words:
    """A name on its way through the reader: its words, and what was taken off its end."""

    stem: str
    tokens: list[re.Match[str]]
    words: list[str]
    end: int
    noise: list[str] = field(default_factory=list)
    space_words: set[str] = field(default_factory=set)
    variant: str = ""
    tile: str = ""
    numbered: bool = False


Look = Callable[[str], object]
"""Looks up words without separators; None when they mean nothing."""


def read_name(file_name: str) -> ImageName | None:
    """Recognise what an image shows from its name; None when the name does not tell.

    Resolution and format may come before or after the role: `X_2K_Color`, `X_diff_2k`, `X_2K-JPG_Color`.
    """
    if suffix_of(file_name) not in IMAGE_SUFFIXES:
        return None
    stem, copy = _without_copy(PurePath(file_name).stem)
    # CamelCase is split on the second try only, because some roles are written with capitals inside, as in NormalGL.
    # Letters and roles in front come last, because they are the least certain.
    humped = _HUMP.sub("_", stem)
    name = _read_stem(stem) or _read_stem(humped) or _read_letter(stem) or _read_front(stem)
    if name is None:
        return None
    return replace(name, copy=copy)


def unneeded_kind(file_name: str) -> str | None:
    """Name the kind of an image that no map is made from, such as `height map`; None when the name does not tell."""
    stem, _ = _without_copy(PurePath(file_name).stem)
    for text in (stem, _HUMP.sub("_", stem)):
        kind_and_start = _find_role(_split(text), _UNNEEDED_WORDS.get)
        if kind_and_start is not None:
            return str(kind_and_start[0])
    return None


def _without_copy(stem: str) -> tuple[str, int]:
    """Take the marks of copies off a name; return the number of the copy."""
    copy = 0
    while match := _COPY.search(stem):
        copy += int(match["number"] or match["copy"] or 1)
        stem = stem[: match.start()]
    return stem, copy


def _split(stem: str) -> _Words:
    tokens = list(_TOKEN.finditer(stem))
    words = [token[0].lower() for token in tokens]
    return _Words(stem, tokens, words, len(words))


def _find_role(words: _Words, look_up: Look) -> tuple[object, int] | None:
    """Take words off the end until the rest ends with a role; return its meaning and where it starts."""
    while words.end:
        if not _is_non_color(words):
            # The longest phrase first: `normal gl` is more specific than `gl`, and `base color` than `color`.
            for length in range(min(_LONGEST, words.end), 0, -1):
                start = words.end - length
                phrase = "".join(words.words[start : words.end])
                if length > 1 and phrase in _ONE_WORD:
                    continue
                meaning = look_up(phrase)
                if meaning is not None:
                    return meaning, start
            if glued := _GLUED.fullmatch(words.words[words.end - 1]):
                meaning = look_up(glued[1])
                # Only colours come in variants; `nrm16` and `disp16` are depths, and `metal2` is a material.
                if meaning == "albedo" or (glued[2] == "16" and meaning is not None):
                    if meaning == "albedo":
                        words.variant = glued[2].lstrip("0")
                    return meaning, words.end - 1
        if not _take_off(words):
            return None
    return None


def _is_non_color(words: _Words) -> bool:
    """Whether the words end with `non-color`, Blender's name of raw data, which ends like an albedo's."""
    last = words.words[max(0, words.end - 2) : words.end]
    return last in (["non", "color"], ["non", "colour"])


def _take_off(words: _Words) -> bool:
    """Take one part that may follow a role off the end; whether there was one."""
    last = words.words[words.end - 1]
    before = ""
    if words.end > 1:
        before = words.words[words.end - 2]
    if _is_non_color(words):
        words.space_words.add("raw")
        words.end -= 2
    elif last in _SPACE_WORDS:
        words.space_words.add(last)
        words.end -= 1
    elif last == "1" and before == "aces2065":
        words.end -= 1  # `ACES2065-1` is one colour space, not a space and a number
    elif _NOISE.fullmatch(last):
        words.noise.append(last)
        words.end -= 1
    elif re.fullmatch(r"v\d{1,2}", last) and re.fullmatch(r"u\d{1,2}", before):
        words.tile = f"{before}_{last}"  # Mari's and Mudbox's tiles: u1_v1 is 1001
        words.end -= 2
    elif _TILE.fullmatch(last):
        words.tile = last
        words.end -= 1
    elif variant := _VARIANT.fullmatch(last):
        words.variant = variant[1].lstrip("0") or "0"
        words.end -= 1
    elif _NUMBER.fullmatch(last) and before in _VARIANT_WORDS:
        words.variant = last.lstrip("0") or "0"
        words.end -= 2
    elif _NUMBER.fullmatch(last) and not words.variant:
        words.variant = last.lstrip("0") or "0"
        words.numbered = True
        words.end -= 1
    else:
        return False
    return True


def _read_stem(stem: str) -> ImageName | None:
    words = _split(stem)
    role_and_start = _find_role(words, _meaning)
    if role_and_start is None:
        return None
    meaning, start = role_and_start
    name = _make_name(words, str(meaning), start)
    # In `X_COL_2K_METALNESS` the last word is the workflow, and the role comes before the resolution.
    last = words.stem[words.tokens[start].start() : words.tokens[words.end - 1].end()]
    if last not in ("METALNESS", "SPECULAR") or start < 2 or not _NOISE.fullmatch(words.words[start - 1]):
        return name
    before = _split(words.stem[: words.tokens[start - 1].end()])
    role_and_start = _find_role(before, _meaning)
    if role_and_start is None:
        return name
    meaning, start = role_and_start
    # Poliigon writes both words in capitals; `rusty_metal_2k_METALNESS` is metalness of a rusty metal.
    if not before.stem[before.tokens[start].start() : before.tokens[before.end - 1].end()].isupper():
        return name
    inner = _make_name(before, str(meaning), start)
    return replace(inner, workflow=last.lower(), resolution=inner.resolution or name.resolution)


def _meaning(phrase: str) -> str | None:
    """Return a role, or a role and its channels after a colon."""
    if phrase in _ROLES:
        return _ROLES[phrase]
    if phrase in _WITH_SMOOTHNESS:
        return f"{_WITH_SMOOTHNESS[phrase]}:xxxs"
    channels = _PACKED_WORDS.get(phrase) or _ORDERS.get(phrase)
    if channels is not None:
        return f"packed:{channels}"
    return None


def _make_name(words: _Words, meaning: str, start: int) -> ImageName:
    role, _, channels = meaning.partition(":")
    named = _without_noise(words.words[:start])
    stem = ""
    if named:
        stem = words.stem[: words.tokens[named - 1].end()]  # a slice of the file name keeps capitals and separators
    resolution = _resolution(words.words[named:start] + words.noise)
    space = _space(words.space_words)
    # A bare number after a role is more often that of a material, as in `metal_02.png`.
    return ImageName(
        stem,
        role,  # type: ignore[arg-type] # the tables hold roles alone
        channels,
        resolution,
        words.variant,
        words.tile,
        space=space,
        tentative=words.numbered,
    )


def _read_letter(stem: str) -> ImageName | None:
    """Read Unreal's `T_Rock_D`: one or two letters after a name."""
    words = _split(stem)
    role_and_start = _find_role(words, _LETTERS.get)
    if role_and_start is None or role_and_start[1] == 0:
        return None
    role, start = role_and_start
    return replace(_make_name(words, str(role), start), tentative=True)


def _read_front(stem: str) -> ImageName | None:
    """Read `Albedo_4K_rock`: the role comes first."""
    words = _split(stem)
    for length in range(min(_LONGEST, len(words.words) - 1), 0, -1):
        meaning = _meaning("".join(words.words[:length]))
        if meaning is None:
            continue
        rest = words.words[length:]
        start = length
        while start < len(words.words) and _NOISE.fullmatch(words.words[start]):
            start += 1
        end = _without_noise(words.words)
        if start >= end:
            return None
        role, _, channels = meaning.partition(":")
        name = stem[words.tokens[start].start() : words.tokens[end - 1].end()]
        return ImageName(name, role, channels, _resolution(rest), tentative=True)  # type: ignore[arg-type]
    return None


def _without_noise(words: list[str]) -> int:
    """Count the words before trailing resolutions and formats."""
    end = len(words)
    while end and _NOISE.fullmatch(words[end - 1]):
        end -= 1
    return end


def _resolution(words: list[str]) -> int:
    for word in words:
        if match := _THOUSANDS.fullmatch(word):
            if match[1]:
                return int(match[1]) * 1024  # `2K` means 2048
            return int(match[2])
    return 0


def _space(words: set[str]) -> Space:
    """Colour space that the words after a role state."""
    if words & _UNKNOWN_SPACES:
        return "other"
    if words & {"acescg", "ap1"}:
        return "acescg"
    if words & {"linear", "lin", "scene"}:
        return "linear"
    if "srgb" in words:
        return "srgb"
    if words & {"raw", "noncolor", "noncolour"}:
        return "raw"
    return ""
