"""The palette: verbs of the command lines, what the present screen can do, screens, records, files and colours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.fuzzy import Matcher
from textual.screen import Screen
from textual.widgets import Input

from curate.base.file_guard import MOST_SETTINGS, read_file
from curate.base.record import CurateError
from curate.base.storage import write_atomic
from curate.tui.context import UNTABBED
from curate.tui.dialogs import Choose
from curate.tui.frame_table import FrameTable
from curate.tui.keys import key_name
from curate.tui.themes import PALETTES
from curate.tui.verb_dialog import RunPage, VerbDialog
from curate.tui.widgets import Pause

if TYPE_CHECKING:
    from curate.sessions.verbs import Verb
    from curate.tui.context import HostApp

_REST = 0.15  # Seconds without a key before records are searched.
_MOST_RECORDS = 20
_MOST_RECENT = 8
_TEXT_FITS = 0.01
_CODE = re.compile(r"[A-Z][0-9]{3}")
# Actions of the app itself; of widgets none is listed, because they move a cursor.
_HIDDEN = ("app.palette", "app.goto")
_MOVING = ("table.", "pane.", "dialog.", "choose.")
_NO_PROGRAMS = "Through the browser no program is started; see `curate serve --allow-train`."


@dataclass(frozen=True)
class PaletteItem:
    """One thing that can be done: its name, a note beside it, and what does it."""

    title: str
    note: str
    run: Callable[[], object]


class CommandPalette(Choose):
    """All that can be done from here, the most recent first; what is typed is also searched in the records."""

    def __init__(self, app: HostApp, entries: Sequence[PaletteItem], recent: Sequence[str]) -> None:
        """Offer ``entries``; those whose titles are ``recent`` come first."""
        super().__init__("What to do? A command, a record's id or words of it", (), head="command")
        self._host, self._recent = app, recent
        self.entries: dict[str, PaletteItem] = {}
        self._hits: tuple[str, Sequence[tuple[str, str]]] = ("", ())  # What was searched in the records, and found.
        self._pause = Pause(self)
        self.add(entries)

    def add(self, entries: Sequence[PaletteItem]) -> None:
        """Offer ``entries`` too, before those that there are."""
        self.entries = {entry.title: entry for entry in entries} | self.entries
        ranks = {title: number for number, title in enumerate(self._recent)}
        order = sorted(self.entries.values(), key=lambda entry: ranks.get(entry.title, len(ranks)))
        self._values = [(entry.title, entry.note) for entry in order]
        if self.is_mounted:
            self._show_matches()

    def on_mount(self) -> None:
        # Verbs that are known already join before the table is there.
        self._show_matches()

    def _show_matches(self) -> None:
        # What joins stands below what fits better: the cursor stays where it is.
        # A search may end while the dialog is being closed, and its widgets go before it does.
        for table in self.query(FrameTable):
            table.show(self.matches(self.query_one(Input).value.strip()))

    def matches(self, typed: str) -> Sequence[tuple[str, str]]:
        if not typed:
            return self._values
        searched, hits = self._hits
        if typed != searched:
            self._pause.begin(_REST, partial(self._search, typed))
        matcher, code = Matcher(typed), typed.upper()
        explained = []
        if _CODE.fullmatch(code):
            item = PaletteItem(f"Explain {code}", f"curate rule {code}", partial(_explain, self._host, code))
            self.entries[item.title] = item
            explained = [(item.title, item.note)]
        scored = [(max(matcher.match(title), matcher.match(note) / 4), title, note) for title, note in self._values]
        # A record that was found by its texts fits too, if not as well as what is called so.
        scored += [(max(matcher.match(title), _TEXT_FITS), title, note) for title, note in hits if typed == searched]
        best = sorted((row for row in scored if row[0] > 0), key=lambda row: -row[0])
        return [*explained, *((title, note) for _, title, note in best)]

    def _search(self, typed: str) -> None:
        app = self._host
        if not (app.has_project and app.following.is_loaded):
            return

        def job() -> list[tuple[str, str]]:
            from curate.sessions.record_search import find_records

            return find_records(app.project, typed, _MOST_RECORDS)

        def show(found: list[tuple[str, str]]) -> None:
            if self.is_mounted:
                hits = [
                    PaletteItem(f"Edit record {name}", text, partial(app.go, "edit", record=name))
                    for name, text in found
                ]
                self.entries |= {hit.title: hit for hit in hits}
                self._hits = typed, [(hit.title, hit.note) for hit in hits]
                self._show_matches()

        app.background(job, show, group="palette.records")


def open_palette(app: HostApp) -> None:
    """Show the palette; verbs join when the command lines have told of them."""
    palette = CommandPalette(app, list(_actions(app, app.screen)), _recent())

    def load() -> list[Verb]:
        from curate.sessions.verbs import verbs

        _verbs.extend(() if _verbs else verbs())
        return _verbs

    def chosen(title: str) -> None:
        _remember(title)
        # Once the screen below is the present one again.
        app.call_later(palette.entries[title].run)

    app.ask_with(palette, chosen)
    app.background(load, lambda known: palette.add([_verb_entry(app, verb) for verb in known]), group="palette.verbs")


_verbs: list[Verb] = []  # They do not change while the program runs, and asking for them takes a second.


def _verb_entry(app: HostApp, verb: Verb) -> PaletteItem:
    if verb.screen:
        return PaletteItem(verb.name, f"go to {verb.screen.capitalize()}", partial(app.go, verb.screen))
    if verb.reason:
        return PaletteItem(
            verb.name, verb.reason, partial(app.tell, f"{verb.name} does not run in here.", "warn", verb.reason)
        )
    return PaletteItem(verb.name, verb.summary, partial(ask_verb, app, verb))


def ask_verb(app: HostApp, verb: Verb) -> None:
    """Ask for the parameters of ``verb``, then run it and show what it prints."""

    if app.is_web and not app.may_train:
        app.tell(f"{verb.name} is not run.", "warn", _NO_PROGRAMS)
    else:
        target = (app.project.file if app.has_project else None) or app.root
        app.ask_with(VerbDialog(verb, str(target)), lambda runs: app.push_screen(RunPage(*runs)))


def _explain(app: HostApp, code: str) -> None:
    if app.is_web and not app.may_train:
        app.tell(f"{code} is not explained.", "warn", _NO_PROGRAMS)
    else:
        app.push_screen(RunPage(["curate", "rule", code]))


def _actions(app: HostApp, screen: Screen[object]) -> Iterator[PaletteItem]:
    """Yield what the screen below, the app and its tabs can do; moving keys are left out."""
    for active in screen.active_bindings.values():
        binding = active.binding
        name = binding.id or ""
        if binding.description and name and active.enabled and not name.startswith(_MOVING) and name not in _HIDDEN:
            run = partial(app.run_action, binding.action, active.node)
            yield PaletteItem(binding.description, f"{key_name(binding.key)}  {name}", run)
    for tab in (*app.tabs, *UNTABBED):
        if app.is_open(tab.name):
            yield PaletteItem(f"Go to {tab.title}", f"g {tab.key}", partial(app.go, tab.name))
    yield PaletteItem("Import or open a file", "a table, a text, a workspace", partial(app.get_started, "import"))
    yield PaletteItem("Take the tour", "two minutes, on samples", app.guide.begin)
    for theme in PALETTES:
        yield PaletteItem(f"Theme {theme}", "colours", partial(app.choose_theme, theme))


def _recent_path() -> Path:
    from platformdirs import user_state_path

    return user_state_path("pairsmith") / "palette.json"


def _recent() -> list[str]:
    """Return what was chosen last, by this user in any workspace; nothing where that is not known."""
    try:
        titles = json.loads(read_file(_recent_path(), most=MOST_SETTINGS))
        return [title for title in titles if isinstance(title, str)] if isinstance(titles, list) else []
    except (OSError, ValueError):
        return []


def _remember(title: str) -> None:
    titles = [title, *(other for other in _recent() if other != title)][:_MOST_RECENT]
    # Where nothing can be written, nothing is remembered.
    with suppress(CurateError):
        write_atomic(_recent_path(), [json.dumps(titles).encode()])
