"""The catalogue holds what the workspace holds, is kept on the disk, and follows decisions."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.journal import Decision
from curate.record import CurateError, Finding, Record, Source
from curate.validate.pool import shared_out
from curate.workshop.catalog import Catalog, kept, open_catalog, pieces
from curate.workshop.catalog.columns import HEAD, estimated_tokens, head, values_of
from curate.workshop.catalog.written import named_apart
from curate.workshop.filters import parse_filter
from curate.workspace import State, Workspace, open_workspace, told_apart

QUESTIONS = (
    "", "refund", "-refund", '"Refund"', "/item [0-9]$/", "category:billing", "-has:category", "tokens:>9", "id:r*",
    "label.quality:good", "status:dropped", "status:ok", "split:test", "file:*b.jsonl", "line:2..4", "source:faq",
    'category:billing|returns tokens:<30 -"two"',
)  # fmt: skip


def line(number: int, **more: Any) -> dict[str, Any]:
    words = "two words" if number % 2 else "Refund"
    return {"id": f"r{number:03}", "instruction": f"{words} of item {number}", "output": f"answer {number}", **more}


LINES = [
    line(0, category="billing", labels={"quality": "good"}, split="test"),
    line(1, category="returns", meta={"source": "faq"}),
    line(2, category="billing", labels={"quality": None, "tags": ["a", "b"]}),
    {"instruction": "x" * (HEAD + 1), "output": "é" * 99},
    {"instruction": "x" * (HEAD + 1), "output": "é" * 99},
    line(2, category="Again"),
]


@pytest.fixture
def workspace(make_workspace) -> Workspace:
    """A workspace of two files with repeated ids and lines that are no records."""
    made = make_workspace(LINES)
    second = [line(2), line(7, category="billing"), {"id": "r002-2", "instruction": "odd", "output": ""}]
    text = "\n".join(["nonsense", "", *(json.dumps(one) for one in second), '{"id": 5}'])
    (made.root / "data" / "b.jsonl").write_text(f"{text}\r\n", encoding="utf-8")
    age(made.root)
    return open_workspace(made.root)


def age(root: Path) -> None:
    """Make the record files old enough to be kept at once."""
    for path in (root / "data").iterdir():
        os.utime(path, ns=(10**18, 10**18))


def told(catalog: Catalog) -> list[Any]:
    """Return all that a catalogue says."""
    rows = catalog.rows(catalog.select(parse_filter("")))
    found = [catalog.select(parse_filter(text)).to_list() for text in QUESTIONS]
    return [rows, found, catalog.findings, catalog.counts, catalog.num_unread, [catalog.read(row.id) for row in rows]]


def kept_folders(workspace: Workspace) -> list[Path]:
    return sorted((workspace.root / ".curate" / "cache" / "catalog").glob("*"))


def no_reading(*_: object) -> None:
    pytest.fail("the record files were read again")


def check(catalog: Catalog, workspace: Workspace) -> None:
    """Hold a catalogue against the workspace, which reads the files by other means."""
    states = workspace.states()
    assert len(catalog) == len(states)
    every = catalog.select(parse_filter(""))
    for row, state in zip(catalog.rows(every), states, strict=True):
        values = values_of(state.record, state.answers)
        assert (row.id, row.status) == (state.record.id, "ok" if state.dropped is None else "dropped")
        assert (row.prompt, row.completion) == (head(values.prompt), head(values.completion))
        for name in ("file", "line", "category", "split", "source", "kind", "tokens"):
            assert getattr(row, name) == getattr(values, name)
        assert list(row.labels) == list(values.labels)
    for text in QUESTIONS:
        where = parse_filter(text)
        rows = catalog.select(where)
        assert rows.dtype == pl.UInt32
        through = [state for state, is_in in zip(states, where.lets_through(states), strict=True) if is_in]
        assert [catalog.name(row) for row in rows] == [state.record.id for state in through]


# What the lines say.


@pytest.mark.parametrize("kept_from", [0, 10**9])
def test_it_holds_what_the_workspace_holds(workspace, kept_from):
    catalog = open_catalog(workspace, kept_from=kept_from)
    check(catalog, workspace)
    assert [catalog.name(row) for row in range(9)] == [state.record.id for state in workspace.states()]
    assert [state.record.id for state in workspace.states()][-3:] == ["r002-3", "r007", "r002-2-2"]
    assert not catalog.remarks


def test_it_finds_records_and_reads_their_lines_again(workspace):
    catalog = open_catalog(workspace)
    for row, state in enumerate(workspace.states()):
        assert catalog.find(state.record.id) == row
        assert catalog.read(state.record.id) == state.record
    assert catalog.find("r002-9") is None
    assert catalog.read("") is None


def test_records_are_found_where_hashes_are_the_same(workspace, monkeypatch):
    monkeypatch.setattr("curate.workshop.catalog.written.hashes_of", lambda names: np.zeros(len(names), np.uint64))
    catalog = open_catalog(workspace)
    check(catalog, workspace)
    names = [state.record.id for state in workspace.states()]
    assert [catalog.find(name) for name in names] == list(range(9))
    assert catalog.find("no") is None
    catalog.judge({"r007": "error", "no": "error"})
    assert [row.status for row in catalog.rows(range(9))] == ["ok"] * 7 + ["error", "ok"]


def test_lines_that_are_no_records_are_findings(workspace):
    catalog = open_catalog(workspace)
    found = workspace.findings()
    assert sorted(catalog.findings, key=str) == sorted(found, key=str)
    assert catalog.counts == Counter(finding.code for finding in found)
    assert catalog.num_unread == 3


def test_findings_beyond_the_first_are_counted(make_workspace, monkeypatch):
    monkeypatch.setattr("curate.workshop.catalog.pieces.MOST_FINDINGS", 2)
    monkeypatch.setattr("curate.workshop.catalog.written.MOST_FINDINGS", 2)
    made = make_workspace([{"id": str(number)} for number in range(9)])
    catalog = open_catalog(made)
    assert len(catalog) == 0
    assert catalog.counts == {"S102": 18}
    assert len(catalog.findings) == 2
    assert catalog.num_unread == 9
    assert catalog.select(parse_filter("x category:y id:z status:ok")).to_list() == []
    assert catalog.frame(["id", "status", "prompt"]).height == 0


@given(st.lists(st.sampled_from(["a", "a-2", "a-3", "a-2-2", "b", "", "é"]), max_size=30))
@settings(max_examples=200, deadline=None)
def test_names_are_those_of_the_workspace(names):
    records = [Record(name, "domain", Source("f", 1), {}) for name in names]
    ids, hashes, order = named_apart(pl.Series(names, dtype=pl.String))
    assert ids.to_list() == [record.id for record in told_apart(records)]
    assert sorted(order.tolist()) == list(range(len(names)))
    assert (hashes[1:] > hashes[:-1]).all()


def test_tokens_are_a_quarter_of_the_bytes():
    record = Record("a", "chat", Source("f", 1), {}, "abcd", "é", "x", text="")
    assert estimated_tokens(record) == 2
    assert estimated_tokens(replace(record, prompt="", completion="", system="")) == 0


def test_several_processes_find_the_same(make_workspace, monkeypatch):
    lines = [line(number % 500, category="billing" if number % 3 else "") for number in range(700)]
    made = make_workspace([*lines, {"id": "bad"}, *lines])
    alone = told(open_catalog(made))
    monkeypatch.setattr("curate.workshop.catalog.pieces.default_jobs", lambda _: 2)
    monkeypatch.setattr("curate.validate.parallel._SPAN_BYTES", 9_000)
    heard: list[tuple[int, int]] = []
    shared = open_catalog(made, lambda *seen: heard.append(seen))
    assert told(shared) == alone
    assert len(heard) > 5
    assert heard[-1] == (heard[-1][1],) * 2
    assert heard == sorted(heard)


def test_whoever_stops_listening_ends_the_processes(make_workspace, monkeypatch):
    monkeypatch.setattr("curate.workshop.catalog.pieces.default_jobs", lambda _: 2)
    monkeypatch.setattr("curate.validate.parallel._SPAN_BYTES", 9_000)
    made = make_workspace([line(number) for number in range(2000)])

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_catalog(made, stop, kept_from=0)
    assert kept_folders(made) == []
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_told():
    with pytest.raises(CurateError) as caught:
        list(shared_out([3], os._exit, dict, (), 1))
    assert caught.value.code == "E970 worker-lost"


# What is kept on the disk.


def test_the_second_opening_reads_no_record_file(workspace, monkeypatch):
    first = told(open_catalog(workspace, kept_from=0))
    (folder,) = kept_folders(workspace)
    assert (workspace.root / ".curate" / ".gitignore").read_text(encoding="utf-8").endswith("*\n")
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "piece_of", no_reading)
        again = open_catalog(open_workspace(workspace.root), kept_from=0)
        assert told(again) == first
    assert kept_folders(workspace) == [folder]


def test_small_data_are_not_kept(workspace):
    open_catalog(workspace)
    assert not (workspace.root / ".curate").exists()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def swap(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[::-1])


@pytest.mark.parametrize("harm", [flip, cut, swap, Path.unlink])
def test_what_was_harmed_is_made_again(workspace, harm):
    first = told(open_catalog(workspace, kept_from=0))
    names = sorted(path.name for path in kept_folders(workspace)[0].iterdir())
    assert len(names) == 8
    for name in names:
        (folder,) = kept_folders(workspace)
        harm(folder / name)
        assert told(open_catalog(workspace, kept_from=0)) == first
    assert kept_folders(workspace) == [folder]


def test_what_somebody_else_made_is_not_believed(workspace, tmp_path, monkeypatch):
    first = told(open_catalog(workspace, kept_from=0))
    (folder,) = kept_folders(workspace)
    # As unpacking an archive would: all bytes and times are the same.
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy2)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder, copy_function=shutil.copy2)
    read = []
    monkeypatch.setattr(pieces, "piece_of", lambda *args, real=pieces.piece_of: read.append(args) or real(*args))
    assert told(open_catalog(workspace, kept_from=0)) == first
    assert read


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_a_cache_that_is_harmed_while_it_is_in_use_is_made_again(workspace, harm):
    catalog = open_catalog(workspace, kept_from=0)
    first = told(catalog)
    (folder,) = kept_folders(workspace)
    harm(next(folder.glob("texts-*")))
    assert told(catalog) == first
    assert kept_folders(workspace) == [folder]
    shutil.rmtree(workspace.root / ".curate")
    assert told(catalog) == first


def test_changed_files_are_read_anew_and_old_catalogues_go(workspace):
    path = workspace.root / "data" / "a.jsonl"
    open_catalog(workspace, kept_from=0)
    seen = []
    for number in range(3):
        path.write_text(path.read_text(encoding="utf-8") + json.dumps(line(50 + number)) + "\n", encoding="utf-8")
        age(workspace.root)
        workspace = open_workspace(workspace.root)
        seen.append(open_catalog(workspace, kept_from=0))
        check(seen[-1], workspace)
    # Those that are open stay, however old they are.
    assert len(kept_folders(workspace)) == 4 - 1
    del seen[:-1]
    path.write_text(path.read_text(encoding="utf-8") + json.dumps(line(60)) + "\n", encoding="utf-8")
    open_catalog(open_workspace(workspace.root), kept_from=0)
    assert len(kept_folders(workspace)) == 2


def test_another_schema_gives_another_catalogue(make_workspace):
    made = make_workspace([{"question": "why", "answer": "so"}])
    (made.root / "curate.toml").write_text('schema = "own.json"\n', encoding="utf-8")
    age(made.root)
    prompts = []
    for prompt, completion in (("question", "answer"), ("answer", "question")):
        schema = {"x-record": {"prompt": f"/{prompt}", "completion": f"/{completion}"}}
        (made.root / "own.json").write_text(json.dumps(schema), encoding="utf-8")
        prompts.append(open_catalog(open_workspace(made.root), kept_from=0).row(0).prompt)
    assert prompts == ["why", "so"]


def test_a_line_of_a_changed_file_is_refused(workspace):
    catalog = open_catalog(workspace)
    assert catalog.is_current()
    assert catalog.read("r001")
    path = workspace.root / "data" / "a.jsonl"
    path.write_bytes(path.read_bytes().replace(b"item 1", b"item 9"))
    for _ in range(2):
        with pytest.raises(CurateError) as caught:
            catalog.read("r001")
        assert caught.value.code == "E974 files-changed"
    assert catalog.read("r007")
    path.unlink()
    with pytest.raises(CurateError, match=r"a\.jsonl was changed"):
        catalog.read("r001")
    assert not catalog.is_current()


def test_files_that_keep_changing_are_told(workspace, monkeypatch):
    path = workspace.root / "data" / "a.jsonl"

    def grown(*args: Any, real: Any = pieces.piece_of) -> Any:
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        return real(*args)

    monkeypatch.setattr(pieces, "piece_of", grown)
    with pytest.raises(CurateError) as caught:
        open_catalog(workspace)
    assert caught.value.code == "E974 files-changed"


def test_where_nothing_can_be_written_it_is_in_memory(workspace, monkeypatch):
    def full(*_: object) -> None:
        raise CurateError("E906 write-failed", "No space left on device")

    monkeypatch.setattr("curate.store.Scratch.append", full)
    catalog = open_catalog(workspace, kept_from=0)
    assert catalog.remarks == ["the catalogue is not kept: No space left on device"]
    assert kept_folders(workspace) == []
    check(catalog, workspace)


def test_caches_elsewhere_are_refused(workspace, tmp_path):
    (tmp_path / "other").mkdir()
    (workspace.root / ".curate").symlink_to(tmp_path / "other")
    with pytest.raises(CurateError) as caught:
        open_catalog(workspace, kept_from=0)
    assert caught.value.code == "E914 outside-workspace"


def test_a_file_written_this_moment_is_waited_for(workspace, monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(kept.time, "sleep", waited.append)
    (workspace.root / "data" / "a.jsonl").touch()
    open_catalog(workspace, kept_from=0)
    assert waited == [0.1]


# What decisions make of it.


def decided(workspace: Workspace, *decisions: Decision) -> Workspace:
    return workspace.apply(decisions, by="ana")


def test_it_follows_decisions(workspace):
    catalog = open_catalog(workspace)
    after = decided(
        workspace,
        Decision("drop", "r000", fields={"reason": "asked"}),
        Decision("edit", "r001", fields={"changes": {"output": "Refund", "category": None}}),
        Decision("label", "r007", fields={"question": "quality", "value": "good"}),
        Decision("assign", "r007", fields={"split": "test"}),
        Decision("add", "new", fields={"record": line(99, category="billing")}),
    )
    states = {state.record.id: state for state in after.states()}
    catalog.update({name: states[name] for name in ("r000", "r001", "r007", "new")})
    check(catalog, after)
    assert catalog.find("new") == 9
    assert catalog.read("new") is None
    assert catalog.row(0).status == "dropped"
    # Taken back, as undo does.
    before = {state.record.id: state for state in workspace.states()}
    catalog.update({name: before.get(name) for name in ("r000", "r001", "r007", "new")})
    check(catalog, workspace)
    assert catalog.find("new") is None
    catalog.update({"new": states["new"], "nowhere": None})
    assert len(catalog) == 10
    assert catalog.name(9) == "new"


def test_many_decisions_are_no_other_than_few(make_workspace):
    made = make_workspace([line(number, category="billing") for number in range(700)])
    catalog = open_catalog(made)
    states = made.states()
    for number, state in enumerate(states):
        catalog.update({state.record.id: replace(state, dropped="asked" if number % 2 else None)})
        if number % 300 == 0:
            catalog.select(parse_filter("status:dropped"))
    catalog.update({"r001": states[1]})
    assert len(catalog.select(parse_filter("status:dropped"))) == 349
    added = [replace(states[0], record=replace(states[0].record, id=f"n{number}")) for number in range(1500)]
    catalog.update({state.record.id: state for state in added})
    catalog.judge({"n1499": "error", "r003": "error", "r004": "warning"})
    assert len(catalog) == 2200
    assert [catalog.name(row) for row in catalog.select(parse_filter("status:error"))] == ["n1499"]
    assert [catalog.name(row) for row in catalog.select(parse_filter("status:warning"))] == ["r004"]


acts = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from(["drop", "edit", "label", "split", "back", "none"])), max_size=12
)


@given(acts, st.sampled_from([*QUESTIONS, "refund label.bo:*", "status:dropped -answer"]))
@settings(max_examples=100, deadline=None)
def test_base_and_patch_mean_the_same_as_states(shared_workspace, done, text):
    catalog = open_catalog(shared_workspace)
    states = {state.record.id: state for state in shared_workspace.states()}
    names = [*states, "new"]
    base = dict(states)
    for number, act in done:
        name = names[number % len(names)]
        old = states.get(name) or State(Record(name, "chat", Source("journal of bo", 1), {}, "Refund", "answer"))
        new = {
            "drop": replace(old, dropped="x"),
            "edit": replace(old, record=replace(old.record, prompt="refund x", category="billing")),
            "label": replace(old, answers={"quality": {"bo": "good"}}),
            "split": replace(old, record=replace(old.record, split="test")),
            "back": base.get(name),
            "none": base.get(name),
        }[act]
        catalog.update({name: new})
        if new:
            states[name] = new
        else:
            states.pop(name, None)
    where = parse_filter(text)
    through = where.lets_through(list(states.values()))
    expected = {state.record.id for state, is_in in zip(states.values(), through, strict=True) if is_in}
    assert {catalog.name(row) for row in catalog.select(where)} == expected
    assert len(catalog) == len(states)


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory) -> Workspace:
    """A workspace that no test changes."""
    root = tmp_path_factory.mktemp("shared")
    (root / "data").mkdir()
    (root / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    (root / "data" / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in LINES), encoding="utf-8")
    return open_workspace(root)


def test_what_changed_leaves_the_rows_that_were_shown_or_joins_them(workspace):
    catalog = open_catalog(workspace)
    where = parse_filter("category:billing -status:dropped")
    rows = catalog.order(catalog.select(where), "id", is_descending=True)
    assert [catalog.name(row) for row in rows] == ["r007", "r002", "r000"]
    states = {state.record.id: state for state in workspace.states()}
    billed = replace(states["r001"].record, category="billing")
    added = State(replace(billed, id="new"))
    changes = {"r002": replace(states["r002"], dropped="x"), "r001": State(billed), "new": added, "no": None}
    catalog.update(changes)
    names = [*changes, "r007", "nowhere"]
    assert [catalog.name(row) for row in catalog.renew(rows, where, names)] == ["r007", "r000", "r001", "new"]
    assert sorted(catalog.renew(rows, where, names)) == catalog.select(where).to_list()
    catalog.update({"r002": states["r002"], "new": None})
    again = catalog.renew(pl.Series([7, 0, 9], dtype=pl.UInt32), where, ["r002", "new"])
    assert [catalog.name(row) for row in again] == ["r007", "r000", "r002"]
    assert catalog.renew(rows.clear(), where, []).to_list() == []


def finding(severity: str, file: str = "", line: int = 0, record: str = "") -> Finding:
    return Finding("Q204", "too-long", severity, "m", file, line, record=record)  # type: ignore[arg-type]


def test_findings_give_the_status(workspace):
    catalog = open_catalog(workspace)
    catalog.update({"r007": State(next(iter(workspace.records())), dropped="asked")})
    catalog.update({"new": State(Record("new", "chat", Source("journal of ana", 4), {}))})
    path = str(workspace.root / "data" / "b.jsonl")
    found = [
        finding("warning", "data/a.jsonl", 1), finding("error", "data/a.jsonl", 1), finding("info", "data/a.jsonl", 2),
        finding("warning", path, 3, "r002"), finding("error", path, 1, "r001"), finding("error", path, 4, "r007"),
        finding("warning", "", 0, "r002-2"), finding("error", "journal of ana", 4, "new"), finding("error"),
    ]  # fmt: skip
    catalog.judge_by(found)
    statuses = {row.id: row.status for row in catalog.rows(catalog.select(parse_filter("status:!ok")))}
    assert statuses == {"r000": "error", "r002-3": "warning", "r007": "dropped", "r002-2": "warning", "new": "error"}
    catalog.update({"r000": State(workspace.records()[0])})
    assert catalog.row(0).status == "error"
    catalog.judge({"r001": "warning", "gone": "error"})
    assert [catalog.name(row) for row in catalog.select(parse_filter("status:warning|error"))] == ["r001"]


def test_a_real_validation_gives_the_status(workspace):
    catalog = open_catalog(workspace)
    verdict = workspace.verdict()
    catalog.judge_by(verdict.findings)
    told_of = {(one.file.rsplit("/", 1)[-1], one.line) for one in verdict.findings if one.severity != "info"}
    for row in catalog.rows(catalog.select(parse_filter(""))):
        assert (row.status == "ok") == ((row.file.rsplit("/", 1)[-1], row.line) not in told_of)


def test_the_last_dataset_says_the_split(workspace):
    catalog = open_catalog(workspace)
    catalog.pin({"r001": "test", "r000": "train", "new": "validation"})
    catalog.update({"new": State(Record("new", "chat", Source("journal of ana", 1), {}, "a", "b"))})
    assert [catalog.name(row) for row in catalog.select(parse_filter("split:test"))] == ["r001"]
    assert [catalog.name(row) for row in catalog.select(parse_filter("has:split"))] == ["r000", "r001", "new"]
    assert [row.split for row in catalog.rows([0, 1, 2, 9])] == ["train", "test", "", "validation"]
    assert catalog.frame(["split"])["split"].to_list() == ["train", "test", *[""] * 7, "validation"]
    catalog.pin({})
    assert [catalog.name(row) for row in catalog.select(parse_filter("split:test"))] == ["r000"]


def test_rows_are_put_in_order(workspace):
    catalog = open_catalog(workspace)
    every = catalog.select(parse_filter(""))
    rows = catalog.rows(every)
    for by in ("id", "category", "split", "source", "kind", "tokens", "prompt", "completion"):
        keys = [getattr(row, by) for row in rows]
        expected = sorted(range(9), key=lambda row, keys=keys: keys[row])
        assert catalog.order(every, by).to_list() == expected
        assert sorted(keys, reverse=True) == [keys[row] for row in catalog.order(every, by, is_descending=True)]
    assert catalog.order(every, "file", is_descending=True).to_list() == list(range(9))[::-1]
    catalog.judge({"r000": "error", "r001": "warning"})
    catalog.update({"r002": replace(workspace.states()[2], dropped="asked")})
    assert catalog.order(every, "status").to_list() == [3, 4, 5, 6, 7, 8, 1, 0, 2]
    some = catalog.select(parse_filter("category:billing"))
    assert catalog.order(some, "id", is_descending=True).to_list() == some.to_list()[::-1]
    with pytest.raises(KeyError, match="colour"):
        catalog.order(every, "colour")


def test_columns_are_given_as_decisions_have_left_them(workspace):
    catalog = open_catalog(workspace)
    first, second, *_ = workspace.states()
    added = State(Record("new", "chat", Source("journal of ana", 4), {}, "hi", "ho", category="Z"))
    changed = replace(second, dropped="x", answers={"quality": {"ana": "bad"}})
    catalog.update({"r001": changed, "new": added, "never": None})
    frame = catalog.frame(["id", "category", "status", "prompt", "labels", "line"])
    rows = catalog.rows(catalog.select(parse_filter("")))
    assert frame["row"].to_list() == list(range(10))
    for name in ("id", "category", "status", "prompt"):
        assert frame[name].to_list() == [str(getattr(row, name)).rstrip("…") for row in rows]
    labels = [tuple(tuple(one.values()) for one in several) for several in frame["labels"].to_list()]
    assert labels == [row.labels for row in rows]
    some = pl.Series([9, 1], dtype=pl.UInt32)
    assert catalog.frame(["category"], some).rows() == [(9, "Z"), (1, "returns")]
    catalog.update({"new": None})
    assert catalog.frame(["id"]).height == 9
    assert first.dropped is None
