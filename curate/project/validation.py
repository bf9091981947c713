"""One validation of a workspace or of record files, whoever asks for it: a command, an export, a screen.

Lines, records and the data set as a whole are for `curate.checks.runner`. Here is what needs more than one line or
another room: decisions, merges, leaks, suspect labels, lengths in tokens. Whatever of that needs the records gets them
from the one reading of the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.console import spelled
from curate.base.record import SPLITS, Finding, Record
from curate.checks import DatasetProblem
from curate.checks.runner import (
    UNREADABLE,
    Engine,
    ExaminerSpec,
    Verdict,
    baseline_path,
    default_jobs,
    examine_all,
    read_baseline,
    select_checks,
    validate,
)
from curate.checks.runner.changes import unmerged_findings
from curate.checks.runner.select import CheckSelection
from curate.jsonl import Entry, holds_any, read_entries
from curate.project.data import CATEGORY, ProjectData
from curate.project.stream import OnSpan, RecordStream
from curate.schema import guess_shape, load_shape, resembled_shape
from curate.schema.settings import read_settings

if TYPE_CHECKING:
    from curate.project.blind import Blind

_SAMPLE_LINES = 100
_EXAMS = [f'"{name}"'.encode() for name in SPLITS[1:]]
Lengths = Callable[[Sequence[Record]], Sequence[Finding]]
"""Finds what is wrong with records in the tokens of a model."""


@dataclass
class Validation:
    """What to validate, and how: ``files`` as ``spec`` says, with the decisions of ``workspace`` if there is one.

    Files of the spec's root are all that its workspace has unless ``is_part``. ``jobs`` is the number of processes, 0
    for as many as pay. Leaks are looked for with ``has_leaks``; ``lengths`` brings findings that need a model.
    ``on_span`` sees the result of each span before the others do, and may take findings out of it.
    """

    files: Sequence[Path]
    spec: ExaminerSpec
    data: ProjectData | None = None
    is_part: bool = False
    jobs: int = 0
    engine: Engine = examine_all
    has_leaks: bool = True
    lengths: Lengths | None = None
    on_span: OnSpan | None = None
    has_records: bool = False
    """Whether the workspace is to have the records afterwards, whatever else needs them."""
    remarks: list[str] = field(default_factory=list)
    """What is to be said of how findings came about, once it has run."""
    _stream: RecordStream = field(init=False)

    def run(self) -> Verdict:
        """Read the files, once, and return what was found.

        Raises:
            CurateError: E902 for unknown checks in the settings; E904 when a file is missing or may not be read; E913
                and E980 for a journal that cannot be read; E940 for checks that need an extra; E970 when a worker is
                killed; and as ``lengths`` does.
        """
        spec, view = self.spec, self.spec.shape.view
        has_records = view is not None and self._needs_records()
        # Without a view lines are no records, so that there is nothing to decide on.
        data = self.data if view else None
        self._stream = RecordStream(spec.root, data, is_whole=self._whole is not None, has_records=has_records)
        return validate(
            self.files,
            replace(spec, watched=self._stream.watched, has_records=has_records),
            jobs=self.jobs or default_jobs(self.files),
            engine=self._stream.engine(self.engine, self.on_span),
            further=self._further,
            has_lengths=self.lengths is not None,
        )

    def decision_findings(self) -> list[Finding]:
        """Return what is wrong with the decisions on a whole workspace, once it has run: L402, L403, unfit edits.

        They are what keeps the workspace, not one of its files, from an export.
        """
        if self._whole is None or not self._whole.decisions.names:
            return []
        files = {self._stream.source_file(path): spelled(str(path)) for path in self.files}
        findings = self._whole.decisions.folded({}).findings
        return [replace(finding, file=files.get(finding.file, finding.file)) for finding in findings]

    def hidden(self, blind: Blind) -> set[str]:
        """Return the ids of the records whose category ``blind`` hides, as workspace and lines call them."""
        hidden = [(state, own_id) for state, own_id in self._stream.answered() if blind.hides(state, CATEGORY)]
        return {name for state, own_id in hidden for name in (state.record.id, own_id)}

    @property
    def _whole(self) -> ProjectData | None:
        """The workspace, where all of its files are read."""
        return None if self.is_part else self.data

    @cached_property
    def _selection(self) -> CheckSelection:
        return select_checks(self.spec.settings)

    def _further(self, has_exam: bool) -> Iterator[tuple[Finding, DatasetProblem | None]]:
        """Yield what is not found line by line."""
        for finding in unmerged_findings(self.files, self.data.root if self.data else None):
            yield finding, None
        self._stream.finish()
        if self.lengths:
            yield from self._opened((finding, None) for finding in self.lengths(self._records()))
        if self._selection.doubt_checks:
            # It brings a model and the search for repeats with it.
            from curate.project.doubts import doubtful

            findings, remark = doubtful(self._records(), self.spec.shape, self.spec.settings)
            self.remarks += [f"L405: {remark}"] if remark else []
            yield from self._opened((finding, None) for finding in findings)
        if self.has_leaks and (has_exam or self._has_fixed_exam):
            # It brings the search for repeats, too.
            from curate.project.leak_findings import leaks_between, leaks_in

            yield from self._opened(
                leaks_in(self._whole, has_exam=has_exam)
                if self._whole
                else leaks_between(self._records, self.spec.shape, self.spec.settings)
            )

    def _opened(
        self, findings: Iterable[tuple[Finding, DatasetProblem | None]]
    ) -> Iterator[tuple[Finding, DatasetProblem | None]]:
        """Call files as they are called in a validation: by the paths that they are opened with."""
        files = {self._stream.source_file(path): spelled(str(path)) for path in self.files}
        for finding, location in findings:
            opened = None
            if location:
                other, line = location.other
                opened = location._replace(
                    file=files.get(location.file, location.file), other=(files.get(other, other), line)
                )
            yield replace(finding, file=files.get(finding.file, finding.file)), opened

    def _records(self) -> Sequence[Record]:
        return self._stream.records(self.files, self.spec.shape)

    def _needs_records(self) -> bool:
        """Whether records are needed once the files were read: then they are retained, else files are of any size."""
        if self.has_records or self.lengths or self._selection.doubt_checks:
            return True
        # Other machines send none, for there may be more than one can hold.
        if not self.has_leaks or self.engine is not examine_all:
            return False
        if self._selection.everywhere.unwanted.issuperset(("P501", "P504", "P505")):
            return False
        return self._has_fixed_exam or self._may_have_exam()

    @property
    def _has_fixed_exam(self) -> bool:
        return self._whole is not None and self._whole.has_fixed_exam()

    def _may_have_exam(self) -> bool:
        """Whether a line or a decision can say that a record is in a test or validation split.

        Lines are searched for a text that says so, not parsed. One that spells it by escapes is found when all were
        read; then they are read again.
        """
        if self.data and self.data.decisions.can_say(SPLITS[1:]):
            return True
        return any(holds_any(path, _EXAMS, self.spec.root) for path in self.files)


def validate_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], schema: str = "", *, limit: int = 1000
) -> Verdict:
    """Validate record files that belong to no workspace, by default settings.

    ``schema`` is a shipped one (instruction, chat, domain) or the path of a file; without it the first lines say which
    shipped one it is. At most ``limit`` findings of each severity are returned, and all are counted.

    Raises:
        CurateError: E904 when a file is not there or may not be read; E903 for a schema that cannot be used.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    settings = read_settings(None)
    shape = load_shape(schema or guess_name(files))
    return Validation(files, ExaminerSpec(shape=shape, settings=settings, limit=limit)).run()


def guess_name(files: Iterable[Path]) -> str:
    """Return the shipped schema that the first lines of ``files`` are like."""
    items = chain.from_iterable(read_entries(path) for path in files)
    values = list(islice((item.value for item in items if isinstance(item, Entry)), _SAMPLE_LINES))
    return guess_shape(values) or resembled_shape(values)


def validate_data(data: ProjectData, *, limit: int = 1000, has_leaks: bool = False) -> Verdict:
    """Validate the records as decisions have left them, and add what could not be applied from the journal.

    With ``has_leaks`` leaks are looked for as well; who exports asks the division that it has made.

    The baseline forgives old findings, but none of a line that cannot be read: it would be left out unseen.

    Raises:
        CurateError: E902, E904 or E956 for settings and a baseline that cannot be used.
    """
    known = baseline_path(data.settings, data.root)
    baseline = read_baseline(known, without=UNREADABLE) if known else None
    spec = ExaminerSpec(shape=data.shape, settings=data.settings, limit=limit, root=data.root, baseline=baseline)
    verdict = Validation(data.files(), spec, data, has_leaks=has_leaks, has_records=not data.is_loaded).run()
    return verdict.with_findings(data.decision_findings())
