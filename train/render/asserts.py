"""The token asserts of every run: cheap, always on, for each row."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import groupby

from train.render.encode import Encoded, Encoder
from train.render.faults import RowFault
from train.render.spans import Layout, Message, says
from train.render.turns import Turn
from train.render.words import Ints


def agree_with_marks(
    marks: Sequence[tuple[int, int]] | None, turns: Sequence[Turn], layout: Layout, answers: Sequence[int]
) -> None:
    """The template's own {% generation %} blocks must cover each answer and nobody else's words; raises RowFault."""
    if not marks:
        return
    for turn, answer in zip(turns, answers, strict=True):
        place = layout.contents[answer] or (turn.start, turn.stop)
        if not any(start <= place[0] and place[1] <= end for start, end in marks):
            raise RowFault(
                "the template's generation block and the place of the answer do not agree", "E922 bad-template"
            )


def one_bos(encoder: Encoder, ids: Sequence[int] | Ints, text: str) -> None:
    """Exactly one BOS, at the beginning, where the tokenizer adds one, and never two there; raises RowFault."""
    if encoder.bos is not None and list(ids[:2]) == [encoder.bos, encoder.bos]:
        raise RowFault("the chat template begins with two beginning-of-text tokens", "E922 bad-template")
    if not encoder.is_adding_bos:
        return
    # A model may use its BOS as a turn marker too; then the text itself has it more than once.
    written = max(1, text.count(encoder.tokenizer.bos_token)) if encoder.tokenizer.bos_token else 1
    if ids[0] != encoder.bos or list(ids).count(encoder.bos) > written:
        raise RowFault("the record does not begin with exactly one beginning-of-text token")


def check_tokens(
    encoder: Encoder,
    layout: Layout,
    encoded: Encoded,
    mask: Sequence[bool],
    turns: Sequence[Turn],
    answers: Sequence[int],
    messages: Sequence[Message],
    closing: str | None,
) -> None:
    """Prove a masked row; raises RowFault with the first promise that it breaks."""
    if not any(mask):
        raise RowFault("no token of the record is trained")
    plain = [place for place in layout.contents if place is not None]
    one_bos(encoder, encoded.ids, without(layout.text, plain))
    _control_tokens_are_the_templates(encoder, layout, encoded, plain)
    _nobody_else_is_trained(layout, encoded, mask, messages)
    runs = _runs(encoded, mask, turns)
    for turn, answer, ids in zip(turns, answers, runs, strict=True):
        _is_the_answer(encoder, layout.text[turn.start : turn.end], ids)
        if not says(layout.text[turn.start : turn.end], messages[answer]["content"]):
            raise RowFault("the trained text is not the assistant's")
        if closing is not None and answer == len(messages) - 1:
            ends = encoder.tokenizer.convert_tokens_to_ids(closing)
            if not turn.has_end_token or ids[-1:] != [ends]:
                raise RowFault(f"the last answer does not end in the trained end token {closing!r}")


def _control_tokens_are_the_templates(
    encoder: Encoder, layout: Layout, encoded: Encoded, plain: Sequence[tuple[int, int]]
) -> None:
    """Number of control tokens = number that the template wrote (+ one BOS that the tokenizer adds)."""
    written = len(encoder.special_pattern.findall(without(layout.text, plain)))
    has_added_bos = encoder.is_adding_bos and encoded.offsets[0] == (0, 0)
    if encoder.num_control(encoded.ids) != written + has_added_bos:
        raise RowFault("the number of control tokens is not the chat template's (data acts as structure)")


def _nobody_else_is_trained(
    layout: Layout, encoded: Encoded, mask: Sequence[bool], messages: Sequence[Message]
) -> None:
    others = [
        place
        for place, message in zip(layout.contents, messages, strict=True)
        if place and message["role"] != "assistant"
    ]
    for (start, end), is_trained in zip(encoded.offsets, mask, strict=True):
        if is_trained and any(start < b and a < end for a, b in others):
            raise RowFault("a token of the system, the user or a tool would be trained")


def _runs(encoded: Encoded, mask: Sequence[bool], turns: Sequence[Turn]) -> list[list[int]]:
    """The trained ids of each turn."""
    owners = [
        next((n for n, turn in enumerate(turns) if start < turn.end and end > turn.start), -1) if is_trained else -1
        for (start, end), is_trained in zip(encoded.offsets, mask, strict=True)
    ]
    found: list[list[int]] = [[] for _ in turns]
    for owner, group in groupby(zip(owners, encoded.ids, strict=True), key=lambda pair: pair[0]):
        if owner >= 0:
            found[owner] += [number for _, number in group]
    return found


def _is_the_answer(encoder: Encoder, text: str, ids: Sequence[int]) -> None:
    """decode(trained ids) == the assistant's text, up to the tokenizer's own Unicode normal form and outer spaces."""
    decoded = encoder.decode(ids, has_control=True)
    if decoded == text:
        return
    if unicodedata.normalize("NFKC", decoded).split() != unicodedata.normalize("NFKC", text).split():
        raise RowFault("the tokenizer cannot express the answer (the trained ids decode to another text)")


def without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the template's own text; a NUL stands where a content was, lest a control token form across the gap."""
    kept, position = [], 0
    for start, end in spans:
        kept.append(text[position:start])
        position = end
    return "\0".join([*kept, text[position:]])
