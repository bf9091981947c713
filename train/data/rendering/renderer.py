"""The one path from rows to examples and prompts: rendered, located, encoded, proved, held as arrays, cached.

The template's child and the tokenizer are asked for a whole batch at once; a single row is a batch of one. A row that
breaks a promise (`prove_parts`, `prove_answer`, `Encoder.prove`) drops out with its fault, and the others go on. The
key in the cache is everything that decides the result: the rows, the tokenizer, the template, the settings of the
`Renderer`, the versions of the libraries and the source of `train.data`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from train.base.cache import Cache
from train.base.console import join_names
from train.base.errors import TrainError
from train.base.storage import digest_of, installed_version, sources_digest
from train.data.dataset import (
    ControlTokenFault,
    NoTrainedAnswer,
    Row,
    RowFault,
    TooLongFault,
    all_texts,
    answers_of,
    drop_history,
    last_answer,
    prepare_messages,
    reasoning_of,
    weight_of,
)
from train.data.rendering.conversation import (
    QUESTION,
    Conversation,
    RenderFault,
    Rendering,
    Turn,
    find_marks,
    prove_answer,
    prove_parts,
    safe_template,
    trained_turns,
)
from train.data.rendering.tokens import BATCH, Encoded, Encoder, Example, Examples, Passage, Prompt, Rendered, arrays_of
from train.recipe import Objective, Reasoning

# For models that come without a template: words that any vocabulary has, and the model's own end token.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'}"
    "[message.role] }}:\n{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ message.content }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
# Rows of a batch, and the characters that end it sooner: the child has little memory.
_MOST_ROWS, _MOST_CHARACTERS = 256, 1 << 20
_LIBRARIES = ("tokenizers", "transformers", "jinja2", "numpy")
_DROPPED_NOTE = 'reasoning = "drop-history" drops the reasoning of earlier turns and does not train those answers'
_QUESTION_ROW = Row("", "", "", QUESTION, None, None)


_Run = tuple[int, int, float, int]
"""Of trained tokens the first and the one after the last, what each counts, and the UTF-8 bytes of their text."""


@dataclass
class _Item:
    """A row on its path. Each step fills in its fields or ``fault``; later steps skip a row with a fault."""

    row: Row
    is_trained: bool
    """False where the row is only generated from: then nothing is proved of what stands before its last answer."""
    fault: RowFault | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    """As the template gets them, none for raw text."""
    answers: list[int] = field(default_factory=list)
    """Indices of the messages to locate in the text; the last one is the conversation's last answer."""
    notes: list[str] = field(default_factory=list)
    """What of the row is in no token, and may be left out, in words."""
    conversation: Conversation | None = None
    turns: list[Turn] = field(default_factory=list)
    """Where what is trained of each answer stands; the conversation's own begin where an answer is generated."""
    encoded: Encoded = field(init=False)

    @property
    def text(self) -> str:
        """What is encoded."""
        return (self.row.text or "") if self.conversation is None else self.conversation.text

    def attempt(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a step of the item returns, None where it or one before failed."""
        if self.fault is None:
            try:
                return step(*arguments)
            except RowFault as fault:
                self.fault = fault
        return None


@dataclass(frozen=True)
class Preview:
    """One row for display: as it is trained, uncut, whose text each token is, and what of the row is in no token."""

    example: Example
    whole: Example
    roles: list[str]
    """Of each token of ``whole``: the role of a message, "reasoning", "template" between them, or "text"."""
    notes: list[str]


class Renderer:
    """Renders rows for one tokenizer, objective and length.

    ``warnings`` collects what a person should know about the model's template; each is there once.
    Raises TrainError "E921 bad-model" without a fast tokenizer, "E922 bad-template" for a template that is not safe.
    """

    def __init__(
        self, tokenizer: Any, objective: Objective, max_length: int | None = None, *, on_too_long: str = "refuse",
        on_unrenderable: str = "refuse", reasoning: Reasoning = "train", allow_special_tokens: bool = False,
        stop_ids: Collection[int] = (),
    ) -> None:  # fmt: skip
        self.tokenizer, self.objective, self.max_length = tokenizer, objective, max_length
        self.on_too_long, self.on_unrenderable = on_too_long, on_unrenderable
        self.reasoning, self.allow_special_tokens = reasoning, allow_special_tokens
        self.encoder = Encoder(tokenizer)
        self.warnings: list[str] = []
        self.template = self._template()
        tokens = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        eos, special = tokenizer.eos_token or "", tuple(self.encoder.special_texts)
        try:
            self._chat = safe_template(self.template, tuple(sorted(tokens.items())), eos, special)
            self._marks = find_marks(self.template, self._chat.render)
            # A failure on a plain question with its answer is the template's, not a row's. Raw text needs no template.
            if objective != "domain":
                item = self._item(_QUESTION_ROW)
                self.encoder.prove(item.encoded, item.text)
        except RowFault as fault:
            raise TrainError(
                "E922 bad-template",
                f"the base's chat template cannot train a plain question and answer: {fault.reason}",
                "Fix chat_template in the model's folder, or take another base.",
            ) from None
        closing = self._chat.closing
        ends = [] if closing is None else [tokenizer.convert_tokens_to_ids(closing)]
        self.stop_ids: list[int] = sorted({*ends, *([tokenizer.eos_token_id] if eos else []), *stop_ids})
        if closing is None:
            self.warnings.append("the chat template closes an answer with no end token, so no end is trained")
        if not self._chat.has_opening:
            self.warnings.append("the chat template ignores add_generation_prompt; prompts end where the answer begins")

    def _template(self) -> str:
        source = self.tokenizer.chat_template
        if isinstance(source, Mapping):
            source = source.get("default") or next(iter(source.values()), None)
        if source:
            return str(source)
        self.warnings.append("the base has no chat template; a plain one is used (User: / Assistant: / end token)")
        return DEFAULT_TEMPLATE if self.tokenizer.eos_token else DEFAULT_TEMPLATE.replace("{{ eos_token }}", "")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokenizer and the template, its special tokens included."""
        words = json.dumps([self.tokenizer.special_tokens_map, self.template], sort_keys=True, default=str)
        return hashlib.sha256((self.tokenizer.backend_tokenizer.to_str() + words).encode()).hexdigest()

    def render(self, rows: Sequence[Row]) -> Rendered:
        """Return the examples of all rows; raises one TrainError that lists every fault with its record ids."""
        rendered = Rendered()
        return replace(rendered, examples=Examples.joined(list(self.render_batches(rows, rendered))))

    def render_batches(self, rows: Sequence[Row], rendered: Rendered) -> Iterator[dict[str, Any]]:
        """Yield the arrays of the examples of ``rows`` some at a time, at least once; tell ``rendered`` of the others.

        Raises the TrainError that `render` raises, after the last ones.
        """
        examples: list[Example] = []
        faults: dict[str, tuple[RowFault, list[str]]] = {}
        for item in self._items(rows):
            whole, name = item.attempt(self._prove, item), item.row.id
            example = item.attempt(self._shorten, whole)
            if (fault := item.fault) is None:
                examples.append(example)
                if item.notes:
                    rendered.notes[name] = item.notes
                if len(example.ids) < len(whole.ids):
                    rendered.cut[name] = len(whole.ids) - len(example.ids)
            elif self._is_skipped(fault):
                rendered.left_out[name] = fault.code, fault.reason
            else:
                # All faults are gathered, so that their owner fixes them in one go.
                faults.setdefault(fault.reason, (fault, []))[1].append(name)
            if len(examples) == BATCH:
                yield arrays_of(examples)
                examples = []
        if faults:
            lines = [
                f"{len(ids):,} of {len(rows):,} record{'s' if len(rows) > 1 else ''}: {reason}: {join_names(ids)}"
                for reason, (_, ids) in faults.items()
            ]
            first, _ = next(iter(faults.values()))
            raise TrainError(first.code, "\n  ".join(lines), first.advice)
        yield arrays_of(examples)

    def _is_skipped(self, fault: RowFault) -> bool:
        if isinstance(fault, TooLongFault):
            return self.on_too_long == "skip"
        return isinstance(fault, NoTrainedAnswer) or (fault.is_unrenderable and self.on_unrenderable == "skip")

    def render_row(self, row: Row) -> Example:
        """Return one row's example, cut to max_length where the recipe says so; raises RowFault (a TrainError)."""
        return self._shorten(self.render_uncut(row))

    def render_uncut(self, row: Row) -> Example:
        """Return one row's example uncut; raises RowFault (a TrainError)."""
        return self._prove(self._item(row))

    def preview(self, row: Row) -> Preview:
        """Return a row as its example is, token by token, for display; raises RowFault (a TrainError)."""
        item = self._item(row)
        whole, conversation, marks = self._prove(item), item.conversation, self._marks
        roles = ["text"] * len(whole.ids)
        if conversation is not None:
            pairs = zip(conversation.contents, row.messages or (), strict=False)
            spans = [(*span, message["role"]) for span, message in pairs if span]
            traces = [
                marks.span(conversation, n)
                for n, one in enumerate(conversation.messages)
                if marks and reasoning_of(one)
            ]
            spans += [(*span, "reasoning") for span in traces if span]
            roles = [
                next((role for a, b, role in spans if start < b and a < end), "template")
                for start, end in item.encoded.offsets.tolist()
            ]
        return Preview(self._shorten(whole), whole, roles, item.notes)

    def render_prompt(self, row: Row) -> Prompt | None:
        """Return what the last answer is generated from; None for raw text. Raises RowFault (a TrainError).

        The reference of an answer that calls tools is all that the model has to write after its reasoning, as it would
        be decoded.
        """
        if row.messages is None:
            return None
        answer, marks = row.messages[last_answer(row.messages)], self._marks
        reference = answer["content"] or ""
        if marks is not None and not reasoning_of(answer):
            reference = marks.strip_reasoning(reference)
        item, conversation = self._unanswered(row)
        if answer.get("tool_calls"):
            written = conversation.text[item.turns[-1].start : conversation.last_turn.stop]
            reference = self.encoder.special_pattern.sub("", written)
        return Prompt(row.id, item.encoded.ids[: item.encoded.num_prompt], reference, conversation.prompt)

    def choice_ids(self, row: Row, choice: str) -> tuple[list[int], list[int]]:
        """Return the ids that the last answer is generated from, and those of ``choice`` as that answer without its
        end.

        Raises RowFault (a TrainError), also where both together are longer than max_length.
        """
        assert row.messages is not None, "raw text has no answer"
        messages = [*row.messages[: last_answer(row.messages)], {"role": "assistant", "content": choice}]
        encoded = self._unanswered(replace(row, messages=messages))[0].encoded
        [(start, stop)] = encoded.answer_spans
        if start == stop:
            raise RowFault(f"the choice {choice!r} has no token of its own")
        if self.max_length and encoded.num_prompt + stop - start > self.max_length:
            raise TooLongFault(f"with the choice {choice!r} longer than max_length {self.max_length}")
        return encoded.ids[: encoded.num_prompt], encoded.ids[start:stop]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids: without control tokens, outer white space as it is."""
        return self.encoder.decode(ids, has_control=False)

    def split_answer(self, ids: Sequence[int]) -> tuple[str, str | None]:
        """Return the answer of generated ids as `decode` gives it, and the reasoning before it, None without any."""
        return (self.decode(ids), None) if self._marks is None else self._marks.split(ids, self.encoder.decode)

    def count_reasoning(self, ids: Sequence[int]) -> int | None:
        """Return how many of generated ids are reasoning with its end, None where there is none."""
        return None if self._marks is None else self._marks.length(ids, self.encoder.decode)

    @cached_property
    def reasoning_end(self) -> list[int]:
        """The ids that end reasoning which does not end by itself; none where the template has no mark for it."""
        if self._marks is None:
            return []
        return list(self.tokenizer(f"\n{self._marks.closing}\n\n", add_special_tokens=False).input_ids)

    @cached_property
    def served_bos(self) -> str:
        """The beginning-of-text token, where the tokenizer adds it and the template does not write it; else ""."""
        bos = str(self.tokenizer.bos_token)
        is_written = self._chat.render(QUESTION[:1]).startswith(bos)
        return bos if self.encoder.is_adding_bos and not is_written else ""

    @property
    def served_template(self) -> str:
        """The template for programs that add no token to a rendered text, as all that serve chats do."""
        # It opens the answer as training and evaluation do, also where the model's own leaves that out.
        begins = "{{ bos_token }}" if self.served_bos else ""
        text = self._chat.render(QUESTION[:1])
        opening = text if self._chat.has_opening else self._unanswered(_QUESTION_ROW)[1].prompt
        if opening == text or not opening.startswith(text):
            return begins + self.template
        # A string of JSON is one of Jinja too.
        added = json.dumps(opening[len(text) :])
        return f"{begins}{self.template}{{% if add_generation_prompt %}}{{{{ {added} }}}}{{% endif %}}"

    def _item(self, row: Row, *, is_trained: bool = True) -> _Item:
        """Return one row located and encoded; raises its fault."""
        [item] = self._items([row], is_trained=is_trained)
        if item.fault is not None:
            raise item.fault
        return item

    def _items(self, rows: Iterable[Row], *, is_trained: bool = True) -> Iterator[_Item]:
        """Yield each row located and encoded, or with its fault."""
        batch: list[_Item] = []
        size = 0
        for row in rows:
            batch.append(_Item(row, is_trained))
            size += len(row.text or "") + sum(len(message["content"] or "") for message in row.messages or ())
            if len(batch) == _MOST_ROWS or size > _MOST_CHARACTERS:
                yield from self._encoded(batch)
                batch, size = [], 0
        yield from self._encoded(batch)

    def _encoded(self, items: list[_Item]) -> list[_Item]:
        for item in items:
            item.attempt(self._prepare, item)
        chats = [item for item in items if item.fault is None and item.messages]
        renderings = self._chat.render_all([(item.messages, item.row.tools, item.answers[-1]) for item in chats])
        for item, rendering in zip(chats, renderings, strict=True):
            item.attempt(self._locate, item, rendering)
        located = [item for item in items if item.fault is None]
        for item, encoded in zip(located, self.encoder.encode(list(map(self._passage, located))), strict=True):
            item.encoded = encoded
        return items

    def _prepare(self, item: _Item) -> None:
        row = item.row
        # Control tokens in data are structure that the author of a row must not write (TRUST: tokens/*).
        for where, text in all_texts(row):
            token = self.encoder.special_pattern.search(text)
            if token and not (self.allow_special_tokens and where in ("content", "text")):
                raise ControlTokenFault(f"the control token {token.group()!r} stands in the data ({where})")
        if row.messages is None and item.is_trained:
            return
        item.messages = prepare_messages(row.messages or (), self.template)
        dropped = drop_history(item.messages) if self.reasoning == "drop-history" else set()
        if not item.is_trained:
            item.answers = [last_answer(item.messages)]
            return
        # Trained without it, such an answer would teach to answer without reasoning.
        answers = answers_of(item.messages, self.objective, row.first_answer)
        item.answers = [answer for answer in answers if answer not in dropped]
        item.notes = [_DROPPED_NOTE] if dropped else []

    def _locate(self, item: _Item, rendering: Rendering | RenderFault) -> None:
        if isinstance(rendering, RenderFault):
            raise rendering
        messages, answers, row = item.messages, item.answers, item.row
        item.conversation = conversation = self._chat.locate(messages, row.tools, answers, rendering)
        trained: Collection[int] = answers
        if item.is_trained:
            written = row.messages or []
            if self.objective == "domain":
                trained = range(len(messages))
            else:
                trained = [n for n in answers if weight_of(written[n]) > 0]
            item.notes += prove_parts(self._chat, conversation, row.tools, trained)
            if (role := written[-1]["role"]) != "assistant":
                item.notes.append(f"what follows the last answer (a turn of the {role}) is not trained")
            if any(not messages[n]["content"].strip() and not messages[n].get("tool_calls") for n in answers):
                raise RowFault("an answer is empty, so only its end would be trained")
        is_masked = not item.is_trained or self.reasoning == "context"
        item.turns = trained_turns(conversation, self._marks, trained, is_masked=is_masked)

    def _passage(self, item: _Item) -> Passage:
        conversation, text = item.conversation, item.text
        spans = [(0, len(text))] if conversation is None else [span for span in conversation.contents if span]
        is_plain = self.allow_special_tokens and any(self.encoder.special_pattern.search(text[a:b]) for a, b in spans)
        plain = spans if is_plain else []
        if conversation is None:
            return Passage(text, plain_spans=plain)
        ends = [turn.end if item.is_trained else turn.stop for turn in item.turns]
        answers = [(turn.start, end) for turn, end in zip(item.turns, ends, strict=True)]
        return Passage(text, answers, conversation.last_turn.start, plain)

    def _prove(self, item: _Item) -> Example:
        row, conversation, encoded = item.row, item.conversation, item.encoded
        if conversation is None or self.objective == "domain":
            ids, runs = self._all_tokens(item)
        else:
            ids, runs = encoded.ids, self._answers(item, conversation)
        mask, weights = [False] * len(ids), [0.0] * len(ids)
        for start, stop, weight, _ in runs:
            mask[start:stop], weights[start:stop] = [True] * (stop - start), [weight] * (stop - start)
        if not any(mask):
            raise RowFault("no token of the record is trained")
        return Example(
            *row.key, ids, mask, sum(num_bytes for *_, num_bytes in runs),
            weights if any(weight != 1 for _, _, weight, _ in runs) else None,
            num_prompt=-1 if conversation is None else encoded.num_prompt,
        )  # fmt: skip

    def _answers(self, item: _Item, conversation: Conversation) -> list[_Run]:
        """The answers of a weight above 0, each with its end token, proved."""
        encoded, messages = item.encoded, item.row.messages or ()
        weights = [weight_of(messages[answer]) for answer in item.answers]
        # Set aside and counted, not refused: the owner of the data said so with a mark.
        if not any(weights):
            raise NoTrainedAnswer("no answer of the record may be trained (train is false, or the weight is 0)")
        self.encoder.prove(encoded, conversation.template_text, is_from_template=True)
        closing, runs = self._chat.closing, []
        answers = zip(item.turns, item.answers, encoded.answer_spans, weights, strict=True)
        for turn, answer, (start, stop), weight in answers:
            if weight > 0:
                # A first token has nothing before it to be predicted from.
                ids = encoded.ids[max(start, 1) : stop]
                prove_answer(conversation, answer, turn, self.encoder.decode(ids, has_control=True))
                is_last = answer == item.answers[-1]
                if is_last and closing and ids[-1:] != [self.tokenizer.convert_tokens_to_ids(closing)]:
                    raise RowFault(f"the last answer does not end in the trained end token {closing!r}")
                num_bytes = len(conversation.text[turn.start : turn.stop].encode())
                runs.append((max(start, 1), stop, item.row.weight * weight, num_bytes))
        return runs

    def _all_tokens(self, item: _Item) -> tuple[list[int], list[_Run]]:
        """The ids of a row that is trained whole, those of raw text with their end, and the run of them."""
        row, text, encoded, eos = item.row, item.text, item.encoded, self.tokenizer.eos_token_id
        if any(one.get("train") is False or one.get("weight") not in (None, 1) for one in row.messages or ()):
            raise RowFault("a message has a train flag or a weight, and the objective domain trains all tokens alike")
        if self.reasoning == "context" and any(map(reasoning_of, item.messages)):
            raise RowFault("reasoning is to be context, and the objective domain trains all tokens alike")
        ids = [*encoded.ids, eos] if item.conversation is None and eos is not None else encoded.ids
        if len(ids) < 2 or not text.strip():
            return ids, []
        self.encoder.prove(encoded._replace(ids=ids), text)
        first = int(encoded.offsets[1, 0]) if len(encoded.offsets) > 1 else len(text)
        return ids, [(1, len(ids), row.weight, len(text[first:].encode()))]

    def _unanswered(self, row: Row) -> tuple[_Item, Conversation]:
        """Return a row with messages, proved up to its last answer, and where its parts stand."""
        item = self._item(row, is_trained=False)
        assert item.conversation is not None, "raw text has no answer"
        self.encoder.prove(item.encoded, item.text)
        return item, item.conversation

    def _shorten(self, example: Example) -> Example:
        most = self.max_length
        if not most or len(example.ids) <= most:
            return example
        if self.on_too_long != "cut":
            raise TooLongFault(f"longer than max_length {most}")
        if not any(example.mask[:most]):
            raise TooLongFault(f"the prompt alone is longer than max_length {most}")
        return example.shorten(most)


def render_cached(renderer: Renderer, rows: Sequence[Row], digest: str, cache: Cache | None) -> Rendered:
    """Return what ``renderer.render`` returns, from the cache where it has it.

    ``digest`` is a SHA-256 of the rows. Raises the TrainError that ``renderer.render`` raises.
    """
    if cache is None or not rows:
        return renderer.render(rows)
    settings = ("objective", "max_length", "on_too_long", "on_unrenderable", "reasoning", "allow_special_tokens")
    key = digest_of({
        "rows": digest,
        "tokenizer and template": renderer.digest,
        "settings": [getattr(renderer, name) for name in settings],
        # All of train/data, for what the messages of a row mean stands in `dataset`, beside this folder.
        "code": sources_digest(Path(__file__).resolve().parents[1]),
        "libraries": [installed_version(name) for name in _LIBRARIES],
    })  # fmt: skip
    entry = cache.get(key)
    if entry is None:
        # Its parts are filled while the batches are written.
        counts: dict[str, Any] = {"left_out": {}, "cut": {}, "notes": {}}
        cache.put(key, renderer.render_batches(rows, Rendered(**counts)), counts)
        entry = cache.get(key)
    if entry is None:
        # The disk refuses.
        return renderer.render(rows)
    left_out = {record: (code, reason) for record, (code, reason) in entry.values["left_out"].items()}
    return Rendered(Examples(entry.arrays), left_out, entry.values["cut"], entry.values["notes"])
