"""`curate import`: foreign files become records of a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.tables import counted

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from curate.formats.import_plan import RowSelection
    from curate.formats.intake import Intake

_MOST_NAMES = 12


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--into", "root", type=click.Path(path_type=Path), default=Path(), help="The workspace.  [default: here]")
@click.option("--format", "format_name", default="", metavar="NAME", help="Read the rows as this format.")
@click.option("--map", "map_text", default="", metavar="FIELD=COLUMN,...", help="Which column is which of our fields.")
@click.option("--only", multiple=True, metavar="COLUMN=VALUE", help="Take only the rows whose column has this value.")
@click.option("--to-meta", default="", metavar="FIELD,...", help="Store these fields and do not train on them.")
@click.option("--category", default="", help="The category of records that name none.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(
    files: tuple[Path, ...],
    root: Path,
    format_name: str,
    map_text: str,
    only: tuple[str, ...],
    to_meta: str,
    category: str,
    *,
    dry_run: bool,
) -> int:
    """Bring JSON lines, JSON arrays, CSV, TSV, Parquet and saved `datasets` folders into a workspace.

    Alpaca, ShareGPT, OpenAI chat and TRL rows are recognised; other columns are mapped by their names. Rows
    that cannot be read go to quarantine/ with the reason. Exits 1 when there are such rows. Exports of annotation
    tools, preferences and columns of reasoning are recognised: they are read once --only, --map or --to-meta says how.

    Example: curate import answers.csv --map instruction=question,output=answer
    """
    from curate.base.registry import use_plugins
    from curate.formats.importers.mapping import parse_map
    from curate.formats.intake import take_in
    from curate.schema import load_shape
    from curate.schema.settings import FILE_NAME, read_settings

    if not (root / FILE_NAME).is_file():
        raise CurateError(
            "E901 no-workspace", f"{root}: no {FILE_NAME} here", f"Make a workspace: curate init {root} --from FILE"
        )
    settings = read_settings(root)
    # An importer may be one of the workspace, too.
    use_plugins(settings.root, settings.plugins.path)
    shape = load_shape(settings.schema_, root)
    mapping = parse_map(map_text) if map_text else None
    selection = selection_of(only, to_meta)
    has_rejected = False
    # One file after the other: what is written for one stays if the next cannot be read.
    for path in with_rows(files):
        intake = take_in(
            path,
            root,
            shape,
            format_name=format_name,
            mapping=mapping,
            category=category,
            selection=selection,
            is_dry_run=dry_run,
        )
        tell(intake, is_dry_run=dry_run)
        has_rejected = has_rejected or bool(intake.rejected)
    return Exit.FINDINGS if has_rejected else Exit.OK


def with_rows(files: Sequence[Path]) -> list[Path]:
    """Return the files that can hold records, and say of the others why they are passed over.

    An export writes an empty file for an empty split, and dropped.jsonl; `v1/*.jsonl` names them as well. A file that
    is named alone is left to its reader.
    """
    from curate.formats.import_plan import is_list_of_dropped

    readable = []
    for path in files:
        is_empty = path.is_file() and not path.stat().st_size
        if len(files) > 1 and (is_empty or is_list_of_dropped(path)):
            why = "empty" if is_empty else "a list of what an export left out, not of records"
            console.talk(f"{console.one_line(str(path))}: passed over, {why}")
        else:
            readable.append(path)
    return readable or list(files)


def selection_of(only: tuple[str, ...], to_meta: str) -> RowSelection:
    """Return what ``--only`` and ``--to-meta`` say."""
    from curate.formats.import_plan import RowSelection, parse_only

    return RowSelection(parse_only(only), frozenset(name.strip() for name in to_meta.split(",") if name.strip()))


def tell(intake: Intake, *, is_dry_run: bool = False) -> None:
    """Say how a file was read, what was written, which rows were put aside or left out, and which fields are stored."""
    plan = intake.plan
    console.talk(f"{console.one_line(str(plan.path))}: read as {plan.container.name}, rows as {plan.format_name}")
    for notice in plan.notices:
        console.talk(f"  {console.one_line(notice)}")
    if plan.mapping:
        how = "guessed; --map says otherwise" if plan.is_mapping_guessed else "as asked"
        pairs = ", ".join(f"{name}={column}" for name, column in plan.mapping.items())
        console.talk(f"  columns: {console.one_line(pairs)} ({how})")
    if plan.rivals:
        named = ", ".join(f"{name} ({score:.0%})" for name, score in plan.rivals)
        console.talk(f"  also fits: {named}; --format NAME decides")
    if not intake.num_records:
        done = "no record"
    elif intake.is_unchanged:
        done = "already there, unchanged"
    else:
        done = "would be written" if is_dry_run else "written"
    console.data(f"{console.one_line(str(intake.target))}: {counted(intake.num_records, 'record')}, {done}")
    if intake.left_out:
        console.talk(f"  {counted(intake.left_out.total(), 'row')} left out by --only: {_counted(intake.left_out)}")
    if intake.moved:
        console.talk(f"  to meta.extra, which is not trained on: {_counted(intake.moved)}")
    if intake.num_joined:
        console.talk(
            f"  {counted(intake.num_joined, 'record')} with messages in several parts of text: "
            "joined as they are, with nothing between the parts"
        )
    # A row that is left out is never silent: how many, why, and where they lie.
    if intake.rejected:
        counts = ", ".join(f"{code} {count:,}" for code, count in intake.reasons.most_common())
        first = intake.rejected[0]
        where = "would go to" if is_dry_run else "in"
        quarantine = console.one_line(str(intake.quarantine))
        console.talk(f"  {counted(len(intake.rejected), 'row')} {where} {quarantine}: {counts}")
        console.talk(f"  the first, line {first.line}: {console.one_line(first.reason, 300)}")
        if "S103" in intake.reasons and plan.path.is_file():
            from curate.formats.importers import conversion_hint

            console.talk(f"  {console.one_line(conversion_hint(plan.path), 500)}")


def _counted(counts: Counter[str]) -> str:
    """Return names with their counts, the most frequent first, up to a number of names."""
    listed = ", ".join(f"{console.one_line(name, 60)} ({count:,})" for name, count in counts.most_common(_MOST_NAMES))
    hidden = len(counts) - _MOST_NAMES
    return f"{listed} and {hidden:,} more" if hidden > 0 else listed
