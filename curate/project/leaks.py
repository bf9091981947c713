"""Leaks of a workspace: what the next dataset's exams, and the benchmarks it names, share with what is trained on.

Whoever asks, the commands, the checks before an export and the screens, asks here, so that all say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curate.base.record import SPLITS, CurateError, Finding, Record, Severity, Split, is_named
from curate.checks import SharedText, discover
from curate.checks.runner import select_checks
from curate.project.data import ProjectData, data_files
from curate.project.golden import divide, read_golden
from curate.schema.settings import LeakSettings, Settings, SplitSettings
from curate.similarity.leaks import Leak, Leaks, find_leaks
from curate.similarity.leaks.reading import Reading, read_any
from curate.similarity.split import SplitAssignment, merged

LEAK_CODES = ("P501", "P504", "P505")


@dataclass(frozen=True, slots=True)
class ExamLeaks:
    """One exam against what is trained on: a split, or a benchmark with how its file was read.

    ``severities`` are those of the pairs of ``leaks``, in order, ``findings`` what a validation says of them, and
    ``others`` the file and line of each finding's other record.
    """

    exam: str
    leaks: Leaks
    severities: Sequence[Severity]
    findings: Sequence[Finding]
    others: Sequence[tuple[str, int]]
    num_excused: int = 0
    """Pairs that the settings, or their record, do not want to hear of; they are not among ``leaks``."""
    split: Split | None = None
    reading: Reading | None = None

    @property
    def num_errors(self) -> int:
        """How many exam records are given away."""
        return sum(severity == "error" for severity in self.severities)


class LeakJudge:
    """What the leak checks say of pairs, as settings want to hear it."""

    def __init__(self, settings: Settings, ignored: Callable[[Record], Collection[str]] = lambda _: ()) -> None:
        """``ignored`` names the checks that a record does not want to hear of."""
        self._settings, self._ignored = settings, ignored
        self._selection = select_checks(settings)

    def is_wanted(self, *codes: str) -> bool:
        """Whether one of the checks runs at all: comparing takes seconds for many records."""
        return not self._selection.everywhere.unwanted.issuperset(codes)

    def compared(
        self, exam: str, leaks: Leaks, *, split: Split | None = None, reading: Reading | None = None
    ) -> ExamLeaks:
        """Return the pairs of ``leaks`` with what is to be said of them."""
        pairs = [(leak, self._said_of(leak, split)) for leak in leaks.leaks]
        wanted = [(leak, said) for leak, said in pairs if said]
        findings = [located for _, said in wanted for located in said]
        if split is None:
            # A training record may give away several records of a benchmark; one is enough to refuse it.
            worst = sorted(findings, key=lambda one: one[0].severity != "error")
            first = {(located.file, located.line): (located, other) for located, other in reversed(worst)}
            findings = sorted(first.values(), key=lambda one: (one[0].file, one[0].line))
        return ExamLeaks(
            exam,
            replace(leaks, leaks=[leak for leak, _ in wanted]),
            [said[0][0].severity for _, said in wanted],
            [finding for finding, _ in findings],
            [other for _, other in findings],
            len(pairs) - len(wanted),
            split,
            reading,
        )

    def _said_of(self, leak: Leak, split: Split | None) -> list[tuple[Finding, tuple[str, int]]]:
        if split is not None:
            return self._said(leak, leak.exam, leak.source, split)
        return [said for each in (leak, *leak.also) for said in self._said(each, each.source, each.exam, "")]

    def _said(self, leak: Leak, at: Record, other: Record, split: str) -> list[tuple[Finding, tuple[str, int]]]:
        worst, source = leak.worst, at.source
        there = other.source.file, other.source.line
        shared = SharedText(worst.level, worst.part, worst.coverage, worst.run, f"{there[0]}:{there[1]}", split)
        rules = self._selection.rules(source.file, at.category)
        findings = []
        for code in LEAK_CODES:
            check = discover()[code]
            assert check.on_pair is not None
            if code not in rules.unwanted and not is_named(code, check.name, self._ignored(at)):
                severity = rules.severities[code]
                findings += [
                    Finding(code, check.name, severity, problem.message, source.file, source.line, 1, at.id)
                    for problem in check.on_pair(shared, self._settings)
                ]
        return [(finding, there) for finding in findings]


def judge_of(data: ProjectData) -> LeakJudge:
    """Return what judges pairs as the settings of ``workspace`` and its records ask."""
    return LeakJudge(data.settings, lambda record: data.shape.ignored(record.data))


def compare_splits(
    by_split: Mapping[Split, Sequence[Record]], settings: LeakSettings, judge: LeakJudge
) -> list[ExamLeaks]:
    """Compare the test split with all that comes before it, and the validation split with what is trained on.

    Each split that has records is an exam. Validation chooses between models, so what test shares with it leaks too.
    """
    compared = []
    for index, name in enumerate(SPLITS[1:], 1):
        pool = [record for earlier in SPLITS[:index] for record in by_split.get(earlier, ())]
        if by_split.get(name) and pool:
            compared.append(judge.compared(name, find_leaks(by_split[name], pool, settings), split=name))
    return compared


def compare_file(reading: Reading, trained: Sequence[Record], settings: LeakSettings, judge: LeakJudge) -> ExamLeaks:
    """Compare the records of a file, an exam, with those that are trained on."""
    leaks = find_leaks(reading.records, trained, settings)
    return judge.compared(reading.records[0].source.file, leaks, reading=reading)


def benchmark_files(data: ProjectData) -> list[Path]:
    """Return the files that ``[leaks].against`` names, each once, sorted.

    Raises:
        CurateError: E914 when one is outside the workspace; E964 when a glob matches no file.
    """
    globs = data.settings.leaks.against
    for glob in globs:
        if not data_files(data.root, [glob], "leaks.against"):
            raise CurateError(
                "E964 nothing-to-compare",
                f"leaks.against: no file in {data.root} matches {glob!r}",
                "Copy the benchmark into the workspace, or take the glob out of curate.toml.",
            )
    return data_files(data.root, globs, "leaks.against")


def compare_benchmarks(data: ProjectData, trained: Sequence[Record], settings: LeakSettings) -> list[ExamLeaks]:
    """Compare each benchmark that the settings name with what is trained on; a record gives away one or many of it.

    Raises:
        CurateError: as `benchmark_files`, and E908 when a benchmark cannot be read.
    """
    judge = judge_of(data)
    if not judge.is_wanted("P504", "P505"):
        return []
    readings = [read_any(path, data.shape, root=data.root) for path in benchmark_files(data)]
    return [compare_file(reading, trained, settings, judge) for reading in readings]


def divide_apart(
    data: ProjectData,
    records: Sequence[Record],
    clusters: Mapping[str, str],
    settings: SplitSettings,
    pins: Mapping[str, Split],
    leaks: LeakSettings,
) -> tuple[SplitAssignment, list[ExamLeaks]]:
    """Divide ``records`` as `divide` does, with all that gives one another away in one split, and compare the splits.

    Who leaks joins the unit of who gives it away, as a repeat would, until nobody is left that could; each time the
    splits are compared anew. What is still a leak then are records whose splits were fixed before.

    Raises:
        CurateError: as `divide`.
    """
    judge = judge_of(data)
    golden = read_golden(data.root)
    frozen = set(golden.ids) if golden and golden.is_frozen else set()
    fixed = {record.id for record in records if record.id in frozen or pins.get(record.id) or record.split}
    joined = dict(clusters)
    while True:
        assignment = divide(data.root, records, joined, settings, pins)
        if not judge.is_wanted("P501", "P505"):
            return assignment, []
        compared = compare_splits(parts_of(records, assignment), leaks, judge)
        units = assignment.units
        fixed_units = {units[name] for name in fixed}
        pairs = [
            (joined[each.exam.id], joined[each.source.id])
            for comparison in compared
            for leak in comparison.leaks.leaks
            for each in (leak, *leak.also)
            if each.severity == "error" and not fixed_units.issuperset((units[each.exam.id], units[each.source.id]))
        ]
        if not pairs or not judge.is_wanted("P501"):
            return assignment, compared
        joined = merged(joined, pairs)


def parts_of(records: Sequence[Record], assignment: SplitAssignment) -> dict[Split, list[Record]]:
    """Return the records of each split, in order."""
    parts: dict[Split, list[Record]] = {name: [] for name in SPLITS}
    for record in records:
        if record.id in assignment.splits:
            parts[assignment.splits[record.id]].append(record)
    return parts


def by_own_split(records: Sequence[Record]) -> dict[Split, list[Record]]:
    """Divide records by the split that they say they are in; what says none is trained on."""
    parts: dict[Split, list[Record]] = {name: [] for name in SPLITS}
    for record in records:
        parts[record.split or "train"].append(record)
    return parts


def compare_all(data: ProjectData, by_split: Mapping[Split, Sequence[Record]]) -> list[ExamLeaks]:
    """Compare the splits with one another, and what is trained on with the benchmarks of ``workspace``.

    Raises:
        CurateError: as `compare_benchmarks`.
    """
    leaks = data.settings.leaks
    splits = compare_splits(by_split, leaks, judge_of(data))
    return [*compare_benchmarks(data, by_split["train"], leaks), *splits]
