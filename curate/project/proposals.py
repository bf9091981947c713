"""What models have proposed for records, and what became of it; nothing of it is in a record before a person took it.

A *proposal* is made by a model; a *draft* is a person's unsaved edit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from curate.base.events import Add, Edit, Event, Propose, Reject
from curate.base.record import Json, canonical

Outcome = Literal["open", "taken", "rejected", "failed"]
_UNKNOWN = "model:?"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a model wrote for the record ``record``: the ``changes`` of an edit, or the ``line`` of a new record.

    ``failed`` is the code of the finding for which nobody was shown it; then there is no text. ``answer`` is one that
    was taken in Ask: no proposal, and so without changes and line.
    """

    event: str
    record: str
    model: str
    parameters: Mapping[str, Json]
    changes: Mapping[str, Json] | None = None
    line: Mapping[str, Json] | None = None
    failed: str = ""
    answer: str = ""
    outcome: Outcome = "open"

    def on(self, present: Mapping[str, Json] | None) -> dict[str, Json]:
        """Return the line that taking it makes of the record's ``present`` one."""
        if self.line is not None:
            return dict(self.line)
        changes = self.changes or {}
        merged = {**(present or {}), **changes}
        return {key: value for key, value in merged.items() if value is not None or key not in changes}

    def is_in(self, line: Mapping[str, Json]) -> bool:
        """Whether a record's line says what was proposed, word for word."""
        proposed = self.changes if self.line is None else self.line
        is_same = all(canonical(line.get(key)) == canonical(value) for key, value in (proposed or {}).items())
        return is_same and canonical(self.answer)[1:-1] in canonical(line)


def proposals_in(record: str, facts: Mapping[tuple[str, ...], Json]) -> Iterator[Proposal]:
    """Yield the proposals for a record that are among the ``facts`` that its decisions come to, the oldest first."""
    for (kind, *rest), content in facts.items():
        if kind != "proposal":
            continue
        (event,) = rest
        outcome: Outcome = "failed" if "failed" in content else "open"
        if ("rejected", event) in facts:
            outcome = "rejected"
        # Where one took it while another rejected it, its text is in the record.
        if ("taken", event) in facts:
            outcome = "taken"
        yield Proposal(
            event, record, content["model"], content["parameters"], content.get("changes"), content.get("record"),
            content.get("failed", ""), content.get("text", ""), outcome,
        )  # fmt: skip


def machine_in(facts: Mapping[tuple[str, ...], Json]) -> str:
    """Return the model of the last proposal that was taken; empty where nobody took one."""
    taken = [facet[1] for facet in facts if facet[0] == "taken"]
    model: str = facts.get(("proposal", taken[-1]), {}).get("model", _UNKNOWN) if taken else ""
    return model


def touched_by_proposal(event: Event) -> dict[tuple[str, ...], Json]:
    """Return the facets of proposals that ``event`` gives a value: it makes one, takes it or rejects it."""
    match event.decision:
        case Propose() as proposed:
            return {
                ("proposal", event.event): {
                    name: said for name, said in proposed.fields.items() if said not in (None, "")
                }
            }
        case Reject(of=of):
            return {("rejected", of): True}
        case Edit(proposal=str(taken)) | Add(proposal=str(taken)) if taken:
            return {("taken", taken): True}
        case Edit(proposal=dict(answer)) | Add(proposal=dict(answer)):
            return {("proposal", event.event): {**answer, "parameters": {}}, ("taken", event.event): True}
    return {}
