"""`curate fold`: what people decided is written into the record files, and the journal begins anew.

At every moment, also after a crash, the records are what they were: a decision that stands in its line already changes
nothing when it is applied again, and one that ``journal/folded/<n>.json`` tells of is not applied again at all. So the
record files come first, each replaced in one step, then that file, and only then do the segments move to
``journal/retired/<n>/``, where they stay. What is interrupted is finished by the next fold.
"""

from __future__ import annotations

import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from curate.door import Entry
from curate.door.rewrite import Ending, Mended, Rewrite
from curate.file_guard import inside, open_file
from curate.journal import FOLDER
from curate.record import CurateError, Finding, Json, Record, canonical
from curate.say import one_line
from curate.settings import ADDED
from curate.store import remove_file, write_atomic
from curate.validate.globs import Glob
from curate.workspace import Workspace
from curate.workspace.claim import CLAIM, claimed
from curate.workspace.foldable import FoldPlan, plan_fold
from curate.workspace.kept import folded_bytes, folded_files, kept_form, read_folded
from curate.workspace.respelled import spelled
from curate.workspace.retired import RETIRED, retire
from curate.workspace.seal import seal

_BLOCK = 1024 * 1024


def fold_journal(workspace: Workspace) -> FoldPlan:
    """Write the decisions of all segments that nobody has open into the record files, and return what was done.

    Raises:
        CurateError: E981 while somebody else folds; E982 as `plan_fold`; E959 when somebody writes to a record file at
            the same time, or it is a link; E906 when the system refuses. Whatever has been written until then, the
            records are the same, and the next fold goes on from there.
    """
    root = workspace.root
    for place in (FOLDER, f"{FOLDER}/folded", f"{FOLDER}/{RETIRED}"):
        inside(root, root / place)
    with claimed(root / CLAIM, "folding the journal"):
        before = read_folded(root)
        if before:
            retire(root, before.number, before.segments)
        # What this one has read may be old.
        plan = plan_fold(replace(workspace))
        require_places(workspace, plan)
        if plan.is_empty:
            return plan
        written = _write_lines(root, plan)
        folder = root / FOLDER / "folded"
        if plan.carried:
            write_atomic(folder / f"{uuid.uuid4().hex[:12]}.log", plan.carried, is_new=True)
        taken = [segment.file for segment in plan.segments]
        sealed = [seal(path, str(path.relative_to(root))) for path in workspace.files()]
        records = {**(before.records if before else {}), **{name: kept_form(one) for name, one in plan.kept.items()}}
        content = folded_bytes(plan.number, taken, sealed, records)
        for path, state in written.items():
            if _state_of(path) != state:
                raise _changed(path)
        write_atomic(folder / f"{plan.number}.json", [content], is_new=True)
        retire(root, plan.number, taken)
        # The one before stays: should this one be damaged, it and the retired segments give everything back.
        for number, path in folded_files(root).items():
            if number < plan.number - 1:
                remove_file(path)
    return plan


def require_places(workspace: Workspace, plan: FoldPlan) -> None:
    """Make sure that all the files that ``plan`` writes can be replaced, before the first one is.

    Raises:
        CurateError: E959 when one is a link; E982 when added records would not be read where they would be written.
    """
    for path in [*plan.edits, *([workspace.root / ADDED] if plan.added else [])]:
        inside(workspace.root, path)
        if path.is_symlink():
            message = f"{one_line(str(path))} is a link, and what it leads to is not replaced"
            raise CurateError("E959 not-rewritten", message, "Put the file itself there.")
    if plan.added and not _is_added_file_read(workspace):
        message = f"records were added, and {ADDED} is none of the files that `data` in curate.toml names"
        raise CurateError("E982 cannot-fold", message, f'Add "{ADDED}" to `data` in curate.toml.')


def make_added_file(workspace: Workspace) -> None:
    """Make the file that added records go to, empty, where the workspace has no record file at all.

    An added record stands in the journal until it is folded; commands that read a workspace ask for a record file.

    Raises:
        CurateError: E904 when the settings do not read that file; E906 when it cannot be made; E914 when it lies
            outside the workspace; E919 when another process makes it in the same moment.
    """
    if workspace.matching_files():
        return
    if not _is_added_file_read(workspace):
        message = f"{workspace.root}: no file matches {', '.join(workspace.settings.data)}; nothing was saved"
        raise CurateError("E904 no-such-file", message, f'Make such a file, or add "{ADDED}" to `data` in curate.toml.')
    write_atomic(inside(workspace.root, workspace.root / ADDED), [], is_new=True)


def _is_added_file_read(workspace: Workspace) -> bool:
    return any(Glob.of(pattern).matches(ADDED) for pattern in workspace.settings.data)


def _write_lines(root: Path, plan: FoldPlan) -> dict[Path, tuple[int, ...] | None]:
    """Write the new lines and return the state of the files that they are in."""
    written = {}
    for path, edits in sorted(plan.edits.items()):
        _rewrite(root, path, edits)
        written[path] = _state_of(path)
    if plan.added:
        _append(root / ADDED, list(plan.added.values()))
        written[root / ADDED] = _state_of(root / ADDED)
    return written


def _rewrite(root: Path, path: Path, edits: Mapping[int, tuple[Record, dict[str, Json]]]) -> None:
    waiting = dict(edits)

    def mend(item: Entry | Finding, raw: bytes, ending: Ending) -> Mended | None:
        place = item.line.source.line if isinstance(item, Entry) else item.line
        if place not in waiting:
            return None
        base, line = waiting.pop(place)
        if not isinstance(item, Entry) or canonical(item.value) != canonical(dict(base.data)):
            raise _changed(path)
        return ending.mark + spelled(raw, line, is_ascii=rewrite.is_ascii) + ending.newline, ()

    rewrite = Rewrite(path, mend, root=root)
    rewrite.write()
    if waiting:
        raise _changed(path)


def _append(path: Path, lines: Sequence[bytes]) -> None:
    """Add ``lines`` to the record file ``path``, which is made when it is missing, in one step."""
    before = _state_of(path)

    def chunks() -> Iterator[bytes]:
        last = b"\n"
        if before is not None:
            with open_file(path) as file:
                while block := file.read(_BLOCK):
                    yield block
                    last = block[-1:]
        yield b"".join([b"" if last == b"\n" else b"\n", *(line + b"\n" for line in lines)])
        # The last look before the new file takes the name: what somebody has appended must not be lost.
        if _state_of(path) != before:
            raise _changed(path)

    write_atomic(path, chunks(), is_new=before is None, mode=stat.S_IMODE(path.stat().st_mode) if before else None)


def _state_of(path: Path) -> tuple[int, ...] | None:
    """Return what is different when somebody has written to a file; None where there is none."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns


def _changed(path: Path) -> CurateError:
    message = f"{one_line(str(path))} was changed by somebody while decisions were being folded into it"
    return CurateError("E959 not-rewritten", message, "It is as they left it. Run the command again.")


__all__ = ["ADDED", "CLAIM", "fold_journal", "make_added_file", "require_places"]
