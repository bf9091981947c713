"""Nobody sees another's answer before giving their own: in no cell, filter, order, count, finding, history or list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.curate.deciding import decide

pytest.importorskip("polars")

from curate.base.events import Decision, Edit, Label, Resolve
from curate.base.record import CurateError, Finding
from curate.cli import cli
from curate.project.data import ProjectData
from curate.project.filters import parse_filter
from curate.project.project import Project, open_project
from curate.sessions import problem_groups as listing
from curate.sessions.labelling import LabelSession
from curate.sessions.overview import overview
from curate.sessions.problem_groups import Problems

BOTH = "[split]\nseed = 1\n[label]\noverlap = 1.0\n"
"""Two people are asked about every record."""
LINES: list[dict[str, Any]] = [
    {"id": "r1", "instruction": "Where is my parcel?", "output": "On its way."},
    {"id": "r2", "instruction": "Is this good?", "output": "It is."},
    {"id": "r3", "instruction": "May I pay later?", "output": "You may.", "category": "good"},
]
Open = Callable[..., Project]


@pytest.fixture
def answered(make_workspace: Callable[..., ProjectData]) -> ProjectData:
    """A workspace in which ana has called r2 and r3 poor, of which r3's line says good."""
    return decide(make_workspace(LINES, BOTH), [_poor("r2"), _poor("r3")], by="ana")


@pytest.fixture
def opened() -> Iterator[Open]:
    """Return a function that opens and loads a workspace for ben, or for somebody else."""
    held = []

    def make(workspace: ProjectData, by: str = "ben") -> Project:
        project = open_project(workspace.root, by)
        held.append(project)
        project.load()
        return project

    yield make
    for project in held:
        project.close()


def _poor(name: str, value: str | None = "poor", question: str = "category") -> Decision:
    return Label(name, question, value)


def said(project: Project, finding: Finding) -> str:
    seen = project.visible_finding(finding)
    assert seen is not None
    return seen.message


def found(project: Project, text: str) -> list[str]:
    catalog = project.catalog
    return [catalog.name(row) for row in catalog.select(parse_filter(text))]


# What the catalogue tells.


def test_a_hidden_category_is_in_no_cell_filter_order_or_count(answered: ProjectData, opened: Open) -> None:
    ben, ana, stranger = (opened(answered, by) for by in ("ben", "ana", "cleo"))
    for asked in (ben, stranger):
        assert [row.category for row in asked.catalog.rows(range(3))] == ["", "", "good"]
        for text in ("category:poor", "label.category:poor", "label.ana.category:poor", "label:poor"):
            assert found(asked, text) == [], text
        assert found(asked, 'category:""') == ["r1", "r2"]
        rows = asked.catalog.select(parse_filter(""))
        assert asked.catalog.order(rows, "category").to_list() == [0, 1, 2]
        assert {one.name: one.num_records for one in overview(asked, has_findings=False).categories} == {
            "": 2,
            "good": 1,
        }
        # That somebody has answered is no secret.
        assert found(asked, "label.ana:*") == ["r2", "r3"]
        assert overview(asked, has_findings=False).num_unlabelled == 1
    assert found(ana, "category:poor") == found(ana, "label.ana.category:poor") == ["r2", "r3"]
    assert [row.category for row in ana.catalog.rows(range(3))] == ["", "poor", "poor"]


def test_ones_own_answer_opens_it_and_taking_it_back_closes_it(answered: ProjectData, opened: Open) -> None:
    ben = opened(answered)
    everything = ben.catalog.select(parse_filter("category:poor"))
    ben.apply([_poor("r2", "good")])
    assert found(ben, "label.ana:poor") == ["r2"]
    assert found(ben, "category:poor") == []
    ben.apply([_poor("r3")])
    assert found(ben, "category:poor") == ["r3"]
    rows = ben.catalog.renew(everything, parse_filter("category:poor"), {"r2", "r3"})
    assert [ben.catalog.name(row) for row in rows] == ["r3"]
    ben.undo()
    assert found(ben, "category:poor") == []
    assert ben.catalog.renew(rows, parse_filter("category:poor"), {"r3"}).to_list() == []


def test_what_asks_nobody_any_more_is_shown(make_workspace: Callable[..., ProjectData], opened: Open) -> None:
    for number, settings in enumerate(["[split]\nseed = 1\n", '[split]\nseed = 1\n[label]\nannotators = ["ana"]\n']):
        workspace = decide(make_workspace(LINES, settings, name=f"ws{number}"), [_poor("r2")], by="ana")
        assert found(opened(workspace), "category:poor") == ["r2"]
    workspace = decide(make_workspace(LINES, BOTH, name="settled"), [_poor("r2")], by="ana")
    decide(workspace, [Resolve("r2", "category", "poor")], by="cleo")
    assert found(opened(workspace), "category:poor") == ["r2"]


def test_what_the_line_says_is_nobodys_answer(make_workspace: Callable[..., ProjectData], opened: Open) -> None:
    settings = BOTH + '[[label.questions]]\nname = "category"\n[[label.questions]]\nname = "quality"\n'
    workspace = make_workspace([LINES[2] | {"labels": {"quality": "poor"}}, LINES[1]], settings)
    workspace = decide(workspace, [_poor("r3", "fine", "quality"), _poor("r3")], by="ana")
    decide(workspace, [Edit("r2", {"category": "odd"})], by="ana")
    ben = opened(workspace)
    assert found(ben, "category:good label.quality:poor") == ["r3"]
    assert found(ben, "category:odd") == ["r2"]
    assert found(ben, "label.quality:fine") == []
    record, hidden = ben.visible_record(ben.state("r3").record)
    assert (record.category, record.labels, hidden) == ("good", {"quality": "poor"}, {"category", "quality"})
    assert opened(workspace, "ana").visible_record(ben.state("r3").record)[0].category == "poor"


def test_what_is_learned_from_is_not_what_is_seen(answered: ProjectData, opened: Open) -> None:
    ben = opened(answered)
    assert ben.catalog.frame(["category"])["category"].to_list() == ["", "", "good"]
    assert ben.catalog.frame(["category"], is_whole=True)["category"].to_list() == ["", "poor", "poor"]
    ben.apply([_poor("r2", "good"), _poor("r3", "good"), _poor("r1", "good")])
    whole = ben.catalog.frame(["category", "labels"], is_whole=True)
    assert whole.equals(ben.catalog.frame(["category", "labels"]))


# Who is asked, read anew.


def test_questions_and_people_are_those_of_the_settings_as_they_now_are(answered: ProjectData, opened: Open) -> None:
    ben = opened(answered)
    assert not ben.blind.hides(ben.state("r2"), "use")
    decide(answered, [_poor("r2", "no", "use")], by="ana")
    path = answered.root / "curate.toml"
    path.write_text(BOTH + '[[label.questions]]\nname = "use"\nvalues = ["yes", "no"]\n', encoding="utf-8")
    ben.reload()
    assert ben.blind.hides(ben.state("r2"), "use")
    assert not ben.blind.hides(ben.state("r2"), "category"), "it is not asked any more"
    assert found(ben, "category:poor") == ["r2", "r3"]
    assert found(ben, "label.use:no") == []
    desk = LabelSession(ben)
    desk.prepare(desk.wish_for("use"))
    path.write_text("[split]\nseed = 1\n", encoding="utf-8")
    ben.reload()
    assert found(ben, "label.use:no") == ["r2"]


def test_where_nobody_knows_who_is_asked_everything_is_hidden(answered: ProjectData, opened: Open) -> None:
    (answered.root / "curate.toml").write_text('[split]\nseed = 1\n[label]\ngold = "none.jsonl"\n', encoding="utf-8")
    ben = opened(answered)
    assert found(ben, "category:poor") == []
    assert [remark for remark in ben.catalog.remarks if "hidden until you have given yours" in remark]
    with pytest.raises(CurateError, match=r"none\.jsonl"):
        _ = ben.blind.assignments
    assert found(opened(answered, "ana"), "category:poor") == ["r2", "r3"]


# What is told of decisions and findings.


def test_a_settlement_that_was_taken_back_tells_no_answer(answered: ProjectData, opened: Open) -> None:
    cleo, ben = opened(answered, "cleo"), opened(answered)
    (event,) = cleo.apply([Resolve("r2", "category", "poor")])
    ben.refresh()
    assert not ben.hides_event(event)
    assert found(ben, "category:poor") == ["r2"]
    cleo.undo()
    ben.refresh()
    assert ben.hides_event(event)
    assert not cleo.hides_event(event), "it is her own"
    assert found(ben, "category:poor") == []
    answer = next(one for one in ben.history("r2") if one.op == "label")
    assert ben.hides_event(answer)
    ben.apply([_poor("r2")])
    assert not ben.hides_event(event)
    assert not ben.hides_event(answer)


def test_findings_do_not_quote_a_hidden_category(answered: ProjectData, opened: Open) -> None:
    ben, ana = opened(answered), opened(answered, "ana")
    message = "category 'poor' (0.02) looks like 'good' (0.91)"
    for name in ("r2", "r3"):
        finding = Finding("L405", "suspect-label", "warning", message, "data/a.jsonl", 2, 0, name, "/category")
        assert "poor" not in said(ben, finding)
        assert ana.visible_finding(finding) == finding
    for kept in (Finding("Q201", "x", "error", message, "f", record="r2"), Finding("L405", "x", "error", message, "f")):
        assert ben.visible_finding(kept) == kept
    ben.apply([_poor("r2")])
    assert said(ben, Finding("L404", "x", "error", message, "f", record="r2")) == message
    assert said(ben, Finding("L404", "x", "error", message, "f", record="gone")) == message


def test_a_contract_that_is_broken_and_sizes_of_categories_tell_nothing_either(
    answered: ProjectData, opened: Open
) -> None:
    ben, ana = opened(answered), opened(answered, "ana")
    contract = Finding("Q213", "missing-citation", "error", "cites nothing", "data/a.jsonl", 2, 0, "r2", "/output")
    sizes = Finding("P502", "thin-category", "warning", "category 'poor' has 2 records, fewer than 30", "")
    for hidden in (ben.visible_finding(contract), ben.visible_finding(replace(contract, record="r3"))):
        assert hidden is None
    assert ben.visible_finding(replace(contract, record="r1")) is not None
    assert "poor" not in said(ben, sizes)
    problems = Problems({}, {}, {})
    problems.add(contract)
    problems.add(sizes)
    rows = listing.listed(problems, visible=ben.visible_finding)
    assert sum(one.count for one in rows if isinstance(one, listing.Heading)) == 2, "all are counted"
    assert [one.finding.code for one in rows if isinstance(one, listing.ProblemItem)] == ["P502"]
    for one in (contract, sizes):
        assert ana.visible_finding(one) == one
    ben.apply([_poor("r2"), _poor("r3")])
    for one in (contract, sizes):
        assert ben.visible_finding(one) == one


def test_neither_the_list_of_problems_nor_its_filter_quotes_it(answered: ProjectData, opened: Open) -> None:
    ben, problems = opened(answered), Problems({}, {}, {})
    problems.add(Finding("L405", "suspect-label", "warning", "category 'poor' is odd", "a", 2, 0, "r2", "/category"))
    seen = ben.visible_finding
    (heading, item) = listing.listed(problems, visible=seen)
    assert isinstance(item, listing.ProblemItem)
    assert "poor" not in item.finding.message
    assert isinstance(heading, listing.Heading)
    assert "poor" not in heading.message
    assert listing.listed(problems, text="poor", visible=seen) == []
    assert len(listing.listed(problems, text="poor")) == 2


def test_beside_one_another_records_tell_no_answer(answered: ProjectData, opened: Open) -> None:
    from rich.console import Console

    from curate.sessions.clusters import ClusterMember, compare_records
    from curate.tui.screens.dedupe.rendering import ViewedPair, pair_table

    def drawn(project: Project) -> str:
        records = [project.state(name).record for name in ("r2", "r3")]
        left, right = (ClusterMember(one, one.split, "alike", one.id) for one in records)
        pair = ViewedPair(left, right, compare_records(*records, project.shape), ())
        console = Console(width=120, no_color=True)
        with console.capture() as capture:
            console.print(pair_table(pair, None, project, 120, is_narrow=False))
        return capture.get()

    assert "category (hidden)" in drawn(opened(answered))
    assert "category good" in drawn(opened(answered))
    assert "labels category=(hidden)" in drawn(opened(answered))
    assert "poor" not in drawn(opened(answered))
    assert drawn(opened(answered, "ana")).count("category poor") == 2


# On the command line.


def run(by: str, *arguments: str) -> Result:
    return CliRunner(env={"CURATE_ANNOTATOR": by}).invoke(cli, arguments, standalone_mode=False)


def listed(by: str, root: Path, *options: str) -> dict[str, tuple[str, dict[str, Any]]]:
    lines = map(json.loads, run(by, "list", str(root), "--format", "jsonl", *options).stdout.splitlines())
    return {line["id"]: (line["category"], line["labels"]) for line in lines}


def test_list_tells_and_finds_nothing_that_is_hidden(answered: ProjectData) -> None:
    root = answered.root
    assert listed("ben", root) == {"r1": ("", {}), "r2": ("", {}), "r3": ("good", {})}
    assert "hidden: others' answers to 2 records" in run("ben", "list", str(root)).stderr
    assert "poor" not in run("ben", "list", str(root)).stdout
    for options in (["--where", "category:poor"], ["--where", "label.ana.category:poor"], ["--category", "poor"]):
        assert listed("ben", root, *options) == {}
        assert listed("ben", root, "--show-values", *options).keys() == {"r2", "r3"}
        assert listed("ana", root, *options).keys() == {"r2", "r3"}
    assert listed("ben", root, "--show-values")["r2"] == ("poor", {"category": "poor"})
    assert run("ana", "list", str(root)).stderr == ""


def test_a_build_lists_everything_where_nobody_else_is_asked(make_workspace: Callable[..., ProjectData]) -> None:
    root = decide(make_workspace(LINES), [_poor("r2")], by="ana").root
    assert listed("ci", root)["r2"] == ("poor", {"category": "poor"})
    team = '[split]\nseed = 1\n[label]\nannotators = ["ana", "ben"]\noverlap = 1.0\n'
    root = decide(make_workspace(LINES, team, name="team"), [_poor("r2")], by="ana").root
    assert listed("ci", root)["r2"] == ("poor", {"category": "poor"})
    assert listed("ben", root)["r2"] == ("", {})


def test_log_tells_the_decision_and_not_the_hidden_answer(answered: ProjectData, tmp_path: Path) -> None:
    root = str(answered.root)
    for words in ([], ["r2"]):
        for form in ("text", "jsonl"):
            told = run("ben", "log", root, *words, "--format", form)
            assert told.exception is None
            assert "ana" in told.stdout
            assert "poor" not in told.stdout
            assert "hidden: " in told.stderr
            for by, options in (("ana", []), ("ben", ["--show-values"])):
                open_ = run(by, "log", root, *words, "--format", form, *options)
                assert "poor" in open_.stdout
                assert open_.stderr == ""
    assert run("ana", "log", root, "--no-values", "--show-values").exception is not None


def test_log_tells_no_settlement_that_was_taken_back(answered: ProjectData, opened: Open) -> None:
    cleo = opened(answered, "cleo")
    cleo.apply([Resolve("r2", "category", "poor")])
    assert run("ben", "log", str(answered.root), "r2", "--format", "jsonl").stdout.count("poor") > 1
    cleo.undo()
    assert "poor" not in run("ben", "log", str(answered.root), "r2", "--format", "jsonl").stdout


def test_validation_finds_the_category_and_does_not_quote_it(make_workspace: Callable[..., ProjectData]) -> None:
    known = f"{BOTH}[categories.good]\n"
    root = decide(make_workspace(LINES, known), [_poor("r2"), _poor("r3")], by="ana").root
    for form in ("text", "json", "markdown", "sarif"):
        told = run("ben", "validate", str(root), "--format", form)
        assert "poor" not in told.stdout
        assert "L404" in told.stdout
        assert "would tell of others" in told.stderr
        for by, options in (("ana", []), ("ben", ["--show-values"])):
            open_ = run(by, "validate", str(root), "--format", form, *options)
            assert "'poor'" in open_.stdout
            assert "hidden: " not in open_.stderr
    for form in ("text", "json"):
        assert "P502" in run("ben", "validate", str(root), "--format", form).stdout
    # By the path of its file, too.
    name = str(root / "data/a.jsonl")
    assert "'poor'" not in run("ben", "validate", name).stdout
    assert "'poor'" in run("ana", "validate", name).stdout


def test_doubts_do_not_quote_it_either(make_workspace: Callable[..., ProjectData]) -> None:
    pytest.importorskip("sklearn")
    lines = [
        {"id": f"{word}{number}", "instruction": f"{word} {number} {word}", "output": word, "category": word}
        for word in ("apple", "river")
        for number in range(30)
    ]
    root = decide(make_workspace(lines, BOTH), [_poor("apple1", "river")], by="ana").root
    assert "river" in run("ana", "validate", str(root), "--select", "L405", "--show-values").stdout
    told = run("ben", "validate", str(root), "--select", "L405")
    assert "river" not in told.stdout


def test_quality_and_stats_count_and_show_nothing_that_is_hidden(answered: ProjectData) -> None:
    root = str(answered.root)
    for words in (["quality", root, "--sort", "long"], ["stats", root]):
        for form in ("text", "jsonl"):
            told = run("ben", *words, "--format", form)
            assert told.exception is None
            assert "poor" not in told.stdout
            assert "hidden: others' answers to 2 records" in told.stderr
            assert "poor" in run("ana", *words, "--format", form).stdout
            assert "poor" in run("ben", *words, "--format", form, "--show-values").stdout
    assert run("ben", "quality", root, "--sort", "long", "--category", "poor").stdout == ""


def test_versions_are_compared_as_if_others_had_not_answered(answered: ProjectData, tmp_path: Path) -> None:
    before = tmp_path / "before.jsonl"
    before.write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
    for form in ("text", "markdown", "json"):
        words = ["diff", str(before), str(answered.root), "--format", form]
        told = run("ben", *words)
        assert told.exception is None
        assert "poor" not in told.stdout
        assert f"{answered.root}: hidden: others' answers to 2 records" in told.stderr
        assert run("ben", *words, "--exit-code").return_value == 0
        assert "poor" in run("ana", *words).stdout
        assert "poor" in run("ben", *words, "--show-values").stdout
    assert run("ben", "diff", str(before), str(before), "--no-values", "--show-values").exception is not None
