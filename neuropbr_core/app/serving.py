"""The port, the temporary folder, and the end."""

import errno
import os
import re
import shutil
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn

from neuropbr_core.app.limits import Limits
from neuropbr_core.app.making import offers
from neuropbr_core.app.site import Site
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.files import is_abandoned, remove
from neuropbr_core.inference.effort import Effort
from neuropbr_core.inference.predict import ExportedGenerator, LoadedGenerator
from neuropbr_core.reporting import reporter

USUAL_PORT = 7272
_PORTS = 20
"""Ports that are tried, from the usual one on."""
_PREFIX = "neuropbr-app-"
_FOLDER = re.compile(rf"{_PREFIX}(.+)-(\d+)-\w+")
"""Name of an app's folder: its host and its process, by which a later app knows whether it is abandoned."""
_PATIENCE = 5
"""Seconds at the end in which running requests may finish."""


def open_port(host: str, port: int | None) -> socket.socket:
    """Open the app's port.

    Args:
        host: The address to listen at.
        port: The port; None for the usual one or, where it is taken, one of the next; 0 for any free one.

    Raises:
        NeuroPBRError: The port is taken, or the address is none of this machine's.
    """
    wanted = [port]
    if port is None:
        wanted = list(range(USUAL_PORT, USUAL_PORT + _PORTS))
    taken = None
    for number in wanted:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise NeuroPBRError(f"--host {host}: is no address of this machine ({error.strerror})") from error
        opened = socket.socket(family, socket.SOCK_STREAM)
        # A port of an app that has just ended can be used at once.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen()
        except OSError as error:
            opened.close()
            if error.errno == errno.EADDRINUSE:
                taken = error
                continue
            reason = (error.strerror or str(error)).lower()
            raise NeuroPBRError(
                f"port {number} of {host} cannot be opened: {reason}; choose another --port or --host"
            ) from error
        return opened
    if port is None:
        raise NeuroPBRError(
            f"ports {USUAL_PORT} to {USUAL_PORT + _PORTS - 1} are taken; end other programs, or choose another --port"
        ) from taken
    raise NeuroPBRError(
        f"port {port} is taken, perhaps by another neuropbr app; leave --port out, or choose another one"
    ) from taken


def serve(
    model: LoadedGenerator | ExportedGenerator,
    effort: Effort,
    opened: socket.socket,
    *,
    limits: Limits,
    network: bool = False,
    opens_browser: bool = False,
    tell: Callable[[str], None],
) -> None:
    """Serve the app until Ctrl-C or another signal ends it; then all its files are removed.

    Args:
        model: The model that all jobs use.
        effort: How maps are predicted.
        opened: What `open_port` returned.
        limits: How much is accepted.
        network: Whether other machines may use the app.
        opens_browser: Whether a browser is opened.
        tell: Receives the app's address.
    """
    remove_abandoned()
    host, port = opened.getsockname()[:2]
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-"))
    try:
        site = Site(model, effort, folder, offers(), port=port, limits=limits, network=network)
        shown = host
        if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not opened
            shown = socket.gethostname()  # that of all network cards is no address of any
        elif ":" in host:
            shown = f"[{host}]"
        address = f"http://{shown}:{port}/"
        tell(address)
        if opens_browser:
            # Aside, because a browser in the terminal would keep this call. Until the server runs, the port's queue
            # holds the browser's request.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        config = uvicorn.Config(
            site.application,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_PATIENCE,
            lifespan="on",
        )
        # Ctrl-C is the usual end, and no fault.
        with suppress(KeyboardInterrupt):
            _Server(config, site).run(sockets=[opened])
    finally:
        remove(folder)


def remove_abandoned() -> None:
    """Remove the folders of apps that were killed before they could do it themselves."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        match = _FOLDER.fullmatch(left.name)
        if match is None or left.is_symlink() or not left.is_dir():
            continue
        # Another user's folder cannot be removed.
        with suppress(OSError):
            if is_abandoned(left, match[1], int(match[2])):
                shutil.rmtree(left)
                reporter().line(f"removed {left}, which an app that was killed had left")


class _Server(uvicorn.Server):
    """A server whose site knows of the end at once: open streams would otherwise keep it from ending."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Receive a signal."""
        self._site.end()
        super().handle_exit(sig, frame)
