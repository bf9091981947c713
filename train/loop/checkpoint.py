"""Checkpoints that are whole or absent, that say what they belong to, and that hold no pickle.

On resume the newest one whose every byte proves right is taken; damaged ones are passed over and named. Facts of the
run (dataset, order, recipe, versions ...) that changed are refused, since the result would be another. The state of no
random stream is in it, since each step begins its own.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from train.base.errors import TrainError
from train.base.storage import MOST_DOCUMENT, MOST_STATE, canonical_json, digest_of, read_file, sha256_of, whole_folder
from train.evaluate.predictions import ValidationScore
from train.model.distributed import (
    PREFIX,
    SINGLE_PROCESS,
    DistributedContext,
    is_sharded,
    read_shards,
    write_shards,
)
from train.model.load import check_finite

MANIFEST, PROGRESS = "MANIFEST.json", "progress.json"
_SHARDED, _WHOLE = ("weights", "optimizer"), "dynamics"
"""Parts that may be in shards, and the one that never is."""
PARTS = (*_SHARDED, _WHOLE)
Tensors = Mapping[str, torch.Tensor]


@dataclass(kw_only=True)
class TrainingState:
    """What a checkpoint carries besides tensors."""

    step: int = 0
    tokens: int = 0
    loss: float = math.nan
    best_step: int | None = None
    evaluations: list[ValidationScore] = field(default_factory=list)
    evaluated: int = 0
    """The step of the newest of them."""
    early_stop: str | None = None
    """Why early stopping ended the run before its last step."""
    forgot: float | None = None
    """The rise of the bits of general text over the base, as a share, where the run ended for it."""
    seconds: float = 0.0
    """Of training, with its evaluations and checkpoints, over all processes of the run."""
    step_seconds: float = 0.0
    """Of the steps alone."""

    def progress(self) -> dict[str, Any]:
        """Return the state as progress.json has it."""
        return asdict(self)

    @classmethod
    def from_progress(cls, progress: Mapping[str, Any]) -> TrainingState:
        """Return the state that `progress` was called on."""
        # Without samples, which no checkpoint carries along.
        scores = [ValidationScore(one["score"], one["loss"], one["by_category"]) for one in progress["evaluations"]]
        return cls(**{**progress, "evaluations": scores})


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its folder, the step it was made after, the state of the run, and what it belongs to."""

    path: Path
    step: int
    progress: dict[str, Any]
    facts: dict[str, Any]

    @classmethod
    def save(
        cls, run: Path, progress: Mapping[str, Any], tensors: Mapping[str, Tensors], facts: Mapping[str, Any], *,
        keep: int, context: DistributedContext = SINGLE_PROCESS,
    ) -> Path:  # fmt: skip
        """Write `checkpoint-STEP` in ``run`` and return it, then remove the oldest until ``keep`` are left.

        The new one and that of ``progress["best_step"]`` stay, as transformers counts. ``tensors`` maps each of PARTS
        to named tensors. Every rank calls this: the first writes, or each its shards and the first everything else.

        Raises TrainError "E936 write-failed" (exit 3), and "E934 not-finite" for weights that are no numbers; what was
        there stays as it was.
        """
        step, in_shards = progress["step"], any(map(is_sharded, tensors["weights"].values()))
        final = run / f"checkpoint-{step}"
        check_finite(tensors["weights"].items(), f"step {step}")
        with whole_folder(final) if context.is_first else nullcontext() as work:
            if in_shards:
                folder = Path(context.broadcast_object(str(work)))
                write_shards(folder, {name: tensor for part in _SHARDED for name, tensor in tensors[part].items()})
            if work is None:
                return final
            for part in (_WHOLE,) if in_shards else PARTS:
                named = {name: tensor.contiguous() for name, tensor in tensors[part].items()}
                save_file(named, work / f"{part}.safetensors")
            (work / PROGRESS).write_text(canonical_json(progress), encoding="utf-8")
            paths = sorted(work.iterdir())
            # hashlib lets other threads compute meanwhile.
            with ThreadPoolExecutor() as pool:
                digests = list(pool.map(sha256_of, paths))
            manifest: dict[str, Any] = {"version": 1, "step": step, "facts": dict(facts)}
            manifest["files"] = {path.name: {"sha256": digest, "bytes": path.stat().st_size}
                                 for path, digest in zip(paths, digests, strict=True)}  # fmt: skip
            manifest["sha256"] = digest_of(manifest)
            (work / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        kept = {step, progress.get("best_step")}
        old = sorted(_by_step(run).items(), key=lambda item: (item[0] in kept, item[0]), reverse=True)
        for _, path in old[keep:]:
            # Renamed first: a half-removed folder must not look like a checkpoint.
            shutil.rmtree(path.rename(path.with_name(f".{path.name}.old")))
        return final

    @classmethod
    def newest(cls, run: Path) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest whole checkpoint of ``run``, or None, and a sentence for each damaged one passed over."""
        faults: list[str] = []
        for _, path in sorted(_by_step(run).items(), reverse=True):
            try:
                return cls.read(path), faults
            except TrainError as error:
                faults.append(error.message)
        return None, faults

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Return one checkpoint after each file proved to be what its manifest says.

        Raises TrainError "E951 checkpoint-damaged" that names the first file that is missing, cut or changed.
        """
        try:
            manifest = json.loads(read_file(path / MANIFEST, most=MOST_STATE))
            is_sound = manifest.pop("sha256") == digest_of(manifest) and path.name == f"checkpoint-{manifest['step']}"
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            is_sound = False
        if not is_sound:
            raise _damaged(path / MANIFEST, "is missing or changed")
        files, always = manifest["files"], {PROGRESS, f"{_WHOLE}.safetensors"}
        names = files.keys() - always
        in_shards = bool(names) and all(name.startswith(PREFIX) for name in names)
        if not (always <= files.keys() and (in_shards or names == {f"{part}.safetensors" for part in _SHARDED})):
            raise _damaged(path / MANIFEST, "does not name the files of a checkpoint")
        # A file that nobody vouches for, such as a pickle, would be loaded by the next version of a library.
        for stranger in {file.name for file in path.iterdir()} - {MANIFEST, *files}:
            raise _damaged(path / stranger, "is not in the manifest")
        for name, entry in files.items():
            file = path / name
            if not file.is_file():
                raise _damaged(file, "is missing")
            if file.stat().st_size != entry["bytes"] or sha256_of(file) != entry["sha256"]:
                raise _damaged(file, "was cut or changed")
        progress = json.loads(read_file(path / PROGRESS, most=MOST_DOCUMENT))
        return cls(path, manifest["step"], progress, manifest["facts"])

    def check_facts(self, facts: Mapping[str, Any], *, is_forced: bool) -> list[str]:
        """Return what changed since the checkpoint, as sentences; raises TrainError "E952 run-changed" unless forced.

        Another number of ranks, and the threads that it leaves to each, is returned but not refused: it changes the
        order in which numbers are added up, and nothing else.
        """
        old, new = _flat(self.facts), _flat(facts)
        changed = sorted(name for name in old | new if old.get(name) != new.get(name))
        sentences = [f"{name} was {_short(old.get(name))}, is {_short(new.get(name))}" for name in changed]
        harmless = {"ranks", "threads"} if "ranks" in changed else set()
        if set(changed) - harmless and not is_forced:
            raise TrainError(
                "E952 run-changed", "this is no longer the run that the checkpoint belongs to: " + "; ".join(sentences),
                'Begin a new run, or go on with --force, which records the run as "not exact".',
            )  # fmt: skip
        return sentences

    def tensors(self, part: str) -> dict[str, torch.Tensor]:
        """Return the tensors of one of PARTS, of those that are not in shards, on the CPU."""
        return dict(load_file(self.path / f"{part}.safetensors"))

    def load_into(self, part: str, targets: Tensors) -> None:
        """Overwrite ``targets``, whole or sharded, with the tensors of ``part`` that have their names.

        Raises TrainError "E952 run-changed" where names or shapes are not those of ``targets``.
        """
        try:
            if any(self.path.glob(f"{PREFIX}*")) or any(map(is_sharded, targets.values())):
                read_shards(self.path, targets)
                return
            saved = self.tensors(part)
            if {name: t.shape for name, t in saved.items()} != {name: t.shape for name, t in targets.items()}:
                raise ValueError("names or shapes")
        except (KeyError, ValueError):
            raise TrainError(
                "E952 run-changed", f"{self.path.name} has other {part} than the model", "Begin a new run."
            ) from None
        with torch.no_grad():
            for name, target in targets.items():
                target.copy_(saved[name])

    def load_weights(self, model: Any) -> None:
        """Put the weights into the model's trainable parameters.

        Raises TrainError "E952 run-changed" as `load_into` does, "E934 not-finite" for NaN.
        """
        weights = trainable_tensors(model)
        self.load_into("weights", weights)
        check_finite(weights.items(), self.path.name)


def trainable_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Return the trainable parameters by name, where they are."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def clear_leftovers(run: Path) -> None:
    """Remove what an interrupted write or removal left behind; nothing of it has a checkpoint's name."""
    for path in (*run.glob(".*.tmp"), *run.glob(".*.old")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _by_step(run: Path) -> dict[int, Path]:
    matches = {path: re.fullmatch(r"checkpoint-([0-9]+)", path.name) for path in run.glob("checkpoint-*")}
    return {int(match[1]): path for path, match in matches.items() if match and path.is_dir()}


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= {f"{name} {key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _short(value: Any) -> str:
    return re.sub(r"^([0-9a-f]{12})[0-9a-f]{20,}$", r"\1...", str(value))


def _damaged(path: Path, fault: str) -> TrainError:
    name = f"{path.parent.name}/{path.name}"
    return TrainError("E951 checkpoint-damaged", f"{name} {fault}", "Resume from an older checkpoint, if one is whole.")
