"""What can be said from so few records: intervals, paired tests, and the verdict; every draw is seeded.

Records that repeat one another (a near-duplicate cluster, one source document) are not independent evidence, so
whatever is drawn, flipped or counted here is a *cluster*, never a record: Miller 2024, arXiv:2411.00640, section 2.2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from operator import index
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from train.base.errors import require_extra

try:
    # Not scipy.stats, which takes a second to load, and whose BCa bootstrap takes time and memory by the square of
    # records.
    from scipy.optimize import brentq
    from scipy.special import bdtr, ndtr, ndtri, stdtrit
except ImportError:
    require_extra("scipy", "a report", "train")
    raise


def seed_of(*names: str) -> list[int]:
    """Return the seed of the draws that are about ``names``: the same data always give the same figures."""
    return [crc32(name.encode("utf-8", "surrogatepass")) for name in names]


def as_floats(values: Sequence[float]) -> list[float]:
    """Return ``values``, [records], as floats of 64 bits."""
    plain: list[float] = np.asarray(values, dtype=np.float64).tolist()
    return plain


Floats = NDArray[np.float64]

CONFIDENCE = 0.95
REPLICATES = 2000
_PSEUDO, _UNSEEN = 3, 5
"""Pseudo-clusters of an interval of a difference, and the unseen changes by all that there is that say their size."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def wilson(successes: float, num: float) -> Interval:
    """Return the score interval of a share; ``num`` may be an effective size and need not be whole.

    Never empty, also at 0 of n and n of n, where the textbook interval has no width. Wilson 1927, JASA 22:209; Brown,
    Cai and DasGupta 2001, Statistical Science 16:101, recommend it for small n. Raises ValueError: there are no
    records, or more successes than records.
    """
    successes, num = float(successes), float(num)
    if num <= 0 or not 0 <= successes <= num * (1 + 1e-12):
        raise ValueError(f"{successes:g} of {num:g} is no share")
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    share = min(1.0, successes / num)
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def bootstrap(
    numerators: Sequence[float],
    denominators: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: Sequence[int],
    replicates: int = REPLICATES,
) -> Interval:
    """Return the BCa cluster bootstrap interval of sum(numerators) / sum(denominators).

    BCa corrects the percentiles for bias and skew: Efron 1987, JASA 82:171. Where the correction is not defined (all
    replicates on one side), the plain percentiles are returned. Raises ValueError: there is no record, or the sequences
    differ in length.
    """
    sums = sums_by_cluster(clusters, numerators, denominators)
    rng, size, chunk = np.random.default_rng(seed), len(sums), max(1, 4_000_000 // len(sums))
    counts = (rng.multinomial(size, np.full(size, 1 / size), size=min(chunk, replicates - start)) @ sums
              for start in range(0, replicates, chunk))  # fmt: skip
    drawn = np.concatenate(list(counts))
    drawn = drawn[:, 0] / drawn[:, 1]
    total = sums.sum(axis=0)
    estimate = total[0] / total[1]
    # A draw that meets the estimate counts half; rounding must not decide on which side it is.
    close = np.isclose(drawn, estimate, rtol=1e-12, atol=1e-15)
    below = float(((drawn < estimate) & ~close).mean() + close.mean() / 2)
    tails = np.array([(1 - CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2])
    if 0 < below < 1 and len(sums) >= 2:
        rest = total - sums
        jackknife = rest[:, 0] / rest[:, 1]
        pull = jackknife.mean() - jackknife
        spread = float((pull**2).sum())
        acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 1e-30 else 0.0
        z = ndtri(below) + ndtri(tails)
        tails = ndtr(ndtri(below) + z / (1 - acceleration * z))
    return Interval(*(float(x) for x in np.quantile(drawn, tails)))


def mean_interval(values: Sequence[float], clusters: Sequence[str], num_parts: int = 1) -> Interval:
    """Return the interval of a mean score in [0, 1].

    Values of 0 and 1: Wilson on the effective size, which is how many independent records these are worth where those
    of a cluster say the same (Kish 1965, 5.4): how alike they are cannot be told from few clusters of different sizes,
    and intervals that estimated it held the truth in 52 to 84 % of cases. Graded ones: an adjusted Wald interval by
    Student's t, before which two pseudo-clusters are added, one of 0 and one of 1, as Agresti and Coull 1998 do for
    shares: a rare 0 among scores near 1 may not have been seen, and draws of those that were do not show it (a BCa
    bootstrap held the mean of 95 % in 26 to 91 % of such cases at n = 10 to 60, this one in 94 % and more:
    `benchmarks/intervals.py`). Where it is for the mean over ``num_parts`` categories, shares have Student's t with
    pseudo-records that the categories share: Wilson's bounds are drawn to one half, which adds up over categories (the
    mean of 20 with 12 to 30 clusters was held in 82 to 90 %, so it is in 92 % and more). Raises ValueError: there is
    no record.
    """
    values = as_floats(values)
    if set(values) <= {0.0, 1.0}:
        sizes = sums_by_cluster(clusters, [1.0] * len(values))
        size, share = float(sizes.sum() ** 2 / (sizes**2).sum()), math.fsum(values) / len(values)
        if num_parts == 1 or len(sizes) == 1:
            return wilson(share * size, size)
        extra = _PSEUDO / num_parts
        variance = (size * share * (1 - share) + extra / 4) / (size + extra) / (size - 1 + extra)
        half = min(1.0, student_quantile(len(sizes) - 1) * math.sqrt(variance))
        return Interval(share - half, share + half)
    parts = cluster_parts([values], [1.0] * len(values), clusters)[:, 0]
    total = len(parts) + 2
    mean = (float(parts.sum()) + 1) / total
    spread = (float((parts**2).sum()) + 1) / total - mean**2
    half = student_quantile(total - 1) * math.sqrt(spread / total)
    return Interval(max(0.0, mean - half), min(1.0, mean + half))


def cluster_parts(numerators: Sequence[Sequence[float]], weights: Sequence[float], clusters: Sequence[str]) -> Floats:
    """Return [clusters, sides] whose column means are sum(numerators) / sum(weights) of each side, [sides, records].

    A cluster's part is its share in the linearised ratio, so that clusters of many records weigh more.
    """
    sums = sums_by_cluster(clusters, *numerators, weights)
    x, w = sums[:, :-1], sums[:, -1:]
    ratio = x.sum(axis=0) / w.sum()
    parts: Floats = len(sums) * (x - ratio * w) / w.sum() + ratio
    return parts


def difference_interval(
    base: Sequence[float], tuned: Sequence[float], clusters: Sequence[str], num_parts: int = 1
) -> Interval:
    """Return the interval of the mean paired difference tuned - base of scores in [0, 1], by an adjusted Wald interval.

    Before the interval by Student's t one and a half pseudo-clusters are added that got better, and as many that got
    worse: one of each is what Bonett and Price 2012 add to 0/1 pairs (Journal of Educational and Behavioral Statistics
    37:479), 1.92 are what Agresti and Coull 1998 add (American Statistician 52:119). So few changes, or even ones,
    prove nothing. Of 0/1 records each pseudo-record changes by one; of others by the root mean square of the changes
    that were seen and of five by one, since rare large changes may not have been seen. Clusters enter by their part in
    the linearised ratio. Where it is for the mean over ``num_parts`` categories, they share the pseudo-clusters.
    `benchmarks/intervals.py` simulates it. Raises ValueError: there is no record.
    """
    parts, size = change_parts(base, tuned, clusters)
    pseudo = _PSEUDO / num_parts
    total = len(parts) + pseudo
    mean = float(parts.sum()) / total
    spread = (float((parts**2).sum()) + pseudo * size) / total - mean**2
    half = student_quantile(math.ceil(total) - 1) * math.sqrt(spread / total)
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))


def change_parts(base: Sequence[float], tuned: Sequence[float], clusters: Sequence[str]) -> tuple[Floats, float]:
    """Return each cluster's part in the mean difference, [clusters], and the mean square of a change.

    The mean square counts `_UNSEEN` changes of 1 that nobody saw beside those that were seen, so that it is not 0 where
    nothing changed.
    """
    differences = [after - before for before, after in zip(as_floats(base), as_floats(tuned), strict=True)]
    parts = cluster_parts([differences], [1.0] * len(differences), clusters)[:, 0]
    num_changed = np.count_nonzero(np.abs(sums_by_cluster(clusters, differences)) > 1e-12)
    return parts, (_UNSEEN + float((parts**2).sum())) / (_UNSEEN + num_changed)


def margin_p(parts: Sequence[float] | Floats, loss: float, margin: float) -> float:
    """Return the one-sided p value of a score test of a true mean of ``-margin`` or less, of ``parts`` by cluster.

    The variance is the one that the likeliest distribution with that mean has; of 0/1 records it is the test of Tango
    1998 (Statistics in Medicine 17:891), of others that of empirical likelihood (Owen 1988, Biometrika 75:237). A
    ``loss`` of a cluster may be as likely as it takes, though none was seen. An interval around the difference takes
    the variance that was seen, which is too small where few losses happened to be: `benchmarks/intervals.py`.
    """
    gains = np.append(np.asarray(parts, dtype=np.float64), -loss) + margin
    weights = np.append(np.ones(len(parts)), 1e-9)

    def excess(tilt: float) -> float:
        return float((weights * gains / (1 + tilt * gains)).sum())

    if excess(0.0) <= 0:
        return 0.5
    # Towards the end, where a loss would be all there is, the sum falls without limit, of very many records too late.
    end = (1 - 1e-12) / max(1e-12, float(-gains.min()))
    low = end if excess(end) >= 0 else brentq(excess, 0.0, end, xtol=1e-15, rtol=1e-15)
    tilted = weights / (1 + low * gains)
    variance = float((tilted * gains**2).sum() / tilted.sum())
    return float(ndtr(-float(gains[:-1].mean()) / math.sqrt(variance / len(parts))))


def student_quantile(freedom: float, tail: float = 1 - CONFIDENCE) -> float:
    """Return the t of Student that leaves out ``tail`` on both sides together."""
    return float(stdtrit(freedom, 1 - tail / 2))


def dependence_factor(categories: Sequence[tuple[Sequence[float], Sequence[str]]]) -> float:
    """Return how much wider the interval of the mean of ``categories`` is than that of independent ones.

    Each has the values and the clusters of its records. One document asked in six categories is one piece of evidence:
    what a cluster adds to the mean is summed over the categories, as are changes that were not seen. It is 1 where no
    cluster has records in two.
    """
    together, alone, num, unseen = defaultdict[str, float](float), 0.0, 0, 0.0
    for values, clusters in categories:
        changes, size = change_parts([0.0] * len(values), values, clusters)
        parts = (changes - changes.mean()) / len(changes)
        for name, part in zip(sorted(set(map(str, clusters))), parts.tolist(), strict=True):
            together[name] += part
        alone, num = alone + float((parts**2).sum()), num + len(parts)
        # As `difference_interval` has it, for so many categories.
        unseen += _PSEUDO / len(categories) * size / len(parts) ** 2
    moved = math.fsum(part**2 for part in together.values())
    # What moves in all of them moves the mean by as much as the categories together.
    return math.sqrt(max(1.0, (moved + unseen * (num / len(together)) ** 2) / (alone + unseen)))


def mean_of_intervals(
    values: Sequence[float], intervals: Sequence[Interval], wider: float = 1.0
) -> tuple[float, float, float]:  # fmt: skip
    """Return the mean of ``values`` and its bounds from their own intervals, made ``wider`` where they are dependent.

    Each side's distances are added as variances are (Zou and Donner 2008, Statistics in Medicine 27:1693).
    """
    mean, num = math.fsum(values) / len(values), len(values)
    below, above = (
        wider
        * math.sqrt(math.fsum((value - interval[side]) ** 2 for value, interval in zip(values, intervals, strict=True)))
        for side in (0, 1)
    )
    return mean, mean - below / num, mean + above / num


def sums_by_cluster(clusters: Sequence[str], *columns: Sequence[float]) -> Floats:
    """Return the sums of ``columns`` by cluster, [clusters, columns], in the order of the cluster names."""
    clusters = [str(name) for name in clusters]
    if not clusters or any(len(column) != len(clusters) for column in columns):
        raise ValueError("an interval needs at least one record, and as many values as records")
    # As objects: an array of texts would drop a NUL at the end of a name.
    names, indices = np.unique(np.array(clusters, dtype=object), return_inverse=True)
    return np.stack(
        [np.bincount(indices, weights=np.asarray(c, dtype=np.float64), minlength=len(names)) for c in columns], axis=1
    )


_EXACT_UP_TO = 15
_DRAWS = 9999


def count_discordant(base: Sequence[float], tuned: Sequence[float]) -> tuple[int, int]:
    """Return how many records got better and how many got worse."""
    changes = np.subtract(as_floats(tuned), as_floats(base))
    return int((changes > 0).sum()), int((changes < 0).sum())


def mcnemar_p(better: int, worse: int) -> float:
    """Return the exact two-sided p value of 0/1 pairs of which ``better`` changed up and ``worse`` changed down.

    Twice the binomial tail at one half, at most 1: McNemar 1947, Psychometrika 12:153, in its exact form. Raises
    TypeError: a count is no whole number.
    """
    better, worse = index(better), index(worse)
    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5)))


def sign_flip_p(sums: Sequence[float], *, seed: Sequence[int]) -> float:
    """Return the two-sided p value of a sum of independent differences whose signs, were there no effect, are coins.

    ``sums`` are the differences summed by cluster. All sign patterns are tried for up to 15 of them that are not zero,
    else 9999 seeded ones, counted with the observed one so that p is never 0: Phipson and Smyth 2010, Statistical
    Applications in Genetics and Molecular Biology 9:39.
    """
    values = np.asarray([value for value in as_floats(sums) if value != 0.0])
    if not values.size:
        return 1.0
    # Sums that are equal but for rounding are equal.
    observed = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    if values.size <= _EXACT_UP_TO:
        patterns = (np.arange(2**values.size)[:, None] >> np.arange(values.size)) & 1
        return float((np.abs((1 - 2 * patterns) @ values) >= observed).mean())
    rng = np.random.default_rng(seed)
    hits, left = 0, _DRAWS
    step = max(1, 4_000_000 // values.size)
    while left:
        now = min(step, left)
        signs = 1 - 2 * rng.integers(0, 2, size=(now, values.size), dtype=np.int8)
        hits += int((np.abs(signs @ values) >= observed).sum())
        left -= now
    return (hits + 1) / (_DRAWS + 1)


def paired_test(
    base: Sequence[float], tuned: Sequence[float], clusters: Sequence[str], *, seed: Sequence[int]
) -> tuple[str, float]:
    """Return the name of the test that fits these pairs and its p value.

    "mcnemar" for scores of 0 and 1 of records that all stand alone, else "sign-flip" over clusters.
    """
    base, tuned = as_floats(base), as_floats(tuned)
    sums = sums_by_cluster(clusters, base, tuned)
    if set(base) | set(tuned) <= {0.0, 1.0} and len(sums) == len(base):
        return "mcnemar", mcnemar_p(*count_discordant(base, tuned))
    return "sign-flip", sign_flip_p((sums[:, 1] - sums[:, 0]).tolist(), seed=seed)


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number, in the given order.

    Rejecting those below alpha keeps the chance of even one false alarm below alpha, whatever their dependence: Holm
    1979, Scandinavian Journal of Statistics 6:65.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return as_floats(adjusted.tolist())


MARGIN = 0.02
"""The loss of score that counts as none (absolute); for bits per byte it is a share, 1 % (see `report`)."""
MIN_CLUSTERS = 30
"""Independent records below which a category is not judged."""
ALPHA, _POWER = 0.05, 0.8

VerdictLabel = Literal["improved", "regressed", "inconclusive"]
Reason = Literal[
    "better", "worse", "within-margin", "within-noise", "too-few", "unanswered", "chose", "trivial", "unscored",
    "not-worse", "worse-by-margin", "cannot-tell",
]  # fmt: skip


class Verdict(NamedTuple):
    """The verdict, why it is that one, and whether a loss beyond the margin is ruled out.

    ``reason`` is *better* for improved and *worse* for regressed; of what is inconclusive it says whether the loss lies
    *within-margin*, the change *within-noise*, there are *too-few* records for a verdict, some are *unanswered*, or
    they *chose* what they would judge. Where the question is whether a loss is ruled out, *not-worse* says that it is,
    *worse-by-margin* that it is worse beyond chance and by the margin at least, *cannot-tell* neither.
    """

    verdict: VerdictLabel
    reason: Reason
    note: str
    is_no_worse: bool


def decide_verdict(
    num: int,
    difference: float,
    interval: Sequence[float],
    p_adjusted: float,
    *,
    num_clusters: int,
    margin: float = MARGIN,
    margin_text: str = "",
    margin_p: float | None = None,
    is_non_inferiority: bool = False,
) -> Verdict:
    """Return the verdict on a category of ``num`` records whose score, higher being better, changed by ``difference``.

    *Improved* and *regressed* need an interval on one side of zero and an adjusted p value below 0.05; a loss must
    also be at least ``margin``. Everything else is *inconclusive*, which is not the same as unchanged: only where the
    interval ends above ``-margin``, and `margin_p` says so too, a loss that matters is ruled out (non-inferiority:
    Piaggio et al. 2012, JAMA 308:2594). Records that repeat one another count once towards `MIN_CLUSTERS`.
    ``margin_text`` is how the margin is written where it is not an absolute number. With ``is_non_inferiority`` the
    reason answers whether a loss of it is ruled out, which is never said of a true loss of the margin in over 2.5 %.
    """
    low, high = map(float, interval)
    is_no_worse = low > -margin and (margin_p is None or bool(margin_p < ALPHA / 2))
    is_gain, is_fall = (p_adjusted < ALPHA and is_beyond for is_beyond in (low > 0, high < 0))
    loss, num_least = margin_text or f"{margin:g}", int(min(num, num_clusters))
    ruled_out = f"a loss of {loss} or more is{'' if is_no_worse else ' not'} ruled out"
    if num_least < MIN_CLUSTERS:
        note = f"too few to judge ({num_least} of {MIN_CLUSTERS})"
        note += "" if num <= num_clusters else f": its {num} records are {num_clusters} clusters"
        return Verdict("inconclusive", "too-few", note, is_no_worse)
    if is_fall and difference <= -margin:
        reason: Reason = "worse-by-margin" if is_non_inferiority else "worse"
        return Verdict("regressed", reason, "worse beyond chance", is_no_worse)
    if is_non_inferiority:
        needed = math.ceil(num * ((detectable_effect((high - low) / 2, ALPHA) or 1.0) / margin) ** 2)
        more = "" if is_no_worse else f"; of two equal models {needed:,} records mostly would"
        word: VerdictLabel = "improved" if is_gain and is_no_worse else "inconclusive"
        return Verdict(word, "not-worse" if is_no_worse else "cannot-tell", ruled_out + more, is_no_worse)
    if is_gain:
        return Verdict("improved", "better", "better beyond chance", is_no_worse)
    if is_fall:
        note = f"worse beyond chance, but by less than the margin of {loss}"
        return Verdict("inconclusive", "within-margin", note, is_no_worse)
    # Intervals are of a category alone, and p is adjusted for all.
    alone = "" if low <= 0 <= high else ", though its own interval, not adjusted for the other categories, is without 0"
    return Verdict("inconclusive", "within-noise", f"no change shown{alone}; {ruled_out}", is_no_worse)


_MOST_EXACT = 400
"""Changed records above which the power of the exact test is taken to be normal."""


def detectable_effect(half: float, alpha: float) -> float | None:
    """Return the minimum detectable effect at 80 % power where a two-sided interval at level ``alpha`` has half-width
    ``half``.

    That is z(1 - alpha / 2) + z(0.8) standard errors, of which ``half`` is the first part. None where it is above 1,
    the largest difference of two scores.
    """
    effect = half * float(1 + ndtri(_POWER) / ndtri(1 - alpha / 2))
    return effect if effect <= 1 else None


def minimum_detectable_effect(parts: Sequence[float], num_tests: int = 1) -> float | None:
    """Return the smallest mean of ``parts``, the changes by cluster, that 80 % of all runs would show.

    Shown is what has p below 0.05 / ``num_tests``: the first step of Holm's correction, which is enough whatever the
    other p values are. Of parts of 0 and 1 the power is that of the exact McNemar test, as many records changing as did
    (Duffy 1984, Biometrics 40:1005), of others that of sign flips in normal form. None where it is not reached even if
    all that changed did so in one direction: no change of so few is shown.
    """
    changes = np.abs(as_floats(parts))
    num, most, square = len(changes), min(1.0, float(changes.mean())), float((changes**2).mean())
    alpha = ALPHA / num_tests
    if np.isclose(changes, changes > 0.5).all() and changes.sum() <= _MOST_EXACT:
        reach = 6 * math.sqrt(num * most) + 6
        # How many records may change, and how many of these at most against the others, so that it is shown.
        changed = np.arange(max(0, int(num * most - reach)), min(num, int(num * most + reach)) + 1)
        against = np.arange(changed.max() // 2 + 1)
        fewest = (2 * bdtr(against, changed[:, None], 0.5) < alpha).sum(axis=1) - 1
        chances = np.diff(bdtr(changed, num, most), prepend=0.0) * (fewest >= 0)

        def power(effect: float) -> float:
            return float(chances @ bdtr(np.maximum(fewest, 0), changed, (1 - effect / most) / 2))
    else:

        def power(effect: float) -> float:
            # An effect adds its square to that of the changes where all move alike, and takes it from their variance
            # where they are as large as before. Graded scores, with a floor and a ceiling, lie a quarter of the way.
            added = effect**2 / 4
            beyond = effect * math.sqrt(num) + ndtri(alpha / 2) * math.sqrt(square + added)
            return float(ndtr(beyond / math.sqrt(square - effect**2 + added)))

    if not most or power(most) < _POWER:
        return None
    return float(brentq(lambda effect: power(effect) - _POWER, 0.0, most))
