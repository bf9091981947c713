"""The number that an answer ends with, for arithmetic and the extraction of amounts."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

from train.evaluate.metrics import BEGINS, Scores, metric

_NUMBER = re.compile(
    BEGINS + r"(?<!\.)[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3}(?!\d))?"
)
# A true minus and two dashes, which typographers and models write for one.
_MINUS = str.maketrans({"\u2212": "-", "\u2013": "-", "\u2012": "-"})


@metric(
    "numeric",
    cases=[
        ("6 times 7 is 42.", "42", 1.0),
        ("42 and then 43", "42", 0.0),
        ("1,234.50", "1234.5", 1.0),
        ("\u22125", "-5", 1.0),
        ("1e3", "1000", 1.0),
        (".5", "0.5", 1.0),
        ("4-3", "3", 1.0),
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
    that stand beside one of these names count, before or after; all names mean the same unit. Commas group thousands.
    A reference without a number leaves the record unscored.
    """
    if rel_tol < 0 or abs_tol < 0:
        raise ValueError("a tolerance must not be negative")
    if any(not isinstance(unit, str) or not unit.strip() for unit in units):
        raise ValueError("units must be a list of texts that are not empty")
    wanted, got = _last_number(reference, units), _last_number(completion, units)
    if wanted is None:
        return {}
    return float(got is not None and abs(got - wanted) <= max(rel_tol * abs(wanted), abs_tol, 1e-9 * abs(wanted)))


def _last_number(text: str, units: Sequence[str]) -> float | None:
    text = unicodedata.normalize("NFKC", text).translate(_MINUS)
    names = [unicodedata.normalize("NFKC", unit).casefold() for unit in units]
    # Models reason first, and the answer is the number that they end with.
    for match in reversed(list(_NUMBER.finditer(text))):
        value = float(match.group().replace(",", ""))
        if math.isfinite(value) and (not names or _is_next_to(text, match, names)):
            return value
    return None


def _is_next_to(text: str, match: re.Match[str], names: Sequence[str]) -> bool:
    before = text[: match.start()].rstrip(" -+").casefold()
    after = text[match.end() :].lstrip(" ").casefold()
    return any(
        (before.endswith(name) and not before[: -len(name)][-1:].isalpha())
        or (after.startswith(name) and not after[len(name) :][:1].isalpha())
        for name in names
    )
