"""`make run`, as a stranger runs it: raw lines in, per-category scores out, and most categories clearly better."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
def test_make_run_ends_in_scores_for_every_category(root: Path, tmp_path: Path) -> None:
    if not (root / ".venv" / "installed-train").exists():
        pytest.skip("needs the environment that `make test` sets up in .venv")
    done = subprocess.run(
        ["make", "--silent", "run", f"DEMO={tmp_path / 'demo'}"],
        cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = (tmp_path / "demo" / "runs").glob("*/report.json")
    (split,) = [part for part in json.loads(report.read_text())["splits"] if part["split"] == "test"]
    verdicts = {category["category"]: category["verdict"] for category in split["categories"]}
    assert set(verdicts) == {"extract", "classify", "rewrite", "answer", "summarise", "redirect"}
    assert sum(verdict == "improved" for verdict in verdicts.values()) >= 4
    assert "regressed" not in verdicts.values()
    assert all(category in done.stdout for category in verdicts)
