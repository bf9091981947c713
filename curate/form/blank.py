"""The value that a new part of a line begins with: what the schema fixes or gives as default, and no invented text."""

from __future__ import annotations

from copy import deepcopy

from curate.form.rules import Nodes, Rules, Schemas, Unseen
from curate.record import Json

_DEEPEST = 8
"""Levels that are filled in; a recursive schema could ask for more without end."""
_MOST_ITEMS = 8
NOTHING: Json = object()
"""There is no such value: the key stays out until somebody fills it in."""


def blank(schemas: Schemas, nodes: Nodes, index: int = 0, depth: int = 0) -> Json:
    """Return the value to begin with under ``nodes``, in the branch ``index`` of its first choice; `NOTHING` if none.

    Objects and lists begin with what must be in them, texts and numbers with nothing, a switch with false.
    """
    rules = schemas.rules(nodes, _Branch(index))
    if "default" in rules.notes:
        return deepcopy(rules.notes["default"])
    if rules.options is not None:
        return deepcopy(rules.options[0].value) if len(rules.options) == 1 else NOTHING
    if len(rules.kinds) != 1 or depth >= _DEEPEST:
        return NOTHING
    match next(iter(rules.kinds)):
        case "boolean":
            return False
        case "object":
            made = {
                name: blank(schemas, tuple(rules.properties.get(name, ())), 0, depth + 1) for name in rules.required
            }
            in_order = [*(name for name in rules.properties if name in made), *sorted(made.keys() - rules.properties)]
            return {name: made[name] for name in in_order if made[name] is not NOTHING}
        case "array":
            fewest = rules.notes.get("minItems")
            count = min(fewest, _MOST_ITEMS) if isinstance(fewest, int) else 0
            items = [
                blank(schemas, tuple(rules.prefix[place] if place < len(rules.prefix) else rules.items), 0, depth + 1)
                for place in range(count)
            ]
            return [one for one in items if one is not NOTHING]
        case _:
            return NOTHING


class _Branch(Unseen):
    """Follows one branch of the first choice, and the first of all others."""

    def __init__(self, index: int) -> None:
        self._index = index

    def branch(self, number: int, branching: object) -> int | None:
        """Return the branch."""
        return self._index if number == 0 else 0


def item(schemas: Schemas, nodes: Nodes) -> Json:
    """Return what a new item of a list begins with: unlike a key, an item cannot be left out."""
    made = blank(schemas, nodes)
    if made is not NOTHING:
        return made
    return _least(schemas.rules(nodes, Unseen()))


def _least(rules: Rules) -> Json:
    """Return the least value of the type that ``rules`` ask for, where there must be one."""
    if rules.options:
        return deepcopy(rules.options[0].value)
    kind = next(iter(rules.kinds)) if len(rules.kinds) == 1 else ""
    return {"number": 0, "integer": 0, "boolean": False, "object": {}, "array": []}.get(kind, "")


def switched(value: Json, before: Rules, after: Rules, begun: Json, known: Json) -> Json:
    """Return the value after another form was chosen for ``value``.

    ``begun`` is what the new form begins with, ``known`` what was there when it was left. An object keeps its keys, but
    those of the old form that the new one refuses, and the key that tells the forms apart.
    """
    if not isinstance(value, dict) or (after.kinds and "object" not in after.kinds):
        return known if known is not NOTHING else begun if begun is not NOTHING else _least(after)
    told_apart = {branching.key for branching, _ in before.branchings if branching.key}
    kept = {
        name: part
        for name, part in value.items()
        if name not in told_apart
        and False not in after.properties.get(name, ())
        and (name in after.properties or name not in before.properties or not after.is_closed)
    }
    return {
        **(begun if isinstance(begun, dict) else {}),
        **(known if isinstance(known, dict) else {}),
        **kept,
        **{name: begun[name] for name in told_apart if isinstance(begun, dict) and name in begun},
    }
