"""Records that people have answered questions about elsewhere: Label Studio, Argilla, Prodigy and doccano.

Of each row it is said which text is asked about, and what who has said; one of the questions is the output.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from curate.base.record import Json, Kind
from curate.formats.importers import ConvertedRow, GivenAnswer, RowError, importer
from curate.formats.importers._foreign import low_ratings
from curate.formats.importers._reading import (
    VERDICTS,
    as_list,
    first_of,
    is_filled,
    is_messages,
    read_messages,
    take_common,
    value_at,
)
from curate.formats.importers.mapping import CLASSES, guess, plain_name
from curate.jsonl import pointer_of

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_ANSWERS = frozenset({"output", "response", "answer", "completion", "target", "reply", "solution"})
_REMARK = re.compile(r"comment|note|remark|reason|explan|rational|feedback")
_ANNOTATORS = "annotators"
Row = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Task:
    """What a row of an annotation tool says: the fields that were ``shown``, below ``place`` in the row, and answers.

    ``left`` is all else that it says; ``columns`` are those that hold the answers, ``other_columns`` says what others
    became.
    """

    shown: Row
    name: Json
    answers: list[GivenAnswer]
    left: Row
    columns: Sequence[str]
    place: str = ""
    other_columns: Mapping[str, str] = field(default_factory=dict)


def annotation_tool(
    name: str, *, find_question: Callable[[Sequence[Row]], str] = lambda _rows: "", **options: Any
) -> Callable[[Callable[[Row, str], Task]], Any]:
    """Register an importer by a function that says what is in a row.

    It is also given the column that is asked about, which ``find_question`` returns in rows that do not tell it from
    the answers.
    """

    def register(read_task: Callable[[Row, str], Task]) -> Any:
        def guess_questions(rows: Sequence[Row], mapping: Mapping[str, str]) -> dict[str, str]:
            tasks: list[Task] = []
            for row in rows:
                with suppress(RowError):
                    tasks.append(read_task(row, mapping.get("instruction") or find_question(rows)))
            open_answers = (one for task in tasks if _is_open(task.shown) for one in task.answers)
            instruction = mapping.get("instruction") or find_question(rows) or question_of([t.shown for t in tasks])
            question = mapping.get("output") or best_question(open_answers)
            guessed = {"instruction": instruction, "output": question} | dict(mapping)
            return {field: column for field, column in guessed.items() if column}

        def read(row: Row, mapping: Mapping[str, str]) -> ConvertedRow:
            return record_of(read_task(row, mapping.get("instruction", "")), mapping)

        return importer(name, guess=guess_questions, **({"notices": low_ratings} | options))(read)

    return register


def _is_open(data: Mapping[str, Json]) -> bool:
    """Whether what was shown to annotators holds no answer yet."""
    if talk := first_of(data, data, is_messages):
        return bool(data[talk][-1]["role"] != "assistant")
    return "output" not in guess([_texts(data)])


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
    return 2 if name in _ANSWERS | {*CLASSES, "labels"} else 3


def record_of(task: Task, mapping: Mapping[str, str]) -> ConvertedRow:
    """Return the record of what was asked about, with the answers.

    A record that holds no answer of its own is answered by the question that ``mapping`` calls the output.

    Raises:
        RowError: there is no text to ask about, or no answer.
    """
    row = task.shown | ({"id": task.name} if task.name is not None else {})
    kind: Kind = "chat"
    if talk := first_of(task.shown, task.shown, is_messages):
        fields = {"messages": talk}
        messages, originals = read_messages(task.shown[talk], talk)
        said: Row = {"messages": messages}
    else:
        kind, texts, originals = "instruction", _texts(task.shown), {}
        fields, asked = guess([texts]), mapping.get("instruction", "")
        asked = asked if asked in texts else question_of([texts])
        if not texts.get(asked):
            raise RowError("there is no text that was asked about")
        others = (name for name in ("input", "system", "output") if fields.get(name, asked) != asked)
        fields = {name: fields[name] for name in others} | {"instruction": asked}
        said = {name: texts[column] for name, column in fields.items()}
    line, extra = take_common(row, fields.values(), has_our_names=False)
    question = "" if not _is_open(task.shown) else mapping.get("output") or best_question(task.answers)
    columns = {f"{task.place}{pointer_of([column])[not task.place :]}": name for name, column in fields.items()}
    columns |= dict.fromkeys(task.columns, f"answers to {question} (completion)" if question else "their answers")
    columns |= task.other_columns
    draft = ConvertedRow(
        kind,
        line | said,
        extra | originals | task.left,
        answers=tuple(task.answers),
        answered_by=question,
        asked=line | said,
        columns=columns,
    )
    if not _is_open(task.shown):
        return draft
    if not question:
        names = ", ".join(dict.fromkeys(one.question for one in task.answers))
        raise RowError(f"its answers only judge it, by ratings or verdicts ({names}); --map output=NAME takes them")
    completions = (completion_of(one.value) for one in task.answers if one.question == question)
    if not (completion := next(filter(None, completions), "")):
        raise RowError(f"nobody has answered {question!r}, whose answers are the completions of this file")
    return replace(draft, line=_completed(draft.asked, completion))


def _completed(line: Row, answer: Json) -> Row:
    if "messages" in line:
        return line | {"messages": [*line["messages"], {"role": "assistant", "content": answer}]}
    return line | {"output": answer}


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


@dataclass(slots=True)
class Joined:
    """Rows that are one record: their line, the answers of all, and what else the others say."""

    first: ConvertedRow
    answers: list[GivenAnswer] = field(default_factory=list)
    further: list[Json] = field(default_factory=list)

    def add(self, other: ConvertedRow) -> None:
        """Take the answers of a row about the same record, and what else it says."""
        self.answers += other.answers
        if more := {name: value for name, value in other.extra.items() if self.first.extra.get(name) != value}:
            self.further.append(more)

    def row(self) -> tuple[ConvertedRow, bool]:
        """Return the record, with the most frequent answer as its output, and whether another was given as often."""
        values = (one.value for one in self.answers if one.question == self.first.answered_by)
        # Of those that were given equally often the first comes first.
        most = Counter(text for value in values if (text := completion_of(value))).most_common(2)
        line = _completed(self.first.asked, most[0][0]) if most else self.first.line
        extra = self.first.extra | ({"further_rows": self.further} if self.further else {})
        is_tied = len(most) > 1 and most[0][1] == most[1][1]
        return replace(self.first, line=line, extra=extra, answers=tuple(self.answers), answered_by=""), is_tied


def answers_of(pairs: Iterable[tuple[str, Json]], annotator: str, at: str = "", form: str = "") -> list[GivenAnswer]:
    """Return the filled answers of one annotator."""
    return [
        GivenAnswer(question, plain_answer(value), annotator, at, form) for question, value in pairs if is_filled(value)
    ]


_FLAT = ("annotation_id", "lead_time")
# The keys under which a result holds what was answered; all other kinds mark places in a text, a picture or a sound.
_RESULTS = ("choices", "text", "rating", "number", "taxonomy", "ranker", "selected")
_FORMS = {"text": "text", "choices": "choice", "taxonomy": "choice", "rating": "rating", "ranker": "rating"}


def _notes_of(row: Row) -> str:
    return next((name for name in ("annotations", "completions") if isinstance(row.get(name), list)), "")


def _is_studio(row: Row) -> bool:
    return (isinstance(row.get("data"), dict) and bool(_notes_of(row))) or all(name in row for name in _FLAT)


@annotation_tool(
    "label-studio",
    find_question=lambda rows: question_of([_task_fields(row) for row in rows if all(name in row for name in _FLAT)]),
    fits=_is_studio,
    samples=[
        {"id": 1, "data": {"text": "Where is my card?"}, "predictions": [], "annotations": [
            {"completed_by": {"id": 3, "email": "ann@example.org"}, "created_at": "2026-03-01T10:00:00Z", "result": [
                {"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": ["card"]}}]}]},
        {"id": 1, "text": "Where is my card?", "intent": "card", "annotator": 1, "annotation_id": 7, "lead_time": 2.5},
    ],
)  # fmt: skip
def label_studio(row: Row, question: str) -> Task:
    """Label Studio tasks and JSON-MIN rows: the text of a task, and what each annotator answered to each question."""
    notes = _notes_of(row)
    if not isinstance(row.get("data"), dict) or not notes:
        return _annotation(row, question)
    annotations = [one for one in row[notes] if isinstance(one, dict)]
    answers: list[GivenAnswer] = []
    marks: list[Json] = []
    for annotation in (one for one in annotations if not one.get("was_cancelled")):
        who, at = (
            _annotator(annotation.get("completed_by")),
            annotation.get("updated_at") or annotation.get("created_at"),
        )
        for result in as_list(annotation.get("result")):
            value = value_at(result, "/value") if isinstance(result, dict) else None
            value = value if isinstance(value, dict) else {}
            key = next((name for name in _RESULTS if name in value), "")
            # A label of a part of the text has a beginning and an end, and the text of that part.
            if key and "start" not in value:
                pair = str(result.get("from_name") or key), _said(value[key], key)
                answers += answers_of([pair], who, str(at or ""), _FORMS.get(key, ""))
            else:
                marks.append(result)
    left = {name: value for name, value in row.items() if name not in ("data", notes, "id")}
    left[notes] = [{name: value for name, value in one.items() if name != "result"} for one in annotations]
    left |= {"marks": marks} if marks else {}
    if not answers:
        raise RowError("its annotations only mark places in it" if marks else "nobody has answered it")
    return Task(row["data"], row.get("id"), answers, left, [notes], "/data")


def _task_fields(row: Row) -> Row:
    """Return what a row of JSON-MIN says before its annotation: the fields of the task, and the answers."""
    names = list(row)
    end = next((names.index(name) for name in ("annotator", "annotation_id") if name in names), 0)
    return {name: row[name] for name in names[:end] if name != "id"}


def _annotation(row: Row, question: str) -> Task:
    """Return what a row of JSON-MIN says: before its annotation come the fields of the task, and the answers."""
    if not _is_studio(row):
        raise RowError("no task of Label Studio")
    names, task_fields = list(row), list(_task_fields(row))
    # Where the id is not between them, only what reads like a question is known to be asked about.
    begin = names.index("id") if "id" in names[1 : len(task_fields) + 1] else 0
    question_fields = names[:begin] or [question if question in task_fields else question_of([_task_fields(row)])]
    answer_fields = [name for name in task_fields if name not in question_fields]
    at = str(row.get("updated_at") or row.get("created_at") or "")
    answers = answers_of(
        [(name, _said(row[name], "text")) for name in answer_fields], _annotator(row.get("annotator")), at
    )
    if not answers:
        raise RowError("the annotation holds no answer")
    left = {name: row[name] for name in names if name not in task_fields and name not in ("id", "annotator")}
    shown = {name: row[name] for name in question_fields if name in row}
    return Task(shown, row.get("id"), answers, left, answer_fields, other_columns={"annotator": _ANNOTATORS})


def _said(value: Json, key: str) -> Json:
    """Return what was answered: of several choices a list of them, of several texts one text with a line for each."""
    if isinstance(value, dict) and "choices" in value:
        return value["choices"]
    if key == "text" and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return value


def _annotator(value: Json) -> str:
    """Return the name of an annotator: of a person their address, else their number."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("username") or value.get("id")
    return str(value) if value not in (None, "") else "label-studio"


_RESPONSES = ".responses"
# What stands beside the fields of a record, in one form or the other.
_BESIDE_FIELDS = ("responses", "suggestions", "metadata", "vectors", "status", "_server_id", "id", "external_id")
_OLD = ("user_id", "value", "status")


def _old_questions(row: Row) -> list[str]:
    """Return the columns that hold responses as Argilla 1 wrote them: lists of objects, or an object of lists."""
    return [name for name, value in row.items() if f"{name}-suggestion" in row or _is_old(row, name, value)]


def _is_old(row: Row, name: str, value: Json) -> bool:
    parts = value if isinstance(value, list) else [value]
    is_response = bool(parts) and all(isinstance(part, dict) and set(_OLD) <= part.keys() for part in parts)
    return is_response or f"{name}-suggestion-metadata" in row


def _is_argilla(row: Row) -> bool:
    is_nested = isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict | list)
    return is_nested or any(name.endswith(_RESPONSES) for name in row) or bool(_old_questions(row))


@annotation_tool(
    "argilla",
    fits=_is_argilla,
    samples=[
        {"id": "a", "fields": {"text": "Say hi."}, "metadata": {}, "suggestions": {}, "vectors": {}, "responses": {
            "reply": [{"value": "Hi.", "user_id": "u1"}, {"value": "Hello.", "user_id": "u2"}]}},
        {"id": "a", "status": "completed", "text": "Say hi.", "reply.responses": ["Hi."],
         "reply.responses.users": ["u1"], "reply.responses.status": ["submitted"]},
        {"text": "Say hi.", "reply-suggestion": None,
         "reply": [{"user_id": "u1", "value": "Hi.", "status": "submitted"}]},
    ],
)  # fmt: skip
def argilla(row: Row, _question: str) -> Task:
    """Argilla records: the fields, and what each annotator responded to each question; drafts and discarded ones are
    stored and not taken."""
    responses, place, columns = row.get("responses"), "", ["responses"]
    if isinstance(row.get("fields"), dict) and isinstance(responses, dict | list):
        shown, place = row["fields"], "/fields"
        left = {name: value for name, value in row.items() if name not in ("fields", "responses", "id")}
        if isinstance(responses, dict):
            pairs = [(str(name), part) for name, parts in responses.items() for part in as_list(parts)]
        else:
            pairs = [(str(part.get("question_name", "")), part) for part in responses if isinstance(part, dict)]
    else:
        shown, left, pairs, columns = _argilla_columns(row)
    answers: list[GivenAnswer] = []
    others: list[Json] = []
    for question, part in ((question, part) for question, part in pairs if isinstance(part, dict)):
        if part.get("status", "submitted") == "submitted":
            annotator = part.get("user_id") or part.get("user")
            answers += answers_of([(question, part.get("value"))], str(annotator or "argilla"))
        else:
            others.append({"question": question} | part)
    if not answers:
        raise RowError("nobody has submitted a response")
    left |= {"unsubmitted": others} if others else {}
    return Task(shown, row.get("id") or row.get("external_id"), answers, left, columns, place)


def _argilla_columns(row: Row) -> tuple[Row, Row, list[tuple[str, Json]], list[str]]:
    """Return the fields of a row of columns, all else that it says, the responses, and the columns of these."""
    new = [name.removesuffix(_RESPONSES) for name in row if name.endswith(_RESPONSES)]
    old = [] if new else _old_questions(row)
    pairs: list[tuple[str, Json]] = []
    for question in new:
        values, users, states = (
            as_list(row.get(f"{question}{_RESPONSES}{part}")) for part in ("", ".users", ".status")
        )
        for value, user, status in zip_longest(values, users[: len(values)], states[: len(values)]):
            pairs.append((question, {"value": value, "user_id": user, "status": status or "submitted"}))
    for question in old:
        value = row[question]
        if isinstance(value, dict):
            lists = [part if isinstance(part, list) else [part] for part in (value.get(key) for key in _OLD)]
            value = [dict(zip(_OLD, parts, strict=False)) for parts in zip(*lists, strict=False)]
        pairs += [(question, part) for part in as_list(value)]
    questions = new or old
    beside = [
        name for name in row
        if name in _BESIDE_FIELDS or any(name.startswith((f"{one}.", f"{one}-suggestion")) for one in questions)
    ]  # fmt: skip
    shown = {name: value for name, value in row.items() if name not in beside and name not in questions}
    left = {name: row[name] for name in beside if _RESPONSES not in name and name not in ("id", "external_id")}
    return shown, left, pairs, [*old, *(name for name in beside if _RESPONSES in name)]


_MARKS = ("_input_hash", "_task_hash", "_view_id", "_annotator_id", "_session_id")
_ANSWER_FIELDS = ("response", "completion", "output", "label", "accept")
# What a row says about how it was shown.
_DISPLAY_FIELDS = ("answer", "options", "spans", "tokens")


def _is_prodigy(row: Row) -> bool:
    return row.get("answer") in ("accept", "reject", "ignore") and any(
        name in row for name in (*_MARKS, *_ANSWER_FIELDS)
    )


@annotation_tool(
    "prodigy",
    fits=_is_prodigy,
    notices=lambda path, rows: low_ratings(path, [row for row in rows if row.get("answer") == "accept"]),
    samples=[
        {"text": "Where is my card?", "label": "card", "answer": "accept", "_input_hash": 1, "_task_hash": 2},
        {"text": "Where is my card?", "options": [{"id": "card", "text": "Card"}], "accept": ["card"],
         "answer": "accept", "_input_hash": 1, "_task_hash": 3, "_annotator_id": "set-ann", "_timestamp": 1767225600},
        {"prompt": "Say hi.", "response": "Hello.", "answer": "accept"},
    ],
)  # fmt: skip
def prodigy(row: Row, _question: str) -> Task:
    """Prodigy rows that were accepted: the text, and the label, the choice or the response; others are put aside."""
    if not _is_prodigy(row) or row["answer"] != "accept":
        raise RowError(f"its annotator has said {row.get('answer')!r}")
    annotator = str(row.get("_annotator_id") or row.get("_session_id") or "prodigy")
    pairs = [("choice" if name == "accept" else name, row[name]) for name in ("label", "accept") if name in row]
    marks = {name: value for name, value in row.items() if name.startswith("_") or name in _DISPLAY_FIELDS}
    shown = {name: value for name, value in row.items() if name not in marks and name not in ("label", "accept")}
    used = ("answer", "_annotator_id", "_timestamp")
    left = {name: value for name, value in marks.items() if name not in used}
    answers = answers_of(pairs, annotator, _time_of(row.get("_timestamp")))
    name, others = "id" if "id" in row else "_input_hash", dict.fromkeys(("_annotator_id", "_session_id"), _ANNOTATORS)
    return Task(shown, row.get(name), answers, left, ["label", "accept"], other_columns=others | {name: "id"})


def _time_of(moment: Json) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def _labels_of(row: Row) -> str:
    return next((name for name in ("label", "labels", "cats") if isinstance(row.get(name), list)), "")


def _is_doccano(row: Row) -> bool:
    # Others have lists of labels as well: doccano has comments beside them, or the number of the example.
    is_marked = not row.keys().isdisjoint(("id", "Comments", "comments"))
    return isinstance(row.get("text"), str) and bool(_labels_of(row)) and is_marked


@annotation_tool(
    "doccano",
    fits=_is_doccano,
    samples=[
        {"id": 1, "text": "Where is my card?", "label": ["card"], "Comments": []},
        {"id": 2, "text": "Where is my loan?", "cats": ["loan", "urgent"], "entities": [[9, 16, "a"]], "Comments": []},
    ],
)
def doccano(row: Row, _question: str) -> Task:
    """doccano examples: the text, and its labels or answer; examples that only mark places are put aside."""
    name = _labels_of(row)
    labels = row[name] if _is_doccano(row) else []
    if not labels:
        raise RowError("nobody has labelled it")
    if not all(isinstance(label, str) for label in labels):
        raise RowError("its labels mark places in the text")
    left = {key: value for key, value in row.items() if key not in ("text", name, "id")}
    left |= {name: labels} if len(labels) > 1 else {}
    # The file says who it was; see `convert`.
    return Task({"text": row["text"]}, row.get("id"), answers_of([("label", labels)], ""), left, [name])
