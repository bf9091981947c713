"""The screens, one file each, in the order of their tabs. A file that is not there is no tab."""

from __future__ import annotations

import importlib
import importlib.util

from textual.binding import Binding
from textual.dom import DOMNode

from curate.tui.context import Tab
from curate.tui.keymap import bindings_of, own_subclasses
from curate.tui.screen import ProjectScreen

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


def screen_class(name: str) -> type[ProjectScreen]:
    """Import the file of the screen called ``name`` and return the screen that it defines.

    Raises:
        LookupError: when the file defines no screen of that name, which is a mistake of ours.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, ProjectScreen) and value.__dict__.get("NAME") == name:
            return value
    raise LookupError(f"{module.__name__} defines no screen with NAME = {name!r}")


def known_bindings() -> dict[str, Binding]:
    """Return every binding of ours by its id. All screens are imported for that, which takes a while."""
    for tab in tabs():
        screen_class(tab.name)
    return {binding.id: binding for binding in bindings_of(own_subclasses(DOMNode)) if binding.id}


__all__ = ["ALL", "Tab", "known_bindings", "screen_class", "tabs"]
