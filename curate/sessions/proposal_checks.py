"""What has to hold of a proposal before a person sees it: schema, contract, checks, no repeat, no leak."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from curate.base.record import Finding, Json, Record, Source
from curate.checks.runner.examine import findings_of
from curate.checks.runner.results import CheckPlan
from curate.project.plan import benchmark_files
from curate.project.project import Project
from curate.sessions.nearest import Nearest
from curate.similarity.dedupe.nearest import likeness
from curate.similarity.leaks import find_leaks
from curate.similarity.leaks.reading import read_any

_MOST_FINDINGS = 100
_KINDS = {"repeat": "D302", "other answer": "D303", "same prompt": "D303"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record as it would be, and as it is before; None where it is a new one."""

    record: Record
    before: Record | None


class ProposalChecks:
    """Checks candidates against what a project has; ``split_of`` says in which split a record is known to be."""

    def __init__(self, project: Project, split_of: Callable[[Record], str]) -> None:
        self._project, self._split_of = project, split_of
        data = project.data
        self._plan = CheckPlan(data.shape, data.settings, limit=_MOST_FINDINGS, root=data.root)
        self._nearest = Nearest(project)
        self._new: list[Record] = []

    def know(self, lines: Iterable[Mapping[str, Json]]) -> None:
        """Have new records that are like one of ``lines`` fail too."""
        shape = self._project.data.shape
        self._new += [shape.record(line, Source("", 0)) for line in lines if shape.is_valid(line)]

    def failures(self, candidates: Sequence[Candidate]) -> list[str]:
        """Return for each of ``candidates`` the code of what is wrong with it, empty where nothing is.

        Errors and warnings count, those that its record has already do not. A new record that repeats one, or asks the
        same, fails; so does what is like an earlier candidate, and what gives a validation or test record, or a
        benchmark of ``[leaks]``, away: by a leak, or by a whole text of it that no training record has.
        """
        codes = [self._own_fault(candidate) or self._repeat(candidate) for candidate in candidates]
        clean = [(number, candidate) for number, candidate in enumerate(candidates) if not codes[number]]
        for number, code in self._leaking([(number, self._fresh_text(candidate)) for number, candidate in clean]):
            codes[number] = code
        return codes

    def codes(self, record: Record) -> set[str]:
        """Return the codes of what the record checks say of a record."""
        return {finding.code for finding in self._findings(record)}

    def _own_fault(self, candidate: Candidate) -> str:
        known = {(finding.code, finding.pointer) for finding in self._findings(candidate.before)}
        fresh = (one for one in self._findings(candidate.record) if (one.code, one.pointer) not in known)
        return next((finding.code for finding in fresh), "")

    def _findings(self, record: Record | None) -> list[Finding]:
        findings = findings_of(self._plan, record) if record else []
        return [finding for finding in findings if finding.severity != "info"]

    def _repeat(self, candidate: Candidate) -> str:
        record, is_new = candidate.record, candidate.before is None
        near = self._nearest.find(record.data, without=record.id)
        code = next((_KINDS[one.kind] for one in near if one.kind == "repeat" or (is_new and one.kind)), "")
        if not is_new or code:
            return code
        alike = likeness([(record, other) for other in self._new], self._project.settings.dedupe)
        if any(one.is_exact or one.score >= self._nearest.threshold for one in alike):
            return "D302"
        self._new.append(record)
        return ""

    @staticmethod
    def _fresh_text(candidate: Candidate) -> Record:
        """Return what a candidate says anew: of an answer to a record nothing of its prompt, which is there already."""
        record = candidate.record
        return record if candidate.before is None else replace(record, prompt="", prompt_parts=(), system="")

    @cached_property
    def _exam(self) -> list[Record]:
        data = self._project.data
        records = [record for record in data.records() if self._split_of(record) in ("validation", "test")]
        for path in benchmark_files(data):
            records += read_any(path, data.shape, root=data.root).records
        return records

    @cached_property
    def _exam_texts(self) -> dict[str, str]:
        """The texts of exams, as words, that are long enough to say something, each with the code of giving it away.

        Where all prompts are made of the same phrases, as generated data are, `find_leaks` takes them for a template.
        """
        known = {
            text
            for record in self._project.data.records()
            if self._split_of(record) not in ("validation", "test")
            for text in _spelled_texts(record)
        }
        return {
            text: "P501" if self._split_of(record) else "P504"
            for record in self._exam
            for text in _spelled_texts(record)
            if text not in known and text.count(" ") + 1 >= self._project.settings.leaks.ngram
        }

    def _leaking(self, pool: Sequence[tuple[int, Record]]) -> Iterator[tuple[int, str]]:
        """Yield the numbers of the records of ``pool`` that give an exam away, each with the code for that."""
        left = dict(pool)
        for number, record in pool:
            texts = [f" {text} " for text in _spelled_texts(record)]
            whole = (code for text, code in self._exam_texts.items() if any(f" {text} " in other for other in texts))
            if code := next(whole, ""):
                yield number, code
                del left[number]
        while left and self._exam:
            numbers = list(left)
            # An answer to a validation record repeats nothing but its own.
            names = {record.id for record in left.values()}
            exam = [record for record in self._exam if record.id not in names]
            leaks = find_leaks(exam, list(left.values()), self._project.settings.leaks).leaks
            bad = [each for leak in leaks for each in (leak, *leak.also)]
            # A leak names seven of those that give it away at most: the others come to light without them.
            leaking = {numbers[each.rows[1]]: "P501" if self._split_of(each.exam) else "P504" for each in bad}
            if not leaking:
                return
            yield from leaking.items()
            left = {number: record for number, record in left.items() if number not in leaking}


def _spelled_texts(record: Record) -> set[str]:
    """Return the texts of a record, each as its words."""
    # It needs numpy.
    from curate.similarity.leaks.words import spelled

    texts = (record.prompt, *record.prompt_parts, record.completion, record.text)
    return {" ".join(spelled(text).split()) for text in texts if text}
