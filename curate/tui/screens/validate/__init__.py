"""Validate: the list of what is wrong, with the place of each finding, and what can be done about it."""

from __future__ import annotations

from functools import partial
from time import monotonic

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.timer import Timer
from textual.widgets import Input, Static

from curate.base.record import CurateError, Finding
from curate.base.tables import counted
from curate.project.blind import visible_finding
from curate.sessions.excerpt import Excerpt
from curate.sessions.lines import open_line
from curate.sessions.problem_groups import ORDER, By, Heading, ProblemItem, Problems, listed
from curate.sessions.problems import ProblemList, problems_of
from curate.tui.chrome import TitleRule
from curate.tui.fields import SafeInput
from curate.tui.frame_table import FrameTable
from curate.tui.screen import ProjectScreen
from curate.tui.screens.validate.detail import render_finding, render_heading
from curate.tui.screens.validate.mending import MendingActions
from curate.tui.screens.validate.rows import KEY, Line, MoreRow, columns, lines_of, source_of
from curate.tui.screens.validate.summary import summary

_TICK = 0.25
"""Seconds between two words about how far a search is."""
_REST = 0.08
"""Seconds without another step until what is known of a finding is looked up."""
_SOME = (ORDER, ORDER[:1], ORDER[:2])


class ValidateScreen(MendingActions, ProjectScreen):
    """The problem list: grouped, filtered, live; from each finding to its field."""

    NAME, TITLE, KEY = "validate", "Validate", "v"
    SHOWS_LINES = True
    AUTO_FOCUS = "#problems"
    HELP = """
Findings by code and by the place that they point at. All are counted; the first thousand of each group are listed.

An edit is looked at again at once. What concerns all records together, such as repeats, is as of the last search: `R`
searches again.

Fixes and `x-ignore` are edits in the journal: `u` takes them back, and the files stay as they are. What is wrong with
the bytes around records (line ends, a byte order mark) is mended by `curate validate --fix`. `enter` and `e` open the
record of a finding; a line that is no record yet is opened too, and saved into its file.
"""
    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("n", "step(1)", "Next", id="validate.next"),
        Binding("e", "edit", "Edit", id="validate.edit", show=False),
        Binding("p,N", "step(-1)", "Previous", id="validate.previous"),
        *MendingActions.KEYS,
        Binding("o", "group", "Group", id="validate.group"),
        Binding("R", "search", "Rerun", id="validate.search"),
        Binding("slash", "filter", "Filter", id="validate.filter"),
        Binding("w", "severities", "Errors, warnings", id="validate.severities", show=False),
        Binding("minus", "fold(True)", "Close all", id="validate.close_all", show=False),
        Binding("plus", "fold(False)", "Open all", id="validate.open_all", show=False),
    ]
    DEFAULT_CSS = """
    ValidateScreen #summary { height: 1; }
    ValidateScreen #filter { height: 1; border: none; padding: 0 1; display: none; }
    ValidateScreen #filter.-open { display: block; }
    ValidateScreen #detail { height: 11; }
    ValidateScreen.-narrow #detail { height: 8; }
    """

    def __init__(self) -> None:
        """Make the screen with everything in sight."""
        super().__init__()
        self._listed: list[Line] = []
        self._folded: set[str] = set()
        self._grouping: By = "code"
        self._severities = 0
        self._filter = ""
        self._is_searching = False
        self._told_at = 0.0
        self._resting: Timer | None = None

    def compose_body(self) -> ComposeResult:
        """Lay the list over what is known of the finding under the cursor."""
        yield Static(id="summary")
        yield SafeInput(placeholder="filter: a word of the code, message, file, record or place", id="filter")
        yield FrameTable(columns(False), key=KEY, can_mark=False, id="problems", classes="main")
        yield TitleRule()
        with VerticalScroll(id="detail"):
            yield Static(id="told")

    # Searching.

    def ready(self) -> None:
        """Search once, unless another screen has."""
        if self.book.problems is None and not self._is_searching:
            self.action_search()
        else:
            self._draw()

    def busy(self) -> str:
        """Return that the records are validated, while they are and nothing of an earlier time is listed."""
        return "validating the records" if self._is_searching and self.book.problems is None else ""

    def on_unmount(self) -> None:
        """Do not keep the app waiting for a search."""
        if self.app.has_project:
            self.book.stop()

    def changed(self, ids: set[str]) -> None:
        """Look again at the records that changed."""
        self.app.background(lambda: self.book.catch_up(ids), self._caught_up, group="validate.catch")

    def reread(self) -> None:
        """Draw the list anew."""
        self.changed(set())

    def action_search(self) -> None:
        """Validate all records."""
        if self._is_searching:
            self.tell("A search is under way.", "warn")
            return
        self._is_searching = True
        self._summarise()
        book = self.book

        def search() -> Problems | CurateError:
            try:
                return book.search(self._progressed)
            except CurateError as error:
                return error

        self.app.background(search, self._searched, group="validate.search")

    def _searched(self, problems: Problems | CurateError) -> None:
        self._is_searching = False
        if isinstance(problems, CurateError):
            self._summarise()
            self.app.tell_error(problems)
            return
        summary = f"{counted(problems.count('error'), 'error')}, {counted(problems.count('warning'), 'warning')}"
        self.app.log_command(self.equal_command(), summary)
        self.tell(f"{summary} in {counted(problems.num_records, 'record')}")
        self._draw()

    def _progressed(self, num_lines: int) -> None:
        """Say how far the search is; called in its thread."""
        now = monotonic()
        if now - self._told_at >= _TICK:
            self._told_at = now
            self.app.call_from_thread(self.tell, f"validating: {num_lines:,} lines")

    def _caught_up(self, _has_changed: bool) -> None:
        self._draw()

    # What is shown.

    @property
    def book(self) -> ProblemList:
        """What is wrong in the project."""
        return problems_of(self.project)

    @property
    def _problems(self) -> FrameTable:
        return self.query_one("#problems", FrameTable)

    def _draw(self) -> None:
        problems, table = self.book.problems, self._problems
        if problems is not None:
            rows = listed(
                problems, by=self._grouping, closed=self._folded, severities=_SOME[self._severities], text=self._filter,
                visible=partial(visible_finding, self.project),
            )  # fmt: skip
            at = table.current
            self._listed = lines_of(rows)
            table.show(source_of(self._listed), at=at, columns=columns(self.is_narrow))
        self._summarise()

    def _summarise(self) -> None:
        book = self.book
        text = summary(
            book.problems, num_stale=book.num_stale, is_searching=self._is_searching, severities=self._severities
        )
        self.query_one("#summary", Static).update(text)

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        """Show what is known of the line under the cursor once that rests: to find out takes longer than a step."""
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(_REST, self._show_current)

    def _show_current(self) -> None:
        line, pane = self._at(self._problems.cursor), self.query_one("#told", Static)
        width = max(30, self.size.width - 2)
        match line:
            case Heading():
                pane.update(render_heading(line, width) if self._grouping == "code" else "")
            case ProblemItem():
                finding = line.finding
                self.app.background(
                    lambda: (self.book.excerpt(finding), self._fix_text(finding)),
                    lambda pair: self._show_finding(finding, *pair),
                    group="validate.detail",
                )
            case MoreRow():
                pane.update(Text("These are counted and not listed. `curate validate --limit N` prints N findings."))
            case None:
                pane.update(Text("Nothing is wrong." if self.book.problems and not self._filter else ""))

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        """Open or close a group, or go to the field of a finding."""
        line = self._at(event.row)
        if isinstance(line, Heading):
            self._folded ^= {line.key}
            self._draw()
        elif isinstance(line, ProblemItem):
            self._open(line.finding)

    def on_resize(self) -> None:
        """Give the columns the room there is."""
        if self._listed:
            self._draw()

    def _at(self, row: int) -> Line | None:
        return self._listed[row] if 0 <= row < len(self._listed) else None

    def chosen(self) -> Finding | None:
        """Return the finding under the cursor, None, and say so, where there is none."""
        line = self._at(self._problems.cursor)
        if isinstance(line, ProblemItem):
            return line.finding
        self.tell_no_use("Put the cursor on a finding.")
        return None

    def _show_finding(self, finding: Finding, excerpt: Excerpt, fix: str) -> None:
        line = self._at(self._problems.cursor)
        if not isinstance(line, ProblemItem) or line.finding != finding:
            return
        title = f"{finding.code} {finding.name}"
        self.query_one("#told", Static).update(
            render_finding(finding, excerpt, fix, max(30, self.size.width - 2), title)
        )

    def _fix_text(self, finding: Finding) -> str:
        if self.book.mending(finding):
            return "f makes a safe fix."
        if self.book.mending(finding, unsafe=True):
            return "f shows a fix that can change the meaning."
        return "" if finding.fix else "No fix: edit the record (enter)."

    def _open(self, finding: Finding) -> None:
        with self.app.attempt():
            if self.book.is_of_record(finding):
                self.app.go("edit", record=finding.record, finding=finding)
            elif finding.line:
                # What cannot be opened is told here, with what to do instead.
                open_line(self.project, finding.file, finding.line)
                self.app.go("edit", file=finding.file, line=finding.line, finding=finding)
            else:
                what = f"the whole file {finding.file}" if finding.file else "all records together"
                self.tell(f"{finding.code} is about {what}: {finding.message}", "warn", finding.fix)

    # What is done.

    def action_step(self, step: int) -> None:
        """Go to the next finding, or the previous one."""
        row = self._problems.cursor + step
        while 0 <= row < len(self._listed) and not isinstance(self._listed[row], ProblemItem):
            row += step
        if 0 <= row < len(self._listed):
            self._problems.cursor = row
        else:
            self.tell_no_use("There is no other finding that way.")

    def action_edit(self) -> None:
        """Open what the finding under the cursor is about: its record, or its line of the file."""
        if (finding := self.chosen()) is not None:
            self._open(finding)

    def action_group(self) -> None:
        """Group by code and place, or by file."""
        self._grouping = "file" if self._grouping == "code" else "code"
        self._draw()
        self.tell(f"grouped by {self._grouping}")

    def action_severities(self) -> None:
        """Show everything, errors only, or errors and warnings."""
        self._severities = (self._severities + 1) % len(_SOME)
        self._draw()

    def action_fold(self, is_closed: bool) -> None:
        """Close all groups, or open them."""
        problems = self.book.problems
        visible = partial(visible_finding, self.project)
        headings = listed(problems, by=self._grouping, visible=visible) if problems and is_closed else []
        self._folded = {heading.key for heading in headings if isinstance(heading, Heading)}
        self._draw()

    def action_filter(self) -> None:
        """Ask for a word that findings must hold."""
        field = self.query_one("#filter", SafeInput)
        field.add_class("-open")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """List what holds the word that is typed."""
        if event.input.id == "filter":
            self._filter = event.value.strip()
            self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go back to the list."""
        if event.input.id == "filter":
            self._problems.focus()

    def close_side(self) -> bool:
        """Take the filter away first."""
        field = self.query_one("#filter", SafeInput)
        if field.has_class("-open"):
            field.value = ""
            field.remove_class("-open")
            self._problems.focus()
            return True
        return super().close_side()

    def equal_command(self) -> str:
        """Return the command that finds the same in a build."""
        return self.book.ci_command()

    def record_json(self) -> str:
        """Return the record of the finding under the cursor."""
        import json

        line = self._at(self._problems.cursor)
        name = line.finding.record if isinstance(line, ProblemItem) else ""
        if not name or self.project.catalog.find(name) is None:
            return ""
        return json.dumps(dict(self.project.state(name).record.data), ensure_ascii=False)
