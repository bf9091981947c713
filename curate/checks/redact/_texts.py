"""One text at a time: values out of it and placeholders in; JSON within a text stays JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from curate.base.record import strings_of
from curate.checks.redact._table import PERSON, PLACEHOLDER, PlaceholderTable
from curate.checks.redact._terms import Terms
from curate.checks.spans import Sensitive, sensitive_spans
from curate.checks.within import DEPTH, json_within, respelled_within, unescaped
from curate.jsonl.walker import ESCAPE

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[-+.0-9eE]+', re.DOTALL)
_MOST_ROUNDS = 8

_New = tuple[int, int, str]
"""Where a part of a text begins and ends, and what comes in its place."""


class Redactor:
    """Replaces sensitive values and names in texts, always the same value by the same placeholder."""

    def __init__(self, table: PlaceholderTable, terms: Terms) -> None:
        self.table = table
        self.terms = terms

    def redacted(self, text: str) -> str:
        """Return ``text`` with placeholders.

        Raises:
            CurateError: E959 when a value is new and the table closed.
        """
        return self._redacted(text, DEPTH)

    def kinds(self, text: str) -> list[str]:
        """Return the kinds of sensitive values in ``text``, one each time."""
        return self._kinds(text, DEPTH)

    def _kinds(self, text: str, depth: int) -> list[str]:
        value = json_within(text) if depth else None
        kinds = [span.kind for span in sensitive_spans(text)]
        if value is None:
            return kinds + [PERSON] * len(self.terms.spans(text))
        # Within a string more may be seen, and less of what needs its key.
        inner = Counter(kind for part in strings_of(value) for kind in self._kinds(part, depth - 1))
        return list((Counter(kinds) | inner).elements())

    def _redacted(self, text: str, depth: int) -> str:
        if json_within(text) is None:
            return self._plain(text)
        if depth:
            text = respelled_within(text, lambda part: self._redacted(part, depth - 1))
        # What is left is what only the whole shows, such as a password that its key tells of.
        for _ in range(_MOST_ROUNDS):
            new = list(self._in_tokens(text, sensitive_spans(text, never=PLACEHOLDER)))
            if not new:
                break
            text = _spliced(text, new)
        return text

    def _plain(self, text: str) -> str:
        """What stands around a value decides what it is, so the new text is looked at again until nothing is found."""
        for _ in range(_MOST_ROUNDS):
            # A span across a placeholder is no value of the data.
            spans = sensitive_spans(text, never=PLACEHOLDER)
            new = [
                (span.start, span.end, self.table.placeholder(span.kind, text[span.start : span.end])) for span in spans
            ]
            if not new:
                people = self.terms.spans(text)
                new = [
                    (start, end, self.table.placeholder(PERSON, names[0], names[1:])) for start, end, names in people
                ]
            if not new:
                break
            text = _spliced(text, new)
        return text

    def _in_tokens(self, text: str, spans: Sequence[Sensitive]) -> Iterator[_New]:
        """Yield what is to be replaced in JSON text: parts of single strings or keys, and whole numbers."""
        tokens, last_end = _TOKEN.finditer(text), 0
        token = next(tokens, None)
        for span in spans:
            while token and token.end() <= span.start:
                token = next(tokens, None)
            if token is None:
                return
            if text[token.start()] != '"':
                if (span.start, span.end) == token.span():
                    # A placeholder is no number: it needs the quotes of a string.
                    yield span.start, span.end, f'"{self.table.placeholder(span.kind, token.group())}"'
                continue
            start, end = max(span.start, token.start() + 1, last_end), min(span.end, token.end() - 1)
            start, end = _whole_escapes(text, token.start() + 1, start, end)
            if start < end:
                yield start, end, self.table.placeholder(span.kind, unescaped(text[start:end]))
                last_end = end


def _whole_escapes(text: str, begin: int, start: int, end: int) -> tuple[int, int]:
    """Return the part of a string that begins at ``begin``, made larger where it would cut an escape in two."""
    for escape in ESCAPE.finditer(text, begin, end) if "\\" in text[begin:end] else ():
        if escape.start() < start < escape.end():
            start = escape.start()
        if escape.start() < end < escape.end():
            end = escape.end()
    return start, end


def _spliced(text: str, parts: Sequence[_New]) -> str:
    pieces, offset = [], 0
    for start, end, new in parts:
        pieces += [text[offset:start], new]
        offset = end
    return "".join([*pieces, text[offset:]])
