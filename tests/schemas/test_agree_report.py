"""`schemas/report.schema.json` and the models of `train.report` say the same, in both directions."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema_rs
import pytest
from pydantic import ValidationError

from train.evaluate.predictions import Scored
from train.report import Report, Run, build_report, schema_of


def _report() -> Report:
    rng = random.Random(1)
    sides: tuple[list[Scored], list[Scored]] = ([], [])
    for split, category, number in [(s, c, n) for s in ("validation", "test") for c in ("a", "b") for n in range(6)]:
        for side in sides:
            scores = {"exact": float(rng.random() < 0.5), "behaviour.empty": 0.0}
            side.append(
                Scored(
                    f"{category}{number}",
                    split,
                    category,
                    f"c{number}",
                    "yes",
                    rng.random(),
                    2,
                    3,
                    "no",
                    True,
                    "exact",
                    scores,
                )
            )
    return build_report(*sides, run=Run(id="r", seed=1, versions={"torch": "2"}))


def test_the_file_is_made_from_the_models(root: Path) -> None:
    written = json.loads((root / "schemas/report.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(schema_of(Report))), (
        "write schemas/report.schema.json from schema_of(Report)"
    )


def test_what_the_models_write_fits_the_schema(root: Path) -> None:
    schema = json.loads((root / "schemas/report.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(schema, _report().model_dump(mode="json"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: report.update(extra=1),
        lambda report: report.update(version=2),
        lambda report: report.update(headline="train"),
        lambda report: report.pop("splits"),
        lambda report: report["splits"][0]["categories"][0].update(verdict="great"),
        lambda report: report["splits"][0]["categories"][0]["base"].update(value="1"),
        lambda report: report["run"].update(seed="seven"),
        lambda report: report["tables"][0].pop("part"),
    ],
)
def test_what_the_schema_refuses_the_models_refuse_too(root: Path, spoil: object) -> None:
    schema = json.loads((root / "schemas/report.schema.json").read_text(encoding="utf-8"))
    value = _report().model_dump(mode="json")
    assert callable(spoil)
    spoil(value)
    assert not jsonschema_rs.is_valid(schema, value)
    with pytest.raises(ValidationError):
        Report.model_validate_json(json.dumps(value), strict=True)
