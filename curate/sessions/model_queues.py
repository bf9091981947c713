"""The queues that models fill: what they propose, and what is to be written after a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from shlex import quote

from curate.base.file_guard import inside
from curate.base.record import UNCATEGORISED
from curate.project.data import RUNS
from curate.project.feedback import latest_run
from curate.project.project import Project
from curate.project.proposals import Proposal
from curate.sessions.proposals import open_proposals, present, proposal_cells, proposal_texts, reject, take
from curate.sessions.work_queue import QueueAct, QueueColumn, QueueEntry, QueuePassage, WorkQueue
from curate.sessions.worklist import num_written, read_worklist

WORKLIST_TITLE, PROPOSALS_TITLE = "what to write after the newest run", "proposals of models"
_MOST_TEXT = 200  # Characters of a record that are shown.


def worklist_queue(project: Project, run: str) -> WorkQueue:
    """Return what is to be written after ``run``, by default the newest one."""
    runs = inside(project.root, project.root / RUNS)
    folder = runs / run if run else latest_run(runs)
    worklist = read_worklist(folder) if folder else None
    items = worklist.items if worklist else []
    written = num_written(project, worklist) if worklist else Counter[str]()

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(
                item.category, "", {"new": True, "category": "" if item.category == UNCATEGORISED else item.category},
                (item.category, f"{written[item.category]} of {item.number}", item.task), item,
            )
            for item in items
        ]  # fmt: skip

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        near = [record for name in entry.source.nearest if (record := present(project, name)) is not None]
        return [
            QueuePassage("likely cause", "\n".join(entry.source.causes)),
            *(
                QueuePassage("like", f"{one.prompt[:_MOST_TEXT]}\n-> {one.completion[:_MOST_TEXT]}", one.id)
                for one in near
            ),
        ]

    about = "Categories that the run gets wrong. e begins a new record, ctrl+n saves it and begins the next."
    return WorkQueue(
        "worklist", WORKLIST_TITLE,
        about if worklist else "No worklist yet: `curate worklist` makes one.", "task",
        sum(written[item.category] < item.number for item in items),
        (QueueColumn("category", 14, is_name=True), QueueColumn("written", 8, is_number=True), QueueColumn("task")),
        entries, detail, command=lambda _: f"curate worklist --workspace {quote(str(project.root))}",
    )  # fmt: skip


def proposals_queue(project: Project, _run: str) -> WorkQueue:
    """Return the proposals of models that are open."""
    proposals = open_proposals(project)
    counts = Counter(proposal.record for proposal in proposals)

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(
                one.event, "" if one.line is not None else one.record, {"record": one.record, "proposal": one.event},
                proposal_cells(project, one, counts[one.record]), one,
            )
            for one in proposals
        ]  # fmt: skip

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        # Two for one record stand beside one another, each against what the record says.
        alike = sorted((one for one in proposals if one.record == entry.source.record), key=entry.source.__ne__)
        return [QueuePassage(*passage) for passage in proposal_texts(project, alike)]

    def on_proposals(act: Callable[[Project, Sequence[Proposal]], str]) -> Callable[[Sequence[QueueEntry]], str]:
        return lambda chosen: act(project, [entry.source for entry in chosen])

    return WorkQueue(
        "proposals", PROPOSALS_TITLE,
        "What models wrote for records. Nothing of it is in a record before you take it: a takes, e edits first, "
        "d rejects.", "proposal", len(proposals),
        (
            QueueColumn("record", 14, is_name=True), QueueColumn("category", 10), QueueColumn("model", 14),
            QueueColumn("proposed"),
        ),
        entries, detail, QueueAct("reject", on_proposals(reject)), QueueAct("take", on_proposals(take)),
        lambda _: f"curate propose {quote(str(project.root))} --report",
    )  # fmt: skip
