"""A frozen test set neither loses nor gains records: whatever comes, the exported test rows stay what they are, or the
command refuses, or the change is named with a code. What repeats a frozen record is held back and counted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import curate as python
from tests.promises.datasets import newest
from tests.promises.likeness import alike
from tests.promises.outside import Row, curate, make_workspace, read_export, read_rows, rows_on, succeed, write_rows

ALL_TEST = "[split]\nseed = 99\nratios = [0.0, 0.0, 1.0]\n"
ALL_TRAIN = "[split]\nseed = 99\nratios = [1.0, 0.0, 0.0]\n"
RECORDS = rows_on("alpha", 40) + rows_on("beta", 40)
BY_ID = {row["id"]: row for row in RECORDS}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one dataset whose test split is frozen; tests take a copy of it."""
    workspace = make_workspace(tmp_path_factory.mktemp("template"), RECORDS)
    succeed(curate("export", workspace))
    succeed(curate("split", workspace, "--freeze", env=name_of("ana")))
    return workspace


@pytest.fixture
def frozen(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "workspace")


def name_of(annotator: str) -> dict[str, str]:
    return {**os.environ, "CURATE_ANNOTATOR": annotator}


def export(workspace: Path) -> dict[str, list[Row]]:
    """Export what is a new dataset, and return its rows by split."""
    before = newest(workspace) if (workspace / "dataset").exists() else None
    succeed(curate("export", workspace))
    assert newest(workspace) != before
    return read_export(workspace, newest(workspace).name)


def ids(rows: list[Row]) -> list[str]:
    return sorted(row["id"] for row in rows)


def golden(workspace: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((workspace / "golden.json").read_text())
    return told


def manifest(workspace: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((newest(workspace) / "manifest.json").read_text())
    return told


def rewritten(workspace: Path, change: Callable[[Row], Row]) -> None:
    path = workspace / "data" / "records.jsonl"
    write_rows(path, [change(row) for row in read_rows(path)])


def asked(row: Row) -> str:
    said: str = row["messages"][0]["content"] if "messages" in row else row["instruction"]
    return said


def is_given_away(row: Row, others: list[Row]) -> bool:
    """Return whether one of the others asks nearly the same."""
    return any(alike(asked(row), asked(other)) >= 0.7 for other in others)


def test_freezing_lists_exactly_the_exported_test_records(frozen: Path) -> None:
    rows = read_export(frozen)["test"]
    assert len(rows) > 5
    assert sorted(golden(frozen)["records"]) == ids(rows)
    assert golden(frozen)["sha256"] == manifest(frozen)["frozen_test"]
    (turn,) = golden(frozen)["history"]
    assert (turn["what"], turn["by"], turn["records"]) == ("freeze", "ana", len(rows))


def grow(workspace: Path) -> None:
    write_rows(workspace / "data" / "zz.jsonl", rows_on("gamma", 60))


def mark_others_as_test(workspace: Path) -> None:
    write_rows(workspace / "data" / "zz.jsonl", [{**row, "split": "test"} for row in rows_on("gamma", 20)])


def import_more(workspace: Path) -> None:
    more = write_rows(workspace.parent / "more.jsonl", [{**row, "split": "test"} for row in rows_on("gamma", 20)])
    succeed(curate("import", more, "--into", workspace))


def drop_copies(workspace: Path) -> None:
    copies = [{**row, "id": f"copy-{row['id']}"} for row in RECORDS]
    write_rows(workspace / "data" / "aa.jsonl", copies)
    succeed(curate("dedupe", workspace, "--apply", "keep-first", "--by", "ana"))


def assign_otherwise(workspace: Path) -> None:
    rows = read_export(workspace)
    moves = [python.Assign(row["id"], "test") for row in rows["train"]]
    with python.open(workspace, by="ana") as project:
        project.apply([*moves, python.Edit(rows["train"][0]["id"], {"output": "It reads otherwise since today."})])


def forget_the_datasets(workspace: Path) -> None:
    shutil.rmtree(workspace / "dataset")


@pytest.mark.parametrize(
    ("change", "settings"),
    [(grow, ALL_TEST), (mark_others_as_test, ALL_TEST), (import_more, ALL_TRAIN), (drop_copies, ALL_TRAIN),
     (assign_otherwise, ALL_TEST), (forget_the_datasets, ALL_TEST),
     (forget_the_datasets, ALL_TRAIN)],
)  # fmt: skip
def test_the_exported_test_file_stays_the_same_to_the_byte(
    frozen: Path, change: Callable[[Path], None], settings: str
) -> None:
    before, digest = (newest(frozen) / "test.jsonl").read_bytes(), manifest(frozen)["frozen_test"]
    change(frozen)
    (frozen / "curate.toml").write_text(settings)
    rows = export(frozen)
    assert (newest(frozen) / "test.jsonl").read_bytes() == before
    assert manifest(frozen)["frozen_test"] == digest
    # What could not join is counted: all that came is exported elsewhere, or listed.
    listed = read_rows(newest(frozen) / "dropped.jsonl")
    came = sum(len(read_rows(path)) for path in (frozen / "data").glob("*.jsonl"))
    assert sum(map(len, rows.values())) + len(listed) == came
    assert {row["code"] for row in listed} <= {"P503", "D301", "decision"}


def test_lines_and_files_may_move(frozen: Path) -> None:
    before = {row["id"]: row["messages"] for row in read_export(frozen)["test"]}
    path = frozen / "data" / "records.jsonl"
    write_rows(frozen / "data" / "moved.jsonl", rows_on("gamma", 5) + read_rows(path)[::-1])
    path.unlink()
    (frozen / "curate.toml").write_text(ALL_TRAIN)
    assert {row["id"]: row["messages"] for row in export(frozen)["test"]} == before


@pytest.mark.parametrize(
    "decide",
    [lambda name: python.Edit(name, {"output": "Another answer."}), python.Drop, python.Restore,
     lambda name: python.Assign(name, "train"), lambda name: python.Label(name, "category", "beta"),
     lambda name: python.Resolve(name, "category", "beta")],
)  # fmt: skip
def test_no_decision_changes_a_frozen_record(frozen: Path, decide: Callable[[str], Any]) -> None:
    first = next(name for name in golden(frozen)["records"] if name.startswith("alpha"))
    with python.open(frozen, by="ana") as project, pytest.raises(python.CurateError, match=first) as refused:
        project.apply([decide(first)])
    assert refused.value.number == "E975"
    assert not list((frozen / "journal").rglob("*.log")) or first not in curate("log", frozen).stdout


def test_no_command_changes_a_frozen_record(frozen: Path) -> None:
    first = next(iter(golden(frozen)["records"]))
    for words in (
        ("drop", first, frozen, "--reason", "wrong"),
        ("edit", frozen, "--where", f"id:{first}", "--set", "category=renamed"),
        ("label", frozen, "--where", f"id:{first}", "--set", "category=renamed"),
    ):
        refused = curate(*words)
        assert refused.returncode == 1, words
        assert "E975" in refused.stderr


@pytest.mark.parametrize(
    "change",
    [lambda row: {**row, "output": "Another answer altogether."}, lambda row: {**row, "category": "renamed"},
     lambda row: {**row, "id": f"new-{row['id']}"}],
)  # fmt: skip
def test_a_frozen_record_that_a_file_changes_fails_validation_until_a_reason_is_given(
    frozen: Path, change: Callable[[Row], Row]
) -> None:
    first = next(iter(golden(frozen)["records"]))
    rewritten(frozen, lambda row: change(row) if row["id"] == first else row)
    for verb in ("validate", "export"):
        done = curate(verb, frozen)
        assert done.returncode == 1
        assert "P506" in done.stdout + done.stderr
        assert first in done.stdout + done.stderr
    succeed(curate("split", frozen, "--unfreeze", "the answer was wrong", env=name_of("bo")))
    succeed(curate("export", frozen))


def test_what_repeats_a_frozen_record_is_never_trained_and_is_counted(frozen: Path) -> None:
    tested = [BY_ID[name] for name in golden(frozen)["records"]]
    another = "Nobody has ever given this answer to anyone before now."
    newcomers = [{**row, "id": f"copy-{row['id']}"} for row in tested]
    newcomers += [{**row, "id": f"other-{row['id']}", "output": another} for row in tested]
    newcomers += [{**row, "id": f"loud-{row['id']}", "instruction": row["instruction"].upper() + "!"} for row in tested]
    write_rows(frozen / "data" / "aa.jsonl", newcomers)
    (frozen / "curate.toml").write_text(ALL_TRAIN)
    rows = export(frozen)

    assert ids(rows["test"]) == sorted(golden(frozen)["records"])
    listed = read_rows(newest(frozen) / "dropped.jsonl")
    assert {row["id"] for row in listed} == {row["id"] for row in newcomers}
    assert manifest(frozen)["drops"] == dict(Counter(row["code"] for row in listed))
    assert {row["code"] for row in listed if row["id"].startswith("other-")} == {"P503"}
    assert is_given_away(newcomers[0], rows["test"])
    assert [row["id"] for row in rows["test"] if is_given_away(row, rows["train"] + rows["validation"])] == []


def test_a_training_record_that_comes_to_ask_a_frozen_question_blocks_the_export(frozen: Path) -> None:
    rows, files = read_export(frozen), sorted((frozen / "dataset").iterdir())
    trained, tested = rows["train"][0]["id"], BY_ID[rows["test"][0]["id"]]
    rewritten(
        frozen,
        lambda row: {**tested, "id": trained, "output": "Nothing of it is known."} if row["id"] == trained else row,
    )
    refused = curate("export", frozen)
    assert refused.returncode == 1
    assert "P501" in refused.stderr
    assert sorted((frozen / "dataset").iterdir()) == files
    (pair,) = json.loads(curate("leaks", frozen, "--format", "json").stdout)["leaks"]
    assert (pair["record"]["record"], pair["source"]["record"]) == (tested["id"], trained)


def test_a_decision_or_a_mark_against_the_list_is_told_record_by_record(frozen: Path) -> None:
    rows = read_export(frozen)
    rewritten(frozen, lambda row: {**row, "split": "train"})
    told = curate("split", frozen)
    places = {f"data/records.jsonl:{1 + list(BY_ID).index(name)}:" for name in golden(frozen)["records"]}
    lines = [line for line in told.stdout.splitlines() if "P503" in line]
    assert places <= {line.split(" ")[0] for line in lines}
    assert len(lines) == len(rows["test"] + rows["validation"])
    assert len(places) == len(rows["test"])


def test_the_list_changes_only_by_an_unfreezing_with_a_reason(frozen: Path) -> None:
    kept = (frozen / "golden.json").read_bytes()
    (frozen / "curate.toml").write_text(ALL_TEST)
    grow(frozen)
    assert curate("split", frozen, "--freeze").returncode == 0
    refused = curate("split", frozen, "--unfreeze", " ")
    assert refused.returncode == 1
    assert "E975" in refused.stderr
    assert (frozen / "golden.json").read_bytes() == kept

    succeed(curate("split", frozen, "--unfreeze", "two answers were wrong", env=name_of("bo")))
    assert not golden(frozen)["is_frozen"]
    assert len(export(frozen)["test"]) == len(json.loads(kept)["records"]) + 60
    succeed(curate("split", frozen, "--freeze", env=name_of("ana")))
    assert [(turn["what"], turn["by"], turn["reason"]) for turn in golden(frozen)["history"]] == [
        ("freeze", "ana", ""), ("unfreeze", "bo", "two answers were wrong"), ("freeze", "ana", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["records", "sha256", "history"])
def test_a_list_that_does_not_fit_its_digest_or_lost_its_history_is_refused(frozen: Path, key: str) -> None:
    told = golden(frozen)
    if key == "records":
        told["records"].popitem()
    elif key == "sha256":
        told["sha256"] = "0" * 64
    else:
        del told["history"]
    (frozen / "golden.json").write_text(json.dumps(told))
    grow(frozen)
    refused = curate("export", frozen)
    assert refused.returncode == 2
    assert "E975" in refused.stderr
    assert newest(frozen).name == "v1"


def test_a_frozen_list_cannot_vanish(frozen: Path) -> None:
    (frozen / "golden.json").unlink()
    first = read_export(frozen)["test"][0]["id"]
    for words in (("validate", frozen), ("export", frozen), ("drop", first, frozen, "--reason", "wrong")):
        refused = curate(*words)
        assert refused.returncode != 0, words
        assert "E975" in refused.stderr


def test_what_was_frozen_is_held_out_for_good(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, RECORDS, "[split]\nseed = 1\nratios = [0.5, 0.1, 0.4]\n")
    succeed(curate("split", workspace, "--freeze"))
    tested = set(golden(workspace)["records"])
    succeed(curate("split", workspace, "--unfreeze", "too many"))
    (workspace / "curate.toml").write_text(ALL_TRAIN)
    succeed(curate("export", workspace))
    assert {row["id"] for row in read_export(workspace)["test"]} == tested
