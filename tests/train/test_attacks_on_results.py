"""Hostile metrics, answers and files of results: refused with a reason, and none of them holds us up."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from train.base.errors import TrainError
from train.base.process import Worker
from train.evaluate.metrics import discover_metrics
from train.evaluate.predictions import Scored, pair_records, read_predictions, write_predictions
from train.evaluate.scoring import category_specs
from train.report import Report, read_curve


@pytest.mark.parametrize(
    "entry", ["exact", None, [1], {"scorer": 5}, {"scorer": ["exact"]}, {"scorer": "exact", "options": [1]}]
)
def test_a_category_that_is_no_table_is_named(entry: Any) -> None:
    with pytest.raises(TrainError, match="'billing'"):
        category_specs({"billing": entry})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("chrf", {"beta": 1e200}),
        ("chrf", {"char_order": 10**9}),
        ("rouge_l", {"beta": 1e200}),
        ("numeric", {"units": [1]}),
        ("numeric", {"units": [""]}),
        ("json_schema", {"schema": {"$schema": 5}}),
    ],
)
def test_options_that_no_metric_can_work_with_cost_no_training(name: str, options: dict[str, Any]) -> None:
    pytest.importorskip("jsonschema", reason="its absence leaves the subset, which reads no $schema")
    with pytest.raises(TrainError) as caught:
        category_specs({"c": {"scorer": name, "options": options}})
    assert caught.value.code == "E932 bad-metric-option"


@pytest.mark.ci
def test_a_schema_cannot_hang_the_evaluation() -> None:
    pytest.importorskip("jsonschema", reason="the own subset knows no patterns")
    answer = json.dumps("a" * 60 + "!")
    began = time.monotonic()
    schema = {"type": "string", "pattern": "^(a+)+$"}
    found = discover_metrics()["json_schema"].scores(answer, answer, {"schema": schema})
    assert time.monotonic() - began < 20
    assert found == {"json_schema.parse": 1.0, "json_schema.field_f1": 1.0}
    assert discover_metrics()["json_schema"].scores('"a"', '"a"', {"schema": schema})["json_schema.valid"] == 1


@pytest.mark.ci
def test_a_worker_is_ended_and_begins_again_without_ending_us() -> None:
    program = "import sys, time\nfor line in sys.stdin:\n time.sleep(float(line)); print(line, end='', flush=True)"
    worker = Worker(["-c", program], handshake=0, timeout=1.0)
    assert worker.ask(0.0) == 0
    assert worker.ask(30) is None
    assert worker.ask(0.0) == 0
    # A child that is gone while it is written to: a signal would end the process that asks.
    gone = Worker(["-c", "import sys; sys.stdin.readline(); print(0, flush=True)"], handshake=0, timeout=5.0)
    assert [gone.ask("x" * 5_000_000) for _ in range(2)] == [None, None]


@pytest.mark.parametrize("end", ["sys.exit()", "time.sleep(30)"])
def test_an_answer_without_its_end_is_none(end: str) -> None:
    torn = "import sys, time; ask = sys.stdin.readline; ask(); print(0, flush=True); ask(); "
    torn += "print('[1,', end='', flush=True)"
    assert Worker(["-c", f"{torn}; {end}"], handshake=0, timeout=0.2).ask(1) is None


def _scored(**changes: Any) -> Scored:
    fields: dict[str, Any] = {
        "id": "a", "split": "test", "category": "c", "cluster": "k", "reference": "r", "nll": 1.0, "num_tokens": 2,
        "num_bytes": 3, "text": "t", "stopped": True, "metric": "exact", "scores": {"exact": 1.0},
    }  # fmt: skip
    return Scored(**fields | changes)


@pytest.mark.parametrize(
    "change",
    [
        {"nll": "x"}, {"nll": None}, {"nll": 1e300}, {"num_bytes": -1}, {"num_bytes": 1.5}, {"scores": [1]},
        {"scores": {"exact": "x"}}, {"scores": {"exact": float("nan")}}, {"scores": {"exact": 5.0}}, {"text": 5},
        {"stopped": "x"}, {"evil": 1},
    ],
)  # fmt: skip
def test_predictions_that_are_something_else_are_refused_with_their_line(change: Any, tmp_path: Path) -> None:
    path = write_predictions([_scored()], [_scored()], tmp_path)
    row = json.loads(path.read_text(encoding="utf-8"))
    assert len(read_predictions(path)[0]) == 1
    row["tuned"].update(change)
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(TrainError, match=r"predictions\.jsonl:1") as caught:
        read_predictions(path)
    assert caught.value.code == "E935 bad-predictions"


@pytest.mark.parametrize("change", [{"id": 5}, {"split": [1]}, {"category": None}, {"cluster": {}}, {"metric": 5}])
def test_names_in_predictions_are_texts(change: Any, tmp_path: Path) -> None:
    path = write_predictions([_scored()], [_scored()], tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change) + "\n", encoding="utf-8")
    with pytest.raises(TrainError, match=r"predictions\.jsonl:1: ValueError: \w+: Input should be a valid string"):
        read_predictions(path)


def test_a_score_that_is_no_number_is_never_reported() -> None:
    with pytest.raises(TrainError) as caught:
        pair_records([_scored()], [_scored(scores={"exact": float("nan")})])
    assert caught.value.code == "E934 not-finite"


@pytest.mark.parametrize("raw", [b"[" * 100_000 + b"\n", b"\xff\n", b"null\n"])
def test_damaged_files_of_a_run_have_a_reason(raw: bytes, tmp_path: Path) -> None:
    for name in ("report.json", "metrics.jsonl", "predictions.jsonl"):
        (tmp_path / name).write_bytes(raw)
    for read in (
        lambda: Report.load(tmp_path),
        lambda: read_curve(tmp_path / "metrics.jsonl"),
        lambda: read_predictions(tmp_path / "predictions.jsonl"),
    ):
        with pytest.raises(TrainError):
            read()
