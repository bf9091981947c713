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

from curate.base.record import CurateError, Record, Source
from curate.checks.runner.names import with_unique_ids
from curate.checks.runner.pool import shared_out
from curate.project.catalog import Catalog, base, base_cache, open_catalog
from curate.project.catalog.base import named_apart
from curate.project.catalog.columns import estimated_tokens
from curate.project.data import ProjectData, load_data
from curate.project.filters import parse_filter
from tests.curate.catalogs import QUESTIONS, age, check, line


def told(catalog: Catalog) -> list[Any]:
    """Return all that a catalogue says."""
    rows = catalog.rows(catalog.select(parse_filter("")))
    found = [catalog.select(parse_filter(text)).to_list() for text in QUESTIONS]
    return [rows, found, catalog.findings, catalog.counts, catalog.num_unread, [catalog.read(row.id) for row in rows]]


def kept_folders(workspace: ProjectData) -> list[Path]:
    return sorted((workspace.root / ".curate" / "cache" / "catalog").glob("*"))


def no_reading(*_: object) -> None:
    pytest.fail("the record files were read again")


# What the lines say.


@pytest.mark.parametrize("kept_from", [0, 10**9])
def test_it_holds_what_the_workspace_holds(workspace, kept_from):
    catalog = open_catalog(workspace, cache_from=kept_from)
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
    monkeypatch.setattr("curate.project.catalog.base.hashes_of", lambda names: np.zeros(len(names), np.uint64))
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
    monkeypatch.setattr("curate.project.catalog.base.MOST_FINDINGS", 2)
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
    assert ids.to_list() == [record.id for record in with_unique_ids(records)]
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
    monkeypatch.setattr("curate.project.catalog.base.default_jobs", lambda _, is_by_block: 2)
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 9_000)
    heard: list[tuple[int, int]] = []
    shared = open_catalog(made, lambda *seen: heard.append(seen))
    assert told(shared) == alone
    assert len(heard) > 5
    assert heard[-1] == (heard[-1][1],) * 2
    assert heard == sorted(heard)


def test_whoever_stops_listening_ends_the_processes(make_workspace, monkeypatch):
    monkeypatch.setattr("curate.project.catalog.base.default_jobs", lambda _, is_by_block: 2)
    monkeypatch.setattr("curate.checks.runner.parallel._SPAN_BYTES", 9_000)
    made = make_workspace([line(number) for number in range(2000)])

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_catalog(made, stop, cache_from=0)
    assert kept_folders(made) == []
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_told():
    with pytest.raises(CurateError) as caught:
        list(shared_out([3], os._exit, dict, (), 1))
    assert caught.value.code == "E970 worker-lost"


# What is kept on the disk.


def test_the_second_opening_reads_no_record_file(workspace, monkeypatch):
    first = told(open_catalog(workspace, cache_from=0))
    (folder,) = kept_folders(workspace)
    assert (workspace.root / ".curate" / ".gitignore").read_text(encoding="utf-8").endswith("*\n")
    with monkeypatch.context() as patch:
        patch.setattr(base, "piece_of", no_reading)
        again = open_catalog(load_data(workspace.root), cache_from=0)
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
    first = told(open_catalog(workspace, cache_from=0))
    names = sorted(path.name for path in kept_folders(workspace)[0].iterdir())
    assert len(names) == 8
    for name in names:
        (folder,) = kept_folders(workspace)
        harm(folder / name)
        assert told(open_catalog(workspace, cache_from=0)) == first
    assert kept_folders(workspace) == [folder]


def test_what_somebody_else_made_is_not_believed(workspace, tmp_path, monkeypatch):
    first = told(open_catalog(workspace, cache_from=0))
    (folder,) = kept_folders(workspace)
    # As unpacking an archive would: all bytes and times are the same.
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy2)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder, copy_function=shutil.copy2)
    read = []
    monkeypatch.setattr(base, "piece_of", lambda *args, real=base.piece_of: read.append(args) or real(*args))
    assert told(open_catalog(workspace, cache_from=0)) == first
    assert read


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_a_cache_that_is_harmed_while_it_is_in_use_is_made_again(workspace, harm):
    catalog = open_catalog(workspace, cache_from=0)
    first = told(catalog)
    (folder,) = kept_folders(workspace)
    harm(next(folder.glob("texts-*")))
    assert told(catalog) == first
    assert kept_folders(workspace) == [folder]
    shutil.rmtree(workspace.root / ".curate")
    assert told(catalog) == first


def test_changed_files_are_read_anew_and_old_catalogues_go(workspace):
    path = workspace.root / "data" / "a.jsonl"
    open_catalog(workspace, cache_from=0)
    seen = []
    for number in range(3):
        path.write_text(path.read_text(encoding="utf-8") + json.dumps(line(50 + number)) + "\n", encoding="utf-8")
        age(workspace.root)
        workspace = load_data(workspace.root)
        seen.append(open_catalog(workspace, cache_from=0))
        check(seen[-1], workspace)
    # Those that are open stay, however old they are.
    assert len(kept_folders(workspace)) == 4 - 1
    del seen[:-1]
    path.write_text(path.read_text(encoding="utf-8") + json.dumps(line(60)) + "\n", encoding="utf-8")
    open_catalog(load_data(workspace.root), cache_from=0)
    assert len(kept_folders(workspace)) == 2


def test_another_schema_gives_another_catalogue(make_workspace):
    made = make_workspace([{"question": "why", "answer": "so"}])
    (made.root / "curate.toml").write_text('schema = "own.json"\n', encoding="utf-8")
    age(made.root)
    prompts = []
    for prompt, completion in (("question", "answer"), ("answer", "question")):
        schema = {"x-record": {"prompt": f"/{prompt}", "completion": f"/{completion}"}}
        (made.root / "own.json").write_text(json.dumps(schema), encoding="utf-8")
        prompts.append(open_catalog(load_data(made.root), cache_from=0).row(0).prompt)
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

    def grown(*args: Any, real: Any = base.piece_of) -> Any:
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        return real(*args)

    monkeypatch.setattr(base, "piece_of", grown)
    with pytest.raises(CurateError) as caught:
        open_catalog(workspace)
    assert caught.value.code == "E974 files-changed"


def test_where_nothing_can_be_written_it_is_in_memory(workspace, monkeypatch):
    def full(*_: object) -> None:
        raise CurateError("E906 write-failed", "No space left on device")

    monkeypatch.setattr("curate.base.storage.Scratch.append", full)
    catalog = open_catalog(workspace, cache_from=0)
    assert catalog.remarks == ["the catalogue is not kept: No space left on device"]
    assert kept_folders(workspace) == []
    check(catalog, workspace)


def test_caches_elsewhere_are_refused(workspace, tmp_path):
    (tmp_path / "other").mkdir()
    (workspace.root / ".curate").symlink_to(tmp_path / "other")
    with pytest.raises(CurateError) as caught:
        open_catalog(workspace, cache_from=0)
    assert caught.value.code == "E914 outside-workspace"


def test_a_file_written_this_moment_is_waited_for(workspace, monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(base_cache.time, "sleep", waited.append)
    (workspace.root / "data" / "a.jsonl").touch()
    open_catalog(workspace, cache_from=0)
    assert waited == [0.1]
