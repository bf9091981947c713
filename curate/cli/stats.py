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
    from curate.base.record import Json
    from curate.checks.quality import CategoryRow, Grouping, Histogram, QualityOverview

_MOST_BARS = 12
_MOST_EFFECTS = 8
_WIDTH = 78


@click.command()
@paths_argument
@format_option("text", "json", "jsonl")
@click.option("--plots", is_flag=True, help="Add bars and histograms: balance, lengths, repetition, readability.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write all of it as one HTML page to this file.")
@click.option(
    "--languages",
    type=click.Choice(["sample", "all"]),
    default="sample",
    show_default=True,
    help="Identify those of a sample where records are many, or of all.",
)
@click.option("--show-values", is_flag=True, help="Count also what others answered to what you are still asked.")
def command(
    paths: tuple[Path, ...], form: str, plots: bool, page: Path | None, languages: str, show_values: bool
) -> int:
    """Count the records of each category, by split, with the lengths of prompts and completions in characters.

    Records that have no split yet are counted under "none". PATH is a workspace or record files.

    Balance counts languages too. They need the extra [lang] where records do not name theirs in /meta/language. Where
    more than 10,000 would have to be identified, those are estimated by a sample of 10,000 of them: each share comes
    with its 95 % interval, and the same records give the same sample in whatever order. --languages all identifies all.

    A category that others have answered and that you are still asked (`curate list --help`) is as if they had not.

    Example: curate stats my-data --plots --html stats.html
    """

    from curate.base.storage import write_atomic
    from curate.checks.quality import QualityOverview, html_page
    from curate.checks.quality.languages import SAMPLE_SIZE
    from curate.project.records import Records

    if page is not None and page.resolve() in {path.resolve() for path in paths}:
        raise click.BadParameter("this is one of the files to read", param_hint="--html")
    if languages == "all" and not (page or form == "json" or (plots and form == "text")):
        raise click.UsageError("--languages all needs what shows languages: --plots, --html or --format json.")
    records, project = records_of(paths, show_values=show_values)
    if project and (dropped := project.data.dropped()):
        console.talk(f"{len(dropped):,} more records are dropped; see `curate list --status dropped`")
    if project and project.settings.review.approvals:
        from curate.project.approval import waiting

        num_waiting = sum(1 for _ in waiting(project.data))
        console.talk(f"{num_waiting:,} of them wait for approval; see `curate list --where status:waiting`")
    # The splits of the last dataset are the ones that a trainer sees.
    pins, size = project.data.pins() if project else {}, None if languages == "all" else SAMPLE_SIZE
    view = QualityOverview(records, pins, sample_size=size, figures=Records.of(records).figures())
    if form == "jsonl":
        for row in view.measured_categories:
            print_json(_flat(row))
    elif form == "json":
        print_json(view.as_json(), indent=2)
    else:
        print_lines([*_table(view), *(_plots(view) if plots else ())])
    if page:
        names = ", ".join(path.name for path in paths)
        title = (project.settings.about.title or project.root.resolve().name) if project else names
        write_atomic(page, [html_page(view, title).encode()])
        console.talk(f"wrote {console.one_line(str(page))}")
    return Exit.OK


def _flat(row: CategoryRow) -> dict[str, Json]:
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
    from curate.base.tables import table

    for grouping in view.groupings:
        yield from _grouping(grouping)
    telling = [effect for effect in view.effects if effect.strength != "none"]
    if telling:
        yield ""
        samples = [grouping.sample for grouping in view.groupings if grouping.sample]
        where = f" (language: in {samples[0]})" if samples else ""
        yield f"what goes together, from 0 to 1{where}"
        rows = [
            [f"{effect.left} and {effect.right}", f"{effect.size:.2f}", effect.measure, effect.strength]
            for effect in telling[:_MOST_EFFECTS]
        ]
        lines = table(["", "", "", ""], rows)
        next(lines)
        yield from _indented(lines)
    for histogram in view.histograms:
        yield from _histogram(histogram)


def _grouping(grouping: Grouping) -> Iterator[str]:
    from curate.base.tables import bars

    without = f", {grouping.num_without:,} without" if grouping.num_without else ""
    yield ""
    yield f"{grouping.name}: {len(grouping.counts):,}, evenness {grouping.evenness:.2f}{without}"
    names = list(grouping.counts)[:_MOST_BARS]
    labels = []
    if grouping.sample:
        yield f"  estimated by {grouping.sample}; --languages all reads all"
        yield "  each with its share and the 95 % interval of that (Wilson 1927)"
        labels = [f"{grouping.counts[name]:,}  {grouping.sample.shares[name]}" for name in names]
    numbers = [grouping.counts[name] for name in names]
    yield from _indented(bars([console.one_line(name, 30) for name in names], numbers, labels=labels, width=_WIDTH - 2))
    if len(grouping.counts) > _MOST_BARS:
        yield f"  {len(grouping.counts) - _MOST_BARS:,} more"


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
