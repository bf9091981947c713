"""Decisions taken in a test, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.events import Decision
from curate.project.data import ProjectData
from curate.project.project import Project


def decide(data: ProjectData, decisions: Sequence[Decision], *, by: str = "") -> ProjectData:
    """Have ``by`` take decisions as one act, and return the workspace as they leave it; ``data`` stays as it was."""
    with Project(data, by or None) as project:
        project.apply(decisions)
        return project.data
