"""What a command says on stderr about a workspace: on opening it, and before it is exported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import SPLITS
from curate.base.tables import counted
from curate.project.data import ProjectData
from curate.project.project import Project, open_project

if TYPE_CHECKING:
    from curate.formats.dataset import Manifest

    # It brings numpy, which most commands that open a workspace do without.
    from curate.project.plan import ExportPlan

_MAX_FINDINGS = 5


def open_and_tell(root: Path, by: str = "") -> Project:
    """Open ``root`` for ``by``, and say on stderr what `tell_remarks` does.

    Raises:
        CurateError: as `open_project` does.
    """
    project = open_project(root, by)
    tell_remarks(project.data)
    return project


def tell_remarks(data: ProjectData) -> None:
    """Say on stderr what lines are not read as records and what the journal has lost."""
    for remark in data.remarks():
        console.talk(f"warning: {console.one_line(remark)}")
    if num_unread := data.num_unread():
        console.talk(f"warning: left out as no records: {counted(num_unread, 'line')}; see `curate validate`")


def tell_preferences(data: ProjectData) -> None:
    """Say on stderr what of preferences is trained, where ``data`` has any."""
    if data.shape.kind == "preference":
        console.talk("`train run` learns the best answer of each preference; --set objective=dpo learns the comparison")


def tell_machine(manifest: Manifest) -> None:
    """Say on stderr how many records of a dataset are by a model, where some are."""
    if machine := manifest.machine:
        console.talk(f"written by a model: {machine.as_proposed:,} as proposed, {machine.edited:,} after an edit")


def tell_plan(planned: ExportPlan) -> None:
    """Say on stderr how many records go where, how many are left out and why, and what is wrong with the split."""
    counts = Counter(planned.assignment.splits.values())
    console.talk(f"{counted(counts.total(), 'record')}: " + ", ".join(f"{counts[name]:,} {name}" for name in SPLITS))
    drops = Counter(record.code for record in planned.dropped)
    if drops:
        console.talk("left out: " + ", ".join(f"{number:,} {code}" for code, number in sorted(drops.items())))
    # Findings of the split are few; leaks can be thousands, and `curate leaks` shows them all.
    for finding in [*planned.assignment.findings, *planned.leaks[:_MAX_FINDINGS]]:
        location = f"{finding.file}:{finding.line}: " if finding.file else ""
        console.talk(
            f"warning: {console.visible(location)}{finding.code} {finding.name}: {console.one_line(finding.message)}"
        )
    if len(planned.leaks) > _MAX_FINDINGS:
        console.talk(f"warning: {len(planned.leaks) - _MAX_FINDINGS:,} more records like these; see `curate leaks`")
