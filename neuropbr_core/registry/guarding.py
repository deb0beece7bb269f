"""Guards around components: what one raises, or returns against its contract, becomes an error that names it.

`blaming` is the context in which the core calls a component. `guard` puts it around the methods of exporters,
observers, datasets and packagers once, when they are created, so that no caller can forget it. Encoders, fusion blocks
and losses are modules, whose methods PyTorch traces and compiles; they are probed instead, and called within `blaming`.
"""

import re
import signal
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from neuropbr_core.errors import NeuroPBRError, PluginBroken
from neuropbr_core.memory import memory_ran_out
from neuropbr_core.shown import describe, shortened

# For types alone: whatever calls a component imports this module, and need not read what is installed.
if TYPE_CHECKING:
    from neuropbr_core.registry.chosen import Chosen
    from neuropbr_core.registry.installed import Entry

Check = Callable[[Any, tuple[Any, ...]], str]
"""Says what is wrong with a value that a method returned for its arguments, after `returned`; empty if nothing is."""


@contextmanager
def noting_interrupts() -> Iterator[list[int]]:
    """Context that notes every Ctrl-C in the list that it yields, and obeys it as before.

    A `KeyboardInterrupt` while the list is empty was raised by the code inside: a real one comes as a signal.
    """
    pressed: list[int] = []
    previous = None
    if threading.current_thread() is threading.main_thread():  # the only one that gets signals and may set handlers
        previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        if callable(previous):
            previous(number, frame)

    if callable(previous):
        signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        # Whoever set another handler in the meantime, as a run does after its first Ctrl-C, keeps it.
        if callable(previous) and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, previous)


@contextmanager
def blaming(declared: Callable[[], "Entry"], action: str) -> Iterator[None]:
    """Turn whatever a component raises while it works into an error that names it.

    Args:
        declared: Returns the component; called when there is something to blame it for.
        action: What it was doing, such as `its forward pass`.

    Raises:
        PluginBroken: It raised something that is no error of the project, be it `SystemExit` or an interrupt that
            nobody pressed; the message has its distribution and version.
    """
    with noting_interrupts() as pressed:
        try:
            yield
        except NeuroPBRError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if pressed and isinstance(error, KeyboardInterrupt):
                raise
            # Memory that ran out is no fault of the component that asked for it last.
            if isinstance(error, RuntimeError | MemoryError) and memory_ran_out(error):
                raise
            # A full disk or a missing file is the user's to mend; the note says who wanted it.
            if isinstance(error, OSError) and error.errno is not None:
                error.add_note(f"{declared()} asked for it in {action}")
                raise
            raise broken(declared(), f"{action} raised {describe(error)}") from error


@contextmanager
def blaming_calls(part: "Chosen | None", action: str) -> Iterator[None]:
    """Turn whatever a component raises while it works into an error that names it.

    Args:
        part: The component; None lets everything pass.
        action: What it was doing, such as `its forward pass`.

    Raises:
        PluginBroken: It raised something that is no error of the project; the message has its distribution and version.
    """
    if part is None:
        yield
        return
    with blaming(lambda: part.declared, action):
        yield


def notes_of(error: BaseException) -> list[str]:
    """What `blaming` added to an error that it let pass: who asked for what failed."""
    return list(getattr(error, "__notes__", ()))


def culprit(error: BaseException, entries: "Iterable[Entry]") -> "Entry | None":
    """The component of others whose code was at work when an error was raised; None when there was none.

    It is the last net: for code of a component that the core cannot call within `blaming`, such as the forward pass of
    an encoder within a model that PyTorch compiles.

    Args:
        error: What was raised.
        entries: The components that may be at fault.
    """
    by_file: dict[str, Entry] = {}
    by_package: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.file:
            by_file[entry.file] = entry
        by_package.setdefault(entry.module.partition(".")[0], []).append(entry)
    # The innermost frame counts: a component may call the core, and the core another component.
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code.co_filename in by_file:
            return by_file[frame.f_code.co_filename]
        module = str(frame.f_globals.get("__name__", ""))
        candidates = by_package.get(module.partition(".")[0], [])
        if candidates:
            # A package may offer many components; the one whose module is nearest to the code that failed is named.
            return max(candidates, key=lambda candidate: _common_parts(candidate.module, module))
    return None


def _common_parts(first: str, second: str) -> int:
    """How many leading parts two dotted names share."""
    count = 0
    for part, other in zip(first.split("."), second.split("."), strict=False):
        if part != other:
            break
        count += 1
    return count


def broken(entry: "Entry", fault: str) -> PluginBroken:
    """The error about a component that breaks its contract.

    Args:
        entry: The component.
        fault: What it does, such as `its forward pass raised ValueError: shapes differ`.
    """
    return PluginBroken(
        f"{entry} is broken: {fault}. Report it to the authors of {entry.distribution} (`--debug` shows the "
        f"traceback), or use another component"
    )


def guard(instance: Any, entry: "Entry", methods: Mapping[str, Check] | None = None) -> None:
    """Put `blaming`, and a check of what is returned, around the methods of an instance that its contract names.

    The methods of the instance are replaced. An object that wraps the instance would be of no contract's class, and
    would have to pass on every attribute that a component may have. The guards are attributes of the instance and
    pickle with it, so that a dataset in a loader's process is guarded too.

    Args:
        instance: What the component created.
        entry: The component.
        methods: The methods with their checks; default: those of the component's kind, if it has any.
    """
    if methods is None:
        methods = _METHODS.get(entry.kind, {})
    for name, check in methods.items():
        method = getattr(instance, name, None)
        # A component may hand out the same instance twice.
        if isinstance(method, partial) and method.func is _guarded:
            continue
        # Set past a frozen dataclass. An instance with `__slots__` has no room; the command line blames it then.
        with suppress(AttributeError):
            object.__setattr__(instance, name, partial(_guarded, entry, name, check, method))


def _guarded(entry: "Entry", name: str, check: Check, method: Any, *args: Any, **options: Any) -> Any:
    """Call a method of a component, and check what it returns."""
    with blaming(lambda: entry, f"its {name}"):
        returned = method(*args, **options)
        fault = check(returned, (*args, *options.values()))
        if fault:
            raise broken(entry, f"its {name} returned {fault}")
        if returned is not None:
            guard(returned, entry, _METHODS.get(f"{entry.kind}.{name}", {}))
        return returned


def _kind(value: object) -> str:
    """The type of a value, in words."""
    if value is None:
        return "None"
    return f"a {type(value).__name__}"


def _anything(value: object, args: tuple[Any, ...]) -> str:  # noqa: ARG001 - the signature of a check
    return ""


def _availability(value: object, args: tuple[Any, ...]) -> str:  # noqa: ARG001
    from neuropbr_core.contracts import Availability

    if isinstance(value, Availability):
        return ""
    return f"{_kind(value)} and no Availability"


def _program(value: object, args: tuple[Any, ...]) -> str:  # noqa: ARG001
    if callable(value):
        return ""
    return f"{_kind(value)} and no function from inputs to maps"


def _texts(value: object, args: tuple[Any, ...]) -> str:  # noqa: ARG001
    if isinstance(value, dict) and _are_texts((*value, *value.values())):
        return ""
    return f"{_kind(value)}; it must be a dictionary of texts"


@dataclass(frozen=True)
class _OfTexts:
    """Checks that a value is a collection of texts; of a mapping, its keys.

    Attributes:
        kinds: Classes that it may have.
        wanted: What it must be, in words.
    """

    kinds: tuple[type, ...]
    wanted: str

    def __call__(self, value: object, args: tuple[Any, ...]) -> str:  # noqa: ARG002 - the signature of a check
        if isinstance(value, self.kinds) and _are_texts(value):
            return ""
        return f"{_kind(value)}; it must be {self.wanted}"


def _samples(value: object, args: tuple[Any, ...]) -> str:  # noqa: ARG001
    from neuropbr_core.samples import Sample

    if not isinstance(value, Sequence) or isinstance(value, str):
        return f"{_kind(value)}; it must be a list of samples"
    samples: Sequence[Any] = value
    for number, sample in enumerate(samples):
        if not isinstance(sample, Sample):
            return f"{_kind(sample)} at place {number} of its list, and no Sample"
        texts: dict[str, object] = {"id": sample.id, "condition": sample.condition, "material": sample.material}
        for field, text in texts.items():
            if not isinstance(text, str):
                return f"a sample at place {number} whose {field} is {_kind(text)} and no text"
        views: object = sample.views
        maps: object = sample.maps
        if not isinstance(views, Sequence) or not isinstance(maps, Mapping):
            return f"the sample {sample.id} whose views are no list, or whose maps are no mapping"
        for key in (*views, *maps.values()):
            try:
                hash(key)
            except TypeError:
                return f"the sample {sample.id} with the key {shortened(repr(key))}, which cannot be hashed"
    return ""


def _drawer(value: object, args: tuple[Any, ...]) -> str:  # noqa: ARG001
    from neuropbr_core.contracts import VisitDrawer

    if value is None:
        return ""
    if not isinstance(value, VisitDrawer):
        return f"{_kind(value)}, which is neither a VisitDrawer nor None"
    if isinstance(value.share, bool) or not isinstance(value.share, int | float) or not 0 <= value.share <= 1:
        return f"a VisitDrawer whose share is {value.share!r} and no number from 0 to 1"
    visits: object = value.visits
    content: object = value.content
    if not isinstance(visits, int) or not isinstance(content, str):
        return "a VisitDrawer whose visits are no number, or whose content is no text"
    materials: object = value.materials
    if materials is not None and not _are_texts(materials):
        return "a VisitDrawer whose materials are neither None nor a collection of names"
    return ""


def _are_texts(value: object) -> bool:
    if isinstance(value, str) or not isinstance(value, Collection):
        return False
    return all(isinstance(item, str) for item in value)


def _drawn_visit(value: object, args: tuple[Any, ...]) -> str:
    import numpy as np

    from neuropbr_core.contracts import OVERVIEW_SIDE, DrawnVisit
    from neuropbr_core.maps import MAPS

    _, crop = args
    if not isinstance(value, DrawnVisit):
        return f"{_kind(value)} and no DrawnVisit"
    material: object = value.material
    maps: object = value.maps
    if not isinstance(material, str) or not isinstance(maps, Mapping):
        return "a DrawnVisit whose material is no text, or whose maps are no mapping"
    if missing := MAPS.keys() - maps.keys():
        return f"a DrawnVisit without {', '.join(sorted(missing))}"
    views, side = crop.views, crop.side
    parts: dict[str, tuple[object, tuple[int, ...]]] = {
        "views": (value.views, (views, 3, side, side)),
        "visible": (value.visible, (views, 1, side, side)),
        "overview": (value.overview, (views, 4, OVERVIEW_SIDE, OVERVIEW_SIDE)),
    }
    for name, spec in MAPS.items():
        parts[f"map {name}"] = (maps[name], (spec.channels, side * crop.scale, side * crop.scale))
    for name, (pixels, shape) in parts.items():
        if fault := _pixels(pixels, shape):
            return f"a DrawnVisit whose {name} is {fault}"
    positions: object = value.positions
    if not isinstance(positions, np.ndarray) or positions.shape != (views, 3) or positions.dtype.kind != "f":
        found = _kind(positions)
        if isinstance(positions, np.ndarray):
            found = f"an array of {positions.dtype} {positions.shape}"
        return f"a DrawnVisit whose positions are {found}; they must be an array of floats {(views, 3)}"
    if not np.isfinite(positions).all():
        return "a DrawnVisit whose positions are not finite"
    return ""


def _digests(value: object, args: tuple[Any, ...]) -> str:
    (keys,) = args
    if not isinstance(value, Sequence) or isinstance(value, str):
        return f"{_kind(value)}; it must be a list of texts, one for each key"
    if len(value) != len(keys):
        return f"{len(value)} digests for {len(keys)} keys"
    for digest in value:
        # Names of files in a pack are made of them.
        if not isinstance(digest, str) or re.fullmatch(r"[A-Za-z0-9-]+", digest) is None:
            return f"the digest {shortened(repr(digest))}; it must be a text of letters, digits and `-`"
    return ""


def _view(value: object, args: tuple[Any, ...]) -> str:
    _, size = args
    return _pixels(value, (3, size, size))


def _map(value: object, args: tuple[Any, ...]) -> str:
    from neuropbr_core.maps import MAPS

    name, _, size = args
    return _pixels(value, (MAPS[name].channels, size, size))


def _pixels(value: object, shape: tuple[int, ...]) -> str:
    import numpy as np

    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape == shape:
        return ""
    returned = _kind(value)
    if isinstance(value, np.ndarray):
        returned = f"an array of {value.dtype} {value.shape}"
    return f"{returned}; it must be an array of uint8 {shape}"


def _textures(value: object, args: tuple[Any, ...]) -> str:  # noqa: ARG001
    from neuropbr_core.contracts import Channel, Texture

    if not isinstance(value, Sequence) or isinstance(value, str):
        return f"{_kind(value)}; it must be a list of textures"
    textures: Sequence[Any] = value
    for number, texture in enumerate(textures):
        if not isinstance(texture, Texture):
            return f"{_kind(texture)} at place {number} of its list, and no Texture"
        names: tuple[object, object] = (texture.stem, texture.role)
        if not all(isinstance(name, str) for name in names):
            return f"a texture at place {number} whose stem or role is no text"
        channels: Any = texture.channels
        if not all(isinstance(channel, Channel) for channel in channels):
            return f"the texture {shortened(texture.stem)} with a channel that is no Channel"
        if texture.depth not in (None, 8, 16, "exr") or texture.normals not in (None, "opengl", "directx"):
            return f"the texture {shortened(texture.stem)} with depth {texture.depth!r} and normals {texture.normals!r}"
    return ""


_METHODS: dict[str, dict[str, Check]] = {
    "exporter": {
        "requirements": _availability,
        # The core looks at the report itself, with the file.
        "export": _anything,
        "load": _program,
        "load_untrusted": _program,
        "read_metadata": _texts,
        "report": _OfTexts((dict,), "a dictionary with texts as keys"),
        "trace": _OfTexts((list, tuple), "a list of texts"),
    },
    "observer": {
        "run_started": _anything,
        "step_finished": _anything,
        "metrics_logged": _anything,
        "epoch_finished": _anything,
        "validation_finished": _anything,
        "checkpoint_saved": _anything,
        "run_finished": _anything,
        "run_failed": _anything,
    },
    "dataset": {
        "samples": _samples,
        "materials": _OfTexts((set, frozenset), "a set of the materials' names"),
        "drawer": _drawer,
        "digests": _digests,
        "read_view": _view,
        "read_map": _map,
    },
    "dataset.drawer": {"draw": _drawn_visit},
    "packager": {"requirements": _availability, "textures": _textures, "write_documents": _anything},
}
"""The methods of each kind that the core calls, with the checks of what they return.

The key `kind.method` has the methods of the object that a method returns.
"""
