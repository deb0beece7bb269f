"""What takes part in a bench: a model, or the maps that another tool has written into folders."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import torch

from neuropbr_core.bench.protocol import PHOTOS, BenchCaptures, capture_name
from neuropbr_core.contracts import Maps
from neuropbr_core.data.images import store_map
from neuropbr_core.data.importing.maps import Conversion
from neuropbr_core.data.importing.sources import MaterialSet, find_sets
from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.heldout import prepared_frames
from neuropbr_core.inference.predict import LoadedGenerator
from neuropbr_core.inference.scoring import Model, data_of, model_name, predict_with, refine_frames
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import decode_map, encode_map
from neuropbr_core.reporting import track
from neuropbr_core.runs.trained_on import TrainedOn, trained_on
from neuropbr_core.shipped import chosen_materials


@dataclass(frozen=True)
class Entry:
    """The maps of one model or tool.

    Attributes:
        name: Its name in tables.
        origin: The model, or the folder of the maps.
        maps: Maps `(1, C, size, size)` of each capture, by the capture's name, at the protocol's size and in the ranges
            of `neuropbr_core.maps`. All captures have the same maps.
        trained_on: Materials that it was trained on, as far as they are known.
        chosen_on: Materials that choices about it were made on.
        missing: Captures without maps, and why.
        notes: What was done to the maps or left out, one line each.
        weights: SHA-256 of a model's weights; empty when unknown.
        refined: Steps in which the maps were fitted to the photos.
        unfitted: Captures whose maps were not fitted all the same, because their photos look as if they were taken
            without the flash.
    """

    name: str
    origin: str
    maps: dict[str, Maps]
    trained_on: TrainedOn = field(default_factory=TrainedOn)
    chosen_on: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    weights: str = ""
    refined: int = 0
    unfitted: int = 0


def entry_name(model: Model, steps: int = 0) -> str:
    """Name of a model's entry in tables.

    Args:
        model: The model.
        steps: Steps in which its maps are fitted to the photos.
    """
    name = model_name(model)
    if steps:
        name += ", refined"
    return name


def entry_of_model(model: Model, captures: BenchCaptures, steps: int = 0) -> Entry:
    """Predict the maps of every capture.

    Args:
        model: A run's model, one that ships, or a file.
        captures: The captures.
        steps: Steps in which the maps are fitted to the photos; 0 for maps as predicted.

    Raises:
        DataError: The model takes more photos than a capture has, or has no cameras to refine with.
    """
    protocol = captures.protocol
    data = data_of(model.signature, captures.folder)
    device = torch.device("cpu")
    if isinstance(model, LoadedGenerator):
        # Its number of views is free, unlike that of an exported file.
        data = replace(data, views=protocol.views)
        device = model.device
    if data.views > protocol.views:
        raise DataError(
            f"{model.origin}: takes {data.views} photos, and the captures of the bench have {protocol.views}"
        )
    predict = predict_with(model, finished=not steps)
    refine = refine_frames(steps, model.signature)
    if refine is not None:
        predict = refine.after(predict)
    samples, _ = captures.opened_for(data)
    maps: dict[str, Maps] = {}
    for prepared in track(prepared_frames(samples, device), len(samples), f"predicting with {model_name(model)}"):
        with torch.no_grad():
            predicted = predict(prepared)
        sample = samples.samples[len(maps)]
        maps[capture_name(sample)] = {name: value.cpu() for name, value in predicted.items()}
        if data.output_size != protocol.size:
            maps[capture_name(sample)] = _resampled(predicted, protocol.size)
    notes = []
    unfitted = 0
    if refine is not None:
        fitted = f"its maps were fitted to the photos in {steps} steps"
        unfitted = refine.count_unfitted(data.views, len(maps))
        if unfitted:
            fitted += f", except those of {unfitted} of {len(maps)} captures, which look as if taken without the flash"
        notes.append(fitted)
    if data.output_size != protocol.size:
        notes.append(f"maps of {data.output_size} pixels were resampled to {protocol.size}")
    if data.views < protocol.views:
        notes.append(f"sees {data.views} of the {protocol.views} photos of each capture")
    return Entry(
        entry_name(model, steps),
        str(model.origin),
        maps,
        trained_on(model.origin),
        chosen_on=chosen_materials(model.origin),
        notes=tuple(notes),
        weights=model.provenance.get("weights", ""),
        refined=steps,
        unfitted=unfitted,
    )


def entry_of_maps(folder: Path, captures: BenchCaptures) -> Entry:
    """Read the maps that another tool has predicted.

    Files are understood by their names as by `neuropbr data import`, and converted like materials: normals become
    OpenGL, glossiness roughness, packed maps single ones. The maps of a capture are in a folder or a zip file of its
    name, or have its name before the map's.

    Args:
        folder: Holds the maps of all captures.
        captures: The captures.

    Raises:
        DataError: There is no such folder, it has maps of no capture, or two sets of maps for one.
    """
    names = list(captures.names)
    sets, notes = _sets_of(folder, names)
    stored: dict[str, Maps] = {}
    missing = {}
    lacking: dict[str, dict[str, str]] = {}
    remarks = Counter[str]()
    for capture in track(names, len(names), f"reading {folder.name}"):
        if capture not in sets:
            missing[capture] = "there are no maps of that name"
            continue
        with TemporaryDirectory(prefix="neuropbr-bench-") as scratch:
            conversion = Conversion(sets[capture], Path(scratch))
            converted, reasons = conversion.some_maps(captures.protocol.size)
        if not converted:
            missing[capture] = "; ".join(reasons.values())
            continue
        maps: Maps = {}
        for name, values in converted.items():
            maps[name] = decode_map(MAPS[name], torch.from_numpy(np.ascontiguousarray(values)))[None]
        stored[capture] = maps
        for name, reason in reasons.items():
            lacking.setdefault(name, {})[capture] = reason
        # Files are called after the capture; without its name, the same remark about all of them is one line.
        for note in conversion.notes:
            remarks[note.replace(capture, "CAPTURE")] += 1
    notes += [f"{note} ({count} of {len(names)} captures)" for note, count in remarks.items()]
    for name, reasons in lacking.items():
        capture, reason = next(iter(reasons.items()))
        notes.append(
            f"{name} is not scored: {len(reasons)} of {len(names)} captures lack it, such as {capture}: {reason}"
        )
        # A mean over the captures that have the map would flatter the tool.
        for maps in stored.values():
            maps.pop(name, None)
    if not any(stored.values()):
        raise DataError("\n".join((f"{folder}: holds no map that can be scored", *notes)))
    return Entry(folder.resolve().name, str(folder), stored, missing=missing, notes=tuple(notes))


def check_folder(folder: Path) -> None:
    """Refuse a place that cannot hold another tool's maps.

    Raises:
        DataError: There is no such folder, or it holds the photos of the bench.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that holds a folder of maps for each capture")
    if (folder / PHOTOS).is_dir():
        raise DataError(f"{folder}: holds the photos of the bench; give the folder of maps that a tool made of them")


def _sets_of(folder: Path, names: Sequence[str]) -> tuple[dict[str, MaterialSet], list[str]]:
    """The files of each capture's maps, by the capture's name; and remarks on what belongs to none.

    Raises:
        DataError: There is no such folder, it has maps of no capture, or two sets of maps for one.
    """
    check_folder(folder)
    listing = find_sets(folder)
    sets: dict[str, MaterialSet] = {}
    strangers = []
    for material in listing.sets:
        capture = _capture_of(material, names)
        if capture is None:
            strangers.append(material.name)
            continue
        if capture in sets:
            raise DataError(
                f"{folder}: has two sets of maps for {capture}: {_place(sets[capture])} and {_place(material)}; leave "
                "one of them"
            )
        sets[capture] = material
    notes = [f"{path}: {why}" for path, why in listing.damaged.items()]
    if not sets:
        reason = (
            f"{folder}: holds maps of no capture of the bench; it needs a folder for each, such as {names[0]}, with "
            "files such as albedo.png, roughness.png, metallic.png and normal.png"
        )
        raise DataError("\n".join((reason, *notes)))
    if strangers:
        notes.append(f"not of this bench: {', '.join(sorted(strangers))}")
    return sets, notes


def _capture_of(material: MaterialSet, names: Sequence[str]) -> str | None:
    """The capture that a set of maps belongs to, by its name or by that of a folder or zip file around it."""
    by_name = {name.lower(): name for name in names}
    file = next(iter(material.files.values()))[0][0]
    places = [material.name, file.container.stem, *PurePosixPath(file.member).parent.parts]
    for place in places:
        if place.lower() in by_name:
            return by_name[place.lower()]
    return None


def _place(material: MaterialSet) -> str:
    return str(next(iter(material.files.values()))[0][0])


def _resampled(maps: Maps, size: int) -> Maps:
    """Resample maps as materials are: by means of areas where they shrink."""
    resampled: Maps = {}
    for name, value in maps.items():
        spec = MAPS[name]
        pixels = np.moveaxis(encode_map(spec, value[0].cpu()).numpy(), 0, -1)
        resampled[name] = decode_map(spec, torch.from_numpy(store_map(pixels, spec, size)))[None]
    return resampled
