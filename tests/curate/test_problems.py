import json
import random
import shutil
import threading
from dataclasses import replace

import pytest

from curate.door import locate
from curate.journal import Decision
from curate.record import CurateError
from curate.validate import validate
from curate.workshop import open_workshop
from curate.workshop.problems import ELSEWHERE, Heading, Item, Problems, book_of, listed
from curate.workshop.problems import found as found_module
from curate.workshop.problems.excerpt import Lines
from curate.workshop.problems.search import Child, Job
from curate.workspace import open_workspace
from curate.workspace.decided import decided, examine_decided

SIX = ("extract", "classify", "rewrite", "answer", "summarise", "redirect")
SETTINGS = "[split]\nseed = 1\n" + "".join(f"[categories.{name}]\n" for name in SIX)


@pytest.fixture
def messy(make_workspace, root):
    """A workspace with the lines of samples/messy.jsonl, which have a fault of every kind."""
    workspace = make_workspace([], SETTINGS)
    shutil.copy(root / "samples/messy.jsonl", workspace.root / "data/a.jsonl")
    return open_workspace(workspace.root)


@pytest.fixture
def shop(messy):
    with open_workshop(messy.root, "ana") as workshop:
        workshop.load()
        yield workshop


def tally(problems, *levels):
    """Return the findings by what they are, those of some levels only."""
    return {
        (group.level, group.code, group.severity, group.place): group.count
        for group in problems.groups
        if group.count and (not levels or group.level in levels)
    }


def edit(name, **changes):
    return Decision("edit", name, fields={"changes": changes})


def test_a_search_finds_what_validation_finds(messy, shop):
    lines = []
    found = book_of(shop).search(lines.append)
    verdict = messy.verdict(limit=100_000)
    counts = {}
    for group in found.groups:
        counts[group.code] = counts.get(group.code, 0) + group.count
    assert counts == verdict.counts
    assert (found.count("error"), found.count("warning")) == (verdict.num_errors, verdict.num_warnings)
    assert (found.num_failing, found.num_records) == (verdict.num_failing, verdict.num_records)
    assert lines[-1] == found.num_lines == verdict.num_lines
    shown = {(f.code, f.line, f.pointer, f.message) for group in found.groups for f in group.shown}
    assert shown == {(f.code, f.line, f.pointer, f.message) for f in verdict.findings}
    assert {f.file for group in found.groups for f in group.shown} == {"data/a.jsonl", ""}
    names = dict(shop.catalog.frame(["line", "id"]).select("line", "id").iter_rows())
    expected = {}
    for finding in verdict.findings:
        if finding.record and finding.code != "S102":
            name = names[finding.line]
            expected[name] = min(expected.get(name, "info"), finding.severity, key=_rank)
    assert book_of(shop).statuses() == expected


def _rank(severity):
    return ("error", "warning", "info").index(severity)


def test_the_catalogue_hears_of_every_status(shop):
    found = book_of(shop).search()
    row = shop.catalog.row
    told = {row(number).id: row(number).status for number in range(shop.catalog.num_rows)}
    assert {name for name, status in told.items() if status == "error"} == {
        name for name, severity in found.statuses().items() if severity == "error"
    }
    assert told["sd-0001"] in ("ok", "warning")


@pytest.mark.parametrize("jobs", [1, 2])
def test_statuses_are_complete_however_few_findings_are_kept(make_workspace, monkeypatch, jobs):
    monkeypatch.setattr(found_module, "SHOWN", 5)
    count = 300
    workspace = make_workspace([{"id": f"r{n}", "instruction": f"What is {n}?", "output": ""} for n in range(count)])
    files = workspace.files()
    problems = Problems({str(files[0]): "data/a.jsonl"}, {}, {})
    engine_of = decided(workspace.states())

    def engine(examiner, paths, _jobs):
        return examine_decided(examiner, paths, jobs, decided=engine_of, on_span=problems.take)

    problems.finish(validate(files, workspace.shape, workspace.settings, root=workspace.root, engine=engine))
    (empty,) = [group for group in problems.groups if group.code == "Q201"]
    assert (empty.count, len(empty.shown), empty.num_hidden) == (count, 5, count - 5)
    assert problems.statuses() == {f"r{n}": "error" for n in range(count)}


def test_places_beyond_the_most_are_gathered(monkeypatch):
    from curate.record import Finding

    monkeypatch.setattr(found_module, "_MOST_PLACES", 3)
    problems = Problems({}, {}, {})
    for number in range(10):
        finding = Finding("S102", "schema-violation", "error", "no", "data/a.jsonl", 1, 1, pointer=f"/k{number}/7/x")
        problems.add(finding)
        problems.add(replace(finding, pointer=f"/k{number}/8/x"))
    assert [(group.place, group.count) for group in problems.groups] == [
        ("/k0/*/x", 2), ("/k1/*/x", 2), ("/k2/*/x", 2), (ELSEWHERE, 14),
    ]  # fmt: skip


def decide(shop, draw, count):
    """Make some decisions of every kind on records that have ids of their own."""
    names = [name for name in shop.catalog.frame(["id"])["id"] if name.startswith(("sd-", "messy-"))]
    texts = ["", "Sure.", "Write to ann.lee@mail.example or call 555-0142.", "The answer \x07 rings.", "Fine, done."]
    for number in range(count):
        name = draw.choice(names)
        kind = draw.choice(["drop", "restore", "label", "category", "split", "output", "edit", "add", "undo"])
        if kind == "drop":
            shop.apply([Decision("drop", name, fields={"reason": "so"})])
        elif kind == "restore":
            shop.apply([Decision("restore", name)])
        elif kind in ("label", "category"):
            question = {"label": "quality", "category": "category"}[kind]
            shop.apply([Decision("label", name, fields={"question": question, "value": draw.choice(SIX)})])
        elif kind == "split":
            shop.apply([Decision("assign", name, fields={"split": draw.choice(["train", "test"])})])
        elif kind == "output":
            shop.apply([edit(name, output=draw.choice(texts))])
        elif kind == "edit":
            shop.apply([edit(name, instruction=f"Say {draw.random()}.", input=None)])
        elif kind == "add":
            line = {"id": f"new-{number}", "instruction": "Add.", "output": draw.choice(texts), "category": "extract"}
            shop.apply([Decision("add", line["id"], fields={"record": line})])
        else:
            shop.undo()


def as_decided(messy, shop, folder):
    """Make a workspace whose lines say what was decided, and return its book's findings."""
    (folder / "data").mkdir(parents=True)
    shutil.copy(messy.root / "curate.toml", folder / "curate.toml")
    states = {state.record.source.line: state for state in shop.decided() if state.record.source.file == "data/a.jsonl"}
    lines = []
    for number, raw in enumerate((messy.root / "data/a.jsonl").read_bytes().split(b"\n")[:-1], start=1):
        state = states.get(number)
        if state is None:
            lines.append(raw)
        elif state.dropped is None:
            mark = b"\xef\xbb\xbf" if number == 1 else b""
            lines.append(mark + json.dumps(line_of(state.record)).encode())
    (folder / "data/a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    added = [state for state in shop.decided() if state.record.source.file != "data/a.jsonl" and state.dropped is None]
    (folder / "data/b.jsonl").write_text("".join(json.dumps(line_of(one.record)) + "\n" for one in added) or " ")
    with open_workshop(folder, "bo") as other:
        other.load()
        return book_of(other).search()


def alike(statuses):
    """Two lines are called sd-0002; which of them gets a number after it depends on whether the other is there."""
    found = {}
    for name, severity in statuses.items():
        name = "sd-0002" if name.startswith("sd-0002") else name
        found[name] = min(found.get(name, severity), severity, key=_rank)
    return found


def line_of(record):
    more = {"split": record.split} if record.split else {}
    labels = {"labels": dict(record.labels)} if record.labels else {}
    return {**record.data, "category": record.category, **more, **labels}


@pytest.mark.parametrize("seed", range(6))
def test_decided_records_are_judged_as_if_their_lines_said_so(messy, shop, tmp_path, seed):
    decide(shop, random.Random(seed), 40)
    expected = as_decided(messy, shop, tmp_path / "as-decided")
    found = book_of(shop).search()
    # Blank lines and a byte order mark go with lines that are left out.
    gone = {"S118", "S119", "S120", "S121"}
    assert {key: n for key, n in tally(found, "record", "whole", "line").items() if key[1] not in gone} == {
        key: n for key, n in tally(expected, "record", "whole", "line").items() if key[1] not in gone
    }
    assert alike(found.statuses()) == alike(expected.statuses())
    assert found.num_records == expected.num_records


@pytest.mark.parametrize("seed", range(6))
def test_what_is_followed_record_by_record_is_what_a_new_search_finds(shop, seed):
    book = book_of(shop)
    book.search()
    decide(shop, random.Random(100 + seed), 40)
    assert book.num_stale > 0
    book.catch_up()
    followed = tally(book.found, "record", "decision")
    shown = {
        (f.code, f.record, f.pointer) for group in book.found.groups for f in group.shown if group.level == "record"
    }
    statuses = {name for name, severity in book.statuses().items() if severity == "error"}
    anew = book.search()
    assert followed == tally(anew, "record", "decision")
    assert shown == {(f.code, f.record, f.pointer) for g in anew.groups for f in g.shown if g.level == "record"}
    assert statuses >= {name for name, severity in anew.statuses().items() if severity == "error"}
    assert book.num_stale == 0


def test_an_undo_brings_back_what_was_found_before(shop):
    book = book_of(shop)
    book.search()
    before, statuses = tally(book.found), book.statuses()
    for name in ("messy-01", "messy-08", "sd-0002"):
        shop.apply([Decision("drop", name, fields={"reason": "so"})])
        shop.apply([edit("messy-10", output="Something else.")])
        book.catch_up()
    assert tally(book.found) != before
    while shop.undo():
        book.catch_up()
    assert tally(book.found) == before
    assert book.statuses() == statuses
    assert sum(len(group.shown) for group in book.found.groups) == sum(group.count for group in book.found.groups)


def test_records_that_share_an_id_are_told_apart(make_workspace):
    line = {"instruction": "What is this?", "output": ""}
    workspace = make_workspace([line, line | {"output": "A cat."}, line, {"id": "x-7", **line}])
    with open_workshop(workspace.root, "ana") as shop:
        shop.load()
        names = list(shop.catalog.frame(["id"])["id"])
        assert names[2] == f"{names[0]}-2"
        book = book_of(shop)
        book.search()
        assert {name for name, severity in book.statuses().items() if severity == "error"} == {
            names[0], names[2], "x-7",
        }  # fmt: skip
        shop.apply([edit(names[2], output="A dog.")])
        book.catch_up()
        after = {name for name, severity in book.statuses().items() if severity == "error"}
        assert after == {names[0], "x-7"}
        book.search()
        assert {name for name, severity in book.statuses().items() if severity == "error"} == after


def test_a_search_is_stopped_from_another_thread(shop, monkeypatch):
    book = book_of(shop)

    def stop_soon(_):
        book.stop()

    monkeypatch.setattr("curate.workshop.problems.search.default_jobs", lambda files: 1)
    threading.Timer(0.05, book.stop).start()
    with pytest.raises(CurateError, match="was stopped"):
        book.search(stop_soon)
    assert not book.is_searching
    assert book.search().num_records


def test_two_who_search_at_once_get_what_one_search_finds(shop, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    begun = []
    run = Child.run
    monkeypatch.setattr(Child, "run", lambda self, *asked: begun.append(1) or run(self, *asked))
    with ThreadPoolExecutor(3) as pool:
        found = [one.result() for one in [pool.submit(book_of(shop).search) for _ in range(3)]]
    assert len({id(one) for one in found}) == len(begun) <= 2
    (shop.root / "curate.toml").write_text("nonsense")
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(book_of(shop).search) for _ in range(2)]:
            with pytest.raises(CurateError) as caught:
                one.result()
            assert caught.value.code == "E902 bad-settings"
    assert not book_of(shop).is_searching


def test_a_reload_during_a_search_judges_nobody_and_begins_it_again(shop, monkeypatch):
    begun = []
    run = Child.run

    def reload_first(self, *asked):
        found = run(self, *asked)
        begun.append(shop.catalog)
        if len(begun) == 1:
            shop.reload()
        return found

    monkeypatch.setattr(Child, "run", reload_first)
    found = book_of(shop).search()
    assert [catalog is shop.catalog for catalog in begun] == [False, True]
    assert book_of(shop).found is found
    told = {shop.catalog.row(number).status for number in range(shop.catalog.num_rows)}
    assert "error" in told
    shop.reload()
    # What comes late from the search before must not make records of the new catalogue "ok".
    book_of(shop).catch_up(["messy-01"])
    assert not shop.catalog.is_judged


def test_a_process_that_is_killed_is_told(shop, monkeypatch):
    monkeypatch.setattr("curate.workshop.problems.search.sys.executable", "/bin/false")
    with pytest.raises(CurateError, match="ended with code 1"):
        Child().run("search", Job(shop.root))


def test_settings_that_cannot_be_used_are_told_as_they_are(shop):
    with (shop.root / "curate.toml").open("a") as file:
        file.write('[checks]\nignore = ["Q999"]\n')
    with pytest.raises(CurateError, match="no check 'Q999'") as caught:
        book_of(shop).search()
    assert caught.value.code == "E902 bad-settings"


def finding_of(book, code, record=""):
    return next(f for g in book.found.groups for f in g.shown if f.code == code and record in (f.record, ""))


def test_an_excerpt_points_at_the_value_and_hides_secrets(shop):
    book = book_of(shop)
    book.search()
    finding = finding_of(book, "X702", "messy-18")
    found = book.excerpt(finding)
    raw = (shop.root / "data/a.jsonl").read_bytes().split(b"\n")[finding.line - 1]
    assert found.column == locate(raw, finding.pointer) == finding.column
    (row,) = [row for row in found.rows if row.line == finding.line]
    assert row.text[: found.mark] == raw[: found.column - 1].decode()
    assert [one.line for one in found.rows] == list(range(finding.line - 2, finding.line + 2))
    secret = json.loads(raw)["output"].split("AKIA")[1][:16]
    assert secret not in row.text
    assert "AK···" in row.text


def test_an_excerpt_of_a_decided_record_is_what_was_decided(shop):
    book = book_of(shop)
    book.search()
    shop.apply([edit("messy-01", instruction="Say yes, é.", output=" ")])
    book.catch_up()
    found = book.excerpt(finding_of(book, "Q201", "messy-01"))
    assert found.is_decided
    (row,) = [row for row in found.rows if row.line == found.line]
    assert "Say yes, é." in row.text
    assert row.text[found.mark :].startswith('" "')
    shop.apply([Decision("label", "messy-02", fields={"question": "quality", "value": "bad"})])
    book.catch_up()
    assert not book.excerpt(finding_of(book, "Q201", "messy-02")).is_decided


def test_an_excerpt_of_a_line_that_is_no_json_has_its_column(shop):
    book = book_of(shop)
    book.search()
    finding = finding_of(book, "S101")
    assert book.excerpt(finding).column == finding.column > 0
    mark = finding_of(book, "S118")
    assert book.excerpt(mark).rows


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 5000])
def test_lines_are_found_by_number(tmp_path, count):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b"%d%b\n" % (number, b"x" * (number % 700)) for number in range(1, count + 1)) + b"tail")
    lines = Lines(path)
    draw = random.Random(count)
    for number in [1, count, count + 1, *(draw.randrange(1, count + 1) for _ in range(40))]:
        found = lines.read(number - 1, number + 1)
        for one, raw in found.items():
            assert raw == (b"tail" if one == count + 1 else b"%d%b" % (one, b"x" * (one % 700)))
        assert set(found) == {one for one in (number - 1, number, number + 1) if 1 <= one <= count + 1}
    assert lines.read(count + 2, count + 9) == {}
    path.unlink()
    assert Lines(path).read(1, 2) == {}


def test_a_line_that_is_too_long_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("curate.workshop.problems.excerpt._MOST_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\n" + b"y" * 5000 + b"\nthree\n")
    assert Lines(path).read(1, 3) == {1: b"one", 3: b"three"}


def test_a_fix_is_an_edit_that_undo_takes_back(shop):
    book = book_of(shop)
    book.search()
    finding = finding_of(book, "Q205", "messy-08")
    mending = book.mending(finding)
    assert mending.fixes == ("mojibake",)
    assert set(mending.changes) == {"output"}
    raw = (shop.root / "data/a.jsonl").read_bytes()
    assert book.mend([mending]).num_mended == 1
    book.catch_up()
    assert "messy-08" not in {f.record for g in book.found.groups for f in g.shown if f.code == "Q205"}
    assert (shop.root / "data/a.jsonl").read_bytes() == raw
    shop.undo()
    book.catch_up()
    assert finding_of(book, "Q205", "messy-08")
    # What changed meanwhile is not written over.
    shop.apply([edit("messy-08", output="Something else.")])
    assert (book.mend([mending]).num_mended, book.mend([mending]).num_changed) == (0, 1)
    assert shop.state("messy-08").record.completion == "Something else."


def test_a_fix_that_can_change_the_meaning_is_made_only_when_asked_for(shop):
    book = book_of(shop)
    book.search()
    finding = finding_of(book, "X703", "messy-21")
    assert book.mending(finding) is None
    assert book.mending(finding, unsafe=True).fixes == ("controls",)


def test_all_safe_fixes_are_those_of_the_command(messy, shop, tmp_path):
    from curate.fix import fix_file

    shutil.copy(messy.root / "data/a.jsonl", tmp_path / "mended.jsonl")
    with (messy.root / "data/a.jsonl").open("a") as file:
        file.write(json.dumps({"id": "trim-1", "instruction": "Hi. \n", "output": "cafe\u0301 ", "category": "answer"}))
    shutil.copy(messy.root / "data/a.jsonl", tmp_path / "mended.jsonl")
    fixed = fix_file(tmp_path / "mended.jsonl", messy.shape, root=tmp_path)
    fixed.write()
    with open_workshop(messy.root, "ana") as again:
        again.load()
        book = book_of(again)
        found = book.mendings()
        texts = {name: number for name, number in fixed.counts.items() if name in ("trim", "nfc", "mojibake")}
        assert dict(found.counts) == texts
        assert found.num_found == len(found.found) > 1
        book.mend(found.found)
        lines = [json.loads(raw) for raw in (tmp_path / "mended.jsonl").read_bytes().splitlines() if raw[:1] == b"{"
                 and b'"id": "trim-1"' in raw]  # fmt: skip
        assert dict(again.state("trim-1").record.data) == lines[0]
        assert book.mendings().num_found == 0
        assert again.undo() is not None
        assert book.mendings().num_found == found.num_found


def test_one_record_asks_to_be_excused(shop):
    book = book_of(shop)
    book.search()
    number = book.found.count("error")
    book.ignore(finding_of(book, "Q201", "messy-01"))
    book.catch_up()
    assert shop.state("messy-01").record.data["x-ignore"] == ["Q201"]
    assert book.found.count("error") == number - 1
    shop.undo()
    book.catch_up()
    assert book.found.count("error") == number
    for code in ("S101", "S118"):
        with pytest.raises(CurateError, match="cannot be ignored"):
            book.ignore(finding_of(book, code))


def test_a_baseline_is_that_of_the_command(messy, shop, capsys):
    from curate.cli import cli

    book = book_of(shop)
    with pytest.raises(CurateError, match="names no baseline"):
        book.write_baseline()
    settings = (messy.root / "curate.toml").read_text()
    (messy.root / "curate.toml").write_text(f'{settings}\n[checks]\nbaseline = "base.json"\n')
    with open_workshop(messy.root, "ana") as again:
        again.load()
        book = book_of(again)
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


def test_a_list_opens_closes_and_is_filtered(shop):
    found = book_of(shop).search()
    rows = listed(found)
    headings = [row for row in rows if isinstance(row, Heading)]
    assert [heading.severity for heading in headings] == sorted((h.severity for h in headings), key=_rank)
    assert sum(heading.count for heading in headings) == sum(group.count for group in found.groups)
    assert len([row for row in rows if isinstance(row, Item)]) == sum(heading.num_kept for heading in headings)
    closed = listed(found, closed={heading.key for heading in headings})
    assert closed == [replace(heading, is_open=False) for heading in headings]
    only = listed(found, text="ALICE@", severities=("error", "warning"))
    assert all("alice@" in row.finding.message.casefold() for row in only if isinstance(row, Item))
    some = listed(found, text="messy-18")
    assert {row.finding.record for row in some if isinstance(row, Item)} == {"messy-18"}
    assert all(heading.num_matching >= 1 for heading in some if isinstance(heading, Heading))
    by_file = [row for row in listed(found, by="file") if isinstance(row, Heading)]
    assert [(heading.title, heading.severity) for heading in by_file] == [
        ("all records", "warning"), ("data/a.jsonl", "error"),
    ]  # fmt: skip
    assert listed(found, severities=()) == []


def test_the_command_for_a_build_is_one(messy, shop, capsys):
    from curate.cli import cli

    words = book_of(shop).ci_command().split()
    assert words[0] == "curate"
    assert cli.main(words[1:], standalone_mode=False) == 1
    assert "::error" in capsys.readouterr().out
