"""Many valid lines read at once, a column for each aspect: what `View.record` says of them one by one.

A record is made only of a line that is not plain: one with tools, calls, or parts that are no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from operator import is_
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import MIX_A, STEP, Hashes, Indices, mix
from curate.base.record import Json, Record, Source, trace_bytes, trace_of
from curate.schema.shape import marks_of, record_parts
from curate.schema.view import PART_JOINT, View, at
from curate.similarity.dedupe.shingles import BREAK, Flags, Ragged, ends_of, ranges
from curate.similarity.dedupe.words import AROUND, Units, flattened, spaced, storable, text_keys, word_hashes

_NOWHERE = Source("", 0)
_PAIR, _SYSTEM_AND_PAIR = ("user", "assistant"), ("system", "user", "assistant")
Roles = tuple[str, ...]
_NO_PART = [""]


class _Layout(NamedTuple):
    """Where the texts of a record are, counted from its first one, in the order of `record_parts`."""

    num_texts: int
    num_question_texts: int
    question_mark: bytes
    mark: bytes
    first_prompt: int
    """The first text of the prompt, behind a system message; as many as there are of the question for raw text."""
    trace_bytes: int = 0
    num_traces: int = 0
    """Texts behind all others, of reasoning, which no key is of."""


class Keys(NamedTuple):
    """Keys of N records, [N, 2] each."""

    exact: Hashes
    """Of what a record teaches."""
    question: Hashes
    """Of its question: prompt, roles and tools."""
    answer: Hashes
    """Of its completion."""
    whole: Hashes
    """Of all of it."""
    forms: Hashes
    """Of all but its texts: of the question (roles, tools), and of all with the turns after the answer."""


@dataclass(frozen=True)
class RecordBlock:
    """What N records say, an entry each, and their M texts, one record's after another's, in `record_parts`' order.

    ``sources`` are "" where a record names none.
    """

    ids: list[str]
    categories: list[str]
    splits: list[str]
    sources: list[str]
    labels: list[Mapping[str, Json]]
    texts: list[str]
    layouts: list[_Layout]
    codes: Indices
    """The number of the layout of each record, [N]."""

    def __len__(self) -> int:
        return len(self.ids)

    def _of_layouts(self, name: str) -> Indices:
        values = [int(getattr(layout, name)) for layout in self.layouts]
        return np.array(values, np.int64)[self.codes]

    @cached_property
    def num_texts(self) -> Indices:
        """Number of texts of each record, [N]."""
        return self._of_layouts("num_texts")

    @cached_property
    def starts(self) -> Indices:
        """The first text of each record, [N]."""
        return ends_of(self.num_texts + self._of_layouts("num_traces"))[:-1]

    @cached_property
    def num_question_texts(self) -> Indices:
        """Number of texts of each question, [N]."""
        return self._of_layouts("num_question_texts")

    @cached_property
    def marks(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The question mark and the mark of each record, as numbers, [N, 2]."""
        layouts, codes = self.layouts, self.codes
        question = np.frombuffer(b"".join(layout.question_mark for layout in layouts), np.uint64).reshape(-1, 2)
        whole = np.frombuffer(b"".join(layout.mark for layout in layouts), np.uint64).reshape(-1, 2)
        return question[codes], whole[codes]

    @cached_property
    def is_ascii(self) -> Flags:
        """Whether each text is ASCII, [M]."""
        texts = self.texts
        return np.fromiter(map(str.isascii, texts), np.bool_, len(texts))

    @cached_property
    def num_chars(self) -> Indices:
        """Number of characters of each text, [M]."""
        texts = self.texts
        return np.fromiter(map(len, texts), np.int64, len(texts))

    @cached_property
    def num_bytes(self) -> Indices:
        """Number of UTF-8 bytes of each text, [M]."""
        if self.is_ascii.all():
            return self.num_chars
        sizes = self.num_chars.copy()
        for row in np.flatnonzero(~self.is_ascii).tolist():
            sizes[row] = len(self.texts[row].encode("utf-8", "surrogatepass"))
        return sizes

    @cached_property
    def trace_bytes(self) -> Indices:
        """UTF-8 bytes of the reasoning in each record, [N], which is none of its texts."""
        return self._of_layouts("trace_bytes")

    @cached_property
    def _storable(self) -> list[str]:
        return storable(self.texts)

    @cached_property
    def _units(self) -> Units:
        return flattened(self._storable)

    @cached_property
    def _text_keys(self) -> Hashes:
        return text_keys(self._units)

    @cached_property
    def keys(self) -> Keys:
        """Keys of the records."""
        counts, question_counts, starts = self.num_texts, self.num_question_texts, self.starts
        ones, keys = np.ones(len(self), np.int64), self._text_keys
        question_marks, marks = self.marks
        answered_keys = _folded_from(np.zeros_like(marks), keys, starts + question_counts, ones)
        question_keys = _folded_from(question_marks, keys, starts, question_counts)
        # What follows the answer is compared by its key alone.
        forms = _folded_from(marks, keys, starts + question_counts + 2, counts - question_counts - 2)
        text_keys = keys[starts + question_counts + 1]
        exact = _folded_from(marks, keys, starts, counts)
        whole = folded(folded(folded(forms, question_keys), answered_keys), text_keys)
        return Keys(exact, question_keys, answered_keys, whole, np.stack([question_marks[:, 0], forms[:, 0]], axis=1))

    @cached_property
    def tokens(self) -> tuple[Hashes, Indices]:
        """The words of the records, a character each in scripts without blanks, and where they are (see `Corpus`)."""
        # Neither makes another text where there is nothing to change.
        cut = list(self._storable)
        for row in ranges(self.starts, self.num_question_texts).tolist():
            cut[row] = cut[row].strip(AROUND) or cut[row]
        for row in np.flatnonzero(~self.is_ascii).tolist():
            cut[row] = spaced(cut[row])
        is_same = all(map(is_, cut, self._storable))
        words = word_hashes(self._units if is_same else flattened(cut))
        return _with_breaks(words, self.starts, self._of_layouts("first_prompt"), self.num_question_texts)

    def sizes(self, of_texts: Indices, *, has_system: bool) -> Indices:
        """Return the size of prompt, completion and text of each record, [N], with that of the system message if asked.

        ``of_texts`` is `num_chars` or `num_bytes`.
        """
        running = ends_of(of_texts)
        starts, num_question_texts = self.starts, self.num_question_texts
        first = self._of_layouts("first_prompt")
        ends = starts + num_question_texts
        # The parts of a prompt are joined.
        joints = len(PART_JOINT) * np.maximum(0, num_question_texts - first - 1)
        total: Indices = running[ends + 2] - running[starts + first] + joints
        return total + running[starts + first] - running[starts] if has_system else total


def read_block(view: View, values: Sequence[Mapping[str, Json]]) -> RecordBlock:
    """Return the columns of the valid lines ``values``."""
    get = partial(every, view, values)
    ids = [
        str(own_id) if own_id is not None else view.content(value).id()
        for own_id, value in zip(get("id"), values, strict=True)
    ]
    return RecordBlock(
        ids,
        [str(category or "") for category in get("category")],
        [split or "" for split in get("split")],
        [source if meta and isinstance(source := meta.get("source"), str) else "" for meta in get("meta")],
        [labels or {} for labels in get("labels")],
        *_texts_of(view, values),
    )


def plain_pairs(view: View, values: Sequence[Mapping[str, Json]]) -> tuple[list[str], list[str]] | None:
    """Return prompts and completions of lines that are one of each and no more; None where a line is not."""
    get = partial(every, view, values)
    if view.has_answers or any(map(any, (get("messages"), get("tools"), get("system")))):
        return None
    columns = [part for path in view.prompt if any(part := column(values, path))]
    completions = get("completion")
    if len(columns) != 1 or not all(columns[0]) or None in completions:
        return None
    return columns[0], completions


def _texts_of(view: View, values: Sequence[Mapping[str, Json]]) -> tuple[list[str], list[_Layout], Indices]:
    """Return the texts of all lines, the layouts that there are, and the number of the layout of each line."""
    get = partial(every, view, values)
    prompts = [column(values, path) for path in view.prompt]
    texts: list[str] = []
    layouts: list[_Layout] = []
    numbers: dict[tuple[object, ...], int] = {}
    codes: list[int] = []
    talks = zip(values, get("messages"), get("tools"), get("system"), get("completion"), get("text"), strict=True)
    for row, (value, messages, tools, system, completion, text) in enumerate(talks):
        read: tuple[tuple[Roles, int], list[Json]] | None = None
        if view.has_answers:
            pass
        elif not tools and not messages:
            if completion is None and isinstance(text, str):
                read = ((), 1), ["", "", "", text]
            else:
                parts = [part for prompt in prompts if (part := prompt[row])]
                said = [*(parts or _NO_PART), completion or "", ""]
                read = ((_SYSTEM_AND_PAIR, len(parts)), [system, *said]) if system else ((_PAIR, len(parts)), said)
        elif not tools:
            read = _talk(messages)
        if read is None:
            texts += _parts_of(view.record(value, _NOWHERE), layouts)
            codes.append(len(layouts) - 1)
            continue
        key, texts_of_record = read
        code = numbers.get(key)
        if code is None:
            code = numbers[key] = len(layouts)
            layouts.append(_layout(*key))
        codes.append(code)
        texts += texts_of_record
    return texts, layouts, np.array(codes, np.int64)


def block_of(records: Sequence[Record]) -> RecordBlock:
    """Return the columns of some records."""
    texts: list[str] = []
    layouts: list[_Layout] = []
    for record in records:
        texts += _parts_of(record, layouts)
    return RecordBlock(
        [record.id for record in records],
        [record.category for record in records],
        [record.split or "" for record in records],
        [source if isinstance(source := record.meta.get("source"), str) else "" for record in records],
        [record.labels for record in records],
        texts,
        layouts,
        np.arange(len(records)),
    )


def _talk(messages: Sequence[Mapping[str, Json]]) -> tuple[tuple[Roles, int], list[Json]] | None:
    """Return what tells the layout of a conversation, and its texts; None where it is not plain."""
    contents: list[Json] = [message.get("content") for message in messages]
    roles: Json = tuple([message.get("role") for message in messages])
    if any(type(text) is not str for text in contents) or any(len(message) != 2 for message in messages):
        return None
    contents.insert(_last_answer(roles) + 1, "")
    return (roles, 1), contents if "assistant" in roles else [*contents, ""]


@lru_cache(maxsize=4096)
def _last_answer(roles: Roles) -> int:
    """Return which turn is the last answer; their number where none is."""
    return max((index for index, role in enumerate(roles) if role == "assistant"), default=len(roles))


@lru_cache(maxsize=4096)
def _layout(roles: Roles, num_parts: int) -> _Layout:
    """Return the layout of a plain conversation, ``num_parts`` of which are one prompt; without roles of raw text."""
    if not roles:
        return _Layout(4, 2, *marks_of((), 0, 2), 2)
    last = _last_answer(roles)
    num_more = max(0, num_parts - 1)
    num_question_texts = last + num_more
    num_texts = len(roles) + num_more + 1 + (last == len(roles))
    first = int(roles[0] in ("system", "developer") and last > 0)
    marks = marks_of(roles, last, num_question_texts)
    return _Layout(num_texts, num_question_texts, *marks, first)


def every(view: View, values: Sequence[Mapping[str, Json]], name: str) -> list[Json]:
    """Return what stands in each line at the place called ``name``, None where nothing does."""
    path = view.paths.get(name)
    if path is None:
        return [None] * len(values)
    return column(values, path)


def column(values: Sequence[Mapping[str, Json]], path: Sequence[str]) -> list[Json]:
    """Return what stands at a path in each of some lines, None where nothing does."""
    if len(path) == 1:
        key = path[0]
        return [value.get(key) for value in values]
    return [at(value, path) for value in values]


def _parts_of(record: Record, layouts: list[_Layout]) -> list[str]:
    """Return the texts of a record, and add its layout."""
    parts, traces = record_parts(record), list(filter(None, map(trace_of, record.messages)))
    has_system = bool(record.messages) and record.messages[0].get("role") in ("system", "developer")
    first = int(has_system and parts.num_question_texts > 0) if record.messages else parts.num_question_texts
    layouts.append(
        _Layout(
            len(parts.texts),
            parts.num_question_texts,
            parts.question_mark,
            parts.mark,
            first,
            trace_bytes(record),
            num_traces=len(traces[:1]),
        )
    )
    return [*parts.texts, "\n\n".join(traces)] if traces else parts.texts


def folded(state: Hashes, key: Hashes) -> Hashes:
    """Return the keys ``state``, [N, 2], with ``key`` told after them."""
    first = mix(state[:, 0] * np.uint64(STEP) + key[:, 0])
    second = mix(state[:, 1] * np.uint64(MIX_A) + key[:, 1] + (first >> np.uint64(32)))
    return np.stack([first, second], axis=1)


def _with_breaks(
    words: Ragged, starts: Indices, num_before: Indices, question_counts: Indices
) -> tuple[Hashes, Indices]:
    """Return the words of each record, a `BREAK` between the parts of its question, and where they are.

    The prompt is all of the question but ``num_before`` texts.
    """
    hashes, offsets = words.hashes, words.offsets
    has_parts = (question_counts > 1) & (offsets[starts + question_counts] > offsets[starts])
    counts = np.where(has_parts, question_counts - 1, 0)
    behind = ranges(starts + 1, counts)
    if len(behind):
        hashes = np.insert(hashes, offsets[behind], np.uint64(BREAK))
    ends = starts + question_counts
    places = (starts, ends, ends + 1, ends + 2, np.append(starts[1:], len(offsets) - 1)[: len(starts)])
    bounds = [offsets[at] + np.searchsorted(behind, at) for at in places]
    prompts = offsets[starts + num_before] + np.searchsorted(behind, starts + num_before, side="right")
    return hashes, np.stack([bounds[0], prompts, *bounds[1:]], axis=1)


def _folded_from(state: Hashes, keys: Hashes, starts: Indices, counts: Indices) -> Hashes:
    """Fold ``counts`` keys from ``starts`` on into the state of each record."""
    state = state.copy()
    for step in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(counts > step)
        state[rows] = folded(state[rows], keys[starts[rows] + step])
    return state
