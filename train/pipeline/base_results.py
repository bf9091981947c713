"""Measure a model for the report; results of a base are cached under a key of everything that they depend on.

There are two caches (`train.base.cache`): one for all runs, and one inside each run until the run is finished. Some
answers of the base are generated twice all the same: a gain below what decoding it again changes is none.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from train.base import console
from train.base.cache import Cache, cache_home
from train.base.errors import TrainError
from train.base.run_folder import versions
from train.base.storage import digest_of, installed_version, sha256_of, sources_digest
from train.data.dataset import sample_rows
from train.evaluate.evaluation import evaluate_splits, gather_scores, predict, shard_dataset
from train.evaluate.general import SHIPPED
from train.evaluate.general import SPLIT as GENERAL
from train.evaluate.metrics import discover
from train.evaluate.predictions import RIGHT_FROM, Scored, not_finite
from train.evaluate.scoring import answer_scores, spec_of
from train.loop import METRICS, Events
from train.model import computing
from train.pipeline.measure_log import MeasureLog
from train.pipeline.plan import explain_oom
from train.pipeline.prepare import Prepared
from train.recipe import Recipe
from train.report import Noise, noise_of

_MOST_BYTES = 256 << 20
IN_RUN = "base-results"
"""The folder of the run's own copy, so that resuming a run never measures the base again."""
_SOURCES = Path(__file__).resolve().parents[1]
"""All code of `train`: a change anywhere may change what is measured."""

# What decides the training alone. A field that is not named here is part of the key, so a new one can only cost a miss.
_OF_TRAINING = """
base method objective lora_r lora_alpha lora_dropout lora_target_modules use_rslora use_dora init_lora_weights
continue_adapter learning_rate num_train_epochs max_steps global_batch_size batch_tokens per_device_train_batch_size
gradient_accumulation_steps micro_batch_tokens lr_scheduler_type lr_decay_ratio warmup_ratio warmup_steps weight_decay
adam_beta1 adam_beta2 adam_epsilon max_grad_norm seed save_steps save_total_limit eval_steps compile parallel
gradient_checkpointing optim neftune_noise_alpha mixing guard preference stage
"""
# Of the splits each has a key of its own.
_OF_EVAL = "splits during_training samples general margin resamples judge"
_EXCLUDED: dict[str, Any] = {
    **dict.fromkeys(_OF_TRAINING.split(), True), "eval": dict.fromkeys(_OF_EVAL.split(), True)
}  # fmt: skip


def key_of(prepared: Prepared) -> dict[str, Any]:
    """Return everything that a base's results depend on, as plain values.

    Weights, config and end tokens of the base; tokenizer and template; the dataset with its scorers; the general text;
    the recipe but for what only training sees; device, number format, threads and ranks; our code and all versions.
    """
    import torch

    model, tokenizer, renderer = prepared.model, prepared.tokenizer, prepared.renderer
    # Kernels differ with what the processor can, and so do the last digits.
    device = f"{prepared.device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if prepared.device.type == "cuda":
        device = torch.cuda.get_device_name(prepared.device)
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    return {
        "weights": prepared.facts["base"],
        "config": _digest_of_config(config),
        "stop tokens": list(renderer.stop_ids),
        "tokenizer and template": prepared.facts["tokenizer and template"],
        "special tokens": _digest_of_config(tokenizer.special_tokens_map),
        "dataset": prepared.dataset.digest,
        "general": sha256_of(prepared.general or SHIPPED),
        "objective": prepared.objective,
        "recipe": prepared.recipe.model_dump(mode="json", exclude=_EXCLUDED),
        "device": device,
        "dtype": str(prepared.dtype),
        "threads": prepared.recipe.threads,
        # Other ranks shard the rows into other batches.
        "ranks": prepared.context.world_size,
        "code": sources_digest(_SOURCES),
        "installed metrics": _installed_metrics(),
        "versions": versions(),
        "validator": installed_version("jsonschema"),
    }


def _installed_metrics() -> dict[str, str]:
    """The digest of the package, or of the module, that each metric of another package is in."""
    digests = {}
    for metric in discover().values():
        if metric.is_ours:
            continue
        # Helpers beside the metric decide its scores too.
        name = metric.function.__module__.partition(".")[0]
        file = sys.modules[name].__file__
        if file is None:
            message = f"{name} adds the metric {metric.name!r} and has no file"
            raise TrainError("E984 bad-plugin", message, "Give it an __init__.py.")
        path = Path(file)
        digests[metric.name] = sources_digest(path.parent) if path.stem == "__init__" else sha256_of(path)
    return digests


def _digest_of_config(config: Mapping[str, Any]) -> str:
    # Configs of transformers hold what JSON does not: torch's number formats, infinity.
    return digest_of(json.dumps(config, sort_keys=True, default=str))


def recall(run: Path, key: Mapping[str, Any], *, is_cached: bool) -> list[Scored] | None:
    """Return the base's results of ``key`` from the run's own copy, or with ``is_cached`` from the cache."""
    own, *shared = _caches(run, is_cached=is_cached)
    for cache in (own, *shared):
        entry = cache.get(digest_of(key))
        if entry is not None:
            results = [Scored(**values) for values in entry.values["scored"]]
            if cache is not own:
                own.put(digest_of(key), {}, entry.values)
            return results
    return None


def remember(run: Path, key: Mapping[str, Any], scored: Sequence[Scored], *, is_cached: bool) -> None:
    """Cache the base's results in the run's folder, and with ``is_cached`` for other runs too.

    Results that are not finite are not cached: the run reports what is broken.
    """
    if not_finite(scored):
        return
    for cache in _caches(run, is_cached=is_cached):
        cache.put(digest_of(key), (), {"scored": [asdict(result) for result in scored]})


def measured_splits(recipe: Recipe) -> list[str]:
    """Return what a model is measured on: the recipe's splits in the order of a report, and general text."""
    return [*(split for split in ("validation", "test", "train") if split in recipe.eval.splits), GENERAL]


def measure(
    model: Any, prepared: Prepared, run: Path, name: Literal["base", "tuned"], step: int = 0,
    splits: Collection[str] | None = None,
) -> list[Scored]:  # fmt: skip
    """Return what the report needs of ``model`` on ``splits``, by default all of the recipe's.

    Each rank measures a part, and gets all. How far it is goes to the run's metrics.jsonl, of the part of the first
    rank; ``step`` is that of the weights.
    """
    recipe, dataset, context = prepared.recipe, prepared.dataset, prepared.context
    splits = measured_splits(recipe) if splits is None else splits
    rows = {split: each if split in splits else [] for split, each in dataset.splits.items()}
    part = shard_dataset(context, replace(dataset, splits=rows))
    metrics = run / METRICS if context.is_first else None
    smaller = f"Add --set eval.batch_tokens={max(16, recipe.eval.batch_tokens // 2)}."
    with Events(metrics, resumed_from=None) as events, explain_oom(None, "measuring", smaller):
        scored = evaluate_splits(
            model, prepared.renderer, part, prepared.categories, recipe, general=prepared.general,
            has_general=GENERAL in splits, on_progress=MeasureLog(events, name, part, step).add,
        )  # fmt: skip
    return gather_scores(context, scored, [row.id for split in ("validation", "test", "train") for row in rows[split]])


def measure_base(prepared: Prepared, run: Path, *, is_cached: bool) -> list[Scored]:
    """Return what `measure` returns of the base, each split measured once for all runs in which nothing of it differs.

    So a run that leaves the test split alone shares the rest with one that does not.
    """
    key, context = key_of(prepared), prepared.context
    keys = {split: key | {"split": split} for split in measured_splits(prepared.recipe)}
    # Rank 0 decides for all: what is cached on one machine may be missing on another.
    results: dict[str, list[Scored] | None] = context.broadcast_object(
        {split: recall(run, each, is_cached=is_cached) for split, each in keys.items()} if context.is_first else None
    )
    missing = [split for split, scored in results.items() if scored is None]
    if len(missing) < len(keys):
        num = sum(len(scored or ()) for scored in results.values())
        console.talk(f"the base was measured before: {num} results are taken from the cache")
    if missing:
        console.talk(f"run {run.name}: measuring the base")
        fresh = measure(prepared.model, prepared, run, "base", splits=missing)
        for split in missing:
            results[split] = [record for record in fresh if record.split == split]
            if context.is_first:
                remember(run, keys[split], results[split] or [], is_cached=is_cached)
    return [record for scored in results.values() for record in scored or ()]


def forget(run: Path) -> None:
    """Remove the run's own copy; from now on its predictions.jsonl holds the same."""
    shutil.rmtree(run / IN_RUN, ignore_errors=True)


def _caches(run: Path, *, is_cached: bool) -> list[Cache]:
    home = cache_home() if is_cached else None
    return [Cache(run / IN_RUN), *([] if home is None else [Cache(home / "base-results", most_bytes=_MOST_BYTES)])]


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
    # Greedy decoding is not the same in every batch: the shapes of matrix products decide in which order they add up,
    # and where two tokens are nearly as likely, rounding chooses.
    with computing(prepared.device, prepared.dtype):
        predictions = predict(
            model,
            prepared.renderer,
            rows,
            max_new_tokens=most,
            batch_tokens=max(*sizes, sum(sizes) // _BATCHES),
            max_reasoning_tokens=prepared.recipe.eval.max_reasoning_tokens,
        )
    num_changed = num_flipped = 0
    for prediction in predictions:
        before = recorded[prediction.id]
        num_changed += prediction.text != before.text
        spec = spec_of(prepared.categories, before.category)
        score = answer_scores(spec, prediction, before.reference, {}).get(before.metric)
        if score is not None and before.score is not None:
            num_flipped += (score >= RIGHT_FROM) != (before.score >= RIGHT_FROM)
    return noise_of(len(predictions), num_changed, num_flipped)
