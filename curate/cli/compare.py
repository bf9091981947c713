"""`curate compare`: two models' answers side by side, judged without knowing which model gave which."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import refuse_if, workspace_argument
from curate.cli._output import print_json, print_lines

if TYPE_CHECKING:
    from curate.sessions.blind_comparison import BlindComparison, Choice

_HELP = """\
1  the first is better          2  the second is better
t  a tie                        b  both are bad
s  skip: it comes again         u  take the last verdict back
d  mark the words that differ   r  what the record says
q  quit; everything is saved"""
_CHOICES: dict[str, Choice] = {"1": "left", "2": "right", "t": "tie", "b": "both bad"}


@click.command("compare")
@workspace_argument
@click.option("--blind", "between", nargs=2, required=True, metavar="A B", help="Two models: RUN, or RUN:base.")
@click.option("--plain", is_flag=True, help="Line by line, without a screen; so it is where TERM is dumb.")
@click.option("--by", default="", metavar="NAME", help="Who judges; else CURATE_ANNOTATOR or the user's name.")
@click.option("--report", "is_report", is_flag=True, help="Ask nothing; say which model is preferred so far.")
@click.option("--json", "is_json", is_flag=True, help="With --report: one JSON object, schemas/blind.schema.json.")
@click.option(
    "--pairs", type=click.Path(path_type=Path), metavar="FILE", help="Write preferred answers as preference pairs."
)
def command(
    root: Path, between: tuple[str, str], plain: bool, by: str, is_report: bool, is_json: bool, pairs: Path | None
) -> int:
    """Say which of two models' answers to each validation record is better, without knowing which model gave which.

    The answers are those that the runs recorded. Which one stands first is drawn for each person and record, and the
    names come at the end. Every verdict is saved at once as a decision; several people give agreement. Test records are
    never shown. With --plain, each line of stdin is a command: 1 or 2 is better, t ties, b is both bad, ? lists the
    others.

    --report says how often the second model is preferred by category; who has begun must end first. Verdicts on
    RUN:base and RUN are also written to runs/RUN/human.jsonl, where `train eval RUN` holds its judge beside them.
    --pairs writes records of the shape "preference" to a new
    file; `curate import` takes it. They ask what validation records ask, so a model that is trained on them cannot
    be held against these any more.

    Example: curate compare my-data --blind 2026-11-24-a:base 2026-11-24-a
    """
    refuse_if((is_json and not is_report, "--json is for --report."))
    from curate.cli._lines import has_screen, show

    if not (plain or is_report or pairs) and has_screen():
        show(root, by, "compare", blind=between)
    from curate.project.project import open_project
    from curate.sessions.blind_comparison import BlindComparison, report_document, report_lines

    with open_project(root, by) as project:
        project.load()
        comparison = BlindComparison(project, *between)
        if is_report or pairs:
            comparison.check_blind()
        else:
            console.talk(comparison.counts.sentence())
            _ask(comparison, sys.stdin.buffer)
        if pairs:
            _write_pairs(comparison, pairs)
        is_over = comparison.current is None and not pairs
        if is_report or is_over:
            if is_json:
                print_json(report_document(comparison))
            else:
                print_lines(report_lines(comparison))
        elif not pairs:
            left = counted(len(comparison.pairs) - comparison.num_done, "pair")
            console.talk(f"{left} left; the names and the result come after the last one")
        if path := comparison.write_human():
            console.talk(f"written: {console.one_line(str(path))}")
    return Exit.OK


def _ask(comparison: BlindComparison, source: IO[bytes]) -> None:
    from curate.cli._lines import next_line, tell_undone

    printed, is_marked = "", False
    while pair := comparison.current:
        if printed != pair.record:
            _show(comparison, is_marked=is_marked)
        printed = pair.record
        console.data("better [1, 2, t tie, b both bad, s skip, u undo, ? help, q quit] >")
        line = next_line(source)
        if line is None or line == "q":
            break
        if line in _CHOICES:
            comparison.choose(_CHOICES[line])
            console.talk(f"saved; {comparison.num_done:,} of {len(comparison.pairs):,}")
        elif line in ("", "s"):
            comparison.skip()
            printed = ""
        elif line == "u":
            tell_undone(comparison.undo())
        elif line == "d":
            is_marked, printed = not is_marked, ""
        elif line == "r":
            console.data(console.visible(comparison.reference()))
        else:
            console.talk(_HELP if line == "?" else f"{console.one_line(line, 40)}: no command; ? lists them")


def _show(comparison: BlindComparison, *, is_marked: bool) -> None:
    from curate.project.diff.words import sides_of

    pair = comparison.current
    assert pair is not None, "there is a pair at hand"
    console.data()
    console.data(f"{console.one_line(pair.record, 60)}   {comparison.num_done + 1:,} of {len(comparison.pairs):,}")
    for who, text in comparison.prompt():
        console.data(f"{console.one_line(who, 30).upper()}:")
        console.data(console.visible(text))
    texts = pair.sides
    if is_marked:
        sides = sides_of(*texts, sum(map(len, texts)))
        marked = ["".join(f"[{text}]" if mark == "changed" else text for mark, text in side) for side in sides]
        texts = marked[0], marked[1]
    for number, text in enumerate(texts, 1):
        console.data(f"ANSWER {number}:")
        console.data(console.visible(text))


def _write_pairs(comparison: BlindComparison, path: Path) -> None:
    import json

    from curate.base.storage import write_atomic

    records = list(comparison.preferred())
    write_atomic(path, (json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records), is_new=True)
    num_left = len({line["id"] for line in comparison.verdicts()}) - len(records)
    console.talk(
        f"written: {console.one_line(str(path))}, {counted(len(records), 'preference pair')}; left out: "
        f"{counted(num_left, 'record')} without a better answer. `curate import {console.one_line(str(path))}` takes it"
    )
    console.talk("they ask what validation records ask: hold no model that is trained on them against these")
