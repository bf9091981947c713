"""What a model has answered, put where a person may edit and save it; and what is answered wrong, kept in sight."""

from __future__ import annotations

from curate.base.console import one_line
from curate.base.events import Label
from curate.base.record import CurateError, Json, Record, Source
from curate.project.project import Project
from curate.schema.form import Form
from curate.sessions.asking import AskSession, Participant
from curate.sessions.edits import EditSession, answer_pointer, new_edit
from curate.sessions.labelling.done import FLAG


def put_answer(edit: EditSession, text: str) -> None:
    """Put ``text`` in place of the answer in the draft of a record, which undo takes back; nothing is saved.

    Raises:
        CurateError: E905 where the record has no place for it; E972 where its draft is text that is no JSON.
    """
    if edit.text:
        raise CurateError(
            "E972 unfit-line", f"your draft of {one_line(edit.name, 60)} is no JSON yet", "Mend it first."
        )
    line = edit.form.to_line()
    pointer = answer_pointer(line, edit.project.shape) if isinstance(line, dict) else ""
    why = edit.form.enter(pointer, text, ends_word=True) if pointer else "it compares answers, calls tools, or has none"
    if why:
        message = f"{one_line(edit.name, 60)} has no place for one answer in text: {why}"
        raise CurateError("E905 cannot-express", message, "Copy it by hand.")
    edit.keep()


def line_of(session: AskSession, model: Participant | None, turn: int, answer: str) -> dict[str, Json]:
    """Return the line of a new record that ends with what was asked at ``turn`` and ``answer``.

    Raises:
        CurateError: E905 where the schema has no place for such a conversation.
    """
    project = session.project
    messages = session.messages_before(model, turn) if model is not None else session.turns[turn]
    turns = (*messages, {"role": "assistant", "content": answer})
    view, tools = project.shape.view, tuple(session.opening.tools)
    record = Record("", "chat", Source("", 0), {}, messages=turns, tools=tools, has_own_id=False)
    lines = view.drafts(record) if view is not None else iter(())
    line = next((line for line in lines if view is not None and view.is_faithful(line, record)), None)
    if line is None:
        message = f"{one_line(project.shape.name, 40)} has no place for a conversation of {len(turns)} messages"
        raise CurateError("E905 cannot-express", message, "N begins anew: ask all of it in one prompt.")
    blank = Form.blank_line(project.shape)
    return {**blank, **line} if isinstance(blank, dict) else line


def keep_prompt(session: AskSession, model: Participant | None, turn: int) -> None:
    """Write a draft of a new record with what was asked at ``turn`` and no answer; raises E905 and E906."""
    new_edit(session.project, line=line_of(session, model, turn, "")).keep()


def mark_wrong(project: Project, name: str) -> bool:
    """Mark a record for a second look; return False where the annotator has done so already. Raises as `apply` does."""
    if project.state(name).answers.get(FLAG, {}).get(project.by):
        return False
    project.apply([Label(name, FLAG, True)])
    return True
