"""Home: what there is, and what to do next; in a folder that is no workspace, how to begin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from curate.tui.border import safe_lines
from curate.tui.dialogs import Pages
from curate.tui.frame_table import FrameTable
from curate.tui.screen import ProjectScreen
from curate.tui.screens.home import rendering
from curate.tui.ways_in import Offers, begin, offer_workspace, offers
from curate.tui.widgets import Pane

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.sessions.team import TeamMember

FEW = 20_000  # Records up to which Home itself looks for errors and repeats; with more, `r` does.
_MOST_ACTS = 8
_MOST_RUNS = 3


class HomeScreen(ProjectScreen):
    """What there is and what to do next; in a folder that is no workspace, how to make one."""

    NAME, TITLE = "home", "Home"
    SHOWS_LINES = True
    AUTO_FOCUS = "#steps"
    HELP = """
Home answers one question: what next? The seven stages lead from data to scores: data comes in, is checked, duplicates
go, labels come, it is split, a model is trained on it, and its answers are compared. What nobody has counted yet has a
`?`, and `r` counts it. Below stands what was begun or set aside and is not done.
`1` to `9` or `enter` go there; `enter` on a category shows its records in Browse.
"""
    BINDINGS: ClassVar[list[Any]] = [
        *(
            Binding(
                str(number),
                f"step({number})",
                "Step",
                show=number == 1,
                id=f"home.step_{number}",
                key_display=f"1-{rendering.MOST_STEPS}",
            )
            for number in range(1, rendering.MOST_STEPS + 1)
        ),
        Binding("n", "begin('first')", "New record", id="home.new"),
        Binding("i", "begin('import')", "Import", id="home.import"),
        Binding("slash", "find", "Find", id="home.find"),
        Binding("t", "tour", "Tour", id="home.tour"),
        Binding("T", "team", "Team", id="home.team", show=False),
    ]
    DEFAULT_CSS = """
    HomeScreen #home { layout: grid; grid-size: 2; grid-columns: 1fr 1fr; grid-rows: auto 1fr; grid-gutter: 0 1; }
    HomeScreen.-narrow #home { grid-size: 1; grid-columns: 1fr; grid-rows: auto; overflow-y: auto; }
    HomeScreen.-narrow #home > * { height: auto; }
    HomeScreen.-narrow FrameTable { height: 8; }
    HomeScreen.-wide .right { border-left: solid $panel; padding-left: 1; }
    HomeScreen #about { height: auto; max-height: 70%; }
    HomeScreen #begin { height: auto; padding: 0 1 1 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._snapshot: rendering.HomeView | None = None
        self._offers = Offers()
        self._next = ""  # The stage that the cursor was put on.
        self._is_looking = self._is_due = self._has_counted = False

    def compose_body(self) -> ComposeResult:
        if not self.app.has_project and not self.app.is_opening:
            with Pane(id="about"):
                yield Static(rendering.welcome(self.app.root, ()), id="begin")
            yield FrameTable(rendering.OFFER_COLUMNS, can_mark=False, key=2, id="steps")
            return
        with Pane(id="home"):
            yield FrameTable(rendering.STEP_COLUMNS, can_mark=False, key=4, id="steps", classes="pane")
            yield Static(id="dataset", classes="pane right")
            yield FrameTable(rendering.CATEGORY_COLUMNS, can_mark=False, id="categories", classes="pane")
            yield Static(id="aside", classes="pane right")

    def opened(self) -> None:
        if not self.app.has_project:
            self.run_worker(self._show_ways(), group="home.show.ways")
            if self.app.to_begin:
                offer_workspace(self.app, self.app.to_begin)

    async def _show_ways(self) -> None:
        await self.recompose()
        self._offer()

    def on_mount(self) -> None:
        if not self.app.is_opening:
            self._offer()

    def _offer(self) -> None:
        def show(found: Offers) -> None:
            self._offers = found
            if not self.app.has_project:
                self.put("begin", rendering.welcome(self.app.root, found.remarks))
                rows = [(str(number), offer.text, str(number)) for number, offer in enumerate(found.ways, 1)]
                table = self.query_one("#steps", FrameTable)
                table.show(rows)
                if self.focused is None:
                    # The table that had the focus went when it was known that this is no workspace.
                    self.set_focus(table)

        if not self.app.has_project:
            self.app.background(partial(offers, self.app.root), show, group="home.show.offers")

    # What there is.

    def ready(self) -> None:
        # Look at the records; what was counted of others before means nothing any more.
        self._has_counted = False
        self._reload()

    def busy(self) -> str:
        return "" if self._snapshot or not self.app.has_project else "counting the steps"

    def changed(self, ids: set[str]) -> None:
        # What other screens have decided may have fixed an error or taken a duplicate away.
        self._has_counted = False
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
        from curate.sessions.overview import NextStep, next_steps, not_done, overview, recent_acts, scores, stages
        from curate.sessions.problems import problems_of
        from curate.sessions.runs import runs_of

        project = self.project
        try:
            counts = overview(project, has_findings=problems_of(project).problems is not None)
            runs = runs_of(project.data)
            way = stages(counts, next_steps(project, counts, runs), runs)
            if project.file:
                later = NextStep("", "in a workspace", "home", {"file": project.file})
                way = [
                    stage
                    if self.app.is_open(stage.step.screen)
                    else replace(stage, state="unknown", text=later.text, step=later)
                    for stage in way
                ]
            return rendering.HomeView(
                counts, way, not_done(project),
                runs[:_MOST_RUNS], recent_acts(project, _MOST_ACTS), scores(runs[:_MOST_RUNS]),
                [*_no_rights(project), *project.remarks(), *project.catalog.remarks],
            )  # fmt: skip
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
            rows = rendering.step_rows(self._snapshot, table.flexible_width)
            # The cursor stands on what comes next, until somebody moves it.
            is_moved = table.current not in ("", self._next)
            self._next = str(rendering.next_stage(self._snapshot.stages))
            at = table.current if is_moved else self._next
            table.show(rows, at=at, columns=rendering.step_columns(self._snapshot.stages))
            # No higher than the screen: the table brings the row under its cursor into sight, its pane does not.
            table.styles.height = min(len(rows) + 1, max(4, self.query_one("#home").size.height))

    def on_frame_table_resized(self) -> None:
        # Words are broken where the table ends, and it may be drawn before it has a width.
        self._draw_steps()

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
        note.repeats = frozenset(member.id for cluster in clusters.open for member in cluster.members[1:])

    # What to do.

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        if event.table.id == "steps":
            self.action_step(int(event.key))
        elif self._snapshot:
            self.app.go("browse", category=self._snapshot.overview.categories[event.row].name)

    def action_step(self, number: int) -> None:
        if not self.app.has_project:
            if number <= len(self._offers.ways):
                begin(self.app, self._offers.ways[number - 1])
            return
        steps = [stage.step for stage in self._snapshot.stages] if self._snapshot else []
        steps += self._snapshot.not_done if self._snapshot else []
        if not 0 < number <= len(steps):
            self.tell_no_use(f"There is no step {number}.")
        elif steps[number - 1].screen == "home" and self.project.file and "file" in steps[number - 1].what:
            offer_workspace(self.app, self.project.file)
        elif steps[number - 1].screen == "home":
            self.app.action_reread()
        else:
            self.app.go(steps[number - 1].screen, **steps[number - 1].what)

    def action_begin(self, name: str) -> None:
        self.app.get_started(name)

    def action_tour(self) -> None:
        self.app.guide.begin()

    def action_find(self) -> None:
        self.app.go("browse", is_filtering=True)

    def action_team(self) -> None:
        """Show what each person is asked and has done."""
        from curate.sessions.team import team_lines, team_of

        def show(members: Sequence[TeamMember]) -> None:
            self.app.push_screen(Pages("Team", safe_lines("\n".join(team_lines(members)))))

        if self.app.following.is_loaded:
            self.app.background(lambda: team_of(self.project), show, group="home.show.team")
        else:
            self.tell_no_use("There are no records yet, and no team.")

    def equal_command(self) -> str:
        from shlex import quote

        return f"curate stats {quote(str(self.app.root))}"


def _no_rights(project: Project) -> Iterator[str]:
    if not os.access(project.root, os.W_OK | os.X_OK):
        yield "This folder may not be written: records can be looked at, and nothing can be saved."
