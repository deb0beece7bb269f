"""Options that a command would not use are refused, instead of being taken and ignored."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from neuropbr_core.cli import root

MISTAKES = (
    (("infer", "photos", "--checkpoint", "latest"), "--checkpoint belongs to --run DIR"),
    (("batch", "photos", "--checkpoint", "latest"), "--checkpoint belongs to --run DIR"),
    (("infer", "--run", "runs/x", "--cameras", "cameras.json"), "--cameras belongs to the photos of a folder"),
    (("export", "--model", "flash-3", "--checkpoint", "latest", "--to", "onnx"), "--checkpoint belongs to --run DIR"),
    (("data", "pack", "dataset", "--set", "data.views=5"), "--set changes a recipe; name it with --recipe"),
    (("data", "import", "sets", "--output", "out", "--limit", "5"), "--limit belongs to --matsynth"),
    (
        ("data", "import", "--matsynth", "--output", "out", "--crop", "--workers", "2"),
        "--crop, --workers: for files alone",
    ),
    (("sweep", "neuropbr:quickstart", "--seeds", "1,2", "--dry-run", "--json"), "--json prints the table"),
    (("run", "--resume"), "Missing argument 'RECIPE'"),
)


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: " ".join(value)[:50])
def test_what_would_be_ignored_is_refused(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.png").write_bytes(b"")
    result = CliRunner().invoke(root, list(words))
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_the_bench_replaces_no_file_of_others(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine")
    result = CliRunner().invoke(root, ["bench", "--output", str(recipe)])
    assert result.exit_code == 1
    assert "mine.yaml: there already, and not as neuropbr wrote it" in str(result.exception)
    assert recipe.read_text() == "name: mine"
