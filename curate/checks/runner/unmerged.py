"""Files that git has stopped in the middle of merging.

Such a file may hold one side only, without a marker; what the next commit would make of it is the loss of the other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from curate.base.console import spelled
from curate.base.git import GitError, ask_git
from curate.base.record import Finding
from curate.jsonl import fault_finding


def unmerged_findings(files: Sequence[Path], root: Path | None) -> list[Finding]:
    """Return S129 for each of ``files`` that git holds as unmerged.

    Without git, and outside of repositories, there is nothing to find. ``root`` is the workspace; files elsewhere are
    looked up where they lie.
    """
    tops: dict[Path, Path | None] = {}
    findings: list[Finding] = []
    unmerged: dict[Path, set[str]] = {}
    for path in files:
        folder = (root if root is not None and path.is_relative_to(root) else path.parent).resolve()
        if folder not in tops:
            tops[folder] = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)
        top = tops[folder]
        if top is None:
            continue
        if top not in unmerged:
            unmerged[top] = _unmerged_in(top)
        # The name is that of the link, if it is one, because git knows the link.
        unlinked = path.parent.resolve() / path.name
        if unmerged[top] and unlinked.is_relative_to(top) and str(unlinked.relative_to(top)) in unmerged[top]:
            findings.append(
                fault_finding(
                    "S129",
                    "an unfinished git merge; the file may hold the records of one side only",
                    spelled(str(path)),
                    fix="Compare with `git show :2:FILE` (ours) and `git show :3:FILE` (theirs), then `git add` it.",
                )
            )
    return findings


def _unmerged_in(top: Path) -> set[str]:
    try:
        listed = os.fsdecode(ask_git(top, ["ls-files", "-u", "-z"]))
    except GitError:
        # No git, or none that reads this repository: then it cannot have left a merge unfinished for us to find.
        return set()
    return {entry.partition("\t")[2] for entry in listed.split("\0") if entry}
