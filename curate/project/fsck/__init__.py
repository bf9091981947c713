"""`curate fsck`: everything in a workspace that carries a checksum or a digest is held against it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from curate.base.events import AddEvent, EditEvent, UndoEvent
from curate.base.file_guard import MOST_DOCUMENT, MOST_SEGMENT, MOST_STATE, inside, read_file
from curate.base.record import SPLITS, CurateError, Finding, Json, Record, canonical
from curate.base.storage import is_segment_open, move_file, remove_file, write_atomic
from curate.base.tables import counted
from curate.checks.runner import read_records
from curate.checks.runner.changes import unmerged_findings
from curate.checks.runner.names import with_unique_ids
from curate.formats.dataset import FILE_NAME as MANIFEST_FILE
from curate.formats.dataset import frozen_digest, read_manifest
from curate.jsonl import JsonFault, Reader, strict_loads
from curate.project.claim import CLAIM, claimed
from curate.project.data import DATASETS, RUNS, data_files
from curate.project.fsck.journal import MISSING, Report, WorkspaceFault, check_journal, noted, read_missing
from curate.project.journal import FOLDER, pieces, read_journal, read_segment, segments
from curate.project.snapshot import (
    RETIRED,
    SUMS,
    UNFINISHED,
    Folded,
    RecordFile,
    call_back,
    changed_since,
    digest_of,
    folded_files,
    parse_folded,
    retired_folds,
    spans_text,
    sums_in,
)
from curate.schema import load_shape
from curate.schema.settings import FILE_NAME as SETTINGS_FILE
from curate.schema.settings import Settings, read_settings

DRAFTS = Path(".curate") / "drafts"


# Looking changes nothing. `recover` sets aside what cannot be read, so that nothing is lost by it, and takes note of
# what is missing.


def check(root: Path) -> Report:
    """Look at all that the workspace ``root`` holds and return what is wrong with it.

    Raises:
        CurateError: E901 when the folder is no workspace; E914 when a part of it leads elsewhere.
    """
    if not (root / SETTINGS_FILE).is_file() and not (root / "journal").is_dir():
        message = f"{root} is not a workspace: it has no {SETTINGS_FILE}"
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
        # The torn end of a segment that somebody has open may be whole in a moment.
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


# What the trainer calls the digests of a checkpoint.
CHECKPOINT_FILE = "MANIFEST.json"
_REMAINS = re.compile(r"\..*\.tmp")
_RESTORE = "Restore it from git or another copy"


def check_settings(report: Report) -> tuple[Settings, list[Path] | None]:
    """Return the settings, the default ones where they cannot be read, and the record files that they name.

    The files are None where the settings name files outside the workspace.
    """
    try:
        settings = read_settings(report.root)
    except CurateError as error:
        report.add("bad-settings", report.root / SETTINGS_FILE, error.message, error.hint)
        settings = Settings()
    try:
        return settings, data_files(report.root, settings.data)
    except CurateError as error:
        report.add("bad-settings", report.root / SETTINGS_FILE, error.message, error.hint)
        return settings, None


def check_folds(report: Report) -> Folded | None:
    """Look at what folds have kept, and return what the last one has."""
    last: Folded | None = None
    for number, path in folded_files(report.root).items():
        report.count("fold")
        folded = _check_fold(report, path)
        last = folded or last
        if folded is None or last is None:
            continue
        if last.number != number:
            report.add("bad-fold", path, f"it holds fold {last.number}, not {number}", f"{_RESTORE}.")
        for segment in last.segments:
            if digest_of(report.root / FOLDER / segment.path) == segment.sha256:
                fix = "`curate fold` finishes it."
                message = f"fold {number} was interrupted before it had retired this segment; nothing is lost"
                report.add("unfinished-fold", report.root / FOLDER / segment.path, message, fix, is_damage=False)
    newest = last.number if last else 0
    unfinished = report.root / UNFINISHED
    if unfinished.exists() and _check_fold(report, unfinished) is not None:
        message = "a fold was interrupted while it wrote the record files; nothing is lost"
        report.add("unfinished-fold", unfinished, message, "`curate fold` finishes it.", is_damage=False)
    for number in retired_folds(report.root):
        if number > newest:
            fix = f"{_RESTORE}; else `curate fsck --recover` calls its segments back, and loses nothing."
            path = report.root / FOLDER / "folded" / f"{number}.json"
            report.add("missing-fold", path, "this snapshot is missing or damaged, and its segments are retired", fix)
    for folder in sorted((report.root / FOLDER / RETIRED).glob("*/")):
        _check_sums(report, folder)
    return last


def _check_fold(report: Report, path: Path) -> Folded | None:
    try:
        return parse_folded(read_file(path, report.root / FOLDER, most=MOST_DOCUMENT), path)
    except (CurateError, OSError) as error:
        message = error.message.partition(": ")[2] if isinstance(error, CurateError) else error.strerror or ""
        fix = f"{_RESTORE}; else `curate fsck --recover` goes back to before this fold, and loses nothing."
        report.add("bad-fold", path, message, fix)
        return None


def _check_sums(report: Report, folder: Path) -> None:
    """Hold the files of a folder against its file of digests, where it has one."""
    if not (folder / SUMS).is_file():
        return
    try:
        sums = list(sums_in(folder))
    except OSError as error:
        report.add("unreadable", folder / SUMS, error.strerror or str(error), f"{_RESTORE}.")
        return
    for digest, name in sums:
        if not digest:
            report.add("bad-digests", folder / SUMS, "a line of it is no digest", f"{_RESTORE}.")
            continue
        now = digest_of(folder / name)
        # A fold that was cut off has named them before it could move them.
        if not now and digest_of(report.root / FOLDER / name) != digest:
            report.add("missing-file", folder / name, f"{SUMS} names it, and it is not there", f"{_RESTORE}.")
        elif now and now != digest:
            report.add("changed-file", folder / name, f"it is not what {SUMS} says", f"{_RESTORE}.")


def check_records(report: Report, settings: Settings, files: Sequence[Path], folded: Folded | None) -> None:
    """Hold the record files against the last fold, and look for lines that cannot be read."""
    for path in files:
        report.count("record file")
        _check_lines(report, path)
    for sealed in folded.files if folded else ():
        path = report.root / sealed.path
        if path not in files:
            report.add("missing-file", path, "the last fold names it, and it is not there", f"{_RESTORE}.")
        elif digest_of(path) != sealed.sha256:
            _add_change(report, settings, files, sealed)


def _add_change(report: Report, settings: Settings, files: Sequence[Path], sealed: RecordFile) -> None:
    path = report.root / sealed.path
    try:
        spans = changed_since(sealed, path)
    except OSError:
        # That it cannot be read is a fault of its own.
        return
    line, lines = spans[0][0] if spans else 0, f"lines {spans_text(spans)}"
    if _is_of_a_fold(report.root, settings, files, sealed, spans):
        message = f"{lines} were changed by a fold that was interrupted"
        report.add("unfinished-fold", path, message, "`curate fold` finishes it.", line=line, is_damage=False)
        return
    fix = f"If that was on purpose, `curate fold` takes note of it. Else: {_RESTORE.lower()}."
    report.add("changed-file", path, f"changed since the last fold, other than by decisions: {lines}", fix, line=line)


def _is_of_a_fold(
    root: Path, settings: Settings, files: Sequence[Path], sealed: RecordFile, spans: Sequence[tuple[int, int]]
) -> bool:
    """Whether there are decisions in the journal by which a fold changes all that has changed in the file."""
    try:
        shape = load_shape(settings.schema_, root)
        decided = {event.id for event in read_journal(root)[0] if isinstance(event, EditEvent | AddEvent | UndoEvent)}
        items = read_records(files, shape, root=root)
        records = with_unique_ids(item for item in items if isinstance(item, Record))
        lines = {record.source.line for record in records if record.id in decided and record.source.file == sealed.path}
    except CurateError:
        return False
    return all(
        not lines.isdisjoint(range(start, start + sealed.every))
        for first, last in spans
        for start in range(first, last + 1, sealed.every)
    )


def _check_lines(report: Report, path: Path) -> None:
    reader = Reader(path, root=report.root)
    try:
        for item in reader.lines():
            value = item if isinstance(item, Finding) else reader.value(item)
            if isinstance(value, Finding) and value.severity == "error":
                offset = None if isinstance(item, Finding) else item[1] + max(value.column - 1, 0)
                message, fix = f"{value.code} {value.message}", value.fix or "Fix the line; see `curate validate`."
                report.add(value.name, path, message, fix, line=value.line, offset=offset)
    except CurateError as error:
        report.add("unreadable", path, error.message.partition(": ")[2] or error.message, error.hint)


def check_datasets(report: Report, folder: Path) -> None:
    """Hold each dataset below ``folder`` against its manifest."""
    for path in sorted(folder.glob("*/")):
        if path.name.startswith("."):
            continue
        report.count("dataset")
        _check_sums(report, path)
        try:
            manifest = read_manifest(path)
        except CurateError as error:
            report.add("bad-manifest", path / MANIFEST_FILE, error.message.partition(": ")[2], f"{_RESTORE}.")
            continue
        fix = f"{_RESTORE}, or export again."
        for name, entry in manifest.files.items():
            if digest_of(path / name) != entry.sha256:
                file = path / name
                what = "not what the manifest says" if file.is_file() else "no regular file"
                report.add("changed-file", file, f"it is {what if file.exists() else 'not there'}", fix)
        numbers = {
            name: manifest.files[f"{name}.jsonl"].records for name in SPLITS if f"{name}.jsonl" in manifest.files
        }
        if manifest.name != path.name or numbers != manifest.counts.model_dump():
            report.add("bad-manifest", path / MANIFEST_FILE, "its name or its counts do not match the files", fix)
        elif _test_digest(path, manifest.files["test.jsonl"].bytes) not in ("", manifest.frozen_test):
            report.add(
                "bad-manifest", path / MANIFEST_FILE, "its digest of the test split does not match test.jsonl", fix
            )


def _test_digest(folder: Path, most: int) -> str:
    """Return the digest of the ids of the test split, "" where its file cannot be read or has over ``most`` bytes."""
    try:
        lines = read_file(folder / "test.jsonl", most=most).splitlines()
        return frozen_digest([strict_loads(line)["id"] for line in lines])
    except (OSError, JsonFault, TypeError, KeyError):
        return ""


def check_runs(report: Report, folder: Path) -> None:
    """Hold each checkpoint of the runs below ``folder`` against its manifest."""
    for path in sorted(folder.glob(f"*/*/{CHECKPOINT_FILE}")):
        report.count("checkpoint")
        fix = "Remove its folder: an older checkpoint may be whole, and `train run --resume` takes that."
        try:
            manifest = strict_loads(read_file(path, most=MOST_STATE))
            own = manifest.pop("sha256")
            is_sound = own == hashlib.sha256(canonical(manifest)).hexdigest()
            entries = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        except (OSError, JsonFault, KeyError, TypeError, AttributeError):
            is_sound, entries = False, {}
        if not is_sound:
            report.add("bad-manifest", path, "the file was changed after it was written", fix)
        for name, digest in entries.items():
            if digest_of(path.parent / name) != digest:
                report.add("changed-file", path.parent / name, f"it is not what {CHECKPOINT_FILE} says", fix)
    for path in [path for name in ("run", "report", "eval") for path in sorted(folder.glob(f"*/{name}.json"))]:
        report.count("run file")
        _check_json(report, path, "bad-report", "Evaluate the run again with `train eval`.")


def check_drafts(report: Report, folder: Path) -> None:
    """Look whether the drafts below ``folder`` can be read."""
    for path in sorted(folder.rglob("*.json")):
        report.count("draft")
        _check_json(report, path, "bad-draft", "What it held is not saved. Remove it, and type it again.")


def _check_json(report: Report, path: Path, name: str, fix: str) -> None:
    try:
        value: Json = strict_loads(read_file(path, most=MOST_DOCUMENT))
        message = "" if isinstance(value, dict) else "it is no object"
    except JsonFault as fault:
        message = fault.message
    except OSError as error:
        message = error.strerror or str(error)
    if message:
        report.add(name, path, message, fix)


def check_remains(report: Report, folders: Collection[Path]) -> None:
    """Look for what writes that were cut off have left behind."""
    for folder in folders:
        # A glob would pass over folders that are hidden.
        for parent, names, files in os.walk(folder):
            names.sort()
            for name in filter(_REMAINS.fullmatch, sorted([*files, *names])):
                message = "left by an interrupted write; nothing that was saved is in it"
                fix = "Remove it, unless somebody is just writing there."
                report.add("remains", Path(parent) / name, message, fix, is_damage=False)
    claim = report.root / CLAIM
    if claim.exists():
        fix = "`curate fold` removes it if its process is gone."
        report.add("claim", claim, "somebody is at work on the journal, or has left this behind", fix, is_damage=False)


def check_git(report: Report, files: Sequence[Path]) -> None:
    """Look for files that git has not finished merging."""
    root = report.root
    for finding in unmerged_findings(
        [root / SETTINGS_FILE, *files, *folded_files(root).values(), *segments(root)], root
    ):
        report.add("unmerged", Path(finding.file), finding.message, finding.fix)
