"""The number that an answer ends with, for arithmetic and the extraction of amounts."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

from train.evaluate.metrics import BEGINS, UNSPACED, Scores, metric

_PARTS = "²³¹¼-¾⁰-₉⅐-⅟↉"
_SPACE = r"[^\S\r\n]+"
# All from a digit to the last one that hangs on it, so that "3/4" and "5 000" are read as a whole or not at all. Behind
# an equals sign, and behind a letter of a script without spaces, another one begins. The exponent of a unit is none.
_RUN = re.compile(
    rf"\^ ?\{{?[-+]?\d[\d.]*|{BEGINS}((?:(?<==) *[-+] *|[-+])?)[$¢-¥₠-⃀]?((?:(?<!\.)\.)?\d(?:(?:(?!(?<=[^\W\d])\^)"
    rf"[^\s=<>|;{UNSPACED}]|(?<=\d){_SPACE}(?:[-+*/×÷^]{_SPACE})?(?=[\d{_PARTS}]))*(?:\d|(?<=[\d\s])[{_PARTS}]))?"
    rf"|[{_PARTS}])"
)
_WITH_POINT = re.compile(
    r"(?:\d+|(?!0)(?:\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+|(?:'\d{3})+)|\d\d?(?:,\d\d)+,\d{3}))?"
    r"(?:\.\d+)?(?:[eE][-+]?\d{1,3})?"
)
_WITH_COMMA = re.compile(
    r"\d+,\d\d?|0,\d+|(?!0)\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,}|(?: \d{3})+,\d+|(?:'\d{3})+,\d+)"
)
# A true minus and other dashes, which typographers and models write for one; apostrophe; full-width and Arabic marks.
_MARKS = str.maketrans(
    "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d\uff0b\u2019\uff0c\uff0e\u066b\u066c", "-------+',..,"
)


@metric(
    "numeric",
    cases=[
        ("6 times 7 is 42.", "42", 1.0),
        ("42 and then 43", "42", 0.0),
        ("1,234.50", "1234.5", 1.0),
        ("\u22125", "-5", 1.0),
        ("1e3", "1000", 1.0),
        (".5", "0.5", 1.0),
        ("4-3", "3", 0.0),
        ("about 99", "100", 0.0),
        ("about 99", "100", 1.0, {"rel_tol": 0.02}),
        ("99.5", "100", 1.0, {"abs_tol": 0.5}),
        ("5 kg, 3 boxes", "5 kg", 1.0, {"units": ["kg", "kilograms"]}),
        ("5", "5 kg", 0.0, {"units": ["kg"]}),
        ("$12", "12 USD", 1.0, {"units": ["$", "USD"]}),
        ("none", "7", 0.0),
        ("\u7b54\u3048\u306f42\u3067\u3059\u3002", "42", 1.0),
        ("7", "none", {}),
    ],
)
def numeric(
    completion: str, reference: str, *, rel_tol: float = 0.0, abs_tol: float = 0.0, units: Sequence[str] = ()
) -> float | Scores:
    """1 when the last number of the completion is the last number of the reference.

    ``rel_tol`` and ``abs_tol`` allow a difference, relative to the reference or absolute. With ``units`` only numbers
    that stand beside one of these names count, before or after; all names mean the same unit. Commas, blanks,
    apostrophes, or points where there are several, group thousands; a comma before one or two digits is decimal. What
    hangs together and is no such number (1/2, 12:30, 4-6, 1,2,3) equals none. A reference that ends with such a thing,
    or has no number, leaves the record unscored.
    """
    if rel_tol < 0 or abs_tol < 0:
        raise ValueError("a tolerance must not be negative")
    if any(not isinstance(unit, str) or not unit.strip() for unit in units):
        raise ValueError("units must be a list of texts that are not empty")
    wanted, got = _last_number(reference, units), _last_number(completion, units)
    if not math.isfinite(wanted):
        return {}
    return float(abs(got - wanted) <= max(rel_tol * abs(wanted), abs_tol, 1e-9 * abs(wanted)))


def _last_number(text: str, units: Sequence[str]) -> float:
    """Return the number that a text ends with; NaN where there is none, or it cannot be read whole."""
    # LaTeX writes a thin blank between thousands, or a comma in braces.
    text = text.translate(_MARKS).replace("\\,", " ").replace("{,}", ",")
    names = [_fold(unit) for unit in units]
    # Models reason first, and the answer is the number that they end with.
    for match in reversed(list(_RUN.finditer(text))):
        if match[2] and (not names or _is_next_to(text, match, names)):
            number = " ".join(match[2].split())
            if _WITH_COMMA.fullmatch(number):
                number = number.replace(".", "").replace(",", ".")
            elif not _WITH_POINT.fullmatch(number):
                break
            return float(re.sub("[ ',]", "", match[1] + number))
    return math.nan


def _is_next_to(text: str, match: re.Match[str], names: Sequence[str]) -> bool:
    before, after = _fold(text[: match.start(2)]).rstrip(" -+"), _fold(text[match.end() :]).lstrip(" ")
    return any(
        (before.endswith(name) and not before[: -len(name)][-1:].isalpha())
        or (after.startswith(name) and not after[len(name) :][:1].isalpha())
        for name in names
    )


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
