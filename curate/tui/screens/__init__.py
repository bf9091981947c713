"""The screens, one module each, in the order of their tabs."""

from __future__ import annotations

import importlib

from textual.binding import Binding
from textual.dom import DOMNode

from curate.tui.context import TABS, UNTABBED, Tab
from curate.tui.keys import bindings_of, own_subclasses
from curate.tui.screen import ProjectScreen


def screen_class(name: str) -> type[ProjectScreen]:
    """Import the module of the screen called ``name`` and return the screen: the first paint must not wait for all."""
    screen: type[ProjectScreen] = getattr(importlib.import_module(f"{__name__}.{name}"), f"{name.capitalize()}Screen")
    return screen


def known_bindings() -> dict[str, Binding]:
    """Return every binding of ours by its id. All screens are imported for that, which takes a while."""
    for tab in (*TABS, *UNTABBED):
        screen_class(tab.name)
    return {binding.id: binding for binding in bindings_of(own_subclasses(DOMNode)) if binding.id}
