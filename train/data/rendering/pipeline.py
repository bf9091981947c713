"""The one path from rows to records: rendered, located, encoded, proved. A single row is a batch of one.

The template's child and the tokenizer are asked for a whole batch at once. A row that breaks a promise drops out with
its fault, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from train.data.rendering import promises
from train.data.rendering.conversation import Conversation, Conversations, Rendering, Span
from train.data.rendering.encode import Encoded, Encoder, Passage
from train.data.rendering.examples import Record
from train.data.rendering.messages import (
    ControlTokenFault,
    RowFault,
    all_texts,
    answer_weights,
    answers_of,
    last_answer,
    prepare_messages,
    refuse_marks,
    weight_of,
)
from train.recipe import Objective

if TYPE_CHECKING:
    from train.data.dataset import Row

# Rows of a batch, and the characters that end it sooner: the child has little memory.
_MOST_ROWS, _MOST_CHARACTERS = 256, 1 << 20


@dataclass
class Item:
    """A row in the pipeline. Each step fills in its fields or ``fault``; later steps skip a row with a fault."""

    row: Row
    fault: RowFault | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    """As the template gets them, none for raw text."""
    answers: list[int] = field(default_factory=list)
    """Indices of the messages to locate in the text; the last one is the conversation's last answer."""
    notes: list[str] = field(default_factory=list)
    """What the template leaves out and may, in words."""
    talk: Conversation | None = None
    encoded: Encoded | None = None
    record: Record | None = None

    def attempt(self, step: Callable[..., None], *arguments: Any) -> None:
        """Take a step, unless one before failed."""
        if self.fault is None:
            try:
                step(self, *arguments)
            except RowFault as fault:
                self.fault = fault

    @property
    def text(self) -> str:
        """What is encoded."""
        return (self.row.text or "") if self.talk is None else self.talk.layout.text


class Pipeline:
    """Takes rows along the path for one tokenizer, template and objective."""

    def __init__(
        self, encoder: Encoder, conversations: Conversations, objective: Objective, *, allow_special_tokens: bool
    ) -> None:
        self.encoder, self.conversations, self.objective = encoder, conversations, objective
        self.allow_special_tokens = allow_special_tokens

    def records(self, rows: Sequence[Row], *, has_offsets: bool = False) -> Iterator[Item]:
        """Yield each row with its proved record, or with the fault for which it has none."""
        for batch in _batches(rows):
            items = self.encode(self.locate(batch), has_offsets=has_offsets)
            for item in items:
                item.attempt(self._prove)
            yield from items

    def locate(self, rows: Sequence[Row], *, is_trained: bool = True) -> list[Item]:
        """Return each row rendered, with the span of each answer that its objective trains.

        What is not ``is_trained`` is only generated from: then the last answer alone is located, and nothing is proved
        of what stands before it.
        """
        items = [Item(row) for row in rows]
        for item in items:
            item.attempt(self._prepare, is_trained)
        talks = [item for item in items if item.fault is None and item.messages]
        requests = [self.conversations.request(item.messages, item.row.tools, item.answers) for item in talks]
        for item, rendering in zip(talks, self.conversations.template.render(requests), strict=True):
            item.attempt(self._locate, rendering, is_trained)
        return items

    def encode(self, items: list[Item], *, has_offsets: bool = False) -> list[Item]:
        """Encode what `locate` returned."""
        located = [item for item in items if item.fault is None]
        passages = [self._passage(item, has_offsets=has_offsets) for item in located]
        for item, encoded in zip(located, self.encoder.encode(passages), strict=True):
            item.attempt(self._check_encoding, encoded)
        return items

    def _check_encoding(self, item: Item, encoded: Encoded) -> None:
        promises.prove_prefix(encoded)
        item.encoded = encoded

    def _prepare(self, item: Item, is_trained: bool) -> None:
        self._refuse_control(item.row)
        if item.row.messages is not None or not is_trained:
            item.messages = prepare_messages(item.row.messages or (), self.conversations.template.source)
            item.answers = answers_of(item.messages, self.objective) if is_trained else [last_answer(item.messages)]

    def _locate(self, item: Item, rendering: Rendering, is_trained: bool) -> None:
        messages, tools, answers = item.messages, item.row.tools, item.answers
        layout = self.conversations.layout(messages, tools, rendering.text)
        if is_trained:
            weights = [weight_of(message) for message in item.row.messages or ()]
            trained = [n for n in answers if weights[n] > 0] if self.objective != "domain" else range(len(messages))
            item.notes = promises.prove_parts(self.conversations, messages, tools, layout, trained)
            promises.prove_answers_have_text(messages, answers)
        talk = self.conversations.locate(messages, layout, answers, rendering)
        if is_trained:
            promises.prove_marks(rendering.marks, talk)
        item.talk = talk

    def _passage(self, item: Item, *, has_offsets: bool) -> Passage:
        talk, text = item.talk, item.text
        spans = [(0, len(text))] if talk is None else talk.layout.spans
        is_plain = self.allow_special_tokens and any(self.encoder.special_pattern.search(text[a:b]) for a, b in spans)
        plain = spans if is_plain else []
        if talk is None:
            return Passage(text, plain=plain, has_offsets=True)
        return passage_of(talk, plain, has_offsets=has_offsets or self.objective == "domain")

    def _prove(self, item: Item) -> None:
        if item.talk is None:
            item.record = self._all_tokens(item)
        elif self.objective == "domain":
            refuse_marks(item.row.messages or ())
            item.record = self._all_tokens(item)
        else:
            item.record = self._answers(item, item.talk)

    def _all_tokens(self, item: Item) -> Record:
        # Every token is trained; of raw text its end is one more.
        row, text, encoded, num_prompt = item.row, item.text, item.encoded, -1
        assert encoded is not None
        assert encoded.offsets is not None, "raw text and the objective domain ask for them"
        eos = self.encoder.tokenizer.eos_token_id
        if item.talk is not None:
            num_prompt = encoded.num_prompt
        elif eos is not None:
            offsets = np.append(encoded.offsets, [[len(text), len(text)]], axis=0)
            encoded = encoded._replace(ids=np.append(encoded.ids, np.int32(eos)), offsets=offsets)
        if len(encoded.ids) < 2 or not text.strip():
            raise RowFault("no token of the record is trained")
        promises.prove_single_bos(self.encoder, encoded, text)
        assert encoded.offsets is not None
        num_bytes = len(text[int(encoded.offsets[1, 0]) :].encode())
        weights = None if row.weight == 1 else [row.weight]
        return Record(_name(row), encoded.ids, [(1, len(encoded.ids))], num_bytes, num_prompt, weights)

    def _answers(self, item: Item, talk: Conversation) -> Record:
        # The answers of a weight above 0 are trained, each with its end token.
        row, encoder, encoded, text = item.row, self.encoder, item.encoded, talk.layout.text
        assert encoded is not None
        weights = answer_weights(row.messages or (), item.answers)
        every = [part for part in zip(talk.turns, item.answers, encoded.runs, weights, strict=True) if part[3] > 0]
        # A first token has nothing before it to be predicted from.
        runs = [(max(start, 1), stop) for _, _, (start, stop), _ in every]
        if all(start >= stop for start, stop in runs):
            raise RowFault("no token of the record is trained")
        own = talk.layout.template_text
        promises.prove_single_bos(encoder, encoded, own)
        promises.prove_control_tokens(encoder, encoded, own)
        turns = [turn for turn, *_ in every]
        promises.prove_answers_are_apart(talk, turns)
        ids = [encoded.ids[start:stop].tolist() for start, stop in runs]
        for (turn, answer, _, _), trained in zip(every, ids, strict=True):
            promises.prove_answer(encoder, text[turn.start : turn.end], item.messages[answer]["content"], trained)
        if every[-1][1] == item.answers[-1]:
            promises.prove_end(encoder, turns[-1], ids[-1], self.conversations.closing)
        num_bytes = sum(len(text[turn.start : turn.stop].encode()) for turn in turns)
        counted = None
        if row.weight != 1 or any(weight != 1 for *_, weight in every):
            counted = [row.weight * weight for *_, weight in every]
        return Record(_name(row), encoded.ids, runs, num_bytes, encoded.num_prompt, counted)

    def _refuse_control(self, row: Row) -> None:
        # Control tokens in data are structure that the author of a row must not write (TRUST: tokens/*).
        for where, text in all_texts(row):
            token = self.encoder.special_pattern.search(text)
            if token and not (self.allow_special_tokens and where in ("content", "text")):
                raise ControlTokenFault(f"the control token {token.group()!r} stands in the data ({where})")


def passage_of(talk: Conversation, plain: Sequence[Span] = (), *, has_offsets: bool = False) -> Passage:
    """Return a conversation as it is encoded."""
    answers = [(turn.start, turn.end) for turn in talk.turns]
    return Passage(talk.layout.text, answers, talk.turn.start, plain, has_offsets)


def _name(row: Row) -> tuple[str, str, str]:
    return row.id, row.category, row.cluster


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.text or "") + sum(len(message["content"] or "") for message in row.messages or ())
        if len(batch) == _MOST_ROWS or size > _MOST_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
