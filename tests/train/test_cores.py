"""Threads follow the cores that are free: not those that others use, nor those that a container may not."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from train.model import device, pick_threads
from train.recipe import Recipe


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four idle cores, and a quota that a test writes."""
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _self: [0, 1, 2, 5])
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_, **__: [0.0] * 4)
    monkeypatch.setattr(device, "_QUOTA", tmp_path / "cpu.max")
    return tmp_path


def test_cores_that_others_use_are_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for busy, number in (([0.0] * 4, 4), ([100.0, 90.0, 0.0, 0.0], 2), ([100.0] * 4, 1)):
        monkeypatch.setattr(psutil, "cpu_percent", lambda *_, busy=busy, **__: busy)
        assert device.free_cores() == number


@pytest.mark.parametrize(("text", "number"), [("max 100000\n", 4), ("150000 100000\n", 2), ("odd\n", 4)])
def test_a_container_may_use_fewer(machine: Path, text: str, number: int) -> None:
    (machine / "cpu.max").write_text(text, encoding="ascii")
    assert device.usable_cores() == number


def test_small_models_take_one_thread_and_a_recipe_its_own() -> None:
    assert pick_threads(Recipe(), 1_000_000) == 1
    assert pick_threads(Recipe(), 100_000_000) == 4
    assert pick_threads(Recipe(threads=3), 1_000_000) == 3
