"""Our own rows: those of `dataset/vN`, and of its Parquet, `datasets` and Hub exports, which carry the line too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from curate.base.record import UNCATEGORISED, Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import answer_of, is_our_export, question_of, read_messages, read_tools, split_of
from curate.jsonl import JsonFault, strict_loads
from curate.schema import load_shape


def _notices(path: Path, rows: Sequence[dict[str, Json]]) -> list[str]:
    notices = []
    if split := split_of(path.stem):
        notices.append(f"split {split}, by the name of the file")
    if any(not isinstance(row.get("line"), str) for row in rows):
        notices.append(
            "the rows hold what is trained on: labels, other meta, ignored checks, and which part of a prompt was the "
            "input did not come with them; Parquet, `datasets` and Hub exports have all of it"
        )
    return notices


@importer(
    "dataset",
    fits=is_our_export,
    is_named_by_split=True,
    notices=_notices,
    samples=[
        {
            "id": "a1", "kind": "instruction", "category": "greet", "cluster": "a1", "text": None, "tools": None,
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
            "source": "data/a.jsonl:1", "license": None, "weight": None,
        },
        {
            "id": "a2", "kind": "domain", "category": "uncategorised", "cluster": "a2", "text": "Rivers flow.",
            "tools": None, "messages": None, "source": "data/a.jsonl:2", "license": "CC0-1.0", "weight": 2,
        },
    ],
)  # fmt: skip
def read(row: dict[str, Json]) -> ConvertedRow:
    """Rows of our own exports: the line itself where they carry it, else a line made of their messages or text.

    Clusters are found anew, and ``source`` and ``license`` go to ``meta``, where the next export looks for them.
    """
    if not is_our_export(row):
        raise RowError("it lacks a column that our exports have")
    own = _parsed(row["line"]) if isinstance(row.get("line"), str) else None
    if own is not None and load_shape(row["kind"]).is_valid(own):
        return ConvertedRow(row["kind"], own, own=own, columns={"line": "the whole line"})
    draft = replace(_from_messages(row), columns={"messages": "messages", "source": "meta", "license": "meta"})
    # A line of a schema that only its workspace knows.
    return draft if own is None else replace(draft, extra={"line": own}, own=own)


def _from_messages(row: dict[str, Json]) -> ConvertedRow:
    line: dict[str, Json] = {"id": row["id"]}
    if row["category"] != UNCATEGORISED:
        line["category"] = row["category"]
    if row.get("weight") is not None:
        line["weight"] = row["weight"]
    if meta := {key: row[key] for key in ("source", "license") if row.get(key)}:
        line["meta"] = meta
    if row["messages"] is None:
        return ConvertedRow("domain", line | {"text": row["text"]})
    messages, _ = read_messages(row["messages"])
    if row.get("answers"):
        return ConvertedRow("preference", line | _preference(row, messages))
    roles = [message["role"] for message in messages]
    if row["kind"] == "chat" or row["tools"] or roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        tools = read_tools(row["tools"])
        return ConvertedRow("chat", line | {"messages": messages} | ({"tools": tools} if tools else {}))
    said = {"system": messages[0]["content"]} if roles[0] == "system" else {}
    return ConvertedRow(
        "instruction", line | said | {"instruction": messages[-2]["content"], "output": messages[-1]["content"]}
    )


def _preference(row: dict[str, Json], messages: list[Json]) -> dict[str, Json]:
    """Return what is asked in a row and its answers; a pair, a verdict or ratings, whichever they are."""
    answers, num_answer = row["answers"], len(row["answers"][0]["messages"])
    contents = [answer_of(read_messages(answer["messages"])[0]) for answer in answers]
    line = question_of(messages[:-num_answer])
    if row.get("tools"):
        line["tools"] = read_tools(row["tools"])
    ratings = [answer["rating"] for answer in answers]
    if ratings in ([1], [0]):
        return line | {"completion": contents[0], "liked": ratings == [1]}
    if ratings == [1, 0]:
        return line | {"chosen": contents[0], "rejected": contents[1]}
    return line | {
        "answers": [{"content": content, "rating": rating} for content, rating in zip(contents, ratings, strict=True)]
    }


def _parsed(text: str) -> dict[str, Json]:
    try:
        line = strict_loads(text.encode())
    except JsonFault as fault:
        raise RowError(f"'line' is not JSON: {fault.message}", fault.code) from fault
    if not isinstance(line, dict):
        raise RowError("'line' is not an object")
    return line
