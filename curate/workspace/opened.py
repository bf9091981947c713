"""Opening a workspace for a command, with what its user should know first."""

from __future__ import annotations

from pathlib import Path

from curate import say
from curate.workspace import Workspace, open_workspace


def open_and_tell(root: Path) -> Workspace:
    """Open ``root``, and say on stderr what lines are not read as records and what the journal has lost.

    Raises:
        CurateError: as `open_workspace` does.
    """
    workspace = open_workspace(root)
    for remark in workspace.remarks():
        say.talk(f"warning: {say.one_line(remark)}")
    num_unread = len({(finding.file, finding.line) for finding in workspace.findings() if finding.severity == "error"})
    if num_unread:
        say.talk(f"warning: {num_unread:,} lines are not records and are left out; see `curate validate`")
    return workspace
