"""Records as columns: who they are, what they say as tokens, and keys that are the same for the same content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice

import numpy as np
import orjson

from curate.base.hashing import MIX_A, STEP, Hashes, Indices, mix
from curate.base.record import Record, Source
from curate.schema.shape import record_parts
from curate.similarity.dedupe.kernels import Cleaned
from curate.similarity.dedupe.pairs import Sides
from curate.similarity.dedupe.shingles import BREAK, Field, Spans, spaced, storable

# Records that are cleaned together: few enough for the processor's cache.
BLOCK = 1024

Cleaner = Callable[[Sequence[str]], Cleaned]


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


def folded(state: Hashes, key: Hashes) -> Hashes:
    """Return the keys ``state``, [N, 2], with ``key`` told after them."""
    first = mix(state[:, 0] * np.uint64(STEP) + key[:, 0])
    second = mix(state[:, 1] * np.uint64(MIX_A) + key[:, 1] + (first >> np.uint64(32)))
    return np.stack([first, second], axis=1)


def gather(records: Iterable[Record], cleaner: Cleaner) -> Corpus:
    """Read ``records`` once, and keep of each its id and its numbers."""
    return joined(corpora(records, cleaner))


def corpora(
    records: Iterable[Record], cleaner: Cleaner, on_progress: Callable[[int], None] = lambda _: None
) -> Iterator[Corpus]:
    """Yield a corpus of each block of ``records``; the first one may be empty. ``on_progress`` is told their number."""
    source, done = iter(records), 0
    block = list(islice(source, BLOCK))
    while True:
        yield _corpus_of(block, cleaner)
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


def _corpus_of(records: Sequence[Record], cleaner: Cleaner) -> Corpus:
    parts = [record_parts(record) for record in records]
    texts = storable([text for each in parts for text in each.texts])
    counts = np.array([len(each.texts) for each in parts], np.int64)
    question_counts = np.array([each.num_question_texts for each in parts], np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int64)
    cleaned = cleaner(texts)
    tokens, bounds = _words(texts, cleaned, cleaner, starts, question_counts)
    ones, keys = np.ones(len(parts), np.int64), cleaned.keys
    question_marks, marks = (
        np.frombuffer(b"".join(side), np.uint64).reshape(-1, 2)
        for side in ([each.question_mark for each in parts], [each.mark for each in parts])
    )
    answered_keys = _folded_from(np.zeros_like(marks), keys, starts + question_counts, ones)
    question_keys = _folded_from(question_marks, keys, starts, question_counts)
    # What follows the answer is compared by its key alone.
    forms = _folded_from(marks, keys, starts + question_counts + 2, counts - question_counts - 2)
    text_keys = keys[starts + question_counts + 1]
    whole = folded(folded(folded(forms, question_keys), answered_keys), text_keys)
    numbers: dict[str, int] = {}
    columns = Columns(
        exact=_folded_from(marks, keys, starts, counts),
        question=question_keys,
        answer=answered_keys,
        whole=whole,
        forms=np.stack([question_marks[:, 0], forms[:, 0]], axis=1),
        bounds=bounds,
        files=np.array([numbers.setdefault(record.source.file, len(numbers)) for record in records], np.int64),
        lines=np.array([record.source.line for record in records], np.int64),
    )
    return Corpus([record.id for record in records], list(numbers), columns, tokens)


def _words(
    texts: list[str], cleaned: Cleaned, cleaner: Cleaner, starts: Indices, question_counts: Indices
) -> tuple[Hashes, Indices]:
    """Return the words of each record, a `BREAK` between the parts of its prompt, and where they are."""
    words = cleaned.words
    cut = [text if text.isascii() else spaced(text) for text in texts]
    # `spaced` returns the very text where there is nothing to change.
    if any(new is not other for new, other in zip(cut, texts, strict=True)):
        words = cleaner(cut).words
    hashes, offsets = words.hashes, words.offsets
    has_parts = (question_counts > 1) & (offsets[starts + question_counts] > offsets[starts])
    counts = np.where(has_parts, question_counts - 1, 0)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    behind = np.repeat(starts, counts) + 1 + within
    if len(behind):
        hashes = np.insert(hashes, offsets[behind], np.uint64(BREAK))
    ends = [
        offsets[index] + np.searchsorted(behind, index)
        for index in (
            starts,
            starts + question_counts,
            starts + question_counts,
            starts + question_counts + 1,
            starts + question_counts + 2,
        )
    ]
    return hashes, np.stack(ends, axis=1)


def _folded_from(state: Hashes, keys: Hashes, starts: Indices, counts: Indices) -> Hashes:
    """Fold ``counts`` keys from ``starts`` on into the state of each record."""
    state = state.copy()
    for step in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(counts > step)
        state[rows] = folded(state[rows], keys[starts[rows] + step])
    return state
