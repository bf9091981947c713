"""Previewing a division, writing it down, and the test set that was frozen."""

from __future__ import annotations

import json
import os
import tomllib

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli import cli
from curate.export import frozen_digest, read_manifest
from curate.record import SPLITS, CurateError, Record, Source
from curate.settings import SplitSettings, read_settings
from curate.workshop.splitting import (
    Division,
    leaks_of,
    preview,
    ratios_of,
    read_basis,
    save_settings,
    shifted,
    write,
)
from curate.workspace import open_workspace
from curate.workspace.golden import FILE_NAME, divide, freeze, read_golden, unfreeze
from curate.workspace.publish import export_dataset, plan

EASY = '[split]\nseed = 1\n[checks]\nignore = ["P5", "D3", "B8"]\n'
LONG = "Kindly explain to the patient customer which of the seven green forms must be sent to the office in Bern first."


def seen_of(workspace, fixes=None, **more):
    basis = read_basis(workspace)
    return preview(basis, workspace.settings.split.model_copy(update=more), fixes)


def add(workspace, *lines):
    path = workspace.root / "data" / "more.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return open_workspace(workspace.root)


def fresh(number):
    return {
        "id": f"new{number:03}",
        "instruction": f"Compare number{number} with digit{number * 17} and letter{number * 23} please.",
        "output": f"reply{number} is unlike reply{number * 29} in part{number * 31}.",
        "category": "billing",
    }


def another_answer_to(workspace, name, new):
    line = next(dict(record.data) for record in workspace.records() if record.id == name)
    line.pop("split", None)
    return {**line, "id": new, "output": "Quite another answer, which nobody has given before to anyone."}


def run(*arguments):
    return CliRunner().invoke(cli, [str(one) for one in arguments])


# --- preview


def test_a_preview_is_what_an_export_plans(make_workspace):
    workspace = make_workspace()
    seen = seen_of(workspace)
    planned = plan(workspace)
    assert seen.assignment == planned.assignment
    assert {name: [one.id for one in part] for name, part in seen.by_split.items()} == {
        name: [one.id for one in part] for name, part in planned.by_split.items()
    }
    assert sum(seen.totals.values()) == 60
    assert seen.tokens["train"] > seen.tokens["test"] > 0
    assert seen.smallest[0].num_records == min(row.counts[name] for row in seen.assignment.drift for name in SPLITS)
    assert not (workspace.root / "journal").exists()


def test_other_ratios_move_only_what_is_free(make_workspace):
    workspace = make_workspace()
    exported = open_workspace(export_dataset(make_workspace(settings=EASY, name="other"))[0].path.parents[1])
    assert seen_of(workspace, ratios=(0.0, 0.0, 1.0)).totals == {"train": 0, "validation": 0, "test": 60}
    held = seen_of(add(exported, *map(fresh, range(20))), ratios=(0.0, 0.0, 1.0))
    assert len(held.basis.fixed) == 60
    assert held.added == {"train": 0, "validation": 0, "test": 20}
    assert (held.num_moved, held.num_gone) == (0, 0)


def test_what_is_gone_since_the_last_dataset_is_counted(make_workspace):
    from curate.journal import Decision

    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    after = open_workspace(workspace.root).apply([Decision("drop", "r001", fields={"reason": "wrong"})])
    assert seen_of(after).num_gone == 1


def test_without_a_seed_there_is_no_preview(make_workspace):
    basis = read_basis(make_workspace(settings=""))
    with pytest.raises(CurateError) as caught:
        preview(basis, basis.workspace.settings.split)
    assert caught.value.code == "E909 no-seed"
    assert preview(basis, SplitSettings(seed=3)).totals["train"] > 30


# --- leaks


def leaking(make_workspace):
    lines = [
        {"id": "exam", "instruction": LONG, "output": "The blue one, then the white one.", "split": "test"},
        {"id": "known", "instruction": f"A client writes. {LONG} Answer in a letter of ten lines or more, with dates.",
         "output": "Dear client, begin with the forms on page two of the leaflet and call us.", "split": "train"},
        *({**fresh(number), "split": "train"} for number in range(8)),
    ]  # fmt: skip
    return make_workspace(lines)


def test_leaks_name_both_records_and_their_splits(make_workspace):
    seen = seen_of(leaking(make_workspace))
    report = leaks_of(seen)
    (pair,) = report.pairs
    assert (pair.leak.exam.id, pair.split, pair.leak.source.id, pair.source_split) == ("exam", "test", "known", "train")
    assert pair.is_error
    assert report.counts() == {("verbatim", "prompt"): 1}
    assert report.benchmarks == []


@pytest.mark.parametrize("fix", ["move", "drop"])
def test_a_fix_ends_a_leak(make_workspace, fix):
    workspace = leaking(make_workspace)
    seen = seen_of(workspace)
    fixes = leaks_of(seen).fixes(fix, seen)
    assert fixes == {"exam": fix}
    fixed = seen_of(workspace, fixes)
    assert leaks_of(fixed).pairs == []
    done = write(workspace, fixed, is_saved=False)
    assert (done.num_assigned, done.num_dropped) == ((1, 0) if fix == "move" else (0, 1))
    after = open_workspace(workspace.root)
    assert after.dropped() == ({} if fix == "move" else {"exam": "P505: other splits give it away"})
    assert all(record.split == "train" for record in after.records())


def test_what_a_dataset_holds_is_not_moved(make_workspace):
    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    workspace = open_workspace(workspace.root)
    held = next(name for name, place in workspace.pins().items() if place == "test")
    seen = seen_of(workspace)
    assert not seen.is_movable(held)
    with pytest.raises(CurateError) as caught:
        seen_of(workspace, {held: "move"})
    assert caught.value.code == "E916 unknown-record"
    with pytest.raises(CurateError):
        seen_of(workspace, {"nobody": "drop"})


# --- trying settings out


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 2), st.integers(-120, 120))
def test_shares_give_and_take(train, rest, place, points):
    train, validation = min(train, 100), min(rest, 100 - min(train, 100))
    before = (train / 100, validation / 100, (100 - train - validation) / 100)
    after = shifted(before, place, points)
    assert abs(sum(after) - 1) < 1e-9
    assert all(0 <= share <= 1 for share in after)
    assert abs(after[place] - before[place]) <= abs(points) / 100 + 1e-9
    assert sum(round(one * 100) != round(other * 100) for one, other in zip(before, after, strict=True)) in (0, 2)


@pytest.mark.parametrize("text", ["80/20", "a/b/c", "-1/1/1", "0/0/0", "nan/1/1", "inf/1/1", ""])
def test_odd_shares_are_refused(text):
    with pytest.raises(CurateError) as caught:
        ratios_of(text)
    assert caught.value.code == "E902 bad-settings"


def test_shares_are_parts_of_one():
    assert ratios_of("8/1/1") == (0.8, 0.1, 0.1)
    assert sum(ratios_of("70/15/15")) == pytest.approx(1)


def tried(division):
    division.take(division.compute()())
    return division


def test_a_trial_says_what_it_would_write(make_workspace):
    division = tried(Division(read_basis(make_workspace(settings=TOML))))
    assert division.is_current
    assert division.command("my data") == "curate split 'my data'"
    division.change(ratios=(0.5, 0.25, 0.25), group="/meta/doc", stratify=False)
    assert not division.is_current
    tried(division)
    assert division.command("d") == "curate split d --ratios 50/25/25 --no-stratify --group /meta/doc --apply --save"
    assert division.saved.settings == division.saved_settings != division.seen.settings


def test_a_trial_goes_on_when_records_come(make_workspace):
    workspace = make_workspace(settings=TOML)
    division = tried(Division(read_basis(workspace)))
    division.change(seed=9)
    grown = division.on(read_basis(add(workspace, fresh(1))))
    assert (grown.settings.seed, len(grown.basis.staying)) == (9, 61)
    # What was not changed follows the settings that are saved.
    save_settings(workspace.root, SplitSettings(seed=5))
    calm = tried(Division(read_basis(workspace))).on(read_basis(open_workspace(workspace.root)))
    assert calm.settings.seed == 5


def test_fixes_go_round(make_workspace):
    division = tried(Division(read_basis(leaking(make_workspace))))
    division.leaks = leaks_of(division.seen)
    assert [division.next_fix("exam") for _ in range(4)] == ["move", "drop", None, "move"]
    assert division.fix_all() == (1, 0)
    assert division.command("d") == "curate split d --fix exam move --apply --save"
    assert leaks_of(tried(division).seen).pairs == []


def test_a_frozen_test_set_is_seen_by_a_trial(make_workspace):
    workspace = make_workspace()
    division = tried(Division(read_basis(workspace)))
    freeze(workspace.root, [one.id for one in division.seen.by_split["test"]], {}, "ana")
    after = division.with_golden()
    after.change(ratios=(0.0, 0.0, 1.0))
    assert tried(after).seen.golden_change.added == []


# --- writing it down


TOML = """\
# What we do.
data = ["data/*.jsonl"]  # all of them

[split]  # the division
seed = 1  # drawn by lot
# Shares of train, validation and test.
ratios = [0.8, 0.1, 0.1]   # as agreed

[about]
title = "Été"
"""


def test_settings_are_saved_with_their_comments(make_workspace):
    root = make_workspace(settings=TOML).root
    path = root / "curate.toml"
    path.chmod(0o640)
    wanted = SplitSettings(seed=7, ratios=(0.7, 0.2, 0.1), group="/meta/doc", stratify=True)
    assert save_settings(root, wanted) == ["ratios", "seed", "group"]
    assert path.read_text(encoding="utf-8") == TOML.replace("seed = 1", "seed = 7").replace(
        "[0.8, 0.1, 0.1]", "[0.7, 0.2, 0.1]"
    ).replace("# as agreed\n", '# as agreed\ngroup = "/meta/doc"\n')
    assert path.stat().st_mode & 0o777 == 0o640
    assert read_settings(root).split == wanted
    assert save_settings(root, wanted) == []


@pytest.mark.parametrize(
    "text",
    ["", 'data = ["data/*.jsonl"]', "split = { seed = 1, stratify = false }\n", "split.seed = 1\nrecipe = \"\"\n",
     "[split]\r\nseed = 1\r\n", "[about]\ntitle = 'x'\n\n[checks.severity]\nQ204 = 'error'\n",
     "schema = 'instruction'\n[split]\n"],
)  # fmt: skip
def test_settings_are_saved_into_any_layout(make_workspace, text):
    root = make_workspace(settings=text).root
    (root / "curate.toml").write_bytes(text.encode())
    before = tomllib.loads(text)
    save_settings(root, SplitSettings(seed=9, ratios=(1.0, 0.0, 0.0)))
    after = tomllib.loads((root / "curate.toml").read_bytes().decode())
    held = after.pop("split")
    assert (held["seed"], held["ratios"]) == (9, [1.0, 0.0, 0.0])
    before.pop("split", None)
    assert after == before


def test_shares_are_saved_as_people_write_them(make_workspace):
    root = make_workspace().root
    save_settings(root, SplitSettings(seed=1, ratios=(2 / 3, 1 / 6, 1 / 6)))
    assert "ratios = [0.666666, 0.166667, 0.166667]" in (root / "curate.toml").read_text()
    read_settings(root)


def test_writing_is_one_act_that_changes_no_plan(make_workspace):
    from curate.journal import read_journal

    workspace = make_workspace(settings=TOML)
    seen = seen_of(workspace, ratios=(0.5, 0.25, 0.25))
    done = write(workspace, seen, is_saved=True)
    assert (done.num_assigned, done.keys, done.overruled) == (60, ["ratios"], [])
    after = open_workspace(workspace.root)
    assert plan(after).assignment.splits == seen.assignment.splits
    assert len({event.act for event in read_journal(workspace.root)[0]}) == 1
    again = write(after, seen_of(after), is_saved=True)
    assert (again.num_assigned, again.keys) == (0, [])


def test_a_variable_that_stands_in_is_told(make_workspace, monkeypatch):
    workspace = make_workspace()
    monkeypatch.setenv("CURATE_SPLIT__SEED", "5")
    assert write(workspace, seen_of(workspace, seed=8), is_saved=True).overruled == ["CURATE_SPLIT__SEED"]


def test_the_command_writes_the_same(make_workspace):
    one, other = make_workspace(settings=TOML), make_workspace(settings=TOML, name="other")
    write(one, seen_of(one, ratios=(0.6, 0.2, 0.2), seed=4, stratify=False), is_saved=True)
    said = run("split", other.root, "--ratios", "60/20/20", "--seed", 4, "--no-stratify", "--apply", "--save")
    assert said.exit_code == 0, said.output
    assert (one.root / "curate.toml").read_text() == (other.root / "curate.toml").read_text()
    splits = [{r.id: r.split for r in open_workspace(w.root).records()} for w in (one, other)]
    assert splits[0] == splits[1]


def test_the_command_fixes_leaks(make_workspace):
    workspace = leaking(make_workspace)
    said = run("split", workspace.root, "--fix", "exam", "drop", "--apply")
    assert "dropped 1 record that leaked" in said.stderr
    assert list(open_workspace(workspace.root).dropped()) == ["exam"]
    assert run("split", workspace.root, "--fix", "exam", "eat").exit_code == 2
    assert run("split", workspace.root, "--save").exit_code == 2


# --- the frozen test set


def frozen(make_workspace):
    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    workspace = open_workspace(workspace.root)
    freeze(workspace.root, [one.id for one in plan(workspace).by_split["test"]], workspace.pins(), "ana")
    return workspace


def test_a_frozen_test_set_has_the_digest_of_the_manifest(make_workspace):
    workspace = frozen(make_workspace)
    golden = read_golden(workspace.root)
    assert golden.sha256 == read_manifest(workspace.latest_dataset()).frozen_test == frozen_digest(golden.ids)
    assert [(turn.what, turn.by, turn.records) for turn in golden.history] == [("freeze", "ana", len(golden.ids))]


def test_nobody_joins_a_frozen_test_set(make_workspace):
    workspace = frozen(make_workspace)
    golden = read_golden(workspace.root)
    lines = [
        *map(fresh, range(40)),
        another_answer_to(workspace, golden.ids[0], "joiner"),
        {**fresh(99), "split": "test"},
    ]
    grown = add(workspace, *lines)
    seen = seen_of(grown, ratios=(0.0, 0.0, 1.0))
    assert sorted(one.id for one in seen.by_split["test"]) == golden.ids
    assert {*seen.assignment.held_back} == {"joiner", "new099"}
    told = [one.message for one in seen.assignment.findings if "frozen" in one.message]
    assert told == ["held back, because the test set is frozen and they would join it: 2 (joiner, new099)"]
    assert sum(sum(row.counts.values()) for row in seen.assignment.drift) == len(seen.assignment.splits) == 100
    assert seen.golden_change.added == []
    # Without the list they would all be in test.
    unfreeze(workspace.root, "to see", "ana")
    loose = seen_of(open_workspace(grown.root), ratios=(0.0, 0.0, 1.0))
    assert len(loose.golden_change.added) == 42


def test_an_export_keeps_the_frozen_test_set(make_workspace):
    workspace = frozen(make_workspace)
    golden = read_golden(workspace.root)
    grown = add(workspace, *map(fresh, range(40)), another_answer_to(workspace, golden.ids[0], "joiner"))
    export, planned = export_dataset(grown)
    assert (export.is_new, export.manifest.frozen_test) == (True, golden.sha256)
    assert planned.assignment.splits == seen_of(grown).assignment.splits
    assert [(one.id, one.code) for one in planned.dropped] == [("joiner", "P501")]


def test_the_list_holds_records_of_no_dataset(make_workspace):
    workspace = make_workspace()
    names = [f"r{number:03}" for number in range(0, 60, 10)]
    freeze(workspace.root, names, {}, "ana")
    seen = seen_of(workspace, ratios=(1.0, 0.0, 0.0))
    assert sorted(one.id for one in seen.by_split["test"]) == names


def test_a_listed_record_that_is_marked_elsewhere_stays_and_is_told(make_workspace):
    workspace = make_workspace([{**fresh(number), "split": "train"} for number in range(9)])
    freeze(workspace.root, ["new003"], {}, "ana")
    seen = seen_of(workspace)
    assert [one.id for one in seen.by_split["test"]] == ["new003"]
    told = [one.message for one in seen.assignment.findings if one.record == "new003"]
    assert told == ["marked train, but the frozen test set has it in test, which holds"]


def test_freezing_refuses_what_would_break_a_dataset(make_workspace):
    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    pins = open_workspace(workspace.root).pins()
    test = [name for name, place in pins.items() if place == "test"]
    train = next(name for name, place in pins.items() if place == "train")
    for names in ([], test[1:], [*test, train]):
        with pytest.raises(CurateError) as caught:
            freeze(workspace.root, names, pins, "ana")
        assert caught.value.code == "E975 frozen-test"
    assert read_golden(workspace.root) is None


def test_it_changes_only_by_an_unfreezing_with_a_reason(make_workspace):
    workspace = frozen(make_workspace)
    golden = read_golden(workspace.root)
    with pytest.raises(CurateError, match="are frozen"):
        freeze(workspace.root, [*golden.ids, "more"], {}, "ana")
    assert freeze(workspace.root, golden.ids, {}, "ana") == golden
    with pytest.raises(CurateError, match="reason"):
        unfreeze(workspace.root, "  ", "ana")
    unfreeze(workspace.root, "two were wrong", "bo")
    with pytest.raises(CurateError, match="no test set is frozen"):
        unfreeze(workspace.root, "again", "bo")
    again = freeze(workspace.root, [*golden.ids, "more"], {}, "ana", "grew")
    assert [(turn.what, turn.by, turn.reason) for turn in again.history] == [
        ("freeze", "ana", ""), ("unfreeze", "bo", "two were wrong"), ("freeze", "ana", "grew"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [lambda told: told["ids"].pop(), lambda told: told["ids"].append(told["ids"][0]),
     lambda told: told.update(sha256="0" * 64), lambda told: told.update(more=1), lambda told: told.pop("history")],
)  # fmt: skip
def test_a_list_changed_by_hand_is_refused(make_workspace, spoil):
    workspace = frozen(make_workspace)
    path = workspace.root / FILE_NAME
    told = json.loads(path.read_text())
    spoil(told)
    path.write_text(json.dumps(told))
    with pytest.raises(CurateError) as caught:
        seen_of(workspace)
    assert caught.value.code == "E975 frozen-test"


def test_a_list_that_leads_elsewhere_is_refused(make_workspace, tmp_path):
    workspace = make_workspace()
    (tmp_path / "outside.json").write_text("{}")
    (workspace.root / FILE_NAME).symlink_to(tmp_path / "outside.json")
    with pytest.raises(CurateError) as caught:
        read_golden(workspace.root)
    assert caught.value.code == "E914 outside-workspace"


def test_the_command_freezes_and_unfreezes(make_workspace, monkeypatch):
    monkeypatch.setenv("CURATE_ANNOTATOR", "ana")
    workspace = make_workspace()
    said = run("split", workspace.root, "--freeze", "--dry-run")
    assert "would freeze" in said.stderr
    assert not (workspace.root / FILE_NAME).exists()
    run("split", workspace.root, "--freeze", "--apply")
    golden = read_golden(workspace.root)
    assert sorted(one.id for one in open_workspace(workspace.root).records() if one.split == "test") == golden.ids
    said = run("split", workspace.root)
    assert f"a test set of {len(golden.ids)} records is frozen; this one has the same" in said.stderr
    assert run("split", workspace.root, "--unfreeze", "").exception.code == "E975 frozen-test"
    said = run("split", workspace.root, "--unfreeze", "wrong answers")
    assert "unfroze" in said.stderr
    assert not read_golden(workspace.root).is_frozen


def record(name, category="billing", **more):
    return Record(id=name, kind="instruction", source=Source("data/a.jsonl", 1), data={}, category=category, **more)


@settings(max_examples=150, deadline=None)
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
    freeze(root, listed, pins, "ana")
    found = divide(root, records, clusters, SplitSettings(seed=seed, ratios=(0.2, 0.2, 0.6)), pins)
    assert {name for name, place in found.splits.items() if place == "test"} == listed
    assert all(found.splits[name] == place for name, place in pins.items())
    assert sorted([*found.splits, *found.held_back]) == sorted(one.id for one in records)
    for one in records:
        mates = {found.splits[r.id] for r in records if clusters[r.id] == clusters[one.id] and r.id in found.splits}
        if one.id not in pins and one.id not in listed and one.id in found.splits:
            assert len(mates) == 1
    counted = {name: sum(row.counts[name] for row in found.drift) for name in SPLITS}
    assert counted == {name: sum(place == name for place in found.splits.values()) for name in SPLITS}
