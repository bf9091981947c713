"""How often the 95 % interval of the debiased win rate holds the truth, beside that of the papers.

    PYTHONPATH=. python benchmarks/judge.py [--replicates 2000]

People judge n records, the judge all; who judges what is drawn. A judge is right in a share of the records, and where
it is not it prefers the tuned answer with its bias. "Plain" is PPI++ with the normal quantile and clustered variance.
"""

from __future__ import annotations

import argparse

import numpy as np

from tests.train.judged import sample
from train.report import calibration

# Win rate, ties, how often the judge is right, its bias, records a cluster.
CASES = [
    (0.6, 0.2, 0.7, 0.9, 1), (0.6, 0.2, 0.7, 0.9, 3), (0.6, 0.0, 0.9, 0.95, 1), (0.6, 0.0, 0.97, 0.95, 1),
    (0.5, 0.0, 0.9, 0.5, 1), (0.8, 0.1, 0.5, 0.1, 1), (0.6, 0.2, 0.0, 0.5, 1), (0.9, 0.05, 0.7, 0.9, 1),
    (0.9, 0.05, 0.7, 0.9, 3),
]  # fmt: skip


def plain(labelled: list[tuple[str, float, float]], others: list[tuple[str, float]]) -> tuple[float, float]:
    """Return the ends of the interval of the papers."""
    names = {name: number for number, name in enumerate(sorted({row[0] for row in [*labelled, *others]}))}
    clusters = np.array([names[row[0]] for row in labelled]), np.array([names[row[0]] for row in others])
    human, judge, rest = (np.array(values) for values in ([r[1] for r in labelled], [r[2] for r in labelled],
                                                          [r[1] for r in others]))  # fmt: skip

    def parts(values: np.ndarray, side: np.ndarray) -> np.ndarray:
        return np.bincount(side, weights=(values - values.mean()) / len(values), minlength=len(names))

    people, change = parts(human, clusters[0]), parts(rest, clusters[1]) - parts(judge, clusters[0])
    weight = float(np.clip(-(people @ change) / max(change @ change, 1e-30), 0, 1))
    value = human.mean() + weight * (rest.mean() - judge.mean())
    half = 1.96 * float(np.sqrt(((people + weight * change) ** 2).sum()))
    return value - half, value + half


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=2000)
    replicates = parser.parse_args().replicates
    print("people  others  win  ties  right  bias  cluster   ours  plain")
    for num, others in ((10, 1000), (20, 1000), (50, 100), (50, 1000), (100, 1000)):
        for win, ties, right, bias, size in CASES:
            rng, truth = np.random.default_rng(11), win * (1 - ties) + ties / 2
            ours, theirs = [], []
            # Clusters are what counts: of three records each it takes more to have as many.
            people = num if size == 1 else num + 15 if others > 100 else 2 * num + 15
            for _ in range(replicates):
                labelled, unlabelled = sample(rng, people, others, win, ties, right, bias, size)
                low, high = plain(labelled, unlabelled)
                theirs.append(low <= truth <= high)
                try:
                    _, (low, high) = calibration.debiased_mean(labelled, unlabelled)
                    ours.append(low <= truth <= high)
                except ValueError:
                    continue
            covered = f"{np.mean(ours):6.3f}" if len(ours) > replicates / 2 else "     -"
            print(
                f"{people:6} {others:7} {win:4} {ties:5} {right:6} {bias:5} {size:8} {covered} {np.mean(theirs):6.3f}"
            )


if __name__ == "__main__":
    main()
