"""Checkpoints: whole or absent, verified byte by byte, and never of another run without saying so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.trainer_utils import rotate_checkpoints

from train.base.errors import TrainError
from train.loop.checkpoint import PARTS, Checkpoint, clear_leftovers

FACTS = {"dataset": "d" * 64, "threads": 1, "versions": {"torch": "2.0", "python": "3.11"}}


def _save(run: Path, step: int, *, keep: int = 2, best: int | None = None) -> Path:
    run.mkdir(exist_ok=True)
    tensors = {part: {"a": torch.full((8,), float(step))} for part in PARTS}
    progress = {"step": step, "best_step": best}
    return Checkpoint.save(run, progress, tensors, FACTS, keep=keep)


def _names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


@pytest.mark.parametrize(
    ("limit", "best", "kept"), [(2, 2, "25"), (3, 2, "245"), (3, 5, "345"), (2, None, "45"), (9, 1, "12345")]
)
def test_as_many_stay_as_save_total_limit_says_the_best_among_them(
    tmp_path: Path, limit: int, best: int | None, kept: str
) -> None:
    """As transformers counts: of 3 the best and the two newest others."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for step in range(1, 6):
        _save(ours, step, keep=limit, best=best)
        (theirs / f"checkpoint-{step}").mkdir(parents=True)
    rotate_checkpoints(str(theirs), limit, best and str(theirs / f"checkpoint-{best}"))
    assert _names(ours) == _names(theirs) == [f"checkpoint-{step}" for step in kept]


def test_the_newest_is_read_back(tmp_path: Path) -> None:
    for step in range(1, 6):
        _save(tmp_path, step)
    found, faults = Checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, found.progress, found.facts, faults) == (5, {"step": 5, "best_step": None}, FACTS, [])
    assert found.tensors("weights")["a"].tolist() == [5.0] * 8


def test_nothing_in_it_is_a_pickle(tmp_path: Path) -> None:
    files = sorted(path.name for path in _save(tmp_path, 1).iterdir())
    safe = [f"{part}.safetensors" for part in ("dynamics", "optimizer", "weights")]
    assert files == ["MANIFEST.json", safe[0], safe[1], "progress.json", safe[2]]


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["MANIFEST.json", "optimizer.safetensors", "progress.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", [_flip, _cut, Path.unlink])
def test_damage_of_any_file_falls_back_to_the_one_before(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    _save(tmp_path, 1)
    damage(_save(tmp_path, 2) / name)
    found, faults = Checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(faults) == 1
    assert f"checkpoint-2/{name}" in faults[0]
    damage(tmp_path / "checkpoint-1" / name)
    assert Checkpoint.newest(tmp_path)[0] is None


def test_a_checkpoint_under_another_name_is_damaged(tmp_path: Path) -> None:
    _save(tmp_path, 1).rename(tmp_path / "checkpoint-9")
    with pytest.raises(TrainError) as caught:
        Checkpoint.read(tmp_path / "checkpoint-9")
    assert caught.value.code == "E951 checkpoint-damaged"


def test_what_an_interruption_leaves_is_no_checkpoint(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    for name in (".checkpoint-2.7.tmp", ".adapter.77.tmp", ".adapter.77.old"):
        shutil.copytree(tmp_path / "checkpoint-1", tmp_path / name)
    (tmp_path / ".run.json.x1.tmp").touch()
    found, faults = Checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, faults) == (1, [])
    clear_leftovers(tmp_path)
    assert _names(tmp_path) == ["checkpoint-1"]


def test_changed_facts_are_refused_and_named(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    found, _ = Checkpoint.newest(tmp_path)
    assert found is not None
    assert found.check_facts(json.loads(json.dumps(FACTS)), is_forced=False) == []
    changed: dict[str, Any] = {**FACTS, "dataset": "e" * 64, "versions": {"torch": "2.1", "python": "3.11"}}
    with pytest.raises(TrainError) as caught:
        found.check_facts(changed, is_forced=False)
    assert caught.value.code == "E952 run-changed"
    assert "dataset was dddddddddddd..., is eeeeeeeeeeee..." in caught.value.message
    assert "versions torch was 2.0, is 2.1" in caught.value.message
    assert len(found.check_facts(changed, is_forced=True)) == 2


def test_a_failing_write_leaves_the_old_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path, 1)

    def fail(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TrainError, match="No space left"):
        _save(tmp_path, 2)
    assert _names(tmp_path) == ["checkpoint-1"]
    assert Checkpoint.newest(tmp_path)[0] is not None
