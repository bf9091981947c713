"""The formulas of agreement, once for numbers and for arrays of resamples, and what their results are held to be.

In all of them chance is what the measure takes out: 1 is perfect, 0 is what guessing by the observed shares would give,
and below 0 annotators agree less than that.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Number = TypeVar("Number", "float", "NDArray[numpy.float64]")
Grade = Literal["ok", "warn", "error", ""]

CONFIDENCE = 0.95
RELIABLE, TENTATIVE = 0.8, 0.667
"""Krippendorff 2004, Content Analysis, p. 241: rely on what reaches 0.8, conclude tentatively from 0.667."""


def alpha_rate(apart: Number, num: Number, squares: Number) -> Number:
    """Return Krippendorff's alpha for nominal data, with missing answers allowed.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability" (https://repository.upenn.edu/asc_papers/43), C.
    Only records with at least two answers count. ``num`` is the number of their answers, ``squares`` the sum over the
    values of the squared number of answers that gave it, and ``apart`` the sum over the records of the ordered pairs of
    different answers, divided by the answers of the record less one. Undefined (division by zero) where all answers are
    one value.
    """
    return 1 - (num - 1) * apart / (num * num - squares)


def kappa_rate(agreed: Number, chance: Number, num: Number) -> Number:
    """Return a kappa: what was agreed beyond chance, as a share of what could have been.

    Cohen 1960, Educational and Psychological Measurement 20:37; Fleiss 1971, Psychological Bulletin 76:378. Of ``num``
    pairs of answers ``agreed`` are the same and ``chance`` would be by chance. Undefined where chance alone agrees on
    everything.
    """
    return (agreed - chance) / (num - chance)


def wilson(num_right: int, num: int) -> tuple[float, float]:
    """Return the interval of a share by Wilson's score method, at 95 %; ``num`` is at least 1.

    Wilson 1927, JASA 22:209. Unlike the bootstrap it has a width also where all or none were right.
    """
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share = num_right / num
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return max(0.0, middle - half), min(1.0, middle + half)


def grade(value: float | None) -> Grade:
    """Return how an alpha, or a kappa, is to be shown: "ok" from 0.8, "warn" from 0.667, else "error"; "" is unknown.

    The limits are Krippendorff's, and customs, not laws: what is at stake decides how much is enough.
    """
    if value is None:
        return ""
    return "ok" if value >= RELIABLE else "warn" if value >= TENTATIVE else "error"
