"""Proposals as people meet them: which are open, what taking and rejecting does, and how many were worth taking."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from curate.base.console import one_line
from curate.base.events import Add, Decision, Edit, Reject
from curate.base.intervals import wilson
from curate.base.record import UNCATEGORISED, CurateError, Json, Record, Source
from curate.base.tables import counted
from curate.project.diff.words import word_changes
from curate.project.project import Project
from curate.project.proposals import Proposal, proposals_in
from curate.schema.view import spoken_turns
from curate.sessions.edits import EditSession, new_edit, open_edit

_UNFIT = "it does not fit the record as it is now"
FEWEST = 10
"""Proposals that people have decided on, below which a share says little."""


def all_proposals(project: Project) -> Iterator[Proposal]:
    """Yield every proposal that stands, with what became of it; what was taken in Ask is none."""
    decisions = project.data.decisions
    for name in decisions.with_proposals():
        yield from (one for one in proposals_in(name, decisions.facts(name)) if not one.answer)


def open_proposals(project: Project) -> list[Proposal]:
    """Return the proposals that nobody has taken or rejected, and that can be: of a record that is in, or a new one."""
    return [one for one in all_proposals(project) if one.outcome == "open" and _is_possible(project, one)]


def _is_possible(project: Project, proposal: Proposal) -> bool:
    record = present(project, proposal.record)
    return (record is None) == (proposal.line is not None) and (record is None or _is_in(project, proposal.record))


def _is_in(project: Project, name: str) -> bool:
    return project.state(name).dropped is None


def present(project: Project, name: str) -> Record | None:
    """Return the record called ``name`` as it is, None where there is none."""
    try:
        return project.state(name).record
    except CurateError as error:
        if error.number != "E916":
            raise
        return None


def take(project: Project, proposals: Sequence[Proposal]) -> str:
    """Make each of ``proposals`` what its record says, as one act, and return what was done, in words.

    Where several are for one record, the last one holds.

    Raises:
        CurateError: E972 when a line does not fit any more, E906 when nothing could be saved; nothing is taken then.
    """
    project.apply([taking(one) for one in proposals])
    return f"took {counted(len(proposals), 'proposal')}"


def taking(proposal: Proposal) -> Decision:
    """Return the decision that takes a proposal as it is."""
    if proposal.line is not None:
        return Add(proposal.record, proposal.line, proposal.event)
    return Edit(proposal.record, proposal.changes or {}, proposal.event)


def reject(project: Project, proposals: Sequence[Proposal], reason: str = "") -> str:
    """Say that ``proposals`` are not wanted, as one act, and return what was done, in words."""
    project.apply([Reject(one.record, one.event, reason) for one in proposals])
    return f"rejected {counted(len(proposals), 'proposal')}"


def edit_of(project: Project, event: str) -> EditSession:
    """Return the record of the proposal ``event`` under edit, as that has it: saving takes it, edited or not.

    Raises:
        CurateError: E916 where the proposal is not open; E985 where the record has another unsaved draft.
    """
    proposal = next((one for one in open_proposals(project) if one.event == event), None)
    if proposal is None:
        raise CurateError(
            "E916 unknown-record", "the proposal was taken, rejected or undone", "Look at the queue again."
        )
    name = proposal.record
    edit = new_edit(project, name) if proposal.line is not None else open_edit(project, name)
    if edit.is_changed and edit.proposal != event:
        message = f"{one_line(name, 60)} has an unsaved draft"
        raise CurateError("E985 bad-draft", message, "Save or discard it in Edit first.")
    if edit.proposal != event:
        record = present(project, name)
        edit.form.resume(proposal.on(record.data if record else None), {})
        edit.proposal = event
    return edit


def proposal_cells(project: Project, proposal: Proposal, number: int) -> tuple[str, str, str, str]:
    """Return what a list shows of a proposal: record, category, model and text; ``number`` are for its record."""
    record = present(project, proposal.record)
    proposed = proposed_record(project, proposal, record)
    text = (proposed.completion if record else f"{proposed.prompt} -> {proposed.completion}") if proposed else _UNFIT
    label = ("new" if record is None else proposal.record) + (f" ({number})" if number > 1 else "")
    return label, category_of(project, proposal), proposal.model.removeprefix("model:"), text


def proposal_texts(project: Project, proposals: Sequence[Proposal]) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield the texts of ``proposals`` for one record: head, text, a note, and what the record says in its place."""
    record = present(project, proposals[0].record)
    if record is not None:
        for who, text in list(spoken_turns(record))[:-1]:
            yield who, text, "", None
    for number, proposal in enumerate(proposals):
        head, model = "also proposed" if number else "proposed", proposal.model.removeprefix("model:")
        proposed = proposed_record(project, proposal, record)
        if proposed is None:
            yield head, _UNFIT, model, None
        elif record is not None:
            yield head, proposed.completion, model, record.completion or None
        else:
            for who, text in spoken_turns(proposed):
                yield f"{head}: {who}", text, model, None


def proposed_record(project: Project, proposal: Proposal, record: Record | None) -> Record | None:
    """Return what ``record`` would be; None where the proposal does not fit what it is now."""
    line = proposal.on(record.data if record else None)
    return project.shape.record(line, Source("", 0)) if project.shape.is_valid(line) else None


@dataclass(slots=True)
class ProposalCounts:
    """What became of the proposals of one model for one category."""

    category: str
    model: str
    open: int = 0
    taken: int = 0
    edited: int = 0
    """Of those taken, which the record does not say word for word now."""
    rejected: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    distances: list[int] = field(default_factory=list)
    """Of those edited, the words in which the record differs."""

    @property
    def proposed(self) -> int:
        """All of them, failed ones too."""
        return self.open + self.taken + self.rejected + self.failed.total()

    @property
    def decided(self) -> int:
        """Those that a person took or rejected."""
        return self.taken + self.rejected

    @property
    def name(self) -> str:
        """What it is about: the model, and the category."""
        return f"{self.model.removeprefix('model:')}, {self.category}"

    @property
    def accepted(self) -> str:
        """The share of what people decided on that they took, with its interval, and whether that says little."""
        share = "-"
        if self.decided:
            share = "{:.0%} [{:.0%}, {:.0%}]".format(self.taken / self.decided, *wilson(self.taken, self.decided))
        return share + (" too few" if self.decided < FEWEST else "")

    def sentence(self) -> str:
        """Return the counts in words."""
        codes = ", ".join(f"{code} {number:,}" for code, number in sorted(self.failed.items()))
        failed = f"; {self.failed.total():,} failed the checks ({codes})" if self.failed else ""
        if not self.decided:
            return f"nobody has decided on one yet{failed}"
        edits = f"{self.edited} of them edited"
        edits += f" by a median of {median(self.distances):g} words" if self.distances else ""
        return f"{self.taken} of {self.decided} taken, {edits}; accepted {self.accepted}{failed}"

    def document(self) -> dict[str, Json]:
        """Return the counts as `schemas/proposals.schema.json` has them."""
        low, high = wilson(self.taken, self.decided) if self.decided else (0.0, 1.0)
        share: Json = None
        if self.decided:
            share = {"value": self.taken / self.decided, "low": low, "high": high}
        return {
            "category": self.category, "model": self.model, "proposed": self.proposed, "open": self.open,
            "taken": self.taken, "edited": self.edited, "rejected": self.rejected,
            "failed": dict(sorted(self.failed.items())), "accepted": share, "is_too_few": self.decided < FEWEST,
            "words_edited": median(self.distances) if self.distances else None,
        }  # fmt: skip


def counts_key(project: Project, proposal: Proposal) -> tuple[str, str]:
    """Return under what a proposal counts: its category, and its model, which is the same by whatever name it goes."""
    return category_of(project, proposal), proposal.model.rpartition("@")[2]


def counts_of(project: Project) -> dict[tuple[str, str], ProposalCounts]:
    """Return what became of all proposals, by `counts_key`, sorted by category and model."""
    tables: dict[tuple[str, str], ProposalCounts] = {}
    for proposal in all_proposals(project):
        record = present(project, proposal.record)
        key = counts_key(project, proposal)
        counts = tables.setdefault(key, ProposalCounts(key[0], proposal.model))
        if proposal.failed:
            counts.failed[proposal.failed] += 1
        elif proposal.outcome == "taken":
            counts.taken += 1
            if distance := _distance(project, proposal, record):
                counts.edited += 1
                counts.distances.append(distance)
        elif proposal.outcome == "rejected":
            counts.rejected += 1
        else:
            counts.open += 1
    return dict(sorted(tables.items(), key=lambda item: (item[1].category, item[1].model)))


def category_of(project: Project, proposal: Proposal) -> str:
    """Return the category that a proposal is for, as the annotator may see it."""
    view, row = project.shape.view, project.catalog.find(proposal.record)
    if row is not None:
        return project.catalog.row(row).category or UNCATEGORISED
    own = view.get(proposal.line, "category") if view and proposal.line else None
    return str(own or proposal.parameters.get("category") or UNCATEGORISED)


def _distance(project: Project, proposal: Proposal, record: Record | None) -> int:
    """Return in how many words a record differs from what was proposed for it."""
    if record is None:
        return 0
    proposed = proposed_record(project, proposal, record) or record
    return words_between(*(f"{one.prompt}\n{one.completion}" for one in (proposed, record)))


def words_between(before: str, after: str) -> int:
    """Return how many words have to be replaced, put in or taken out to get from one text to the other."""
    total, sizes = 0, defaultdict[str, int](int)
    for what, text in [*word_changes(before, after), ("same", "")]:
        if what == "same":
            total += max(sizes["removed"], sizes["added"])
            sizes.clear()
        else:
            sizes[what] += len(text.split())
    return total
