"""How often verdicts and intervals over training seeds are right, and how often what doubling brings is foretold.

    PYTHONPATH=. python benchmarks/series.py [--replicates 1000] [--only seeds|curves]

Seeds: base and tuned are equally good, and each seed moves the tuned model by a normal number. "One run" is the verdict
of a single run, which sees records alone. Curves: scores follow a known power law, and shares of 25, 50 and 100 % of
the records are measured on 60 records.
"""

from __future__ import annotations

import argparse

import numpy as np

from tests.train.simulated import alone, curve_gain, pooled, seed_runs

LAWS = [(0.9, 0.2, 0.5), (0.8, 0.1, 0.3), (0.95, 0.05, 1.0), (1.0, 0.3, 0.2), (0.7, 0.02, 0.5), (0.6, 0.0, 0.5)]


RECORDS = 60
"""Validation records that measure a curve."""


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


def curves_table(replicates: int) -> None:
    """Print how often the interval of what doubling brings holds the truth, and how wide it is."""
    print("level  fall  exponent  doubling  seeds  spread  0 or 1: covers  width  graded: covers  width")
    for law in LAWS:
        for seeds, between in ((1, 0.0), (2, 0.03), (3, 0.03)):
            cells = []
            for is_graded in (False, True):
                rng, hits, widths = np.random.default_rng(7), 0, 0.0
                for _ in range(replicates):
                    truth, gain = curve_gain(rng, law, RECORDS, seeds, between=between, is_graded=is_graded)
                    hits += gain.low - 1e-9 <= truth <= gain.high + 1e-9
                    widths += gain.high - gain.low
                cells.append((f"{100 * hits / replicates:.1f} %", f"{widths / replicates:.3f}"))
            (first, wide), (second, width) = cells
            print(
                f"{law[0]:5.2f}  {law[1]:4.2f}  {law[2]:8.2f}  {truth:8.3f}  {seeds:5d}  {between:6.2f}  "
                f"{first:>14}  {wide:>5}  {second:>14}  {width:>5}", flush=True,
            )  # fmt: skip


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--only", choices=["seeds", "curves"])
    options = parser.parse_args()
    if options.only != "curves":
        seeds_table(options.replicates)
    if options.only != "seeds":
        curves_table(options.replicates)


if __name__ == "__main__":
    main()
