"""What to do after a run: by category the likely cause of what it gets wrong, and how many records to write.

A cause is claimed only from a share of enough records. The worklist of a run stays in its folder, so that after the
next run it can be said which item paid.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import MOST_DOCUMENT, hint_of, read_file
from curate.base.record import UNCATEGORISED, CurateError, Json, Record, normalised
from curate.base.storage import write_atomic
from curate.base.tables import counted
from curate.jsonl import JsonFault, strict_loads
from curate.project.feedback import Outcomes, is_as_told, read_dynamics, read_results, standing_of
from curate.project.filters import parse_filter
from curate.project.project import Project
from curate.sessions.nearest import Nearest
from curate.sessions.proposal_checks import ProposalChecks
from curate.sessions.proposing import answered_line
from curate.sessions.run_comparison import ScoreRow, paired_rows
from curate.sessions.runs import read_run, runs_of
from curate.similarity.dedupe.nearest import Neighbour

WORKLIST_FILE = "worklist.json"
FEWEST = 5
"""Wrong validation records of a category from which a cause is read from them; twice as many of other records."""
_WRONG = ("broken", "still-wrong")
_MOSTLY = 0.5
_CONTRACT = {"Q210", "Q211", "Q212", "Q213"}
_CONFLICTS = {"D303", "L402", "L403"}
_SOME = 0.05  # Share of a category's records that contradict others from which that is a cause.
_FAR = 0.3  # Likeness below which a training record teaches little about another.
_MOST_LOOKED_AT, _MOST_NEAREST, _NUM_CANDIDATES = 40, 5, 24
_FEWEST_TO_WRITE, _MOST_TO_WRITE = 4, 24
_MOST_ANSWERS = 10  # Different answers of a category up to which it is a choice among them.


@dataclass(frozen=True, slots=True)
class WorkItem:
    """What to do for one category. ``score`` is the tuned model's on the validation split, None where it has none.

    ``causes`` are sentences with their figures.

    ``number`` records are to be written like those in ``nearest``, ``num_answer`` of them with the answer ``answer``.
    The category had ``num_before`` records with an answer.
    """

    category: str
    num_validation: int
    num_wrong: int
    score: float | None
    causes: Sequence[str]
    nearest: Sequence[str]
    number: int
    num_before: int
    answer: str = ""
    num_answer: int = 0

    @property
    def task(self) -> str:
        """The task in words."""
        text = f"write {self.number} like these"
        if self.num_answer:
            text += f'; {self.num_answer} must be answered "{one_line(self.answer, 40)}"'
        return text


@dataclass(frozen=True, slots=True)
class Worklist:
    """The items of a run, the most wrong records first; ``num_changed`` wrong ones say something else by now, are gone
    or in test, and are in no item.
    """

    run: str
    items: Sequence[WorkItem]
    num_changed: int = 0

    def document(self) -> dict[str, Json]:
        """Return it as `schemas/worklist.schema.json` has it."""
        items = [{**asdict(item), "causes": list(item.causes), "nearest": list(item.nearest)} for item in self.items]
        return {"version": 1, "run": self.run, "items": items, "num_changed": self.num_changed}


def worklist_of(project: Project, folder: Path, *, is_anew: bool = False) -> Worklist:
    """Return the worklist of the run in ``folder``, which is made and written there once. Long: call it in a thread.

    Raises:
        CurateError: E918 when what the run says, or its worklist, cannot be read; E906 when it cannot be written.
    """
    if not is_anew and (known := read_worklist(folder)) is not None:
        return known
    analysis = _Analysis(project, folder)
    worklist = Worklist(folder.name, list(analysis.items()), analysis.num_changed)
    write_atomic(folder / WORKLIST_FILE, [json.dumps(worklist.document(), indent=2).encode() + b"\n"])
    return worklist


def read_worklist(folder: Path) -> Worklist | None:
    """Return the worklist that lies in the folder of a run, None where there is none; E918 where it cannot be read."""
    path = folder / WORKLIST_FILE
    try:
        value = strict_loads(read_file(path, most=MOST_DOCUMENT))
        items = [WorkItem(**item) for item in value["items"]]
        return Worklist(str(value["run"]), items, value.get("num_changed", 0))
    except FileNotFoundError:
        return None
    except (OSError, JsonFault, KeyError, TypeError) as error:
        hint = hint_of(error, "Make it anew: --anew.") if isinstance(error, OSError) else "Make it anew: --anew."
        raise CurateError("E918 bad-report", f"{path}: {one_line(str(error), 120)}", hint) from error


class _Analysis:
    """One run held against the records."""

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        self._results, self._dynamics = read_results(folder), read_dynamics(folder)
        self._nearest = Nearest(project)
        pins = project.data.pins()
        self._records: dict[str, list[Record]] = defaultdict(list)
        self._train: dict[str, list[Record]] = defaultdict(list)
        for record in project.data.records():
            split = pins.get(record.id) or record.split
            # Nothing of a test record is looked at.
            if split != "test":
                self._records[record.category or UNCATEGORISED].append(record)
            if split == "train":
                self._train[record.category or UNCATEGORISED].append(record)
        self._names = {record.id: record for records in self._records.values() for record in records}
        told = [one for one in self._results.outcomes if one.split == "validation"]
        standings = {one.id: standing_of(project.data.state(one.id), one.digest, pins) for one in told}
        self._unchanged = [one for one in told if standings[one.id] == "same"]
        self._ids_in_run: dict[str, set[str]] = defaultdict(set)
        for one in told:
            if standings[one.id] != "test":
                self._ids_in_run[one.category].add(one.id)
        self.num_changed = sum(one.verdict in _WRONG and standings[one.id] != "same" for one in told)
        self._checks = ProposalChecks(project, lambda record: pins.get(record.id) or record.split or "")
        findings = project.validate(limit=sys.maxsize).findings
        self._num_answered = _num_answered(project)
        self._contradicted = {finding.record for finding in findings if finding.code in _CONFLICTS}

    def items(self) -> Iterator[WorkItem]:
        """Yield an item for each category with wrong validation records."""
        scores = {row["category"]: row["tuned"]["value"] for row in self._results.categories_of("validation")}
        wrong: dict[str, list[Outcomes]] = defaultdict(list)
        right: dict[str, list[Outcomes]] = defaultdict(list)
        for outcome in self._unchanged:
            # What is to be written belongs to the category that it is in by now.
            category = self._names[outcome.id].category or UNCATEGORISED
            (wrong if outcome.verdict in _WRONG else right)[category].append(outcome)
        for category, outcomes in sorted(wrong.items(), key=lambda item: (-len(item[1]), item[0])):
            # A score is of the records that the category had in the run, as they were then.
            is_same = self._ids_in_run[category] == {one.id for one in (*outcomes, *right[category])}
            yield self._item(category, outcomes, right[category], scores.get(category) if is_same else None)

    def _item(
        self, category: str, wrong: Sequence[Outcomes], right: Sequence[Outcomes], score: float | None
    ) -> WorkItem:
        train = self._train[category]
        taught = {record.id for record in train}
        near_wrong, near_right = (
            [self._near(outcome, taught) for outcome in some[:_MOST_LOOKED_AT]] for some in (wrong, right)
        )
        near = Counter(one.id for neighbours in near_wrong for one in neighbours[:_MOST_NEAREST])
        fewest = self._project.settings.checks.min_category
        causes = [
            *self._causes_in_training(category, train, fewest), *self._causes_in_answers(wrong),
            *_distance(list(map(_is_far, near_wrong)), list(map(_is_far, near_right))),
        ]  # fmt: skip
        if not causes:
            few = f"too few to say: {counted(len(wrong), 'wrong record')}, and it takes {FEWEST}"
            causes = [few if len(wrong) < FEWEST else "no cause stands out"]
        for name, num in Counter(outcome.category for outcome in wrong if outcome.category != category).items():
            causes.append(f"moved: {num} of {counted(len(wrong), 'wrong record')} were in {one_line(name, 40)} then")
        # Of what is written, the split takes some for its exams.
        num_lacking = ceil((fewest - len(train)) / max(self._project.settings.split.ratios[0], 0.1))
        number = min(_MOST_TO_WRITE, max(_FEWEST_TO_WRITE, 2 * len(wrong), num_lacking))
        # Where none is near, some of the category tell at least what its records look like.
        nearest = [name for name, _ in near.most_common(_MOST_NEAREST)] or [one.id for one in train[:_MOST_NEAREST]]
        num_before, (answer, num_answer) = self._num_answered[category], self._answer(wrong, train, number)
        num = len(wrong) + len(right)
        return WorkItem(category, num, len(wrong), score, causes, nearest, number, num_before, answer, num_answer)

    def _near(self, outcome: Outcomes, taught: Collection[str]) -> list[Neighbour]:
        """Return the training records that are like a validation record, the likest first."""
        neighbours = self._nearest.find(self._names[outcome.id].data, _NUM_CANDIDATES, without=outcome.id)
        return [one for one in neighbours if one.id in taught]

    def _causes_in_training(self, category: str, train: Sequence[Record], fewest: int) -> Iterator[str]:
        if len(train) < fewest:
            yield f"too few: {counted(len(train), 'training record')}, and [checks] min_category is {fewest}"
        own = self._records[category]
        num = sum(record.id in self._contradicted for record in own)
        if len(own) >= 2 * FEWEST and num >= _SOME * len(own):
            yield f"conflicting labels: {num} of {counted(len(own), 'record')} contradict others (D303, L402, L403)"
        every = sorted(dynamics.confidence for dynamics in self._dynamics.values())
        learnt = ((record, self._dynamics.get(record.id)) for record in train)
        known = [each.confidence for record, each in learnt if each and is_as_told(record, each.digest)]
        if len(known) >= 2 * FEWEST:
            num = sum(confidence <= every[len(every) // 4] for confidence in known)
            if num >= _MOSTLY * len(known):
                yield f"hard: {num} of {counted(len(known), 'training record')} are in the least learnt quarter of all"

    def _causes_in_answers(self, wrong: Sequence[Outcomes]) -> Iterator[str]:
        answers = [(self._names[outcome.id], outcome.completion) for outcome in wrong if outcome.completion is not None]
        if len(answers) >= FEWEST:
            num = sum(self._breaks_contract(record, text) for record, text in answers)
            if num >= _MOSTLY * len(answers):
                yield f"contract broken: {num} of {counted(len(answers), 'wrong answer')} (Q210 to Q213)"
            sizes = [(len(text.split()), len(record.completion.split())) for record, text in answers]
            num = sum(got * 2 < wanted or got > 2 * wanted for got, wanted in sizes)
            if num >= _MOSTLY * len(answers):
                share = f"{num} of {counted(len(answers), 'wrong answer')}"
                yield f"length: {share} are less than half or more than twice as long as wanted"

    def _breaks_contract(self, record: Record, text: str) -> bool:
        line, shape = answered_line(record, {"text": text}, self._project.shape), self._project.shape
        if line is None or not shape.is_valid(line):
            return False
        return not _CONTRACT.isdisjoint(self._checks.codes(shape.record(line, record.source)))

    def _answer(self, wrong: Sequence[Outcomes], train: Sequence[Record], number: int) -> tuple[str, int]:
        """Return the answer that was missed most, and how many of ``number`` records are to have it."""
        known = {normalised(record.completion) for record in train}
        if len(train) < 2 * FEWEST or len(known) > _MOST_ANSWERS:
            return "", 0
        # A few records have few answers, also where each has its own and there is no choice.
        wanted = (self._names[outcome.id].completion for outcome in wrong)
        missed = Counter(answer for answer in wanted if normalised(answer) in known).most_common(1)
        return (missed[0][0], max(1, round(number * missed[0][1] / len(wrong)))) if missed else ("", 0)


def _is_far(near: Sequence[Neighbour]) -> bool:
    return not near or near[0].score < _FAR


def _distance(wrong: Sequence[bool], right: Sequence[bool]) -> Iterator[str]:
    """Yield that wrong records are far from training, where that is so of most, and half as often of right ones."""
    num, num_right = sum(wrong), sum(right)
    if len(wrong) < FEWEST or num < _MOSTLY * len(wrong):
        return
    # What is as common where the model is right explains nothing.
    if 2 * num_right * len(wrong) <= num * len(right):
        rate = f"of right ones {num_right} of {len(right)}" if right else "no right one to compare"
        yield f"far from training: {num} of {len(wrong)} wrong records are like no training record ({_FAR}); {rate}"


def num_written(project: Project, worklist: Worklist) -> Counter[str]:
    """Return how many more answered records each category has than when the worklist was made.

    One that has none any more, as it was renamed, is not there.
    """
    now = _num_answered(project)
    return Counter({
        item.category: max(0, now[item.category] - item.num_before)
        for item in worklist.items if now[item.category] or not item.num_before
    })  # fmt: skip


def _num_answered(project: Project) -> Counter[str]:
    rows = project.catalog.select(parse_filter("has:completion -status:dropped"))
    counts = project.catalog.frame(["category"], rows)["category"].value_counts()
    return Counter({name or UNCATEGORISED: num for name, num in counts.iter_rows()})


def paid(project: Project, folder: Path) -> tuple[str, list[dict[str, Json]]]:
    """Return which items of the newest worklist before the run in ``folder`` paid: its run, and a row each.

    A row has the category, the records added since, the scores before and after on the validation split, and the
    trainer's paired difference with its interval, None where it cannot tell: whoever writes by test scores trains on
    them in the end. Asks the trainer: call it in a thread.
    """
    run = read_run(folder)
    older = [other for other in runs_of(project.data) if other.id != run.id and _moment(other.folder) < _moment(folder)]
    before = next((other for other in older if other.has_report and (other.folder / WORKLIST_FILE).is_file()), None)
    worklist = read_worklist(before.folder) if before is not None else None
    if before is None or worklist is None:
        return "", []
    rows: Mapping[str | None, ScoreRow] = {}
    with suppress(CurateError):
        rows = paired_rows(before.folder, run.folder, "validation")
    written = num_written(project, worklist)
    result = []
    for item in worklist.items:
        row = rows.get(item.category)
        result.append({
            "category": item.category, "task": item.task, "written": written.get(item.category),
            "before": row.first if row else item.score, "after": row.second if row else None,
            "difference": row.difference if row else None, "low": row.low if row else None,
            "high": row.high if row else None,
        })  # fmt: skip
    return before.id, result


def _moment(folder: Path) -> float:
    path = folder / "report.json"
    return path.stat().st_mtime if path.is_file() else 0.0
