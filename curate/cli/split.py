"""`curate split`: show how the records would be divided, and fix it when asked to."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate import say
from curate.record import SPLITS, CurateError, Exit
from curate.table import counted

if TYPE_CHECKING:
    from curate.settings import SplitSettings
    from curate.split import Assignment


@click.command()
@click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--ratios", metavar="A/B/C", help="Shares of train, validation and test, such as 80/10/10.")
@click.option("--seed", type=int, help="In place of the one in curate.toml.")
@click.option("--apply", "is_applied", is_flag=True, help="Write each new record's split to the journal.")
@click.option("--dry-run", is_flag=True, help="With --apply: say what would be written, and write nothing.")
def command(root: Path, ratios: str | None, seed: int | None, is_applied: bool, dry_run: bool) -> int:
    """Show how many records of each category fall into each split, how near the ratios that is, and what leaks.

    Records that repeat one another stay together. A record that is in the last dataset keeps its split, and adding
    records moves nobody. Exits 1 when there is a leak between splits.

    Example: curate split my-data --ratios 80/10/10
    """
    from curate.journal import Decision
    from curate.workspace.opened import open_and_tell
    from curate.workspace.publish import plan

    workspace = open_and_tell(root)
    asked = _asked(workspace.settings.split, ratios, seed)
    planned = plan(workspace, asked)
    for line in _report(planned.assignment):
        say.data(line)
    new = {record.id: record.split for record in planned.records}
    decisions = [
        Decision("assign", name, fields={"split": place})
        for name, place in planned.assignment.splits.items()
        if new.get(name) != place
    ]
    if is_applied and dry_run:
        say.talk(f"would assign {counted(len(decisions), 'record')}; nothing was written")
    elif is_applied:
        workspace.apply(decisions)
        say.talk(f"assigned {counted(len(decisions), 'record')}")
    return Exit.FINDINGS if any(one.code == "P501" for one in planned.assignment.findings) else Exit.OK


def _asked(settings: SplitSettings, ratios: str | None, seed: int | None) -> SplitSettings:
    asked: dict[str, object] = {} if seed is None else {"seed": seed}
    if ratios is not None:
        try:
            parts = [float(part) for part in ratios.split("/")]
        except ValueError:
            parts = []
        if len(parts) != len(SPLITS) or not all(0 <= part < inf for part in parts) or sum(parts) == 0:
            message = f"--ratios {ratios!r} is not three shares"
            raise CurateError("E902 bad-settings", message, "Write it like 80/10/10.")
        asked["ratios"] = tuple(part / sum(parts) for part in parts)
    return settings.model_copy(update=asked)


def _report(assignment: Assignment) -> list[str]:
    from curate.table import table

    rows = [
        [say.one_line(row.category or "(none)", 30), *(f"{row.counts[of]:,} ({row.got[of]:.0%})" for of in SPLITS)]
        for row in assignment.drift
    ]
    total = {name: sum(row.counts[name] for row in assignment.drift) for name in SPLITS}
    everyone = max(1, sum(total.values()))
    rows.append(["all", *(f"{total[name]:,} ({total[name] / everyone:.0%})" for name in SPLITS)])
    if assignment.drift:
        rows.append(["asked", *(f"{assignment.drift[0].asked[name]:.0%}" for name in SPLITS)])
    lines = list(table(["category", *SPLITS], rows))
    if assignment.held_back:
        lines.append(f"held back, because they would leak: {len(assignment.held_back):,}")
    for finding in assignment.findings:
        place = f"{say.visible(finding.file)}:{finding.line}: " if finding.file else ""
        lines.append(f"{place}{finding.code} {finding.name}: {say.one_line(finding.message)}")
    return lines
