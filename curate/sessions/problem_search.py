"""Jobs on all records, validation and fixes, in a process of their own: who waits for one can do something else.

What crosses the border is pickled, both ways, between this program and itself: `serve` is the other side.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from curate.base import collect_rarely
from curate.base.console import one_line, spelled
from curate.base.events import Decision, Edit
from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.record import CurateError, Exit, Finding, Json, Record
from curate.base.resources import python_command
from curate.base.storage import write_atomic
from curate.checks.fixes import Fix, discover, fixed_line, is_ignored
from curate.checks.runner import (
    CheckPlan,
    Verdict,
    baseline_path,
    open_baseline,
    read_baseline,
    relative_name,
    select_checks,
)
from curate.checks.runner.baseline import Baseline, Changed
from curate.checks.runner.results import SpanResult
from curate.project.data import ProjectData, load_data
from curate.project.fold import RecordState
from curate.project.validation import Validation
from curate.schema import Shape
from curate.sessions.problem_groups import EVERY, Problems

OnProgress = Callable[[int], None]  # Hears how many lines were seen so far.
# Records whose fixes are kept: each of them becomes a line of the journal with all that changes in it.
_MOST_FIXES = 20_000
_SERVE = "from curate.sessions.problem_search import serve; serve()"


@dataclass(frozen=True, slots=True)
class RecordFix:
    """What fixes make of one record: their names, each text by pointer before and after, and the edit of the line.

    Of fixes that are not safe one must see the outcome: it can mean something else.
    """

    record: str
    fixes: tuple[str, ...]
    texts: tuple[tuple[str, str, str], ...]
    changes: Mapping[str, Json]
    is_safe: bool

    def decision(self) -> Decision:
        """Return the edit that makes the fixes."""
        return Edit(self.record, dict(self.changes))


@dataclass(slots=True)
class RecordFixes:
    """The safe fixes of all records: the first 20,000, how many there are, by which fix, and what is not to be done."""

    fixes: list[RecordFix] = field(default_factory=list)
    num_records: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    num_refused: int = 0  # Records whose fixed texts the schema would not allow.

    def add(self, fix: RecordFix) -> None:
        """Add what safe fixes make of a record."""
        if not fix.changes:
            self.num_refused += 1
            return
        self.num_records += 1
        self.counts.update(fix.fixes)
        if len(self.fixes) < _MOST_FIXES:
            self.fixes.append(fix)


def fixes_for(code: str, ignore: Collection[str], *, unsafe: bool = False) -> list[Fix]:
    """Return the fixes of what ``code`` reports, those of everything with "", but for what settings say to ignore."""
    known = [fix for fix in discover() if (fix.is_safe or unsafe) and not is_ignored(fix, ignore)]
    return [fix for fix in known if not code or fix.code == code]


def mend_record(record: Record, shape: Shape, fixes: Collection[Fix]) -> RecordFix | None:
    """Return what ``fixes`` make of the texts of a record, None where they have nothing to do.

    It is an edit: nothing in the files changes, and an undo takes it back. `curate validate --fix` makes the same fixes
    in the files themselves. Where the schema would not allow the line that they make, there are no changes.
    """
    fixed = fixed_line(record.data, shape, list(fixes))
    if fixed is None:
        return None
    changes = {key: value for key, value in fixed.line.items() if value != record.data.get(key)}
    is_safe = all(fix.is_safe for fix in fixes if fix.name in fixed.names)
    return RecordFix(record.id, fixed.names, tuple(fixed.texts), changes if shape.is_valid(fixed.line) else {}, is_safe)


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done with the records of a workspace as decisions have left them.

    ``findings`` are what is wrong with the decisions themselves; ``names`` has the ids of records that are called
    otherwise than their line says, by file and line.
    """

    root: Path
    findings: tuple[Finding, ...] = ()
    names: Mapping[tuple[str, int], str] = field(default_factory=dict)


class Child:
    """One job in a process of its own; it begins with `run`, and `stop` may be called from another thread."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def run(self, what: Literal["search", "update", "mend"], job: Job, on_progress: OnProgress | None = None) -> Any:
        """Do a job and return what came out: `Problems`, `Changed` or `RecordFixes`.

        Raises:
            CurateError: as the job itself does; E970 when its process was killed, or stopped by `stop`.
        """
        command = python_command("-c", _SERVE)
        with tempfile.TemporaryFile() as talk:
            # In a group of its own it can be ended with all the workers that it has.
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=talk, process_group=0
            ) as child:
                self._child = child
                if self._is_stopped:
                    self.stop()
                answer = _ask(child, (what, job), on_progress)
            if isinstance(answer, CurateError):
                raise answer
            if answer is None:
                raise self._lost(talk, child.returncode)
            return answer[0]

    def stop(self) -> None:
        """End the process, if there is one."""
        self._is_stopped = True
        if self._child and self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGTERM)

    def _lost(self, talk: IO[bytes], code: int) -> CurateError:
        if self._is_stopped:
            return CurateError("E970 worker-lost", "the validation was stopped", exit_code=Exit.INTERRUPTED)
        talk.seek(0)
        last = talk.read().decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
        reason = f": {one_line(last)}" if last else ""
        hint = "Perhaps memory ran out; `curate validate --jobs 1` needs the least."
        return CurateError("E970 worker-lost", f"the validation ended with code {code}{reason}", hint)


def _ask(child: subprocess.Popen[bytes], question: object, on_progress: OnProgress | None) -> Any:
    # In a tuple, because None stands for a child that ended without an answer.
    assert child.stdin
    assert child.stdout
    with suppress(BrokenPipeError):
        pickle.dump(question, child.stdin)
        child.stdin.close()
    while True:
        try:
            kind, value = pickle.load(child.stdout)  # noqa: S301  it is our own program that writes there
        except (EOFError, pickle.UnpicklingError):
            return None
        if kind == "error":
            return value
        if kind == "done":
            return (value,)
        if on_progress:
            on_progress(value)


def serve() -> None:
    """Do the job that stdin holds, and write progress and then what came out of it to stdout."""
    # A search makes millions of short-lived objects, which the collector would walk through again and again.
    collect_rarely()
    # What anything else might print must not stand between the answers.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        what, job = pickle.load(sys.stdin.buffer)  # noqa: S301  it is our own program that asks

        def answer(kind: str, value: object) -> None:
            pickle.dump((kind, value), answers)
            answers.flush()

        try:
            answer("done", JOBS[what](job, partial(answer, "lines")))
        except CurateError as error:
            answer("error", error)


def search(job: Job, on_progress: OnProgress) -> Problems:
    """Validate a workspace and return what is wrong.

    Raises:
        CurateError: as `ProjectData.verdict` does.
    """
    data = load_data(job.root)
    baseline = open_baseline(data.settings, data.root)
    files = {spelled(str(path)): relative_name(path, data.root) for path in data.files()}
    problems = Problems(files, job.names, select_checks(data.settings).tolerances)
    problems.finish(_verdict(data, baseline, problems, on_progress))
    for finding in job.findings:
        problems.add(finding, "decision")
    return problems


def _update(job: Job, on_progress: OnProgress) -> Changed:
    data = load_data(job.root)
    path = baseline_path(data.settings, data.root)
    if path is None:
        hint = 'Name one: baseline = "baseline.json" under [checks] of curate.toml.'
        raise CurateError("E902 bad-settings", "curate.toml names no baseline", hint)
    baseline = read_baseline(path, is_update=True)
    _verdict(data, baseline, None, on_progress)
    lines, changed = baseline.updated(select_checks(data.settings).codes(False))
    if not path.exists() or read_file(path, data.root, most=MOST_DOCUMENT) != b"".join(lines):
        write_atomic(path, lines)
    return changed


def _mend(job: Job, on_progress: OnProgress) -> RecordFixes:
    data, result = load_data(job.root), RecordFixes()
    fixes = fixes_for("", data.settings.checks.ignore)
    for number, item in enumerate(data.read(), start=1):
        if number % 2000 == 0:
            on_progress(number)
        if not isinstance(item, RecordState) or item.dropped is not None:
            continue
        if fix := mend_record(item.record, data.shape, fixes):
            result.add(fix)
    return result


def _verdict(
    data: ProjectData, baseline: Baseline | None, problems: Problems | None, on_progress: OnProgress
) -> Verdict:
    num_lines = 0

    def on_span(result: SpanResult) -> None:
        nonlocal num_lines
        if problems:
            problems.take(result)
        num_lines += result.num_lines
        on_progress(num_lines)

    plan = CheckPlan(shape=data.shape, settings=data.settings, limit=EVERY, root=data.root, baseline=baseline)
    return Validation(data.files(), plan, data, on_span=on_span).run()


JOBS: Mapping[str, Callable[[Job, OnProgress], object]] = {"search": search, "update": _update, "mend": _mend}
