"""How far choices of settings lie behind the best of them, which was taken for being the best.

The best of twenty equal choices lies above the others by luck, of records and of training. So all pairs of choices are
told apart together, by the two-way model with the spread of seeds pooled over the choices: with a tail that all pairs
share (Bonferroni), whichever of them is then looked at. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.evaluate.predictions import Scored, pair
from train.report import wording
from train.report.model import Estimate, Report, SplitResult
from train.report.stats import ALPHA, Floats, wilson
from train.report.two_way import fit_contrast, mean_parts, result_parts


def behind(best: Sequence[Sequence[Scored]], others: Sequence[Sequence[Sequence[Scored]]]) -> list[Estimate | None]:
    """Return by how much each of ``others`` scored less than ``best`` on the same validation records, None for too few.

    Each choice has the results of the same number of seeds; of one nobody knows what another would change, and all are
    None. It is the mean over the categories. Where no record has a score it is by how many bits per byte it took more.
    Raises TrainError "E933 unpaired-results" where they hold other records.
    """
    rows = [row for row in best[0] if row.split == "validation" and row.is_liked is not False]
    paired = [{before.id: after for before, after in pair(best[0], side) if before.split == "validation"}
              for choice in (best, *others) for side in choice]  # fmt: skip
    groups = [[row for row in rows if row.category == name] for name in sorted({row.category for row in rows})]
    by_kind = [
        [result_parts(group, [[table[row.id] for row in group] for table in paired], is_score=is_score, is_change=False)
         for group in groups] for is_score in (True, False)
    ]  # fmt: skip
    is_score = any(map(len, by_kind[0]))
    measured = [parts for parts in by_kind[0 if is_score else 1] if len(parts)]
    if not others or len(best) < 2 or sum(map(len, measured)) < 2:
        return [None] * len(others)
    parts = mean_parts(measured).reshape(-1, 1 + len(others), len(best)) * (1 if is_score else -1)
    return [_lag(parts, other, is_score=is_score) for other in range(1, 1 + len(others))]


def _lag(parts: Floats, other: int, *, is_score: bool) -> Estimate:
    """By how much a choice lies behind the first of ``parts``, [clusters, choices, seeds]."""
    num, choices, _ = parts.shape
    each = np.eye(choices)
    weights, two = each[0] - each[other], [0, other]
    model, own = fit_contrast(parts, weights), fit_contrast(parts[:, two], weights[two])
    # About zero and not about their mean: of scores of 0 and 1 the spread is small where the mean lies far off by luck.
    # Seeds of a choice that goes astray lie further apart than those of the others.
    model = model._replace(
        of_records=model.of_records + model.mean**2 / (num - 1),
        between_seeds=max(model.between_seeds, own.between_seeds),
    )
    # Which of a pair lies ahead is seen in the data, so that a pair counts twice.
    half = model.half(ALPHA / (choices * (choices - 1)))
    if is_score and not model.of_records:
        # Where no record differs nothing is spread: Wilson's bound of none holds those that would.
        half = max(half, wilson(0, num).high)
    bound = 1.0 if is_score else np.inf
    return Estimate(value=model.mean, low=max(-bound, model.mean - half), high=min(bound, model.mean + half))


def without_choosing(report: Report) -> Report:
    """Return the report of a sweep's winner without verdicts on validation, whose records chose it."""
    splits = [_unjudged(part) if part.split == "validation" else part for part in report.splits]
    if report.headline == "validation":
        note = f"No test record is compared: the validation split (n = {report.main().n}) chose the settings, so its "
        note += "scores flatter, and there is no verdict on them. Slices are left out."
        report = report.model_copy(update={"notes": [note, *report.notes[1:]], "slices": []})
    return report.model_copy(update={"splits": splits})


def _unjudged(part: SplitResult) -> SplitResult:
    unknown = {"verdict": "inconclusive", "reason": "chose"}
    more = {"is_no_worse": False, "note": "these records chose the settings, so there is no verdict"}
    rows = [row.model_copy(update=unknown | more) for row in part.categories]
    return part.model_copy(update={
        "categories": [row.model_copy(update={"sentence": wording.sentence(row)}) for row in rows],
        "macro": part.macro and part.macro.model_copy(update=unknown),
    })  # fmt: skip
