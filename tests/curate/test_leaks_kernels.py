"""The inner loops of the leak search agree with a plain definition, in numpy and in numba, whatever the texts are."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.base.hashing import mix
from curate.base.record import Record, Source
from curate.similarity.dedupe.shingles import Spans, distinct
from curate.similarity.leaks import kernels as loops
from curate.similarity.leaks.kernels import EVERYTHING, NUMPY, LeakKernels, Sieve, Words, kernels_for
from curate.similarity.leaks.words import HashedRecords, TextColumns, separated, words_of
from tests.effort import draws


@pytest.fixture(scope="module")
def numba() -> LeakKernels:
    pytest.importorskip("numba", reason="the extra `fast` is not installed")
    return kernels_for(0, is_compiled=True)


def spans_of(words: Words) -> Spans:
    return Spans(words.tokens, words.offsets[:-1], words.offsets[1:])


def hashable(texts: list[str]) -> list[str]:
    return [text if text.isascii() else separated(text) for text in texts]


MARKS = st.text(alphabet="aB zZ19_.'@[`{/:\n\x00\x1f\x7f\u0301\u200b\u2028\u00a0ﬁ字ภा\x85\ud800İ", max_size=40)
# Thai to Myanmar, Khmer, kana, bopomofo, Han.
UNSPACED = [
    ("\u0e00", "\u109f"), ("\u1780", "\u17ff"), ("\u3040", "\u312f"), ("\u31a0", "\u31ff"), ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003ffff"),
]  # fmt: skip
BLOBS = st.sampled_from(["x" * 4095, "x" * 4096, "x" * 4097, "x" * 4096 + "y", "é" * 3000, "é" * 3000 + "a", "b" * 9])
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=40), st.lists(BLOBS, max_size=4).map(" ".join)), max_size=8)


@pytest.mark.ci
@settings(max_examples=draws(200), deadline=None)
@given(TEXTS)
@example(["", " ", ".", "A"])
def test_words_are_those_of_the_texts(numba: LeakKernels, texts: list[str]) -> None:
    # Of a word longer than 4096 bytes the first ones count.
    plain = [[word.encode()[:4096] for word in words_of(text)] for text in texts]
    one, two = NUMPY.words(hashable(texts)), numba.words(hashable(texts))
    assert [column.tolist() for column in one] == [column.tolist() for column in two]
    assert np.diff(one.offsets).tolist() == [len(words) for words in plain]
    everything = [word for words in plain for word in words]
    assert len(one.tokens) == len(everything)
    assert len({*zip(one.tokens.tolist(), everything, strict=True)}) == len({*one.tokens.tolist()})
    assert len({*one.tokens.tolist()}) == len({*everything})
    wholes = {tuple(words): whole for words, whole in zip(plain, one.wholes.tolist(), strict=True)}
    assert len({*wholes.values()}) == len(wholes)
    assert wholes.get((), 0) == 0


@settings(max_examples=draws(300), deadline=None)
@given(st.one_of(MARKS, st.text(max_size=40)))
def test_words_are_what_unicode_says(text: str) -> None:
    said = ""
    for character in unicodedata.normalize("NFKC", text).lower():
        is_spaced = any(low <= character <= high for low, high in UNSPACED)
        is_part = character.isalnum() or unicodedata.category(character)[0] == "M"
        said += f" {character} " if is_spaced and is_part else character if is_part else " "
    assert words_of(text) == said.split()


# Few different words, so that texts have runs in common and runs that only two texts together would have.
ALIKE = st.lists(st.lists(st.sampled_from(["a", "b", "ä", "字"]), max_size=12), max_size=6)


@settings(max_examples=draws(200), deadline=None)
@given(ALIKE, st.integers(1, 4), st.data())
def test_runs_are_those_of_the_texts(numba: LeakKernels, texts: list[list[str]], n: int, data: st.DataObject) -> None:
    words = NUMPY.words(hashable([" ".join(part) for part in texts]))
    spans = spans_of(words)
    plain = [(row, tuple(part[at : at + n])) for row, part in enumerate(texts) for at in range(len(part) - n + 1)]
    everything = [word for part in texts for word in part]
    for kernels in (NUMPY, numba):
        runs = kernels.runs(spans, n, EVERYTHING)
        assert runs.texts.tolist() == [row for row, _ in plain]
        assert [tuple(everything[start : start + n]) for start in runs.starts.tolist()] == [run for _, run in plain]
        hashes = dict(zip(runs.hashes.tolist(), [run for _, run in plain], strict=True))
        assert len(hashes) == len({run for _, run in plain})
        assert all(hashes[one] == run for one, (_, run) in zip(runs.hashes.tolist(), plain, strict=True))
    # Some of the texts, in any order, and what a sieve of some of their runs lets through.
    rows = np.array(data.draw(st.lists(st.sampled_from(range(len(texts))), unique=True)) if texts else [], np.int64)
    known = distinct(NUMPY.runs(spans, n, EVERYTHING).hashes)[::2]
    one, two = (kernels.runs(spans.take(rows), n, Sieve.of(known)) for kernels in (NUMPY, numba))
    assert [column.tolist() for column in one] == [column.tolist() for column in two]
    wanted = [run for run in NUMPY.runs(spans.take(rows), n, EVERYTHING).hashes.tolist() if run in {*known.tolist()}]
    assert [run for run in one.hashes.tolist() if run in {*known.tolist()}] == wanted


@pytest.mark.parametrize("size", [1, 7, 64])
def test_texts_in_pieces_are_the_texts(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(size)
    texts = hashable(
        [" ".join(rng.choice(("a", "été", "x" * 9000, "天気", "b\nc")) for _ in range(n)) for n in (0, 40, 2, 90, 0, 3)]
    )
    whole = NUMPY.words(texts)
    runs = NUMPY.runs(spans_of(whole), 3, EVERYTHING)
    monkeypatch.setattr(loops, "_CHUNK_UNITS", size)
    monkeypatch.setattr(loops, "_CHUNK_WORDS", size)
    parted = NUMPY.words(texts)
    assert len(runs.hashes) > 100
    assert [column.tolist() for column in whole] == [column.tolist() for column in parted]
    again = NUMPY.runs(spans_of(parted), 3, EVERYTHING)
    assert [column.tolist() for column in runs] == [column.tolist() for column in again]


@pytest.mark.parametrize("count", [0, 1, 100, 10_000, 300_000])
def test_a_sieve_lets_what_it_knows_through_and_little_else(count: int) -> None:
    hashes = mix(np.arange(2 * count + 100_000, dtype=np.uint64))
    known, others = distinct(hashes[:count]), hashes[count:]
    sieve = Sieve.of(known)
    assert sieve.admits(known).all()
    assert sieve.admits(others).mean() <= 1 / 15
    assert EVERYTHING.admits(hashes).all()
    # What is dropped no longer passes, unless it shares its slot with what stays.
    dropped = np.arange(0, count, 3)
    sieve.drop(known, dropped)
    staying = np.delete(known, dropped)
    assert sieve.admits(staying).all()
    assert sieve.admits(known[dropped]).sum() <= count / 15
    sieve.drop(staying, np.zeros(0, np.int64))
    assert sieve.admits(staying).all()


def some_record(number: int, rng: random.Random) -> Record:
    """Return a record of one of several shapes, often with an empty text."""
    prompt, completion, raw, system = (
        " ".join(rng.choices(["a", "字", "Be", "."], k=rng.choice((0, 3)))) for _ in "1234"
    )
    roles = rng.choice([(), ("user",), ("user", "assistant"), ("system", "user", "user"), ("user", "user")])
    turns = tuple({"role": role, "content": f"{role} {n}" if n else None} for n, role in enumerate(roles))
    return Record(str(number), "chat", Source("a", 1), {}, prompt, completion, system, turns, (), raw)


@pytest.mark.parametrize("most_retained", [0, 60, 10**9])
@pytest.mark.parametrize("most_chars", [1, 100, 10**6])
def test_a_corpus_yields_each_text_once_whatever_it_retains(
    most_retained: int, most_chars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.similarity.leaks.words._BLOCK", 4)
    monkeypatch.setattr("curate.similarity.leaks.words._CHUNK_CHARS", most_chars)
    rng = random.Random(1)
    records = [some_record(number, rng) for number in range(60)]
    texts: dict[tuple[int, int], list[str]] = {}
    for row, record in enumerate(records):
        contents = [message["content"] for message in record.messages if message["role"] == "user"]
        questions = [text for text in contents if text] if len(contents) > 1 else []
        for part, text in enumerate((record.prompt, record.completion, record.text, record.system)):
            texts[row, part] = [text]
        texts[row, 4] = questions
    num_read = 0

    def source(rows: Sequence[int]) -> TextColumns:
        nonlocal num_read
        num_read += len(rows)
        return TextColumns.of([records[row] for row in rows])

    corpus = HashedRecords(records, source, most_retained=most_retained)
    # How long the records are is told by some of them.
    assert corpus.kernels == NUMPY
    assert all(
        corpus.texts_of(row) == [text for part in range(5) for text in texts[row, part]] for row in range(len(records))
    )
    num_read = 0
    for _ in range(3):
        wanted = np.array([rng.random() < 0.5 for _ in records])
        wholes: dict[int, list[str]] = {}
        sizes: dict[tuple[int, int], list[int]] = {key: [] for key in texts if wanted[key[0]]}
        prompts: dict[int, set[int]] = {row: set() for row in np.flatnonzero(wanted).tolist()}
        for block in corpus.blocks(wanted):
            for start, end, whole, row, part, prompt in zip(
                block.spans.starts.tolist(), block.spans.ends.tolist(), *map(np.ndarray.tolist, block[1:]), strict=True
            ):
                words = words_of(texts[row, part][len(sizes[row, part])])
                sizes[row, part].append(end - start)
                assert end - start == len(words)
                assert wholes.setdefault(whole, words) == words
                prompts[row].add(prompt)
        assert {key: len(lengths) for key, lengths in sizes.items()} == {key: len(texts[key]) for key in sizes}
        assert len({*map(tuple, wholes.values())}) == len(wholes)
        # One prompt each, and the same where the prompts, or else the texts, are.
        plain = {row: words_of(records[row].prompt) or words_of(records[row].text) for row in prompts}
        assert all(wholes.get(prompt, []) == plain[row] for row, (prompt,) in prompts.items())
    if most_retained == 10**9 and most_chars == 10**6:
        assert num_read == len(records)
