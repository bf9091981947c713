"""Comparing in stages: they resume, they can be deleted or damaged at any time, and they change no result."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from curate.base.packs import Pack
from curate.base.record import CurateError
from curate.base.storage import WRITE_FAILED
from curate.checks.runner.table import read_table
from curate.cli import cli
from curate.cli.dedupe.comparison import compare_files
from curate.cli.dedupe.run import render_progress
from curate.project.loose import loose_records, loose_shape
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import components, find, find_duplicates, method_of, near
from curate.similarity.dedupe.corpus import gather
from curate.similarity.dedupe.kernels import NUMPY
from curate.similarity.dedupe.stages import MAX_AGE_DAYS, Stages

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
    monkeypatch.setattr("curate.cli.dedupe.comparison.STAGED_FROM", 0)

    def compare(files, settings=SETTINGS, *, is_staged=True):
        return compare_files(files, settings, lambda *_: None, is_staged=is_staged)

    return compare


def found_by_stages(records, stages):
    return find(gather(records, NUMPY), method_of(SETTINGS), NUMPY, stages)


@pytest.mark.ci
@pytest.mark.parametrize("settings", [SETTINGS, DedupeSettings(ngram=4, threshold=0.8)])
def test_files_and_their_stages_find_what_memory_finds(files, compared, settings, capsys):
    records = loose_records(files)
    told = capsys.readouterr().err
    wanted = find_duplicates(records, settings)
    assert (wanted.num_exact, wanted.num_near) == (20, 20)
    first = compared(files, settings)
    assert (first.duplicates, first.num_resumed, first.remarks) == (wanted, 0, [])
    assert list(first.all_records()) == records
    assert capsys.readouterr().err == told == "warning: 2 findings about the lines; see them with `curate validate`\n"
    again = compared(files, settings)
    assert (again.duplicates, again.num_resumed) == (wanted, 6)
    assert capsys.readouterr().err == told
    # Another threshold needs other links, and not other buckets.
    strict = replace(settings, threshold=0.99)
    other = compared(files, strict)
    assert (other.duplicates, other.num_resumed) == (find_duplicates(records, strict), 3)
    # Without a cache it is all the same.
    alone = compared(files, settings, is_staged=False)
    assert (alone.duplicates, alone.num_resumed) == (wanted, 0)
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
        table = read_table(some, loose_shape(some), None)
        assert [row for _, rows in table.blocks() for row in rows] == list(range(len(records)))


@pytest.mark.ci
def test_stages_are_known_by_what_records_say(files, tmp_path):
    records = loose_records(files)
    wanted = find_duplicates(records, SETTINGS)
    for resumed in (0, 6):
        stages = Stages(tmp_path / "cache")
        assert found_by_stages(records, stages) == wanted
        assert stages.num_resumed == resumed
    renamed = [replace(records[0], id="renamed"), *records[1:]]
    turns = {"messages": ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})}
    for others, is_same in (
        (renamed, True),
        (records[::-1], False),
        ([replace(records[0], **turns), *records[1:]], False),
    ):
        stages = Stages(tmp_path / "cache")
        assert found_by_stages(others, stages) == find_duplicates(others, SETTINGS)
        assert (stages.num_resumed == 6) == is_same


def test_a_split_resumes_what_dedupe_has_compared(make_workspace, monkeypatch):
    monkeypatch.setattr("curate.project.repeats.STAGED_FROM", 1)
    root = make_workspace().root
    compared, links = [], near.links
    monkeypatch.setattr(near, "links", lambda *given, **named: compared.append(given) or links(*given, **named))
    for command in ("dedupe", "split"):
        assert CliRunner().invoke(cli, [command, str(root)]).exit_code == 0
        assert len(compared) == 3


def test_nothing_to_compare_has_stages_too(tmp_path):
    for resumed in (0, 6):
        stages = Stages(tmp_path / "cache")
        found = found_by_stages([], stages)
        assert (found.pairs, found.clusters, stages.num_resumed) == ([], {}, resumed)


@pytest.mark.ci
def test_a_damaged_stage_is_made_again(files, compared, tmp_path):
    wanted = compared(files).duplicates
    places = sorted((tmp_path / "home/pairsmith/dedupe").iterdir())
    assert len(places) == 8
    for place in places:
        num_others = 6 - (not place.name.startswith("verdicts-"))
        for path in sorted(place.iterdir()):
            content = path.read_bytes()
            flipped = bytes([content[0] ^ 1]) + content[1:] if content else b"x"
            odd = [content[:-1] or b"x", flipped, b'{"arrays":{}}', b'{"arrays":[]}', b"[]"]
            for damaged in odd if path.name == "about" else odd[:2]:
                path.write_bytes(damaged)
                again = compared(files)
                assert (again.duplicates, again.num_resumed) == (wanted, num_others), path
                assert path.read_bytes() == content


@pytest.mark.ci
def test_a_damaged_cache_of_records_is_made_again(files, compared, tmp_path):
    wanted = compared(files).duplicates
    folder = tmp_path / "home/pairsmith/records"
    size = len(pack_in(folder).read_bytes())
    # Every number of the head of the file and of its first entry, and some of all the rest.
    places = [*range(0, 96, 8), *range(96, size, size // 20)]
    num_told = 0
    for place in places:
        shutil.rmtree(folder)
        compared(files)
        pack = pack_in(folder)
        with pack.open("r+b") as file:
            content = file.read()
            file.seek(place)
            file.write(bytes([content[place] ^ 1]))
        again = compared(files)
        assert (again.duplicates, again.num_resumed) == (wanted, 6), place
        num_told += bool(again.remarks)
        assert all("is damaged" in remark for remark in again.remarks)
        after = compared(files)
        assert (after.duplicates, after.remarks) == (wanted, []), place
    assert num_told > 20
    os.truncate(pack_in(folder), size // 2)
    again = compared(files)
    assert (again.duplicates, again.remarks) == (wanted, [])


def pack_in(folder):
    (pack,) = folder.glob("*/pack")
    return pack


def test_a_folder_that_cannot_be_written_to_is_done_without(files, compared, tmp_path):
    (tmp_path / "home").write_text("in the way", encoding="utf-8")
    found = compared(files)
    assert found.duplicates == find_duplicates(loose_records(files), SETTINGS)
    assert [remark.partition(":")[0] for remark in found.remarks] == [
        "what was read is not kept",
        "finished stages are not kept",
    ]


def test_old_stages_are_swept(tmp_path):
    stages = Stages(tmp_path / "cache")
    one, two = "a" * 32, "b" * 32
    ages = {
        f"buckets-{one}": 0,
        f"buckets-{two}": MAX_AGE_DAYS + 1,
        f".links-{one}.1.tmp": 0,
        f".links-{two}.2.tmp": 2,
        "photos": MAX_AGE_DAYS + 1,
    }
    for name, days in ages.items():
        (tmp_path / "cache" / name).mkdir(parents=True)
        when = time.time() - 86400 * days
        os.utime(tmp_path / "cache" / name, (when, when))
    stages.sweep()
    left = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert left == [f".links-{one}.1.tmp", f"buckets-{one}", "photos"]


_PROGRAM = """
import os, signal, sys
import curate.cli, curate.project.repeats as cache
from curate.similarity.dedupe import near
cache.STAGED_FROM = 0
real, calls = near.links, []
def links(*given, **named):
    calls.append(given)
    if len(calls) == int(os.environ["STOP_AT"]):
        os.kill(os.getpid(), signal.SIGINT)
    return real(*given, **named)
near.links = links
curate.cli.main()
"""


def call(tmp_path, files, at):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "STOP_AT": str(at)}
    arguments = ["dedupe", *map(str, files), "--format", "jsonl", "--progress"]
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, env=environment, timeout=120
    )


@pytest.mark.ci
def test_an_interrupted_call_is_resumed(files, tmp_path):
    stopped = call(tmp_path, files, 2)
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert "interrupted" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    kept = sorted(path.name.partition("-")[0] for path in (tmp_path / "home/pairsmith/dedupe").iterdir())
    assert kept == ["buckets", "buckets", "links"]
    assert "reading" in stopped.stderr
    resumed = call(tmp_path, files, 0)
    assert resumed.returncode == 0
    assert "resumed: 3 stages" in resumed.stderr
    assert "reading" not in resumed.stderr
    assert len(resumed.stdout.splitlines()) == 40
    # Whatever is in the files decides, not their names and times.
    os.utime(files[0], (1, 1))
    assert "resumed: 6 stages" in call(tmp_path, files, 0).stderr
    files[1].write_text(files[1].read_text(encoding="utf-8").replace("{bad\n", ""), encoding="utf-8")
    again = call(tmp_path, files, 0)
    assert "reading" in again.stderr
    assert len(again.stdout.splitlines()) == 40


def test_a_disk_that_is_full_in_the_middle_changes_nothing(files, compared, monkeypatch, capsys):
    wanted = find_duplicates(loose_records(files), SETTINGS)
    written = []

    def append(self, name, content):
        written.append(name)
        if len(written) > 1:
            raise CurateError(WRITE_FAILED, "no space left")

    monkeypatch.setattr("curate.base.storage.Scratch.append", append)
    num_appended, real = 0, Pack.append

    def append_once(self, *given):
        nonlocal num_appended
        num_appended += 1
        if num_appended > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *given)

    monkeypatch.setattr(Pack, "append", append_once)
    capsys.readouterr()
    found = compared(files)
    assert (found.duplicates, num_appended) == (wanted, 2)
    assert capsys.readouterr().err.startswith("warning: 2 findings")
    assert found.remarks == [
        "what was read is not kept: the cache of records: No space left on device",
        "finished stages are not kept: no space left",
    ]


def test_stages_that_lead_out_of_the_workspace_are_refused(files, compared, tmp_path, monkeypatch):
    monkeypatch.setattr("curate.project.repeats.STAGED_FROM", 1)
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
    monkeypatch.setattr("curate.project.repeats.STAGED_FROM", 1)
    (tmp_path / "curate.toml").write_text("", encoding="utf-8")
    compared(files)
    assert len(list((tmp_path / ".curate/cache/dedupe").iterdir())) == 8
    assert len(list((tmp_path / ".curate/cache/records").glob("*/pack"))) == 1
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
        assert components(count, left, right).tolist() == roots
