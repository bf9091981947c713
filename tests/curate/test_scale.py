"""The same findings and the same clusters, whoever shares out the work."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from curate.base.record import CurateError, Record
from curate.base.storage import WRITE_FAILED
from curate.checks.runner import CheckPlan, read_records, validate
from curate.cli import cli
from curate.schema import load_shape
from curate.schema.settings import DedupeSettings, Settings
from curate.similarity.dedupe import find_duplicates

pytest.importorskip("daft", reason="needs the extra [scale]")

from curate.scale import examine_on, find_on, shards_in
from curate.scale.cluster import WorkerCluster, joined

CHAT = load_shape("chat")


def planted(count: int, seed: int) -> list[dict[str, Any]]:
    """Return chat records with what a comparison has to tell apart: copies, edits, labels, crowds, tools, scripts."""
    rng = random.Random(seed)
    words = [f"{a}{b}{n}" for n in range(60) for a in "bdfgklmnprst" for b in "aeiou"]

    def said(low: int, high: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(low, high)))

    lines: list[dict[str, Any]] = []

    def put(prompt: str, answer: str, **more: Any) -> None:
        lines.append(
            {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]} | more
        )

    rule = said(30, 30)
    for number in range(count):
        put(said(10, 60), said(25, 60) if number % 3 else rng.choice(["Yes.", "No.", "Perhaps."]))
        if number % 5 == 0:
            put(f"{rule} {said(12, 20)}", said(5, 9))
        if number % 9 == 0:
            put("".join(rng.choices("日本語の文章を比べるための漢字", k=40)), said(21, 30))
    for line in rng.sample(lines, count // 10):
        prompt, answer = (message["content"] for message in line["messages"])
        put(prompt.upper(), f" {answer}")
        put(prompt, said(25, 30))
        parts = prompt.split()
        parts[rng.randrange(len(parts))] = "changed"
        put(" ".join(parts), answer)
        put(said(10, 20), answer)
    crowd = said(60, 60).split()
    for number in range(150):
        put(" ".join([*crowd, str(number)]), said(3, 4))
    for _ in range(3):
        passage, answer = said(80, 80), said(30, 30)
        for number in range(9):
            question = f"{rule} {said(3, 12)}?"
            asked = [("system", passage.replace(passage.split()[40], "indeed") if number == 8 else passage)]
            asked += [("user", question), ("assistant", answer if number % 2 else "Yes.")]
            turns = [{"role": role, "content": text} for role, text in asked]
            lines += [
                {"messages": turns},
                {"messages": [*turns[:1], {"role": "user", "content": question[:-1]}, turns[2]]},
            ]
            lines.append(
                {"messages": turns, "tools": [{"type": "function", "function": {"name": f"tool{number % 2}"}}]}
            )
    for _ in range(2):
        call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        lines.append(
            {"messages": [{"role": "user", "content": "Look it up."}, {"role": "assistant", "tool_calls": [call]}]}
        )
    rng.shuffle(lines)
    return lines


def written(folder: Path, lines: list[dict[str, Any]], *, num_files: int = 5, is_named: bool = True) -> list[Path]:
    folder.mkdir(parents=True)
    for part in range(num_files):
        text = "".join(
            json.dumps(({"id": f"r{number:05}"} if is_named else {}) | lines[number], ensure_ascii=False) + "\n"
            for number in range(part, len(lines), num_files)
        )
        (folder / f"part-{part}.jsonl").write_text(text, encoding="utf-8")
    return shards_in(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[WorkerCluster]:
    # More than one would start processes, and daft leaves their pipes to the garbage collector, which warns.
    with joined(num_workers=1) as found:
        yield found


def assert_same(cluster: WorkerCluster, files: list[Path], settings: DedupeSettings, scratch: Path) -> None:
    records = [item for item in read_records(files, CHAT) if isinstance(item, Record)]
    local = find_duplicates(records, settings)
    far = find_on(cluster, files, CHAT, settings, scratch=scratch)
    assert far.duplicates == local
    assert far.table.records(range(len(records))) == records
    edges = [
        sorted(zip(found.edges.left, found.edges.right, found.edges.ties, found.edges.scores, strict=True))
        for found in (far.duplicates, local)
    ]
    assert edges[0] == edges[1]


@pytest.mark.parametrize("settings", [DedupeSettings(), DedupeSettings(ngram=5, threshold=0.75)])
def test_clusters_are_those_of_one_process(cluster: WorkerCluster, tmp_path: Path, settings: DedupeSettings) -> None:
    files = written(tmp_path / "shards", planted(400, seed=7))
    assert_same(cluster, files, settings, tmp_path / "scratch")


@pytest.mark.ci
def test_clusters_do_not_depend_on_how_the_work_is_divided(
    cluster: WorkerCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a few lines, blocks of a few texts, and pairs in small tasks."""
    for name, value in (
        ("curate.similarity.dedupe.shingles.SAMPLE", 60),
        ("curate.similarity.dedupe.shingles.BLOCK", 400),
        ("curate.similarity.dedupe.near._MOST_PAIRS", 50),
    ):
        monkeypatch.setattr(name, value)
    files = written(tmp_path / "shards", planted(300, seed=3), num_files=60)
    assert_same(cluster, files, DedupeSettings(), tmp_path / "scratch")


def test_a_full_disk_and_a_file_that_changes_end_the_call(
    cluster: WorkerCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = written(tmp_path / "shards", planted(50, seed=5))

    def change(stage: str, _done: int, _total: int) -> None:
        if stage == "reading parts":
            files[0].write_bytes(b"{}\n")

    with pytest.raises(CurateError, match=r"part-0\.jsonl was changed") as changed:
        find_on(cluster, files, CHAT, DedupeSettings(), scratch=tmp_path / "one", watch=change)
    assert changed.value.code == "E974 files-changed"

    def append(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("curate.base.storage.AtomicFile.write", append)
    with pytest.raises(CurateError, match="No space left on device") as full:
        find_on(cluster, files, CHAT, DedupeSettings(), scratch=tmp_path / "two")
    assert full.value.code == WRITE_FAILED


def test_repeated_ids_are_told_apart(cluster: WorkerCluster, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "a", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n' * 2
    )
    far = find_on(cluster, [path], CHAT, DedupeSettings(), scratch=tmp_path / "scratch")
    assert far.table.ids == ["a", "a-2"]
    assert [(pair.record, pair.keeper) for pair in far.duplicates.pairs] == [("a-2", "a")]


@pytest.mark.ci
@pytest.mark.parametrize("limit", [1000, 3])
def test_the_verdict_is_that_of_one_process(cluster: WorkerCluster, tmp_path: Path, limit: int) -> None:
    files = written(tmp_path / "shards", planted(200, seed=1))
    bad = files[2]
    bad.write_bytes(b'{"messages": []}\r\n' + bad.read_bytes() + b"null\n{'a'\n\n" + b'{"messages": 3}\n' * 9)
    local = validate(files, CheckPlan(CHAT, Settings(), limit=limit))
    assert min(local.num_errors, local.num_warnings) > 5
    assert validate(files, CheckPlan(CHAT, Settings(), limit=limit), engine=examine_on(cluster)) == local


def test_a_missing_file_is_told_as_ever(cluster: WorkerCluster, tmp_path: Path) -> None:
    with pytest.raises(CurateError) as caught:
        validate([tmp_path / "none.jsonl"], CheckPlan(CHAT, Settings()), engine=examine_on(cluster))
    assert caught.value.code == "E904 no-such-file"


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return (done.return_value or 0), done.stdout, done.stderr


@pytest.mark.ci
def test_commands_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = planted(120, seed=5)
    files = [str(path) for path in written(Path("shards"), lines, is_named=False)]
    for options in (
        ["validate", "--format", "json"],
        ["validate"],
        ["dedupe", "--explain"],
        ["dedupe", "--format", "jsonl"],
    ):
        local = run(*options, *files)
        assert run(*options, *files, "--engine", "daft") == local
        assert run(*options, "shards", "--engine", "daft") == local


@pytest.mark.ci
def test_processes_say_the_same(tmp_path: Path) -> None:
    files = [str(path) for path in written(tmp_path / "shards", planted(100, seed=2))]
    call = [sys.executable, "-m", "curate", "validate", "--format", "json", *files]
    local, far = (
        subprocess.run([*call, *more], capture_output=True, check=False)
        for more in ([], ["--engine", "daft", "--jobs", "2"])
    )
    assert (far.returncode, far.stdout, far.stderr) == (local.returncode, local.stdout, local.stderr)
    assert b"D303" in far.stdout


def test_names_made_for_repeated_ids_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made name can be some record's own id, which then gets another."""
    monkeypatch.chdir(tmp_path)
    Path("shards").mkdir()
    turn = [{"role": "user", "content": "What is it, and why is it so?"}, {"role": "assistant", "content": "It is so."}]
    ids = ["a", "a", "a-2", "a-2-2", "b", "a-2", "b-2", "a"]
    text = "".join(json.dumps({"id": name, "messages": turn}) + "\n" for name in ids)
    Path("shards/a.jsonl").write_text(text, encoding="utf-8")
    local = run("dedupe", "shards/a.jsonl", "--format", "jsonl")
    assert local[1].count("\n") == len(ids) - 1
    assert run("dedupe", "shards", "--engine", "daft", "--format", "jsonl") == local


def spelled(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def test_parquet_rows_are_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    polars = pytest.importorskip("polars")
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "id": f"r{n}",
            "instruction": f"Say {n} and {n * 7} aloud, please.",
            "output": "Well, here it is.",
            "input": None,
        }
        for n in range(30)
    ]
    rows += [{**rows[4], "id": "again"}, {**rows[5], "id": "wrong", "instruction": ""}]
    Path("lines").mkdir()
    Path("tables").mkdir()
    kept = [{key: value for key, value in row.items() if value is not None} for row in rows]
    Path("lines/a.jsonl").write_text("".join(spelled(row) for row in kept[:20]), encoding="utf-8")
    Path("lines/b.jsonl").write_text("".join(spelled(row) for row in kept[20:]), encoding="utf-8")
    for name, part in (("a", rows[:20]), ("b", rows[20:])):
        polars.DataFrame(part, schema_overrides={"input": polars.String}).write_parquet(f"tables/{name}.parquet")
    for options in (["validate", "--format", "json"], ["validate"], ["dedupe"], ["dedupe", "--explain"]):
        status, out, err = run(*options, "lines", "--engine", "daft")
        told = [text.replace("lines/", "tables/").replace(".jsonl", ".parquet") for text in (out, err)]
        if "--explain" in options:
            told[0] = run(*options, "tables", "--engine", "daft")[1]
            assert "again" in told[0]
        assert run(*options, "tables", "--engine", "daft") == (status, *told)


def test_a_parquet_row_that_json_cannot_hold(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    table = tmp_path / "a.parquet"
    polars.DataFrame({"instruction": ["Add."], "output": ["5"], "score": [float("nan")]}).write_parquet(table)
    status, out, _ = run("validate", str(table), "--engine", "daft", "--schema", "instruction")
    assert (status, "S106" in out, f"{table}:1:" in out) == (1, True, True)
    polars.DataFrame({"instruction": ["Add."], "output": [b"\xff"]}).write_parquet(table)
    with pytest.raises(CurateError, match="row 1: column 'output' holds bytes") as caught:
        run("validate", str(table), "--engine", "daft", "--schema", "instruction")
    assert caught.value.code == "E908 cannot-import"
    (tmp_path / "curate.toml").write_text("", encoding="utf-8")
    polars.DataFrame({"instruction": ["Add 2 and 3."], "output": ["It is 5."]}).write_parquet(table)
    assert run("validate", str(table), "--engine", "daft", "--schema", "instruction")[0] == 0
    (tmp_path / "curate.toml").write_text('[checks.per_path."a*"]\nignore = ["S1"]\n', encoding="utf-8")
    with pytest.raises(click.UsageError, match="do not reach Parquet"):
        run("validate", str(table), "--engine", "daft", "--schema", "instruction")
    (tmp_path / "curate.toml").unlink()
    table.write_bytes(b"null")
    with pytest.raises(CurateError, match="not a Parquet file"):
        run("dedupe", str(table), "--engine", "daft")
    table.unlink()
    os.mkfifo(table)
    with pytest.raises(CurateError, match="not a regular file"):
        run("validate", str(table), "--engine", "daft", "--schema", "instruction")
    table.unlink()
    table.write_bytes(b"PAR1 and no more")
    with pytest.raises(CurateError, match="Parquet"):
        run("dedupe", str(table), "--engine", "daft")


def test_wishes_that_do_not_go_together(tmp_path: Path, make_workspace: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    workspace = str(make_workspace().root)
    for arguments, why in (
        (["validate", "-", "--engine", "daft"], "standard input"),
        (["validate", str(path), "--engine", "daft", "--watch"], "--watch"),
        (["validate", str(path), "--engine", "daft", "--fix"], "fixes are made"),
        (["validate", str(path), "--ray-address", "a:1"], "--engine daft"),
        (["dedupe", str(path), "--ray-address", "a:1"], "--engine daft"),
        (["dedupe", str(path), "--engine", "daft", "--apply", "keep-first"], "--apply"),
        (["dedupe", workspace, "--engine", "daft"], "workspace"),
    ):
        done = CliRunner().invoke(cli, arguments)
        assert (done.exit_code, why in done.stderr) == (2, True), (arguments, done.stderr)


def test_a_workspace_is_validated_with_its_settings(make_workspace: Any) -> None:
    workspace = str(make_workspace(settings='[checks]\nignore = ["B8"]\n').root)
    assert run("validate", workspace, "--engine", "daft", "--format", "json") == run(
        "validate", workspace, "--format", "json"
    )
