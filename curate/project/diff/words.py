"""What changed in a text, word by word: as one text with its changes marked, or as two beside one another."""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import groupby
from operator import itemgetter
from typing import Literal

from curate.base.console import markdown_cell, one_line, visible
from curate.base.record import Json
from curate.base.tables import counted, table
from curate.project.diff.compare import COUNTS, FieldChange, RecordChange, VersionDiff, VersionRecord

# Scripts without blanks (Thai to Khmer, kana, Han) are compared by characters.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A word has the blanks before it: alone, blanks would be most of what two texts have in common.
_WORD = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s])|\s+")
# Where two texts have more pairs of equal words, all of it counts as replaced.
_MOST_PAIRS = 400_000
# Characters shown around a change.
_AROUND = 40

# What happened ("same", "removed", "added", "whole", "cut") and the text; of what is cut, how many characters.
Piece = tuple[str, str]

Mark = Literal["same", "changed", "cut"]
# What of a text the other has too, what it has not, and "1,234 characters" where something is left out.
Side = list[tuple[Mark, str]]


def text_of(value: Json) -> str:
    """Return a value as the text that is compared: strings as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def word_changes(before: str, after: str) -> list[Piece]:
    """Return the pieces of which ``before`` (without the added) and ``after`` (without the removed) consist."""
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    pieces: list[Piece] = [("same", before[:start])]
    a, b = _WORD.findall(old), _WORD.findall(new)
    counts = Counter(b)
    steps = [("replace", 0, len(a), 0, len(b))]
    # The matcher looks at each pair of equal words.
    if sum(counts[word] for word in a) <= _MOST_PAIRS:
        steps = list(SequenceMatcher(None, a, b, autojunk=False).get_opcodes())
    for what, i, j, k, m in steps:
        gone, come = "".join(a[i:j]), "".join(b[k:m])
        blanks = gone[: len(gone) - len(gone.lstrip())]
        size = len(gone) if what == "equal" else len(blanks) if come.startswith(blanks) else 0
        pieces += [("same", gone[:size]), ("removed", gone[size:]), ("added", come[size:])]
    pieces.append(("same", before[len(before) - end :]))
    return _runs(pieces)


def _runs(pieces: Iterable[Piece]) -> list[Piece]:
    """Return ``pieces`` with neighbours of one kind as one, and without those that are empty."""
    runs = groupby((piece for piece in pieces if piece[1]), key=itemgetter(0))
    return [(what, "".join(text for _, text in run)) for what, run in runs]


def pieces_of(change: FieldChange) -> list[Piece]:
    """Return what happened to a field's text, word by word."""
    if change.is_new:
        return [("added", text_of(change.after))]
    if change.is_gone:
        return [("removed", text_of(change.before))]
    if isinstance(change.before, str | list) and type(change.before) is type(change.after):
        return word_changes(text_of(change.before), text_of(change.after))
    return [("removed", text_of(change.before)), ("added", text_of(change.after))]


def preview(item: VersionRecord) -> list[tuple[str, str]]:
    """Return the keys of a record's line that say more than its id and category, each with its text."""
    omitted: tuple[Json, ...] = (None, "", [], {}, item.id, item.category)
    return [(key, text_of(value)) for key, value in item.value.items() if value not in omitted]


def shortened(pieces: list[Piece], limit: int) -> Iterator[Piece]:
    """Yield ``pieces`` with long stretches that are the same cut to the words around, and after ``limit`` nothing.

    Each cut is told by its number of characters.
    """
    left = limit
    for index, (what, text) in enumerate(pieces):
        parts = [(what, text)]
        # With nothing else to look at, the beginning says the most.
        if what == "same" and len(text) > 3 * _AROUND and len(pieces) > 1:
            begin, end = _AROUND * (index > 0), len(text) - _AROUND * (index < len(pieces) - 1)
            parts = [("same", text[:begin]), ("cut", f"{end - begin:,} characters"), ("same", text[end:])]
        for kind, part in parts:
            if left <= 0:
                rest = sum(len(text) for _, text in pieces[index:])
                yield "cut", f"{rest:,} characters"
                return
            head = part[:left] if kind != "cut" else part
            if head:
                yield kind, head
            if len(head) < len(part):
                yield "cut", f"{len(part) - len(head):,} characters"
            left -= len(head)


def _common(before: str, after: str) -> int:
    """Return how many characters the words take with which both texts begin."""
    pairs = zip(_WORD.finditer(before), _WORD.finditer(after), strict=False)
    # Where none differs, one text ends with the last word that both have.
    differing = (a.start() for a, b in pairs if a.group() != b.group())
    return next(differing, min(len(before), len(after)))


def sides_of(before: str, after: str, limit: int) -> tuple[Side, Side]:
    """Return both texts with the words marked that differ, each whole if it has at most ``limit`` characters.

    Of a longer one, long stretches that both share are cut to the words around the changes, and what comes after
    ``limit`` is left out; each cut is told by its number of characters.
    """
    pieces = word_changes(before, after)
    return _side(pieces, "removed", limit, before), _side(pieces, "added", limit, after)


def _side(pieces: list[Piece], own: str, limit: int, text: str) -> Side:
    mine = _runs(piece for piece in pieces if piece[0] in ("same", own))
    parts = mine if len(text) <= limit else shortened(mine, limit)
    return [("changed" if what == own else "cut" if what == "cut" else "same", part) for what, part in parts]


# Of a comment: GitHub takes 65,536 characters.
MOST_BYTES = 60_000
_MOST_CHARS, _MOST_CATEGORIES = 600, 20
_COMMENT_CHARS, _COMMENT_CATEGORIES, _COMMENT_FIELDS = 1_000, 50, 20
_TITLES = {"changed": "Changed", "moved": "Moved between splits", "added": "Added", "removed": "Removed"}
_TAGS = {"removed": "del", "added": "ins"}
_MOST_WAITING = 50
_CLOSE = "\n</details>\n"
_MARKS = {"removed": ("[-", "-]"), "added": ("{+", "+}"), "cut": ("<", " not shown>"), "same": ("", "")}


def render_text(
    difference: VersionDiff, *, width: int = 80, limit: int = 20, show_values: bool = True
) -> Iterator[str]:
    """Yield the lines of a table of counts by category, and of the first ``limit`` changes with their words."""
    if not difference.changes:
        yield f"no difference in {counted(difference.num_before, 'record')}"
        return
    yield from _count_table(difference, width)
    for number, change in enumerate(difference.changes):
        yield ""
        if number == limit:
            yield f"not shown: {counted(len(difference.changes) - limit, 'record')} that differ; see --limit"
            return
        yield _head(change)
        if show_values and (change.before is None or change.after is None):
            yield from _whole(change.item, width)
        for field in change.fields:
            yield from field_lines(field, width, show_values=show_values)


def _count_table(difference: VersionDiff, width: int) -> Iterator[str]:
    longest = max(12, width - 2 - sum(max(len(name), 7) + 2 for name in COUNTS))
    rows = [_row(one_line(name, longest), counts) for name, counts in difference.rows(_MOST_CATEGORIES)]
    yield from table(["category", *COUNTS], rows)


def _row(name: str, counts: dict[str, int]) -> list[str]:
    return [name, *(f"{counts[key]:,}" if counts[key] else "-" for key in COUNTS)]


def _head(change: RecordChange) -> str:
    item = change.item
    parts = [f"{change.what:<8} {one_line(item.id, 40)}"]
    if item.category:
        parts.append(f"({one_line(item.category, 24)})")
    if change.is_moved and change.before and change.after:
        parts.append(f"{change.before.split or 'no split'} -> {change.after.split or 'no split'}")
    return " ".join(parts)


def field_lines(change: FieldChange, width: int, *, show_values: bool) -> Iterator[str]:
    """Yield the pointer of a field and, indented below, what happened to its words."""
    yield f"  {one_line(change.pointer or '/', width - 10)}{_how(change)}"
    if not show_values:
        return
    yield from _wrapped(_marked(shortened(pieces_of(change), _MOST_CHARS)), width)


def _how(change: FieldChange) -> str:
    return " (new)" if change.is_new else " (gone)" if change.is_gone else ""


def _marked(pieces: Iterator[Piece]) -> str:
    return "".join(_MARKS[what][0] + text + _MARKS[what][1] for what, text in pieces)


def _whole(item: VersionRecord, width: int) -> Iterator[str]:
    for key, text in preview(item):
        # Cut first: making all of a long text visible takes many times its size.
        content = f"{key}: {text[:width]}"
        yield f"  {one_line(content, max(20, _cells(width - 2, content)))}"


def _wrapped(text: str, width: int) -> Iterator[str]:
    for line in visible(text).expandtabs(4).split("\n"):
        room = _cells(width - 4, line)
        for part in textwrap.wrap(line, room, replace_whitespace=False, drop_whitespace=True) or [""]:
            yield f"    {part}"


def _cells(width: int, text: str) -> int:
    """Return how many characters of ``text`` fit into ``width`` columns: wide ones take two each."""
    is_wide = any(unicodedata.east_asian_width(character) in "WF" for character in text)
    return width // 2 if is_wide else width


def render_markdown(difference: VersionDiff, before: str, after: str, *, show_values: bool = True) -> Iterator[str]:
    """Yield the parts of a comment of at most `MOST_BYTES`; what did not fit is counted at its end."""
    # Text of the data stands in code spans with every mark escaped, so that it is no markup, link, image or mention.
    head = _summary(difference, before, after) + _not_approved(difference)
    yield head
    # The last sentence and what closes a block have their room kept.
    left = MOST_BYTES - len(head.encode()) - 300
    num_hidden = 0
    for what, title in _TITLES.items():
        changes = [change for change in difference.changes if change.what == what]
        opening = f"\n<details>\n<summary>{title}: {len(changes):,}</summary>\n"
        blocks: list[str] = []
        left -= len((opening + _CLOSE).encode())
        for change in changes:
            block = _block(change, show_values=show_values)
            size = len(block.encode())
            if size > left:
                break
            left -= size
            blocks.append(block)
        num_hidden += len(changes) - len(blocks)
        if blocks:
            yield opening + "".join(blocks) + _CLOSE
    if num_hidden:
        yield f"\n{counted(num_hidden, 'record')} that differ did not fit into this comment: see `curate diff`.\n"


def _summary(difference: VersionDiff, before: str, after: str) -> str:
    totals = difference.totals()
    numbers = ", ".join(f"{totals[name]:,} {name}" for name in COUNTS[2:] if totals[name])
    lines = [
        f"**Records: {numbers or 'no difference'}**",
        "",
        f"{_name(before)} ({difference.num_before:,}) to {_name(after)} ({difference.num_after:,}), "
        f"{difference.num_same:,} the same.",
    ]
    if difference.changes:
        lines += ["", f"| category | {' | '.join(COUNTS)} |", f"|---|{'---:|' * len(COUNTS)}"]
        rows = (_row(_name(name), counts) for name, counts in difference.rows(_COMMENT_CATEGORIES))
        lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _not_approved(difference: VersionDiff) -> str:
    """Return the list of the records that wait for approval, those that differ first; empty where none does."""
    if not difference.waiting:
        return ""
    changed = {change.item.id for change in difference.changes}
    names = sorted(difference.waiting, key=lambda name: name not in changed)
    num_changed = sum(name in changed for name in names)
    lines = [f"- {_name(name)}{', differs' * (name in changed)}" for name in names[:_MOST_WAITING]]
    if (rest := len(names) - len(lines)) > 0:
        lines.append(f"- {rest:,} more; see `curate list --where status:waiting`")
    title = f"Not approved: {len(names):,}, of which {num_changed:,} differ"
    return f"\n<details>\n<summary>{title}</summary>\n\n" + "\n".join(lines) + f"\n{_CLOSE}"


def _block(change: RecordChange, *, show_values: bool) -> str:
    item = change.item
    head = f"\n- {_name(item.id)}" + (f" in {_name(item.category)}" if item.category else "")
    if change.is_moved and change.before and change.after:
        head += f", {_name(change.before.split or 'no split')} → {_name(change.after.split or 'no split')}"
    lines = [head]
    if show_values and (change.before is None or change.after is None):
        for key, text in preview(item):
            rendered = "".join(_piece(what, part) for what, part in shortened([("whole", text)], _COMMENT_CHARS // 4))
            lines.append(f"  - {_name(key)}: {rendered}")
    for field in change.fields:
        rendered = "".join(_piece(what, text) for what, text in shortened(pieces_of(field), _COMMENT_CHARS))
        lines.append(f"  - {_name(field.pointer or '/')}{_how(field)}" + (f": {rendered}" if show_values else ""))
    if (rest := len(lines) - 1 - _COMMENT_FIELDS) > 0:
        lines[_COMMENT_FIELDS + 1 :] = [f"  - {rest:,} more"]
    return "\n".join(lines) + "\n"


def _piece(what: str, text: str) -> str:
    if what == "cut":
        return f" *…{text}…* "
    tag = _TAGS.get(what)
    return f"<{tag}>{_code(text)}</{tag}>" if tag else _code(text)


def _name(text: str) -> str:
    return _code(one_line(text, 80))


def _code(text: str) -> str:
    """Return ``text`` as code that is shown as it is: within code a mention or a link is none."""
    if not text.strip():
        return f"<code>{'␣' * len(text[:9])}</code>"
    # White space at the ends of a piece is what parts it from its neighbours.
    before, after = "&#32;" * text[:1].isspace(), "&#32;" * text[-1:].isspace()
    return f"<code>{before}{markdown_cell(text.replace(chr(10), '⏎'))}{after}</code>"
