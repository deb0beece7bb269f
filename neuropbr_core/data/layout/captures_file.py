"""`input/captures.json`: how each sample was captured.

    {"sample_0000": {"kind": "flash", …}}

Rendering writes further fields (`synthesis.capture_folder.CaptureRecord`). Only the kind matters to readers of a
dataset. The file is optional: somebody who photographs may write it, with kinds of their own.
"""

from pathlib import Path

from neuropbr_core.errors import DataError
from neuropbr_core.reading import read_json
from neuropbr_core.shown import shortened

DEFAULT_KIND = "flash"
"""The kind of samples whose capture is not recorded."""


def read_capture_kinds(path: Path) -> dict[str, str]:
    """Read the kind of each sample's capture, by sample name.

    Args:
        path: The JSON file; without it no sample is named.

    Raises:
        DataError: The file is damaged.
    """
    if not path.exists():
        return {}
    advice = 'it must be a JSON object such as {"sample_0000": {"kind": "flash"}}'
    kinds = {}
    for name, record in read_json(path, dict[str, dict[str, object]], DataError, advice).items():
        # Records from before there were kinds say whether the flash was on.
        old_kind = DEFAULT_KIND
        if not record.get("flash", True):
            old_kind = "no_flash"
        kind = record.get("kind", old_kind)
        if not isinstance(kind, str):
            raise DataError(f"{path}: {shortened(name)}: the kind {shortened(str(kind))} is no text; {advice}")
        kinds[name] = kind
    return kinds
