"""`curate leaks`: what exams have in common with the records that are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.base import console
from curate.base.record import CurateError, Exit, Json, Record, Severity
from curate.base.tables import counted
from curate.cli._options import format_option, paths_argument
from curate.cli._output import print_json, print_lines

if TYPE_CHECKING:
    from curate.project.plan import ExamLeaks
    from curate.similarity.leaks import Leak
    from curate.similarity.leaks.reading import RowsRead

_MAX_PAIRS = 20


@click.command()
@paths_argument
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An exam: a benchmark or test set.",
)
@click.option("--map", "mapping", default="", metavar="FIELD=COLUMN,...", help="How the files of --against are read.")
@click.option("--ngram", type=click.IntRange(3, 64), help="Words in a row that two long texts must share.")
@click.option("--max-prompts", type=click.IntRange(1), help="A passage in more prompts than this is a template.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "never"]),
    default="error",
    show_default=True,
    help="What makes it exit 1: errors are what an export refuses.",
)
@click.option("--explain", is_flag=True, help="Print every pair with the passage that both share.")
@format_option("text", "json", "jsonl")
def command(
    paths: tuple[Path, ...],
    against: tuple[Path, ...],
    mapping: str,
    ngram: int | None,
    max_prompts: int | None,
    fail_on: str,
    explain: bool,
    form: str,
) -> int:
    """Find exam records that the training records give away: between splits, and against benchmarks.

    PATH is a workspace or record files. Each exam record is shown with the training record that gives the most of it
    away: one that is known whole or nearly is an error, a passage in common a warning. Passages that stand in many
    prompts are templates and do not count. Without --against a workspace is compared with the files that
    [leaks].against names, and its splits with one another; then it exits 1 where `curate export` refuses because of
    leaks.

    Example: curate leaks my-data --against benchmark.jsonl --explain
    """
    options = {name: value for name, value in (("ngram", ngram), ("max_prompts", max_prompts)) if value is not None}
    compared = _compared(list(paths) or [Path()], against, mapping, options)
    if form == "text":
        print_lines(_report(compared, explain))
    else:
        _print_json(compared, form, explain)
    failing = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[fail_on]
    is_failed = any(severity in failing for comparison in compared for severity in comparison.severities)
    return Exit.FINDINGS if is_failed else Exit.OK


def _compared(
    roots: Sequence[Path], against: Sequence[Path], mapping: str, options: Mapping[str, Any]
) -> list[ExamLeaks]:
    from curate.formats.importers.mapping import parse_map
    from curate.project.notices import open_and_tell
    from curate.project.plan import (
        LeakJudge,
        by_own_split,
        compare_all,
        compare_splits,
        judge_of,
        plan,
    )
    from curate.schema.settings import LeakSettings, Settings
    from curate.similarity.leaks.reading import read_any

    columns = parse_map(mapping) if mapping else None
    project = open_and_tell(roots[0]) if len(roots) == 1 and roots[0].is_dir() else None
    shape, root = (project.shape, project.root) if project else (None, None)

    def read(path: Path, *, is_exam: bool) -> RowsRead:
        reading = read_any(path, shape, mapping=columns, root=root) if is_exam else read_any(path)
        _tell(str(path), reading)
        return reading

    compared: list[ExamLeaks] = []
    # With a seed the records are divided as an export would divide them; without one, by the splits that they have.
    is_planned = project is not None and project.settings.split.seed is not None
    if project:
        judge, settings = judge_of(project.data), replace(project.settings.leaks, **options)
        nothing = f"{roots[0]} has one split only and names no benchmark"
        # To compare and then report nothing would look like a clean exam.
        if not judge.is_wanted("P501", "P504", "P505"):
            raise _nothing(f"{roots[0]}: curate.toml turns P501, P504 and P505 off")
        if is_planned:
            planned = plan(project.data, settings)
            by_split, compared = planned.by_split, list(planned.compared)
            console.talk("records are split as in the next dataset, without duplicates")
        else:
            by_split = by_own_split(project.data.records())
            compared = [] if against else compare_all(project.data, by_split, settings)
    else:
        judge, settings = LeakJudge(Settings()), LeakSettings(**options)
        nothing = "the records of these files are all of one split"
        by_split = by_own_split([record for path in roots for record in read(path, is_exam=False).records])
        compared = [] if against else compare_splits(by_split, settings, judge)
    if against:
        exams = [read(path, is_exam=True) for path in against]
        return compare_splits({"train": by_split["train"]}, settings, judge, exams)
    for comparison in compared:
        if comparison.reading:
            _tell(comparison.exam, comparison.reading)
    if not compared:
        raise _nothing(nothing)
    return compared


def _tell(name: str, reading: RowsRead) -> None:
    unread = f"; {counted(reading.num_unread, 'row')} could not be read" if reading.num_unread else ""
    read = counted(len(reading.records), "record")
    console.talk(f"{console.one_line(name)}: {read}, read as {console.one_line(reading.description, 60)}{unread}")


def _nothing(reason: str) -> CurateError:
    return CurateError(
        "E964 nothing-to-compare",
        f"there is no exam: {reason}",
        "Name one with --against FILE, or give the records a split with `curate split --apply`.",
    )


def _report(compared: Sequence[ExamLeaks], explain: bool) -> list[str]:
    from curate.similarity.leaks import LEVELS

    lines: list[str] = []
    hidden = 0
    for comparison in compared:
        result, name = comparison.leaks, f"the {comparison.exam} split" if comparison.split else comparison.exam
        counts = ", ".join(f"{number:,} {level}" for level, number in result.counts().items())
        sizes = f"{counted(result.num_exam, 'record')} against {counted(result.num_pool, 'training record')}"
        lines.append(f"{console.one_line(name)}: {sizes}: {counts}")
        if comparison.num_excused:
            lines.append(f"not counted, as the settings or the records ask: {counted(comparison.num_excused, 'pair')}")
        if result.num_templates:
            lines.append(f"ignored {counted(result.num_templates, 'passage')} that stand in many prompts (templates)")
        # The worst first, as only the first twenty are printed.
        leaks = sorted(result.leaks, key=lambda leak: LEVELS.index(leak.worst.level))
        for leak in leaks if explain else leaks[:_MAX_PAIRS]:
            lines += [_pair(leak), *(_passage_lines(leak) if explain else ())]
        hidden += 0 if explain else max(0, len(leaks) - _MAX_PAIRS)
    return [*lines, f"{hidden:,} more; --explain prints all of them"] if hidden else lines


def _pair(leak: Leak) -> str:
    worst, also = leak.worst, f"; {counted(len(leak.also), 'other record')} too" if leak.also else ""
    return (
        f"{_spot(leak.exam)} <- {_spot(leak.source)}: {worst.level} {worst.part}, "
        f"{worst.coverage:.0%} of {counted(worst.num_words, 'word')}, {worst.run} in a row{also}"
    )


def _passage_lines(leak: Leak) -> list[str]:
    """Return the shared passage, and who else gives the same exam record away."""
    also = [f"    also {_spot(other.source)}: {other.worst.level} {other.worst.part}" for other in leak.also]
    return [f"    {console.one_line(leak.worst.passage, 60)}", *also]


def _spot(record: Record) -> str:
    return f"{console.visible(record.source.file)}:{record.source.line}"


def _print_json(compared: Sequence[ExamLeaks], form: str, explain: bool) -> None:

    leaks = [
        _object(comparison, leak, severity, explain)
        for comparison in compared
        for leak, severity in zip(comparison.leaks.leaks, comparison.severities, strict=True)
    ]
    if form == "jsonl":
        for leak in leaks:
            print_json(leak)
        return
    exams = [
        {
            "exam": comparison.exam,
            "records": comparison.leaks.num_exam,
            "trained": comparison.leaks.num_pool,
            "templates": comparison.leaks.num_templates,
            "unread": comparison.reading.num_unread if comparison.reading else 0,
            "counts": comparison.leaks.counts(),
            "errors": comparison.num_errors,
            "excused": comparison.num_excused,
        }
        for comparison in compared
    ]
    print_json({"version": 1, "exams": exams, "leaks": leaks}, indent=2)


def _object(comparison: ExamLeaks, leak: Leak, severity: Severity, explain: bool) -> dict[str, Json]:
    parts = [
        {
            "part": part.part,
            "level": part.level,
            "coverage": round(part.coverage, 4),
            "run": part.run,
            "words": part.num_words,
        }
        | ({"passage": part.passage} if explain else {})
        for part in leak.overlaps
    ]
    return {
        "exam": comparison.exam,
        "level": leak.worst.level,
        "severity": severity,
        "record": _source_object(leak.exam),
        "source": _source_object(leak.source),
        "parts": parts,
        "also": [_source_object(other.source) for other in leak.also],
    }


def _source_object(record: Record) -> dict[str, Json]:
    return {"file": console.spelled(record.source.file), "line": record.source.line, "record": record.id}
