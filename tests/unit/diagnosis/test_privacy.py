"""What a bug report does not show."""

import pytest

from neuropbr_core.diagnosis.privacy import anonymous


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/maria/src/acme/loss.py:3: no", "…/acme/loss.py:3: no"),
        ("in /home/maria.", "in ~."),
        ("file '/home/maria/x.py'", "file '~/x.py'"),
        ("/Users/maria/Secret Plans/x.py", "…/…/Secret Plans/x.py"),
        ("/data/projects/client/acme/loss.py", "…/acme/loss.py"),
        ("C:\\Users\\maria\\acme\\loss.py", "…/acme/loss.py"),
        ("Maria's laptop is mars-2", "…'s laptop is …"),
        ("marian and mars-22", "marian and mars-22"),
        (
            "pip install 'neuropbr[onnx]' and/or https://example.org/a/b/c",
            "pip install 'neuropbr[onnx]' and/or https://example.org/a/b/c",
        ),
        ("loss/acme:wavelet of acme 1.0", "loss/acme:wavelet of acme 1.0"),
    ],
)
def test_names_and_folders_are_taken_out(text: str, expected: str) -> None:
    assert anonymous(text, ["maria", "mars-2"], ["/home/maria"]) == expected


def test_names_that_are_ordinary_words_stay() -> None:
    assert anonymous("the root of data.root, ab", ["root", "ab", ""], ["/", ""]) == "the root of data.root, ab"


def test_the_defaults_are_this_user_and_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/maria")
    monkeypatch.setenv("USER", "maria")
    monkeypatch.setattr("socket.gethostname", lambda: "mars-2.local")
    assert anonymous("/home/maria/a of maria on mars-2") == "~/a of … on …"
