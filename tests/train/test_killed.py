"""kill -9 at any moment of a run, again and again: what is left is whole, and it goes on to the same bits."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.effort import EFFORT
from tests.train import children
from train.loop.checkpoint import MANIFEST, newest_verified

KILLS = 2 * EFFORT
STEPS_A_KILL = 2
CHANGES: dict[str, Any] = {
    "method": "lora", "lora": {"dropout": 0.2}, "batch_size": 4, "max_steps": KILLS * STEPS_A_KILL,
}  # fmt: skip


def _files(checkpoint: Path) -> dict[str, Any]:
    """Names, sizes and SHA-256 of everything in a checkpoint."""
    files: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_bytes())["files"]
    return files


def _newest(run: Path) -> int:
    return max((int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*")), default=0)


def _losses(run: Path) -> list[tuple[int, float]]:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(event["step"], event["loss"]) for event in events if event["event"] == "step"]


@pytest.mark.ci
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_killed_at_random_moments_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    draw = random.Random(KILLS)
    whole, run = tmp_path / "whole", tmp_path / "run"
    children.train(whole, CHANGES | {"checkpoint": {"every_steps": 1, "keep": 1000}})
    often = CHANGES | {"checkpoint": {"every_steps": 1, "keep": 2}}
    kills = 0
    run.mkdir()
    while kills < KILLS:
        begun = _newest(run)
        # By turns in the middle of a write, at each of the calls that make it durable, and at any moment.
        dies_at = draw.randrange(3 * 12) if kills % 2 else None
        child = children.start(children.train_on, run, often, dies_at)
        if dies_at is None:
            aim = min(begun + draw.randrange(STEPS_A_KILL + 2), CHANGES["max_steps"])
            while _newest(run) < aim and child.is_alive():
                time.sleep(0.001)
            time.sleep(draw.random() * 0.03)
            child.kill()
        child.join(60)
        if child.exitcode == 0:
            # It was done before.
            assert _files(run / f"checkpoint-{CHANGES['max_steps']}")
            run = tmp_path / f"run-{kills}"
            run.mkdir()
            continue
        assert child.exitcode == -9
        kills += 1
        found, faults = newest_verified(run)
        assert faults == [], "what is named a checkpoint is whole"
        assert (found is None) == (_newest(run) == 0)
        assert found is None or _files(found.path) == _files(whole / found.path.name)
        assert found is None or found.step >= begun, "a kill costs no checkpoint"
    child = children.start(children.train_on, run, often)
    child.join(120)
    assert child.exitcode == 0
    last = f"checkpoint-{CHANGES['max_steps']}"
    assert _files(run / last) == _files(whole / last)
    assert _losses(run) == _losses(whole)
