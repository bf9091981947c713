"""An instruction, or a question, and its output: Alpaca, self-instruct, SQuAD, easy-dataset, and the runs of Kiln."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, Rejected, RowError, SourceRow, container, head_of, importer
from curate.formats.importers._foreign import low_ratings
from curate.formats.importers._reading import as_list, drafted, value_at
from curate.formats.importers.mapping import conversation, earlier_turns, is_all_asked
from curate.jsonl import JsonFault, strict_loads

Row = dict[str, Json]
_ALPACA = {name: name for name in ("instruction", "input", "output", "system")} | {"history": "messages"}


def _is_alpaca(row: Row) -> bool:
    is_pair = isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str)
    return is_pair and is_all_asked(row, *_ALPACA)


@importer(
    "alpaca",
    fits=_is_alpaca,
    samples=[
        {"instruction": "Name the capital.", "input": "Peru", "output": "Lima"},
        {"instruction": "Greet me.", "output": "Hello.", "source_page": 7},
        {"instruction": "And in French?", "input": "", "output": "Bonjour.", "history": [["Greet me.", "Hello."]]},
    ],
)
def read_alpaca(row: Row) -> ConvertedRow:
    """Alpaca rows: instruction, input, output; with history they are conversations."""
    return _alpaca_record(row)


def _alpaca_record(row: Row) -> ConvertedRow:
    texts = {name: row[name] for name in ("system", "instruction", "input", "output") if row.get(name) is not None}
    originals = {name: row[name] for name in _ALPACA if name in row and row[name] is None}
    if not row.get("history"):
        if texts.get("system") == "":
            originals["system"] = texts.pop("system")
        originals |= {"history": row["history"]} if "history" in row else {}
        return drafted("instruction", row, texts, _ALPACA, originals)
    if not all(isinstance(text, str) for text in (row.get("instruction"), row.get("output"), *texts.values())):
        raise RowError("its instruction, input, output or system is not text")
    # The fields that the last turn joins, so that they can be told apart again.
    originals |= {name: row[name] for name in ("input", "system") if name in row and (name == "input" or not row[name])}
    originals |= {"instruction": row["instruction"]} if row.get("input") else {}
    messages = conversation(texts, earlier_turns(row["history"], "history"))
    return drafted("chat", row, {"messages": messages}, _ALPACA, originals)


def _is_task(row: Row) -> bool:
    instances = as_list(row.get("instances"))
    is_answered = any(isinstance(part, dict) and "output" in part for part in instances)
    return isinstance(row.get("instruction"), str) and is_answered


@importer(
    "self-instruct",
    fits=_is_task,
    notices=lambda _path, _rows: ["one record for each of the instances of an instruction"],
    samples=[
        {"id": "seed_1", "name": "plural", "instruction": "Give the plural.", "is_classification": False,
         "instances": [{"input": "goose", "output": "geese"}, {"input": "ox", "output": "oxen"}, {"input": "fish"}]},
        {"id": "user_1", "motivation_app": "Mail", "instruction": "Greet me.",
         "instances": [{"input": "", "output": "Hello."}]},
    ],
)  # fmt: skip
def read_task(row: Row) -> list[ConvertedRow | RowError]:
    """Tasks of self-instruct: an instruction with instances of input and output, each of which is a record."""
    if not _is_task(row):
        raise RowError("it has no instruction with instances of input and output")
    records: list[ConvertedRow | RowError] = []
    for number, part in enumerate(row["instances"], start=1):
        around = {name: value for name, value in row.items() if name != "instances"}
        if "id" in row and len(row["instances"]) > 1:
            # Two records do not have one id.
            around["id"] = f"{row['id']}-{number}"
        if isinstance(part, dict) and isinstance(part.get("output"), str):
            draft = _alpaca_record(around | part)
            columns = {**draft.columns, "instances": "prompt and completion"}
            records.append(replace(draft, columns=columns))
        else:
            records.append(RowError("an instance is no object with an output", part=part))
    return records


def _is_question(row: Row) -> bool:
    return isinstance(row.get("question"), str) and isinstance(row.get("context"), str) and "answers" in row


def _is_article(row: Row) -> bool:
    paragraphs = row.get("paragraphs")
    return isinstance(paragraphs, list) and all(isinstance(part, dict) and "qas" in part for part in paragraphs)


@importer(
    "squad",
    fits=lambda row: (
        _is_article(row) or _is_question(row)
        or (isinstance(row.get("context"), str) and isinstance(row.get("qas"), list))
    ),
    samples=[
        {"title": "Bridges", "paragraphs": [{"context": "The bridge was built in 1901.", "qas": [
            {"id": "b1", "question": "When was it built?", "answers": [{"text": "1901", "answer_start": 24}]},
            {"id": "b2", "question": "Who built it?", "answers": [], "is_impossible": True}]}]},
        {"id": "b1", "context": "The bridge was built in 1901.", "question": "When was it built?",
         "answers": {"text": ["1901"], "answer_start": [24]}},
    ],
)  # fmt: skip
def read_squad(row: Row) -> list[ConvertedRow | RowError]:
    """SQuAD articles and rows: a question on a passage and its first answer; questions without one are put aside."""
    return [_answer(row, row["context"], {})] if _is_question(row) else list(_questions(row))


def _questions(row: Row) -> Iterator[ConvertedRow | RowError]:
    around = {name: value for name, value in row.items() if name not in ("paragraphs", "context", "qas")}
    for paragraph in row["paragraphs"] if _is_article(row) else [row]:
        context, questions = paragraph.get("context"), paragraph.get("qas")
        if not isinstance(context, str) or not isinstance(questions, list):
            yield RowError("a paragraph has no text as its context, or no list of questions", part=paragraph)
            continue
        inner = {} if paragraph is row else {k: v for k, v in paragraph.items() if k not in ("context", "qas")}
        for question in questions:
            yield _answer(question, context, around | inner)


def _answer(question: Json, context: str, around: Row) -> ConvertedRow | RowError:
    if not isinstance(question, dict):
        return RowError("a question is no object", part=question)
    asked, answers, part = question.get("question"), question.get("answers"), question | {"context": context}
    texts = as_list(answers.get("text") if isinstance(answers, dict) else answers)
    texts = [part.get("text") if isinstance(part, dict) else part for part in texts]
    answer = next((text for text in texts if isinstance(text, str) and text), None)
    if not isinstance(asked, str) or not asked:
        return RowError("a question has no text", part=part)
    if answer is None:
        why = "its passage does not answer it (is_impossible)" if question.get("is_impossible") else "it has no answer"
        return RowError(f"a question cannot be trained on: {why}", part=part)
    said = {"instruction": asked, "input": context, "output": answer}
    # Other answers, and where they stand, are told as they are.
    draft = drafted("instruction", question, said, {"question": "instruction", "context": "input"})
    columns = {
        **draft.columns,
        "answers": "output",
        "paragraphs": "prompt and completion",
        "qas": "prompt and completion",
    }
    return replace(draft, extra=around | draft.extra, columns=columns)


_CHUNKS = ("chunk", "chunkId", "chunkName", "chunkContent")
_LABELS = ("labels", "questionLabel")


def _is_easy(row: Row) -> bool:
    is_pair = isinstance(row.get("question"), str) and isinstance(row.get("answer"), str)
    return is_pair and any(name in row for name in (*_CHUNKS, "questionLabel", "cot"))


@importer(
    "easy-dataset",
    fits=_is_easy,
    samples=[
        {"question": "When was it built?", "answer": "In 1901.", "labels": "1.1 bridges", "chunk": "Built in 1901."},
        {"id": "q1", "question": "Who built it?", "answer": "Nobody knows.", "questionLabel": "people", "cot": ""},
        {"question": "How old is it?", "answer": "125 years.", "cot": "2026 - 1901 = 125.", "chunk": "Built in 1901."},
    ],
)
def read_easy(row: Row) -> ConvertedRow:
    """easy-dataset pairs: question, reasoning and answer, the label as category; the text they came from is stored."""
    texts = {"instruction": row.get("question"), "output": row.get("answer")}
    columns = {"question": "instruction", "answer": "output", "cot": "reasoning"}
    name = next((name for name in _LABELS if isinstance(row.get(name), str) and row[name]), "")
    if name and not (isinstance(row.get("category"), str) and row["category"]):
        columns[name] = "category"
        texts["category"] = row[name]
    if not (row.get("cot") and _is_easy(row)):
        return drafted("instruction", row, texts, columns, has_our_names=False)
    said: Row = {"category": texts["category"]} if "category" in texts else {}
    said["messages"] = conversation({"instruction": row["question"], "output": row["answer"], "reasoning": row["cot"]})
    return drafted("chat", row, said, columns, has_our_names=False)


_RUN, _TASK = "task_run.kiln", "task.kiln"
# The largest file of a run, in bytes; a line of records may be no longer.
_MAX_BYTES = 16 * 1024 * 1024


def _fits(path: Path, _head: bytes) -> bool:
    return next(path.rglob(_RUN), None) is not None if path.is_dir() else path.suffix == ".kiln"


@container("kiln", fits=_fits, priority=3)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Kiln projects (folders with `task_run.kiln` files) and single files of runs, with the instruction of the task."""
    for number, file in enumerate(sorted(path.rglob(_RUN)) if path.is_dir() else [path], start=1):
        value = _document(file)
        if isinstance(value, str):
            yield Rejected(number, "S101", f"{file.name}: {value}", b"")
            continue
        # A run lies in TASK/runs/NAME.
        task = file.parents[2] / _TASK if len(file.parents) > 2 else file
        about = _document(task) if task.is_file() and task != file else {}
        instruction = str(about.get("instruction") or "") if isinstance(about, dict) else ""
        value |= {"task_instruction": instruction} if instruction else {}
        yield SourceRow(value, number, file.read_bytes())


def _document(file: Path) -> Row | str:
    """Return the object that a file holds, or why there is none."""
    head_of(file)
    if file.stat().st_size > _MAX_BYTES:
        return f"it is longer than {_MAX_BYTES:,} bytes"
    try:
        value = strict_loads(file.read_bytes())
    except JsonFault as fault:
        return fault.message
    return value if isinstance(value, dict) else "it is no object"


def _is_run(row: Row) -> bool:
    return isinstance(row.get("input"), str) and isinstance(value_at(row, "/output/output"), str)


def _notices(path: Path, rows: Sequence[Row]) -> Sequence[str]:
    return low_ratings(path, [{} if row.get("repaired_output") or _has_passed(row) else row for row in rows])


def _has_passed(row: Row) -> bool:
    """Whether a run has passed where it can only pass or fail: its 1 is the best there is."""
    rating = value_at(row, "/output/rating")
    return isinstance(rating, dict) and rating.get("type") != "five_star" and rating.get("value") == 1


@importer(
    "kiln",
    fits=_is_run,
    notices=_notices,
    samples=[
        {"v": 1, "id": "102", "model_type": "task_run", "input": "Say hi.", "task_instruction": "Be brief.",
         "output": {"output": "Hello", "rating": {"type": "five_star", "value": 2.0}},
         "repair_instructions": "End with a full stop.", "repaired_output": {"output": "Hello."}, "tags": ["greeting"]},
    ],
)  # fmt: skip
def read_run(row: Row) -> ConvertedRow:
    """Kiln runs: the input, and the output as it was repaired; ratings and the first output are stored."""
    if not _is_run(row):
        raise RowError("no run of Kiln")
    name = "repaired_output" if row.get("repaired_output") else "output"
    if not (output := value_at(row, f"/{name}/output")):
        raise RowError("the run has no output")
    system = {"system": row["task_instruction"]} if isinstance(row.get("task_instruction"), str) else {}
    said = {**system, "instruction": row["input"], "output": output}
    columns = {"input": "instruction", "task_instruction": "system"}
    draft = drafted("instruction", row, said, columns, has_our_names=False)
    return replace(draft, columns={**columns, name: "output"})
