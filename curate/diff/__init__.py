"""What differs between two versions of a data set, by record id and field; told in text, Markdown or JSON."""

from curate.diff.compare import Change, Difference, FieldChange, Item, compare, field_changes
from curate.diff.document import document
from curate.diff.markdown import MOST_BYTES, render_markdown
from curate.diff.nameless import recognise
from curate.diff.text import field_lines, render_text
from curate.diff.words import word_changes

__all__ = [
    "Change",
    "Difference",
    "FieldChange",
    "Item",
    "MOST_BYTES",
    "compare",
    "document",
    "field_changes",
    "field_lines",
    "recognise",
    "render_markdown",
    "render_text",
    "word_changes",
]
