"""What may be decided on the present state of a workspace: the one set of rules, whoever saves the decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from curate.base.console import one_line
from curate.base.events import Decision
from curate.base.record import CurateError, Json, Source, canonical
from curate.jsonl import strict_loads
from curate.project.fold import RecordState
from curate.schema import Shape


def require_valid(
    decisions: Sequence[Decision],
    state_of: Callable[[str], RecordState | None],
    heads_of: Callable[[str], Sequence[str]],
    shape: Shape,
) -> list[Decision]:
    """Return ``decisions`` as one act on the present states of their records, each after the one before it.

    ``state_of`` gives a record as it is, ``heads_of`` the last events on one that is not there.

    Raises:
        CurateError: E916 when a record is not there, or is to be added and is; E972 when something is no JSON, or the
            schema refuses a line, or a line names another record. Nothing is saved then.
    """
    lines: dict[str, Mapping[str, Json]] = {}
    valid = []
    for decision in decisions:
        name = decision.id
        _require_json(decision)
        state = state_of(name)
        present = lines.get(name, state.record.data if state else None)
        if (present is None) != (decision.op == "add"):
            message = "there is no record" if present is None else "there already is a record"
            raise CurateError("E916 unknown-record", f"{message} {one_line(name, 60)!r}", "Nothing was saved.")
        line = _line(decision, present or {})
        if line is not None:
            _require_fit(line, present, name, shape)
            lines[name] = line
        valid.append(replace(decision, parents=state.parents() if state else heads_of(name)))
    return valid


def _line(decision: Decision, present: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return the line that ``decision`` makes, None where it makes none."""
    if decision.op == "add":
        return dict(decision.fields["record"])
    if decision.op != "edit":
        return None
    changes = decision.fields["changes"]
    return {key: value for key, value in {**present, **changes}.items() if value is not None or key not in changes}


def _require_fit(line: dict[str, Json], present: Mapping[str, Json] | None, name: str, shape: Shape) -> None:
    """Refuse a line that the schema refuses, and one with the id of another record: an id names its record for good."""
    if not shape.is_valid(line):
        problem = next(iter(shape.problems(line)), None)
        raise _unfit(
            name, f"{problem.pointer or 'the line'} {problem.message}" if problem else "it is no line of the schema"
        )
    record = shape.record(line, Source("", 0))
    before = shape.record(present, Source("", 0)) if present is not None else None
    has_same_id = before is not None and before.has_own_id and record.has_own_id and record.id == before.id
    if not has_same_id and ((before is not None and before.has_own_id) or (record.has_own_id and record.id != name)):
        raise _unfit(name, "the id names the record for good")


def _require_json(decision: Decision) -> None:
    """Refuse what could not be read again, such as NaN or half of a surrogate pair."""
    try:
        for part in (decision.id, *decision.fields.values()):
            strict_loads(canonical(part))
    except (ValueError, RecursionError) as error:
        raise _unfit(decision.id, f"{decision.op}: {error}") from error


def _unfit(name: str, why: str) -> CurateError:
    return CurateError("E972 unfit-line", f"{one_line(name, 60)}: {why}", "Nothing was saved. Mend it and save again.")
