"""Instruction-following difficulty: how much a prompt helps a model to expect its answer.

IFD of Li et al. 2023, "From Quantity to Quality" (arXiv:2308.12032): the mean loss of an answer after its prompt, over
the mean loss of the same answer alone. Near 0 the prompt gives the answer away, near 1 it is no help, and over 1 it
misleads: such a pair deserves a look. It orders records for a reader; it is no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from train.data.rendering import Example
from train.model.loss import nll_per_example


@dataclass(frozen=True)
class Difficulty:
    """One line of `train ifd`: mean losses in nats a token, their ratio, and the number of tokens of the answer."""

    id: str
    ifd: float | None = None
    loss: float | None = None
    loss_alone: float | None = None
    tokens: int = 0
    fault: str = ""


def difficulties(model: Any, examples: Sequence[Example], *, most_tokens: int) -> list[Difficulty]:
    """Return the difficulty of the last answer of each example, in order.

    An example longer than ``most_tokens`` has a fault instead: cut, its answer would be another one.
    """
    faults = {index: _fault(example, most_tokens) for index, example in enumerate(examples)}
    scorable = [index for index, fault in faults.items() if not fault]
    pairs = [_pair(examples[index]) for index in scorable]
    after = nll_per_example(model, [pair[0] for pair in pairs])
    alone = nll_per_example(model, [pair[1] for pair in pairs])
    by_index = {index: Difficulty(examples[index].id, fault=fault) for index, fault in faults.items() if fault}
    for index, conditional, unconditional in zip(scorable, after, alone, strict=True):
        loss, loss_alone = conditional.nll / conditional.num_tokens, unconditional.nll / unconditional.num_tokens
        ifd = loss / loss_alone if loss_alone > 0 else None
        by_index[index] = Difficulty(conditional.id, ifd, loss, loss_alone, conditional.num_tokens)
    return [by_index[index] for index in range(len(examples))]


def _fault(example: Example, most_tokens: int) -> str:
    if not example.num_supervised:
        return "has no answer"
    if len(example.ids) > most_tokens:
        return f"is {len(example.ids):,} tokens long, more than {most_tokens:,}"
    return ""


def _pair(example: Example) -> tuple[Example, Example]:
    """Return the example with its last answer alone supervised, and that answer after the first token only."""
    stop = len(example.mask) - example.mask[::-1].index(True)
    start = stop
    while example.mask[start - 1]:
        start -= 1
    answer = example.ids[start:stop]
    after = replace(example, ids=example.ids[:stop], mask=[False] * start + [True] * len(answer), weights=None)
    return after, replace(example, ids=[example.ids[0], *answer], mask=[False] + [True] * len(answer), weights=None)
