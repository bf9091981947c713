"""A difference as the comment on a pull request: counts first, details folded, and nothing of the data alive."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.console import markdown_cell, one_line
from curate.base.tables import counted
from curate.project.diff.compare import COUNTS, RecordChange, VersionDiff
from curate.project.diff.words import pieces_of, preview, shortened

MOST_BYTES = 60_000
"""GitHub takes comments of 65,536 characters."""
_MOST_CHARS = 1_000
_MOST_CATEGORIES = 50
_MOST_FIELDS = 20
_TITLES = {"changed": "Changed", "moved": "Moved between splits", "added": "Added", "removed": "Removed"}
_TAGS = {"removed": "del", "added": "ins"}
_CLOSE = "\n</details>\n"


def render_markdown(difference: VersionDiff, before: str, after: str, *, show_values: bool = True) -> Iterator[str]:
    """Yield the parts of a comment of at most `MOST_BYTES`; what did not fit is counted at its end.

    Text of the data stands in code spans with every mark escaped, so that it is no markup, link, image or mention.
    """
    head = _summary(difference, before, after)
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
        lines += [_row(_name(name), counts) for name, counts in difference.rows(_MOST_CATEGORIES)]
    return "\n".join(lines) + "\n"


def _row(name: str, counts: dict[str, int]) -> str:
    return f"| {name} | {' | '.join(f'{counts[key]:,}' for key in COUNTS)} |"


def _block(change: RecordChange, *, show_values: bool) -> str:
    item = change.item
    head = f"\n- {_name(item.id)}" + (f" in {_name(item.category)}" if item.category else "")
    if change.is_moved and change.before and change.after:
        head += f", {_name(change.before.split or 'no split')} → {_name(change.after.split or 'no split')}"
    lines = [head]
    if show_values and (change.before is None or change.after is None):
        for key, text in preview(item):
            rendered = "".join(_piece(what, part) for what, part in shortened([("whole", text)], _MOST_CHARS // 4))
            lines.append(f"  - {_name(key)}: {rendered}")
    for field in change.fields:
        how = " (new)" if field.is_new else " (gone)" if field.is_gone else ""
        rendered = "".join(_piece(what, text) for what, text in shortened(pieces_of(field), _MOST_CHARS))
        lines.append(f"  - {_name(field.pointer or '/')}{how}" + (f": {rendered}" if show_values else ""))
    if (rest := len(lines) - 1 - _MOST_FIELDS) > 0:
        lines[_MOST_FIELDS + 1 :] = [f"  - {rest:,} more"]
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
