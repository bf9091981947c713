"""`curate serve`: the terminal UI in a browser on this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.base import console
from curate.base.record import CurateError, Exit, missing_extra
from curate.base.resources import python_command
from curate.cli._options import outside, workspace_argument

if TYPE_CHECKING:
    from aiohttp import web

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FOREIGN = re.compile(r"""<link[^>]*href=["']https://[^>]*>""")
# Keys go to the terminal as soon as it is there; textual-serve's own page waits for a click.
_HEAD = """<title>{title}</title><script>
  const waiting = setInterval(() => {{
    const field = document.querySelector(".xterm-helper-textarea");
    if (field && document.body.classList.contains("-first-byte")) {{ field.focus(); clearInterval(waiting); }}
  }}, 100);
</script></head>"""
# Nothing is loaded from elsewhere. Styles and scripts stand in textual-serve's own page.
_POLICY = (
    "default-src 'self' 'unsafe-inline' data: ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@outside(reason="It shows this very app in a browser: leave it first.")
@click.command()
@workspace_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8642, show_default=True)
@click.option("--by", default="", metavar="NAME", help="Who decides; by default as in the terminal.")
@click.option("--allow-train", is_flag=True, help="Let the page start training runs.")
@click.option("--i-know", is_flag=True, help="Listen on an address that other machines can reach. There is no TLS.")
def command(root: Path, host: str, port: int, by: str, allow_train: bool, i_know: bool) -> int:
    """Show the workspace DIR in a browser on this machine: the same screens, one user, no other server.

    The printed link holds a token; without it, from another site or by another name nobody gets in. Through the
    browser no editor and no other program is started, and no training unless --allow-train is given. From another
    machine use an SSH tunnel, for example `ssh -L 8642:127.0.0.1:8642 HOST`, rather than --host.

    Example: curate serve my-data --port 8642
    """
    from curate.project.project import open_project

    # Whoever reaches the page decides as this annotator, and the token crosses the net in clear text.
    if host not in LOOPBACK and not i_know:
        raise CurateError(
            "E973 cannot-serve",
            f"other machines can reach {host}, and there is no encryption",
            f"Keep to 127.0.0.1 and run `ssh -L {port}:127.0.0.1:{port} HOST` on the other machine, or add --i-know.",
        )
    # A workspace that cannot be opened is told here, not in a browser that shows nothing.
    open_project(root)
    options = [*(["--by", by] if by else []), *(["--allow-train"] if allow_train else [])]
    title = f"curate: {console.one_line(root.resolve().name, 60)}"
    serve(["open", str(root), "--served", *options], host=host, port=port, title=title)
    return Exit.OK


def serve(arguments: Sequence[str], *, host: str, port: int, token: str = "", title: str = "curate") -> None:
    """Serve ``curate`` called with ``arguments`` until SIGINT or SIGTERM; the link with the token goes to stdout.

    ``title`` is what the browser calls the page.
    """
    import secrets
    import shlex

    try:
        import textual_serve.server  # noqa: F401  what `_guarded` builds on
    except ImportError as error:
        raise missing_extra("showing the terminal UI in a browser", "web") from error
    command = shlex.join(python_command("-m", "curate", *arguments))
    server = guarded(command, host=host, port=port, token=token or secrets.token_urlsafe(24), title=title)
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


def guarded(command: str, *, host: str, port: int, token: str, title: str = "curate") -> Any:
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
                # A name that others have pointed at this machine is not this machine (DNS rebinding).
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
                    # The page asks a font service for a font; the browser's own will do, and nobody learns of it.
                    head = _HEAD.format(title=escape(title))
                    response.text = _FOREIGN.sub("", response.text or "").replace("</head>", head, 1)
                if not response.prepared:
                    response.headers.update(_HEADERS)
                return response

            return guard

    return Guarded()


def _is_same(given: str, token: str) -> bool:
    import secrets

    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())
