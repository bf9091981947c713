"""Documents as domain text: a .txt file is one record, a Markdown file one for each heading of its highest level."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from curate.base.tables import counted
from curate.formats.importers import Rejected, SourceRow, cannot_import, container, head_of

SUFFIXES = (".md", ".markdown", ".txt")
# Documents that tell of the data beside them.
ABOUT = frozenset({"readme", "license", "licence", "changelog", "notice", "copying"})
# The largest document, in bytes; a line of records may be no longer.
MAX_BYTES = 16 * 1024 * 1024
MAX_FILES = 100_000
_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class _Section(NamedTuple):
    """A part of a document: the line that it begins on, its heading and its text, heading included."""

    line: int
    title: str
    text: str


def files_in(path: Path) -> list[Path]:
    """Return the documents in a folder and the folders within, by name; hidden ones are left out."""
    found = (file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file())
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def _fits(path: Path, _head: bytes) -> bool:
    if not path.is_dir():
        return path.suffix.lower() in SUFFIXES
    return any(file.stem.lower() not in ABOUT for file in files_in(path))


def _notices(path: Path) -> Sequence[str]:
    files = files_in(path) if path.is_dir() else [path]
    marked = [_text_of(file) for file in files if file.suffix.lower() != ".txt"]
    is_cut = any(len(list(_sections(text))) > 1 for text in marked if isinstance(text, str))
    how = "one record a heading of Markdown, one a file of plain text" if is_cut else "one record a file"
    return [how if len(files) == 1 else f"{counted(len(files), 'document')}: {how}"]


@container("documents", fits=_fits, notices=_notices)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Markdown and text files (.md, .txt) and folders of them, as raw text: one record a heading, or a file."""
    files = files_in(path) if path.is_dir() else [path]
    if len(files) > MAX_FILES:
        raise cannot_import(f"{path}: more than {MAX_FILES:,} documents", "Import the folders within one by one.")
    number = 0
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else path.name
        content = _text_of(file)
        if isinstance(content, Rejected):
            number += 1
            yield content
            continue
        for section in _sections(content) if file.suffix.lower() != ".txt" else [_Section(1, "", content)]:
            if not section.text.strip():
                continue
            number += 1
            meta = {"source": name} | ({"title": section.title} if section.title else {})
            line = number if path.is_dir() else section.line
            yield SourceRow({"text": section.text, "meta": meta}, line, section.text.encode())


def _text_of(file: Path) -> str | Rejected:
    """Return what a document says, or why it cannot be read."""
    head_of(file)
    size = file.stat().st_size
    if size > MAX_BYTES:
        return Rejected(0, "S109", f"{file.name}: its {size:,} bytes are more than the {MAX_BYTES:,} of a record", b"")
    raw = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"{file.name}: byte 0x{raw[error.start]:02X} at position {error.start + 1:,} is not UTF-8"
        return Rejected(0, "S103", reason, raw)
    if "\0" in text:
        return Rejected(0, "S104", f"{file.name}: it holds a NUL byte, so that it is no text", raw)
    return text.replace("\r\n", "\n")


def _sections(text: str) -> Iterator[_Section]:
    """Yield the parts of a Markdown document, each from a heading of the highest level to the next; what stands before
    the first is a part of its own, and a document with one such heading is one part."""
    headings = list(_headings(text))
    highest = min((level for level, *_ in headings), default=0)
    cuts = [(line, start, title) for level, line, start, title in headings if level == highest]
    if len(cuts) < 2:
        yield _Section(1, cuts[0][2] if cuts else "", text)
        return
    if text[: cuts[0][1]].strip():
        yield _Section(1, "", text[: cuts[0][1]].rstrip("\n"))
    for (line, start, title), (_, end, _) in zip(cuts, [*cuts[1:], (0, len(text), "")], strict=True):
        yield _Section(line, title, text[start:end].rstrip("\n"))


def _headings(text: str) -> Iterator[tuple[int, int, int, str]]:
    """Yield level, line, offset and words of each heading; in a block of code there is none."""
    fence, offset = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif not fence and (heading := _HEADING.fullmatch(line)):
            yield len(heading[1]), number, offset, heading[2]
        offset += len(line) + 1
