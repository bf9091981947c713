"""`curate fsck`: whether everything in a workspace is as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import format_option, workspace_argument
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.project.fsck import Report, WorkspaceFault


@click.command()
@workspace_argument
@click.option("--recover", "is_recovery", is_flag=True, help="Set aside what is damaged; note what is missing.")
@format_option("text", "json")
def command(root: Path, is_recovery: bool, form: str) -> int:
    """Hold a workspace against its checksums and digests: journal, record files, datasets, runs, drafts.

    Each fault is told with its file, line and byte, and what to do; exit code 1 if there is damage. Nothing is changed
    without --recover, which loses nothing: the torn end of a journal segment goes to SEGMENT.torn, damaged lines to
    SEGMENT.damaged, and journal/missing.json says which decisions are gone, so that they are not told of again.

    Example: curate fsck my-data
    """
    from curate.project.fsck import check, recover

    done = recover(root) if is_recovery else []
    # After recovering: the report is of the workspace as it is now.
    report = check(root)
    if form == "json":
        console.data(_json(report, done))
    else:
        for step in done:
            console.data(console.one_line(step, 500))
        print_lines(_lines(report))
    return Exit.FINDINGS if report.damage else Exit.OK


def _lines(report: Report) -> Iterator[str]:
    for fault in report.faults:
        line = f":{fault.line}" if fault.line else ""
        offset = "" if fault.offset is None else f" (byte {fault.offset:,})"
        grade = "" if fault.is_damage else " [harmless]"
        file, message = console.one_line(fault.file, 500), console.one_line(fault.message, 500)
        yield f"{file}{line}{offset}: {fault.name}{grade}: {message}"
        if fault.fix:
            yield f"  {console.one_line(fault.fix, 500)}"
    looked = ", ".join(counted(number, what) for what, number in report.counts.items())
    verdict = counted(len(report.damage), "fault") if report.damage else "no damage"
    yield f"{looked}: {verdict}" if looked else verdict


def _json(report: Report, done: list[str]) -> str:
    import json

    document = {
        "faults": [_fault_object(fault) for fault in report.faults],
        "looked_at": {f"{what}s": number for what, number in report.counts.items()},
        "recovered": done,
        "num_damaged": len(report.damage),
    }
    # ASCII only: what steers a terminal must not reach one.
    return json.dumps(document, indent=2)


def _fault_object(fault: WorkspaceFault) -> dict[str, str | int | bool | None]:
    return {
        "name": fault.name,
        "is_damage": fault.is_damage,
        "file": console.spelled(fault.file),
        "line": fault.line,
        "offset": fault.offset,
        "message": fault.message,
        "fix": fault.fix,
    }
