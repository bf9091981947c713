"""The noise floor: what decoding the base again, in batches of another make-up, changes by itself.

Greedy decoding is not the same in every batch: the shapes of matrix products decide in which order they add up, and
where two tokens are nearly as likely, rounding chooses. A gain below this floor is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from train.data.dataset import sample_rows
from train.evaluate.predictions import RIGHT_FROM, Scored
from train.model import computing
from train.pipeline.run.prepare import Prepared
from train.report import Noise, noise_of
from train.report.evaluation import predict, spec_of

MOST_ROWS = 50
_BATCHES = 4


def noise_floor(model: Any, prepared: Prepared, base: Sequence[Scored]) -> Noise | None:
    """Generate up to 50 of the answers in ``base`` again and return what differs; None where nothing was generated.

    ``model`` is the base as it was measured. The rows are chosen by the hash of their ids and fill about four batches,
    so that they are decoded in other batches than before.
    """
    recorded = {record.id: record for record in base if record.is_generated}
    rows = [row for split in ("validation", "test") for row in prepared.dataset.splits[split] if row.id in recorded]
    rows = sample_rows(rows, MOST_ROWS)
    if not rows:
        return None
    most = prepared.recipe.eval.max_new_tokens
    sizes = [len(prompt.ids) + most for row in rows if (prompt := prepared.renderer.prompt(row)) is not None]
    with computing(prepared.device, prepared.dtype):
        predictions = predict(
            model, prepared.renderer, rows, max_new_tokens=most, batch_tokens=max(*sizes, sum(sizes) // _BATCHES)
        )
    num_changed = num_flipped = 0
    for prediction in predictions:
        before = recorded[prediction.id]
        num_changed += prediction.text != before.text
        spec = spec_of(prepared.categories, before.category)
        score = spec.metric.scores(prediction.text, before.reference, spec.options).get(before.metric)
        if score is not None and before.score is not None:
            num_flipped += (score >= RIGHT_FROM) != (before.score >= RIGHT_FROM)
    return noise_of(len(predictions), num_changed, num_flipped)
