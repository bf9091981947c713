"""The inner loops in numpy and in numba find the same, whatever the texts are and however they are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.base.record import normalised
from curate.similarity.dedupe.kernels import NUMPY, Kernels, kernels_for
from curate.similarity.dedupe.shingles import Cut, Spans, distinct, storable, windows
from tests.effort import draws


@pytest.fixture(scope="module")
def numba() -> Kernels:
    pytest.importorskip("numba", reason="the extra `fast` is not installed")
    return kernels_for(0, is_compiled=True)


# Letters, digits, edges, white space of every kind, control characters, and scripts without blanks.
MARKS = st.text(st.sampled_from("aZz{@[`é\u2028 \n\t\x0b\x1c\x1f\x00\x0e\x7f語"), max_size=40)
WORDS = st.lists(
    st.sampled_from(
        [
            "a",
            "b",
            "don't",
            "$1,000",
            "3rd",
            "(x)",
            "'a,'",
            '"a',
            "a,",
            ",",
            "...",
            "--",
            "ünder",
            "語",
            "ไท",
            "🙂",
            "x" * 30,
            "1" * 9,
        ]
    )
).map(" ".join)
TEXTS = st.lists(st.one_of(MARKS, WORDS, st.text(max_size=40)), min_size=1, max_size=8)


@settings(max_examples=draws(150), deadline=None)
@given(TEXTS)
@example(["", " ", "."])
def test_words_are_hashed_alike(numba: Kernels, texts: list[str]) -> None:
    told = storable(texts)
    one, two = NUMPY.clean(told), numba.clean(told)
    assert one.words.hashes.tolist() == two.words.hashes.tolist()
    assert one.words.offsets.tolist() == two.words.offsets.tolist()
    # What is kept of few lines lies beside that of many.
    assert one.keys.tolist() == two.keys.tolist()


@settings(max_examples=draws(100), deadline=None)
@given(st.lists(MARKS, min_size=1, max_size=6))
def test_keys_and_words_differ_as_normalised_texts_do(numba: Kernels, texts: list[str]) -> None:
    flat = [normalised(text) for text in texts]
    for kernels in (NUMPY, numba):
        cleaned = kernels.clean(storable(texts))
        keys, words = cleaned.keys, cleaned.words
        assert [[(left == right).all() for right in keys] for left in keys] == [[a == b for b in flat] for a in flat]
        assert words.lengths.tolist() == [len(text.split(" ")) if text else 0 for text in flat]
        numbers: dict[str, int] = {}
        for text, low in zip(flat, words.offsets, strict=False):
            for place, word in enumerate(text.split()):
                assert numbers.setdefault(word, words.hashes[low + place]) == words.hashes[low + place]
        assert len(set(numbers.values())) == len(numbers)


def spans_of(texts: list[str]) -> Spans:
    words = NUMPY.clean(storable(texts)).words
    return Spans(words.hashes, words.offsets[:-1], words.offsets[1:])


# Few different words, so that texts have passages in common.
ALIKE = st.lists(st.lists(st.sampled_from("abcd語"), max_size=40).map(" ".join), min_size=2, max_size=8)


@settings(max_examples=draws(150), deadline=None)
@given(st.one_of(ALIKE, TEXTS.filter(lambda texts: len(texts) > 1)), st.integers(1, 12), st.data())
def test_buckets_and_similarities_are_the_same(
    numba: Kernels, texts: list[str], ngram: int, data: st.DataObject
) -> None:
    spans = spans_of(texts)
    # Boilerplate: some of the passages that are there, and one that is not.
    width = Cut(ngram, np.zeros(0, np.uint64)).width
    there = distinct(windows(spans.hashed().hashes, width)).tolist()
    popular = data.draw(st.lists(st.sampled_from(there), max_size=6)) if there else []
    cut = Cut(ngram, distinct(np.array([*popular, 7], np.uint64)) if popular else np.zeros(0, np.uint64))
    one, two = NUMPY.bands(spans, cut), numba.bands(spans, cut)
    assert one.lengths.tolist() == two.lengths.tolist()
    assert one.keys.tolist() == two.keys.tolist()
    left, right = np.triu_indices(len(texts), 1)
    scores = [kernels.jaccard(kernels.sets(spans, cut), left, right).tolist() for kernels in (NUMPY, numba)]
    assert scores[0] == scores[1]
    assert all(0 <= score <= 1 for score in scores[0])
    sizes = [np.diff(kernels.sets(spans, cut).offsets).tolist() for kernels in (NUMPY, numba)]
    assert sizes[0] == sizes[1]


def test_no_texts_at_all(numba: Kernels) -> None:
    cut, none = Cut(3, np.zeros(0, np.uint64)), np.zeros(0, np.int64)
    nothing = Spans(np.zeros(0, np.uint64), none, none)
    for kernels in (NUMPY, numba):
        assert kernels.bands(nothing, cut).keys.shape == (16, 0)
        assert kernels.jaccard(kernels.sets(nothing, cut), none, none).tolist() == []


@settings(max_examples=draws(100), deadline=None)
@given(ALIKE, st.integers(1, 9), st.data())
def test_passages_are_counted_and_texts_printed_alike(
    numba: Kernels, texts: list[str], width: int, data: st.DataObject
) -> None:
    spans = spans_of(texts)
    spans = spans.take(np.flatnonzero(spans.ends - spans.starts >= width))
    if not len(spans):
        return
    said = [
        set(windows(spans.tokens[low:high], width)[: high - low - width + 1].tolist())
        for low, high in zip(spans.starts, spans.ends, strict=True)
    ]
    there = sorted(set().union(*said))
    wanted = distinct(np.array([*data.draw(st.lists(st.sampled_from(there), max_size=9)), 7, 8], np.uint64))
    for kernels in (NUMPY, numba):
        counts = [sum(passage in passages for passages in said) for passage in wanted.tolist()]
        assert kernels.num_with(spans, width, wanted).tolist() == counts
    assert NUMPY.fingerprints(spans).tolist() == numba.fingerprints(spans).tolist()
    # One text has the same print wherever it stands.
    rows = np.array(data.draw(st.permutations(range(len(spans)))))
    assert NUMPY.fingerprints(spans.take(rows)).tolist() == NUMPY.fingerprints(spans)[rows].tolist()
