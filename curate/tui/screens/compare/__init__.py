"""Compare: a run beside another one, or beside its base, category by category, and what it does on single records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from curate.base.record import CurateError
from curate.project.data import ProjectData
from curate.project.feedback import PAGE_FILE, legend
from curate.sessions.run_comparison import VIEWS, RecordPair, RunComparison, ScoreRow, View, compare_runs, gate_command
from curate.sessions.runs import Run, runs_of
from curate.tui.border import bar, cut_middle, safe_lines, safe_text
from curate.tui.dialogs import Pages
from curate.tui.frame_table import Column, FrameTable, Tone
from curate.tui.screen import ProjectScreen
from curate.tui.widgets import hanging

Metric = Literal["score", "bits per byte"]
Order = Literal["category", "change", "n"]
_METRICS: tuple[Metric, ...] = ("score", "bits per byte")
_ORDERS: tuple[Order, ...] = ("category", "change", "n")
_NOT = "not reported"
_DASH = "-"
_LOW = 20  # Lines below which the records get the room of the legend and of what changed.


def tone(value: str) -> Tone:
    """Return how a change is drawn: only a verdict that it got better or worse has a colour."""
    return {"+": "ok", "!": "error", "": ""}.get(value.partition(" ")[2], "muted")  # type: ignore[return-value]


def columns(comparison: RunComparison, metric: Metric, *, is_narrow: bool) -> list[Column]:
    """Return the columns of the table of categories."""
    second = "C" if comparison.first else "B"
    sides = [Column("A", 6, is_right=True), *([Column("B", 6, is_right=True)] if comparison.first else [])]
    names = [Column("category"), Column("n", 6, is_right=True), *sides, Column(second, 6, is_right=True)]
    against = f"{second}-{'B' if comparison.first else 'A'}"
    changes = [Column(against, 8, is_right=True, tone=tone), Column("95 %", 16)]
    counts = [] if is_narrow or metric != "score" else [Column("win/tie/loss", 13)]
    return [*names, *changes, *counts, *([] if is_narrow else [Column(f"bar ({second})", 18)])]


def rows_of(comparison: RunComparison, metric: Metric, order: Order, *, is_narrow: bool) -> list[tuple[str, ...]]:
    """Return the categories in some order, and last the mean over them."""
    rows = sorted(comparison.rows, key=lambda row: _rank(row, order))
    return [
        _cells(comparison, row, metric, is_narrow) for row in [*rows, *([comparison.macro] if comparison.macro else [])]
    ]


def render_head(comparison: RunComparison, metric: Metric) -> Text:
    """Return which runs are compared, and on what."""
    base = comparison.second.text_at("recipe", "base")
    sides = [f"base {base}".rstrip(), *([comparison.first.id] if comparison.first else []), comparison.second.id]
    text = Text(" ", no_wrap=True, end="")
    for letter, side in zip("ABC", sides, strict=False):
        text.append_text(Text.assemble((f"{letter} ", "strong"), safe_text(side, 28), "   "))
    number = sum(row.n or 0 for row in comparison.rows)
    text.append(f"{metric}   {comparison.split} {number:,}", "muted")
    return text


def render_notes(comparison: RunComparison, *, has_legend: bool) -> Text:
    """Return what the marks mean, where there is room for it, and what could not be compared."""
    rows = [*comparison.rows, *([comparison.macro] if comparison.macro else [])]
    lines = [Text(legend([row.verdict for row in rows]), style="muted")] if has_legend else []
    lines += [safe_text(note, 200, "warn") for note in comparison.notes]
    lines += [safe_text(line, 400, "warn" if len(comparison.general) > 1 else "muted") for line in comparison.general]
    return Text("\n").join(lines)


def render_changes(comparison: RunComparison, width: int) -> Text:
    """Return what differs between two runs, what is the same last; a line that goes on is set in under its text."""
    if comparison.first is None:
        return Text.assemble(("WHAT CHANGED", "strong"), ("  the run beside its own base", "muted"))
    lines = [Text("WHAT CHANGED  B -> C", style="strong")]
    for difference in sorted(comparison.changed, key=lambda change: change.is_same and not change.what.startswith(" ")):
        style = "muted" if difference.is_same else ""
        head = safe_text(f"{difference.what:<16} ", 30, "muted")
        lines.append(hanging(head, safe_text(difference.text, 400, style), width))
    return Text("\n").join(lines)


def render_views(comparison: RunComparison, view: View, category: str | None) -> Text:
    """Return how many validation records each view lists, and which view and category are shown."""
    text = Text("validation: ", style="muted")
    for name in VIEWS:
        count = f"{name} {len(comparison.listed(name, category)):,}"
        text.append_text(
            Text.assemble((f"[{count}]" if name == view else f" {count} ", "strong" if name == view else ""))
        )
        text.append(" ")
    if category is not None:
        text.append_text(Text.assemble(" of ", safe_text(category or "(none)", 24, "accent"), "  esc: all"))
    return text


def render_pair(pair: RecordPair | None, texts: tuple[str, str], comparison: RunComparison, view: View) -> Text:
    """Return a validation record under both models: its prompt, what was wanted (``texts``), and what both said."""
    if pair is None:
        num_wrong = len(comparison.listed("still wrong"))
        more = f" w lists {num_wrong:,} that are still wrong." if num_wrong and view != "still wrong" else ""
        none = {"worse": "got worse", "still wrong": "is still wrong", "better": "got better"}[view]
        return Text(f"No validation record {none}.{more} Test records are not looked at one by one.", style="muted")
    letters = ("B", "C") if comparison.first else ("A", "B")
    answers = (pair.said_before if comparison.first else None, pair.said_after)
    lines = [Text.assemble(safe_text(cut_middle(pair.id, 40), 40, "strong"), "  ", safe_text(pair.category, 30))]
    for title, text in zip(("PROMPT", "EXPECTED"), texts, strict=True):
        lines += [Text(title, style="muted"), safe_lines(text)]
    for letter, score, answer in zip(letters, (pair.before, pair.after), answers, strict=True):
        lines += [Text(f"{letter}  {score:.2f}", style="muted"), safe_lines(answer if answer is not None else _NOT)]
    return Text("\n").join(lines)


def pair_rows(pairs: Sequence[RecordPair]) -> list[tuple[str, ...]]:
    """Return validation records under both models as rows."""
    return [(item.id, item.category, f"{item.before:.2f} -> {item.after:.2f}") for item in pairs]


def _rank(row: ScoreRow, order: Order) -> tuple[float, str]:
    if order == "change":
        return (row.difference if row.difference is not None else 9.0, row.category)
    return (-(row.n or 0) if order == "n" else 0.0, row.category)


def _cells(comparison: RunComparison, row: ScoreRow, metric: Metric, is_narrow: bool) -> tuple[str, ...]:
    is_score = metric == "score"
    base, first, second = (row.base, row.first, row.second) if is_score else row.bits
    before = first if comparison.first else base
    difference = row.difference
    if not is_score:
        difference = None if second is None or before is None else second - before
    sides = [_number(base), *([_number(first)] if comparison.first else []), _number(second)]
    mark = f" {row.verdict.mark}" if is_score and row.verdict else ""
    change = _DASH if difference is None else f"{difference:+.2f}{mark}"
    is_known = is_score and row.low is not None and row.high is not None
    span = f"[{row.low:+.2f}, {row.high:+.2f}]" if is_known else _NOT
    cells = [row.category or "(none)", f"{row.n:,}" if row.n is not None else "", *sides, change, span]
    if not is_narrow:
        if is_score:
            cells.append(_counts(row))
        cells.append(bar(second, 18) if is_score and second is not None else "")
    return tuple(cells)


def _counts(row: ScoreRow) -> str:
    if row.better is None or row.worse is None or row.n is None:
        return ""
    return f"{row.better}/{row.n - row.better - row.worse}/{row.worse}"


def _number(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}"


LoadedRuns = tuple[list[Run], RunComparison | None]


def _reported(data: ProjectData) -> list[Run]:
    """Return the runs that have a report, the newest first."""
    return [run for run in runs_of(data) if run.has_report]


class PickRuns(ModalScreen[list[str]]):
    """A list of runs of which one or two are marked; closes with their ids, the older one first."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape,q", "dismiss", "Cancel", id="compare_pick.cancel"),
        Binding("a", "accept", "Compare", id="compare_pick.accept"),
    ]

    def __init__(self, runs: Sequence[Run], chosen: Sequence[str]) -> None:
        """Offer ``runs``, newest first, with those ``chosen`` marked."""
        super().__init__()
        self._runs, self._chosen = list(runs), set(chosen)

    def compose(self) -> ComposeResult:
        with Vertical(classes="box large"):
            yield Static(Text("Compare which runs? Mark one, to see it beside its base, or two.", style="strong"))
            yield FrameTable([Column("run", 24), Column("dataset", 10), Column("created")], id="runs")
            yield Static(
                Text.assemble(("space", "key"), " mark   ", ("enter", "key"), " compare   ", ("esc", "key"), " no")
            )

    def on_mount(self) -> None:
        rows = [(run.id, run.text_at("dataset", "name"), run.text_at("created")) for run in self._runs]
        table = self.query_one(FrameTable)
        table.marks = self._chosen & {run.id for run in self._runs}
        table.show(rows)
        table.focus()

    def on_frame_table_opened(self, _event: FrameTable.Opened) -> None:
        self.action_accept()

    def action_accept(self) -> None:
        chosen = self.query_one(FrameTable).chosen()
        self.dismiss([run.id for run in reversed(self._runs) if run.id in chosen])


class CompareScreen(ProjectScreen):
    """Scores with intervals, what changed, and the validation records that got worse, better, or are still wrong."""

    NAME, TITLE = "compare", "Compare"
    AUTO_FOCUS = "#worse"
    HELP = """
`space` picks one run, to see it beside its base, or two. Differences are paired: record by record, over the records
that both runs were evaluated on, with clusters of repeats counted once.

Below, `w` goes from the validation records that got worse to those that are still wrong and those that got better.
`enter` on a category lists its records alone, `enter` on a record opens it, and `o` opens those that the run gets wrong
as a queue.

Only validation records are ever named. The test split is seen as numbers alone.

Marks: `+` improved, `!` regressed, `=` within margin, `~` inconclusive, `?` too few records for a verdict.
"""
    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("space", "pick", "Pick runs", id="compare.pick"),
        Binding("m", "metric", "Metric", id="compare.metric"),
        Binding("s", "sort", "Sort", id="compare.sort"),
        Binding("w", "view", "Worse/wrong/better", id="compare.view"),
        Binding("o", "queue", "Queue of wrong ones", id="compare.queue"),
        Binding("n", "step(1)", "Next record", id="compare.next"),
        Binding("p", "step(-1)", "Previous record", id="compare.previous", show=False),
        Binding("h", "page", "HTML report", id="compare.page"),
        # Before the tables, where it goes to the last row.
        Binding("G", "gate", "Gate", id="compare.gate", priority=True),
    ]
    DEFAULT_CSS = """
    CompareScreen #head { height: 1; }
    CompareScreen #notes { height: auto; max-height: 8; }
    CompareScreen #lower { height: 1fr; min-height: 6; }
    CompareScreen #changed { height: auto; max-height: 50%; }
    CompareScreen #views { height: auto; }
    CompareScreen #worse { height: 1fr; min-height: 3; }
    """
    # Not among the defaults, which the app's own lines on tables come before.
    CSS = """
    CompareScreen FrameTable:blur > .frame-table--cursor { text-style: none; }
    CompareScreen FrameTable:focus > .frame-table--head { text-style: bold reverse; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._chosen_runs: list[str] = []
        self._all: list[Run] = []
        self._is_comparing = False
        self._comparison: RunComparison | None = None
        self._metric: Metric = "score"
        self._sorting: Order = "category"
        self._view: View = "worse"
        self._category: str | None = None
        self._pairs: list[RecordPair] = []  # Those that are listed.

    def compose_body(self) -> ComposeResult:
        yield Static(id="head")
        yield FrameTable([Column("category")], can_mark=False, id="scores")
        yield Static(id="notes")
        with Horizontal(id="lower"):
            with Vertical(classes="main pane"):
                with VerticalScroll(id="changed"):
                    yield Static(id="differences")
                yield Static(id="views")
                yield FrameTable(
                    [Column("record", is_name=True), Column("category", 14), Column("score", 14)], can_mark=False,
                    id="worse",
                )  # fmt: skip
            with VerticalScroll(classes="side pane"):
                yield Static(id="record")

    def ready(self) -> None:
        self._compare()

    def arrive(self, **what: Any) -> None:
        if "runs" in what:
            self._chosen_runs = [str(run) for run in what["runs"]][-2:]
            self._compare()

    def on_screen_resume(self) -> None:
        # A run may have ended meanwhile.
        if self.app.following.is_loaded and not self.is_on_standby and not self._is_comparing:
            self.app.background(partial(_reported, self.project.data), self._see_runs, group="compare.look")

    def _see_runs(self, runs: list[Run]) -> None:
        if [run.id for run in runs] != [run.id for run in self._all]:
            self._compare()

    def busy(self) -> str:
        return "comparing the runs" if self._is_comparing else ""

    def _compare(self) -> None:
        data, chosen = self.project.data, list(self._chosen_runs)
        self._is_comparing = True

        def compared() -> LoadedRuns:
            runs = _reported(data)
            picked = [run for run in reversed(runs) if run.id in chosen] or list(reversed(runs[:2]))
            if not picked:
                return runs, None
            return runs, compare_runs(data, picked[0] if len(picked) > 1 else None, picked[-1])

        self.app.background(compared, self._show, group="compare.read", failed=self._compare_failed)

    def _compare_failed(self, error: CurateError) -> None:
        self._is_comparing, self._comparison = False, None
        self.app.tell_error(error)
        self.put("head", Text(" these runs cannot be compared; space picks others", style="warn"))

    def _show(self, loaded: LoadedRuns) -> None:
        self._is_comparing = False
        self._all, comparison = loaded
        if comparison is not None and not comparison.listed(self._view):
            # An empty list says less than the next one.
            self._view = next((view for view in VIEWS if comparison.listed(view)), self._view)
        self._comparison = comparison
        self._draw()

    def _draw(self) -> None:
        comparison = self._comparison
        if comparison is None:
            text = " No finished run with a report yet: `curate train` makes one (g t)."
            self.put("head", Text(text, style="muted"))
            return
        self.put("head", render_head(comparison, self._metric))
        is_low = self.size.height < _LOW
        self.put("notes", render_notes(comparison, has_legend=not is_low))
        self.query_one("#changed").display = not is_low
        is_narrow = self.is_narrow
        pane = self.size.width if is_narrow else self.size.width // 2 - 1
        self.put("differences", render_changes(comparison, pane))
        scores = self.query_one("#scores", FrameTable)
        rows = rows_of(comparison, self._metric, self._sorting, is_narrow=is_narrow)
        # As high as its rows, so that the lists below get what is left.
        scores.styles.height = min(len(rows) + 1, max(4, (self.size.height - 6) * 2 // 5))
        scores.show(rows, columns=columns(comparison, self._metric, is_narrow=is_narrow))
        self._show_records()

    def _show_records(self) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        self.put("views", render_views(comparison, self._view, self._category))
        self._pairs = comparison.listed(self._view, self._category)
        worse = self.query_one("#worse", FrameTable)
        worse.show(pair_rows(self._pairs), at=worse.current)

    # Single records.

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        if event.table.id == "worse" and self._comparison is not None:
            pair = self._pair(event.row)
            texts = self._texts(pair.id) if pair else ("", "")
            self.put("record", render_pair(pair, texts, self._comparison, self._view))

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        if event.table.id == "scores":
            names = (
                {row.category or "(none)": row.category for row in self._comparison.rows} if self._comparison else {}
            )
            chosen = names.get(event.key)
            # Once more on the same, or on the mean of all, lists all again.
            self._category = None if chosen == self._category else chosen
            self._show_records()
            return
        pair = self._pair(event.row)
        if pair is None:
            return
        if self.is_narrow and not self.is_side_open:
            self.is_side_open = True
        elif self.project.catalog.find(pair.id) is None:
            self.tell(f"{pair.id} is not in the data any more", "warn")
        else:
            self.app.go("edit", record=pair.id, listing=self)

    def neighbour(self, opened: Mapping[str, Any], by: int) -> dict[str, Any] | None:
        ids = [pair.id for pair in self._pairs]
        name = opened.get("record")
        following = ids.index(name) + by if name in ids else -1
        return {"record": ids[following]} if 0 <= following < len(ids) else None

    def position(self, opened: Mapping[str, Any]) -> str:
        ids, name = [pair.id for pair in self._pairs], opened.get("record")
        if name not in ids:
            return ""
        # Back here, the cursor stands on what was opened last.
        self.query_one("#worse", FrameTable).cursor = ids.index(name)
        return f"{self._view} {ids.index(name) + 1} of {len(ids)}"

    def _pair(self, row: int) -> RecordPair | None:
        return self._pairs[row] if 0 <= row < len(self._pairs) else None

    # Return the prompt of a record and what it wants, as they are now.
    def _texts(self, name: str) -> tuple[str, str]:
        if self.project.catalog.find(name) is None:
            return ("(the record is gone)",) * 2
        try:
            record = self.project.state(name).record
        except CurateError as error:
            return (f"({error.message})",) * 2
        return record.prompt or record.text, record.completion

    def close_side(self) -> bool:
        if super().close_side():
            return True
        was_filtered, self._category = self._category is not None, None
        if was_filtered:
            self._show_records()
        return was_filtered

    def action_view(self) -> None:
        if self._comparison is None:
            self.tell_no_use("There is nothing to compare.")
            return
        self._view = VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)]
        self._show_records()

    def action_queue(self) -> None:
        if self._comparison is None:
            self.tell_no_use("There is nothing to compare.")
        else:
            self.app.go("queue", of="wrong", run=self._comparison.second.id)

    def action_step(self, step: int) -> None:
        if self._comparison is None:
            self.tell_no_use("There is nothing to compare.")
        self.query_one("#worse", FrameTable).cursor += step

    # The rest.

    def action_pick(self) -> None:
        if not self._all:
            self.tell_no_use("There is no finished run with a report.")
            return

        def picked(chosen: list[str] | None) -> None:
            if chosen and len(chosen) > 2:
                self.tell("Two runs at the most can be compared.", "warn")
            elif chosen:
                self._chosen_runs = chosen
                self._compare()

        comparison = self._comparison
        now = [run.id for run in (comparison.first, comparison.second) if run] if comparison else []
        self.app.push_screen(PickRuns(self._all, now), picked)

    def action_metric(self) -> None:
        self._metric = _METRICS[(_METRICS.index(self._metric) + 1) % len(_METRICS)]
        self._draw()
        self.tell("bits per byte: lower is better; runs report no interval" if self._metric != "score" else "score")

    def action_sort(self) -> None:
        self._sorting = _ORDERS[(_ORDERS.index(self._sorting) + 1) % len(_ORDERS)]
        self._draw()
        self.tell(f"sorted by {self._sorting}")

    def action_page(self) -> None:
        page = self._comparison.second.folder / PAGE_FILE if self._comparison else None
        if page is None or not page.is_file():
            self.tell_no_use("This run has no report.html.")
            return
        self.app.copy_to_clipboard(str(page))
        self.tell(f"copied: {page}")

    def action_gate(self) -> None:
        if self._comparison is None:
            self.tell_no_use("There is nothing to compare.")
            return
        command = gate_command(self._comparison.first, self._comparison.second)
        self.app.copy_to_clipboard(command)
        page = safe_lines(f"{command}\n\nExits 1 when a category is worse beyond chance and by more than the margin.\n")
        self.app.push_screen(Pages("Gate for a build (copied)", page))

    def equal_command(self) -> str:
        comparison = self._comparison
        if comparison is None:
            return ""
        if comparison.first is None:
            return f"curate report {comparison.second.folder} --workspace {self.project.root}"
        return f"train compare {comparison.first.folder} {comparison.second.folder}"

    def current_record(self) -> str:
        pair = self._pair(self.query_one("#worse", FrameTable).cursor)
        return pair.id if pair else ""

    def on_resize(self) -> None:
        if self._comparison is not None:
            self._draw()
