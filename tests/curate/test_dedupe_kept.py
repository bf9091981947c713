"""What a comparison keeps can be deleted or damaged at any time, and changes no result."""

import errno
import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from curate.base.record import CurateError
from curate.checks.runner.table import read_table
from curate.cli import cli
from curate.cli.dedupe.comparison import compare_files
from curate.cli.dedupe.run import render_progress
from curate.project.loose import loose_records, loose_shape
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import components, find, find_duplicates, method_of, near
from curate.similarity.dedupe.corpus import gather

SETTINGS = DedupeSettings()


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
    """Compares files, and keeps in ``tmp_path/home`` whatever can be kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("curate.cli.dedupe.comparison.CACHED_FROM", 0)
    monkeypatch.setattr("curate.checks.runner.column_cache.SETTLED", 0)

    def compare(files, settings=SETTINGS, *, is_cached=True):
        return compare_files(files, settings, lambda *_: None, is_cached=is_cached)

    return compare


@pytest.mark.ci
@pytest.mark.parametrize("settings", [SETTINGS, DedupeSettings(ngram=4, threshold=0.8)])
def test_files_and_what_is_kept_of_them_find_what_memory_finds(files, compared, settings, capsys):
    records = loose_records(files)
    told = capsys.readouterr().err
    wanted = find_duplicates(records, settings)
    assert (wanted.num_exact, wanted.num_near) == (20, 20)
    first = compared(files, settings)
    assert (first.duplicates, first.duplicates.clusters, first.remarks) == (wanted, wanted.clusters, [])
    assert list(first.all_records()) == records
    assert capsys.readouterr().err == told == "warning: 2 findings about the lines; see them with `curate validate`\n"
    again = compared(files, settings)
    assert (again.duplicates, again.duplicates.clusters) == (wanted, wanted.clusters)
    assert capsys.readouterr().err == told
    strict = replace(settings, threshold=0.99)
    assert compared(files, strict).duplicates == find_duplicates(records, strict)
    # Without a cache it is all the same.
    alone = compared(files, settings, is_cached=False)
    assert alone.duplicates == wanted
    assert list(alone.all_records()) == records


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
            assert list(found.all_records()) == records
            names = [record.id for record in records[-3:]]
            assert found.records(names) == {record.id: record for record in records[-3:]}
        assert read_table(some, loose_shape(some), None).ids == [record.id for record in records]


def test_what_is_kept_is_known_by_what_records_say(files, tmp_path):
    records = loose_records(files)
    turns = {"messages": ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})}
    renamed = [replace(records[0], id="renamed"), *records[1:]]
    for others, count in (
        (records, 1),
        (records, 1),
        (renamed, 1),
        (records[::-1], 2),
        ([replace(records[0], **turns), *records[1:]], 3),
        ([], 4),
    ):
        found, wanted = (
            find(gather(others), method_of(SETTINGS), folder=folder) for folder in (tmp_path / "cache", None)
        )
        assert (found, found.clusters) == (wanted, wanted.clusters)
        assert len(list((tmp_path / "cache").iterdir())) == count


def test_a_split_takes_what_dedupe_has_found(make_workspace, monkeypatch):
    monkeypatch.setattr("curate.project.repeats.CACHED_FROM", 1)
    root = make_workspace().root
    compared, links = [], near.linked
    monkeypatch.setattr(near, "linked", lambda *given, **named: compared.append(given) or links(*given, **named))
    for command in ("dedupe", "split"):
        assert CliRunner().invoke(cli, [command, str(root)]).exit_code == 0
        assert len(compared) == 3


def test_what_is_kept_may_be_damaged(files, compared, tmp_path):
    wanted = compared(files).duplicates
    (path,) = (tmp_path / "home/pairsmith/dedupe").iterdir()
    content = path.read_bytes()
    flipped = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in (0, 40)]
    for damaged in (content[:-1], b"", *flipped):
        path.write_bytes(damaged)
        assert compared(files).duplicates == wanted
        assert path.read_bytes() == content


@pytest.mark.ci
def test_a_damaged_cache_of_records_is_made_again(files, compared, tmp_path):
    wanted = compared(files).duplicates
    path = min((tmp_path / "home/pairsmith").glob("*.parquet"))
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
    (tmp_path / "home").write_text("in the way", encoding="utf-8")
    found = compared(files)
    assert found.duplicates == find_duplicates(loose_records(files), SETTINGS)
    assert [remark.partition(":")[0] for remark in found.remarks] == ["what was read is not kept"]


def test_a_disk_that_is_full_changes_nothing(files, compared, tmp_path, monkeypatch, capsys):
    wanted = find_duplicates(loose_records(files), SETTINGS)

    def write(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("curate.base.storage.AtomicFile.write", write)
    monkeypatch.setattr("polars.DataFrame.write_parquet", write)
    capsys.readouterr()
    found = compared(files)
    assert found.duplicates == wanted
    assert capsys.readouterr().err.startswith("warning: 2 findings")
    assert found.remarks == [f"what was read is not kept: {tmp_path}/home/pairsmith: No space left on device"]


def test_a_cache_that_leads_out_of_the_workspace_are_refused(files, compared, tmp_path, monkeypatch):
    monkeypatch.setattr("curate.project.repeats.CACHED_FROM", 1)
    root = tmp_path / "ws"
    (root / ".curate/cache").mkdir(parents=True)
    (root / "curate.toml").write_text("", encoding="utf-8")
    files[0].rename(root / "a.jsonl")
    (tmp_path / "elsewhere").mkdir()
    (root / ".curate/cache/dedupe").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CurateError, match="outside the workspace"):
        compared([root / "a.jsonl"])
    assert not list((tmp_path / "elsewhere").iterdir())


def test_ids_of_any_kind_are_printed_as_ascii(tmp_path):
    path = tmp_path / "a.jsonl"
    line = {"instruction": "Say it again, please.", "output": "It."}
    text = "".join(json.dumps({"id": name, **line}) + "\n" for name in ("a\u009b2J\u202e", "b"))
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["dedupe", str(path), "--format", "jsonl"])
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["other"] == "a\u009b2J\u202e"


def test_git_leaves_the_cache_of_a_workspace_out(files, compared, tmp_path, monkeypatch):
    monkeypatch.setattr("curate.project.repeats.CACHED_FROM", 1)
    (tmp_path / "curate.toml").write_text("", encoding="utf-8")
    compared(files)
    assert len(list((tmp_path / ".curate/cache/dedupe").iterdir())) == 1
    assert len(list((tmp_path / ".curate/cache").glob("*.parquet"))) == 2
    assert not (tmp_path / "home").exists()
    assert "*" in (tmp_path / ".curate/.gitignore").read_text(encoding="utf-8").splitlines()


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


def test_components_are_those_of_a_walk():
    rng = random.Random(3)
    for _ in range(50):
        count = rng.randrange(1, 40)
        edges = [(rng.randrange(count), rng.randrange(count)) for _ in range(rng.randrange(0, 40))]
        # A long path is the hard case.
        edges += [(n, n + 1) for n in range(count // 2)]
        left, right = (np.array([edge[side] for edge in edges], np.int64) for side in (0, 1))
        roots = list(range(count))
        for _ in range(count):
            for one, two in edges:
                roots[one] = roots[two] = min(roots[one], roots[two])
        labels = components(count, left, right).tolist()
        assert [labels.index(label) for label in labels] == [roots.index(root) for root in roots]
