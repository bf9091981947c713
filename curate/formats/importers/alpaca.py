"""Alpaca: instruction, an optional input, output; LLaMA-Factory adds system and earlier turns as history."""

from __future__ import annotations

from collections.abc import Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import take_common, text_of
from curate.formats.importers.mapping import conversation, earlier_turns, is_all_asked

_USED = ("instruction", "input", "output", "system", "history")


def _is_alpaca(row: dict[str, Json]) -> bool:
    is_pair = isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str)
    return is_pair and is_all_asked(row, *_USED)


@importer(
    "alpaca",
    fits=_is_alpaca,
    samples=[
        {"instruction": "Name the capital.", "input": "Peru", "output": "Lima"},
        {"instruction": "Greet me.", "output": "Hello.", "source_page": 7},
        {"instruction": "And in French?", "input": "", "output": "Bonjour.", "history": [["Greet me.", "Hello."]]},
    ],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Alpaca rows: instruction, input, output; with history they are conversations."""
    line, extra = take_common(row, _USED)
    instruction, output = text_of(row, "instruction"), text_of(row, "output")
    for name in ("input", "system"):
        if name in row and row[name] is None:
            extra[name] = None
        elif not isinstance(row.get(name, ""), str):
            raise RowError(f"{name!r} is not text")
    entry, system = row.get("input") or "", row.get("system") or ""
    history = row.get("history")
    if history:
        texts = {"system": system, "instruction": instruction, "input": entry, "output": output}
        messages = conversation(texts, earlier_turns(history, "history"))
        return ConvertedRow("chat", line | {"messages": messages}, extra | _joined_fields(row))
    if "history" in row:
        extra["history"] = history
    if system:
        line["system"] = system
    elif "system" in row:
        extra["system"] = row["system"]
    given = {"input": entry} if row.get("input") is not None else {}
    return ConvertedRow("instruction", line | {"instruction": instruction} | given | {"output": output}, extra)


def _joined_fields(row: dict[str, Json]) -> dict[str, Json]:
    """Return the fields that the last turn of a conversation joins, so that they can be told apart again."""
    fields = {name: row[name] for name in ("input", "system") if name in row and (name == "input" or not row[name])}
    return fields | ({"instruction": row["instruction"]} if row.get("input") else {})
