"""Records that compare answers, as examples: both sides are rendered and proved as any answer is.

A pair is a better and a worse answer to one prompt. An answer with a verdict is "liked" or not; beside it stands an
answer to another prompt, by which KTO estimates how far the model has moved from the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from train.base.cache import Cache
from train.data.dataset import Row
from train.data.rendering.examples import Example, Examples, LazySequence, Record, Rendered
from train.data.rendering.renderer import Renderer, render_cached

NO_PAIR, EQUAL_SIDES = "E880 no-pair", "E881 equal-sides"


@dataclass(frozen=True)
class PreferenceExample(Example):
    """Texts that are trained together; ids and mask are theirs, end to end.

    ``parts``: of a pair the better and the worse; of an answer with a verdict that answer, and one to another prompt;
    of replayed text that text alone. ``sign`` is -1 for an answer that was not liked, else 1.
    """

    parts: tuple[Example, ...] = ()
    sign: int = 1
    row_weight: float = 1.0

    @property
    def num_chosen(self) -> int:
        """Number of trained tokens of the first part."""
        return self.parts[0].num_supervised

    @property
    def weight(self) -> float:
        """What the record counts; its tokens have no weights of their own."""
        return self.row_weight

    @staticmethod
    def replayed(example: Example) -> PreferenceExample:
        """Return general text as a record among those that compare answers."""
        return PreferenceExample(*_joined([example]), is_replay=True, parts=(example,))


class PreferenceExamples(LazySequence[PreferenceExample]):
    """A sequence of examples that are made when they are asked for, from ``first`` and ``second`` parts [n] each.

    ``signs`` and ``weights`` are those of `PreferenceExample` [n].
    """

    def __init__(self, first: Examples, second: Examples, signs: Sequence[int], weights: Sequence[float]) -> None:
        self.first, self.second, self.signs = first, second, signs
        self.lengths = first.lengths + second.lengths
        self.supervised = first.supervised + second.supervised
        self.chosen = first.supervised
        self.weights = np.array(weights, np.float64)

    def __len__(self) -> int:
        return len(self.first)

    def at(self, index: int) -> PreferenceExample:
        """Return example ``index``, counted from 0."""
        parts = self.first[index], self.second[index]
        return PreferenceExample(
            *_joined(parts), parts=parts, sign=self.signs[index], row_weight=float(self.weights[index])
        )


def _joined(parts: Sequence[Example]) -> tuple[str, str, str, list[int], list[bool], int]:
    first = parts[0]
    ids, mask = [token for part in parts for token in part.ids], [is_on for part in parts for is_on in part.mask]
    return first.id, first.category, first.cluster, ids, mask, first.num_bytes


def sides_of(row: Row) -> tuple[Row, Row] | str:
    """Return a row with the best and one with the worst of the answers that it compares, or why there are no two."""
    if not row.answers:
        return "the record compares no answers"
    if len(row.answers) < 2:
        return "the record has one answer, and a pair needs two"
    if row.worse is None:
        return "the answers have the same rating, so that none is the better one"
    return row, row.worse


def preference_examples(renderer: Renderer, rows: Sequence[Row], digest: str, cache: Cache | None) -> Rendered:
    """Return what the renderer's objective trains of records that compare answers; both sides are proved.

    ``digest`` is a SHA-256 of the rows. A record is left out with its reason where it has no two answers ("E880
    no-pair"), where both sides are the same tokens after they were cut ("E881 equal-sides"), and where `Renderer`
    leaves one of them out. Raises the TrainError that `Renderer.examples` raises.
    """
    if renderer.objective == "kto":
        return _verdicts(renderer, rows, digest, cache)
    pairs, left_out = [], {}
    for row in rows:
        sides = sides_of(row)
        if isinstance(sides, str):
            left_out[row.id] = NO_PAIR, sides
        else:
            pairs.append(sides)
    better, worse = (
        render_cached(renderer, side, f"{digest} {name} answers", cache)
        for side, name in (([a for a, _ in pairs], "better"), ([b for _, b in pairs], "worse"))
    )
    left_out |= better.left_out | worse.left_out
    firsts, seconds = _records(better), _records(worse)
    chosen: list[tuple[Record, Record, float]] = []
    for row, _ in pairs:
        if row.id in left_out:
            continue
        first, second = firsts[row.id], seconds[row.id]
        if np.array_equal(first.ids, second.ids):
            is_cut = row.id in better.cut or row.id in worse.cut
            reason = "both answers are the same" + (" up to max_length, where they are cut" if is_cut else "")
            left_out[row.id] = EQUAL_SIDES, reason
        else:
            chosen.append((first, second, row.weight))
    examples = PreferenceExamples(
        Examples.of([first for first, _, _ in chosen]), Examples.of([second for _, second, _ in chosen]),
        [1] * len(chosen), [weight for *_, weight in chosen],
    )  # fmt: skip
    return Rendered(examples, left_out, _sums(better.cut, worse.cut), {**worse.notes, **better.notes})


def _verdicts(renderer: Renderer, rows: Sequence[Row], digest: str, cache: Cache | None) -> Rendered:
    # One example for each answer: of a record with several, the best one was liked and the worst was not.
    verdicts: list[tuple[Row, int]] = []
    left_out: dict[str, tuple[str, str]] = {}
    for row in rows:
        sides = sides_of(row)
        if not isinstance(sides, str):
            verdicts += [(sides[0], 1), (replace(sides[1], id=f"{row.id} (worse)"), -1)]
        elif len(row.answers) == 1:
            verdicts.append((row, 1 if row.is_liked else -1))
        else:
            left_out[row.id] = NO_PAIR, sides
    rendered = render_cached(renderer, [row for row, _ in verdicts], f"{digest} verdicts", cache)
    records = _records(rendered)
    known = [(records[row.id], sign, row.weight) for row, sign in verdicts if row.id in records]
    mismatched = _mismatched([record for record, *_ in known], renderer.max_length)
    if known and not mismatched:
        left_out |= {record.name[0]: (NO_PAIR, "there is no other prompt to compare with") for record, *_ in known}
        known = []
    examples = PreferenceExamples(
        Examples.of([record for record, *_ in known]), Examples.of(mismatched),
        [sign for _, sign, _ in known], [weight for *_, weight in known],
    )  # fmt: skip
    return replace(rendered, examples=examples, left_out=rendered.left_out | left_out)


def _mismatched(records: Sequence[Record], most: int | None) -> list[Record]:
    # Each prompt with the answer of the next record that has another prompt; none where all have the same.
    mixed = []
    prompts = [record.ids[: record.num_prompt].tobytes() for record in records]
    for index, record in enumerate(records):
        others = (n % len(records) for n in range(index + 1, index + len(records)))
        other = next((n for n in others if prompts[n] != prompts[index]), None)
        if other is None:
            return []
        answer = records[other]
        shift = record.num_prompt - answer.num_prompt
        runs = [(start + shift, stop + shift) for start, stop in answer.runs if start >= answer.num_prompt]
        ids = np.concatenate([record.ids[: record.num_prompt], answer.ids[answer.num_prompt :]])
        joined = Record(record.name, ids, runs, answer.num_bytes, record.num_prompt)
        mixed.append(joined.shorten(most) if most and len(ids) > most else joined)
    return mixed


def _records(rendered: Rendered) -> dict[str, Record]:
    examples = rendered.examples
    if not isinstance(examples, Examples):
        # No row was rendered.
        return {}
    return {record.name[0]: record for record in map(examples.record, range(len(examples)))}


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
