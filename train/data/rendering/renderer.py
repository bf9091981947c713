"""The Renderer: rows in, examples and prompts out, each proved before it is used; and its results, cached.

The key in the cache is everything that decides the result: the rows, the tokenizer, the template, the settings of the
`Renderer`, the versions of the libraries and this folder's source.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from train.base import console
from train.base.cache import Cache, Entry
from train.base.errors import TrainError
from train.base.storage import digest_of, installed_version, sources_digest
from train.data.dataset import Row, RowFault, Silent, TooLongFault, key_of, last_answer, notes_of, trace_of
from train.data.lines import Lines
from train.data.rendering.conversation import QUESTION, Conversation, Conversations, safe_template
from train.data.rendering.encode import Encoder, Ints
from train.data.rendering.examples import BATCH, Example, Examples, Prompt, Record, Rendered, arrays_of
from train.data.rendering.pipeline import Item, Pipeline, prove_single_bos
from train.data.rendering.reasoning import ReasoningMarks, trace_span
from train.recipe import Objective, Reasoning

# For models that come without a template: words that any vocabulary has, and the model's own end token.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'}"
    "[message.role] }}:\n{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ message.content }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)

_QUESTION_ROW = Row("", "", "", QUESTION, None, None)


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
        # Base and tuned are measured on the same rows, so each is rendered once. By id() of the row: the row, which is
        # held so that the id stays its own, its rendering, and the index of its example where it has one. Of a file
        # whose rows are read when they are asked for: the rendering of all, and the indices [rows], -1 for none.
        self._outcomes: dict[int, tuple[Row, Rendered, int | None]] = {}
        self._files: dict[Any, tuple[Rendered, Ints]] = {}
        self._prompts: dict[Any, tuple[Row, Prompt]] = {}
        self._options: dict[tuple[Any, str], tuple[Row, tuple[list[int], list[int]]]] = {}
        self.template = self._template()
        tokens = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        template = safe_template(self.template, tokens)
        eos = [tokenizer.eos_token] if tokenizer.eos_token else []
        try:
            self.conversations = Conversations(template, eos, self.encoder.special_texts)
            self._pipeline = Pipeline(
                self.encoder, self.conversations, objective, reasoning, allow_special_tokens=allow_special_tokens
            )
            # Raw text needs no template.
            if objective != "domain":
                self._try_template()
        except RowFault as fault:
            raise _bad_template(fault) from None
        closing = self.conversations.closing
        ends = [] if closing is None else [tokenizer.convert_tokens_to_ids(closing)]
        self.stop_ids: list[int] = sorted({*ends, *([tokenizer.eos_token_id] if eos else []), *stop_ids})
        if closing is None:
            self.warnings.append("the chat template closes an answer with no end token, so no end is trained")
        if not self.conversations.has_opening:
            self.warnings.append("the chat template ignores add_generation_prompt; prompts end where the answer begins")

    def _try_template(self) -> None:
        # A failure on a plain question with its answer is the template's, not a row's, and is better said once.
        item = self._pipeline.encode(self._pipeline.locate([_QUESTION_ROW]))[0]
        if item.fault is not None:
            raise item.fault
        assert item.encoded is not None
        prove_single_bos(self.encoder, item.encoded, item.text)

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

    def examples(self, rows: Iterable[Row]) -> Rendered:
        """Return the examples of all rows; raises one TrainError that lists every fault with its record ids."""
        if isinstance(rows, Lines) and rows is rows.root:
            if rows not in self._files:
                self._render(rows)
            return self._files[rows][0]
        rows = list(rows)
        # By identity and not by content, which would have to be hashed at each evaluation.
        if new := [row for row in rows if self._outcome(row) is None]:
            self._render(new)
        outcomes = [(row, *outcome) for row in rows if (outcome := self._outcome(row)) is not None]
        sources = [(source.examples, index) for _, source, index in outcomes if index is not None]
        # All rows of one rendering in its order: the flat arrays are handed on, and no example is built for it.
        is_single_source = bool(sources) and all(source is sources[0][0] for source, _ in sources)
        if is_single_source and [index for _, index in sources] == list(range(len(sources[0][0]))):
            examples = sources[0][0]
        else:
            examples = [source[index] for source, index in sources]
        return Rendered(
            examples,
            left_out={row.id: source.left_out[row.id] for row, source, index in outcomes if index is None},
            cut={row.id: source.cut[row.id] for row, source, _ in outcomes if row.id in source.cut},
            notes={row.id: source.notes[row.id] for row, source, _ in outcomes if row.id in source.notes},
        )

    def _render(self, rows: Sequence[Row]) -> None:
        rendered = Rendered()
        with _without_garbage_collection():
            batches = list(self.batches(rows, rendered))
            self.learn(rows, replace(rendered, examples=Examples.joined(batches)))

    def _outcome(self, row: Row) -> tuple[Rendered, int | None] | None:
        # The rendering of a row, and the index of its example where it has one; None where it is not known.
        if row.place is not None and (known := self._files.get(row.place[0])):
            rendered, indices = known
            index = int(indices[row.place[1]])
            return rendered, None if index < 0 else index
        outcome = self._outcomes.get(id(row))
        return None if outcome is None else outcome[1:]

    def learn(self, rows: Sequence[Row], rendered: Rendered) -> None:
        """Store ``rendered`` as the outcome of these rows, in their order, under this renderer's settings."""
        examples, index = rendered.examples, 0
        assert isinstance(examples, Examples), "only what was rendered in one go is learnt"
        if isinstance(rows, Lines) and rows is rows.root:
            has_example = ~np.isin(rows.keys, np.array([key_of(record) for record in rendered.left_out], np.uint64))
            self._files[rows] = rendered, np.where(has_example, np.cumsum(has_example) - 1, -1).astype(np.int32)
            return
        # Examples come in the order of the rows, so the next one is either this row's, or the row has none.
        for row in rows:
            is_next = index < len(examples) and examples.name(index)[0] == row.id
            self._outcomes[id(row)] = row, rendered, index if is_next else None
            index += is_next

    def batches(self, rows: Sequence[Row], rendered: Rendered) -> Iterator[dict[str, Any]]:
        """Yield the arrays of the examples of ``rows`` some at a time, at least once; tell ``rendered`` of the others.

        Raises the TrainError that `examples` raises, after the last ones.
        """
        records: list[Record] = []
        faults: dict[str, tuple[RowFault, list[str]]] = {}
        for item in self._pipeline.records(rows):
            if len(records) == BATCH:
                yield arrays_of(records)
                records = []
            try:
                record = _record(item)
                lost = self._num_lost(record)
                if lost and self.on_too_long == "skip":
                    rendered.left_out[item.row.id] = TooLongFault.error_code, self._too_long
                    continue
                if notes := [*item.notes, *notes_of(item.row)]:
                    rendered.notes[item.row.id] = notes
                if lost:
                    record = self._shorten(record)
                    rendered.cut[item.row.id] = lost
                records.append(record)
            except RowFault as fault:
                is_skipped = fault.is_unrenderable and self.on_unrenderable == "skip"
                if is_skipped or isinstance(fault, Silent):
                    rendered.left_out[item.row.id] = fault.code, fault.reason
                else:
                    # All faults are gathered, so that their owner fixes them in one go.
                    faults.setdefault(fault.reason, (fault, []))[1].append(item.row.id)
        if faults:
            raise _faults_error(faults, len(rows))
        yield arrays_of(records)

    def example(self, row: Row) -> Example:
        """Return one row's example, cut to max_length where the recipe says so; raises RowFault (a TrainError)."""
        record = self._record_of(row)
        return (self._shorten(record) if self._num_lost(record) else record).example()

    def whole(self, row: Row) -> Example:
        """Return one row's example uncut, and remember nothing of it; raises RowFault (a TrainError)."""
        return self._record_of(row).example()

    def preview(self, row: Row) -> Preview:
        """Return one row for display; raises RowFault (a TrainError)."""
        item = next(self._pipeline.records([row], has_offsets=True))
        record = _record(item)
        example = (self._shorten(record) if self._num_lost(record) else record).example()
        return Preview(
            example,
            record.example(),
            _roles(item, len(record.ids), self._pipeline.marks),
            [*item.notes, *notes_of(row)],
        )

    def prompt(self, row: Row) -> Prompt | None:
        """Return what the last answer is generated from; None for raw text. Raises RowFault (a TrainError).

        The reference of an answer that calls tools is all that the model has to write after its reasoning, as it would
        be decoded.
        """
        if row.messages is None:
            return None
        known = self._prompts.get(_key_of(row)) or self._known_prompt(row)
        if known is None:
            prompt, _, answer, message = self._generated(row)
            reference = self.decode(answer) if message.get("tool_calls") else self._reference(message)
            known = self._prompts[_key_of(row)] = row, Prompt(row.id, prompt, reference)
        return known[1]

    def locate(self, row: Row) -> Conversation:
        """Return a conversation's text and the span of its last answer; raises RowFault (a TrainError)."""
        item = self._pipeline.locate([row], is_trained=False)[0]
        if item.fault is not None:
            raise item.fault
        assert item.talk is not None, "raw text has no answer"
        return item.talk

    def option(self, row: Row, text: str) -> tuple[list[int], list[int]]:
        """Return what the last answer is generated from, and the tokens of ``text`` as that answer, without its end.

        Raises RowFault (a TrainError), also where both together are longer than max_length.
        """
        known = self._options.get((_key_of(row), text))
        if known is None:
            assert row.messages is not None, "raw text has no answer"
            messages = [*row.messages[: last_answer(row.messages)], {"role": "assistant", "content": text}]
            prompt, answer, *_ = self._generated(replace(row, messages=messages))
            if not answer:
                raise RowFault(f"the choice {text!r} has no token of its own")
            if self.max_length and len(prompt) + len(answer) > self.max_length:
                raise TooLongFault(f"with the choice {text!r} longer than max_length {self.max_length}")
            known = self._options[_key_of(row), text] = row, (prompt, answer)
        return known[1]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids: without control tokens, outer white space as it is."""
        return self.encoder.decode(ids, has_control=False)

    @property
    def has_reasoning_marks(self) -> bool:
        """Whether the template has marks by which reasoning is told from an answer."""
        return self._pipeline.marks is not None

    def answer(self, ids: Sequence[int]) -> tuple[str, str | None]:
        """Return the answer of generated ids as `decode` gives it, and the reasoning before it, None without any."""
        marks = self._pipeline.marks
        return (self.decode(ids), None) if marks is None else marks.split(ids, self.encoder.decode)

    def num_reasoning(self, ids: Sequence[int]) -> int | None:
        """Return how many of generated ids are reasoning with its end, None where there is none."""
        marks = self._pipeline.marks
        return None if marks is None else marks.length(ids, self.encoder.decode)

    @cached_property
    def reasoning_end(self) -> list[int]:
        """The ids that end reasoning which does not end by itself; none where the template has no mark for it."""
        marks = self._pipeline.marks
        if marks is None:
            return []
        return list(self.tokenizer(f"\n{marks.closing}\n\n", add_special_tokens=False).input_ids)

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

    def _generated(self, row: Row) -> tuple[list[int], list[int], list[int], dict[str, Any]]:
        # The ids of the prompt, of what is generated, and of the answer in that, and the answer's message.
        located = self._pipeline.locate([row], is_trained=False)
        item = self._pipeline.encode(located, has_offsets=True)[0]
        if item.fault is not None:
            raise item.fault
        encoded, talk = item.encoded, item.talk
        assert encoded is not None
        assert encoded.offsets is not None
        assert talk is not None
        prompt, rest = encoded.ids[: encoded.num_prompt], encoded.ids[encoded.num_prompt :]
        starts, ends = encoded.offsets[encoded.num_prompt :].T
        is_generated = starts < talk.turn.stop
        is_answer = is_generated & (ends > item.turns[-1].start)
        return prompt.tolist(), rest[is_generated].tolist(), rest[is_answer].tolist(), talk.messages[-1]

    def _known_prompt(self, row: Row) -> tuple[Row, Prompt] | None:
        # The prompt begins the example; a cut one may be shorter than it.
        outcome = self._outcome(row)
        if outcome is None or row.messages is None:
            return None
        rendered, index = outcome
        answer = row.messages[last_answer(row.messages)]
        if index is None or row.id in rendered.cut or answer.get("tool_calls"):
            return None
        assert isinstance(rendered.examples, Examples), "only what was rendered in one go is learnt"
        record = rendered.examples.record(index)
        return row, Prompt(row.id, record.ids[: record.num_prompt].tolist(), self._reference(answer))

    def _reference(self, answer: Mapping[str, Any]) -> str:
        content, marks = answer["content"] or "", self._pipeline.marks
        return content if marks is None or trace_of(answer) else marks.answer_in(content)

    def _record_of(self, row: Row) -> Record:
        return _record(next(self._pipeline.records([row])))

    def _num_lost(self, record: Record) -> int:
        return max(0, len(record.ids) - self.max_length) if self.max_length else 0

    @property
    def _too_long(self) -> str:
        return f"longer than max_length {self.max_length}"

    def _shorten(self, record: Record) -> Record:
        assert self.max_length, "only what is too long is cut"
        if self.on_too_long != "cut":
            raise TooLongFault(self._too_long)
        if record.runs[0][0] >= self.max_length:
            raise TooLongFault(f"the prompt alone is longer than max_length {self.max_length}")
        return record.shorten(self.max_length)


def _key_of(row: Row) -> Any:
    # A row that is read anew each time is another object each time.
    return row.place or id(row)


def _record(item: Item) -> Record:
    if item.fault is not None:
        raise item.fault
    assert item.record is not None, "a row without a fault has a record"
    return item.record


def _roles(item: Item, num_tokens: int, marks: ReasoningMarks | None) -> list[str]:
    if item.talk is None or item.encoded is None or item.encoded.offsets is None:
        return ["text"] * num_tokens
    layout, messages = item.talk.layout, item.talk.messages
    pairs = zip(layout.contents, item.row.messages or (), strict=False)
    spans = [(*span, message["role"]) for span, message in pairs if span]
    thinking = [turn for turn, message in enumerate(messages) if trace_of(message)]
    traces = [trace_span(layout, messages, turn, marks) for turn in thinking]
    spans += [(*span, "reasoning") for span in traces if span]
    return [
        next((role for a, b, role in spans if start < b and a < end), "template")
        for start, end in item.encoded.offsets.tolist()
    ]


def _bad_template(fault: RowFault) -> TrainError:
    return TrainError(
        "E922 bad-template", f"the base's chat template cannot train a plain question and answer: {fault.reason}",
        "Fix chat_template in the model's folder, or take another base.",
    )  # fmt: skip


def _faults_error(faults: Mapping[str, tuple[RowFault, list[str]]], num_rows: int) -> TrainError:
    # One error for ``num_rows`` rows: each reason with its count and the first ids, and the advice of the first.
    lines = [
        f"{len(ids):,} of {num_rows:,} record{'s' if num_rows > 1 else ''}: {reason}: {console.join_names(ids)}"
        for reason, (_, ids) in faults.items()
    ]
    first, _ = next(iter(faults.values()))
    return TrainError(first.code, "\n  ".join(lines), first.advice)


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


_LIBRARIES = ("tokenizers", "transformers", "jinja2", "numpy")


def render_cached(renderer: Renderer, rows: Sequence[Row], digest: str, cache: Cache | None) -> Rendered:
    """Return what ``renderer.examples`` returns, from the cache where it has it, and let the renderer know it.

    ``digest`` is a SHA-256 of the rows. Raises the TrainError that ``renderer.examples`` raises; a refusal is cached
    too, unless the template's child process died, which it may not do again.
    """
    if cache is None or not rows:
        return renderer.examples(rows)
    key = _key(renderer, digest)
    entry = cache.get(key)
    if entry is None:
        deaths, rendered = renderer.conversations.template.num_deaths, Rendered()
        # Its parts are filled while the batches are written.
        said = {"left_out": rendered.left_out, "cut": rendered.cut, "notes": rendered.notes}
        try:
            with _without_garbage_collection():
                cache.put(key, renderer.batches(rows, rendered), said)
        except TrainError as error:
            if renderer.conversations.template.num_deaths == deaths:
                cache.put(key, (), {"refusal": [error.code, error.message, error.hint, int(error.exit_code)]})
            raise
        entry = cache.get(key)
    if entry is None:
        # The disk refuses.
        return renderer.examples(rows)
    rendered = _open_entry(entry)
    renderer.learn(rows, rendered)
    return rendered


def _open_entry(entry: Entry) -> Rendered:
    values: dict[str, Any] = entry.values
    if "refusal" in values:
        code, message, hint, exit_code = values["refusal"]
        raise TrainError(code, message, hint, exit_code=exit_code)
    left_out = {record: (code, reason) for record, (code, reason) in values["left_out"].items()}
    return Rendered(Examples(entry.arrays), left_out, values["cut"], values["notes"])


def _key(renderer: Renderer, digest: str) -> str:
    return digest_of({
        "rows": digest,
        "tokenizer and template": renderer.digest,
        "objective": renderer.objective,
        "max_length": renderer.max_length,
        "on_too_long": renderer.on_too_long,
        "on_unrenderable": renderer.on_unrenderable,
        "reasoning": renderer.reasoning,
        "allow_special_tokens": renderer.allow_special_tokens,
        # All of train/data, for what the messages of a row mean stands in `dataset`, beside this folder.
        "code": sources_digest(Path(__file__).resolve().parents[1]),
        "libraries": [installed_version(name) for name in _LIBRARIES],
    })  # fmt: skip
