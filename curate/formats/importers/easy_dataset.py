"""easy-dataset: its own format of questions and answers; what it exports as Alpaca and ShareGPT is read as those."""

from __future__ import annotations

from collections.abc import Mapping

from curate.base.record import TRACES, Json
from curate.formats.importers import ConvertedRow, importer
from curate.formats.importers._reading import take_common, text_of

_CHUNKS = ("chunk", "chunkId", "chunkName", "chunkContent")
_LABELS = ("labels", "questionLabel")


def _is_pair(row: dict[str, Json]) -> bool:
    is_pair = isinstance(row.get("question"), str) and isinstance(row.get("answer"), str)
    return is_pair and any(name in row for name in (*_CHUNKS, "questionLabel", "cot"))


@importer(
    "easy-dataset",
    fits=_is_pair,
    samples=[
        {"question": "When was it built?", "answer": "In 1901.", "labels": "1.1 bridges", "chunk": "Built in 1901."},
        {"id": "q1", "question": "Who built it?", "answer": "Nobody knows.", "questionLabel": "people", "cot": ""},
        {"question": "How old is it?", "answer": "125 years.", "cot": "2026 - 1901 = 125.", "chunk": "Built in 1901."},
    ],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """easy-dataset pairs: question, reasoning and answer, the label as category; the text they came from is stored."""
    line, extra = take_common(row, ("question", "answer", "cot"), has_our_names=False)
    asked, answer = text_of(row, "question"), text_of(row, "answer")
    name = next((name for name in _LABELS if isinstance(row.get(name), str) and row[name]), "")
    if name and "category" not in line:
        line["category"] = extra.pop(name)
    if not row.get("cot"):
        return ConvertedRow("instruction", line | {"instruction": asked, "output": answer}, extra)
    reasoned = {"role": "assistant", "content": answer, TRACES[0]: text_of(row, "cot")}
    return ConvertedRow("chat", line | {"messages": [{"role": "user", "content": asked}, reasoned]}, extra)
