"""Finding, loading and checking components."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from neuropbr_core.contracts import Loss
from neuropbr_core.errors import ModelError, PluginBlocked, PluginBroken, PluginCollision, PluginNotFound
from neuropbr_core.plugin import Needs
from neuropbr_core.recipe import resolve_recipe
from neuropbr_core.registry import Entry, Registry, default_registry, set_default_registry
from neuropbr_core.registry.catalog import NoOptions, load

ENCODERS = "neuropbr.encoders"
FUSION = "neuropbr.fusion"
LOSSES = "neuropbr.losses"
OBSERVERS = "neuropbr.observers"

ENCODER = '''
    """A tiny encoder.

    More about it.
    """
    from dataclasses import dataclass
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        width: int = 4

    @hookimpl
    def encoder_options():
        return Options

    @hookimpl
    def create_encoder(options, in_channels):
        from neuropbr_core.contracts import Encoder
        encoder = Encoder()
        encoder.channels, encoder.strides = (options.width, options.width), (1, 2)
        return encoder
'''

NEEDS = """
    from neuropbr_core.plugin import Needs

    @hookimpl
    def loss_needs(options):
        return {needs}
"""

LOSS = """
    from dataclasses import dataclass
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        {field}

    @hookimpl
    def loss_options():
        return Options

    @hookimpl
    def create_loss(options, setup):
        return None
"""


def broken(registry: Registry, kind: str, use: str) -> str:
    with pytest.raises(PluginBroken) as caught:
        registry.options(kind, use)
    return str(caught.value)


class TestEntries:
    def test_come_from_metadata_alone(self, declare):
        declare("Acme_Nets", ENCODERS, "tiny = nbr_absent")
        (entry,) = [one for one in Registry().entries("encoder") if one.name == "tiny"]
        assert entry == Entry("encoder", "tiny", "acme-nets", "1.0", ENCODERS, "nbr_absent")
        assert entry.qualified == "acme-nets:tiny"
        assert str(entry) == "encoder/tiny of acme-nets 1.0"

    def test_the_first_copy_on_the_path_counts_alone(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_old", version="1.0", at="second")
        declare("acme", ENCODERS, "tiny = nbr_new", version="2.0", at="first")
        assert [(e.version, e.value) for e in Registry().entries() if e.name == "tiny"] == [("2.0", "nbr_new")]

    def test_a_newer_copy_without_the_component_hides_the_older(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_old", version="1.0", at="second")
        declare("acme", "console_scripts", "acme = nbr_new", version="2.0", at="first")
        assert "tiny" not in Registry().names("encoder")

    def test_damaged_metadata_is_passed_over(self, declare):
        site = declare("acme", ENCODERS, "tiny = nbr_tiny")
        damaged = site / "wreck-1.0.dist-info"
        damaged.mkdir()
        damaged.joinpath("entry_points.txt").write_text(f"[{ENCODERS}]\nno equals sign\n")
        assert "tiny" in Registry().names("encoder")

    def test_are_scanned_once(self, declare):
        registry = Registry()
        before = registry.entries()
        declare("acme", ENCODERS, "tiny = nbr_tiny")
        assert registry.entries() == before

    def test_of_an_unknown_kind(self):
        with pytest.raises(
            PluginNotFound, match=r"there is no kind 'encoders' of component\. Did you mean 'encoder'\?"
        ):
            Registry().entries("encoders")

    def test_provenance(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny")
        assert Registry().find("encoder", "tiny").provenance == {
            "kind": "encoder",
            "name": "tiny",
            "distribution": "acme",
            "version": "1.0",
            "entry_point": "nbr_tiny",
        }


class TestFind:
    def test_suggests_the_nearest_name(self, declare):
        declare("acme", ENCODERS, "convnext = nbr_convnext")
        with pytest.raises(
            PluginNotFound, match=r"offers encoder/convnxt\. Did you mean 'convnext'\? Known: .*convnext"
        ):
            Registry().find("encoder", "convnxt")
        with pytest.raises(PluginNotFound, match=r"Did you mean 'acme:convnext'\?"):
            Registry().find("encoder", "acme:convnxt")
        assert "nbr_convnext" not in sys.modules

    def test_points_to_the_kind_that_has_the_name(self, declare):
        declare("acme", FUSION, "blend = nbr_blend")
        with pytest.raises(PluginNotFound, match=r"offers encoder/blend\. There is fusion/acme:blend\."):
            Registry().find("encoder", "blend")

    def test_takes_the_distribution_in_any_spelling(self, declare):
        declare("Acme.Nets", ENCODERS, "tiny = nbr_tiny")
        assert Registry().find("encoder", "ACME_nets:tiny").distribution == "acme-nets"

    def test_collision_names_both_and_the_ways_out(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_acme", version="1.2")
        declare("beta", ENCODERS, "tiny = nbr_beta", version="3.4")
        registry = Registry()
        with pytest.raises(PluginCollision) as caught:
            registry.find("encoder", "tiny")
        assert str(caught.value) == (
            "encoder/tiny is offered by acme 1.2 and by beta 3.4. Write `acme:tiny` or `beta:tiny` in the recipe, or "
            "block one, as with `--block acme:tiny` or in NEUROPBR_BLOCK_PLUGINS"
        )
        assert registry.find("encoder", "beta:tiny").distribution == "beta"
        assert {"acme:tiny", "beta:tiny"} <= set(registry.names("encoder"))
        assert "tiny" not in registry.names("encoder")

    def test_neuropbr_keeps_its_own_names(self, declare, capsys):
        declare("acme", ENCODERS, "resnet = nbr_acme", version="1.2")
        registry = Registry()
        for _ in range(2):
            assert registry.find("encoder", "resnet").distribution == "neuropbr"
        assert registry.find("encoder", "acme:resnet").distribution == "acme"
        warning = "encoder/resnet: NeuroPBR's own is used; write `acme:resnet` for another one"
        assert capsys.readouterr().err.count(warning) == 1
        assert {"acme:resnet", "resnet"} <= set(registry.names("encoder"))
        set_default_registry(registry)
        try:
            encoder = resolve_recipe("neuropbr:teacher_default").recipe.encoder
        finally:
            set_default_registry(None)
        assert encoder.use == "neuropbr:resnet"


class TestBlocking:
    @pytest.mark.parametrize("block", ["tiny", "TINY", "encoder/tiny", "Acme_Nets:tiny", "encoder/acme.nets:tiny"])
    def test_by_any_of_its_names(self, declare, block):
        declare("acme-nets", ENCODERS, "tiny = nbr_tiny")
        registry = Registry([block])
        with pytest.raises(
            PluginBlocked, match=rf"^encoder/tiny of acme-nets 1\.0 is blocked by '{block}' in --block\."
        ):
            registry.find("encoder", "tiny")
        assert "tiny" not in registry.names("encoder")
        assert any(entry.name == "tiny" for entry in registry.entries("encoder"))

    @pytest.mark.parametrize("block", ["tin", "loss/tiny", "beta:tiny", "encoders/tiny"])
    def test_leaves_others_alone(self, declare, block):
        declare("acme-nets", ENCODERS, "tiny = nbr_tiny")
        registry = Registry([block])
        assert registry.find("encoder", "tiny").name == "tiny"
        assert [str(idle) for idle in registry.idle_blocks()] == [f"{block!r} in --block"]

    def test_by_the_environment(self, declare, monkeypatch):
        declare("acme", ENCODERS, "tiny = nbr_tiny")
        monkeypatch.setenv("NEUROPBR_BLOCK_PLUGINS", " other , acme:tiny ")
        with pytest.raises(PluginBlocked, match="'acme:tiny' in NEUROPBR_BLOCK_PLUGINS"):
            Registry().find("encoder", "tiny")

    def test_settles_a_collision(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_acme")
        declare("beta", ENCODERS, "tiny = nbr_beta")
        registry = Registry(["acme:tiny"])
        assert registry.find("encoder", "tiny").distribution == "beta"
        assert "tiny" in registry.names("encoder")

    def test_comes_before_any_import(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", "raise SystemExit('imported')")
        with pytest.raises(PluginBlocked):
            Registry(["tiny"]).options("encoder", "tiny")


class TestLoading:
    def test_gives_options_and_instance(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER)
        registry = Registry()
        options = registry.options("encoder", "tiny")
        made = registry.create("encoder", "acme:tiny", options(width=8), in_channels=3)
        assert made.channels == (8, 8)
        assert registry.options("encoder", "tiny") is options

    def test_names_distribution_version_group_entry_point_cause_and_way_out(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", "import nbr_does_not_exist")
        assert broken(Registry(), "encoder", "tiny") == (
            "encoder/tiny of acme 1.0 is broken: its module does not import: ModuleNotFoundError: No module named "
            "'nbr_does_not_exist'. It is the entry point `tiny = nbr_tiny` in group neuropbr.encoders. Upgrade or "
            "uninstall acme, or block the component with `--block acme:tiny` or in NEUROPBR_BLOCK_PLUGINS; `neuropbr "
            "plugin show encoder/acme:tiny` shows what it declares"
        )

    @pytest.mark.parametrize(
        ("source", "cause"),
        [
            ("raise SystemExit(3)", "its module does not import: SystemExit: 3"),
            ("def f(:", "its module does not import: SyntaxError"),
            ("class Odd(BaseException): pass\nraise Odd", "its module does not import: Odd"),
            ("", "its module does not state NEUROPBR_API; this neuropbr supports 1"),
            ("NEUROPBR_API = True", "it is written for plugin API True, but this neuropbr supports 1"),
            ("NEUROPBR_API = int('7')", "it is written for plugin API 7, but this neuropbr supports 1"),
            ("NEUROPBR_API = 2\nfrom neuropbr_core.plugin import of_tomorrow", "it is written for plugin API 2"),
            (
                "NEUROPBR_API = (2, 3)\nfrom neuropbr_core.plugin import of_tomorrow",
                "it is written for plugin API (2, 3)",
            ),
            ("NEUROPBR_API = ()", "it is written for plugin API (), but this neuropbr supports 1"),
            ("NEUROPBR_API = 1", "it has no hook create_encoder; hooks of this kind: encoder_options(), create_enc"),
            (
                "NEUROPBR_API = 1\ndef encoder_options(): pass",
                "its encoder_options is not a hook: put @hookimpl from neuropbr_core.plugin on it",
            ),
        ],
    )
    def test_says_why_a_module_is_refused(self, declare, source, cause):
        declare("acme", ENCODERS, "tiny = nbr_tiny", source)
        assert cause in broken(Registry(), "encoder", "tiny")

    @pytest.mark.parametrize(
        ("old", "new", "cause"),
        [
            (
                "def create_encoder(options, in_channels)",
                "def create_encoder(options, channels)",
                "hooks of this kind: encoder_options(), create_encoder(options, in_channels)",
            ),
            ("def create_encoder", "def create_fusion", "unknown hook 'create_fusion'"),
            (
                "@hookimpl\n    def create_encoder",
                "def create_encoder",
                "its create_encoder is not a hook: put @hookimpl from neuropbr_core.plugin on it",
            ),
            (
                "@hookimpl\n    def create_encoder(options, in_channels):",
                "@hookimpl(wrapper=True)\n    def create_encoder(options, in_channels):\n        yield",
                "its create_encoder is not a hook",
            ),
            ("return Options", "return Options()", "encoder_options must return a frozen dataclass type"),
            ("return Options", "return None", "must return a frozen dataclass type, but returned None"),
            ("return Options", "raise SystemExit", "encoder_options raised SystemExit"),
            ("frozen=True", "frozen=False", "Options, which must be a frozen dataclass (frozen=True)"),
            ("width: int = 4", "use: int = 4", "option 'use' of Options must have another name: recipes reserve use"),
            ("width: int = 4", "width: object() = 4", "Options has a field that JSON Schema cannot describe"),
            ("width: int = 4", "width: int = 'four'", "the defaults of Options break its own ranges"),
        ],
    )
    def test_says_how_a_module_breaks_its_hooks(self, declare, old, new, cause):
        assert old in ENCODER
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER.replace(old, new))
        assert cause in broken(Registry(), "encoder", "tiny")

    def test_a_component_without_options_needs_no_hook_for_them(self, declare):
        source = """
            from neuropbr_core.plugin import hookimpl
            NEUROPBR_API = 1
            @hookimpl
            def create_loss(setup):
                from neuropbr_core.contracts import Loss
                return Loss()
        """
        declare("acme", LOSSES, "plain = nbr_plain", source)
        chosen = Registry().choose("loss", "plain")
        assert isinstance(chosen.options, NoOptions)
        assert isinstance(chosen.create(setup=None), Loss)

    @pytest.mark.parametrize(
        ("stated", "supported", "expected"),
        [("1", (1, 2), 1), ("2", (1, 2), 2), ("(1, 2)", (1, 2), 2), ("(1, 2)", (1,), 1), ("(2, 3)", (1, 2), 2)],
    )
    def test_module_and_core_agree_on_the_newest_api_that_both_know(
        self, declare, monkeypatch, stated, supported, expected
    ):
        monkeypatch.setattr("neuropbr_core.registry.catalog.SUPPORTED_API", supported)
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER.replace("NEUROPBR_API = 1", f"NEUROPBR_API = {stated}"))
        registry = Registry()
        (entry,) = (entry for entry in registry.entries("encoder") if entry.distribution == "acme")
        assert load(entry).api == expected

    def test_needs_are_what_the_hook_says_or_nothing(self, declare):
        said = LOSS.format(field="deep: bool = False") + NEEDS.format(
            needs="Needs(teacher=True, features=options.deep)"
        )
        declare("acme", LOSSES, "taught = nbr_taught", said)
        declare("acme-more", LOSSES, "plain = nbr_plain", LOSS.format(field="deep: bool = False"))
        declare("acme-nets", ENCODERS, "tiny = nbr_tiny", ENCODER)
        registry = Registry()
        options = registry.options("loss", "taught")
        assert registry.needs("loss", "taught", options()) == Needs(teacher=True)
        assert registry.needs("loss", "taught", options(deep=True)) == Needs(teacher=True, features=True)
        assert registry.needs("loss", "plain", registry.options("loss", "plain")()) == Needs()
        assert registry.needs("encoder", "tiny", registry.options("encoder", "tiny")()) == Needs()

    @pytest.mark.parametrize(
        ("needs", "cause"),
        [
            ("True", "loss_needs must return neuropbr_core.plugin.Needs, but returned True"),
            ("1 / 0", "loss_needs raised Z"),
        ],
    )
    def test_says_how_needs_are_wrong(self, declare, needs, cause):
        declare("acme", LOSSES, "taught = nbr_taught", LOSS.format(field="a: int = 1") + NEEDS.format(needs=needs))
        registry = Registry()
        with pytest.raises(PluginBroken, match=re.escape(cause)):
            registry.needs("loss", "taught", registry.options("loss", "taught")())

    @pytest.mark.parametrize("field", ["weight", "start_epoch", "ramp_epochs"])
    def test_reserves_the_keys_that_the_core_reads(self, declare, field):
        declare("acme", LOSSES, "tiny = nbr_tiny", LOSS.format(field=f"{field}: int = 1"))
        reason = (
            f"option '{field}' of Options must have another name: recipes reserve ramp_epochs, start_epoch, use, wei"
        )
        assert reason in broken(Registry(), "loss", "tiny")

    def test_an_option_belongs_to_another_option(self, declare):
        field = 'size: Annotated[int, Meta(extra={BELONGS_TO: "crtic"})] = 1\n        critic: str = "plain"'
        source = LOSS.replace("import hookimpl", "import BELONGS_TO, Meta, hookimpl\n    from typing import Annotated")
        declare("acme", LOSSES, "tiny = nbr_tiny", source.format(field=field))
        assert (
            "option 'size' of Options belongs to 'crtic', which is no option of it. Did you mean 'critic'? Options: "
            "size, critic"
        ) in broken(Registry(), "loss", "tiny")

    def test_takes_options_without_defaults(self, declare):
        declare("acme", LOSSES, "tiny = nbr_tiny", LOSS.format(field="margin: float"))
        assert Registry().options("loss", "tiny")(margin=1.0).margin == 1.0

    def test_a_broken_one_spoils_no_other(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER)
        declare("beta", ENCODERS, "bad = nbr_bad", ENCODER.replace("create_encoder", "create_fusion"))
        registry = Registry()
        broken(registry, "encoder", "bad")
        assert registry.options("encoder", "tiny")().width == 4

    def test_does_not_swallow_ctrl_c(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
        with pytest.raises(KeyboardInterrupt):
            Registry().options("encoder", "tiny")

    @pytest.mark.parametrize("source", ["raise KeyboardInterrupt", "import sys\nsys.exit(0)"])
    def test_contains_what_only_looks_like_an_interrupt(self, declare, source):
        declare("acme", ENCODERS, "tiny = nbr_tiny", source)
        with pytest.raises(PluginBroken, match=r"encoder/tiny of acme 1\.0 is broken: its module does not import"):
            Registry().options("encoder", "tiny")

    @pytest.mark.parametrize("name", ["a/b", "a\x1b[2J", "a b"])
    def test_refuses_names_that_no_recipe_can_write(self, declare, name):
        declare("acme", ENCODERS, f"{name} = nbr_tiny", ENCODER)
        registry = Registry()
        (entry,) = [entry for entry in registry.entries("encoder") if entry.distribution == "acme"]
        assert "no recipe can write" in str(registry.defect(entry))
        assert name not in registry.names("encoder")
        assert "\x1b" not in str(entry)

    def test_defect_is_the_bare_cause(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", "raise OSError('no disk')")
        declare("beta", ENCODERS, "fine = nbr_fine", ENCODER)
        registry = Registry()
        assert registry.defect(registry.find("encoder", "tiny")) == "its module does not import: OSError: no disk"
        assert registry.defect(registry.find("encoder", "fine")) is None


class TestCreate:
    def create(self, declare, old: str, new: str):
        assert old in ENCODER
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER.replace(old, new))
        registry = Registry()
        return registry.create("encoder", "tiny", registry.options("encoder", "tiny")(), in_channels=3)

    @pytest.mark.parametrize(
        ("old", "new", "cause"),
        [
            (
                "return encoder\n",
                "return None\n",
                "create_encoder must return an instance of neuropbr_core.contracts.Encoder, but returned None",
            ),
            (
                "return encoder\n",
                "return [1]\n",
                "create_encoder must return an instance of neuropbr_core.contracts.Encoder, but returned a builtins.l",
            ),
            ("return encoder\n", "raise SystemExit\n", "create_encoder raised SystemExit"),
            ("return encoder\n", "raise ValueError('too\\nwide')\n", "create_encoder raised ValueError: too wide"),
            ("(1, 2)", "(1, 2, 4)", "channels (4, 4) and strides (1, 2, 4) must have one number for each feature"),
            ("(1, 2)", "(2, 1)", "strides must be growing powers of two, finest first, but are (2, 1)"),
            ("(1, 2)", "(2, 2)", "strides must be growing powers of two"),
            ("(1, 2)", "(1, 3)", "strides must be growing powers of two"),
            ("(1, 2)", "None", "strides must be a tuple of whole numbers of at least 1, but is None"),
            ("(1, 2)", "(True, 2)", "strides must be a tuple of whole numbers of at least 1, but is (True, 2)"),
            ("(options.width, options.width)", "()", "channels must be a tuple of whole numbers of at least 1"),
        ],
    )
    def test_checks_what_is_built(self, declare, old, new, cause):
        with pytest.raises(PluginBroken, match=re.escape(f"encoder/tiny of acme 1.0 is broken: {cause}")):
            self.create(declare, old, new)

    def test_lets_a_refusal_pass(self, declare):
        refusal = "from neuropbr_core.errors import ModelError\n        raise ModelError('no such weights')\n"
        with pytest.raises(ModelError, match=r"^no such weights$"):
            self.create(declare, "return encoder\n", refusal)

    def test_checks_a_fusion_block(self, declare):
        source = ENCODER.replace("encoder", "fusion").replace("Encoder", "Fusion")
        declare("acme", FUSION, "tiny = nbr_tiny", source)
        registry = Registry()
        with pytest.raises(PluginBroken, match="out_channels must be a whole number of at least 1, but is None"):
            registry.create("fusion", "tiny", registry.options("fusion", "tiny")(), in_channels=3)

    def test_refuses_a_call_that_the_hook_does_not_take(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER)
        registry = Registry()
        options = registry.options("encoder", "tiny")()
        with pytest.raises(TypeError, match=r"create_encoder takes \['in_channels'\] beside options, not \['setup'\]"):
            registry.create("encoder", "tiny", options, setup=None)
        with pytest.raises(TypeError, match="options must be a Options, not namespace"):
            registry.create("encoder", "tiny", SimpleNamespace(), in_channels=3)


class TestDefault:
    def test_is_one_until_replaced(self):
        first = default_registry()
        assert default_registry() is first
        other = Registry()
        set_default_registry(other)
        assert default_registry() is other
        set_default_registry(None)
        assert default_registry() not in (first, other)


def test_finding_imports_neither_components_nor_heavy_packages():
    code = (
        "import sys; from neuropbr_core.registry import Registry; r = Registry();"
        "[e.summary() for e in r.entries()]; r.find('encoder', 'resnet');"
        "print(sorted(m for m in sys.modules if m.startswith('neuropbr_')"
        " and not m.startswith('neuropbr_core') or m in ('torch', 'timm', 'jsonschema', 'numpy')"
        " or m.startswith('neuropbr_core.observers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
