"""The terminal UI in a browser on this machine: textual-serve behind a guard, because it has none of its own.

textual-serve runs a program for whoever opens its socket, a page of another site included. The guard lets nobody in who
does not come to this very address, from this very page, with the token of the link that was printed in the terminal.
"""

from __future__ import annotations

import re
import secrets
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate.base import console
from curate.base.record import CurateError, missing_extra

if TYPE_CHECKING:
    from aiohttp import web

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FOREIGN = re.compile(r"""<link[^>]*href=["']https://[^>]*>""")
# Nothing is loaded from elsewhere. Styles and scripts stand in textual-serve's own page.
_POLICY = (
    "default-src 'self' 'unsafe-inline' data: ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def serve(arguments: Sequence[str], *, host: str, port: int, token: str = "") -> None:
    """Serve ``curate`` called with ``arguments`` until SIGINT or SIGTERM; the link with the token goes to stdout.

    Raises:
        CurateError: E940 without the extra `web`; E946 when the port is taken.
    """
    try:
        import textual_serve.server  # noqa: F401  what `_guarded` builds on
    except ImportError as error:
        raise missing_extra("showing the terminal UI in a browser", "web") from error
    command = shlex.join([sys.executable, "-m", "curate", *arguments])
    server = guarded(command, host=host, port=port, token=token or secrets.token_urlsafe(24))
    console.data(f"{server.public_url}/?token={server.token}")
    console.talk("Open the link in a browser on this machine; Ctrl-C ends it. Whoever has the link can act as you.")
    try:
        server.serve()
    except OSError as error:
        raise CurateError(
            "E973 cannot-serve", f"{host}:{port}: {error.strerror or error}", "Choose another with --port."
        ) from error


def _cookie_of(port: int) -> str:
    """Return a name for the cookie of one server: a browser sends cookies to every port of their host."""
    return f"{port}_curate_token"


def guarded(command: str, *, host: str, port: int, token: str) -> Any:
    """Return textual-serve's server for ``command`` with the guard before every request."""
    from aiohttp import web
    from textual_serve.server import Server

    class Guarded(Server):
        """A server that asks for the address, the origin and the token."""

        def __init__(self) -> None:
            address = f"[{host}]" if ":" in host else host
            super().__init__(command, host=host, port=port, title="curate", public_url=f"http://{address}:{port}")
            self.token = token
            names = {"127.0.0.1", "localhost", "[::1]", address}
            self.hosts = {f"{name}:{port}" for name in names}
            self.origins = {f"http://{name}" for name in self.hosts}

        def initialize_logging(self) -> None:
            """Log nothing: it would show frames of the app, which hold data."""

        async def on_startup(self, app: web.Application) -> None:
            """Print no logo."""

        async def _make_app(self) -> web.Application:
            app: web.Application = await super()._make_app()
            app.middlewares.append(self._guard())
            return app

        def _guard(self) -> Any:
            @web.middleware
            async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
                # A name that somebody else has pointed at this machine is not this machine (DNS rebinding).
                if request.host not in self.hosts:
                    raise web.HTTPForbidden(text="this address is not served here\n")
                origin = request.headers.get("Origin")
                if origin is not None and origin not in self.origins:
                    raise web.HTTPForbidden(text="another site may not call this one\n")
                if request.path == "/" and _is_same(request.query.get("token", ""), self.token):
                    # The token leaves the address bar and the history as soon as it has been used.
                    redirect = web.HTTPFound("/")
                    redirect.set_cookie(_cookie_of(port), self.token, httponly=True, samesite="Strict", path="/")
                    raise redirect
                if not _is_same(request.cookies.get(_cookie_of(port), ""), self.token):
                    raise web.HTTPUnauthorized(text="open the link with the token that `curate serve` has printed\n")
                # A WebSocket has no origin only where no browser opened it; such a caller has to know the token too.
                response: web.StreamResponse = await handler(request)
                if isinstance(response, web.Response) and request.path == "/":
                    # The page asks a font service for a font; the browser's own will do, and nobody is told.
                    response.text = _FOREIGN.sub("", response.text or "")
                if not response.prepared:
                    response.headers.update({
                        "Content-Security-Policy": _POLICY,
                        "X-Content-Type-Options": "nosniff",
                        "Referrer-Policy": "no-referrer",
                        "Cache-Control": "no-store",
                    })  # fmt: skip
                return response

            return guard

    return Guarded()


def _is_same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())
