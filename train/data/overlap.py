"""What texts share: what training texts give away of a test set, and a part of them that repeats nothing of the rest.

Thirteen words are what Brown et al. 2020, arXiv:2005.14165, appendix C, take for a sign of contamination.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from train.data.dataset import Row, reasoning_of

NUM_WORDS = 13
_WORD = re.compile(r"\w+")


def text_of_row(row: Row) -> str:
    """Return all that a row says, its answers that were not chosen left out."""
    return row.text or "\n".join(message["content"] or "" for message in row.messages or ())


def flag_exam_copies(rows: Sequence[Row], exam: Sequence[Row]) -> list[bool]:
    """Return for each of ``rows`` whether ``exam`` has it: text, calls and reasoning, white space aside."""
    exam_digests = {_digest(row) for row in exam}
    return [_digest(row) in exam_digests for row in rows]


def find_contaminated(rows: Sequence[Row], exam: Sequence[Row]) -> list[int]:
    """Return the indices of the rows of ``exam`` that share thirteen consecutive words with one of ``rows``."""
    exam_indices: dict[int, list[int]] = {}
    for index, row in enumerate(exam):
        for ngram in set(_ngrams(row)):
            exam_indices.setdefault(ngram, []).append(index)
    contaminated: set[int] = set()
    for row in rows:
        for ngram in _ngrams(row):
            contaminated.update(exam_indices.get(ngram, ()))
    return sorted(contaminated)


def _digest(row: Row) -> bytes:
    parts = [text_of_row(row)]
    for message in row.messages or ():
        parts += [reasoning_of(message), json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""]
    text = " ".join(" ".join(parts).split())
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _ngrams(row: Row) -> Iterator[int]:
    words = _WORD.findall(text_of_row(row).lower())
    return (hash(tuple(words[n : n + NUM_WORDS])) for n in range(len(words) - NUM_WORDS + 1))


def nested_subset(names: Sequence[Sequence[str]], share: float, seed: int) -> list[int]:
    """Return the indices, in order, of about ``share`` (0 to 1) of the records of each category.

    ``names`` has (id, category, cluster) of each record. Clusters are taken whole, in the order of a hash of ``seed``
    and cluster, until a category has as near its share as whole clusters allow, and one at the least. So what a smaller
    share takes, a larger one takes too; a cluster with records in two categories comes with both.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for _, category, cluster in names:
        sizes[category][cluster] += 1
    order = {
        cluster: hashlib.sha256(f"{seed} {cluster}".encode("utf-8", "surrogatepass")).digest()
        for cluster in {name[2] for name in names}
    }
    chosen: set[str] = set()
    for counts in sizes.values():
        target, num_taken = share * counts.total(), 0
        for cluster in sorted(counts, key=order.__getitem__):
            # Half a cluster over is as near as half a cluster under; the first one always comes.
            if num_taken and num_taken + counts[cluster] / 2 > target:
                break
            chosen.add(cluster)
            num_taken += counts[cluster]
    return [index for index, name in enumerate(names) if name[2] in chosen]
