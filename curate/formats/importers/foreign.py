"""Preferences, columns of reasoning, annotations of other tools: recognised, so that no wrong thing is trained."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from curate.base.record import TRACES, Json
from curate.formats.importers import foreign_form
from curate.formats.importers._reading import DIGITS, VERDICTS, is_filled, map_option, spelled_value
from curate.formats.importers.mapping import guess
from curate.jsonl import pointer_of

_VERDICT_COLUMNS = ("label", "kto_tag")
_COMPLETIONS = ("completion", "response", "output", "answer", "messages", "conversations")
_PAIR = ("chosen", "rejected")


def _paired(rows: Sequence[dict[str, Json]]) -> set[str]:
    return {name for row in rows for name in _PAIR if is_filled(row.get(name))}


def _unpaired(rows: Sequence[dict[str, Json]]) -> set[str]:
    answered = [row for row in rows if any(is_filled(row.get(name)) for name in _COMPLETIONS)]
    fields = set()
    for name in _VERDICT_COLUMNS:
        values = {spelled_value(row[name]) for row in answered if name in row}
        # 0 and 1 and nothing else are verdicts too, which one row alone does not show.
        if values & VERDICTS or values == DIGITS:
            fields.add(name)
    return fields


@foreign_form(
    "preference-pairs",
    signs=_PAIR,
    fields=_paired,
    samples=[
        {"prompt": "Say hi.", "chosen": "Hello.", "rejected": "Go away."},
        {"instruction": "Say hi.", "output": "Hello.", "rejected": "Go away."},
    ],
)
def advise_pairs(rows: Sequence[dict[str, Json]]) -> str:
    """preference pairs, which cannot be trained on yet: 'chosen' is the better answer and 'rejected' the worse."""
    first = next(row for row in rows if _paired([row]))
    mapping = guess([{key: value for key, value in row.items() if key not in _PAIR} for row in rows])
    names = ",".join(name for name in _PAIR if any(is_filled(row.get(name)) for row in rows))
    if "output" in mapping or "messages" in first or "conversations" in first:
        return f"To train on the answers and only store the preferences, add: --to-meta {names}"
    chosen, prompt = first.get("chosen"), mapping.get("instruction", "")
    if isinstance(chosen, list) and len(chosen) == 2 and isinstance(chosen[1], dict):
        pair = {"instruction": prompt or "/chosen/0/content", "output": "/chosen/1/content"}
    elif isinstance(chosen, str) and prompt:
        pair = {"instruction": prompt, "output": "chosen"}
    else:
        return 'Write each chosen conversation as a row of its own: {"messages": [...]}.'
    return f"To train on the chosen answers and only store the others, add: {map_option(pair)} --to-meta rejected"


@foreign_form(
    "unpaired-preferences",
    signs=_VERDICT_COLUMNS,
    fields=_unpaired,
    samples=[
        {"prompt": "Say hi.", "completion": "Hello.", "label": True},
        {"prompt": "Say hi.", "completion": "Go away.", "label": False},
    ],
)
def advise_unpaired(rows: Sequence[dict[str, Json]]) -> str:
    """answers with a verdict on each (as for KTO), which cannot be trained on yet: some are answers to avoid."""
    column = next(name for name in _VERDICT_COLUMNS if any(name in row for row in rows))
    values = {spelled_value(row[column]) for row in rows if is_filled(row.get(column))}
    good = next((word for word in ("true", "yes", "good", "accept", "correct", "1") if word in values), "VALUE")
    return (
        f"To take the answers that were found good, add: --only {shlex.quote(f'{column}={good}')}. "
        f"The others are counted and left out. To take all of them as good answers: --to-meta {column}."
    )


_TURNS = ("messages", "conversations")


def _fields(rows: Sequence[dict[str, Json]]) -> set[str]:
    return {name for name in TRACES for row in rows if is_filled(row.get(name))}


@foreign_form(
    "reasoning",
    signs=TRACES,
    fields=_fields,
    samples=[
        {"question": "2 + 2?", "reasoning": "Two and two.", "answer": "It is 4."},
        {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is 4."}],
         "reasoning": "Two and two."},
    ],
)  # fmt: skip
def advise(rows: Sequence[dict[str, Json]]) -> str:
    """a column of reasoning, which may be what stands before the answers or what somebody thought of them."""
    names = sorted(_fields(rows))
    only_store = f"To train on the answers and only store the reasoning, add: --to-meta {','.join(names)}"
    if any(key in row for row in rows for key in _TURNS):
        return f"{only_store}. To train it, write it as reasoning_content of the assistant's message."
    pair = {name: column for name, column in guess(rows).items() if name in ("instruction", "input", "output")}
    return f"To train it before the answers, add: {map_option(pair | {'reasoning': names[0]})}. {only_store}"


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
