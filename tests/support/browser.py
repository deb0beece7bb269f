"""Headless Chromium for tests of pages, spoken to over two pipes: no driver, no port, no library.

Source: the Chrome DevTools Protocol; with `--remote-debugging-pipe`, Chromium reads commands from file descriptor 3 and
writes answers and events to 4, each as JSON with a zero byte at its end.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE = 120.0
"""Seconds to wait for an answer: software rendering on a busy machine is slow."""


def installed_browser() -> str | None:
    """Path of a browser of this machine; None without one."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Tab:
    """One page in the browser.

    Attributes:
        problems: Errors and warnings of the page's console, and its exceptions.
        requests: Addresses that the page asked for, but for its own and data that it holds itself.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, page: Path | str, *, width: int = 1280, height: int = 900, mobile: bool = False) -> None:
        """Open a page, a file or an address, and wait until it is loaded."""
        self._url = page.resolve().as_uri() if isinstance(page, Path) else page
        self.resize(width, height, mobile=mobile)
        self._events.clear()
        self.call("Page.navigate", url=self._url)
        deadline = time.monotonic() + _PATIENCE
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            assert time.monotonic() < deadline, "the page was not loaded in time"
            self._receive()

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Give the page another size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def colour_scheme(self, name: str) -> None:
        """Choose `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + _PATIENCE
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never came true: {expression}"
            time.sleep(0.05)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key and let it go."""
        # Enter presses a button by the character that it types.
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 if shift else 0, **text)

    def drop(self, files: Sequence[Path], x: int, y: int) -> None:
        """Drop files at a place of the window."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def picture(self, *, whole: bool = False) -> bytes:
        """What the page shows, as PNG; the whole page or what fits into its window."""
        result = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(result["data"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            readable, _, _ = select.select([self._answers], [], [], _PATIENCE)
            assert readable, "the browser does not answer"
            part = os.read(self._answers, 1 << 16)
            assert part, "the browser ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self._note(message)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        details = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.problems.append(str(details["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning", "assert"):
            self.problems.append(str(details["args"]))
        elif event["method"] == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.problems.append(str(details["entry"]))
        elif event["method"] == "Network.requestWillBeSent":
            url = details["request"]["url"]
            if url != self._url and not url.startswith(("data:", "blob:")):
                self.requests.append(url)


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """Context with a tab of a browser of its own.

    Args:
        profile: An empty folder for its files.
    """
    path = installed_browser()
    assert path is not None
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    # Numbers above those that Chromium wants, so that the shell does not overwrite one while it places the other.
    inherited = (fcntl.fcntl(read_commands, fcntl.F_DUPFD, 10), fcntl.fcntl(write_answers, fcntl.F_DUPFD, 10))
    arguments = [
        path,
        "--headless=new",
        "--remote-debugging-pipe",
        "--no-sandbox",  # tests in containers run as root
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--force-color-profile=srgb",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(
        ["bash", "-c", 'exec "$@" 3<&{} 4>&{}'.format(*inherited), "bash", *arguments],
        pass_fds=inherited,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for descriptor in (read_commands, write_answers, *inherited):
        os.close(descriptor)
    try:
        yield Tab(commands, answers)
    finally:
        process.terminate()
        process.wait(30)
        os.close(commands)
        os.close(answers)
