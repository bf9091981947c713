"""Measure a model for the report and while it trains; what a base is measured to be is cached and measured once."""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch

from train.base import console
from train.base.cache import Cache, cache_home
from train.base.errors import TrainError
from train.base.storage import digest_of, installed_version, sha256_of, sources_digest
from train.data.dataset import Row, sample_rows
from train.evaluate.evaluation import (
    OnProgress,
    evaluate_model,
    evaluate_splits,
    gather_scores,
    num_answers,
    sample_ids,
    shard_dataset,
    summarise_validation,
)
from train.evaluate.general import SHIPPED, readable_general
from train.evaluate.general import SPLIT as GENERAL
from train.evaluate.metrics import discover_metrics
from train.evaluate.predictions import Scored, ValidationScore, find_non_finite
from train.loop import METRICS, Validation, WriteEvent, clock, open_events
from train.model import autocasting
from train.model.loss import nll_per_example
from train.pipeline.plan import explain_oom
from train.pipeline.prepare import Prepared
from train.recipe import PREFERENCES
from train.recipe.schedule import validation_interval

_MOST_BYTES = 256 << 20
BASE_RESULTS = "base-results"
_SOURCES = Path(__file__).resolve().parents[1]
"""All code of `train`: a change anywhere may change what is measured."""
_SHARED_FACTS = ("dataset", "tokenizer and template", "base", "threads", "versions", "ranks")


def base_key(prepared: Prepared) -> dict[str, Any]:
    """Return everything that results of the base depend on, as plain values.

    Weights, config and end tokens of the base; tokenizer and template; the dataset with its scorers; the general text;
    what evaluation reads of the recipe; device, number format, threads and ranks; our code and all versions.
    """
    device, config = prepared.placement.device, prepared.model.config.to_dict()
    # Kernels differ with what the processor can, and so do the last digits.
    machine = f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {name: prepared.facts[name] for name in _SHARED_FACTS} | {
        # It holds what JSON does not: torch's number formats, infinity.
        "config": digest_of(json.dumps(config | {"_name_or_path": ""}, sort_keys=True, default=str)),
        "stop tokens": list(prepared.renderer.stop_ids),
        "general": sha256_of(prepared.general or SHIPPED),
        "objective": prepared.renderer.objective,
        "recipe": prepared.eval_recipe.model_dump(mode="json"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else machine,
        "code": sources_digest(_SOURCES),
        "installed metrics": {
            m.name: _digest_of_code(m.function) for m in discover_metrics().values() if not m.is_ours
        },
        "validator": installed_version("jsonschema"),
    }


def _digest_of_code(function: Any) -> str:
    # Of the package, or of the module: helpers beside a metric decide its scores too.
    package, module = (sys.modules[name] for name in (function.__module__.partition(".")[0], function.__module__))
    path = Path(str(package.__file__ or module.__file__))
    return sources_digest(path.parent) if path.stem == "__init__" else sha256_of(path)


def measure_base(prepared: Prepared, run: Path, *, is_cached: bool) -> tuple[list[Scored], float]:
    """Return what `measure` returns of the base, and the seconds that it took, each split measured once for all runs in
    which nothing of it differs: one that leaves the test split alone shares the rest with one that does not.

    Without ``is_cached`` the results are kept in the run's own folder, so that resuming it never measures them again.
    """
    context, home = prepared.placement.context, cache_home() if is_cached else None
    cache = Cache(run / BASE_RESULTS) if home is None else Cache(home / BASE_RESULTS, most_bytes=_MOST_BYTES)
    key = base_key(prepared)
    keys = {split: digest_of(key | {"split": split}) for split in prepared.splits}
    # Rank 0 decides for all: what is cached on one machine may be missing on another.
    entries = {split: entry for split in keys if context.is_first and (entry := cache.get(keys[split]))}
    cached: dict[str, Any] = context.broadcast_object({split: entry.values for split, entry in entries.items()})
    if cached:
        num = sum(len(each["scored"]) for each in cached.values())
        console.info(f"the base was measured before: {num} results are taken from the cache")
    results = {split: [Scored(**values) for values in each["scored"]] for split, each in cached.items()}
    seconds = math.fsum(each["seconds"] for each in cached.values())
    if missing := [split for split in keys if split not in results]:
        console.info(f"run {run.name}: measuring the base {prepared.recipe.base}")
        began = time.monotonic()
        fresh = measure(prepared.model, prepared, run, "base", missing)
        spent = (time.monotonic() - began) / max(1, len(fresh))
        for split in missing:
            results[split] = [record for record in fresh if record.split == split]
            seconds += (of_split := spent * len(results[split]))
            # The run reports what is broken.
            if context.is_first and not find_non_finite(results[split]):
                scored = [asdict(result) for result in results[split]]
                cache.put(keys[split], (), {"scored": scored, "seconds": of_split})
    return [record for split in keys for record in results[split]], seconds


def measure(
    model: Any, prepared: Prepared, run: Path, name: Literal["base", "tuned"], splits: Collection[str], step: int = 0
) -> list[Scored]:  # fmt: skip
    """Return what the report needs of ``model`` on ``splits``.

    Each rank measures a part, and gets all. How far it is goes to the run's metrics.jsonl, of the part of the first
    rank; ``step`` is that of the weights.
    """
    recipe, dataset, context = prepared.eval_recipe, prepared.dataset, prepared.placement.context
    rows = {split: each if split in splits else [] for split, each in dataset.splits.items()}
    part = shard_dataset(context, replace(dataset, splits=rows))
    smaller = f"Add --set eval.batch_tokens={max(16, recipe.eval.batch_tokens // 2)}."
    with (
        open_events(run / METRICS if context.is_first else None) as write_event,
        explain_oom("measuring", hint=smaller),
    ):
        # A row counts once for its likelihood and once for its answer.
        total = sum(map(len, part.splits.values())) + num_answers([*part.splits["validation"], *part.splits["test"]])
        scored = evaluate_splits(
            model, prepared.renderer, part, prepared.categories, recipe, general=prepared.general,
            has_general=GENERAL in splits, on_progress=_log_progress(write_event, name, step, total),
        )  # fmt: skip
    return gather_scores(context, scored, [row.id for split in ("validation", "test", "train") for row in rows[split]])


def _log_progress(write_event: WriteEvent, model: str, step: int, total: int) -> OnProgress:
    # Return what writes an event a second at the most while ``total`` rows are measured.
    done, began, written_at = 0, time.monotonic(), -math.inf

    def add(_kind: str, num_rows: int) -> None:
        nonlocal done, written_at
        done, now = done + num_rows, time.monotonic()
        if now - written_at < 1 and done < total:
            return
        # Many answers are written at once, and the first ones are short, so the pace shows late.
        has_pace, written_at = 0 < total <= 10 * done, now
        seconds_left = round((now - began) * (total / done - 1), 1) if has_pace else None
        write_event("measure", step=step, model=model, done=done, of=total, eta_seconds=seconds_left)
        text = "" if seconds_left is None else f", {clock(seconds_left)} to go"
        console.progress(f"measuring the {model} model: {done:,} of {total:,}{text}")

    add("", 0)
    return add


def base_score(prepared: Prepared, base: Sequence[Scored]) -> ValidationScore:
    """Return what the base scores on the records that validations score, and its answers to the recipe's samples.

    Raises TrainError "E920 bad-recipe" where the recipe guards scores and none of these records has one, and "E944
    bad-general-text" where it guards general text and none is short enough.
    """
    guard = prepared.recipe.guard
    ids = {row.id for row in prepared.evaluated_rows}
    scored = [record for record in base if record.split == "validation" and record.id in ids]
    general = _bits_per_byte([record for record in base if record.split == GENERAL])
    score = replace(_summary(prepared, scored, scored), general=general)
    if guard.is_on and (not ids or (guard.regress is not None and not score.by_category)):
        raise TrainError("E920 bad-recipe", "the guard has no validation record with a score to compare",
                         "Export a validation split, or switch guard.regress and guard.plateau off.")  # fmt: skip
    if guard.general is not None and general is None:
        raise TrainError("E944 bad-general-text", "the guard has no general text: all of it is over max_length",
                         "Raise max_length, name shorter text with eval.general, or remove guard.general.")  # fmt: skip
    num_steps = len(prepared.steps)
    # The evaluation of the last step ends nothing any more.
    num = (num_steps - 1) // validation_interval(prepared.recipe, num_steps)
    for name, needed in (("general", 1), ("regress", guard.patience), ("plateau", guard.patience + 1)):
        if getattr(guard, name) not in (None, False) and num < needed:
            console.info(
                f"warning: guard.{name} needs {needed} evaluations and the run has {num} before its last step, so it "
                "stops nothing; lower eval_steps or guard.patience"
            )
    return score


def _summary(
    prepared: Prepared, scored: Sequence[Scored], base: Sequence[Scored], trained: Sequence[Scored] = ()
) -> ValidationScore:
    # Where answers are compared, the best model is the one that moved towards what people prefer.
    before = {record.id: record for record in base if record.split == "validation"}
    samples = sample_ids(prepared.evaluated_rows, prepared.recipe.eval.samples)
    return summarise_validation(scored, samples, trained, before if prepared.recipe.objective in PREFERENCES else None)


def make_validation(
    model: Any, prepared: Prepared, base: ValidationScore, base_results: Sequence[Scored]
) -> Validation | None:  # fmt: skip
    """Return how ``model`` is validated while it trains; None where no record is scored.

    ``base`` is what the base scores, of its ``base_results``. All ranks score a part of the records, and each gets the
    scores of all.
    """
    rows, trained, context = prepared.evaluated_rows, prepared.trained_rows, prepared.placement.context
    if not rows:
        return None
    by_id = {row.id: row for row in trained}
    fit_rows = [by_id[name] for name in sample_ids(trained, prepared.recipe.eval.fit_records)]
    # Raw text has no answers, and so no categories to balance.
    fit_rows = fit_rows or sample_rows(trained, prepared.recipe.eval.fit_records)
    is_guarded = prepared.recipe.guard.general is not None
    texts = readable_general(prepared.renderer, prepared.general) if is_guarded else []

    def scored(rows: Sequence[Row], split: str) -> list[Scored]:
        # Every rank reads all of the general text: it is a page.
        shard = rows if split == GENERAL else rows[context.rank :: context.world_size]
        results = evaluate_model(
            model, prepared.renderer, shard, prepared.categories, prepared.eval_recipe, split=split,
            is_generating=split != GENERAL,
        )  # fmt: skip
        return gather_scores(context, results, [row.id for row in rows])

    def evaluate(_step: int) -> ValidationScore:
        score = _summary(prepared, scored(rows, "validation"), base_results, scored(fit_rows, "train"))
        return replace(score, general=_bits_per_byte(scored(texts, GENERAL)))

    return Validation(evaluate, base)


def _bits_per_byte(scored: Sequence[Scored]) -> float | None:
    num_bytes = sum(record.num_bytes for record in scored)
    return math.fsum(record.nll or 0.0 for record in scored) / (math.log(2) * num_bytes) if num_bytes else None


def compute_ref_logps(prepared: Prepared) -> torch.Tensor | None:
    """Return the log-probabilities of both texts of each training record, [records, 2] in nats, on the CPU.

    They are those of the model that training begins from, read once: no step has to read them again, and no second
    model lies in memory. Replayed text has zeros. None where no reference is needed. Each rank reads a part, and gets
    all.
    """
    if prepared.recipe.objective not in PREFERENCES or prepared.recipe.objective == "orpo":
        return None
    examples, placement, context = prepared.steps.examples, prepared.placement, prepared.placement.context
    text_indices = [(index, part) for index, example in enumerate(examples) if not example.is_replay for part in (0, 1)]
    console.info(f"reading {len(text_indices):,} answers with the model that training begins from")
    shard = text_indices[context.rank :: context.world_size]
    parts = [examples[index].texts[part] for index, part in shard]
    with autocasting(placement.device, placement.dtype):
        nlls = nll_per_example(prepared.model, parts, batch_tokens=prepared.recipe.eval.batch_tokens)
    logps = torch.zeros(len(examples), 2)
    for pairs in context.gather([(text_index, -nll.nll) for text_index, nll in zip(shard, nlls, strict=True)]):
        for text_index, logp in pairs:
            logps[text_index] = logp
    return logps
