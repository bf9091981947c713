"""What may be shown of the values: those that the settings name, and others only when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable

from curate.base.record import Json
from curate.sessions.agreement.answers import Answers, key_of
from curate.sessions.agreement.measure import Agreement


class QuestionAgreement:
    """One question with its agreement, and what of its values may be shown.

    A value that is no text is spelled as JSON. One that may not be shown is ``#1``, ``#2`` and so on; the more frequent
    have the lower numbers. ``answers`` are there when it may be told who answered what.
    """

    def __init__(
        self,
        question: str,
        agreement: Agreement,
        *,
        named: Collection[str] | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.question = question
        self.agreement = agreement
        self.answers = answers
        self._named = named
        hidden = [row.value for row in agreement.classes if not self._is_visible(row.value)]
        self._numbers: dict[Hashable, int] = {key_of(value): number for number, value in enumerate(hidden, start=1)}
        self.are_values_hidden = bool(hidden)

    def name_of(self, value: Json) -> str:
        """Return how ``value`` is called; it is data, and not yet safe for a terminal."""
        if self._is_visible(value):
            return _spelled(value)
        return f"#{self._numbers.setdefault(key_of(value), len(self._numbers) + 1)}"

    def _is_visible(self, value: Json) -> bool:
        return self.answers is not None or self._named is None or _spelled(value) in self._named


def _spelled(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)
