"""`curate quality`: which records to look at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import format_option, paths_argument
from curate.cli._output import print_json
from curate.cli._visible import records_of

if TYPE_CHECKING:
    from curate.base.record import Record
    from curate.project.project import Project

_KEYS = ("repetition", "readability", "short", "long", "suspect")
Ranked = tuple[float, "Record", str]


@click.command("quality")
@paths_argument
@click.option("--sort", "key", type=click.Choice(_KEYS), default="repetition", show_default=True, help="What by.")
@click.option("--category", multiple=True, help="Only records of this category; may be repeated.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many to show.")
@format_option("text", "jsonl")
@click.option("--show-values", is_flag=True, help="Show personal data, secrets and others' answers as they are.")
def command(
    paths: tuple[Path, ...],
    key: str,
    category: tuple[str, ...],
    top: int,
    form: str,
    show_values: bool,
) -> int:
    """List the records that stand out by one measure, the most striking first. It orders; it never drops.

    repetition: share of repeated 4-grams in the answer. readability: LIX, hardest first. short, long: characters of
    the answer. suspect: the category that the other records contradict (L405; extra [quality]).

    A category that others have answered and that you are still asked (`curate list --help`) is as if they had not.

    Example: curate quality my-data --sort suspect --top 50
    """
    # As this annotator may see them: an order by category would tell others' answers.
    records, project = records_of(paths, show_values=show_values)
    chosen = [record for record in records if not category or record.category in category]
    ranked, unjudged = _ranked(chosen, key, project)
    if form == "jsonl":
        _as_json(ranked[:top], key)
    else:
        from curate.checks.spans import with_values_hidden

        _as_text(ranked[:top], key, str if show_values else with_values_hidden)
    if len(ranked) > top:
        console.talk(f"not shown: {counted(len(ranked) - top, 'record')}; --top shows more")
    if unjudged:
        console.talk(unjudged)
    return Exit.OK


def _as_json(ranked: Sequence[Ranked], key: str) -> None:

    for value, record, note in ranked:
        row = {
            "id": record.id, "file": record.source.file, "line": record.source.line, "category": record.category,
            key: round(value, 6), "note": note,
        }  # fmt: skip
        print_json(row)


def _as_text(ranked: Sequence[Ranked], key: str, hide: Callable[[str], str]) -> None:
    for value, record, note in ranked:
        location = f"{console.visible(record.source.file)}:{record.source.line}"
        # Hidden before it is cut: a value that the cut goes through would not be known for one.
        text, answer = hide(record.prompt or record.text), hide(record.completion)
        number = f"{value:,.0f}" if key in ("short", "long") else f"{value:.2f}"
        console.data(
            f"{number:>7}  {location} {console.one_line(record.id, 40)} {console.one_line(note or record.category, 60)}"
        )
        console.data(f"         {console.one_line(text, 60)} -> {console.one_line(answer, 40)}")


def _ranked(records: Sequence[Record], key: str, project: Project | None) -> tuple[list[Ranked], str]:
    """Return the records that the measure can judge, the most striking first, and what to say of the others."""
    if key == "suspect":
        return _suspects(records, project)
    from curate.checks.quality import lix
    from curate.checks.repetition import repetition

    measures: dict[str, Callable[[str], float | None]] = {
        "repetition": repetition, "readability": lix, "short": len, "long": len,
    }  # fmt: skip
    values: list[Ranked] = []
    for record in records:
        value = measures[key](record.completion or record.text)
        if value is not None:
            values.append((float(value), record, ""))
    values.sort(key=lambda value: value[0] if key == "short" else -value[0])
    # What cannot be judged is in no order, and is counted instead.
    lost = len(records) - len(values)
    return values, f"too short to judge, or in no alphabet: {counted(lost, 'record')}" if lost else ""


def _suspects(records: Sequence[Record], project: Project | None) -> tuple[list[Ranked], str]:
    from curate.checks.quality.suspects import render_suspects, suspects_of
    from curate.schema.settings import DedupeSettings

    suspects = suspects_of(records, project.settings.dedupe if project else DedupeSettings())
    ranked: list[Ranked] = []
    for suspect in suspects.suspects:
        given, proposed = (
            f"{suspect.given} ({suspect.given_probability:.2f})",
            f"{suspect.proposed} ({suspect.proposed_probability:.2f})",
        )
        ranked.append((suspect.certainty, records[suspect.row], f"says {given}, looks like {proposed}"))
    return ranked, render_suspects(suspects)
