"""The screens, one file each, in the order of their tabs. A file that is not there is no tab."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curate.tui.screen import WorkshopScreen


@dataclass(frozen=True)
class Tab:
    """What is known of a screen without importing it: its file's name, its title, and its key after ``g``."""

    name: str
    title: str
    key: str


ALL = (
    Tab("home", "Home", "h"),
    Tab("browse", "Browse", "b"),
    Tab("edit", "Edit", "e"),
    Tab("label", "Label", "l"),
    Tab("dedupe", "Dedupe", "d"),
    Tab("split", "Split", "s"),
    Tab("validate", "Validate", "v"),
    Tab("train", "Train", "t"),
    Tab("compare", "Compare", "c"),
)


def tabs() -> list[Tab]:
    """Return the tabs whose screens are there. None of them is imported: first paint must not wait for all nine."""
    return [tab for tab in ALL if importlib.util.find_spec(f"{__name__}.{tab.name}")]


def screen_class(name: str) -> type[WorkshopScreen]:
    """Import the file of the screen called ``name`` and return the screen that it defines.

    Raises:
        LookupError: when the file defines no screen of that name, which is a mistake of ours.
    """
    from curate.tui.screen import WorkshopScreen

    module = importlib.import_module(f"{__name__}.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, WorkshopScreen) and value.__dict__.get("NAME") == name:
            return value
    raise LookupError(f"{module.__name__} defines no screen with NAME = {name!r}")
