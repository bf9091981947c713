"""The stored answers of a run, scored again with the references and the scorers of its dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.base.run_folder import RECIPE, recipe_folder
from train.base.storage import sha256_of
from train.evaluate.predictions import PREDICTIONS, Scored, read_predictions
from train.evaluate.scoring import Answer, category_specs, score, spec_of
from train.pipeline.export.source import open_same_dataset, open_same_renderer
from train.recipe import load_recipe

_CHANGED = (
    "The predictions were changed after the run, and their texts scored again: nothing shows any more that the models "
    "wrote them."
)


def rescore(
    run: Path, record: dict[str, Any], dataset: Path | None
) -> tuple[tuple[list[Scored], list[Scored]], list[str]]:  # fmt: skip
    """Return base and tuned of a finished run, and what its report is to say of them; say what was done.

    ``dataset`` says where its data lies now. Texts and likelihoods are taken as they stand, and so is what no text
    tells: verdicts of a judge, and choices by likelihood.

    Raises TrainError: E952 run-changed where records are missing or are none of the dataset's; E935 bad-predictions;
    and as opening the dataset and the tokenizer of the base does.
    """
    sides = read_predictions(run / PREDICTIONS, is_changed=True)
    if (found := Counter(result.split for result in sides[1])) != record.get("records"):
        raise _lost(run, f"{dict(found)} records, and the run wrote {record.get('records')}")
    recipe, opened = load_recipe(run / RECIPE, is_own=True), open_same_dataset(record, dataset)
    renderer, _ = open_same_renderer(run, record, recipe, recipe_folder(run), opened)
    categories = category_specs(opened.manifest.get("categories", {}))
    rows = {(split, row.id): row for split in ("validation", "test") for row in opened.splits[split]}

    def again(old: Scored) -> Scored:
        if old.split == "general":
            return old
        row = rows.get((old.split, old.id))
        if row is None:
            raise _lost(run, f"a {old.split} record {old.id!r}, which {opened.path} has not")
        own: dict[str, Any] = {name: getattr(row, name) for name in ("category", "cluster", "slices", "is_liked")}
        if old.text is None:
            return replace(old, **own)
        # As when it was measured: what a verdict rejects is no reference.
        prompt = None if row.is_liked is False else renderer.prompt(row)
        answer = Answer(old.id, old.text, old.stopped, old.reasoning)
        references = {} if prompt is None else {row.id: prompt.reference}
        [fresh] = score([row], references, [answer], None, categories, split=old.split)
        is_told = spec_of(categories, row.category).metric.kind not in ("judge", "likelihood")
        stored = {name: value for name, value in (old.scores or {}).items() if name != fresh.metric or not is_told}
        own |= {"reference": fresh.reference, "metric": fresh.metric, "scores": stored | dict(fresh.scores or {})}
        return replace(old, **own)

    base, tuned = ([again(old) for old in side] for side in sides)
    num = sum(new != old for new, old in zip([*base, *tuned], [*sides[0], *sides[1]], strict=True))
    console.talk(
        f"scored again with the references and scorers of {opened.path}: {num:,} of {len(base) + len(tuned):,} results "
        "changed; texts, likelihoods and what a judge said are taken as they stand"
    )
    is_same = record.get("files", {}).get(PREDICTIONS) == sha256_of(run / PREDICTIONS)
    return (base, tuned), [] if is_same else [_CHANGED]


def _lost(run: Path, what: str) -> TrainError:
    message = f"{run / PREDICTIONS} has {what}, so that its texts cannot be scored again"
    return TrainError("E952 run-changed", message, "Put the file back, or train again.")
