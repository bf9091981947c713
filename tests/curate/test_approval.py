"""Approval: what waits, who may say that it is right, what takes that back, and what keeps an export until then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema_rs
import pytest
from click.testing import CliRunner, Result

from curate.base.events import Add, Approve, Assign, Drop, Edit, Label, Restore
from curate.base.record import CurateError
from curate.cli import cli
from curate.project.data import ProjectData, load_data
from curate.project.project import open_project
from curate.sessions.overview import num_problems
from curate.sessions.problems import problems_of
from tests.curate.deciding import decide

Make = Callable[..., ProjectData]
HEAD = "[split]\nseed = 1\n"
REVIEW = f"{HEAD}[review]\napprovals = 1\n"
LINES = [{"id": name, "instruction": f"Say {name}.", "output": name, "category": "word"} for name in ("a", "b", "c")]


def run(*words: object, text: str = "") -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False, input=text)


def waits(root: Path) -> list[str]:
    """Return what `curate list` finds to wait, which also the catalog must say."""
    shown = run("list", root, "--where", "status:waiting", "--format", "jsonl").stdout
    names = [json.loads(line)["id"] for line in shown.splitlines()]
    frame = open_project(root, "zoe").frame
    assert frame.filter(frame["status"] == "waiting")["id"].to_list() == names
    return names


def as_ana(root: Path, *decisions) -> None:
    decide(load_data(root), decisions, by="ana")


@pytest.fixture
def ws(make_workspace: Make) -> Path:
    return make_workspace(LINES, REVIEW).root


def test_without_the_setting_nothing_waits(make_workspace: Make) -> None:
    root = make_workspace(LINES, HEAD).root
    assert waits(root) == []
    assert run("validate", root).return_value == 0
    with pytest.raises(CurateError, match="no record needs an approval here"):
        raise run("approve", "a", root).exception


def test_validate_and_export_stop_until_all_are_approved(ws: Path) -> None:
    shown = run("validate", ws)
    assert shown.return_value == 1
    assert "a.jsonl:1: error[L406 not-approved]: waits for 1 approval; anybody may approve" in shown.stdout
    assert "curate approve a" in shown.stdout
    refused = run("export", ws).exception
    assert isinstance(refused, CurateError)
    assert "3 errors block the export: L406 not-approved x3" in refused.message
    assert "curate label --question approval" in refused.hint
    assert "3 of them wait for approval" in run("stats", ws).stderr
    assert run("approve", "a", "b", "c", ws, "--by", "ana").stdout == "approved: 3 records (a, b, c)\n"
    assert run("validate", ws).return_value == 0
    assert run("export", ws).return_value == 0
    assert (ws / "dataset" / "v1" / "manifest.json").is_file()


def test_an_approval_is_of_what_the_record_says_and_of_nothing_else(ws: Path) -> None:
    decide(load_data(ws), [Approve("a"), Approve("b"), Approve("c")], by="bo")
    as_ana(ws, Label("a", "quality", "good"), Assign("a", "train"), Drop("a", "no"), Restore("a"))
    assert waits(ws) == []
    as_ana(ws, Edit("a", {"output": "A."}))
    assert waits(ws) == ["a"]
    as_ana(ws, Edit("a", {"output": "a"}))
    assert waits(ws) == []
    path = ws / "data" / "a.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("Say b.", "Say B."), encoding="utf-8")
    assert waits(ws) == ["b"]


def test_undo_takes_an_approval_back_and_redo_gives_it_again(ws: Path) -> None:
    run("approve", "--where", "status:waiting", ws, "--by", "bo")
    with open_project(ws, "bo") as project:
        project.undo()
        assert [record.id for record in project.records("status:waiting")] == ["a", "b", "c"]
        project.redo()
        assert [record.id for record in project.records("status:waiting")] == []


def test_who_wrote_it_does_not_count(ws: Path) -> None:
    new = {"instruction": "Say d.", "output": "d"}
    as_ana(ws, Edit("a", {"output": "A."}), Add("d", new), Approve("b"), Approve("c"), Approve("a"), Approve("d"))
    assert waits(ws) == ["a", "d"]
    shown = run("validate", ws).stdout
    assert "waits for 1 approval; anybody but ana, who wrote it may approve (so far: ana)" in shown
    left = run("approve", "a", "b", ws, "--by", "ana")
    assert left.return_value == 0
    assert "approved by you already: 2 records (a, b)" in left.stderr
    as_ana(ws, Edit("a", {"output": "AA."}))
    left = run("approve", "a", "d", ws, "--by", "ana", "--dry-run")
    assert left.return_value == 1
    assert "left to others, because you wrote them: 1 record (a)" in left.stderr
    # Another who edits one key is an author too, and the first one stays one of what is left.
    decide(load_data(ws), [Edit("d", {"output": "D."})], by="bo")
    assert "left to others" in run("approve", "d", ws, "--by", "bo").stderr
    assert run("approve", "a", "d", ws, "--by", "cem").stdout == "approved: 2 records (a, d)\n"
    assert waits(ws) == []


def test_authors_may_count_where_the_settings_say_so(make_workspace: Make) -> None:
    root = make_workspace(LINES, REVIEW + "not_author = false\n").root
    as_ana(root, Edit("a", {"output": "A."}))
    assert run("approve", "a", root, "--by", "ana").stdout == "approved: 1 record (a)\n"


def test_two_approvals_are_of_two_people(make_workspace: Make) -> None:
    root = make_workspace(LINES, REVIEW.replace("= 1\n", "= 2\n").replace("seed = 2", "seed = 1")).root
    as_ana(root, Approve("a"), Approve("b"))
    as_ana(root, Approve("a"))
    assert waits(root) == ["a", "b", "c"]
    assert "waits for 1 approval; anybody may approve (so far: ana)" in run("validate", root).stdout
    run("approve", "a", root, "--by", "bo")
    assert waits(root) == ["b", "c"]


def test_only_the_categories_that_are_asked_for_wait(make_workspace: Make) -> None:
    lines = [*LINES, {"id": "d", "instruction": "2 + 2?", "output": "4", "category": "sum"}]
    root = make_workspace(lines, REVIEW + 'categories = ["sum"]\n').root
    assert waits(root) == ["d"]
    # What people answered is the category.
    as_ana(root, Label("a", "category", "sum"))
    assert [record.id for record in open_project(root, "ana").records("status:waiting")] == ["a", "d"]
    assert "in need of no approval: 1 record (b)" in run("approve", "b", root, "--by", "ana").stderr


def test_an_error_comes_before_waiting_and_a_warning_after_it(make_workspace: Make) -> None:
    lines = [LINES[0], LINES[1] | {"output": ""}]
    root = make_workspace(lines, REVIEW).root
    with open_project(root, "ana") as project:
        assert [record.id for record in project.records("status:error")] == ["b"]
        assert [record.id for record in project.records("status:waiting")] == ["a"]


def test_what_is_edited_elsewhere_at_the_same_time_waits(ws: Path) -> None:
    with open_project(ws, "ana") as ana, open_project(ws, "bo") as bo:
        ana.load()
        bo.load()
        bo.apply([Edit("a", {"output": "A."})])
        ana.apply([Approve("a")])
    assert waits(ws) == ["a", "b", "c"]
    assert load_data(ws).findings() == []


@pytest.mark.parametrize("is_large", [False, True])
def test_all_are_counted_and_the_first_are_listed(make_workspace: Make, monkeypatch, is_large: bool) -> None:
    if is_large:
        monkeypatch.setattr("curate.project.data.BLOCKS_FROM", 0)
    lines = [LINES[0] | {"id": f"r{n}", "instruction": f"Say {n}."} for n in range(30)]
    root = make_workspace(lines, REVIEW).root
    as_ana(root, Approve("r3"), Drop("r4", "no"))
    shown = run("validate", root, "--limit", "5", "--format", "json").stdout
    verdict = json.loads(shown)
    found = [finding["record"] for finding in verdict["findings"] if finding["code"] == "L406"]
    assert found == ["r0", "r1", "r2", "r5", "r6"]
    assert "28  L406 not-approved" in run("validate", root, "--statistics").stdout


def test_a_question_of_that_name_is_refused(make_workspace: Make) -> None:
    root = make_workspace(LINES, REVIEW + '[[label.questions]]\nname = "approval"\n').root
    with pytest.raises(CurateError, match="'approval' is taken"):
        raise run("label", root, "--plain").exception


def test_a_category_that_is_not_there_is_refused(make_workspace: Make) -> None:
    (root := make_workspace(LINES, REVIEW).root / "curate.toml").write_text(
        REVIEW + 'categories = ["wrod"]\n[categories.word]\n', encoding="utf-8"
    )
    with pytest.raises(CurateError, match="there is no category 'wrod'"):
        raise run("validate", root.parent).exception


def test_label_refuses_two_answers_and_an_approval_that_does_not_count(ws: Path) -> None:
    shown = run("label", ws, "--plain", "--question", "approval", "--by", "ana", text="1,2\n1\np\n1\nq\n")
    assert shown.return_value == 0
    assert shown.stderr.count("a does not wait for such an answer of ana") == 2
    assert "1 answer saved" in shown.stderr


def test_label_asks_line_by_line(ws: Path) -> None:
    as_ana(ws, Edit("b", {"output": "B."}))
    shown = run("label", ws, "--plain", "--question", "approval", "--by", "ana", text="1\n2\nu\ns\n1\n")
    assert "Is it right as it stands?" in shown.stdout
    assert "a -> approve (saved)" in shown.stderr
    assert "c -> drop (saved)\ntaken back: drop of c\nc: skipped\nc -> approve (saved)" in shown.stderr
    assert waits(ws) == ["b"]
    done = run("label", ws, "--plain", "--question", "approval", "--by", "ana")
    assert "nothing waits for an approval of ana" in done.stderr


TEAM = """[split]
seed = 1
[review]
approvals = 1
[label]
annotators = ["ana", "bo", "cem"]
overlap = 1.0
[[label.questions]]
name = "quality"
values = ["good", "poor"]
"""


def test_status_tells_of_the_team_what_nobody_must_not_know(make_workspace: Make, monkeypatch, root: Path) -> None:
    ws = make_workspace(LINES, TEAM).root
    with open_project(ws, "cem") as project:
        project.load()
        asked = project.blind.assignments["quality"]
    people = {name: [by for by in ("ana", "bo", "cem") if asked.is_assigned(name, by)] for name in "abc"}
    for name in "abc":
        for by in people[name]:
            decide(load_data(ws), [Label(name, "quality", "good" if by != "bo" else "poor")], by=by)
    decide(load_data(ws), [Edit("a", {"output": "A."})], by="bo")
    decide(load_data(ws), [Approve("b")], by="ana")
    monkeypatch.setenv("CURATE_ANNOTATOR", "zoe")
    document = json.loads(run("status", ws, "--team", "--format", "json").stdout)
    schema = json.loads((root / "schemas" / "status.schema.json").read_bytes())
    jsonschema_rs.validator_for(schema, offline=True).validate(document)
    assert (document["records"], document["waiting"], document["unlabelled"]) == (3, 2, 0)
    team = {member["name"]: member for member in document["team"]}
    assert list(team) == ["ana", "bo", "cem"]
    for by, member in team.items():
        mine = [name for name in "abc" if by in people[name]]
        assert (member["asked"], member["done"], member["num_compared"]) == (len(mine), len(mine), len(mine))
    assert [team[by]["waiting"] for by in team] == [2, 1, 2]
    assert (team["ana"]["approved"], team["ana"]["recent"]) == (1, team["ana"]["done"] + 1)
    if team["bo"]["num_compared"]:
        assert team["bo"]["agreement"] == 0
    shown = run("status", ws, "--team").stdout
    assert "3 records, 2 waiting" in shown
    assert "2 records wait for your approval (Label)" in shown
    assert "person" in shown
    # What still asks the reader is compared with nothing.
    (name,) = [name for name in "a" if len(people[name]) == 2]
    first = people[name][0]
    with open_project(ws, first) as project:
        project.load()
        project.apply([Label(name, "quality", None)])
    monkeypatch.setenv("CURATE_ANNOTATOR", first)
    compared = {
        m["name"]: m["num_compared"] for m in json.loads(run("status", ws, "--team", "--format", "json").stdout)["team"]
    }
    assert compared[people[name][1]] == team[people[name][1]]["num_compared"] - 1


def test_a_hidden_category_is_not_told_by_what_waits(make_workspace: Make, monkeypatch) -> None:
    lines = [{key: value for key, value in line.items() if key != "category"} for line in LINES]
    team = '[label]\nannotators = ["ana", "bo"]\noverlap = 1.0\n'
    root = make_workspace(lines, REVIEW + 'categories = ["sum"]\n' + team).root
    decide(load_data(root), [Label("a", "category", "sum")], by="bo")
    monkeypatch.setenv("CURATE_ANNOTATOR", "ana")
    assert "L406" not in run("validate", root).stdout.replace("L406:", "")
    assert run("list", root, "--where", "status:waiting").stdout == ""
    asked = run("label", root, "--plain", "--question", "approval", "--by", "ana")
    assert "nothing waits" in asked.stderr
    assert "in need of no approval" in run("approve", "a", root, "--by", "ana").stderr
    shown = run("diff", root, root, "--format", "markdown").stdout
    assert "Not approved" not in shown
    monkeypatch.setenv("CURATE_ANNOTATOR", "bo")
    assert "L406" in run("validate", root).stdout
    assert "Not approved: 1, of which 0 differ" in run("diff", root, root, "--format", "markdown").stdout


def test_the_comment_on_a_pull_request_lists_what_is_not_approved(ws: Path) -> None:
    shutil.copytree(ws, ws.parent / "before")
    as_ana(ws, Edit("c", {"output": "C."}), Approve("a"))
    shown = run("diff", ws.parent / "before", ws, "--format", "markdown").stdout
    assert "<summary>Not approved: 2, of which 1 differ</summary>" in shown
    assert shown.index("<code>c</code>, differs") < shown.index("<code>b</code>")
    assert "Not approved" not in run("diff", ws.parent / "before", ws).stdout


def test_the_problem_list_follows_approvals_and_edits(ws: Path) -> None:
    def unapproved() -> list[str]:
        return [name for name in "abc" if any(f.code == "L406" for f in problem_list.problems.of_record(name))]

    with open_project(ws, "ana") as project:
        project.load()
        problem_list = problems_of(project)
        problem_list.search()
        assert unapproved() == ["a", "b", "c"]
        assert num_problems(project)["error"] == 0
        project.apply([Approve("a"), Approve("b")])
        problem_list.catch_up()
        assert unapproved() == ["c"]
        project.apply([Edit("b", {"output": "B."})])
        problem_list.catch_up()
        assert unapproved() == ["b", "c"]
        assert [row.status for row in project.catalog.rows(range(3))] == ["ok", "waiting", "waiting"]
        finding = problem_list.problems.of_record("b")[0]
        with pytest.raises(CurateError, match="cannot be ignored"):
            problem_list.ignore(finding)
