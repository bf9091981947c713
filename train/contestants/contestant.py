"""What a contestant is asked, and how; nothing here knows what kind of model it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from train.data.dataset import Row, last_answer
from train.evaluate.scoring import Answer

Kind = Literal["base", "run", "adapter", "gguf", "endpoint", "recording"]
NO_ANSWER = "E963 no-answer"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn: temperature 0 takes the likeliest token each time; the same seed gives the same draw."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_new_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 256


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation to answer: that of ``row`` up to its last answer, which no contestant sees.

    With ``choices``, texts that may follow it, it is asked how likely each of them is, and none is written.
    """

    row: Row
    sampling: Sampling = field(default_factory=Sampling)
    choices: Sequence[str] = ()

    @property
    def id(self) -> str:
        """The row's."""
        return self.row.id

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """The messages before the answer; raises RowFault where the row has none."""
        messages = self.row.messages or []
        return messages[: last_answer(messages)]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why a request has no answer: the code of the error, such as "E925 too-long", and a sentence."""

    id: str
    code: str
    reason: str


OnAnswer = Callable[[Answer | Unanswered], None]
"""Hears of each request once, in any order, as soon as it is done."""
OnText = Callable[[str, str], bool]
"""Hears the id of a request and what was just written of its answer, and says whether it shall go on."""


class Contestant(Protocol):
    """A model that can be asked; `close` frees what it holds.

    ``digest`` tells it from every other: of its weights and template, or of url and model. ``memory`` is how many bytes
    it was planned to take, ``reads`` how many tokens it reads, None where nobody knows.
    """

    name: str
    kind: Kind
    digest: str
    memory: int
    reads: int | None
    can_compare: bool
    """Whether it can say how likely the choices of a request are."""

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Answer all ``requests``; one that cannot be answered is `Unanswered`, and stops no other."""
        ...

    def close(self) -> None:
        """Free the memory or the connections; it is not asked again."""
        ...
