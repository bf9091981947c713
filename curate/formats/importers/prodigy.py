"""Prodigy exports: recognised, so that the verdict of an annotator is not trained as an answer."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.record import Json
from curate.formats.importers import foreign_form
from curate.formats.importers._foreign import map_option
from curate.formats.importers.mapping import guess

_SIGNS = ("_input_hash", "_task_hash", "_view_id", "_annotator_id")
_WORDS = ("accept", "reject", "ignore")
_ANSWERS = ("response", "completion", "output", "label", "accept")


def _fields(row: dict[str, Json]) -> tuple[str, ...]:
    if row.get("answer") not in _WORDS:
        return ()
    return ("answer",) if any(name in row for name in (*_SIGNS, *_ANSWERS)) else ()


@foreign_form(
    "prodigy",
    may_show=lambda names: "answer" in names,
    fields=_fields,
    samples=[
        {"text": "Where is my card?", "label": "card", "answer": "accept", "_input_hash": 1, "_task_hash": 2},
        {"prompt": "Say hi.", "response": "Go away.", "answer": "reject"},
    ],
)
def advise(rows: Sequence[dict[str, Json]]) -> str:
    """a Prodigy export: 'answer' says what an annotator thought of a row, and is no answer to train."""
    bare = [{key: value for key, value in row.items() if key != "answer" and key[:1] != "_"} for row in rows]
    mapping = guess(bare)
    chosen = next((row["accept"] for row in bare if isinstance(row.get("accept"), list) and row["accept"]), None)
    if chosen is not None:
        mapping["output"] = "/accept/0"
    pair = {name: column for name, column in mapping.items() if name in ("instruction", "output")}
    return (
        f"To take the accepted rows, add: --only answer=accept {map_option(pair)}. "
        "The rejected and the ignored ones are counted and left out."
    )
