"""Problems as a person works them off: excerpts, fixes, excuses, baselines, and the list of them."""

import json
import random
import shutil
from dataclasses import replace

import pytest

from curate.base.events import Label
from curate.base.record import CurateError
from curate.jsonl import locate
from curate.project.project import open_project
from curate.sessions.excerpt import LineIndex
from curate.sessions.problem_groups import Heading, ProblemItem, listed
from curate.sessions.problems import problems_of
from tests.curate.troubled import edit, rank


def finding_of(book, code, record=""):
    return next(f for g in book.problems.groups for f in g.examples if f.code == code and record in (f.record, ""))


def test_an_excerpt_points_at_the_value_and_hides_secrets(project):
    book = problems_of(project)
    book.search()
    finding = finding_of(book, "X702", "messy-18")
    found = book.excerpt(finding)
    raw = (project.root / "data/a.jsonl").read_bytes().split(b"\n")[finding.line - 1]
    assert found.column == locate(raw, finding.pointer)
    (row,) = [row for row in found.rows if row.line == finding.line]
    assert row.text[: found.mark] == raw[: found.column - 1].decode()
    assert [one.line for one in found.rows] == list(range(finding.line - 2, finding.line + 2))
    secret = json.loads(raw)["output"].split("AKIA")[1][:16]
    assert secret not in row.text
    assert "AK···" in row.text


def test_an_excerpt_of_a_decided_record_is_what_was_decided(project):
    book = problems_of(project)
    book.search()
    project.apply([edit("messy-01", instruction="Say yes, é.", output=" ")])
    book.catch_up()
    found = book.excerpt(finding_of(book, "Q201", "messy-01"))
    assert found.is_decided
    (row,) = [row for row in found.rows if row.line == found.line]
    assert "Say yes, é." in row.text
    assert row.text[found.mark :].startswith('" "')
    project.apply([Label("messy-02", "quality", "bad")])
    book.catch_up()
    assert not book.excerpt(finding_of(book, "Q201", "messy-02")).is_decided


def test_an_excerpt_of_a_line_that_is_no_json_has_its_column(project):
    book = problems_of(project)
    book.search()
    finding = finding_of(book, "S101")
    assert book.excerpt(finding).column == finding.column > 0
    mark = finding_of(book, "S118")
    assert book.excerpt(mark).rows


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 5000])
def test_lines_are_found_by_number(tmp_path, count):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b"%d%b\n" % (number, b"x" * (number % 700)) for number in range(1, count + 1)) + b"tail")
    lines = LineIndex(path)
    draw = random.Random(count)
    for number in [1, count, count + 1, *(draw.randrange(1, count + 1) for _ in range(40))]:
        found = lines.read(number - 1, number + 1)
        for one, raw in found.items():
            assert raw == (b"tail" if one == count + 1 else b"%d%b" % (one, b"x" * (one % 700)))
        assert set(found) == {one for one in (number - 1, number, number + 1) if 1 <= one <= count + 1}
    assert lines.read(count + 2, count + 9) == {}
    path.unlink()
    assert LineIndex(path).read(1, 2) == {}


def test_a_line_that_is_too_long_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("curate.sessions.excerpt._MOST_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\n" + b"y" * 5000 + b"\nthree\n")
    assert LineIndex(path).read(1, 3) == {1: b"one", 3: b"three"}


@pytest.mark.ci
def test_a_fix_is_an_edit_that_undo_takes_back(project):
    book = problems_of(project)
    book.search()
    finding = finding_of(book, "Q205", "messy-08")
    mending = book.mending(finding)
    assert (mending.fixes, mending.is_safe) == (("mojibake",), True)
    assert set(mending.changes) == {"output"}
    raw = (project.root / "data/a.jsonl").read_bytes()
    assert book.mend([mending]).num_mended == 1
    book.catch_up()
    assert "messy-08" not in {f.record for g in book.problems.groups for f in g.examples if f.code == "Q205"}
    assert (project.root / "data/a.jsonl").read_bytes() == raw
    project.undo()
    book.catch_up()
    assert finding_of(book, "Q205", "messy-08")
    # What changed meanwhile is not written over.
    project.apply([edit("messy-08", output="Something else.")])
    assert (book.mend([mending]).num_mended, book.mend([mending]).num_changed) == (0, 1)
    assert project.state("messy-08").record.completion == "Something else."


def test_a_fix_that_can_change_the_meaning_is_made_only_when_asked_for(project):
    book = problems_of(project)
    book.search()
    finding = finding_of(book, "X703", "messy-21")
    assert (book.mending(finding).fixes, book.mending(finding).is_safe) == (("controls",), False)


@pytest.mark.ci
def test_all_safe_fixes_are_those_of_the_command(messy, project, tmp_path):
    from curate.checks.fixes import FixedFile

    shutil.copy(messy.root / "data/a.jsonl", tmp_path / "mended.jsonl")
    with (messy.root / "data/a.jsonl").open("a") as file:
        file.write(json.dumps({"id": "trim-1", "instruction": "Hi. \n", "output": "cafe\u0301 ", "category": "answer"}))
    shutil.copy(messy.root / "data/a.jsonl", tmp_path / "mended.jsonl")
    fixed = FixedFile(tmp_path / "mended.jsonl", messy.shape, root=tmp_path)
    fixed.write()
    with open_project(messy.root, "ana") as again:
        again.load()
        book = problems_of(again)
        found = book.mendings()
        texts = {name: number for name, number in fixed.counts.items() if name in ("trim", "nfc", "mojibake")}
        assert dict(found.counts) == texts
        assert found.num_records == len(found.fixes) > 1
        book.mend(found.fixes)
        lines = [json.loads(raw) for raw in (tmp_path / "mended.jsonl").read_bytes().splitlines() if raw[:1] == b"{"
                 and b'"id": "trim-1"' in raw]  # fmt: skip
        assert dict(again.state("trim-1").record.data) == lines[0]
        assert book.mendings().num_records == 0
        assert again.undo() is not None
        assert book.mendings().num_records == found.num_records


def test_one_record_asks_to_be_excused(project):
    book = problems_of(project)
    book.search()
    number = book.problems.count("error")
    book.ignore(finding_of(book, "Q201", "messy-01"))
    book.catch_up()
    assert project.state("messy-01").record.data["x-ignore"] == ["Q201"]
    assert book.problems.count("error") == number - 1
    project.undo()
    book.catch_up()
    assert book.problems.count("error") == number
    for code in ("S101", "S118"):
        with pytest.raises(CurateError, match="cannot be ignored"):
            book.ignore(finding_of(book, code))


@pytest.mark.ci
def test_a_baseline_is_that_of_the_command(messy, project, capsys):
    from curate.cli import cli

    book = problems_of(project)
    with pytest.raises(CurateError, match="names no baseline"):
        book.write_baseline()
    settings = (messy.root / "curate.toml").read_text()
    (messy.root / "curate.toml").write_text(f'{settings}\n[checks]\nbaseline = "base.json"\n')
    with open_project(messy.root, "ana") as again:
        again.load()
        book = problems_of(again)
        changed = book.write_baseline()
        ours = (messy.root / "base.json").read_bytes()
        (messy.root / "base.json").unlink()
        cli.main(["validate", str(messy.root), "--update-baseline"], standalone_mode=False)
        assert ours == (messy.root / "base.json").read_bytes()
        assert changed.num_new == changed.num_findings > 30
        found = book.search()
        assert found.num_failing == sum(g.count for g in found.groups if g.severity == "error" and g.level == "line")
        assert found.num_forgiven == changed.num_findings - found.num_failing - found.count("warning") + sum(
            g.count for g in found.groups if g.severity == "warning"
        )
        # An edited record has to answer for itself; the baseline of what was decided forgives it, too.
        again.apply([edit("sd-0002", output="")])
        book.catch_up()
        assert book.statuses()["sd-0002"] == "error"
        assert book.write_baseline().num_new == 1
        assert "sd-0002" not in book.search().statuses()


def test_a_list_opens_closes_and_is_filtered(project):
    found = problems_of(project).search()
    rows = listed(found)
    headings = [row for row in rows if isinstance(row, Heading)]
    assert [heading.severity for heading in headings] == sorted((h.severity for h in headings), key=rank)
    assert sum(heading.count for heading in headings) == sum(group.count for group in found.groups)
    assert len([row for row in rows if isinstance(row, ProblemItem)]) == sum(heading.num_listed for heading in headings)
    closed = listed(found, closed={heading.key for heading in headings})
    assert closed == [replace(heading, is_open=False) for heading in headings]
    only = listed(found, text="ALICE@", severities=("error", "warning"))
    assert all("alice@" in row.finding.message.casefold() for row in only if isinstance(row, ProblemItem))
    some = listed(found, text="messy-18")
    assert {row.finding.record for row in some if isinstance(row, ProblemItem)} == {"messy-18"}
    assert all(heading.num_matching >= 1 for heading in some if isinstance(heading, Heading))
    by_file = [row for row in listed(found, by="file") if isinstance(row, Heading)]
    assert [(heading.title, heading.severity) for heading in by_file] == [
        ("all records", "warning"), ("data/a.jsonl", "error"),
    ]  # fmt: skip
    assert listed(found, severities=()) == []


def test_the_command_for_a_build_is_one(messy, project, capsys):
    from curate.cli import cli

    words = problems_of(project).ci_command().split()
    assert words[0] == "curate"
    assert cli.main(words[1:], standalone_mode=False) == 1
    assert "::error" in capsys.readouterr().out
