"""Decisions taken in a test, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from curate.base.events import Decision, Event
from curate.project.data import ProjectData
from curate.project.project import Project


def decide(data: ProjectData, decisions: Sequence[Decision], *, by: str = "") -> ProjectData:
    """Have ``by`` take decisions as one act, and return the workspace as they leave it; ``data`` stays as it was."""
    with Project(data, by or None) as project:
        project.apply(decisions)
        return project.data


def changed(event: Event, /, **fields: Any) -> Event:
    """Return ``event`` with other values, of itself or of its decision."""
    own = {name: fields.pop(name) for name in ("event", "by", "session", "seq", "act") if name in fields}
    return replace(event, decision=replace(event.decision, **fields), **own)
