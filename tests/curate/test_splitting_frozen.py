"""A test set that is frozen: it stays what it is, whatever comes, until it is unfrozen with a reason."""

from __future__ import annotations

import pytest

from curate.base.events import Add
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.project.golden import FILE_NAME, freeze, read_golden
from curate.project.plan import plan
from curate.project.project import open_project
from curate.project.publish import export_dataset
from tests.curate.split_plans import EASY, fresh, record, seen_of

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
    assert told == ["marked train, but the dataset has it in test, which holds"]


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


def test_a_frozen_record_that_is_gone_is_not_added_anew(make_workspace):
    workspace = make_workspace([{"id": name, "instruction": f"Ask {name}.", "output": "Yes."} for name in "ab"])
    freeze(workspace.root, workspace.records()[:1], {}, "ana")
    for path in (workspace.root / "data").iterdir():
        path.write_text("".join(line for line in path.read_text().splitlines(True) if '"a"' not in line))
    with open_project(workspace.root, "ana") as project, pytest.raises(CurateError) as caught:
        project.apply([Add("a", {"id": "a", "instruction": "Ask other.", "output": "No."})])
    assert caught.value.number == "E975"
