"""Who may see whose answers: another's to a record only who has answered it too, or cannot be asked any more."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from curate.journal import ASIDES
from curate.record import Json

_NOTHING: Mapping[str, Json] = MappingProxyType({})


class Answered(Protocol):
    """What has answers, as `curate.workspace.State` has them."""

    @property
    def answers(self) -> Mapping[str, Mapping[str, Json]]:
        """By question, what each annotator answered."""

    @property
    def resolved(self) -> Mapping[str, Json]:
        """By question, what was settled."""


def answers_for(state: Answered, question: str, by: str) -> Mapping[str, Json]:
    """Return what the annotator ``by`` may see of the answers to ``question``: all or nothing.

    Nothing before they have given their own, unless the question is settled and asks nobody any more. Everything that
    shows answers to somebody who may still be asked goes through here, or asks `is_hidden`.
    """
    return _NOTHING if is_hidden(state, question, by) else state.answers.get(question, _NOTHING)


def is_hidden(state: Answered, question: str, by: str) -> bool:
    """Whether others have answered ``question`` and ``by`` must not see how, nor what came of it."""
    given = state.answers.get(question, _NOTHING)
    return bool(given) and given.get(by) is None and state.resolved.get(question) is None


__all__ = ["ASIDES", "Answered", "answers_for", "is_hidden"]
