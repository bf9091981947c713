"""A row that comes with an id that is taken gets neither the place nor the decisions of the record that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

import curate as python
from tests.promises.outside import Row, curate, make_workspace, read_rows, rows_on, succeed, write_rows

OLD = rows_on("alpha", 6)
NEW = [{**row, "id": old["id"]} for row, old in zip(rows_on("beta", 6), OLD, strict=True)]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace of six records; one is dropped, one edited, one labelled and one a test record by decision."""
    workspace = make_workspace(tmp_path / "w", OLD)
    with python.open(workspace, "ana") as project:
        project.apply([
            python.Drop("alpha-000", "wrong"), python.Edit("alpha-001", {"output": "Mended."}),
            python.Label("alpha-002", "category", "gamma"), python.Assign("alpha-003", "test"),
        ])  # fmt: skip
    return workspace


def states(workspace: Path) -> dict[str, tuple[object, ...]]:
    with python.open(workspace, "ana") as project:
        project.load()
        names = list(project.catalog.frame(["id"])["id"])
        found = {name: project.state(name) for name in names}
        return {name: (s.dropped, s.record.split, s.record.category, s.record.completion) for name, s in found.items()}


def add(workspace: Path, rows: list[Row], *words: str, name: str = "aa.jsonl") -> str:
    source = write_rows(workspace.parent / name, rows)
    done = curate("import", source, "--into", workspace, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_newcomers_get_new_ids_and_none_of_the_decisions(workspace: Path) -> None:
    before = states(workspace)
    assert "6 rows with an id that is taken: new ids" in add(workspace, NEW)
    after = states(workspace)
    assert {name: after[name] for name in before} == before
    assert {after[f"{row['id']}-2"][:3] for row in NEW} == {(None, None, "beta")}
    assert "S104" not in curate("validate", workspace).stdout


def test_a_copy_of_a_record_without_an_id_takes_nothing_from_it(tmp_path: Path) -> None:
    one, other = [{key: row[key] for key in ("instruction", "output")} for row in OLD[:2]]
    workspace = make_workspace(tmp_path / "w", [one, other])
    (name, *_) = states(workspace)
    with python.open(workspace, "ana") as project:
        project.apply([python.Drop(name, "wrong")])
    before = states(workspace)
    assert "1 row with an id that is taken" in add(workspace, [{**one, "category": "gamma"}, NEW[5]])
    after = states(workspace)
    assert {name: after[name] for name in before} == before
    assert after[f"{name}-2"][:3] == (None, None, "gamma")
    assert "already there, unchanged" in add(workspace, [{**one, "category": "gamma"}, NEW[5]])
    assert "2 unchanged" in add(workspace, [{**one, "category": "gamma"}, NEW[5]], "--update")


def test_the_same_file_again_and_its_update_keep_the_ids(workspace: Path) -> None:
    add(workspace, NEW)
    assert "already there, unchanged" in add(workspace, NEW)
    before = states(workspace)
    changed = [{**row, "output": row["output"] + " Really."} for row in NEW]
    assert "0 added, 6 changed, 0 unchanged, 0 gone" in add(workspace, changed, "--update")
    after = states(workspace)
    assert after.keys() == before.keys()
    assert all(str(after[f"{row['id']}-2"][3]).endswith(" Really.") for row in NEW)


def test_rows_with_taken_ids_are_skipped_where_that_is_asked_for(workspace: Path) -> None:
    before = states(workspace)
    add(workspace, [*NEW, *rows_on("gamma", 2)], "--taken", "skip")
    after = states(workspace)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"gamma-000", "gamma-001"}


def test_what_replaces_a_record_keeps_its_decisions_and_can_be_taken_back(workspace: Path) -> None:
    before = states(workspace)
    add(workspace, NEW, "--taken", "replace")
    after = states(workspace)
    assert after.keys() == before.keys()
    assert after["alpha-000"][0] == before["alpha-000"][0]
    assert after["alpha-004"][3] == NEW[4]["output"]
    succeed(curate("undo", workspace))
    assert states(workspace) == before


def test_a_prefix_tells_two_sets_apart(workspace: Path) -> None:
    said = add(workspace, NEW, "--id-prefix", "b-")
    assert "taken" not in said
    assert {f"b-{row['id']}" for row in NEW} <= states(workspace).keys()
    assert "6 unchanged" in add(workspace, NEW, "--update")


def test_rows_of_one_file_with_the_same_id_are_two_records(workspace: Path) -> None:
    twins = [{**row, "id": "t-1"} for row in rows_on("gamma", 2)]
    assert "1 row with an id that is taken" in add(workspace, twins)
    assert {"t-1", "t-1-2"} <= states(workspace).keys()


def test_files_of_a_new_workspace_with_the_same_ids(tmp_path: Path) -> None:
    files = [write_rows(tmp_path / "a.jsonl", OLD), write_rows(tmp_path / "b.jsonl", NEW)]
    succeed(curate("init", tmp_path / "w", *files[:1], *files[1:]))
    ids = [row["id"] for path in sorted((tmp_path / "w" / "data").glob("*.jsonl")) for row in read_rows(path)]
    assert len(set(ids)) == 12


def test_ids_of_the_test_set_are_taken_though_their_records_are_gone(workspace: Path) -> None:
    succeed(curate("export", workspace))
    write_rows(workspace / "data" / "records.jsonl", OLD[:3])
    add(workspace, NEW[3:])
    assert "alpha-003-2" in states(workspace)


def test_a_row_that_replaced_a_record_goes_on_to_do_so_where_that_is_asked_for(workspace: Path) -> None:
    add(workspace, [*NEW[4:5], *rows_on("gamma", 1)], "--taken", "replace")
    changed = [{**NEW[4], "output": "A second correction."}, *rows_on("gamma", 1)]
    assert "1 row with an id that is taken: left to the records" in add(workspace, changed, "--update")
    add(workspace, changed, "--update", "--taken", "replace")
    assert states(workspace)["alpha-004"][3] == "A second correction."
