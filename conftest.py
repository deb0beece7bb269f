"""Settings of all tests: nothing that they do may touch the user's own files."""

import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the tests in place of the user's data directory; commands that they start inherit it."""
    folder = tmp_path_factory.mktemp("data-home")
    os.environ["NEUROPBR_DATA_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """Shells start background jobs with Ctrl-C ignored, which commands that tests interrupt would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
