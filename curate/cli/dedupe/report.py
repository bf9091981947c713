"""What was found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import Source
from curate.base.tables import counted
from curate.similarity.dedupe.results import cluster_sizes

if TYPE_CHECKING:
    from curate.cli.dedupe.compared import Compared
    from curate.similarity.dedupe.semantic import Meanings

SHOWN = 20


def report(compared: Compared, *, is_brief: bool) -> Iterator[str]:
    """Yield how much was found and how; with ``is_brief`` the first pairs too, for those who ask for no more."""
    found = compared.found
    method = found.method
    yield (
        f"{counted(found.num_records, 'record')}: {counted(found.num_exact, 'exact duplicate')}, "
        f"{counted(found.num_near, 'near duplicate')}, {counted(len(found.conflicts), 'conflict')} "
        f"(same question, other answer)"
    )
    yield (
        f"compared by word {method.ngram}-grams from {method.threshold:g} on, which sees copies with up to "
        f"{found.edit_rate:.1%} of their words changed"
    )
    if found.num_boilerplate:
        shared = counted(found.num_boilerplate, "passage")
        yield f"not counted as likeness: {shared} that over 5% of the records have in common"
    if found.num_skipped:
        yield f"not compared to the end, for their crowd is too large: {counted(found.num_skipped, 'text')}"
    sizes = sorted(cluster_sizes(found).values(), reverse=True)
    clusters = counted(sum(size > 1 for size in sizes), "cluster")
    yield f"{clusters} of two or more; the largest holds {counted(sizes[0] if sizes else 0, 'record')}"
    if is_brief:
        yield from _first_pairs(compared)


def _first_pairs(compared: Compared) -> Iterator[str]:
    found = compared.found
    pairs, conflicts = found.pairs[:SHOWN], found.conflicts[:SHOWN]
    names = {name for pair in pairs for name in (pair.record, pair.keeper)}
    names |= {name for conflict in conflicts for name in (conflict.record, conflict.other)}
    places = compared.places(names)
    for pair in pairs:
        yield _line(pair.record, pair.kind, "repeats", pair.keeper, pair.score, places)
    for conflict in conflicts:
        yield _line(conflict.record, "conflict", "asks like", conflict.other, conflict.score, places)
    if hidden := len(found.pairs) - len(pairs) + len(found.conflicts) - len(conflicts):
        yield f"{hidden:,} more; --explain draws the clusters, --format jsonl gives all pairs"


def _line(name: str, kind: str, verb: str, other: str, score: float, places: dict[str, Source]) -> str:
    here, there = places[name], places[other]
    return (
        f"{console.visible(here.file)}:{here.line}: {kind} {console.one_line(name, 40)} {verb} "
        f"{console.one_line(other, 40)} at {console.visible(there.file)}:{there.line} ({score:.2f})"
    )


def json_lines(compared: Compared, meanings: Meanings | None) -> Iterator[str]:
    """Yield each duplicate, each conflict and each prompt of another's meaning as one JSON object a line."""
    import json

    found = compared.found
    rows: list[tuple[str, str, str, float, str]] = [
        (pair.record, pair.kind, pair.keeper, pair.score, pair.field) for pair in found.pairs
    ]
    rows += [(one.record, "conflict", one.other, one.score, one.field) for one in found.conflicts]
    rows += [(one.record, "semantic", one.other, one.score, "prompt") for one in (meanings.pairs if meanings else ())]
    places = compared.places({row[0] for row in rows})
    for name, kind, other, score, field in rows:
        yield json.dumps(
            {
                "record": name,
                "kind": kind,
                "other": other,
                "score": round(score, 4),
                "field": field,
                "file": places[name].file,
                "line": places[name].line,
                "cluster": meanings.clusters[name] if meanings and kind == "semantic" else found.clusters[name],
            }
        )
