"""Train: what a run would do, whether an export is possible, and the runs that are there, live, whoever began them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Static

from curate.base.console import typed
from curate.base.record import CurateError
from curate.base.tables import counted
from curate.formats.dataset import Manifest
from curate.project.data import RUNS
from curate.project.feedback import Results, read_results
from curate.sessions.detached import ask_to_stop
from curate.sessions.metrics import Metrics
from curate.sessions.problems import problems_of
from curate.sessions.recipe import read_recipe, write_recipe
from curate.sessions.runs import Errand, Run, begin, changed_at, log_tail, plan, resume, runs_of
from curate.tui.border import safe_lines, safe_text
from curate.tui.dialogs import Pages
from curate.tui.screen import ProjectScreen
from curate.tui.screens.train.recipe_form import RecipeForm
from curate.tui.screens.train.rendering import (
    PlanCheck,
    RunView,
    render_categories,
    render_plan,
    render_recipe,
    render_run,
)

_EVERY = 1.0
_LOG_LINES = 3
_CURVE = 6


class _MeasuredPane(VerticalScroll):
    """A pane whose texts are as wide as it is: it says when it has another width."""

    class Resized(Message):
        """The pane has another size."""

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    @property
    def room(self) -> int:
        """How many cells a line has."""
        return max(30, self.scrollable_content_region.width - 1)


class TrainScreen(ProjectScreen):
    """Plan, export check and runs. Training runs in a process of its own, which this screen only looks at."""

    NAME, TITLE = "train", "Train"
    SHOWS_LINES = True
    AUTO_FOCUS = "#left"
    HELP = """
A run is a process of its own: leaving this screen, quitting, or losing the connection does not stop it. Everything
here is read from its folder, so any terminal of this machine shows the same.

`enter` validates, exports and trains, as `curate train --detach` does; data with errors are refused. `x` has the run
finish its step, save a checkpoint and stop; `c` goes on from there.

`e` changes the main choices of the recipe. The plan of what you type is made on what an export would write now, also
before there is a dataset; `enter` writes the recipe, `esc` leaves it as it was. `d` plans without a change.
"""
    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("enter", "begin", "Start", id="train.begin"),
        Binding("x", "stop", "Stop+save", id="train.stop"),
        Binding("ctrl+c", "stop", "Stop+save", id="train.interrupt", show=False),
        Binding("c", "resume", "Resume", id="train.resume"),
        Binding("e", "recipe", "Recipe", id="train.recipe"),
        Binding("d", "dry_run", "Dry run", id="train.dry_run"),
        Binding("v", "log", "Log", id="train.log"),
        Binding("n", "other(1)", "Older run", id="train.older"),
        Binding("p", "other(-1)", "Newer run", id="train.newer"),
        Binding("tab", "pane", "Pane", id="train.pane"),
    ]
    DEFAULT_CSS = """
    TrainScreen #left { width: 56%; padding-left: 1; overflow-y: scroll; scrollbar-size-vertical: 1; }
    TrainScreen .side { overflow-y: scroll; scrollbar-size-vertical: 1; }
    TrainScreen.-narrow #left { width: 1fr; }
    TrainScreen #plan, TrainScreen #live { margin-bottom: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._errand = Errand()
        self._run_id = ""
        self._view: RunView | None = None
        self._planned: Mapping[str, Any] | None = None
        self._recipe: dict[str, str] | CurateError = {}
        self._plan_check = PlanCheck()
        self._manifest: Manifest | None = None
        self._metrics: dict[str, Metrics] = {}
        self._results: dict[str, tuple[int, Results | None, str]] = {}
        self._is_looking = False
        self._changed = 0, 0

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            with _MeasuredPane(id="left", classes="main pane"):
                yield RecipeForm()
                yield Static(id="plan")
                yield Static(id="live")
            with _MeasuredPane(id="right", classes="side pane"):
                yield Static(id="scores")

    def ready(self) -> None:
        self.set_interval(_EVERY, self._tick)
        self._reload()

    def arrive(self, **what: Any) -> None:
        self._run_id = str(what.get("run", self._run_id))
        self._reload()

    def reread(self) -> None:
        self._reload()

    def changed(self, ids: set[str]) -> None:
        if self._plan_check != PlanCheck():
            self._plan_check = PlanCheck("data changed since the check: d checks again", "warn")
        self._reload()

    def busy(self) -> str:
        return "looking at the runs" if self._is_looking and self._view is None else ""

    def on_unmount(self) -> None:
        self._errand.stop()

    # Looking.

    def _tick(self) -> None:
        # A screen that is not shown sees nothing. Another terminal may begin a run, or resume this one.
        if not self.is_current or self._is_looking or not self.app.has_project:
            return
        run = self._view.run if self._view else None
        changed = changed_at(self.project.root / RUNS), changed_at(run.folder) if run else 0
        if (run and run.is_alive) or changed != self._changed:
            self._reload()

    def _reload(self) -> None:
        if self._is_looking or not self.app.has_project:
            return
        self._is_looking = True
        self.app.background(self._load_run, self._show, group="train.look", failed=self._load_failed)

    def _load_failed(self, error: CurateError) -> None:
        self._is_looking = False
        self.app.tell_error(error)

    # Return what there is to see of the chosen run; called in a thread.
    def _load_run(self) -> RunView | None:
        data = self.project.data
        # What was fixed since the last search must block nothing any more.
        problems_of(self.project).catch_up()
        self._manifest = data.latest_manifest()
        try:
            self._recipe = read_recipe(data)
        except CurateError as error:
            self._recipe = error
        # Looked at before what is read, so that nothing is missed.
        self._changed = changed_at(data.root / RUNS), 0
        runs = runs_of(data)
        if not runs:
            return None
        position = next((index for index, run in enumerate(runs) if run.id == self._run_id), 0)
        run = runs[position]
        self._changed = self._changed[0], changed_at(run.folder)
        metrics = self._metrics.setdefault(str(run.metrics_folder), Metrics(run.metrics_folder))
        metrics.read()
        results, why = self._read_results(run)
        hidden = {name for name, split in data.pins().items() if split == "test"}
        return RunView(run, metrics, results, why, log_tail(run, _LOG_LINES), position, len(runs), hidden)

    # Return the results of a run, read once for each report that it writes, or why there are none.
    def _read_results(self, run: Run) -> tuple[Results | None, str]:
        if not run.has_report:
            return None, ""
        try:
            stamp = (run.folder / "report.json").stat().st_mtime_ns
        except OSError:
            return None, ""
        if self._results.get(run.id, (0, None, ""))[0] != stamp:
            try:
                self._results[run.id] = (stamp, read_results(run.folder), "")
            except CurateError as error:
                self._results[run.id] = (stamp, None, f"{error.code}: {error.message}")
        return self._results[run.id][1:]

    def _show(self, view: RunView | None) -> None:
        self._is_looking = False
        self._view = view
        if view and view.index:
            self._run_id = view.run.id
        self._draw()

    def _draw(self) -> None:
        # People want to see how a run goes or went, and the next one from when they change or plan it.
        run = self._view.run if self._view is not None and not self.query_one(RecipeForm).is_open else None
        is_run_first = run is not None and (run.is_alive or self._plan_check == PlanCheck())
        top, below = ("#live", "#plan") if is_run_first else ("#plan", "#live")
        self.query_one("#left").move_child(self.query_one(below), after=self.query_one(top))
        recipe = render_recipe(self.project.settings.recipe, self._recipe)
        width = self.query_one("#left", _MeasuredPane).room
        self.put("plan", render_plan(self._manifest, recipe, self._planned, self._current_check(), width))
        self.put("live", render_run(self._view, width, _CURVE) if self._view else Text("No run yet.", style="muted"))
        self.put("scores", render_categories(self._view, self.query_one("#right", _MeasuredPane).room))

    # Return what the check said, else what the last search for problems lets expect.
    def _current_check(self) -> PlanCheck:
        problems = problems_of(self.project).problems
        if self._plan_check == PlanCheck() and problems is not None and problems.num_failing:
            num = counted(problems.num_failing, "finding")
            return PlanCheck(f"export is blocked by {num}: see Validate (g v)", "error")
        return self._plan_check

    # Doing.

    def action_begin(self) -> None:
        if not self._may_start():
            return
        view = self._view
        busy = f"\n{view.run.id} is at work already." if view and view.run.is_alive else ""
        self.app.ask(f"Validate, export and train?{busy}\n{self.equal_command()}", self._begin)

    def _begin(self) -> None:
        self._do(lambda: begin(Errand(), self.project.data), self.equal_command(), "validating and exporting ...")

    def action_resume(self) -> None:
        if not self._may_start():
            return
        run = self._view.run if self._view else None
        if run is None or not run.can_resume:
            self.tell_no_use(f"{run.id} is {run.standing}: nothing to resume" if run else "There is no run.")
            return
        command = f"{self.equal_command()} -- --resume --out {run.folder}"
        self._do(lambda: resume(Errand(), self.project.data, run.folder), command, f"resuming {run.id} ...")

    def _may_start(self) -> bool:
        if self.app.is_web and not self.app.may_train:
            self.tell("Training cannot be started from the browser.", "warn", "`curate serve --allow-train` allows it.")
            return False
        return True

    # Have a run begun in the background; what refuses it is shown whole.
    def _do(self, job: Callable[[], Path], command: str, message: str) -> None:

        def refused(error: CurateError) -> None:
            self.app.log_command(command, error.code)
            self.tell(f"{error.code}: nothing was started", "error")
            self.app.push_screen(Pages("Not started", safe_lines(f"{error.message}\n{error.hint}")))

        def started(folder: Path) -> None:
            self._run_id = folder.name
            self._set_plan(None, PlanCheck())
            self.app.log_command(command, folder.name)
            self.tell(f"{folder.name} trains in a process of its own")
            self._reload()

        self.app.background(job, started, group="write.train", message=message, failed=refused)

    def action_stop(self) -> None:
        run = self._view.run if self._view else None
        if run is None or not run.is_alive:
            self.tell_no_use(f"{run.id} is {run.standing}: nothing to stop" if run else "There is no run.")
        elif run.standing == "stopping":
            self.tell("It is stopping: it finishes its step and saves a checkpoint.")
        else:
            is_trained = self._view is not None and self._view.metrics.last is not None
            fate = "It finishes its step and writes a checkpoint." if is_trained else "No step is trained yet."
            self.app.ask(f"Stop {run.id} and save? {fate}", lambda: self._stop(run))

    def _stop(self, run: Run) -> None:
        with self.app.attempt():
            process = ask_to_stop(run.folder)
            message = f"process {process.pid} was asked to stop" if process else "it has ended already"
            self.app.log_command(f"curate runs {typed(self.project.root)} --run {run.id} --stop", message)
            self.tell(message)
        self._reload()

    def action_dry_run(self) -> None:
        self._ask_plan(self.query_one(RecipeForm).options())

    # Ask for the plan of what an export would write now; a newer question ends an older.
    def _ask_plan(self, options: Sequence[str]) -> None:
        data = self.project.data
        self._errand.stop()
        self._errand = errand = Errand()
        self._set_plan(self._planned, PlanCheck("checking ..."))

        def answered(planned: Mapping[str, Any] | CurateError) -> None:
            if errand is self._errand:
                self._answered(planned)

        message = "asking `curate train --plan` ..."
        self.app.background(
            lambda: plan(errand, data, options), answered, group="train.check", message=message, failed=answered
        )

    def _answered(self, planned: Mapping[str, Any] | CurateError) -> None:
        if isinstance(planned, CurateError):
            self._set_plan(None, PlanCheck(planned.message.removeprefix("`train plan` says: "), "error"))
            is_dirty = planned.number == "E907"
            self.tell("No run can start like this.", "warn", "g v shows what to fix." if is_dirty else planned.hint)
        else:
            self._set_plan(planned, PlanCheck("passed: ready to export"))
            self.tell("dry run ok")

    def _set_plan(self, planned: Mapping[str, Any] | None, check: PlanCheck) -> None:
        self._planned, self._plan_check = planned, check
        self._draw()

    # The recipe.

    def action_recipe(self) -> None:
        if isinstance(self._recipe, CurateError):
            self.app.tell_error(self._recipe)
        elif self._may_start():
            # A recipe names what is loaded and run.
            self.is_side_open = False
            self.query_one(RecipeForm).open(self._recipe)

    def on_recipe_form_changed(self, event: RecipeForm.Changed) -> None:
        if event.options is not None:
            self._ask_plan(event.options)
        else:
            self._errand.stop()
            self._set_plan(None, PlanCheck("no plan of what is typed", "warn"))

    def on_recipe_form_closed(self, event: RecipeForm.Closed) -> None:
        form = self.query_one(RecipeForm)
        changes = form.changes
        if event.is_saved and changes:
            with self.app.attempt():
                path = write_recipe(self.project.data, changes)
                self._close_form()
                texts = ", ".join(f"{key} = {text or 'default'}" for key, text in changes.items())
                self.tell(safe_text(f"{path.name}: {texts}", 200))
                self._ask_plan(form.options())
                self._reload()
            return
        self._close_form()
        if changes:
            self.tell("The recipe is as it was.")
            self._errand.stop()
            self._set_plan(None, PlanCheck())

    def _close_form(self) -> None:
        self.query_one(RecipeForm).close()
        self.set_focus(self.query_one("#left"))

    def has_unsaved(self) -> bool:
        form = self.query_one(RecipeForm)
        return form.is_open and bool(form.changes)

    def action_log(self) -> None:
        run = self._view.run if self._view else None
        lines = log_tail(run, 400) if run else []
        if run is None or not lines:
            self.tell_no_use("This run has written no log.")
            return
        self.app.push_screen(Pages(f"Log of {run.id}", safe_lines("\n".join(lines))))

    def action_other(self, step: int) -> None:
        view = self._view
        if view is None or not 0 <= view.index + step < view.num_runs:
            self.tell_no_use("There is no other run that way.")
            return
        ids = [run.id for run in runs_of(self.project.data)]
        self._run_id = ids[min(view.index + step, len(ids) - 1)]
        self._reload()

    def action_pane(self) -> None:
        self.is_side_open = not self.is_side_open

    @on(_MeasuredPane.Resized)
    def _measure(self) -> None:
        if self.app.has_project:
            self._draw()

    def equal_command(self) -> str:
        return f"curate train {typed(self.project.root)} --detach"
