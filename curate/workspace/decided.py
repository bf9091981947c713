"""Validation of the records as decisions have left them, where the lines of the files are not the last word."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

from curate.door import FAULTS
from curate.record import Finding, Record, Source, canonical
from curate.say import spelled
from curate.validate import examine_all, place_name
from curate.validate.examine import Examiner, SpanResult
from curate.validate.verdict import Tally
from curate.workspace.fold import State

EVERY = 1_000_000
"""Findings of one severity that are kept of a span where every one of them counts."""

OnSpan = Callable[[SpanResult], None]


@dataclass(frozen=True, slots=True)
class Decided:
    """What decisions make of records: the places of their lines, which do not count, and what stands instead of them.

    A place is a file relative to the workspace and a line. Records that were left out have one and nothing instead;
    those that were added stand in no file. It can be pickled.
    """

    places: frozenset[tuple[str, int]] = frozenset()
    standing: tuple[Record, ...] = ()
    names: frozenset[str] = frozenset()
    """The ids of all of them."""


def decided(states: Iterable[State]) -> Decided:
    """Return what decisions make of the records whose ``states`` these are; those that nobody decided on stay."""
    touched = [state for state in states if state.heads or state.dropped is not None]
    return Decided(
        frozenset((state.record.source.file, state.record.source.line) for state in touched),
        tuple(state.record for state in touched if state.dropped is None),
        frozenset(state.record.id for state in touched),
    )


class RecordExaminer(Examiner):
    """Examines records one by one, wherever they come from, by the rules of the file that they are in."""

    @classmethod
    def like(cls, examiner: Examiner) -> RecordExaminer:
        """Return one that asks of a record what ``examiner`` asks of a line."""
        return cls(
            examiner.shape,
            examiner.settings,
            examiner.selection,
            limit=examiner.limit,
            show_values=examiner.show_values,
            dropped=(),
            root=examiner.root,
            baseline=examiner.baseline,
        )

    def add(self, result: SpanResult, record: Record, place: str) -> None:
        """Add to ``result`` a record and what is wrong with it; ``place`` names its file within the workspace.

        Its findings name it as its line does, and have no column: the file's line may be another than what it now is.
        """
        self._name = place
        self._rules = self.selection.rules(place, "")
        part = SpanResult(Tally(self.limit))
        # What people call a record by may differ from what its line says, and whether ids repeat is about the lines.
        own_id = self.shape.view.get(record.data, "id") if self.shape.view else None
        said = record if own_id is None else replace(record, id=str(own_id))
        self._examine_record(said, canonical(dict(record.data)), part)
        laid_aside = [owed.findings for owed in part.owed.values()]
        for found in (*part.tally.kept.values(), *laid_aside):
            found[:] = [replace(finding, column=0) for finding in found]
        result.tally.join(part.tally)
        result.num_records += part.num_records
        result.excused.update(part.excused)
        for key, owed in part.owed.items():
            known = result.owed.setdefault(key, owed)
            if known is not owed:
                known.count += owed.count
                known.findings += owed.findings
        result.sketches += part.sketches
        result.prints.extend(part.prints)


class _Standing:
    """Decided records by the file and line of the results that they belong to."""

    def __init__(self, decided: Decided, files: Sequence[Path], root: Path | None) -> None:
        self._paths = {spelled(place_name(path, root)): path for path in files}
        self._root = root
        self._left_out: dict[str, list[int]] = defaultdict(list)
        for file, line in sorted(decided.places):
            self._left_out[self._name(file)].append(line)
        self._instead: dict[str, list[Record]] = defaultdict(list)
        for record in sorted(decided.standing, key=lambda record: (record.source.file, record.source.line)):
            name = self._name(record.source.file)
            self._instead[name].append(replace(record, source=Source(name, record.source.line)))

    def apply(self, result: SpanResult, path: Path, first: int, single: RecordExaminer, *, has_left: bool) -> None:
        """Put what stands into the result of the lines from ``first`` on, in place of what was found in the lines.

        With ``has_left`` something was found in them, else they were passed over.
        """
        name, end = spelled(str(path)), first + result.num_lines
        lines = self._left_out[name]
        gone = set(lines[bisect_left(lines, first) : bisect_left(lines, end)])
        if gone and has_left:
            _leave_out(result, gone)
        waiting = self._instead[name]
        count = bisect_left(waiting, end, key=lambda record: record.source.line)
        self._instead[name] = waiting[count:]
        for record in waiting[:count]:
            single.add(result, record, place_name(path, self._root))
        if count:
            _in_reading_order(result)

    def rest(self, single: RecordExaminer) -> Iterator[tuple[Path, SpanResult]]:
        """Yield the results of records that stand in none of the files, such as those that were added."""
        for name, records in self._instead.items():
            result = SpanResult(Tally(single.limit))
            for record in records:
                single.add(result, record, "")
            yield Path(name), result

    def _name(self, file: str) -> str:
        """Return a file of the workspace as findings name it: by the path that it is opened with."""
        path = self._paths.get(file)
        return spelled(str(path)) if path else file


def examine_decided(
    examiner: Examiner, files: Sequence[Path], jobs: int, *, decided: Decided, on_span: OnSpan | None = None
) -> Iterator[tuple[Path, SpanResult]]:
    """Examine ``files``, as an engine of `validate` does, with decided records in place of their lines.

    Records that were added come last. ``on_span`` sees each result before the others, with every finding up to `EVERY`
    of a severity, and may take findings out of it. What records ask to ignore is counted as their lines ask it, too.

    Where a baseline is updated, findings are noted without their lines: there the lines of decided records are passed
    over by their ids, and a record that shares its id with another one takes that one along.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E970 when a worker is killed.
    """
    if not decided.places and on_span is None:
        yield from examine_all(examiner, files, jobs)
        return
    wide = copy(examiner)
    wide.limit = EVERY
    is_update = examiner.baseline is not None and examiner.baseline.is_update
    # What was dropped is among the places; who is named here is passed over as if its line were not there.
    wide.dropped = decided.names if is_update else frozenset()
    single = RecordExaminer.like(wide)
    standing = _Standing(decided, files, examiner.root)
    first, before = 1, Path()
    for path, result in examine_all(wide, files, jobs):
        first = first if path == before else 1
        standing.apply(result, path, first, single, has_left=not is_update)
        before, first = path, first + result.num_lines
        if on_span:
            on_span(result)
        yield path, result
    for path, result in standing.rest(single):
        if result.num_records or result.tally.counts:
            if on_span:
                on_span(result)
            yield path, result


def _leave_out(result: SpanResult, lines: set[int]) -> None:
    """Take out of the result of a span what was found in some of its lines, which are records."""

    def is_gone(finding: Finding) -> bool:
        return finding.line in lines and finding.code not in FAULTS

    tally = result.tally
    for severity, kept in tally.kept.items():
        for finding in kept:
            if is_gone(finding):
                tally.counts[finding.code, finding.severity] -= 1
        tally.kept[severity] = [finding for finding in kept if not is_gone(finding)]
    # A code that is found no more is not one that was found no times.
    tally.counts = +tally.counts
    for owed in result.owed.values():
        owed.count -= sum(map(is_gone, owed.findings))
        owed.findings = [finding for finding in owed.findings if not is_gone(finding)]
    result.owed = {key: owed for key, owed in result.owed.items() if owed.count}
    staying = [index for index, sketch in enumerate(result.sketches) if sketch.line not in lines]
    result.sketches = [result.sketches[index] for index in staying]
    result.prints = type(result.prints)("Q", (result.prints[index] for index in staying if result.prints))
    result.excused = {place: codes for place, codes in result.excused.items() if place[1] not in lines}
    result.num_records -= len(lines)


def _in_reading_order(result: SpanResult) -> None:
    order = sorted(range(len(result.sketches)), key=lambda index: result.sketches[index].line)
    result.sketches = [result.sketches[index] for index in order]
    if result.prints:
        result.prints = type(result.prints)("Q", (result.prints[index] for index in order))
