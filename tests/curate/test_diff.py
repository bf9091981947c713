"""Two versions of a data set: what differs, by record and field, and how it is told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from curate.base.events import Assign, Drop, Edit, Label
from curate.base.record import CurateError
from curate.cli import cli
from curate.project.data import ProjectData
from curate.project.diff import (
    MOST_BYTES,
    VersionRecord,
    compare,
    field_changes,
    render_markdown,
    render_text,
    word_changes,
)
from tests.curate.deciding import decide

HOSTILE = (
    "<img src=x onerror=alert(1)> [x](http://evil.example) @somebody #12 | `code` **b** \x1b[31m\u202e </details>\n"
)


def item(name: str, category: str = "a", split: str = "", **value: Any) -> VersionRecord:
    return VersionRecord(name, {"id": name, "category": category, **value}, category, split, f"a.jsonl:{name}")


def run(*arguments: str) -> Result:
    """Call the verb; what it returns is the exit code, and errors are the result's exception."""
    return CliRunner().invoke(cli, ["diff", *arguments], standalone_mode=False)


def changes(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    return {one.pointer: (one.before, one.after) for one in field_changes(before, after)}


def test_records_are_matched_by_id_and_counted_by_category() -> None:
    before = [item("1", x=1), item("2", "b", x=1), item("3", split="train"), item("4"), item("5", split="train", x=1)]
    after = [item("9"), item("5", split="test", x=2), item("4"), item("3", split="test"), item("1", "b", x=1)]
    found = compare(before, after)
    assert [(change.item.id, change.what, change.is_moved) for change in found.changes] == [
        ("9", "added", False), ("5", "changed", True), ("3", "moved", True), ("1", "changed", False),
        ("2", "removed", False),
    ]  # fmt: skip
    assert (found.num_before, found.num_after, found.num_same) == (5, 5, 1)
    assert found.categories == {
        "a": {"before": 4, "after": 4, "added": 1, "removed": 0, "changed": 1, "moved": 2},
        "b": {"before": 1, "after": 1, "added": 0, "removed": 1, "changed": 1, "moved": 0},
    }
    assert found.totals() == {"before": 5, "after": 5, "added": 1, "removed": 1, "changed": 2, "moved": 2}
    assert [name for name, _ in found.rows(1)] == ["a", "others (1)", "all"]


def test_fields_are_compared_where_they_differ() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    other = [turns[0], {**turns[1], "content": "c"}]
    assert changes({"messages": turns, "m": {"a/b": 1}}, {"m": {"a/b": 1.0}, "messages": other}) == {
        "/messages/1/content": ("b", "c"),
        "/m/a~1b": (1, 1.0),
    }
    assert changes({"t": turns}, {"t": turns[:1]}) == {"/t/1": (turns[1], None)}
    assert changes({"x": [1, 2]}, {"x": [1, 3]}) == {"/x": ([1, 2], [1, 3])}
    assert changes({"x": True, "n": None}, {"x": 1}) == {"/x": (True, 1), "/n": (None, None)}
    assert not changes({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1})


@given(st.text("ab c.\n", max_size=40), st.text("ab c.\n", max_size=40))
def test_words_that_changed_make_both_texts(before: str, after: str) -> None:
    pieces = word_changes(before, after)
    assert "".join(text for what, text in pieces if what != "added") == before
    assert "".join(text for what, text in pieces if what != "removed") == after
    assert all(text for _, text in pieces)


def test_words_in_a_row_are_one_change() -> None:
    assert word_changes("the old red chair", "the new blue chair") == [
        ("same", "the "), ("removed", "old red"), ("added", "new blue"), ("same", " chair"),
    ]  # fmt: skip


def test_of_a_list_that_has_grown_what_is_new_is_seen() -> None:
    turns = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "Five."}]
    grown = [*turns, {"role": "user", "content": "Why so?"}]
    lines = list(render_text(compare([item("1", messages=turns)], [item("1", messages=grown)])))
    assert "Why so?" in " ".join(map(str.strip, lines))


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def test_text_fits_eighty_columns_and_leads_no_terminal() -> None:
    wide = "日本語のテキスト" * 30
    before = [item("1", HOSTILE * 3, text=wide), item("2" * 300, out="word " * 500), item("3", **{"k" * 300: 1})]
    after = [item("1", HOSTILE * 3, text=wide + "終"), item("2" * 300, out="word " * 250 + "new " + "word " * 250)]
    lines = list(render_text(compare(before, after)))
    assert max(map(columns, lines)) <= 80
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", "".join(lines))
    text = "\n".join(lines)
    assert "{+終+}" in text
    assert re.search(r"{\+\s*new\s*\+}", text)
    assert re.search(r"<1,\d\d\d characters not shown>", text)


def test_what_is_not_shown_is_counted() -> None:
    difference = compare([], [item(str(number)) for number in range(30)])
    assert list(render_text(difference, limit=20))[-1] == "not shown: 10 records that differ; see --limit"
    assert "no difference in 1 record" in list(render_text(compare([item("1")], [item("1")])))


def test_nothing_of_the_data_is_alive_in_markdown() -> None:
    before = [item(HOSTILE, HOSTILE, text="old " + HOSTILE), item("2", **{HOSTILE: HOSTILE})]
    text = "".join(render_markdown(compare(before, [item(HOSTILE, HOSTILE, text="new " + HOSTILE)]), HOSTILE, "b"))
    assert text.count("<details>") == text.count("</details>") == 2
    assert set(re.findall(r"</?(\w+)", text)) == {"details", "summary", "code", "del", "ins"}
    outside = re.sub(r"<code>[^<]*</code>", "", text)
    for mark in ("@", "evil", "](", "`", "#12", "img"):
        assert mark not in outside
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    for line in text.splitlines():
        assert not line.startswith(("##", "::"))
        assert not line.startswith("|") or line.count("|") == 8
    # Within the code spans every mark is escaped.
    inside = "".join(re.findall(r"<code>([^<]*)</code>", text))
    assert not set("`*[]()@#|\\") & set(inside.replace("&#", ""))


def test_a_comment_is_no_longer_than_may_be_and_says_what_it_lacks() -> None:
    before = [item(f"r{number}", f"c{number % 300}", text=f"{number} " * 200) for number in range(3000)]
    after = [item(f"r{number}", f"c{number % 300}", text=f"{number} " * 199 + "新") for number in range(2000)]
    text = "".join(render_markdown(compare(before, after), "a" * 5000, "b"))
    assert MOST_BYTES * 0.9 < len(text.encode()) <= MOST_BYTES
    told = re.search(r"\n([\d,]+) records that differ did not fit", text)
    assert told
    assert int(told[1].replace(",", "")) + text.count("\n- <code>") == 3000
    assert text.count("<details>") == text.count("</details>")
    assert "| <code>all</code> | 3,000 | 2,000 | - | 1,000 | 2,000 | - |" in text


@pytest.fixture
def versions(tmp_path: Path) -> tuple[str, str]:
    """Two files of which one record differs in a secret and one is new."""
    first = {"id": "1", "instruction": "Who?", "output": "jane.doe@example.org", "category": "a"}
    lines = [first], [{**first, "output": "john.roe@example.org"}, {**first, "id": "2", "split": "test"}]
    paths = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    for path, content in zip(paths, lines, strict=True):
        path.write_text("".join(json.dumps(line) + "\n" for line in content), encoding="utf-8")
    return str(paths[0]), str(paths[1])


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_values_are_hidden_when_asked_for(form: str, versions: tuple[str, str]) -> None:
    shown = run(*versions, "--format", form)
    hidden = run(*versions, "--format", form, "--no-values")
    assert (shown.return_value, hidden.return_value) == (0, 0)
    assert "john" in shown.stdout
    assert "output" in hidden.stdout
    assert not re.search(r"jane|john|roe|Who", hidden.stdout)


def test_the_document_is_what_the_schema_says(versions: tuple[str, str], root: Path) -> None:
    schema = json.loads((root / "schemas/diff.schema.json").read_bytes())
    validator = jsonschema_rs.validator_for(schema, offline=True)
    for more in ([], ["--no-values"]):
        found = json.loads(run(*versions, "--format", "json", *more).stdout)
        validator.validate(found)
        assert not validator.is_valid({**found, "changes": [{}]})
    assert [(one["id"], one["what"], one["after"]["split"]) for one in found["changes"]] == [
        ("1", "changed", None),
        ("2", "added", "test"),
    ]
    assert found["changes"][0]["fields"] == [{"pointer": "/output", "what": "changed"}]


def test_exit_codes_and_output(versions: tuple[str, str], tmp_path: Path) -> None:
    assert run(*versions, "--exit-code").return_value == 1
    same = run(versions[0], versions[0], "--exit-code")
    assert (same.return_value, same.stdout) == (0, "no difference in 1 record\n")
    out = tmp_path / "comment.md"
    assert run(*versions, "--format", "markdown", "--output", str(out)).stdout == ""
    assert out.read_text(encoding="utf-8").startswith("**Records: 1 added, 1 changed**\n")
    for arguments in ([versions[0]], ["--since", "HEAD", *versions], []):
        assert isinstance(run(*arguments).exception, click.UsageError)
    gone = run(versions[0], str(tmp_path / "gone"))
    assert isinstance(gone.exception, CurateError)
    assert gone.exception.code == "E904 no-such-file"


def test_lines_that_are_no_records_are_counted_and_those_of_unknown_shape_compared(tmp_path: Path) -> None:
    old, new = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    old.write_text('{"q": 1}\n{"q": 2, "id": 7}\n{"q": 2, "id": 7}\n{"q"\n', encoding="utf-8")
    new.write_text('{"q": 1}\n{"q": 3, "id": 7}\n{"q": 2, "id": 7}\n', encoding="utf-8")
    done = run(str(old), str(new), "--format", "json")
    assert "left out as no records: 1 line" in done.stderr
    found = json.loads(done.stdout)
    assert (found["before"]["records"], found["same"]) == (3, 2)
    assert [(one["id"], one["fields"][0]["after"]) for one in found["changes"]] == [("7", 3)]


def test_a_record_without_an_id_is_another_one_once_it_is_edited(tmp_path: Path) -> None:
    old, new = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    old.write_text('{"instruction": "Why?", "output": "So."}\n{"instruction": "Who?", "output": "Me."}\n')
    new.write_text('{"instruction": "Who?", "output": "Me."}\n{"instruction": "Why?", "output": "Because."}\n')
    found = json.loads(run(str(old), str(new), "--format", "json").stdout)["changes"]
    assert [(one["what"], one["value"]["output"]) for one in found] == [("added", "Because."), ("removed", "So.")]


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def committed(make_workspace: Any, monkeypatch: pytest.MonkeyPatch) -> ProjectData:
    """A workspace in a repository, committed, and the current folder."""
    workspace: ProjectData = make_workspace()
    git(workspace.root, "init", "-q")
    (workspace.root / "data/link.jsonl").symlink_to("a.jsonl")
    git(workspace.root, "add", "-A")
    git(workspace.root, "commit", "-q", "-m", "x")
    (workspace.root / "data/link.jsonl").unlink()
    monkeypatch.chdir(workspace.root)
    return workspace


def test_a_workspace_against_a_commit_holds_what_was_decided(committed: ProjectData) -> None:
    decide(
        committed,
        [
            Edit("r001", {"output": "edited here"}),
            Assign("r002", "test"),
            Label("r003", "tone", "rude"),
            Drop("r004", reason="bad"),
        ],
        by="ana",
    )
    found = json.loads(run("--since", "HEAD", "--format", "json").stdout)
    assert {one["id"]: (one["what"], [part["pointer"] for part in one["fields"]]) for one in found["changes"]} == {
        "r001": ("changed", ["/output"]),
        "r002": ("moved", []),
        "r003": ("changed", ["/labels"]),
        "r004": ("removed", []),
    }
    assert (found["before"], found["after"]["records"]) == ({"name": "HEAD:.", "records": 60}, 59)
    git(committed.root, "add", "-A")
    git(committed.root, "commit", "-q", "-m", "y")
    assert "no difference" in run("--since", "HEAD").stdout
    assert json.loads(run("HEAD~1:", "HEAD:", "--format", "json").stdout)["changes"] == found["changes"]


def test_paths_of_commits_are_spelled_as_git_does(committed: ProjectData, monkeypatch: pytest.MonkeyPatch) -> None:
    path = committed.root / "data/a.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("answer7 says", "answer7 denies"), encoding="utf-8")
    for arguments in (
        ("HEAD:data/a.jsonl", "data/a.jsonl"),
        ("HEAD:./data", "data"),
        ("--since", "HEAD", "data/a.jsonl"),
        ("--since", "HEAD", "data"),
        ("--since", "HEAD", str(committed.root)),
    ):
        assert "[-says-]{+denies+}" in run(*arguments).stdout, arguments
    monkeypatch.chdir(committed.root / "data")
    assert "[-says-]{+denies+}" in run("HEAD:data/a.jsonl", "a.jsonl").stdout
    assert "[-says-]{+denies+}" in run("--since", "HEAD", "a.jsonl").stdout


@pytest.mark.parametrize("name", ["nosuch", "--upload-pack=touch pwned", "HEAD:data/gone.jsonl"])
def test_what_git_does_not_know_is_an_error(name: str, committed: ProjectData) -> None:
    commit, _, path = name.partition(":")
    arguments = [name, "data"] if path else [f"--since={commit}", "data"]
    done = run(*arguments)
    assert isinstance(done.exception, CurateError)
    assert done.exception.code == "E966 git-refused"
    assert not (committed.root / "pwned").exists()


def test_datasets_and_the_workspace_they_are_of(make_workspace: Any) -> None:
    from curate.project.publish import export_dataset

    workspace = make_workspace()
    export_dataset(workspace)
    changed = decide(workspace, [Edit("r005", {"output": "edited here and not there"})])
    folder = workspace.root / "dataset"
    # Where just one of two is a dataset, the other is compared in a dataset's form.
    mixed = json.loads(run(str(folder / "v1"), str(workspace.root), "--format", "json").stdout)
    export_dataset(changed)
    both = json.loads(run(str(folder / "v1"), str(folder / "v2"), "--format", "json").stdout)
    for found in (mixed, both):
        assert [(one["id"], one["what"]) for one in found["changes"]] == [("r005", "changed")]
        assert [one["pointer"] for one in found["changes"][0]["fields"]] == ["/messages/1/content"]
        assert found["changes"][0]["after"]["split"] in ("train", "validation", "test")


def test_a_clean_repository_does_not_differ_whatever_its_folders_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("models/a.jsonl", "runs/x/b.jsonl", "exports/c.jsonl", "d.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"id": name, "q": 1}) + "\n", encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    # What is no data lies beside it on the disk.
    (tmp_path / ".curate").mkdir()
    (tmp_path / ".curate/cache.jsonl").write_text('{"id": "cached"}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run("--since", "HEAD").stdout == "no difference in 4 records\n"
    (tmp_path / "models/a.jsonl").write_text('{"id": "models/a.jsonl", "q": 2}\n', encoding="utf-8")
    found = json.loads(run("--since", "HEAD", "--format", "json").stdout)
    assert [(one["id"], one["what"]) for one in found["changes"]] == [("models/a.jsonl", "changed")]


def test_a_workspace_may_keep_its_records_in_any_folder(make_workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_workspace().root
    (root / "data").rename(root / "exports")
    (root / "curate.toml").write_text('data = ["exports/*.jsonl"]\n', encoding="utf-8")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    monkeypatch.chdir(root)
    assert run("--since", "HEAD").stdout == "no difference in 60 records\n"


@pytest.mark.parametrize("names", [["a", "a", "a-2"], ["a-2", "a", "a"], ["a", "a", "a-2", "a", "a-3", "a-2"]])
def test_repeated_ids_are_told_apart_from_those_that_look_like_it(names: list[str], tmp_path: Path) -> None:
    paths = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path in paths:
        path.write_text("".join(json.dumps({"id": name, "q": n}) + "\n" for n, name in enumerate(names)))
    assert run(*map(str, paths)).stdout == f"no difference in {len(names)} records\n"
    paths[1].write_text(paths[1].read_text().replace('"q": 2', '"q": 9'))
    found = json.loads(run(*map(str, paths), "--format", "json").stdout)
    assert [(one["what"], one["fields"][0]["after"]) for one in found["changes"]] == [("changed", 9)]


@pytest.mark.ci
@pytest.mark.parametrize("arguments", [("HEAD:", "."), ("HEAD:a.jsonl", "a.jsonl")])
def test_what_a_commit_has_is_not_held_in_memory(
    arguments: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.cli._versions import checked_out

    git(tmp_path, "init", "-q")
    with (tmp_path / "a.jsonl").open("w", encoding="utf-8") as file:
        for number in range(40):
            file.write(json.dumps({"id": str(number), "q": "x" * 500_000}) + "\n")
    size = (tmp_path / "a.jsonl").stat().st_size
    (tmp_path / "b.json").write_text("{}", encoding="utf-8")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    tracemalloc.start()
    with checked_out("HEAD", arguments[0].removeprefix("HEAD:"), tmp_path) as place:
        laid = place if place.is_file() else place / "a.jsonl"
        assert laid.stat().st_size == size
        assert place.is_file() or (place / "b.json").read_bytes() == b"{}"
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < size / 4


@pytest.mark.ci
def test_large_data_of_a_commit_has_no_time_limit(committed: ProjectData, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.base import git as runner

    # This git takes longer for what is in files than a small question may take.
    real = shutil.which("git")
    assert real
    folder = committed.root.parent / "bin"
    folder.mkdir()
    slow = f'#!/bin/sh\ncase "$*" in *--batch*) sleep 3;; esac\nexec {real} "$@"\n'
    (folder / "git").write_text(slow, encoding="utf-8")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(runner, "_SECONDS", 2)
    assert run("--since", "HEAD").stdout == "no difference in 60 records\n"


def test_a_commit_that_the_repository_lacks_a_part_of_is_an_error(committed: ProjectData) -> None:
    blob = subprocess.run(
        ["git", "rev-parse", "HEAD:data/a.jsonl"], cwd=committed.root, check=True, capture_output=True, text=True
    ).stdout.strip()
    path = committed.root / ".git/objects" / blob[:2] / blob[2:]
    whole = path.read_bytes()
    for content in (None, b"", whole[: len(whole) // 2]):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        for arguments in (("--since", "HEAD"), ("HEAD:data/a.jsonl", "data/a.jsonl")):
            done = run(*arguments)
            assert isinstance(done.exception, CurateError), (content, arguments)
            assert done.exception.code == "E966 git-refused"
