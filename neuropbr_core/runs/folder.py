"""The folder of a run: `runs/<name>/`."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from neuropbr_core.errors import DataError, ExportError, PluginError, PluginNotFound, RecipeError, RunError
from neuropbr_core.files import write_text
from neuropbr_core.lock import LOCK
from neuropbr_core.recipe.loading import dump_recipe, load_recipe
from neuropbr_core.recipe.merge import read_tree
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.shown import shortened
from neuropbr_core.training.checkpoints.store import CheckpointStore
from neuropbr_core.training.provenance import PROVENANCE, recorded_components

RECIPE = "recipe.yaml"
MARKER = ".neuropbr-run"
"""File that only a run has. A folder of the user's may have a `recipe.yaml`, so that alone does not make a run."""
SUMMARY = "summary.json"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def around(cls, path: Path) -> "RunFolder | None":
        """The run that `path` is, or is a checkpoint of; None when it is neither."""
        path = path.resolve()  # so that a relative path of one part has parents, too
        candidates = [cls(path)]
        if path.parent.name == "checkpoints":
            candidates.append(cls(path.parent.parent))
        return next((folder for folder in candidates if folder.is_run), None)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints."""
        return CheckpointStore.of_run(self.path)

    @property
    def exports(self) -> Path:
        """Folder of exported models."""
        return self.path / "exports"

    @property
    def provenance(self) -> Path:
        """The record of versions, data and split."""
        return self.path / PROVENANCE

    @property
    def summary(self) -> Path:
        """The scores of the best checkpoint."""
        return self.path / SUMMARY

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe that the run was started with."""
        return self.path / RECIPE

    @property
    def is_run(self) -> bool:
        """Whether a run was started here."""
        return self.recipe_file.is_file()

    @property
    def is_marked(self) -> bool:
        """Whether the folder is a run's own, so that everything in it may be removed."""
        return (self.path / MARKER).is_file()

    @property
    def can_resume(self) -> bool:
        """Whether there is a run to go on with: it has a checkpoint, or stopped before its first one."""
        return self.is_run and (self.is_marked or bool(self.checkpoints.names()))

    @property
    def is_free(self) -> bool:
        """Whether nothing is here, apart from the lock of a process that has written nothing yet, and the marker."""
        if not self.path.exists():
            return True
        return all(path.name == MARKER or path.name.startswith(LOCK) for path in self.path.iterdir())

    def recipe_name(self) -> str:
        """Name of the recipe, without loading its components."""
        # Each `use` is kept as text: a component that is not installed here must not hide the name.
        root, _ = read_tree(self.recipe_file, (), lambda _, use: use)
        return str(root.plain().get("name", self.name))

    def recipe(self) -> Recipe:
        """The resolved recipe that the run was started with.

        Raises:
            RunError: The folder is no run.
        """
        if not self.is_run:
            raise RunError(f"{self.path}: is no run (it has no {RECIPE}); name a folder that `neuropbr run` made")
        with self.explaining():
            # A run may be somebody else's, so its recipe runs no file: `--plugin`, or the user's own recipe, names it.
            return load_recipe(self.recipe_file, plugin_files=False)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Add to an error in a recipe what the run was made with and is not installed here, and what works without."""
        try:
            yield
        except RecipeError as error:
            missing = self._missing()
            if missing:
                error.add_note(
                    f"{self.path}: this run was made with {' and '.join(missing)}, not installed here; install what is "
                    f"missing to go on with it"
                )
                usable = self._usable_exports()
                if usable:
                    error.add_note(
                        f"These files of it work without: {', '.join(usable)} (`neuropbr infer --model FILE`)"
                    )
            raise

    def _missing(self) -> list[str]:
        """Distributions, with versions, that the run's components are of, and that do not offer them any more."""
        missing: dict[str, None] = {}
        try:
            components = recorded_components(self.provenance)
        except DataError:
            return []
        for component in components:
            try:
                default_registry().find(component.kind, f"{component.distribution}:{component.name}")
            except PluginNotFound:
                words = (component.distribution or "?", component.version)
                missing[" ".join(shortened(word, 80) for word in words).strip()] = None
        return list(missing)

    def _usable_exports(self) -> list[str]:
        """Exported files of the run whose exporters are installed."""
        # Imported for this message alone: it brings in PyTorch.
        from neuropbr_core.exporting.record import SUFFIX, read_record

        usable = []
        for path in sorted(self.exports.glob(f"*{SUFFIX}")):
            file = path.with_name(path.name.removesuffix(SUFFIX))
            try:
                record = read_record(file)
                if record is not None and file.exists():
                    default_registry().find("exporter", record.exporter)
                    usable.append(str(file))
            except (ExportError, PluginError):
                continue
        return usable

    def write_recipe(self, recipe: Recipe) -> None:
        """Write `recipe.yaml`, with which the folder becomes a run."""
        # The marker first: whenever this process is killed, what it wrote may be removed by `--overwrite`.
        write_text(self.path / MARKER, "This folder is a run of neuropbr; --overwrite may remove all of it.\n")
        # Where a run was continued from is no property of the run, so that its recipe starts a new one.
        training = {**recipe.tree["training"], "resume_from": None}
        write_text(self.recipe_file, dump_recipe(replace(recipe, tree={**recipe.tree, "training": training})))

    def is_trained(self, epochs: int) -> bool:
        """Whether the run has been trained for this many epochs, and its newest and best checkpoints are sound."""
        return self.checkpoints.is_complete(epochs)

    def clear(self) -> None:
        """Make the folder, or remove everything that is in it except the lock and the marker.

        The recipe goes last and the marker stays: a folder that a killed process left half empty is still a run, which
        `--overwrite` may remove.

        Raises:
            RunError: The folder holds something, and is no run's own.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.is_free and not self.is_marked:
            raise RunError(_not_ours(self))
        for path in self.path.iterdir():
            if path.name in (RECIPE, MARKER) or path.name.startswith(LOCK):
                continue
            # A link is removed and never followed: what it names may be outside the run.
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.recipe_file.unlink(missing_ok=True)


def check_start(folder: RunFolder, *, resume: bool, overwrite: bool) -> None:
    """Check that a run may live in a folder; changes nothing.

    Raises:
        RunError: A file is in the way; both flags are given; the folder is taken and neither flag is given; it is no
            run and must not be removed; or there is nothing to resume.
    """
    path = folder.path
    # The nearest place on the way that is there must be a folder.
    for place in (path, *path.parents):
        if place.is_dir():
            break
        if place.exists() or place.is_symlink():
            raise RunError(
                f"{path}: cannot hold a run, because {place} is a file; choose another --run-name or --runs-dir"
            )
    if resume and overwrite:
        raise RunError(f"{path}: a run is resumed or overwritten, not both; leave one out")
    if resume:
        if not folder.can_resume:
            raise RunError(f"{path}: there is no run to resume; leave out --resume to start one")
        return
    if folder.is_free:
        return
    # A folder that no run made is the user's, whatever the flags say.
    if not folder.is_marked and not folder.can_resume:
        raise RunError(_not_ours(folder))
    if not overwrite:
        raise RunError(
            f"{path}: there is a run of that name already; continue it with --resume, replace it with --overwrite, "
            f"or choose another name with --run-name"
        )
    # Runs from before there were markers can be continued, but nothing tells them from a user's folder.
    if not folder.is_marked:
        raise RunError(_not_ours(folder))


def _not_ours(folder: RunFolder) -> str:
    return (
        f"{folder.path}: is not empty and is no run (it has no {MARKER}), so --overwrite will not remove it; choose "
        f"another name, or remove it yourself"
    )
