"""What the tests of the shell share: a second tab, and a workspace."""

from __future__ import annotations

import pytest

from curate.tui import app as app_module
from curate.tui.border import PRETTY, use_glyphs
from curate.tui.screens import Tab, screen_class
from tests.curate.tui.probing import ProbeScreen


@pytest.fixture(autouse=True)
def _probe(monkeypatch):
    """Let there be a second tab, for the tests alone."""
    monkeypatch.setattr(app_module, "TABS", (Tab("home", "Home", "h"), Tab("probe", "Probe", "p")))
    known = screen_class
    monkeypatch.setattr(app_module, "screen_class", lambda name: ProbeScreen if name == "probe" else known(name))
    yield
    use_glyphs(PRETTY)


@pytest.fixture
def workspace(make_workspace):
    return make_workspace()
