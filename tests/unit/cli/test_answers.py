"""The program gives an answer again while all that it depends on is as it was."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neuropbr_core.cli import answers
from neuropbr_core.cli.answers import Question
from tests.unit.conftest import Declare

WORDS = ["recipe", "check", "sub/a b.yaml"]
RECIPE = "extends: neuropbr:quickstart\nname: first\n"
# What the first two packages are needed for is worked out by no answer that is given again.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from neuropbr_core.cli import answers, main
answers._SETTLED_NS = 10_000_000
try:
    main()
finally:
    print([name for name in ("torch", "importlib.metadata") if name in sys.modules])
"""
WORKED_OUT = "['torch', 'importlib.metadata']"
READ = "['importlib.metadata']"
AGAIN = "[]"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder; the working directory is another one, with a file `watched`."""
    home = tmp_path / "home"
    monkeypatch.setenv("NEUROPBR_DATA_HOME", str(home))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "watched").write_text("1")
    # Changes settle at once, so that tests need not wait for seconds.
    monkeypatch.setattr(answers, "_SETTLED_NS", 10_000_000)
    time.sleep(0.02)
    return home


def make_twins() -> None:
    """Files `first` and `second` of equal size and time, a link and a copy of the first."""
    for name in ("first", "second"):
        Path(name).write_text(name[0])
        os.utime(name, (1, 1))
    Path("link").symlink_to("first")
    shutil.copy2("first", "copy")
    time.sleep(0.02)


def swap(name: str) -> None:
    """Make the link or the copy one of the second file."""
    if name == "link":
        Path(name).unlink()
        Path(name).symlink_to("second")
    else:
        shutil.copy2("second", name)


class TestQuestion:
    def kept(self, *watched: Path | str) -> Question:
        Question(WORDS).keep("two\nlines", watched)
        return Question(WORDS)

    def test_is_answered_as_before(self, home: Path) -> None:
        assert Question(WORDS).answer() is None
        assert self.kept("watched", "missing", "zero\0byte").answer() == "two\nlines"
        assert [path.name for path in (home / "answers").iterdir()] == ["recipe check sub%2fa b.yaml.json"]
        assert Question(["recipe", "check", "sub/a", "b.yaml"]).answer() is None
        assert Question(["recipe", "check", "sub/b.yaml"]).answer() is None

    @pytest.mark.parametrize(
        "change",
        [
            lambda: Path("watched").write_text("12"),
            lambda: os.utime("watched", (1, 1)),
            lambda: Path("watched").unlink(),
            lambda: Path("missing").touch(),
            lambda: swap("link"),
            lambda: swap("copy"),
        ],
        ids=["size", "time", "gone", "new", "link", "copy"],
    )
    @pytest.mark.usefixtures("home")
    def test_is_open_again_when_a_file_changes(self, change: Callable[[], object]) -> None:
        make_twins()
        question = self.kept("watched", "missing", "link", "copy")
        assert question.answer() is not None
        change()
        assert question.answer() is None

    @pytest.mark.usefixtures("home")
    def test_stays_answered_when_something_is_written_into_a_folder(self) -> None:
        Path("runs").mkdir()
        question = self.kept("runs")
        Path("runs/a").mkdir()
        assert question.answer() is not None
        shutil.rmtree("runs")
        assert question.answer() is None

    @pytest.mark.usefixtures("home")
    def test_is_open_again_in_other_circumstances(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        site = tmp_path / "site"
        site.mkdir()
        monkeypatch.syspath_prepend(str(site))
        assert self.kept().answer() is not None
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(tmp_path)
            assert Question(WORDS).answer() is None
        with monkeypatch.context() as blocking:
            blocking.setenv("NEUROPBR_BLOCK_PLUGINS", "loss/l1")
            assert Question(WORDS).answer() is None
        assert Question(WORDS).answer() is not None
        metadata = site / "torch-9.dist-info" / "METADATA"
        metadata.parent.mkdir()
        assert Question(WORDS).answer() is None
        assert self.kept().answer() is not None
        metadata.write_text("Version: 9.1")
        assert Question(WORDS).answer() is None

    @pytest.mark.parametrize("change", ["content", "older", "installed"])
    @pytest.mark.usefixtures("home")
    def test_is_not_answered_from_what_changed_meanwhile(
        self, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        make_twins()
        question = Question(WORDS)
        if change == "content":
            Path("watched").write_text("2")
        elif change == "older":
            Path("second").replace("watched")
        else:
            (tmp_path / "torch-9.dist-info").mkdir()
        question.keep("of 1 or of 2", ["watched"])
        assert Question(WORDS).answer() is None

    @pytest.mark.usefixtures("home")
    def test_is_not_answered_from_what_changed_just_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(answers, "_SETTLED_NS", 2_000_000_000)
        assert self.kept("watched").answer() is None

    @pytest.mark.parametrize(
        "content", ["{", "[]", "{}", "null", '{"circumstances": {}}', "\udcff", "[" * 200_000], ids=range(7)
    )
    def test_is_open_where_its_answer_is_damaged(self, home: Path, content: str) -> None:
        question = self.kept("watched")
        file = home / "answers" / "recipe check sub%2fa b.yaml.json"
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
        assert question.answer() is None
        whole = self.kept("watched")
        document = json.loads(file.read_text())
        del document["answer"]
        file.write_text(json.dumps(document))
        assert whole.answer() is None

    def test_stays_open_where_nothing_can_be_written(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home.write_text("a file")
        assert self.kept("watched").answer() is None
        monkeypatch.setenv("NEUROPBR_DATA_HOME", str(home.parent / ("x" * 300)))
        assert self.kept("watched").answer() is None
        monkeypatch.delenv("NEUROPBR_DATA_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        assert self.kept("watched").answer() is None

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
    def test_is_kept_in_a_folder_of_its_user_alone(self, home: Path) -> None:
        before = os.umask(0)
        try:
            assert self.kept("watched").answer() is not None
        finally:
            os.umask(before)
        assert home.stat().st_mode & 0o777 == 0o700

    def test_no_words_and_many_words_have_no_answer(self, home: Path) -> None:
        for words in ([], ["x" * 121]):
            Question(words).keep("answer", ())
            assert Question(words).answer() is None
        assert not home.exists()

    def test_the_oldest_answers_make_room(self, home: Path) -> None:
        for number in range(70):
            Question([str(number)]).keep("answer", ())
            os.utime(home / "answers" / f"{number}.json", (number, number))
        assert Question(["69"]).answer() == "answer"
        assert Question(["0"]).answer() is None
        assert len(list((home / "answers").iterdir())) == 64


class TestProgram:
    """Standard output of the program, and in a last line which packages it loaded."""

    @pytest.fixture
    def ask(self, home: Path, tmp_path: Path) -> Callable[..., list[str]]:
        site = tmp_path / "site"
        site.mkdir()
        Path("a.yaml").write_text(RECIPE)
        assert not home.exists()

        def ask(*words: str, code: int = 0) -> list[str]:
            command = [sys.executable, "-c", PROGRAM, str(site), *words]
            # As users have it: bytecode is written beside the sources.
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            assert done.returncode == code, done.stderr
            return done.stdout.splitlines()

        return ask

    def test_a_sound_recipe_is_checked_once(self, ask: Callable[..., list[str]]) -> None:
        check = ("recipe", "check", "a.yaml")
        assert ask(*check) == ["recipe ok: a.yaml", WORKED_OUT]
        assert ask(*check) == ["recipe ok: a.yaml", AGAIN]
        Path("a.yaml").write_text(f"{RECIPE}trainig: {{}}\n")
        assert ask(*check, code=1) == [WORKED_OUT.replace("'torch', ", "")]
        assert ask(*check, code=1) == [READ]

    def test_plugins_are_listed_once(self, ask: Callable[..., list[str]], declare: Declare) -> None:
        *first, loaded = ask("list-plugins")
        assert loaded == READ
        assert ask("list-plugins") == [*first, AGAIN]
        # Into the folder that the program has on its path.
        declare("nbr-far", "neuropbr.losses", "far = nbr_far", '"""Far."""\nNEUROPBR_API = 1\n')
        *second, loaded = ask("list-plugins")
        assert loaded == READ
        new = [line.split() for line in set(second) - set(first) if "nbr-far" in line]
        assert new == [["loss", "far", "nbr-far", "1.0", "ready", "Far."]]

    def test_what_is_broken_is_looked_at_each_time(self, ask: Callable[..., list[str]], declare: Declare) -> None:
        declare("nbr-far", "neuropbr.losses", "far = nbr_far")
        for _ in range(2):
            *listing, loaded = ask("list-plugins", "--kind", "loss")
            assert loaded == READ
            assert any("broken" in line for line in listing)

    def test_loading_each_component_is_done_each_time(self, ask: Callable[..., list[str]]) -> None:
        for _ in range(2):
            assert ask("list-plugins", "--check", "--kind", "fusion")[-1] == READ
