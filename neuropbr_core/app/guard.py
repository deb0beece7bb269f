"""Refuses requests that come from other pages or are meant for other hosts, and gives every answer its headers.

A page of a stranger that is open in the same browser can send requests to this machine, and a stranger's domain can
point to it (DNS rebinding). Requests of the first kind name the stranger's page as their origin, requests of the second
kind name the stranger's domain as their host.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The address of a job is its key, so that other pages must not learn it from links.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HARMLESS = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that refuses requests from other pages and for other hosts.

    Args:
        app: What answers all other requests.
        port: The port that the app is reached at.
        network: Whether other machines may use the app.
    """

    def __init__(self, app: ASGIApp, port: int, *, network: bool = False) -> None:
        self._app = app
        self._port = port
        self._network = network

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(Headers(scope=scope), scope["method"])
        if problem:
            await JSONResponse({"error": problem}, 403)(scope, receive, _with_headers(send))
            return
        await self._app(scope, receive, _with_headers(send))

    def _problem(self, headers: Headers, method: str) -> str:
        host = headers.get("host", "")
        if not self._is_own(host):
            return "This address is none of the app's; open the one that neuropbr app printed."
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return "The request comes from another page."
        # Newer browsers tell it of every request. Following a link from elsewhere is harmless.
        if method not in _HARMLESS and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "The request comes from another page."
        return ""

    def _is_own(self, host: str) -> bool:
        """Whether a `Host` header names this app."""
        try:
            place = urlsplit(f"//{host}")
            name = place.hostname
            port = place.port or 80
        except ValueError:
            return False
        if name is None or port != self._port or "@" in host:
            return False
        if is_loopback(name):
            return True
        if not self._network:
            return False
        # A stranger's domain may point to this machine, but an address is nobody's domain.
        try:
            ipaddress.ip_address(name)
        except ValueError:
            own = socket.gethostname().lower()
            return name in (own, f"{own}.local")
        return True


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return send_with_headers
