"""How far choices of settings lie behind the best of them, which was taken for being the best.

The best of twenty equal choices lies above the others by luck, of records and of training. So all pairs of choices are
told apart together, by the two-way model with the spread of seeds pooled over the choices: with a tail that all pairs
share (Bonferroni), whichever of them is then looked at. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.evaluate.predictions import Scored
from train.report import wording
from train.report.model import Estimate, Report, SplitResult
from train.report.stats import ALPHA, Floats, wilson
from train.report.two_way import fit_contrast, mean_if_known, mean_parts, measure


class Exam:
    """What choices, of settings or of a seed, are chosen by: the mean of the validation categories that all of them
    scored, and among equals, or without such a category, fewer bits per byte.

    Each of ``choices`` has the results of the same number of seeds. Without a validation record all are alike. Raises
    TrainError "E933 unpaired-results" where they hold other records.
    """

    def __init__(self, choices: Sequence[Sequence[Sequence[Scored]]]) -> None:
        sides = [side for choice in choices for side in choice]
        found = measure(sides, "validation")
        scored = [each for each in found if each.scores.names]
        self.left_out = [wording.category(each.category) for each in found if each.unscored]
        self.is_score, self.trivial = bool(scored), mean_if_known([each.trivial for each in scored])
        means = [mean_parts(parts) if parts else np.zeros((1, len(sides))) for parts in (
            [each.scores for each in scored], [each.bits for each in found if each.bits.names]
        )]  # fmt: skip
        self.parts = means[0] if scored else -means[1]
        """[clusters, choices x seeds], higher being better."""
        # Rounded, so that equal scores are equal whichever records they come from.
        scores, bits = (each.mean(axis=0).reshape(len(choices), -1).mean(axis=1).round(12) for each in means)
        self.scores, self.bits = scores.tolist(), bits.tolist()
        self.best = int(np.lexsort((bits, -scores))[0])
        """The first among equals."""
        is_beaten = self.trivial is not None and scores.max() <= self.trivial + 1e-9
        self.advice = (
            f"No choice beats the trivial answer ({wording.number(self.trivial)}): take none." if is_beaten else ""
        )


def behind(best: Sequence[Sequence[Scored]], others: Sequence[Sequence[Sequence[Scored]]]) -> list[Estimate | None]:
    """Return by how much each of ``others`` scored less than ``best`` by what an `Exam` chooses by, None for too few.

    Of one seed nobody knows what another would change, and all are None. Raises TrainError "E933 unpaired-results".
    """
    exam, choices = Exam([best, *others]), 1 + len(others)
    if len(best) < 2 or len(exam.parts) < 2:
        return [None] * len(others)
    parts = exam.parts.reshape(-1, choices, len(best))
    return [_lag(parts, other, is_score=exam.is_score) for other in range(1, choices)]


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
