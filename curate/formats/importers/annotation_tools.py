"""Exports of Label Studio, Argilla and doccano: recognised, with the map that finds their texts."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.record import Json
from curate.formats.importers import foreign_form
from curate.formats.importers._foreign import map_option
from curate.formats.importers.mapping import guess

_FLAT = ("annotation_id", "lead_time")


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _is_task(row: dict[str, Json]) -> bool:
    notes = row.get("annotations", row.get("completions"))
    return isinstance(row.get("data"), dict) and isinstance(notes, list)


def _label_studio(row: dict[str, Json]) -> tuple[str, ...]:
    if _is_task(row):
        return ("annotations",) if "annotations" in row else ("completions",)
    return ("annotation_id",) if all(name in row for name in _FLAT) else ()


def _argilla(row: dict[str, Json]) -> tuple[str, ...]:
    if isinstance(row.get("fields"), dict) and "responses" in row:
        return ("responses",)
    return tuple(filter(_is_response, row))


def _is_response(name: str) -> bool:
    return name.endswith((".responses", "-suggestion-metadata"))


def _doccano(row: dict[str, Json]) -> tuple[str, ...]:
    if not isinstance(row.get("text"), str):
        return ()
    return tuple(name for name in ("label", "entities") if isinstance(row.get(name), list))


@foreign_form(
    "label-studio",
    may_show=lambda names: any(name in names for name in ("annotations", "completions", "annotation_id")),
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
        pair["instruction"] = f"/data/{_escaped(text)}"
    notes = "annotations" if "annotations" in task else "completions"
    results = [
        annotation.get("result") for row in rows for annotation in row.get(notes) or () if isinstance(annotation, dict)
    ]
    value = next((result[0].get("value") for result in results if result and isinstance(result[0], dict)), None)
    kind = next((key for key, part in (value or {}).items() if isinstance(part, list)), "")
    if kind:
        pair["output"] = f"/{notes}/0/result/0/value/{_escaped(kind)}/0"
    return f"To take the first annotation of each task, add: {map_option(pair)}"


@foreign_form(
    "argilla",
    may_show=lambda names: "responses" in names or any(map(_is_response, names)),
    fields=_argilla,
    needs_map=True,
    samples=[
        {"id": "a", "fields": {"text": "Say hi."}, "responses": {"reply": [{"value": "Hi.", "user_id": "u"}]}},
        {"text": "Say hi.", "reply.responses": ["Hi."], "reply.responses.status": ["submitted"]},
    ],
)
def advise_argilla(rows: Sequence[dict[str, Json]]) -> str:
    """an Argilla export, in which responses of several people, discarded ones too, may answer one record."""
    row = next(row for row in rows if _argilla(row))
    pair = {}
    if isinstance(row.get("fields"), dict):
        pair["instruction"] = f"/fields/{_escaped(next(iter(row['fields']), 'FIELD'))}"
        names = list(row["responses"]) if isinstance(row["responses"], dict) else []
        pair["output"] = f"/responses/{_escaped(names[0] if names else 'QUESTION')}/0/value"
    else:
        names = [name for name in row if name.endswith(".responses")]
        plain = guess([{key: value for key, value in row.items() if "." not in key and isinstance(value, str)}])
        pair = {"instruction": plain["instruction"]} if "instruction" in plain else {}
        pair |= {"output": f"/{_escaped(names[0])}/0"} if names else {}
    return f"To take the first response to each record, add: {map_option(pair)}"


@foreign_form(
    "doccano",
    may_show=lambda names: "text" in names and ("label" in names or "entities" in names),
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
