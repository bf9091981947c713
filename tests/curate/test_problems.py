"""Problems: a search finds what validation finds, whatever is decided, stopped or read again meanwhile."""

import json
import random
import shutil
import threading
from dataclasses import replace
from time import sleep

import pytest

from curate.base.events import Add, Assign, Drop, Label, Restore
from curate.base.record import CurateError
from curate.checks.runner import CheckPlan
from curate.project.project import open_project
from curate.project.validation import Validation, validate_data
from curate.sessions import problem_groups as found_module
from curate.sessions.problem_groups import ELSEWHERE, Problems
from curate.sessions.problem_search import Child, Job
from curate.sessions.problems import problems_of
from tests.curate.troubled import SIX, edit, rank


def tally(problems, *levels):
    """Return the findings by what they are, those of some levels only."""
    return {
        (group.level, group.code, group.severity, group.pointer): group.count
        for group in problems.groups
        if group.count and (not levels or group.level in levels)
    }


def test_a_search_finds_what_validation_finds(messy, project):
    lines = []
    found = problems_of(project).search(lines.append)
    verdict = validate_data(messy, limit=100_000)
    counts = {}
    for group in found.groups:
        counts[group.code] = counts.get(group.code, 0) + group.count
    assert counts == verdict.counts
    assert (found.count("error"), found.count("warning")) == (verdict.num_errors, verdict.num_warnings)
    assert (found.num_failing, found.num_records) == (verdict.num_failing, verdict.num_records)
    assert lines[-1] == found.num_lines == verdict.num_lines
    shown = {(f.code, f.line, f.pointer, f.message) for group in found.groups for f in group.examples}
    # A screen is about one workspace, and names its files from there.
    above = f"{messy.root}/"
    assert shown == {(f.code, f.line, f.pointer, f.message.replace(above, "")) for f in verdict.findings}
    assert {f.file for group in found.groups for f in group.examples} == {"data/a.jsonl", ""}
    names = dict(project.catalog.frame(["line", "id"]).select("line", "id").iter_rows())
    expected = {}
    for finding in verdict.findings:
        if finding.record and finding.code != "S102":
            name = names[finding.line]
            expected[name] = min(expected.get(name, "info"), finding.severity, key=rank)
    assert problems_of(project).statuses() == expected


@pytest.mark.ci
def test_the_catalogue_hears_of_every_status(project):
    found = problems_of(project).search()
    row = project.catalog.row
    told = {row(number).id: row(number).status for number in range(project.catalog.num_rows)}
    assert {name for name, status in told.items() if status == "error"} == {
        name for name, severity in found.statuses().items() if severity == "error"
    }
    assert told["sd-0001"] in ("ok", "warning")


@pytest.mark.parametrize("jobs", [1, 2])
def test_statuses_are_complete_however_few_findings_are_kept(make_workspace, monkeypatch, jobs):
    monkeypatch.setattr(found_module, "MAX_PER_GROUP", 5)
    count = 300
    workspace = make_workspace([{"id": f"r{n}", "instruction": f"What is {n}?", "output": ""} for n in range(count)])
    files = workspace.files()
    problems = Problems({str(files[0]): "data/a.jsonl"}, {}, {})
    spec = CheckPlan(workspace.shape, workspace.settings, root=workspace.root)
    problems.finish(Validation(files, spec, workspace, jobs=jobs, has_leaks=False, on_span=problems.take).run())
    (empty,) = [group for group in problems.groups if group.code == "Q201"]
    assert (empty.count, len(empty.examples)) == (count, 5)
    assert problems.statuses() == {f"r{n}": "error" for n in range(count)}


def test_places_beyond_the_most_are_gathered(monkeypatch):
    from curate.base.record import Finding

    monkeypatch.setattr(found_module, "_MAX_POINTERS", 3)
    problems = Problems({}, {}, {})
    for number in range(10):
        finding = Finding("S102", "schema-violation", "error", "no", "data/a.jsonl", 1, 1, pointer=f"/k{number}/7/x")
        problems.add(finding)
        problems.add(replace(finding, pointer=f"/k{number}/8/x"))
    assert [(group.pointer, group.count) for group in problems.groups] == [
        ("/k0/*/x", 2), ("/k1/*/x", 2), ("/k2/*/x", 2), (ELSEWHERE, 14),
    ]  # fmt: skip


def decide_at_random(project, draw, count):
    """Make some decisions of every kind on records that have ids of their own."""
    names = [name for name in project.catalog.frame(["id"])["id"] if name.startswith(("sd-", "messy-"))]
    texts = ["", "Sure.", "Write to ann.lee@mail.example or call 555-0142.", "The answer \x07 rings.", "Fine, done."]
    for number in range(count):
        name = draw.choice(names)
        kind = draw.choice(["drop", "restore", "label", "category", "split", "output", "edit", "add", "undo"])
        if kind == "drop":
            project.apply([Drop(name, reason="so")])
        elif kind == "restore":
            project.apply([Restore(name)])
        elif kind in ("label", "category"):
            question = {"label": "quality", "category": "category"}[kind]
            project.apply([Label(name, question, draw.choice(SIX))])
        elif kind == "split":
            project.apply([Assign(name, draw.choice(["train", "test"]))])
        elif kind == "output":
            project.apply([edit(name, output=draw.choice(texts))])
        elif kind == "edit":
            project.apply([edit(name, instruction=f"Say {draw.random()}.", input=None)])
        elif kind == "add":
            line = {"id": f"new-{number}", "instruction": "Add.", "output": draw.choice(texts), "category": "extract"}
            project.apply([Add(line["id"], line)])
        else:
            project.undo()


def as_decided(messy, project, folder):
    """Make a workspace whose lines say what was decided, and return its book's findings."""
    (folder / "data").mkdir(parents=True)
    shutil.copy(messy.root / "curate.toml", folder / "curate.toml")
    states = {
        state.record.source.line: state for state in project.decided() if state.record.source.file == "data/a.jsonl"
    }
    lines = []
    for number, raw in enumerate((messy.root / "data/a.jsonl").read_bytes().split(b"\n")[:-1], start=1):
        state = states.get(number)
        if state is None:
            lines.append(raw)
        elif state.dropped is None:
            mark = b"\xef\xbb\xbf" if number == 1 else b""
            lines.append(mark + json.dumps(line_of(state.record)).encode())
    (folder / "data/a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    added = [
        state for state in project.decided() if state.record.source.file != "data/a.jsonl" and state.dropped is None
    ]
    (folder / "data/b.jsonl").write_text("".join(json.dumps(line_of(one.record)) + "\n" for one in added) or " ")
    with open_project(folder, "bo") as other:
        other.load()
        return problems_of(other).search()


def alike(statuses):
    """Two lines are called sd-0002; which of them gets a number after it depends on whether the other is there."""
    found = {}
    for name, severity in statuses.items():
        name = "sd-0002" if name.startswith("sd-0002") else name
        found[name] = min(found.get(name, severity), severity, key=rank)
    return found


def line_of(record):
    more = {"split": record.split} if record.split else {}
    labels = {"labels": dict(record.labels)} if record.labels else {}
    return {**record.data, "category": record.category, **more, **labels}


@pytest.mark.ci
@pytest.mark.parametrize("seed", range(6))
def test_decided_records_are_judged_as_if_their_lines_said_so(messy, project, tmp_path, seed):
    decide_at_random(project, random.Random(seed), 40)
    expected = as_decided(messy, project, tmp_path / "as-decided")
    found = problems_of(project).search()
    # Blank lines and a byte order mark go with lines that are left out.
    gone = {"S118", "S119", "S120", "S121"}
    assert {key: n for key, n in tally(found, "record", "whole", "line").items() if key[1] not in gone} == {
        key: n for key, n in tally(expected, "record", "whole", "line").items() if key[1] not in gone
    }
    assert alike(found.statuses()) == alike(expected.statuses())
    assert found.num_records == expected.num_records


@pytest.mark.ci
@pytest.mark.parametrize("seed", range(6))
def test_what_is_followed_record_by_record_is_what_a_new_search_finds(project, seed):
    book = problems_of(project)
    book.search()
    decide_at_random(project, random.Random(100 + seed), 40)
    assert book.num_stale > 0
    book.catch_up()
    followed = tally(book.problems, "record", "decision")
    shown = {
        (f.code, f.record, f.pointer)
        for group in book.problems.groups
        for f in group.examples
        if group.level == "record"
    }
    statuses = {name for name, severity in book.statuses().items() if severity == "error"}
    anew = book.search()
    assert followed == tally(anew, "record", "decision")
    assert shown == {(f.code, f.record, f.pointer) for g in anew.groups for f in g.examples if g.level == "record"}
    assert statuses >= {name for name, severity in anew.statuses().items() if severity == "error"}
    assert book.num_stale == 0


@pytest.mark.ci
def test_an_undo_brings_back_what_was_found_before(project):
    book = problems_of(project)
    book.search()
    before, statuses = tally(book.problems), book.statuses()
    for name in ("messy-01", "messy-08", "sd-0002"):
        project.apply([Drop(name, reason="so")])
        project.apply([edit("messy-10", output="Something else.")])
        book.catch_up()
    assert tally(book.problems) != before
    while project.undo():
        book.catch_up()
    assert tally(book.problems) == before
    assert book.statuses() == statuses
    assert sum(len(group.examples) for group in book.problems.groups) == sum(
        group.count for group in book.problems.groups
    )


@pytest.mark.ci
def test_records_that_share_an_id_are_told_apart(make_workspace):
    line = {"instruction": "What is this?", "output": ""}
    workspace = make_workspace([line, line | {"output": "A cat."}, line, {"id": "x-7", **line}])
    with open_project(workspace.root, "ana") as project:
        project.load()
        names = list(project.catalog.frame(["id"])["id"])
        assert names[2] == f"{names[0]}-2"
        book = problems_of(project)
        book.search()
        assert {name for name, severity in book.statuses().items() if severity == "error"} == {
            names[0], names[2], "x-7",
        }  # fmt: skip
        project.apply([edit(names[2], output="A dog.")])
        book.catch_up()
        after = {name for name, severity in book.statuses().items() if severity == "error"}
        assert after == {names[0], "x-7"}
        book.search()
        assert {name for name, severity in book.statuses().items() if severity == "error"} == after


def test_a_search_is_stopped_from_another_thread(project):
    book = problems_of(project)

    def stop_once_begun():
        # Not after a fixed time: on a busy machine the search may not have begun by then, and there is nothing to stop.
        while not book.is_searching:
            sleep(0.001)
        book.stop()

    stopper = threading.Thread(target=stop_once_begun)
    stopper.start()
    with pytest.raises(CurateError, match="was stopped"):
        book.search()
    stopper.join()
    assert not book.is_searching
    assert book.search().num_records


@pytest.mark.ci
def test_two_who_search_at_once_get_what_one_search_finds(project, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    begun = []
    run = Child.run
    monkeypatch.setattr(Child, "run", lambda self, *asked: begun.append(1) or run(self, *asked))
    with ThreadPoolExecutor(3) as pool:
        found = [one.result() for one in [pool.submit(problems_of(project).search) for _ in range(3)]]
    assert len({id(one) for one in found}) == len(begun) <= 2
    (project.root / "curate.toml").write_text("nonsense")
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(problems_of(project).search) for _ in range(2)]:
            with pytest.raises(CurateError) as caught:
                one.result()
            assert caught.value.code == "E902 bad-settings"
    assert not problems_of(project).is_searching


@pytest.mark.ci
def test_a_reload_during_a_search_judges_nobody_and_begins_it_again(project, monkeypatch):
    begun = []
    run = Child.run

    def reload_first(self, *asked):
        found = run(self, *asked)
        begun.append(project.catalog)
        if len(begun) == 1:
            project.reload()
        return found

    monkeypatch.setattr(Child, "run", reload_first)
    found = problems_of(project).search()
    assert [catalog is project.catalog for catalog in begun] == [False, True]
    assert problems_of(project).problems is found
    told = {project.catalog.row(number).status for number in range(project.catalog.num_rows)}
    assert "error" in told
    project.reload()
    # What comes late from the search before must not make records of the new catalogue "ok".
    problems_of(project).catch_up(["messy-01"])
    assert not project.catalog.has_findings


def test_a_process_that_is_killed_is_told(project, monkeypatch):
    monkeypatch.setattr("curate.sessions.problem_search.sys.executable", "/bin/false")
    with pytest.raises(CurateError, match="ended with code 1"):
        Child().run("search", Job(project.root))


def test_settings_that_cannot_be_used_are_told_as_they_are(project):
    with (project.root / "curate.toml").open("a") as file:
        file.write('[checks]\nignore = ["Q999"]\n')
    with pytest.raises(CurateError, match="no check 'Q999'") as caught:
        problems_of(project).search()
    assert caught.value.code == "E902 bad-settings"
