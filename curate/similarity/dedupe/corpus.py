"""Records as columns: who they are, what they say as tokens, and keys that are the same for the same content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from curate.base.hashing import Hashes, Indices
from curate.base.record import Record
from curate.similarity.dedupe.blocks import Keys, block_of
from curate.similarity.dedupe.shingles import Field, Spans, ends_of

# Records that are cleaned together: few enough for the processor's cache.
BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Corpus:
    """The records to compare. The tokens may lie in a file, and all else is small."""

    ids: Sequence[str]
    columns: Keys
    bounds: Indices
    """Where the tokens of each are, [N, 6]: its first one, the first of the prompt behind a system message, and where
    question, completion, raw text and what follows (later turns, reasoning) end."""
    tokens: Hashes

    def __len__(self) -> int:
        return len(self.ids)

    def spans(self, name: Field) -> Spans:
        """Return the text of one field of each record; the prompt is with the system message."""
        return self.between(*{"record": (0, 4), "prompt": (0, 2), "completion": (2, 3)}[name])

    def between(self, first: int, last: int) -> Spans:
        """Return the tokens between two of the bounds of each record."""
        starts, ends = (np.ascontiguousarray(self.bounds[:, at]) for at in (first, last))
        return Spans(self.tokens, starts, ends)

    def keys(self, name: Field) -> Hashes:
        """Return a key of one field's text of each record: equal keys mean equal texts."""
        columns = self.columns
        return {"record": columns.whole, "prompt": columns.question, "completion": columns.answer}[name]


def gather(records: Sequence[Record]) -> Corpus:
    """Return what is compared of ``records``."""
    blocks = (block_of(list(records[low : low + BLOCK])) for low in range(0, max(1, len(records)), BLOCK))
    ids, keys, texts = zip(*((block.ids, block.keys, block.tokens) for block in blocks), strict=True)
    begins = ends_of(np.array([len(tokens) for tokens, _ in texts]))
    bounds = [part + begin for (_, part), begin in zip(texts, begins.tolist()[:-1], strict=True)]
    columns = Keys(*map(np.concatenate, zip(*keys, strict=True)))
    return Corpus(list(chain(*ids)), columns, np.concatenate(bounds), np.concatenate([tokens for tokens, _ in texts]))
