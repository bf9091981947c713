"""Records that compare answers, as examples: both sides are rendered and proved as any answer is.

A pair is a better and a worse answer to one prompt. An answer with a verdict is "liked" or not; beside it stands an
answer to another prompt, by which KTO estimates how far the model has moved from the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from train.base.cache import Cache
from train.data.dataset import Row
from train.data.rendering.renderer import Renderer, render_cached
from train.data.rendering.tokens import Example, Examples, Rendered

NO_PAIR, EQUAL_SIDES = "E880 no-pair", "E881 equal-sides"


def preference_examples(renderer: Renderer, rows: Sequence[Row], digest: str, cache: Cache | None) -> Rendered:
    """Return what the renderer's objective trains of records that compare answers; both sides are proved.

    ``digest`` is a SHA-256 of the rows. A record is left out with its reason where it has no two answers ("E880
    no-pair"), where both sides are the same tokens after they were cut ("E881 equal-sides"), and where `Renderer`
    leaves one of them out. Raises the TrainError that `Renderer.render` raises.
    """
    pairs: list[tuple[Row, Row]] = []
    verdicts: list[tuple[Row, int]] = []
    left_out: dict[str, tuple[str, str]] = {}
    for row in rows:
        if renderer.objective == "kto" and len(row.answers) == 1:
            verdicts.append((row, 1 if row.is_liked else -1))
        elif row.rejected is None:
            left_out[row.id] = NO_PAIR, _reason(row)
        else:
            # Of a record with several answers the best one was liked and the worst was not.
            pairs.append((row, row.rejected))
            verdicts += [(row, 1), (replace(row.rejected, id=f"{row.id} (worse)"), -1)]
    if renderer.objective == "kto":
        return _verdict_examples(renderer, verdicts, left_out, digest, cache)
    better = render_cached(renderer, [one for one, _ in pairs], f"{digest} better answers", cache)
    worse = render_cached(renderer, [other for _, other in pairs], f"{digest} worse answers", cache)
    left_out |= better.left_out | worse.left_out
    sides = [{example.id: example for example in side.examples} for side in (better, worse)]
    cut = {name: better.cut.get(name, 0) + worse.cut.get(name, 0) for name in {**better.cut, **worse.cut}}
    examples = []
    for row, _ in pairs:
        if row.id in left_out:
            continue
        first, second = (side[row.id] for side in sides)
        if first.ids == second.ids:
            reason = "both answers are the same" + (" up to max_length, where they are cut" if row.id in cut else "")
            left_out[row.id] = EQUAL_SIDES, reason
        else:
            examples.append(first.paired_with(second, 1, row.weight))
    return Rendered(Examples.of(examples), left_out, cut, {**worse.notes, **better.notes})


def _reason(row: Row) -> str:
    if not row.answers:
        return "the record compares no answers"
    if len(row.answers) < 2:
        return "the record has one answer, and a pair needs two"
    return "the answers have the same rating, so that none is the better one"


def _verdict_examples(
    renderer: Renderer, verdicts: Sequence[tuple[Row, int]], left_out: dict[str, tuple[str, str]], digest: str,
    cache: Cache | None,
) -> Rendered:  # fmt: skip
    rendered = render_cached(renderer, [row for row, _ in verdicts], f"{digest} verdicts", cache)
    example_by_id = {example.id: example for example in rendered.examples}
    liked = [(example_by_id[row.id], sign, row.weight) for row, sign in verdicts if row.id in example_by_id]
    mismatched = _mismatched([example for example, *_ in liked], renderer.max_length)
    if liked and not mismatched:
        left_out |= {example.id: (NO_PAIR, "there is no other prompt to compare with") for example, *_ in liked}
    examples = [
        example.paired_with(other, sign, weight)
        for (example, sign, weight), other in zip(liked, mismatched, strict=False)
    ]
    return replace(rendered, examples=Examples.of(examples), left_out=rendered.left_out | left_out)


def _mismatched(examples: Sequence[Example], most: int | None) -> list[Example]:
    # Each prompt with the answer of the next example that has another prompt; none where all have the same.
    mixed = []
    prompts = [example.ids[: example.num_prompt] for example in examples]
    for index, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
        others = (n % len(examples) for n in range(index + 1, index + len(examples)))
        other = next((n for n in others if prompts[n] != prompt), None)
        if other is None:
            return []
        answer = examples[other]
        span = slice(answer.num_prompt, None)
        mask = [False] * len(prompt) + answer.mask[span]
        joined = replace(example, ids=prompt + answer.ids[span], mask=mask, num_bytes=answer.num_bytes, weights=None)
        mixed.append(joined.shorten(most) if most and len(joined.ids) > most else joined)
    return mixed
