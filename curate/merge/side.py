"""One of the three versions of a file: its lines by record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from curate.door import DoorFault, strict_loads
from curate.door.reader import MAX_LINE
from curate.merge.nameless import recognise
from curate.record import Json, Source, content_id
from curate.say import one_line
from curate.shape import Shape

_BOM = b"\xef\xbb\xbf"
_OWN, _CONTENT = "=", "#"


class SideError(ValueError):
    """A version that is not lines of records with ids that differ, so that only its text can be merged."""


@dataclass(slots=True)
class Side:
    """Lines without their ends by the name of their record, in order, and how the file is written.

    A record is named by its own id, else by its content; equal content gets a number.
    """

    lines: dict[str, bytes] = field(default_factory=dict)
    blanks: dict[str, list[bytes]] = field(default_factory=dict)
    """Lines of white space, by the record that they follow; "" is the start of the file."""
    with_cr: set[str] = field(default_factory=set)
    has_bom: bool = False
    is_crlf: bool = False
    is_ended: bool = True


def id_of(name: str) -> str:
    """Return the record's id from the name under which a `Side` has it."""
    return name[1:]


def has_own_id(name: str) -> bool:
    """Whether the record that a `Side` has under this name says its id itself."""
    return name.startswith(_OWN)


def with_edits_named(side: Side, base: Side) -> Side:
    """Return ``side`` with the records that are edits of nameless ones of ``base`` under their names there."""
    named = {name for lines in (base.lines, side.lines) for name in lines if has_own_id(name)}
    names = recognise(base.lines, side.lines, named) if len(named) < len(base.lines) else {}
    if not names:
        return side
    return replace(
        side,
        lines={names.get(name, name): raw for name, raw in side.lines.items()},
        blanks={names.get(name, name): blanks for name, blanks in side.blanks.items()},
        with_cr={names.get(name, name) for name in side.with_cr},
    )


def read_side(content: bytes, shape: Shape | None, *, is_lenient: bool = False, known: Side | None = None) -> Side:
    """Read one version of a file; ``known`` is another one whose equal lines need not be parsed again.

    A lenient reading, which is for the base, leaves out what has no certain meaning: lines that are no records, and
    records with the same id. Git makes such a base of two that conflict.

    Raises:
        SideError: a line is not strict JSON or no object, or an id of a record's own comes twice.
    """
    side = Side(has_bom=content.startswith(_BOM))
    pieces = content.removeprefix(_BOM).split(b"\n")
    side.is_ended = not pieces[-1]
    if side.is_ended:
        pieces.pop()
    names = {raw: name for name, raw in known.lines.items() if has_own_id(name)} if known else {}
    repeated: set[str] = set()
    last = ""
    for number, piece in enumerate(pieces, start=1):
        raw = piece.removesuffix(b"\r")
        if not raw.strip():
            side.blanks.setdefault(last, []).append(piece)
            continue
        try:
            name = names.get(raw) or _name_of(raw, shape, side.lines)
        except SideError as error:
            if is_lenient:
                continue
            raise SideError(f"line {number:,}: {error}") from error
        if name in side.lines:
            if not is_lenient:
                raise SideError(f"line {number:,}: the id {one_line(id_of(name), 60)!r} comes twice")
            repeated.add(name)
        side.lines[name] = raw
        if len(raw) < len(piece):
            side.with_cr.add(name)
        last = name
    for name in repeated:
        del side.lines[name]
    side.is_crlf = 2 * len(side.with_cr) > len(side.lines)
    return side


def _name_of(raw: bytes, shape: Shape | None, taken: Mapping[str, object]) -> str:
    if len(raw) > MAX_LINE:
        raise SideError(f"longer than {MAX_LINE // 1024 // 1024} MiB")
    try:
        value = strict_loads(raw)
    except DoorFault as fault:
        raise SideError(f"{fault.code} {fault.name}, {fault.message}") from fault
    if type(value) is not dict:
        raise SideError("not an object")
    own = shape.view.get(value, "id") if shape and shape.view else value.get("id")
    if isinstance(own, str) or type(own) is int:
        return f"{_OWN}{own}"
    name = first = _CONTENT + _content_id(value, shape)
    count = 1
    while name in taken:
        count += 1
        name = f"{first}-{count}"
    return name


def _content_id(value: dict[str, Json], shape: Shape | None) -> str:
    if shape and shape.view and shape.is_valid(value):
        record = shape.record(value, Source("", 0))
        if not record.has_own_id:
            return record.id
    return content_id(value)
