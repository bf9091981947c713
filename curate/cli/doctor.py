"""`curate doctor`: what this machine and this workspace have, and what stands in the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit

if TYPE_CHECKING:
    from curate.cli._installation import Sign


@click.command("doctor")
@click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--json", "is_json", is_flag=True, help="Print JSON, for a bug report.")
def command(root: Path, is_json: bool) -> int:
    """Look at the installation, the terminal, git, the disk, the trainer and the workspace, if DIR is one.

    Exits 0 when nothing stands in the way, 3 when something does.

    Example: curate doctor my-data --json
    """
    import json
    from dataclasses import asdict

    from curate.cli._installation import examine

    signs = list(examine(root))
    if is_json:
        console.data(json.dumps([asdict(sign) for sign in signs], indent=2))
    else:
        for sign in signs:
            for line in _lines(sign):
                console.data(line)
    return Exit.MISSING if any(sign.state == "problem" for sign in signs) else Exit.OK


def _lines(sign: Sign) -> Iterator[str]:
    """Yield a sign in lines that fit the terminal."""
    from textwrap import wrap

    mark = {"ok": "ok", "note": "note", "problem": "PROBLEM"}[sign.state]
    head = f"{mark:<7} {sign.topic:<10} "
    width = max(40, shutil.get_terminal_size().columns - len(head))
    parts = [*wrap(console.one_line(sign.found, 600), width), *wrap(console.one_line(sign.advice, 600), width)]
    for number, part in enumerate(parts):
        yield (head if number == 0 else " " * len(head)) + part
