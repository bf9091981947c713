"""How often verdicts and intervals over training seeds are right, and how learning curves are called.

    PYTHONPATH=. python benchmarks/series.py [--replicates 1000] [--only seeds|curves|choices]

Seeds: base and tuned are equally good, and each seed moves the tuned model by a normal number. "One run" is the verdict
of a single run, which sees records alone. Curves: scores of 0 and 1 have known means on 25, 50 and 100 % of the
records; what is the curve called, and does the interval hold what a doubling brought? Choices: how often is any of
some equal choices of a sweep told from the best of them? Rates of these two stand with their Monte Carlo error.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import product

import numpy as np

from tests.train.simulated import alone, equal_choices, measured_curve, pooled, seed_runs
from train.report.series import Exam


def seeds_table(replicates: int) -> None:
    """Print the share of false "improved", and how often the interval holds the true change of zero."""
    print("score   records  spread  seeds  improved  covers  one run: improved  covers")
    for is_graded, num, size in ((True, 40, 1), (False, 150, 3)):
        for between in (0.0, 0.03, 0.08):
            for seeds in (2, 3):
                rng, counts = np.random.default_rng(5), np.zeros(4)
                for _ in range(replicates):
                    base, sides = seed_runs(rng, num, seeds, between=between, size=size, is_graded=is_graded)
                    for index, report in enumerate((pooled(base, sides), alone(base, sides[0]))):
                        (row,) = report.main().categories
                        counts[2 * index] += row.verdict == "improved"
                        counts[2 * index + 1] += row.difference.low <= 0 <= row.difference.high
                rates = [f"{100 * rate:5.1f} %" for rate in counts / replicates]
                records = f"{num}" if size == 1 else f"{num}/{size}"
                kind = "graded" if is_graded else "0 or 1"
                print(
                    f"{kind}  {records:>7}  {between:6.2f}  {seeds:5d}  {rates[0]:>8}  {rates[1]:>6}  "
                    f"{rates[2]:>17}  {rates[3]:>6}", flush=True,
                )  # fmt: skip


CURVES = {
    "flat": (0.6, 0.6, 0.6), "flat, high": (0.9, 0.9, 0.9), "falls": (0.68, 0.65, 0.60),
    "+.05 a doubling": (0.5, 0.55, 0.6), "levels off": (0.5, 0.617, 0.7), "rises slowly": (0.508, 0.556, 0.6),
    "has levelled off": (0.5, 0.7, 0.7),
}  # fmt: skip
"""Mean scores on 25, 50 and 100 % of the records."""


def _rate(hits: int, num: int) -> str:
    return f"{100 * hits / num:5.1f} ± {100 * (hits / num * (1 - hits / num) / num) ** 0.5:.1f} %"


def curves_table(replicates: int) -> None:
    """Print what curves are called, and how often the interval holds what a doubling truly brought."""
    print("curve            records  seeds  spread  gain           falls          flat           covers")
    for name, means in CURVES.items():
        for num, seeds, between in product((60, 200), (2, 3), (0.02, 0.05)):
            rng, hits = np.random.default_rng(9), Counter[str]()
            for _ in range(replicates):
                (low, high), word = measured_curve(rng, means, num, seeds, between=between)
                hits.update([word, *(["covers"] if low <= (means[2] - means[0]) / 2 <= high else [])])
            rates = "  ".join(
                f"{_rate(hits[each], replicates):13}" for each in ("+ better", "- worse", "~ flat", "covers")
            )
            print(f"{name:15}  {num:7d}  {seeds:5d}  {between:6.2f}  {rates}", flush=True)


def choices_table(replicates: int) -> None:
    """Print in which share of sweeps any of the equal choices is told from the best."""
    print("choices  records  seeds  spread  told apart")
    for choices, seeds, between in product((2, 12), (2, 3), (0.0, 0.02, 0.05)):
        rng, told = np.random.default_rng(11), 0
        for _ in range(replicates):
            exam = Exam(equal_choices(rng, choices, 113, seeds, between=between))
            told += any(found is not None and found.low > 0 for found in map(exam.behind, range(choices)))
        print(f"{choices:7d}  {113:7d}  {seeds:5d}  {between:6.2f}  {_rate(told, replicates)}", flush=True)


TABLES = {"seeds": seeds_table, "curves": curves_table, "choices": choices_table}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--only", choices=TABLES)
    options = parser.parse_args()
    for name, print_table in TABLES.items():
        if options.only in (None, name):
            print_table(options.replicates)


if __name__ == "__main__":
    main()
