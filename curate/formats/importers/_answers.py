"""Records that people have answered questions about elsewhere: which text is asked about, and what they said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from curate.base.record import Json, Kind, canonical
from curate.formats.importers import ConvertedRow, GivenAnswer, RowError
from curate.formats.importers._reading import VERDICTS, is_filled, is_messages, read_messages, take_common
from curate.formats.importers.mapping import guess

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def record_of(
    data: Mapping[str, Json], name: Json, answers: Sequence[GivenAnswer], left: Mapping[str, Json]
) -> ConvertedRow:
    """Return the record of what was asked about, with the answers.

    ``data`` are the fields that annotators saw, ``name`` is the id of the whole, ``left`` all else that was said. A
    record that holds no answer of its own is answered by the first question whose answers are texts.

    Raises:
        RowError: there is no text to ask about, or no answer.
    """
    row = dict(data) | ({"id": name} if name is not None else {})
    if talk := next((key for key, value in data.items() if is_messages(value)), ""):
        line, extra = take_common(row, (talk,), has_our_names=False)
        messages, is_exact = read_messages(data[talk], talk)
        extra |= {} if is_exact else {talk: data[talk]}
        line |= {"messages": messages}
        return _answered("chat", line, extra | dict(left), answers, is_open=messages[-1]["role"] != "assistant")
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    mapping = guess([texts])
    asked = question_of(texts)
    if not texts.get(asked):
        raise RowError("there is no text that was asked about")
    taken = {field: mapping[field] for field in ("input", "system", "output") if field in mapping} | {
        "instruction": asked
    }
    line, extra = take_common(row, taken.values(), has_our_names=False)
    line |= {field: texts[column] for field, column in taken.items()}
    return _answered("instruction", line, extra | dict(left), answers, is_open="output" not in taken)


def _answered(
    kind: Kind, line: dict[str, Json], extra: dict[str, Json], answers: Sequence[GivenAnswer], *, is_open: bool
) -> ConvertedRow:
    """Return a record with its answers; one that ``is_open`` has no completion of its own.

    Raises:
        RowError: it is open, and no answer can be its completion.
    """
    first = next((one for one in answers if _is_text(one.value)), None)
    if not is_open:
        return ConvertedRow(kind, line, extra, answers=tuple(answers))
    if first is None:
        raise RowError("nobody has answered it by a text or a choice; ratings and verdicts are no completions")
    line = _completed(line, first.value)
    return ConvertedRow(kind, line, extra, answers=tuple(answers), answered_by=first.question)


def _completed(line: dict[str, Json], answer: Json) -> dict[str, Json]:
    if "messages" in line:
        return line | {"messages": [*line["messages"], {"role": "assistant", "content": answer}]}
    return line | {"output": answer}


def asked_line(draft: ConvertedRow) -> dict[str, Json]:
    """Return the line of a record without the completion that answers gave it."""
    line = draft.line
    if draft.answered_by and "messages" in line:
        return line | {"messages": line["messages"][:-1]}
    return {name: value for name, value in line.items() if name != "output" or not draft.answered_by}


def _is_text(value: Json) -> bool:
    return isinstance(value, str) and value.lower() not in VERDICTS and not _NUMBER.fullmatch(value)


def question_of(row: Mapping[str, Json]) -> str:
    """Return the field that is called like a question, else the one with the longest text, "" without any."""
    texts = {key: value for key, value in row.items() if isinstance(value, str)}
    return guess([texts]).get("instruction") or max(texts, key=lambda key: len(texts[key]), default="")


def plain_answer(value: Json) -> Json:
    """Return an answer without the list around it where it is one: ["card"] is "card", and 4 is "4"."""
    if isinstance(value, list) and len(value) == 1:
        return plain_answer(value[0])
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int | float) else value


class Joined:
    """Rows that are one record: their line, the answers of all, and what the most of them said."""

    def __init__(self, first: ConvertedRow) -> None:
        self.first = first
        self.answers = list(first.answers)
        self._further: list[Json] = []

    def add(self, other: ConvertedRow) -> None:
        """Take the answers of another row about the same record, and what else it says."""
        self.answers += other.answers
        known = self.first.extra
        if more := {name: value for name, value in other.extra.items() if known.get(name) != value}:
            self._further.append(more)

    @staticmethod
    def key(draft: ConvertedRow) -> bytes:
        """Return what rows about the same record have in common."""
        return canonical(asked_line(draft))

    @property
    def is_tied(self) -> bool:
        """Whether two answers were given equally often, so that the first of them is taken."""
        most = self._counts.most_common(2)
        return len(most) > 1 and most[0][1] == most[1][1]

    @property
    def _counts(self) -> Counter[str]:
        return Counter(
            one.value for one in self.answers if one.question == self.first.answered_by and isinstance(one.value, str)
        )

    def row(self) -> ConvertedRow:
        """Return the record, with the most frequent answer as its output."""
        first = self.first
        # Of those that were given equally often the first comes first.
        most = self._counts.most_common(1)
        line = _completed(asked_line(first), most[0][0]) if most else first.line
        extra = first.extra | ({"further_rows": self._further} if self._further else {})
        return ConvertedRow(first.kind, line, extra, None, tuple(self.answers))


def answers_of(pairs: Iterable[tuple[str, Json]], annotator: str, at: str = "") -> list[GivenAnswer]:
    """Return the filled answers of one annotator."""
    return [GivenAnswer(question, plain_answer(value), annotator, at) for question, value in pairs if is_filled(value)]
