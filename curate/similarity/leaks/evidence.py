"""Which records of a pool share words with which exam records: runs of words that both have, less the templates."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import STEP, Hashes, Indices, mix
from curate.base.record import Record, normalised

Flags = NDArray[np.bool_]

_CHUNK_CHARS = 1 << 19
_CHUNK_UNITS = 1 << 19
# Bytes of a word that are hashed; longer ones are no words but blobs, and are compared in full later.
_TELLING = 4096

_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_GAP = re.compile(rb"[\x00-\x20]")
_MARKS = re.compile(r"[^\w\s]|_")
# Thai, Lao, Tibetan, Myanmar, Khmer, kana, bopomofo and Han: written without blanks between words.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


# Case, punctuation and the form of characters (NFKC) make no difference; scripts that set no blanks between words count
# by character.
def spelled(text: str) -> str:
    """Return ``text`` as its words in lower case, with blanks between them and no punctuation."""
    if text.isascii():
        return text.translate(_ASCII)
    return _UNSPACED.sub(r" \1 ", _MARKS.sub(_mark, normalised(text)))


def _mark(match: re.Match[str]) -> str:
    """Keep what is a part of a word, such as a vowel sign; everything else that is no letter or digit parts words."""
    return match[0] if unicodedata.category(match[0])[0] == "M" else " "


def words_of(text: str) -> list[str]:
    """Return the words of ``text``."""
    return spelled(text).split()


def is_by_character(words: Sequence[str]) -> bool:
    """Whether most of ``words`` are single characters of a script without blanks."""
    return 2 * sum(len(word) == 1 and not word.isascii() and bool(_UNSPACED.match(word)) for word in words) > len(words)


@dataclass(frozen=True, slots=True)
class Runs:
    """Every run of ``n`` words of some texts, by hash, and each text as a whole.

    ``rows`` and ``starts`` give the text of each run and the place of its first word among the words of all texts;
    ``wholes`` hashes all words of a text (0 for none), ``counts`` is their number.
    """

    hashes: Hashes
    rows: Indices
    starts: Indices
    wholes: Hashes
    counts: Indices


def runs_of(texts: Sequence[str], n: int) -> Runs:
    """Hash the runs of ``n`` words of each text; a text with fewer has none."""
    # A hash is the polynomial of what it covers, taken from running sums, and then scrambled by the finaliser of
    # SplitMix64 (Steele, Lea, Flood 2014). Equal hashes are a reason to compare, no proof.
    parts: list[tuple[Hashes, Indices, Indices]] = [
        (np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    ]
    wholes, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    num_words = 0
    for low, high in chunks([(text,) for text in texts]):
        words, sizes = hashed(texts[low:high])
        parts += [(hashes, rows + low, starts + num_words) for hashes, rows, starts in runs_in(words, sizes, n)]
        wholes.append(wholes_of(words, sizes))
        counts.append(sizes)
        num_words += len(words)
    hashes, rows, starts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Runs(hashes, rows, starts, np.concatenate(wholes), np.concatenate(counts))


def runs_in(words: Hashes, counts: Indices, n: int) -> Iterator[tuple[Hashes, Indices, Indices]]:
    """Yield the runs of texts as `hashed` gives them, some at a time: their hashes, their texts, their first words."""
    begins = np.cumsum(counts) - counts
    num_runs = np.maximum(0, counts - n + 1)
    upto = np.cumsum(num_runs)
    # A single text may be long, and the sums take many times its size.
    for low in range(0, int(num_runs.sum()), _CHUNK_UNITS):
        indices = np.arange(low, min(low + _CHUNK_UNITS, int(upto[-1])))
        rows = np.searchsorted(upto, indices, "right")
        starts = indices - (upto - num_runs)[rows] + begins[rows]
        base = starts[0]
        inverses, sums = _polynomial(words[base : starts[-1] + n])
        at = starts - base
        yield mix((sums[at + n] - sums[at]) * inverses[at]), rows, starts


def wholes_of(words: Hashes, counts: Indices) -> Hashes:
    """Return the hash of all words of each text as `hashed` gives them, 0 for one without any."""
    ends = np.cumsum(counts)
    begins = ends - counts
    totals = np.zeros(len(counts), np.uint64)
    for low in range(0, len(words), _CHUNK_UNITS):
        high = min(low + _CHUNK_UNITS, len(words))
        inverses, sums = _polynomial(words[low:high])
        first, last = np.searchsorted(ends, low, "right"), np.searchsorted(begins, high, "left")
        start, stop = np.maximum(begins[first:last], low) - low, np.minimum(ends[first:last], high) - low
        parts = (sums[stop] - sums[start]) * inverses[start]
        # Of these texts only the first can have begun in what came before.
        parts[:1] *= np.uint64(pow(STEP, max(0, low - int(begins[first])), 1 << 64))
        totals[first:last] += parts
    wholes = mix(totals + counts.astype(np.uint64))
    wholes[counts == 0] = 0
    return wholes


def joined(left: Hashes, right: Hashes) -> Hashes:
    """Return one hash for each pair."""
    return mix(left * np.uint64(STEP) + right)


def chunks(texts: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of neighbouring groups of texts that together have about half a million characters."""
    low, total = 0, 0
    for index, group in enumerate(texts):
        total += sum(map(len, group))
        if total > _CHUNK_CHARS:
            yield low, index + 1
            low, total = index + 1, 0
    if low < len(texts):
        yield low, len(texts)


def _flat(text: str) -> str:
    """Return the words of ``text`` on one line: a line break parts texts here."""
    return spelled(text).replace("\n", " ")


def hashed(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    """Return the hash of every word of some texts, and the number of words of each."""
    raw = "\n".join(map(_flat, texts)).encode("utf-8", "surrogatepass")
    counts = np.zeros(len(texts), np.int64)
    words = [np.zeros(0, np.uint64)]
    low = line = 0
    # A single text may be long, and what is made of it takes many times its size: it is parted between words.
    while low < len(raw):
        gap = _GAP.search(raw, low + _CHUNK_UNITS)
        high = gap.start() if gap else len(raw)
        units = np.frombuffer(raw[low : min(high, low + _CHUNK_UNITS + _TELLING)], np.uint8)
        is_gap = np.concatenate([[True], units <= 32, [True]])
        starts = np.flatnonzero(is_gap[:-1] & ~is_gap[1:])
        ends = np.minimum(np.flatnonzero(~is_gap[:-1] & is_gap[1:]), starts + _TELLING)
        breaks = np.flatnonzero(units == 10)
        inverses, sums = _polynomial(units.astype(np.uint64) + np.uint64(1))
        words.append(mix((sums[ends] - sums[starts]) * inverses[starts]))
        counts += np.bincount(line + np.searchsorted(breaks, starts), minlength=len(texts))
        low, line = high, line + len(breaks)
    return np.concatenate(words), counts


def _polynomial(values: Hashes) -> tuple[Hashes, Hashes]:
    """Return the powers of the base's inverse, and the running sums of value * power of the base."""
    size = 1 << len(values).bit_length()
    powers, inverses = _powers(STEP, size), _powers(pow(STEP, -1, 1 << 64), size)
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return inverses, sums


@lru_cache(maxsize=6)
def _powers(root: int, size: int) -> Hashes:
    table = np.ones(size, np.uint64)
    done = 1
    while done < size:
        step = min(done, size - done)
        table[done : done + step] = table[:step] * np.uint64(pow(root, done, 1 << 64))
        done += step
    return table


# The texts of an exam record, in the order of their rows.
PARTS: tuple[Literal["prompt", "completion", "text"], ...] = ("prompt", "completion", "text")
# Pool records that are compared word by word with an exam record: those that share the most runs with it.
TRIED = 8
_MOST_HITS = 1 << 20
_PIECE = 1 << 19
# Records with the very same prompt that are remembered for a run; what else they say is found by its own runs.
_MOST_OWNERS = 8


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an exact comparison starts from.

    ``candidates`` are pairs of (exam record, pool record), by their numbers; ``is_template`` says of every word of the
    exam, in order, whether it stands in a template, and text ``row`` has the words from ``begins[row]`` on. Row
    3 * number + index is part ``PARTS[index]`` of an exam record.
    """

    candidates: list[tuple[int, int]]
    is_template: Flags
    begins: Indices
    num_templates: int
    common_prompts: frozenset[int]
    """Exam records whose whole prompt has so many different answers that it asks for nothing in particular."""


def questions_of(record: Record) -> list[str]:
    """Return the user's messages of a chat of several turns, each of which may be a question of an exam."""
    contents = [message.get("content") for message in record.messages if message.get("role") == "user"]
    return [text for text in contents if isinstance(text, str)] if len(contents) > 1 else []


# Only the exam is indexed. The pool streams past it, and of a pool text nothing stays but the numbers of the exam's
# runs that it has, so memory grows with the exam and with what is shared.


@dataclass
class _RunIndex:
    """The runs of the exam, and which pool records have them."""

    universe: Hashes
    max_prompts: int
    is_template: Flags
    prefilter: Flags
    numbers: list[Indices] = field(default_factory=list)
    owners: list[Indices] = field(default_factory=list)
    prompts: list[Hashes] = field(default_factory=list)
    num_hits: int = 0

    def add(self, hashes: Hashes, owners: Indices, prompts: Hashes) -> None:
        """Take note of runs, each with the number of its record (-1 for the exam's own) and its record's prompt."""
        may_be = np.flatnonzero(self.prefilter[hashes >> np.uint64(40)])
        hashes, owners, prompts = hashes[may_be], owners[may_be], prompts[may_be]
        numbers = np.minimum(np.searchsorted(self.universe, hashes), len(self.universe) - 1)
        is_known = self.universe[numbers] == hashes
        is_known &= ~self.is_template[numbers]
        self.numbers.append(numbers[is_known])
        self.owners.append(owners[is_known])
        self.prompts.append(prompts[is_known])
        self.num_hits += int(is_known.sum())
        if self.num_hits > _MOST_HITS:
            self.settle()

    def settle(self) -> tuple[Indices, Indices]:
        """Drop runs that have turned out to be templates, and return the others with their records, each once."""
        numbers, owners = np.concatenate(self.numbers), np.concatenate(self.owners)
        prompts = np.concatenate(self.prompts)
        order = np.lexsort((owners, prompts, numbers))
        numbers, owners, prompts = numbers[order], owners[order], prompts[order]
        is_new = np.ones(len(numbers), np.bool_)
        is_new[1:] = (numbers[1:] != numbers[:-1]) | (prompts[1:] != prompts[:-1])
        self.is_template |= np.bincount(numbers[is_new], minlength=len(self.universe)) > self.max_prompts
        is_retained = is_new.copy()
        is_retained[1:] |= owners[1:] != owners[:-1]
        is_retained &= ~self.is_template[numbers]
        numbers, owners, prompts, is_new = (
            numbers[is_retained],
            owners[is_retained],
            prompts[is_retained],
            is_new[is_retained],
        )
        positions = np.arange(len(numbers))
        is_retained = positions - np.maximum.accumulate(np.where(is_new, positions, 0)) < _MOST_OWNERS
        numbers, owners, prompts = numbers[is_retained], owners[is_retained], prompts[is_retained]
        self.numbers, self.owners, self.prompts, self.num_hits = [numbers], [owners], [prompts], 0
        return numbers, owners


def gather(exam: Sequence[Record], pool: Sequence[Record], n: int, max_prompts: int) -> Evidence:
    """Find for each exam record the pool records that share the most runs of ``n`` words with it, or equal it.

    A run that stands in more than ``max_prompts`` different prompts, of exam and pool together, is a template. What
    counts as shared are runs of which no word stands in a template.
    """
    runs = runs_of([text for record in exam for text in (record.prompt, record.completion, record.text)], n)
    prompts = _prompt_keys(runs.wholes[0::3], runs.wholes[2::3])
    # In pieces, as below: what is made of the runs of one long text takes many times their size.
    pieces = [slice(low, low + _PIECE) for low in range(0, len(runs.hashes), _PIECE)]
    universe = np.unique(np.concatenate([runs.hashes[:0], *(np.unique(runs.hashes[piece]) for piece in pieces)]))
    numbers = np.searchsorted(universe, runs.hashes)
    prefilter = np.zeros(1 << 24, np.bool_)
    prefilter[universe >> np.uint64(40)] = True
    index = _RunIndex(universe, max_prompts, np.zeros(len(universe), np.bool_), prefilter)
    equals = _Equals.of(runs)
    for piece in pieces:
        rows = runs.rows[piece]
        index.add(runs.hashes[piece], np.full(len(rows), -1), prompts[rows // 3])
    _stream(pool, n, index, equals)
    shared, owners = index.settle() if len(universe) else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    is_template = _template_words(runs, n, index.is_template[numbers])
    pairs = _ranked(runs, numbers, is_template, n, shared, owners, len(pool))
    begins = np.cumsum(runs.counts) - runs.counts
    num_templates = int(index.is_template.sum())
    return Evidence(
        sorted({*pairs, *equals.pairs()}), is_template, begins, num_templates, equals.common_prompts(max_prompts)
    )


def _prompt_keys(prompts: Hashes, texts: Hashes) -> Hashes:
    """Return what tells prompts apart; a raw text is its own."""
    return np.where(prompts == 0, texts, prompts)


def _stream(pool: Sequence[Record], n: int, index: _RunIndex, equals: _Equals) -> None:
    texts = [[record.prompt, record.completion, record.text, record.system, *questions_of(record)] for record in pool]
    for low, high in chunks(texts):
        part = texts[low:high]
        words, counts = hashed([text for group in part for text in group])
        wholes = wholes_of(words, counts)
        sizes = np.array([len(group) for group in part], np.int64)
        owner_of_row = np.repeat(np.arange(low, high), sizes)
        text_index = np.arange(len(owner_of_row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        prompts = _prompt_keys(wholes[text_index == 0], wholes[text_index == 2])
        equals.add(wholes, owner_of_row, text_index)
        for hashes, rows, _ in runs_in(words, counts, n) if len(index.universe) else ():
            # The turns of a chat are in its prompt already; only their wholes are of use.
            is_new = text_index[rows] < 4
            owners = owner_of_row[rows[is_new]]
            index.add(hashes[is_new], owners, prompts[owners - low])


def _template_words(runs: Runs, n: int, is_template: Flags) -> Flags:
    """Return for each word of the exam whether one of the template runs covers it."""
    edges = np.zeros(int(runs.counts.sum()) + 1, np.int64)
    starts = runs.starts[is_template]
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + n, -1)
    return np.cumsum(edges[:-1]) > 0


def _ranked(
    runs: Runs, numbers: Indices, is_template: Flags, n: int, shared: Indices, owners: Indices, num_pool: int
) -> list[tuple[int, int]]:
    """Return the pairs that share the most runs outside templates, at most `TRIED` for an exam record."""
    of_pool = owners >= 0
    shared, owners = shared[of_pool], owners[of_pool]
    running = np.concatenate([[0], np.cumsum(is_template)])
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for low in range(0, len(numbers), _PIECE):
        piece = slice(low, low + _PIECE)
        starts = runs.starts[piece]
        is_free = running[starts + n] == running[starts]
        first, last = (np.searchsorted(shared, numbers[piece], side) for side in ("left", "right"))
        positions = np.flatnonzero(is_free & (last > first))
        sizes = (last - first)[positions]
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        matches = owners[np.repeat(first[positions], sizes) + within]
        pairs = np.repeat(runs.rows[piece][positions] // 3, sizes) * num_pool + matches
        parts.append(np.unique(pairs, return_counts=True))
    several, some = (np.concatenate(column) for column in zip(*parts, strict=True))
    keys, of = np.unique(several, return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, of, some)
    # Most shared runs first; of equals the one that stands earlier.
    order = np.lexsort((keys, -counts, keys // max(1, num_pool)))
    exam_of = keys[order] // max(1, num_pool)
    rank = np.arange(len(order)) - np.searchsorted(exam_of, exam_of)
    return [divmod(key, num_pool) for key in keys[order][rank < TRIED].tolist()]


@dataclass
class _Equals:
    """Pool records of which a prompt, a text or the whole equals that of an exam record, however short it is."""

    exam: tuple[Hashes, Hashes, Hashes]
    """The whole prompts, texts and pairs of prompt and completion of the exam records; 0 for none."""
    known: Hashes
    wholes: list[Hashes] = field(default_factory=list)
    owners: list[Indices] = field(default_factory=list)
    answered: list[Hashes] = field(default_factory=list)
    """Two columns: a prompt, and what stands for its answer."""

    @staticmethod
    def of(runs: Runs) -> _Equals:
        """Return the whole texts of an exam to look for."""
        prompts, completions, texts = (runs.wholes[offset::3] for offset in range(3))
        pairs = np.where((prompts != 0) & (completions != 0), joined(prompts, completions), np.uint64(0))
        return _Equals((prompts, texts, pairs), np.unique(np.concatenate([prompts, texts, pairs])))

    def add(self, wholes: Hashes, owners: Indices, text_index: Indices) -> None:
        """Take note of the texts of a chunk that equal one of the exam; ``text_index`` is that within the record."""
        prompts, completions = wholes[text_index == 0], wholes[text_index == 1]
        is_question = (text_index == 0) | (text_index == 2) | (text_index > 3)
        candidates = np.concatenate([wholes[is_question], joined(prompts, completions)])
        of = np.concatenate([owners[is_question], owners[text_index == 0]])
        is_known = self._is_known(candidates)
        self.wholes.append(candidates[is_known])
        self.owners.append(of[is_known])
        # What answers an earlier turn of a chat is not looked at: each chat has its own.
        is_turn = text_index > 3
        questions = np.concatenate([prompts, wholes[is_turn]])
        answers = np.concatenate([completions, owners[is_turn].astype(np.uint64)])
        is_known = self._is_known(questions)
        self.answered.append(np.unique(np.stack([questions[is_known], answers[is_known]], axis=1), axis=0))

    def _is_known(self, hashes: Hashes) -> Flags:
        near = np.minimum(np.searchsorted(self.known, hashes), len(self.known) - 1)
        is_known: Flags = (hashes != 0) & (self.known[near] == hashes)
        return is_known

    def pairs(self) -> list[tuple[int, int]]:
        """Return pairs of an exam record and the first pool records that equal it in one of the three ways."""
        wholes, owners = np.concatenate(self.wholes), np.concatenate(self.owners)
        order = np.argsort(wholes, kind="stable")
        wholes, owners = wholes[order], owners[order]
        pairs: list[tuple[int, int]] = []
        for wanted in self.exam:
            first = np.searchsorted(wholes, wanted, "left")
            last = np.searchsorted(wholes, wanted, "right")
            for tried in range(TRIED):
                hits = np.flatnonzero((wanted != 0) & (first + tried < last))
                pairs += zip(hits.tolist(), owners[first[hits] + tried].tolist(), strict=True)
        return pairs

    def common_prompts(self, max_prompts: int) -> frozenset[int]:
        """Return the exam records whose prompt has more than ``max_prompts`` different answers in the pool."""
        answered = np.unique(np.concatenate(self.answered), axis=0)
        prompts, num_answers = np.unique(answered[:, 0], return_counts=True)
        return frozenset(np.flatnonzero(np.isin(self.exam[0], prompts[num_answers > max_prompts])).tolist())
