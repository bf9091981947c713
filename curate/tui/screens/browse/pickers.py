"""What Browse offers in a box: saved views, how often each value of a field is there, and the nearest records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from curate.base.tables import counted
from curate.project.filters import parse_filter, quoted
from curate.project.labels import questions_of
from curate.project.views import FIELDS, FieldCounts, count_by, pointers_of, require_field, save_view
from curate.sessions.nearest import Nearest, NearestByMeaning
from curate.similarity.dedupe.nearest import Neighbour
from curate.tui.dialogs import Choose

if TYPE_CHECKING:
    from curate.project.catalog import Rows
    from curate.schema.settings import SavedView
    from curate.tui.screen import ProjectScreen

PickerKind = Literal["view", "field", "neighbour"]
_NUM_NEAREST, _MOST_VALUES = 10, 1000


class Pickers:
    """The boxes of one Browse screen; what was chosen is shown in its table."""

    def __init__(
        self, screen: ProjectScreen, current_view: Callable[[], SavedView], show_view: Callable[[SavedView], None]
    ) -> None:
        """``current_view`` returns what the screen shows, as a view, and ``show_view`` has it show one."""
        self._screen, self._seen_view, self._show_view = screen, current_view, show_view
        self._saved: dict[str, SavedView] = {}  # Views that were saved here since the settings were read.
        self._by_meaning: NearestByMeaning | None = None

    def pick(self, what: PickerKind, rows: Rows, record: str) -> None:
        """Open a box about ``rows``, those that are shown; ``record`` is the one under the cursor, "" for none."""
        if what == "view":
            self.pick_view()
        elif what == "field":
            self.pick_field(rows, record)
        elif record:
            self.pick_neighbour(record)

    def pick_view(self) -> None:
        """Show a view that is chosen, or save what is seen under a new name."""
        screen = self._screen
        views = {**screen.project.settings.views, **self._saved}
        rows = [(name, view.where or "all records") for name, view in views.items()]

        def chosen(name: str | None) -> None:
            if name in views:
                self._show_view(views[name])
            elif name is not None:
                self._save(name)

        question = "Which view? A new name saves the filter, order and columns that you see."
        screen.app.push_screen(Choose(question, rows, is_open=True, head="view"), chosen)

    def _save(self, name: str) -> None:
        screen = self._screen
        view = self._seen_view()
        with screen.app.attempt():
            parse_filter(view.where)
            save_view(screen.project.root, name, view)
            self._saved[name] = view
            screen.tell(f"view {name} saved in curate.toml")

    def pick_field(self, rows: Rows, record: str) -> None:
        """Count ``rows`` by a field that is chosen; the line of ``record``, if any, says which there are."""
        screen = self._screen
        names = [*FIELDS, *(f"label.{question.name}" for question in questions_of(screen.project.settings))]
        if record:
            names += pointers_of(screen.project.state(record).record.data)

        def chosen(name: str | None) -> None:
            if name is not None:
                with screen.app.attempt():
                    require_field(name)
                    states = screen.project.catalog.visible_states(rows)
                    job = partial(count_by, states, name, screen.project.data.pins())
                    screen.app.background(job, self._show_counts, group="browse.count", message="counting")

        values = [(name, "") for name in dict.fromkeys(names)]
        screen.app.push_screen(Choose("Count by which field?", values, is_open=True, head="field"), chosen)

    def _show_counts(self, counts: FieldCounts) -> None:
        screen = self._screen
        values = [(value, f"{n:>9,}  {n / counts.num_records:6.1%}") for value, n in counts.ranked()[:_MOST_VALUES]]
        more = f", the first {_MOST_VALUES:,} shown" if len(counts.counts) > _MOST_VALUES else ""
        what = f"{counted(len(counts.counts), 'value')}{more}; none in {counted(counts.num_without, 'record')}"

        def chosen(value: str | None) -> None:
            if value is None:
                return
            if counts.name.startswith("/"):
                screen.tell_no_use("A filter cannot ask for what stands at a pointer.")
            else:
                screen.arrive(where=f"{self._seen_view().where} {counts.name}:{quoted(value)}".strip())

        screen.app.push_screen(Choose(f"{counts.name}: {what}", values, head="value"), chosen)

    def pick_neighbour(self, name: str) -> None:
        """Go to one of the records most like ``name``: by meaning where an encoder is set, else by words."""
        screen, project = self._screen, self._screen.project
        job: Callable[[], Sequence[Neighbour]]
        if project.settings.dedupe.encoder:
            self._by_meaning = self._by_meaning or NearestByMeaning(project)
            job, how = partial(self._by_meaning.find, name, _NUM_NEAREST), "meaning"
        else:
            line = project.state(name).record.data
            job, how = partial(Nearest(project).find, line, _NUM_NEAREST, without=name), "words"

        def show(neighbours: Sequence[Neighbour]) -> None:
            values = [(near.id, f"{near.score:.2f}  {self._beginning(near.id)}") for near in neighbours]
            box = Choose(f"Most like {name} by {how}: {counted(len(values), 'record')}", values, head="record")
            screen.app.push_screen(box, lambda chosen: screen.arrive(record=chosen) if chosen else None)

        screen.app.background(job, show, group="browse.nearest", message=f"looking for what is like {name}")

    def _beginning(self, name: str) -> str:
        catalog = self._screen.project.catalog
        row = catalog.find(name)
        return "" if row is None else catalog.row(row).prompt
