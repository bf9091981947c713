"""The benchmark of a whole workspace runs end to end on few records, and its table adds up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.ci
@pytest.mark.skipif(not shutil.which("git"), reason="needs the program git")
def test_it_takes_a_workspace_to_a_dataset_at_each_size() -> None:
    script = ROOT / "benchmarks" / "million.py"
    words = [sys.executable, str(script), "--sizes", "300", "150", "--rounds", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, small, large = done.stdout.split(" records, medians of 1:\n")
    tables = []
    for text in (small, large):
        lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
        tables.append({line[0]: line[1:] for line in lines[1:]})
    for rows in tables:
        assert len(rows) == 12
        seconds = {name: float(row[0]) for name, row in rows.items()}
        assert min(seconds.values()) > 0
        parts = [seconds[f"`{verb}`"] for verb in ("validate", "dedupe", "split", "export")]
        assert seconds["**chain of the three**"] == pytest.approx(sum(parts[:3]), abs=0.02)
        assert seconds["**whole way to a dataset**"] == pytest.approx(sum(parts), abs=0.03)
        assert all(int(row[2].replace(",", "")) > 10 for row in rows.values()), "no process is that small"
    assert all(len(row) == 3 for row in tables[0].values()), "there is nothing before the smallest"
    assert all(-1 < float(row[3]) < 3 for row in tables[1].values())
