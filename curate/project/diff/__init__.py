"""What differs between two versions of a data set, by record id and field; told in text, Markdown or JSON."""

from curate.project.diff.compare import FieldChange, RecordChange, VersionDiff, VersionRecord, compare, field_changes
from curate.project.diff.document import document
from curate.project.diff.markdown import MOST_BYTES, render_markdown
from curate.project.diff.nameless import recognise
from curate.project.diff.text import field_lines, render_text
from curate.project.diff.words import word_changes

__all__ = [
    "RecordChange",
    "VersionDiff",
    "FieldChange",
    "VersionRecord",
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
