"""SQuAD and sets like it: articles with paragraphs and their questions, and the flat rows that are made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import take_common

# What says that the passage does not hold the answer.
_UNANSWERABLE = "is_impossible"


def _is_flat(row: dict[str, Json]) -> bool:
    return isinstance(row.get("question"), str) and isinstance(row.get("context"), str) and "answers" in row


def _is_article(row: dict[str, Json]) -> bool:
    paragraphs = row.get("paragraphs")
    return isinstance(paragraphs, list) and all(isinstance(part, dict) and "qas" in part for part in paragraphs)


def _is_paragraph(row: dict[str, Json]) -> bool:
    return isinstance(row.get("context"), str) and isinstance(row.get("qas"), list)


@importer(
    "squad",
    fits=lambda row: _is_article(row) or _is_paragraph(row) or _is_flat(row),
    samples=[
        {"title": "Bridges", "paragraphs": [{"context": "The bridge was built in 1901.", "qas": [
            {"id": "b1", "question": "When was it built?", "answers": [{"text": "1901", "answer_start": 24}]},
            {"id": "b2", "question": "Who built it?", "answers": [], "is_impossible": True}]}]},
        {"id": "b1", "context": "The bridge was built in 1901.", "question": "When was it built?",
         "answers": {"text": ["1901"], "answer_start": [24]}},
    ],
)  # fmt: skip
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> list[ConvertedRow | RowError]:
    """SQuAD articles and rows: a question on a passage and its first answer; questions without one are put aside."""
    return list(_records(row))


def _records(row: dict[str, Json]) -> Iterator[ConvertedRow | RowError]:
    if _is_flat(row):
        yield _record(row, row["context"], {})
        return
    paragraphs = row.get("paragraphs") if _is_article(row) else [row]
    around = {name: value for name, value in row.items() if name not in ("paragraphs", "context", "qas")}
    for paragraph in paragraphs if isinstance(paragraphs, list) else ():
        context, questions = paragraph.get("context"), paragraph.get("qas")
        if not isinstance(context, str) or not isinstance(questions, list):
            yield RowError("a paragraph has no text as its context, or no list of questions", part=paragraph)
            continue
        inner = {} if paragraph is row else {k: v for k, v in paragraph.items() if k not in ("context", "qas")}
        for question in questions:
            if isinstance(question, dict):
                yield _record(question, context, around | inner)
            else:
                yield RowError("a question is no object", part=question)


def _record(question: dict[str, Json], context: str, around: dict[str, Json]) -> ConvertedRow | RowError:
    asked, answers = question.get("question"), question.get("answers")
    texts = answers.get("text") if isinstance(answers, dict) else answers
    texts = [part.get("text") if isinstance(part, dict) else part for part in texts] if isinstance(texts, list) else []
    answer = next((text for text in texts if isinstance(text, str) and text), None)
    part = question | {"context": context}
    if not isinstance(asked, str) or not asked:
        return RowError("a question has no text", part=part)
    if answer is None:
        why = "its passage does not answer it (is_impossible)" if question.get(_UNANSWERABLE) else "it has no answer"
        return RowError(f"a question cannot be trained on: {why}", part=part)
    line, extra = take_common(question, ("question", "context"))
    line |= {"instruction": asked, "input": context, "output": answer}
    # Other answers, and where they stand, are told as they are.
    return ConvertedRow("instruction", line, around | extra)
