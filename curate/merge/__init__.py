"""Two people's work in git: their files of records merged by record and field, and nobody's edit lost."""

from curate.merge.git import (
    COMMAND,
    DRIVER,
    ask_git,
    attribute_lines,
    config_lines,
    configure,
    unmerged_findings,
    with_attributes,
)
from curate.merge.nameless import recognise
from curate.merge.records import Conflict, Merged, merge_records
from curate.merge.side import SideError
from curate.merge.text import merge_text

__all__ = [
    "COMMAND",
    "Conflict",
    "DRIVER",
    "Merged",
    "SideError",
    "ask_git",
    "attribute_lines",
    "config_lines",
    "configure",
    "merge_records",
    "merge_text",
    "recognise",
    "unmerged_findings",
    "with_attributes",
]
