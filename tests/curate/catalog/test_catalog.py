"""The catalogue holds what the workspace holds, is kept on the disk, and follows decisions."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.base.record import CurateError, Record, Source, estimated_tokens
from curate.checks.runner import parts, table
from curate.checks.runner.pool import shared_out
from curate.project.catalog import Catalog, open_catalog
from curate.project.data import ProjectData, load_data
from curate.project.filters import parse_filter
from tests.curate.catalogs import QUESTIONS, age, check, line


def told(catalog: Catalog) -> list[Any]:
    """Return all that a catalogue says."""
    rows = catalog.rows(catalog.select(parse_filter("")))
    found = [catalog.select(parse_filter(text)).to_list() for text in QUESTIONS]
    return [rows, found, catalog.num_unread, [catalog.read(row.id) for row in rows]]


def kept_files(workspace: ProjectData) -> list[Path]:
    return sorted((workspace.root / ".curate" / "cache").glob("*"))


@pytest.fixture
def kept(monkeypatch) -> None:
    """Have also few records kept on the disk."""
    monkeypatch.setattr("curate.project.data.BLOCKS_FROM", 0)
    monkeypatch.setattr("curate.checks.runner.column_cache.SETTLED", 0)


@pytest.fixture
def blocks_read(monkeypatch) -> list[object]:
    """The blocks that were parsed."""
    read: list[object] = []
    real = parts.columns_of
    monkeypatch.setattr(parts, "columns_of", lambda *args: read.append(args[0]) or real(*args))
    return read


# What the lines say.


@pytest.mark.parametrize("kept_from", [0, 10**9])
def test_it_holds_what_the_workspace_holds(workspace, kept_from, monkeypatch):
    monkeypatch.setattr("curate.project.data.BLOCKS_FROM", kept_from)
    catalog = open_catalog(workspace)
    check(catalog, workspace)
    assert [catalog.name(row) for row in range(9)] == [state.record.id for state in workspace.states()]
    assert [state.record.id for state in workspace.states()][-3:] == ["r002-3", "r007", "r002-2-2"]
    assert not catalog.remarks


def test_it_finds_records_and_reads_their_lines_again(workspace):
    catalog = open_catalog(workspace)
    assert catalog.num_unread == 3
    for row, state in enumerate(workspace.states()):
        assert catalog.find(state.record.id) == row
        assert catalog.read(state.record.id) == state.record
    assert catalog.find("r002-9") is None
    assert catalog.read("") is None


def test_records_are_found_where_hashes_are_the_same(workspace, monkeypatch):
    monkeypatch.setattr(table, "_hashes_of", lambda names: np.zeros(len(names), np.uint64))
    catalog = open_catalog(workspace)
    check(catalog, workspace)
    names = [state.record.id for state in workspace.states()]
    assert [catalog.find(name) for name in names] == list(range(9))
    assert catalog.find("no") is None
    catalog.judge({"r007": "error", "no": "error"})
    assert [row.status for row in catalog.rows(range(9))] == ["ok"] * 7 + ["error", "ok"]


def test_lines_that_are_no_records_are_counted(make_workspace):
    catalog = open_catalog(make_workspace([{"id": str(number)} for number in range(9)]))
    assert len(catalog) == 0
    assert catalog.num_unread == 9
    assert catalog.select(parse_filter("x category:y id:z status:ok")).to_list() == []
    assert catalog.frame(["id", "status", "prompt"]).height == 0


def test_tokens_are_a_quarter_of_the_bytes():
    record = Record("a", "chat", Source("f", 1), {}, "abcd", "é", "x", text="")
    assert estimated_tokens(record) == 2
    assert estimated_tokens(replace(record, prompt="", completion="", system="")) == 0


@pytest.mark.ci
def test_several_processes_find_the_same(make_workspace, kept, monkeypatch):
    lines = [line(number % 500, category="billing" if number % 3 else "") for number in range(700)]
    made = make_workspace([*lines, {"id": "bad"}, *lines])
    alone = told(open_catalog(made))
    monkeypatch.setattr("curate.checks.runner.parts.default_jobs", lambda _: 2)
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 9_000)
    heard: list[tuple[int, int]] = []
    shutil.rmtree(made.root / ".curate")
    shared = open_catalog(load_data(made.root), lambda *seen: heard.append(seen))
    assert told(shared) == alone
    assert len(heard) > 3
    assert heard[-1] == (heard[-1][1],) * 2
    assert heard == sorted(heard)


@pytest.mark.ci
def test_whoever_stops_listening_ends_the_processes(make_workspace, kept, monkeypatch):
    monkeypatch.setattr("curate.checks.runner.parts.default_jobs", lambda _: 2)
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 9_000)
    made = make_workspace([line(number) for number in range(2000)])

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_catalog(made, stop)
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_told():
    with pytest.raises(CurateError) as caught:
        list(shared_out([3], os._exit, dict, (), 1))
    assert caught.value.code == "E970 worker-lost"


# What is kept on the disk.


def test_the_second_opening_reads_no_record_file(workspace, kept, blocks_read):
    first = told(open_catalog(workspace))
    files = kept_files(workspace)
    assert (workspace.root / ".curate" / ".gitignore").read_text(encoding="utf-8").endswith("*\n")
    assert len(blocks_read) > 1
    blocks_read.clear()
    assert told(open_catalog(load_data(workspace.root))) == first
    assert blocks_read == []
    assert kept_files(workspace) == files


def test_small_data_are_not_kept(workspace):
    open_catalog(workspace)
    assert not (workspace.root / ".curate").exists()


def flip(path: Path, where: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def swap(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[::-1])


@pytest.mark.ci
@pytest.mark.parametrize("harm", [*(partial(flip, where=part / 40) for part in range(40)), cut, swap, Path.unlink])
def test_what_was_harmed_is_made_again(workspace, kept, harm):
    first = told(open_catalog(workspace))
    files = kept_files(workspace)
    assert [path.suffix for path in files] == [".parquet"] * len(workspace.files())
    harm(files[0])
    assert told(open_catalog(load_data(workspace.root))) == first
    assert told(open_catalog(load_data(workspace.root))) == first
    assert kept_files(workspace) == files


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_a_cache_may_be_harmed_while_it_is_in_use(workspace, kept, harm):
    catalog = open_catalog(workspace)
    first = told(catalog)
    harm(kept_files(workspace)[0])
    assert told(catalog) == first
    shutil.rmtree(workspace.root / ".curate")
    assert told(catalog) == first


def test_files_may_say_the_same(workspace, kept):
    num_alone = len(open_catalog(workspace))
    path = workspace.root / "data" / "a.jsonl"
    path.with_name("c.jsonl").write_bytes(path.read_bytes())
    both = load_data(workspace.root)
    catalog = open_catalog(both)
    assert len(catalog) > num_alone
    for _ in range(2):
        check(catalog, both)


def test_another_schema_gives_another_catalogue(make_workspace, kept):
    made = make_workspace([{"question": "why", "answer": "so"}])
    (made.root / "curate.toml").write_text('schema = "own.json"\n', encoding="utf-8")
    age(made.root)
    prompts = []
    for prompt, completion in (("question", "answer"), ("answer", "question")):
        schema = {"x-record": {"prompt": f"/{prompt}", "completion": f"/{completion}"}}
        (made.root / "own.json").write_text(json.dumps(schema), encoding="utf-8")
        prompts.append(open_catalog(load_data(made.root)).row(0).prompt)
    assert prompts == ["why", "so"]


def test_a_line_of_a_changed_file_is_refused(workspace):
    catalog = open_catalog(workspace)
    assert workspace.states()
    assert workspace.is_current()
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
    assert not workspace.is_current()


def test_files_that_keep_changing_are_told(workspace, monkeypatch):
    path = workspace.root / "data" / "a.jsonl"
    real = parts.read_parts

    def grown(*args: Any) -> Any:
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        return real(*args)

    monkeypatch.setattr(parts, "read_parts", grown)
    with pytest.raises(CurateError) as caught:
        open_catalog(workspace)
    assert caught.value.code == "E974 files-changed"


def test_where_nothing_can_be_written_it_is_in_memory(workspace, kept, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("polars.DataFrame.write_parquet", full)
    catalog = open_catalog(workspace)
    (remark,) = catalog.remarks
    assert remark.startswith("what was read is not kept: ")
    assert remark.endswith("No space left on device")
    check(catalog, workspace)


def test_nothing_is_kept_where_the_caches_lead_elsewhere(workspace, kept, tmp_path):
    (tmp_path / "other").mkdir()
    (workspace.root / ".curate").symlink_to(tmp_path / "other")
    check(open_catalog(workspace), workspace)
    assert list((tmp_path / "other").iterdir()) == []


def test_threads_may_ask_for_the_same_texts(workspace):
    catalog = open_catalog(workspace)
    with ThreadPoolExecutor(4) as pool:
        found = [found.to_list() for found in pool.map(catalog.select, [parse_filter("item")] * 12)]
    assert found == [found[0]] * 12


def test_a_file_written_this_moment_is_read_again(workspace, kept, monkeypatch):
    monkeypatch.setattr("curate.checks.runner.column_cache.SETTLED", 10**12)
    path = workspace.root / "data" / "a.jsonl"
    path.touch()
    open_catalog(workspace)
    status = path.stat()
    # Within one tick of the clock nothing tells that the file is another.
    path.write_bytes(path.read_bytes().replace(b"item 1", b"item 9"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = load_data(workspace.root)
    check(open_catalog(changed), changed)
