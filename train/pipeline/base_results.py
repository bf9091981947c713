"""Measure a model for the report; results of a base are cached under a key of everything that they depend on."""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from train.base import console
from train.base.cache import Cache, cache_home
from train.base.run_folder import versions
from train.base.storage import digest_of, installed_version, sha256_of, sources_digest
from train.data.dataset import Dataset
from train.data.rendering import Renderer
from train.evaluate.evaluation import evaluate_splits, gather_scores, num_answers, shard_dataset
from train.evaluate.general import SHIPPED
from train.evaluate.general import SPLIT as GENERAL
from train.evaluate.metrics import discover
from train.evaluate.predictions import Scored, not_finite
from train.evaluate.scoring import CategorySpec
from train.loop import METRICS, Events, Placement, clock
from train.pipeline.plan import explain_oom
from train.recipe import Recipe

_MOST_BYTES = 256 << 20
IN_RUN = "base-results"
_SOURCES = Path(__file__).resolve().parents[1]
"""All code of `train`: a change anywhere may change what is measured."""
_READ = {"max_length", "on_too_long", "on_unrenderable", "reasoning", "allow_special_tokens", "bf16",
         "device", "threads", "load_in_4bit"}  # fmt: skip
_READ_OF_EVAL = {"max_new_tokens", "max_reasoning_tokens", "batch_tokens", "fit_records"}


def measured_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe that rendering and evaluation are handed: of ``recipe`` the settings that they may read, and
    defaults everywhere else. So no other setting can change what is measured, and the key of the cache needs no list
    of what does not matter.
    """
    read = {name: getattr(recipe, name) for name in _READ}
    evaluated = type(recipe.eval)(**{name: getattr(recipe.eval, name) for name in _READ_OF_EVAL})
    return Recipe.model_construct(**{**Recipe().__dict__, **read, "eval": evaluated})


@dataclass(frozen=True)
class EvaluationSpec:
    """The records that a model is measured on, and how: ``recipe`` is `measured_recipe` of the run's, ``splits`` what
    a report is about, ``general`` the recipe's file of general text (None is the shipped one).
    """

    dataset: Dataset
    categories: dict[str, CategorySpec]
    renderer: Renderer
    recipe: Recipe
    splits: Collection[str]
    general: Path | None
    placement: Placement

    def key(self, model: Any, weights: str) -> dict[str, Any]:
        """Return everything that results of ``model``, with the digest ``weights``, depend on, as plain values.

        Weights, config and end tokens of the base; tokenizer and template; the dataset with its scorers; the general
        text; what evaluation reads of the recipe; device, number format, threads and ranks; our code and all versions.
        """
        device, renderer = self.placement.device, self.renderer
        # Kernels differ with what the processor can, and so do the last digits.
        machine = f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
        return {
            "weights": weights,
            # It holds what JSON does not: torch's number formats, infinity.
            "config": digest_of(json.dumps(config, sort_keys=True, default=str)),
            "stop tokens": list(renderer.stop_ids),
            "tokenizer and template": renderer.digest,
            "dataset": self.dataset.digest,
            "general": sha256_of(self.general or SHIPPED),
            "objective": renderer.objective,
            "recipe": self.recipe.model_dump(mode="json"),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else machine,
            "dtype": str(self.placement.dtype),
            # Other ranks shard the rows into other batches.
            "ranks": self.placement.context.world_size,
            "code": sources_digest(_SOURCES),
            "installed metrics": {m.name: _digest_of_code(m.function) for m in discover().values() if not m.is_ours},
            "versions": versions(),
            "validator": installed_version("jsonschema"),
        }


def _digest_of_code(function: Any) -> str:
    # Of the package, or of the module: helpers beside a metric decide its scores too.
    package, module = (sys.modules[name] for name in (function.__module__.partition(".")[0], function.__module__))
    path = Path(str(package.__file__ or module.__file__))
    return sources_digest(path.parent) if path.stem == "__init__" else sha256_of(path)


def base_cache(run: Path, *, is_cached: bool) -> Cache:
    """Return the cache for results of bases: that of all runs with ``is_cached``, else one in the run's own folder, so
    that resuming a run never measures the base again.
    """
    home = cache_home() if is_cached else None
    return Cache(run / IN_RUN) if home is None else Cache(home / IN_RUN, most_bytes=_MOST_BYTES)


def measure(
    model: Any, evaluation: EvaluationSpec, run: Path, name: Literal["base", "tuned"], step: int = 0,
    splits: Collection[str] | None = None,
) -> list[Scored]:  # fmt: skip
    """Return what the report needs of ``model`` on ``splits``, by default all of the evaluation's.

    Each rank measures a part, and gets all. How far it is goes to the run's metrics.jsonl, of the part of the first
    rank; ``step`` is that of the weights.
    """
    recipe, dataset, context = evaluation.recipe, evaluation.dataset, evaluation.placement.context
    splits = evaluation.splits if splits is None else splits
    rows = {split: each if split in splits else [] for split, each in dataset.splits.items()}
    part = shard_dataset(context, replace(dataset, splits=rows))
    smaller = f"Add --set eval.batch_tokens={max(16, recipe.eval.batch_tokens // 2)}."
    with Events(run / METRICS if context.is_first else None) as events, explain_oom(None, "measuring", smaller):
        scored = evaluate_splits(
            model, evaluation.renderer, part, evaluation.categories, recipe, general=evaluation.general,
            has_general=GENERAL in splits, on_progress=MeasureLog(events, name, part, step).add,
        )  # fmt: skip
    return gather_scores(context, scored, [row.id for split in ("validation", "test", "train") for row in rows[split]])


class MeasureLog:
    """Writes an event a second at the most while ``model``, "base" or "tuned", is measured on the rows of a dataset.

    A row counts once for its likelihood and once for its answer. The seconds to go are those of the answers, which take
    longest, at their pace, None before a tenth of them is done: many are written at once, and the first ones are short.
    """

    def __init__(self, events: Events, model: str, dataset: Dataset, step: int) -> None:
        self._events, self._model, self._step, splits = events, model, step, dataset.splits
        answers = num_answers(splits["validation"]) + num_answers(splits["test"])
        self._totals = {"likelihoods": sum(map(len, splits.values())), "answers": answers}
        self._done = dict.fromkeys(self._totals, 0)
        self._began, self._written_at = time.monotonic(), 0.0
        self.add("answers", 0)

    def add(self, kind: str, num_rows: int) -> None:
        """Count ``num_rows`` more "likelihoods" or "answers" as done; raises TrainError "E936 write-failed"."""
        now, totals, done = time.monotonic(), self._totals, self._done
        done[kind] += num_rows
        if now - self._written_at < 1 and done != totals:
            return
        self._written_at, slow = now, "answers" if totals["answers"] else "likelihoods"
        left = None
        if done[slow] and 10 * done[slow] >= totals[slow]:
            left = round((now - self._began) * (totals[slow] / done[slow] - 1), 1)
        num_done, num = sum(done.values()), sum(totals.values())
        self._events.write(
            "measure", step=self._step, model=self._model, done=num_done, of=num, answers=done["answers"],
            eta_seconds=left,
        )  # fmt: skip
        text = "" if left is None else f", {clock(left)} to go"
        console.progress(f"measuring the {self._model} model: {num_done:,} of {num:,}{text}")


def measure_base(
    model: Any, evaluation: EvaluationSpec, weights: str, run: Path, *, is_cached: bool
) -> tuple[list[Scored], float]:  # fmt: skip
    """Return what `measure` returns of the base, and the seconds that it took, each split measured once for all runs in
    which nothing of it differs.

    So a run that leaves the test split alone shares the rest with one that does not. ``weights`` is their digest.
    """
    key, context, cache = (
        evaluation.key(model, weights),
        evaluation.placement.context,
        base_cache(run, is_cached=is_cached),
    )
    keys = {split: digest_of(key | {"split": split}) for split in evaluation.splits}
    # Rank 0 decides for all: what is cached on one machine may be missing on another.
    entries = {split: cache.get(each) for split, each in keys.items()} if context.is_first else {}
    results, seconds = context.broadcast_object((
        {split: [Scored(**values) for values in entry.values["scored"]] for split, entry in entries.items() if entry},
        math.fsum(entry.values["seconds"] for entry in entries.values() if entry),
    ))  # fmt: skip
    if results:
        num = sum(map(len, results.values()))
        console.info(f"the base was measured before: {num} results are taken from the cache")
    if missing := [split for split in keys if split not in results]:
        console.info(f"run {run.name}: measuring the base")
        began = time.monotonic()
        fresh = measure(model, evaluation, run, "base", splits=missing)
        spent = time.monotonic() - began
        seconds += spent
        for split in missing:
            results[split] = [record for record in fresh if record.split == split]
            # The run reports what is broken.
            if context.is_first and not not_finite(results[split]):
                share = spent * len(results[split]) / max(1, len(fresh))
                scored = [asdict(result) for result in results[split]]
                cache.put(keys[split], (), {"scored": scored, "seconds": share})
    return [record for split in keys for record in results[split]], seconds
