"""Exports and packages from Python, with the exporters and packagers named as on the command line."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuropbr_core.errors import ExportError
from neuropbr_core.exporting.export import Exported
from neuropbr_core.exporting.inputs import Signature
from neuropbr_core.inference.prediction import Prediction
from neuropbr_core.inference.verification import real_views
from neuropbr_core.kinds import KINDS
from neuropbr_core.model.weights import read_spec
from neuropbr_core.outputs import Material, check_places, choose_targets, material_name, read_material, write_packages
from neuropbr_core.recipe.loading import entry_name, load_entries
from neuropbr_core.recipe.merge import plain_data
from neuropbr_core.recipe.yaml_tree import flow
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.runs.export import Export
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Context
from neuropbr_core.shipped import resolve
from neuropbr_core.training.checkpoints.store import BEST, find_checkpoint

EntriesFor = Callable[[Path | None], Mapping[str, Chosen]]
"""Gives entries of `export`, starting from those of a run's recipe file where there is one."""

Targets = str | Sequence[str] | Mapping[str, Mapping[str, Any]]
"""One name, several, or several with options: `{"onnx": {"opset": 20}}`."""


def export_model(
    source: Path,
    entries_for: EntriesFor,
    *,
    checkpoint: str = BEST,
    photos: str | Path | None = None,
    cameras: str | Path | None = None,
    output: Path | None = None,
) -> list[Exported]:
    """Export a trained model, and verify each file on real views.

    Args:
        source: A run's folder, or a checkpoint's.
        entries_for: Gives the exporters.
        checkpoint: Of a run: `best`, `latest` or a checkpoint's name.
        photos: Views to verify on; default: a rendered capture.
        cameras: Their cameras, as for `read_views`.
        output: Folder for the files; default: that of the run's exports.

    Returns:
        The files.

    Raises:
        RecipeError: An exporter or an option is wrong.
        CheckpointError: There is no such checkpoint, or it is damaged.
        ExportError: No folder is given for a model that is in no run's folder, or some entries failed.
        DataError: The views cannot be read.
    """
    run = RunFolder.around(source)
    if output is None:
        if run is None:
            raise ExportError(f"{source} is in no run's folder; say where the files shall be with output=DIR")
        output = run.exports
    # The run's recipe supplies entries of that name; a bare checkpoint has none, and exporters get their defaults.
    if run is None:
        entries = entries_for(None)
    else:
        with run.explaining():
            entries = entries_for(run.recipe_file)
    place = find_checkpoint(source, checkpoint)
    # From the description alone: weights are loaded by the stage, once, and only when the entries are in order.
    signature = Signature.of(read_spec(place))
    stage = Export(place, run, entries, output, views=lambda: real_views(photos, cameras, signature).prepare)
    return stage.export_all(Context())


def export(
    source: str | Path,
    to: Targets,
    *,
    checkpoint: str = BEST,
    photos: str | Path | None = None,
    cameras: str | Path | None = None,
    output: str | Path | None = None,
) -> list[Exported]:
    """Export a trained model for deployment targets, as `neuropbr export` does.

    Args:
        source: A run's folder, a checkpoint's, or a model that ships, such as `neuropbr:flash-3`.
        to: Exporters, or entries of the run's `export`.
        checkpoint: Of a run: `best`, `latest` or a checkpoint's name.
        photos: Views that each file is verified on; default: a rendered capture.
        cameras: Their cameras, as for `read_views`.
        output: Folder for the files; default: `exports/` in the run's folder.

    Returns:
        The files, each with how it compares with the model.

    Raises:
        RecipeError: An exporter or an option is wrong.
        CheckpointError: There is no such checkpoint, or it is damaged.
        ExportError: Some exports failed, or the model is in no run's folder and `output` is missing.
        DataError: The photos cannot be read.
    """

    def entries_for(base: Path | None) -> Mapping[str, Chosen]:
        return _entries("exporter", to, base)

    place = None
    if output is not None:
        place = Path(output)
    return export_model(
        resolve(str(source)), entries_for, checkpoint=checkpoint, photos=photos, cameras=cameras, output=place
    )


def package(
    maps: str | Path | Prediction,
    targets: Targets,
    output: str | Path,
    *,
    name: str | None = None,
    tileable: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write maps as packages for other programs, as `neuropbr package` does.

    Args:
        maps: What `infer` returned, or a folder with albedo.png, roughness.png, metallic.png and normal.png.
        targets: Packagers, such as `["blender", "unreal"]` or `{"gltf": {"depth": 8}}`.
        output: Each package becomes a folder of its own in it; it is complete or absent.
        name: Name of the material; default: that of the folder of the maps or photos.
        tileable: Whether the maps are cut so that they tile, unless they do already.
        overwrite: Whether files that were added to an earlier package, or edited in it, may be removed with it.

    Returns:
        The packages' folders.

    Raises:
        RecipeError: A packager or an option is wrong.
        PackageError: A packager cannot work here, or a place is taken.
        DataError: The maps cannot be read.
        OSError: A file could not be written.
    """
    # Targets and places before maps, because reading and deriving maps takes time.
    chosen = choose_targets(_entries("packager", targets, None))
    check_places(chosen, output, overwrite=overwrite)
    if isinstance(maps, Prediction):
        material = Material(material_name(name or maps.name), maps.maps, dict(maps.made_by))
    else:
        material = read_material(str(maps), name)
    if tileable:
        material = material.tileable()
    return write_packages(material, chosen, output, overwrite=overwrite)


def _entries(kind: str, targets: Targets, base: Path | None) -> Mapping[str, Chosen]:
    """The components of these names, checked like entries of a recipe."""
    if isinstance(targets, str):
        targets = [targets]
    if not isinstance(targets, Mapping):
        targets = {name: {} for name in targets}
    section = ".".join(KINDS[kind].section)
    overrides = []
    for name, options in targets.items():
        for key, value in options.items():
            overrides.append(f"{section}.{entry_name(name)}.{key}={flow(plain_data(value))}")
    return load_entries(KINDS[kind], {name: f"{kind} {name}" for name in targets}, overrides, base=base)
