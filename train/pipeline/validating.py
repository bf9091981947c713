"""What a run compares itself with while it trains: its validations, those of the base, and the base's likelihoods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from train.base import console
from train.base.errors import TrainError
from train.data.dataset import Row, sample_rows
from train.data.rendering import Example, PreferenceExample
from train.evaluate.evaluation import evaluate_model, gather_scores, sample_ids, summary
from train.evaluate.general import SPLIT, readable_general
from train.evaluate.predictions import SampledScore, Scored
from train.loop import Validation
from train.model import computing
from train.model.loss import nll_per_example
from train.pipeline.prepare import Prepared
from train.recipe import PREFERENCES
from train.recipe.schedule import validation_steps


def base_score(prepared: Prepared, base: Sequence[Scored]) -> SampledScore:
    """Return what the base scores on the records that validations score, and its answers to the recipe's samples.

    Raises TrainError "E920 bad-recipe" where the recipe guards scores and none of these records has one, and "E944
    bad-general-text" where it guards general text and none is short enough.
    """
    guard = prepared.recipe.guard
    ids = {row.id for row in prepared.evaluated_rows}
    own = [record for record in base if record.split == "validation" and record.id in ids]
    general = _bits([record for record in base if record.split == SPLIT])
    score = replace(_summary(prepared, own, own), general=general)
    if guard.is_on and (not ids or (guard.regress is not None and not score.by_category)):
        raise TrainError("E920 bad-recipe", "the guard has no validation record with a score to compare",
                         "Export a validation split, or switch guard.regress and guard.plateau off.")  # fmt: skip
    if guard.general is not None and general is None:
        raise TrainError("E944 bad-general-text", "the guard has no general text: all of it is over max_length",
                         "Raise max_length, name shorter text with eval.general, or remove guard.general.")  # fmt: skip
    num_steps = len(prepared.steps)
    # The evaluation of the last step ends nothing any more.
    num = (num_steps - 1) // validation_steps(prepared.recipe, num_steps)
    for name, needed in (("general", 1), ("regress", guard.patience), ("plateau", guard.patience + 1)):
        if getattr(guard, name) not in (None, False) and num < needed:
            console.info(
                f"warning: guard.{name} needs {needed} evaluations and the run has {num} before its last step, so it "
                "stops nothing; lower eval_steps or guard.patience"
            )
    return score


def _summary(
    prepared: Prepared, scored: Sequence[Scored], base: Sequence[Scored], trained: Sequence[Scored] = ()
) -> SampledScore:
    # Where answers are compared, the best model is the one that moved towards what people prefer.
    before = {record.id: record for record in base if record.split == "validation"}
    samples = sample_ids(prepared.evaluated_rows, prepared.recipe.eval.samples)
    return summary(scored, samples, trained, before if prepared.recipe.objective in PREFERENCES else None)


def validation_of(
    model: Any, prepared: Prepared, base: SampledScore, base_results: Sequence[Scored]
) -> Validation | None:  # fmt: skip
    """Return how ``model`` is validated while it trains; None, which is said, where no record is scored.

    ``base`` is what the base scores, of its ``base_results``. All ranks score a part of the records, and each gets the
    scores of all.
    """
    rows, evaluation, context = prepared.evaluated_rows, prepared.evaluation, prepared.placement.context
    if not rows:
        console.info("warning: no validation records are scored while training, so the last step counts as the best")
        return None
    most = prepared.recipe.eval.fit_records
    order = sample_ids(prepared.trained_rows, most)
    by_id = {row.id: row for row in prepared.trained_rows if row.id in set(order)}
    # Raw text has no answers, and so no categories to balance.
    fitted = [by_id[name] for name in order] or sample_rows(prepared.trained_rows, most)
    is_guarded = prepared.recipe.guard.general is not None
    texts = readable_general(evaluation.renderer, evaluation.general) if is_guarded else []

    def scored_rows(rows: Sequence[Row], split: str, **more: Any) -> list[Scored]:
        return evaluate_model(
            model, evaluation.renderer, rows, evaluation.categories, evaluation.recipe, split=split, **more
        )

    def shared(rows: Sequence[Row], split: str) -> list[Scored]:
        scored = scored_rows(rows[context.rank :: context.world_size], split)
        return gather_scores(context, scored, [row.id for row in rows])

    def evaluate(_step: int) -> SampledScore:
        score = _summary(prepared, shared(rows, "validation"), base_results, shared(fitted, "train"))
        # Every rank reads all of the general text: it is a page.
        general = scored_rows(texts, SPLIT, is_generating=False) if texts else []
        return replace(score, general=_bits(general))

    return Validation(evaluate, base)


def _bits(scored: Sequence[Scored]) -> float | None:
    num_bytes = sum(record.num_bytes for record in scored)
    return math.fsum(record.nll or 0.0 for record in scored) / (math.log(2) * num_bytes) if num_bytes else None


def reference_logps(prepared: Prepared) -> torch.Tensor | None:
    """Return the log-probabilities of both texts of each training record, [records, 2] in nats, on the CPU.

    They are those of the model that training begins from, read once: no step has to read them again, and no second
    model lies in memory. Replayed text has zeros. None where no reference is needed. Each rank reads a part, and gets
    all.
    """
    if prepared.recipe.objective not in PREFERENCES or prepared.recipe.objective == "orpo":
        return None
    examples, placement, context = prepared.steps.examples, prepared.placement, prepared.placement.context
    texts = [(index, part) for index, example in enumerate(examples) if not example.is_replay for part in (0, 1)]
    console.info(f"reading {len(texts):,} answers with the model that training begins from")
    mine = texts[context.rank :: context.world_size]
    with computing(placement.device, placement.dtype):
        parts = [_text(examples[index], part) for index, part in mine]
        nlls = nll_per_example(prepared.model, parts, batch_tokens=prepared.recipe.eval.batch_tokens)
    known = torch.zeros(len(examples), 2)
    for pairs in context.gather([(place, -nll.nll) for place, nll in zip(mine, nlls, strict=True)]):
        for place, logp in pairs:
            known[place] = logp
    return known


def _text(example: Example, part: int) -> Example:
    assert isinstance(example, PreferenceExample), "its objective compares answers"
    return example.parts[part]
