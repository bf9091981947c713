"""Single lines read again from the record files that a catalogue was made of, and the refusal where those changed."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from threading import Lock

from curate.base.console import spelled
from curate.base.record import CurateError, Finding, Record, Source
from curate.jsonl import JsonFault, Reader
from curate.jsonl.reader import open_regular
from curate.project.catalog.base import FileStamp, LineSpan, files_as_they_are
from curate.project.data import ProjectData

_MOST_FILES = 64
"""Record files that are held open."""


class LineReader:
    """Reads lines through the strict parser and the shape, as all lines were read before."""

    def __init__(self, data: ProjectData, files: Sequence[FileStamp]) -> None:
        """Read from ``files``, which are those of ``workspace`` as they were."""
        self._root = data.root
        self._shape = data.shape
        self._known = {known[0]: known for known in files}
        self.paths = {spelled(str(path.relative_to(self._root))): path for path in data.matching_files()}
        """Each record file by the name that records have for it."""
        self._handles: dict[str, int] = {}
        self._lock = Lock()
        weakref.finalize(self, _close, self._handles)

    def record(self, span: LineSpan) -> Record:
        """Return the record in a line.

        Raises:
            CurateError: E974 when the file has changed since.
        """
        with self._lock:
            raw = os.pread(self._handle(span.file), span.length, span.offset)
        value = Reader(self.paths[span.file], name=span.file).value((span.line, span.offset, raw, True))
        if isinstance(value, Finding) or not self._shape.is_valid(value):
            raise files_changed(span.file)
        return self._shape.record(value, Source(span.file, span.line))

    def _handle(self, file: str) -> int:
        path = self.paths.get(file)
        if path is None or files_as_they_are([path], self._root) != [self._known[file]]:
            raise files_changed(file)
        if file not in self._handles:
            if len(self._handles) >= _MOST_FILES:
                os.close(self._handles.pop(next(iter(self._handles))))
            try:
                self._handles[file] = open_regular(path, self._root)
            except JsonFault as fault:
                raise files_changed(file) from fault
        return self._handles[file]


def files_changed(file: str) -> CurateError:
    """Return the error for a file that is not what it was when it was catalogued."""
    return CurateError("E974 files-changed", f"{file} was changed by another program", "Read the records again.")


def _close(handles: dict[str, int]) -> None:
    for handle in handles.values():
        os.close(handle)
