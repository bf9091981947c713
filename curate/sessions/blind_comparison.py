"""Two models' recorded answers to validation records, judged by people who do not know which model gave which.

Each verdict is an event of the journal. What comes of them all is computed by the trainer, which has the statistics.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from curate.base.console import one_line, visible
from curate.base.events import Prefer, PreferenceWord
from curate.base.file_guard import inside
from curate.base.record import CurateError, Json, Record, source_of
from curate.base.storage import write_atomic
from curate.base.tables import counted
from curate.project.data import RUNS, ProjectData
from curate.project.feedback import PREDICTIONS_FILE, ModelAnswer, read_answers, standing_of
from curate.project.project import Listener, Project
from curate.project.transactions import Undone
from curate.schema.view import REASONING, said_in, unanswered
from curate.sessions.runs import read_run, trainer_output

if TYPE_CHECKING:
    from curate.sessions.agreement_report import QuestionAgreement

BASE_OF = ":base"
"""After the id of a run it names the base of the run."""
HUMAN_FILE = "human.jsonl"
Choice = Literal["left", "right", "tie", "both bad"]
_LETTERS: tuple[Literal["a"], Literal["b"]] = ("a", "b")


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many validation records both models answered, and how many are not compared, by the reason.

    *identical* answers are the same text, *lone* records only one of them was evaluated on, *changed* ones differ in
    category or text, also from what the workspace has, *unanswered* lack an answer, *gone* ones are no validation
    records of the workspace any more.
    """

    compared: int = 0
    identical: int = 0
    lone: int = 0
    changed: int = 0
    unanswered: int = 0
    gone: int = 0

    def sentence(self) -> str:
        """Return them in words."""
        rest = [f"{number:,} {name}" for name, number in asdict(self).items() if number and name != "compared"]
        return f"{counted(self.compared, 'pair')} to compare" + (f"; left out: {', '.join(rest)}" if rest else "")


@dataclass(frozen=True, slots=True)
class BlindPair:
    """A record with the answers of both models, in the order of their names; ``first`` stands on the left."""

    record: str
    category: str
    cluster: str
    texts: tuple[str, str]
    first: Literal["a", "b"]

    @property
    def sides(self) -> tuple[str, str]:
        """The texts on the left and on the right."""
        return self.texts if self.first == "a" else (self.texts[1], self.texts[0])

    @property
    def digests(self) -> list[str]:
        """What a verdict on it holds for."""
        return [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for text in self.texts]


def model_name(data: ProjectData, name: str) -> str:
    """Return how events call the model ``name``: the id of a run, for its tuned model, or that and ":base".

    ``name`` has the run's id or a path; a series stands for the run whose model is to be taken.

    Raises:
        CurateError: E918 when the workspace has no such run with predictions; E914 for one that lies elsewhere.
    """
    path = Path(name.removesuffix(BASE_OF))
    runs = inside(data.root, data.root / RUNS)
    # Runs are called by their dates, so a run of another workspace may have the same name.
    folders = [
        candidate
        for candidate in (path, data.root / path, runs / path)
        if runs.resolve() in candidate.resolve().parents
    ]
    folder = next((candidate for candidate in folders if candidate.is_dir()), None)
    if folder is None and len(path.parts) > 1 and folders in ([], [runs / path]):
        hint = f"Name the id of a run in {one_line(str(runs))}."
        raise CurateError("E914 outside-workspace", f"{one_line(name)} is no run of this workspace", hint)
    folder = folder and read_run(folder).selected.folder
    if folder is None or not (folder / PREDICTIONS_FILE).is_file():
        message = f"{one_line(str(data.root / RUNS))} has no run {one_line(name, 60)!r} with {PREDICTIONS_FILE}"
        raise CurateError("E918 bad-report", message, "Name a run of the workspace, or RUN:base for its base.")
    run = folder.resolve().relative_to(runs.resolve()).as_posix()
    return run + (BASE_OF if name.endswith(BASE_OF) else "")


class BlindComparison:
    """One person's way through the pairs. `__init__` reads both files and may run in a thread.

    The order of records is the same for all and drawn at random, so that what is judged so far is a fair sample. Which
    model stands on the left is drawn for each person and record.
    """

    def __init__(self, project: Project, first: str, second: str, listener: Listener | None = None) -> None:
        """Begin in a project that is loaded; ``listener`` is not told of what it saves.

        Raises:
            CurateError: E918 where one cannot be read, or both are the same; E914 as `model_name`.
        """
        self.project, self.by, self._listener = project, project.by, listener
        self.between = model_name(project.data, first), model_name(project.data, second)
        if self.between[0] == self.between[1]:
            raise CurateError("E918 bad-report", f"{self.between[0]} is compared with itself", "Name two models.")
        self._names = sorted(self.between)
        sides = [_answers_of(project.data, name) for name in self._names]
        self._answered = sides[0].keys() | sides[1].keys()
        self.pairs, self.counts = self._paired(sides[0], sides[1])
        self._done = {name for name in self.pairs if self._has_verdict(name)}
        self._queue = [name for name in self.pairs if name not in self._done]

    def _paired(
        self, first: dict[str, ModelAnswer], second: dict[str, ModelAnswer]
    ) -> tuple[dict[str, BlindPair], PairCounts]:
        pins = self.project.data.pins()
        shared = first.keys() & second.keys()
        numbers = dict.fromkeys(asdict(PairCounts()), 0) | {"lone": len(first.keys() ^ second.keys())}
        pairs = []
        for name in shared:
            ours, theirs = first[name], second[name]
            why = "compared"
            state = self.project.state(name) if self.project.catalog.find(name) is not None else None
            standings = {standing_of(state, side.digest, pins) for side in (ours, theirs)}
            # A validation record that has become a test record since is never shown.
            if not standings.isdisjoint(("gone", "test")):
                why = "gone"
            elif "changed" in standings or (ours.category, ours.reference) != (theirs.category, theirs.reference):
                why = "changed"
            elif ours.text is None or theirs.text is None:
                why = "unanswered"
            elif ours.text == theirs.text:
                why = "identical"
            else:
                first_side = _LETTERS[self._draw(self.by, name) & 1]
                pairs.append(BlindPair(name, ours.category, ours.cluster, (ours.text, theirs.text), first_side))
            numbers[why] += 1
        pairs.sort(key=lambda pair: self._draw("", pair.record))
        return {pair.record: pair for pair in pairs}, PairCounts(**numbers)

    def _draw(self, by: str, record: str) -> int:
        seed = json.dumps([by, self._names, record]).encode()
        return int.from_bytes(blake2b(seed, digest_size=8).digest(), "big")

    # One pair after the other.

    @property
    def current(self) -> BlindPair | None:
        """The pair at hand, None where none is left."""
        return self.pairs[self._queue[0]] if self._queue else None

    @property
    def num_done(self) -> int:
        """How many of the pairs this person has judged."""
        return len(self._done)

    def prompt(self) -> Iterator[tuple[str, str]]:
        """Yield who says what before the answers to the pair at hand."""
        assert self.current is not None, "there is a pair at hand"
        record = self.project.state(self.current.record).record
        for who, text in said_in(unanswered(record.messages)) if record.messages else [("text", record.text)]:
            if who != REASONING:
                yield who, text

    def reference(self) -> str:
        """Return what the record at hand says itself."""
        assert self.current is not None, "there is a pair at hand"
        return self.project.state(self.current.record).record.completion

    def choose(self, choice: Choice) -> None:
        """Save a verdict on the pair at hand, and go on; it raises what `Project.apply` raises."""
        pair = self.current
        assert pair is not None, "there is a pair at hand"
        value: PreferenceWord = "tie" if choice == "tie" else "both bad"
        if choice in ("left", "right"):
            value = _LETTERS[(choice == "right") == (pair.first == "a")]
        decision = Prefer(pair.record, tuple(self._names), value, pair.first, tuple(pair.digests))
        self.project.apply([decision], self._listener)
        self._done.add(pair.record)
        self._queue.remove(pair.record)

    def skip(self) -> None:
        """Leave the pair at hand for the end."""
        self._queue.append(self._queue.pop(0))

    def undo(self) -> Undone | None:
        """Take this person's last act back, if it is a verdict of this comparison, and show its pair; else None."""
        act = next(iter(self.project.standing()), ())
        if not any(
            isinstance(one, Prefer) and [*one.between] == self._names for one in (event.decision for event in act)
        ):
            return None
        undone = self.project.undo(self._listener)
        for event in act:
            if event.id in self.pairs and not self._has_verdict(event.id):
                self._done.discard(event.id)
                self._queue = [event.id, *(name for name in self._queue if name != event.id)]
        return undone

    # What came of it.

    def check_blind(self) -> None:
        """Raise CurateError, E994, for somebody who has begun and not ended: which model wins tells which is which."""
        if self.num_done and self.current is not None:
            left = counted(len(self._queue), "pair")
            hint = "Judge them first, or ask as somebody who judges none: --by NAME."
            raise CurateError("E994 not-blind", f"{self.by} has {left} left, and names come after the last one", hint)

    def verdicts(self, between: Sequence[str] = ()) -> list[dict[str, Json]]:
        """Return everybody's verdicts on the texts as they are, as lines of `schemas/human.schema.json`.

        "a" is the first of the models that were named, or of ``between``.
        """
        between = list(between or self.between)
        is_turned = between != self._names
        turned, step = ({"a": "b", "b": "a"}, -1) if is_turned else ({}, 1)
        lines = [
            {
                "id": pair.record, "category": pair.category, "cluster": pair.cluster, "by": by, "between": between,
                "value": turned.get(value, value), "first": turned.get(first, first),
                "lengths": [len(text) for text in pair.texts][::step], "texts": pair.digests[::step],
            }
            for pair in self.pairs.values()
            for by, (value, first, *_) in self._given(pair.record)
        ]  # fmt: skip
        return sorted(lines, key=lambda line: (line["id"], line["by"]))

    def num_outdated(self) -> int:
        """Return how many verdicts are on other texts than those of the files, or on pairs that are not compared."""
        return sum(len(self._words(name)) for name in self._answered) - len(self.verdicts())

    def write_human(self) -> Path | None:
        """Write the verdicts beside the run whose base and tuned model are compared; None for two other models.

        `train eval RUN` holds its judge beside them. Raises CurateError: E906 when it cannot be written.
        """
        tuned = self._names[0]
        if self._names != [tuned, tuned + BASE_OF]:
            return None
        lines = self.verdicts([tuned + BASE_OF, tuned])
        folder = inside(self.project.root, self.project.root / RUNS) / tuned
        write_atomic(folder / HUMAN_FILE, (json.dumps(line).encode() + b"\n" for line in lines))
        return folder / HUMAN_FILE

    def preferred(self) -> Iterator[dict[str, Json]]:
        """Yield the records on which most people prefer one answer, as preference pairs; source and license stay."""
        by_record: dict[str, list[Json]] = {}
        for line in self.verdicts(self._names):
            by_record.setdefault(line["id"], []).append(line["value"])
        for name, values in by_record.items():
            best = next((index for index, word in enumerate(_LETTERS) if values.count(word) * 2 > len(values)), None)
            if best is not None:
                texts = self.pairs[name].texts
                models = self._names[best], self._names[1 - best]
                yield _preference(self.project.state(name).record, texts[best], texts[1 - best], models)

    def _words(self, record: str) -> dict[str, Sequence[str]]:
        """Return by annotator what was said of these models' answers to a record: word, who stood first, digests."""
        facts = self.project.data.decisions.facts(record)
        return {facet[3]: value for facet, value in facts.items() if facet[:3] == ("preferred", *self._names)}

    def _given(self, record: str) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield of that what holds for the texts as they are."""
        digests = self.pairs[record].digests
        return ((by, words) for by, words in self._words(record).items() if list(words[2:]) == digests)

    def _has_verdict(self, record: str) -> bool:
        return any(by == self.by for by, _ in self._given(record))


def win_rates(verdicts: Sequence[dict[str, Json]], *, is_json: bool) -> str:
    """Return what the trainer says of ``verdicts``, as text or as JSON; takes about a second.

    Raises:
        CurateError: E918 with what the trainer says, when it cannot read them.
    """
    # In ASCII: an id may hold a lone surrogate.
    lines = "".join(json.dumps(line) + "\n" for line in verdicts)
    words = ["compare", "--human", "-", *(["--json"] if is_json else [])]
    return trainer_output(words, "See `train compare --help`.", lines).rstrip("\n")


def report_lines(comparison: BlindComparison) -> Iterator[str]:
    """Yield what people prefer, with the names, and how far they agree; raises CurateError as `win_rates` does."""
    verdicts = comparison.verdicts()
    yield comparison.counts.sentence()
    if outdated := comparison.num_outdated():
        yield f"verdicts on other texts, which do not count: {outdated:,}"
    if not verdicts:
        yield "nobody has judged a pair yet"
        return
    yield from map(visible, win_rates(verdicts, is_json=False).split("\n"))
    if agreement := _agreement(comparison, verdicts):
        from curate.sessions.agreement_report import render_text

        yield ""
        yield from render_text(agreement)


def report_document(comparison: BlindComparison) -> dict[str, Json]:
    """Return the same as `schemas/blind.schema.json` says; raises CurateError as `win_rates` does."""
    verdicts, figures = comparison.verdicts(), None
    if agreement := _agreement(comparison, verdicts):
        from curate.sessions.agreement_figures import Chance
        from curate.sessions.agreement_report import document

        figures = document([agreement], Chance())
    rates = json.loads(win_rates(verdicts, is_json=True)) if verdicts else None
    return {
        "version": 1, "between": list(comparison.between), "pairs": asdict(comparison.counts),
        "num_outdated": comparison.num_outdated(), "win_rates": rates, "agreement": figures,
    }  # fmt: skip


def _agreement(comparison: BlindComparison, verdicts: Sequence[dict[str, Json]]) -> QuestionAgreement | None:
    """Return how far people agree, by the names of the models; None of one person, who agrees with nobody."""
    if len({line["by"] for line in verdicts}) < 2:
        return None
    # It brings numpy.
    from curate.sessions.agreement_measure import measure
    from curate.sessions.agreement_report import QuestionAgreement

    answers: dict[str, dict[str, Json]] = {}
    names = dict(zip(_LETTERS, comparison.between, strict=True))
    for line in verdicts:
        answers.setdefault(line["id"], {})[line["by"]] = names.get(line["value"], line["value"])
    return QuestionAgreement("preferred", measure(answers), answers=answers)


def _answers_of(data: ProjectData, name: str) -> dict[str, ModelAnswer]:
    folder = inside(data.root, data.root / RUNS) / name.removesuffix(BASE_OF)
    return read_answers(folder, "base" if name.endswith(BASE_OF) else "tuned")


def _preference(record: Record, chosen: str, rejected: str, models: Sequence[str]) -> dict[str, Json]:
    line: dict[str, Json] = {"id": f"{record.id}-preferred", "messages": list(map(dict, unanswered(record.messages)))}
    if not record.messages:
        line = {"id": line["id"], "prompt": record.text}
    line |= {"chosen": chosen, "rejected": rejected}
    if record.tools:
        line["tools"] = [dict(tool) for tool in record.tools]
    if record.category:
        line["category"] = record.category
    # Whoever gets the line shall know that it is of an exam, and that models wrote it.
    about = {
        "source": source_of(record),
        "split": "validation",
        "models": dict(zip(("chosen", "rejected"), models, strict=True)),
    }
    return line | {"meta": {**record.meta, **about}}
