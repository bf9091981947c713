"""A finished table, and what renders a list of them to a terminal and to Markdown; `report.html.j2` does to HTML.

Whatever a report shows is a list of `ReportTable`, so a part of a report is one function that returns some:

    def cost_tables(seconds: float) -> list[ReportTable]:
        return [ReportTable(part="costs", sentences=[f"Took {seconds:,.0f} seconds."])]

A cell is a string, made by `train.report.wording` (`format_number` and others); what a record
says is put into it as it stands, since the renderer makes it visible and escapes it. Tables are plain data: they stand
finished in `report.json`, where `curate` shows them, too. What other programs need as a number is a field of its own
beside them, and a sentence that stands in a table is no such field. `Report.with_tables` puts tables into a report,
instead of those of the same parts, in the order of `PARTS`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, get_args
from unicodedata import combining, east_asian_width

from pydantic import AfterValidator, BaseModel, ConfigDict

from train.base.console import one_line, visible


class ReportPart(BaseModel):
    """Whatever a report is made of."""

    # The docstrings of fields become the descriptions of the schema.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def schema_of(model: type[ReportPart]) -> dict[str, Any]:
    """Return the JSON Schema of what is written or printed whole, as a file of `schemas/` holds it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(mode="validation")}


class Estimate(ReportPart):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Change(ReportPart):
    """A number before and after training."""

    base: float
    tuned: float


Part = Literal[
    "results", "people", "preferences", "learning curve", "stages", "sweep", "slices", "forgetting", "over-fitting",
    "known by heart", "seeds", "judge", "costs", "flips", "words", "behaviour",
    "run",
]  # fmt: skip
"""What a table is about; `curate` chooses by it."""
PARTS: tuple[Part, ...] = get_args(Part)
"""In the order in which a report shows them."""


Texts = Annotated[Sequence[str], AfterValidator(tuple)]


class ReportTable(ReportPart):
    """A title, heads, rows of cells, and sentences below them; any of these may be empty."""

    part: Part
    title: str = ""
    heads: Texts = ()
    rows: Annotated[Sequence[Texts], AfterValidator(tuple)] = ()
    sentences: Texts = ()
    """Paragraphs; a terminal puts no empty line between those of one table."""
    code: Texts = ()
    """Lines to type, below the sentences."""
    left: Texts = ("model", "metric", "95 %", "verdict", "note")
    """Heads of the columns of words, as the first one is; all others are numbers, and aligned right."""
    given_up: Texts = ("metric", "p", "trivial")
    """Heads of the columns that a narrow terminal leaves out, in this order."""
    files_only: Texts = ()
    """Heads of the columns that no terminal shows."""
    has_total: bool = False
    """The last row is the total of the others, below a rule."""
    is_in_terminal: bool = True
    """False where the files of a report alone have this table, folded in HTML."""

    def without(self, heads: Collection[str]) -> ReportTable:
        """Return the table without the columns of ``heads``."""
        kept = [index for index, head in enumerate(self.heads) if head not in heads]
        cut = {"heads": [self.heads[n] for n in kept], "rows": [[row[n] for n in kept] for row in self.rows]}
        return self.model_copy(update=cut)

    @property
    def right(self) -> list[bool]:
        """Which of the columns are aligned right."""
        return [index > 0 and head not in self.left for index, head in enumerate(self.heads)]


def to_text(tables: Sequence[ReportTable], columns: int | None = None) -> str:
    """Return those ``tables`` that a terminal of ``columns`` shows: cells on one line, prose wrapped, without colour.

    Numbers are never cut, whole columns go (`ReportTable.given_up`): a cut number is a wrong number.
    """
    blocks = []
    for table in (table for table in tables if table.is_in_terminal):
        blocks += [[visible(table.title)]] if table.title else []
        blocks += [grid(table, columns)] if table.rows else []
        lines = [line for sentence in table.sentences for line in prose(sentence, columns)]
        lines += [f"    {visible(line)}" for line in table.code]
        blocks += [lines] if lines else []
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


def grid(table: ReportTable, columns: int | None) -> list[str]:
    """Return heads, a rule and rows as lines of at most ``columns``, as far as `ReportTable.given_up` allows."""
    table = table.without(table.files_only)
    for head in [None, *table.given_up]:
        table = table if head is None else table.without([head])
        cells = [list(map(one_line, row)) for row in (table.heads, *table.rows)]
        widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
        if columns is None or sum(widths) + 2 * (len(widths) - 1) <= columns:
            break
    lines = []
    for row in cells:
        blanks = [" " * (width - _width(cell)) for width, cell in zip(widths, row, strict=True)]
        sides = zip(row, blanks, table.right, strict=True)
        lines.append("  ".join(blank + cell if is_right else cell + blank for cell, blank, is_right in sides))
    rule = ["  ".join("-" * width for width in widths)]
    return [lines[0], *rule, *lines[1:-1], *(rule if table.has_total else []), *lines[-1:]]


def prose(text: str, columns: int | None) -> list[str]:
    """Return a sentence as lines of at most ``columns``, made visible."""
    return [visible(text)] if columns is None else textwrap.wrap(visible(text), max(20, columns))


def to_markdown(tables: Sequence[ReportTable]) -> str:
    """Return ``tables`` as Markdown; texts of the data cannot become markup."""
    blocks = []
    for table in tables:
        blocks += [f"## {markdown_text(table.title)}"] if table.title else []
        if table.rows:
            lines = [" | ".join(map(_markdown_cell, row)) for row in (table.heads, *table.rows)]
            lines.insert(1, "|".join("---:" if is_right else "---" for is_right in table.right))
            blocks.append("\n".join(f"| {line} |" for line in lines))
        blocks += list(map(markdown_text, table.sentences))
        blocks += ["\n".join(["```toml", *map(visible, table.code), "```"])] if table.code else []
    return "\n\n".join(blocks) + "\n"


def markdown_text(text: object) -> str:
    """Return ``text`` so that Markdown shows it as it stands, on one line."""
    # What stands at the beginning could open a list or a heading.
    return re.sub(r"^(?=[#+=-])|^(\d+)(?=[.)])", r"\1\\", _markdown_cell(text))


def _markdown_cell(text: object) -> str:
    flat = " ".join(visible(str(text)).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", flat)


def _width(text: str) -> int:
    # In cells of the terminal: letters of East Asia take two, combining marks none.
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
