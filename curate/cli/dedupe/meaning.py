"""Prompts that ask the same in other words: which are compared, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.tables import counted

if TYPE_CHECKING:
    from curate.cli.dedupe.comparison import ComparedRecords
    from curate.similarity.dedupe.semantic import Encoder, Meanings

_COLUMNS = 80


def compare_meanings(compared: ComparedRecords, encoder: Encoder, threshold: float) -> Meanings:
    """Compare the prompt (or raw text) of the first record of each cluster: repeats are collapsed before."""
    # numpy, and an extra.
    from curate.similarity.dedupe.semantic import find_meanings

    clusters = compared.duplicates.clusters
    covered: set[str] = set()
    names: list[str] = []

    def texts() -> Iterator[str]:
        for record in compared.all_records():
            text = record.prompt or record.text
            # A file may have grown since it was read first.
            cluster = clusters.get(record.id)
            if text and cluster is not None and cluster not in covered:
                covered.add(cluster)
                names.append(record.id)
                yield text

    return find_meanings(names, texts(), encoder, threshold)


def render_meanings(
    compared: ComparedRecords,
    meanings: Meanings,
    threshold: float,
    limit: int | None,
    hide: Callable[[str], str],
) -> Iterator[str]:
    """Yield how many prompts were compared by meaning, and the first pairs with what they say.

    ``hide`` gets each prompt and returns what of it may be shown.
    """
    num_clusters = len(set(meanings.clusters.values()))
    how = "every two" if meanings.is_exact else "those in the 16 nearest of many lists, which misses some"
    yield (
        f"by meaning (cosine {threshold:g} on, {how}): {counted(meanings.num_texts, 'prompt')} of different clusters, "
        f"{counted(len(meanings.pairs), 'record')} alike, {counted(num_clusters, 'cluster')}; never dropped"
    )
    if meanings.num_unknown:
        yield f"no token known to the encoder: {counted(meanings.num_unknown, 'prompt')}"
    pairs = sorted(meanings.pairs, key=lambda pair: -pair.score)[:limit]
    records = compared.records({name for pair in pairs for name in (pair.record, pair.other)})
    for pair in pairs:
        left, right = records[pair.record], records[pair.other]
        yield (
            f"{console.visible(left.source.file)}:{left.source.line}: semantic {console.one_line(left.id, 40)} asks "
            f"what {console.one_line(right.id, 40)} asks at {console.visible(right.source.file)}:{right.source.line} "
            f"({pair.score:.2f})"
        )
        yield from (f"    {console.one_line(hide(each.prompt or each.text), _COLUMNS - 4)}" for each in (left, right))
    if hidden := len(meanings.pairs) - len(pairs):
        yield f"{hidden:,} more of the same meaning; --format jsonl gives all pairs"
