"""Random answers, and agreement written out as it is defined, for tests of how it is counted."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from curate.sessions.agreement import Answers
from curate.sessions.agreement_figures import Chance

QUICK = Chance(resamples=20)


def close(value: float | None, wanted: float, places: int = 3) -> bool:
    return value is not None and abs(value - wanted) <= 0.5 * 10**-places + 1e-12


def random_answers(
    seed: int, num: int = 200, *, values: int = 4, people: int = 3, noise: float = 0.4, gap: float = 0.3
):
    generator = random.Random(seed)
    answers: dict[str, dict[str, Any]] = {}
    for number in range(num):
        right = generator.randrange(values)
        answers[f"r{number}"] = {
            f"p{by}": f"v{right if generator.random() > noise else generator.randrange(values)}"
            for by in range(people)
            if generator.random() > gap
        }
    return answers


def written_out_alpha(answers: Answers) -> float | None:
    """Return alpha from the matrix of coincidences, step by step as Krippendorff 2011 tells it."""
    coincidences: Counter[tuple[Any, Any]] = Counter()
    for own in answers.values():
        values = list(own.values())
        for i, left in enumerate(values):
            for j, right in enumerate(values):
                if i != j:
                    coincidences[left, right] += 1 / (len(values) - 1)
    totals: Counter[Any] = Counter()
    for (left, _), count in coincidences.items():
        totals[left] += count
    num = sum(totals.values())
    expected = sum(totals[c] * totals[k] for c in totals for k in totals if c != k)
    if not expected:
        return None
    return 1 - (num - 1) * sum(count for (c, k), count in coincidences.items() if c != k) / expected
