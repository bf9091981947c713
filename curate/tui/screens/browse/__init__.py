"""Browse: the records in a table of any length, filtered and sorted, with all of one of them beside it."""

from __future__ import annotations

import json
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Input, Static

from curate.base.record import CurateError
from curate.base.tables import counted
from curate.project.blind import hides_event, visible_finding
from curate.project.filters import GUIDE, Filter, parse_filter, quoted
from curate.sessions.problems import ProblemList, problems_of
from curate.tui.fields import SafeInput
from curate.tui.frame_table import FrameTable
from curate.tui.screen import ProjectScreen
from curate.tui.screens.browse.deciding import Deciding
from curate.tui.screens.browse.detail import VIEWS, RecordPane, Subject, render_subject
from curate.tui.screens.browse.rows import SETS, SORTS, CatalogRows, columns_of
from curate.tui.screens.browse.standing import Count, Standing

if TYPE_CHECKING:
    from curate.project.catalog import Catalog, Rows

DEBOUNCE = 0.08
"""Seconds without a key after which a filter is asked."""
_REST = 0.08
"""Seconds that the cursor rests on a row before all of its record is drawn: not while a key is held down."""
_FEW = 1000
"""Changed records that are looked at one by one; with more, all are filtered again."""


class BrowseScreen(Deciding, ProjectScreen):
    """Look for records, look at them, and decide on one or on many at once."""

    NAME, TITLE, KEY = "browse", "Browse", "b"
    AUTO_FOCUS = "#rows"
    HELP = f"""
`/` goes to the filter and `enter` back to the table; `esc` takes the filter away. `space` marks, `v` begins a range.
What is decided concerns the range, else the marked records, else the one under the cursor, and is one act: one `u`
takes it back.

The status is `?` until the records were validated; a filter that asks for it has them validated.

{GUIDE}
"""
    BINDINGS: ClassVar[list[Any]] = [
        Binding("slash", "filter", "Filter", id="browse.filter"),
        # Before the field sees it: keys that come right after it are for the table.
        Binding("enter", "leave_filter", "To the table", id="browse.leave_filter", show=False, priority=True),
        Binding("e", "edit", "Edit", id="browse.edit"),
        *Deciding.KEYS,
        Binding("s", "sort", "Sort", id="browse.sort"),
        Binding("S", "reverse", "Sort the other way", id="browse.reverse", show=False),
        Binding("c", "columns", "Columns", id="browse.columns"),
        Binding("p", "view", "Raw, diff", id="browse.view"),
        Binding("m", "clear_marks", "Unmark", id="browse.clear_marks", show=False),
        Binding("a", "add", "Add a record", id="browse.add", show=False),
        Binding("C", "copy", "Add a copy", id="browse.copy", show=False),
    ]
    DEFAULT_CSS = """
    BrowseScreen #line { height: 1; }
    BrowseScreen #slash { width: 3; }
    BrowseScreen #filter { height: 1; border: none; padding: 0; width: 1fr; }
    BrowseScreen #count { text-align: right; padding: 0 1; }
    BrowseScreen #side { overflow-y: scroll; scrollbar-size-vertical: 1; }
    BrowseScreen #standing { height: 1; padding: 0 1; }
    """

    def __init__(self) -> None:
        """Begin with all records, in the order of their files."""
        super().__init__()
        self._where = Filter()
        self._rows: Rows | None = None
        self._rows_of: Catalog | None = None
        self._sort, self._is_descending = 0, False
        self._set = self._view = 0
        self._fault: CurateError | None = None
        self._typing: Timer | None = None
        self._resting: Timer | None = None
        self._at = self._drawn = ""
        self._since: set[str] = set()
        self._judgement = 0
        self._is_validating = False

    def compose_body(self) -> ComposeResult:
        """Lay the filter over table and record."""
        with Horizontal(id="line"):
            yield Static(" / ", id="slash")
            yield SafeInput(placeholder='category:billing status:!ok "exact words" /regex/', id="filter")
            yield Count(id="count")
        with Horizontal():
            yield FrameTable(columns_of(SETS[0], 0), id="rows", classes="main pane")
            with RecordPane(id="side", classes="side pane"):
                yield Static(id="detail")
        yield Standing(id="standing")

    @property
    def table(self) -> FrameTable:
        """The table of records."""
        return self.query_one("#rows", FrameTable)

    @property
    def _field(self) -> SafeInput:
        return self.query_one("#filter", SafeInput)

    @property
    def _book(self) -> ProblemList:
        return problems_of(self.project)

    def on_mount(self) -> None:
        """Give the table more room than the record; a style sheet of the screen would yield to that of the app."""
        self.table.styles.width, self.query_one("#side", RecordPane).styles.width = "3fr", "2fr"
        self.set_interval(1.0, self._see_statuses)
        # In the same moment, so that the screen is drawn once and not twice; a message would come after the first time.
        self.watch(self.table, "cursor", self._stand, init=False)

    def busy(self) -> str:
        """Return that records are looked for, while none are shown."""
        return "looking for the records" if self._matching_rows is None else ""

    @property
    def _matching_rows(self) -> Rows | None:
        """The rows that the filter lets through; None as long as nobody knows, also since records were read anew."""
        return None if self._rows is None or self._rows_of is not self.project.catalog else self._rows

    # What is asked.

    def ready(self) -> None:
        """Show the records."""
        self._ask()

    def arrive(
        self,
        *,
        where: str | None = None,
        category: str | None = None,
        record: str = "",
        is_filtering: bool = False,
        **_: Any,
    ) -> None:
        """Show what ``where`` lets through, or a category; put the cursor on ``record``; or have a filter typed."""
        if category is not None:
            where = f"category:{quoted(category)}"
        if where is None and record:
            where = f"id:{quoted(record)}"
        self._at = record
        if where is not None:
            self._field.value = where
            self._ask()
        if is_filtering:
            self.set_focus(self._field)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Ask once the typing rests."""
        if event.input.id == "filter":
            if self._typing is not None:
                self._typing.stop()
            self._typing = self.set_timer(DEBOUNCE, self._ask)

    def reread(self) -> None:
        """Ask again."""
        self._ask()

    def changed(self, ids: set[str]) -> None:
        """Show what became of the records that changed, and have them looked at again."""
        self._since |= ids
        if self._book.problems is not None:
            self.app.background(self._book.catch_up, self._caught_up, group="browse.catch")
        rows = self._matching_rows
        if rows is None or len(ids) > _FEW:
            self._ask()
        else:
            self._show(self.project.catalog.renew(rows, self._where, ids))

    def _caught_up(self, has_changed: bool) -> None:
        if has_changed and (rows := self._matching_rows) is not None:
            self._show(self.project.catalog.renew(rows, self._where, self._since))

    def _ask(self) -> None:
        """Filter and sort in a thread; what is typed meanwhile takes the place of it."""
        if not self.app.following.is_loaded:
            return
        try:
            where = parse_filter(self._field.value)
        except CurateError as error:
            self._fault = error
            self._stand()
            return
        self._fault = None
        catalog = self.project.catalog
        number = catalog.num_judgements
        by, is_descending = list(SORTS)[self._sort], self._is_descending
        if where.needs_findings and not catalog.has_findings:
            self._validate()
        self._since.clear()

        def matching_rows() -> Rows:
            catalog.learning.renew(SETS[self._set])
            return catalog.order(catalog.select(where), by, is_descending=is_descending)

        def show(rows: Rows) -> None:
            if catalog is not self.project.catalog:
                # The records were read anew meanwhile, and are asked for again.
                return
            self._where, self._rows_of, self._judgement = where, catalog, number
            self._show(catalog.renew(rows, where, self._since) if self._since else rows)

        self.app.background(matching_rows, show, group="browse.filter")

    def _see_statuses(self) -> None:
        """Show what a validation has found, whoever had begun it."""
        if self._matching_rows is None or (number := self.project.catalog.num_judgements) == self._judgement:
            return
        self._judgement = number
        if self._where.needs_findings:
            self._ask()
        else:
            self.table.reread()
            self._draw()

    def _validate(self) -> None:
        """Have the records validated, unless they are just now."""
        if self._book.is_searching:
            return
        self._is_validating = True
        self.tell("validating the records: until then every status is unknown", "warn")

        def done(_problems: object) -> None:
            self._is_validating = False
            self.tell("validated")
            self._ask()

        book = self._book
        self.app.background(book.search, done, group="browse.validate")

    def on_unmount(self) -> None:
        """Do not keep the app waiting for a validation."""
        if self._is_validating and self.app.has_project:
            self._book.stop()

    # What is shown.

    def _show(self, rows: Rows) -> None:
        self._rows, names = rows, SETS[self._set]
        at, self._at = self._at or self.table.current, ""
        source = CatalogRows(self.project.catalog, rows, names)
        self.table.show(source, at=at, columns=columns_of(names, self.size.width))
        self.query_one("#count", Count).count(len(rows), len(self.project.catalog))
        self._stand()

    def _stand(self) -> None:
        """Say where the cursor is, or what is wrong with the filter."""
        line = self.query_one("#standing", Standing)
        if self._fault is not None:
            line.fault(self._fault)
            return
        arrow = "v" if self._is_descending else "^"
        order = f"sort: {list(SORTS.values())[self._sort]} {arrow}   columns: {self._set + 1}/{len(SETS)}"
        line.stand(self.table, order)

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        """Draw the record once the cursor rests."""
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(_REST, self._draw)

    def on_frame_table_marked(self, event: FrameTable.Marked) -> None:
        """Count the marks."""
        self._stand()

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        """Go to the record: open its pane where there is room for one only."""
        self.is_side_open = True
        self._draw()
        self.set_focus(self.query_one("#side", RecordPane))

    def _draw(self) -> None:
        """Draw all of the record under the cursor, unless nobody can see it."""
        if self.is_narrow and not self.is_side_open:
            return
        text, name = Text(""), self.table.current
        with self.app.attempt():
            if name:
                text = render_subject(self._subject(name), VIEWS[self._view])
        self.query_one("#detail", Static).update(text)
        side = self.query_one("#side", RecordPane)
        if name != self._drawn and side.scroll_y:
            side.scroll_home(animate=False)
        self._drawn = name

    def _subject(self, name: str) -> Subject:
        project, problems = self.project, self._book.problems
        row = project.catalog.find(name)
        state, visible = project.state(name), partial(visible_finding, project)
        assert row is not None, "what has a state has a row"
        return Subject(
            state,
            project.catalog.row(row),
            project.blind.hidden(state),
            project.catalog.read(name),
            None if problems is None else [finding for finding in map(visible, problems.of_record(name)) if finding],
            [(event, hides_event(project, event)) for event in project.history(name)] if state.heads else (),
        )

    def on_resize(self) -> None:
        """Give the columns the room there is."""
        if (rows := self._matching_rows) is not None:
            self._show(rows)

    def close_side(self) -> bool:
        """Leave the record, then the filter."""
        side = self.query_one("#side", RecordPane)
        if super().close_side() or side.has_focus:
            self.set_focus(self.table)
            return True
        if self._field.value:
            self._field.value = ""
            self.set_focus(self.table)
            return True
        if self._field.has_focus:
            self.set_focus(self.table)
            return True
        return False

    def equal_command(self) -> str:
        """Return the command that lists the same records."""
        where = f" --where {quote(self._where.text)}" if self._where.terms else ""
        return f"curate list {quote(str(self.app.root))} --status all{where}"

    def record_json(self) -> str:
        """Return the record under the cursor, as decisions have left it, as one line."""
        name = self.table.current
        return json.dumps(dict(self.project.state(name).record.data)) if name else ""

    # What the keys do.

    def action_filter(self) -> None:
        """Type a filter."""
        # `Widget.focus` waits for its turn, and keys typed meanwhile would drop and tag records.
        self.is_side_open = False
        self.set_focus(self._field)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave `enter` to the table where the filter is not being typed."""
        is_typing = self.focused is not None and self.focused.id == "filter"
        return is_typing if action == "leave_filter" else super().check_action(action, parameters)

    def action_leave_filter(self) -> None:
        """Go from the filter to the table, and do not wait for the typing to rest."""
        if self._typing is not None:
            self._typing.stop()
        self.set_focus(self.table)
        self._ask()

    def action_edit(self) -> None:
        """Edit the record under the cursor."""
        if name := self.table.current:
            self.app.go("edit", record=name)

    def action_add(self) -> None:
        """Write a new record."""
        self.app.go("edit", new=True)

    def action_copy(self) -> None:
        """Write a new record that begins as a copy of the one under the cursor."""
        if name := self.table.current:
            self.app.go("edit", copy=name)

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._sort = (self._sort + 1) % len(SORTS)
        self._ask()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._is_descending = not self._is_descending
        self._ask()

    def action_columns(self) -> None:
        """Show other columns."""
        self._set = (self._set + 1) % len(SETS)
        if (rows := self._matching_rows) is not None:
            self._show(rows)
            self._ask()

    def action_view(self) -> None:
        """Show the record as its texts, as JSON, or beside its line."""
        self._view = (self._view + 1) % len(VIEWS)
        if self.is_narrow and not self.is_side_open:
            self.is_side_open = True
        self._draw()

    def action_clear_marks(self) -> None:
        """Take all marks away."""
        self.table.clear_marks()
        self.tell(f"no record is marked; {counted(self.table.source.num_rows, 'record')} in the table")
