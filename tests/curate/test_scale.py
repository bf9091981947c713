"""The same findings and the same clusters, whoever shares out the work."""

from __future__ import annotations

import errno
import itertools
import json
import random
import sys
import time
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from threading import Thread
from typing import Any, TextIO, cast

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

pytest.importorskip("ray", reason="needs the extra [scale]")

from ray.exceptions import RayError

from curate.scale import cluster as cluster_module
from curate.scale import examine_on, find_on, scratch_beside, shards_in
from curate.scale.cluster import WorkerCluster

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


class Here(WorkerCluster):
    """This process: daft's own runner does what a Ray cluster does and is quick to start; tasks are called."""

    starmap = staticmethod(itertools.starmap)  # type: ignore[assignment]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> WorkerCluster:
    """Have ``--ray`` mean this process."""
    monkeypatch.setattr(cluster_module, "joined", lambda _address: nullcontext(Here(1)))
    return Here(1)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def assert_same(cluster: WorkerCluster, files: list[Path], settings: DedupeSettings, scratch: Path) -> None:
    records = {item.id: item for item in read_records(files, CHAT) if isinstance(item, Record)}
    local = find_duplicates([*records.values()], settings)
    table, far = find_on(cluster, files, CHAT, settings, scratch=scratch)
    assert far == local
    assert (far.num_records, far.sizes) == (len(records), local.sizes)
    assert far.members() == local.members()
    assert [*table.records(range(len(table)))] == [records[name] for name in table.ids]


@pytest.mark.parametrize("settings", [DedupeSettings(), DedupeSettings(ngram=5, threshold=0.75)])
def test_clusters_are_those_of_one_process(
    cluster: WorkerCluster, tmp_path: Path, scratch: Path, settings: DedupeSettings
) -> None:
    files = written(tmp_path / "shards", planted(400, seed=7))
    assert_same(cluster, files, settings, scratch)


@pytest.mark.ci
def test_clusters_do_not_depend_on_how_the_work_is_divided(
    cluster: WorkerCluster, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a few lines, small batches, a small sample, and crowds that are not compared to the end."""
    monkeypatch.setattr("curate.scale.search._ROWS", 7)
    for module in ("similarity.dedupe.shingles", "scale.search"):
        monkeypatch.setattr(f"curate.{module}.SAMPLE", 60)
    for module in ("similarity.dedupe.near", "scale.search"):
        monkeypatch.setattr(f"curate.{module}.PAIRWISE_BUCKET", 4)
    monkeypatch.setattr("curate.similarity.dedupe.near.MAX_LEADERS", 6)
    files = written(tmp_path / "shards", planted(300, seed=3), num_files=60)
    assert_same(cluster, files, DedupeSettings(), scratch)


def test_a_full_disk_and_a_file_that_changes_end_the_call(
    cluster: WorkerCluster, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = written(tmp_path / "shards", planted(50, seed=5))

    def change(stage: str, _done: int, _total: int) -> None:
        if stage == "reading parts":
            files[0].write_bytes(b"{}\n")

    with pytest.raises(CurateError, match=r"part-0\.jsonl was changed") as changed:
        find_on(cluster, files, CHAT, DedupeSettings(), scratch=scratch, watch=change)
    assert changed.value.code == "E974 files-changed"

    def append(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("curate.base.storage.AtomicFile.write", append)
    with pytest.raises(CurateError, match="No space left on device") as full:
        find_on(cluster, files, CHAT, DedupeSettings(), scratch=scratch)
    assert full.value.code == WRITE_FAILED


@pytest.mark.ci
@pytest.mark.parametrize("limit", [1000, 3])
def test_the_verdict_is_that_of_one_process(cluster: WorkerCluster, tmp_path: Path, limit: int) -> None:
    files = written(tmp_path / "shards", planted(200, seed=1))
    bad = files[2]
    bad.write_bytes(b'{"messages": []}\r\n' + bad.read_bytes() + b"null\n{'a'\n\n" + b'{"messages": 3}\n' * 9)
    local = validate(files, CheckPlan(CHAT, Settings(), limit=limit))
    assert min(local.num_errors, local.num_warnings) > 5
    assert validate(files, CheckPlan(CHAT, Settings(), limit=limit), engine=examine_on(cluster)) == local


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return (done.return_value or 0), done.stdout, done.stderr


@pytest.mark.ci
def test_commands_say_the_same(cluster: WorkerCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert run(*options, *files, "--ray", "here") == local
        assert run(*options, "shards", "--ray", "here") == local


def test_a_name_made_for_a_repeated_id_is_no_other_record(
    cluster: WorkerCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    turn = [{"role": "user", "content": "What is it, and why is it so?"}, {"role": "assistant", "content": "It is so."}]
    other = [{"role": "user", "content": "A question that nobody else asks?"}, turn[1]]
    lines = [json.dumps({"id": name, "messages": turn}) for name in ("a", "b", "a", "a")]
    Path("a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    local = run("dedupe", "a.jsonl", "--format", "jsonl")
    assert run("dedupe", "a.jsonl", "--ray", "here", "--format", "jsonl") == local
    lines.append(json.dumps({"id": "a-2", "messages": other}))
    Path("a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(CurateError, match="another one is: a-2\n"):
        run("dedupe", "a.jsonl", "--ray", "here")


def spelled(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def test_parquet_rows_are_lines(cluster: WorkerCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        status, out, err = run(*options, "lines", "--ray", "here")
        told = [text.replace("lines/", "tables/").replace(".jsonl", ".parquet") for text in (out, err)]
        if "--explain" in options:
            told[0] = run(*options, "tables", "--ray", "here")[1]
            assert "again" in told[0]
        assert run(*options, "tables", "--ray", "here") == (status, *told)


def test_a_parquet_row_that_json_cannot_hold(cluster: WorkerCluster, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    table = tmp_path / "a.parquet"
    call = ("validate", str(table), "--ray", "here", "--schema", "instruction")
    polars.DataFrame({"instruction": ["Add."], "output": ["5"], "score": [float("nan")]}).write_parquet(table)
    with pytest.raises(CurateError, match=r"row 1: .*score"):
        run(*call)
    polars.DataFrame({"instruction": ["Add 2 and 3."], "output": ["It is 5."]}).write_parquet(table)
    assert run(*call)[0] == 0
    (tmp_path / "curate.toml").write_text('[checks.per_path."a*"]\nignore = ["S1"]\n', encoding="utf-8")
    with pytest.raises(click.UsageError, match="do not reach Parquet"):
        run(*call)


def test_wishes_that_do_not_go_together(tmp_path: Path, make_workspace: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    workspace = str(make_workspace().root)
    for arguments, why in (
        (["validate", "-", "--ray", "here"], "standard input"),
        (["validate", str(path), "--ray", "here", "--watch"], "--watch"),
        (["validate", str(path), "--ray", "here", "--fix"], "fixes are made"),
        (["dedupe", str(path), "--ray", "here", "--apply", "keep-first"], "--apply"),
        (["dedupe", workspace, "--ray", "here"], "workspace"),
    ):
        done = CliRunner().invoke(cli, arguments)
        assert (done.exit_code, why in done.stderr) == (2, True), (arguments, done.stderr)


def test_what_a_killed_run_left_beside_the_data_is_removed_and_what_a_running_one_has_is_not(tmp_path: Path) -> None:
    file, left = tmp_path / "a.jsonl", tmp_path / ".curate-left"
    left.mkdir()
    (left / "owner").touch()
    with scratch_beside(file) as one, scratch_beside(file) as other:
        assert {path.name for path in tmp_path.iterdir()} == {one.name, other.name}
    assert not [*tmp_path.iterdir()]


def test_what_goes_wrong_in_the_cluster_is_told(
    cluster: WorkerCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CurateError, match="did not finish: a raylet died") as lost, cluster_module.told_as_lost():
        raise RayError("a raylet died")
    assert lost.value.code == "E969 no-cluster"
    monkeypatch.setattr(cluster_module, "_MOST_WAIT_S", 0.01)
    with pytest.raises(TimeoutError, match="did not let us in"):
        cluster_module._init_in_time(lambda: time.sleep(1))
    with redirect_stdout(cast("TextIO", cluster_module._OwnStdout())):
        thread = Thread(target=print, args=["a worker died"])
        thread.start()
        thread.join()
        sys.stdout.write("found\n")
    assert capsys.readouterr() == ("found\n", "a worker died\n")


def test_files_that_are_no_shards_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", ".hidden.jsonl"):
        (tmp_path / name).touch()
    assert shards_in(tmp_path) == [tmp_path / "a.jsonl"]
    assert "passed over: 1 of 2 files (b.jsonl.gz)" in capsys.readouterr().err
