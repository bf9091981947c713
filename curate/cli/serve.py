"""`curate serve`: the terminal UI in a browser on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from curate.base.record import CurateError, Exit


@click.command()
@click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
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
    from curate.cli._server import LOOPBACK, serve
    from curate.project.project import open_project

    if host not in LOOPBACK and not i_know:
        raise CurateError(
            "E973 cannot-serve",
            f"other machines can reach {host}, and there is no encryption",
            f"Keep to 127.0.0.1 and run `ssh -L {port}:127.0.0.1:{port} HOST` on the other machine, or add --i-know.",
        )
    open_project(root)
    options = [*(["--by", by] if by else []), *(["--allow-train"] if allow_train else [])]
    serve(["open", str(root), "--served", *options], host=host, port=port)
    return Exit.OK
