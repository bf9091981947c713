"""A test set that is frozen: it stays what it is, whatever comes, until it is unfrozen with a reason."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import SPLITS, CurateError
from curate.project.data import load_data
from curate.project.golden import FILE_NAME, divide, freeze, read_golden
from curate.project.plan import plan
from curate.project.publish import export_dataset
from curate.schema.settings import SplitSettings
from tests.curate.split_plans import EASY, fresh, record, seen_of
from tests.effort import draws

# --- the frozen test set


def frozen(make_workspace):
    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    workspace = load_data(workspace.root)
    freeze(workspace.root, plan(workspace).by_split["test"], workspace.pins(), "ana")
    return workspace


def test_the_list_holds_records_of_no_dataset(make_workspace):
    workspace = make_workspace()
    records = workspace.records()[::10]
    freeze(workspace.root, records, {}, "ana")
    seen = seen_of(workspace, ratios=(1.0, 0.0, 0.0))
    assert sorted(one.id for one in seen.by_split["test"]) == sorted(one.id for one in records)


def test_a_listed_record_that_is_marked_elsewhere_stays_and_is_told(make_workspace):
    workspace = make_workspace([{**fresh(number), "split": "train"} for number in range(9)])
    freeze(workspace.root, workspace.records()[3:4], {}, "ana")
    seen = seen_of(workspace)
    assert [one.id for one in seen.by_split["test"]] == ["new003"]
    told = [one.message for one in seen.assignment.findings if one.record == "new003"]
    assert told == ["marked train, but the frozen test set has it in test, which holds"]


def test_freezing_refuses_what_would_break_a_dataset(make_workspace):
    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    pins = load_data(workspace.root).pins()
    test = [name for name, place in pins.items() if place == "test"]
    train = next(name for name, place in pins.items() if place == "train")
    for names in ([], test[1:], [*test, train]):
        with pytest.raises(CurateError) as caught:
            freeze(workspace.root, map(record, names), pins, "ana")
        assert caught.value.code == "E975 frozen-test"
    assert read_golden(workspace.root) is None


def test_a_list_that_leads_elsewhere_is_refused(make_workspace, tmp_path):
    workspace = make_workspace()
    (tmp_path / "outside.json").write_text("{}")
    (workspace.root / FILE_NAME).symlink_to(tmp_path / "outside.json")
    with pytest.raises(CurateError) as caught:
        read_golden(workspace.root)
    assert caught.value.code == "E914 outside-workspace"


@settings(max_examples=draws(150), deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=30), st.data(), st.integers(0, 50))
def test_a_frozen_test_split_is_the_list_whatever_comes(tmp_path_factory, groups, data, seed):
    root = tmp_path_factory.getbasetemp() / f"golden{os.getpid()}"
    root.mkdir(exist_ok=True)
    (root / FILE_NAME).unlink(missing_ok=True)
    records = [record(f"r{number:03}", f"c{number % 3}") for number in range(len(groups))]
    clusters = {one.id: f"k{group}" for one, group in zip(records, groups, strict=True)}
    listed = data.draw(st.sets(st.sampled_from([one.id for one in records]), min_size=1))
    others = [one.id for one in records if one.id not in listed]
    pins = (
        data.draw(st.dictionaries(st.sampled_from(others), st.sampled_from(["train", "validation"]))) if others else {}
    )
    freeze(root, [one for one in records if one.id in listed], pins, "ana")
    found = divide(root, records, clusters, SplitSettings(seed=seed, ratios=(0.2, 0.2, 0.6)), pins)
    assert {name for name, place in found.splits.items() if place == "test"} == listed
    assert all(found.splits[name] == place for name, place in pins.items())
    assert sorted([*found.splits, *found.withheld]) == sorted(one.id for one in records)
    for one in records:
        mates = {found.splits[r.id] for r in records if clusters[r.id] == clusters[one.id] and r.id in found.splits}
        if one.id not in pins and one.id not in listed and one.id in found.splits:
            assert len(mates) == 1
    counted = {name: sum(row.counts[name] for row in found.drift) for name in SPLITS}
    assert counted == {name: sum(place == name for place in found.splits.values()) for name in SPLITS}
