"""ONNX Runtime for browsers: the npm package that a page takes its programs from.

It is not part of this package, as its WebAssembly has 14 MB. The user installs it once with npm; nothing is fetched.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.contracts import Availability
from neuropbr_core.errors import ExportError

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
"""The version that pages are tested with. Other versions have other files, and may compute otherwise."""

LOADER = "ort.wasm.min.js"
MODULE = "ort-wasm-simd-threaded.mjs"
WASM = "ort-wasm-simd-threaded.wasm"


@dataclass(frozen=True)
class Runtime:
    """The runtime's files.

    Attributes:
        loader: Text of the program that offers `ort`.
        module: Text of the module that starts the WebAssembly.
        wasm: The WebAssembly.
    """

    loader: str
    module: str
    wasm: bytes


def find_runtime(chosen: str | None) -> Path:
    """Find the package's folder.

    Args:
        chosen: A folder that the user names; None looks where Node.js would: in `node_modules` of the working folder
            and of the folders above it.

    Raises:
        ExportError: There is none, or it has another version; the message has the command that installs it.
    """
    if chosen is not None:
        folder = Path(chosen)
        if not (folder / "package.json").is_file():
            raise ExportError(f"runtime: {folder} has no package.json; name the folder of the npm package {_install()}")
    else:
        here = Path.cwd()
        places = [place / "node_modules" / PACKAGE for place in (here, *here.parents)]
        installed = [place for place in places if (place / "package.json").is_file()]
        if not installed:
            raise ExportError(f"{PACKAGE} is not installed here; {_install()}")
        folder = installed[0]
    description = folder / "package.json"
    try:
        version = str(json.loads(description.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{description}: cannot be read; install it again: {_install()}") from error
    if version != VERSION:
        raise ExportError(f"{folder}: is version {version}, and pages are made of version {VERSION}; {_install()}")
    missing = [name for name in (LOADER, MODULE, WASM) if not (folder / "dist" / name).is_file()]
    if missing:
        raise ExportError(f"{folder}: has no dist/{missing[0]}; install it again: {_install()}")
    return folder


def read_runtime(folder: Path) -> Runtime:
    """Read the files of a package that `find_runtime` found.

    Raises:
        ExportError: A file cannot be read.
    """
    dist = folder / "dist"
    try:
        loader = (dist / LOADER).read_text(encoding="utf-8")
        module = (dist / MODULE).read_text(encoding="utf-8")
        return Runtime(loader, module, (dist / WASM).read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{dist}: cannot be read ({error}); install it again: {_install()}") from error


def runtime_available(chosen: str | None) -> Availability:
    """Whether the package is there, as an exporter's requirement."""
    try:
        find_runtime(chosen)
    except ExportError as error:
        return Availability(ok=False, reason=str(error))
    return Availability(ok=True)


def _install() -> str:
    return (
        f"`npm install --ignore-scripts {PACKAGE}@{VERSION}` puts it into node_modules of the current folder; for "
        f"another place, give --option runtime=FOLDER/node_modules/{PACKAGE}"
    )
