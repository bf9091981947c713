"""`curate fsck`: everything in a workspace that carries a checksum or a digest is held against it.

Looking changes nothing. `recover` sets aside what cannot be read, so that nothing is lost by it, and takes note of what
is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from curate.base.file_guard import MOST_DOCUMENT, MOST_SEGMENT, inside, read_file
from curate.base.record import CurateError
from curate.base.storage import is_segment_open, move_file, remove_file, write_atomic
from curate.base.tables import counted
from curate.project.claim import CLAIM, claimed
from curate.project.data import DATASETS, RUNS
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
from curate.project.fsck.journal import MISSING, Report, WorkspaceFault, check_journal, noted, read_missing
from curate.project.journal import FOLDER, pieces, read_segment, segments
from curate.project.snapshot import UNFINISHED, call_back, folded_files, parse_folded, retired_folds
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
    settings, files = check_settings(report)
    folded = check_folds(report)
    check_journal(report, folded)
    if files is not None:
        check_records(report, settings, files, folded)
    check_datasets(report, datasets)
    check_runs(report, runs)
    check_drafts(report, drafts)
    check_git(report, files or ())
    check_remains(report, [root / "journal", root / "data", datasets, drafts])
    return report


def recover(root: Path) -> list[str]:
    """Make the journal of ``root`` whole again and return what was done, a sentence each.

    The torn end of a segment goes to ``<segment>.torn``, damaged lines to ``<segment>.damaged``; a damaged file of the
    last fold is put aside, and the segments that it had retired are called back. Segments that somebody has open are
    left alone. Every step can be cut off and done again.

    Raises:
        CurateError: E981 while somebody folds; E906 when the system refuses.
    """
    inside(root, root / FOLDER)
    if not (root / FOLDER).is_dir():
        return []
    with claimed(root / CLAIM, "recovering the journal"):
        done = [*_undo_bad_folds(root), *(step for path in segments(root) for step in _mend(root, path))]
        report = Report(root)
        contents = check_journal(report, check_folds(report))
        before = read_missing(Report(root))
        now = noted(contents, before)
        # What an unknown event says may be what seems to be missing.
        is_known = all(fault.name != "unknown-event" for fault in report.faults)
        if is_known and now != before:
            write_atomic(root / MISSING, [json.dumps(now.model_dump(), indent=1).encode(), b"\n"])
            done.append(f"took note in {MISSING} of what is missing")
    return done


def _undo_bad_folds(root: Path) -> Iterator[str]:
    """Put damaged files of folds aside, and go back to the last fold whose file is whole, or to before the first."""
    good, damaged = 0, []
    unfinished = [(0, root / UNFINISHED)] if (root / UNFINISHED).exists() else []
    for number, path in [*folded_files(root).items(), *unfinished]:
        try:
            parse_folded(read_file(path, root / FOLDER, most=MOST_DOCUMENT), path)
            good = max(good, number)
        except CurateError:
            damaged.append(path)
        except OSError:
            # It may be whole, and somebody else's to give; `check` tells of it.
            return
    # First the segments: if the rest is not done any more, the next time goes on from there.
    for number in (number for number in retired_folds(root) if number > good):
        count = call_back(root, number)
        yield f"called {counted(count, 'segment')} of fold {number} back into the journal"
    for path in damaged:
        move_file(path, _free(path.with_name(f"{path.name}.damaged")))
        yield f"put {path.relative_to(root)} aside"


def _mend(root: Path, path: Path) -> Iterator[str]:
    """Set aside what is no decision in one segment."""
    try:
        content = read_segment(path, root)
        is_open = content is None or is_segment_open(path)
    except (CurateError, OSError):
        return
    parts = list(pieces(content or b""))
    whole = b"".join(
        piece.raw.removesuffix(b"\n").removesuffix(b"\r") + b"\n" for piece in parts if piece.payload is not None
    )
    if is_open or whole == content:
        return
    name = path.relative_to(root)
    for kind, chosen in (
        ("torn", [piece.raw for piece in parts if piece.is_torn]),
        ("damaged", [piece.raw for piece in parts if piece.payload is None and not piece.is_torn]),
    ):
        if chosen:
            aside = _free(path.with_name(f"{path.name}.{kind}"), b"".join(chosen))
            if not aside.exists():
                write_atomic(aside, chosen, is_new=True)
            yield f"moved {sum(map(len, chosen)):,} {kind} bytes of {name} to {aside.name}"
    if not whole:
        remove_file(path)
        yield f"removed {name}, which held nothing else"
        return
    write_atomic(path, [whole])
    if any(piece.payload is not None and piece.raw.endswith(b"\r\n") for piece in parts):
        yield f"gave {name} back its line ends"


def _free(path: Path, content: bytes | None = None) -> Path:
    """Return ``path``, with a number if there is something else of this name already."""
    for number in range(1, 10_000):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        is_same = content is not None and candidate.is_file() and read_file(candidate, most=MOST_SEGMENT) == content
        if is_same or not candidate.exists():
            return candidate
    raise CurateError("E906 write-failed", f"{path} and ten thousand more are there", "Move them away.")


__all__ = ["Report", "WorkspaceFault", "check", "recover"]
