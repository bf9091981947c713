"""The Renderer: rows in, examples and prompts out, each proved before it is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from train.errors import TrainError
from train.recipe import Objective
from train.render import asserts
from train.render.encode import Encoded, Encoder
from train.render.example import Example, Prompt, Rendered
from train.render.messages import all_texts, last_answer, prepared
from train.render.sandbox import safe_template
from train.render.spans import Conversations, Layout, RowFault
from train.render.turns import Turn, Turns

if TYPE_CHECKING:
    from train.data import Row

# For models that come without a template: words that any vocabulary has, and the model's own end token.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'}"
    "[message.role] }}:\n{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ message.content }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
_MOST_NAMED = 10


class Renderer:
    """Renders rows for one tokenizer, objective and length.

    ``warnings`` collects what a person should know about the model's template; each is there once.
    Raises TrainError "E921 bad-model" without a fast tokenizer, "E922 bad-template" for a template that is not safe.
    """

    def __init__(
        self, tokenizer: Any, objective: Objective, max_length: int | None = None, *, on_too_long: str = "refuse",
        allow_special_tokens: bool = False, stop_ids: Collection[int] = (),
    ) -> None:  # fmt: skip
        self.tokenizer, self.objective, self.max_length = tokenizer, objective, max_length
        self.on_too_long, self.allow_special_tokens = on_too_long, allow_special_tokens
        self.encoder = Encoder(tokenizer)
        self.warnings: list[str] = []
        # Base and tuned are measured on the same rows, so each is rendered once; the row is kept for its identity.
        self._examples: dict[int, tuple[Row, Example]] = {}
        self._prompts: dict[int, tuple[Row, Prompt]] = {}
        self._options: dict[tuple[int, str], tuple[Row, tuple[list[int], list[int]]]] = {}
        self.template = self._template()
        tokens = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        self.conversations = Conversations(safe_template(self.template, tokens))
        eos = [tokenizer.eos_token] if tokenizer.eos_token else []
        try:
            self.turns = Turns(self.conversations, eos, self.encoder.special_texts)
        except RowFault as fault:
            raise _bad_template(fault) from None
        closing = [] if self.turns.closing is None else [tokenizer.convert_tokens_to_ids(self.turns.closing)]
        self.stop_ids: list[int] = sorted({*closing, *([tokenizer.eos_token_id] if eos else []), *stop_ids})
        if self.turns.closing is None:
            self.warnings.append("the chat template closes an answer with no end token, so no end is trained")
        if not self.turns.has_opening:
            self.warnings.append("the chat template ignores add_generation_prompt; prompts end where the answer begins")
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
            raise _bad_template(fault) from None

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
        examples, skipped, cut = [], [], {}
        faults: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in rows:
            try:
                example = self._whole(row)
                lost = len(example.ids) - (self.max_length or len(example.ids))
                if lost > 0 and self.on_too_long == "skip":
                    skipped.append(row.id)
                    continue
                if lost > 0:
                    example = self._shortened(example, lost)
                    cut[row.id] = lost
                examples.append(example)
            except RowFault as fault:
                faults[fault.code, fault.reason].append(row.id)
        if faults:
            raise _listed(faults)
        return Rendered(examples, skipped, cut)

    def example(self, row: Row) -> Example:
        """Return one row's example, cut to max_length where the recipe says so; raises RowFault (a TrainError)."""
        example = self._whole(row)
        lost = len(example.ids) - (self.max_length or len(example.ids))
        return self._shortened(example, lost) if lost > 0 else example

    def whole(self, row: Row) -> Example:
        """Return one row's example uncut, and keep nothing of it; raises RowFault (a TrainError)."""
        return self._made(row)

    def prompt(self, row: Row) -> Prompt | None:
        """Return what the last answer is generated from; None for raw text. Raises RowFault (a TrainError)."""
        if row.messages is None:
            return None
        known = self._prompts.get(id(row))
        if known is None:
            self._refuse_control(row)
            messages = prepared(row.messages, self.template)
            layout = self.conversations.layout(messages, row.tools)
            turn = self.turns.find(messages, row.tools, layout, len(messages) - 1, is_last=True)
            reference = row.messages[last_answer(row.messages)]["content"] or ""
            known = self._prompts[id(row)] = row, Prompt(row.id, self._encode(layout, [turn])[1].ids, reference)
        return known[1]

    def option(self, row: Row, text: str) -> tuple[list[int], list[int]]:
        """Return what the last answer is generated from, and the tokens of ``text`` as that answer, without its end.

        Raises RowFault (a TrainError), also where both together are longer than max_length.
        """
        known = self._options.get((id(row), text))
        if known is None:
            assert row.messages is not None, "raw text has no answer"
            answer = {"role": "assistant", "content": text}
            changed = replace(row, messages=[*row.messages[: last_answer(row.messages)], answer])
            self._refuse_control(changed)
            messages = prepared(changed.messages or [], self.template)
            layout = self.conversations.layout(messages, row.tools)
            turn = self.turns.find(messages, row.tools, layout, len(messages) - 1, is_last=True)
            encoded, opening = self._encode(layout, [turn])
            first = len(opening.ids)
            spans = zip(encoded.ids[first:], encoded.offsets[first:], strict=True)
            ids = [token for token, (begin, _) in spans if begin < turn.stop]
            if not ids:
                raise RowFault(f"the choice {text!r} has no token of its own")
            if first + len(ids) > (self.max_length or first + len(ids)):
                raise RowFault(f"with the choice {text!r} longer than max_length {self.max_length}", "E925 too-long")
            known = self._options[id(row), text] = row, (opening.ids, ids)
        return known[1]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids: without control tokens, outer white space as it is."""
        return self.encoder.decode(ids, has_control=False)

    def _whole(self, row: Row) -> Example:
        known = self._examples.get(id(row))
        if known is None:
            known = self._examples[id(row)] = row, self._made(row)
        return known[1]

    def _made(self, row: Row) -> Example:
        self._refuse_control(row)
        if row.messages is None:
            return self._raw(row)
        messages = prepared(row.messages, self.template)
        layout = self.conversations.layout(messages, row.tools)
        last = len(messages) - 1
        answers = (
            [n for n, m in enumerate(messages) if m["role"] == "assistant"] if self.objective == "chat" else [last]
        )
        turns = [self.turns.find(messages, row.tools, layout, n, is_last=n == last) for n in answers]
        asserts.agree_with_marks(self.conversations.marked(messages, row.tools), turns, layout, answers)
        encoded, _ = self._encode(layout, turns)
        if self.objective == "domain":
            return self._all_tokens(row, layout.text, encoded)
        mask = [any(_is_inside(span, turn) for turn in turns) for span in encoded.offsets]
        mask[0] = False
        asserts.check_tokens(self.encoder, layout, encoded, mask, turns, answers, messages, self.turns.closing)
        num_bytes = sum(len(layout.text[turn.start : turn.stop].encode()) for turn in turns)
        return Example(row.id, row.category, row.cluster, encoded.ids, mask, num_bytes)

    def _raw(self, row: Row) -> Example:
        """Raw text: every token is trained, and the end of the text is one."""
        text = row.text or ""
        encoded = self.encoder.encode(text, plain=[(0, len(text))] if self._is_plain_needed([text]) else ())
        eos = self.tokenizer.eos_token_id
        if eos is not None:
            encoded = Encoded([*encoded.ids, eos], [*encoded.offsets, (len(text), len(text))])
        return self._all_tokens(row, text, encoded)

    def _all_tokens(self, row: Row, text: str, encoded: Encoded) -> Example:
        mask = [False] + [True] * (len(encoded.ids) - 1)
        if not any(mask) or not text.strip():
            raise RowFault("no token of the record is trained")
        asserts.one_bos(self.encoder, encoded.ids, text)
        begins = next((a for (a, _), is_trained in zip(encoded.offsets, mask, strict=True) if is_trained), 0)
        return Example(row.id, row.category, row.cluster, encoded.ids, mask, len(text[begins:].encode()))

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
        return Example(
            example.id, example.category, example.cluster, example.ids[:keep], example.mask[:keep], num_bytes
        )


def _is_inside(span: tuple[int, int], turn: Turn) -> bool:
    start, end = span
    return turn.start <= start and end <= turn.end and start < turn.end and end > turn.start


def _bad_template(fault: RowFault) -> TrainError:
    return TrainError(
        "E922 bad-template", f"the base's chat template cannot train a plain question and answer: {fault.reason}",
        "mend chat_template in the model's folder, or take another base",
    )  # fmt: skip


def _listed(faults: Mapping[tuple[str, str], list[str]]) -> TrainError:
    """One error for all rows: each reason with its count and the first ids."""

    def lines() -> Iterator[str]:
        for (_, reason), ids in faults.items():
            more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
            yield f"{len(ids)} record{'s' if len(ids) > 1 else ''}: {reason}: {', '.join(ids[:_MOST_NAMED])}{more}"

    code = next(iter(faults))[0]
    hints = {
        "E924 control-token-in-data": "mend the records, or train them as plain text with allow_special_tokens = true",
        "E925 too-long": "raise max_length, or set on_too_long to cut or skip; both are counted",
    }
    return TrainError(code, "\n  ".join(lines()), hints.get(code, "train preview shows a record token by token"))
