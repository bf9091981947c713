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
from curate.base.storage import digest_of, is_segment_open, move_file, remove_file, write_atomic
from curate.base.tables import counted
from curate.checks.runner import read_records
from curate.checks.runner.changes import unmerged_findings
from curate.checks.runner.names import with_unique_ids
from curate.formats.dataset import FILE_NAME as MANIFEST_FILE
from curate.formats.dataset import frozen_digest, read_manifest
from curate.jsonl import JsonFault, Reader, strict_loads
from curate.project.claim import CLAIM, claimed
from curate.project.data import DATASETS, RUNS, data_files
from curate.project.feedback import changed_files
from curate.project.fsck.journal import MISSING, Report, WorkspaceFault, check_journal, noted, read_missing
from curate.project.journal import FOLDER, pieces, read_journal, read_segment, segments
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
    check_journal(report)
    if files is not None:
        check_records(report, settings, files)
    check_datasets(report, datasets)
    check_runs(report, runs)
    check_drafts(report, drafts)
    check_git(report, files or ())
    check_remains(report, [root / "journal", root / "data", datasets, drafts])
    return report


def recover(root: Path) -> list[str]:
    """Make the journal of ``root`` whole again and return what was done, a sentence each.

    The torn end of a segment goes to ``<segment>.torn``, damaged lines to ``<segment>.damaged``. Segments that somebody
    has open are left alone. Every step can be cut off and done again.

    Raises:
        CurateError: E981 while somebody else recovers it; E906 when the system refuses.
    """
    inside(root, root / FOLDER)
    if not (root / FOLDER).is_dir():
        return []
    with claimed(root / CLAIM, "recovering the journal"):
        done = [step for path in segments(root) for step in _mend(root, path)]
        report = Report(root)
        contents = check_journal(report)
        before = read_missing(Report(root))
        now = noted(contents, before)
        # What an unknown event says may be what seems to be missing.
        is_known = all(fault.name != "unknown-event" for fault in report.faults)
        if is_known and now != before:
            write_atomic(root / MISSING, [json.dumps(now.model_dump(), indent=1).encode(), b"\n"])
            done.append(f"took note in {MISSING} of what is missing")
    return done


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
# The digests of the files of a folder.
SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)")
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
        if not now:
            report.add("missing-file", folder / name, f"{SUMS} names it, and it is not there", f"{_RESTORE}.")
        elif now != digest:
            report.add("changed-file", folder / name, f"it is not what {SUMS} says", f"{_RESTORE}.")


def check_records(report: Report, settings: Settings, files: Sequence[Path]) -> None:
    """Look whether there are record files, and for lines that cannot be read."""
    for path in files:
        report.count("record file")
        _check_lines(report, path)
    if not files:
        named = ", ".join(settings.data)
        message = f"no file matches `data` in curate.toml: {named}"
        report.add("missing-file", report.root / SETTINGS_FILE, message, f"{_RESTORE}, or import a file.")


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
    """Hold each checkpoint of the runs below ``folder`` against its manifest, and their results against run.json."""
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
    # Those of a series lie in its folder.
    for path in [*sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))]:
        for file, fix in changed_files(path):
            report.add("changed-file", file, "it was changed after the run wrote it", fix)


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


def sums_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the digests and names that the file of digests in ``folder`` has; a line that is none gives ("", line).

    Raises:
        OSError: it cannot be read.
    """
    for line in read_file(folder / SUMS, most=MOST_DOCUMENT).decode("utf-8", "replace").splitlines():
        match = _SUM.fullmatch(line)
        yield (match[1], match[2]) if match else ("", line)


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
        fix = "`curate fsck --recover` removes it if its process is gone."
        report.add("claim", claim, "somebody is at work on the journal, or has left this behind", fix, is_damage=False)


def check_git(report: Report, files: Sequence[Path]) -> None:
    """Look for files that git has not finished merging."""
    root = report.root
    for finding in unmerged_findings([root / SETTINGS_FILE, *files, *segments(root)], root):
        report.add("unmerged", Path(finding.file), finding.message, finding.fix)
