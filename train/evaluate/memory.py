"""Whether a model knows an answer by heart: given its first tokens, it writes the rest word for word.

As Carlini et al. 2023, "Quantifying Memorization" (arXiv:2202.07646), with validation records as the control: a model
that has learnt to answer continues some of what it has never seen, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from train.data.dataset import Row
from train.data.rendering import Renderer
from train.evaluate.answers import generate
from train.evaluate.predictions import FEWEST_AFTER, PREFIX

_MOST = 32
"""Tokens that are compared at the most."""


def verbatim(
    model: Any, renderer: Renderer, rows: Sequence[Row], *, most: int, batch_tokens: int
) -> dict[str, float]:  # fmt: skip
    """Return by id 1.0 where the model continues the last answer of a row as it stands, else 0.0, of ``most`` rows.

    Rows whose answer has fewer than PREFIX + FEWEST_AFTER tokens, which anybody might guess, are left out. Raises
    TrainError: rows cannot be rendered.
    """
    prompts, targets, ids = list[list[int]](), list[list[int]](), list[str]()
    for example in renderer.examples(rows).examples:
        if len(ids) == most:
            break
        stop = len(example.mask) - example.mask[::-1].index(True) if any(example.mask) else 0
        start = stop
        while start and example.mask[start - 1]:
            start -= 1
        answer = [token for token in example.ids[start:stop] if token not in renderer.stop_ids]
        target = answer[PREFIX : PREFIX + _MOST]
        if start and len(target) >= FEWEST_AFTER:
            prompts.append(example.ids[: start + PREFIX])
            targets.append(target)
            ids.append(example.id)
    written = generate(model, prompts, max_new_tokens=_MOST, stop_ids=renderer.stop_ids, batch_tokens=batch_tokens)
    return {
        name: float(generated.ids[: len(target)] == target)
        for name, target, generated in zip(ids, targets, written, strict=True)
    }
