"""What is wrong with the records, in groups: every finding counted, the first ones of each group kept to be shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from curate.base.record import Finding, Severity
from curate.checks import discover
from curate.checks.runner.results import SpanResult
from curate.checks.runner.verdict import FindingTally, judge
from curate.formats.reports import Verdict
from curate.jsonl import FAULTS, parts_of, pointer_of
from curate.project.approval import UNAPPROVED
from curate.schema.settings import Tolerance

EVERY = 1_000_000  # Findings of one severity that are taken from a span: every one of them counts.
MAX_PER_GROUP = 1000  # Findings of a group that are kept to be shown.
ELSEWHERE = "/..."  # The pointer of a group that gathers all places of a code beyond the first two hundred.
ORDER: tuple[Severity, ...] = ("error", "warning", "info")
_MAX_RETAINED = 50_000
_MAX_POINTERS = 200

By = Literal["code", "file"]
# What a finding is about: a line that is no record, a record by itself, what was decided on one, all records.
Level = Literal["line", "record", "decision", "whole"]
_WHOLE: tuple[Level, ...] = ("whole",)


@dataclass(slots=True)
class Group:
    """Findings of one code at one place of the records, at any list index."""

    code: str
    name: str
    severity: Severity
    pointer: str
    level: Level
    count: int = 0
    # The first ones by rank, in reading order; their file is relative to the workspace, their record the project's.
    examples: list[Finding] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)


class Problems:
    """All findings of one validation. It can be pickled, and follows single records that change after it."""

    def __init__(
        self, files: Mapping[str, str], names: Mapping[tuple[str, int], str], tolerances: Mapping[str, Tolerance]
    ) -> None:
        """Begin with none; ``files`` gives the file within the workspace by the path that findings have.

        ``names`` has the ids of records that are called otherwise than their line says, by file and line.
        """
        self.groups: list[Group] = []
        self.by_record: dict[str, tuple[int, ...]] = {}  # By record, the number of the group of each of its findings.
        self.num_records = self.num_lines = self.num_suppressed = self.num_forgiven = self.num_mended = 0
        self._files, self._names, self._tolerances = dict(files), dict(names), dict(tolerances)
        folders = (path.removesuffix(name) for path, name in files.items() if path.endswith(f"/{name}"))
        self._folder = next(folders, "")
        self._numbers: dict[tuple[Level, str, Severity, str], int] = {}
        self._num_pointers: Counter[str] = Counter()
        # Most records with findings have the same ones: each tuple of numbers is held once.
        self._sets: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._num_retained = 0
        self._aside: dict[str, list[tuple[int, Finding | None]]] = {}

    def take(self, result: SpanResult) -> None:
        """Take the findings out of the result of a span, whose counts stay as they are."""
        for findings in result.tally.retained.values():
            for finding in findings:
                self.add(finding)
            findings.clear()

    def finish(self, verdict: Verdict) -> None:
        """Take what a validation says at its end: findings about the whole, and its numbers."""
        for finding in verdict.findings:
            self.add(finding)
        self.num_records, self.num_lines = verdict.num_records, verdict.num_lines
        self.num_suppressed, self.num_mended = verdict.num_suppressed, verdict.num_mended
        self.num_forgiven = verdict.num_forgiven
        # What was counted and not kept has no place, and is not to be lost.
        counted = Counter[str]()
        for group in self.groups:
            counted[group.code] += group.count
        for code, number in verdict.counts.items():
            if number > counted[code]:
                rule = FAULTS.get(code) or discover()[code]
                whole = self._number(level_of(code), code, rule.name, rule.severity, ELSEWHERE)
                self.groups[whole].count += number - counted[code]

    def add(self, finding: Finding, level: Level | None = None) -> None:
        """Count a finding, and keep it while there is room."""
        level = level or level_of(finding.code)
        file = self._files.get(finding.file, finding.file)
        # A line that is no record may call itself what a record is called.
        name = "" if level == "line" else self._names.get((file, finding.line), finding.record)
        number = self._number(level, finding.code, finding.name, finding.severity, _general_pointer(finding.pointer))
        group = self.groups[number]
        self._count(number, name, file)
        if len(group.examples) < MAX_PER_GROUP and self._num_retained < _MAX_RETAINED:
            self._num_retained += 1
            # What it says of another file's record names that file as well.
            message = finding.message.replace(self._folder, "") if self._folder else finding.message
            group.examples.append(replace(finding, file=file, message=message, record=name or finding.record))

    def forget(self, name: str, levels: Collection[Level], file: str = "") -> None:
        """Take out what was found of the record called ``name`` at these levels; ``file`` is its file, if known."""
        numbers = self.by_record.pop(name, ())
        staying = tuple(number for number in numbers if self.groups[number].level not in levels)
        if staying:
            self.by_record[name] = self._sets.setdefault(staying, staying)
        for number in set(numbers).difference(staying):
            group, gone = self.groups[number], numbers.count(number)
            own = [finding for finding in group.examples if finding.record == name]
            group.count -= gone
            group.files[file or (own[0].file if own else "")] -= gone
            group.examples = [finding for finding in group.examples if finding.record != name]
            self._num_retained -= len(own)

    def put_aside(self, name: str, file: str) -> None:
        """Take out what is wrong with a record among all others, for it was left out, and remember it."""
        if name in self._aside:
            return
        numbers = [number for number in self.by_record.get(name, ()) if self.groups[number].level == "whole"]
        examples = {number: iter(self._examples(number, name)) for number in numbers}
        self._aside[name] = [(number, next(examples[number], None)) for number in numbers]
        self.forget(name, _WHOLE, file)

    def put_back(self, name: str, file: str) -> None:
        """Undo `put_aside`."""
        for number, finding in self._aside.pop(name, ()):
            if finding is None:
                self._count(number, name, file)
            else:
                self.add(finding, "whole")

    def in_reading_order(self) -> None:
        """Sort what is kept, after records that changed were added again."""
        for group in self.groups:
            group.examples.sort(key=lambda finding: (finding.rank, finding.file, finding.line, finding.column))

    def statuses(self) -> dict[str, Severity]:
        """Return the worst severity of each record that has a finding; complete, whatever is kept to be shown.

        That a record waits for approval is a status of its own.
        """
        worst: dict[tuple[int, ...], Severity] = {}
        for numbers in set(self.by_record.values()):
            known = {group.severity for group in map(self.groups.__getitem__, numbers) if group.code != UNAPPROVED}
            worst[numbers] = min(known, key=ORDER.index, default="info")
        return {name: worst[numbers] for name, numbers in self.by_record.items()}

    def of_record(self, name: str) -> list[Finding]:
        """Return what is kept of the findings of one record."""
        numbers = dict.fromkeys(self.by_record.get(name, ()))
        return [finding for number in numbers for finding in self._examples(number, name)]

    def with_code(self, code: str) -> list[str]:
        """Return the names of all records that have a finding of this code."""
        of_code = {number for number, group in enumerate(self.groups) if group.code == code}
        return [name for name, numbers in self.by_record.items() if name and not of_code.isdisjoint(numbers)]

    def count(self, severity: Severity) -> int:
        """Return the number of findings of one severity."""
        return sum(group.count for group in self.groups if group.severity == severity)

    @property
    def num_elsewhere(self) -> int:
        """Findings about no single record: about lines that are none, and about the data as a whole."""
        return sum(group.count for group in self.groups) - sum(map(len, self.by_record.values()))

    @property
    def num_failing(self) -> int:
        """Findings that make `curate validate` fail and an export stop, as `Verdict.num_failing` counts them."""
        tally = FindingTally(0)
        num_decided = 0
        for group in self.groups:
            if group.level == "decision":
                num_decided += group.count if group.severity == "error" else 0
            else:
                tally.count(group.code, group.severity, group.count)
        verdict = judge(tally, self._tolerances, self.num_records)
        return num_decided + tally.of_severity("error") - verdict.num_errors_tolerated + verdict.num_over_tolerance

    def _examples(self, number: int, name: str) -> list[Finding]:
        return [finding for finding in self.groups[number].examples if finding.record == name]

    def _count(self, number: int, name: str, file: str) -> None:
        self.groups[number].count += 1
        self.groups[number].files[file] += 1
        if name:
            numbers = (*self.by_record.get(name, ()), number)
            self.by_record[name] = self._sets.setdefault(numbers, numbers)

    def _number(self, level: Level, code: str, name: str, severity: Severity, pointer: str) -> int:
        key = (level, code, severity, pointer)
        if key not in self._numbers:
            # Free-form objects have keys without end: one group takes all places beyond the first two hundred.
            if self._num_pointers[code] >= _MAX_POINTERS and pointer != ELSEWHERE:
                return self._number(level, code, name, severity, ELSEWHERE)
            self._num_pointers[code] += 1
            self._numbers[key] = len(self.groups)
            self.groups.append(Group(code, name, severity, pointer, level))
        return self._numbers[key]


@cache
def level_of(code: str) -> Level:
    """Return what findings of a check are about."""
    if code in FAULTS:
        return "line"
    rule = discover().get(code)
    return "whole" if rule and rule.kind == "dataset" else "record"


def _general_pointer(pointer: str) -> str:
    # A star for every index of a list: the tenth message and the first are the same place.
    return pointer_of(["*" if part.isdecimal() else part for part in parts_of(pointer)]) if pointer else ""


# The groups as a list to look through.


@dataclass(frozen=True, slots=True)
class Heading:
    """A group: ``count`` findings, of which ``num_listed`` can be listed and ``num_matching`` pass the filter.

    ``message`` is that of its first finding.
    """

    key: str
    severity: Severity
    title: str
    pointer: str
    count: int
    num_listed: int = 0
    num_matching: int = 0
    message: str = ""
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class ProblemItem:
    """A finding of the group whose heading stands above it."""

    key: str
    finding: Finding


def listed(
    problems: Problems,
    *,
    by: By = "code",
    closed: Collection[str] = (),
    severities: Collection[Severity] = ORDER,
    text: str = "",
    visible: Callable[[Finding], Finding | None] = replace,
) -> list[Heading | ProblemItem]:
    """Return the headings, errors first, each followed by its findings unless ``closed`` has its key.

    ``text``, in any case, is what a finding must have in its code, name, message, file, record or pointer; findings
    that are counted and not kept cannot be looked through. ``visible`` gives a finding as the reader may see
    it, None where they may not: the filter must not tell what the list hides.
    """
    groups = [group for group in problems.groups if group.count > 0 and group.severity in severities]
    rows: list[Heading | ProblemItem] = []
    for heading, findings in _by_code(groups) if by == "code" else _by_file(groups):
        matching = [finding for finding in map(visible, findings) if finding and _holds(finding, text.casefold())]
        if text and not matching:
            continue
        message = matching[0].message if matching and by == "code" else ""
        is_open = heading.key not in closed
        row = replace(heading, num_listed=len(findings), num_matching=len(matching), message=message, is_open=is_open)
        rows.append(row)
        rows += [ProblemItem(heading.key, finding) for finding in matching] if is_open else []
    return rows


def _by_code(groups: list[Group]) -> Iterator[tuple[Heading, list[Finding]]]:
    for group in sorted(groups, key=lambda item: (ORDER.index(item.severity), item.code, -item.count, item.pointer)):
        key = f"{group.severity} {group.level} {group.code} {group.pointer}"
        title = f"{group.code} {group.name}"
        yield Heading(key, group.severity, title, group.pointer, group.count), group.examples


def _by_file(groups: list[Group]) -> Iterator[tuple[Heading, list[Finding]]]:
    counts: Counter[str] = Counter()
    worst: dict[str, Severity] = {}
    findings: dict[str, list[Finding]] = defaultdict(list)
    for group in sorted(groups, key=lambda item: ORDER.index(item.severity)):
        for file, number in group.files.items():
            if number > 0:
                counts[file] += number
                worst.setdefault(file, group.severity)
        for finding in group.examples:
            findings[finding.file].append(finding)
    for file, count in sorted(counts.items()):
        findings[file].sort(key=lambda finding: (finding.rank, finding.line, finding.column, finding.code))
        yield Heading(f"file {file}", worst[file], file or "all records", "", count), findings[file]


def _holds(finding: Finding, text: str) -> bool:
    parts = (finding.code, finding.name, finding.message, finding.file, finding.record, finding.pointer)
    return any(text in part.casefold() for part in parts)
