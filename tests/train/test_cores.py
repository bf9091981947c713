"""Threads follow the cores that are free: not those that others use, nor those that a container may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from train.model import device, pick_threads
from train.recipe import Recipe

STAT = "cpu  1 1 1 1 0 0 0 0 0 0\n{}intr 1\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cores, and files of the system that a test writes."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 5})
    monkeypatch.setattr(device, "STAT", tmp_path / "stat")
    monkeypatch.setattr(device, "QUOTAS", (tmp_path / "cpu.max", tmp_path / "cpu.cfs_quota_us"))
    return tmp_path


def told(busy: dict[int, int], at: int) -> str:
    """Return what the system tells after ``at`` ticks, of which each core was ``busy`` so many per cent."""
    lines = (f"cpu{n} {at * share // 100} 0 0 {at - at * share // 100} 0 0 0 0 0 0\n" for n, share in busy.items())
    return STAT.format("".join(lines))


def looked(machine: Path, monkeypatch: pytest.MonkeyPatch, busy: dict[int, int]) -> int:
    (machine / "stat").write_text(told(busy, 100), encoding="ascii")
    monkeypatch.setattr(device.time, "sleep", lambda _s: (machine / "stat").write_text(told(busy, 200)))
    return device.free_cores()


def test_cores_that_others_use_are_not_free(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Cores 3 and 4 are not ours, whatever they do.
    idle = {0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0}
    assert looked(machine, monkeypatch, idle) == 4
    assert looked(machine, monkeypatch, idle | {0: 100, 5: 90}) == 2
    assert looked(machine, monkeypatch, dict.fromkeys(idle, 100)) == 1
    assert looked(machine, monkeypatch, {0: 100, 1: 100, 2: 100, 3: 0, 4: 0, 5: 100}) == 1


def test_where_the_system_does_not_tell_all_are_free(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.free_cores() == 4
    for later in ({0: 0}, {}):
        (machine / "stat").write_text(told({0: 0, 1: 0}, 100), encoding="ascii")
        text = told(later, 200)
        monkeypatch.setattr(device.time, "sleep", lambda _s, text=text: (machine / "stat").write_text(text))
        assert device.free_cores() == 4, "a core went while we looked"


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [("cpu.max", "max 100000\n", 4), ("cpu.max", "150000 100000\n", 2), ("cpu.max", "20000 100000\n", 1),
     ("cpu.max", "odd\n", 4), ("cpu.cfs_quota_us", "300000\n", 3), ("cpu.cfs_quota_us", "-1\n", 4)],
)  # fmt: skip
def test_a_container_may_use_fewer(machine: Path, name: str, text: str, number: int) -> None:
    (machine / name).write_text(text, encoding="ascii")
    (machine / "cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
    assert device.usable_cores() == number


def test_small_models_take_one_thread_and_a_recipe_its_own(machine: Path) -> None:
    assert pick_threads(Recipe(), 1_000_000) == 1
    assert pick_threads(Recipe(), 100_000_000) == 4
    assert pick_threads(Recipe(threads=3), 1_000_000) == 3
