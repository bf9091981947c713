"""Results of a base are cached under a key of everything that they depend on, so that a base is measured once.

There are two caches (`train.base.cache`): one for all runs, and one inside each run until the run is finished.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from train.base import console
from train.base.cache import Cache, cache_home
from train.base.storage import digest_of, sha256_of
from train.base.versions import installed_version, sources_digest
from train.evaluate.general import SHIPPED
from train.evaluate.predictions import Scored
from train.pipeline.run.folder import versions
from train.pipeline.run.prepare import Prepared

_MOST_BYTES = 256 << 20
IN_RUN = "base-results"
"""The folder of the run's own copy, so that resuming a run never measures the base again."""
_SOURCES = Path(__file__).resolve().parents[2]
"""All code of `train`: a change anywhere may change what is measured."""

# What decides the training alone. A field that is not named here is part of the key, so a new one can only cost a miss.
_OF_TRAINING: dict[str, Any] = {
    "base": True, "method": True, "objective": True, "lr": True, "epochs": True, "max_steps": True, "batch_size": True,
    "batch_tokens": True, "accumulation": True, "micro_batch_tokens": True, "warmup": True, "schedule": True,
    "weight_decay": True, "betas": True, "clip": True, "seed": True, "checkpoint": True, "compile": True,
    "parallel": True, "checkpointing": True, "neftune": True, "mixing": True, "guard": True,
    "lora": {"rank": True, "alpha": True, "dropout": True, "targets": True, "init": True, "rslora": True, "dora": True},
    "eval": {"every_steps": True, "during_training": True, "general": True, "margin": True, "resamples": True,
             "judge": True},
}  # fmt: skip


def key_of(prepared: Prepared) -> dict[str, Any]:
    """Return everything that a base's results depend on, as plain values.

    Weights, config and end tokens of the base; tokenizer and template; the dataset with its scorers; the general text;
    the recipe but for what only training sees; device, number format, threads and ranks; our code and all versions.
    """
    model, tokenizer, renderer = prepared.model, prepared.tokenizer, prepared.renderer
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
        "recipe": prepared.recipe.model_dump(mode="json", exclude=_OF_TRAINING),
        "device": _device(prepared),
        "dtype": str(prepared.dtype),
        "threads": prepared.recipe.threads,
        # Other ranks shard the rows into other batches.
        "ranks": prepared.context.world_size,
        "code": sources_digest(_SOURCES),
        "versions": versions(),
        "validator": installed_version("jsonschema"),
    }


def _digest_of_config(config: Mapping[str, Any]) -> str:
    """Configs of transformers hold what JSON does not: torch's number formats, infinity."""
    return digest_of(json.dumps(config, sort_keys=True, default=str))


def _device(prepared: Prepared) -> str:
    import torch

    if prepared.device.type == "cuda":
        return torch.cuda.get_device_name(prepared.device)
    # Kernels differ with what the processor can, and so do the last digits.
    return f"{prepared.device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def recall(run: Path, key: Mapping[str, Any], *, is_cached: bool) -> list[Scored] | None:
    """Return the base's results of ``key`` from the run's own copy, or with ``is_cached`` from the cache; say which."""
    own, *shared = _caches(run, is_cached=is_cached)
    for cache in (own, *shared):
        entry = cache.get(digest_of(key))
        if entry is not None:
            results = [Scored(**values) for values in entry.values["scored"]]
            console.talk(
                f"the base was measured before: {len(results)} results are taken from {cache.folder / digest_of(key)}"
            )
            if cache is not own:
                own.put(digest_of(key), {}, entry.values)
            return results
    return None


def remember(run: Path, key: Mapping[str, Any], scored: Sequence[Scored], *, is_cached: bool) -> None:
    """Cache the base's results in the run's folder, and with ``is_cached`` for other runs too.

    Results that are not finite are not cached: the run reports what is broken.
    """
    if not all(math.isfinite(value) for record in scored for value in (record.nll, *(record.scores or {}).values())):
        return
    for cache in _caches(run, is_cached=is_cached):
        cache.put(digest_of(key), {}, {"scored": [asdict(result) for result in scored]})


def forget(run: Path) -> None:
    """Remove the run's own copy; from now on its predictions.jsonl holds the same."""
    shutil.rmtree(run / IN_RUN, ignore_errors=True)


def _caches(run: Path, *, is_cached: bool) -> list[Cache]:
    """The run's own copy, and with ``is_cached`` what all runs of this user share, where they have a home."""
    home = cache_home() if is_cached else None
    return [Cache(run / IN_RUN), *([] if home is None else [Cache(home / "base-results", most_bytes=_MOST_BYTES)])]
