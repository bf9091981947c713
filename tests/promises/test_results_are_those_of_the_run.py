"""A report is of what the models answered: results that were changed after the run are refused, until somebody asks.

"run.json keeps the digests of predictions.jsonl and report.json." This finds accidents and careless edits; whoever may
write run.json can write the digests too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.promises import bases, outside
from tests.promises.outside import Row

Edit = Callable[[list[Row]], list[Row]]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two runs, a and b, on one dataset."""
    folder = tmp_path_factory.mktemp("results")
    rows = outside.rows_on("cats", 20) + outside.rows_on("dogs", 20)
    scorers = "".join(f'[categories.{name}]\nscorer = "token_f1"\n' for name in ("cats", "dogs"))
    workspace = outside.make_workspace(folder / "desk", rows, f"[split]\nseed = 1\nratios = [0.5, 0.2, 0.3]\n{scorers}")
    outside.succeed(outside.curate("export", workspace))
    base = bases.make_base(folder / "base")
    quick = [
        "method=full",
        "global_batch_size=4",
        "eval.fit_records=0",
        "eval.max_new_tokens=2",
        "eval.resamples=100",
        "learning_rate=0.1",
    ]
    for name, steps in (("a", 1), ("b", 2)):
        changes = [word for change in [*quick, f"max_steps={steps}"] for word in ("--set", change)]
        words = ["run", workspace / "dataset" / "v1", "--base", base, "--out", workspace / "runs" / name, *changes]
        outside.succeed(outside.train(*words))
    return workspace


def _side(name: str, **more: Any) -> Edit:
    return lambda rows: [row | {name: row[name] | more} for row in rows]


PREDICTIONS: dict[str, Edit] = {
    "the scores": _side("tuned", scores={"token_f1.f1": 1.0}),
    "the texts": lambda rows: [row | {"tuned": row["tuned"] | {"text": row["reference"]}} for row in rows],
    "records out": lambda rows: [row for row in rows if row["split"] != "test" or row["category"] == "cats"],
    "the split": lambda rows: [row | {"split": "test"} for row in rows],
    "the cluster": lambda rows: [row | {"cluster": row["id"]} for row in rows],
    "the references": lambda rows: [row | {"reference": "a cat"} for row in rows],
    "ends of the references": lambda rows: [row | {"reference": row["reference"][-1:]} for row in rows],
    "base and tuned": lambda rows: [row | {"base": row["tuned"], "tuned": row["base"]} for row in rows],
    "half a line": lambda rows: rows,
    "another run": lambda rows: rows,
    "report.json": lambda rows: rows,
}  # fmt: skip


def spoil(run: Path, what: str) -> Path:
    """Change results of ``run`` by hand, and return the file."""
    path = run / ("report.json" if what == "report.json" else "predictions.jsonl")
    before = path.read_bytes()
    if what == "report.json":
        report = json.loads(before)
        report["splits"][-1]["categories"][0]["tuned"]["value"] = 0.99
        path.write_text(json.dumps(report), encoding="utf-8")
    elif what == "another run":
        shutil.copyfile(run.parent / "b" / path.name, path)
    elif what == "half a line":
        path.write_bytes(before[:-20])
    else:
        outside.write_rows(path, PREDICTIONS[what](outside.read_rows(path)))
    assert path.read_bytes() != before
    return path


@pytest.mark.ci
@pytest.mark.parametrize("what", PREDICTIONS)
def test_results_that_were_changed_are_refused_by_whoever_shows_them(desk: Path, tmp_path: Path, what: str) -> None:
    workspace = Path(shutil.copytree(desk, tmp_path / "desk"))
    run = workspace / "runs" / "a"
    path = spoil(run, what)
    shown = path.read_bytes()
    asked = {
        "eval": outside.train("eval", run), "compare": outside.train("compare", run, run.parent / "b"),
        "report": outside.curate("report", run, "--workspace", workspace),
        "doctor": outside.curate("doctor", workspace),
    }  # fmt: skip
    for name, done in asked.items():
        said = " ".join((done.stdout + done.stderr).split())
        assert done.returncode != 0, (name, said)
        assert f"{path.name}" in said, name
        assert "changed after" in said, name
        assert f"`train eval {run} --rescore`" in said, name
    assert path.read_bytes() == shown


@pytest.mark.parametrize(
    "what", ["the scores", "the cluster", "the references", "ends of the references", "report.json"]
)
def test_texts_are_scored_again_where_somebody_asks_for_it(desk: Path, tmp_path: Path, what: str) -> None:
    workspace = Path(shutil.copytree(desk, tmp_path / "desk"))
    run = workspace / "runs" / "a"
    true = json.loads((run / "report.json").read_bytes())
    spoil(run, what)
    done = outside.train("eval", run, "--rescore")
    outside.succeed(done)
    assert "were scored again after the run" in " ".join(done.stdout.split())
    report = json.loads((run / "report.json").read_bytes())
    assert len(report["remarks"]) == len(true["remarks"]) + 1
    assert {**report, "remarks": []} == {**true, "remarks": []}
    for command in (["eval", run], ["compare", run, run.parent / "b"]):
        outside.succeed(outside.train(*command))
    outside.succeed(outside.curate("report", run, "--workspace", workspace))
    outside.succeed(outside.curate("doctor", workspace))


@pytest.mark.parametrize("what", ["records out", "the split"])
def test_nothing_is_scored_again_that_is_not_there(desk: Path, tmp_path: Path, what: str) -> None:
    run = Path(shutil.copytree(desk, tmp_path / "desk")) / "runs" / "a"
    path = spoil(run, what)
    before = path.read_bytes(), (run / "run.json").read_bytes()
    done = outside.train("eval", run, "--rescore")
    assert done.returncode == 2
    assert re.search(r"predictions.jsonl has \d+ of the \d+ records that were measured", done.stderr)
    assert (path.read_bytes(), (run / "run.json").read_bytes()) == before
