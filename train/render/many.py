"""All rows in one pass: the child that renders and the tokenizer are asked for many at a time.

The proof of a row is the one of `Renderer.whole`, in whole runs of tokens instead of token by token. Whatever is not
plain (tools, reasoning, a content that the template rewrites, a token across an edge, a promise not seen to hold) is
left to `Renderer.whole`, which does it or says what is wrong; so this pass can only be quicker, never laxer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train.recipe import Objective
from train.render import asserts
from train.render.encode import Encoder, Placed
from train.render.examples import Made
from train.render.faults import RowFault
from train.render.messages import all_texts, answers_of, prepared
from train.render.proof import PROVED_KEYS
from train.render.spans import Conversations, Layout, Message, says
from train.render.template import MARK_END, MARK_START
from train.render.turns import Turn, Turns

if TYPE_CHECKING:
    from train.data import Row

# Rows of a batch, and the characters that end it sooner: the child has little memory.
_ROWS, _CHARACTERS = 256, 1 << 20


@dataclass(frozen=True)
class _Asked:
    """A row that can go the quick way: its place, its messages as the template gets them, and its answers' turns."""

    place: int
    messages: list[dict[str, Any]]
    answers: list[int]


@dataclass(frozen=True)
class _Laid:
    """A rendered row: where its contents and answers are, and the text before the last answer when it is generated."""

    asked: _Asked
    layout: Layout
    turns: list[Turn]


class Many:
    """Renders rows by the batch with the parts of a `Renderer`."""

    def __init__(self, encoder: Encoder, conversations: Conversations, turns: Turns, objective: Objective) -> None:
        self.encoder, self.conversations, self.turns, self.objective = encoder, conversations, turns, objective
        self.template = conversations.template

    def made(self, rows: Sequence[Row]) -> Iterator[Made | None]:
        """Yield for each row what it became, or None where `Renderer.whole` must be asked."""
        batch: list[_Asked] = []
        begin = size = 0
        for place, row in enumerate(rows):
            asked = self._asked(place, row)
            if asked is not None:
                batch.append(asked)
                size += sum(len(message["content"]) for message in asked.messages)
            if place + 1 - begin == _ROWS or size > _CHARACTERS:
                yield from self._batch(rows, begin, place + 1, batch)
                batch, begin, size = [], place + 1, 0
        yield from self._batch(rows, begin, len(rows), batch)

    def _asked(self, place: int, row: Row) -> _Asked | None:
        if row.messages is None or row.tools or self.objective == "domain":
            return None
        if row.weight != 1 or any(mark in message for message in row.messages for mark in ("train", "weight")):
            return None
        special, has_marks = self.encoder.special_pattern, self.template.has_generation
        for _, text in all_texts(row):
            if special.search(text) or (has_marks and (MARK_START in text or MARK_END in text)):
                return None
        try:
            messages = prepared(row.messages, self.template.source)
        except RowFault:
            return None
        answers = answers_of(messages, self.objective)
        if any(not PROVED_KEYS.isdisjoint(message) for message in messages):
            return None
        if any(not messages[n]["content"].strip() for n in answers):
            return None
        return _Asked(place, messages, answers)

    def _batch(self, rows: Sequence[Row], begin: int, end: int, batch: Sequence[_Asked]) -> Iterator[Made | None]:
        found: dict[int, Made] = {}
        laid = list(self._laid(batch)) if batch else []
        placed = self.encoder.place(
            [one.layout.text for one in laid],
            [[edge for turn in one.turns for edge in (turn.start, turn.end)] for one in laid],
            [one.turns[-1].start for one in laid],
        )
        runs = [_runs(tokens) for tokens in placed]
        spoken = self.encoder.decode_many([ids for each in runs for ids in each])
        for one, tokens, own in zip(laid, placed, runs, strict=True):
            decoded = [next(spoken) for _ in own]
            if tokens is not None and own and self._is_proved(one, tokens, own, decoded):
                found[one.asked.place] = _made(rows[one.asked.place], one, tokens)
        return (found.get(place) for place in range(begin, end))

    def _laid(self, batch: Sequence[_Asked]) -> Iterator[_Laid]:
        has_marks = self.template.has_generation
        requests = [
            {
                "messages": one.messages, "tools": None, "has_marks": has_marks,
                "openings": one.answers if self.turns.has_opening else [],
            }
            for one in batch
        ]  # fmt: skip
        for one, answer in zip(batch, self.template.render_many(requests), strict=True):
            if answer is None:
                continue
            try:
                layout = self.conversations.plain_layout(answer["text"], one.messages)
                if layout is None:
                    continue
                turns = [
                    self._turn(one.messages, layout, turn, answer["openings"][n] if answer["openings"] else None)
                    for n, turn in enumerate(one.answers)
                ]
                asserts.agree_with_marks(answer["marks"], turns, layout, one.answers)
            except RowFault:
                continue
            yield _Laid(one, layout, turns)

    def _turn(self, messages: Sequence[Message], layout: Layout, turn: int, opening: str | int | None) -> Turn:
        text = layout.text[:opening] if isinstance(opening, int) else opening
        return self.turns.find(messages, None, layout, turn, is_last=turn == len(messages) - 1, opening=text)

    def _is_proved(self, one: _Laid, tokens: Placed, runs: Sequence[Sequence[int]], decoded: Sequence[str]) -> bool:
        """The promises of `asserts.check_tokens`."""
        text, messages, encoder = one.layout.text, one.asked.messages, self.encoder
        plain = [place for place in one.layout.contents if place is not None]
        own = asserts.without(text, plain)
        try:
            asserts.one_bos(encoder, tokens.ids, own)
        except RowFault:
            return False
        if encoder.num_control(tokens.ids) != len(encoder.special_pattern.findall(own)) + tokens.has_added_bos:
            return False
        for place, message in zip(one.layout.contents, messages, strict=True):
            # A trained token lies within its turn, so the turns tell.
            if place and message["role"] != "assistant" and _meets(place, one.turns):
                return False
        for turn, answer, said in zip(one.turns, one.asked.answers, decoded, strict=True):
            answered = text[turn.start : turn.end]
            if said != answered or not says(answered, messages[answer]["content"]):
                return False
        closing = self.turns.closing
        ends = None if closing is None else encoder.tokenizer.convert_tokens_to_ids(closing)
        return closing is None or (one.turns[-1].has_end_token and list(runs[-1][-1:]) == [ends])


def _runs(tokens: Placed | None) -> list[list[int]]:
    """The trained ids of each turn; none where one has no token."""
    if tokens is None or tokens.edges[0] == 0:
        return []
    edges = tokens.edges
    runs = [tokens.ids[start:stop].tolist() for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return runs if all(runs) else []


def _made(row: Row, one: _Laid, tokens: Placed) -> Made:
    text, edges = one.layout.text, tokens.edges
    num_bytes = sum(len(text[turn.start : turn.stop].encode()) for turn in one.turns)
    runs = list(zip(edges[::2], edges[1::2], strict=True))
    return Made((row.id, row.category, row.cluster), tokens.ids, runs, num_bytes, tokens.num_opening)


def _meets(place: tuple[int, int], turns: Sequence[Turn]) -> bool:
    return any(turn.start < place[1] and place[0] < turn.end for turn in turns)
