"""One validation of a workspace or of record files, the same for a command, an export and a screen.

Lines, records and the data set as a whole are for `curate.checks.runner`. Here is what needs more than one line or
another room: decisions, merges, leaks, suspect labels, lengths in tokens. What needs the records asks the workspace.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.console import one_line, spelled
from curate.base.file_guard import files_changed, read_file
from curate.base.record import CurateError, Finding, Record, Source
from curate.base.storage import make_cache, write_atomic
from curate.base.tables import counted
from curate.checks import DatasetProblem
from curate.checks.runner import (
    CheckPlan,
    Engine,
    Verdict,
    examine_all,
    open_baseline,
    read_records,
    relative_name,
    select_checks,
    validate,
)
from curate.checks.runner.changes import changed_lines, unmerged_findings
from curate.checks.runner.examine import add_record
from curate.checks.runner.results import DecidedRecords, SpanResult
from curate.checks.runner.select import CheckSelection
from curate.jsonl import Entry, read_entries
from curate.schema import guess_shape, load_shape, resembled_shape
from curate.schema.settings import Settings, read_settings

# Files of no workspace are checked without what decisions bring with them, pydantic before all.
if TYPE_CHECKING:
    from curate.project.blind import Blind
    from curate.project.data import ProjectData


_SAMPLE_LINES = 100
_LABELS = Path(".curate", "cache", "labels")
OnSpan = Callable[[SpanResult], None]
# Finds what is wrong with records in the tokens of a model.
Lengths = Callable[[Sequence[Record]], Sequence[Finding]]


@dataclass
class Validation:
    """What to validate, and how: ``files`` as ``plan`` says, with the decisions of ``workspace`` if there is one.

    Files of the plan's root are all that its workspace has unless ``is_part``. ``jobs`` is the number of processes, 0
    for as many as pay. Leaks are looked for with ``has_leaks``; ``lengths`` brings findings that need a model.
    ``on_span`` sees the result of each span before the others do, and may take findings out of it.
    """

    files: Sequence[Path]
    plan: CheckPlan
    data: ProjectData | None = None
    is_part: bool = False
    jobs: int = 0
    since: str = ""
    """The commit that lines must differ from to be looked at."""
    engine: Engine = examine_all
    has_leaks: bool = True
    lengths: Lengths | None = None
    on_span: OnSpan | None = None
    remarks: list[str] = field(default_factory=list)
    """What is to be said of how findings came about, once it has run."""

    def run(self) -> Verdict:
        """Read the files, once, and return what was found.

        Raises:
            CurateError: E902 for unknown checks in the settings; E904 when a file is missing or may not be read; E913
                and E980 for a journal that cannot be read; E940 for checks that need an extra; E957 for a commit that
                is not there; E970 when a worker is killed; E974 when a file changes meanwhile; and as ``lengths`` does.
        """
        changes = changed_lines(self.files, self.since) if self.since else self.plan.changes
        verdict = validate(
            self.files,
            replace(self.plan, changes=changes, decided=self._decided),
            jobs=self.jobs,
            engine=self._examined,
            further=self._further,
            has_lengths=self.lengths is not None,
        )
        if self._decided.lines and self.data and not self.data.is_current():
            raise files_changed(str(self.data.root))
        return verdict

    def with_decisions(self, verdict: Verdict) -> Verdict:
        """Return ``verdict`` with what keeps a whole workspace, not one of its files, from an export, once it has run.

        That is what is wrong with decisions (L402, L403, L407 to L409, unfit edits), frozen records that are not as
        they were (P506), held-out records in the words of a model (P507), and records that wait for approval (L406).
        """
        if self._whole is None:
            return verdict
        from curate.project.approval import with_waiting
        from curate.project.golden import changed_records
        from curate.project.whole_findings import machine_records, outdated_drops, returned_texts

        findings = [*self._whole.told().findings, *changed_records(self._whole)]
        findings += [*machine_records(self._whole), *outdated_drops(self._whole), *returned_texts(self._whole)]
        verdict = verdict.with_findings(self._renamed(findings))
        return with_waiting(verdict, self._whole, self.plan.limit, self._renamed)

    def hidden(self, blind: Blind) -> set[str]:
        """Return the ids of the records whose category ``blind`` hides, as workspace and lines call them."""
        from curate.project.journal import CATEGORY

        states = self.data.decided() if self.data else []
        hidden = [state.record for state in states if blind.hides(state, CATEGORY)]
        return {name for record in hidden for name in (record.id, self._in_file(record).id)}

    @property
    def _whole(self) -> ProjectData | None:
        """The workspace, where all of its files are read."""
        return None if self.is_part else self.data

    @cached_property
    def _decided(self) -> DecidedRecords:
        # Without a view lines are no records, so that there is nothing to decide on.
        if self.data is None or self.plan.shape.view is None or not self.data.decisions.names:
            return DecidedRecords()
        by_file: dict[str, dict[int, Record | None]] = defaultdict(dict)
        for state in self.data.decided():
            source = state.record.source
            by_file[source.file][source.line] = None if state.dropped is not None else self._in_file(state.record)
        # Of files that are none of the workspace's, such as standard input, no more is known than which ids are out.
        names = self.data.decisions.names
        return DecidedRecords(
            {str(path): by_file[file] for file, path in self._own_files.items()},
            frozenset(name for name in names if self.data.decisions.is_out(name)),
        )

    @cached_property
    def _own_files(self) -> dict[str, Path]:
        """Those of the files that are the workspace's, by the name that its records have for them."""
        if self.data is None:
            return {}
        by_name = {relative_name(path, self.data.root): path for path in self.files}
        own = {relative_name(path, self.data.root): path for path in self.data.matching_files()}
        return {
            spelled(str(path.relative_to(self.data.root))): by_name[name]
            for name, path in own.items()
            if name in by_name
        }

    def _in_file(self, record: Record) -> Record:
        """Return a record as its line calls it, and where that line is read: its name may be another."""
        view, path = self.plan.shape.view, self._own_files.get(record.source.file)
        own_id = view.get(record.data, "id") if view else None
        source = Source(spelled(str(path)), record.source.line) if path else record.source
        return replace(record, id=record.id if own_id is None else str(own_id), source=source)

    def _examined(self, plan: CheckPlan, files: Sequence[Path], jobs: int) -> Iterator[tuple[Path, SpanResult]]:
        """Yield the results of the files' spans, and then that of the records which stand in none."""
        for path, result in chain(self.engine(plan, files, jobs), self._added(plan)):
            if self.on_span:
                self.on_span(result)
            yield path, result

    def _added(self, plan: CheckPlan) -> Iterator[tuple[Path, SpanResult]]:
        states = self._whole.decided() if self._whole and self._decided.lines else []
        added = [state for state in states if state.record.source.file not in self._own_files]
        # Records of decisions have a place in the journal, which is their reading order.
        added.sort(key=lambda state: (state.record.source.file, state.record.source.line))
        for state in added:
            if state.dropped is None:
                result = plan.result()
                add_record(plan, result, self._in_file(state.record), "")
                yield Path(state.record.source.file), result

    @cached_property
    def _selection(self) -> CheckSelection:
        return select_checks(self.plan.settings)

    def _further(self, has_exam: bool) -> Iterator[tuple[Finding, DatasetProblem | None]]:
        """Yield what is not found line by line."""
        for finding in unmerged_findings(self.files, self.data.root if self.data else None):
            yield finding, None
        if self.lengths:
            yield from self._opened((finding, None) for finding in self.lengths(self._records()))
        if self._selection.of("doubt"):
            # It brings a model and the search for repeats with it.
            from curate.checks.quality.suspects import doubtful

            findings, remark = doubtful(self._records(), self.plan.shape, self.plan.settings)
            self.remarks += [f"L405: {remark}"] if remark else []
            if self._whole and remark:
                _note_label_search(self._whole.root, len(findings))
            yield from self._opened((finding, None) for finding in findings)
        if self.has_leaks and (has_exam or self._has_fixed_exam):
            # It brings the search for repeats, too.
            from curate.project.plan import leaks_between, leaks_in

            yield from self._opened(
                leaks_in(self._whole, has_exam=has_exam)
                if self._whole
                else leaks_between(self._records, self.plan.shape, self.plan.settings)
            )

    def _opened(
        self, findings: Iterable[tuple[Finding, DatasetProblem | None]]
    ) -> Iterator[tuple[Finding, DatasetProblem | None]]:
        """Call files as they are called in a validation: by the paths that they are opened with."""
        for finding, location in findings:
            files, opened = self._opened_names, None
            if location:
                other, line = location.other
                opened = location._replace(
                    file=files.get(location.file, location.file), other=(files.get(other, other), line)
                )
            yield replace(finding, file=files.get(finding.file, finding.file)), opened

    @cached_property
    def _opened_names(self) -> dict[str, str]:
        files = {file: spelled(str(path)) for file, path in self._own_files.items()}
        if root := self.plan.root:
            inner = [path for path in self.files if path.is_relative_to(root)]
            files |= {spelled(str(path.relative_to(root))): spelled(str(path)) for path in inner}
        return files

    def _renamed(self, findings: Iterable[Finding]) -> list[Finding]:
        return [finding for finding, _ in self._opened((finding, None) for finding in findings)]

    def _records(self) -> Sequence[Record]:
        """Return the records that are in, as a workspace names them where it is whole, else as their lines do."""
        if self._whole:
            return self._whole.records()
        records = (
            self._decided.record(str(path), item)
            for path in self.files
            for item in read_records([path], self.plan.shape, root=self.plan.root)
            if isinstance(item, Record)
        )
        return [record for record in records if record is not None]

    @property
    def _has_fixed_exam(self) -> bool:
        return self._whole is not None and self._whole.has_fixed_exam()


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
    return Validation(files, CheckPlan(shape=shape, settings=settings, limit=limit)).run()


def guess_name(files: Iterable[Path]) -> str:
    """Return the shipped schema that the first lines of ``files`` are like."""
    items = chain.from_iterable(read_entries(path) for path in files)
    values = list(islice((item.value for item in items if isinstance(item, Entry)), _SAMPLE_LINES))
    return guess_shape(values) or resembled_shape(values)


def validate_data(data: ProjectData, *, limit: int = 1000, has_leaks: bool = False) -> Verdict:
    """Validate the records as decisions have left them, and add what could not be applied from the journal.

    With ``has_leaks`` leaks are looked for as well; an export asks the division that it has made.

    Raises:
        CurateError: E902, E904 or E956 for settings and a baseline that cannot be used.
    """
    data, baseline = data.as_files_are(), open_baseline(data.settings, data.root)
    plan = CheckPlan(shape=data.shape, settings=data.settings, limit=limit, root=data.root, baseline=baseline)
    validation = Validation(data.files(), plan, data, has_leaks=has_leaks)
    return validation.with_decisions(validation.run())


def label_search(root: Path, settings: Settings, name: str) -> str:
    """Return how many labels looked wrong when they were last searched, or how to learn it; "" without any labels.

    ``name`` is what to call the workspace ``root`` in the command to type.
    """
    kinds = settings.categories.values()
    is_asked = {"L405", "suspect-label"} & {*settings.checks.select, *settings.checks.ignore}
    if is_asked or (len(kinds) < 2 and all(kind.scorer not in ("choice", "exact") for kind in kinds)):
        return ""
    command = f"curate validate {one_line(name)} --select L405"
    try:
        num_wrong, when = read_file(root / _LABELS, root, most=100).decode().split(" ", 1)
        return f"{counted(int(num_wrong), 'label')} looked wrong on {when}: {command}"
    except (OSError, ValueError, CurateError):
        lacking = "" if find_spec("sklearn") else " (first: pip install 'pairsmith[quality]')"
        return f"labels not searched for wrong ones: {command}{lacking}"


def _note_label_search(root: Path, num_wrong: int) -> None:
    # It is told beside what a quick validation finds: the search itself takes seconds.
    make_cache(root / _LABELS.parent.parent)
    when = datetime.now().astimezone()
    write_atomic(root / _LABELS, [f"{num_wrong} {when:%Y-%m-%d at %H:%M}".encode()])
