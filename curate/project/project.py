"""The project: one open workspace, which every verb, screen and notebook asks, and the one way to write in it.

Nothing here knows of a screen. What is decided is saved when the call returns, and is one line of the journal each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock, RLock
from typing import TYPE_CHECKING, Self

from curate.base.console import one_line
from curate.base.events import Decision, Event, Label, Prefer, Resolve, Undo
from curate.base.file_guard import inside
from curate.base.record import CurateError, Finding, Record
from curate.base.tables import counted, listed
from curate.project.data import FILES_CHANGED, GOLDEN, ProjectData, load_data, make_added_file
from curate.project.fold import RecordState
from curate.project.held_out import frozen_mark
from curate.project.journal import CATEGORY, FOLDER, JournalWriter, annotator
from curate.project.transactions import Applied, Undone, UndoStacks, require_valid

if TYPE_CHECKING:
    import polars as pl

    from curate.checks.runner import Verdict
    from curate.formats.dataset import Export
    from curate.project.blind import Blind
    from curate.project.catalog import Catalog
    from curate.project.filters import Filter
    from curate.project.history import DecisionConflict
    from curate.schema import Shape
    from curate.schema.settings import Settings

# What a record of the frozen test set does not allow.
_CHANGING = frozenset({"add", "drop", "restore", "assign", "edit", "undo", "rewrite"})
# Hears which records others have changed: other people, or other parts of this program.
Listener = Callable[[set[str]], None]
OnProgress = Callable[[int, int], None]
Within = Callable[[Callable[[], set[str]]], set[str]]


class Project:
    """A workspace that is open: its records as decided, its journal, and the one way to write in it.

    Made by `open_project`; close it, or use it in ``with``. Nothing is read before it is asked for. `data` has all
    records in memory; after `load` there is a `catalog` of them as well, which follows the journal as it grows. What
    needs the catalog raises E916 before.

    Several threads may call it. A listener is called in the thread whose call has changed something, but not for what
    was done in its own name: the caller takes that change from what is returned.
    """

    def __init__(self, data: ProjectData, by: str | None) -> None:
        self.root, self._by = data.root, by
        self.file: Path | None = None  # The one file that is looked at; None for a workspace.
        self._data = data
        self._lock = RLock()
        self._reading = Lock()
        self._listeners: list[Listener] = []
        self._catalog: Catalog | None = None
        self._blind: Blind | None = None
        self._hidden_categories: set[str] = set()
        self._acts: UndoStacks | None = None
        self._writer: JournalWriter | None = None
        self._open = ExitStack()

    def __repr__(self) -> str:
        if self._catalog is None:
            return f"<Project {str(self.root)!r}: not read yet>"
        return f"<Project {str(self.root)!r}: {counted(len(self._catalog), 'record')}, {self.shape.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def by(self) -> str:
        """Who decides.

        Raises:
            CurateError: E902 when nobody is named and the user has no name.
        """
        if self._by is None:
            self._by = annotator()
        return self._by

    @property
    def settings(self) -> Settings:
        """What curate.toml says."""
        return self._data.settings

    @property
    def shape(self) -> Shape:
        """The schema of the records."""
        return self._data.shape

    @property
    def data(self) -> ProjectData:
        """All records as decisions have left them by now; it stays the same while others decide."""
        return self._data

    def files(self) -> list[Path]:
        """Return the record files, sorted.

        Raises:
            CurateError: E914 when a glob or link leads outside; E904 when no file matches.
        """
        return self._data.files()

    def records(self, where: str = "") -> Iterator[Record]:
        """Yield the records that are in, as decided; with ``where`` those that the filter lets through.

        Raises:
            CurateError: E902 for a filter that cannot be read; as `load`.
        """
        if not where:
            yield from self.data.records()
            return
        from curate.project.filters import parse_filter

        wanted = parse_filter(where)
        for name in self.select(wanted):
            state = self.state(name)
            if state.dropped is None or wanted.asks_about("status"):
                yield state.record

    def select(self, where: Filter, *, is_whole: bool = False) -> list[str]:
        """Return the ids of the records that ``where`` lets through; ``is_whole`` is as for `Catalog.frame`."""
        catalog = self._load_once()
        if where.needs_findings:
            self.judge()
        names: list[str] = catalog.frame(["id"], catalog.select(where, is_whole=is_whole))["id"].to_list()
        return names

    def judge(self) -> None:
        """Validate once, and give the records of the catalog their status by what is found."""
        catalog = self._load_once()
        # A validation takes seconds: only who asks about findings pays for it.
        if not catalog.has_findings:
            catalog.judge(catalog.severities_of(self.validate(limit=sys.maxsize, has_leaks=True).findings))

    @property
    def frame(self) -> pl.DataFrame:
        """The catalog as a polars frame, a row each record as decided: see `Catalog.frame` for the columns."""
        from curate.project.catalog import COLUMNS

        return self._load_once().frame(COLUMNS).drop("row")

    def validate(self, *, limit: int = 1000, has_leaks: bool = False) -> Verdict:
        """Validate the records as decided; at most ``limit`` findings of each code are returned, and all are counted.

        An export looks for leaks anyway; ``has_leaks`` has them looked for here too.

        Raises:
            CurateError: as `validate_data`.
        """
        from curate.project.validation import validate_data

        return validate_data(self.data, limit=limit, has_leaks=has_leaks)

    def export(self, into: Path | None = None) -> Export:
        """Write the next dataset, or return the last one where nothing has changed.

        Raises:
            CurateError: as `export_dataset`.
        """
        from curate.project.publish import export_dataset

        return export_dataset(self.data, into)[0]

    @property
    def catalog(self) -> Catalog:
        """Every record as a row of a table. `reload` makes a new one, in which rows have other numbers."""
        if self._catalog is None:
            raise _not_loaded()
        return self._catalog

    @property
    def is_loaded(self) -> bool:
        """Whether `load` has finished."""
        return self._catalog is not None

    @property
    def blind(self) -> Blind:
        """What hides others' answers from this annotator. `reload` makes a new one, of the settings as they then are.

        Where nobody knows who is asked what, it hides them until the annotator has answered; `Blind.fault` says why.
        """
        if self._blind is None:
            raise _not_loaded()
        return self._blind

    @property
    def writer(self) -> JournalWriter | None:
        """What saves decisions here; None before the first one."""
        return self._writer

    @property
    def num_decisions(self) -> int:
        """Decisions in the journal, everybody's."""
        return len(self._data.journal.events) if self.is_loaded else 0

    def load(self, on_progress: OnProgress | None = None) -> Catalog:
        """Read the records and what was decided on them; ``on_progress`` hears the bytes done and those of all.

        Raises:
            CurateError: as `open_catalog`; E913 and E980 for a journal that cannot be read.
        """
        self._read(self._data, on_progress)
        return self.catalog

    def reload(self, on_progress: OnProgress | None = None, within: Within | None = None) -> set[str]:
        """Read settings, schema, records and journal anew, and return the decided records that are not as they were.

        For when `is_current` says no, or E974 comes. What is decided meanwhile, in whatever thread, counts. Rows of the
        old catalogue mean nothing in the new one: ``within`` is given the moment's work of exchanging them and telling
        the listeners, to do it in the thread that shows rows.

        Raises:
            CurateError: as `open_project` and `load` do; everything is then as it was.
        """
        data = load_data(self.root)
        if self._catalog:
            # Where records were read and their files are gone, this raises, and what was read stays.
            data.files()
        return self._read(data, on_progress, within)

    def is_current(self) -> bool:
        """Whether the record files are still those that were read, and no decision was moved out of the journal."""
        assert self.catalog is not None
        try:
            return self._data.is_current()
        except CurateError:
            # There are no record files any more, or one leads out of the workspace: reading them again tells of it.
            return False

    def state(self, name: str) -> RecordState:
        """Return the record called ``name`` as decisions have left it.

        Raises:
            CurateError: E916 when there is none; E974 when another program has changed its file, see `reload`.
        """
        with self._lock:
            state = self._data.state(name)
        if state is None:
            raise CurateError("E916 unknown-record", f"there is no record {name!r} in {self.root}")
        return state

    def decided(self) -> list[RecordState]:
        """Return the states of all records that somebody has decided on and that are there."""
        return self._data.decided()

    def apply(self, decisions: Sequence[Decision], actor: Listener | None = None, act: str = "") -> Applied:
        """Save ``decisions`` as one act, which one `undo` takes back, and return them as events.

        The records that changed are `Applied.ids`. ``actor`` is the listener that does it, ``act`` one to go on with.

        Raises:
            CurateError: E906 when they are not saved; E904 for a first record that no record file would take; E913 when
                the journal cannot be read as a whole; E975 for a change of the frozen test set; E916 and E972 as
                `require_valid`, E974 when a line cannot be read any more: nothing is saved then.
        """
        with self._lock:
            events, changed = self._save(require_valid(decisions, self._data), act)
        # Listeners are called outside of the lock, because they may ask the project in another thread and wait.
        self._tell(changed, actor)
        return Applied(events)

    def undo(self, actor: Listener | None = None) -> Undone | None:
        """Take back this annotator's last act, also of an earlier session; None where nothing is left to take back.

        Raises:
            CurateError: E906 when it is not saved; E974 when decisions have left the journal, see `reload`; and as
                `load`, which is done first where it was not.
        """
        return self._reverse(actor, is_redo=False)

    def redo(self, actor: Listener | None = None) -> Undone | None:
        """Do again what `undo` took back last; None where nothing is left. It raises what `undo` raises."""
        return self._reverse(actor, is_redo=True)

    def standing(self, *, is_redo: bool = False) -> list[Sequence[Event]]:
        """Return the acts that `undo` takes back next, or `redo` does again next, the first of them first."""
        self._load_once()
        with self._lock:
            acts = self._all_acts()
            return [acts.original_of(act).events for act in reversed(acts.undone if is_redo else acts.done)]

    def refresh(self) -> set[str]:
        """Read what others have decided since the last look and return the records that it is about.

        Raises:
            CurateError: E913 and E980 for a segment that cannot be read: each is raised once, after all others.
        """
        self._load_once()
        with self._lock:
            changed, faults = self._follow(), self._data.journal.new_faults()
        self._tell(changed)
        for fault in faults:
            raise fault
        return changed

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have ``listener`` called with the records that others have changed; return what ends that."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def conflicts(self) -> list[DecisionConflict]:
        """Return what people decided on the same field without having seen one another's decision (L403)."""
        self._load_once()
        with self._lock:
            return self._data.told().conflicts

    def findings(self) -> list[Finding]:
        """Return what is wrong with decisions: L402, L403, and edits that the schema refuses."""
        self._load_once()
        with self._lock:
            return self._data.told().findings

    def remarks(self) -> list[str]:
        """Return what a person should know of the journal: damage, and decisions that apply to nothing."""
        assert self.catalog is not None
        with self._lock:
            return self._data.remarks()

    def history(self, name: str) -> list[Event]:
        """Return the decisions on one record in the order in which they count."""
        self._load_once()
        with self._lock:
            return [step.event for step, _ in self._data.history(name)]

    def recent(self, count: int) -> list[Event]:
        """Return the last decisions that were made or read, the newest first."""
        with self._lock:
            return self._data.journal.events[: -count - 1 : -1] if self.is_loaded else []

    def since(self, number: int) -> list[Event]:
        """Return the decisions that came after the first ``number`` of them, in the order in which they came."""
        with self._lock:
            return self._data.journal.events[number:]

    def hides_event(self, event: Event) -> bool:
        """Whether ``event`` must not be shown in full to the annotator.

        So it is with somebody else's answer, and with what somebody else has settled, also if it does not hold any
        more; and with which of two models' answers somebody else prefers, before the annotator has said so too.
        """
        decision = event.decision
        if event.by == self.by:
            return False
        if isinstance(decision, Prefer):
            return ("preferred", *decision.between, self.by) not in self.data.decisions.facts(event.id)
        if not isinstance(decision, Label | Resolve):
            return False
        return self._hides(event.id, lambda state: self.blind.still_asks(state, decision.question))

    def visible_finding(self, finding: Finding) -> Finding | None:
        """Return a finding, whose record is called as here, as the annotator may see it: see `redacted_finding`."""
        # It brings numpy with it.
        from curate.project.blind import redacted_finding

        def is_hidden(name: str) -> bool:
            return self._hides(name, lambda state: self.blind.hides(state, CATEGORY))

        return redacted_finding(finding, is_hidden, lambda: bool(self._hidden_categories))

    def visible_record(self, record: Record) -> tuple[Record, frozenset[str]]:
        """Return ``record`` as the annotator may see it, and the questions whose answers are hidden of it.

        ``record`` may be of an earlier moment.

        Raises:
            CurateError: E974 when another program has changed its file, so that nobody can tell what to hide.
        """
        try:
            state = self.state(record.id)
        except CurateError as error:
            if error.number != "E916":
                raise
            return record, frozenset()
        return self.blind.redacted(replace(state, record=record), self.shape).record, self.blind.hidden(state)

    def _hides(self, name: str, rule: Callable[[RecordState], bool]) -> bool:
        try:
            return rule(self.state(name))
        except CurateError as error:
            # A record that is gone asks nobody; of one whose file has just changed nobody can tell: it stays hidden.
            return error.number != "E916"

    def close(self) -> None:
        """Close the journal; everything that was decided is saved already."""
        with self._lock:
            self._writer = None
            self._open.close()

    def _load_once(self) -> Catalog:
        """Return the catalog, and read the records first where that was not done. Not to be called under the lock."""
        return self.catalog if self.is_loaded else self.load()

    @property
    def _reader(self) -> str:
        """The annotator who looks, "" where there is no name: then others' answers are hidden where they may be."""
        try:
            return self.by
        except CurateError:
            return ""

    def _read(self, data: ProjectData, on_progress: OnProgress | None, within: Within | None = None) -> set[str]:
        # The catalog brings polars with it, and most commands decide without it.
        from curate.project.blind import blind_in
        from curate.project.catalog import open_catalog

        # Only one thread reads at a time. Decisions go on meanwhile, under the other lock.
        with self._reading:
            data = ProjectData(data.root, data.settings, data.shape)
            blind, catalog = blind_in(data, self._reader), open_catalog(data, on_progress)
            if blind.fault is not None:
                remark = f"others' answers are hidden until you have given yours: {blind.fault.message}"
                catalog.remarks.append(remark)
            try:
                catalog.pin(data.pins())
            except CurateError as error:
                # Records can be looked after all the same; an export tells of it again, and refuses.
                catalog.remarks.append(f"the splits of the last dataset are not shown: {error.message}")
            hidden = _show(data, data.decisions.names, blind, catalog)
            with self._lock:
                changed = _differing(self._data, data) if self._catalog is not None else set()

            def exchange() -> set[str]:
                with self._lock:
                    self._data, self._catalog, self._blind, self._acts = data, catalog, blind, None
                    self._hidden_categories = hidden
                    # What was decided while the records were read.
                    moved = changed | self._follow()
                self._tell(moved)
                return moved

            return within(exchange) if within else exchange()

    def _follow(self) -> set[str]:
        return self._advance(self._data.journal.read())

    def _advance(self, events: Sequence[Event]) -> set[str]:
        """Go on to the state after ``events``, which are new, and return the records that changed."""
        if not events and not self._data.has_late:
            return set()
        if self._writer is not None:
            self._writer.note(events)
        if self._acts is not None:
            self._acts.add(event for event in events if event.by == self._reader)
        self._data, changed = self._data.after(events)
        if self._catalog is not None and self._blind is not None:
            hidden = _show(self._data, changed, self._blind, self._catalog)
            self._hidden_categories = (self._hidden_categories - changed) | hidden
        return changed

    def _save(self, decisions: Sequence[Decision], act: str = "") -> tuple[list[Event], set[str]]:
        # The folder may have become a link to elsewhere since the last decision.
        inside(self.root, self.root / FOLDER)
        if unknown := self._data.journal.unknown():
            raise unknown
        self._require_unlocked(decisions)
        if self._writer is None:
            self._writer = self._open.enter_context(JournalWriter(self.root, self.by, self.since(0)))
        if any(decision.op == "add" for decision in decisions):
            self._writer.is_unsaved = True
            make_added_file(self._data)
        events = self._writer.append(decisions, act)
        return events, self._advance(self._data.journal.take(events))

    def _require_unlocked(self, decisions: Sequence[Decision]) -> None:
        """Refuse a change of the frozen test set; answers to questions that are not answered yet change nothing."""
        if self.file or not ((self.root / GOLDEN).exists() or frozen_mark(self.root)):
            return
        # It brings what splits records with it.
        from curate.project.golden import require_unlocked

        changed = [
            decision.id
            for decision in decisions
            if (decision.op in _CHANGING and decision.fields.get("split") != "test") or self._is_relabelled(decision)
        ]
        require_unlocked(self.root, changed)

    def _is_relabelled(self, decision: Decision) -> bool:
        if not isinstance(decision, Label | Resolve):
            return False
        state = self._data.state(decision.id)
        if state is None:
            return False
        known = state.record.category if decision.question == CATEGORY else state.record.labels.get(decision.question)
        return known is not None and known != decision.value

    def _all_acts(self) -> UndoStacks:
        if self._acts is None:
            self._acts = UndoStacks(event for event in self._data.journal.events if event.by == self.by)
        return self._acts

    def _reverse(self, actor: Listener | None, *, is_redo: bool) -> Undone | None:
        self._load_once()
        with self._lock:
            acts = self._all_acts()
            stack = acts.undone if is_redo else acts.done
            if not stack:
                return None
            if not self._data.journal.is_whole():
                message = "decisions have left the journal since it was read"
                raise CurateError(FILES_CHANGED, message, "Read the records again, and see what is left to take back.")
            act = stack[-1]
            if applied := [event.id for event in act.events if self._data.decisions.is_applied(event)]:
                hint = "Nothing was saved. Take them back with git, which has the files as they were."
                what = (
                    f"these edits stand in the record files: {listed(applied, spell=lambda name: one_line(name, 60))}"
                )
                raise CurateError("E982 cannot-apply", what, hint)
            events, changed = self._save([self._undo_of(event) for event in reversed(act.events)])
            # An undo of what somebody has decided anew since is saved all the same, and changes nothing.
            numbers = {event.event for event in events}
            names, decisions = {event.id for event in events}, self._data.decisions
            unchanged = sorted(name for name in names if not decisions.has_effect(name, numbers))
            undone = Undone(acts.original_of(act).events, unchanged, is_redo)
        self._tell(changed, actor)
        return undone

    def _undo_of(self, event: Event) -> Undo:
        state = self._data.state(event.id)
        return Undo(event.id, event.event, parents=self._data.heads(event.id), text=state.text if state else "")

    def _tell(self, changed: set[str], actor: Listener | None = None) -> None:
        with ExitStack() as stack:
            # All of them hear it, also where one raises.
            for listener in reversed(self._listeners if changed else []):
                if listener != actor:
                    stack.callback(listener, changed)


def _not_loaded() -> CurateError:
    return CurateError("E916 unknown-record", "still reading the records", "Try again, or `load` first.")


def _show(data: ProjectData, names: Collection[str], blind: Blind, catalog: Catalog) -> set[str]:
    """Show the records called ``names`` in the ``catalog`` and return those of them whose category is hidden."""
    states = {name: data.state(name) for name in names if not data.is_late(name)}
    there = {name: state for name, state in states.items() if state is not None}
    # What is hidden is in no row: no cell, filter, order or count can tell it.
    visible = {name: blind.redacted(state, data.shape) for name, state in there.items()}
    catalog.update(states, {name: state for name, state in visible.items() if state is not there[name]})
    return {name for name, state in there.items() if blind.hides(state, CATEGORY)}


def _differing(one: ProjectData, other: ProjectData) -> set[str]:
    """Return the records that somebody has decided on and that are not the same in both."""
    mine, theirs = ({state.record.id: state for state in data.decided()} for data in (one, other))
    return {name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)}


def open_project(
    root: Path, by: str | None = None, *, settings: Settings | None = None, shape: Shape | None = None
) -> Project:
    """Open the workspace in ``root``; nothing of its records or journal is read yet.

    ``by`` is who decides, "" for what CURATE_ANNOTATOR or the system says; None puts the question off to the first
    decision. ``settings`` and ``shape`` stand in for the workspace's own.

    Raises:
        CurateError: E901 when the folder is not a workspace; E902 and E903 for its settings and schema; E902 for a
            name that is no text.
    """
    name = None if by is None else annotator(by)
    return Project(load_data(root, settings, shape), name)


def open_by_name(path: str | os.PathLike[str], by: str | None = None) -> Project:
    """Open the workspace in ``path``; ``by`` decides, by default the name that CURATE_ANNOTATOR or the system gives.

    Raises:
        CurateError: as `open_project`.
    """
    return open_project(Path(path), by)
