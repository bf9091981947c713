"""Previewing a division, and writing it down."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.base.record import SPLITS, CurateError
from curate.project.data import load_data
from curate.project.golden import freeze
from curate.project.plan import plan
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.schema.settings import SplitSettings, read_settings
from curate.sessions.division import Division, shifted
from curate.sessions.splitting import leaks_of, preview, ratios_of, read_basis, save_settings, write
from tests.curate.deciding import decide
from tests.curate.split_plans import EASY, add, fresh, run, seen_of

LONG = "Kindly explain to the patient customer which of the seven green forms must be sent to the office in Bern first."


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
    exported = load_data(export_dataset(make_workspace(settings=EASY, name="other"))[0].path.parents[1])
    assert seen_of(workspace, ratios=(0.0, 0.0, 1.0)).totals == {"train": 0, "validation": 0, "test": 60}
    held = seen_of(add(exported, *map(fresh, range(20))), ratios=(0.0, 0.0, 1.0))
    assert len(held.basis.fixed) == 60
    assert held.added == {"train": 0, "validation": 0, "test": 20}
    assert (held.num_moved, held.num_gone) == (0, 0)


def test_what_is_gone_since_the_last_dataset_is_counted(make_workspace):
    from curate.base.events import Drop

    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    after = decide(load_data(workspace.root), [Drop("r001", reason="wrong")])
    assert seen_of(after).num_gone == 1


def test_without_a_seed_there_is_no_preview(make_workspace):
    basis = read_basis(make_workspace(settings=""))
    with pytest.raises(CurateError) as caught:
        preview(basis, basis.data.settings.split)
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
    assert report.counts() == {("verbatim", "prompt", "error"): 1}
    assert report.benchmarks == []


def test_a_duplicate_is_not_split_and_has_no_fix(make_workspace):
    line = {"instruction": LONG, "output": "Form 3.", "category": "billing"}
    root = make_workspace([line | {"id": "one"}, line | {"id": "copy"}], EASY).root
    done = run("split", root, "--fix", "copy", "move")
    assert isinstance(done.exception, CurateError)
    assert done.exception.message == "copy is an exact duplicate and is not split"
    assert done.exception.hint == "Drop it or edit it."
    nobody = run("split", root, "--fix", "nobody", "move")
    assert "there is no record 'nobody' to split" in str(nobody.exception)


@pytest.mark.parametrize("fix", ["move", "drop"])
def test_a_fix_ends_a_leak(make_workspace, fix):
    workspace = leaking(make_workspace)
    seen = seen_of(workspace)
    fixes = leaks_of(seen).fixes(fix, seen)
    assert fixes == {"exam": fix}
    fixed = seen_of(workspace, fixes)
    assert leaks_of(fixed).pairs == []
    done = write(open_project(workspace.root), fixed, is_saved=False)
    assert (done.num_assigned, done.num_dropped) == ((1, 0) if fix == "move" else (0, 1))
    after = load_data(workspace.root)
    assert after.dropped() == ({} if fix == "move" else {"exam": "P501: other splits give it away"})
    assert all(record.split == "train" for record in after.records())


def test_what_a_dataset_holds_is_not_moved(make_workspace):
    workspace = make_workspace(settings=EASY)
    export_dataset(workspace)
    workspace = load_data(workspace.root)
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


@pytest.mark.parametrize("text", ["80/20", "a/b/c", "-1/1/1", "0/0/0", "nan/1/1", "inf/1/1", "1e308/1e308/1e308", ""])
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
    assert division.saved.settings == division.saved_settings != division.preview.settings


def test_a_trial_goes_on_when_records_come(make_workspace):
    workspace = make_workspace(settings=TOML)
    division = tried(Division(read_basis(workspace)))
    division.change(seed=9)
    grown = division.on(read_basis(add(workspace, fresh(1))))
    assert (grown.settings.seed, len(grown.basis.staying)) == (9, 61)
    # What was not changed follows the settings that are saved.
    save_settings(workspace.root, SplitSettings(seed=5))
    calm = tried(Division(read_basis(workspace))).on(read_basis(load_data(workspace.root)))
    assert calm.settings.seed == 5


def test_fixes_go_round(make_workspace):
    division = tried(Division(read_basis(leaking(make_workspace))))
    division.leaks = leaks_of(division.preview)
    assert [division.next_fix("exam") for _ in range(4)] == ["move", "drop", None, "move"]
    assert division.fix_all() == (1, 0)
    assert division.command("d") == "curate split d --fix exam move --apply --save"
    assert leaks_of(tried(division).preview).pairs == []


def test_a_frozen_test_set_is_seen_by_a_trial(make_workspace):
    workspace = make_workspace()
    division = tried(Division(read_basis(workspace)))
    freeze(workspace.root, division.preview.by_split["test"], {}, "ana")
    after = division.with_golden()
    after.change(ratios=(0.0, 0.0, 1.0))
    assert tried(after).preview.golden_change.added == []


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
    from curate.project.journal import read_journal

    workspace = make_workspace(settings=TOML)
    seen = seen_of(workspace, ratios=(0.5, 0.25, 0.25))
    done = write(open_project(workspace.root), seen, is_saved=True)
    assert (done.num_assigned, done.keys, done.overruled) == (60, ["ratios"], [])
    after = load_data(workspace.root)
    assert plan(after).assignment.splits == seen.assignment.splits
    assert len({event.act for event in read_journal(workspace.root)[0]}) == 1
    again = write(open_project(after.root), seen_of(after), is_saved=True)
    assert (again.num_assigned, again.keys) == (0, [])


def test_a_variable_that_stands_in_is_told(make_workspace, monkeypatch):
    workspace = make_workspace()
    monkeypatch.setenv("CURATE_SPLIT__SEED", "5")
    assert write(open_project(workspace.root), seen_of(workspace, seed=8), is_saved=True).overruled == [
        "CURATE_SPLIT__SEED"
    ]


def test_the_command_writes_the_same(make_workspace):
    one, other = make_workspace(settings=TOML), make_workspace(settings=TOML, name="other")
    write(open_project(one.root), seen_of(one, ratios=(0.6, 0.2, 0.2), seed=4, stratify=False), is_saved=True)
    said = run("split", other.root, "--ratios", "60/20/20", "--seed", 4, "--no-stratify", "--apply", "--save")
    assert said.exit_code == 0, said.output
    assert (one.root / "curate.toml").read_text() == (other.root / "curate.toml").read_text()
    splits = [{r.id: r.split for r in load_data(w.root).records()} for w in (one, other)]
    assert splits[0] == splits[1]


def test_the_command_fixes_leaks(make_workspace):
    workspace = leaking(make_workspace)
    said = run("split", workspace.root, "--fix", "exam", "drop", "--apply")
    assert "dropped 1 record that leaked" in said.stderr
    assert list(load_data(workspace.root).dropped()) == ["exam"]
    assert run("split", workspace.root, "--fix", "exam", "eat").exit_code == 2
    before = load_data(workspace.root).dropped()
    innocent = next(record.id for record in load_data(workspace.root).records() if record.id not in before)
    said = run("split", workspace.root, "--fix", innocent, "drop", "--apply")
    assert isinstance(said.exception, CurateError)
    assert load_data(workspace.root).dropped() == before
    assert run("split", workspace.root, "--save").exit_code == 2
