"""The records of lm-eval tasks: prompts, references, losses and choices as text that makes the tokens of evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.rendering import Conversation, Renderer, RowFault
from train.data.rendering.messages import answer_weights, answers_of, last_answer
from train.evaluate.metrics.choice import MARKS, index_of_choice
from train.pipeline.export.serve import plain_ids, render_texts
from train.report.evaluation import CategorySpec

Document = dict[str, Any]


def answer_document(renderer: Renderer, row: Row, spec: CategorySpec) -> Document:
    """Return what a record's answer is generated from and scored by, and its choices where the category has some.

    "gold" is the index of the right choice, None where the reference is no choice.
    """
    prompt, _ = render_texts(renderer, row)
    rendered = renderer.prompt(row)
    assert rendered is not None, "only rows with messages are here"
    document: Document = {"id": row.id, "category": row.category, "prompt": prompt, "reference": rendered.reference}
    if choices := choices_of(spec):
        document["context"] = prompt.rstrip()
        document["gold"] = index_of_choice(rendered.reference, choices, marks="" if spec.choices else MARKS)
        # Evaluation counts no end where it compares choices.
        document["choices"] = [
            _space(prompt) + _answered(renderer, row, choice, has_end=not spec.choices) for choice in choices
        ]
    return document


def loss_documents(renderer: Renderer, row: Row) -> Iterator[Document]:
    """Yield one document for each trained answer of a record; their losses and bytes add up to the record's.

    A harness moves white space from the end of a prompt to what follows and counts it there, so it is scored by itself
    too and taken off: log p(space + answer) - log p(space) = log p(answer | prompt).
    """
    for part in _trained_parts(renderer, row):
        located = renderer.locate(part)
        prompt, answer = render_texts(renderer, part)
        space = _space(prompt)
        yield {
            "id": row.id, "category": row.category, "context": prompt.rstrip(),
            "continuations": [space + answer, *([space] if space else [])], "num_bytes": len(_spoken(located).encode()),
        }  # fmt: skip


def is_same_loss(renderer: Renderer, row: Row, ids: Sequence[int]) -> bool:
    """Whether a harness that joins prompt, white space and answer as text scores the tokens ``ids`` of evaluation."""
    return all(_is_same(renderer, *render_texts(renderer, part), ids) for part in _trained_parts(renderer, row))


def is_same_choice(renderer: Renderer, row: Row, spec: CategorySpec) -> bool:
    """Whether a harness compares the tokens of choices that evaluation compared; true where it compared none."""
    prompt, _ = render_texts(renderer, row)
    return all(
        _is_same(renderer, prompt, _answered(renderer, row, choice, has_end=False), [*prompt_ids, *option])
        for choice in spec.choices
        for prompt_ids, option in [renderer.option(row, choice)]
    )


def choices_of(spec: CategorySpec) -> list[str]:
    """Return the choices of a category that is scored by one, be it written or the likeliest."""
    return list(spec.options.get("choices") or ()) if spec.metric.kind in ("choice", "likelihood") else []


def _trained_parts(renderer: Renderer, row: Row) -> list[Row]:
    """The record up to each answer that is trained: those of the objective that its marks do not take out."""
    messages = row.messages or []
    answers = answers_of(messages, renderer.objective)
    weights = answer_weights(messages, answers)
    return [replace(row, messages=messages[: n + 1]) for n, weight in zip(answers, weights, strict=True) if weight > 0]


def _is_same(renderer: Renderer, prompt: str, answer: str, ids: Sequence[int]) -> bool:
    whole, context = plain_ids(renderer, prompt + answer), plain_ids(renderer, prompt.rstrip())
    return whole == list(ids)[: len(whole)] and whole[: len(context)] == context


def _space(prompt: str) -> str:
    return prompt[len(prompt.rstrip()) :]


def _spoken(located: Conversation) -> str:
    """The last answer without its end token."""
    return located.layout.text[located.turn.start : located.turn.stop]


def _answered(renderer: Renderer, row: Row, text: str, *, has_end: bool) -> str:
    """The answer ``text`` as it would be trained, with its end token or without."""
    messages = row.messages or []
    answer = {"role": "assistant", "content": text}
    try:
        located = renderer.locate(replace(row, messages=[*messages[: last_answer(messages)], answer]))
    except RowFault as fault:
        raise TrainError(fault.code, f"the choice {text!r} of {row.category!r}: {fault.reason}", fault.hint) from None
    return located.answer if has_end else _spoken(located)
