"""Which texts an answer to a label question is about, and what it says once they have changed.

An answer to which of two texts is better names the side that its text had then, and a rating is of what it was given
for. Both hold for those texts alone: where the two have only changed places, the answer names the other side; where one
has changed, it lapses until the text is back. Answers that say nothing of texts (choices, and whatever was written
before there were such digests) stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from curate.base.record import Json, Record, canonical
from curate.schema.settings import PAIR_VALUES, Question

_TURNED = {PAIR_VALUES[0]: PAIR_VALUES[1], PAIR_VALUES[1]: PAIR_VALUES[0]}


def texts_of(record: Record, kind: str) -> tuple[str, ...]:
    """Return the digests of the texts that an answer to a question of ``kind`` is about, 32 hex digits each.

    Of a pair two, of the best and of the worst answer that ``record`` compares; of a rating one, of all that is
    answered in it; of a choice none. The prompt is in none of them: to mend it leaves known which text was meant.
    """
    texts: Sequence[Json] = ()
    if kind == "rating":
        texts = [[_said(turn for turn in record.messages if turn.get("role") == "assistant"), record.text]]
    elif kind == "pair" and len(record.answers) > 1:
        texts = [_said(record.answers[side].messages) for side in (0, -1)]
    return tuple(blake2b(canonical(text), digest_size=16).hexdigest() for text in texts)


def _said(turns: Iterable[Mapping[str, Json]]) -> list[Json]:
    """Return turns without what says how they are trained."""
    return [{key: value for key, value in turn.items() if key not in ("train", "weight")} for turn in turns]


def answer_now(value: Json, texts: Sequence[str], record: Record) -> tuple[Sequence[str], Json]:
    """Return the texts of ``record`` now, and what an answer that was given about ``texts`` says of them.

    It is None where it says nothing of them, and as it was where it holds for no certain texts.
    """
    if not texts:
        return (), value
    now = texts_of(record, "pair" if len(texts) > 1 else "rating")
    if now == tuple(texts):
        return now, value
    return now, turned(value) if now == tuple(reversed(texts)) else None


def turned(value: Json) -> Json:
    """Return the answer to a pair that means the same where the two texts change places."""
    if isinstance(value, list):
        return [turned(item) for item in value]
    return _TURNED.get(value, value) if isinstance(value, str) else value


def as_answer(question: Question, value: Json) -> Json:
    """Return ``value`` as an answer to ``question``: to one of the kind several a list in the order of its values."""
    if question.kind != "several" or value is None:
        return value
    given = value if isinstance(value, list) else [value]
    values = question.values or given
    return [known for known in values if known in given] + [other for other in given if other not in values]


def known_answer(value: Json, question: Question, record: Record, *, is_edited: bool) -> Json:
    """Return an answer to a rating or a pair that is known to be right; None where nobody can tell what it means.

    For a rating it may be a number. For a pair it may be the text of the better answer, which is right on whichever
    side it stands; the name of a side may mean either where the record ``is_edited``.
    """
    if question.kind == "several":
        value = as_answer(question, value)
        return value if isinstance(value, list) and all(part in question.values for part in value) else None
    if question.kind == "rating":
        value = f"{value:g}" if isinstance(value, int | float) else value
        return value if value in question.values else None
    if len(record.answers) < 2:
        return None
    texts = [record.answers[side].messages[-1].get("content") for side in (0, -1)]
    if value in texts:
        return PAIR_VALUES[texts.index(value)]
    return value if value in (PAIR_VALUES[2:] if is_edited else PAIR_VALUES) else None


def most_given(answers: Mapping[str, Json]) -> Json:
    """Return what all annotators answered, or more than half of them; None where there is no such answer."""
    counts = ranked(answers.values())
    return counts[0][0] if counts and 2 * counts[0][1] > len(answers) else None


def ranked(values: Iterable[Json]) -> list[tuple[Json, int]]:
    """Return each of ``values`` and how often it is there, the most frequent first."""
    by_spelling: dict[bytes, Json] = {}
    counts: Counter[bytes] = Counter()
    for value in values:
        spelling = canonical(value)
        by_spelling.setdefault(spelling, value)
        counts[spelling] += 1
    items = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(by_spelling[spelling], number) for spelling, number in items]
