"""`curate list`: the records of a workspace, one a line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from curate.base import console
from curate.base.record import SPLITS, Exit, Split
from curate.base.tables import counted
from curate.cli._options import format_option, refuse_if, workspace_argument
from curate.cli._output import print_lines
from curate.cli._visible import visible_states

if TYPE_CHECKING:
    from curate.project.filters import Filter
    from curate.project.fold import RecordState
    from curate.project.project import Project
    from curate.schema.settings import SavedView

    CellGetter = Callable[[RecordState], Mapping[str, str | int | float | None]]

# Columns of how the newest run learnt a record.
_DYNAMICS = ("confidence", "variability")


@click.command("list")
@workspace_argument
@click.option("--category", multiple=True, help="Only records of this category; may be repeated.")
@click.option("--split", "splits", multiple=True, type=click.Choice(SPLITS), help="Only records of this split.")
@click.option(
    "--status",
    type=click.Choice(["in", "dropped", "all"]),
    help='Default: "in", or "all" where --where asks for a status itself.',
)
@click.option(
    "--where", default="", metavar="FILTER", help='Only records that a filter lets through: "tokens:>500 refund".'
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many records.")
@click.option(
    "--sort", default="", metavar="COLUMN", help="Order: file, id, category, split, tokens, prompt; - before it."
)
@click.option("--columns", default="", metavar="A,B", help="What to show, such as id,tokens,prompt.")
@click.option("--view", default="", metavar="NAME", help="Filter, order and columns that were saved under a name.")
@click.option(
    "--save", default="", metavar="NAME", help="Write --where, --sort and --columns to curate.toml as a view."
)
@click.option("--count-by", "field", default="", metavar="FIELD", help="How often each value of a field is there.")
@format_option("text", "jsonl", "json")
@click.option("--show-values", is_flag=True, help="Show also what others answered to what you are still asked.")
def command(
    root: Path,
    category: tuple[str, ...],
    splits: tuple[str, ...],
    status: str | None,
    where: str,
    limit: int | None,
    sort: str,
    columns: str,
    view: str,
    save: str,
    field: str,
    form: str,
    show_values: bool,
) -> int:
    """List records by category, split and whether a decision has dropped them, or by a filter.

    A record's split is that of the last dataset, else the one written in it or assigned to it. A filter is what Browse
    takes: words, "exact words", /regex/, category:, status:, split:, source:, kind:, id:, file:, line:, tokens:,
    prompt:, completion:, confidence:, variability: (how the newest run learnt a record), machine: (yes where a model's
    proposal was taken), label.NAME: and has:, each negated by - before it; all of them must hold.

    Where a record still asks you (CURATE_ANNOTATOR, else your user name) a question that others have answered, it is
    listed as if they had not, and stderr says of how many that is so: label.annotators and label.overlap say who is
    asked what.

    --count-by takes category, split, source, kind, file, label.QUESTION, label.WHO.QUESTION, or the JSON pointer of
    anything in the lines, such as /meta/lang. What stands in a view is added to what is given beside it; Browse offers
    views with V.

    Example: curate list my-data --where 'category:billing tokens:>500 -status:ok "refund"'

    Example: curate list my-data --where 'tokens:>500' --sort=-tokens --save long

    Example: curate list my-data --view long --count-by label.topic
    """
    refuse_if(
        (form == "json" and not field, "--format json is for --count-by; records are listed as jsonl."),
        (field and (save or sort or columns or limit), "--count-by goes with filters alone."),
        (save and (view or category or splits or status or limit), "--save takes --where, --sort and --columns alone."),
    )
    from curate.project.project import open_project

    project = open_project(root)
    chosen = _chosen(project, view, where, sort, columns)
    wanted = _parsed(chosen.where)
    if save:
        _save(project, save, chosen)
        return Exit.OK
    pins = project.data.pins()
    # It may read the records, from which those that match are then taken.
    cells_of = None if field else _cell_getter(project, chosen.columns, pins)
    matching = _matching(project, wanted, pins, category, splits, status, show_values=show_values)
    if field:
        print_lines(_count_lines(matching, field, pins, is_json=form != "text"))
    else:
        _print_some(_sorted(matching, chosen.sort, pins), limit, cells_of, is_json=form == "jsonl")
    return Exit.OK


def _print_some(
    states: Iterable[RecordState], limit: int | None, cells_of: CellGetter | None, *, is_json: bool
) -> None:
    # A million of them need not be held at once.
    rest = iter(states)
    print_lines(_lines_of(islice(rest, limit), cells_of, is_json=is_json))
    if num_more := sum(1 for _ in rest):
        console.talk(f"not shown: {counted(num_more, 'record')}")


def _matching(
    project: Project, wanted: Filter | None, pins: Mapping[str, Split],
    categories: Collection[str], splits: Collection[str], status: str | None, *, show_values: bool,
) -> Iterable[RecordState]:  # fmt: skip
    """Return the records that all conditions let through."""
    from curate.project.notices import tell_remarks

    if status is None:
        # A filter that asks for dropped records would else find none.
        status = "all" if wanted and wanted.asks_about("status") else "in"
    names = frozenset(project.select(wanted, is_whole=show_values)) if wanted else frozenset()
    tell_remarks(project.data)
    return (
        state
        for state in visible_states(project.data, show_values=show_values)
        if (not categories or state.record.category in categories)
        and (not splits or (pins.get(state.record.id) or state.record.split) in splits)
        and (status == "all" or (state.dropped is not None) == (status == "dropped"))
        and (wanted is None or state.record.id in names)
    )


def _parsed(where: str) -> Filter | None:
    if not where.strip():
        return None
    # Evaluating needs polars, which a plain list does without.
    from curate.project.filters import parse_filter

    return parse_filter(where)


def _chosen(project: Project, view: str, where: str, sort: str, columns: str) -> SavedView:
    """Return the view to list: what is given, with what is saved under a name."""
    from curate.schema.settings.model import VIEW_COLUMNS, VIEW_SORTS, SavedView

    if sort.removeprefix("-") not in ("", *VIEW_SORTS):
        raise click.BadParameter(
            f"there are {', '.join(VIEW_SORTS)}, each with - before it or without", param_hint="--sort"
        )
    names = [name.strip() for name in columns.split(",") if name.strip()]
    if unknown := [name for name in names if name not in VIEW_COLUMNS]:
        message = f"no column {console.one_line(unknown[0], 40)!r}; there are {', '.join(VIEW_COLUMNS)}"
        raise click.BadParameter(message, param_hint="--columns")
    saved = SavedView()
    if view:
        from curate.project.views import view_of

        saved = view_of(project.settings, view)
    return SavedView(f"{saved.where} {where}".strip(), sort or saved.sort, cast("Any", names) or saved.columns)


def _save(project: Project, name: str, view: SavedView) -> None:
    from curate.project.views import save_view
    from curate.schema.settings import FILE_NAME

    is_known = name in project.settings.views
    save_view(project.root, name, view)
    console.talk(f"view {console.one_line(name, 40)} {'replaced' if is_known else 'saved'} in {FILE_NAME}")


def _sorted(states: Iterable[RecordState], sort: str, pins: Mapping[str, Split]) -> Iterable[RecordState]:
    """Return the states in order; those that are equal stay in the order of the files."""
    if not sort:
        return states
    from curate.project.views import value_of

    column, is_descending = sort.removeprefix("-"), sort.startswith("-")
    listed = list(states)
    if column == "file":
        return listed[::-1] if is_descending else listed
    return sorted(listed, key=lambda state: value_of(state, column, pins), reverse=is_descending)


def _cell_getter(project: Project, columns: Sequence[str], pins: Mapping[str, Split]) -> CellGetter | None:
    """Return the function that returns the values of ``columns`` of a record by their names; None without columns."""
    if not columns:
        return None
    from curate.project.views import value_of

    by_catalog = [column for column in columns if column in ("status", *_DYNAMICS)]
    known: dict[str, dict[str, str | float | None]] = {}
    if by_catalog:
        catalog = project.load()
        if "status" in by_catalog:
            project.judge()
        known = {row["id"]: row for row in catalog.frame(["id", *by_catalog]).to_dicts()}

    def cell(state: RecordState, column: str) -> str | int | float | None:
        if column not in by_catalog:
            return value_of(state, column, pins)
        value = known[state.record.id][column]
        return round(value, 4) if isinstance(value, float) else value

    return lambda state: {column: cell(state, column) for column in columns}


def _lines_of(states: Iterator[RecordState], cells_of: CellGetter | None, *, is_json: bool) -> Iterator[str]:
    import json

    if cells_of is None:
        yield from _json_lines(states) if is_json else _lines(states)
        return
    for state in states:
        cells = cells_of(state)
        yield (
            json.dumps(cells)
            if is_json
            else "\t".join(console.one_line("-" if cell is None else str(cell), 60) for cell in cells.values())
        )


def _count_lines(
    states: Iterable[RecordState], field: str, pins: Mapping[str, Split], *, is_json: bool
) -> Iterator[str]:
    import json

    from curate.base.tables import table
    from curate.project.views import count_by, require_field

    require_field(field)
    result = count_by(states, field, pins)
    ranked = result.ranked()
    if is_json:
        yield json.dumps(result.document())
    else:
        rows = [*ranked, *([("(none)", result.num_without)] if result.num_without else [])]
        cells = [(console.one_line(value, 60), f"{n:,}", f"{n / result.num_records:.1%}") for value, n in rows]
        yield from table((field, "records", "share"), cells)
    console.talk(f"{counted(len(ranked), 'value')} in {counted(result.num_records, 'record')}")


def _lines(states: Iterator[RecordState]) -> Iterator[str]:
    for state in states:
        record = state.record
        gone = f" [dropped: {console.one_line(state.dropped, 40)}]" if state.dropped is not None else ""
        yield (
            f"{console.visible(record.source.file)}:{record.source.line}: {console.one_line(record.id, 40)} "
            f"{console.one_line(record.category or '-', 30)}: {console.one_line(record.prompt or record.text, 60)} -> "
            f"{console.one_line(record.completion, 40)}{gone}"
        )


def _json_lines(states: Iterator[RecordState]) -> Iterator[str]:
    import json

    for state in states:
        record = state.record
        # ASCII only: what controls or turns around a terminal in the data must not reach one.
        yield json.dumps(
            {
                "id": record.id,
                "file": record.source.file,
                "line": record.source.line,
                "category": record.category,
                "split": record.split,
                "labels": dict(record.labels),
                "dropped": state.dropped,
                "data": dict(record.data),
            }
        )
