"""What a run watches on the validation split while it trains, beside what the base scored there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.data.dataset import Row, sample_rows
from train.evaluate.evaluation import evaluate_model, gather_scores, sample_ids, summary
from train.evaluate.general import SPLIT, readable_general
from train.evaluate.predictions import SampledScore, Scored
from train.loop import EarlyStopping, Validation
from train.pipeline.prepare import Prepared
from train.recipe import PREFERENCES
from train.recipe.schedule import validation_steps


def base_score(prepared: Prepared, base: Sequence[Scored]) -> SampledScore:
    """Return what the base scores on the records that validations score, and its answers to the recipe's samples.

    Raises TrainError "E920 bad-recipe" where the recipe guards scores and none of these records has one, and "E944
    bad-general-text" where it guards general text and none is short enough.
    """
    recipe, rows = prepared.recipe, prepared.evaluated_rows
    ids = {row.id for row in rows}
    own = [record for record in base if record.split == "validation" and record.id in ids]
    score = _summary(prepared, own, own, sample_ids(rows, recipe.eval.samples))
    score = replace(score, general=_bits([record for record in base if record.split == SPLIT]))
    scores = score.by_category
    if recipe.guard.is_on and (not ids or (recipe.guard.regress is not None and not scores)):
        raise TrainError("E920 bad-recipe", "the guard has no validation record with a score to compare",
                         "Export a validation split, or switch guard.regress and guard.plateau off.")  # fmt: skip
    if recipe.guard.general is not None and score.general is None:
        raise TrainError("E944 bad-general-text", "the guard has no general text: all of it is over max_length",
                         "Raise max_length, name shorter text with eval.general, or remove guard.general.")  # fmt: skip
    num_steps = len(prepared.steps)
    # The evaluation of the last step ends nothing any more.
    num_evaluations = (num_steps - 1) // validation_steps(recipe, num_steps)
    for part, needed in EarlyStopping(recipe.guard, scores).num_needed().items():
        if num_evaluations < needed:
            console.talk(
                f"warning: {part} needs {needed} evaluations and the run has {num_evaluations} before its last step, "
                "so it stops nothing; lower eval_steps or guard.patience"
            )
    return score


def _summary(
    prepared: Prepared, scored: Sequence[Scored], base: Sequence[Scored], samples: Sequence[str],
    trained: Sequence[Scored] = (),
) -> SampledScore:  # fmt: skip
    # Where answers are compared, the best model is the one that moved towards what people prefer.
    before = {record.id: record for record in base if record.split == "validation"}
    return summary(scored, samples, trained, before if prepared.objective in PREFERENCES else None)


def validation_of(
    model: Any, prepared: Prepared, base: SampledScore, base_results: Sequence[Scored]
) -> Validation | None:  # fmt: skip
    """Return how ``model`` is validated while it trains; None, which is said, where no record is scored.

    ``base`` is what the base scores, of its ``base_results``.

    All ranks score a part of the records, and each gets the scores of all.
    """
    rows = prepared.evaluated_rows
    if not rows:
        console.talk("warning: no validation records are scored while training, so the last step counts as the best")
        return None
    samples = sample_ids(rows, prepared.recipe.eval.samples)
    most = prepared.recipe.eval.fit_records
    names = {name: index for index, name in enumerate(sample_ids(prepared.trained_rows, most))}
    # Raw text has no answers, and so no categories to balance.
    fitted = sorted((row for row in prepared.trained_rows if row.id in names), key=lambda row: names[row.id])
    fitted = fitted or sample_rows(prepared.trained_rows, most)

    def scored_rows(rows: list[Row], split: str) -> list[Scored]:
        mine = rows[prepared.context.rank :: prepared.context.world_size]
        scored = evaluate_model(model, prepared.renderer, mine, prepared.categories, prepared.recipe, split=split)
        return gather_scores(prepared.context, scored, [row.id for row in rows])

    is_guarded = prepared.recipe.guard.general is not None
    texts = readable_general(prepared.renderer, prepared.general) if is_guarded else []

    def evaluate(_step: int) -> SampledScore:
        own = scored_rows(rows, "validation")
        score = _summary(prepared, own, base_results, samples, scored_rows(fitted, "train"))
        # Every rank reads all of it: it is a page.
        read = evaluate_model(
            model, prepared.renderer, texts, {}, prepared.recipe, split=SPLIT, is_generating=False
        ) if texts else []  # fmt: skip
        return replace(score, general=_bits(read))

    return Validation(evaluate, base)


def _bits(scored: Sequence[Scored]) -> float | None:
    num_bytes = sum(record.num_bytes for record in scored)
    return math.fsum(record.nll or 0.0 for record in scored) / (math.log(2) * num_bytes) if num_bytes else None
