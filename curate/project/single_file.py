"""One record file that is looked at and edited where it lies, without a workspace.

Behind it stands a workspace that nobody sees, in a folder of the user's own state: a copy of the file, a journal, and
drafts. So everything that reads or checks a project works on a file as well. Whatever is decided is written into the
file at once, in one step. Copy and journal stay as long as the file is as it was written here: so a step can be undone
tomorrow too, and after a crash.
"""

from __future__ import annotations

import json
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.console import one_line
from curate.base.events import Decision, Event
from curate.base.file_guard import MOST_SETTINGS, FileStamp, open_file, read_file, stamp_of
from curate.base.record import CurateError, Json, canonical
from curate.base.storage import make_folder, write_atomic
from curate.jsonl import Entry, JsonFault, read_entries, strict_loads
from curate.jsonl.reader import spans
from curate.jsonl.rewrite import Rewrite
from curate.jsonl.walker import edited_line, new_line
from curate.project.claim import claimed
from curate.project.data import load_data
from curate.project.drafts import FOLDER as DRAFTS
from curate.project.journal import FOLDER as JOURNAL
from curate.project.journal import annotator
from curate.project.loose import shape_for
from curate.project.project import OnProgress, Project, Within
from curate.schema.settings import FILE_NAME

if TYPE_CHECKING:
    from curate.project.catalog import Catalog

# What to do where a file by itself has no place for something.
WORKSPACE_HINT = "Make a workspace of the file: Home (g h) offers it."
_CLAIM = ".open.lock"
_SCHEMA = "schema.json"
_DIGESTS = "written.json"  # Of the file before and after the last writing: a crash may leave either.
_FIRST = "instruction"  # The shape of a file in which no row can be read yet.
_SAMPLE = 100
_MARK = b"\xef\xbb\xbf"
# What a line of a record file can hold. An answer, a split or a review has a place in a workspace alone.
_WRITTEN = frozenset({"add", "drop", "edit", "restore", "undo"})
_GLOB = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})


class SingleFileProject(Project):
    """A project of one file: each decision is written into ``file`` when it is made. Made by `open_single_file`."""

    def __init__(self, file: Path, folder: Path, by: str | None, claim: ExitStack) -> None:
        """Look at ``file`` by way of ``folder``, which may know it; ``claim`` is closed when nobody looks any more."""
        self._path, self._copy = file, folder / file.name
        self._claim = claim
        self._is_known = self._copy.exists()
        self._written = _stamp(file) if self._is_known else self._copy_file()
        self._copied = _stamp(self._copy)
        self._digest = ""  # Of the file; computed when it is first written.
        super().__init__(load_data(folder), by)
        self.file = file

    def load(self, on_progress: OnProgress | None = None) -> Catalog:
        """Read the records as `Project.load` does; a decision that a crash has kept out of the file is written now."""
        catalog = super().load(on_progress)
        if (
            self._is_known
            and _stamp(self._path) == self._written
            and _digest_of(self._lines()) != _file_digest(self._path)
        ):
            self._write()
        return catalog

    def close(self) -> None:
        """Close the journal; where nothing was decided only drafts stay in the folder."""
        super().close()
        if not (self.root / _DIGESTS).exists():
            _clear(self.root)
            if not any(path.is_file() for path in (self.root / DRAFTS).rglob("*")):
                shutil.rmtree(self.root, ignore_errors=True)
        self._claim.close()

    def is_current(self) -> bool:
        """Whether no other program has written to the file since it was read or written here."""
        return _stamp(self._path) == self._written and super().is_current()

    def reload(self, on_progress: OnProgress | None = None, within: Within | None = None) -> set[str]:
        """Read the file anew: after another program has changed it, as it is now, and then no step can be undone.

        Raises:
            CurateError: E904 when the file is gone; otherwise as `Project.reload`.
        """
        if _stamp(self._path) != self._written:
            with self._lock:
                super().close()
                self._is_shared = False
                shutil.rmtree(self.root / JOURNAL, ignore_errors=True)
                (self.root / _DIGESTS).unlink(missing_ok=True)
                self._written, self._digest = self._copy_file(), ""
                self._copied = _stamp(self._copy)
        else:
            self._write_back()
        return super().reload(on_progress, within)

    def remarks(self) -> list[str]:
        """Return what is to be known of the file: that it is no lines of UTF-8, and what to type."""
        fault = self._fault()
        return [*super().remarks(), *([f"{self._path.name}: {fault.message}. {fault.fix}"] if fault else ())]

    def _fault(self) -> JsonFault | None:
        try:
            spans(self._copy, sys.maxsize)
        except JsonFault as fault:
            return fault
        return None

    def _save(self, decisions: Sequence[Decision], act: str = "") -> tuple[list[Event], set[str]]:
        strange = next((decision.op for decision in decisions if decision.op not in _WRITTEN), None)
        if strange is not None:
            message = f"{one_line(self._path.name, 100)} has no place for this ({strange}); nothing was saved"
            raise CurateError("E901 no-workspace", message, WORKSPACE_HINT)
        events, changed = super()._save(decisions, act)
        try:
            self._write()
        except (CurateError, OSError):
            # What is not in the file is not decided.
            super()._save([self._undo_of(event) for event in reversed(events)])
            raise
        return events, changed

    def _write_back(self) -> None:
        """Take over what was mended in the copy itself: a line that was no record before."""
        if _stamp(self._copy) != self._copied:
            self._write()
            self._copied = _stamp(self._copy)

    def refresh(self) -> set[str]:
        """Follow the journal as `Project.refresh` does, and write what was mended in the copy itself."""
        self._write_back()
        return super().refresh()

    def _write(self) -> None:
        """Write the file as decided.

        Raises:
            CurateError: E959 when it is a link, is gone, or somebody has written to it; E906 when the system refuses.
        """
        if self._path.is_symlink():
            message = f"{one_line(str(self._path))} is a link, and what it leads to is not replaced"
            raise CurateError("E959 not-rewritten", message, "Open the file itself.")
        if not self._path.exists():
            hint = "Nothing was written. Put the file back, then save again."
            raise CurateError("E959 not-rewritten", f"{one_line(str(self._path))} is gone", hint)
        if fault := self._fault():
            message = f"nothing was written: in {one_line(str(self._path))} {fault.message}"
            raise CurateError("E959 not-rewritten", message, fault.fix or WORKSPACE_HINT)
        mode = stat.S_IMODE(self._path.stat().st_mode)
        digest = blake2b()
        before = self._digest or _file_digest(self._path)

        def chunks() -> Iterator[bytes]:
            for line in self._lines():
                digest.update(line)
                yield line
            # The last look before the new file takes the name: what somebody has appended must not be lost.
            if _stamp(self._path) != self._written:
                message = f"{one_line(str(self._path))} was changed by another program since it was read"
                hint = "Nothing was written. Press r, in a form after esc, to read it as it is now."
                raise CurateError("E959 not-rewritten", message, hint)
            write_atomic(self.root / _DIGESTS, [json.dumps([before, digest.hexdigest()]).encode()])

        write_atomic(self._path, chunks(), mode=mode)
        self._written, self._digest = _stamp(self._path), digest.hexdigest()

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines of the file as decided; those that nobody has decided on byte for byte."""
        states = self.decided()
        decided = {state.record.source.line: state for state in states if state.record.source.file == self._path.name}
        added = [state for state in states if state.record.source.file != self._path.name and state.exclusion is None]
        is_ascii = bool(decided) and Rewrite(self._copy, lambda *_: None).is_ascii
        last = b"\n"
        with open_file(self._copy) as file:
            for number, raw in enumerate(file, 1):
                state = decided.get(number)
                if state is None:
                    line = raw
                elif state.exclusion is not None:
                    continue
                else:
                    line = _edited(raw, dict(state.record.data), is_first=number == 1, is_ascii=is_ascii)
                yield line
                last = line[-1:]
        if added:
            yield b"" if last == b"\n" else b"\n"
            yield from (new_line(dict(state.record.data)) + b"\n" for state in added)

    def _copy_file(self) -> FileStamp:
        before = _stamp(self._path)
        with open_file(self._path) as source:
            write_atomic(self._copy, iter(lambda: source.read(1 << 20), b""), mode=0o600)
        return before


def open_single_file(path: Path, by: str | None = None) -> SingleFileProject:
    """Open the record file ``path`` alone; its records are not read yet.

    It has the shipped shape that fits its first lines, else the schema that its lines show. ``by`` is as for
    `open_project`.

    Raises:
        CurateError: E904 when the file is missing; E908 when it cannot be told which fields of its lines are question
            and answer; E981 while somebody else has it
            open; E906 when the system refuses.
    """
    name, file = None if by is None else annotator(by), path.resolve()
    with ExitStack() as claim:
        folder = _folder_of(file)
        make_folder(folder)
        claim.enter_context(claimed(folder / _CLAIM, f"editing {file.name}"))
        if not _is_known(folder, file):
            _clear(folder)
            shape = shape_for([path])
            schema = shape.name if shape else _SCHEMA if _has_rows(path) else _FIRST
            if schema == _SCHEMA:
                write_atomic(folder / _SCHEMA, [_schema_of(path)])
            settings = f"schema = {json.dumps(schema)}\ndata = [{json.dumps(file.name.translate(_GLOB))}]\n"
            write_atomic(folder / FILE_NAME, [settings.encode()])
        return SingleFileProject(file, folder, name, claim.pop_all())


def _folder_of(file: Path) -> Path:
    from platformdirs import user_state_path

    digest = blake2b(str(file).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    return user_state_path("pairsmith") / "files" / digest


def _is_known(folder: Path, file: Path) -> bool:
    """Whether ``file`` is as it was written here last, so that what was decided can still be taken back."""
    try:
        return _file_digest(file) in json.loads(read_file(folder / _DIGESTS, most=MOST_SETTINGS))
    except (OSError, ValueError, TypeError):
        return False


def _file_digest(path: Path) -> str:
    with open_file(path) as file:
        return _digest_of(iter(lambda: file.read(1 << 20), b""))


def _digest_of(chunks: Iterable[bytes]) -> str:
    digest = blake2b()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _has_rows(path: Path) -> bool:
    return any(isinstance(item, Entry) for item in islice(read_entries(path), _SAMPLE))


def _schema_of(path: Path) -> bytes:
    # It brings the importers with it.
    from curate.project.init import infer_schema, schema_bytes

    return schema_bytes(infer_schema([path]))


def _clear(folder: Path) -> None:
    """Remove what an earlier look at the file has left in ``folder``, but for the drafts and the claim."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != DRAFTS.parts[0]:
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and path.name != _CLAIM:
            path.unlink(missing_ok=True)


def _edited(raw: bytes, line: dict[str, Json], *, is_first: bool, is_ascii: bool) -> bytes:
    mark = _MARK if is_first and raw.startswith(_MARK) else b""
    body = raw[len(mark) :]
    bare = body.rstrip(b"\r\n")
    with suppress(JsonFault):
        if canonical(strict_loads(bare)) == canonical(line):
            return raw
    return mark + edited_line(bare, line, is_ascii=is_ascii) + body[len(bare) :]


def _stamp(path: Path) -> FileStamp:
    return stamp_of(path, path.name)
