"""`curate propose`: have a model write answers, or new records, for people to take or reject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import by_option, refuse_if, workspace_argument

if TYPE_CHECKING:
    from collections import Counter

    from curate.project.project import Project
    from curate.sessions.proposals import ProposalCounts


@click.command()
@workspace_argument
@click.option("--where", default="", metavar="FILTER", help="The records; see `curate list --help`.")
@click.option("--with", "model", default="", metavar="MODEL", help="Who writes; see `train answer --help`.")
@click.option("-n", "number", type=click.IntRange(1, 20), default=1, show_default=True, help="Answers a record.")
@click.option("--like", type=click.IntRange(1, 10_000), metavar="N", help="Write N new records like these instead.")
@click.option("--system", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Text that comes first.")
@click.option("--shots", type=click.IntRange(0, 64), default=0, help="Training records that stand before each.")
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.7, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**30), default=0, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1, 1 << 20), default=512, show_default=True)
@click.option("--send-flagged", is_flag=True, help="Send records with open findings X7xx to an endpoint too.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked, and ask nobody.")
@click.option("--report", "is_report", is_flag=True, help="Count what became of proposals, by category and model.")
@click.option("--json", "as_json", is_flag=True, help="With --report: as JSON.")
@by_option
def command(
    root: Path, where: str, model: str, number: int, like: int | None, system: Path | None, shots: int,
    temperature: float, seed: int, max_new_tokens: int, send_flagged: bool, dry_run: bool, is_report: bool,
    as_json: bool, by: str,
) -> int:  # fmt: skip
    """Have MODEL propose answers to records, or new records like them.

    A proposal changes nothing before a person takes it: `g q` in `curate`, then "proposals". Each is checked first, by
    schema, contract, checks, duplicates and leaks; what fails is counted by its code, and nobody is shown it. Records
    of the validation and test splits are left out, and examples come from training records alone.

    Example: curate propose my-data --where 'category:billing -has:completion' --with runs/b -n 2
    """
    from curate.project.project import open_project
    from curate.sessions.proposing import ModelTask, propose

    refuse_if(
        (is_report and model, "--report asks nobody; leave --with out"),
        (not is_report and not model, "name who writes: --with MODEL"),
        (as_json and not is_report, "--json goes with --report"),
        (like and number > 1, "--like says how many records are written; leave -n out"),
    )
    with open_project(root, by) as project:
        if is_report:
            return _report(project, as_json=as_json)
        task = ModelTask(model, number, like or 0, system, shots, temperature, seed, max_new_tokens, send_flagged)
        project.load()
        result = propose(project, project.records(where), task, _tell_progress, is_dry=dry_run)
    for what, counts in (("left out", result.skipped), ("failed, shown to nobody", result.failed)):
        if counts:
            console.talk(f"{what}: {_listed(counts)}")
    if dry_run:
        console.data(f"would ask {counted(result.num_requests, 'request')} of {console.one_line(model, 60)}")
        return Exit.OK
    console.data(f"proposed: {result.num_proposed:,} of {counted(result.num_requests, 'request')}")
    if result.num_proposed:
        console.talk("nothing is changed yet: take or reject them in `curate`, g q, proposals")
    return Exit.OK if result.num_proposed else Exit.FINDINGS


def _tell_progress(done: int, number: int) -> None:
    if done == number or done % 10 == 0:
        console.talk(f"{done:,} of {counted(number, 'answer')}")


def _listed(counts: Counter[str]) -> str:
    return "; ".join(f"{console.one_line(reason, 100)}: {number:,}" for reason, number in counts.most_common())


def _report(project: Project, *, as_json: bool) -> int:
    from curate.sessions.proposals import counts_of

    project.load()
    counts = list(counts_of(project).values())
    if as_json:
        from curate.cli._output import print_json

        print_json({"version": 1, "rows": [row.document() for row in counts]}, indent=2)
        return Exit.OK
    for line in report_lines(counts):
        console.data(line)
    return Exit.OK


def report_lines(counts: Sequence[ProposalCounts]) -> list[str]:
    """Return what became of proposals, in words."""
    if not counts:
        return ["no model has proposed anything yet"]
    lines = []
    for row in counts:
        name = console.one_line(row.model.removeprefix("model:"), 60)
        number = f"{row.proposed:,} proposed, {row.open:,} open"
        lines += [f"{console.one_line(row.category, 40)}, {name}: {number}", f"  {row.sentence()}"]
    return [*lines, "accepted: share of what people decided on, with the 95 % interval of Wilson"]
