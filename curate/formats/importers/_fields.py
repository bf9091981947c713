"""The fields that all formats share: id, category, split and meta, and all that is left over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any, get_args

from curate.base.record import MOST_WEIGHT, SPLITS, Json, Kind
from curate.formats.importers._registry import RowError

_NUMBER = re.compile(r"\d{1,4}(?:\.\d+)?", re.ASCII)
SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


_SPLIT = re.compile(r"(?:^|[^a-z])(train|validation|valid|val|dev|test)(?:[^a-z]|$)")


def split_of(name: str) -> str:
    """Return the split that the name of a file or part says, "" where it says none."""
    match = _SPLIT.search(name.lower())
    return SPLIT_NAMES[match.group(1)] if match else ""


_OWN = frozenset({"id", "kind", "category", "cluster", "messages", "tools", "text", "source"})


def is_own(row: dict[str, Json]) -> bool:
    """Whether ``row`` is of a dataset that we exported; its messages alone would pass for another format."""
    return row.keys() >= _OWN and row["kind"] in get_args(Kind)


def take_common(
    row: dict[str, Json], used: Collection[str], *, has_our_names: bool = True
) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return the line's shared fields that ``row`` names, and what is left of it beside ``used``.

    An id that is not text, a category that is not text and a split of another name are read as nearly as they can be;
    the original stays in what is left over. ``has_our_names``: the format names its fields as a line does, so that
    ``weight``, ``labels`` and ``x-ignore`` mean what they mean there; in a table of any columns a weight may be a
    parcel's.
    """
    line: dict[str, Json] = {}
    extra = {key: value for key, value in row.items() if key not in used}
    identity = extra.get("id")
    if isinstance(identity, str) and identity:
        line["id"] = extra.pop("id")
    elif isinstance(identity, int) and not isinstance(identity, bool):
        line["id"] = str(identity)
    if isinstance(extra.get("category"), str) and extra["category"]:
        line["category"] = extra.pop("category")
    split = extra.get("split")
    if isinstance(split, str) and split.lower() in SPLIT_NAMES:
        line["split"] = SPLIT_NAMES[split.lower()]
        if split in SPLITS:
            extra.pop("split")
    if has_our_names:
        _take_marks(line, extra)
    meta = extra.get("meta")
    if isinstance(meta, dict) and meta and "extra" not in meta:
        line["meta"] = extra.pop("meta")
    return line, extra


def _take_marks(line: dict[str, Json], extra: dict[str, Json]) -> None:
    """Move what decides how a record counts and is checked to the line, where it is what a line's field may be."""
    weight = extra.get("weight")
    if isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight <= MOST_WEIGHT:
        line["weight"] = extra.pop("weight")
    elif isinstance(weight, str) and _NUMBER.fullmatch(weight.strip()) and float(weight) <= MOST_WEIGHT:
        # A table has no numbers; the text stays in what is left over.
        line["weight"] = float(weight)
    if isinstance(extra.get("labels"), dict):
        line["labels"] = extra.pop("labels")
    ignored = extra.get("x-ignore")
    codes = ignored if isinstance(ignored, list) else []
    if codes and all(isinstance(code, str) and code for code in codes) and len(set(codes)) == len(codes):
        line["x-ignore"] = extra.pop("x-ignore")


def text_of(row: dict[str, Json], key: str, *, default: str | None = None) -> str:
    """Return the text under ``key``, or ``default`` where the key is missing.

    Raises:
        RowError: there is no text.
    """
    value = row.get(key, default)
    if not isinstance(value, str):
        raise RowError(f"{key!r} is {json_name(value)}, not text" if key in row else f"{key!r} is missing")
    return value


def json_name(value: Json) -> str:
    """Return what kind of JSON value this is, in words for a message."""
    names: dict[type[Any], str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def share(rows: Collection[dict[str, Json]], fits: Callable[[dict[str, Json]], bool]) -> float:
    """Return the share of ``rows`` that ``fits`` accepts; 0.0 for none."""
    return sum(1 for row in rows if fits(row)) / len(rows) if rows else 0.0


def rendered(value: Json) -> str:
    """Return the usual spelling of a JSON value in a text field: one line, characters as they are."""
    return json.dumps(value, ensure_ascii=False)
