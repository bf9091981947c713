"""What annotators are asked, who is asked about which record, and in which order.

Records ask by hashes of their ids, so that neither more records nor more answers move any. Each record ranks the
annotators: the highest random weight (Thaler and Ravishankar 1998) of name and id comes first, so that whoever joins or
leaves changes only what becomes or was theirs. The first is asked; a share of the records, by another hash, asks the
second too. A record whose answer is known (gold) asks everybody, in the same words and at the same place as any other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from curate.base.console import one_line
from curate.base.hashing import Hashes, mix
from curate.base.record import CurateError
from curate.project.journal import ASIDES, CATEGORY
from curate.schema.settings import Question, Settings

Order = Literal["file", "random", "uncertain", "disagreement", "oldest"]

ORDERS: Sequence[Order] = get_args(Order)
WORDS: dict[Order, str] = {
    "file": "file order",
    "random": "random",
    "uncertain": "least certain first",
    "disagreement": "disagreement first",
    "oldest": "longest since seen first",
}
"""What each order is called."""
_ASK = "Which category is it?"
_SHARE_BITS = 53


def questions_of(settings: Settings, categories: Collection[str] = ()) -> list[Question]:
    """Return the questions of a workspace, each with its values; none of them leaves any text as an answer.

    Without questions of its own a workspace asks for the category. Its values are the known categories, and where none
    is known those that are ``categories`` in the data.

    Raises:
        CurateError: E902 for a question that is called as notes or flags are.
    """
    questions = settings.label.questions or [Question(name=CATEGORY, ask=_ASK)]
    for question in questions:
        if question.name in ASIDES:
            hint = f"{' and '.join(sorted(ASIDES))} are kept for what annotators say about a record."
            raise CurateError("E902 bad-settings", f"label.questions: {question.name!r} is no name for one", hint)
    known: Sequence[str] = [*settings.categories] or sorted(categories)
    return [
        question.model_copy(update={"values": list(known)})
        if question.name == CATEGORY and not question.values
        else question
        for question in questions
    ]


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


@dataclass(frozen=True)
class AnnotatorAssignment:
    """The rules by which records ask annotators.

    ``annotators`` are those who share the work; nobody named lets whoever comes answer what still lacks an answer.
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
        own = self._weights(hashes, by)
        ranks = np.zeros(len(hashes), np.int64)
        for other in {*self.annotators} - {by}:
            weights = self._weights(hashes, other)
            ranks += (weights > own) | ((weights == own) & (other < by))
        return ranks

    def _weights(self, hashes: Hashes, annotator: str) -> Hashes:
        digest = blake2b(annotator.encode("utf-8", "surrogatepass"), digest_size=8, person=b"annotator").digest()
        return mix(hashes ^ np.uint64(int.from_bytes(digest)))


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
    """Return the places of the records in the order in which they are asked about.

    Least certain first is uncertainty sampling (Lewis and Gale 1994). Random is the same on every day and differs from
    one annotator to the next, so that no record comes last for all of them; it also decides where another order does
    not. Where others disagree comes by how many different answers there are, which says nothing of what they are.
    """
    drawn = _drawn(facts.hashes, by)
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


def _drawn(hashes: Hashes, by: str) -> Hashes:
    digest = blake2b(by.encode("utf-8", "surrogatepass"), digest_size=8, person=b"order").digest()
    return mix(hashes ^ np.uint64(int.from_bytes(digest)))
