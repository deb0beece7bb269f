"""From names to the text of every file of a package."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core import __version__
from neuropbr_core.kinds import KINDS
from neuropbr_core.plugin import SUPPORTED_API

TEMPLATES = Path(__file__).parent / "templates"
"""The templates that ship with the core."""

_SUFFIX = ".tmpl"
"""Keeps checkers of Python code away from templates."""

_PLACEHOLDER = re.compile(r"@\{(\w+)\}")
"""With a brace, because `@hookimpl` is a decorator, and with `@`, because workflows write `${{ … }}`."""

_SMALL_RUN = """\
# For a real training remove the sections below; then the quickstart's values count.
data:
  root: data/small
  synthesize: {materials: neuropbr:examples/materials, procedural: 0, samples: 8, size: 64}
  image_size: 64
  output_size: 64
  crop_size: 32
  repeats: 2
training:
  epochs: 1
  batch_size: 4"""
"""What makes a recipe on top of the quickstart train in about a minute."""


@dataclass(frozen=True, order=True)
class ScaffoldComponent:
    """A component of a package.

    Attributes:
        kind: Kind of component.
        name: Its name: entry point, module and name in recipes.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        """How messages name it."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Scaffold:
    """What the templates need to know about a package.

    Attributes:
        distribution: Name of the distribution.
        module: Name by which the package is imported.
        components: Its components.
        source: Folder that holds the import package, below the package's folder: empty, or `src`.
    """

    distribution: str
    module: str
    components: tuple[ScaffoldComponent, ...]
    source: str = ""

    def package_files(self, templates: Path = TEMPLATES) -> dict[str, str]:
        """Texts of the files that every package has, by their path below the package's folder."""
        values = {
            "distribution": self.distribution,
            "module": self.module,
            "core": ".".join(__version__.split(".")[:2]),
            "entry_points": self._entry_points(),
            "components": "\n".join(f"- {component.kind} `{component.name}`" for component in self.components),
            "usage": "\n\n".join(map(self._usage, self.components)),
        }
        return self._render(templates / "package", values)

    def component_files(self, component: ScaffoldComponent, templates: Path = TEMPLATES) -> dict[str, str]:
        """Texts of the files that a component adds, by their path below the package's folder."""
        values = {
            "module": self.module,
            "name": component.name,
            "camel": camel_case(component.name),
            "api": str(SUPPORTED_API[-1]),
            "small": _SMALL_RUN,
        }
        return self._render(templates / component.kind, values)

    def files(self, templates: Path = TEMPLATES) -> dict[str, str]:
        """Texts of all files, by their path below the package's folder."""
        files = self.package_files(templates)
        for component in self.components:
            files |= self.component_files(component, templates)
        return files

    def entry_point(self, component: ScaffoldComponent) -> tuple[str, str]:
        """Group of a component's entry point, and the module that it names."""
        return KINDS[component.kind].group, f"{self.module}.{component.name}"

    def _render(self, folder: Path, values: Mapping[str, str]) -> dict[str, str]:
        files = {}
        for path in sorted(folder.rglob(f"*{_SUFFIX}")):
            parts = []
            for part in path.relative_to(folder).parts:
                name = part.replace("NAME", values.get("name", "")).replace("MODULE", self.module)
                # The wheel has no folder `tests`, so the templates cannot have one either.
                parts.append(name.replace("TESTS", "tests"))
            # An import package in `src` is the only folder that moves.
            if self.source and parts[0] == self.module:
                parts.insert(0, self.source)
            place = "/".join(parts).removesuffix(_SUFFIX)
            files[place] = _PLACEHOLDER.sub(lambda match: values[match[1]], path.read_text(encoding="utf-8"))
        return files

    def _entry_points(self) -> str:
        """The tables of `pyproject.toml` that declare the components, in the order of the kinds."""
        tables = []
        for kind in KINDS.values():
            lines = [f'[project.entry-points."{kind.group}"]']
            for component in self.components:
                if component.kind == kind.name:
                    lines.append(f'{component.name} = "{self.module}.{component.name}"')
            if len(lines) > 1:
                tables.append("\n".join(lines))
        return "\n\n".join(tables)

    def _usage(self, component: ScaffoldComponent) -> str:
        """The lines of the README that show a component at work."""
        name = component.name
        if not KINDS[component.kind].in_recipes:
            return f"Package maps with `{name}`:\n\n    neuropbr package MAPS --for {name} --output packages"
        lines = [f"Train for about a minute with `{name}`:", ""]
        if component.kind == "dataset":
            lines.append(f"    python -m {self.module}.{name}.example data/{name}")
        lines.append(f"    neuropbr run recipes/{name}.yaml")
        return "\n".join(lines)


def camel_case(name: str) -> str:
    """A component's name as the beginning of a class's name, such as `WaveletMix` for `wavelet_mix`."""
    return "".join(part.capitalize() for part in name.split("_"))
