"""Models propose answers for records, or whole new records; what fails a check is counted, and nobody sees it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from curate.base.events import Propose
from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.record import TRACES, CurateError, Exit, Json, Record, Source, canonical, normalised
from curate.base.storage import write_atomic
from curate.formats.dataset import row_of
from curate.jsonl import strict_loads
from curate.project.drafts import changes
from curate.project.privacy import PrivacyCheck
from curate.project.project import Project
from curate.project.proposals import Proposal
from curate.schema import Shape
from curate.schema.view import put, unanswered
from curate.sessions.contestants import Talk, contestant_of, is_endpoint, source_of
from curate.sessions.edits import fresh_name
from curate.sessions.proposal_checks import Candidate, ProposalChecks
from curate.sessions.proposals import all_proposals, open_proposals, present, proposed_record

_BLOCK = 32  # Answers that are checked, and saved as proposals, together.
_BOOKKEEPING = ("id", "labels", "split", "meta", "weight", "ignore", "category")
_ORDER = (
    "You write examples for a data set. Each is one JSON object with the same keys as those before it. "
    "Write about something new each time, and nothing but the object."
)
_ONE, _ANOTHER = "Write an example.", "Write another example."

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ModelTask:
    """What a model is asked for: ``number`` answers a record, or with ``like`` so many new records like the chosen.

    ``shots`` training records stand before each; ``system`` is a file with a text that comes first. ``sends_flagged``
    lets records with open findings X7xx go to an endpoint.
    """

    model: str
    number: int = 1
    like: int = 0
    system: Path | None = None
    shots: int = 0
    temperature: float = 0.7
    seed: int = 0
    max_new_tokens: int = 512
    sends_flagged: bool = False


@dataclass(slots=True)
class Proposing:
    """What became of it: requests, proposals that were kept, those that failed a check by its code, and what was left
    out or not answered, by reason."""

    num_requests: int = 0
    num_proposed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)
    """The proposals, by their events."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A line for `train answer`, and the record that the answer is for; None stands for a new one of ``category``."""

    line: Mapping[str, Json]
    record: Record | None
    category: str


def propose(
    project: Project, records: Iterable[Record], task: ModelTask, on_progress: OnProgress = lambda *_: None, *,
    is_dry: bool = False,
) -> Proposing:  # fmt: skip
    """Ask a model for what ``task`` says about ``records`` of a project that is loaded.

    What passes all checks becomes a proposal, block by block: an interruption loses no more than a block. With
    ``is_dry`` nobody is asked. Long: call it in a thread.

    Raises:
        CurateError: E996 where nothing is left to ask; E904 for ``system``; as `Talk` does.
    """
    result, maker = Proposing(), _RequestMaker(project, task)
    requests = maker.of_new(records, result) if task.like else maker.of_answers(records, result)
    result.num_requests = len(requests)
    if not requests:
        why = "; ".join(f"{reason}: {number:,}" for reason, number in result.skipped.items()) or "the filter gives none"
        message = f"there is nothing to ask a model: {why}"
        raise CurateError("E996 nothing-to-ask", message, "Change --where.", exit_code=Exit.FINDINGS)
    return result if is_dry else _ask(project, task, requests, maker, result, on_progress)


class _RequestMaker:
    """Makes the requests about one project's records."""

    def __init__(self, project: Project, task: ModelTask) -> None:
        self._project, self._task = project, task
        is_sent = is_endpoint(contestant_of(project.data, task.model)) and not task.sends_flagged
        self._privacy = PrivacyCheck(project.data) if is_sent else None

    @cached_property
    def _pins(self) -> Mapping[str, str]:
        return self._project.data.pins()

    @cached_property
    def _is_divided(self) -> bool:
        # One that a model wrote is a training record from the start.
        proposed = {*self._project.data.decisions.with_proposals()}
        return bool(self._pins) or any(one.split for one in self._project.data.records() if one.id not in proposed)

    def split_of(self, record: Record) -> str:
        """Return the split of a record as far as it is known."""
        return self._pins.get(record.id) or record.split or ""

    def _teaches(self, record: Record) -> bool:
        """Whether its text may stand in a prompt: of training records alone, before a split of all without one."""
        return bool(record.completion) and self.split_of(record) == ("train" if self._is_divided else "")

    def of_answers(self, chosen: Iterable[Record], result: Proposing) -> list[_Request]:
        """Return the requests for answers to records; what is left out is counted in ``result``."""
        requests = []
        for record in chosen:
            if why := self._unfit(record):
                result.skipped[why] += 1
                continue
            row = row_of(record, record.id, record.source.file)
            row["messages"] = unanswered(row["messages"])
            for number in range(self._task.number):
                seed = self._task.seed + number
                line = {**row, "id": f"{record.id}#{number}", "cluster": record.id, "seed": seed}
                requests.append(_Request(line, record, record.category))
        return requests

    def _unfit(self, record: Record) -> str:
        """Return why nobody is asked about a record, empty where nothing speaks against it."""
        turns = record.messages
        if record.answers or not turns or (len(turns) == 1 and turns[0].get("role") == "assistant"):
            return "asks nothing, or compares answers"
        if (split := self.split_of(record)) in ("validation", "test"):
            return f"in the {split} split"
        return "personal data or a secret, not sent to an endpoint (--send-flagged)" if self._holds_back(record) else ""

    def _holds_back(self, record: Record) -> bool:
        return self._privacy is not None and self._privacy.is_private(record)

    def of_new(self, chosen: Iterable[Record], result: Proposing) -> list[_Request]:
        """Return the requests for new records, each after a few of those of one category."""
        seeds: dict[str, list[Record]] = defaultdict(list)
        for record in chosen:
            if not self._teaches(record):
                result.skipped["no seed: in another split than train, or without an answer"] += 1
            elif self._holds_back(record):
                result.skipped["no seed: personal data or a secret"] += 1
            else:
                seeds[record.category].append(record)
        # Which examples stand before a request is no secret; the seed repeats it.
        random, names = Random(self._task.seed), sorted(seeds)  # noqa: S311
        requests = []
        for number in range(self._task.like if names else 0):
            category = names[number % len(names)]
            some = random.sample(seeds[category], min(self._task.shots or 4, len(seeds[category])))
            turns: list[dict[str, Json]] = [{"role": "system", "content": _ORDER}]
            for index, record in enumerate(some):
                text = json.dumps(_bare(record, self._project.shape), ensure_ascii=False)
                ask = _ANOTHER if index else _ONE
                turns += [{"role": "user", "content": ask}, {"role": "assistant", "content": text}]
            turns.append({"role": "user", "content": _ANOTHER})
            seed = self._task.seed + number
            requests.append(_Request({"id": f"new#{number}", "messages": turns, "seed": seed}, None, category))
        return requests

    def shots(self) -> list[bytes]:
        """Return the rows from which `train answer` takes examples."""
        records = [one for one in self._project.data.records() if self._teaches(one) and not self._holds_back(one)]
        return [json.dumps(row_of(one, one.id, one.source.file)).encode() + b"\n" for one in records]


def _bare(record: Record, shape: Shape) -> dict[str, Json]:
    """Return what a line says without its bookkeeping."""
    paths = shape.view.paths if shape.view else {}
    without = {paths[name][0] for name in _BOOKKEEPING if name in paths}
    return {key: value for key, value in record.data.items() if key not in without}


def _ask(
    project: Project, task: ModelTask, requests: Sequence[_Request], maker: _RequestMaker, result: Proposing,
    on_progress: OnProgress,
) -> Proposing:  # fmt: skip
    by_id = {str(request.line["id"]): request for request in requests}
    options = ["--temperature", str(task.temperature), "--max-new-tokens", str(task.max_new_tokens)]
    text = b""
    if task.system is not None:
        try:
            text = read_file(task.system, most=MOST_DOCUMENT)
        except OSError as error:
            raise CurateError("E904 no-such-file", f"{task.system}: {error.strerror}", "Name a text file.") from error
        options += ["--system", str(task.system.resolve())]
    about = {
        "temperature": task.temperature, "max_new_tokens": task.max_new_tokens, "shots": task.shots,
        "system": hashlib.sha256(text).hexdigest()[:12] if text else "",
    }  # fmt: skip
    saver = _Saver(project, ProposalChecks(project, maker.split_of), about, result)
    with tempfile.TemporaryDirectory() as folder:
        if task.shots and not task.like and (shots := maker.shots()):
            write_atomic(Path(folder) / "shots.jsonl", shots)
            options += ["--shots", str(task.shots), "--shots-from", str(Path(folder) / "shots.jsonl")]
        elif task.shots and not task.like:
            result.skipped["examples: no training record may stand before a prompt"] += 1
        talk = Talk(project.data, task.model, options)
        try:
            saver.model = source_of(task.model, str(talk.about()["digest"]))
            for number, line in enumerate(talk.answers([request.line for request in requests]), 1):
                saver.take(by_id[str(line["id"])], line)
                on_progress(number, len(requests))
        finally:
            talk.close()
            # Also where the model ended, or somebody ended it: what it wrote until then took its time.
            saver.flush()
    return result


class _Saver:
    """Turns answers into proposals, and saves those that pass the checks."""

    def __init__(self, project: Project, checks: ProposalChecks, about: Mapping[str, Json], result: Proposing) -> None:
        self._project, self._checks, self._about, self._result = project, checks, about, result
        checks.know(proposal.line for proposal in open_proposals(project) if proposal.line is not None)
        self.model = ""
        self._act = ""  # All that one command proposes is one act.
        self._waiting: list[tuple[Candidate, dict[str, Json]]] = []
        self._failed: list[Propose] = []
        self._known_texts = {
            ("" if proposal.line is not None else proposal.record, _spelled(proposal, project))
            for proposal in all_proposals(project)
            if not proposal.failed
        }

    def take(self, request: _Request, line: Mapping[str, Any]) -> None:
        """Take one answer, or why there is none."""
        if "error" in line:
            self._result.skipped[f"not answered: {line['error']['code']}"] += 1
            return
        about = {**self._about, "seed": request.line["seed"]}
        about |= {} if request.record else {"category": request.category}
        name, shape = request.record.id if request.record else fresh_name(), self._project.shape
        proposed = _proposed_line(request, line, shape)
        if isinstance(proposed, str):
            self._fail(name, proposed, about)
            return
        if line.get("reasoning") and not (request.record and _has_messages(proposed, shape)):
            self._result.skipped["reasoning before an answer: the schema has no place for it"] += 1
        record = replace(shape.record(proposed, request.record.source if request.record else Source("", 0)), id=name)
        spelling = (name if request.record else "", _text(record))
        if spelling in self._known_texts:
            self._fail(name, "said before", about)
            return
        self._known_texts.add(spelling)
        self._waiting.append((Candidate(record, request.record), about))
        if len(self._waiting) >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Check and save what waits."""
        waiting, self._waiting = self._waiting, []
        codes = self._checks.failures([candidate for candidate, _ in waiting]) if waiting else []
        decisions = []
        for (candidate, about), code in zip(waiting, codes, strict=True):
            line, before = dict(candidate.record.data), candidate.before
            if code:
                self._fail(candidate.record.id, code, about)
            elif before is None:
                decisions.append(Propose(candidate.record.id, self.model, about, record=line))
            else:
                decisions.append(Propose(before.id, self.model, about, changes(before.data, line)))
        failed, self._failed = self._failed, []
        for event in self._project.apply([*decisions, *failed], act=self._act) if decisions or failed else ():
            self._act = event.act
            self._result.events += [] if getattr(event, "failed", "") else [event.event]
        self._result.num_proposed += len(decisions)

    def _fail(self, name: str, code: str, about: dict[str, Json]) -> None:
        self._result.failed[code] += 1
        self._failed.append(Propose(name, self.model, about, failed=code))


def _proposed_line(request: _Request, answer: Mapping[str, Any], shape: Shape) -> dict[str, Json] | str:
    """Return the line that an answer makes, or why it makes none: the code of the finding, or a word."""
    if answer.get("stopped") is False:
        return "cut off"
    line = answered_line(request.record, answer, shape) if request.record else _new_line(answer["text"], request, shape)
    if line is None or not _is_json(line):
        return "no record"
    if request.record and line == dict(request.record.data):
        return "as it stands"
    return line if shape.is_valid(line) else "S102"


def _is_json(line: Mapping[str, Json]) -> bool:
    """Whether a line can be saved: half of a surrogate pair cannot."""
    try:
        strict_loads(canonical(line))
    except (ValueError, RecursionError):
        return False
    return True


def _has_messages(line: Mapping[str, Json], shape: Shape) -> bool:
    return bool(shape.view and shape.view.get(line, "messages"))


def answered_line(record: Record, answer: Mapping[str, Any], shape: Shape) -> dict[str, Json] | None:
    """Return the record's line with ``answer``; None where its schema has no place for one."""
    line, text = deepcopy(dict(record.data)), answer["text"].strip()
    assert shape.view is not None, "there are records"
    if not _has_messages(line, shape):
        if "completion" not in shape.view.paths:
            return None
        put(line, shape.view.paths["completion"], text)
        return line
    turns = shape.view.get(line, "messages")
    own = turns.pop() if turns[-1].get("role") == "assistant" else {"role": "assistant"}
    turn = {key: value for key, value in own.items() if key not in (*TRACES, "tool_calls")} | {"content": text}
    turns.append(turn | ({TRACES[0]: answer["reasoning"]} if answer.get("reasoning") else {}))
    return line


def _new_line(text: str, request: _Request, shape: Shape) -> dict[str, Json] | None:
    """Return the line of a new record that a model wrote as JSON, perhaps with words around it; None without one."""
    try:
        text = text[text.index("{") :]
        # What comes behind the object may have braces too.
        _, end = json.JSONDecoder().raw_decode(text)
        line = strict_loads(text[:end].encode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    paths = shape.view.paths if shape.view else {}
    for name in _BOOKKEEPING:
        if name in paths:
            line.pop(paths[name][0], None)
    if request.category and "category" in paths:
        put(line, paths["category"], request.category)
    return line


def _text(record: Record) -> str:
    return normalised(f"{record.prompt}\n{record.completion}")


def _spelled(proposal: Proposal, project: Project) -> str:
    proposed = proposed_record(project, proposal, present(project, proposal.record))
    return _text(proposed) if proposed else ""
