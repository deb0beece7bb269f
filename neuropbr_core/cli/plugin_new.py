"""`neuropbr plugin new` and `plugin update`: packages with components, and the template that they came from."""

from pathlib import Path

import click

from neuropbr_core.cli.output import OUTPUT, command, counted, result
from neuropbr_core.kinds import KINDS


@command("new", short_help="Write a package with a component, or add one to a package.")
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.argument("name", metavar="NAME")
@click.option("--package", metavar="NAME", help="Name of the package; default: neuropbr-NAME.")
@click.option(*OUTPUT, type=click.Path(path_type=Path), metavar="DIR", help="Its folder; default: ./PACKAGE.")
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="DIR", help="Add to the package in this folder instead."
)
def new(kind: str, name: str, package: str | None, output: Path | None, into: Path | None) -> None:
    """Write a package with a component that works, or add one to a package.

    KIND is encoder, fusion, loss, exporter, observer, dataset or packager. NAME is what recipes will write, of a-z, 0-9
    and _. The package has everything that it needs to be installed, tested and published: pyproject.toml with the entry
    point, the component, a test with the conformance suite, a recipe, and a workflow for a forge.
    """
    from neuropbr_core.registry.catalog import default_registry
    from neuropbr_core.scaffold.names import (
        check_component_is_new,
        check_component_name,
        check_package_is_new,
        module_name,
    )
    from neuropbr_core.scaffold.package import Scaffold, ScaffoldComponent
    from neuropbr_core.scaffold.project import read_project
    from neuropbr_core.scaffold.writing import Change, add, create

    if into is not None and (package is not None or output is not None):
        raise click.UsageError("--into names an existing package, so --package and --output do not go with it")
    check_component_name(name)
    component = ScaffoldComponent(kind, name)
    if into is not None:
        check_component_is_new(kind, name, read_project(into)["name"], default_registry())
        folder = into
        changes = add(into, component)
    else:
        if package is None:
            package = f"neuropbr-{name.strip('_').replace('_', '-')}"
        module = module_name(package)
        check_component_is_new(kind, name, package, default_registry())
        folder = output or Path(package)
        check_package_is_new(package, module)
        changes = create(folder, Scaffold(package, module, (component,)))
    for change in changes:
        if change.action == "written":
            result(f"wrote {folder / change.path}")
        else:
            result(f"left  {folder / change.path}, which you changed; add {component} there where it names components")
    result(f"\nNext:\n  pip install --editable {folder}\n  neuropbr plugin check {kind}/{name}")
    # A package that began without the template has another README, or none.
    if Change("README.md", "written") in changes:
        result(f"{folder / 'README.md'} goes on from there.")


_WORDS = {
    "written": "wrote",
    "yours": "left, because you changed it",
    "offered": "left, because you changed it; the template's text is beside it as {new}",
    "removed": "left out, because you removed it",
    "retired": "left; the template has no such file any more",
}

_DRY_WORDS = {
    "written": "would be written",
    "offered": "left, because you changed it; the template's text would be written beside it as {new}",
}


@command("update", short_help="Bring a package up to the current template.")
@click.argument("folder", type=click.Path(path_type=Path), default=".", metavar="[DIR]")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and write nothing.")
def update(folder: Path, dry_run: bool) -> None:
    """Bring a package that `plugin new` wrote up to the current template.

    DIR is the package's folder; default: the current one. Files that are as they were written are replaced. Files that
    you changed are left alone; where the template has changed too, its text is written beside them as FILE.new.
    """
    from neuropbr_core.scaffold.writing import NEW
    from neuropbr_core.scaffold.writing import update as update_package

    changes = update_package(folder, dry_run=dry_run)
    current = 0
    for change in changes:
        if change.action == "current":
            current += 1
            continue
        words = _WORDS[change.action]
        if dry_run:
            words = _DRY_WORDS.get(change.action, words)
        place = folder / change.path
        result(f"{place}: {words.format(new=place.name + NEW)}")
    result(f"{counted(current, 'file')} up to date")
