"""The npm package onnxruntime-web for tests: the real one, or files in its place where nothing runs them."""

import json
import shutil
import subprocess
from pathlib import Path

from neuropbr_exporters.web.runtime import LOADER, MODULE, PACKAGE, VERSION, WASM


def stand_in(folder: Path, version: str = VERSION) -> Path:
    """Write a package that has the real one's names into `node_modules` of a folder."""
    package = folder / "node_modules" / PACKAGE
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"name": PACKAGE, "version": version}))
    (package / "dist" / LOADER).write_text("const ort = { env: { wasm: {} } };")
    (package / "dist" / MODULE).write_text("export default null;")
    (package / "dist" / WASM).write_bytes(b"\0asm")
    return package


def install(folder: Path) -> Path:
    """Install the real package into `node_modules` of a folder; needs npm and the network.

    Raises:
        subprocess.CalledProcessError: npm failed.
    """
    npm = shutil.which("npm")
    assert npm is not None
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    subprocess.run([npm, "install", *options, "--prefix", folder, f"{PACKAGE}@{VERSION}"], check=True)
    return folder / "node_modules" / PACKAGE
