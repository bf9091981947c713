"""What differs between two versions of a data set, by record id and field; told in text, Markdown or JSON."""

from curate.project.diff.compare import (
    FieldChange,
    VersionDiff,
    VersionRecord,
    compare,
    document,
    field_changes,
)
from curate.project.diff.words import MOST_BYTES, field_lines, render_markdown, render_text, word_changes
