"""What Browse offers in a box: saved views, how often each value of a field is there, and the nearest records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from curate.base.events import Decision, Label
from curate.base.tables import counted
from curate.project.filters import parse_filter, quoted
from curate.project.journal import CATEGORY
from curate.project.labels import questions_of
from curate.project.views import FIELDS, FieldCounts, count_by, pointers_of, require_field, save_view
from curate.sessions.labelling import values_known
from curate.sessions.nearest import Nearest, NearestByMeaning
from curate.sessions.runs import CommandResult, Errand
from curate.sessions.token_preview import preview_tokens
from curate.similarity.dedupe.nearest import Neighbour
from curate.tui.border import bar, safe_lines
from curate.tui.dialogs import Choose, Pages
from curate.tui.screens.browse.rendering import SETS, SORTS

if TYPE_CHECKING:
    from curate.project.catalog import Rows
    from curate.schema.settings import Question, SavedView
    from curate.tui.screen import ProjectScreen

Decide = Callable[[Sequence[Decision], str, str], None]
TAKEN_BACK = "(take my answer back)"
PickerKind = Literal["view", "field", "neighbour", "tokens"]
_NUM_NEAREST, _MOST_VALUES = 10, 1000
_BAR = 12  # Cells of a bar of shares.


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
        elif record and what == "neighbour":
            self.pick_neighbour(record)
        elif record:
            self.show_tokens(record)

    def pick_view(self) -> None:
        """Show a view that is chosen, or save what is seen under a new name."""
        screen = self._screen
        views = {**screen.project.settings.views, **self._saved}
        rows = [(name, view.where or "all records") for name, view in views.items()]

        def chosen(name: str) -> None:
            if name in views:
                self._show_view(views[name])
            else:
                self._save(name)

        question = "Which view? A new name saves the filter, order and columns that you see."
        screen.app.ask_with(Choose(question, rows, is_open=True, head="view"), chosen)

    def _save(self, name: str) -> None:
        screen = self._screen
        view = self._seen_view()
        with screen.app.attempt():
            parse_filter(view.where)
            save_view(screen.project.root, name, view)
            self._saved[name] = view
            # Read now: it would else be taken for a change by somebody else.
            screen.app.following.reload((f"saved view {name.strip()}", "ok"))

    def pick_field(self, rows: Rows, record: str) -> None:
        """Count ``rows`` by a field that is chosen; the line of ``record``, if any, says which there are."""
        screen = self._screen
        names = ["status", *FIELDS, *(f"label.{question.name}" for question in questions_of(screen.project.settings))]
        if record:
            names += pointers_of(screen.project.state(record).record.data)

        def chosen(name: str) -> None:
            with screen.app.attempt():
                job = partial(self._count_statuses, rows)
                if name != "status":
                    require_field(name)
                    states = screen.project.catalog.visible_states(rows)
                    job = partial(count_by, states, name, screen.project.data.pins())
                elif not screen.project.catalog.has_findings:
                    screen.tell("Nothing was validated yet.", "warn", "g v validates; then statuses are known.")
                    return
                screen.app.background(job, self._show_counts, group="browse.show.counts", message="counting")

        values = [(name, "") for name in dict.fromkeys(names)]
        screen.app.ask_with(Choose("Count by which field?", values, is_open=True, head="field"), chosen)

    def _count_statuses(self, rows: Rows) -> FieldCounts:
        counts = self._screen.project.catalog.frame(["status"], rows)["status"].cast(str).value_counts()
        return FieldCounts("status", Counter(dict(counts.iter_rows())), len(rows))

    def _show_counts(self, counts: FieldCounts) -> None:
        screen = self._screen
        ranked, total = counts.ranked()[:_MOST_VALUES], max(1, counts.num_records)
        values = [(value, f"{n:>9,} {n / total:6.1%} {bar(n / total, _BAR)}") for value, n in ranked]
        more = f", the first {_MOST_VALUES:,} are shown" if len(counts.counts) > _MOST_VALUES else ""
        without = f". {counted(counts.num_without, 'record')} without one." if counts.num_without else "."
        what = f"{counted(len(counts.counts), 'value')}{more}{without}"

        def chosen(value: str) -> None:
            if counts.name.startswith("/"):
                screen.tell_no_use("A filter cannot ask for what stands at a pointer.")
            else:
                wanted = value if counts.name == "status" else quoted(value)
                screen.arrive(where=f"{self._seen_view().where} {counts.name}:{wanted}".strip())

        screen.app.ask_with(Choose(f"{counts.name} of the records in the list: {what}", values, head="value"), chosen)

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
            screen.app.ask_with(box, lambda chosen: screen.arrive(record=chosen))

        screen.app.background(job, show, group="browse.show.nearest", message=f"looking for what is like {name}")

    def show_tokens(self, name: str) -> None:
        """Show which tokens of ``name`` a run trains on, by ``train preview`` on the newest dataset."""
        screen, data = self._screen, self._screen.project.data

        def show(said: CommandResult) -> None:
            text = "\n".join((said.data, *said.talk)).strip()
            screen.app.push_screen(Pages(f"Trained tokens of {name}", safe_lines(text)))

        job, message = partial(preview_tokens, Errand(), data, name), f"asking the trainer for the tokens of {name}"
        screen.app.background(job, show, group="browse.tokens", message=message)

    def pick_sort(self, present: str, then: Callable[[str], None]) -> None:
        """Have a column chosen to sort by; ``present`` is the one that rows are sorted by now."""
        names = {title: name for name, title in SORTS.items()}
        values = [(title, "now; again turns it around" if name == present else "") for title, name in names.items()]
        box = Choose("Sort by what?", values, head="sort by")
        self._screen.app.ask_with(box, lambda title: then(names[title]))

    def pick_columns(self, then: Callable[[str], None]) -> None:
        """Have one of `SETS` chosen."""
        values = [(name, " ".join(columns[1:])) for name, columns in SETS.items()]
        box = Choose("Which columns?", values, head="columns")
        self._screen.app.ask_with(box, then)

    def pick_label(self, names: Sequence[str], decide: Decide) -> None:
        """Ask which question is answered about ``names``, and how; ``decide`` saves it."""
        screen = self._screen
        settings = screen.project.settings
        unsettled = {question.name for question in questions_of(settings) if not question.values}
        # Only a category that nothing settles is looked for in all records.
        categories = values_known(screen.project) if CATEGORY in unsettled else ()
        by_name = {question.name: question for question in questions_of(settings, categories)}
        if len(by_name) == 1:
            self._pick_answer(names, next(iter(by_name.values())), decide, is_open=bool(unsettled))
            return
        values = [(name, question.ask) for name, question in by_name.items()]

        def chosen(name: str) -> None:
            self._pick_answer(names, by_name[name], decide, is_open=name in unsettled)

        screen.app.ask_with(Choose("Which question?", values), chosen)

    # Ask for an answer about ``names``; what ``is_open`` takes any text.
    def _pick_answer(self, names: Sequence[str], question: Question, decide: Decide, *, is_open: bool) -> None:
        values = [(value, question.guide.get(value, "")) for value in question.values]
        what = names[0] if len(names) == 1 else counted(len(names), "record")
        title = f"{question.ask or question.name}  ({what})"
        box = Choose(title, [*values, (TAKEN_BACK, "")], is_open=is_open)

        def answered(value: str) -> None:
            answer = None if value == TAKEN_BACK else value
            done = f"{question.name}: {value} for" if answer is not None else "no answer any more for"
            decide([Label(name, question.name, answer) for name in names], done, "")

        self._screen.app.ask_with(box, answered)

    def _beginning(self, name: str) -> str:
        catalog = self._screen.project.catalog
        row = catalog.find(name)
        return "" if row is None else catalog.row(row).prompt
