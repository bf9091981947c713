"""Records that people have answered questions about elsewhere: which text is asked about, and what they said."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from curate.base.record import Json, Kind, canonical
from curate.formats.importers import ConvertedRow, GivenAnswer, RowError
from curate.formats.importers._reading import VERDICTS, is_filled, is_messages, read_messages, take_common
from curate.formats.importers.mapping import guess, plain_name

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_ANSWERS = frozenset({"output", "response", "answer", "completion", "target", "reply", "solution"})
_CLASSES = frozenset({"label", "labels", "category", "intent", "class", "sentiment"})
_REMARK = re.compile(r"comment|note|remark|reason|explan|rational|feedback")
# What annotators were shown, the id of the whole, what they answered, and all else that was said.
Parts = tuple[dict[str, Json], Json, list[GivenAnswer], dict[str, Json]]


def guess_questions(
    rows: Sequence[dict[str, Json]], given: Mapping[str, str], parts_of: Callable[[dict[str, Json]], Parts]
) -> dict[str, str]:
    """Return, for a whole file, the field that is asked about and the question whose answers are the completions.

    Raises:
        RowError: several questions may be it, and ``given`` names none.
    """
    parts: list[Parts] = []
    for row in rows:
        with suppress(RowError):
            parts.append(parts_of(row))
    asked = question_of([data for data, *_ in parts])
    answers = [one for data, _, some, _ in parts if _is_open(data) for one in some]
    question = given.get("output") or best_question(answers)
    return {name: column for name, column in (("instruction", asked), ("output", question)) if column} | dict(given)


def _is_open(data: Mapping[str, Json]) -> bool:
    """Whether what was shown to annotators holds no answer yet."""
    if talk := _talk_of(data):
        return bool(data[talk][-1]["role"] != "assistant")
    return "output" not in guess([_texts(data)])


def _talk_of(data: Mapping[str, Json]) -> str:
    return next((key for key, value in data.items() if is_messages(value)), "")


def _texts(data: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in data.items() if isinstance(value, str)}


def best_question(answers: Iterable[GivenAnswer]) -> str:
    """Return the question whose answers are completions: free text before choices; "" where all of them only judge.

    Raises:
        RowError: several have equal standing.
    """
    by_question: dict[str, list[GivenAnswer]] = defaultdict(list)
    for one in answers:
        by_question[one.question].append(one)
    ranks = {name: _rank(name, some) for name, some in by_question.items()}
    best = [name for name, rank in ranks.items() if rank == min(ranks.values()) and rank < _JUDGES]
    if len(best) > 1:
        raise RowError(f"the answers to {' or '.join(map(repr, best))} may be the completions: --map output={best[0]}")
    return best[0] if best else ""


_JUDGES = 5


def _rank(question: str, answers: Sequence[GivenAnswer]) -> int:
    """Return the standing of a question, by its name, what it asks for, and all the answers to it; 0 is the best."""
    name, form = plain_name(question), answers[0].form
    texts = [text for one in answers if (text := completion_of(one.value))]
    if not texts or form == "rating":
        return _JUDGES
    if name in _ANSWERS and form != "choice":
        return 0
    if form != "text" and all(text.lower() in VERDICTS or _NUMBER.fullmatch(text) for text in texts):
        return _JUDGES
    # Where nothing says what was asked for, texts of several words are free where few are given twice.
    if form == "text" or (not form and 2 * len({*texts}) > len(texts) and any(" " in text for text in texts)):
        return 4 if _REMARK.search(name) else 1
    return 2 if name in _ANSWERS | _CLASSES else 3


def record_of(parts: Parts, mapping: Mapping[str, str]) -> ConvertedRow:
    """Return the record of what was asked about, with the answers.

    A record that holds no answer of its own is answered by the question that ``mapping`` calls the output.

    Raises:
        RowError: there is no text to ask about, or no answer.
    """
    data, name, _, left = parts
    row = data | ({"id": name} if name is not None else {})
    if talk := _talk_of(data):
        line, extra = take_common(row, (talk,), has_our_names=False)
        messages, is_exact = read_messages(data[talk], talk)
        extra |= {} if is_exact else {talk: data[talk]}
        return _answered("chat", line | {"messages": messages}, extra | left, parts, mapping)
    texts = _texts(data)
    columns = guess([texts])
    asked = mapping.get("instruction", "")
    asked = asked if asked in texts else question_of([texts])
    if not texts.get(asked):
        raise RowError("there is no text that was asked about")
    others = (field for field in ("input", "system", "output") if columns.get(field, asked) != asked)
    taken = {field: columns[field] for field in others} | {"instruction": asked}
    line, extra = take_common(row, taken.values(), has_our_names=False)
    line |= {field: texts[column] for field, column in taken.items()}
    return _answered("instruction", line, extra | left, parts, mapping)


def _answered(
    kind: Kind, line: dict[str, Json], extra: dict[str, Json], parts: Parts, mapping: Mapping[str, str]
) -> ConvertedRow:
    """Return a record with its answers, of which one is the completion where it has none of its own.

    Raises:
        RowError: it has none, and no answer can be its completion.
    """
    data, _, answers, _ = parts
    if not _is_open(data):
        return ConvertedRow(kind, line, extra, answers=tuple(answers))
    if not (question := mapping.get("output") or best_question(answers)):
        names = ", ".join(dict.fromkeys(one.question for one in answers))
        raise RowError(f"its answers only judge it, by ratings or verdicts ({names}); --map output=NAME takes them")
    completion = next((text for one in answers if one.question == question and (text := completion_of(one.value))), "")
    if not completion:
        raise RowError(f"nobody has answered {question!r}, whose answers are the completions of this file")
    return ConvertedRow(kind, _completed(line, completion), extra, answers=tuple(answers), answered_by=question)


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


def question_of(rows: Sequence[Mapping[str, Json]]) -> str:
    """Return the field that is called like a question, else the one with the longest texts, "" without any."""
    texts = [_texts(row) for row in rows]
    lengths: Counter[str] = Counter()
    for row in texts:
        lengths.update({name: len(text) for name, text in row.items()})
    return guess(texts).get("instruction") or max(lengths, key=lambda name: lengths[name], default="")


def completion_of(value: Json) -> str:
    """Return an answer as a completion: a text, or several labels behind one another; "" where it is none."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return value if isinstance(value, str) else ""


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
        given = (one.value for one in self.answers if one.question == self.first.answered_by)
        return Counter(text for value in given if (text := completion_of(value)))

    def row(self) -> ConvertedRow:
        """Return the record, with the most frequent answer as its output."""
        first = self.first
        # Of those that were given equally often the first comes first.
        most = self._counts.most_common(1)
        line = _completed(asked_line(first), most[0][0]) if most else first.line
        extra = first.extra | ({"further_rows": self._further} if self._further else {})
        return ConvertedRow(first.kind, line, extra, None, tuple(self.answers))


def answers_of(
    pairs: Iterable[tuple[str, Json]], annotator: str, at: str = "", forms: Mapping[str, str] | None = None
) -> list[GivenAnswer]:
    """Return the filled answers of one annotator."""
    return [
        GivenAnswer(question, plain_answer(value), annotator, at, (forms or {}).get(question, ""))
        for question, value in pairs
        if is_filled(value)
    ]
