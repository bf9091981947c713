"""Nobody sees another's answer before giving their own: in no cell, filter, order, count, finding, history or list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("polars")

from curate.cli import cli
from curate.journal import Decision
from curate.record import CurateError, Finding
from curate.workshop import Workshop, open_workshop
from curate.workshop.filters import parse_filter
from curate.workshop.labelling import Desk, blind_of, hides_event, seen_finding, seen_record
from curate.workshop.overview import overview
from curate.workshop.problems import Problems, listing
from curate.workspace import Workspace, open_workspace
from curate.workspace.compact import fold_journal

BOTH = "[split]\nseed = 1\n[label]\noverlap = 1.0\n"
"""Two people are asked about every record."""
LINES: list[dict[str, Any]] = [
    {"id": "r1", "instruction": "Where is my parcel?", "output": "On its way."},
    {"id": "r2", "instruction": "Is this good?", "output": "It is."},
    {"id": "r3", "instruction": "May I pay later?", "output": "You may.", "category": "good"},
]
Open = Callable[..., Workshop]


@pytest.fixture
def answered(make_workspace: Callable[..., Workspace]) -> Workspace:
    """A workspace in which ana has called r2 and r3 bad, of which r3's line says good."""
    return make_workspace(LINES, BOTH).apply([_bad("r2"), _bad("r3")], by="ana")


@pytest.fixture
def opened() -> Iterator[Open]:
    """Return a function that opens and loads a workspace for ben, or for somebody else."""
    held = []

    def make(workspace: Workspace, by: str = "ben") -> Workshop:
        workshop = open_workshop(workspace.root, by)
        held.append(workshop)
        workshop.load()
        return workshop

    yield make
    for workshop in held:
        workshop.close()


def _bad(name: str, value: str | None = "bad", question: str = "category") -> Decision:
    return Decision("label", name, fields={"question": question, "value": value})


def found(workshop: Workshop, text: str) -> list[str]:
    catalog = workshop.catalog
    return [catalog.name(row) for row in catalog.select(parse_filter(text))]


# What the catalogue tells.


def test_a_hidden_category_is_in_no_cell_filter_order_or_count(answered: Workspace, opened: Open) -> None:
    ben, ana, stranger = (opened(answered, by) for by in ("ben", "ana", "cleo"))
    for asked in (ben, stranger):
        assert [row.category for row in asked.catalog.rows(range(3))] == ["", "", "good"]
        for text in ("category:bad", "label.category:bad", "label.ana.category:bad", "label:bad"):
            assert found(asked, text) == [], text
        assert found(asked, 'category:""') == ["r1", "r2"]
        rows = asked.catalog.select(parse_filter(""))
        assert asked.catalog.order(rows, "category").to_list() == [0, 1, 2]
        assert {one.name: one.num_records for one in overview(asked, is_judged=False).categories} == {"": 2, "good": 1}
        # That somebody has answered is no secret.
        assert found(asked, "label.ana:*") == ["r2", "r3"]
        assert overview(asked, is_judged=False).num_unlabelled == 1
    assert found(ana, "category:bad") == found(ana, "label.ana.category:bad") == ["r2", "r3"]
    assert [row.category for row in ana.catalog.rows(range(3))] == ["", "bad", "bad"]


def test_ones_own_answer_opens_it_and_taking_it_back_closes_it(answered: Workspace, opened: Open) -> None:
    ben = opened(answered)
    everything = ben.catalog.select(parse_filter("category:bad"))
    ben.apply([_bad("r2", "good")])
    assert found(ben, "label.ana:bad") == ["r2"]
    assert found(ben, "category:bad") == []
    ben.apply([_bad("r3")])
    assert found(ben, "category:bad") == ["r3"]
    rows = ben.catalog.renew(everything, parse_filter("category:bad"), {"r2", "r3"})
    assert [ben.catalog.name(row) for row in rows] == ["r3"]
    ben.undo()
    assert found(ben, "category:bad") == []
    assert ben.catalog.renew(rows, parse_filter("category:bad"), {"r3"}).to_list() == []


def test_what_asks_nobody_any_more_is_shown(make_workspace: Callable[..., Workspace], opened: Open) -> None:
    for number, settings in enumerate(["[split]\nseed = 1\n", '[split]\nseed = 1\n[label]\nannotators = ["ana"]\n']):
        workspace = make_workspace(LINES, settings, name=f"ws{number}").apply([_bad("r2")], by="ana")
        assert found(opened(workspace), "category:bad") == ["r2"]
    workspace = make_workspace(LINES, BOTH, name="settled").apply([_bad("r2")], by="ana")
    workspace.apply([Decision("resolve", "r2", fields={"question": "category", "value": "bad"})], by="cleo")
    assert found(opened(workspace), "category:bad") == ["r2"]


def test_what_was_folded_is_hidden_all_the_same(answered: Workspace, opened: Open) -> None:
    fold_journal(answered)
    assert not list((answered.root / "journal").glob("ana/*.log"))
    ben = opened(answered)
    assert [row.category for row in ben.catalog.rows(range(3))] == ["", "", "good"]
    assert found(ben, "category:bad") == found(ben, "label.ana:bad") == []
    assert found(opened(answered, "ana"), "category:bad") == ["r2", "r3"]


def test_what_the_line_says_is_nobodys_answer(make_workspace: Callable[..., Workspace], opened: Open) -> None:
    settings = BOTH + '[[label.questions]]\nname = "category"\n[[label.questions]]\nname = "quality"\n'
    workspace = make_workspace([LINES[2] | {"labels": {"quality": "poor"}}, LINES[1]], settings)
    workspace = workspace.apply([_bad("r3", "fine", "quality"), _bad("r3")], by="ana")
    workspace.apply([Decision("edit", "r2", fields={"changes": {"category": "odd"}})], by="ana")
    ben = opened(workspace)
    assert found(ben, "category:good label.quality:poor") == ["r3"]
    assert found(ben, "category:odd") == ["r2"]
    assert found(ben, "label.quality:fine") == []
    record, hidden = seen_record(ben, ben.state("r3").record)
    assert (record.category, record.labels, hidden) == ("good", {"quality": "poor"}, {"category", "quality"})
    assert seen_record(opened(workspace, "ana"), ben.state("r3").record)[0].category == "bad"


def test_what_is_learned_from_is_not_what_is_seen(answered: Workspace, opened: Open) -> None:
    ben = opened(answered)
    assert ben.catalog.frame(["category"])["category"].to_list() == ["", "", "good"]
    assert ben.catalog.frame(["category"], is_whole=True)["category"].to_list() == ["", "bad", "bad"]
    ben.apply([_bad("r2", "good"), _bad("r3", "good"), _bad("r1", "good")])
    whole = ben.catalog.frame(["category", "labels"], is_whole=True)
    assert whole.equals(ben.catalog.frame(["category", "labels"]))


# Who is asked, read anew.


def test_questions_and_people_are_those_of_the_settings_as_they_now_are(answered: Workspace, opened: Open) -> None:
    ben = opened(answered)
    assert not ben.blind.hides(ben.state("r2"), "use")
    answered.apply([_bad("r2", "no", "use")], by="ana")
    path = answered.root / "curate.toml"
    path.write_text(BOTH + '[[label.questions]]\nname = "use"\nvalues = ["yes", "no"]\n', encoding="utf-8")
    ben.reload()
    assert ben.blind.hides(ben.state("r2"), "use")
    assert not ben.blind.hides(ben.state("r2"), "category"), "it is not asked any more"
    assert found(ben, "category:bad") == ["r2", "r3"]
    assert found(ben, "label.use:no") == []
    desk = Desk(ben)
    desk.prepare(desk.wish_for("use"))
    path.write_text("[split]\nseed = 1\n", encoding="utf-8")
    ben.reload()
    assert found(ben, "label.use:no") == ["r2"]


def test_where_nobody_knows_who_is_asked_everything_is_hidden(answered: Workspace, opened: Open) -> None:
    (answered.root / "curate.toml").write_text('[split]\nseed = 1\n[label]\ngold = "none.jsonl"\n', encoding="utf-8")
    ben = opened(answered)
    assert found(ben, "category:bad") == []
    assert [remark for remark in ben.catalog.remarks if "hidden until you have given yours" in remark]
    with pytest.raises(CurateError, match=r"none\.jsonl"):
        blind_of(ben)
    assert found(opened(answered, "ana"), "category:bad") == ["r2", "r3"]


# What is told of decisions and findings.


def test_a_settlement_that_was_taken_back_tells_no_answer(answered: Workspace, opened: Open) -> None:
    cleo, ben = opened(answered, "cleo"), opened(answered)
    (event,) = cleo.apply([Decision("resolve", "r2", fields={"question": "category", "value": "bad"})])
    ben.refresh()
    assert not hides_event(ben, event)
    assert found(ben, "category:bad") == ["r2"]
    cleo.undo()
    ben.refresh()
    assert hides_event(ben, event)
    assert not hides_event(cleo, event), "it is her own"
    assert found(ben, "category:bad") == []
    answer = next(one for one in ben.history("r2") if one.op == "label")
    assert hides_event(ben, answer)
    ben.apply([_bad("r2")])
    assert not hides_event(ben, event)
    assert not hides_event(ben, answer)


def test_findings_do_not_quote_a_hidden_category(answered: Workspace, opened: Open) -> None:
    ben, ana = opened(answered), opened(answered, "ana")
    message = "category 'bad' (0.02) looks like 'good' (0.91)"
    for name in ("r2", "r3"):
        finding = Finding("L405", "suspect-label", "warning", message, "data/a.jsonl", 2, 0, name, "/category")
        assert "bad" not in seen_finding(ben, finding).message
        assert seen_finding(ana, finding) == finding
    for kept in (Finding("Q201", "x", "error", message, "f", record="r2"), Finding("L405", "x", "error", message, "f")):
        assert seen_finding(ben, kept) == kept
    ben.apply([_bad("r2")])
    assert seen_finding(ben, Finding("L404", "x", "error", message, "f", record="r2")).message == message
    assert seen_finding(ben, Finding("L404", "x", "error", message, "f", record="gone")).message == message


def test_neither_the_list_of_problems_nor_its_filter_quotes_it(answered: Workspace, opened: Open) -> None:
    ben, problems = opened(answered), Problems({}, {}, {})
    problems.add(Finding("L405", "suspect-label", "warning", "category 'bad' is odd", "a", 2, 0, "r2", "/category"))
    seen = partial(seen_finding, ben)
    (heading, item) = listing.listed(problems, seen=seen)
    assert isinstance(item, listing.Item)
    assert "bad" not in item.finding.message
    assert isinstance(heading, listing.Heading)
    assert "bad" not in heading.told
    assert listing.listed(problems, text="bad", seen=seen) == []
    assert len(listing.listed(problems, text="bad")) == 2


def test_beside_one_another_records_tell_no_answer(answered: Workspace, opened: Open) -> None:
    from rich.console import Console

    from curate.tui.screens.dedupe.drawing import Pair, pair_table
    from curate.workshop.clusters import Member, beside

    def drawn(workshop: Workshop) -> str:
        records = [workshop.state(name).record for name in ("r2", "r3")]
        left, right = (Member(one, one.split, "alike", one.id) for one in records)
        pair = Pair(left, right, beside(*records, workshop.workspace.shape), ())
        console = Console(width=120, no_color=True)
        with console.capture() as capture:
            console.print(pair_table(pair, None, workshop, is_narrow=False))
        return capture.get()

    assert "category (hidden)" in drawn(opened(answered))
    assert "category good" in drawn(opened(answered))
    assert "labels category=(hidden)" in drawn(opened(answered))
    assert "bad" not in drawn(opened(answered))
    assert drawn(opened(answered, "ana")).count("category bad") == 2


# On the command line.


def run(by: str, *arguments: str) -> Result:
    return CliRunner(env={"CURATE_ANNOTATOR": by}).invoke(cli, arguments, standalone_mode=False)


def listed(by: str, root: Path, *options: str) -> dict[str, tuple[str, dict[str, Any]]]:
    lines = map(json.loads, run(by, "list", str(root), "--format", "jsonl", *options).stdout.splitlines())
    return {line["id"]: (line["category"], line["labels"]) for line in lines}


def test_list_tells_and_finds_nothing_that_is_hidden(answered: Workspace) -> None:
    root = answered.root
    assert listed("ben", root) == {"r1": ("", {}), "r2": ("", {}), "r3": ("good", {})}
    assert "hidden: others' answers to 2 records" in run("ben", "list", str(root)).stderr
    assert "bad" not in run("ben", "list", str(root)).stdout
    for options in (["--where", "category:bad"], ["--where", "label.ana.category:bad"], ["--category", "bad"]):
        assert listed("ben", root, *options) == {}
        assert listed("ben", root, "--show-values", *options).keys() == {"r2", "r3"}
        assert listed("ana", root, *options).keys() == {"r2", "r3"}
    assert listed("ben", root, "--show-values")["r2"] == ("bad", {"category": "bad"})
    assert run("ana", "list", str(root)).stderr == ""


def test_a_build_lists_everything_where_nobody_else_is_asked(make_workspace: Callable[..., Workspace]) -> None:
    root = make_workspace(LINES).apply([_bad("r2")], by="ana").root
    assert listed("ci", root)["r2"] == ("bad", {"category": "bad"})
    team = '[split]\nseed = 1\n[label]\nannotators = ["ana", "ben"]\noverlap = 1.0\n'
    root = make_workspace(LINES, team, name="team").apply([_bad("r2")], by="ana").root
    assert listed("ci", root)["r2"] == ("bad", {"category": "bad"})
    assert listed("ben", root)["r2"] == ("", {})


def test_log_tells_the_decision_and_not_the_hidden_answer(answered: Workspace, tmp_path: Path) -> None:
    root = str(answered.root)
    for words in ([], ["r2"]):
        for form in ("text", "jsonl"):
            told = run("ben", "log", root, *words, "--format", form)
            assert told.exception is None
            assert "ana" in told.stdout
            assert "bad" not in told.stdout
            assert "hidden: " in told.stderr
            for by, options in (("ana", []), ("ben", ["--show-values"])):
                open_ = run(by, "log", root, *words, "--format", form, *options)
                assert "bad" in open_.stdout
                assert open_.stderr == ""
    fold_journal(open_workspace(answered.root))
    assert "bad" not in run("ben", "log", root).stdout + run("ben", "log", root, "r2").stdout
    assert "bad" in run("ana", "log", root).stdout
    assert run("ana", "log", root, "--no-values", "--show-values").exception is not None


def test_log_tells_no_settlement_that_was_taken_back(answered: Workspace, opened: Open) -> None:
    cleo = opened(answered, "cleo")
    cleo.apply([Decision("resolve", "r2", fields={"question": "category", "value": "bad"})])
    assert run("ben", "log", str(answered.root), "r2", "--format", "jsonl").stdout.count("bad") > 1
    cleo.undo()
    assert "bad" not in run("ben", "log", str(answered.root), "r2", "--format", "jsonl").stdout
