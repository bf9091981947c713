r"""A record as Markdown for a person's own editor, and back: what is said as it is read, all else as JSON.

Between lines of three dashes stand the other fields, a line each: their name and their JSON, which may go on on
indented lines. Then comes the conversation, a heading ``## user`` for each turn, and every text field under its own
``# name``. What a turn has beside its text, such as calls, is a fenced block of JSON at its end. A line of a text that
would be read as one of these gets a backslash in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from curate.base.record import TRACES, Json, canonical
from curate.jsonl import pointer_of
from curate.schema import Shape
from curate.schema.form.text import Misspelt, is_plain, json_text, read_written, require_text

_RULE, _BLOCK, _END = "---", "```json turn", "```"
_FIELD = re.compile(r'((?:[A-Za-z_][\w.-]*)|"(?:[^"\\]|\\.)*"):(?: (.*))?$')
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_OURS = re.compile(r"\\*(?:#{1,2} |```json turn$)")
_ESCAPED = re.compile(r"\\+(?:#{1,2} |```json turn$)")
_WIDE = 100


class MarkdownRecord:
    """The record that a text was, and the line of the text, from 1, on which each part of it begins."""

    def __init__(self) -> None:
        self.line: dict[str, Json] = {}
        self.line_numbers: dict[str, int] = {}

    def line_number(self, pointer: str) -> int:
        """Return the line on which what is at ``pointer`` begins, or what is around it."""
        while pointer and pointer not in self.line_numbers:
            pointer = pointer.rpartition("/")[0]
        return self.line_numbers.get(pointer, 1)


def is_markdown(text: str) -> bool:
    """Whether a text is a record in this form: no JSON begins so."""
    return "\n" in text and text.lstrip("\ufeff\n").startswith((f"{_RULE}\n", "## "))


def markdown_of(line: Json, shape: Shape) -> str | None:
    """Return a record as Markdown; None where it holds no text, or would not come back as it is."""
    if shape.view is None or not isinstance(line, dict):
        return None
    view = shape.view
    paths = [*view.prompt, *(view.paths[name] for name in ("system", "completion", "text") if name in view.paths)]
    own = {path[0] for path in paths if len(path) == 1}
    lists = {view.paths[name][0] for name in ("messages", "chosen", "rejected") if len(view.paths.get(name, ())) == 1}
    turns = view.paths["messages"][0] if len(view.paths.get("messages", ())) == 1 else ""
    # What is read stands in the order of the schema, with the conversation before the answers to it.
    names = [turns, *(name for name in line if name in own | lists and name != turns)]
    parts = ((name, _section(name, line.get(name), is_first=name == turns)) for name in names)
    sections = {name: section for name, section in parts if section is not None}
    # Where the answer is empty, there is a place to write it.
    sections |= {name: f"# {name}\n" for name in sorted(_needed(shape)) if line.get(name) == ""}
    if not sections:
        return None
    rest = [_field(name, part) for name, part in line.items() if name not in sections]
    text = "\n".join([_RULE, *rest, _RULE, "", *sections.values()])
    try:
        is_whole = canonical(read_markdown(text, shape).line) == canonical(line)
    except Misspelt:
        return None
    return text if is_whole else None


def _needed(shape: Shape) -> set[str]:
    """Return the names of prompt and answer: an empty text is one there, and of other fields no text."""
    view = shape.view
    paths = [*view.prompt[:1], *([view.paths["completion"]] if "completion" in view.paths else [])] if view else []
    return {path[0] for path in paths if len(path) == 1 and _NAME.fullmatch(path[0])}


def read_markdown(text: str, shape: Shape) -> MarkdownRecord:
    """Return the record that a text is.

    Raises:
        Misspelt: a part of it cannot be read, with line and column.
    """
    require_text(text)
    view = shape.view
    turns = view.paths["messages"][0] if view is not None and len(view.paths.get("messages", ())) == 1 else "messages"
    record, lines = MarkdownRecord(), text.lstrip("\ufeff").removesuffix("\n").split("\n")
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if lines[start : start + 1] == [_RULE]:
        start = _read_fields(record, lines, start + 1)
    name, traces = turns, {}
    fields, needed = set(record.line), _needed(shape)
    for first, last in _spans(lines, start):
        head = lines[first]
        if head.startswith("# "):
            name = head[2:].strip()
            if name in record.line:
                raise Misspelt(f"the field {name} stands here twice", first + 1, 1)
            said = _text(lines[first + 1 : last])
            if said or name in needed:
                record.line[name] = said
            record.line_numbers[pointer_of([name])] = first + 1
            continue
        role = head[3:].strip()
        if role in TRACES:
            traces[role] = _text(lines[first + 1 : last])
            continue
        known = record.line.setdefault(name, [])
        if name in fields or not isinstance(known, list):
            raise Misspelt(f"{name} stands above, and can have no turns here", first + 1, 1)
        record.line_numbers.setdefault(pointer_of([name]), first + 1)
        record.line_numbers[pointer_of([name, str(len(known))])] = first + 1
        known.append({"role": role, **traces, **_turn(lines, first + 1, last)})
        traces = {}
    if traces:
        raise Misspelt("reasoning stands before its answer; there is none after it", len(lines), 1)
    return record


def _spans(lines: list[str], start: int) -> Iterator[tuple[int, int]]:
    """Yield where each part begins and ends, by its heading."""
    heads = [number for number in range(start, len(lines)) if lines[number].startswith(("# ", "## "))]
    for number in range(start, heads[0] if heads else len(lines)):
        if lines[number].strip():
            raise Misspelt("a heading is missing: '# field', or '## role' of a turn", number + 1, 1)
    yield from pairwise([*heads, len(lines)])


def _read_fields(record: MarkdownRecord, lines: list[str], start: int) -> int:
    """Read the fields from line ``start`` on, from 0, and return the line after them."""
    end = next((number for number in range(start, len(lines)) if lines[number] == _RULE), None)
    if end is None:
        raise Misspelt("the fields at the top need a line of --- after them", start, 1)
    heads = [number for number in range(start, end) if _FIELD.match(lines[number])]
    for number in range(start, heads[0] if heads else end):
        if lines[number].strip():
            raise Misspelt("a field begins with its name and a colon", number + 1, 1)
    for first, last in pairwise([*heads, end]):
        match = _FIELD.match(lines[first])
        assert match is not None
        name = read_written(match[1]) if match[1].startswith('"') else match[1]
        if name in record.line:
            raise Misspelt(f"the field {name} stands here twice", first + 1, 1)
        blank = " " * (match.start(2) if match[2] else 0)
        record.line[name] = _json("\n".join([blank + (match[2] or ""), *lines[first + 1 : last]]), first)
        record.line_numbers[pointer_of([name])] = first + 1
    return end + 1


def _turn(lines: list[str], first: int, last: int) -> dict[str, Json]:
    """Return what a turn has beside its role, from its lines."""
    block = next((number for number in range(first, last) if lines[number] == _BLOCK), last)
    said = _text(lines[first:block])
    more: Json = {}
    if block < last:
        end = next((number for number in range(block + 1, last) if lines[number] == _END), None)
        if end is None:
            raise Misspelt(f"the block of JSON needs a line of {_END} after it", block + 1, 1)
        if after := next((number for number in range(end + 1, last) if lines[number].strip()), 0):
            raise Misspelt("text stands before the block of JSON, not after it", after + 1, 1)
        more = _json("\n".join(lines[block + 1 : end]), block + 1)
        if not isinstance(more, dict):
            raise Misspelt("the block of a turn is an object in braces", block + 2, 1)
    if said and "content" in more:
        raise Misspelt("the turn has a text and a content in its block", block + 1, 1)
    return {**({"content": said} if said else {}), **more}


def _section(name: str, value: Json, *, is_first: bool) -> str | None:
    """Return the part of a text or of turns; None where it is neither, or cannot be read back."""
    if not name or not _NAME.fullmatch(name):
        return None
    if isinstance(value, str) and _is_readable(value):
        return f"# {name}\n\n{_escaped(value)}\n"
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return None
    head = "" if is_first else f"# {name}\n\n"
    parts = [_turn_text(turn) for turn in value]
    return None if None in parts else head + "\n".join(filter(None, parts))


def _turn_text(turn: Mapping[str, Json]) -> str | None:
    role = turn.get("role")
    if not isinstance(role, str) or not _NAME.fullmatch(role) or role in TRACES:
        return None
    traces = {name: turn[name] for name in TRACES if _is_readable(turn.get(name))}
    said = turn.get("content") if _is_readable(turn.get("content")) else None
    shown = {"role", *traces, *(("content",) if said is not None else ())}
    rest = {key: part for key, part in turn.items() if key not in shown}
    texts = [f"## {name}\n\n{_escaped(trace)}\n" for name, trace in traces.items()]
    texts.append(f"## {role}\n" + (f"\n{_escaped(said)}\n" if said is not None else ""))
    if rest:
        texts[-1] += f"\n{_BLOCK}\n{json_text(rest)}\n{_END}\n"
    return "\n".join(texts)


def _is_readable(value: Json) -> bool:
    """Whether a value is a text that an editor shows and keeps as it is: blank lines around it would get lost."""
    return (
        isinstance(value, str) and value != "" and value == value.strip("\n")
        and is_plain(value.replace("\n", "").replace("\t", ""))
    )  # fmt: skip


def _field(name: str, value: Json) -> str:
    spelled = name if _NAME.fullmatch(name) else json_text(name, indent=None)
    short = json_text(value, indent=None)
    return f"{spelled}: {short if len(short) <= _WIDE else json_text(value)}"


def _escaped(text: str) -> str:
    return "\n".join(f"\\{line}" if _OURS.match(line) else line for line in text.split("\n"))


def _text(lines: list[str]) -> str:
    text = "\n".join(line[1:] if _ESCAPED.match(line) else line for line in lines)
    return text.strip("\n")


def _json(text: str, first: int) -> Json:
    """Return the value of JSON that begins on line ``first``, from 0."""
    try:
        return read_written(text)
    except Misspelt as fault:
        raise Misspelt(fault.message, fault.line + first, fault.column) from fault
