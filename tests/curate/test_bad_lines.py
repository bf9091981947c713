"""Bad lines beyond those that are shown are only counted, and the counts are those of looking at each of them."""

from __future__ import annotations

from pathlib import Path

from curate.checks.runner import CheckPlan, validate
from curate.schema import load_shape
from curate.schema.settings import Settings


def test_a_broken_export_is_counted_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    kinds = [
        lambda n: f'{{"id": "row {n}", "instruction": "Say {n}.", "output": "It.",}}',
        lambda n: f'{{"id": "row {n}", "instruction": {n + 10_000}, "output": "It."}}',
        lambda n: f'{{"id": "row {n}", "instruction": "Say {n}."}}',
        lambda n: f"this is line {n}",
    ]
    with path.open("w", encoding="utf-8") as file:
        for kind in kinds:
            file.writelines(kind(n) + "\n" for n in range(2000))
    verdict = validate([path], CheckPlan(load_shape("instruction"), Settings(), limit=10))
    assert verdict.counts == {"S101": 4000, "S102": 4000}
    assert len(verdict.findings) == 10
    assert [finding.line for finding in verdict.findings] == list(range(1, 11))


def test_lines_without_their_newline_and_good_lines_between_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    bad, good = b'{"instruction": "Say it."}\n', b'{"instruction": "Say it.", "output": "It."}\n'
    path.write_bytes((bad * 3 + good) * 50 + b'{"instruction": "Say')
    verdict = validate([path], CheckPlan(load_shape("instruction"), Settings(), limit=1))
    assert (verdict.counts["S102"], verdict.counts["S111"], verdict.num_records) == (150, 1, 50)
