"""Components that break their contract while they work: each is named with its distribution and version."""

import re
import signal
import sys
import threading
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import small_run
import torch

from neuropbr_core.cli import root
from neuropbr_core.cli.faults import Session, contain_threads, exit_code
from neuropbr_core.contracts import Crop, LossInput, Prediction
from neuropbr_core.errors import PluginBroken
from neuropbr_core.maps import MAPS
from neuropbr_core.registry import Registry, set_default_registry
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.guarding import blaming_calls
from neuropbr_core.training.loop.networks import check_networks
from neuropbr_core.training.loop.objective import Objective

HEAD = """
    from neuropbr_core.contracts import *
    from neuropbr_core.maps import MAPS
    from neuropbr_core.plugin import hookimpl
    from neuropbr_core.samples import Sample
    import numpy as np, torch
    from torch import nn
    NEUROPBR_API = 1
"""

DATASET = """
    class Reel(SampleSource):
        def samples(self): return [Sample("a", "c", "oak", (1, 2), dict.fromkeys(MAPS, 3))]
        def digests(self, keys): return ["0a" for _ in keys]
        def read_view(self, key, size): return np.zeros((3, size, size), np.uint8)
        def read_map(self, name, key, size): return np.zeros((MAPS[name].channels, size, size), np.uint8)
        {changed}
    @hookimpl
    def create_dataset(options, data): return Reel()
"""

EXPORTER = """
    class Writer(Exporter):
        suffix = ".xx"
        {changed}
    @hookimpl
    def create_exporter(options): return Writer()
"""

PACKAGER = """
    class Packs(Packager):
        def textures(self, settings): return [Texture.of("base", "base_color", "albedo", 3)]
        {changed}
    @hookimpl
    def create_packager(options): return Packs()
"""

OBSERVER = """
    class Watcher(Observer):
        {changed}
    @hookimpl
    def create_observer(options, run_dir): return Watcher()
"""

ENCODER = """
    class Pyramid(Encoder):
        def __init__(self, count):
            super().__init__()
            self.channels, self.strides = (8, 8), (1, 2)
            self.fine, self.coarse = nn.Conv2d(count, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1)
        def forward(self, images):
            fine = self.fine(images)
            coarse = self.coarse(fine)
            {changed}
            return [fine, coarse]
    @hookimpl
    def create_encoder(options, in_channels): return Pyramid(in_channels)
"""

FUSION = """
    class Mean(Fusion):
        def __init__(self, count):
            super().__init__()
            self.out_channels = 8
            self.mix = nn.Conv2d(count, 8, 1)
        def forward(self, latents, visible=None):
            fused = self.mix(latents.mean(1))
            {changed}
            return fused
    @hookimpl
    def create_fusion(options, in_channels): return Mean(in_channels)
"""

LOSS = """
    class Error(Loss):
        {attributes}
        def forward(self, x, critic=None):
            error = (x.prediction.maps["albedo"] - x.target["albedo"]).abs().mean()
            {changed}
            return LossResult(error, {{}})
    @hookimpl
    def create_loss(options): return Error()
"""


def chosen(folder: Path, kind: str, source: str) -> Chosen:
    """A component of a file, as a recipe would choose it."""
    path = folder / "wrong.py"
    path.write_text(dedent(HEAD) + dedent(source))
    registry = Registry()
    registry.add_file(path)
    set_default_registry(registry)
    return registry.choose(kind, "wrong")


@pytest.fixture(autouse=True)
def _usual_registry() -> Any:
    yield
    set_default_registry(None)


def named(kind: str, fault: str) -> str:
    """A pattern of the message: component, distribution, version, fault."""
    return rf"{kind}/wrong of plugin-file sha256-\w+ is broken: .*{fault}"


def drawer(body: str) -> str:
    """A dataset's method that returns a drawer whose `draw` does `body`."""
    return (
        f"def drawer(self, held_back):\n            class Draws(VisitDrawer):\n                visits = 1\n"
        f"                def draw(self, rng, crop): {body}\n            return Draws()"
    )


VISIT = """
def visit(crop, **changes):
    whole = dict(
        material="m",
        views=np.zeros((2, 3, 8, 8), "u1"),
        visible=np.zeros((2, 1, 8, 8), "u1"),
        overview=np.zeros((2, 4, 32, 32), "u1"),
        positions=np.zeros((2, 3)),
        maps={name: np.zeros((spec.channels, 8, 8), "u1") for name, spec in MAPS.items()},
    )
    return DrawnVisit(**{**whole, **changes})
"""
DRAWN = [
    ("views=np.zeros((2, 3, 8, 8))", "whose views is an array of float64 .2, 3, 8, 8.; it must be an array of uint8"),
    ("views=np.zeros((1, 3, 8, 8), 'u1')", "whose views is an array of uint8 .1, 3, 8, 8.; .* .2, 3, 8, 8."),
    ("visible=np.zeros((2, 1, 8, 8), bool)", "whose visible is an array of bool"),
    ("overview=np.zeros((2, 3, 32, 32), 'u1')", "whose overview is an array of uint8 .2, 3, 32, 32."),
    ("maps=dict.fromkeys(MAPS, np.zeros((3, 8, 8), 'u1'))", "whose map roughness is an array of uint8 .3, 8, 8."),
    ("positions=np.zeros((2, 3), int)", "whose positions are an array of int64 .2, 3."),
    ("positions=np.full((2, 3), np.nan)", "whose positions are not finite"),
]
KEYS = [1, 2, 3]
CROP = Crop(0, 0, 8, 8, 1, 8, 2)
RNG = np.random.default_rng(0)
CALLS: list[tuple[str, str, str, str, tuple[Any, ...], str]] = [
    ("dataset", DATASET, "def samples(self): return None", "samples", (), "its samples returned None"),
    ("dataset", DATASET, "def samples(self): return (s for s in ())", "samples", (), "returned a generator"),
    ("dataset", DATASET, "def samples(self): return [{}]", "samples", (), "a dict at place 0 of its list"),
    ("dataset", DATASET, "def samples(self): return [Sample(1, 'c', 'm', (), {})]", "samples", (), "whose id is a int"),
    ("dataset", DATASET, "def samples(self): return [Sample('a', 'c', 'm', ([],), {})]", "samples", (), "be hashed"),
    ("dataset", DATASET, "def samples(self): return [Sample('a', 'c', 'm', None, {})]", "samples", (), "no list"),
    ("dataset", DATASET, "def samples(self): raise ValueError('boo')", "samples", (), "raised ValueError: boo"),
    ("dataset", DATASET, "def samples(self): raise SystemExit(0)", "samples", (), "raised SystemExit: 0"),
    ("dataset", DATASET, "def samples(self): raise KeyboardInterrupt", "samples", (), "raised KeyboardInterrupt"),
    ("dataset", DATASET, "def samples(self): raise OSError('gone')", "samples", (), "raised OSError: gone"),
    ("dataset", DATASET, "def materials(self, samples): return None", "materials", ([],), "a set of the materials"),
    ("dataset", DATASET, "def digests(self, keys): return ['a']", "digests", (KEYS,), "1 digests for 3 keys"),
    ("dataset", DATASET, "def digests(self, keys): return keys", "digests", (KEYS,), "returned the digest 1"),
    ("dataset", DATASET, "def digests(self, keys): return ['../x'] * 3", "digests", (KEYS,), "letters, digits"),
    ("dataset", DATASET, "def read_view(self, key, size): return None", "read_view", (1, 8), "uint8 .3, 8, 8."),
    ("dataset", DATASET, "def read_view(self, k, s): return np.zeros((s, s, 3), 'u1')", "read_view", (1, 8), "8, 8, 3"),
    ("dataset", DATASET, "def read_map(self, n, k, s): return 3", "read_map", ("normal", 1, 8), "returned a int"),
    ("dataset", DATASET, "def drawer(self, held_back): return 3", "drawer", ((),), "neither a VisitDrawer nor None"),
    ("exporter", EXPORTER, "def requirements(self): return None", "requirements", (), "and no Availability"),
    ("exporter", EXPORTER, "def load(self, path): return None", "load", (Path("x"),), "no function from inputs"),
    ("exporter", EXPORTER, "def export(self, g, s, p): raise SystemExit(0)", "export", (1, 2, 3), "SystemExit: 0"),
    ("exporter", EXPORTER, "def read_metadata(self, path): return {1: 2}", "read_metadata", (Path("x"),), "texts"),
    ("exporter", EXPORTER, "def report(self, path): return []", "report", (Path("x"),), "its report returned a list"),
    ("exporter", EXPORTER, "def trace(self, g, i, p): return 'same'", "trace", (1, 2, 3), "its trace returned a str"),
    ("packager", PACKAGER, "def textures(self, settings): return None", "textures", (1,), "a list of textures"),
    ("packager", PACKAGER, "def textures(self, settings): return ['a']", "textures", (1,), "no Texture"),
    ("packager", PACKAGER, "def textures(self, s): return [Texture(1, 'b', ())]", "textures", (1,), "is no text"),
    ("packager", PACKAGER, "def textures(self, s): return [Texture('a', 'b', (1,))]", "textures", (1,), "no Channel"),
    ("packager", PACKAGER, "def textures(self, s): return [Texture('a', 'b', (), 7)]", "textures", (1,), "depth 7"),
    ("packager", PACKAGER, "def write_documents(self, f, p): 1 / 0", "write_documents", (1, 2), "ZeroDivisionError"),
    ("observer", OBSERVER, "def step_finished(self, info): raise SystemExit(0)", "step_finished", (1,), "SystemExit"),
    (
        "observer",
        OBSERVER,
        "run_started = None",
        "run_started",
        (1,),
        "'NoneType' object is not callable",
    ),
]


@pytest.mark.parametrize(("kind", "source", "changed", "method", "args", "fault"), CALLS)
def test_whatever_a_component_raises_or_returns_names_it(
    kind: str, source: str, changed: str, method: str, args: tuple[Any, ...], fault: str, tmp_path: Path
) -> None:
    part = chosen(tmp_path, kind, source.format(changed=changed))
    context = {"dataset": {"data": None}, "observer": {"run_dir": tmp_path}}.get(kind, {})
    instance = part.create(**context)
    with pytest.raises(PluginBroken, match=named(kind, fault)):
        getattr(instance, method)(*args)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return None", "its draw returned None and no DrawnVisit"),
        ("1 / 0", "its draw raised ZeroDivisionError"),
        ("return DrawnVisit('m', None, None, None, None, {})", "a DrawnVisit without albedo, metallic"),
        ("return DrawnVisit('m', 1, 2, 3, 4, dict.fromkeys(MAPS, 5))", "a DrawnVisit whose views is a int; it must be"),
        ("return DrawnVisit(7, 1, 2, 3, 4, {})", "whose material is no text"),
        *[(f"return visit(crop, {change})", fault) for change, fault in DRAWN],
    ],
)
def test_what_a_dataset_draws_with_is_guarded_too(body: str, fault: str, tmp_path: Path) -> None:
    text = dedent(DATASET.format(changed=drawer(body))) + VISIT
    source = chosen(tmp_path, "dataset", text).create(data=None)
    with pytest.raises(PluginBroken, match=named("dataset", fault)):
        source.drawer(set()).draw(RNG, CROP)


@pytest.mark.parametrize(
    ("attribute", "fault"),
    [
        ("share = 2", "a VisitDrawer whose share is 2"),
        ("visits = 'many'", "a VisitDrawer whose visits are no number"),
        ("materials = 'oak'", "a VisitDrawer whose materials are neither None nor a collection of names"),
        ("materials = (1, 2)", "a VisitDrawer whose materials are neither None nor a collection of names"),
    ],
)
def test_what_a_drawer_declares_is_checked(attribute: str, fault: str, tmp_path: Path) -> None:
    changed = drawer("return visit(crop)").replace("visits = 1", f"visits = 1; {attribute}")
    source = chosen(tmp_path, "dataset", dedent(DATASET.format(changed=changed)) + VISIT).create(data=None)
    with pytest.raises(PluginBroken, match=named("dataset", fault)):
        source.drawer(set())


def test_a_sound_visit_is_passed_on(tmp_path: Path) -> None:
    text = dedent(DATASET.format(changed=drawer("return visit(crop)"))) + VISIT
    source = chosen(tmp_path, "dataset", text).create(data=None)
    assert source.drawer(set()).draw(RNG, CROP).views.shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("kind", "source", "changed", "fault"),
    [
        ("exporter", EXPORTER, "suffix = None", "suffix must be a file's suffix"),
        ("exporter", EXPORTER, "suffix = '/../x'", "suffix must be a file's suffix"),
        ("exporter", EXPORTER, "view_bits = 'many'", "view_bits must be a number"),
        ("exporter", EXPORTER, "precision = 16", "precision must be a text"),
        ("packager", PACKAGER, "depths = ()", "depths must be a tuple of one or more of 8, 16, exr"),
        ("packager", PACKAGER, "conventions = ('up',)", "conventions must be a tuple"),
        ("packager", PACKAGER, "def __init__(self): raise SystemExit(0)", "create_packager raised SystemExit: 0"),
        ("packager", PACKAGER, "def __init__(self): raise KeyboardInterrupt", "create_packager raised Keyboard"),
    ],
)
def test_what_a_component_declares_is_checked(kind: str, source: str, changed: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(PluginBroken, match=named(kind, fault)):
        chosen(tmp_path, kind, source.format(changed=changed)).create()


@pytest.mark.parametrize(
    ("slot", "source", "changed", "fault"),
    [
        ("encoder", ENCODER, "return None", "returned .'a NoneType'."),
        ("encoder", ENCODER, "coarse = coarse[..., :-1, :]", r"returned \[\(1, 8, 4, 6\), \(1, 8, 1, 3\)\]"),
        ("encoder", ENCODER, "coarse = coarse.detach()", "detached from its parameters"),
        ("encoder", ENCODER, "coarse = coarse.double()", "the type torch.float64"),
        ("encoder", ENCODER, "images.zero_()", "changes its inputs in place"),
        ("encoder", ENCODER, "raise SystemExit(0)", "a blank image raised SystemExit: 0"),
        ("encoder", ENCODER, "if self.training: coarse = coarse[..., :-1]", r"\(6, 8, 16, 15\)\] for an image of 32"),
        ("encoder", ENCODER, "if self.training: 1 / 0", "in training, on a blank image of 32 pixels, raised ZeroDiv"),
        ("encoder", ENCODER, "if images.shape[-1] > 16: coarse = coarse[..., :-1]", r"\(6, 8, 16, 15\)\]"),
        ("fusion", FUSION, "return [fused]", "but returned a list"),
        ("fusion", FUSION, "assert latents.shape[1] == 2", "the blank latents of 3 views, raised AssertionError"),
        ("fusion", FUSION, "latents.zero_()", "changes its inputs in place"),
        ("fusion", FUSION, "if self.training: return None", "for 3 views of .8, 16, 16., but returned a NoneType"),
    ],
)
def test_encoders_and_fusion_blocks_are_probed_as_they_are_trained(
    slot: str, source: str, changed: str, fault: str, tmp_path: Path
) -> None:
    chosen(tmp_path, slot, source.format(changed=changed))
    recipe = small_run.small_recipe(*small_run.PLAIN, f"model.{slot}={{use: plugin-file:wrong}}")
    with pytest.raises(PluginBroken, match=named(slot, fault)):
        check_networks(recipe)


@pytest.mark.parametrize(("slot", "source"), [("encoder", ENCODER), ("fusion", FUSION)])
def test_sound_ones_pass(slot: str, source: str, tmp_path: Path) -> None:
    chosen(tmp_path, slot, source.format(changed="pass"))
    check_networks(small_run.small_recipe(*small_run.PLAIN, f"model.{slot}={{use: plugin-file:wrong}}"))


def test_values_that_are_not_finite_are_seen_when_there_are_values(tmp_path: Path) -> None:
    from neuropbr_core.model import ModelSpec, build_generator

    chosen(tmp_path, "encoder", ENCODER.format(changed="fine = fine / 0"))
    recipe = small_run.small_recipe(*small_run.PLAIN, "model.encoder={use: plugin-file:wrong}")
    with pytest.raises(PluginBroken, match=named("encoder", "its output for a blank image is not finite")):
        build_generator(ModelSpec.from_recipe(recipe))


@pytest.mark.parametrize(
    ("attributes", "changed", "fault"),
    [
        ("pass", "return None", "returned a NoneType"),
        ("pass", "return error", "returned a Tensor"),
        ("pass", "return LossResult(error.item(), {{}})", "its total is a float"),
        ("pass", "return LossResult(error.expand(2), {{}})", "its total has the shape"),
        ("pass", "error = error.detach()", "detached from the predictions"),
        ("pass", "return LossResult(error, None)", "its terms are no dictionary"),
        ("pass", "return LossResult(error, {{3: error.detach()}})", "its terms are no dictionary"),
        ("pass", "x.target['albedo'].zero_()", "changes the maps in place"),
        ("pass", "raise SystemExit(0)", "its forward pass raised SystemExit: 0"),
        ("pass", "raise OSError('gone')", "its forward pass raised OSError: gone"),
        ("pass", "raise ValueError('out of memory')", "raised ValueError: out of memory"),
        ("share = 'half'", "pass", "share must be a number from 0 to 1"),
        ("reconstruction = 'no'", "pass", "reconstruction must be True or False"),
        ("fused_by = 3", "pass", "fused_by must be a class or None"),
        ("def make_critic(self): return 3", "pass", "make_critic must return a torch.nn.Module"),
        ("def make_critic(self): raise SystemExit(0)", "pass", "its make_critic raised SystemExit: 0"),
    ],
)
def test_losses_are_checked_in_each_step(attributes: str, changed: str, fault: str, tmp_path: Path) -> None:
    changed = changed.replace("{{", "{").replace("}}", "}")
    chosen(tmp_path, "loss", LOSS.format(attributes=attributes, changed=changed))
    recipe = small_run.small_recipe("losses.x={use: plugin-file:wrong}")
    maps = {name: torch.rand(1, spec.channels, 8, 8, requires_grad=True) for name, spec in MAPS.items()}
    target = {name: torch.rand(1, spec.channels, 8, 8) for name, spec in MAPS.items()}
    visible = torch.ones(1, 3, 1, 8, 8)
    x = LossInput(Prediction(maps, {}, {}), target, torch.rand(1, 3, 3, 8, 8), visible, torch.ones(1, 1, 8, 8))
    with pytest.raises(PluginBroken, match=named("loss", fault)):
        Objective.from_recipe(recipe).terms[-1](x, None)


def test_a_real_interrupt_ends_a_component(tmp_path: Path) -> None:
    part = chosen(tmp_path, "loss", LOSS.format(attributes="pass", changed="pass"))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), blaming_calls(part, "its forward pass"):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_handler_that_is_set_meanwhile_stays(tmp_path: Path) -> None:
    part = chosen(tmp_path, "loss", LOSS.format(attributes="pass", changed="pass"))
    previous = signal.getsignal(signal.SIGINT)
    try:
        with blaming_calls(part, "its forward pass"):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


def test_the_systems_errors_stay_and_say_who_asked(tmp_path: Path) -> None:
    source = chosen(tmp_path, "dataset", DATASET.format(changed="def samples(self): open('/nonexistent/x')"))
    with pytest.raises(FileNotFoundError) as caught:
        source.create(data=None).samples()
    (note,) = caught.value.__notes__
    assert note.startswith("dataset/wrong of plugin-file sha256-")
    assert note.endswith(" asked for it in its samples")


def test_an_instance_that_is_handed_out_twice_is_guarded_once(tmp_path: Path) -> None:
    text = dedent(DATASET.format(changed="pass")).replace("return Reel()", "return REEL")
    part = chosen(tmp_path, "dataset", f"{text}\nREEL = Reel()\n")
    first = part.create(data=None)
    method = first.samples
    assert part.create(data=None).samples is method


PROGRAM = """
    import torch
    from neuropbr_core.contracts import Loss, LossResult
    from neuropbr_core.plugin import hookimpl
    NEUROPBR_API = 1
    {top}
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value): return value.clone()
        @staticmethod
        def backward(ctx, gradient): raise ValueError("backwards")
    class Error(Loss):
        def forward(self, x, critic=None):
            return LossResult(Fails.apply(x.prediction.maps["albedo"].mean()), {{}})
    @hookimpl
    def create_loss(options):
        return Error()
"""


def said(plugin: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """What the program says to standard error when a recipe names the loss of a file, and its exit code."""
    session = Session()
    command = ["--plugin", str(plugin), *words]
    for setting in ("losses.wrong={}", *small_run.PLAIN, *small_run.SMALL, "training.device=cpu", "data.oversample={}"):
        command += ["--set", setting]
    code = exit_code(session, lambda: root.main(command, "neuropbr", obj=session, standalone_mode=False))
    return code, capsys.readouterr().err


@pytest.mark.parametrize("top", ["import sys; sys.exit(0)", "raise KeyboardInterrupt"])
def test_a_module_that_ends_the_program_does_not(top: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "wrong.py"
    plugin.write_text(dedent(PROGRAM.format(top=top)))
    code, text = said(plugin, capsys, "recipe", "check", "neuropbr:quickstart")
    assert code == 1
    assert "losses.wrong: loss/wrong of plugin-file sha256-" in text
    assert "its module does not import: " in text


def test_a_fault_that_only_the_traceback_tells_names_the_component(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "wrong.py"
    plugin.write_text(dedent(PROGRAM.format(top="")))
    data = small_run.blank_dataset(tmp_path / "data")
    sets = (f"data.root={data}", "data.val_materials=[material_2]", "training.batch_size=2", "export=null")
    words = ["run", "neuropbr:quickstart", "--runs-dir", str(tmp_path / "runs")]
    for setting in sets:
        words += ["--set", setting]
    code, text = said(plugin, capsys, *words)
    assert code == 1
    assert "Traceback" not in text
    assert re.search(r"error: loss/wrong of plugin-file sha256-\w+ is broken: it raised ValueError: backwards", text)


def test_the_thread_of_a_component_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    body = (
        "import threading\ndef fails(): 1 / 0\nthread = threading.Thread(target=fails); thread.start(); thread.join()"
    )
    plugin = tmp_path / "wrong.py"
    plugin.write_text(dedent(PROGRAM).format(top=body))
    registry = Registry()
    contain_threads(Session(registry=registry))
    registry.add_file(plugin)
    registry.options("loss", "wrong")
    text = capsys.readouterr().err
    assert re.fullmatch(
        r"warning: a thread in the background ended: loss/wrong of plugin-file sha256-\w+ is broken: it raised "
        r"ZeroDivisionError: division by zero\. Report it .*\n",
        text,
    )
