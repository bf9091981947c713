"""What a screen may open to edit, by the words that it is asked with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.project.project import Project
from curate.sessions.edits import EditSession, copied_edit, new_edit, open_edit
from curate.sessions.lines import open_line
from curate.sessions.proposals import edit_of


def open_any(project: Project, what: Mapping[str, Any]) -> EditSession | None:
    """Return a ``proposal`` under edit, a ``record``, a ``line`` of a ``file``, a ``copy`` of a record, a new one's
    ``draft``, or a ``new`` one, perhaps with its line; None where ``what`` names nothing.

    Raises:
        CurateError: E916 where it is not there; and as `edit_of`, `open_line` and `EditSession` do.
    """
    if what.get("proposal"):
        return edit_of(project, str(what["proposal"]))
    if what.get("record"):
        return open_edit(project, str(what["record"]))
    if what.get("file"):
        return open_line(project, str(what["file"]), int(what.get("line", 0)))
    if what.get("copy"):
        return copied_edit(project, str(what["copy"]))
    if draft := str(what.get("draft", "")):
        is_record = project.catalog.find(draft) is not None
        return (open_edit if is_record else new_edit)(project, draft)
    if new := what.get("new"):
        return new_edit(project, category=str(what.get("category", "")), line=new)
    return None
