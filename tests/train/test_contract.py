"""The metric `contract` says of each case what curation says, and evaluation reports it beside the scorer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from train.base.errors import TrainError
from train.data.dataset import Row
from train.evaluate.metrics import discover_metrics
from train.evaluate.scoring import Answer, category_specs, score_answers
from train.model.loss import Nll

CASES = json.loads((Path(__file__).resolve().parent.parent / "contract_cases.json").read_text(encoding="utf-8"))
EACH = [
    pytest.param(group["options"], case, id=f"{number}-{case['name']}")
    for number, group in enumerate(CASES)
    for case in group["cases"]
]


@pytest.mark.parametrize(("options", "case"), EACH)
def test_the_metric_gives_each_case_its_verdict(options: dict[str, Any], case: dict[str, Any]) -> None:
    found = discover_metrics()["contract"].scores(case["completion"], "", {**options, "prompt": case["prompt"]})
    expected = {f"contract.{part}": float(is_kept) for part, is_kept in case["keeps"].items()}
    assert found == expected | {"contract.kept": float(all(case["keeps"].values()))}


@pytest.mark.ci
def test_a_rule_that_cannot_be_decided_leaves_the_verdict_open() -> None:
    text = "a" * 40 + "b"
    found = discover_metrics()["contract"].scores(text, "", {"citations": "(a+)+$", "max_chars": 99})
    assert found == {"contract.length": 1.0}


def test_what_a_pattern_may_mean_one_day_is_no_warning() -> None:
    assert discover_metrics()["contract"].scores("[2]", "", {"citations": "[[0-9]+"})["contract.kept"] == 1


@pytest.mark.parametrize("contract", [{"citations": "("}, {"schema": {"type": 7}}, {"min_chars": "4"}, {"scheme": {}}])
def test_a_contract_that_cannot_be_used_is_known_before_training(contract: dict[str, Any]) -> None:
    with pytest.raises(TrainError, match="category 'orders'"):
        category_specs({"orders": {"scorer": "exact", "options": {}, "contract": contract}})


def row(name: str, *messages: dict[str, Any]) -> Row:
    return Row(name, "orders", name, list(messages), None, None)


def test_evaluation_measures_the_contract_beside_the_scorer() -> None:
    question = {"role": "user", "content": "[2] It rains.\n\nWeather?"}
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
    rows = [row(name, question, {"role": "assistant", "content": "Rain [2]."}) for name in ("given", "invented")]
    rows.append(row("calls", question, call))
    said = {"given": "Rain [2].", "invented": "Rain [3].", "calls": "Rain [3]."}
    contract = {"citations": r"\[\d\]", "at_least": 1, "in_prompt": True}
    specs = category_specs({"orders": {"scorer": "exact", "options": {}, "contract": contract}})
    scored = score_answers(
        rows,
        {one.id: "Rain [2]." for one in rows},
        [Answer(name, text, True) for name, text in said.items()],
        [Nll(one.id, 1.0, 2, 3) for one in rows],
        specs,
        split="test",
    )
    assert [(one.scores or {}).get("contract.kept") for one in scored] == [1.0, 0.0, None]
    assert [one.score for one in scored] == [1.0, 0.0, 0.0]
    assert {one.metric for one in scored} == {"exact"}
