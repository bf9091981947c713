"""What a comparison keeps can be deleted or damaged at any time, and changes no result."""

import errno
import json
import os
import random
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from curate.checks.runner.column_cache import cache_in
from curate.checks.runner.table import read_table
from curate.cli import cli
from curate.cli.dedupe.run import render_progress
from curate.project.loose import loose_records, loose_shape
from curate.project.records import Records
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import Duplicates, find, find_duplicates, method_of

SETTINGS = DedupeSettings()


class Compared(NamedTuple):
    duplicates: Duplicates
    records: Records
    remarks: list[str]


@pytest.fixture
def files(tmp_path):
    """Two files of 120 records each, with exact and near copies within and across them, and one bad line."""
    rng = random.Random(1)
    rows = [[" ".join(f"w{rng.randrange(400)}" for _ in range(40)) for _ in range(2)] for _ in range(200)]
    rows += [[prompt.upper(), answer] for prompt, answer in rows[:20]]
    rows += [[f"{prompt} indeed", answer] for prompt, answer in rows[20:40]]
    rng.shuffle(rows)
    paths = []
    for number in range(2):
        path = tmp_path / f"part{number}.jsonl"
        lines = [json.dumps({"instruction": p, "output": a}) for p, a in rows[number * 120 : number * 120 + 120]]
        path.write_text("\n".join([*lines[:50], "{bad", *lines[50:]]) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Compares files, and keeps their columns in ``tmp_path/cache``."""
    monkeypatch.setattr("curate.checks.runner.column_cache.SETTLED", 0)

    def compare(files, settings=SETTINGS, *, is_cached=True):
        shape = loose_shape(files)
        table = read_table(files, shape, cache_in(tmp_path / "cache", shape) if is_cached else None)
        records = Records([], table, np.arange(len(table)))
        return Compared(find(records.corpus(), method_of(settings)), records, table.remarks)

    return compare


@pytest.mark.ci
@pytest.mark.parametrize("settings", [SETTINGS, DedupeSettings(ngram=4, threshold=0.8)])
def test_files_and_what_is_kept_of_them_find_what_memory_finds(files, compared, settings):
    records = loose_records(files)
    wanted = find_duplicates(records, settings)
    assert (wanted.num_exact, wanted.num_near) == (20, 20)
    first = compared(files, settings)
    assert (first.duplicates, first.duplicates.clusters, first.remarks) == (wanted, wanted.clusters, [])
    assert list(first.records) == records
    again = compared(files, settings)
    assert (again.duplicates, again.duplicates.clusters) == (wanted, wanted.clusters)
    strict = replace(settings, threshold=0.99)
    assert compared(files, strict).duplicates == find_duplicates(records, strict)
    # Without a cache it is all the same.
    alone = compared(files, settings, is_cached=False)
    assert alone.duplicates == wanted
    assert list(alone.records) == records


@pytest.mark.ci
def test_a_file_can_be_named_twice_and_two_can_say_the_same(files, compared, tmp_path):
    twin = tmp_path / "twin.jsonl"
    twin.write_bytes(files[0].read_bytes())
    for some in ([files[0], files[0]], [files[0], twin]):
        records = loose_records(some)
        wanted = find_duplicates(records, SETTINGS)
        assert wanted.num_exact > 100
        for _ in range(2):
            found = compared(some)
            assert found.duplicates == wanted
            assert list(found.records) == records
        assert read_table(some, loose_shape(some), None).ids == [record.id for record in records]


@pytest.mark.ci
def test_a_damaged_cache_of_records_is_made_again(files, compared, tmp_path):
    wanted = compared(files).duplicates
    path = min((tmp_path / "cache").glob("*.parquet"))
    content = path.read_bytes()
    for place in range(0, len(content), len(content) // 50):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        again = compared(files)
        assert (again.duplicates, again.remarks) == (wanted, []), place
    os.truncate(path, len(content) // 2)
    assert compared(files).duplicates == wanted
    path.unlink()
    assert compared(files).duplicates == wanted
    assert path.is_file()


def test_a_folder_that_cannot_be_written_to_is_done_without(files, compared, tmp_path):
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    found = compared(files)
    assert found.duplicates == find_duplicates(loose_records(files), SETTINGS)
    assert [remark.partition(":")[0] for remark in found.remarks] == ["what was read is not kept"]


def test_a_disk_that_is_full_changes_nothing(files, compared, tmp_path, monkeypatch):
    wanted = find_duplicates(loose_records(files), SETTINGS)

    def write(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("polars.DataFrame.write_parquet", write)
    found = compared(files)
    assert found.duplicates == wanted
    assert found.remarks == [f"what was read is not kept: {tmp_path}/cache: No space left on device"]


def test_git_leaves_the_cache_of_a_workspace_out(files, tmp_path, monkeypatch):
    monkeypatch.setattr("curate.project.data.BLOCKS_FROM", 0)
    monkeypatch.setattr("curate.checks.runner.column_cache.SETTLED", 0)
    (tmp_path / "curate.toml").write_text('data = ["*.jsonl"]\n', encoding="utf-8")
    assert CliRunner().invoke(cli, ["dedupe", str(tmp_path)]).exit_code == 0
    kept = list((tmp_path / ".curate/cache").iterdir())
    assert [path.suffix for path in kept] == [".parquet"] * 2
    assert "*" in (tmp_path / ".curate/.gitignore").read_text(encoding="utf-8").splitlines()


def test_ids_of_any_kind_are_printed_as_ascii(tmp_path):
    path = tmp_path / "a.jsonl"
    line = {"instruction": "Say it again, please.", "output": "It."}
    text = "".join(json.dumps({"id": name, **line}) + "\n" for name in ("a\u009b2J\u202e", "b"))
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["dedupe", str(path), "--format", "jsonl"])
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["other"] == "a\u009b2J\u202e"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--explain", "--format", "jsonl"], "--format text"),
        (["--top", "3"], "--explain"),
        (["--dry-run"], "--apply"),
        (["--semantic-threshold", "0.9"], "--encoder"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(files, options, why):
    done = CliRunner().invoke(cli, ["dedupe", str(files[0]), *options])
    assert (done.exit_code, why in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("reading", 50_000, 0, 5.0), "reading: 50,000, 10,000/s"),
        (("hashing prompts", 100, 300, 10.0), "hashing prompts: 100 of 300, 10/s, 20 s left"),
        (("hashing prompts", 100, 3000, 10.0), "hashing prompts: 100 of 3,000, 10/s, 5 min left"),
        (("comparing prompts", 16, 16, 64.0), "comparing prompts: 16 of 16"),
        (("comparing prompts", 0, 16, 0.0), "comparing prompts: 0 of 16"),
    ],
)
def test_progress(given, line):
    assert render_progress(*given) == line
