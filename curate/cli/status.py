"""`curate status`: what there is and what to do next, as Home says it; and how the team stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import format_option, workspace_argument
from curate.cli._output import print_json, print_lines

if TYPE_CHECKING:
    from curate.sessions.overview import NextStep, ProjectOverview


@click.command("status")
@workspace_argument
@click.option("--team", is_flag=True, help="Add a line for each person.")
@format_option("text", "json")
def command(root: Path, team: bool, form: str) -> int:
    """Tell how many records there are, what they lack, and what to do next, as Home does before it validates.

    --team adds, for each person of label.annotators and who else has decided: answers asked for and given, records
    approved, answers and approvals of the last 7 days, how often others gave the same answer, and records that wait for
    their approval. Answers of others to what you are still asked are compared with none.

    Example: curate status my-data --team
    """
    from curate.project.notices import tell_remarks
    from curate.project.project import open_project
    from curate.sessions.overview import next_steps, not_done, overview
    from curate.sessions.team import team_lines, team_of

    with open_project(root) as project:
        project.load()
        tell_remarks(project.data)
        counts = overview(project, has_findings=False)
        steps = next_steps(project, counts)
        # Approvals are among the steps already.
        steps += [step for step in not_done(project) if step.what.get("of", "approval") != "approval"]
        members = team_of(project) if team else None
    if form == "text":
        print_lines(_lines(counts, steps))
        if members is not None:
            print_lines(["", *team_lines(members)])
        return Exit.OK
    document = {
        "version": 1,
        "records": counts.num_records,
        "unread": counts.num_unread,
        **counts.statuses,
        "unlabelled": counts.num_unlabelled,
        "unsplit": counts.num_unsplit,
        "steps": [{"text": step.text, "screen": step.screen} for step in steps],
    }
    print_json(document | ({} if members is None else {"team": [asdict(member) for member in members]}), indent=2)
    return Exit.OK


def _lines(counts: ProjectOverview, steps: list[NextStep]) -> Iterator[str]:
    parts = [f"{number:,} {name}" for name, number in counts.statuses.items() if number]
    yield ", ".join([counted(counts.num_records, "record"), *parts])
    for number, step in enumerate(steps, 1):
        yield f"  {number} {console.one_line(step.text, 100)} ({step.screen.capitalize()})"
