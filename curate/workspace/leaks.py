"""Leaks of a workspace: what the next dataset's exams, and the benchmarks it names, share with what is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.checks import discover
from curate.checks.leaks import Shared
from curate.leaks import Leak, Leaks, find_leaks
from curate.leaks.reading import Reading, read_any
from curate.record import SPLITS, CurateError, Finding, Record, Split, is_named
from curate.settings import LeakSettings
from curate.validate import select_checks
from curate.workspace import Workspace
from curate.workspace.paths import data_files


@dataclass(frozen=True, slots=True)
class Compared:
    """One exam against what is trained on: a split, or a benchmark with how its file was read."""

    exam: str
    leaks: Leaks
    split: Split | None = None
    reading: Reading | None = None


def compare_splits(by_split: Mapping[Split, Sequence[Record]], settings: LeakSettings) -> list[Compared]:
    """Compare the test split with all that comes before it, and the validation split with what is trained on.

    Each split that has records is an exam. Validation chooses between models, so what test shares with it leaks too.
    """
    compared = []
    for place, name in enumerate(SPLITS[1:], 1):
        pool = [record for earlier in SPLITS[:place] for record in by_split.get(earlier, ())]
        if by_split.get(name) and pool:
            compared.append(Compared(name, find_leaks(by_split[name], pool, settings), split=name))
    return compared


def benchmark_files(workspace: Workspace) -> list[Path]:
    """Return the files that ``[leaks].against`` names, each once, sorted.

    Raises:
        CurateError: E914 when one is outside the workspace; E964 when a glob matches no file.
    """
    globs = workspace.settings.leaks.against
    for glob in globs:
        if not data_files(workspace.root, [glob], "leaks.against"):
            raise CurateError(
                "E964 nothing-to-compare",
                f"leaks.against: no file in {workspace.root} matches {glob!r}",
                "Copy the benchmark into the workspace, or take the glob out of curate.toml.",
            )
    return data_files(workspace.root, globs, "leaks.against")


def contaminated(workspace: Workspace, trained: Sequence[Record]) -> list[Finding]:
    """Return a P504 finding for each record of ``trained`` that gives away one of the workspace's benchmarks.

    Of records that give away the same, at most eight are named at a time.

    Raises:
        CurateError: as `benchmark_files`, and E908 when a benchmark cannot be read.
    """
    found: list[Finding] = []
    judge = _Judge(workspace, "P504")
    for path in benchmark_files(workspace) if judge.is_wanted else ():
        reading = read_any(path, workspace.shape, root=workspace.root)
        for leak in find_leaks(reading.records, trained, workspace.settings.leaks).leaks:
            for each in (leak, *leak.also):
                found += judge.findings(each, each.source, each.exam)
    # A training record may give away several records of a benchmark; one is enough to refuse it.
    first = {(finding.file, finding.line): finding for finding in reversed(found)}
    return sorted(first.values(), key=lambda finding: (finding.file, finding.line))


def leaking(workspace: Workspace, by_split: Mapping[Split, Sequence[Record]]) -> list[Finding]:
    """Return a P505 finding for each test or validation record that a record of an earlier split gives away."""
    judge = _Judge(workspace, "P505")
    return [
        finding
        for compared in (compare_splits(by_split, workspace.settings.leaks) if judge.is_wanted else ())
        for leak in compared.leaks.leaks
        for finding in judge.findings(leak, leak.exam, leak.source, split=compared.exam)
    ]


class _Judge:
    """What a pair check says in a workspace, as its settings want to hear it."""

    def __init__(self, workspace: Workspace, code: str) -> None:
        self._workspace = workspace
        self._check = discover()[code]
        self._selection = select_checks(workspace.settings.checks, workspace.settings.categories)

    @property
    def is_wanted(self) -> bool:
        """Whether the check runs at all: comparing takes seconds for a large workspace."""
        return self._check.code not in self._selection.everywhere.unwanted

    def findings(self, leak: Leak, at: Record, other: Record, *, split: str = "") -> list[Finding]:
        """Return findings at one record of the pair, unless it or the rules for it do not want to hear them."""
        check = self._check
        rules = self._selection.rules(at.source.file, at.category)
        if check.code in rules.unwanted or is_named(check.code, check.name, self._workspace.shape.ignored(at.data)):
            return []
        worst = leak.worst
        spot = f"{other.source.file}:{other.source.line}"
        shared = Shared(worst.level, worst.part, worst.coverage, worst.run, spot, split)
        assert check.on_pair is not None
        return [
            Finding(
                check.code,
                check.name,
                rules.severities[check.code],
                problem.message,
                at.source.file,
                at.source.line,
                column=1,
                record=at.id,
                pointer=problem.pointer,
            )
            for problem in check.on_pair(shared, self._workspace.settings)
        ]
