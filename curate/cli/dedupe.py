"""`curate dedupe`: find what repeats itself, and leave it out when asked to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate import say
from curate.record import CurateError, Exit
from curate.table import counted

if TYPE_CHECKING:
    from curate.dedupe import Duplicates, Keep
    from curate.record import Record
    from curate.settings import DedupeSettings
    from curate.workspace import Workspace

_SHOWN = 20


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True), help="Similarity from which two are near.")
@click.option("--preset", type=click.Choice(["short", "fineweb", "nemo"]), help="How texts are cut and compared.")
@click.option("--apply", "keep", type=click.Choice(["keep-first", "keep-longest"]), help="Drop duplicates by decision.")
@click.option("--dry-run", is_flag=True, help="With --apply: say what would be dropped, and write nothing.")
@click.option("--explain", is_flag=True, help="Print each pair with both prompts.")
@click.option("--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
def command(
    paths: tuple[Path, ...],
    threshold: float | None,
    preset: str | None,
    keep: str | None,
    dry_run: bool,
    explain: bool,
    form: str,
) -> int:
    """Find records of a workspace, or of record files, that repeat one another.

    A near duplicate is alike in its prompt, its completion and as a whole. The same question with another answer is a
    conflict: it is shown and never dropped. Decisions go to the journal; the record files stay as they are.

    Example: curate dedupe my-data --apply keep-first --dry-run
    """
    from curate.dedupe import find_duplicates, preferred

    workspace, records, settings = _input(paths, threshold, preset)
    if keep and workspace is None:
        raise click.UsageError("--apply writes decisions, which needs a workspace; make one with `curate init`.")
    pins = workspace.pins() if workspace else {}
    order: Keep = "longest" if keep == "keep-longest" else "first"
    found = find_duplicates(preferred(records, order, pins), settings)
    by_id = {record.id: record for record in records}
    for line in _json_lines(found, by_id) if form == "jsonl" else _report(found, by_id, explain):
        say.data(line)
    if keep and workspace is not None:
        _apply(workspace, found, dry_run)
    return Exit.OK


def _input(
    paths: tuple[Path, ...], threshold: float | None, preset: str | None
) -> tuple[Workspace | None, Sequence[Record], DedupeSettings]:
    from curate.settings import DedupeSettings

    asked = {key: value for key, value in (("threshold", threshold), ("preset", preset)) if value is not None}
    roots = list(paths) or [Path()]
    if len(roots) == 1 and roots[0].is_dir():
        from curate.workspace.opened import open_and_tell

        workspace = open_and_tell(roots[0])
        return workspace, workspace.records(), workspace.settings.dedupe.model_copy(update=asked)
    from curate.workspace.loose import loose_records

    return None, loose_records(roots), DedupeSettings.model_validate(asked)


def _report(found: Duplicates, by_id: dict[str, Record], explain: bool) -> list[str]:
    method = found.method
    lines = [
        f"{counted(found.num_records, 'record')}: {counted(found.num_exact, 'exact duplicate')}, "
        f"{counted(found.num_near, 'near duplicate')}, {counted(len(found.conflicts), 'conflict')} "
        f"(same question, other answer)",
        f"compared by {method.unit} {method.ngram}-grams from {method.threshold:g} on, which sees copies with up to "
        f"{found.edit_rate:.1%} of their {method.unit}s changed",
    ]
    if found.num_boilerplate:
        shared = counted(found.num_boilerplate, "passage")
        lines.append(f"not counted as likeness: {shared} that over 5% of the records have in common")
    if found.num_skipped:
        lines.append(f"not compared to the end, for their crowd is too large: {counted(found.num_skipped, 'text')}")
    sizes = sorted(_cluster_sizes(found).values(), reverse=True)
    largest = sizes[0] if sizes else 0
    clusters = counted(sum(size > 1 for size in sizes), "cluster")
    lines.append(f"{clusters} of two or more; the largest holds {counted(largest, 'record')}")
    shown = None if explain else _SHOWN
    for pair in found.pairs[:shown]:
        lines.append(_line(by_id[pair.record], pair.kind, "repeats", by_id[pair.kept], pair.score))
        lines += _prompts(by_id[pair.record], by_id[pair.kept]) if explain else []
    for conflict in found.conflicts[:shown]:
        lines.append(_line(by_id[conflict.record], "conflict", "asks like", by_id[conflict.other], conflict.score))
        lines += _prompts(by_id[conflict.record], by_id[conflict.other]) if explain else []
    hidden = sum(max(0, len(part) - _SHOWN) for part in (found.pairs, found.conflicts))
    return lines if explain or not hidden else [*lines, f"{hidden:,} more; --explain prints all of them"]


def _cluster_sizes(found: Duplicates) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name in found.clusters.values():
        sizes[name] = sizes.get(name, 0) + 1
    return sizes


def _line(record: Record, kind: str, verb: str, other: Record, score: float) -> str:
    return (
        f"{say.visible(record.source.file)}:{record.source.line}: {kind} {say.one_line(record.id, 40)} {verb} "
        f"{say.one_line(other.id, 40)} at {say.visible(other.source.file)}:{other.source.line} ({score:.2f})"
    )


def _prompts(record: Record, other: Record) -> list[str]:
    pair = (record, other)
    return [f"    {say.one_line(each.prompt or each.text, 70)} | {say.one_line(each.completion, 40)}" for each in pair]


def _json_lines(found: Duplicates, by_id: dict[str, Record]) -> list[str]:
    import json

    rows: list[tuple[str, str, str, float, str]] = [
        (pair.record, pair.kind, pair.kept, pair.score, pair.field) for pair in found.pairs
    ]
    rows += [(one.record, "conflict", one.other, one.score, one.field) for one in found.conflicts]
    return [
        json.dumps(
            {
                "record": name,
                "kind": kind,
                "other": other,
                "score": round(score, 4),
                "field": field,
                "file": by_id[name].source.file,
                "line": by_id[name].source.line,
                "cluster": found.clusters[name],
            },
            ensure_ascii=False,
        )
        for name, kind, other, score, field in rows
    ]


def _apply(workspace: Workspace, found: Duplicates, dry_run: bool) -> None:
    from curate.journal import Decision

    wanted = workspace.wanted()
    codes = {"exact": "D301", "near": "D302"}
    decisions = [
        Decision("drop", pair.record, fields={"reason": f"{codes[pair.kind]}: repeats {pair.kept} ({pair.score:.2f})"})
        for pair in found.pairs
        if pair.record not in wanted
    ]
    spared = len(found.pairs) - len(decisions)
    note = f"; {spared:,} were restored by someone and stay" if spared else ""
    if dry_run:
        say.talk(f"would drop {counted(len(decisions), 'record')}{note}; nothing was written")
        return
    if found.num_records and len(decisions) == found.num_records:
        raise CurateError("E917 nothing-to-export", "that would drop every record")
    workspace.apply(decisions)
    say.talk(f"dropped {counted(len(decisions), 'record')}{note}, by decisions in the journal that can be taken back")
