"""Compare: a run beside another one, or beside its base, category by category, and the records that got worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from curate.base.record import CurateError
from curate.project.feedback import PAGE_FILE
from curate.sessions.run_comparison import Regression, RunComparison, compare_runs, gate_command
from curate.sessions.runs import Run, runs_of
from curate.tui.border import safe_lines
from curate.tui.dialogs import Pages
from curate.tui.frame_table import Column, FrameTable, ListRows
from curate.tui.screen import ProjectScreen
from curate.tui.screens.compare.rendering import (
    Metric,
    Order,
    columns,
    regression_rows,
    render_changes,
    render_head,
    render_notes,
    render_regression,
    rows_of,
)

_METRICS: tuple[Metric, ...] = ("score", "bits per byte")
_ORDERS: tuple[Order, ...] = ("category", "change", "n")
LoadedRuns = tuple[list[Run], RunComparison | None]


class PickRuns(ModalScreen[list[str]]):
    """A list of runs of which one or two are marked; closes with their ids, the older one first."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape,q", "cancel", "Cancel", id="compare_pick.cancel"),
        Binding("a", "accept", "Compare", id="compare_pick.accept"),
    ]

    def __init__(self, runs: Sequence[Run], chosen: Sequence[str]) -> None:
        """Offer ``runs``, newest first, with those ``chosen`` marked."""
        super().__init__()
        self._runs, self._chosen = list(runs), set(chosen)

    def compose(self) -> ComposeResult:
        """Lay out the runs and the keys."""
        with Vertical(classes="box large"):
            yield Static(Text("Compare which runs? Mark one, to see it beside its base, or two.", style="strong"))
            yield FrameTable([Column("run", 24), Column("dataset", 10), Column("created")], id="runs")
            yield Static(
                Text.assemble(("space", "key"), " mark   ", ("enter", "key"), " compare   ", ("esc", "key"), " no")
            )

    def on_mount(self) -> None:
        """Show the runs."""
        rows = [(run.id, run.text_at("dataset", "name"), run.text_at("created")) for run in self._runs]
        table = self.query_one(FrameTable)
        table.marks = self._chosen & {run.id for run in self._runs}
        table.show(ListRows(rows))
        table.focus()

    def on_frame_table_opened(self, _event: FrameTable.Opened) -> None:
        """Take what is marked."""
        self.action_accept()

    def action_accept(self) -> None:
        """Close with what is marked, else with the run under the cursor."""
        chosen = self.query_one(FrameTable).chosen()
        self.dismiss([run.id for run in reversed(self._runs) if run.id in chosen])

    def action_cancel(self) -> None:
        """Close with nothing."""
        self.dismiss([])


class CompareScreen(ProjectScreen):
    """Scores with intervals, what changed, and the validation records that got worse."""

    NAME, TITLE, KEY = "compare", "Compare", "c"
    AUTO_FOCUS = "#worse"
    HELP = """
`space` picks one run, to see it beside its base, or two. Differences are paired: record by record, over the records
that both runs were evaluated on, with clusters of repeats counted once.

Only validation records are ever named. The test split is seen as numbers alone.
"""
    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("space", "pick", "Pick runs", id="compare.pick"),
        Binding("m", "metric", "Metric", id="compare.metric"),
        Binding("s", "sort", "Sort", id="compare.sort"),
        Binding("n", "step(1)", "Next worse", id="compare.next"),
        Binding("p", "step(-1)", "Previous worse", id="compare.previous", show=False),
        Binding("h", "page", "HTML report", id="compare.page"),
        # Before the tables, where it goes to the last row.
        Binding("G", "gate", "Gate", id="compare.gate", priority=True),
    ]
    DEFAULT_CSS = """
    CompareScreen #head { height: 1; }
    CompareScreen #scores { height: 1fr; min-height: 4; }
    CompareScreen #notes { height: auto; max-height: 8; }
    CompareScreen #lower { height: 45%; }
    CompareScreen #changed { height: auto; max-height: 50%; }
    CompareScreen #worse { height: 1fr; min-height: 3; }
    """

    def __init__(self) -> None:
        """Make the screen with nothing compared yet."""
        super().__init__()
        self._chosen_runs: list[str] = []
        self._all: list[Run] = []
        self._is_comparing = False
        self._comparison: RunComparison | None = None
        self._metric: Metric = "score"
        self._sorting: Order = "category"

    def compose_body(self) -> ComposeResult:
        """Lay the scores over what changed and the records that got worse."""
        yield Static(id="head")
        yield FrameTable([Column("category")], can_mark=False, id="scores")
        yield Static(id="notes")
        with Horizontal(id="lower"):
            with Vertical(classes="main pane"):
                with VerticalScroll(id="changed"):
                    yield Static(id="told")
                yield FrameTable(
                    [Column("worse on (validation)"), Column("category", 14), Column("score", 14)],
                    can_mark=False, id="worse",
                )  # fmt: skip
            with VerticalScroll(classes="side pane"):
                yield Static(id="record")

    def ready(self) -> None:
        """Compare the newest runs."""
        self._compare()

    def arrive(self, **what: Any) -> None:
        """Compare the runs that were asked for, if any."""
        if "runs" in what:
            self._chosen_runs = [str(run) for run in what["runs"]][-2:]
            self._compare()

    def busy(self) -> str:
        """Return that the runs are compared, while nothing is known of them."""
        return "comparing the runs" if self._is_comparing else ""

    def reread(self) -> None:
        """Look at the runs again."""
        self._compare()

    def _compare(self) -> None:
        data, chosen = self.project.data, list(self._chosen_runs)
        self._is_comparing = True

        def compared() -> LoadedRuns | CurateError:
            try:
                runs = [run for run in runs_of(data) if run.has_report]
                picked = [run for run in reversed(runs) if run.id in chosen] or list(reversed(runs[:2]))
                if not picked:
                    return runs, None
                return runs, compare_runs(data, picked[0] if len(picked) > 1 else None, picked[-1])
            except CurateError as error:
                return error

        self.app.background(compared, self._show, group="compare.read")

    def _show(self, loaded: LoadedRuns | CurateError) -> None:
        self._is_comparing = False
        if isinstance(loaded, CurateError):
            self._comparison = None
            self.app.tell_error(loaded)
            self.query_one("#head", Static).update(
                Text(" these runs cannot be compared; space picks others", style="warn")
            )
            return
        self._all, self._comparison = loaded
        self._draw()

    def _draw(self) -> None:
        comparison = self._comparison
        if comparison is None:
            text = Text(" No finished run with a report yet: `curate train` makes one (g t).", style="muted")
            self.query_one("#head", Static).update(text)
            return
        self.query_one("#head", Static).update(render_head(comparison, self._metric))
        self.query_one("#notes", Static).update(render_notes(comparison))
        self.query_one("#told", Static).update(render_changes(comparison))
        is_narrow = self.is_narrow
        scores = self.query_one("#scores", FrameTable)
        scores.show(
            rows_of(comparison, self._metric, self._sorting, is_narrow=is_narrow),
            columns=columns(comparison, self._metric, is_narrow=is_narrow),
        )
        worse = self.query_one("#worse", FrameTable)
        worse.show(regression_rows(comparison.regressions), at=worse.current)

    # Records that got worse.

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        """Show the record under the cursor."""
        if event.table.id == "worse" and self._comparison is not None:
            regression = self._regression(event.row)
            expected = self._expected(regression) if regression else ""
            self.query_one("#record", Static).update(render_regression(regression, expected, self._comparison))

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        """Open the record; where there is room for one pane only, first what was said of it."""
        regression = self._regression(event.row) if event.table.id == "worse" else None
        if regression is None:
            return
        if self.is_narrow and not self.is_side_open:
            self.is_side_open = True
        elif self.project.catalog.find(regression.id) is None:
            self.tell(f"{regression.id} is not in the data any more", "warn")
        else:
            self.app.go("edit", record=regression.id)

    def _regression(self, row: int) -> Regression | None:
        regressions = self._comparison.regressions if self._comparison else ()
        return regressions[row] if 0 <= row < len(regressions) else None

    def _expected(self, regression: Regression) -> str:
        if self.project.catalog.find(regression.id) is None:
            return "(the record is gone)"
        try:
            return self.project.state(regression.id).record.completion
        except CurateError as error:
            return f"({error.message})"

    def action_step(self, step: int) -> None:
        """Go to the next record that got worse, or the previous one."""
        if self._comparison is None:
            self.tell_no_use("There is nothing to compare.")
        self.query_one("#worse", FrameTable).cursor += step

    # The rest.

    def action_pick(self) -> None:
        """Choose what is compared."""
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
        """Show the scores, or bits per byte."""
        self._metric = _METRICS[(_METRICS.index(self._metric) + 1) % len(_METRICS)]
        self._draw()
        self.tell("bits per byte: lower is better; runs report no interval" if self._metric != "score" else "score")

    def action_sort(self) -> None:
        """Sort by category, by change, or by the number of records."""
        self._sorting = _ORDERS[(_ORDERS.index(self._sorting) + 1) % len(_ORDERS)]
        self._draw()
        self.tell(f"sorted by {self._sorting}")

    def action_page(self) -> None:
        """Say where the report lies."""
        page = self._comparison.second.folder / PAGE_FILE if self._comparison else None
        if page is None or not page.is_file():
            self.tell_no_use("This run has no report.html.")
            return
        self.app.copy_to_clipboard(str(page))
        self.tell(f"copied: {page}")

    def action_gate(self) -> None:
        """Show the command that fails a build where this got worse."""
        if self._comparison is None:
            self.tell_no_use("There is nothing to compare.")
            return
        command = gate_command(self._comparison.first, self._comparison.second)
        self.app.copy_to_clipboard(command)
        page = safe_lines(f"{command}\n\nExits 1 when a category is worse beyond chance and by more than the margin.\n")
        self.app.push_screen(Pages("Gate for a build (copied)", page))

    def equal_command(self) -> str:
        """Return the command that prints the same scores."""
        comparison = self._comparison
        if comparison is None:
            return ""
        if comparison.first is None:
            return f"curate report {comparison.second.folder} --workspace {self.project.root}"
        return f"train compare {comparison.first.folder} {comparison.second.folder}"

    def record_json(self) -> str:
        """Return the record under the cursor."""
        import json

        regression = self._regression(self.query_one("#worse", FrameTable).cursor)
        if regression is None or self.project.catalog.find(regression.id) is None:
            return ""
        return json.dumps(dict(self.project.state(regression.id).record.data), ensure_ascii=False)

    def on_resize(self) -> None:
        """Give the columns the room there is."""
        if self._comparison is not None:
            self._draw()
