"""The options that say who shares out the work, the same for every verb that can go past one machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def engine_options(function: Function) -> Function:
    """Add ``--engine`` and ``--ray-address`` to a command."""
    engine = click.option(
        "--engine",
        type=click.Choice(["local", "daft"]),
        default="local",
        show_default=True,
        help="Who shares out the work.",
    )
    address = click.option(
        "--ray-address", default="", metavar="ADDRESS", help="With daft: the Ray cluster to work on, HOST:PORT."
    )
    return engine(address(function))
