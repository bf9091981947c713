"""The answers of a preference: the best and the worst beside one another, with the words marked that differ."""

from __future__ import annotations

from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from curate.base.record import RatedAnswer, Record
from curate.project.diff.words import Side, sides_of
from curate.schema.view import said_in, worth_of
from curate.tui.border import glyphs, safe, safe_lines, safe_text

# Cells from which two texts stand beside one another.
_COLUMNS_FROM = 60
_MOST_CHARS = 4_000


def marked(side: Side) -> Text:
    """Return a text with the words in [ ] and underlined that the other has not."""
    text = Text(end="")
    for mark, piece in side:
        if mark == "cut":
            text.append(f"<{piece} not shown>", "muted")
        elif mark == "same":
            text.append(safe(piece))
        else:
            # Of a line break that was added or taken away nothing else would be seen.
            visible = piece if piece.strip() else piece.replace("\n", glyphs().newline + "\n")
            text.append(f"[{safe(visible)}]", "added")
    return text


def answers_text(record: Record, console: Console, width: int) -> Text:
    """Return the answers that ``record`` compares, in ``width`` cells: the best and the worst, then the others.

    Where there are too few cells, the worst stands below the best.
    """
    blocks = [
        (f"{answer.messages[-1].get('role', '')} ({worth_of(record, answer)})", _said(answer))
        for answer in record.answers
    ]
    (title, best), *others = blocks
    if not others:
        return _block(title, safe_lines(best[:_MOST_CHARS]))
    worst_title, worst = others.pop()
    left, right = (marked(side) for side in sides_of(best, worst, _MOST_CHARS))
    text = two_texts((title, left), (worst_title, right), console, width, columns_from=_COLUMNS_FROM)
    return Text("\n").join([text, *(_block(name, safe_lines(said[:_MOST_CHARS])) for name, said in others)])


def two_texts(
    left: tuple[str, Text], right: tuple[str, Text], console: Console, width: int, *, columns_from: int
) -> Text:
    """Return two texts and their titles beside one another, or one above the other below ``columns_from`` cells."""
    sides = _block(*left), _block(*right)
    return _in_columns(*sides, console, width) if width >= columns_from else Text("\n").join(sides)


def _said(answer: RatedAnswer) -> str:
    turns = list(said_in(answer.messages))
    # Of one turn the title says who speaks.
    return turns[0][1] if len(turns) == 1 else "\n".join(f"<|{who}|> {text}" for who, text in turns)


def _block(title: str, text: Text) -> Text:
    return Text.assemble(safe_text(title.upper(), 40, "strong"), "\n", text)


def _in_columns(left: Text, right: Text, console: Console, width: int) -> Text:
    """Return two texts in columns, wrapped."""
    half = (width - 2) // 2
    lines = [list(side.wrap(console, half)) for side in (left, right)]
    rows = []
    for mine, theirs in zip_longest(*lines, fillvalue=Text("")):
        row = mine.copy()
        row.rstrip()
        row.append(" " * (half + 2 - row.cell_len))
        rows.append(row.append_text(theirs))
    return Text("\n").join(rows)
