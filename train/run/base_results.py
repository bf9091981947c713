"""What was measured of a base is kept and found again by everything that it depends on, so a base is measured once.

An entry is a file named by the digest of its key. It holds the key whole, and the SHA-256 of what follows; one that
does not fit its name, its key or its digest is passed over and said, never used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train import say
from train.cache import cache_home
from train.errors import TrainError
from train.general import SHIPPED
from train.predictions import Scored, write_whole
from train.recipe import Recipe
from train.run.folder import versions
from train.run.prepare import Prepared

FORMAT = 1
MOST_ENTRIES = 32
"""Entries that stay in the cache; those that were used last."""
IN_RUN = "base-results.jsonl"
"""The copy that a run keeps until it is finished, so that going on with it never measures the base again."""

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


def cache_folder() -> Path:
    """Return the folder of kept results, which may not be there: base-results in `train.cache.cache_home`."""
    return (cache_home() or Path(os.devnull)) / "base-results"


def key_of(prepared: Prepared, general: Path | None) -> dict[str, Any]:
    """Return everything that a base's results depend on, as plain values; ``general`` is the recipe's text, found.

    Weights, config and end tokens of the base; tokenizer and template; the dataset with its scorers; the general text;
    the recipe but for what only training sees; device, number format and threads; our code and all versions.
    """
    model, tokenizer, renderer = prepared.model, prepared.tokenizer, prepared.renderer
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    return {
        "weights": prepared.facts["base"],
        "config": _digest(json.dumps(config, sort_keys=True, default=str)),
        "stop tokens": list(renderer.stop_ids),
        "tokenizer and template": prepared.facts["tokenizer and template"],
        "special tokens": _digest(json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)),
        "dataset": prepared.dataset.digest,
        "general": hashlib.sha256((general or SHIPPED).read_bytes()).hexdigest(),
        "objective": prepared.objective,
        "recipe": _of_evaluation(prepared.recipe),
        "device": _device(prepared),
        "dtype": str(prepared.dtype),
        "threads": prepared.threads,
        "code": _code(),
        "versions": versions(),
        "validator": version("jsonschema"),
    }


def _of_evaluation(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude=_OF_TRAINING)


def _device(prepared: Prepared) -> str:
    import torch

    if prepared.device.type == "cuda":
        return torch.cuda.get_device_name(prepared.device)
    # Kernels differ with what the processor can, and so do the last digits.
    return f"{prepared.device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


@cache
def _code() -> str:
    """Return a SHA-256 over the sources of this package: its version stays the same while it is worked on."""
    root = Path(__file__).resolve().parent.parent
    hashed = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        hashed.update(f"{file.relative_to(root)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return hashed.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def entry_of(key: Mapping[str, Any]) -> Path:
    """Return the file of the cache that results of ``key`` are kept in."""
    return cache_folder() / f"{_digest(json.dumps(key, sort_keys=True))}.jsonl"


def read_entry(path: Path, key: Mapping[str, Any]) -> list[Scored] | None:
    """Return the results in ``path``, or None where there are none of ``key``; a damaged entry is said on stderr."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        told = json.loads(head)
        if told["format"] != FORMAT or told["key"] != json.loads(json.dumps(key)):
            raise ValueError("it holds the results of something else")
        if told["sha256"] != hashlib.sha256(body).hexdigest():
            raise ValueError("its SHA-256 is not the one that it names")
        return [Scored(**json.loads(line)) for line in body.splitlines()]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        say.talk(f"warning: kept results of the base in {path} are passed over: {error}")
        return None


def write_entry(path: Path, key: Mapping[str, Any], scored: Sequence[Scored]) -> None:
    """Keep ``scored`` in ``path`` in one step; where that fails it is said, and the run goes on without.

    Results that are not finite are not kept: the run will say what is broken.
    """
    if not all(math.isfinite(value) for one in scored for value in (one.nll, *(one.scores or {}).values())):
        return
    body = "".join(json.dumps(asdict(one)) + "\n" for one in scored)
    head = {"format": FORMAT, "key": key, "sha256": hashlib.sha256(body.encode()).hexdigest()}
    try:
        write_whole(path, [json.dumps(head) + "\n", body])
    except TrainError as error:
        say.talk(f"warning: the results of the base are not kept: {error.message}")


def recall(run: Path, key: Mapping[str, Any], *, is_cached: bool) -> list[Scored] | None:
    """Return the base's results of ``key`` from the run's own copy, or with ``is_cached`` from the cache; say which."""
    entry = entry_of(key)
    for path in (run / IN_RUN, entry) if is_cached else (run / IN_RUN,):
        found = read_entry(path, key)
        if found is not None:
            say.talk(f"the base was measured before: {len(found)} results are taken from {path}")
            if path == entry:
                write_entry(run / IN_RUN, key, found)
                _refresh(entry)
            return found
    return None


def remember(run: Path, key: Mapping[str, Any], scored: Sequence[Scored], *, is_cached: bool) -> None:
    """Keep the base's results in the run's folder, and with ``is_cached`` for other runs too."""
    write_entry(run / IN_RUN, key, scored)
    if is_cached:
        entry = entry_of(key)
        try:
            # What a model said of private records is for their owner alone.
            entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            say.talk(f"warning: the results of the base are not kept: {error}")
            return
        write_entry(entry, key, scored)
        _refresh(entry)


def forget(run: Path) -> None:
    """Remove the run's own copy; its predictions say the same from now on."""
    (run / IN_RUN).unlink(missing_ok=True)


def _refresh(entry: Path) -> None:
    """Make ``entry`` the newest of the cache, and remove all but the newest."""
    try:
        if entry.exists():
            entry.touch()
        entries = sorted(entry.parent.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in entries[MOST_ENTRIES:]:
            path.unlink(missing_ok=True)
    except OSError as error:
        say.talk(f"warning: the cache of base results is not cleaned: {error}")
