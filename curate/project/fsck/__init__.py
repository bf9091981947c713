"""`curate fsck`: everything in a workspace that carries a checksum or a digest is held against it.

Looking changes nothing. `recover` sets aside what cannot be read, so that nothing is lost by it, and takes note of what
is missing.
"""

from __future__ import annotations

from pathlib import Path

from curate.base.record import CurateError
from curate.project.data import DATASETS, RUNS, inside
from curate.project.fsck.fault import Report, WorkspaceFault
from curate.project.fsck.files import (
    check_datasets,
    check_drafts,
    check_folds,
    check_git,
    check_records,
    check_remains,
    check_runs,
    check_settings,
)
from curate.project.fsck.journal import check_journal
from curate.project.fsck.recover import recover
from curate.schema.settings import FILE_NAME

DRAFTS = Path(".curate") / "drafts"


def check(root: Path) -> Report:
    """Look at all that the workspace ``root`` holds and return what is wrong with it.

    Raises:
        CurateError: E901 when the folder is no workspace; E914 when a part of it leads elsewhere.
    """
    if not (root / FILE_NAME).is_file() and not (root / "journal").is_dir():
        message = f"{root} is not a workspace: it has no {FILE_NAME}"
        raise CurateError("E901 no-workspace", message, f"Make one with `curate init {root}`.")
    report = Report(root)
    datasets, runs, drafts = (inside(root, root / name) for name in (DATASETS, RUNS, DRAFTS))
    inside(root, root / "journal")
    settings = check_settings(report)
    folded = check_folds(report)
    check_journal(report, (name for record in folded.records.values() for name in record.events) if folded else ())
    check_records(report, settings, folded)
    check_datasets(report, datasets)
    check_runs(report, runs)
    check_drafts(report, drafts)
    check_git(report, settings)
    check_remains(report, [root / "journal", root / "data", datasets, drafts])
    return report


__all__ = ["WorkspaceFault", "Report", "check", "recover"]
