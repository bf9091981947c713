"""Fixes of the texts of records, as edits: nothing in the files changes, and an undo takes them back.

`curate validate --fix` makes the same fixes in the files themselves, and those of bytes around the records besides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from curate.base.events import Decision, Edit
from curate.base.record import Json, Record
from curate.checks.fixes import Fix, discover, fixed_text, is_ignored, texts, with_texts
from curate.project.data import ProjectData
from curate.project.fold import RecordState
from curate.schema import Shape

MOST = 20_000
"""Records whose fixes are kept: each of them becomes a line of the journal with all that changes in it."""
_EVERY = 2000


@dataclass(frozen=True, slots=True)
class RecordFix:
    """What fixes make of one record: their names, each text by pointer before and after, and the edit of the line."""

    record: str
    fixes: tuple[str, ...]
    texts: tuple[tuple[str, str, str], ...]
    changes: Mapping[str, Json]

    def decision(self) -> Decision:
        """Return the edit that makes the fixes."""
        return Edit(self.record, dict(self.changes))


@dataclass(slots=True)
class RecordFixes:
    """The safe fixes of all records: the first `MOST`, how many there are, by which fix, and what is not to be done."""

    fixes: list[RecordFix] = field(default_factory=list)
    num_records: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    num_refused: int = 0
    """Records whose fixed texts the schema would not allow."""

    def add(self, record: Record, shape: Shape, ignore: Collection[str]) -> None:
        """Add what safe fixes make of a record."""
        mending = mend_record(record, shape, fixes_for("", ignore))
        if mending is None:
            return
        if not mending.changes:
            self.num_refused += 1
            return
        self.num_records += 1
        self.counts.update(mending.fixes)
        if len(self.fixes) < MOST:
            self.fixes.append(mending)


def fixes_for(code: str, ignore: Collection[str], *, unsafe: bool = False) -> list[Fix]:
    """Return the fixes of what ``code`` reports, those of everything with "", but for what settings say to ignore."""
    return [
        fix
        for fix in discover()
        if (fix.is_safe or unsafe) and (not code or fix.code == code) and not is_ignored(fix, ignore)
    ]


def mend_record(record: Record, shape: Shape, fixes: Collection[Fix]) -> RecordFix | None:
    """Return what ``fixes`` make of a record, None where they have nothing to do.

    Where the schema would not allow the line that they make, there are no changes.
    """
    if shape.view is None:
        return None
    ignored = shape.ignored(record.data)
    wanted = [fix for fix in fixes if not is_ignored(fix, ignored)]
    new_texts = [(text, *fixed_text(text, wanted)) for text in texts(record.data, shape.view)]
    changed = [(text, new, names) for text, new, names in new_texts if new != text.text]
    if not changed:
        return None
    names = tuple(dict.fromkeys(name for _, _, some in changed for name in some))
    texts_changed = tuple((text.pointer, text.text, new) for text, new, _ in changed)
    line = with_texts(record.data, [(text, new) for text, new, _ in changed])
    if not shape.is_valid(line):
        return RecordFix(record.id, names, texts_changed, {})
    return RecordFix(
        record.id, names, texts_changed, {key: value for key, value in line.items() if value != record.data.get(key)}
    )


def mend_records(data: ProjectData, on_progress: Callable[[int], None]) -> RecordFixes:
    """Return the safe fixes of all records of a workspace as decisions have left them.

    Raises:
        CurateError: E904 when a file is missing or may not be read.
    """
    mendings, ignore = RecordFixes(), data.settings.checks.ignore
    for number, item in enumerate(data.read(), start=1):
        if number % _EVERY == 0:
            on_progress(number)
        if isinstance(item, RecordState) and item.dropped is None:
            mendings.add(item.record, data.shape, ignore)
    return mendings
