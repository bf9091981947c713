"""Home: what there is, and what to do next; in a folder that is no workspace, how to begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from curate.base.tables import counted
from curate.tui.border import safe_lines
from curate.tui.dialogs import Pages
from curate.tui.frame_table import FrameTable
from curate.tui.screen import ProjectScreen
from curate.tui.screens.home import rendering
from curate.tui.widgets import Pane

if TYPE_CHECKING:
    from curate.project.init import NewWorkspace
    from curate.sessions.team import TeamMember
    from curate.tui.border import Severity

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow", ".gz", ".zst", ".zip")
_MOST_FILES = 5
_MOST_FOLDERS = 3
FEW = 20_000  # Records up to which Home itself looks for errors and repeats; with more, `r` does.
_MOST_EVENTS = 6
_MOST_STEPS = 9
_MOST_RUNS = 3


@dataclass(frozen=True)
class Offer:
    """One way to begin: open the workspace ``source``, make one in ``target`` from it, or ask for a path."""

    kind: Literal["open", "make", "sample", "new", "ask"]
    text: str
    source: Path | None = None
    target: Path | None = None


class HomeScreen(ProjectScreen):
    """What there is and what to do next; in a folder that is no workspace, how to make one."""

    NAME, TITLE = "home", "Home"
    SHOWS_LINES = True
    AUTO_FOCUS = "#steps"
    HELP = """
Home answers one question: what next? The steps are counted from the records; what nobody has counted yet is said to
be so. `1` to `9` or `enter` go to the screen for a step, `r` counts everything again, `enter` on a category shows its
records in Browse. `t` shows the team: what each person is asked and has done, and what waits for their approval.
"""
    BINDINGS: ClassVar[list[Any]] = [
        *(
            Binding(
                str(number),
                f"step({number})",
                "Go to step",
                show=number == 1,
                id=f"home.step_{number}",
                key_display=f"1-{_MOST_STEPS}",
            )
            for number in range(1, _MOST_STEPS + 1)
        ),
        Binding("slash", "find", "Find", id="home.find"),
        Binding("t", "team", "Team", id="home.team", show=False),
    ]
    DEFAULT_CSS = """
    HomeScreen #home { layout: grid; grid-size: 2; grid-columns: 1fr 1fr; grid-rows: 11 1fr; grid-gutter: 0 1; }
    HomeScreen.-narrow #home { grid-size: 1; grid-columns: 1fr; grid-rows: auto; overflow-y: auto; }
    HomeScreen.-narrow #home > * { height: auto; }
    HomeScreen.-narrow FrameTable { height: 8; }
    HomeScreen.-wide .right { border-left: solid $panel; padding-left: 1; }
    HomeScreen #begin { height: auto; padding: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._snapshot: rendering.HomeView | None = None
        self._offers: list[Offer] = []
        self._is_looking = self._is_due = self._has_counted = False

    def compose_body(self) -> ComposeResult:
        if not self.app.has_project and not self.app.is_opening:
            yield Static(rendering.welcome(self.app.root), id="begin")
            yield FrameTable(rendering.STEP_COLUMNS, can_mark=False, key=4, id="steps")
            return
        with Pane(id="home"):
            yield FrameTable(rendering.STEP_COLUMNS, can_mark=False, key=4, id="steps", classes="pane")
            yield Static(id="dataset", classes="pane right")
            yield FrameTable(rendering.CATEGORY_COLUMNS, can_mark=False, id="categories", classes="pane")
            yield Static(id="aside", classes="pane right")

    def opened(self) -> None:
        if not self.app.has_project:
            self.refresh(recompose=True)
            self.call_after_refresh(self._offer)

    def on_mount(self) -> None:
        if not self.app.is_opening:
            self._offer()

    def _offer(self) -> None:
        if not self.app.has_project:
            self._offers = offers(self.app.root)
            rows = [(str(number), "", offer.text, "", str(number)) for number, offer in enumerate(self._offers, 1)]
            self.query_one("#steps", FrameTable).show(rows)

    # What there is.

    def ready(self) -> None:
        # Look at the records; what was counted of others before means nothing any more.
        self._has_counted = False
        self._reload()

    def busy(self) -> str:
        return "" if self._snapshot or not self.app.has_project else "counting the steps"

    def changed(self, ids: set[str]) -> None:
        self._reload()

    def on_screen_resume(self) -> None:
        # Look again: other screens may have counted what was not counted before.
        if self.app.following.is_loaded and not self.is_on_standby:
            self._reload()

    def reread(self) -> None:
        if self.app.following.is_loaded:
            self.tell("counting errors and repeats")
            self._count()
        else:
            self._offer()

    def _reload(self) -> None:
        # One look at a time: with a million records it takes a second or two, and decisions come faster.
        self._is_due = True
        if not self._is_looking:
            self._is_looking, self._is_due = True, False
            self.app.background(self._load_snapshot, self._draw, group="home.look")

    def _load_snapshot(self) -> rendering.HomeView:
        from curate.project.blind import hides_event
        from curate.sessions.overview import next_steps, overview, scores
        from curate.sessions.problems import problems_of
        from curate.sessions.runs import runs_of

        project = self.project
        try:
            counts = overview(project, has_findings=problems_of(project).problems is not None)
            runs = runs_of(project.data)
            steps = next_steps(project, counts, runs)[:_MOST_STEPS]
            recent = [(event, hides_event(project, event)) for event in project.recent(_MOST_EVENTS)]
            remarks = [*project.remarks(), *project.catalog.remarks]
            return rendering.HomeView(counts, steps, runs[:_MOST_RUNS], recent, scores(runs[:_MOST_RUNS]), remarks)
        finally:
            self._is_looking = False

    def _draw(self, snapshot: rendering.HomeView) -> None:
        self._snapshot = snapshot
        self._draw_steps()
        self.query_one("#categories", FrameTable).show(rendering.category_rows(snapshot.overview))
        self.put("dataset", rendering.dataset(self.project, snapshot.overview))
        self.put("aside", rendering.aside(snapshot))
        if self._is_due:
            self._reload()
        elif not self._has_counted and snapshot.overview.num_records <= FEW:
            self._count()

    def _draw_steps(self) -> None:
        if self._snapshot is not None:
            table = self.query_one("#steps", FrameTable)
            table.show(rendering.step_rows(self._snapshot.steps, table.flexible_width), at=table.current)

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw_steps)

    # Look for errors and repeats, each in the background, and then look again.
    def _count(self) -> None:
        self._has_counted = True
        self.app.background(self._find_problems, lambda _: self._reload(), group="home.search")
        self.app.background(self._find_repeats, lambda _: self._reload(), group="home.compare")

    def _find_problems(self) -> None:
        from curate.sessions.problems import problems_of

        problem_list = problems_of(self.project)
        if not problem_list.is_searching:
            problem_list.search()

    def _find_repeats(self) -> None:
        from curate.sessions.clusters import find_clusters
        from curate.sessions.overview import noted

        # Where the records are read anew meanwhile, it is a note that nobody reads.
        note = noted(self.project)
        clusters = find_clusters(self.project.data)
        note.num_clusters, note.num_leaks = len(clusters.open), clusters.num_leaks

    # What to do.

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        if event.table.id == "steps":
            self.action_step(int(event.key))
        elif self._snapshot:
            self.app.go("browse", category=self._snapshot.overview.categories[event.row].name)

    def action_step(self, number: int) -> None:
        if self._offers and not self.app.has_project:
            if number <= len(self._offers):
                self._begin(self._offers[number - 1])
        elif self._snapshot and number <= len(self._snapshot.steps):
            step = self._snapshot.steps[number - 1]
            self.app.go(step.screen, **step.what)
        else:
            self.tell_no_use(f"There is no step {number}.")

    def action_find(self) -> None:
        self.app.go("browse", is_filtering=True)

    def action_team(self) -> None:
        """Show what each person is asked and has done."""
        from curate.sessions.team import team_lines, team_of

        def show(members: Sequence[TeamMember]) -> None:
            self.app.push_screen(Pages("Team", safe_lines("\n".join(team_lines(members)))))

        if self.app.following.is_loaded:
            self.app.background(lambda: team_of(self.project), show, group="home.team")
        else:
            self.tell_no_use("There are no records yet, and no team.")

    def equal_command(self) -> str:
        from shlex import quote

        return f"curate stats {quote(str(self.app.root))}"

    # How to begin.

    def _begin(self, offer: Offer) -> None:
        if offer.kind == "ask":
            self.app.prompt("Path of a workspace, or of a file of records:", self._typed)
        elif offer.kind == "open" and offer.source:
            self.app.open(offer.source)
        elif offer.source and offer.target:
            self._show_columns(offer, offer.source, offer.target)
        elif offer.target:
            # A workspace in the folder itself, or in a new one beside what is there.
            self.app.ask(f"Make a workspace in {offer.target.resolve()}?", partial(self._make, offer, offer.target))

    def _typed(self, path: str) -> None:
        if (offer := offer_for(path, self.app.root)) is None:
            self.tell(f"There is no workspace and no file at {path}", "warn")
        else:
            self._begin(offer)

    def _show_columns(self, offer: Offer, source: Path, target: Path) -> None:
        from curate.tui.screens.home.columns import ColumnsDialog

        def answered(mapping: dict[str, str] | None) -> None:
            if mapping is not None:
                self._make(offer, target, mapping)

        self.app.push_screen(ColumnsDialog(source, target, self.app.background), answered)

    def _make(self, offer: Offer, target: Path, mapping: dict[str, str] | None = None) -> None:
        here = self.app.root

        def make() -> NewWorkspace:
            from curate.project.init import make_workspace

            files = [offer.source] if offer.source else []
            return make_workspace(target, files=files, mapping=mapping or None, is_sample=offer.kind == "sample")

        def opened(workspace: NewWorkspace) -> None:
            self._offers = []
            self.app.open(workspace.root)
            self.tell(*_workspace_message(workspace, is_here=workspace.root.resolve() == here.resolve()))

        self.app.background(make, opened, group="write.workspace", message=f"making {target} ...")


# Return what is said of a new workspace, and how bad it is: rows that were left out are counted.
def _workspace_message(workspace: NewWorkspace, *, is_here: bool) -> tuple[str, Severity]:
    taken = sum(intake.num_records for intake in workspace.intakes)
    rejected = sum(len(intake.rejected) for intake in workspace.intakes)
    where = "here" if is_here else f"in {workspace.root}"
    text = f"workspace made {where}" + (f": {counted(taken, 'record')}" if workspace.intakes else "")
    moved = [f"{name} ({count:,})" for intake in workspace.intakes for name, count in intake.moved.most_common(5)]
    text += f"; stored in meta.extra: {', '.join(moved)}" if moved else ""
    given = workspace.saved_answers
    text += f"; {counted(given.total(), 'answer')} of {counted(len(given), 'annotator')}" if given else ""
    if not rejected:
        return f"{text}. Next: 1", "ok"
    quarantines = ", ".join(str(intake.quarantine) for intake in workspace.intakes if intake.rejected)
    return f"{text}; {counted(rejected, 'row')} left out, with the reasons in {quarantines}. Next: 1", "warn"


def offers(root: Path) -> list[Offer]:
    """Return the ways to begin in ``root``: what lies there first, then what is always possible."""
    # Not at the head: the settings load pydantic, and Home is painted before that.
    from curate.schema.settings import FILE_NAME

    inside = sorted(root.iterdir())
    workspaces = [path for path in inside if (path / FILE_NAME).is_file()]
    files = [path for path in inside if path.suffix in SUFFIXES and path.is_file()]
    is_empty = not [path for path in inside if path.name != ".git"]
    return [
        *(Offer("open", f"open the workspace {path.name}", path) for path in workspaces[:_MOST_FOLDERS]),
        *(
            Offer("make", f"make a workspace from {path.name} ({_size(path)})", path, free(root / path.stem))
            for path in files[:_MOST_FILES]
        ),
        Offer("ask", "open a workspace, or make one from a file, somewhere else"),
        Offer("sample", "load the samples: a tour of 1,140 records", target=root if is_empty else free(root / "tour")),
        Offer("new", "make an empty workspace", target=root if is_empty else free(root / "my-data")),
    ]


def free(folder: Path) -> Path:
    """Return ``folder``, or the first of its names with a number that is not taken."""
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def offer_for(typed: str, root: Path) -> Offer | None:
    """Return what to do about a path that was typed; None where there is nothing at it."""
    from curate.schema.settings import FILE_NAME

    path = (root / Path(typed.strip()).expanduser()) if typed.strip() else root / "\0"
    if "\0" in str(path):
        return None
    if (path / FILE_NAME).is_file():
        return Offer("open", "", path)
    return Offer("make", "", path, free(root / path.stem)) if path.is_file() else None


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
