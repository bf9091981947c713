"""The states that the decisions of a workspace leave, followed as the journal grows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from curate.base.events import AnyEvent
from curate.base.record import CurateError, Record
from curate.project.blind import blind_in, redacted_state
from curate.project.catalog import open_catalog
from curate.project.catalog.base import Progress
from curate.project.data import FILES_CHANGED, ProjectData
from curate.project.fold import Decisions, Fold, RecordState, orphan_texts, steps
from curate.project.history import AppliedEvent, frontier_of
from curate.project.journal import CATEGORY, JournalReader
from curate.project.snapshot import folded_files, read_snapshot
from curate.project.transactions import UndoStacks


class StateTracker:
    """A workspace's decisions by record, and the states that they leave. One thread at a time may use it.

    The line of a record that was decided on is kept here: whatever becomes of the file, what is saved can be shown.
    """

    def __init__(self, data: ProjectData, by: str, on_progress: Progress | None = None) -> None:
        """Read the journal and the records for the annotator ``by``; ``on_progress`` hears bytes done and in all.

        Raises:
            CurateError: as `open_catalog`; E913 and E980 for a journal that cannot be read.
        """
        self.reader = JournalReader(data.root)
        self.order: list[AnyEvent] = []
        """Every decision, in the order in which it was made or read."""
        self.blind = blind_in(data, by)
        self._root, self._shape = data.root, data.shape
        self._known: set[str] = set()
        self._hidden_categories: set[str] = set()
        self._states: dict[str, RecordState | None] = {}
        self._bases: dict[str, Record | None] = {}
        # The journal, then its snapshot, then the lines: what `curate fold` moves from one to the next meanwhile is
        # read at least once, and counts once.
        events = self.reader.read()
        for fault in self.reader.new_faults():
            raise fault
        # What a newer version has decided is a remark at first; `Project.refresh` tells of what comes later.
        with suppress(CurateError):
            self.reader.require_no_more_unknown()
        self._snapshot = read_snapshot(data.root)
        self._decisions = Decisions((), data.shape, self._snapshot)
        self.catalog = open_catalog(data, on_progress)
        """Every record as the annotator may see it."""
        if self.blind.fault is not None:
            remark = f"others' answers are hidden until you have given yours: {self.blind.fault.message}"
            self.catalog.remarks.append(remark)
        self._late = set(self._snapshot.records)
        self.take(sorted(events, key=lambda event: (event.at, event.session, event.seq)))
        for name in list(self._late):
            self.state(name)
        self._num_first = len(self.order)

    @property
    def has_hidden_categories(self) -> bool:
        """Whether `blind` hides the category of some record."""
        return bool(self._hidden_categories)

    def is_followed(self) -> bool:
        """Whether no decision has left the journal since it was read, so that looking at its end shows all."""
        return self.reader.is_whole() and max(folded_files(self._root), default=0) == self._snapshot.number

    def acts(self, by: str) -> UndoStacks:
        """Return what an annotator has done, also what is folded since.

        Raises:
            CurateError: E913 and E980 when a retired segment cannot be read.
        """
        first, later = self.order[: self._num_first], self.order[self._num_first :]
        acts = UndoStacks(event for event in (*self._snapshot.takes_back(by), *first) if event.by == by)
        acts.add(event for event in later if event.by == by)
        return acts

    def state(self, name: str) -> RecordState | None:
        """Return the record called ``name`` as decisions have left it, None where there is none.

        Raises:
            CurateError: E974 when nobody had decided on it before its file was changed.
        """
        if name in self._late:
            self._refold({name})
        if name in self._states:
            return self._states[name]
        base = self._base(name)
        return RecordState(base) if base else None

    def hold(self, name: str) -> RecordState | None:
        """Return the state as `state` does, and keep the line, so that a decision on it can be taken for certain."""
        state = self.state(name)
        if name not in self._states:
            self._bases[name] = state.record if state else None
        return state

    def parents(self, name: str) -> Sequence[str]:
        """Return what a decision on the present state of ``name`` names as its parents."""
        state = self.state(name)
        if state is not None:
            return state.parents()
        return frontier_of(self._decisions.of(name), self._snapshot.records.get(name))

    def decided(self) -> list[RecordState]:
        """Return the states of all records that somebody has decided on and that are there."""
        return [state for state in self._states.values() if state is not None]

    def fold_outcomes(self) -> list[Fold]:
        """Return what is to be told of single records, in the order of their ids."""
        return [outcome for _, outcome in sorted(self._decisions.outcomes.items())]

    def history(self, name: str) -> list[AnyEvent]:
        """Return the decisions on one record in the order in which they count."""
        return [step.event for step, _ in self._steps(name)]

    def has_effect(self, name: str, numbers: Collection[str]) -> bool:
        """Whether one of the events ``numbers`` has changed anything of the record."""
        return any(step.facets for step, _ in self._steps(name) if step.event.event in numbers)

    def take(self, events: Iterable[AnyEvent]) -> set[str]:
        """Take ``events`` in, those that are new, and return the records that they are on."""
        changed = set(self._late)
        for event in events:
            if event.event not in self._known:
                self._known.add(event.event)
                self.order.append(event)
                self._decisions.add(event)
                changed.add(event.id)
        return self._refold(changed)

    def differing(self, other: StateTracker) -> set[str]:
        """Return the records that somebody has decided on and that are not the same in ``other``."""
        mine, theirs = self._states, other._states
        return {name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)}

    def remarks(self) -> list[str]:
        """Return what a person should know of the journal: of segments, and of decisions on records that are gone."""
        orphans = [event for outcome in self._decisions.outcomes.values() for event in outcome.orphans]
        return [*self.reader.remarks(), *orphan_texts(orphans)]

    def _refold(self, names: Collection[str]) -> set[str]:
        """Work out the states of ``names`` anew and return them; those whose lines cannot be read now come later."""
        done: dict[str, RecordState | None] = {}
        for name in names:
            try:
                base = self._bases[name] = self._base(name)
            except CurateError as error:
                if error.code != FILES_CHANGED:
                    raise
                self._late.add(name)
                continue
            done[name] = self._decisions.fold(name, base)
        self._states |= done
        self._late -= done.keys()
        states = ((name, state) for name, state in done.items() if state is not None)
        visible = {name: redacted_state(state, self.blind, self._shape) for name, state in states}
        hidden = {name for name, state in done.items() if state is not None and self.blind.hides(state, CATEGORY)}
        self._hidden_categories = (self._hidden_categories - done.keys()) | hidden
        # What is hidden is in no row: no cell, filter, order or count can tell it.
        self.catalog.update(done, {name: state for name, state in visible.items() if state is not done[name]})
        return set(done)

    def _base(self, name: str) -> Record | None:
        """Return the record as its line has it."""
        return self._bases[name] if name in self._bases else self.catalog.read(name)

    def _steps(self, name: str) -> Iterator[tuple[AppliedEvent, RecordState | None]]:
        return steps(name, self._base(name), self._decisions.of(name), self._shape, self._snapshot)
