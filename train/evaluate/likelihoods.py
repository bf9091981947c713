"""How likely a model finds each answer that a question offers, and how much a prompt helps it to expect its answer.

A question, which its answers share, is read once.

The second is the instruction-following difficulty (IFD) of Li et al. 2023, "From Quantity to Quality"
(arXiv:2308.12032): the mean loss of an answer after its prompt, over the mean loss of the same answer alone. Near 0 the
prompt gives the answer away, near 1 it is no help, and over 1 it misleads: such a pair deserves a look. It is no
verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.rendering import Example, Renderer, RowFault
from train.model.attention import pack
from train.model.batch import Batch, by_length
from train.model.capabilities import capabilities_of
from train.model.loss import batch_nlls, nll_per_example
from train.model.parts import evaluating


@dataclass(frozen=True)
class Question:
    """A prompt and the texts that may follow it, as token ids; none of them is empty."""

    prompt: Sequence[int]
    options: Sequence[Sequence[int]]


def questions(renderer: Renderer, choice_rows: Sequence[tuple[Row, Sequence[str]]]) -> list[Question]:
    """Return each row's question with its choices as options; call it first, so that a bad one costs no training.

    Raises TrainError: a row cannot be rendered with one of its choices; the first such row is named.
    """
    rendered = []
    for row, choices in choice_rows:
        try:
            pairs = [renderer.option(row, choice) for choice in choices]
            if any(prompt != pairs[0][0] for prompt, _ in pairs):
                raise RowFault("the chat template writes the prompt otherwise for each choice")
        except RowFault as fault:
            raise TrainError(fault.code, f"record {row.id}: {fault.reason}", fault.hint) from None
        rendered.append(Question(pairs[0][0], [option for _, option in pairs]))
    return rendered


def option_nlls(model: Any, questions: Sequence[Question], *, batch_tokens: int) -> list[list[float]]:
    """Return the negative log-likelihood in nats, summed over its tokens, of each option after its prompt.

    They are those of reading prompt and option alone, one by one. Raises ValueError: a prompt or an option is empty.
    """
    if not all(question.prompt and all(question.options) for question in questions):
        raise ValueError("a prompt and an option need at least one token")
    if not capabilities_of(model).has_kv_cache:
        return _nlls_without_cache(model, questions, batch_tokens)
    device = next(model.parameters()).device
    nlls: dict[int, list[float]] = {}
    with evaluating(model):
        for group in by_length([_num_tokens(question) for question in questions], batch_tokens, is_packed=True):
            chosen = [questions[index] for index in group]
            num_options = sum(len(question.options) for question in chosen)
            each = iter(batch_nlls(model, _branched(chosen, device), num_options))
            for index, question in zip(group, chosen, strict=True):
                nlls[index] = [next(each) for _ in question.options]
    return [nlls[index] for index in range(len(questions))]


def _num_tokens(question: Question) -> int:
    return len(question.prompt) + sum(len(option) - 1 for option in question.options)


def _branched(questions: Sequence[Question], device: torch.device) -> Batch:
    # Lay out the questions end to end, each followed by its options without their last tokens, which predict none.
    ids: list[int] = []
    rows: list[int] = []
    for question in questions:
        ids += question.prompt
        last = len(ids) - 1
        for option in question.options:
            # The first token of each option is predicted at the same position, the last of the prompt.
            rows += [last, *range(len(ids), len(ids) + len(option) - 1)]
            ids += option[:-1]
    options = [option for question in questions for option in question.options]

    def put(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.int64)).to(device)

    return Batch(
        ids=put([ids]),
        rows=put(rows),
        targets=put([token for option in options for token in option]),
        owners=put(np.repeat(np.arange(len(options)), [len(option) for option in options])),
        packed=pack(
            [_num_tokens(question) for question in questions],
            device,
            [[len(option) - 1 for option in question.options] for question in questions],
        ),
    )


def _nlls_without_cache(model: Any, questions: Sequence[Question], batch_tokens: int) -> list[list[float]]:
    # For models whose attention is their own: every option with a copy of its prompt.
    examples = [
        Example("", "", "", [*question.prompt, *option], [False] * len(question.prompt) + [True] * len(option), 0)
        for question in questions
        for option in question.options
    ]
    each = iter(nll_per_example(model, examples, batch_tokens=batch_tokens))
    return [[next(each).nll for _ in question.options] for question in questions]


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
    faults: dict[int, str] = {}
    for index, example in enumerate(examples):
        if not example.num_supervised:
            faults[index] = "has no answer"
        elif len(example.ids) > most_tokens:
            faults[index] = f"is {len(example.ids):,} tokens long, more than {most_tokens:,}"
    scorable = [index for index in range(len(examples)) if index not in faults]
    pairs = [_pair(examples[index]) for index in scorable]
    after = nll_per_example(model, [pair[0] for pair in pairs])
    alone = nll_per_example(model, [pair[1] for pair in pairs])
    by_index = {index: Difficulty(examples[index].id, fault=fault) for index, fault in faults.items()}
    for index, conditional, unconditional in zip(scorable, after, alone, strict=True):
        loss, loss_alone = conditional.nll / conditional.num_tokens, unconditional.nll / unconditional.num_tokens
        ifd = loss / loss_alone if loss_alone > 0 else None
        by_index[index] = Difficulty(conditional.id, ifd, loss, loss_alone, conditional.num_tokens)
    return [by_index[index] for index in range(len(examples))]


def _pair(example: Example) -> tuple[Example, Example]:
    stop = len(example.mask) - example.mask[::-1].index(True)
    start = stop
    while example.mask[start - 1]:
        start -= 1
    answer = example.ids[start:stop]
    after = replace(example, ids=example.ids[:stop], mask=[False] * start + [True] * len(answer), weights=None)
    return after, replace(example, ids=[example.ids[0], *answer], mask=[False] + [True] * len(answer), weights=None)
