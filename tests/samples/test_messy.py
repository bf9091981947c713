"""`curate validate` says of the file of planted defects exactly what its table says, line by line."""

from __future__ import annotations

import re
from pathlib import Path

from curate.checks.runner import CheckPlan, validate
from curate.project.init import SAMPLE_SCORERS
from curate.schema import load_shape
from curate.schema.settings import Category, CheckSettings, Settings


def test_every_planted_defect_is_found_and_nothing_else(root: Path) -> None:
    settings = Settings(
        categories={name: Category(scorer=scorer) for name, scorer in SAMPLE_SCORERS.items()},
        # The file is small on purpose.
        checks=CheckSettings(allow_refusals=["redirect"], ignore=["P502"]),
    )
    verdict = validate([root / "samples" / "messy.jsonl"], CheckPlan(load_shape("instruction"), settings))
    found = {(finding.line, finding.code) for finding in verdict.findings}
    table = (root / "samples" / "messy.md").read_text(encoding="utf-8")
    planted = {(int(line), code) for line, code in re.findall(r"^\| (\d+) \| \S+ \| ([A-Z]\d{3}) \|", table, re.M)}
    assert len(planted) > 40
    assert found == planted
