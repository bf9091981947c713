"""Exports of Label Studio, Argilla, doccano and Prodigy: recognised, with the map that finds their texts."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.record import Json
from curate.formats.importers import foreign_form
from curate.formats.importers._reading import map_option
from curate.formats.importers.mapping import guess
from curate.jsonl import pointer_of

_FLAT = ("annotation_id", "lead_time")
_PRODIGY_MARKS = ("_input_hash", "_task_hash", "_view_id", "_annotator_id")
_PRODIGY_ANSWERS = ("response", "completion", "output", "label", "accept")


def _is_task(row: dict[str, Json]) -> bool:
    notes = row.get("annotations", row.get("completions"))
    return isinstance(row.get("data"), dict) and isinstance(notes, list)


def _label_studio(rows: Sequence[dict[str, Json]]) -> set[str]:
    fields = {"annotations" if "annotations" in row else "completions" for row in rows if _is_task(row)}
    is_flat = any(all(name in row for name in _FLAT) for row in rows if not _is_task(row))
    return fields | ({"annotation_id"} if is_flat else set())


def _argilla(rows: Sequence[dict[str, Json]]) -> set[str]:
    is_nested = any(isinstance(row.get("fields"), dict) and "responses" in row for row in rows)
    flat = {name for row in rows for name in row if name.endswith((".responses", "-suggestion-metadata"))}
    return flat | ({"responses"} if is_nested else set())


def _doccano(rows: Sequence[dict[str, Json]]) -> set[str]:
    texts = [row for row in rows if isinstance(row.get("text"), str)]
    return {name for row in texts for name in ("label", "entities") if isinstance(row.get(name), list)}


def _prodigy(rows: Sequence[dict[str, Json]]) -> set[str]:
    named = (*_PRODIGY_MARKS, *_PRODIGY_ANSWERS)
    answered_rows = [row for row in rows if row.get("answer") in ("accept", "reject", "ignore")]
    return {"answer"} if any(name in row for row in answered_rows for name in named) else set()


@foreign_form(
    "label-studio",
    signs=("annotations", "completions", "annotation_id"),
    fields=_label_studio,
    needs_map=True,
    samples=[
        {"id": 1, "data": {"text": "Where is my card?"},
         "annotations": [{"result": [{"type": "choices", "value": {"choices": ["card"]}}], "was_cancelled": False}]},
        {"text": "Where is my card?", "intent": "card", "annotator": 1, "annotation_id": 7, "lead_time": 2.5},
    ],
)  # fmt: skip
def advise_label_studio(rows: Sequence[dict[str, Json]]) -> str:
    """a Label Studio export, in which annotations of several people, skipped ones too, may answer one task."""
    task = next((row for row in rows if _is_task(row)), None)
    if task is None:
        mapping = guess([{key: value for key, value in row.items() if key not in _FLAT} for row in rows])
        return f"Say which column is which: {map_option({k: v for k, v in mapping.items() if k != 'id'})}"
    pair = {}
    text = next((key for key, value in task["data"].items() if isinstance(value, str)), None)
    if text is not None:
        pair["instruction"] = pointer_of(["data", text])
    notes = "annotations" if "annotations" in task else "completions"
    results = [
        annotation.get("result") for row in rows for annotation in row.get(notes) or () if isinstance(annotation, dict)
    ]
    value = next((result[0].get("value") for result in results if result and isinstance(result[0], dict)), None)
    kind = next((key for key, part in (value or {}).items() if isinstance(part, list)), "")
    if kind:
        pair["output"] = pointer_of([notes, 0, "result", 0, "value", kind, 0])
    return f"To take the first annotation of each task, add: {map_option(pair)}"


@foreign_form(
    "argilla",
    signs=("responses", "-suggestion-metadata"),
    fields=_argilla,
    needs_map=True,
    samples=[
        {"id": "a", "fields": {"text": "Say hi."}, "responses": {"reply": [{"value": "Hi.", "user_id": "u"}]}},
        {"text": "Say hi.", "reply.responses": ["Hi."], "reply.responses.status": ["submitted"]},
    ],
)
def advise_argilla(rows: Sequence[dict[str, Json]]) -> str:
    """an Argilla export, in which responses of several people, discarded ones too, may answer one record."""
    row = next(row for row in rows if _argilla([row]))
    pair = {}
    if isinstance(row.get("fields"), dict):
        pair["instruction"] = pointer_of(["fields", next(iter(row["fields"]), "FIELD")])
        names = list(row["responses"]) if isinstance(row["responses"], dict) else []
        pair["output"] = pointer_of(["responses", names[0] if names else "QUESTION", 0, "value"])
    else:
        names = [name for name in row if name.endswith(".responses")]
        plain = guess([{key: value for key, value in row.items() if "." not in key and isinstance(value, str)}])
        pair = {"instruction": plain["instruction"]} if "instruction" in plain else {}
        pair |= {"output": pointer_of([names[0], 0])} if names else {}
    return f"To take the first response to each record, add: {map_option(pair)}"


@foreign_form(
    "doccano",
    signs=("label", "entities"),
    fields=_doccano,
    needs_map=True,
    samples=[
        {"id": 1, "text": "Where is my card?", "label": ["card"]},
        {"id": 1, "text": "Ann is here.", "label": [[0, 3, "PERSON"]]},
    ],
)
def advise_doccano(rows: Sequence[dict[str, Json]]) -> str:
    """texts with lists of labels, as doccano exports them."""
    labels = next((row["label"] for row in rows if isinstance(row.get("label"), list) and row["label"]), None)
    if labels is None or not isinstance(labels[0], str):
        return "Marked spans cannot be imported; a label of a whole text can."
    return f"To take the first label of each text, add: {map_option({'instruction': 'text', 'output': '/label/0'})}"


@foreign_form(
    "prodigy",
    signs=("answer",),
    fields=_prodigy,
    samples=[
        {"text": "Where is my card?", "label": "card", "answer": "accept", "_input_hash": 1, "_task_hash": 2},
        {"prompt": "Say hi.", "response": "Go away.", "answer": "reject"},
    ],
)
def advise_prodigy(rows: Sequence[dict[str, Json]]) -> str:
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
