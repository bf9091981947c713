"""The interval of a share, for all that counts answers or records; numpy is not needed for it."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def wilson(num_right: int, num: int, population: int | None = None) -> tuple[float, float]:
    """Return the interval of a share by Wilson's score method, at 95 %; ``num`` is at least 1.

    Wilson 1927, JASA 22:209. Unlike the bootstrap it has a width also where all or none were right. Where the ``num``
    were drawn from a ``population`` that is not much larger, and never twice, they tell more: the variance of the share
    is multiplied by (population - num) / (population - 1), see Cochran 1977, "Sampling Techniques", section 3.2. Here
    the effective number is divided by it. ``population`` is larger than ``num``.
    """
    # Few of those who import this module call it.
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share, n = num_right / num, float(num)
    if population is not None:
        n *= (population - 1) / (population - num)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends rounding may leave the interval a hair short of the share itself.
    return middle - half if num_right else 0.0, middle + half if num_right < num else 1.0
