"""Runs whose answers people compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAMES = ("r003", "r005", "r007", "r009", "r011", "r013")


def row(name: str, base: str | None, tuned: str | None, **more: Any) -> dict[str, Any]:
    side = {"nll": 2.0, "num_bytes": 3, "num_tokens": 2, "stopped": True, "scores": {}}
    return {
        "id": name, "split": "validation", "category": "billing", "cluster": name, "reference": "yes",
        "metric": "exact", "base": side | {"text": base}, "tuned": side | {"text": tuned},
    } | more  # fmt: skip


def write_predictions(root: Path, run: str, rows: list[dict[str, Any]]) -> Path:
    folder = root / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in rows)
    (folder / "predictions.jsonl").write_text(text, encoding="utf-8")
    return folder


def two_models(root: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Write the run "b": its base says BASE and its tuned model TUNED, longer, of each of the records ``names``."""
    rows = [row(name, f"BASE of {name}", f"TUNED answer of {name}") for name in names]
    rows.append(row("r001", "SECRET", "SECRET TEST ANSWER", split="test"))
    return write_predictions(root, "b", rows)
