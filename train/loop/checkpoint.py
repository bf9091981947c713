"""Checkpoints that are whole or absent, that say what they belong to, and that hold no pickle.

On resume the newest one whose every byte proves right is taken; damaged ones are passed over and named. Facts of the
run (dataset, order, recipe, versions ...) that changed are refused, since the result would be another. The state of no
random stream is in it, since each step begins its own.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from train.base import console
from train.base.errors import Exit, TrainError
from train.base.file_guard import MOST_DOCUMENT, MOST_STATE, read_file
from train.base.storage import canonical_json, digest_of, sha256_of, sync
from train.evaluate.dynamics import Dynamics
from train.loop.gradients import Optimizer
from train.loop.state import TrainingState
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.model.load import check_finite
from train.model.parallel import PREFIX, is_sharded, read_shards, write_shards

if TYPE_CHECKING:
    import torch


MANIFEST = "MANIFEST.json"
_CUT, _WHOLE = ("weights", "optimizer"), "dynamics"
"""Parts that may be in shards, and the one that never is."""
PARTS = (*_CUT, _WHOLE)
_NAME = re.compile(r"checkpoint-([0-9]+)")
_ROUNDING = frozenset({"ranks", "threads"})
"""Facts that may change with the number of ranks: they decide only in which order numbers are added up."""
# What a file system takes besides, and what others write meanwhile.
_SPARE = 1.2


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: where it is, after how many steps it was made, and the progress that it carries."""

    path: Path
    step: int
    progress: dict[str, Any]
    facts: dict[str, Any]

    def tensors(self, part: str) -> dict[str, Any]:
        """Return the tensors of one of PARTS, of those that are not in shards, on the CPU."""
        # torch takes a second to import; looking at checkpoints does without.
        from safetensors.torch import load_file

        return dict(load_file(self.path / f"{part}.safetensors"))

    def fill(self, part: str, targets: Mapping[str, torch.Tensor]) -> None:
        """Overwrite ``targets``, whole or sharded, with the tensors of ``part`` that have their names.

        Raises TrainError "E952 run-changed" where names or shapes are not those of ``targets``.
        """
        import torch

        try:
            if any(self.path.glob(f"{PREFIX}*")) or any(is_sharded(target) for target in targets.values()):
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


def save_checkpoint(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Any]],
    progress: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    keep: int,
    always: Collection[int] = (),
    context: DistributedContext = SINGLE_PROCESS,
) -> Path:
    """Write `checkpoint-STEP` in ``run`` and return it, then remove the oldest until ``keep`` are left.

    Among these are the new one and ``always``, as transformers counts.

    ``tensors`` maps each of PARTS to named tensors. Every rank calls this: the first writes, or each its shards and the
    first the rest. Raises TrainError "E954 disk-full" (exit 3) before or while writing, and "E934 not-finite" for
    weights that are no numbers; what was there stays as it was.
    """
    final, work = run / f"checkpoint-{step}", run / f"tmp-{step}"
    are_shards = any(is_sharded(tensor) for tensor in tensors["weights"].values())
    check_finite(tensors["weights"].items(), f"step {step}")
    try:
        if context.is_first:
            _make_room(run, work, tensors)
        if are_shards:
            context.barrier()
            write_shards(work, {name: tensor for part in _CUT for name, tensor in tensors[part].items()})
        if not context.is_first:
            return final
        # All under another name, each file synced and hashed from the disk, the manifest last: so one rename makes a
        # checkpoint that is whole. Ranks that hold shards have written theirs by now, under the same manifest.
        _write_parts(work, {part: tensors[part] for part in ((_WHOLE,) if are_shards else PARTS)})
        (work / "progress.json").write_text(canonical_json(progress), encoding="utf-8")
        paths = sorted(work.iterdir())
        # hashlib lets other threads compute meanwhile.
        with ThreadPoolExecutor() as pool:
            files = {path.name: entry for path, entry in zip(paths, pool.map(_synced_entry, paths), strict=True)}
        manifest: dict[str, Any] = {"version": 1, "step": step, "files": files, "facts": dict(facts)}
        manifest["sha256"] = digest_of(manifest)
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        _synced_entry(work / MANIFEST)
        sync(work)
        if final.exists():
            # Only now: until here the new one may fail.
            _remove(final)
        work.rename(final)
        sync(run)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise TrainError(
            "E954 disk-full", f"{final}: {error.strerror}; the checkpoint was not written",
            "Make room, then call again with --resume.", exit_code=Exit.MISSING,
        ) from error  # fmt: skip
    # The old ones go last: until the new one has its name, they are all there is.
    kept = {step, *always}
    for _, path in sorted(_list_checkpoints(run), key=lambda old: (old[0] in kept, old[0]), reverse=True)[keep:]:
        _remove(path)
    return final


def newest_verified(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest whole checkpoint of ``run``, or None, and a sentence for each damaged one passed over."""
    faults: list[str] = []
    for step, path in sorted(_list_checkpoints(run), reverse=True):
        try:
            return open_checkpoint(path, step), faults
        except TrainError as error:
            faults.append(error.message)
    return None, faults


def open_checkpoint(path: Path, step: int) -> Checkpoint:
    """Return one checkpoint after each file proved to be what its manifest says.

    Raises TrainError "E951 checkpoint-damaged" that names the first file that is missing, cut or changed.
    """
    try:
        manifest = json.loads(read_file(path / MANIFEST, most=MOST_STATE))
        expected = manifest.pop("sha256")
        is_sound = expected == digest_of(manifest) and manifest["step"] == step
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        is_sound = False
    if not is_sound:
        raise _damaged(path / MANIFEST, "is missing or changed")
    always = {"progress.json", f"{_WHOLE}.safetensors"}
    names = set(manifest["files"]) - always
    are_shards = bool(names) and all(name.startswith(PREFIX) for name in names)
    if not (always <= set(manifest["files"]) and (are_shards or names == {f"{part}.safetensors" for part in _CUT})):
        raise _damaged(path / MANIFEST, "does not name the files of a checkpoint")
    # A file that nobody vouches for, such as a pickle, would be loaded by the next version of a library.
    for stranger in {file.name for file in path.iterdir()} - {MANIFEST, *manifest["files"]}:
        raise _damaged(path / stranger, "is not in the manifest")
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise _damaged(file, "is missing")
        if file.stat().st_size != entry["bytes"] or sha256_of(file) != entry["sha256"]:
            raise _damaged(file, "was cut or changed")
    progress = json.loads(read_file(path / "progress.json", most=MOST_DOCUMENT))
    return Checkpoint(path, step, progress, manifest["facts"])


def check_facts(checkpoint: Checkpoint, facts: Mapping[str, Any], *, is_forced: bool) -> list[str]:
    """Return what changed since the checkpoint, as sentences; raises TrainError "E952 run-changed" unless forced.

    Another number of ranks, and the threads that it leaves to each, is returned but not refused: it changes the order
    in which numbers are added up, and nothing else.
    """
    differences = sorted(_differences(checkpoint.facts, facts), key=str)
    rounding = _ROUNDING if checkpoint.facts.get("ranks") != facts.get("ranks") else ()
    changed = [str(difference) for difference in differences]
    if any(difference.path[0] not in rounding for difference in differences) and not is_forced:
        raise TrainError(
            "E952 run-changed", "this is no longer the run that the checkpoint belongs to: " + "; ".join(changed),
            'Begin a new run, or go on with --force, which records the run as "not exact".',
        )  # fmt: skip
    return changed


def clear_leftovers(run: Path) -> None:
    """Remove what an interrupted write or removal left behind; nothing of it has a checkpoint's name."""
    for path in (*run.glob("tmp-*"), *run.glob(".*.tmp"), *run.glob(".*.old")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


class _Difference(NamedTuple):
    """A fact that changed; ``path`` are its keys from the outermost on."""

    path: tuple[str, ...]
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{' '.join(self.path)} was {_short(self.before)}, is {_short(self.after)}"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[_Difference]:
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, (*path, key))
        elif before != after:
            yield _Difference((*path, key), before, after)


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] + "..." if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _list_checkpoints(run: Path) -> list[tuple[int, Path]]:
    matches = ((path, _NAME.fullmatch(path.name)) for path in run.iterdir()) if run.is_dir() else ()
    return [(int(match.group(1)), path) for path, match in matches if match and path.is_dir()]


def _remove(path: Path) -> None:
    # Renamed first: a half-removed folder must not look like a checkpoint.
    doomed = path.with_name(f"tmp-removed-{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _make_room(run: Path, work: Path, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    num_bytes = sum(t.numel() * t.element_size() for part in tensors.values() for t in part.values())
    free = shutil.disk_usage(run).free
    if free < _SPARE * num_bytes:
        raise TrainError(
            "E954 disk-full",
            f"{run}: a checkpoint takes about {num_bytes / 1e6:,.1f} MB, only {free / 1e6:,.1f} MB are free",
            "Make room, then call again with --resume.", exit_code=Exit.MISSING,
        )  # fmt: skip
    if work.exists():
        shutil.rmtree(work)
    work.mkdir()


def _write_parts(work: Path, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    for part, named in tensors.items():
        try:
            save_file({name: tensor.contiguous() for name, tensor in named.items()}, work / f"{part}.safetensors")
        except SafetensorError as error:
            # safetensors reports a full disk as an error of its own.
            raise OSError(None, str(error)) from error


def _synced_entry(path: Path) -> dict[str, Any]:
    # fsync a file, then hash what the disk gives back.
    sync(path)
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def _damaged(path: Path, what: str) -> TrainError:
    return TrainError(
        "E951 checkpoint-damaged",
        f"{path.parent.name}/{path.name} {what}",
        "Resume from an older checkpoint, if one is whole.",
    )


@dataclass(frozen=True)
class Checkpoints:
    """Where the checkpoints of a run lie, the ``facts`` that each carries, and a verified one to ``resume`` from."""

    run_dir: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    resume: Checkpoint | None = None

    def load(self, model: Any, optimizer: Optimizer, dynamics: Dynamics) -> TrainingState:
        """Return the state to go on from, and put the tensors of ``resume`` into what is given.

        Raises TrainError "E952 run-changed" where they do not fit, "E934 not-finite" for NaN.
        """
        if self.resume is None:
            return TrainingState()
        restore_weights(model, self.resume)
        self.resume.fill("optimizer", optimizer.tensors())
        if not dynamics.restore(self.resume.tensors("dynamics")):
            name = self.resume.path.name
            console.talk(f"{name} holds no learning dynamics of these records: they begin with this step")
        return TrainingState.from_progress(self.resume.progress)

    def save(
        self, state: TrainingState, model: Any, optimizer: Optimizer, dynamics: Dynamics, *, keep: int,
        context: DistributedContext,
    ) -> Path:  # fmt: skip
        """Write a checkpoint and return its folder; ``keep`` stay, the best among them.

        Raises TrainError as `save_checkpoint` does.
        """
        tensors = {
            "weights": trained_tensors(model), "optimizer": optimizer.tensors(), "dynamics": dynamics.tensors(),
        }  # fmt: skip
        best = [] if state.best_step is None else [state.best_step]
        with context.waiting():
            return save_checkpoint(
                self.run_dir, state.step, tensors, state.progress(), self.facts, keep=keep, always=best, context=context
            )


def trained_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Return the trainable parameters by name, where they are."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def restore_weights(model: Any, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights into the model's trainable parameters.

    Raises TrainError "E952 run-changed" where names or shapes are not the model's, "E934 not-finite" for NaN.
    """
    weights = trained_tensors(model)
    checkpoint.fill("weights", weights)
    check_finite(weights.items(), checkpoint.path.name)
