"""A validation in a process of its own, so that whoever waits for it can do something else meanwhile.

What crosses the border is pickled, both ways, between this program and itself: `run_job` is the other side.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from curate.base.console import one_line, spelled
from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.record import CurateError, Exit, Finding
from curate.base.storage import write_atomic
from curate.checks.runner import (
    UNREADABLE,
    ExaminerSpec,
    Verdict,
    baseline_path,
    read_baseline,
    relative_name,
    select_checks,
)
from curate.checks.runner.baseline import Baseline, Changed
from curate.checks.runner.examine import SpanResult
from curate.project.data import ProjectData, load_data
from curate.project.validation import Validation
from curate.sessions.problems.groups import EVERY, Problems
from curate.sessions.problems.record_fix import RecordFixes, mend_records

OnProgress = Callable[[int], None]
"""Hears how many lines were seen so far."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done with the records of a workspace as decisions have left them."""

    root: Path
    findings: tuple[Finding, ...] = ()
    """What is wrong with the decisions themselves."""
    names: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """The ids of records that are called otherwise than their line says, by file and line."""


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
        command = [sys.executable, "-P", "-m", "curate.sessions.problems"]
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
    """Return the answer of a child in a tuple, an error, or None where it ended without one."""
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


def run_job(source: IO[bytes], target: IO[bytes]) -> None:
    """Do the job that ``source`` holds and write progress, and then what came out of it, to ``target``."""
    what, job = pickle.load(source)  # noqa: S301  it is our own program that asks

    def tell(kind: str, value: object) -> None:
        pickle.dump((kind, value), target)
        target.flush()

    jobs: dict[str, Callable[[Job, OnProgress], object]] = {"search": search, "update": update, "mend": mend}
    try:
        tell("done", jobs[what](job, partial(tell, "lines")))
    except CurateError as error:
        tell("error", error)


def search(job: Job, on_progress: OnProgress) -> Problems:
    """Validate a workspace and return what was found.

    Raises:
        CurateError: as `ProjectData.verdict` does.
    """
    data = load_data(job.root)
    known = baseline_path(data.settings, data.root)
    baseline = read_baseline(known, without=UNREADABLE) if known else None
    files = {spelled(str(path)): relative_name(path, data.root) for path in data.files()}
    tolerances = select_checks(data.settings).tolerances
    problems = Problems(files, job.names, tolerances)
    problems.finish(_verdict(data, baseline, problems, on_progress))
    for finding in job.findings:
        problems.add(finding, "decision")
    return problems


def update(job: Job, on_progress: OnProgress) -> Changed:
    """Write what is found now to the baseline that the settings name, and return what that changed in it.

    Raises:
        CurateError: E902 when they name none; E956 when the file is no baseline; E906 when it cannot be written.
    """
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


def mend(job: Job, on_progress: OnProgress) -> RecordFixes:
    """Return the safe fixes of all texts of a workspace, as edits that nobody has made yet.

    Raises:
        CurateError: E904 when a file is missing or may not be read.
    """
    return mend_records(load_data(job.root), on_progress)


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

    spec = ExaminerSpec(shape=data.shape, settings=data.settings, limit=EVERY, root=data.root, baseline=baseline)
    return Validation(data.files(), spec, data, on_span=on_span).run()
