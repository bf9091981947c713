"""The records that are most like a text that somebody is writing.

Two texts are as alike as dedupe has it: by the Jaccard similarity of their shingles, boilerplate left out. An index
finds candidates: of each record it holds the smallest hashes of its shingles (a bottom-k sketch: Broder, "On the
resemblance and containment of documents", 1997; Cohen and Kaplan, "Summarizing data using bottom-k sketches", 2007),
all of them where a record is short, sorted by hash with the record of each. Looking up every shingle of the text costs
milliseconds whatever the number of records. The best candidates are then read and compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.boilerplate import Cut, cut_texts, popular_passages
from curate.dedupe.clean import flattened
from curate.dedupe.corpus import gather
from curate.dedupe.found import Method, method_of
from curate.dedupe.minhash import NUMPY, compare
from curate.dedupe.pairs import Rule, verdicts
from curate.dedupe.shingles import Ragged, Spans, code_points, distinct, word_hashes
from curate.dedupe.stages import Stages
from curate.dedupe.text import spaced, storable
from curate.hashing import Indices
from curate.record import CurateError, Json, Record, Source
from curate.shape import Shape
from curate.shape.view import PART_JOINT, at, texts_of
from curate.store import make_cache
from curate.workspace import inside

if TYPE_CHECKING:
    from curate.workshop import Workshop
    from curate.workshop.catalog import Catalog

Kind = Literal["", "repeat", "other answer", "same prompt"]

_CACHE = Path(".curate") / "cache" / "nearest"
_KEPT_FROM = 5_000
"""Records from which the index is kept on the disk; below, making it anew takes a moment."""
_BLOCK = 8_192
_SAMPLE = 5_000
_MOST_HASHES, _FEWEST_HASHES = 64, 12
_MOST_POSTINGS = 16_000_000
_CANDIDATES = 24
_TEXTS = ("system", "completion", "text")
_LONGEST = 200_000
"""Characters of a record that are looked at."""

Numbers = NDArray[np.uint32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A record like the text: its similarity from 0 to 1, and what the two are to one another.

    It is a repeat where dedupe would drop one of the two, and another answer where every part of the prompt is alike
    and the answer is not; the same prompt where the text has no answer yet.
    """

    id: str
    score: float
    kind: Kind = ""


@dataclass(frozen=True, slots=True)
class Index:
    """Hashes of shingles, sorted, with the row of the record that has each; ``sizes`` counts all shingles of a row."""

    hashes: Numbers
    rows: Numbers
    sizes: Numbers
    popular: NDArray[np.uint64]
    method: Method

    @property
    def cut(self) -> Cut:
        """How texts are cut into shingles."""
        return Cut(self.method.ngram, self.popular)

    def candidates(self, text: str, count: int, *, is_part: bool = False) -> Indices:
        """Return at most ``count`` rows, those first that are probably most like ``text``, or hold most of it."""
        asked = _sketches([text], self.cut, self.method, 1 << 30)[0]
        low = np.searchsorted(self.hashes, asked, "left")
        high = np.searchsorted(self.hashes, asked, "right")
        if not len(asked) or not (high > low).any():
            return np.zeros(0, np.int64)
        hits = np.concatenate([self.rows[first:last] for first, last in zip(low, high, strict=True) if last > first])
        rows, counts = np.unique(hits, return_counts=True)
        sizes = self.sizes[rows].astype(np.float64)
        # The share of the record's sketch that is in the text, times its shingles, is what both have in common.
        common = counts / np.minimum(sizes, self._width) * sizes
        likeness = common if is_part else common / (len(asked) + sizes - common)
        order = np.argsort(-likeness, kind="stable")[:count]
        return rows[order].astype(np.int64)

    @property
    def _width(self) -> int:
        return width_for(len(self.sizes))


def width_for(num_records: int) -> int:
    """Return how many hashes of each record an index of so many records holds."""
    return max(_FEWEST_HASHES, min(_MOST_HASHES, _MOST_POSTINGS // max(1, num_records)))


def index_of(
    blocks: Callable[[int], Iterator[Sequence[str]]], num_texts: int, method: Method, seen: Progress = lambda *_: None
) -> Index:
    """Return the index of texts that ``blocks`` gives in lists, from a step on: every text (1), or one in so many."""
    sample = [text for block in blocks(max(1, num_texts // _SAMPLE)) for text in block]
    spans = _spans(sample, method)
    popular = popular_passages(spans, method.ngram, np.ones(len(sample), np.int64))
    cut, width = Cut(method.ngram, popular), width_for(num_texts)
    hashes: list[Numbers] = []
    rows: list[Numbers] = []
    sizes: list[Numbers] = []
    done = 0
    for block in blocks(1):
        found, owners, counts = _sketches(block, cut, method, width)
        hashes.append(found)
        rows.append(owners + np.uint32(done))
        sizes.append(counts)
        done += len(block)
        seen(done, num_texts)
    none = np.zeros(0, np.uint32)
    all_hashes, all_rows = np.concatenate([none, *hashes]), np.concatenate([none, *rows])
    order = np.argsort(all_hashes, kind="stable")
    return Index(all_hashes[order], all_rows[order], np.concatenate([none, *sizes]), popular, method)


class Nearest:
    """Finds records like a text in an open workshop. `prepare` it in a worker; then `find` answers at once."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._method = method_of(workshop.workspace.settings.dedupe)
        self._lock = Lock()
        self._catalog: Catalog | None = None
        self._index: Index | None = None
        self._fresh: dict[str, str] = {}
        self._fresh_index: Index | None = None
        self._num_told = 0

    @property
    def threshold(self) -> float:
        """The similarity from which dedupe calls two records alike."""
        return self._method.threshold

    def prepare(self, seen: Progress = lambda *_: None) -> None:
        """Make the index of what the record files say, or read it from the cache.

        Raises:
            CurateError: E914 when the cache lies elsewhere, E974 when the record files have changed.
        """
        with self._lock:
            self._prepare(seen)

    def find(self, line: Mapping[str, Json], count: int = 5, *, without: str = "") -> list[Neighbour]:
        """Return the records most like ``line``: what dedupe would object to, then by likeness.

        Dropped records and ``without`` are left out.
        A line that is not valid yet is compared by the texts that it has. What shares nothing with it is left out.

        Raises:
            CurateError: as `prepare`, which is called first where it was not.
        """
        record = _as_record(line, self._workshop.workspace.shape)
        with self._lock:
            self._prepare()
            self._follow()
            # A record that asks the same and answers at length is less like the whole than like the prompt.
            names = dict.fromkeys([*self._candidates(_text_of(record)), *self._candidates(record.prompt, is_part=True)])
        found = [one for name in names if name != without and (one := self._standing(name)) is not None]
        return _ranked(record, found, self._index.cut if self._index else Cut(self._method.ngram, _NONE), self._method)[
            :count
        ]

    def _prepare(self, seen: Progress = lambda *_: None) -> None:
        # Rows of a catalogue mean nothing once the records were read anew.
        if self._index is None or self._catalog is not self._workshop.catalog:
            self._catalog = self._workshop.catalog
            self._fresh, self._fresh_index, self._num_told = {}, None, 0
            self._index = self._kept_index(seen)

    def _candidates(self, text: str, *, is_part: bool = False) -> list[str]:
        assert self._index is not None, "it was prepared"
        assert self._catalog is not None, "the index is of it"
        rows = self._index.candidates(text, 2 * _CANDIDATES, is_part=is_part)
        names = [self._catalog.name(int(row)) for row in rows]
        names = [name for name in names if name not in self._fresh][:_CANDIDATES]
        if self._fresh:
            if self._fresh_index is None:
                texts = list(self._fresh.values())
                self._fresh_index = index_of(lambda step: iter([texts[::step]]), len(texts), self._method)
            fresh = list(self._fresh)
            names += [fresh[int(row)] for row in self._fresh_index.candidates(text, _CANDIDATES, is_part=is_part)]
        return names

    def _standing(self, name: str) -> Record | None:
        try:
            state = self._workshop.state(name)
        except CurateError:
            # An added record that was taken back.
            return None
        return state.record if state.dropped is None else None

    def _follow(self) -> None:
        """Take in the records that were added or edited since the last look, by what they say now."""
        events = self._workshop.since(self._num_told)
        self._num_told += len(events)
        touched = {event.id for event in events if event.op in ("add", "edit", "undo")}
        for name in touched:
            record = self._standing(name)
            self._fresh_index = None
            self._fresh[name] = _text_of(record) if record else ""

    def _kept_index(self, seen: Progress) -> Index:
        assert self._catalog is not None, "the index is of it"
        base = self._catalog.base
        root = self._workshop.root
        stages = Stages()
        if len(base) >= _KEPT_FROM:
            inside(root, root / _CACHE)
            make_cache(root / ".curate")
            stages = Stages(root / _CACHE)
            stages.sweep()

        def blocks(step: int) -> Iterator[list[str]]:
            for low in range(0, len(base), _BLOCK * step):
                part = base.texts.slice(low, _BLOCK * step).select("prompt", "completion").gather_every(step).collect()
                yield [_joined(prompt, completion) for prompt, completion in part.iter_rows()]

        def make() -> dict[str, NDArray[np.uint32] | NDArray[np.uint64]]:
            made = index_of(blocks, len(base), self._method, seen)
            return {"hashes": made.hashes, "rows": made.rows, "sizes": made.sizes, "popular": made.popular}

        arrays = stages.arrays("nearest", (base.about.files, self._method), make)
        return Index(arrays["hashes"], arrays["rows"], arrays["sizes"], arrays["popular"], self._method)


_NONE = np.zeros(0, np.uint64)


def _ranked(record: Record, found: Sequence[Record], cut: Cut, method: Method) -> list[Neighbour]:
    """Compare ``record`` exactly with each of ``found``, and return those that share anything with it."""
    if not found:
        return []
    corpus = gather([record, *found], NUMPY.clean, by_character=method.unit == "character")
    left, right = np.zeros(len(found), np.int64), np.arange(1, len(found) + 1)
    keys, spans = corpus.keys("record"), corpus.spans("record")
    scores = np.where((keys[0] == keys[1:]).all(axis=1), 1.0, compare(spans, cut, left, right, NUMPY))
    verdict = verdicts(corpus.sides(), left, right, Rule(method.threshold, cut, cut), NUMPY)
    is_repeat = verdict.is_repeat & (scores >= method.threshold)
    neighbours = []
    for place in np.argsort(-scores, kind="stable").tolist():
        if scores[place] <= 0:
            continue
        kind: Kind = "repeat" if is_repeat[place] else ""
        if not kind and verdict.asks_alike[place] and not verdict.answers_alike[place]:
            kind = "other answer" if record.completion else "same prompt"
        neighbours.append(Neighbour(found[place].id, float(scores[place]), kind))
    return sorted(neighbours, key=lambda one: not one.kind)


def _as_record(line: Mapping[str, Json], shape: Shape) -> Record:
    """Return a line as a record, as far as it is one."""
    source, view = Source("", 0), shape.view
    if view is None:
        return Record("", "domain", source, line)
    if shape.is_valid(line):
        return shape.record(line, source)
    turns = view.get(line, "messages")
    listed = [one for one in turns if isinstance(one, dict)] if isinstance(turns, list) else []
    told = [one for one in listed if isinstance(one.get("content"), str) and "tool_calls" not in one]
    if told:
        system, prompt, completion = texts_of(told)
        return Record("", "chat", source, line, prompt, completion, system, tuple(told))
    texts = {name: told if isinstance(told := view.get(line, name), str) else "" for name in _TEXTS}
    parts = tuple(part for place in view.prompt if isinstance(part := at(line, place), str) and part)
    turns = {"system": texts["system"], "user": PART_JOINT.join(parts), "assistant": texts["completion"]}
    messages = tuple({"role": role, "content": told} for role, told in turns.items() if told or role != "system")
    return Record(
        "",
        "instruction",
        source,
        line,
        turns["user"],
        texts["completion"],
        texts["system"],
        messages if parts else (),
        text=texts["text"],
        prompt_parts=parts if len(parts) > 1 else (),
    )


def _text_of(record: Record) -> str:
    return _joined(record.prompt or record.text, record.completion)


def _joined(prompt: str, completion: str) -> str:
    return f"{prompt}\n{completion}"[:_LONGEST]


def _sketches(texts: Sequence[str], cut: Cut, method: Method, width: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return the ``width`` smallest hashes of each text's shingles, the text of each, and all shingles of each text."""
    table = cut_texts(_spans(texts, method).hashed(), cut)
    # Text and hash as one number: sorted, the shingles of each text lie together from the smallest on.
    owners = np.repeat(np.arange(len(texts), dtype=np.uint64), table.lengths)
    keys = distinct((owners << np.uint64(32)) | (table.hashes >> np.uint64(32)))
    rows = (keys >> np.uint64(32)).astype(np.uint32)
    starts = np.searchsorted(rows, np.arange(len(texts) + 1, dtype=np.uint32))
    is_kept = np.arange(len(keys)) - starts[rows] < width
    return keys[is_kept].astype(np.uint32), rows[is_kept], np.diff(starts).astype(np.uint32)


def _spans(texts: Sequence[str], method: Method) -> Spans:
    """Return the tokens of each text, as dedupe cuts them."""
    flat = storable(texts)
    if not flat:
        return Spans(_NONE, np.zeros(0, np.int64), np.zeros(0, np.int64))
    if method.unit == "character":
        tokens, offsets = code_points(flattened(flat).tobytes().decode().split("\n"))
        return Spans(tokens, offsets[:-1], offsets[1:])
    words: Ragged = word_hashes(flattened([text if text.isascii() else spaced(text) for text in flat]))
    return Spans(words.hashes, words.offsets[:-1], words.offsets[1:])


__all__ = ["Index", "Nearest", "Neighbour", "index_of", "width_for"]
