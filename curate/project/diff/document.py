"""A difference for programs, as `schemas/diff.schema.json` says."""

from __future__ import annotations

from curate.base.record import Json
from curate.project.diff.compare import FieldChange, RecordChange, VersionDiff, VersionRecord


def document(difference: VersionDiff, before: str, after: str, *, show_values: bool = True) -> dict[str, Json]:
    """Return everything that differs as one JSON object; ``before`` and ``after`` are the names of the versions."""
    return {
        "version": 1,
        "before": {"name": before, "records": difference.num_before},
        "after": {"name": after, "records": difference.num_after},
        "same": difference.num_same,
        "categories": difference.categories,
        "changes": [_change(change, show_values=show_values) for change in difference.changes],
    }


def _change(change: RecordChange, *, show_values: bool) -> dict[str, Json]:
    document: dict[str, Json] = {
        "id": change.item.id,
        "what": change.what,
        "before": _item(change.before),
        "after": _item(change.after),
        "fields": [_field(field, show_values=show_values) for field in change.fields],
    }
    if show_values and (change.before is None or change.after is None):
        document["value"] = dict(change.item.value)
    return document


def _item(item: VersionRecord | None) -> Json:
    return None if item is None else {"category": item.category, "split": item.split or None, "place": item.location}


def _field(change: FieldChange, *, show_values: bool) -> dict[str, Json]:
    what = "added" if change.is_new else "removed" if change.is_gone else "changed"
    document: dict[str, Json] = {"pointer": change.pointer, "what": what}
    if show_values and not change.is_new:
        document["before"] = change.before
    if show_values and not change.is_gone:
        document["after"] = change.after
    return document
