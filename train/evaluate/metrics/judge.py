"""The judge: a model behind an endpoint, which compares two answers; its scores come from `train.report.judge`."""

from __future__ import annotations

from train.evaluate.metrics import Scores, metric


@metric(
    "judge", kind="judge", cases=[("an answer", "a reference", {}), ("a reference", "a reference", {}), ("", "", {})]
)
def judge(completion: str, reference: str) -> Scores:
    """Which of the answers of base and tuned a judge prefers: 1 and 0, or 0.5 for both on a tie.

    A pair cannot be seen from one answer, so here every record is unscored; a run whose recipe names `eval.judge.url`
    asks the judge once both models have answered. For open text, where no rule can tell.
    """
    del completion, reference
    return {}
