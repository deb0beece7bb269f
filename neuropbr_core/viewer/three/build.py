"""Builds `three.js`, the part of the library three that the preview uses, from the versions in `package.json`.

    python neuropbr_core/viewer/three/build.py

It needs npm and the network. The same versions give the same bytes, which a slow test checks. There is no lock file:
three depends on nothing, and esbuild on its own binaries of the same version alone.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUNDLE = "three.js"
LICENSE = "LICENSE"
INPUTS = ("package.json", "entry.js")


def build(folder: Path) -> None:
    """Build the bundle, and copy the library's licence, into a folder.

    Raises:
        subprocess.CalledProcessError: npm or esbuild failed; their own words are on standard error.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed; it comes with Node.js")
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        for name in INPUTS:
            shutil.copy(HERE / name, place / name)
        # No scripts: esbuild's binary comes as a package, and nothing else has to run.
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        subprocess.run([npm, "install", *options], cwd=place, check=True)  # noqa: S603 - the npm of this machine
        # In front of the bundle, because every page that contains the library must contain its licence.
        licence = (place / "node_modules" / "three" / LICENSE).read_text(encoding="utf-8")
        command = [
            str(place / "node_modules" / ".bin" / "esbuild"),
            "entry.js",
            "--bundle",
            "--minify",
            "--format=iife",
            "--global-name=THREE",
            "--target=es2020",
            "--legal-comments=inline",
            f"--banner:js=/*\n{licence}*/",
            f"--outfile={BUNDLE}",
            "--log-level=warning",
        ]
        subprocess.run(command, cwd=place, check=True)  # noqa: S603 - of the pinned version
        shutil.copy(place / BUNDLE, folder / BUNDLE)
        (folder / LICENSE).write_text(licence, encoding="utf-8")


if __name__ == "__main__":
    build(HERE)
    sys.stdout.write(f"wrote {HERE / BUNDLE}\n")
