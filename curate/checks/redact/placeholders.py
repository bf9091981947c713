"""Which names are replaced, and by which placeholder: a value has one number within a run, and no file keeps it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from curate.base.console import one_line
from curate.base.record import CurateError

# Scripts written without blanks between words: there a name has no border that could be asked for.
_NO_BLANKS = re.compile("[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_GOES_ON = re.compile(r"[\w\u0300-\u036f]")
# White space that is more than one plain blank.
_WIDE = re.compile(r"[^\S ]\s*| \s+")
_ALIASES = re.compile(r"[\t|]")

PLACEHOLDER = re.compile(r"\[[A-Z]{2,16}_[1-9][0-9]{0,8}\]")
PERSON = "person"
SECRET = "SECRET"  # noqa: S105  a label
LABELS = {
    "e-mail address": "EMAIL",
    "phone number": "PHONE",
    "payment card number": "CARD",
    "IBAN": "IBAN",
    "US social security number": "SSN",
    "IP address": "IP",
    PERSON: "PERSON",
}


class Terms:
    """Names to replace; names on one line are one person."""

    # Matched as they are written, case and all, at the borders of words; blanks within match any white space. Thousands
    # cost little: a name is looked up by its first two characters and its length.

    def __init__(self, people: Sequence[Sequence[str]]) -> None:
        self.people = {_key(name): names for names in people for name in names}
        # A text may spell an accent as a character of its own.
        self._names = {unicodedata.normalize(form, name) for name in self.people for form in ("NFC", "NFD")}
        self._lengths: dict[str, list[int]] = {}
        for start, length in sorted({(name[:2], len(name)) for name in self._names}, key=lambda pair: -pair[1]):
            self._lengths.setdefault(start, []).append(length)
        firsts = sorted({name[0] for name in self._names})
        bordered = "".join(re.escape(first) for first in firsts if not _NO_BLANKS.match(first))
        others = "".join(first for first in firsts if _NO_BLANKS.match(first))
        starts = [*([rf"(?<!\w)[{bordered}]"] if bordered else []), *([f"[{others}]"] if others else [])]
        self._start = re.compile("|".join(starts)) if starts else None

    def spans(self, text: str) -> list[tuple[int, int, Sequence[str]]]:
        """Return where names stand in ``text``: begin, end, and all names of that person."""
        if self._start is None:
            return []
        # One blank for each run of white space.
        flat = _WIDE.sub(" ", text)
        matches: list[tuple[int, int]] = []
        last_end = 0
        for first in self._start.finditer(flat):
            start = first.start()
            if start < last_end or (flat[start - 1 : start] == "[" and PLACEHOLDER.match(flat, start - 1)):
                continue
            # The longest first.
            for length in self._lengths.get(flat[start : start + 2], ()):
                end = min(start + length, len(flat))
                if flat[start:end] in self._names and _is_end_of_name(flat, end):
                    matches.append((start, end))
                    last_end = end
                    break
        # Few texts name somebody, and the others need no way back to their own places.
        ends = _ends(text) if matches else ()
        return [(ends[start], ends[end], self.people[_key(flat[start:end])]) for start, end in matches]


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
            if len(_key(name)) < 2:
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


def _ends(text: str) -> Sequence[int]:
    """Return where in ``text`` the first n characters end when each run of white space counts as one."""
    ends, offset = [0], 0
    for run in _WIDE.finditer(text):
        ends += [*range(offset + 1, run.start() + 1), run.end()]
        offset = run.end()
    return [*ends, *range(offset + 1, len(text) + 1)]


def _is_end_of_name(text: str, end: int) -> bool:
    """Whether no word goes on at ``end``, as far as the script of the name can tell."""
    return bool(_NO_BLANKS.match(text, end - 1) or not _GOES_ON.match(text, end))


class Placeholders:
    """Gives each value its placeholder: the one that it had before in this run, or the next number that is free."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._given: dict[tuple[str, str], str] = {}
        self._last: Counter[str] = Counter()

    def reserve(self, placeholders: Iterable[str]) -> None:
        """Never give out ``placeholders``: they stand in the data already and mean something else."""
        self._taken.update(placeholders)

    def of(self, kind: str, value: str, also: Iterable[str] = ()) -> str:
        """Return the placeholder of ``value``, a new one where it has none; ``also`` names the same thing."""
        label = LABELS.get(kind, SECRET)
        keys = [(label, normal_form(label, name)) for name in (value, *also)]
        placeholder = next((self._given[key] for key in keys if key in self._given), "") or self._next(label)
        for key in keys:
            self._given.setdefault(key, placeholder)
        return placeholder

    def _next(self, label: str) -> str:
        while True:
            self._last[label] += 1
            placeholder = f"[{label}_{self._last[label]}]"
            if placeholder not in self._taken:
                return placeholder


def normal_form(label: str, value: str) -> str:
    """Return ``value`` without what can be spelled in more than one way: case, separators, the plus of a number."""
    if label in ("EMAIL", "IP"):
        return value.lower()
    if label in ("CARD", "SSN"):
        return re.sub(r"\D", "", value)
    if label == "IBAN":
        return value.replace(" ", "").upper()
    if label == "PHONE":
        digits = re.sub(r"\D", "", value).removeprefix("00")
        return digits[1:] if len(digits) == 11 and digits.startswith("1") else digits
    return " ".join(value.split()) if label == "PERSON" else value
