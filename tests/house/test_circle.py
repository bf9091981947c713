"""`make run`, as a stranger runs it: raw lines in, per-category scores out; the whole makes most categories better."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from curate.schema import build_validator


@pytest.mark.ci
def test_make_run_ends_in_scores_for_every_category_and_writes_what_the_schemas_say(root: Path, tmp_path: Path) -> None:
    # Less than half of the steps are enough for that: the others bring the categories near to perfection.
    printed, report = _run_of_make(root, tmp_path / "demo", "--set max_steps=150")
    verdicts = _verdicts(report)
    assert all(category in printed for category in verdicts)
    assert sum(verdict == "improved" for verdict in verdicts.values()) >= 4
    assert "regressed" not in verdicts.values()
    assert report["forgetting"]["word"] == "held"
    for name, lines in _lines_by_schema(tmp_path / "demo").items():
        schema = json.loads((root / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
        validator = build_validator(schema, {})
        assert lines, f"the run wrote nothing for {name}"
        assert not [line for line in lines if not validator.is_valid(line)][:1]


def _run_of_make(root: Path, demo: Path, train: str) -> tuple[str, dict[str, Any]]:
    """Return what `make run` prints, and the report that it writes on each category and on forgetting."""
    if not (root / ".venv" / "installed-train").exists():
        pytest.skip("needs the environment that `make test` sets up in .venv")
    done = subprocess.run(
        ["make", "--silent", "run", f"DEMO={demo}", f"TRAIN={train}"],
        cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (demo / "runs").glob("*/report.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    assert set(_verdicts(report)) == {"extract", "classify", "rewrite", "answer", "summarise", "redirect"}
    parts = [(part["text"], part["n"]) for part in report["forgetting"]["parts"]]
    assert parts == [("general.jsonl: known", 100), ("general.jsonl: other", 50)]
    return done.stdout, report


def _verdicts(report: dict[str, Any]) -> dict[str, str]:
    (split,) = [part for part in report["splits"] if part["split"] == "test"]
    return {category["category"]: category["verdict"] for category in split["categories"]}


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
