"""The Renderer: rows in, examples and prompts out, each proved before it is used."""

from __future__ import annotations

import gc
import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from train.recipe import Objective
from train.render import asserts
from train.render.encode import Encoded, Encoder
from train.render.example import Example, Prompt, Rendered
from train.render.examples import Examples, Made, made
from train.render.faults import UNRENDERABLE, RowFault, Silent, bad_template, listed
from train.render.many import Many
from train.render.messages import (
    all_texts,
    answer_weights,
    answers_of,
    last_answer,
    notes_of,
    prepared,
    refuse_marks,
    weight_of,
)
from train.render.proof import prove
from train.render.sandbox import safe_template
from train.render.spans import Conversations, Layout
from train.render.turns import Located, Turn, Turns

if TYPE_CHECKING:
    from train.data import Row

# For models that come without a template: words that any vocabulary has, and the model's own end token.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'}"
    "[message.role] }}:\n{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ message.content }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
_SKIPPED, _SILENT, _REFUSED = -1, -2, -3


class Renderer:
    """Renders rows for one tokenizer, objective and length.

    ``warnings`` collects what a person should know about the model's template; each is there once.
    Raises TrainError "E921 bad-model" without a fast tokenizer, "E922 bad-template" for a template that is not safe.
    """

    def __init__(
        self, tokenizer: Any, objective: Objective, max_length: int | None = None, *, on_too_long: str = "refuse",
        on_unrenderable: str = "refuse", allow_special_tokens: bool = False, stop_ids: Collection[int] = (),
    ) -> None:  # fmt: skip
        self.tokenizer, self.objective, self.max_length = tokenizer, objective, max_length
        self.on_too_long, self.on_unrenderable = on_too_long, on_unrenderable
        self.allow_special_tokens = allow_special_tokens
        self.encoder = Encoder(tokenizer)
        self.warnings: list[str] = []
        # Base and tuned are measured on the same rows, so each is rendered once; the row is kept for its identity.
        self._known: dict[int, tuple[Row, Rendered, int]] = {}
        self._prompts: dict[int, tuple[Row, Prompt]] = {}
        self._options: dict[tuple[int, str], tuple[Row, tuple[list[int], list[int]]]] = {}
        self.template = self._template()
        tokens = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        self.conversations = Conversations(safe_template(self.template, tokens))
        eos = [tokenizer.eos_token] if tokenizer.eos_token else []
        try:
            self.turns = Turns(self.conversations, eos, self.encoder.special_texts)
        except RowFault as fault:
            raise bad_template(fault) from None
        closing = [] if self.turns.closing is None else [tokenizer.convert_tokens_to_ids(self.turns.closing)]
        self.stop_ids: list[int] = sorted({*closing, *([tokenizer.eos_token_id] if eos else []), *stop_ids})
        if self.turns.closing is None:
            self.warnings.append("the chat template closes an answer with no end token, so no end is trained")
        if not self.turns.has_opening:
            self.warnings.append("the chat template ignores add_generation_prompt; prompts end where the answer begins")
        self._many = Many(self.encoder, self.conversations, self.turns, objective)
        if objective != "domain":
            # Raw text needs no template.
            self._try()

    def _try(self) -> None:
        """Take a question and an answer through what depends on the template: what fails here is no row's fault."""
        messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
        try:
            layout = self.conversations.layout(messages, None)
            turn = self.turns.find(messages, None, layout, 1, is_last=True)
            asserts.agree_with_marks(self.conversations.marked(messages, None), [turn], layout, [1])
            asserts.one_bos(self.encoder, self._encode(layout, [turn])[0].ids, layout.text)
        except RowFault as fault:
            raise bad_template(fault) from None

    def _template(self) -> str:
        source = self.tokenizer.chat_template
        if isinstance(source, Mapping):
            source = source.get("default") or next(iter(source.values()), None)
        if source:
            return str(source)
        self.warnings.append("the base has no chat template; a plain one is used (User: / Assistant: / end token)")
        return DEFAULT_TEMPLATE if self.tokenizer.eos_token else DEFAULT_TEMPLATE.replace("{{ eos_token }}", "")

    def examples(self, rows: Iterable[Row]) -> Rendered:
        """Return the examples of all rows; raises one TrainError that lists every fault with its record ids."""
        rows = list(rows)
        unknown = [row for row in rows if id(row) not in self._known]
        if unknown:
            with _without_garbage_collection():
                self.learn(unknown, self._rendered(unknown))
        known = [self._known[id(row)] for row in rows]
        skipped = [row.id for row, _, place in known if place == _SKIPPED]
        silent = [row.id for row, _, place in known if place == _SILENT]
        refused = {row.id: source.refused[row.id] for row, source, place in known if place == _REFUSED}
        cut = {row.id: source.cut[row.id] for row, source, _ in known if row.id in source.cut}
        notes = {row.id: source.notes[row.id] for row, source, _ in known if row.id in source.notes}
        kept = [(source.examples, place) for _, source, place in known if place >= 0]
        examples: Sequence[Example]
        is_whole = bool(kept) and all(store is kept[0][0] for store, _ in kept)
        if is_whole and [place for _, place in kept] == list(range(len(kept[0][0]))):
            examples = kept[0][0]
        else:
            examples = [store[place] for store, place in kept]
        return Rendered(examples, skipped, cut, silent, refused, notes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokenizer and the template, its special tokens included."""
        words = json.dumps([self.tokenizer.special_tokens_map, self.template], sort_keys=True, default=str)
        return hashlib.sha256((self.tokenizer.backend_tokenizer.to_str() + words).encode()).hexdigest()

    def learn(self, rows: Sequence[Row], rendered: Rendered) -> None:
        """Take ``rendered`` for what these rows become under this renderer's settings, in their order."""
        store, place, silent = rendered.examples, 0, set(rendered.silent)
        assert isinstance(store, Examples), "only whole passes are learnt"
        for row in rows:
            is_kept = place < len(store) and store.names[place][0] == row.id
            left = _SILENT if row.id in silent else _REFUSED if row.id in rendered.refused else _SKIPPED
            self._known[id(row)] = row, rendered, place if is_kept else left
            place += is_kept

    def _rendered(self, rows: Sequence[Row]) -> Rendered:
        found, skipped, cut, silent = [], [], {}, []
        refused: dict[str, str] = {}
        notes: dict[str, list[str]] = {}
        faults: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row, one in zip(rows, self._many.made(rows), strict=True):
            try:
                record = one or self._made(row)
                lost = len(record.ids) - (self.max_length or len(record.ids))
                if lost > 0 and self.on_too_long == "skip":
                    skipped.append(row.id)
                    continue
                if left_out := [*record.notes, *notes_of(row)]:
                    notes[row.id] = left_out
                if lost > 0:
                    record = made(self._shortened(record.example(), lost), record.num_prompt)
                    cut[row.id] = lost
                found.append(record)
            except Silent:
                silent.append(row.id)
            except RowFault as fault:
                if fault.code == UNRENDERABLE and self.on_unrenderable == "skip":
                    refused[row.id] = fault.reason
                else:
                    faults[fault.code, fault.reason].append(row.id)
        if faults:
            raise listed(faults, len(rows))
        return Rendered(Examples.of(found), skipped, cut, silent, refused, notes)

    def example(self, row: Row) -> Example:
        """Return one row's example, cut to max_length where the recipe says so; raises RowFault (a TrainError)."""
        example = self.whole(row)
        lost = len(example.ids) - (self.max_length or len(example.ids))
        return self._shortened(example, lost) if lost > 0 else example

    def whole(self, row: Row) -> Example:
        """Return one row's example uncut, and keep nothing of it; raises RowFault (a TrainError)."""
        return self._made(row).example()

    def notes(self, row: Row) -> list[str]:
        """Return what of a row is in no token, in words; raises RowFault (a TrainError)."""
        return [*self._made(row).notes, *notes_of(row)]

    def prompt(self, row: Row) -> Prompt | None:
        """Return what the last answer is generated from; None for raw text. Raises RowFault (a TrainError).

        The reference of an answer that calls tools is all that the model has to write, as it would be decoded.
        """
        if row.messages is None:
            return None
        known = self._prompts.get(id(row)) or self._known_prompt(row)
        if known is None:
            located = self.located(row)
            encoded, opening = self._encode(located.layout, [located.turn])
            answer = located.messages[-1]
            reference = answer["content"]
            if answer.get("tool_calls"):
                first, stop = len(opening.ids), located.turn.stop
                spans = zip(encoded.ids[first:], encoded.offsets[first:], strict=True)
                reference = self.decode([token for token, (begin, _) in spans if begin < stop])
            known = self._prompts[id(row)] = row, Prompt(row.id, opening.ids, reference)
        return known[1]

    def located(self, row: Row) -> Located:
        """Return a conversation's text and the place of its last answer; raises RowFault (a TrainError)."""
        self._refuse_control(row)
        messages = prepared(row.messages or (), self.template)
        layout = self.conversations.layout(messages, row.tools)
        turn = self.turns.find(messages, row.tools, layout, len(messages) - 1, is_last=True)
        return Located(messages, layout, turn)

    @cached_property
    def served_bos(self) -> str:
        """The beginning-of-text token, where the tokenizer adds it and the template does not write it; else ""."""
        text = self.conversations.render([{"role": "user", "content": "question"}], None)
        bos = str(self.tokenizer.bos_token)
        return bos if self.encoder.is_adding_bos and not text.startswith(bos) else ""

    @property
    def served_template(self) -> str:
        """The template for programs that add no token to a rendered text, as all that serve chats do.

        It opens the answer as training and evaluation do, also where the model's own leaves that out.
        """
        begins = "{{ bos_token }}" if self.served_bos else ""
        if self.turns.has_opening:
            return begins + self.template
        asked, answered = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
        text = self.conversations.render([asked], None)
        layout = self.conversations.layout([asked, answered], None)
        opening = self.turns.opening([asked, answered], None, layout, 1)
        if opening == text or not opening.startswith(text):
            return begins + self.template
        # A string of JSON is one of Jinja too.
        added = json.dumps(opening[len(text) :])
        return f"{begins}{self.template}{{% if add_generation_prompt %}}{{{{ {added} }}}}{{% endif %}}"

    def option(self, row: Row, text: str) -> tuple[list[int], list[int]]:
        """Return what the last answer is generated from, and the tokens of ``text`` as that answer, without its end.

        Raises RowFault (a TrainError), also where both together are longer than max_length.
        """
        known = self._options.get((id(row), text))
        if known is None:
            assert row.messages is not None, "raw text has no answer"
            answer = {"role": "assistant", "content": text}
            changed = replace(row, messages=[*row.messages[: last_answer(row.messages)], answer])
            located = self.located(changed)
            encoded, opening = self._encode(located.layout, [located.turn])
            first = len(opening.ids)
            spans = zip(encoded.ids[first:], encoded.offsets[first:], strict=True)
            ids = [token for token, (begin, _) in spans if begin < located.turn.stop]
            if not ids:
                raise RowFault(f"the choice {text!r} has no token of its own")
            if first + len(ids) > (self.max_length or first + len(ids)):
                raise RowFault(f"with the choice {text!r} longer than max_length {self.max_length}", "E925 too-long")
            known = self._options[id(row), text] = row, (opening.ids, ids)
        return known[1]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids: without control tokens, outer white space as it is."""
        return self.encoder.decode(ids, has_control=False)

    def _known_prompt(self, row: Row) -> tuple[Row, Prompt] | None:
        """The prompt begins the example; a cut one may be shorter than it."""
        if id(row) not in self._known or row.messages is None:
            return None
        _, rendered, place = self._known[id(row)]
        answer = row.messages[last_answer(row.messages)]
        if place < 0 or row.id in rendered.cut or answer.get("tool_calls"):
            return None
        assert isinstance(rendered.examples, Examples), "only whole passes are learnt"
        record = rendered.examples.record(place)
        return row, Prompt(row.id, record.example().ids[: record.num_prompt], answer["content"] or "")

    def roles(self, row: Row) -> list[str]:
        """Return whose text each token of `whole` is: the role of a message, "template" between them, or "text"."""
        record, layout, encoded = self._traced(row)
        if layout is None or encoded is None:
            return ["text"] * len(record.ids)
        # Messages after the last answer are rendered nowhere.
        shown = (row.messages or ())[: len(layout.contents)]
        places = [(place, one["role"]) for place, one in zip(layout.contents, shown, strict=True) if place]
        return [
            next((role for (a, b), role in places if start < b and a < end), "template")
            for start, end in encoded.offsets
        ]

    def _made(self, row: Row) -> Made:
        return self._traced(row)[0]

    def _traced(self, row: Row) -> tuple[Made, Layout | None, Encoded | None]:
        """The record with the text and offsets that it was made of; raw text has none."""
        self._refuse_control(row)
        if row.messages is None:
            return self._raw(row), None, None
        messages = prepared(row.messages, self.template)
        layout = self.conversations.layout(messages, row.tools)
        answers = answers_of(messages, self.objective)
        notes = prove(self.conversations, messages, row.tools, layout, self._trained(row.messages, answers))
        if any(not messages[n]["content"].strip() and not messages[n].get("tool_calls") for n in answers):
            raise RowFault("an answer is empty, so only its end would be trained")
        turns = [self.turns.find(messages, row.tools, layout, n, is_last=n == answers[-1]) for n in answers]
        asserts.agree_with_marks(self.conversations.marked(messages, row.tools), turns, layout, answers)
        encoded, opening = self._encode(layout, turns)
        if self.objective == "domain":
            refuse_marks(row.messages)
            record = made(self._all_tokens(row, layout.text, encoded), len(opening.ids))
            return replace(record, notes=notes), layout, encoded
        weighed = list(zip(turns, answers, answer_weights(row.messages, answers), strict=True))
        turns, answers, by_turn = map(list, zip(*(one for one in weighed if one[2] > 0), strict=True))
        owners = [next((n for n, turn in enumerate(turns) if _is_inside(span, turn)), -1) for span in encoded.offsets]
        mask = [owner >= 0 for owner in owners]
        mask[0] = False
        asserts.check_tokens(self.encoder, layout, encoded, mask, turns, answers, messages, self.turns.closing)
        num_bytes = sum(len(layout.text[turn.start : turn.stop].encode()) for turn in turns)
        weights = None
        if row.weight != 1 or any(weight != 1 for weight in by_turn):
            weights = [row.weight * by_turn[owner] if owner >= 0 else 0.0 for owner in owners]
        example = Example(row.id, row.category, row.cluster, encoded.ids, mask, num_bytes, weights)
        return replace(made(example, len(opening.ids)), notes=notes), layout, encoded

    def _trained(self, messages: Sequence[dict[str, Any]], answers: Sequence[int]) -> Collection[int]:
        """The turns whose tokens are trained."""
        if self.objective == "domain":
            return range(len(messages))
        return [turn for turn in answers if weight_of(messages[turn]) > 0]

    def _raw(self, row: Row) -> Made:
        """Raw text: every token is trained, and the end of the text is one."""
        text = row.text or ""
        encoded = self.encoder.encode(text, plain=[(0, len(text))] if self._is_plain_needed([text]) else ())
        eos = self.tokenizer.eos_token_id
        if eos is not None:
            encoded = Encoded([*encoded.ids, eos], [*encoded.offsets, (len(text), len(text))])
        return made(self._all_tokens(row, text, encoded), -1)

    def _all_tokens(self, row: Row, text: str, encoded: Encoded) -> Example:
        mask = [False] + [True] * (len(encoded.ids) - 1)
        if not any(mask) or not text.strip():
            raise RowFault("no token of the record is trained")
        asserts.one_bos(self.encoder, encoded.ids, text)
        begins = next((a for (a, _), is_trained in zip(encoded.offsets, mask, strict=True) if is_trained), 0)
        weights = None if row.weight == 1 else [row.weight] * len(mask)
        return Example(row.id, row.category, row.cluster, encoded.ids, mask, len(text[begins:].encode()), weights)

    def _encode(self, layout: Layout, turns: Sequence[Turn]) -> tuple[Encoded, Encoded]:
        """Encode the whole and what stands before the last answer, so that the second begins the first.

        Each answer begins and ends with a token of its own, as it does when it is generated; where the tokenizer would
        join across an edge, the text is encoded in parts.
        """
        plain, last = self._plain_spans(layout), turns[-1].start
        edges = {edge for turn in turns for edge in (turn.start, turn.end)}
        cuts: list[int] = []
        encoded = self.encoder.encode(layout.text, plain=plain)
        while joined := [edge for edge in edges if any(a < edge < b for a, b in encoded.offsets)]:
            cuts += joined
            encoded = self.encoder.encode(layout.text, cuts, plain)
        opening = self._opening(layout, last, cuts)
        if last not in cuts and encoded.ids[: len(opening.ids)] != opening.ids:
            encoded = self.encoder.encode(layout.text, [*cuts, last], plain)
        if encoded.ids[: len(opening.ids)] != opening.ids:
            raise RowFault("the prompt's tokens are no prefix of the trained ones (train and serve differ)")
        return encoded, opening

    def _opening(self, layout: Layout, start: int, cuts: Sequence[int]) -> Encoded:
        plain = [(a, b) for a, b in self._plain_spans(layout) if b <= start]
        return self.encoder.encode(layout.text[:start], [cut for cut in cuts if cut < start], plain)

    def _plain_spans(self, layout: Layout) -> list[tuple[int, int]]:
        places = [place for place in layout.contents if place is not None]
        return places if self._is_plain_needed([layout.text[a:b] for a, b in places]) else []

    def _is_plain_needed(self, texts: Iterable[str]) -> bool:
        return self.allow_special_tokens and any(self.encoder.special_pattern.search(text) for text in texts)

    def _refuse_control(self, row: Row) -> None:
        """Control tokens in data are structure that the author of a row must not write (TRUST: tokens/*)."""
        for place, text in all_texts(row):
            found = self.encoder.special_pattern.search(text)
            if found and not (self.allow_special_tokens and place in ("content", "text")):
                raise RowFault(
                    f"the control token {found.group()!r} stands in the data ({place})", "E924 control-token-in-data"
                )

    def _shortened(self, example: Example, lost: int) -> Example:
        keep = len(example.ids) - lost
        if self.on_too_long != "cut":
            raise RowFault(f"longer than max_length {self.max_length}", "E925 too-long")
        if not any(example.mask[:keep]):
            raise RowFault(f"the prompt alone is longer than max_length {self.max_length}", "E925 too-long")
        # The lost part's bytes: in proportion to its trained tokens, which decode to no whole characters.
        share = sum(example.mask[:keep]) / example.num_supervised
        num_bytes = round(example.num_bytes * share)
        weights = example.weights and example.weights[:keep]
        return replace(example, ids=example.ids[:keep], mask=example.mask[:keep], num_bytes=num_bytes, weights=weights)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A pass makes many objects and no cycles; looking for some among all that torch has loaded takes a fifth of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # Puts them among the old objects at once; else the next new one has all of them looked through after all.
            gc.freeze()
            gc.unfreeze()
            gc.enable()


def _is_inside(span: tuple[int, int], turn: Turn) -> bool:
    start, end = span
    return turn.start <= start and end <= turn.end and start < turn.end and end > turn.start
