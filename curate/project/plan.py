"""What the next dataset holds: no repeats, no leaks that a division can avoid, every unit in one split."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from curate.base.events import Drop
from curate.base.record import SPLITS, CurateError, Finding, Problem, Record, Severity, Source, Split, is_named
from curate.checks import DatasetProblem, SharedText, discover
from curate.checks.runner import select_checks
from curate.formats.dataset import Dropped
from curate.project.data import ProjectData, data_files
from curate.project.golden import divide, read_golden
from curate.project.records import Records
from curate.project.repeats import WorkspaceRepeats, excluded_by, find_repeats
from curate.schema import Shape
from curate.schema.settings import LeakSettings, Settings, SplitSettings
from curate.similarity.dedupe import Duplicates
from curate.similarity.leaks import Exam, Leak, Leaks, compare_exams
from curate.similarity.leaks.evidence import SearchedRecords
from curate.similarity.leaks.reading import RowsRead, read_any
from curate.similarity.split import SplitAssignment, groups_of, merged

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
    reading: RowsRead | None = None

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
        self, exam: str, leaks: Leaks, *, split: Split | None = None, reading: RowsRead | None = None
    ) -> ExamLeaks:
        """Return the pairs of ``leaks`` with what is to be said of them."""
        pairs = [(leak, self._said_of(leak, split)) for leak in leaks.leaks]
        wanted = [(leak, said) for leak, said in pairs if said]
        findings = [located for _, said in wanted for located in said]
        if split is None:
            # A training record may give away several records of a benchmark; one is enough to refuse it.
            worst = sorted(findings, key=lambda pair: pair[0].severity != "error")
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
            if code not in rules.unwanted and not is_named(code, check.name, self._ignored(at)):
                severity = rules.severities[code]
                findings += [
                    Finding(code, check.name, severity, problem.message, source.file, source.line, 1, at.id)
                    for problem in check.run(shared, self._settings)
                ]
        return [(finding, there) for finding in findings]


def judge_of(data: ProjectData) -> LeakJudge:
    """Return what judges pairs as the settings of ``workspace`` and its records ask."""
    return LeakJudge(data.settings, lambda record: data.shape.ignored(record.data))


def compare_splits(
    by_split: Mapping[Split, Records],
    settings: LeakSettings,
    judge: LeakJudge,
    readings: Sequence[RowsRead] = (),
) -> list[ExamLeaks]:
    """Compare the test split with all that comes before it, and the validation split with what is trained on.

    The records of ``readings`` are exams too, compared with what is trained on; they come first.
    """
    if not (readings or any(by_split.get(name) for name in SPLITS[1:])):
        return []
    rows: dict[Split, Sequence[int]] = {}
    records = Records([])
    for name in SPLITS:
        begin = len(records)
        records = records.joined(by_split[name]) if name in by_split else records
        rows[name] = range(begin, len(records))
    return _compare(_searched(records, readings), rows, settings, judge, readings)


def _searched(records: Records, readings: Sequence[RowsRead]) -> SearchedRecords:
    """Return ``records`` to search, and those of ``readings`` behind them."""
    records = records.joined(Records([*chain.from_iterable(reading.records for reading in readings)]))
    return SearchedRecords(records, records.corpus, records.texts)


def _compare(
    corpus: SearchedRecords,
    rows: Mapping[Split, Sequence[int]],
    settings: LeakSettings,
    judge: LeakJudge,
    readings: Sequence[RowsRead],
) -> list[ExamLeaks]:
    """Compare ``readings``, whose records are the last of ``corpus``, and the splits, which are ``rows`` of it."""
    pool = [*rows["train"]]
    exams: list[tuple[Exam, str, Split | None, RowsRead | None]] = []
    end = len(corpus.records) - sum(len(reading.records) for reading in readings)
    for reading in readings:
        begin, end = end, end + len(reading.records)
        exams.append((Exam(range(begin, end), len(pool)), reading.records[0].source.file, None, reading))
    # Each split that has records is an exam. Validation chooses between models, so what test shares with it leaks too.
    for name in SPLITS[1:]:
        if rows[name] and pool:
            exams.append((Exam(rows[name], len(pool)), name, name, None))
        pool += rows[name]
    results = compare_exams(corpus, pool, [exam for exam, *_ in exams], settings)
    return [
        judge.compared(name, leaks, split=split, reading=reading)
        for (_, name, split, reading), leaks in zip(exams, results, strict=True)
    ]


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


def _benchmarks(data: ProjectData, judge: LeakJudge) -> list[RowsRead]:
    """Read each benchmark that the settings name, where a check wants to hear of it.

    Raises:
        CurateError: as `benchmark_files`, and E908 when a benchmark cannot be read.
    """
    if not judge.is_wanted("P504", "P505"):
        return []
    return [read_any(path, data.shape, root=data.root) for path in benchmark_files(data)]


def divide_apart(
    data: ProjectData,
    records: Records,
    clusters: Mapping[str, str],
    settings: SplitSettings,
    pins: Mapping[str, Split],
    leaks: LeakSettings,
) -> tuple[SplitAssignment, list[ExamLeaks]]:
    """Divide ``records`` as `divide` does, with all that gives one another away in one split, and compare the splits.

    What is trained on is compared with the benchmarks of the settings as well; their comparisons come first.

    Raises:
        CurateError: as `divide`; E908 and E964 when a benchmark cannot be read or is not there.
    """
    judge = judge_of(data)
    golden = read_golden(data.root)
    frozen = set(golden.ids) if golden and golden.is_frozen else set()
    ids, rows_of_records = records.ids, records.rows()
    groups = groups_of(records, settings.group) if settings.group else None
    joined = dict(clusters)
    assignment = divide(data.root, rows_of_records, joined, settings, pins, groups)
    readings = _benchmarks(data, judge)
    search = _searched(records, readings)
    # A record that leaks joins the unit of the record that gives it away, as a repeat would, until no such pair is
    # left; each time the splits are compared anew. Leaks that remain are between records of fixed splits. Mostly the
    # first turn is the last; the benchmarks are compared in it, and else once more at the end.
    is_first = True
    while True:
        rows: dict[Split, list[int]] = {name: [] for name in SPLITS}
        for row, name in enumerate(ids):
            split = assignment.splits.get(name)
            if split == "train" or (split and judge.is_wanted("P501", "P505")):
                rows[split].append(row)
        compared = _compare(search, rows, leaks, judge, readings if is_first else ())
        errors = _errors_between(compared)
        units, fixed_units = assignment.units, set[str]()
        for name, own in zip(ids, records.splits, strict=True) if errors else ():
            if own or name in frozen or pins.get(name):
                fixed_units.add(units[name])
        pairs = [
            (joined[exam], joined[source])
            for exam, source in errors
            if not fixed_units.issuperset((units[exam], units[source]))
        ]
        if not pairs or not judge.is_wanted("P501"):
            trained: dict[Split, list[int]] = {name: rows[name] if name == "train" else [] for name in SPLITS}
            late = [] if is_first else _compare(search, trained, leaks, judge, readings)
            return assignment, [*late, *compared]
        is_first = False
        joined = merged(joined, pairs)
        assignment = divide(data.root, rows_of_records, joined, settings, pins, groups)


def _errors_between(compared: Sequence[ExamLeaks]) -> list[tuple[str, str]]:
    """Return the records of splits that may not stay apart, by their ids: one of an exam, and what gives it away."""
    return [
        (each.exam.id, each.source.id)
        for comparison in compared
        if comparison.split is not None
        for leak in comparison.leaks.leaks
        for each in (leak, *leak.also)
        if each.severity == "error"
    ]


def parts_of(records: Records, assignment: SplitAssignment) -> dict[Split, Records]:
    """Return the records of each split, in order."""
    return _divided(records, [assignment.splits.get(name, "") for name in records.ids])


def by_own_split(records: Sequence[Record]) -> dict[Split, Records]:
    """Divide records by the split that they say they are in; what says none is trained on."""
    some = Records.of(records)
    return _divided(some, [split or "train" for split in some.splits])


def _divided(records: Records, splits: Sequence[str]) -> dict[Split, Records]:
    numbers: dict[str, list[int]] = {name: [] for name in SPLITS}
    for number, split in enumerate(splits):
        if split:
            numbers[split].append(number)
    return {name: records.take(numbers[name]) for name in SPLITS}


def compare_all(
    data: ProjectData, by_split: Mapping[Split, Records], settings: LeakSettings | None = None
) -> list[ExamLeaks]:
    """Compare what is trained on with the benchmarks of ``workspace``, and the splits with one another.

    ``settings`` stand in for the workspace's own.

    Raises:
        CurateError: E908 and E964 when a benchmark cannot be read or is not there; E914 when it is outside.
    """
    judge = judge_of(data)
    return compare_splits(by_split, settings or data.settings.leaks, judge, _benchmarks(data, judge))


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What an export would write: the records that are in, where each goes, and why others are out."""

    records: Records
    duplicates: Duplicates
    assignment: SplitAssignment
    dropped: list[Dropped]
    compared: Sequence[ExamLeaks]
    """What its splits share, and what is trained on with the workspace's benchmarks."""

    @property
    def by_split(self) -> dict[Split, Records]:
        """The records of each split, in order."""
        return parts_of(self.records, self.assignment)

    @property
    def leaks(self) -> list[Finding]:
        """What there is to be said of ``compared``."""
        return [finding for comparison in self.compared for finding in comparison.findings]


def plan(data: ProjectData, leaks: LeakSettings | None = None) -> ExportPlan:
    """Decide what the next dataset holds: no repeats but those that someone restored, and every unit in one split.

    ``leaks`` stand in for the workspace's own settings.

    Raises:
        CurateError: E909 without a seed; E910 when two records have the same id; E911 when the last dataset was
            changed; E975 when the frozen test set was; E908 and E964 when a benchmark cannot be read or is not there.
    """
    repeats, assignment, compared = _divided_apart(data, leaks or data.settings.leaks)
    sources = {state.record.id: state.record.source for state in data.decided()}
    dropped = {name: _excluded(name, sources[name], exclusion) for name, exclusion in data.exclusions().items()}
    records = Records.of(data.records())
    outside, numbers = repeats.outside(assignment.splits), []
    for number, name in enumerate(records.ids):
        if name in assignment.splits:
            numbers.append(number)
        elif name in outside:
            pair, source = outside[name], records.source(number)
            dropped[name] = (
                _excluded(name, source, excluded_by(pair))
                if pair
                else _dropped(name, source, "P503", "held back: it would leak between splits")
            )
    return ExportPlan(
        records.take(numbers),
        repeats.duplicates,
        assignment,
        [dropped[name] for name in data.names() if name in dropped],
        compared,
    )


def _divided_apart(data: ProjectData, leaks: LeakSettings) -> tuple[WorkspaceRepeats, SplitAssignment, list[ExamLeaks]]:
    """Leave out what repeats, and divide what is left."""
    # What the last dataset holds comes first: it is kept before new copies of it, and its units keep their key.
    repeats = find_repeats(data)
    clusters, settings = repeats.duplicates.clusters, data.settings.split
    return repeats, *divide_apart(data, repeats.staying(), clusters, settings, repeats.pins, leaks)


def _excluded(name: str, source: Source, excluded: Drop) -> Dropped:
    return _dropped(name, source, excluded.code or "decision", excluded.reason, excluded.of, excluded.score or 0.0)


def _dropped(name: str, source: Source, code: str, reason: str, retained: str = "", score: float = 0.0) -> Dropped:
    return Dropped(name, code, reason, retained, score, source.file, source.line)


# Findings with both of their places, for a validation.
Pairs = list[tuple[Finding, DatasetProblem]]


def leaks_in(data: ProjectData, *, has_exam: bool) -> Pairs:
    """Return what validation says of the leaks of ``workspace``: what its next export would refuse or tell of."""
    # Records whose split nothing fixes never leak, because a division keeps them together; so nothing is compared where
    # no benchmark is named, and neither a record (``has_exam``) nor the last dataset nor a frozen list fixes an exam.
    # What keeps a division from being made is an error finding of its own, for an export would be refused.
    judge = judge_of(data)
    if not judge.is_wanted(*LEAK_CODES) or not (has_exam or data.has_fixed_exam()):
        return []
    try:
        # With a seed the division is that of the next export; without one only what lines say can be compared.
        if data.settings.split.seed is not None:
            _, _, compared = _divided_apart(data, data.settings.leaks)
        else:
            compared = compare_all(data, by_own_split(data.records()))
    except CurateError as error:
        # Two records with one id are found anyway.
        if error.number == "E910" or not judge.is_wanted("P501"):
            return []
        problem = f"leaks cannot be looked for: {error.code}: {error.message}"
        return [(Finding("P501", "split-leak", "error", problem, "", fix=error.hint), DatasetProblem(Problem(problem)))]
    return _pairs(compared)


def leaks_between(records: Callable[[], Sequence[Record]], shape: Shape, settings: Settings) -> Pairs:
    """Return what validation says of leaks between the splits that ``records`` say they are in."""
    judge = LeakJudge(settings, lambda record: shape.ignored(record.data))
    if shape.view is None or not judge.is_wanted("P501", "P505"):
        return []
    return _pairs(compare_splits(by_own_split(records()), settings.leaks, judge))


def _pairs(compared: Sequence[ExamLeaks]) -> Pairs:
    return [
        (finding, DatasetProblem(Problem(""), finding.file, finding.line, other=other))
        for comparison in compared
        for finding, other in zip(comparison.findings, comparison.others, strict=True)
    ]
