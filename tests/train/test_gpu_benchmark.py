"""The benchmark of the GPU runs on a CPU with small shapes, end to end, and says of itself that it measures nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_its_dry_run_checks_and_trains() -> None:
    script = ROOT / "benchmarks" / "train_gpu.py"
    words = ["--dry-run", "--steps", "3", "--variants", "ours", "--methods", "lora", "--models", "qwen3-0.6b"]
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "dry run: no measurement" in lines[0]
    assert sum("can_pack True" in line for line in lines) == 1
    (row,) = [line for line in lines if line.startswith("| ours")]
    assert row.endswith("| agrees |")
    assert "%" not in row, "a CPU has no share of a card's peak"
