"""Where the sensitive values of a text stand, of whatever kind: for those who replace or hide them."""

from __future__ import annotations

import re
from bisect import bisect
from typing import NamedTuple

from curate.base.patterns import lazy_pattern
from curate.checks import personal_data, secret

_KEY_END = lazy_pattern(r"-----END (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----")
_KEY_BODY = lazy_pattern(r"(?:[A-Za-z0-9+/:=,-]|\\r|\\n|[ \t\r\n>|\"'+])*")


class Sensitive(NamedTuple):
    """A sensitive value: its kind, and where in the text it begins and ends."""

    kind: str
    start: int
    end: int


def sensitive_spans(text: str, never: re.Pattern[str] | None = None) -> list[Sensitive]:
    """Return the secrets and personal data of ``text`` in order, none within or across another."""
    # Where two overlap the secret counts, else the one that begins first, else the longer one. Of a private key, whose
    # check is content with its beginning, all is meant up to its closing line. What a match of ``never`` is part of is
    # no value.
    ranked = [(0, Sensitive(*span)) for span in secret.spans(text)]
    ranked = [(0, _whole(text, span)) if span.kind == "private key" else (0, span) for _, span in ranked]
    ranked += [(1, Sensitive(*span)) for span in personal_data.spans(text)]
    if never:
        ranked = [(rank, span) for rank, span in ranked if not never.search(text, span.start, span.end)]
    taken: list[Sensitive] = []
    for _, span in sorted(ranked, key=lambda pair: (pair[0], pair[1].start, -pair[1].end)):
        index = bisect(taken, span.start, key=lambda other: other.start)
        is_after = index == 0 or taken[index - 1].end <= span.start
        if is_after and (index == len(taken) or span.end <= taken[index].start):
            taken.insert(index, span)
    return taken


def with_values_hidden(text: str) -> str:
    """Return ``text`` with a dot for every character of its sensitive values but the first two of each."""
    parts, offset = [], 0
    for span in sensitive_spans(text):
        parts += [text[offset : span.start + 2], "·" * max(0, span.end - span.start - 2)]
        offset = max(span.end, span.start + 2)
    return "".join([*parts, text[offset:]])


def _whole(text: str, key: Sensitive) -> Sensitive:
    """Return all of a private key: up to its closing line, or as far as it can be one where that is missing."""
    body = _KEY_BODY.match(text, key.end)
    end = max(key.end, body.end() if body else 0)
    closing = _KEY_END.search(text, key.end, end + 80)
    if closing:
        return key._replace(end=closing.end())
    return key._replace(end=key.start + len(text[key.start : end].rstrip()))
