"""A difference for programs, as `schemas/diff.schema.json` says."""

from __future__ import annotations

from curate.base.record import Json
from curate.project.diff.compare import Change, Difference, FieldChange, Item


def document(difference: Difference, before: str, after: str, *, show_values: bool = True) -> dict[str, Json]:
    """Return everything that differs as one JSON object; ``before`` and ``after`` are the names of the versions."""
    return {
        "version": 1,
        "before": {"name": before, "records": difference.num_before},
        "after": {"name": after, "records": difference.num_after},
        "same": difference.num_same,
        "categories": difference.categories,
        "changes": [_change(change, show_values=show_values) for change in difference.changes],
    }


def _change(change: Change, *, show_values: bool) -> dict[str, Json]:
    told: dict[str, Json] = {
        "id": change.item.id,
        "what": change.what,
        "before": _item(change.before),
        "after": _item(change.after),
        "fields": [_field(one, show_values=show_values) for one in change.fields],
    }
    if show_values and (change.before is None or change.after is None):
        told["value"] = dict(change.item.value)
    return told


def _item(item: Item | None) -> Json:
    return None if item is None else {"category": item.category, "split": item.split or None, "place": item.place}


def _field(change: FieldChange, *, show_values: bool) -> dict[str, Json]:
    what = "added" if change.is_new else "removed" if change.is_gone else "changed"
    told: dict[str, Json] = {"pointer": change.pointer, "what": what}
    if show_values and not change.is_new:
        told["before"] = change.before
    if show_values and not change.is_gone:
        told["after"] = change.after
    return told
