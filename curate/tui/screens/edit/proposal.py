"""A model's answer to what is in the form: shown beside it, and put into it by a second press of the key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text

from curate.base.record import CurateError, Record
from curate.base.tables import listed
from curate.project.privacy import PrivacyCheck
from curate.sessions.contestants import contestant_of, default_model, is_endpoint, private_question
from curate.sessions.edits import EditSession
from curate.sessions.proposals import open_proposals, proposed_record
from curate.sessions.proposing import ModelTask, propose
from curate.tui.border import safe_line, safe_text
from curate.tui.record_text import changed_words
from curate.tui.screen import ProjectScreen
from curate.tui.screens.edit.side import EditSide

if TYPE_CHECKING:
    from curate.project.proposals import Proposal


_KEY = "ctrl+g"


class Answerer:
    """Has the default model answer what is in the form, one answer at a time."""

    def __init__(self) -> None:
        self._open_proposal: tuple[EditSession, Proposal] | None = None
        self._num_requests = 0

    def press(
        self, screen: ProjectScreen, edit: EditSession | None, side: EditSide, refresh: Callable[[], None]
    ) -> None:
        """Ask for an answer, or put the last one into the form; ``refresh`` shows the form anew.

        Raises:
            CurateError: E972 where there is nothing to ask about.
        """
        if edit is not None and self._open_proposal is not None and self._open_proposal[0] is edit:
            proposal = self._open_proposal[1]
            edit.form.resume(proposal.on(edit.form.to_line()), {})
            edit.proposal = proposal.event
            self._open_proposal = side.proposed = None
            refresh()
            screen.tell("The proposal is in the form; saving takes it.")
            return
        model = default_model(screen.project.data)
        record = record_to_answer(edit)
        assert edit is not None, "it has a record"
        self._num_requests += 1

        def show(answer: tuple[Proposal | None, str]) -> None:
            proposal, reason = answer
            if proposal is None:
                hint = "Ask once more: another seed draws another answer."
                screen.tell(f"Nothing is proposed: {reason}.", "warn", hint)
            elif side.shows(edit):
                self._open_proposal, side.proposed = (edit, proposal), proposal_text(edit, proposal)
                side.show(edit)
                screen.is_side_open = screen.is_narrow
                screen.tell(f"{model} proposes an answer; {_KEY} puts it into the form, g q has all proposals")

        def send() -> None:
            # Nothing but this record is sent.
            task = partial(ask, edit, ModelTask(model, seed=self._num_requests, sends_flagged=True), record)
            screen.app.background(task, show, group="edit.propose", message=f"asking {safe_line(model)}")

        data = edit.project.data
        if is_endpoint(contestant_of(data, model)) and PrivacyCheck(data).is_private(record):
            screen.app.ask(private_question(record.id, [model]), send)
        else:
            send()


def record_to_answer(edit: EditSession | None) -> Record:
    """Return the record that the form holds, for a model to answer.

    Raises:
        CurateError: E972 where there is none to ask about, or it is not valid.
    """
    if edit is None or edit.is_new or edit.is_line or edit.text:
        raise CurateError("E972 unfit-line", "no saved record is open", "A model proposes answers to records.")
    if edit.form.problems():
        raise CurateError("E972 unfit-line", "the record is not valid yet", "p goes to what is wrong.")
    source = edit.project.state(edit.name).record.source
    return replace(edit.project.shape.record(edit.form.to_line(), source), id=edit.name)


def ask(edit: EditSession, task: ModelTask, record: Record) -> tuple[Proposal | None, str]:
    """Have ``record`` answered, and return the proposal; None with the reason where none passed the checks."""
    result = propose(edit.project, [record], task)
    proposal = next((one for one in open_proposals(edit.project) if one.event in result.events), None)
    return proposal, listed([*result.failed, *result.skipped]) or "the model gave no answer"


def proposal_text(edit: EditSession, proposal: Proposal) -> Text:
    """Return a proposal as it stands beside the form, by the words in which it differs."""
    line = edit.form.to_line()
    present = edit.project.shape.record(line, edit.project.state(edit.name).record.source)
    proposed = proposed_record(edit.project, proposal, present)
    head = Text.assemble(("PROPOSED", "strong"), " by ", safe_text(proposal.model.removeprefix("model:"), 40), "\n")
    body = changed_words(present.completion, proposed.completion) if proposed else Text("it does not fit any more")
    return Text.assemble(head, body, "\n", (f"{_KEY} puts it into the form; nothing is saved by that\n", "muted"))
