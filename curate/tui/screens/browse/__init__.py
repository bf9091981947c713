"""Browse: the records in a table of any length, filtered and sorted, with all of one of them beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input, Static

from curate.base.events import Decision, Drop, Restore
from curate.base.record import CurateError
from curate.base.tables import counted
from curate.project.filters import GUIDE, Filter, parse_filter, quoted
from curate.schema.settings.model import VIEW_COLUMNS, VIEW_SORTS, SavedView
from curate.sessions.problems import ProblemList, problems_of
from curate.tui.border import safe_text
from curate.tui.dialogs import Choose, Prompt
from curate.tui.frame_table import FrameTable
from curate.tui.screen import ProjectScreen
from curate.tui.screens.browse.pickers import PickerKind, Pickers
from curate.tui.screens.browse.rendering import (
    ROOMY,
    SETS,
    SORTS,
    VIEWS,
    CatalogRows,
    RecordPane,
    columns_of,
    empty_text,
    position_text,
    render_subject,
    subject_of,
    with_hits,
)
from curate.tui.widgets import Panel, Pause, SafeInput

if TYPE_CHECKING:
    from curate.project.catalog import Catalog, Rows

DEBOUNCE = 0.08  # Seconds without a key after which a filter is asked.
_REST = 0.08  # Seconds that the cursor rests on a row before all of its record is drawn: not while a key is held down.
_FEW = 1000  # Changed records that are looked at one by one; with more, all are filtered again.
REASON = "dropped in Browse"  # The reason of `d`; `D` asks for another.
_AT_ONCE = 100  # Records that are decided on at once; more take a while, and a thread.


class BrowseScreen(ProjectScreen):
    """Look for records, look at them, and decide on one or on many at once."""

    NAME, TITLE = "browse", "Browse"
    AUTO_FOCUS = "#rows"
    HELP = f"""
`/` goes to the filter and `enter` back to the table; `esc` takes the filter away. `n` and `N` go from hit to hit of its
words. `space` marks, `v` begins a range.
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
        Binding("t", "label", "Tag", id="browse.label"),
        Binding("d", "drop", "Drop", id="browse.drop"),
        Binding("D", "drop_because", "Drop, with a reason", id="browse.drop_because", show=False),
        Binding("X", "restore", "Restore", id="browse.restore"),
        Binding("s", "sort", "Sort", id="browse.sort"),
        Binding("S", "reverse", "Sort the other way", id="browse.reverse", show=False),
        Binding("c", "columns", "Columns", id="browse.columns"),
        Binding("p", "view", "Raw, diff", id="browse.view"),
        Binding("V", "pick('view')", "Saved views", id="browse.saved_views", show=False),
        Binding("F", "pick('field')", "Count by a field", id="browse.count_by", show=False),
        Binding("n", "hit(1)", "Next hit", id="browse.next_hit", show=False),
        Binding("N", "hit(-1)", "Previous hit", id="browse.previous_hit", show=False),
        Binding("L", "pick('neighbour')", "Records most like this one", id="browse.nearest", show=False),
        Binding("T", "pick('tokens')", "Trained tokens", id="browse.tokens", show=False),
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
    BrowseScreen #position { height: 1; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._where = Filter()
        self._rows: Rows | None = None
        self._rows_of: Catalog | None = None
        self._sort, self._is_descending = "file", False
        self._set, self._view = next(iter(SETS)), 0
        self._columns: Sequence[str] = ()  # Those of a saved view; empty shows those of the set.
        self._pickers = Pickers(self, self.current_view, self.show_view)
        self._fault: CurateError | None = None
        self._typing, self._resting = Pause(self), Pause(self)
        self._at = ""
        self._column_names: Sequence[str] = SETS[self._set]
        self._since: set[str] = set()
        self._asked = object()  # For which rows was asked last.
        self._judgement, self._is_validating = 0, False

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="line"):
            yield Static(" / ", id="slash")
            yield SafeInput(placeholder='category:billing status:!ok "exact words" /regex/', id="filter")
            yield Panel(id="count")
        with Horizontal():
            yield FrameTable(columns_of(SETS[self._set], 0), id="rows", classes="main pane")
            with RecordPane(id="side", classes="side pane"):
                yield Static(id="detail")
        yield Panel(id="position")

    @property
    def table(self) -> FrameTable:
        """The table of records."""
        return self.query_one("#rows", FrameTable)

    @property
    def _field(self) -> SafeInput:
        return self.query_one("#filter", SafeInput)

    @property
    def _side(self) -> RecordPane:
        return self.query_one("#side", RecordPane)

    @property
    def _problem_list(self) -> ProblemList:
        return problems_of(self.project)

    def on_mount(self) -> None:
        # Give the table more room than the record; a style sheet of the screen would yield to that of the app.
        self._share()
        self.set_interval(1.0, self._see_statuses)
        # In the same moment, so that the screen is drawn once and not twice.
        self.watch(self.table, "cursor", self._show_position, init=False)

    def _share(self) -> None:
        # A prompt can use more than a record's own pane.
        sides = ("2fr", "1fr") if self.size.width >= ROOMY else ("3fr", "2fr")
        self.table.styles.width, self._side.styles.width = sides

    def busy(self) -> str:
        return "looking for the records" if self._matching_rows is None else ""

    @property
    def _matching_rows(self) -> Rows | None:
        """The rows that the filter lets through; None as long as nobody knows, also since records were read anew."""
        return None if self._rows is None or self._rows_of is not self.project.catalog else self._rows

    # What is asked.

    def ready(self) -> None:
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
        # Show what ``where`` lets through, or a category; put the cursor on ``record``; or have a filter typed.
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
        if event.input.id == "filter":
            self._typing.begin(DEBOUNCE, partial(self._ask, is_typed=True))

    def changed(self, ids: set[str]) -> None:
        self._since |= ids
        if self._problem_list.problems is not None:
            self.app.background(self._problem_list.catch_up, self._caught_up, group="browse.catch")
        rows = self._matching_rows
        if rows is None or len(ids) > _FEW:
            self._ask()
        else:
            self._show(self.project.catalog.renew(rows, self._where, ids))

    def _caught_up(self, has_changed: bool) -> None:
        if has_changed and (rows := self._matching_rows) is not None:
            self._show(self.project.catalog.renew(rows, self._where, self._since))

    # Filter and sort in a thread. What is typed into the filter meanwhile takes the place of it; other keys are meant
    # for the rows that come, so they wait.
    def _ask(self, *, is_typed: bool = False) -> None:
        if not self.app.following.is_loaded:
            return
        try:
            where = parse_filter(self._field.value)
        except CurateError as error:
            self._fault = error
            self._show_position()
            return
        self._fault = None
        catalog = self.project.catalog
        number = catalog.num_judgements
        by, is_descending = self._sort, self._is_descending
        if where.needs_findings and not catalog.has_findings:
            self._validate()
        self._since.clear()
        self._asked = asked = object()

        def matching_rows() -> Rows:
            catalog.learning.renew(self._names)
            return catalog.order(catalog.select(where), by, is_descending=is_descending)

        def show(rows: Rows) -> None:
            if catalog is not self.project.catalog or asked is not self._asked:
                return  # The records were read anew meanwhile, or others are asked for.
            self._where, self._rows_of, self._judgement = where, catalog, number
            self._show(catalog.renew(rows, where, self._since) if self._since else rows)

        self.app.background(matching_rows, show, group="browse.filter" if is_typed else "browse.show.filter")

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
        if self._problem_list.is_searching:
            return
        self._is_validating = True
        self.tell("validating the records: until then every status is unknown", "warn")

        def done(_problems: object) -> None:
            self._is_validating = False
            self.tell("validated")
            self._ask()

        self.app.background(self._problem_list.search, done, group="browse.validate")

    def on_unmount(self) -> None:
        if self._is_validating and self.app.has_project:
            self._problem_list.stop()

    # What is shown.

    def _show(self, rows: Rows) -> None:
        self._rows, names = rows, self._names
        at, self._at = self._at or self.table.current, ""
        self._column_names = names = with_hits(names) if self._where.has_words else names
        source = CatalogRows(self.project.catalog, rows, names, self._where)
        row = self.project.catalog.find(at) if at else None
        index = None if row is None else rows.index_of(row)
        self.table.empty = empty_text(self._where, self.project.settings)
        self.table.show(source, row=index, columns=columns_of(names, self.size.width))
        num_all, count = f"{len(self.project.catalog):,}", self.query_one("#count", Panel)
        count.styles.width = 2 * len(num_all) + len(" of ") + 2  # Room for all: another number moves nothing.
        count.show(Text(f"{len(rows):,} of {num_all}"))
        self._show_position()

    def _show_position(self) -> None:
        """Say where the cursor is, or what is wrong with the filter."""
        line, fault, table = self.query_one("#position", Panel), self._fault, self.table
        if fault is not None:
            hint = Text.assemble("\n", safe_text(fault.hint, 400)) if fault.hint else Text("")
            text = Text.assemble(("! error ", "error"), safe_text(fault.message, 400), hint)
            line.styles.height = len(text.wrap(self.app.console, max(1, self.size.width - 2)))
            line.show(text)
            return
        line.styles.height = 1
        order = f"{SORTS[self._sort]} {'v' if self._is_descending else '^'}"
        line.show(position_text(table, order, "of the view" if self._columns else self._set))

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        self._resting.begin(_REST, self._draw)

    def on_frame_table_head_clicked(self, event: FrameTable.HeadClicked) -> None:
        name = self._column_names[event.column]
        if name in SORTS:
            self._sort_by(name)

    def on_frame_table_marked(self, event: FrameTable.Marked) -> None:
        self._show_position()

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        self.is_side_open = True
        self._draw()
        self.set_focus(self._side)

    # Draw all of the record under the cursor, unless nobody can see it.
    def _draw(self) -> None:
        if self.is_narrow and not self.is_side_open:
            return
        text, name = Text(""), self.table.current
        with self.app.attempt():
            if name:
                subject = subject_of(self.project, self._problem_list, name, self._where)
                text = render_subject(subject, VIEWS[self._view])
        self._side.show(text, name)

    def on_resize(self) -> None:
        self._share()
        if (rows := self._matching_rows) is not None:
            self._show(rows)

    def close_side(self) -> bool:
        # The record first, then the filter.
        if not super().close_side() and not self._side.has_focus:
            if not self._field.value and not self._field.has_focus:
                return False
            self._field.value = ""
        self.set_focus(self.table)
        return True

    def equal_command(self) -> str:
        where = f" --where {quote(self._where.text)}" if self._where.terms else ""
        return f"curate list {quote(str(self.app.root))} --status all{where}"

    def current_record(self) -> str:
        return self.table.current

    # What the keys do.

    def action_filter(self) -> None:
        # `Widget.focus` waits for its turn: keys typed meanwhile would be commands.
        self.is_side_open = False
        self.set_focus(self._field)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Leave `enter` to the table where the filter is not being typed.
        is_typing = self.focused is not None and self.focused.id == "filter"
        return is_typing if action == "leave_filter" else super().check_action(action, parameters)

    def action_leave_filter(self) -> None:
        # Go from the filter to the table, and do not wait for the typing to rest.
        self._typing.end()
        self.set_focus(self.table)
        self._ask()

    def action_edit(self) -> None:
        if name := self.table.current:
            self.app.go("edit", record=name, listing=self)

    def neighbour(self, opened: Mapping[str, Any], by: int) -> dict[str, Any] | None:
        self.app.hand_over(self)  # Rows that an undo has taken away meanwhile can be asked for no more.
        row = self.table.row(self.table.index_near(str(opened.get("record", ""))) + by)
        return {"record": row[0]} if row else None

    def position(self, opened: Mapping[str, Any]) -> str:
        self.app.hand_over(self)
        index = self.table.index_near(str(opened.get("record", "")))
        if self.table.row(index)[:1] != (opened.get("record"),):
            return ""
        # Back here, the cursor stands on what was opened last.
        self.table.cursor = index
        return f"row {index + 1:,} of {len(self.table.source):,}"

    def action_hit(self, step: int) -> None:
        # From the last hit in a record to the first one of the next.
        if not self._where.has_words:
            self.tell_no_use("No word is looked for: / filters, and L finds what is like this record.")
            return
        was_open, before = self.is_side_open or not self.is_narrow, self.table.cursor
        self.is_side_open = True
        self._draw()
        if not was_open:
            # Lines of a pane that is not laid out yet have no width.
            self.call_after_refresh(self._side.step_hit, step)
        if not was_open or self._side.step_hit(step):
            return
        self.table.cursor += step
        if self.table.cursor == before:
            self.tell_no_use("There is no other hit that way.")
        else:
            self._draw()
            self._side.step_hit(step, is_from_end=step < 0)

    def action_add(self) -> None:
        self.app.go("edit", new=True)

    def action_copy(self) -> None:
        if name := self.table.current:
            self.app.go("edit", copy=name)

    def action_sort(self) -> None:
        self._pickers.pick_sort(self._sort, self._sort_by)

    def _sort_by(self, name: str) -> None:
        self._is_descending, self._sort = self._sort == name and not self._is_descending, name
        self._ask()

    def action_reverse(self) -> None:
        self._sort_by(self._sort)

    @property
    def _names(self) -> Sequence[str]:
        return self._columns or SETS[self._set]

    def action_columns(self) -> None:
        self._pickers.pick_columns(self._show_set)

    def _show_set(self, name: str) -> None:
        self._set, self._columns = name, ()
        if (rows := self._matching_rows) is not None:
            self._show(rows)
        self._ask()

    def action_view(self, name: str = "") -> None:
        self._view = VIEWS.index(name) if name else (self._view + 1) % len(VIEWS)
        if self.is_narrow and not self.is_side_open:
            self.is_side_open = True
        self._draw()

    def action_clear_marks(self) -> None:
        self.table.clear_marks()
        self.tell("no record is marked")

    def action_pick(self, what: PickerKind) -> None:
        if (rows := self._matching_rows) is not None:
            self._pickers.pick(what, rows, self.table.current)

    def current_view(self) -> SavedView:
        """Return filter, order and columns as they are now; an order that no view has is left out."""
        sign, names = "-" if self._is_descending else "", [*self._names]
        order = f"{sign}{self._sort}" if self._sort in VIEW_SORTS and (sign or self._sort != "file") else ""
        columns = sorted((name for name in VIEW_COLUMNS if name in names), key=names.index)
        return SavedView(self._field.value, order, columns)

    def show_view(self, view: SavedView) -> None:
        """Show the records of a view in its order, with its columns."""
        self._sort = view.sort.removeprefix("-") or "file"
        self._is_descending, self._columns = view.sort.startswith("-"), tuple(view.columns)
        self._field.value = view.where
        self._ask()

    # What is decided.

    def action_drop(self) -> None:
        self._drop(self.table.chosen(), REASON)

    def action_drop_because(self) -> None:
        if names := self.table.chosen():
            question = "Why is 1 record left out?" if len(names) == 1 else "Why are they left out?"
            self.app.prompt(question, partial(self._drop, names), value=REASON)

    def action_restore(self) -> None:
        names = [name for name in self.table.chosen() if self.project.state(name).dropped is not None]
        self._decide([Restore(name) for name in names], "restored", "is dropped")

    def action_label(self) -> None:
        if names := self.table.chosen():
            self._pickers.pick_label(names, self._decide)
        else:
            self.tell_no_use("There is no record in the table.")

    # Leave out those of ``names`` that are in.
    def _drop(self, names: Sequence[str], reason: str) -> None:
        present = [name for name in names if self.project.state(name).dropped is None]
        self._decide([Drop(name, reason.strip() or REASON) for name in present], "dropped", "is in")

    def _decide(self, decisions: Sequence[Decision], done: str, lacking: str) -> None:
        """Save ``decisions``, one on each record, as one act, and say so."""
        if not decisions:
            self.tell_no_use(f"No record that {lacking} is chosen.")
            return
        what = decisions[0].id if len(decisions) == 1 else counted(len(decisions), "record")
        message = f"{done} {what} (u undoes)"
        save: Callable[[], object] = partial(self.project.apply, decisions)

        def saved(_events: object) -> None:
            self.table.clear_chosen()
            self.tell(message)

        if len(decisions) > _AT_ONCE:
            self.app.background(save, saved, group="write.browse")
        else:
            save()
            saved(None)
