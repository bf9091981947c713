"""A workspace that one annotator holds open: decide, take back, look for records, see what others decide meanwhile.

Nothing here knows of a screen. What is decided is saved when the call returns, and is one line of the journal each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock

from curate.journal import Add, AnyEvent, Decision, Sitting, annotator
from curate.record import CurateError, Finding, Json, Record
from curate.workshop.acts import Act, Acts
from curate.workshop.catalog import Catalog, open_catalog
from curate.workshop.tail import Tail
from curate.workspace import State, Workspace, inside, open_workspace
from curate.workspace.fold import Conflict, Fold, folded, steps

Listener = Callable[[set[str]], None]


@dataclass(frozen=True, slots=True)
class Undone:
    """An act that was taken back, or done again: its decisions, and on which records it changed nothing.

    Nothing changes where somebody has decided on the same thing since.
    """

    events: Sequence[AnyEvent]
    kept: Sequence[str] = ()


class Workshop:
    """An open workspace with its journal, followed as it grows. Made by `open_workshop`; close it, or use it in `with`.

    Several threads may call it; a listener is called in the thread whose call has changed something.
    """

    def __init__(self, workspace: Workspace, by: str) -> None:
        self.workspace = workspace
        self.root = workspace.root
        self.by = by
        self._lock = RLock()
        self._catalog: Catalog | None = None
        self._sitting = Sitting(self.root, by)
        self._tail = Tail(self.root)
        self._events: dict[str, list[AnyEvent]] = {}
        self._states: dict[str, State | None] = {}
        self._folds: dict[str, Fold] = {}
        self._listeners: list[Listener] = []
        self._order: list[AnyEvent] = []
        self._known: set[str] = set()
        self._acts = Acts()

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def catalog(self) -> Catalog:
        """Every record as a row of a table.

        Raises:
            CurateError: E916 before `load`.
        """
        if self._catalog is None:
            raise CurateError("E916 unknown-record", "the records are not read yet")
        return self._catalog

    @property
    def is_loaded(self) -> bool:
        """Whether `load` has finished."""
        return self._catalog is not None

    @property
    def num_decisions(self) -> int:
        """Decisions in the journal, everybody's."""
        return len(self._order)

    def load(self, on_progress: Callable[[int, int], None] | None = None) -> Catalog:
        """Read the records and what was decided on them; ``on_progress`` hears the bytes done and those of all.

        Raises:
            CurateError: as `open_catalog`; E913 for a journal of a newer version.
        """
        catalog = open_catalog(self.workspace, on_progress)
        with self._lock:
            self._catalog = catalog
            for name in self.workspace.kept:
                self._events.setdefault(name, [])
            self._absorb(sorted(self._tail.read(), key=lambda event: (event.at, event.session, event.seq)))
            self._acts = Acts(event for event in self._order if event.by == self.by)
            self._refold(self._events)
        return catalog

    def state(self, name: str) -> State:
        """Return the record called ``name`` as decisions have left it.

        Raises:
            CurateError: E916 when there is none.
        """
        with self._lock:
            state = self._states[name] if name in self._states else self._untouched(name)
        if state is None:
            raise CurateError("E916 unknown-record", f"there is no record {name!r} in {self.root}")
        return state

    def decided(self) -> list[State]:
        """Return the states of all records that somebody has decided on and that are there."""
        with self._lock:
            return [state for state in self._states.values() if state is not None]

    def apply(self, decisions: Sequence[Decision]) -> list[AnyEvent]:
        """Save ``decisions`` as one act, which one `undo` takes back, and return them as events.

        Raises:
            CurateError: E906 when they are not saved; E916 when a record is not there; E972 when the schema refuses the
                line that an edit makes: nothing is saved then.
        """
        with self._lock:
            inside(self.root, self.root / "journal")
            named = [self._on_present(decision) for decision in decisions]
            events = self._sitting.append(named)
            self._acts.add(events)
            changed = self._refold(self._absorb(events))
        self._tell(changed)
        return events

    def undo(self) -> Undone | None:
        """Take back this annotator's last act, also of an earlier sitting; None where nothing is left to take back.

        Raises:
            CurateError: E906 when it is not saved.
        """
        return self._reverse(self._acts.done)

    def redo(self) -> Undone | None:
        """Do again what `undo` took back last; None where nothing is left.

        Raises:
            CurateError: E906 when it is not saved.
        """
        return self._reverse(self._acts.undone)

    def standing(self, *, is_redo: bool = False) -> list[Sequence[AnyEvent]]:
        """Return the acts that `undo` takes back next, or `redo` does again next, the first of them first."""
        with self._lock:
            stack = self._acts.undone if is_redo else self._acts.done
            return [self._acts.meant(act).events for act in reversed(stack)]

    def refresh(self) -> set[str]:
        """Read what others have decided since the last look and return the records that it is about.

        Raises:
            CurateError: E913 when a newer version of pairsmith has written there.
        """
        with self._lock:
            events = [event for event in self._tail.read() if event.event not in self._known]
            self._acts.add(event for event in events if event.by == self.by)
            changed = self._refold(self._absorb(events))
        if changed:
            self._tell(changed)
        return changed

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have ``listener`` called with the records that changed, after each change; return what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def conflicts(self) -> list[Conflict]:
        """Return what people decided on the same field without having seen one another's decision (L403)."""
        with self._lock:
            return [conflict for one in self._folds.values() for conflict in one.conflicts]

    def findings(self) -> list[Finding]:
        """Return what is wrong with decisions: L402, L403, and edits that the schema refuses."""
        with self._lock:
            return [finding for one in self._folds.values() for finding in one.findings]

    def history(self, name: str) -> list[AnyEvent]:
        """Return the decisions on one record in the order in which they count."""
        with self._lock:
            base = self._base(name)
            events = self._events.get(name, [])
            return [step.event for step, _ in steps(base, events, self.workspace.shape, self.workspace.kept.get(name))]

    def recent(self, count: int) -> list[AnyEvent]:
        """Return the last decisions that were made or read, the newest first."""
        with self._lock:
            return self._order[: -count - 1 : -1]

    def close(self) -> None:
        """End the sitting; everything that was decided is saved already."""
        self._sitting.__exit__(None, None, None)

    def _on_present(self, decision: Decision) -> Decision:
        """Return ``decision`` as one on the present state of its record."""
        shape = self.workspace.shape
        if decision.op == "add":
            if decision.id in self._states or self._untouched(decision.id) is not None:
                raise CurateError("E916 unknown-record", f"there is a record {decision.id!r} already in {self.root}")
            line: dict[str, Json] | None = dict(decision.fields["record"])
            parents: Sequence[str] = ()
        else:
            state = self.state(decision.id)
            parents, line = state.parents(), None
            if decision.op == "edit":
                changes = decision.fields["changes"]
                line = {**state.record.data, **changes}
                line = {key: value for key, value in line.items() if value is not None or key not in changes}
        if line is not None and not shape.is_valid(line):
            problem = next(iter(shape.problems(line)), None)
            told = f"{problem.pointer or 'the line'} {problem.message}" if problem else "it is no line of the schema"
            raise CurateError("E972 unfit-line", f"{decision.id}: {told}", "Nothing was saved. Mend it and save again.")
        return replace(decision, parents=parents)

    def _reverse(self, stack: list[Act]) -> Undone | None:
        with self._lock:
            if not stack:
                return None
            act = stack[-1]
            decisions = []
            for event in reversed(act.events):
                state = self._states.get(event.id)
                parents = state.parents() if state else (event.event,)
                decisions.append(Decision("undo", event.id, parents, {"of": event.event}))
            events = self._sitting.append(decisions)
            self._acts.add(events)
            changed = self._refold(self._absorb(events))
            numbers = {event.event for event in events}
            kept = [name for name in changed if not self._has_effect(name, numbers)]
        self._tell(changed)
        return Undone(self._acts.meant(act).events, kept)

    def _has_effect(self, name: str, numbers: set[str]) -> bool:
        found = steps(self._base(name), self._events[name], self.workspace.shape, self.workspace.kept.get(name))
        return any(step.after for step, _ in found if step.event.event in numbers)

    def _absorb(self, events: Iterable[AnyEvent]) -> set[str]:
        """Take ``events`` in and return the records that they are on."""
        fresh = set()
        for event in events:
            if event.event not in self._known:
                self._known.add(event.event)
                self._order.append(event)
                self._events.setdefault(event.id, []).append(event)
                fresh.add(event.id)
        return fresh

    def _refold(self, names: Iterable[str]) -> set[str]:
        """Work out the state of each of ``names`` anew."""
        changed = set(names)
        for name in changed:
            found = Fold({})
            base, events = self._base(name), self._events[name]
            kept = self.workspace.kept.get(name)
            if base is None and not any(isinstance(event, Add) for event in events):
                self._states[name] = None
            else:
                self._states[name] = folded(base, events, self.workspace.shape, kept, found)
            self._folds[name] = found
        self.catalog.update({name: self._states[name] for name in changed})
        return changed

    def _untouched(self, name: str) -> State | None:
        base = self._base(name)
        return State(base) if base else None

    def _base(self, name: str) -> Record | None:
        """Return the record as its line has it."""
        return self.catalog.read(name)

    def _tell(self, changed: set[str]) -> None:
        for listener in list(self._listeners):
            listener(changed)


def open_workshop(root: Path, by: str = "") -> Workshop:
    """Open the workspace in ``root`` for the annotator ``by``; call `Workshop.load` before anything else of it.

    Raises:
        CurateError: as `open_workspace`.
    """
    return Workshop(open_workspace(root), by or annotator())


__all__ = ["Listener", "Undone", "Workshop", "open_workshop"]
