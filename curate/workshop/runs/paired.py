"""Two runs side by side on the records that both were scored on: paired differences, and what chance could have done.

Records that repeat one another are one piece of evidence: whole clusters are drawn and flipped, never records (Miller
2024, arXiv:2411.00640, section 2.2). Rules, seeds and methods are those of `train compare`, so that both say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from curate.record import CurateError
from curate.say import one_line
from curate.workshop.runs.chance import CONFIDENCE, by_cluster, difference_interval, holm, mcnemar, resampled, sign_flip

PREDICTIONS_FILE = "predictions.jsonl"
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Scored:
    """What is compared of one record: its score under the tuned model, None where it has none.

    ``key`` must be equal in two runs for their scores to be comparable. Nothing of it may be shown for a test record.
    """

    id: str
    category: str
    cluster: str
    key: tuple[str, str, int]
    score: float | None


@dataclass(frozen=True, slots=True)
class Paired:
    """One category in both runs: means, the paired difference second - first with its 95 % interval, and p values."""

    category: str
    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    test: str
    p: float
    p_adjusted: float
    """Holm over the categories."""
    better: int
    worse: int

    @property
    def num_ties(self) -> int:
        """Records with the same score in both."""
        return self.n - self.better - self.worse

    @property
    def is_noise(self) -> bool:
        """Whether chance alone can have made such a difference."""
        return self.p_adjusted >= ALPHA or self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Macro:
    """The mean over the categories, each weighing the same."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def is_noise(self) -> bool:
        """Whether chance alone can have made such a difference."""
        return self.p >= ALPHA or self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs on one split. What could not be compared is counted: records of one run only, and those that changed."""

    split: str
    rows: tuple[Paired, ...]
    macro: Macro | None
    num_shared: int
    num_lone: int
    num_changed: int
    num_unscored: int


def read_scored(folder: Path, split: str) -> list[Scored]:
    """Return what the run in ``folder`` says of the records of one split.

    Raises:
        CurateError: E918 with the line, when its predictions are missing or not what a trainer writes there.
    """
    path, number, found = folder / PREDICTIONS_FILE, 0, []
    try:
        with path.open("rb") as lines:
            for line in lines:
                number += 1
                row = orjson.loads(line)
                if row["split"] == split:
                    found.append(_scored(row))
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{one_line(str(path))}:{number}: {one_line(str(error), 120)}"
        raise CurateError("E918 bad-report", told, "Evaluate the run again with `train eval`.") from error
    return found


def compare(first: Sequence[Scored], second: Sequence[Scored], split: str, *, resamples: int = 2000) -> Comparison:
    """Compare the tuned models of two runs on the records that both scored in the same way, category by category.

    Raises:
        ValueError: fewer than one resample is asked for.
    """
    others = {one.id: one for one in second}
    both = [(one, others[one.id]) for one in first if one.id in others]
    same = [(a, b) for a, b in both if (a.category, a.key) == (b.category, b.key)]
    groups: dict[str, list[tuple[Scored, Scored]]] = {}
    for a, b in same:
        if a.score is not None and b.score is not None:
            groups.setdefault(a.category, []).append((a, b))
    drafts = [_paired(split, category, pairs, resamples) for category, pairs in sorted(groups.items())]
    adjusted = holm([draft.p for draft in drafts])
    rows = tuple(_adjusted(draft, p) for draft, p in zip(drafts, adjusted, strict=True))
    return Comparison(
        split,
        rows,
        _macro(split, groups, rows, resamples),
        len(same),
        len(first) + len(second) - 2 * len(both),
        len(both) - len(same),
        len(same) - sum(len(pairs) for pairs in groups.values()),
    )


def _paired(split: str, category: str, pairs: Sequence[tuple[Scored, Scored]], resamples: int) -> Paired:
    before = [a.score for a, _ in pairs if a.score is not None]
    after = [b.score for _, b in pairs if b.score is not None]
    differences = _differences(pairs)
    clusters = [a.cluster for a, _ in pairs]
    seed = _seed(split, category)
    better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    if set(before) | set(after) <= {0.0, 1.0} and len(set(clusters)) == len(clusters):
        test, p = "mcnemar", mcnemar(better, worse)
    else:
        test, p = "sign-flip", sign_flip([float(row[0]) for row in by_cluster(differences, clusters)], seed)
    low, high = difference_interval(differences, clusters, seed, resamples)
    first, second = (math.fsum(side) / len(pairs) for side in (before, after))
    return Paired(category, len(pairs), first, second, second - first, low, high, test, p, p, better, worse)


def _macro(
    split: str, groups: Mapping[str, Sequence[tuple[Scored, Scored]]], rows: Sequence[Paired], resamples: int
) -> Macro | None:
    """Return the mean over the categories; clusters are drawn within each, and flipped across all of them."""
    import numpy as np

    if not rows:
        return None
    draws, parts = [], list[float]()
    for category, pairs in sorted(groups.items()):
        clusters, differences = [a.cluster for a, _ in pairs], _differences(pairs)
        draws.append(resampled(by_cluster(differences, clusters), _seed(split, category, "macro"), resamples))
        weighted: dict[str, float] = {}
        for cluster, difference in zip(clusters, differences, strict=True):
            weighted[cluster] = weighted.get(cluster, 0.0) + difference / (len(rows) * len(pairs))
        parts += weighted.values()
    low, high = np.quantile(np.mean(draws, axis=0), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    first, second, mean = (
        math.fsum(getattr(row, name) for row in rows) / len(rows) for name in ("first", "second", "difference")
    )
    return Macro(first, second, mean, float(low), float(high), sign_flip(parts, _seed(split, "macro")))


def _differences(pairs: Sequence[tuple[Scored, Scored]]) -> list[float]:
    return [b.score - a.score for a, b in pairs if a.score is not None and b.score is not None]


def _seed(*names: str) -> list[int]:
    return [crc32(name.encode("utf-8", "surrogatepass")) for name in names]


def _adjusted(one: Paired, p: float) -> Paired:
    return replace(one, p_adjusted=p)


def _scored(row: Mapping[str, Any]) -> Scored:
    texts = [row[name] for name in ("id", "category", "cluster", "reference", "metric")]
    score = (row["tuned"]["scores"] or {}).get(row["metric"])
    num_bytes = row["tuned"]["num_bytes"]
    if not all(type(text) is str for text in texts) or type(num_bytes) is not int:
        raise TypeError("id, category, cluster, reference and metric are texts, num_bytes is a number")
    if score is not None and not (type(score) in (int, float) and 0 <= score <= 1):
        raise ValueError("a score lies in 0 to 1")
    name, category, cluster, reference, metric = texts
    return Scored(name, category, cluster, (reference, metric, num_bytes), None if score is None else float(score))
