"""Imports MatSynth, or a local data set of the same form, through the `datasets` library, one material at a time.

A row of MatSynth is a material: `name`, `category`, `metadata` with its licence and authors, and pictures by what they
show. Rows are streamed, so that nothing but one material at a time is on the disk besides the result.

Source: Vecchio & Deschaintre 2024, "MatSynth: A Modern PBR Materials Dataset".
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neuropbr_core.data.importing.import_sets import Imported, ImportReport, import_materials
from neuropbr_core.data.layout.paths import missing_maps
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_json
from neuropbr_core.reading import read_json
from neuropbr_core.reporting import reporter

DATASET = "gvecchio/MatSynth"
"""The public data set."""

LICENCES = "matsynth.json"
"""File of a dataset that lists where its materials are from: some of them must be credited."""

_PICTURES = {"basecolor": "Color", "normal": "NormalGL", "roughness": "Roughness", "metallic": "Metalness"}
"""Columns that are read, each with the word by which the import of files recognises what it shows."""

_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"II*\x00": ".tif", b"MM\x00*": ".tif"}
"""Suffixes of pictures by their first bytes."""


def import_matsynth(
    source: str | None,
    out: Path,
    *,
    size: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Import materials of MatSynth into a dataset; materials that are there already are passed over.

    Args:
        source: A data set of the hub, or a folder of parquet files of the same form; default: MatSynth.
        out: Dataset folder; materials are written to its `output/`, and their licences to `matsynth.json`.
        size: Side of the maps in pixels; None keeps the size of each base colour.
        limit: Number of materials after which to stop; None for all.
        overwrite: Whether to replace materials of the same name.

    Returns:
        The outcome for each material.

    Raises:
        DataError: The `datasets` library is missing, the data set cannot be read, or is of another form.
        OSError: The dataset cannot be written.
    """
    outcomes: list[Imported] = []
    record: dict[str, Any] = {}
    if (out / LICENCES).exists():
        record = read_json(out / LICENCES, dict[str, Any], DataError, "move it away")
    # Each row is a download of several large pictures, so none is fetched beyond the last.
    for row in islice(_rows(source or DATASET), limit):
        name = re.sub(r"[^\w.-]+", "_", str(row["name"])).strip("._") or "unnamed"
        # Before the material, so that an interruption leaves none without its licence.
        before = record.get(name)
        record[name] = {"category": row.get("category")}
        metadata = row.get("metadata")
        if isinstance(metadata, Mapping):
            for key in ("license", "authors", "source", "link"):
                if metadata.get(key):
                    record[name][key] = metadata[key]
        write_json(out / LICENCES, dict(sorted(record.items())))
        outcome = _import_row(row, name, out, size=size, overwrite=overwrite)
        outcomes.append(outcome)
        # What is there and was not replaced may be of an earlier row, or the user's own.
        if outcome.status != "imported":
            del record[name]
            if before is not None:
                record[name] = before
            write_json(out / LICENCES, dict(sorted(record.items())))
        reporter().line(f"{name}: {outcome.status}")
    return ImportReport(sorted(outcomes, key=lambda outcome: outcome.name), [])


def _import_row(row: Mapping[str, Any], name: str, out: Path, *, size: int | None, overwrite: bool) -> Imported:
    """Write the pictures of a row into a folder, and import that like any download."""
    target = out / "output" / name
    # Whole materials alone are passed over: what another program left half-written is imported again.
    if target.is_dir() and missing_maps(target) is None and not overwrite:
        return Imported(name, "exists", notes=(f"{target} is there; --overwrite replaces it",))
    with TemporaryDirectory(prefix="neuropbr-matsynth-") as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        for column, word in _PICTURES.items():
            content = (row.get(column) or {}).get("bytes")
            # A material without a picture of a kind is judged by the import, which knows what may be left out.
            if content:
                suffix = next((end for start, end in _SUFFIXES.items() if content.startswith(start)), ".png")
                # The column tells what it shows. With the material's name in front, `old_base` would become `old`.
                (folder / f"{word}{suffix}").write_bytes(content)
        try:
            report = import_materials(Path(scratch), out, size=size, name_template="{folder}", overwrite=overwrite)
        except DataError:
            return Imported(name, "refused", notes=("has neither a base colour nor normals",))
    return report.materials[0]


def _rows(source: str) -> Iterator[Mapping[str, Any]]:
    """Stream the rows of a data set, with pictures as the bytes of their files."""
    try:
        from datasets import Image, load_dataset
    except ImportError as error:
        raise DataError(
            f"--matsynth needs the `datasets` library ({error}); install it with `pip install 'neuropbr[matsynth]'`"
        ) from error
    local = Path(source).is_dir()
    remedy = "run the command again when the network is back: what is there is passed over"
    if local:
        remedy = "the files are damaged or of another form"
    options: dict[str, Any] = {"path": source}
    if local:
        files = sorted(map(str, Path(source).rglob("*.parquet")))
        if not files:
            raise DataError(f"{source}: holds no parquet files; name a folder of them, or a data set of the hub")
        options = {"path": "parquet", "data_files": files}
    with _explaining(source, remedy):
        rows = load_dataset(**options, split="train", streaming=True)
    columns = list(rows.features or ())
    lacking = [column for column in ("name", *_PICTURES) if column not in columns]
    if lacking:
        raise DataError(
            f"{source}: has no columns {', '.join(lacking)}, as MatSynth has; its columns are {', '.join(columns)}"
        )
    kept = [column for column in ("name", "category", "metadata", *_PICTURES) if column in columns]
    rows = rows.select_columns(kept)
    for column in _PICTURES:
        rows = rows.cast_column(column, Image(decode=False))
    with _explaining(source, remedy):
        yield from rows


@contextmanager
def _explaining(source: str, remedy: str) -> Iterator[None]:
    """Context in which an error of the library becomes one that says what to do."""
    try:
        yield
    except Exception as error:  # the library and its HTTP clients each have errors of their own
        raise DataError(f"{source}: cannot be read ({type(error).__name__}: {error}); {remedy}") from error
