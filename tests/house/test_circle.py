"""`make run`, as a stranger runs it: raw lines in, per-category scores out, and most categories clearly better."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from curate.schema import build_validator


@pytest.mark.long
@pytest.mark.slow
def test_make_run_ends_in_scores_for_every_category(root: Path, tmp_path: Path) -> None:
    if not (root / ".venv" / "installed-train").exists():
        pytest.skip("needs the environment that `make test` sets up in .venv")
    # Half of the steps are enough for that: the others bring the categories near to perfection.
    command = ["make", "--silent", "run", f"DEMO={tmp_path / 'demo'}", "TRAIN=--set max_steps=110"]
    done = subprocess.run(
        command,
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
    general = json.loads(report.read_text())["forgetting"]
    assert (general["word"], general["text"], general["n"]) == ("held", "general.jsonl", 150)
    for name, lines in _lines_by_schema(tmp_path / "demo").items():
        schema = json.loads((root / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
        validator = build_validator(schema, {})
        assert lines, f"the run wrote nothing for {name}"
        assert not [line for line in lines if not validator.is_valid(line)][:1]


def _lines_by_schema(demo: Path) -> dict[str, list[Any]]:
    """Everything that the two sides exchanged, by the schema that describes it."""
    patterns = {
        "dataset": "dataset/v1/manifest.json", "row": "dataset/v1/t*.jsonl", "report": "runs/*/report.json",
        "feedback": "runs/*/feedback.jsonl", "predictions": "runs/*/predictions.jsonl",
        "metrics": "runs/*/metrics.jsonl",
    }  # fmt: skip
    found: dict[str, list[Any]] = {}
    for name, pattern in patterns.items():
        texts = [path.read_text(encoding="utf-8") for path in demo.glob(pattern)]
        lines = texts if pattern.endswith(".json") else [line for text in texts for line in text.splitlines()]
        found[name] = [json.loads(line) for line in lines]
    return found
