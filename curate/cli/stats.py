"""`curate stats`: how many records of which category, how long, how balanced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.cli._options import format_option, paths_argument
from curate.cli._output import print_json, print_lines
from curate.cli._visible import records_of

if TYPE_CHECKING:
    from curate.checks.quality import CategoryRow, Histogram, QualityOverview

_MOST_BARS = 12
_MOST_EFFECTS = 8
_WIDTH = 78


@click.command()
@paths_argument
@format_option("text", "json", "jsonl")
@click.option("--plots", is_flag=True, help="Add bars and histograms: balance, lengths, repetition, readability.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write all of it as one HTML page to this file.")
@click.option("--show-values", is_flag=True, help="Count also what others answered to what you are still asked.")
def command(paths: tuple[Path, ...], form: str, plots: bool, page: Path | None, show_values: bool) -> int:
    """Count the records of each category, by split, with the lengths of prompts and completions in characters.

    Records that have no split yet are counted under "none". PATH is a workspace or record files. Languages need the
    extra [lang] where records do not name theirs in /meta/language.

    A category that others have answered and that you are still asked (`curate list --help`) is as if they had not.

    Example: curate stats my-data --plots --html stats.html
    """

    from curate.base.storage import write_atomic
    from curate.checks.quality import html_page, overview

    if page is not None and page.resolve() in {path.resolve() for path in paths}:
        raise click.BadParameter("this is one of the files to read", param_hint="--html")
    records, project = records_of(paths, show_values=show_values)
    if project and (dropped := project.data.dropped()):
        console.talk(f"{len(dropped):,} more records are dropped; see `curate list --status dropped`")
    # The splits of the last dataset are the ones that a trainer sees.
    view = overview(records, project.data.pins() if project else {})
    if form == "jsonl":
        for row in view.categories:
            print_json(_flat(row))
    elif form == "json":
        print_json(asdict(view), indent=2)
    else:
        print_lines([*_table(view), *(_plots(view) if plots else ())])
    if page:
        names = ", ".join(path.name for path in paths)
        title = (project.settings.about.title or project.root.resolve().name) if project else names
        write_atomic(page, [html_page(view, title).encode()])
        console.talk(f"wrote {console.one_line(str(page))}")
    return Exit.OK


def _flat(row: CategoryRow) -> dict[str, str | int | float | None]:
    fields = asdict(row)
    splits = fields.pop("splits")
    return {"category": fields.pop("category"), "records": fields.pop("records"), **splits, **fields}


def _table(view: QualityOverview) -> Iterator[str]:
    from curate.base.tables import table

    # A data set that is not divided yet needs no columns of noughts.
    splits = [name for name, number in view.whole.splits.items() if number and number < view.whole.records]
    head = ["records", *splits, "prompt", "longest", "answer", "longest"]
    rows = []
    for row in [*view.categories, view.whole]:
        name = "all" if row is view.whole else console.one_line(row.category or "(none)", 22)
        numbers = [row.median_prompt, row.longest_prompt, row.median_completion, row.longest_completion]
        rows.append(
            [name, *(f"{number:,}" for number in (row.records, *(row.splits[split] for split in splits), *numbers))]
        )
    yield from table(["category", *head], rows)


def _plots(view: QualityOverview) -> Iterator[str]:
    """Yield balance, what goes together, and how the measures are spread, in blocks."""
    from curate.base.tables import bars, table

    for grouping in view.groupings:
        without = f", {grouping.num_without:,} without" if grouping.num_without else ""
        yield ""
        yield f"{grouping.name}: {len(grouping.counts):,}, evenness {grouping.evenness:.2f}{without}"
        counts = list(grouping.counts.items())[:_MOST_BARS]
        yield from _indented(
            bars([console.one_line(n, 30) for n, _ in counts], [c for _, c in counts], width=_WIDTH - 2)
        )
        if len(grouping.counts) > _MOST_BARS:
            yield f"  {len(grouping.counts) - _MOST_BARS:,} more"
    telling = [effect for effect in view.effects if effect.strength != "none"]
    if telling:
        yield ""
        yield "what goes together, from 0 to 1"
        rows = [
            [f"{effect.left} and {effect.right}", f"{effect.size:.2f}", effect.measure, effect.strength]
            for effect in telling[:_MOST_EFFECTS]
        ]
        lines = table(["", "", "", ""], rows)
        next(lines)
        yield from _indented(lines)
    for histogram in view.histograms:
        yield from _histogram(histogram)


def _histogram(histogram: Histogram) -> Iterator[str]:
    from curate.base.tables import bars

    if not histogram.bins:
        return
    without = f"; too short to tell: {histogram.num_without:,}" if histogram.num_without else ""
    yield ""
    yield f"{histogram.name} ({histogram.unit}){without}"
    names = [f"{low:,.10g} to {high:,.10g}" for low, high, _ in histogram.bins]
    yield from _indented(bars(names, [count for _, _, count in histogram.bins], width=_WIDTH - 2))


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
