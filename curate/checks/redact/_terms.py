"""Names of people, which no rule can find and so a list must hold."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from curate.base.console import one_line
from curate.base.record import CurateError
from curate.checks.redact._table import PLACEHOLDER

# Scripts written without blanks between words: there a name has no border that could be asked for.
_NO_BLANKS = re.compile("[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_WORD = re.compile(r"\w+")
_GOES_ON = re.compile(r"[\w\u0300-\u036f]")
_WHITE = re.compile(r"\s+")
_WIDE = re.compile(r"[^\S ]|\s\s")
_ALIASES = re.compile(r"[\t|]")


class Terms:
    """Names to replace; names on one line are one person.

    Matched as they are written, case and all, at the borders of words; blanks within match any white space. Thousands
    cost little: names that begin with a word are looked up by it, the others by their first two characters and lengths.
    """

    def __init__(self, people: Sequence[Sequence[str]]) -> None:
        self.people = {_key(name): names for names in people for name in names}
        self._by_word: dict[str, list[str]] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        rest: set[str] = set()
        for name in self.people:
            spellings = dict.fromkeys(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
            for spelling in spellings:
                word = None if _NO_BLANKS.match(spelling) else _WORD.match(spelling)
                if word:
                    self._by_word.setdefault(word.group(), []).append(spelling)
                else:
                    rest.add(spelling)
        self._rest = rest
        self._first = re.compile("|".join(re.escape(first) for first in sorted({name[0] for name in rest})))
        self._lengths: dict[str, list[int]] = {}
        for start, length in sorted({(name[:2], len(name)) for name in rest}, key=lambda pair: -pair[1]):
            self._lengths.setdefault(start, []).append(length)

    def spans(self, text: str) -> list[tuple[int, int, Sequence[str]]]:
        """Return where names stand in ``text``: begin, end, and all names of that person."""
        candidates = self._anywhere(text) if self._rest else []
        for word in _WORD.finditer(text) if self._by_word else ():
            if word.group() in self._by_word:
                match = self._pattern(word.group()).match(text, word.start())
                is_ours = text[word.start() - 1 : word.start()] == "[" and PLACEHOLDER.match(text, word.start() - 1)
                if match and not is_ours:
                    candidates.append(match.span())
        spans, last_end = [], 0
        for start, end in sorted(candidates, key=lambda span: (span[0], -span[1])):
            if start >= last_end:
                spans.append((start, end, self.people[_key(text[start:end])]))
                last_end = end
        return spans

    def _anywhere(self, text: str) -> list[tuple[int, int]]:
        """Return where names stand that begin with no word, of those that begin at one place the longest."""
        flat, ends = _flattened(text)
        matches = []
        for first in self._first.finditer(flat):
            start = first.start()
            for length in self._lengths.get(flat[start : start + 2], ()):
                end = min(start + length, len(flat))
                if flat[start:end] in self._rest and _is_bordered(flat, start, end):
                    matches.append((ends[start], ends[end]))
                    break
        return matches

    def _pattern(self, word: str) -> re.Pattern[str]:
        if word not in self._patterns:
            self._patterns[word] = _any_of(self._by_word[word])
        return self._patterns[word]


def read_terms(path: Path) -> Terms:
    """Read a list of people: one a line, the names of one person parted by tabs or bars; # begins a remark.

    Raises:
        CurateError: E904 when the file cannot be read; E902 when a name is a single character or stands on two lines.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} cannot be read: {reason}") from error
    people: list[list[str]] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        names = [" ".join(name.split()) for name in _ALIASES.split(line)] if not line.startswith("#") else []
        names = [name for name in dict.fromkeys(names) if name]
        for name in names:
            if len(name) < 2:
                message = f"{one_line(str(path))}:{number}: a name of one character would match everywhere"
                raise CurateError("E902 bad-settings", message, "Write the whole name.")
            if (before := line_of.setdefault(_key(name), number)) != number:
                message = f"{one_line(str(path))}:{number}: this name stands on line {before} too"
                raise CurateError("E902 bad-settings", message, "Put all names of a person on one line.")
        if names:
            people.append(names)
    return Terms(people)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", " ".join(name.split()))


def _flattened(text: str) -> tuple[str, Sequence[int]]:
    """Return ``text`` with one blank for each run of white space, and where in ``text`` the first n characters end."""
    if not _WIDE.search(text):
        return text, range(len(text) + 1)
    ends, offset = [0], 0
    for run in _WHITE.finditer(text):
        ends += [*range(offset + 1, run.start() + 1), run.end()]
        offset = run.end()
    return _WHITE.sub(" ", text), [*ends, *range(offset + 1, len(text) + 1)]


def _is_bordered(text: str, start: int, end: int) -> bool:
    """Whether the name from ``start`` to ``end`` is no part of a word, as far as its script can tell."""
    is_begun = _NO_BLANKS.match(text, start) or not _WORD.match(text[max(0, start - 1) : start])
    return bool(is_begun and (_NO_BLANKS.match(text, end - 1) or not _GOES_ON.match(text, end)))


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    """Return the pattern of any of ``names``, the longest first."""
    return re.compile("|".join(_bordered(name) for name in sorted(names, key=lambda name: (-len(name), name))))


def _bordered(name: str) -> str:
    body = r"\s+".join(re.escape(word) for word in name.split())
    before = "" if _NO_BLANKS.match(name[0]) else r"(?<!\w)"
    after = "" if _NO_BLANKS.match(name[-1]) else f"(?!{_GOES_ON.pattern})"
    return f"{before}{body}{after}"
