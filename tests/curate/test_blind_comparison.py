"""`curate compare --blind`: verdicts of people who do not know which model gave which answer."""

from __future__ import annotations

import json
import os

import jsonschema_rs
import pytest

from curate.base.record import CurateError
from curate.project.data import load_data
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.sessions.blind_comparison import BlindComparison
from tests import commands
from tests.curate.judging import NAMES, row, two_models, write_predictions
from train.data.dataset import open_dataset


@pytest.fixture
def workspace(make_workspace):
    root = make_workspace().root
    two_models(root)
    return root


def call(root, *words, lines="", by="ana"):
    return commands.run("curate", "compare", root, "--by", by, *words, input=lines, env=os.environ | {"TERM": "dumb"})


@pytest.fixture
def begin():
    """Return a function that begins a comparison in a workspace."""
    projects = []

    def begun(root, by="ana", between=("b:base", "b")):
        project = open_project(root, by)
        projects.append(project)
        project.load()
        return BlindComparison(project, *between)

    yield begun
    for project in projects:
        project.close()


@pytest.mark.ci
def test_names_come_only_after_the_last_pair(workspace):
    half = call(workspace, "--blind", "b:base", "b", "--plain", lines="1\n2\nq\n")
    assert half.returncode == 0
    assert "win rate" not in half.stdout
    assert "b:base" not in half.stdout
    assert "4 pairs left" in half.stderr
    # Which model wins would tell whoever goes on which answer is whose; who judges nothing may know.
    early = call(workspace, "--blind", "b:base", "b", "--report")
    assert (early.returncode, early.stdout) == (2, "")
    assert "E994 not-blind" in early.stderr
    assert "ana has 4 pairs left" in early.stderr
    assert "win rate" in call(workspace, "--blind", "b:base", "b", "--report", by="owner").stdout
    whole = call(workspace, "--blind", "b:base", "b", "--plain", lines="t\nb\n1\n1\n")
    assert "b against b:base: 6 verdicts of 1 person" in whole.stdout
    assert "too few" in whole.stdout
    # Asked again, nothing is left.
    again = call(workspace, "--blind", "b", "b:base", "--plain")
    assert "b:base against b: 6 verdicts" in again.stdout


def test_a_test_record_is_never_shown(workspace, begin):
    out = call(workspace, "--blind", "b:base", "b", "--plain", lines="1\n" * 6).stdout
    assert "SECRET" not in out
    # One that has become a test record since is not, either.
    path = workspace / "data/a.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["id"] == NAMES[0]:
            line["split"] = "test"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    from curate.project.publish import export_dataset

    export_dataset(begin(workspace).project.data)
    assert begin(workspace, "ben").counts.gone >= 1
    assert NAMES[0] not in begin(workspace, "ben").pairs


def test_sides_are_drawn_for_each_person_and_stay(make_workspace, begin):
    root = make_workspace().root
    two_models(root, tuple(f"r{number:03}" for number in range(2, 60)))
    first, second = (begin(root, by) for by in ("ana", "ben"))
    assert list(first.pairs) == list(second.pairs)
    mine, theirs = ([pair.first for pair in one.pairs.values()] for one in (first, second))
    assert mine != theirs
    assert 15 < mine.count("a") < 43
    assert [pair.first for pair in begin(root).pairs.values()] == mine
    # The other way round it is the same comparison.
    assert [pair.first for pair in begin(root, between=("b", "b:base")).pairs.values()] == mine


def test_a_verdict_says_which_model_won_wherever_it_stood(workspace, begin):
    comparison = begin(workspace)
    while pair := comparison.current:
        comparison.choose("left" if pair.sides[0].startswith("TUNED") else "right")
    assert {line["value"] for line in comparison.verdicts()} == {"b"}
    assert {line["value"] for line in comparison.verdicts(["b", "b:base"])} == {"a"}
    assert all(line["lengths"][0] < line["lengths"][1] for line in comparison.verdicts())
    assert {line["first"] for line in comparison.verdicts()} == {"a", "b"}


def test_undo_takes_back_a_verdict_and_nothing_else(workspace, begin):
    from curate.base.events import Label

    comparison = begin(workspace)
    assert comparison.undo() is None
    first = comparison.current.record
    comparison.choose("tie")
    assert comparison.num_done == 1
    assert comparison.undo().message == f"taken back: prefer of {first}"
    assert comparison.current.record == first
    assert comparison.verdicts() == []
    comparison.choose("tie")
    comparison.project.apply([Label("r002", "quality", "good")])
    assert comparison.undo() is None
    assert len(comparison.verdicts()) == 1


def test_a_skipped_pair_comes_again_last(workspace, begin):
    comparison = begin(workspace)
    first = comparison.current.record
    comparison.skip()
    order = []
    while pair := comparison.current:
        order.append(pair.record)
        comparison.choose("tie")
    assert order[-1] == first
    assert len(order) == 6


def test_a_verdict_is_no_label_and_contradicts_nothing(workspace, begin):
    before = begin(workspace, "eva").project.validate()
    for by, choice in (("ana", "left"), ("ben", "right")):
        comparison = begin(workspace, by)
        while comparison.current:
            comparison.choose(choice)
    project = begin(workspace, "eva").project
    assert project.conflicts() == []
    assert project.state(NAMES[0]).record.labels == {}
    assert project.validate().findings == before.findings


def test_others_verdicts_are_hidden_in_the_log(workspace):
    call(workspace, "--blind", "b:base", "b", "--plain", lines="1\nq\n", by="ben")
    env = os.environ | {"CURATE_ANNOTATOR": "ana"}
    hidden = commands.run("curate", "log", workspace, "--format", "jsonl", env=env)
    assert "value" not in json.loads(hidden.stdout)["decision"]
    assert "hidden: 1 answer" in hidden.stderr
    shown = commands.run("curate", "log", workspace, "--format", "jsonl", "--show-values", env=env)
    assert json.loads(shown.stdout)["decision"]["value"] in ("a", "b")


@pytest.mark.ci
def test_verdicts_hold_for_their_texts_alone(workspace, begin):
    call(workspace, "--blind", "b:base", "b", "--plain", lines="1\n" * 6)
    rows = [row(name, f"BASE of {name}", "another") for name in NAMES]
    write_predictions(workspace, "b", rows)
    comparison = begin(workspace)
    assert (comparison.verdicts(), comparison.num_outdated(), len(comparison.pairs)) == ([], 6, 6)
    assert comparison.current is not None


def test_what_is_not_compared_is_counted(workspace, begin):
    rows = [
        row(NAMES[0], "same", "same"), row(NAMES[1], None, "x"), row("nowhere", "x", "y"), row(NAMES[2], "x", "y"),
    ]  # fmt: skip
    write_predictions(workspace, "b", rows)
    write_predictions(workspace, "c", [*rows[:3], row(NAMES[2], "x", "z", reference="no"), row(NAMES[3], "x", "z")])
    own = begin(workspace).counts
    assert (own.compared, own.identical, own.unanswered, own.gone) == (1, 1, 1, 1)
    two = begin(workspace, between=("b", "c")).counts
    assert (two.compared, two.identical, two.lone, two.changed, two.gone) == (0, 2, 1, 1, 1)
    assert "left out: 2 identical, 1 lone, 1 changed, 1 gone" in two.sentence()


def test_nobody_judges_answers_to_what_a_record_no_longer_asks(workspace, begin):
    export_dataset(load_data(workspace))
    rows = [row for part in open_dataset(workspace / "dataset/v1").splits.values() for row in part]
    digests = {one.id: one.digest for one in rows}
    write_predictions(workspace, "b", [row(name, "BASE", "TUNED", digest=digests[name]) for name in NAMES[:4]])
    path = workspace / "data/a.jsonl"
    # The answer stays, so that the reference tells nothing.
    path.write_text(path.read_text().replace("tell item3 apart", "tell item3 together"))
    comparison = begin(workspace)
    assert (comparison.counts.changed, comparison.counts.compared) == (1, 3)
    assert NAMES[0] not in comparison.pairs


def test_a_path_names_a_run_of_this_workspace_alone(workspace, make_workspace, tmp_path):
    report = call(workspace, "--blind", "runs/b:base", workspace / "runs" / "b", "--report")
    assert "6 pairs to compare" in report.stdout
    elsewhere = tmp_path / "elsewhere" / "runs"
    write_predictions(elsewhere.parent, "b", [row(name, "x", "y") for name in NAMES])
    refused = call(workspace, "--blind", "b:base", elsewhere / "b", "--report")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is no run of this workspace" in refused.stderr


@pytest.mark.ci
def test_a_series_stands_for_the_run_to_take(workspace, begin):
    runs = workspace / "runs"
    (runs / "s").mkdir()
    (runs / "b").rename(runs / "s" / "seed-1")
    members = [{"name": "seed-1", "status": "finished", "changes": {}}]
    (runs / "s" / "series.json").write_text(json.dumps({"selected": "seed-1", "members": members}), encoding="utf-8")
    assert begin(workspace, between=("s:base", "runs/s")).between == ("s/seed-1:base", "s/seed-1")
    judged = call(workspace, "--blind", "s:base", "s", "--plain", lines="1\n2\nt\nt\nt\nt\n")
    assert "s/seed-1 against s/seed-1:base: 6 verdicts" in judged.stdout
    assert (runs / "s" / "seed-1" / "human.jsonl").exists()


@pytest.mark.ci
def test_the_report_is_one_json_object(workspace, root):
    schema = json.loads((root / "schemas/blind.schema.json").read_text(encoding="utf-8"))
    empty = json.loads(call(workspace, "--blind", "b:base", "b", "--report", "--json").stdout)
    assert jsonschema_rs.is_valid(schema, empty)
    assert empty["win_rates"] is None
    for by in ("ana", "ben"):
        call(workspace, "--blind", "b:base", "b", "--plain", lines="1\n" * 6, by=by)
    report = json.loads(call(workspace, "--blind", "b:base", "b", "--report", "--json").stdout)
    assert jsonschema_rs.is_valid(schema, report)
    rates = json.loads((root / "schemas/winrate.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(rates, report["win_rates"])
    agreement = json.loads((root / "schemas/agreement.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(agreement, report["agreement"])
    assert (report["win_rates"]["num_people"], report["agreement"]["questions"][0]["num_shared"]) == (2, 6)
    text = call(workspace, "--blind", "b:base", "b", "--report").stdout
    assert "percent agreement" in text


def test_verdicts_on_a_run_and_its_base_lie_beside_the_run(workspace, root):
    call(workspace, "--blind", "b", "b:base", "--plain", lines="1\n2\nq\n")
    lines = [json.loads(line) for line in (workspace / "runs/b/human.jsonl").read_text().splitlines()]
    schema = json.loads((root / "schemas/human.schema.json").read_text(encoding="utf-8"))
    assert len(lines) == 2
    assert all(jsonschema_rs.is_valid(schema, line) for line in lines)
    assert {tuple(line["between"]) for line in lines} == {("b:base", "b")}
    write_predictions(workspace, "c", [row(name, "x", f"C of {name}") for name in NAMES])
    call(workspace, "--blind", "b", "c", "--plain", lines="1\n")
    assert not (workspace / "runs/c/human.jsonl").exists()


def test_preferred_answers_become_records_that_an_import_takes(make_workspace, tmp_path, begin):
    from tests.curate.conftest import support_lines

    root = make_workspace([line | {"meta": {"source": "faq", "license": "CC0-1.0"}} for line in support_lines()]).root
    two_models(root)
    comparison = begin(root)
    for choice in ("left", "right", "tie", "both bad"):
        comparison.choose(choice)
    done = call(root, "--blind", "b:base", "b", "--pairs", tmp_path / "pairs.jsonl", by="owner")
    assert "2 preference pairs; left out: 2 records without a better answer" in done.stderr
    assert "hold no model that is trained on them against these" in done.stderr
    records = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    texts = [{record[side].split()[0] for side in ("chosen", "rejected")} for record in records]
    assert texts == [{"BASE", "TUNED"}] * 2
    # Whoever has the file alone knows that models wrote it, and for which exam.
    model_of = {"BASE": "b:base", "TUNED": "b"}
    for record in records:
        models = {side: model_of[record[side].split()[0]] for side in ("chosen", "rejected")}
        assert record["meta"] == {"source": "faq", "license": "CC0-1.0", "split": "validation", "models": models}
    assert commands.run("curate", "validate", tmp_path / "pairs.jsonl", "--schema", "preference").returncode == 0
    # A file that is there is not written over.
    assert call(root, "--blind", "b:base", "b", "--pairs", tmp_path / "pairs.jsonl", by="owner").returncode == 2


@pytest.mark.parametrize(("between", "why"), [
    (("b", "nowhere"), "has no run 'nowhere'"), (("b", "b"), "compared with itself"), (("b", "../../etc"), "no run"),
    (("b", ":base"), "has no run ':base'"),
])  # fmt: skip
def test_models_that_cannot_be_compared_are_named(workspace, begin, between, why):
    with pytest.raises(CurateError, match=why):
        begin(workspace, between=between)


def test_a_broken_line_of_predictions_is_named(workspace, begin):
    path = workspace / "runs/b/predictions.jsonl"
    path.write_text(path.read_text() + '{"split": "validation"}\n', encoding="utf-8")
    with pytest.raises(CurateError, match=r"predictions\.jsonl:8"):
        begin(workspace)


@pytest.mark.ci
def test_hostile_answers_reach_no_terminal(workspace):
    evil = "\x1b[2J\x1b]0;owned\x07\u202e"
    write_predictions(workspace, "b", [row(NAMES[0], evil, f"x{evil}\ud800")])
    done = call(workspace, "--blind", "b:base", "b", "--plain", lines="d\n1\n")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "\u202e" not in done.stdout
