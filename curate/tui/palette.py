"""The command palette: every action of the screen, every tab, every theme, and records by their id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.binding import ActiveBinding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from curate.base.record import CurateError
from curate.tui.border import safe_line
from curate.tui.keymap import key_name
from curate.tui.themes import PALETTES

if TYPE_CHECKING:
    from curate.tui.context import HostApp

_HIDDEN = {"app.palette", "app.goto"}


class Commands(Provider):
    """All that can be done from where the palette was opened."""

    @property
    def _curate(self) -> HostApp:
        return cast("HostApp", self.app)

    async def discover(self) -> Hits:
        """Yield everything, for who has typed nothing yet."""
        for title, run, note in self._commands():
            yield DiscoveryHit(title, run, help=note)

    async def search(self, query: str) -> Hits:
        """Yield what fits ``query``, and the record of that id if there is one."""
        matcher = self.matcher(query)
        for title, run, note in self._commands():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), run, help=note)
        app = self._curate
        if app.has_project and app.project.is_loaded and _is_record(app, query):
            # Content, not a string: an id may look like markup.
            yield Hit(1.0, Content(f"Edit record {safe_line(query, 60)}"), partial(app.go, "edit", record=query))

    def _commands(self) -> Iterator[tuple[str, Callable[[], object], str]]:
        """Yield title, what to do, and key and id of each command; all of it are our own words."""
        app = self._curate
        listed: set[str] = set()
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.description and binding.id and binding.id not in _HIDDEN | listed and active.enabled:
                listed.add(binding.id)
                yield binding.description, partial(self._run, active), f"{key_name(binding.key)}  {binding.id}"
        for tab in app.tabs:
            if app.is_open(tab.name):
                yield f"Go to {tab.title}", partial(app.go, tab.name), f"g {tab.key}"
        for name in PALETTES:
            yield f"Theme {name}", partial(app.choose_theme, name), "colours"

    async def _run(self, active: ActiveBinding) -> None:
        await self.app.run_action(active.binding.action, active.node)


def _is_record(app: HostApp, name: str) -> bool:
    try:
        app.project.state(name)
    except CurateError:
        return False
    return True
