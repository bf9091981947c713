"""`curate split`: show how the records would be divided, and fix it when asked to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.base import console
from curate.base.record import SPLITS, CurateError, Exit
from curate.base.tables import counted
from curate.cli._options import workspace_argument
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.project.data import ProjectData
    from curate.project.project import Project
    from curate.schema.settings import SplitSettings
    from curate.sessions.splitting import Fix, Preview

_MAX_FINDINGS = 5


@click.command()
@workspace_argument
@click.option("--ratios", metavar="A/B/C", help="Shares of train, validation and test, such as 80/10/10.")
@click.option("--seed", type=int, help="In place of the one in curate.toml.")
@click.option("--stratify/--no-stratify", default=None, help="Divide each category by the ratios, or only the whole.")
@click.option("--group", metavar="POINTER", help='What must stay together, such as /meta/source_id; "" for nothing.')
@click.option("--fix", "fixes", nargs=2, multiple=True, metavar="ID HOW", help="Of a leak: move to train, or drop.")
@click.option("--apply", "is_applied", is_flag=True, help="Write each new record's split to the journal.")
@click.option(
    "--save", "is_saved", is_flag=True, help="With --apply: write the settings given here to curate.toml too."
)
@click.option("--freeze", "is_frozen", is_flag=True, help="Let the test split be as it is planned now, for good.")
@click.option("--unfreeze", metavar="REASON", help="Let a frozen test split change again; the reason is kept.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(
    root: Path,
    ratios: str | None,
    seed: int | None,
    stratify: bool | None,
    group: str | None,
    fixes: tuple[tuple[str, str], ...],
    is_applied: bool,
    is_saved: bool,
    is_frozen: bool,
    unfreeze: str | None,
    dry_run: bool,
) -> int:
    """Show how many records of each category fall into each split, how near the ratios that is, and what leaks.

    Records that repeat one another stay together. A record that is in the last dataset keeps its split, and adding
    records moves nobody, and records that would give one another away stay together. A frozen test split neither loses
    nor gains records: golden.json lists them. Exits 1 when a leak remains, which is when `curate export` refuses.

    Example: curate split my-data --ratios 80/10/10
    """
    from curate.project.golden import change_of
    from curate.project.notices import open_and_tell
    from curate.sessions.splitting import preview, read_basis, require_split

    if is_saved and not is_applied:
        raise click.UsageError("--save is for --apply")
    project = open_and_tell(root)
    # Before the records are divided, so that the preview is already of a set that may change.
    if unfreeze is not None:
        _unfreeze(project.data, unfreeze, dry_run)
    settings = _settings_with(project.settings.split, ratios, seed, stratify, group)
    basis, wanted = read_basis(project.data), _fixes(fixes)
    # The leaks before any fix: a fix that works leaves no leak to look for.
    if wanted:
        require_split(basis, wanted)
        _require_leaking(preview(basis, settings, is_compared=True), wanted)
    planned = preview(basis, settings, wanted, is_compared=True)
    print_lines(_report(planned))
    if is_applied:
        _apply(project, planned, dry_run, is_saved=is_saved)
    if is_frozen:
        _freeze(project.data, planned, dry_run)
    golden = planned.basis.golden
    if golden and (change := change_of(golden, planned.by_split["test"].ids)) and not is_frozen:
        what = "is frozen" if golden.is_frozen else "was frozen, and is not now"
        comparison = (
            f"{len(change.added):,} more and {len(change.gone):,} fewer"
            if any((*change.added, *change.gone))
            else "the same"
        )
        console.talk(f"a test set of {counted(len(golden.ids), 'record')} {what}; this one has {comparison}")
    return Exit.FINDINGS if any(finding.severity == "error" for finding in planned.leaks) else Exit.OK


def _fixes(options: tuple[tuple[str, str], ...]) -> dict[str, Fix]:
    from curate.sessions.splitting import FIXES

    fixes: dict[str, Fix] = {}
    for name, how in options:
        if how not in FIXES:
            raise click.UsageError(f"--fix {name}: {how!r} is neither move nor drop")
        fixes[name] = "move" if how == "move" else "drop"
    return fixes


def _require_leaking(planned: Preview, fixes: Mapping[str, Fix]) -> None:
    """Refuse to fix a record that is in no leak: the journal would say of it that it leaked."""
    pairs = [
        pair for comparison in planned.compared or () for leak in comparison.leaks.leaks for pair in (leak, *leak.also)
    ]
    leaking = {record.id for pair in pairs for record in (pair.exam, pair.source)}
    for name in fixes:
        if name not in leaking:
            hint = "`curate leaks` shows the pairs; `curate drop ID --reason TEXT` leaves out any record."
            raise CurateError("E916 unknown-record", f"no leak has a record {console.one_line(name, 60)!r}", hint)


def _apply(project: Project, planned: Preview, dry_run: bool, *, is_saved: bool) -> None:
    from curate.sessions.splitting import write

    if dry_run:
        decisions = planned.decisions()
        num_assigned = sum(decision.op == "assign" for decision in decisions)
        console.talk(f"would assign {counted(num_assigned, 'record')}; nothing was written")
        return
    done = write(project, planned, is_saved=is_saved)
    console.talk(f"assigned {counted(done.num_assigned, 'record')}")
    if done.num_dropped:
        console.talk(f"dropped {counted(done.num_dropped, 'record')} that leaked, by decisions that can be taken back")
    if is_saved:
        console.talk(f"wrote to curate.toml: {', '.join(done.keys) or 'nothing, it says so already'}")
    for name in done.overruled:
        console.talk(f"warning: {console.one_line(name)} overrides what was written to curate.toml")


def _freeze(data: ProjectData, planned: Preview, dry_run: bool) -> None:
    from curate.project.golden import freeze
    from curate.project.journal import annotator

    records = planned.by_split["test"]
    if dry_run:
        console.talk(f"would freeze {counted(len(records), 'test record')}; nothing was written")
        return
    golden = freeze(data.root, records, data.pins(), annotator())
    console.talk(f"froze {counted(len(golden.ids), 'test record')} in golden.json; add it to git")


def _unfreeze(data: ProjectData, reason: str, dry_run: bool) -> None:
    from curate.project.golden import unfreeze
    from curate.project.journal import annotator

    if dry_run:
        raise click.UsageError("--dry-run cannot show what an unfreezing would do")
    golden = unfreeze(data.root, reason, annotator())
    console.talk(f"unfroze {counted(len(golden.ids), 'test record')}: {console.one_line(reason)}")


def _settings_with(
    settings: SplitSettings, ratios: str | None, seed: int | None, stratify: bool | None, group: str | None
) -> SplitSettings:
    given = {"seed": seed, "stratify": stratify, "group": group}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if ratios is not None:
        from curate.sessions.splitting import ratios_of

        changes["ratios"] = ratios_of(ratios)
    return replace(settings, **changes)


def _report(planned: Preview) -> list[str]:
    from curate.base.tables import table

    assignment = planned.assignment
    rows = [
        [
            console.one_line(row.category or "(none)", 30),
            *(f"{row.counts[of]:,} ({row.actual[of]:.0%})" for of in SPLITS),
        ]
        for row in assignment.drift
    ]
    total = {name: sum(row.counts[name] for row in assignment.drift) for name in SPLITS}
    everyone = max(1, sum(total.values()))
    rows.append(["all", *(f"{total[name]:,} ({total[name] / everyone:.0%})" for name in SPLITS)])
    if assignment.drift:
        rows.append(["asked", *(f"{assignment.drift[0].target[name]:.0%}" for name in SPLITS)])
    lines = list(table(["category", *SPLITS], rows))
    if assignment.withheld:
        lines.append(f"held back, because they would leak: {len(assignment.withheld):,}")
    # Errors first: they are few, and an export waits for them.
    leaks = sorted(planned.leaks, key=lambda leak: leak.severity != "error")
    for finding in [*leaks[:_MAX_FINDINGS], *assignment.findings]:
        location = f"{console.visible(finding.file)}:{finding.line}: " if finding.file else ""
        severity = f"{finding.severity} " if finding in leaks else ""
        lines.append(f"{location}{severity}{finding.code} {finding.name}: {console.one_line(finding.message)}")
    if len(leaks) > _MAX_FINDINGS:
        lines.append(f"{len(leaks) - _MAX_FINDINGS:,} more like these; see `curate leaks`")
    return lines
