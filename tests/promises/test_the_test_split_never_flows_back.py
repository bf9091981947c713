"""The test split never flows back: what a run tells its readers, and what curation makes of it, names no record of the
test set and quotes none, though all of them were measured.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import curate as python
from curate.base.events import Propose
from tests.promises.outside import (
    TINY_BASE,
    curate,
    make_workspace,
    read_export,
    read_rows,
    rows_on,
    succeed,
    train,
    write_rows,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one finished run."""
    workspace = make_workspace(tmp_path_factory.mktemp("trained"), rows_on("alpha", 40) + rows_on("beta", 40))
    succeed(curate("export", workspace))
    settings = ["method=full", "max_steps=4", "global_batch_size=4", "eval.max_new_tokens=4", "eval.resamples=100"]
    words = [word for setting in settings for word in ("--set", setting)]
    run = workspace / "runs" / "2026-01-02-a"
    succeed(train("run", workspace / "dataset" / "v1", "--base", TINY_BASE, "--out", run, *words, timeout=400))
    return workspace


def test_the_test_split_never_flows_back(trained: Path) -> None:
    run, rows = trained / "runs" / "2026-01-02-a", read_export(trained)
    scored = {row["id"] for row in read_rows(run / "predictions.jsonl") if row["split"] == "test"}
    assert scored == {row["id"] for row in rows["test"]}
    assert len(scored) > 5

    told = {name: (run / name).read_text() for name in ("report.json", "report.md", "report.html", "feedback.jsonl")}
    told |= {name: (run / name).read_text() for name in ("metrics.jsonl", "run.json")}
    for words in (["report", "--worst", 999], ["report", "--worst", 999, "--format", "jsonl"], ["worklist", "--json"]):
        told[" ".join(map(str, words))] = succeed(curate(*words, "--workspace", trained))
    told["worklist.json"] = (run / "worklist.json").read_text()
    assert {row["id"] for row in read_rows(run / "feedback.jsonl")} == {
        row["id"] for split in ("train", "validation") for row in rows[split]
    }
    for row in rows["validation"]:
        assert row["id"] in told["report --worst 999"]
    for row in rows["test"]:
        for text in (row["id"], *(message["content"] for message in row["messages"])):
            assert [name for name, said in told.items() if text in said] == []


def test_the_words_of_a_model_are_no_test(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, rows_on("alpha", 12))
    with python.open(workspace, "ana") as project:
        proposed = Propose("alpha-003", "model:tiny@00", {}, changes={"output": "What a model wrote."})
        (event,) = project.apply([proposed])
        project.apply([python.Edit("alpha-003", {"output": "What a model wrote."}, event.event)])
        with pytest.raises(python.CurateError, match="words of a model"):
            project.apply([python.Assign("alpha-003", "test")])
    write_rows(workspace / "data" / "records.jsonl", [{**row, "split": "test"} for row in rows_on("alpha", 12)])
    for verb in ("validate", "export"):
        done = curate(verb, workspace)
        assert done.returncode == 1
        assert "P507" in done.stdout + done.stderr
    succeed(curate("approve", "alpha-003", workspace, "--by", "bo"))
    assert "P507" not in curate("validate", workspace).stdout
