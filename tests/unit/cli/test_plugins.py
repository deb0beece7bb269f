"""`list-plugins` and `plugin show`."""

import enum
import json
import sys
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Annotated, Any, ClassVar, Literal

import pytest
from click.testing import CliRunner, Result
from msgspec import Meta

from neuropbr_core.cli import root
from neuropbr_core.cli.option_rows import OptionRow, option_rows
from neuropbr_core.cli.output import aligned
from neuropbr_core.registry import set_default_registry

MALFORMED = (
    'NEUROPBR_REQUIRES must be a dictionary from modules to what pip installs, such as {"onnx": "neuropbr[onnx]"}, '
    "but is "
)
ENCODERS = "neuropbr.encoders"
EXPORTERS = "neuropbr.exporters"

ENCODER = '''
    """A tiny encoder.

    Width doubles at each level.
    """
    from dataclasses import dataclass
    from typing import Annotated, Literal
    from neuropbr_core.plugin import Meta, hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        width: Annotated[int, Meta(ge=1, le=64, description="Channels of the first level.")] = 4
        norm: Literal["batch", "none"] = "batch"

    @hookimpl
    def encoder_options():
        return Options

    @hookimpl
    def create_encoder(options, in_channels):
        raise AssertionError
'''

EXPORTER = '''
    """A tiny exporter."""
    from dataclasses import dataclass
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        level{default}

    @hookimpl
    def exporter_options():
        return Options

    @hookimpl
    def create_exporter(options):
        from neuropbr_core.contracts import Availability, Exporter
        from neuropbr_core.errors import ExportError
        class Tiny(Exporter):
            def requirements(self):
                {requirements}
        {create}
'''


def exporter(requirements: str, create: str = "return Tiny()", default: str = ": int = 0") -> str:
    return dedent(EXPORTER).format(requirements=requirements, create=create, default=default)


def call(*args: str) -> Result:
    """Run a command as a fresh process would: with a registry that scans anew."""
    set_default_registry(None)
    return CliRunner().invoke(root, args)


def listed(*args: str) -> dict[str, dict[str, Any]]:
    """Rows of the JSON listing by `distribution:name`."""
    rows = json.loads(call("list-plugins", "--json", *args).output)
    return {f"{row['distribution']}:{row['name']}": row for row in rows}


class TestListing:
    def test_table(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER, version="2.5")
        done = call("list-plugins", "--kind", "encoder")
        header, *rows = done.output.splitlines()
        assert header.split() == ["KIND", "NAME", "DISTRIBUTION", "STATUS", "SUMMARY"]
        (row,) = [row for row in rows if "tiny" in row]
        assert row.split() == ["encoder", "tiny", "acme", "2.5", "ready", "A", "tiny", "encoder."]
        assert row.index("A tiny") == header.index("SUMMARY")
        assert all(row.startswith("encoder ") for row in rows)
        assert "nbr_tiny" not in sys.modules

    def test_json(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER)
        assert listed()["acme:tiny"] == {
            "kind": "encoder",
            "name": "tiny",
            "distribution": "acme",
            "version": "1.0",
            "status": "ready",
            "reason": None,
            "summary": "A tiny encoder.",
        }

    def test_of_a_kind_without_components(self, monkeypatch):
        monkeypatch.setattr(sys, "path", [])
        assert call("list-plugins").output == "No components are installed.\n"

    def test_collision_and_block(self, declare, monkeypatch):
        declare("acme", ENCODERS, "tiny = nbr_acme", ENCODER)
        declare("beta", ENCODERS, "tiny = nbr_beta", ENCODER, version="2.0")
        rows = listed()
        assert rows["acme:tiny"]["status"] == "collision"
        assert rows["acme:tiny"]["reason"] == "beta 2.0 has it too; write acme:tiny in recipes, or block one"
        assert "\nencoder/beta:tiny collision: acme 1.0 has it too" in call("list-plugins").output
        assert "model.encoder.use: beta:tiny\n" in call("plugin", "show", "encoder/beta:tiny").output
        monkeypatch.setenv("NEUROPBR_BLOCK_PLUGINS", "acme:tiny")
        assert "model.encoder.use: tiny\n" in call("plugin", "show", "encoder/beta:tiny").output
        rows = listed()
        assert rows["acme:tiny"]["status"] == "blocked"
        assert rows["acme:tiny"]["reason"] == "'acme:tiny' in NEUROPBR_BLOCK_PLUGINS"
        assert rows["beta:tiny"]["status"] == "ready"

    def test_check_loads_each_and_fails_for_a_broken_one(self, declare):
        declare("acme", ENCODERS, "good = nbr_good", ENCODER)
        declare("beta", ENCODERS, "bad = nbr_bad", "raise OSError('no disk')")
        done = call("list-plugins", "--check", "--kind", "encoder")
        assert done.exit_code == 1
        assert done.output.endswith("\nencoder/beta:bad broken: its module does not import: OSError: no disk\n")
        rows = listed("--check", "--kind", "encoder")
        assert (rows["acme:good"]["status"], rows["beta:bad"]["status"]) == ("ready", "broken")

    @pytest.mark.parametrize(
        ("source", "status", "reason"),
        [
            (
                'NEUROPBR_REQUIRES = {"nbr_absent": "acme[fast]"}\n',
                "needs acme[fast]",
                "nbr_absent is not installed; pip install 'acme[fast]'",
            ),
            (
                'NEUROPBR_REQUIRES: dict[str, str] = {"no.such": "b", "json.tool": "x", "a1": "b", "a2": "c"}\n',
                "needs b c",
                "no.such and a1 are not installed; pip install 'b'; a2 is not installed; pip install 'c'",
            ),
            ('NEUROPBR_REQUIRES = {"json": "acme[fast]"}\n', "ready", None),
            (
                "NEUROPBR_REQUIRES = ['json']\n",
                "broken",
                f"{MALFORMED}['json']",
            ),
            ("NEUROPBR_REQUIRES = 'json'\n", "broken", f"{MALFORMED}'json'"),
            ("NEUROPBR_REQUIRES = {'json': 1}\n", "broken", f"{MALFORMED}{{'json': 1}}"),
            ("NEUROPBR_REQUIRES = {['json']: 'x'}\n", "ready", None),  # no literal; its import will tell
            (
                "NEUROPBR_API = 99\n",
                "broken",
                "it is written for plugin API 99, but this neuropbr supports 1; upgrade whichever of the two is older",
            ),
        ],
    )
    def test_the_status_is_read_from_the_source(self, declare, source, status, reason):
        declare("acme", ENCODERS, "tiny = nbr_tiny", '"""A tiny encoder."""\n' + source + dedent(ENCODER))
        row = listed("--kind", "encoder")["acme:tiny"]
        assert (row["status"], row["reason"]) == (status, reason)
        assert "nbr_tiny" not in sys.modules

    def test_a_listing_tells_what_is_broken_and_does_not_fail(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", "def create_encoder(:")
        declare("beta", ENCODERS, "lost = nbr_lost.deep")
        done = call("list-plugins", "--kind", "encoder")
        assert done.exit_code == 0
        assert "acme:tiny broken: its module does not import: SyntaxError: " in done.output
        assert "beta:lost broken: its module nbr_lost.deep is not there" in done.output

    def test_check_succeeds_when_nothing_is_broken(self, declare, monkeypatch):
        site = declare("acme", ENCODERS, "good = nbr_good", ENCODER)
        monkeypatch.setattr(sys, "path", [str(site)])
        done = call("list-plugins", "--check")
        assert (done.exit_code, done.output.count("\n")) == (0, 2)

    def test_check_loads_no_blocked_one(self, declare):
        declare("beta", ENCODERS, "bad = nbr_bad", "raise OSError('no disk')")
        rows = json.loads(call("--block", "bad", "list-plugins", "--json", "--check", "--kind", "encoder").output)
        assert [row["status"] for row in rows if row["name"] == "bad"] == ["blocked"]

    def test_check_tells_a_broken_one_among_colliding(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_acme", ENCODER)
        declare("beta", ENCODERS, "tiny = nbr_beta", "raise OSError('no disk')")
        rows = listed("--check", "--kind", "encoder")
        assert (rows["acme:tiny"]["status"], rows["beta:tiny"]["status"]) == ("collision", "broken")

    @pytest.mark.parametrize(
        ("source", "status", "reason"),
        [
            (exporter("return Availability(True)"), "ready", None),
            (exporter("return Availability(False, 'pip install tiny')"), "unavailable", "pip install tiny"),
            (exporter("raise ExportError('only on the moon')"), "unavailable", "only on the moon"),
            (exporter("return Availability(True)", default=": int"), "ready", None),
            (exporter("raise OSError('gone')"), "broken", "requirements raised OSError: gone"),
            (exporter("pass", create="raise OSError('gone')"), "broken", "create_exporter raised OSError: gone"),
        ],
    )
    def test_check_asks_an_exporter_for_its_requirements(self, declare, source, status, reason):
        declare("acme", EXPORTERS, "tiny = nbr_tiny", source)
        row = listed("--check", "--kind", "exporter")["acme:tiny"]
        assert (row["status"], row["reason"]) == (status, reason)


def test_a_misspelt_group_is_named(declare):
    declare("acme-typo", "neuropbr.loss", "tiny = nbr_tiny", '"""A loss."""')
    declare("acme-other", "neuropbr_training.hooks", "tiny = nbr_other")
    declare("acme-far", "setuptools.finalize", "tiny = nbr_far")
    message = "acme-typo declares the group `neuropbr.loss`, which does not exist; did you mean `neuropbr.losses`?"
    done = call("list-plugins", "--json")
    assert message in done.stderr
    assert "acme-other" not in done.stderr
    assert "acme-far" not in done.stderr
    json.loads(done.stdout)
    assert message in json.loads(call("doctor", "--json").stdout)["notes"]
    assert f"no installed distribution offers loss/tiny. {message} Known: " in str(
        call("plugin", "show", "loss/tiny").exception
    )
    assert f"nothing has that name. {message}" in str(call("plugin", "check", "acme-typo").exception)


class TestShow:
    def test_text(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER)
        assert call("plugin", "show", "encoder/tiny").output == dedent("""\
            encoder/tiny
              distribution  acme 1.0
              entry point   tiny = nbr_tiny (group neuropbr.encoders)
              in recipes    model.encoder.use: tiny

            A tiny encoder.

            Width doubles at each level.

            Options
              NAME   TYPE         RANGE         DEFAULT  DESCRIPTION
              width  an integer   from 1 to 64  4        Channels of the first level.
              norm   batch, none  -             batch    -
            """)

    def test_entry_keys_of_a_loss(self):
        done = call("plugin", "show", "loss/neuropbr:l1")
        assert "in recipes    losses.<instance>.use: l1 (or losses.l1)" in done.output
        keys = done.output.partition("Keys of every loss entry\n")[2]
        assert [line.split()[0] for line in keys.splitlines()] == ["NAME", "weight", "start_epoch", "ramp_epochs"]

    def test_json(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER)
        shown = json.loads(call("plugin", "show", "encoder/acme:tiny", "--json").output)
        assert {key: shown[key] for key in ("kind", "name", "distribution", "version", "group", "entry_point")} == {
            "kind": "encoder",
            "name": "tiny",
            "distribution": "acme",
            "version": "1.0",
            "group": ENCODERS,
            "entry_point": "nbr_tiny",
        }
        assert shown["broken"] is None
        assert shown["entry_keys"] == []
        assert shown["options"][0] == {
            "name": "width",
            "type": "an integer",
            "range": "from 1 to 64",
            "required": False,
            "default": 4,
            "description": "Channels of the first level.",
        }

    def test_a_broken_one_shows_what_is_known(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", '"""A tiny encoder."""\nraise OSError("no disk")')
        done = call("plugin", "show", "encoder/tiny")
        assert done.exit_code == 1
        assert done.output.endswith("A tiny encoder.\n\nBroken: its module does not import: OSError: no disk\n")

    def test_the_kind_may_be_left_out(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_tiny", ENCODER)
        assert call("plugin", "show", "tiny").output == call("plugin", "show", "encoder/tiny").output

    def test_a_name_of_two_kinds_or_of_none(self, declare):
        declare("acme", ENCODERS, "tiny = nbr_a")
        declare("beta", EXPORTERS, "tiny = nbr_b")
        two = str(call("plugin", "show", "tiny").exception)
        assert two == (
            "tiny: there are encoder/tiny and exporter/tiny. Write KIND/NAME; `neuropbr list-plugins` shows all"
        )
        assert str(call("plugin", "show", "zzz").exception).startswith("zzz: nothing has that name. Write KIND/")


@dataclass(frozen=True)
class Inner:
    depth: Annotated[int, Meta(ge=1)] = 2
    rate: Annotated[float, Meta(gt=0, lt=1, description="How fast.")] = 0.5


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Tree:
    branches: "tuple[Tree, ...]" = ()
    leaf: str = ""


@dataclass(frozen=True)
class Everything:
    path: str
    mode: Literal["b", "a", 3]
    flag: bool = False
    size: Annotated[int, Meta(ge=8, multiple_of=8)] | None = None
    pair: tuple[float, Annotated[float, Meta(le=1)]] = (0.0, 1.0)
    names: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(max_length=4)] = ()
    table: dict[str, int] = field(default_factory=lambda: {"a": 1})
    inner: Inner = field(default_factory=lambda: Inner(depth=7))
    maybe: Inner | None = None
    several: tuple[Inner, ...] = ()
    anything: Any = None
    color: Color = Color.RED


class TestOptionRows:
    rows: ClassVar = {row.name: row for row in option_rows(Everything)}

    def test_required_ones(self):
        assert self.rows["path"] == OptionRow("path", "text", "", True, None, "")
        assert self.rows["mode"].required

    @pytest.mark.parametrize(
        ("name", "type_", "range_", "default"),
        [
            ("flag", "true or false", "", False),
            ("size", "an integer or null", "at least 8 and a multiple of 8", None),
            ("pair", "a list of 2 values, each a number", "at most 1", (0.0, 1.0)),
            ("names", "a list of values, each text", "at most 4 values, at least 1 characters", ()),
            ("table", "a mapping, each value an integer", "", {"a": 1}),
            ("inner", "a mapping", "", {"depth": 7, "rate": 0.5}),
            ("inner.depth", "an integer", "at least 1", 7),
            ("maybe", "a mapping or null", "", None),
            ("maybe.depth", "an integer", "at least 1", 2),
            ("several", "a list of values, each a mapping", "", ()),
            ("several[].rate", "a number", "above 0 and below 1", 0.5),
            ("anything", "any value", "", None),
            ("color", "blue, red", "", "red"),
        ],
    )
    def test_types_ranges_and_defaults(self, name, type_, range_, default):
        row = self.rows[name]
        assert (row.type, row.range, row.default, row.required) == (type_, range_, default, False)

    def test_alternatives_are_listed(self):
        assert sorted(self.rows["mode"].type.replace(" or ", ", ").split(", ")) == ["3", "a", "b"]

    def test_descriptions_come_along(self):
        assert self.rows["inner.rate"].description == "How fast."

    def test_a_dataclass_inside_itself_ends(self):
        assert [row.name for row in option_rows(Tree)] == ["branches", "leaf"]


def test_aligned_columns():
    assert aligned([("a", "bbb", "c"), ("aa", "b", "")], indent=" ") == " a   bbb  c\n aa  b"
