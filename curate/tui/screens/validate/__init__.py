"""Validate: the list of what is wrong, with the place of each finding, and what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from curate.base.console import typed
from curate.base.record import CurateError, Finding
from curate.base.tables import counted
from curate.project.single_file import WORKSPACE_HINT
from curate.sessions.excerpt import Excerpt
from curate.sessions.lines import open_line
from curate.sessions.problem_groups import ORDER, By, Heading, ProblemItem, Problems, listed
from curate.sessions.problem_search import RecordFixes
from curate.sessions.problems import ProblemList, problems_of
from curate.sessions.remedies import change_lines, excuse
from curate.tui.border import dotted
from curate.tui.chrome import TitleRule
from curate.tui.frame_table import FrameTable
from curate.tui.remedies import of_all, offer_remedies
from curate.tui.screen import ProjectScreen
from curate.tui.screens.validate.rendering import (
    KEY,
    Line,
    MoreRow,
    columns,
    lines_of,
    render_finding,
    render_heading,
    source_of,
    summary,
)
from curate.tui.widgets import Pause, SafeInput

_TICK = 0.25  # Seconds between two words about how far a search is.
_REST = 0.08  # Seconds without another step until what is known of a finding is looked up.
_SOME = (ORDER, ORDER[:1], ORDER[:2])


class ValidateScreen(ProjectScreen):
    """The problem list: grouped, filtered, live; from each finding to its field."""

    NAME, TITLE = "validate", "Validate"
    SHOWS_LINES = True
    AUTO_FOCUS = "#problems"
    HELP = """
Findings by code and by the place that they point at. All are counted; the first thousand of each group are listed.

An edit is looked at again at once. What concerns all records together, such as repeats, is as of the last search: `R`
searches again.

`f` says what can be done about a finding: fix, redact (all alike, too), drop, excuse. These are decisions in the
journal: `u` takes them back, and the files stay as they are. What is wrong with
the bytes around records (line ends, a byte order mark) is fixed by `curate validate --fix`. `enter` and `e` open the
record of a finding; a line that is no record yet is opened too, and saved into its file.
"""
    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("n", "step(1)", "Next", id="validate.next"),
        Binding("e", "edit", "Edit", id="validate.edit", show=False),
        Binding("p,N", "step(-1)", "Previous", id="validate.previous"),
        Binding("f,ctrl+r", "remedy", "Remedies", id="validate.remedy"),
        Binding("F", "fix_all", "Fix all safe", id="validate.fix_all"),
        Binding("i", "ignore", "Ignore", id="validate.ignore", show=False),
        Binding("B", "baseline", "Baseline", id="validate.baseline"),
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
    ValidateScreen #detail { height: 11; max-height: 45%; }
    ValidateScreen.-narrow #detail { height: 8; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._listed: list[Line] = []
        self._folded: set[str] = set()
        self._grouping: By = "code"
        self._severities = 0
        self._filter = ""
        self._is_searching = False
        self._last_progress = 0.0
        self._resting = Pause(self)

    def compose_body(self) -> ComposeResult:
        yield Static(id="summary")
        yield SafeInput(placeholder="filter: a word of the code, message, file, record or place", id="filter")
        yield FrameTable(columns(False), key=KEY, can_mark=False, id="problems", classes="main")
        yield TitleRule()
        with VerticalScroll(id="detail"):
            yield Static(id="finding")

    # Searching.

    def ready(self) -> None:
        if self.problem_list.problems is None and not self._is_searching:
            self.action_search()
        else:
            self._draw()

    def busy(self) -> str:
        return "validating the records" if self._is_searching and self.problem_list.problems is None else ""

    def on_unmount(self) -> None:
        if self.app.has_project:
            self.problem_list.stop()

    def changed(self, ids: set[str]) -> None:
        self.app.background(lambda: self.problem_list.catch_up(ids), lambda _: self._draw(), group="validate.catch")

    def reread(self) -> None:
        self.changed(set())

    def action_search(self) -> None:
        if self._is_searching:
            self.tell("A search is under way.", "warn")
            return
        self._is_searching = True
        self._summarise()
        search = partial(self.problem_list.search, self._progressed)
        self.app.background(search, self._searched, group="validate.search", failed=self._search_failed)

    def _search_failed(self, error: CurateError) -> None:
        self._is_searching = False
        self._summarise()
        self.app.tell_error(error)

    def _searched(self, problems: Problems) -> None:
        self._is_searching = False
        summary = f"{counted(problems.count('error'), 'error')}, {counted(problems.count('warning'), 'warning')}"
        self.app.log_command(self.equal_command(), summary)
        self.tell(f"{summary} in {counted(problems.num_records, 'record')}")
        self._draw()

    # Say how far the search is; called in its thread.
    def _progressed(self, num_lines: int) -> None:
        now = monotonic()
        if now - self._last_progress >= _TICK:
            self._last_progress = now
            self.app.call_from_thread(self.tell, f"validating: {num_lines:,} lines")

    # What is shown.

    @property
    def problem_list(self) -> ProblemList:
        """What is wrong in the project."""
        return problems_of(self.project)

    @property
    def _table(self) -> FrameTable:
        return self.query_one("#problems", FrameTable)

    def _draw(self) -> None:
        problems, table = self.problem_list.problems, self._table
        if problems is not None:
            rows = listed(
                problems, by=self._grouping, closed=self._folded, severities=_SOME[self._severities], text=self._filter,
                visible=self.project.visible_finding,
            )  # fmt: skip
            at = table.current
            self._listed = lines_of(rows)
            table.show(source_of(self._listed), at=at, columns=columns(self.is_narrow))
        self._summarise()

    def _summarise(self) -> None:
        problems = self.problem_list
        self.put("summary", summary(problems.problems, problems.num_stale, self._is_searching, self._severities))

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        # Show what is known of the line under the cursor once that rests: to find out takes longer than a step.
        self._resting.begin(_REST, self._show_current)

    def _show_current(self) -> None:
        line = self._line(self._table.cursor)
        width = max(30, self.size.width - 2)
        match line:
            case Heading():
                self.put("finding", render_heading(line, width) if self._grouping == "code" else "")
            case ProblemItem():
                finding = line.finding
                self.app.background(
                    lambda: (self.problem_list.excerpt(finding), self._fix_text(finding)),
                    lambda pair: self._show_finding(finding, *pair),
                    group="validate.detail",
                )
            case MoreRow():
                self.put(
                    "finding", Text("These are counted and not listed. `curate validate --limit N` prints N findings.")
                )
            case None:
                self.put(
                    "finding", Text("Nothing is wrong." if self.problem_list.problems and not self._filter else "")
                )

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        line = self._line(event.row)
        if isinstance(line, Heading):
            self._folded ^= {line.key}
            self._draw()
        elif isinstance(line, ProblemItem):
            self._open(line.finding)

    def on_resize(self) -> None:
        if self._listed:
            self._draw()

    def _line(self, row: int) -> Line | None:
        return self._listed[row] if 0 <= row < len(self._listed) else None

    def chosen(self) -> Finding | None:
        """Return the finding under the cursor, or below the heading there; None, and say so, where there is none."""
        row = self._table.cursor
        if isinstance(self._line(row), Heading) and isinstance(self._line(row + 1), ProblemItem):
            row = self._table.cursor = row + 1
        line = self._line(row)
        if isinstance(line, ProblemItem):
            return line.finding
        self.tell_no_use("Put the cursor on a finding.")
        return None

    def _show_finding(self, finding: Finding, excerpt: Excerpt, fix: str) -> None:
        line = self._line(self._table.cursor)
        if not isinstance(line, ProblemItem) or line.finding != finding:
            return
        self.put("finding", render_finding(finding, excerpt, fix, max(30, self.size.width - 2)))

    def _fix_text(self, finding: Finding) -> str:
        fix = self.problem_list.mending(finding)
        if fix is None:
            if not self.problem_list.is_of_record(finding):
                return "" if finding.fix or finding.line else of_all(finding)
            return "" if finding.fix else "No fix. enter edits the record, f says what else can be done."
        if not fix.changes:
            return "The schema does not allow the fix: edit the record (enter)."
        return "f makes a safe fix." if fix.is_safe else "f shows a fix that can change the meaning."

    # Return what Edit is called with for a finding, None for one that is about more than a record or a line.
    def _opening(self, finding: Finding) -> dict[str, Any] | None:
        if self.problem_list.is_of_record(finding):
            return {"record": finding.record, "finding": finding}
        if not finding.line:
            return None
        # What cannot be opened is told here, with what to do instead.
        open_line(self.project, finding.file, finding.line)
        return {"file": finding.file, "line": finding.line, "finding": finding}

    def neighbour(self, opened: Mapping[str, Any], by: int) -> dict[str, Any] | None:
        row = self._row_of(opened)
        row = self._table.cursor if row is None else row
        while 0 <= (row := row + by) < len(self._listed):
            line = self._listed[row]
            with suppress(CurateError):
                if isinstance(line, ProblemItem) and (opening := self._opening(line.finding)):
                    return opening
        return None

    def position(self, opened: Mapping[str, Any]) -> str:
        row = self._row_of(opened)
        if row is None:
            return ""
        # Back here, the cursor stands on what was opened last, or on what has come in its place.
        self._table.cursor = row
        numbers = [number for number, line in enumerate(self._listed) if isinstance(line, ProblemItem)]
        return f"finding {numbers.index(row) + 1:,} of {len(numbers):,}"

    def _row_of(self, opened: Mapping[str, Any]) -> int | None:
        finding = opened.get("finding")
        lines = enumerate(self._listed)
        return next((row for row, line in lines if isinstance(line, ProblemItem) and line.finding == finding), None)

    def _open(self, finding: Finding) -> None:
        with self.app.attempt():
            if opening := self._opening(finding):
                self.app.go("edit", **opening, listing=self)
            else:
                what = f"the whole file {finding.file}" if finding.file else "all records together"
                self.tell(f"{finding.code} is about {what}: {finding.message}", "warn", finding.fix or of_all(finding))

    # What is done.

    def action_step(self, step: int) -> None:
        row = self._table.cursor + step
        while 0 <= row < len(self._listed) and not isinstance(self._listed[row], ProblemItem):
            row += step
        if 0 <= row < len(self._listed):
            self._table.cursor = row
            self.app.clear_message()
        else:
            self.tell_no_use("There is no other finding that way.")

    def action_edit(self) -> None:
        if (finding := self.chosen()) is not None:
            self._open(finding)

    def action_group(self) -> None:
        self._grouping = "file" if self._grouping == "code" else "code"
        self._draw()
        self.tell(f"grouped by {self._grouping}")

    def action_severities(self) -> None:
        self._severities = (self._severities + 1) % len(_SOME)
        self._draw()

    def action_fold(self, is_closed: bool) -> None:
        problems = self.problem_list.problems
        visible = self.project.visible_finding
        headings = listed(problems, by=self._grouping, visible=visible) if problems and is_closed else []
        self._folded = {heading.key for heading in headings if isinstance(heading, Heading)}
        self._draw()

    def action_filter(self) -> None:
        field = self.query_one("#filter", SafeInput)
        field.add_class("-open")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self._filter = event.value.strip()
            self._draw()
            self._table.cursor = 0

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "filter":
            self._table.focus()

    def close_side(self) -> bool:
        field = self.query_one("#filter", SafeInput)
        if field.has_class("-open"):
            field.value = ""
            field.remove_class("-open")
            self._table.focus()
            return True
        return super().close_side()

    def equal_command(self) -> str:
        return self.problem_list.ci_command()

    def current_record(self) -> str:
        line = self._line(self._table.cursor)
        return line.finding.record if isinstance(line, ProblemItem) else ""

    # Fixes and `x-ignore`, which are edits, and the baseline, which is a file.

    def action_remedy(self) -> None:
        if (finding := self.chosen()) is not None:
            offer_remedies(self.app, self.project, finding, self._tell_done)

    def _tell_done(self, done: str) -> None:
        self.tell(f"{done} (u undoes)")

    def action_fix_all(self) -> None:
        search, message = self.problem_list.mendings, "looking for safe fixes ..."
        self.app.background(search, self._ask_all, group="validate.show.fixes", message=message)

    def _ask_all(self, fixes: RecordFixes) -> None:
        refused = f"; {fixes.num_refused:,} more the schema would not allow" if fixes.num_refused else ""
        if not fixes.num_records:
            remedy = "f says what can be done about one finding. `curate validate --fix` fixes bytes around records."
            self.tell(f"There is no safe fix to make{refused}.", remedy=remedy)
            return
        if fixes.num_records > len(fixes.fixes):
            message = f"{fixes.num_records:,} records are too many for edits."
            self.tell(message, "warn", "`curate validate --fix` fixes the files.")
            return
        names = ", ".join(f"{number:,} {name}" for name, number in fixes.counts.most_common())
        question = f"Fix {counted(fixes.num_records, 'record')} ({names}{refused}) by edits? One u takes all back.\n"
        first = "\n".join(["", f"{fixes.fixes[0].record}:", *change_lines(fixes.fixes[0])])
        self.app.ask(question + dotted(first), lambda: self._mend_all(fixes))

    def _mend_all(self, fixes: RecordFixes) -> None:
        def announce(done: Any) -> None:
            late = f", {done.num_changed:,} had changed meanwhile" if done.num_changed else ""
            self.tell(f"fixed {counted(done.num_mended, 'record')}{late} (u undoes)")

        self.app.background(lambda: self.problem_list.mend(fixes.fixes), announce, group="write.validate")

    def action_ignore(self) -> None:
        if (finding := self.chosen()) is not None:
            self._tell_done(excuse(self.project, finding))

    def action_baseline(self) -> None:
        name = self.project.settings.checks.baseline
        if self.project.file:
            self.tell("One file keeps no baseline outside of it.", "warn", WORKSPACE_HINT)
            return
        if not name:
            remedy = 'Write baseline = "baseline.json" under [checks].'
            self.tell("curate.toml names no baseline.", "warn", remedy)
            return
        problems = self.problem_list.problems
        number = counted(sum(group.count for group in problems.groups), "finding") if problems else "all findings"
        question = f"Write {number} to {name}? They are forgiven from then on, until their records change."
        self.app.ask(question, self._write_baseline)

    def _write_baseline(self) -> None:
        def written(changed: Any) -> None:
            message = f"{changed.num_findings:,} findings: {changed.num_new:,} new, {changed.num_mended:,} gone"
            self.app.log_command(f"curate validate {typed(self.project.root)} --update-baseline", message)
            self.tell(message)
            self.action_search()

        self.app.background(self.problem_list.write_baseline, written, group="write.validate")
