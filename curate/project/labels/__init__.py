"""Labelling without a screen: what annotators are asked, about which records, in which order, and what is suggested."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from threading import RLock
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from curate.base.console import one_line
from curate.base.hashing import Hashes, mix
from curate.base.record import CurateError, Exit
from curate.base.resources import python_command
from curate.checks.quality.suspects import FEWEST, Classifier, Predictions, require_model
from curate.project.approval import APPROVAL
from curate.project.journal import ASIDES, CATEGORY
from curate.schema.settings import PAIR_VALUES, Question, Settings

Order = Literal["file", "random", "uncertain", "disagreement", "oldest"]

ORDERS: Sequence[Order] = get_args(Order)
# What each order is called.
WORDS: dict[Order, str] = {
    "file": "file order",
    "random": "random",
    "uncertain": "least certain first",
    "disagreement": "disagreement first",
    "oldest": "longest since seen first",
}
_ASK = "Which category is it?"
_SCALE = ["1", "2", "3", "4", "5"]
_SHARE_BITS = 53


def questions_of(settings: Settings, categories: Collection[str] = ()) -> list[Question]:
    """Return the questions of a workspace, each with its values; none of them leaves any text as an answer.

    Without questions of its own a workspace asks for the category. Its values are the known categories, and where none
    is known those that are ``categories`` in the data.

    Raises:
        CurateError: E902 for a question that is called as notes, flags or approvals are.
    """
    questions = settings.label.questions or [Question(name=CATEGORY, ask=_ASK)]
    for question in questions:
        if question.name == APPROVAL and settings.review.approvals:
            hint = "It is the question that `[review]` asks; give yours another name."
            raise CurateError("E902 bad-settings", f"label.questions: {question.name!r} is taken", hint)
        if question.name in ASIDES:
            hint = f"{' and '.join(sorted(ASIDES))} are kept for what annotators say about a record."
            raise CurateError("E902 bad-settings", f"label.questions: {question.name!r} is no name for one", hint)
    known: Sequence[str] = [*settings.categories] or sorted(categories)
    return [
        question if question.values else replace(question, values=_values(question, known)) for question in questions
    ]


def _values(question: Question, categories: Sequence[str]) -> list[str]:
    """Return the answers to a question that names none."""
    if question.kind in ("pair", "rating"):
        return PAIR_VALUES if question.kind == "pair" else _SCALE
    return list(categories) if question.name == CATEGORY else []


def pair_order(record: str, by: str) -> list[str]:
    """Return `PAIR_VALUES` as ``by`` is shown them for a record: the first is A, the second B."""
    first, second, *others = PAIR_VALUES
    is_swapped = blake2b(f"{record}\0{by}".encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] & 1
    return [second, first, *others] if is_swapped else PAIR_VALUES


def question_of(questions: Sequence[Question], name: str) -> Question:
    """Return the question called ``name``, the first one where it is empty.

    Raises:
        CurateError: E902 when there is none.
    """
    match = next((question for question in questions if name in ("", question.name)), None)
    if match is None:
        known = ", ".join(one_line(question.name, 40) for question in questions)
        raise CurateError("E902 bad-settings", f"there is no question {name!r}", f"There are: {known}.")
    return match


# Records ask by hashes of their ids, so that neither more records nor more answers move any. Each record ranks the
# annotators: the highest random weight (Thaler and Ravishankar 1998) of name and id comes first, so that an annotator
# who joins or leaves changes only their own share. The first is asked; a share of the records, by another hash, asks
# the second too. A record whose answer is known (gold) asks everybody, in the same words and at the same place as any
# other.


@dataclass(frozen=True)
class AnnotatorAssignment:
    """The rules by which records ask annotators.

    ``annotators`` are those who share the work; where none are named, anybody answers what still lacks an answer.
    ``overlap`` is the share of records that need two answers. ``gold`` has the ids that everybody is asked about.
    """

    annotators: Sequence[str] = ()
    overlap: float = 0.0
    gold: Collection[str] = frozenset()
    seed: int = 0

    def is_assigned(self, name: str, by: str, answered: Collection[str] = ()) -> bool:
        """Whether the record called ``name`` asks ``by``, those in ``answered`` having answered it."""
        if by in answered or not self.has_part(by):
            return False
        if name in self.gold:
            return True
        hashes = self.hashes([name])
        wanted = int(self.num_wanted(hashes)[0])
        if not self.annotators:
            return len(answered) < wanted
        # Answers of people who are not in the team any more count; the last of those asked are spared.
        wanted -= sum(annotator not in self.annotators for annotator in answered)
        return bool(self.rank(hashes, by)[0] < wanted)

    def has_part(self, by: str) -> bool:
        """Whether ``by`` is one of those who are asked at all."""
        return not self.annotators or by in self.annotators

    def hashes(self, names: Sequence[str]) -> Hashes:
        """Return a hash of each id, [N], by the seed; the same on every machine."""
        salt = f"{self.seed}\0".encode()
        digests = b"".join(
            blake2b(salt + name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names
        )
        return np.frombuffer(digests, ">u8").astype(np.uint64)

    def num_wanted(self, hashes: Hashes) -> NDArray[np.int64]:
        """Return how many answers each record needs, [N]: one, or two. Gold is not seen from a hash."""
        if len(self.annotators) == 1:
            return np.ones(len(hashes), np.int64)
        share = (mix(hashes) >> np.uint64(64 - _SHARE_BITS)).astype(np.float64) / 2**_SHARE_BITS
        return np.where(share < self.overlap, 2, 1)

    def rank(self, hashes: Hashes, by: str) -> NDArray[np.int64]:
        """Return the place of ``by``, who is one of ``annotators``, in the ranking of each record, [N], from 0."""
        own = _drawn(hashes, by, b"annotator")
        ranks = np.zeros(len(hashes), np.int64)
        for other in {*self.annotators} - {by}:
            weights = _drawn(hashes, other, b"annotator")
            ranks += (weights > own) | ((weights == own) & (other < by))
        return ranks


@dataclass(frozen=True)
class Facts:
    """What orders go by: an entry for each record, in the order of the files."""

    hashes: Hashes
    certainty: NDArray[np.float64]
    """The probability of the suggested answer, NaN where nothing is suggested."""
    num_opinions: NDArray[np.int64]
    """How many different answers others have given."""
    last_decided: NDArray[np.float64]
    """When the annotator decided on it last, in any unit; minus infinity where never."""


def ordered(order: Order, facts: Facts, by: str) -> NDArray[np.int64]:
    """Return the places of the records in the order in which they are asked about."""
    # Least certain first is uncertainty sampling (Lewis and Gale 1994). Random is the same on every day and differs
    # from one annotator to the next, so that no record comes last for all of them; it also decides where another order
    # does not. Where others disagree comes by how many different answers there are, which says nothing of what they
    # are.
    drawn = _drawn(facts.hashes, by, b"order")
    indices = np.arange(len(facts.hashes))
    if order == "random":
        return np.argsort(drawn, kind="stable")
    if order == "uncertain":
        # NaN sorts last.
        return np.lexsort((drawn, facts.certainty))
    if order == "disagreement":
        return np.lexsort((indices, -np.where(facts.num_opinions > 1, facts.num_opinions, 0)))
    if order == "oldest":
        return np.lexsort((indices, facts.last_decided))
    return indices


def _drawn(hashes: Hashes, by: str, purpose: bytes) -> Hashes:
    """Return a number for each record that an annotator has drawn for a purpose, always the same one."""
    digest = blake2b(by.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose).digest()
    return mix(hashes ^ np.uint64(int.from_bytes(digest)))


_WHAT = "suggesting labels"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An answer that the model proposes, and its probability."""

    value: str
    score: float


@dataclass(frozen=True)
class Suggestions:
    """What the model proposes for texts; always out of sample, so that no answer to a text tells on itself."""

    values: Sequence[str]
    """The answers that were learned; empty where there was too little to learn from."""
    likeliest: NDArray[np.int64]
    """Which of ``values`` is proposed for each text."""
    scores: NDArray[np.float64]
    """Its probability; 0 for a text without content."""
    num_learned: int
    accuracy: float
    """How often the proposal is the answer that was given, out of sample."""

    def of(self, index: int) -> Suggestion | None:
        """Return what is proposed for a text; None where nothing is."""
        if not self.values or not self.scores[index]:
            return None
        return Suggestion(self.values[int(self.likeliest[index])], float(self.scores[index]))

    @property
    def lacks(self) -> str:
        """What is lacking for suggestions, in words; empty where there are some."""
        if self.values:
            return ""
        # Without the counts so far: they would tell what others answered before one has answered oneself.
        return f"suggestions start after {FEWEST} agreed answers for each of two labels"


_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of suggestions may be believed, by the answers that people gave.

    ``bins`` are, for each tenth of probability with answers in it, their number, the mean probability, and the share of
    right suggestions. ``error`` is the expected calibration error: the mean distance of the two (Naeini et al. 2015).
    """

    bins: Sequence[tuple[int, float, float]]
    error: float
    num: int


def calibration_of(scores: Sequence[float], is_right: Sequence[bool]) -> Calibration | None:
    """Return the calibration of suggestions of which it is known whether they were right; None without any."""
    groups: dict[int, list[tuple[float, bool]]] = {}
    for score, right in zip(scores, is_right, strict=True):
        groups.setdefault(min(_BINS - 1, int(score * _BINS)), []).append((score, right))
    bins = []
    for _, group in sorted(groups.items()):
        num = len(group)
        bins.append((num, sum(score for score, _ in group) / num, sum(right for _, right in group) / num))
    if not bins:
        return None
    return Calibration(bins, sum(num * abs(mean - share) for num, mean, share in bins) / len(scores), len(scores))


def to_suggestions(model: Predictions) -> Suggestions:
    """Return the likeliest class of each text; nothing is proposed where no class was learned."""
    if not model.classes:
        size = len(model.probabilities)
        return Suggestions([], np.zeros(size, np.int64), np.zeros(size), 0, 0.0)
    return Suggestions(
        model.classes,
        model.probabilities.argmax(axis=1),
        model.probabilities.max(axis=1),
        len(model.rows),
        model.accuracy,
    )


class Trainer:
    """Learns from some texts again and again, in a process of its own. Close it when it is not needed any more."""

    # A model holds Python's lock, and keys must not wait. The process begins with the first `learn` and keeps what it
    # has made of the texts, so that learning once more, with a few answers more, takes little time.

    def __init__(self, texts: Sequence[str], clusters: Sequence[str]) -> None:
        """Take the texts, and the cluster of near repeats that each is in.

        Raises:
            CurateError: E940 without the extra [quality].
        """
        require_model(_WHAT)
        self._given = (list(texts), list(clusters))
        self._lock = RLock()
        self._child: subprocess.Popen[bytes] | None = None
        self._talk: IO[bytes] | None = None
        self._is_closed = False

    def learn(self, labels: Sequence[str]) -> Suggestions:
        """Return the proposals after learning ``labels``, "" for a text without one; waits for the process.

        Raises:
            CurateError: E970 when the process ended before it answered, or the trainer is closed.
        """
        with self._lock:
            child = self._running()
            assert child.stdin
            assert child.stdout
            try:
                pickle.dump(list(labels), child.stdin)
                child.stdin.flush()
                answer = pickle.load(child.stdout)  # noqa: S301  it is our own program that writes there
            except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
                raise self._lost() from error
        if isinstance(answer, CurateError):
            raise answer
        assert isinstance(answer, Suggestions)
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._is_closed = True
        child = self._child
        if child is None:
            return
        # It may be in the middle of a fit, which no signal that asks would end.
        child.kill()
        child.wait()
        # A thread that waits for an answer has its end by now.
        with self._lock:
            for stream in (child.stdin, child.stdout, self._talk):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._is_closed:
            raise self._lost()
        if self._child is None:
            self._talk = tempfile.TemporaryFile()  # noqa: SIM115  as long as the child lives
            # A group of its own: a key that interrupts the terminal is not meant for it.
            self._child = subprocess.Popen(
                python_command("-m", "curate.project.labels"),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._talk, process_group=0,
            )  # fmt: skip
            assert self._child.stdin
            with suppress(BrokenPipeError):
                pickle.dump(self._given, self._child.stdin)
        return self._child

    def _lost(self) -> CurateError:
        if self._is_closed:
            return CurateError("E970 worker-lost", "suggesting was stopped", exit_code=Exit.INTERRUPTED)
        last_line = ""
        if self._talk is not None and not self._talk.closed:
            self._talk.seek(0)
            last_line = self._talk.read().decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
        why = f": {one_line(last_line)}" if last_line else ", perhaps because memory ran out"
        self.close()
        return CurateError(
            "E970 worker-lost", f"the process that suggests ended{why}", "Labelling goes on without suggestions."
        )


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer one `Trainer` until it closes its end."""
    # At a low rank, so that the annotator notices nothing of it.
    with suppress(OSError):
        os.nice(10)
    texts, clusters = _read(source)
    classifier = None
    while True:
        try:
            labels = _read(source)
        except EOFError:
            return
        try:
            classifier = classifier or Classifier(texts, clusters, what=_WHAT)
            answer: object = to_suggestions(classifier.judge(labels))
        except CurateError as error:
            answer = error
        pickle.dump(answer, target)
        target.flush()


def _read(source: IO[bytes]) -> Any:
    return pickle.load(source)  # noqa: S301  it is our own program that asks
