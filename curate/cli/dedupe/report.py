"""What was found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import Source
from curate.base.tables import counted
from curate.similarity.dedupe.results import cluster_sizes

if TYPE_CHECKING:
    from curate.cli.dedupe.comparison import ComparedRecords
    from curate.similarity.dedupe.semantic import Meanings

MAX_PAIRS = 20


def report(compared: ComparedRecords, *, is_brief: bool) -> Iterator[str]:
    """Yield how much was found and how; with ``is_brief`` the first pairs too, for those who ask for no more."""
    duplicates = compared.duplicates
    method = duplicates.method
    yield (
        f"{counted(duplicates.num_records, 'record')}: {counted(duplicates.num_exact, 'exact duplicate')}, "
        f"{counted(duplicates.num_near, 'near duplicate')}, {counted(len(duplicates.conflicts), 'conflict')} "
        f"(same question, other answer)"
    )
    yield (
        f"compared by word {method.ngram}-grams from {method.threshold:g} on, which sees copies with up to "
        f"{duplicates.edit_rate:.1%} of their words changed"
    )
    if duplicates.num_boilerplate:
        shared = counted(duplicates.num_boilerplate, "passage")
        yield f"not counted as likeness: {shared} that over 5% of the records have in common"
    if duplicates.num_skipped:
        yield f"cut short, because too many records are alike: {counted(duplicates.num_skipped, 'text')}"
    sizes = sorted(cluster_sizes(duplicates).values(), reverse=True)
    clusters = counted(sum(size > 1 for size in sizes), "cluster")
    yield f"{clusters} of two or more; the largest holds {counted(sizes[0] if sizes else 0, 'record')}"
    if is_brief:
        yield from _first_pairs(compared)


def _first_pairs(compared: ComparedRecords) -> Iterator[str]:
    duplicates = compared.duplicates
    pairs, conflicts = duplicates.pairs[:MAX_PAIRS], duplicates.conflicts[:MAX_PAIRS]
    names = {name for pair in pairs for name in (pair.record, pair.keeper)}
    names |= {name for conflict in conflicts for name in (conflict.record, conflict.other)}
    sources = compared.sources(names)
    for pair in pairs:
        yield _line(pair.record, pair.kind, "repeats", pair.keeper, pair.score, sources)
    for conflict in conflicts:
        yield _line(conflict.record, "conflict", "asks like", conflict.other, conflict.score, sources)
    if hidden := len(duplicates.pairs) - len(pairs) + len(duplicates.conflicts) - len(conflicts):
        yield f"{hidden:,} more; --explain draws the clusters, --format jsonl gives all pairs"


def _line(name: str, kind: str, verb: str, other: str, score: float, sources: dict[str, Source]) -> str:
    here, there = sources[name], sources[other]
    return (
        f"{console.visible(here.file)}:{here.line}: {kind} {console.one_line(name, 40)} {verb} "
        f"{console.one_line(other, 40)} at {console.visible(there.file)}:{there.line} ({score:.2f})"
    )


def json_lines(compared: ComparedRecords, meanings: Meanings | None) -> Iterator[str]:
    """Yield each duplicate, each conflict and each prompt of another's meaning as one JSON object a line."""
    import json

    duplicates = compared.duplicates
    rows: list[tuple[str, str, str, float, str]] = [
        (pair.record, pair.kind, pair.keeper, pair.score, pair.field) for pair in duplicates.pairs
    ]
    rows += [(match.record, "conflict", match.other, match.score, match.field) for match in duplicates.conflicts]
    rows += [
        (match.record, "semantic", match.other, match.score, "prompt") for match in (meanings.pairs if meanings else ())
    ]
    sources = compared.sources({row[0] for row in rows})
    for name, kind, other, score, field in rows:
        yield json.dumps(
            {
                "record": name,
                "kind": kind,
                "other": other,
                "score": round(score, 4),
                "field": field,
                "file": sources[name].file,
                "line": sources[name].line,
                "cluster": meanings.clusters[name] if meanings and kind == "semantic" else duplicates.clusters[name],
            }
        )
