"""The records of lm-eval tasks: prompts, references, losses and choices as text that makes the tokens of evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from train.data import Row
from train.errors import TrainError
from train.evaluate import CategorySpec
from train.metrics import normalised
from train.out.serve import plain_ids, served
from train.render import Renderer, RowFault

Document = dict[str, Any]


def answer_document(renderer: Renderer, row: Row, spec: CategorySpec) -> Document:
    """Return what a record's answer is generated from and scored by, and its choices where the category has some."""
    prompt, _ = served(renderer, row)
    asked = renderer.prompt(row)
    assert asked is not None, "only rows with messages are here"
    document: Document = {"id": row.id, "category": row.category, "prompt": prompt, "reference": asked.reference}
    if choices := choices_of(spec):
        known = [normalised(one, casefold=True) for one in choices]
        wanted = normalised(asked.reference, casefold=True).strip("(). ")
        document["context"] = prompt.rstrip()
        document["gold"] = known.index(wanted) if wanted in known else -1
        document["choices"] = [_space(prompt) + _answered(renderer, row, one) for one in choices]
    return document


def loss_documents(renderer: Renderer, row: Row) -> Iterator[Document]:
    """Yield one document for each trained answer of a record; their losses and bytes add up to the record's.

    A harness moves white space from the end of a prompt to what follows and counts it there, so it is scored by itself
    too and taken off: log p(space + answer) - log p(space) = log p(answer | prompt).
    """
    for part in trained_parts(renderer, row):
        located = renderer.located(part)
        prompt, answer = served(renderer, part)
        space = _space(prompt)
        text = located.layout.text[located.turn.start : located.turn.stop]
        yield {
            "id": row.id, "category": row.category, "context": prompt.rstrip(),
            "continuations": [space + answer, *([space] if space else [])], "num_bytes": len(text.encode()),
        }  # fmt: skip


def trained_parts(renderer: Renderer, row: Row) -> list[Row]:
    """Return the record up to each answer that is trained: every one for the objective chat, else the last."""
    messages = row.messages or []
    places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    return [
        replace(row, messages=messages[: place + 1])
        for place in (places if renderer.objective == "chat" else places[-1:])
    ]


def is_same_loss(renderer: Renderer, row: Row, ids: Sequence[int]) -> bool:
    """Whether a harness that joins prompt, white space and answer as text scores the tokens ``ids`` of evaluation."""
    for part in trained_parts(renderer, row):
        prompt, answer = served(renderer, part)
        whole, context = plain_ids(renderer, prompt + answer), plain_ids(renderer, prompt.rstrip())
        if whole != list(ids)[: len(whole)] or whole[: len(context)] != context:
            return False
    return True


def choices_of(spec: CategorySpec) -> list[str]:
    """Return the choices of a category that is scored by one."""
    return list(spec.options.get("choices") or ()) if spec.metric.name == "choice" else []


def has_right_choice(document: Mapping[str, Any]) -> bool:
    """Whether the reference is one of the choices."""
    return bool(document["gold"] >= 0)


def _space(prompt: str) -> str:
    return prompt[len(prompt.rstrip()) :]


def _answered(renderer: Renderer, row: Row, text: str) -> str:
    """The answer ``text`` as it would be trained, with its end token."""
    part = trained_parts(renderer, row)[-1]
    messages = [*(part.messages or ())[:-1], {"role": "assistant", "content": text}]
    try:
        return renderer.located(replace(row, messages=messages)).answer
    except RowFault as fault:
        raise TrainError(fault.code, f"the choice {text!r} of {row.category!r}: {fault.reason}", fault.hint) from None
