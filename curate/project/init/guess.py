"""Which shape the records of a new workspace have: a shipped one, the user's schema, or one inferred from the data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

import orjson

from curate.base.record import SPLITS, CurateError, Json
from curate.formats.import_plan import EVERYTHING, ImportPlan, RowSelection, plan_import, safe_guess
from curate.formats.importers import RowError, SourceRow
from curate.schema import guess_shape

INFER = "infer"
"""The value of `--schema` that keeps the fields of the data as they are, under a schema inferred from them."""
SCHEMA_FILE = "schema.json"
_SAMPLE = 2000
_FIELDS: dict[str, dict[str, Json]] = {
    "id": {"type": "string"},
    "category": {"type": "string"},
    "labels": {"type": "object"},
    "split": {"enum": list(SPLITS)},
    "meta": {"type": "object"},
}


def shape_for(
    files: Sequence[Path],
    mapping: Mapping[str, str] | None,
    selection: RowSelection = EVERYTHING,
    format_name: str = "",
) -> str:
    """Return the name of the shipped shape that holds the most of the files' rows.

    Raises:
        CurateError: E908 when no importer knows the rows.
    """
    votes: Counter[str] = Counter()
    for path in files:
        plan = plan_import(path, None, format_name=format_name, mapping=mapping, selection=selection)
        sample = list(islice(_rows(plan), _SAMPLE))
        own = guess_shape(sample)
        for value in sample:
            try:
                kind = plan.format.read(value, plan.mapping).kind if plan.format else own
            except RowError:
                continue
            votes[kind or "instruction"] += 1
    # A chat shape holds instruction records as well; the other way round it does not.
    return "chat" if votes["chat"] else max(votes, key=lambda name: votes[name], default="instruction")


def infer_schema(
    files: Sequence[Path], mapping: Mapping[str, str] | None, selection: RowSelection = EVERYTHING
) -> dict[str, Json]:
    """Return a schema for the rows of ``files`` as they are, with an ``x-record`` view of what could be mapped.

    All rows are looked at: a file whose later rows have other fields or types is as good as any.

    Raises:
        CurateError: E908 when no prompt or no completion can be told among the fields.
    """
    # Only a workspace made from unknown data needs it.
    from genson import SchemaBuilder

    builder = SchemaBuilder(schema_uri="https://json-schema.org/draft/2020-12/schema")
    sample: list[dict[str, Json]] = []
    signatures: set[Hashable] = set()
    for path in files:
        plan = plan_import(path, None, format_name="mapping", mapping=mapping, selection=selection)
        for value in _rows(plan):
            # What is of types that were there before adds nothing, and the builder is slow.
            signature = _signature(value)
            if signature not in signatures:
                signatures.add(signature)
                builder.add_object(value)
            if len(sample) < _SAMPLE:
                sample.append(value)
    mapped = dict(mapping or safe_guess(files[0], sample, selection))
    fields = ", ".join(dict.fromkeys(name for value in sample for name in value)) or "none"
    if not (mapped.keys() & {"output", "answer"} and mapped.keys() & {"instruction", "question"}):
        raise CurateError(
            "E908 cannot-import",
            f"{files[0]}: among the fields {fields} no prompt and completion can be told",
            "Say which they are, as in --map instruction=FIELD,output=FIELD; or write a JSON Schema with "
            '"x-record": {"prompt": "/FIELD", "completion": "/FIELD"} and pass it with --schema.',
        )
    schema: dict[str, Json] = builder.to_schema()
    properties = schema.setdefault("properties", {})
    # Where these are not in the data yet, labelling and splitting need a place to write them.
    for name, field in _FIELDS.items():
        if name not in mapped:
            properties.setdefault(name, field)
    schema["additionalProperties"] = False
    schema["x-record"] = _view(mapped, properties)
    schema["examples"] = sample[:1]
    return schema


def _view(mapped: Mapping[str, str], properties: Mapping[str, Json]) -> dict[str, Json]:
    prompt = [_pointer(mapped[name]) for name in ("context", "question", "instruction", "input") if name in mapped]
    view: dict[str, Json] = {"prompt": prompt, "completion": _pointer(mapped.get("output") or mapped["answer"])}
    for name in ("id", "system", "category"):
        if name in mapped and not (name == "category" and mapped[name] == mapped.get("output")):
            view[name] = _pointer(mapped[name])
    for name, field in _FIELDS.items():
        if field.items() <= properties.get(name, {}).items():
            view.setdefault(name, f"/{name}")
    # The id of a view is text; a number keeps its place in the line and the record is named by its content.
    if properties.get(mapped.get("id", ""), {}).get("type", "string") != "string":
        del view["id"]
    return view


def _pointer(column: str) -> str:
    return column if column.startswith("/") else "/" + column.replace("~", "~0").replace("/", "~1")


def _rows(plan: ImportPlan) -> Iterator[dict[str, Json]]:
    """Yield the good rows of a file, without those that the user's conditions leave out."""
    for row in plan.container.rows(plan.path):
        if isinstance(row, SourceRow) and not plan.selection.excluded_by(row.value):
            yield row.value


def _signature(value: Json) -> Hashable:
    """Return the types of a value, of its keys and of its elements: all that a schema is inferred from."""
    if isinstance(value, dict):
        return tuple((key, _signature(part)) for key, part in value.items())
    if isinstance(value, list):
        return frozenset(map(_signature, value))
    return type(value).__name__


def schema_bytes(schema: Mapping[str, Json]) -> bytes:
    """Return a schema as the bytes of its file."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n"


# The share of completions that must agree before a strict scorer is proposed.
_ENOUGH = 0.95
_SHORT_WORDS = 6
_LONG_WORDS = 25
_NUMBER = re.compile(r"[-+]?[$€£]?\d[\d,]*(?:\.\d+)?\s?%?")
_CHOICE = re.compile(r"\(?[A-J]\)?[.:]?")


def guess_scorer(completions: Sequence[str], num_calls: int = 0) -> str:
    """Return the name of a metric for a category with these completions, ``num_calls`` of which call tools.

    Calls of tools are compared as calls, objects in JSON are scored field by field, single letters as choices, numbers
    by value, answers from a short list of short texts exactly; other short texts by shared words, long ones by their
    longest common subsequence.
    """
    if num_calls and num_calls / len(completions) >= _ENOUGH:
        return "tool_calls"
    texts = [text.strip() for text in completions if text.strip()]
    if not texts:
        return ""
    if _share(texts, _is_object) >= _ENOUGH:
        return "json_schema"
    if _share(texts, lambda text: _CHOICE.fullmatch(text) is not None) >= _ENOUGH:
        return "choice"
    if _share(texts, lambda text: _NUMBER.fullmatch(text) is not None) >= _ENOUGH:
        return "numeric"
    words = median(len(text.split()) for text in texts)
    if words <= _SHORT_WORDS and len(set(texts)) <= max(10, len(texts) // 10) and len(set(texts)) < len(texts):
        return "exact"
    return "token_f1" if words < _LONG_WORDS else "rouge_l"


def _share(texts: Sequence[str], fits: Callable[[str], bool]) -> float:
    return sum(map(fits, texts)) / len(texts)


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
