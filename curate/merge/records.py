"""Two versions of a file of records and what they come from, to one file; record by record, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from curate.door import pointer_of
from curate.merge.members import interleaved
from curate.merge.side import Side, has_own_id, id_of, read_side, with_edits_named
from curate.merge.values import Pair, merge_value
from curate.say import one_line
from curate.shape import Shape

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Conflict:
    """A record that both sides changed: the JSON pointers of the fields, [""] where one side deleted the record."""

    record: str
    pointers: list[str]
    deleted_by: Literal["", "ours", "theirs"] = ""

    def __str__(self) -> str:
        fields = ", ".join(one_line(pointer, 60) for pointer in self.pointers[:_SHOWN] if pointer)
        more = f" and {len(self.pointers) - _SHOWN} more" if len(self.pointers) > _SHOWN else ""
        return f"{one_line(self.record, 60)} ({f'deleted by {self.deleted_by}' if self.deleted_by else fields + more})"


@dataclass(slots=True)
class Merged:
    """The merged file, and what is in conflict in it, marked as git marks it.

    ``num_nameless`` counts the records without an id that neither side has any more, where both have new ones: if those
    are edits too large to be recognised, both versions are in, and nobody but a reader can tell.
    """

    chunks: list[bytes] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    num_nameless: int = 0


def merge_records(
    base: bytes, ours: bytes, theirs: bytes, shape: Shape | None = None, *, marker_size: int = 7
) -> Merged:
    """Merge the changes of two sides since ``base``, each a whole file of JSON Lines.

    Records are the same when their ids are; ``shape`` says where the id stands (by default /id). A line that one side
    changed is that side's line, byte for byte; one that both changed holds the changes of both. Order is ours, and
    what they added stands behind what it follows there. In conflict are a field that both gave different values, and a
    record that one side deleted and the other changed: both versions are kept between conflict markers, which no reader
    of JSON takes for data. A record without an id is known by its content, and where it was edited by its place; an
    edit that leaves little of it is a deletion and an addition.

    Raises:
        SideError: ours or theirs holds a line that is not JSON, or an id twice: such files are for `merge_text`.
    """
    old = read_side(base, shape, is_lenient=True)
    own, other = (with_edits_named(read_side(side, shape, known=old), old) for side in (ours, theirs))
    style = _style(old, own, other)
    merged = Merged(num_nameless=_count_replaced(old, own, other))
    lines = _Lines(style, own if style.is_crlf == own.is_crlf else other, merged.chunks)
    for blank in own.blanks.get("", []):
        lines.add(blank)
    for name in interleaved(list(own.lines), list(other.lines), old.lines):
        mine, yours = own.lines.get(name), other.lines.get(name)
        pair = _merge_line(old.lines.get(name), mine, yours)
        if pair.conflicts:
            deleted_by: Literal["", "ours", "theirs"] = "ours" if mine is None else "theirs" if yours is None else ""
            conflict = Conflict(id_of(name), [pointer_of(path) for path in pair.conflicts], deleted_by)
            merged.conflicts.append(conflict)
            for text in _marked(pair, conflict, marker_size):
                lines.add(text)
        elif pair.ours is not None:
            lines.add(pair.ours, name)
        for blank in own.blanks.get(name, []):
            lines.add(blank)
    # A marker is a whole line, or nobody would see it.
    if merged.chunks and not style.is_ended and not merged.chunks[-1].startswith(b">" * marker_size):
        merged.chunks[-1] = merged.chunks[-1].removesuffix(b"\n").removesuffix(b"\r")
    if style.has_bom:
        merged.chunks.insert(0, b"\xef\xbb\xbf")
    return merged


@dataclass(slots=True)
class _Lines:
    """Lines with the ends that they get: a record's is the one it has, any other that of most."""

    style: Side
    ends: Side
    chunks: list[bytes]

    def add(self, raw: bytes, name: str = "") -> None:
        is_crlf = name in self.ends.with_cr if name in self.ends.lines else self.style.is_crlf
        self.chunks.append(raw.removesuffix(b"\r") + (b"\r\n" if is_crlf else b"\n"))


def _count_replaced(base: Side, ours: Side, theirs: Side) -> int:
    for side, other in ((ours, theirs), (theirs, ours)):
        if all(has_own_id(name) or name in base.lines or name in other.lines for name in side.lines):
            return 0
    return sum(not (has_own_id(name) or name in ours.lines or name in theirs.lines) for name in base.lines)


def _style(base: Side, ours: Side, theirs: Side) -> Side:
    """Merge how the file is written: of yes and no, the one that is not the base's was meant."""

    def chosen(old: bool, own: bool, other: bool) -> bool:
        return other if own == old else own

    return Side(
        has_bom=chosen(base.has_bom, ours.has_bom, theirs.has_bom),
        is_crlf=chosen(base.is_crlf, ours.is_crlf, theirs.is_crlf),
        is_ended=chosen(base.is_ended, ours.is_ended, theirs.is_ended),
    )


def _merge_line(base: bytes | None, ours: bytes | None, theirs: bytes | None) -> Pair:
    """Merge one record's line; white space around the object is no part of what is merged."""
    # Bytes come before meaning, so that a line that one side only spells anew is that side's too.
    if theirs in (ours, base):
        return Pair(ours, ours)
    if base == ours:
        return Pair(theirs, theirs)
    bare = [raw.strip() if raw is not None else None for raw in (base, ours, theirs)]
    pair = merge_value(bare[0], bare[1], bare[2])
    for raw in (ours, theirs):
        if not pair.conflicts and raw is not None and pair.ours == raw.strip():
            return Pair(raw, raw)
    return pair


def _marked(pair: Pair, conflict: Conflict, size: int) -> Iterator[bytes]:
    yield b"<" * size + f" ours: {conflict}".encode()
    if pair.ours is not None:
        yield pair.ours
    yield b"=" * size
    if pair.theirs is not None:
        yield pair.theirs
    yield b">" * size + b" theirs"
