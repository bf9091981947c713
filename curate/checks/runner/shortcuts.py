"""What an examiner need not do for most records; what it reports and counts is the same without any of it.

Most records show no sign of anything. One search by the schema engine for the signs of all checks finds that out in a
few microseconds, where the checks themselves would take a hundred (`Prefilter`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import jsonschema_rs

from curate.base.record import Json
from curate.checks import Check
from curate.schema.settings import Settings

# Says whether none of some signs is found in any text of a value, however deep it lies.
Absence = Callable[[Json], bool]

# Lines after which the time to build the search is won back.
_PAYS_FROM = 256
# The engine builds its automaton while it searches; with too little room it would build parts of it again and again.
_AUTOMATON_BYTES = 20_000_000
_PATTERN_BYTES = 20_000_000

_WHITE = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_ANY = "[\x00-\U0010ffff]"
# What Python takes for an i when case is ignored, and the engine does not.
_OTHER_I = "[\u0130\u0131]"
_PART = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+),\d+\}|\(\?<?[=!]|\\.|.", re.DOTALL)
_ITEM = re.compile(r"\\.|.", re.DOTALL)
# What an escape stands for: outside a class, in one, and in a negated one. Letters beyond ASCII can be meant too, which
# may make a class larger, but must not make a negated one smaller.
_ESCAPES = {
    r"\d": (r"\p{Nd}", r"\p{Nd}", "0-9"),
    r"\w": ("[0-9A-Za-z_\x80-\U0010ffff]", "0-9A-Za-z_\x80-\U0010ffff", "0-9A-Za-z_"),
    r"\s": (f"[{_WHITE}]", _WHITE, _WHITE),
    r"\S": (f"[^{_WHITE}]", "", ""),
    r"\W": (_ANY, "", ""),
    r"\b": ("", "", ""),
    r"\A": ("^", "", ""),
    r"\Z": ("$", "", ""),
    **{escape: (escape, escape, escape) for escape in (r"\n", r"\t", r"\r", r"\x", r"\u")},
}


# A check with signs reports nothing where none of them is found, so that leaving it out changes no result; tests hold
# every check to that.


class Prefilter:
    """Chooses from ``checks`` those that have to look at a line; the order stays.

    What ``settings`` silence is never chosen. The search is built when enough lines have passed to pay for it.
    """

    def __init__(self, checks: Sequence[Check], settings: Settings) -> None:
        self._settings = settings
        self._checks = [check for check in checks if check.speaks_if is None or check.speaks_if(settings)]
        self._unsigned = [check for check in self._checks if not check.signs]
        self._num_unsifted = _PAYS_FROM if len(self._unsigned) < len(self._checks) else -1
        self._absences: dict[str, Absence] = {}

    @cached_property
    def _is_quiet(self) -> Absence:
        """Says whether a line has no sign of any check."""
        return absence_of([sign for check in self._checks for sign in check.signs])

    def checks(self, value: Json) -> list[Check]:
        """Return the checks that can have something to report of the line ``value``."""
        if self._num_unsifted:
            self._num_unsifted -= 1
            return self._checks
        if self._is_quiet(value):
            return self._unsigned
        return [check for check in self._checks if not check.signs or not self._is_absent(check, value)]

    def _is_absent(self, check: Check, value: Json) -> bool:
        if check.code not in self._absences:
            self._absences[check.code] = absence_of(check.signs)
        return self._absences[check.code](value)


def absence_of(signs: Sequence[re.Pattern[str]]) -> Absence:
    """Return the function that says whether none of ``signs`` is found in any text of a value; it may say no too often.

    Raises:
        ValueError: a sign has a part that cannot be loosened.
    """
    sign = "|".join(f"(?:{part})" for part in dict.fromkeys(map(loosened, signs)))
    inner = {"$ref": "#/$defs/inner"}
    text = {"type": "string", "pattern": sign}
    options = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_AUTOMATON_BYTES)
    is_absent: Absence = jsonschema_rs.Draft202012Validator(
        {**inner, "$defs": {"inner": {"not": text, "items": inner, "additionalProperties": inner}}},
        pattern_options=options,
    ).is_valid
    return is_absent


def loosened(pattern: re.Pattern[str]) -> str:
    """Return ``pattern`` in the syntax of the engine, so that it matches every text that it matched, and possibly more.

    Look-around and edges of words are left out, and repeats have no upper bound.

    Raises:
        ValueError: the pattern has a part that cannot be loosened, such as a back-reference.
    """
    sign = "".join(_parts(pattern.pattern, is_dot_any=bool(pattern.flags & re.DOTALL)))
    return f"(?i:{sign})|{_OTHER_I}" if pattern.flags & re.IGNORECASE else sign


def _parts(source: str, *, is_dot_any: bool) -> Iterator[str]:
    offset = 0
    while part := _PART.match(source, offset):
        text, offset = part.group(), part.end()
        if text.startswith("(?"):
            offset = _end_of_group(source, offset)
        elif text == ".":
            yield _ANY if is_dot_any else "[^\n]"
        elif text.startswith("["):
            yield _class(text)
        elif part.group(1):
            yield f"{{{part.group(1)},}}"
        elif text.startswith("\\"):
            yield _item(text, 0)
        elif text in "^$":
            raise ValueError(f"{source!r} has a {text}, which depends on flags: write \\A or \\Z")
        else:
            yield text


def _class(text: str) -> str:
    mark = "^" if text.startswith("[^") else ""
    items = (_item(item, 2 if mark else 1) for item in _ITEM.findall(text[1:-1].removeprefix("^")))
    return f"[{mark}{''.join(items)}]"


def _item(text: str, context: int) -> str:
    if len(text) == 1:
        # The engine has set operations within classes, and Python has not.
        return f"\\{text}" if text in "[&~" else text
    if text in _ESCAPES:
        text = _ESCAPES[text][context]
        if text or not context:
            return text
    elif not text[1].isalnum():
        return text
    raise ValueError(f"{text} cannot be loosened here")


def _end_of_group(source: str, offset: int) -> int:
    """Return where the group ends that is open at ``offset``."""
    depth = 1
    while depth and (part := _PART.match(source, offset)):
        offset = part.end()
        depth += part.group().startswith("(") - (part.group() == ")")
    return offset
