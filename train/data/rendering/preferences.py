"""Records that compare answers, as examples: both sides are rendered and proved as any answer is.

A pair is a better and a worse answer to one prompt. An answer with a verdict is "liked" or not; beside it stands an
answer to another prompt, by which KTO estimates how far the model has moved from the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from train.base.cache import Cache
from train.data.dataset import Row
from train.data.rendering.examples import Examples, Record, Rendered
from train.data.rendering.renderer import Renderer, render_cached

NO_PAIR, EQUAL_SIDES = "E880 no-pair", "E881 equal-sides"


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
    sides = {row.id: sides_of(row) for row in rows}
    left_out = {name: (NO_PAIR, why) for name, why in sides.items() if isinstance(why, str)}
    pairs = [pair for pair in sides.values() if not isinstance(pair, str)]
    better = render_cached(renderer, [one for one, _ in pairs], f"{digest} better answers", cache)
    worse = render_cached(renderer, [other for _, other in pairs], f"{digest} worse answers", cache)
    left_out |= better.left_out | worse.left_out
    firsts, seconds = _records(better), _records(worse)
    records = []
    for row, _ in pairs:
        if row.id in left_out:
            continue
        first, second = firsts[row.id], seconds[row.id]
        if np.array_equal(first.ids, second.ids):
            is_cut = row.id in better.cut or row.id in worse.cut
            reason = "both answers are the same" + (" up to max_length, where they are cut" if is_cut else "")
            left_out[row.id] = EQUAL_SIDES, reason
        else:
            records.append(first.paired_with(second, 1, row.weight))
    cut = {name: better.cut.get(name, 0) + worse.cut.get(name, 0) for name in {**better.cut, **worse.cut}}
    return Rendered(Examples.of(records), left_out, cut, {**worse.notes, **better.notes})


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
    known = _records(rendered)
    judged = [(known[row.id], sign, row.weight) for row, sign in verdicts if row.id in known]
    mismatched = _mismatched([record for record, *_ in judged], renderer.max_length)
    if judged and not mismatched:
        left_out |= {record.name[0]: (NO_PAIR, "there is no other prompt to compare with") for record, *_ in judged}
    records = [
        one.paired_with(other, sign, weight) for (one, sign, weight), other in zip(judged, mismatched, strict=False)
    ]
    return replace(rendered, examples=Examples.of(records), left_out=rendered.left_out | left_out)


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
    records = map(rendered.examples.record, range(len(rendered.examples)))
    return {record.name[0]: record for record in records}
