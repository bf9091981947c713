"""The catalogue of a workspace in which people decide: what changed, statuses, splits and orders."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.events import Add, Assign, Decision, Drop, Edit, Label
from curate.base.record import Record, Source
from curate.project.catalog import open_catalog
from curate.project.data import ProjectData, load_data
from curate.project.filters import parse_filter
from curate.project.fold import RecordState
from curate.project.validation import validate_data
from tests.curate.catalogs import LINES, QUESTIONS, check, finding, lets_through, line
from tests.curate.deciding import decide
from tests.effort import draws

# What decisions make of it.


def decided(workspace: ProjectData, *decisions: Decision) -> ProjectData:
    return decide(workspace, decisions, by="ana")


def test_it_follows_decisions(workspace):
    catalog = open_catalog(workspace)
    after = decided(
        workspace,
        Drop("r000", reason="asked"),
        Edit("r001", {"output": "Refund", "category": None}),
        Label("r007", "quality", "good"),
        Assign("r007", "test"),
        Add("new", {**line(99, category="billing"), "id": "new"}),
    )
    states = {state.record.id: state for state in after.states()}
    catalog.update({name: states[name] for name in ("r000", "r001", "r007", "new")})
    check(catalog, after)
    assert catalog.find("new") == 9
    assert catalog.read("new") is None
    assert catalog.row(0).status == "dropped"
    # Taken back, as undo does.
    before = {state.record.id: state for state in workspace.states()}
    catalog.update({name: before.get(name) for name in ("r000", "r001", "r007", "new")})
    check(catalog, workspace)
    assert catalog.find("new") is None
    catalog.update({"new": states["new"], "nowhere": None})
    assert len(catalog) == 10
    assert catalog.name(9) == "new"


@pytest.mark.ci
def test_many_decisions_are_no_other_than_few(make_workspace):
    made = make_workspace([line(number, category="billing") for number in range(700)])
    catalog = open_catalog(made)
    states = made.states()
    for number, state in enumerate(states):
        catalog.update({state.record.id: replace(state, exclusion=Drop("r", "asked") if number % 2 else None)})
        if number % 300 == 0:
            catalog.select(parse_filter("status:dropped"))
    catalog.update({"r001": states[1]})
    assert len(catalog.select(parse_filter("status:dropped"))) == 349
    added = [replace(states[0], record=replace(states[0].record, id=f"n{number}")) for number in range(1500)]
    catalog.update({state.record.id: state for state in added})
    catalog.judge({"n1499": "error", "r003": "error", "r004": "warning"})
    assert len(catalog) == 2200
    assert [catalog.name(row) for row in catalog.select(parse_filter("status:error"))] == ["n1499"]
    assert [catalog.name(row) for row in catalog.select(parse_filter("status:warning"))] == ["r004"]


acts = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from(["drop", "edit", "label", "split", "back", "none"])), max_size=12
)


@given(acts, st.sampled_from([*QUESTIONS, "refund label.bo:*", "status:dropped -answer"]))
@settings(max_examples=draws(100), deadline=None)
def test_base_and_patch_mean_the_same_as_states(shared_workspace, done, text):
    catalog = open_catalog(shared_workspace)
    states = {state.record.id: state for state in shared_workspace.states()}
    names = [*states, "new"]
    base = dict(states)
    for number, act in done:
        name = names[number % len(names)]
        old = states.get(name) or RecordState(Record(name, "chat", Source("journal of bo", 1), {}, "Refund", "answer"))
        new = {
            "drop": replace(old, exclusion=Drop("r", "x")),
            "edit": replace(old, record=replace(old.record, prompt="refund x", category="billing")),
            "label": replace(old, answers={"quality": {"bo": "good"}}),
            "split": replace(old, record=replace(old.record, split="test")),
            "back": base.get(name),
            "none": base.get(name),
        }[act]
        catalog.update({name: new})
        if new:
            states[name] = new
        else:
            states.pop(name, None)
    where = parse_filter(text)
    through = lets_through(where, list(states.values()))
    expected = {state.record.id for state, is_in in zip(states.values(), through, strict=True) if is_in}
    assert {catalog.name(row) for row in catalog.select(where)} == expected
    assert len(catalog) == len(states)


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory) -> ProjectData:
    """A workspace that no test changes."""
    root = tmp_path_factory.mktemp("shared")
    (root / "data").mkdir()
    (root / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    (root / "data" / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in LINES), encoding="utf-8")
    return load_data(root)


def test_what_changed_leaves_the_rows_that_were_shown_or_joins_them(workspace):
    catalog = open_catalog(workspace)
    where = parse_filter("category:billing -status:dropped")
    rows = catalog.order(catalog.select(where), "id", is_descending=True)
    assert [catalog.name(row) for row in rows] == ["r007", "r002", "r000"]
    states = {state.record.id: state for state in workspace.states()}
    billed = replace(states["r001"].record, category="billing")
    added = RecordState(replace(billed, id="new"))
    changes = {
        "r002": replace(states["r002"], exclusion=Drop("r", "x")),
        "r001": RecordState(billed),
        "new": added,
        "no": None,
    }
    catalog.update(changes)
    names = [*changes, "r007", "nowhere"]
    assert [catalog.name(row) for row in catalog.renew(rows, where, names)] == ["r007", "r000", "r001", "new"]
    assert sorted(catalog.renew(rows, where, names)) == catalog.select(where).to_list()
    catalog.update({"r002": states["r002"], "new": None})
    again = catalog.renew(pl.Series([7, 0, 9], dtype=pl.UInt32), where, ["r002", "new"])
    assert [catalog.name(row) for row in again] == ["r007", "r000", "r002"]
    assert catalog.renew(rows.clear(), where, []).to_list() == []


def test_findings_give_the_status(workspace):
    catalog = open_catalog(workspace)
    catalog.update({"r007": RecordState(workspace.state("r007").record, exclusion=Drop("r", "asked"))})
    catalog.update({"new": RecordState(Record("new", "chat", Source("journal of ana", 4), {}))})
    path = str(workspace.root / "data" / "b.jsonl")
    found = [
        finding("warning", "data/a.jsonl", 1), finding("error", "data/a.jsonl", 1), finding("info", "data/a.jsonl", 2),
        finding("warning", path, 3, "r002"), finding("error", path, 1, "r001"), finding("error", path, 4, "r007"),
        finding("warning", "", 0, "r002-2"), finding("error", "journal of ana", 4, "new"), finding("error"),
    ]  # fmt: skip
    worst = catalog.severities_of(found)
    assert {name: worst.get(name) for name in ("r000", "r001", "r002", "r002-2", "r002-3", "new")} == {
        "r000": "error", "r001": "info", "r002": None, "r002-2": "warning", "r002-3": "warning", "new": "error",
    }  # fmt: skip
    catalog.judge({"r000": "error", "r001": "info", "r002-2": "warning", "r007": "error", "new": "error"})
    statuses = {row.id: row.status for row in catalog.rows(catalog.select(parse_filter("status:!ok")))}
    assert statuses == {"r000": "error", "r002-2": "warning", "r007": "dropped", "new": "error"}
    catalog.update({"r000": RecordState(workspace.records()[0])})
    assert catalog.row(0).status == "error"
    catalog.judge({"r001": "warning", "gone": "error"})
    assert [catalog.name(row) for row in catalog.select(parse_filter("status:warning|error"))] == ["r001"]


def test_a_real_validation_gives_the_status(workspace):
    verdict = validate_data(workspace)
    catalog = open_catalog(workspace)
    worst = catalog.severities_of(verdict.findings)
    told_of = {(one.file.rsplit("/", 1)[-1], one.line) for one in verdict.findings if one.severity != "info"}
    for record in workspace.records():
        source = record.source
        is_ok = worst.get(record.id, "info") == "info"
        assert is_ok == ((source.file.rsplit("/", 1)[-1], source.line) not in told_of)


def test_the_last_dataset_says_the_split(workspace):
    catalog = open_catalog(workspace)
    catalog.pin({"r001": "test", "r000": "train", "new": "validation"})
    catalog.update({"new": RecordState(Record("new", "chat", Source("journal of ana", 1), {}, "a", "b"))})
    assert [catalog.name(row) for row in catalog.select(parse_filter("split:test"))] == ["r001"]
    assert [catalog.name(row) for row in catalog.select(parse_filter("has:split"))] == ["r000", "r001", "new"]
    assert [row.split for row in catalog.rows([0, 1, 2, 9])] == ["train", "test", "", "validation"]
    assert catalog.frame(["split"])["split"].to_list() == ["train", "test", *[""] * 7, "validation"]
    catalog.pin({})
    assert [catalog.name(row) for row in catalog.select(parse_filter("split:test"))] == ["r000"]


def test_rows_are_put_in_order(workspace):
    catalog = open_catalog(workspace)
    every = catalog.select(parse_filter(""))
    rows = catalog.rows(every)
    for by in ("id", "category", "split", "source", "kind", "tokens", "prompt", "completion"):
        keys = [getattr(row, by) for row in rows]
        expected = sorted(range(9), key=lambda row, keys=keys: keys[row])
        assert catalog.order(every, by).to_list() == expected
        assert sorted(keys, reverse=True) == [keys[row] for row in catalog.order(every, by, is_descending=True)]
    assert catalog.order(every, "file", is_descending=True).to_list() == list(range(9))[::-1]
    catalog.judge({"r000": "error", "r001": "warning"})
    catalog.update({"r002": replace(workspace.states()[2], exclusion=Drop("r", "asked"))})
    assert catalog.order(every, "status").to_list() == [3, 4, 5, 6, 7, 8, 1, 0, 2]
    some = catalog.select(parse_filter("category:billing"))
    assert catalog.order(some, "id", is_descending=True).to_list() == some.to_list()[::-1]
    with pytest.raises(KeyError, match="colour"):
        catalog.order(every, "colour")


def test_columns_are_given_as_decisions_have_left_them(workspace):
    catalog = open_catalog(workspace)
    first, second, *_ = workspace.states()
    added = RecordState(Record("new", "chat", Source("journal of ana", 4), {}, "hi", "ho", category="Z"))
    changed = replace(second, exclusion=Drop("r", "x"), answers={"quality": {"ana": "bad"}})
    catalog.update({"r001": changed, "new": added, "never": None})
    frame = catalog.frame(["id", "category", "status", "prompt", "labels", "line"])
    rows = catalog.rows(catalog.select(parse_filter("")))
    assert frame["row"].to_list() == list(range(10))
    for name in ("id", "category", "status", "prompt"):
        assert frame[name].to_list() == [str(getattr(row, name)).rstrip("…") for row in rows]
    labels = [tuple(tuple(one.values()) for one in several) for several in frame["labels"].to_list()]
    assert labels == [row.labels for row in rows]
    some = pl.Series([9, 1], dtype=pl.UInt32)
    assert catalog.frame(["category"], some).rows() == [(9, "Z"), (1, "returns")]
    catalog.update({"new": None})
    assert catalog.frame(["id"]).height == 9
    assert first.dropped is None
