"""A file gone through line by line, some of its lines changed, and put back in one step.

A changed line is shown to people as a hunk of a unified diff, with what cannot be seen made visible.
"""

from __future__ import annotations

import json
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from curate.base.console import one_line, spelled, visible
from curate.base.file_guard import open_file
from curate.base.record import CurateError, Finding
from curate.base.storage import write_atomic
from curate.jsonl.disguise import BOM
from curate.jsonl.faults import JsonFault
from curate.jsonl.reader import Entry, RawLine, Reader
from curate.jsonl.strict import strict_loads
from curate.jsonl.walker import Walker, common_ends

_BLOCK = 1024 * 1024
# Characters of an unchanged stretch that are shown at either side of a change.
_CONTEXT_CHARS = 48
_PICTURES = str.maketrans({" ": "␠", "\t": "␉"})

# A stretch of a line before and after, the same text twice where it does not change.
Part = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ending:
    """What stands around a line in its file: a byte order mark before it, and the bytes that end it."""

    mark: bytes
    newline: bytes


@dataclass(frozen=True, slots=True)
class LineChange:
    """One line that is not to stay as it is, with all its bytes; ``after`` is empty for a line that is to go.

    ``about`` says why, in words of the caller.
    """

    line: int
    before: bytes
    after: bytes
    about: tuple[str, ...] = ()


Replacement = tuple[bytes, tuple[str, ...]]
# Gives a line its new bytes and says why, or None to leave it.
# It gets the entry or the finding of the line, the bytes of the line without mark and newline, and these.
ReplaceLine = Callable[[Entry | Finding, bytes, Ending], Replacement | None]


class Rewrite:
    """Goes through a file; iterating yields the changes in order, and `write` makes them.

    Memory is bounded by the longest line that is allowed. Lines that are too long to be read, and files that are not
    lines of text, stay byte for byte. ``faults`` gets every finding that is not about a single line, and those of lines
    that are too long; ``num_lines`` counts the lines seen.
    """

    def __init__(self, path: Path, replace: ReplaceLine, *, root: Path | None = None, name: str | None = None) -> None:
        self.path = path
        self.root = root
        self.name = name
        self.faults: list[Finding] = []
        self.num_lines = 0
        self._replace = replace

    @cached_property
    def is_ascii(self) -> bool:
        """Whether the file holds no byte beyond ASCII, as files do whose writer escapes all other characters.

        Raises:
            OSError: the file is gone.
        """
        with open_file(self.path, self.root) as file:
            return all(block.isascii() for block in iter(lambda: file.read(_BLOCK), b""))

    def __iter__(self) -> Iterator[LineChange]:
        """Yield what would change."""
        return (piece for piece in self._pieces() if isinstance(piece, LineChange))

    def write(self, target: Path | None = None, on_change: Callable[[LineChange], None] = lambda _: None) -> bool:
        """Make the changes, in the file or in the new file ``target``; return whether anything was written.

        A file in which nothing changes is not touched; ``target`` is always written. ``on_change`` is told each change.
        The permissions of the file are kept.

        Raises:
            CurateError: E904 when the file is missing or may not be read; E959 when it is a link, or somebody wrote to
                it meanwhile; E906 and E919 when writing fails. The file is then as it was.
        """
        if target is None and self.path.is_symlink():
            message = f"{one_line(str(self.path))} is a link, and what it leads to is not replaced"
            raise CurateError("E959 not-rewritten", message, "Name the file itself.")
        before = self.path.stat()
        pieces = self._pieces()
        # The first change is looked for before a new file is begun, because most files need none.
        same: list[tuple[int, int]] = []
        first = None
        for piece in pieces:
            if isinstance(piece, LineChange):
                first = piece
                break
            same.append(piece)
        if first is None and target is None:
            return False

        def chunks() -> Iterator[bytes]:
            with open_file(self.path, self.root) as source:
                for piece in chain(same[:1] and [(same[0][0], same[-1][1])], [] if first is None else [first], pieces):
                    if isinstance(piece, LineChange):
                        on_change(piece)
                        yield piece.after
                    else:
                        yield from _copied(source.fileno(), *piece)
            # The last look before the new file takes the name: what somebody has appended must not be lost.
            now = self.path.stat()
            if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
                message = f"{one_line(str(self.path))} was changed by somebody while it was being rewritten"
                raise CurateError("E959 not-rewritten", message, "Their change is untouched. Run the command again.")

        mode = stat.S_IMODE(before.st_mode)
        write_atomic(target or self.path, chunks(), is_new=target is not None, mode=mode)
        return True

    def _pieces(self) -> Iterator[LineChange | tuple[int, int]]:
        """Yield the file in order: changed lines, and spans of bytes that stay."""
        self.faults, self.num_lines = [], 0
        reader = Reader(self.path, name=self.name, root=self.root)
        offset, num_crlf = 0, 0
        for item in reader.lines():
            if isinstance(item, Finding):
                if item.code != "S118":
                    self.faults.append(item)
                if item.code == "S127":
                    return
                continue
            self.num_lines += 1
            number, start, raw, is_ended = item
            newline = b"\r\n" if reader.num_crlf > num_crlf else b"\n" if is_ended else b""
            num_crlf = reader.num_crlf
            mark = BOM if number == 1 and start == len(BOM) else b""
            begin, end = start - len(mark), start + len(raw) + len(newline)
            change = self._changed(reader, item, Ending(mark, newline))
            if change is not None:
                if begin > offset:
                    yield offset, begin
                yield change
                offset = end
            elif end - offset >= _BLOCK:
                yield offset, end
                offset = end
        if (size := self.path.stat().st_size) > offset:
            yield offset, size

    def _changed(self, reader: Reader, line: RawLine, ending: Ending) -> LineChange | None:
        number, _, raw, _ = line
        replacement = self._replace(reader.entry(line), raw, ending)
        if replacement is None:
            return None
        before = ending.mark + raw + ending.newline
        return LineChange(number, before, replacement[0], replacement[1]) if replacement[0] != before else None


def _copied(handle: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = os.pread(handle, min(_BLOCK, end - start), start)
        if not block:
            return
        yield block
        start += len(block)


def hunk(change: LineChange, new_line: int, hide: Callable[[str], str]) -> list[str]:
    """Return the lines of the hunk; ``new_line`` is the line's number in the new file.

    Long stretches that do not change are cut. ``hide`` gets each string value, and what lies
    between them, and returns what of it may be shown.
    What changes is shown with combining marks and odd blanks by number, and blanks alone as pictures.
    """
    parts = list(_cut(_merged(_parts(change, hide))))
    num_new = "" if change.after else ",0"
    about = f" {', '.join(change.about)}" if change.about else ""
    lines = [f"@@ -{change.line} +{new_line if change.after else new_line - 1}{num_new} @@{about}"]
    lines.append("-" + "".join(visible(old) if old == new else _striking(old) for old, new in parts))
    if change.after:
        lines.append("+" + "".join(visible(new) if old == new else _striking(new) for old, new in parts))
    return lines


def diff_of(changes: Iterable[tuple[Path, LineChange]], hide: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of a unified diff of changes that come file by file; see `hunk` for what is shown of each."""
    last, shift = None, 0
    for path, change in changes:
        if path != last:
            name = one_line(spelled(str(path)))
            yield f"--- {name}"
            yield f"+++ {name}"
            last, shift = path, 0
        yield from hunk(change, change.line + shift, hide)
        shift -= not change.after


def _parts(change: LineChange, hide: Callable[[str], str]) -> Iterator[Part]:
    old = _pieces(change.before.removesuffix(b"\n"), hide)
    new = _pieces(change.after.removesuffix(b"\n"), hide)
    if len(old) != len(new):
        old, new = ["".join(old)], ["".join(new)]
    for before, after in zip(old, new, strict=True):
        yield from _apart(before, after)


def _pieces(raw: bytes, hide: Callable[[str], str]) -> list[str]:
    """Return a line as pieces: its strings in turn with the bytes between them; one piece where it is not JSON."""
    # Keys and numbers can be sensitive too, so every piece goes through ``hide``.
    pieces, offset = [], 0
    for start, end in _spans(raw):
        pieces += [hide(_text(raw[offset:start])), json.dumps(hide(json.loads(raw[start:end])), ensure_ascii=False)]
        offset = end
    return [*pieces, hide(_text(raw[offset:]))]


def _spans(raw: bytes) -> list[tuple[int, int]]:
    """Return where the strings of a line are, none where it is not JSON."""
    body = raw.removeprefix(BOM)
    try:
        strict_loads(body)
    except JsonFault:
        return []
    shift = len(raw) - len(body)
    return [(start + shift, end + shift) for _, start, end in Walker(body).strings()]


def _apart(old: str, new: str) -> Iterator[Part]:
    """Yield what two texts begin with alike, where they differ, and what they end with alike."""
    head, tail = common_ends(old, new)
    yield old[:head], new[:head]
    yield old[head : len(old) - tail], new[head : len(new) - tail]
    yield old[len(old) - tail :], new[len(new) - tail :]


def _merged(parts: Iterator[Part]) -> Iterator[Part]:
    """Join stretches that do not change."""
    same = ""
    for old, new in parts:
        if old == new:
            same += old
        else:
            yield same, same
            yield old, new
            same = ""
    yield same, same


def _cut(parts: Iterator[Part]) -> Iterator[Part]:
    """Shorten the stretches that do not change, at the start and the end of the line from one side only."""
    whole = list(parts)
    for index, (old, new) in enumerate(whole):
        if old == new and len(old) > 3 * _CONTEXT_CHARS:
            head = "" if index == 0 else old[:_CONTEXT_CHARS]
            tail = "" if index == len(whole) - 1 else old[-_CONTEXT_CHARS:]
            yield f"{head}…{tail}", f"{head}…{tail}"
        else:
            yield old, new


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _striking(text: str) -> str:
    if text and not text.strip():
        text = text.translate(_PICTURES)
    return "".join(_numbered(character) for character in text)


def _numbered(character: str) -> str:
    is_odd_blank = character.isspace() and character > "\x7f"
    # Marks hide in the letter before them, and some letters have a twin that looks the same.
    if is_odd_blank or unicodedata.category(character)[0] == "M" or not unicodedata.is_normalized("NFC", character):
        return f"<U+{ord(character):04X}>"
    return visible(character)
