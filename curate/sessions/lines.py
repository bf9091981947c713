"""A line of a record file that is no record yet, under edit.

No decision can be about it, for decisions are on records. So it is mended where it stands: its file is replaced in one
step with this one line changed, as `curate validate --fix` does it, and only by a line that is a record then.
"""

from __future__ import annotations

import re
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from curate.base.console import one_line
from curate.base.events import Add
from curate.base.record import CurateError, Finding, Json, Record, Source, canonical, unnumbered
from curate.checks.runner import relative_name
from curate.formats.quarantine import QUARANTINE_FOLDER, QuarantinedRow, quarantined_rows, settle
from curate.jsonl import Entry, JsonFault, Reader, strict_loads
from curate.jsonl.rewrite import Ending, Replacement, Rewrite
from curate.jsonl.walker import edited_line, new_line
from curate.project.ids import names_in_use
from curate.project.project import Project
from curate.sessions.edits import EditSession, fresh_name
from curate.sessions.excerpt import LineIndex

_MARK = b"\xef\xbb\xbf"
_DRAFT_NAME = re.compile(r"(.+):(\d+) [0-9a-f]{16}", re.DOTALL)
_WITHOUT_RECORD = ("S113", "S116", "S120")  # Lines that no record was meant by, or that are too long to be read.


class LineEdit(EditSession):
    """The line ``number`` of a file under edit. Made by `open_line`; saved once, it is no line under edit any more."""

    is_line = True
    draft_folder = "lines"

    def __init__(self, project: Project, path: Path, file: str, number: int, raw: bytes) -> None:
        """Take the bytes of the line, without its end."""
        self._path, self._source, self._raw = path, Source(file, number), raw
        value = _value(raw)
        self._value = value or {}
        # Bytes that are not UTF-8 go to the editor as they are, and come back so.
        self._unread = raw.decode("utf-8", "surrogateescape") if value is None else ""
        self._draft_name = f"{file}:{number} {blake2b(raw, digest_size=8).hexdigest()}"
        super().__init__(project, f"{file}:{number}", self._value, text=self._unread)
        self.notes.append(self._note())

    def _note(self) -> str:
        return f"no record yet: saving writes the line into {self._source.file} itself, which no undo takes back"

    @property
    def draft_name(self) -> str:
        """What the draft is called: it is of these bytes, whatever stands at that place later."""
        return self._draft_name

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to save."""
        return self.text != self._unread or self.form.is_changed

    def discard(self) -> None:
        """Let go of what is typed and of the draft: the line is as the file has it."""
        super().discard()
        self.text = self._unread

    def _add(self) -> str:
        line, shape = self.form.to_line(), self.project.shape
        if not shape.is_valid(line):
            raise self._unfit("the schema does not allow it", "Fix it and save again.")
        record = shape.record(line, self._source)
        # Before the file is written: an id in use cannot be taken back by an undo.
        self._require_free(record)
        self._write(line)
        self._drafts.remove(self.draft_name)
        self._value, self._unread, self.name, before = line, "", record.id, self.name
        self._reopen(line)
        return f"{one_line(before, 200)} is the record {one_line(record.id, 60)} now"

    def _require_free(self, record: Record) -> None:
        # Decisions on a record of the same name would be taken for decisions on this one.
        if self.project.catalog.find(record.id) is None:
            return
        if record.has_own_id:
            raise self._unfit(f"there already is a record {one_line(record.id, 60)!r}", "Give it another id.")
        if record.id in map(unnumbered, names_in_use(self.project.root)):
            why = f"it repeats the record {one_line(record.id, 60)}, on which decisions or a dataset hang"
            raise self._unfit(why, "Give it an id, or take the line out of the file.")

    def _write(self, line: dict[str, Json]) -> None:
        is_there = False

        def mend(item: Entry | Finding, raw: bytes, ending: Ending) -> Replacement | None:
            nonlocal is_there
            if (item.line if isinstance(item, Finding) else item.line.source.line) != self._source.line:
                return None
            is_there = raw.rstrip(b"\r") == self._raw
            spelled_line = self._spelled(raw, line, is_ascii=rewrite.is_ascii)
            return (ending.mark + spelled_line + ending.newline, ()) if is_there else None

        rewrite = Rewrite(self._path, mend, root=self.project.root)
        rewrite.write()
        if not is_there:
            message = f"{one_line(self.name, 200)} is not the line any more that was opened"
            raise CurateError("E959 not-rewritten", message, "Nothing was saved; your draft is kept. Open it again.")

    def _spelled(self, raw: bytes, line: dict[str, Json], *, is_ascii: bool) -> bytes:
        try:
            spelled_line = new_line(line) if _value(raw) is None else edited_line(raw, line, is_ascii=is_ascii)
            if canonical(strict_loads(spelled_line)) == canonical(line):
                return spelled_line
            raise ValueError("it cannot be written as JSON")
        except ValueError as error:
            raise self._unfit(str(error), "Fix it and save again.") from error

    def _unfit(self, why: str, what: str) -> CurateError:
        return CurateError("E972 unfit-line", f"{one_line(self.name, 200)}: {why}", f"Nothing was saved. {what}")


def draft_location(name: str) -> tuple[str, int] | None:
    """Return the file and the line that a draft of a line is of, by the draft's name; None where it is no such name."""
    match = _DRAFT_NAME.fullmatch(name)
    return (match[1], int(match[2])) if match else None


class RowEdit(LineEdit):
    """A row that an import has set aside, under edit; saved, it is a new record, and settled where it lay."""

    is_line = False

    def __init__(self, project: Project, row: QuarantinedRow) -> None:
        self._row = row
        super().__init__(project, project.root / row.name, row.name, row.number, row.raw)
        if row.record and not self.is_changed:
            self._take_undone(row.record)

    @property
    def opens(self) -> dict[str, Any]:
        """What a screen is called with to open the row again."""
        return {"file": self._row.name, "line": self._row.number}

    def _take_undone(self, name: str) -> None:
        """Go on with what the row was saved as before an undo, where that can be found."""
        for event in reversed(self.project.history(name)):
            if isinstance(event.decision, Add):
                self.text = ""
                self.form.resume(dict(event.decision.record), {})
                self.notes.append("it was taken in and that was undone; what was typed is here again")
                with suppress(CurateError):
                    # A full disk says so at the next key.
                    self.keep()
                return

    def _note(self) -> str:
        return f"set aside from {self._row.file}:{self._row.line}: {self._row.reason}; saving takes it in as a record"

    @property
    def draft_name(self) -> str:
        """What the draft is called: it is of the row, and once that is taken in of the record."""
        return super().draft_name if self.is_new else self.name

    def _add(self) -> str:
        # A record needs a name of its own where the row gives it none.
        row_name, self.name = self.name, fresh_name()
        try:
            result = EditSession._add(self)
        except CurateError:
            self.name = row_name
            raise
        self._unread = ""
        # By its old name, which `_add` of a record does not know any more.
        self._drafts.remove(super().draft_name)
        settle(self.project.root, [self._row], by=self.project.by, record=self.name)
        return f"{result}, from {one_line(row_name, 200)}"


def open_row(project: Project, row: QuarantinedRow) -> RowEdit:
    """Return a row that was set aside under edit, with its draft if there is one.

    Raises:
        CurateError: E972 for one that is settled, or of which only the start was retained.
    """
    where = one_line(f"{row.name}:{row.number}", 200)
    if row.record is not None and is_settled(project, row):
        raise CurateError("E972 unfit-line", f"{where} is settled: it was dropped, or is the record {row.record!r}")
    if row.is_cut:
        hint = f"Mend line {row.line} of {one_line(row.file, 200)} and import it again."
        raise CurateError("E972 unfit-line", f"{where} has the start of the row only, which is too long", hint)
    return RowEdit(project, row)


def is_settled(project: Project, row: QuarantinedRow) -> bool:
    """Whether a row was dropped, or is a record; one whose record was taken back by an undo is set aside again."""
    return row.record == "" or (row.record is not None and project.catalog.find(row.record) is not None)


def open_line(project: Project, file: str, number: int) -> LineEdit:
    """Return the line ``number``, from 1, of a record file under edit, with its draft if there is one.

    ``file`` is as findings call it, relative to the workspace; also a quarantine file of an import.

    Raises:
        CurateError: E904 when there is no such line in a record file of the workspace; E972 when it is a record, or
            nothing that could become one: the hint says how to mend it in the file.
    """
    root = project.root
    if file.startswith(f"{QUARANTINE_FOLDER}/"):
        for row in quarantined_rows(root):
            if (row.name, row.number) == (file, number):
                return open_row(project, row)
    path = {relative_name(path, root): path for path in project.data.files()}.get(file)
    raw = LineIndex(path).read(number, number).get(number) if path and number > 0 else None
    where = one_line(f"{file}:{number}", 200)
    if path is None or raw is None:
        raise CurateError("E904 no-such-file", f"{where} is no line of a record file that can be read here")
    if number == 1:
        raw = raw.removeprefix(_MARK)
    reader = Reader(path, name=file, root=root)
    first, item = next(reader.lines(), None), reader.entry((number, 0, raw, True))
    if isinstance(first, Finding) and first.code not in ("S116", "S118"):
        # It is no file of lines at all.
        item = first
    by_hand = f"Fix the file ($EDITOR +{number} {one_line(file, 200)}), then read it again."
    if isinstance(item, Finding) and (item is first or item.code in _WITHOUT_RECORD):
        raise CurateError("E972 unfit-line", f"{where}: {item.message}", f"{by_hand} {item.fix}".strip())
    if isinstance(item, Entry) and project.shape.is_valid(item.value):
        hint = f"`curate validate --fix` fixes the bytes around it. {by_hand}"
        raise CurateError("E972 unfit-line", f"{where} is a record; nothing is wrong with its line", hint)
    return LineEdit(project, path, file, number, raw)


def _value(raw: bytes) -> dict[str, Json] | None:
    """Return the object that a line holds, None where it is no JSON object."""
    try:
        value = strict_loads(raw)
    except JsonFault:
        return None
    return value if isinstance(value, dict) else None
