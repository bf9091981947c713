"""Records as columns: who they are, what they say as tokens, and keys that are the same for the same content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice

import numpy as np
import orjson

from curate.base.hashing import Hashes, Indices
from curate.base.record import Record, Source
from curate.similarity.dedupe.blocks import block_of
from curate.similarity.dedupe.kernels import Kernels
from curate.similarity.dedupe.pairs import Sides
from curate.similarity.dedupe.shingles import Field, Spans

# Records that are cleaned together: few enough for the processor's cache.
BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Columns:
    """One row a record, in the order of the records."""

    exact: Hashes
    """Key of what a record teaches, [N, 2]."""
    question: Hashes
    """Key of its question, [N, 2]: prompt, roles and tools."""
    answer: Hashes
    """Key of its completion, [N, 2]."""
    whole: Hashes
    """Key of all of it, [N, 2]."""
    forms: Hashes
    """Keys of all but its texts, [N, 2]: of the question (roles, tools), and of all with the turns after the answer."""
    bounds: Indices
    """Where its tokens are, [N, 5]: start, end of the prompt, start and end of the completion, end."""
    files: Indices
    """Number of the file it was read from."""
    lines: Indices
    """Line in that file."""

    def take(self, rows: Indices) -> Columns:
        """Return the rows ``rows``."""
        return Columns(**{name: getattr(self, name)[rows] for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Corpus:
    """The records to compare. The tokens may lie in a file, and all else is small."""

    ids: Sequence[str]
    file_names: Sequence[str]
    columns: Columns
    tokens: Hashes

    def __len__(self) -> int:
        return len(self.ids)

    def source(self, row: int) -> Source:
        """Return where the record ``row`` was read."""
        return Source(self.file_names[int(self.columns.files[row])], int(self.columns.lines[row]))

    def take(self, rows: Indices) -> Corpus:
        """Return the records ``rows``, in that order."""
        return Corpus([self.ids[row] for row in rows.tolist()], self.file_names, self.columns.take(rows), self.tokens)

    def spans(self, name: Field) -> Spans:
        """Return the text of one field of each record."""
        first, last = {"record": (0, 4), "prompt": (0, 1), "completion": (2, 3)}[name]
        bounds = self.columns.bounds
        return Spans(self.tokens, np.ascontiguousarray(bounds[:, first]), np.ascontiguousarray(bounds[:, last]))

    def sides(self) -> Sides:
        """Return what is compared part by part."""
        return Sides(self.spans("prompt"), self.spans("completion"), self.columns.forms)

    def keys(self, name: Field) -> Hashes:
        """Return a key of one field's text of each record: equal keys mean equal texts."""
        columns = self.columns
        return {"record": columns.whole, "prompt": columns.question, "completion": columns.answer}[name]


def gather(records: Iterable[Record], kernels: Kernels) -> Corpus:
    """Read ``records`` once, and keep of each its id and its numbers."""
    return joined(corpora(records, kernels))


def corpora(
    records: Iterable[Record], kernels: Kernels, on_progress: Callable[[int], None] = lambda _: None
) -> Iterator[Corpus]:
    """Yield a corpus of each block of ``records``; the first one may be empty. ``on_progress`` is told their number."""
    source, done = iter(records), 0
    block = list(islice(source, BLOCK))
    while True:
        yield _corpus_of(block, kernels)
        done += len(block)
        on_progress(done)
        if not (block := list(islice(source, BLOCK))):
            return


def joined(parts: Iterable[Corpus], store: Callable[[Hashes], None] | None = None) -> Corpus:
    """Join one corpus or more to one, in their order. With a ``store`` that takes the tokens it has none itself."""
    ids: list[str] = []
    numbers: dict[str, int] = {}
    columns: list[Columns] = []
    tokens: list[Hashes] = []
    num_tokens = 0
    for part in parts:
        files = np.array([numbers.setdefault(name, len(numbers)) for name in part.file_names], np.int64)
        columns.append(replace(part.columns, bounds=part.columns.bounds + num_tokens, files=files[part.columns.files]))
        ids += part.ids
        num_tokens += len(part.tokens)
        if store is None:
            tokens.append(part.tokens)
        else:
            store(part.tokens)
    whole = Columns(**{name: np.concatenate([getattr(each, name) for each in columns]) for name in Columns.__slots__})
    return Corpus(ids, list(numbers), whole, np.concatenate(tokens or [np.zeros(0, np.uint64)]))


def digest_of(records: Iterable[Record]) -> str:
    """Return a digest of all that `gather` takes from ``records``, in their order."""
    digest = blake2b(digest_size=16)
    for record in records:
        said = (record.messages, record.tools) if record.messages else (record.system, record.prompt, record.completion)
        location = (record.id, record.source.file, record.source.line)
        digest.update(orjson.dumps((*location, record.text, record.prompt_parts, said)))
    return digest.hexdigest()


def _corpus_of(records: Sequence[Record], kernels: Kernels) -> Corpus:
    numbers: dict[str, int] = {}
    files = np.array([numbers.setdefault(record.source.file, len(numbers)) for record in records], np.int64)
    lines = np.array([record.source.line for record in records], np.int64)
    block = block_of(records, kernels)
    tokens, bounds = block.tokens
    columns = Columns(*block.keys, bounds=bounds, files=files, lines=lines)
    return Corpus([record.id for record in records], list(numbers), columns, tokens)
