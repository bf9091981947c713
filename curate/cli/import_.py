"""`curate import`: foreign files become records of a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate import say
from curate.record import CurateError, Exit

if TYPE_CHECKING:
    from curate.intake import Intake


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--into", "root", type=click.Path(path_type=Path), default=Path(), help="The workspace.  [default: here]")
@click.option("--format", "format_name", default="", metavar="NAME", help="Read the rows as this format.")
@click.option("--map", "map_text", default="", metavar="FIELD=COLUMN,...", help="Which column is which of our fields.")
@click.option("--category", default="", help="The category of records that name none.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(
    files: tuple[Path, ...], root: Path, format_name: str, map_text: str, category: str, *, dry_run: bool
) -> int:
    """Bring JSON lines, JSON arrays, CSV, TSV, Parquet and saved `datasets` folders into a workspace.

    Alpaca, ShareGPT, OpenAI chat and TRL rows are recognised; other columns are mapped by their names. Rows
    that cannot be read go to quarantine/ with the reason. Exits 1 when there are such rows.

    Example: curate import answers.csv --map instruction=question,output=answer
    """
    from curate.importers.mapping import parse_map
    from curate.intake import take_in
    from curate.settings import FILE_NAME, read_settings
    from curate.shape import load_shape

    if not (root / FILE_NAME).is_file():
        raise CurateError(
            "E901 no-workspace", f"{root}: no {FILE_NAME} here", f"Make a workspace: curate init {root} --from FILE"
        )
    shape = load_shape(read_settings(root).schema_, root)
    mapping = parse_map(map_text) if map_text else None
    has_rejected = False
    for path in files:
        intake = take_in(
            path, root, shape, format_name=format_name, mapping=mapping, category=category, is_dry_run=dry_run
        )
        tell(intake, is_dry_run=dry_run)
        has_rejected = has_rejected or bool(intake.rejected)
    return Exit.FINDINGS if has_rejected else Exit.OK


def tell(intake: Intake, *, is_dry_run: bool = False) -> None:
    """Say how a file was read, what was written, and which rows were put aside."""
    plan = intake.plan
    say.talk(f"{say.one_line(str(plan.path))}: read as {plan.container.name}, rows as {plan.format_name}")
    if plan.mapping:
        how = "guessed; --map says otherwise" if plan.is_mapping_guessed else "as asked"
        pairs = ", ".join(f"{name}={column}" for name, column in plan.mapping.items())
        say.talk(f"  columns: {say.one_line(pairs)} ({how})")
    if plan.rivals:
        named = ", ".join(f"{name} ({score:.0%})" for name, score in plan.rivals)
        say.talk(f"  also fits: {named}; --format NAME decides")
    if not intake.num_records:
        done = "no record"
    elif intake.is_unchanged:
        done = "already there, unchanged"
    else:
        done = "would be written" if is_dry_run else "written"
    say.data(f"{say.one_line(str(intake.target))}: {intake.num_records:,} records, {done}")
    if intake.rejected:
        counts = ", ".join(f"{code} {count:,}" for code, count in intake.reasons.most_common())
        first = intake.rejected[0]
        where = "would go to" if is_dry_run else "in"
        say.talk(f"  {len(intake.rejected):,} rows {where} {say.one_line(str(intake.quarantine))}: {counts}")
        say.talk(f"  the first, line {first.line}: {say.one_line(first.reason, 300)}")
