"""Writes a material as packages for other programs, each in a folder of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.contracts import Convention, Depth, Package, Packager, PackageSettings, Texture
from neuropbr_core.errors import NeuroPBRError, PackageError
from neuropbr_core.files import replacing
from neuropbr_core.kinds import PackagerEntryOptions
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.outputs.manifest import MANIFEST, describe_package, foreign_file, is_package
from neuropbr_core.outputs.material import DERIVED, Material
from neuropbr_core.outputs.textures import exr_is_missing, write_texture
from neuropbr_core.recipe.check import plain
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.reporting import doing

_CHANNEL_COUNTS = (1, 3, 4)


@dataclass(frozen=True)
class Target:
    """A packager that can work here, and how it stores textures.

    Attributes:
        name: Name of the package's folder.
        chosen: The packager's component.
        packager: The packager.
        depth: Depth of the textures.
        normals: Convention of normal maps.
        size: Side of the textures in pixels; None for that of the maps.
        metres: Side of the texture in metres, if known.
    """

    name: str
    chosen: Chosen
    packager: Packager
    depth: Depth
    normals: Convention
    size: int | None
    metres: float | None


def choose_targets(entries: Mapping[str, Chosen]) -> list[Target]:
    """Create packagers, and check that they can do what is asked for.

    Args:
        entries: Packagers by the name of their folder, with the overrides of the targets.

    Raises:
        PackageError: A packager cannot work here, or its target cannot have what an override demands; all of them at
            once.
        PluginError: A packager is not installed or breaks its contract.
    """
    targets = []
    problems = []
    # All of them before any error, so that the user mends one command line once.
    for name, chosen in entries.items():
        packager: Packager = chosen.create()
        overrides: PackagerEntryOptions = chosen.entry
        depth = overrides.depth or packager.depths[0]
        normals = overrides.normals or packager.conventions[0]
        available = packager.requirements()
        if not available.ok:
            problems.append(f"target {name}: {available.reason}")
        if depth not in packager.depths:
            allowed = ", ".join(map(str, packager.depths))
            problems.append(f"target {name}: found depth {depth}, allowed {allowed}; leave it out or choose another")
        elif depth == "exr" and exr_is_missing():
            problems.append(f"target {name}: {exr_is_missing()}")
        if normals not in packager.conventions:
            allowed = ", ".join(packager.conventions)
            problems.append(f"target {name}: found normals {normals}, allowed {allowed}, as its programs read no other")
        targets.append(Target(name, chosen, packager, depth, normals, overrides.size, overrides.metres))
    if problems:
        raise PackageError("\n".join(problems))
    return targets


def check_places(targets: Iterable[Target], folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse places of packages that hold anything else than an earlier package as it was written.

    Args:
        targets: What `choose_targets` returned.
        folder: Where their packages will be.
        overwrite: Whether files that were added to an earlier package, or edited in it, may be removed with it.

    Raises:
        PackageError: A place is taken; the message names the first file that would be lost.
    """
    for target in targets:
        place = Path(folder) / target.name
        if not place.exists() or (place.is_dir() and not any(place.iterdir())):
            continue
        if not (place.is_dir() and is_package(place)):
            raise PackageError(
                f"{place}: exists and has no {MANIFEST} of a package, so it is not replaced; move it away, or choose "
                f"another --output"
            )
        # A package is worked on where it is: scenes are saved beside Blender's script, Unity adds files of its own.
        foreign = foreign_file(place)
        if foreign is not None and not overwrite:
            raise PackageError(
                f"{place / foreign}: was added to the package or edited in it, and would be removed; move it away, "
                f"choose another --output, or replace the package with --overwrite"
            )


def write_packages(
    material: Material, targets: Iterable[Target], folder: str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Write a material for each target. A package is complete or absent; an earlier one is replaced.

    Args:
        material: The maps.
        targets: What `choose_targets` returned.
        folder: Each target's package becomes a folder of the target's name in it.
        overwrite: As for `check_places`.

    Returns:
        The folders.

    Raises:
        PackageError: A folder of that name has other files, or a packager failed.
        OSError: A file could not be written.
    """
    targets = list(targets)
    folder = Path(folder)
    # Every place first: a package that is refused at the end would have cost the time of all others.
    check_places(targets, folder, overwrite=overwrite)
    sizes = {material.size: material}
    written = []
    for target in targets:
        size = target.size or material.size
        # Targets of one size share the derived maps, which take longer to compute than files to write.
        if size not in sizes:
            sizes[size] = material.resized(size)
        place = folder / target.name
        with doing(f"packaging for {target.name}"):
            _write(sizes[size], target, place)
        written.append(place)
    return written


def _by_role(target: Target, textures: Iterable[Texture]) -> dict[str, Texture]:
    by_role: dict[str, Texture] = {}
    for texture in textures:
        if texture.role in by_role:
            raise PackageError(
                f"target {target.name}: {target.chosen.declared} declares two textures of the role "
                f"{texture.role!r}; report this to its authors"
            )
        by_role[texture.role] = texture
    return by_role


def _write(material: Material, target: Target, place: Path) -> None:
    settings = PackageSettings(
        name=material.name,
        maps=(*MAP_NAMES, *DERIVED),
        size=material.size,
        depth=target.depth,
        normals=target.normals,
        metres=target.metres,
        relief=material.relief,
    )
    try:
        textures = _by_role(target, target.packager.textures(settings))
        package = Package(settings, textures)
        _check_textures(target, package)
        with replacing(place) as aside:
            aside.mkdir()
            for role in textures:
                write_texture(aside, role, material, package)
            # Textures are there already: some documents contain them, such as `.glb`.
            target.packager.write_documents(aside, package)
            options = {**_given(target.chosen.entry), **_given(target.chosen.options)}
            manifest = describe_package(aside, package, material, target.chosen.provenance, options)
            (aside / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    except (NeuroPBRError, OSError, MemoryError):
        raise  # these have their own words, and are no fault of the packager
    except Exception as error:  # a plugin may raise anything
        raise PackageError(
            f"target {target.name}: {target.chosen.declared} failed: {type(error).__name__}: {error}; report "
            f"this to its authors"
        ) from error


def _check_textures(target: Target, package: Package) -> None:
    """Refuse textures that the core cannot write."""
    stems = set()
    for texture in package.textures.values():
        problem = _texture_problem(texture, package)
        if texture.stem in stems:
            problem = "has the path of another one"
        stems.add(texture.stem)
        if problem:
            raise PackageError(
                f"target {target.name}: {target.chosen.declared} demands a texture {texture.stem!r} that "
                f"{problem}; report this to its authors"
            )


def _texture_problem(texture: Texture, package: Package) -> str:
    path = Path(texture.stem)
    if path.is_absolute() or ".." in path.parts:
        return "is outside the package"
    if len(texture.channels) not in _CHANNEL_COUNTS:
        return f"has {len(texture.channels)} channels; allowed are 1, 3 and 4"
    for channel in texture.channels:
        if channel.map and channel.map not in package.settings.maps:
            return f"needs a map {channel.map!r}; there are {', '.join(package.settings.maps)}"
    return ""


def _given(options: object) -> dict[str, object]:
    """The values of an options dataclass as plain data, without those that are null."""
    given = {}
    for name, value in plain(options).items():
        if value is not None:
            given[name] = value
    return given
