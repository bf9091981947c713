"""The key of an endpoint in what comes back from there: an endpoint may repeat what it was sent, whole or in parts."""

from __future__ import annotations

from collections.abc import Callable

from train.contestants.exchange import ExchangeError

_FEWEST = 8
"""Characters of a key in a row that no message shows."""
_TELLING = 16
"""Characters of a key in a row that no answer has: vendors let all their keys begin alike, with fewer than these."""


class Secret:
    """A key that is never shown; an empty ``text`` is none, and stands nowhere."""

    def __init__(self, text: str) -> None:
        self.text = text

    def hidden(self, text: str) -> str:
        """Return ``text`` with "(the key)" for each part of the key that has eight characters or more."""
        num = min(_FEWEST, len(self.text))
        start, parts = 0, list[str]()
        while start < len(text):
            stop = start + num
            if not num or text[start:stop] not in self.text or stop > len(text):
                parts.append(text[start])
                start += 1
                continue
            while stop < len(text) and text[start : stop + 1] in self.text:
                stop += 1
            parts.append("(the key)")
            start = stop
        return "".join(parts)

    def check(self, text: str) -> None:
        """Raise ExchangeError where ``text`` repeats the key, or so much of it that the rest could be guessed."""
        num = min(_TELLING, len(self.text))
        if num and any(self.text[at : at + num] in text for at in range(len(self.text) - num + 1)):
            raise ExchangeError("its answer repeats the key", is_answer=True)

    def may_begin(self, text: str) -> int:
        """Return the number of characters at the end of ``text`` with which the key may begin."""
        most = min(_TELLING - 1, len(self.text) - 1, len(text))
        return next((num for num in range(most, 0, -1) if text[-num:] in self.text), 0)


class GuardedText:
    """Hands what is written on to ``show``, and holds back what may be the beginning of ``secret``."""

    def __init__(self, secret: Secret, show: Callable[[str], bool]) -> None:
        self._secret, self._show, self._pending = secret, show, ""

    def take(self, text: str) -> bool:
        """Take the next part, and say whether it shall go on; raises ExchangeError where the key is in it."""
        self._pending += text
        self._secret.check(self._pending)
        num = len(self._pending) - self._secret.may_begin(self._pending)
        ready, self._pending = self._pending[:num], self._pending[num:]
        return self._show(ready)

    def end(self) -> None:
        """Hand on what was held back: it was no key."""
        if self._pending:
            self._show(self._pending)
