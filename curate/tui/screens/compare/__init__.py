"""Compare: a run beside another one, or beside its base, category by category, and what it does on single records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from curate.base.console import typed
from curate.base.record import CurateError
from curate.project.data import ProjectData
from curate.project.feedback import PAGE_FILE, STANDINGS, standing_of
from curate.sessions.run_comparison import (
    MOST_MODELS,
    VIEWS,
    RecordPair,
    RunComparison,
    View,
    compare_models,
    gate_command,
)
from curate.sessions.runs import Run, evaluations_of, members_of, runs_of
from curate.tui.blind import BlindScreen
from curate.tui.border import safe_lines
from curate.tui.dialogs import Pages
from curate.tui.frame_table import Column, FrameTable
from curate.tui.screen import ProjectScreen
from curate.tui.screens.compare.rendering import (
    METRICS,
    ORDERS,
    Metric,
    Order,
    columns,
    pair_rows,
    render_changes,
    render_head,
    render_notes,
    render_pair,
    render_views,
    rows_of,
)

_LOW = 20  # Lines below which the records get the room of the legend and of what changed.
_GATE = "Exits 1 where a category is worse beyond chance and by the margin or more, or cannot be scored."
_TRIVIAL_FROM = 70
LoadedRuns = tuple[list[Run], list[RunComparison]]


def _reported(data: ProjectData) -> list[Run]:
    """Return the runs that have a report, the newest first, each series before its runs, and then the evaluations that
    have ended.
    """
    evaluations = [run for run in evaluations_of(data) if run.standing in ("finished", "stopped")]
    runs = [part for run in runs_of(data) for part in (run, *members_of(run))]
    return [run for run in runs if run.has_report] + evaluations


class PickRuns(ModalScreen[list[str]]):
    """A list of runs and evaluations of which up to four are marked; closes with their ids, the last in it first."""

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
            title = "Compare which? Mark one run, to see it beside its base, or two to four of all."
            yield Static(Text(title, style="strong"))
            yield FrameTable(
                [Column("run", 24), Column("dataset", 10), Column("created", 20), Column("model")], id="runs"
            )
            yield Static(
                Text.assemble(("space", "key"), " mark   ", ("enter", "key"), " compare   ", ("esc", "key"), " no")
            )

    def on_mount(self) -> None:
        rows = [(run.id, run.text_at("dataset", "name"), run.text_at("created"), run.evaluated) for run in self._runs]
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
`space` picks one run, to see it beside its base, or two to four runs and evaluations of other models. Differences are
paired: record by record, over the records that all were evaluated on, with clusters of repeats counted once. Of three
or four each is held against A, and `c` goes to the next of them.

Below, `w` goes from the validation records that got worse to those that are still wrong and those that got better.
`enter` on a category lists its records alone, `enter` on a record opens it, and `o` opens those that the run gets wrong
as a queue.

`b` shows both models' answers without their names, and asks which is better; names and result come at the end.

Only validation records are ever named. The test split is seen as numbers alone.

Marks: `+` improved, `!` regressed, `=` within margin, `~` inconclusive, or no better than the trivial answer, `?` too
few records for a verdict, or records that cannot be scored.
"""
    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("space", "pick", "Pick runs", id="compare.pick"),
        Binding("c", "model", "Next model", id="compare.model", show=False),
        Binding("m", "metric", "Metric", id="compare.metric"),
        Binding("s", "sort", "Sort", id="compare.sort"),
        Binding("w", "view", "Worse/wrong/better", id="compare.view"),
        Binding("o", "queue", "Queue of wrong ones", id="compare.queue"),
        Binding("n", "step(1)", "Next record", id="compare.next"),
        Binding("p", "step(-1)", "Previous record", id="compare.previous", show=False),
        Binding("h", "page", "HTML report", id="compare.page"),
        Binding("b", "blind", "Blind", id="compare.blind"),
        # Before the tables, where it goes to the last row.
        Binding("G", "gate", "Gate", id="compare.gate", priority=True),
    ]
    DEFAULT_CSS = """
    CompareScreen #head { height: 1; }
    CompareScreen #said { height: auto; max-height: 18%; }
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
        # Each of the other models against the first; one of them is shown in full.
        self._comparisons: list[RunComparison] = []
        self._model_index = 0
        self._metric: Metric = "score"
        self._sorting: Order = "category"
        self._view: View = "worse"
        self._category: str | None = None
        self._pairs: list[RecordPair] = []  # Those that are listed.

    def compose_body(self) -> ComposeResult:
        yield Static(id="head")
        yield FrameTable([Column("category")], can_mark=False, id="scores")
        with VerticalScroll(id="said"):
            yield Static(id="notes")
        with Horizontal(id="lower"):
            with Vertical(classes="main pane"):
                with VerticalScroll(id="changed"):
                    yield Static(id="differences")
                yield Static(id="views")
                yield FrameTable(
                    [Column("record", is_name=True, is_snug=True), Column("category", 14), Column("score", 14)],
                    can_mark=False, id="worse",
                )  # fmt: skip
            with VerticalScroll(classes="side pane"):
                yield Static(id="record")

    def ready(self) -> None:
        self._compare()

    def arrive(self, **what: Any) -> None:
        if "runs" in what:
            self._chosen_runs = [str(run) for run in what["runs"]][-MOST_MODELS:]
            self._compare()
        if "blind" in what:
            self.app.push_screen(BlindScreen(self.project, tuple(what["blind"])))

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
        self.put("head", Text(" comparing the runs ...", style="muted"))

        def compared() -> LoadedRuns:
            runs = _reported(data)
            reported = [run for run in reversed(runs) if not run.evaluated]
            # A run comes before an evaluation, and is what that is held against.
            ordered = [*reported, *(run for run in reversed(runs) if run.evaluated)]
            # A series has compared its runs already, so that the newest is shown beside its base.
            newest = [run for run in reported if not run.series]
            newest = newest[-1:] if newest and newest[-1].members else newest[-2:]
            picked = [run for run in ordered if run.id in chosen] or newest
            return runs, compare_models(data, picked) if picked else []

        self.app.background(compared, self._show, group="compare.read", failed=self._compare_failed)

    def _compare_failed(self, error: CurateError) -> None:
        self._is_comparing, self._comparisons = False, []
        self.app.tell_error(error)
        self.put("head", Text(" these runs cannot be compared; space picks others", style="warn"))
        # What was there before belongs to others.
        for name in ("notes", "differences", "views", "record"):
            self.put(name, Text())
        self._pairs = []
        for table in self.query(FrameTable):
            table.show([])

    def _show(self, loaded: LoadedRuns) -> None:
        self._is_comparing = False
        self._all, self._comparisons = loaded
        # The newest is what somebody came for.
        self._show_model(len(self._comparisons) - 1)

    def _show_model(self, index: int) -> None:
        self._model_index, comparison = index, self._comparisons[index] if self._comparisons else None
        if comparison is not None and not comparison.listed(self._view):
            # An empty list says less than the next one.
            self._view = next((view for view in VIEWS if comparison.listed(view)), self._view)
        self._draw()

    @property
    def _comparison(self) -> RunComparison | None:
        return self._comparisons[self._model_index] if self._comparisons else None

    def _draw(self) -> None:
        comparison = self._comparison
        if comparison is None:
            text = " No finished run with a report yet: `curate train` makes one (g t)."
            self.put("head", Text(text, style="muted"))
            return
        self.put("head", render_head(self._comparisons, self._model_index, self._metric, self.size.width))
        is_low = self.size.height < _LOW
        self.put("notes", render_notes(comparison, has_legend=not is_low))
        self.query_one("#changed").display = not is_low and comparison.first is not None
        is_narrow = self.is_narrow
        pane = self.size.width if is_narrow else self.size.width // 2 - 1
        self.put("differences", render_changes(comparison, pane))
        scores = self.query_one("#scores", FrameTable)
        everything = self._comparisons
        rows = rows_of(everything, self._model_index, self._metric, self._sorting, is_narrow=is_narrow)
        # As high as its rows, so that the lists below get what is left.
        scores.styles.height = min(len(rows) + 1, max(4, (self.size.height - 6) // 2))
        shown = columns(everything, self._model_index, self._metric, is_narrow=is_narrow)
        # Where there is least room, the figures of the trivial answers, which come last there, have none.
        scores.show(rows, columns=shown if self.size.width >= _TRIVIAL_FROM else shown[:-1])
        self._show_records()

    def _show_records(self) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        self.put("views", render_views(comparison, self._view, self._category))
        self._pairs = comparison.listed(self._view, self._category)
        worse = self.query_one("#worse", FrameTable)
        worse.empty = "no record"
        worse.show(pair_rows(self._pairs), at=worse.current)

    # Single records.

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        if event.table.id == "worse" and self._comparison is not None:
            pair = self._pair(event.row)
            texts = self._texts(pair) if pair else ("", "")
            self.put("record", render_pair(pair, texts, self._comparison, self._view))

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        if event.table.id == "scores":
            names = {row.label: row.category for row in self._comparison.rows} if self._comparison else {}
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

    # Return the prompt of a record and what it wants, where they are still as both models saw them.
    def _texts(self, pair: RecordPair) -> tuple[str, str]:
        try:
            state = self.project.state(pair.id) if self.project.catalog.find(pair.id) is not None else None
        except CurateError as error:
            return (f"({error.message})",) * 2
        standing = standing_of(state, pair.digest, {})
        if state is None or standing != "same":
            return (f"({STANDINGS[standing]})",) * 2
        return state.record.prompt or state.record.text, state.record.completion

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
        elif self._comparison.second.evaluated:
            self.tell_no_use("What an evaluation gets wrong is listed here; a queue is made of a run.")
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
            if chosen and len(chosen) > MOST_MODELS:
                self.tell("Four at the most can be compared.", "warn")
            elif chosen:
                self._chosen_runs = chosen
                self._compare()

        now = [run.id for comparison in self._comparisons for run in (comparison.first, comparison.second) if run]
        self.app.push_screen(PickRuns(self._all, now), picked)

    def action_model(self) -> None:
        if len(self._comparisons) < 2:
            self.tell_no_use("There is one model to show; space picks up to four.")
            return
        self._show_model((self._model_index + 1) % len(self._comparisons))

    def action_metric(self) -> None:
        self._metric = METRICS[(METRICS.index(self._metric) + 1) % len(METRICS)]
        self._draw()
        self.tell("bits per byte: lower is better; runs report no interval" if self._metric != "score" else "score")

    def action_sort(self) -> None:
        self._sorting = ORDERS[(ORDERS.index(self._sorting) + 1) % len(ORDERS)]
        self._draw()
        self.tell(f"sorted by {self._sorting}")

    def action_page(self) -> None:
        page = self._comparison.second.folder / PAGE_FILE if self._comparison else None
        if page is None or not page.is_file():
            self.tell_no_use("This run has no report.html.")
            return
        self.app.copy_to_clipboard(str(page))
        self.tell(f"copied: {page}")

    def action_blind(self) -> None:
        if self._comparison is None:
            self.tell_no_use("There is nothing to compare.")
        else:
            self.app.push_screen(BlindScreen(self.project, self._comparison.between))

    def action_gate(self) -> None:
        if self._comparison is None:
            self.tell_no_use("There is nothing to compare.")
            return
        command = gate_command(self._comparison.first, self._comparison.second)
        if not command:
            self.tell_no_use("This series does not say which of its runs is to be taken: space picks one.")
            return
        self.app.copy_to_clipboard(command)
        page = safe_lines(f"{command}\n\n{_GATE}\n")
        self.app.push_screen(Pages("Gate for a build (copied)", page))

    def equal_command(self) -> str:
        comparison = self._comparison
        if comparison is None:
            return ""
        if comparison.first is None:
            return f"curate report {typed(comparison.second.folder)} --workspace {typed(self.project.root)}"
        others = [other.second.folder for other in self._comparisons]
        return " ".join(["train compare", *map(str, [comparison.first.folder, *others])])

    def current_record(self) -> str:
        pair = self._pair(self.query_one("#worse", FrameTable).cursor)
        return pair.id if pair else ""

    def on_resize(self) -> None:
        if self._comparison is not None:
            self._draw()
