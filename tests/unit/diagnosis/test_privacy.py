"""What a bug report does not show."""

import pytest

from neuropbr_core.diagnosis.privacy import anonymous


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/maria/src/acme/loss.py:3: no", "…/acme/loss.py:3: no"),
        ("in /home/maria.", "in ~."),
        ("file '/home/maria/x.py'", "file '~/x.py'"),
        ("/Users/maria/Secret Plans/x.py", "~/Secret Plans/x.py"),
        ("/data/projects/client/acme/loss.py", "…/acme/loss.py"),
        ("C:\\Users\\maria\\acme\\loss.py", "…/acme/loss.py"),
        ("/home/alice/x.py of /home/alice", "~/x.py of ~"),
        ("/home/alice/client/acme/x.py", "…/acme/x.py"),
        ("/mnt/home/alice/x.py", "…/mnt~/x.py"),
        ("D:/Users/alice/x.py and C:\\Users\\alice\\x.py", "~/x.py and ~\\x.py"),
        (r"'D:\\work\\client\\acme\\x.py'", "'…/acme/x.py'"),
        ("/a/b/c:/mnt/client/secret/y.py", "…/b/c:…/secret/y.py"),
        ("C:\\a\\b\\c;C:\\d\\e\\f", "…/b/c;…/e/f"),
        ("file:///mnt/client/secret/y.py", "file:…/secret/y.py"),
        ("file:///home/alice/y.py, file://server/mnt/client/y.py", "file:~/y.py, file:…/client/y.py"),
        ("https://bob:tok3n@host/a", "https://…@host/a"),
        ("git+https://bob:p@ss@example.org/a/b/c", "git+https://…@example.org/a/b/c"),
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
