"""The one path from rows to examples and prompts: rendered, located, encoded, proved, held as arrays, cached.

The template's child and the tokenizer are asked for a whole batch at once; a single row is a batch of one. A row that
breaks a promise (`proofs`) drops out with its fault, and the others go on. The key in the cache is everything that
decides the result: the rows, the tokenizer, the template, the settings of the `Renderer`, the versions of the libraries
and the source of `train.data`.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

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
    answer_weights,
    answers_of,
    drop_history,
    last_answer,
    notes_of,
    prepare_messages,
    refuse_marks,
    trace_of,
    weight_of,
)
from train.data.rendering import proofs
from train.data.rendering.conversation import (
    QUESTION,
    Conversation,
    Conversations,
    Rendering,
    Turn,
    find_marks,
    safe_template,
    trace_span,
    trained_turns,
)
from train.data.rendering.encode import Encoded, Encoder, Ints, Passage
from train.data.rendering.examples import BATCH, Example, Examples, Prompt, Record, Rendered, arrays_of
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


@dataclass
class _Item:
    """A row on its path. Each step fills in its fields or ``fault``; later steps skip a row with a fault."""

    row: Row
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
        """Return what a step gives, None where it or one before failed."""
        if self.fault is None:
            try:
                return step(self, *arguments)
            except RowFault as fault:
                self.fault = fault
        return None

    def require(self) -> _Item:
        """Return the item; raises its fault."""
        if self.fault is not None:
            raise self.fault
        return self


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
        # Base and tuned are measured on the same rows, so each is rendered once; a row is known again by its key.
        self.rendered = [Rendered()]
        self.template = self._template()
        tokens = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        eos = [tokenizer.eos_token] if tokenizer.eos_token else []
        try:
            template = safe_template(self.template, tuple(sorted(tokens.items())))
            self.conversations = Conversations(template, eos, self.encoder.special_texts)
            self._marks = find_marks(self.conversations)
            # A failure on a plain question with its answer is the template's, not a row's. Raw text needs no template.
            if objective != "domain":
                item = self._encode(self._locate([_QUESTION_ROW]))[0].require()
                proofs.prove_single_bos(self.encoder, item.encoded, item.text)
        except RowFault as fault:
            raise TrainError(
                "E922 bad-template",
                f"the base's chat template cannot train a plain question and answer: {fault.reason}",
                "Fix chat_template in the model's folder, or take another base.",
            ) from None
        closing = self.conversations.closing
        ends = [] if closing is None else [tokenizer.convert_tokens_to_ids(closing)]
        self.stop_ids: list[int] = sorted({*ends, *([tokenizer.eos_token_id] if eos else []), *stop_ids})
        if closing is None:
            self.warnings.append("the chat template closes an answer with no end token, so no end is trained")
        if not self.conversations.has_opening:
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

    def examples(self, rows: Sequence[Row]) -> Rendered:
        """Return the examples of all rows; raises one TrainError that lists every fault with its record ids."""
        keys = np.array([row.key for row in rows], np.int64)
        indices = self._find(keys)
        left, fresh = np.flatnonzero((indices < 0).all(axis=0)), Rendered()
        if len(left):
            with _without_garbage_collection():
                own = rows if len(left) == len(rows) else [rows[n] for n in left.tolist()]
                batches = list(self.batches(own, fresh))
            fresh = replace(fresh, examples=Examples.joined(batches))
            self.rendered.append(fresh)
            indices = self._find(keys)
        owners = (indices >= 0).argmax(axis=0)
        chosen = [(int(owner), int(indices[owner, n])) for n, owner in enumerate(owners) if indices[owner, n] >= 0]
        sources = [self.rendered[owner] for owner in sorted({owner for owner, _ in chosen})]
        # All rows of one rendering in its order: the flat arrays are handed on.
        if len(sources) == 1 and [n for _, n in chosen] == list(range(len(sources[0].examples))):
            return replace(sources[0], left_out=fresh.left_out)
        ids = {row.id for row in rows}
        cut, notes = (
            {name: value for one in sources for name, value in getattr(one, what).items() if name in ids}
            for what in ("cut", "notes")
        )
        records = [self.rendered[owner].examples.record(n) for owner, n in chosen]
        return Rendered(Examples.of(records), fresh.left_out, cut, notes)

    def batches(self, rows: Sequence[Row], rendered: Rendered) -> Iterator[dict[str, Any]]:
        """Yield the arrays of the examples of ``rows`` some at a time, at least once; tell ``rendered`` of the others.

        Raises the TrainError that `examples` raises, after the last ones.
        """
        records: list[Record] = []
        faults: dict[str, tuple[RowFault, list[str]]] = {}
        for item in self._items(rows):
            record, name = item.attempt(self._prove), item.row.id
            if item.notes:
                rendered.notes[name] = item.notes
            if record is not None and self.max_length and len(record.ids) > self.max_length:
                if self.on_too_long == "cut":
                    rendered.cut[name] = len(record.ids) - self.max_length
                record = item.attempt(self._shorten, record)
            if record is not None:
                records.append(record)
            fault = item.fault
            if fault is not None:
                rendered.notes.pop(name, None)
                rendered.cut.pop(name, None)
                is_skipped = fault.is_unrenderable and self.on_unrenderable == "skip"
                is_long = isinstance(fault, TooLongFault) and self.on_too_long == "skip"
                if is_skipped or is_long or isinstance(fault, NoTrainedAnswer):
                    rendered.left_out[name] = fault.code, fault.reason
                else:
                    # All faults are gathered, so that their owner fixes them in one go.
                    faults.setdefault(fault.reason, (fault, []))[1].append(name)
            if len(records) == BATCH:
                yield arrays_of(records)
                records = []
        if faults:
            lines = [
                f"{len(ids):,} of {len(rows):,} record{'s' if len(rows) > 1 else ''}: {reason}: {join_names(ids)}"
                for reason, (_, ids) in faults.items()
            ]
            first, _ = next(iter(faults.values()))
            raise TrainError(first.code, "\n  ".join(lines), first.advice)
        yield arrays_of(records)

    def example(self, row: Row) -> Example:
        """Return one row's example, cut to max_length where the recipe says so; raises RowFault (a TrainError)."""
        return self._shorten(None, self.record(row)).example()

    def whole(self, row: Row) -> Example:
        """Return one row's example uncut; raises RowFault (a TrainError)."""
        return self.record(row).example()

    def record(self, row: Row) -> Record:
        """Return one row uncut as a record, and remember nothing of it; raises RowFault (a TrainError)."""
        return self._prove(next(self._items([row])).require())

    def preview(self, row: Row) -> Preview:
        """Return one row for display; raises RowFault (a TrainError)."""
        item = next(self._items([row], has_offsets=True)).require()
        record, placed = self._prove(item), item.conversation
        roles = ["text"] * len(record.ids)
        if placed is not None:
            pairs = zip(placed.contents, row.messages or (), strict=False)
            spans = [(*span, message["role"]) for span, message in pairs if span]
            traces = [trace_span(placed, n, self._marks) for n, one in enumerate(placed.messages) if trace_of(one)]
            spans += [(*span, "reasoning") for span in traces if span]
            offsets = item.encoded.offsets
            assert offsets is not None, "they were asked for"
            roles = [
                next((role for a, b, role in spans if start < b and a < end), "template")
                for start, end in offsets.tolist()
            ]
        return Preview(self._shorten(item, record).example(), record.example(), roles, item.notes)

    def prompt(self, row: Row) -> Prompt | None:
        """Return what the last answer is generated from; None for raw text. Raises RowFault (a TrainError).

        The reference of an answer that calls tools is all that the model has to write after its reasoning, as it would
        be decoded.
        """
        if row.messages is None:
            return None
        answer, marks = row.messages[last_answer(row.messages)], self._marks
        content = answer["content"] or ""
        reference = content if marks is None or trace_of(answer) else marks.answer_in(content)
        if not answer.get("tool_calls"):
            # The prompt begins the example; a cut one may be shorter than it.
            for rendered in self.rendered:
                index = int(rendered.examples.find(np.array([row.key], np.int64))[0])
                if index >= 0 and row.id not in rendered.cut:
                    record = rendered.examples.record(index)
                    return Prompt(row.id, record.ids[: record.num_prompt].tolist(), reference)
        prompt, _, generated = self._generated(row)
        return Prompt(row.id, prompt, self.decode(generated) if answer.get("tool_calls") else reference)

    def locate(self, row: Row) -> Conversation:
        """Return a conversation's text and the span of its last answer; raises RowFault (a TrainError)."""
        placed = self._locate([row], is_trained=False)[0].require().conversation
        assert placed is not None, "raw text has no answer"
        return placed

    def option(self, row: Row, text: str) -> tuple[list[int], list[int]]:
        """Return what the last answer is generated from, and the tokens of ``text`` as that answer, without its end.

        Raises RowFault (a TrainError), also where both together are longer than max_length.
        """
        assert row.messages is not None, "raw text has no answer"
        messages = [*row.messages[: last_answer(row.messages)], {"role": "assistant", "content": text}]
        prompt, answer, _ = self._generated(replace(row, messages=messages))
        if not answer:
            raise RowFault(f"the choice {text!r} has no token of its own")
        if self.max_length and len(prompt) + len(answer) > self.max_length:
            raise TooLongFault(f"with the choice {text!r} longer than max_length {self.max_length}")
        return prompt, answer

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids: without control tokens, outer white space as it is."""
        return self.encoder.decode(ids, has_control=False)

    @property
    def has_reasoning_marks(self) -> bool:
        """True where the template has marks by which reasoning is told from an answer."""
        return self._marks is not None

    def answer(self, ids: Sequence[int]) -> tuple[str, str | None]:
        """Return the answer of generated ids as `decode` gives it, and the reasoning before it, None without any."""
        return (self.decode(ids), None) if self._marks is None else self._marks.split(ids, self.encoder.decode)

    def num_reasoning(self, ids: Sequence[int]) -> int | None:
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
        is_written = self.conversations.render(QUESTION[:1]).startswith(bos)
        return bos if self.encoder.is_adding_bos and not is_written else ""

    @property
    def served_template(self) -> str:
        """The template for programs that add no token to a rendered text, as all that serve chats do."""
        # It opens the answer as training and evaluation do, also where the model's own leaves that out.
        begins = "{{ bos_token }}" if self.served_bos else ""
        text = self.conversations.render(QUESTION[:1])
        opening = text if self.conversations.has_opening else self.locate(_QUESTION_ROW).prompt
        if opening == text or not opening.startswith(text):
            return begins + self.template
        # A string of JSON is one of Jinja too.
        added = json.dumps(opening[len(text) :])
        return f"{begins}{self.template}{{% if add_generation_prompt %}}{{{{ {added} }}}}{{% endif %}}"

    def _find(self, keys: Ints) -> Ints:
        # Of each rendering the index of each row's example [renderings, rows], -1 where it has none.
        return np.stack([rendered.examples.find(keys) for rendered in self.rendered])

    def _items(self, rows: Iterable[Row], *, has_offsets: bool = False) -> Iterator[_Item]:
        """Yield each row located and encoded, or with its fault."""
        batch: list[Row] = []
        size = 0
        for row in rows:
            batch.append(row)
            size += len(row.text or "") + sum(len(message["content"] or "") for message in row.messages or ())
            if len(batch) == _MOST_ROWS or size > _MOST_CHARACTERS:
                yield from self._encode(self._locate(batch), has_offsets=has_offsets)
                batch, size = [], 0
        yield from self._encode(self._locate(batch), has_offsets=has_offsets)

    def _locate(self, rows: Sequence[Row], *, is_trained: bool = True) -> list[_Item]:
        """Return each row rendered, with the span of each answer that its objective trains.

        What is not ``is_trained`` is only generated from: then the last answer alone is located, and nothing is proved
        of what stands before it.
        """
        items = [_Item(row) for row in rows]
        for item in items:
            item.attempt(self._prepare, is_trained)
        rendered = [item for item in items if item.fault is None and item.messages]
        requests = [self.conversations.request(item.messages, item.row.tools, item.answers) for item in rendered]
        for item, rendering in zip(rendered, self.conversations.template.render(requests), strict=True):
            item.attempt(self._find_answers, rendering, is_trained)
        return items

    def _prepare(self, item: _Item, is_trained: bool) -> None:
        row = item.row
        # Control tokens in data are structure that the author of a row must not write (TRUST: tokens/*).
        for where, text in all_texts(row):
            token = self.encoder.special_pattern.search(text)
            if token and not (self.allow_special_tokens and where in ("content", "text")):
                raise ControlTokenFault(f"the control token {token.group()!r} stands in the data ({where})")
        if row.messages is None and is_trained:
            return
        item.messages = prepare_messages(row.messages or (), self.conversations.template.source)
        dropped = drop_history(item.messages) if self.reasoning == "drop-history" else set()
        if not is_trained:
            item.answers = [last_answer(item.messages)]
            return
        # Trained without it, such an answer would teach to answer without reasoning.
        answers = answers_of(item.messages, self.objective, row.first_answer)
        item.answers = [answer for answer in answers if answer not in dropped]
        item.notes = [_DROPPED_NOTE] if dropped else []

    def _find_answers(self, item: _Item, rendering: Rendering, is_trained: bool) -> None:
        messages, answers, within = item.messages, item.answers, self.conversations
        placed = within.find_contents(messages, item.row.tools, rendering.text)
        trained: Collection[int] = answers
        if is_trained:
            weights = [weight_of(message) for message in item.row.messages or ()]
            trained = [n for n in answers if weights[n] > 0] if self.objective != "domain" else range(len(messages))
            item.notes += [*proofs.prove_parts(within, placed, item.row.tools, trained), *notes_of(item.row)]
            proofs.prove_answers_have_text(messages, answers)
        turns = [within.locate(placed, answer, rendering, is_last=answer == answers[-1]) for answer in answers]
        item.conversation = placed = replace(placed, answers=answers, turns=turns)
        if is_trained:
            proofs.prove_blocks(rendering.blocks, placed)
        is_masked = not is_trained or self.reasoning == "context"
        item.turns = trained_turns(placed, self._marks, trained, is_masked=is_masked)

    def _encode(self, items: list[_Item], *, has_offsets: bool = False) -> list[_Item]:
        located = [item for item in items if item.fault is None]
        passages = [self._passage(item, has_offsets=has_offsets) for item in located]
        for item, encoded in zip(located, self.encoder.encode(passages), strict=True):
            item.encoded = encoded
            item.attempt(lambda _, encoded=encoded: proofs.prove_prefix(encoded))
        return items

    def _passage(self, item: _Item, *, has_offsets: bool) -> Passage:
        placed, text, is_domain = item.conversation, item.text, self.objective == "domain"
        spans = [(0, len(text))] if placed is None else [span for span in placed.contents if span]
        is_plain = self.allow_special_tokens and any(self.encoder.special_pattern.search(text[a:b]) for a, b in spans)
        plain = spans if is_plain else []
        if placed is None:
            return Passage(text, plain=plain, has_offsets=True)
        answers = [(turn.start, turn.end) for turn in (placed.turns if is_domain else item.turns)]
        return Passage(text, answers, placed.turn.start, plain, has_offsets or is_domain)

    def _prove(self, item: _Item) -> Record:
        row, placed = item.row, item.conversation
        if placed is None or self.objective == "domain":
            if placed is not None:
                refuse_marks(row.messages or ())
                if self.reasoning == "context" and any(map(trace_of, item.messages)):
                    raise RowFault("reasoning is to be context, and the objective domain trains all tokens alike")
            return self._all_tokens(item)
        # The answers of a weight above 0 are trained, each with its end token.
        encoder, encoded, text = self.encoder, item.encoded, placed.text
        weights = answer_weights(row.messages or (), item.answers)
        every = [part for part in zip(item.turns, item.answers, encoded.runs, weights, strict=True) if part[3] > 0]
        # A first token has nothing before it to be predicted from.
        runs = [(max(start, 1), stop) for _, _, (start, stop), _ in every]
        if all(start >= stop for start, stop in runs):
            raise RowFault("no token of the record is trained")
        own = placed.template_text
        proofs.prove_single_bos(encoder, encoded, own)
        proofs.prove_control_tokens(encoder, encoded, own)
        turns = [turn for turn, *_ in every]
        proofs.prove_answers_are_apart(placed, turns)
        ids = [encoded.ids[start:stop].tolist() for start, stop in runs]
        for (turn, answer, _, _), trained in zip(every, ids, strict=True):
            proofs.prove_answer(encoder, text[turn.start : turn.end], item.messages[answer]["content"], trained)
        if every[-1][1] == item.answers[-1]:
            proofs.prove_end(encoder, turns[-1], ids[-1], self.conversations.closing)
        num_bytes = sum(len(text[turn.start : turn.stop].encode()) for turn in turns)
        counted = [row.weight * weight for *_, weight in every]
        is_weighed = row.weight != 1 or any(weight != 1 for *_, weight in every)
        return Record(
            row.name, encoded.ids, runs, num_bytes, encoded.num_prompt, counted if is_weighed else None, row.key
        )

    def _all_tokens(self, item: _Item) -> Record:
        # Every token is trained; of raw text its end is one more.
        row, text, encoded, num_prompt = item.row, item.text, item.encoded, -1
        ids, offsets, eos = encoded.ids, encoded.offsets, self.tokenizer.eos_token_id
        assert offsets is not None, "raw text and the objective domain ask for them"
        if item.conversation is not None:
            num_prompt = encoded.num_prompt
        elif eos is not None:
            ids, offsets = np.append(ids, np.int32(eos)), np.append(offsets, [[len(text), len(text)]], axis=0)
        if len(ids) < 2 or not text.strip():
            raise RowFault("no token of the record is trained")
        proofs.prove_single_bos(self.encoder, encoded._replace(ids=ids), text)
        weights = None if row.weight == 1 else [row.weight]
        num_bytes = len(text[int(offsets[1, 0]) :].encode())
        return Record(row.name, ids, [(1, len(ids))], num_bytes, num_prompt, weights, row.key)

    def _generated(self, row: Row) -> tuple[list[int], list[int], list[int]]:
        """The ids of the prompt, of what is generated, and of the answer in that."""
        item = self._encode(self._locate([row], is_trained=False), has_offsets=True)[0].require()
        encoded, placed = item.encoded, item.conversation
        assert encoded.offsets is not None
        assert placed is not None, "raw text has no answer"
        prompt, rest = encoded.ids[: encoded.num_prompt], encoded.ids[encoded.num_prompt :]
        starts, ends = encoded.offsets[encoded.num_prompt :].T
        is_generated = starts < placed.turn.stop
        is_answer = is_generated & (ends > item.turns[-1].start)
        return prompt.tolist(), rest[is_generated].tolist(), rest[is_answer].tolist()

    def _shorten(self, _: _Item | None, record: Record) -> Record:
        most = self.max_length
        if not most or len(record.ids) <= most:
            return record
        if self.on_too_long != "cut":
            raise TooLongFault(f"longer than max_length {most}")
        if record.runs[0][0] >= most:
            raise TooLongFault(f"the prompt alone is longer than max_length {most}")
        return record.shorten(most)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    # Rendering makes no cycles, and looking for some among all that torch has loaded takes a fifth of it.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # Moves the new objects to the oldest generation at once; else the next collection walks through them all.
            gc.freeze()
            gc.unfreeze()
            gc.enable()


def render_cached(renderer: Renderer, rows: Sequence[Row], digest: str, cache: Cache | None) -> Rendered:
    """Return what ``renderer.examples`` returns, from the cache where it has it, and let the renderer know it.

    ``digest`` is a SHA-256 of the rows. Raises the TrainError that ``renderer.examples`` raises; a refusal is cached
    too, unless the template's child process died, which it may not do again.
    """
    if cache is None or not rows:
        return renderer.examples(rows)
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
        deaths, fresh = renderer.conversations.template.num_deaths, Rendered()
        try:
            # Its parts are filled while the batches are written.
            said = {"left_out": fresh.left_out, "cut": fresh.cut, "notes": fresh.notes}
            with _without_garbage_collection():
                cache.put(key, renderer.batches(rows, fresh), said)
        except TrainError as error:
            if renderer.conversations.template.num_deaths == deaths:
                cache.put(key, (), {"refusal": [error.code, error.message, error.hint, int(error.exit_code)]})
            raise
        entry = cache.get(key)
    if entry is None:
        # The disk refuses.
        return renderer.examples(rows)
    values: dict[str, Any] = entry.values
    if "refusal" in values:
        code, message, hint, exit_code = values["refusal"]
        raise TrainError(code, message, hint, exit_code=exit_code)
    left_out = {record: (code, reason) for record, (code, reason) in values["left_out"].items()}
    rendered = Rendered(Examples(entry.arrays), left_out, values["cut"], values["notes"])
    renderer.rendered.append(rendered)
    return rendered
