"""A team in figures: what each person is asked and has done, how fast, how far they agree, and what waits for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from curate.base.console import one_line
from curate.base.events import Approve, Label
from curate.base.tables import table
from curate.project.approval import QUESTION
from curate.project.journal import ASIDES
from curate.project.labels import AnnotatorAssignment, questions_of
from curate.project.project import Project
from curate.sessions.agreement import LiveAgreement
from curate.sessions.labelling.queue import Wish, queue_of, values_known

PACE_DAYS = 7


@dataclass(frozen=True, slots=True)
class TeamMember:
    """One person. Answers are counted, not records: with two questions a record asks for two.

    ``agreement`` is the share of the answers of others, to what both have answered, that are the same; None of none.
    """

    name: str
    asked: int  # Answers that they have given or are still asked for.
    done: int  # Answers that they have given.
    approved: int  # Records as they now are that they have approved.
    recent: int  # Answers and approvals of the last `PACE_DAYS` days that are in the journal.
    agreement: float | None
    num_compared: int  # Answers of others that theirs are compared with.
    waiting: int  # Records that wait and that they may approve.


def team_of(project: Project) -> list[TeamMember]:
    """Return the people of ``project``: those whom `label.annotators` names, and who else has decided.

    Nothing of it tells the reader what others answered to what they are still asked: those answers are compared with
    none. With a million records it takes a second for each person and question.

    Raises:
        CurateError: as `Blind.assignments`.
    """
    blind, catalog = project.blind, project.catalog
    states = [state for state in project.decided() if state.dropped is None]
    done: Counter[str] = Counter()
    agreements: dict[str, LiveAgreement] = {}
    for state in states:
        for question, given in state.answers.items():
            if question in ASIDES:
                continue
            done.update(by for by, value in given.items() if value is not None)
            if not blind.hides(state, question):
                agreements.setdefault(question, LiveAgreement()).put(state.record.id, given)
    approved = Counter(by for state in states for by in state.approvals)
    events = project.since(0)
    begin = f"{datetime.now(UTC) - timedelta(days=PACE_DAYS):%Y-%m-%dT%H:%M:%SZ}"
    targets = {event.of for event in events if event.of}
    undone = {event.of for event in events if event.of and event.event not in targets}
    recent = Counter(
        event.by
        for event in events
        if isinstance(event.decision, Label | Approve) and event.decision.at >= begin and event.event not in undone
    )
    others = sorted({*done, *approved, *(event.by for event in events)})
    names = dict.fromkeys([*project.settings.label.annotators, *others])
    questions = questions_of(project.settings, values_known(project))

    def num_open(name: str) -> int:
        wishes = ((Wish(question), blind.assignments[question.name]) for question in questions)
        return sum(queue_of(project, catalog, wish, assignment, by=name).num_left for wish, assignment in wishes)

    def num_waiting(name: str) -> int:
        return queue_of(project, catalog, Wish(QUESTION), AnnotatorAssignment(), by=name).num_left

    return [
        TeamMember(
            name,
            done[name] + num_open(name),
            done[name],
            approved[name],
            recent[name],
            *_agreement(agreements, name),
            num_waiting(name) if project.settings.review.approvals else 0,
        )
        for name in names
    ]


def _agreement(agreements: Mapping[str, LiveAgreement], name: str) -> tuple[float | None, int]:
    peers = [peer for agreement in agreements.values() for peer in agreement.glance(name).peers]
    num = sum(peer.num_records for peer in peers)
    return (sum(peer.num_agreed for peer in peers) / num if num else None), num


def team_lines(members: Sequence[TeamMember]) -> Iterator[str]:
    """Yield the team as a table that is safe to print."""
    head = ["person", "asked", "done", "approved", f"{PACE_DAYS} days", "agree", "waiting"]
    rows = [
        [
            one_line(member.name, 20),
            *(f"{number:,}" for number in (member.asked, member.done, member.approved, member.recent)),
            "-" if member.agreement is None else f"{member.agreement:.0%}",
            f"{member.waiting:,}",
        ]
        for member in members
    ]
    yield from table(head, rows) if rows else ["nobody is named in label.annotators, and nobody has decided yet"]
