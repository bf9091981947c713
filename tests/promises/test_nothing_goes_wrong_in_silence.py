"""Bad input never crashes and never vanishes.

Every fault has a code, a file, a line, a column and a record id. A row that cannot be read is put aside with the
reason; nothing is dropped, cut or masked without being counted and shown.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars
import pytest

import curate
from tests.promises import outside
from tests.promises.outside import Row

GOOD = '{{"id": "good-{0}", "instruction": "Name colour number {0}.", "output": "It is colour {0}."}}'

DAMAGED: list[tuple[str, bytes, str]] = [
    ("S111", b'{"id": "x", "instruction": "Say@', ""),
    ("S105", b'{"id": "x", "instruction": "Say.", "output": "It.", @"output": "Is."}', ""),
    ("S106", b'{"id": "x", "instruction": "Say.", "output": @NaN}', ""),
    ("S103", b'{"id": "x", "instruction": "Say.", "output": "caf@\xe9 here"}', ""),
    ("S109", b'{"id": "x", "instruction": "Say.", "output": "a@\x00b"}', ""),
    ("S110", b'{"meta": ' + b"[" * 63 + b"@" + b"[" * 9 + b"]" * 72 + b"}", ""),
    ("S108", b'{"id": "x", "instruction": "Say.", "output": "@\\ud800"}', ""),
    ("S107", b'{"id": "x", "instruction": "Say.", "output": "It.", "weight": @1e999}', ""),
    ("S102", b'{"id": "number", "instruction": @5, "output": "It is."}', "number"),
    ("S102", b'@{"id": "missing", "instruction": "Say it, please."}', "missing"),
    ("S112", b"@[1, 2]", ""),
    ("S101", b'@\xef\xbb\xbf{"id": "x", "instruction": "Say.", "output": "It."}', ""),
    ("S113", b"@<<<<<<< HEAD", ""),
    ("S104", b'{"id": @"good-0", "instruction": "Whose id is this?", "output": "Of another one."}', "good-0"),
    ("Q201", b'{"id": "empty", "instruction": "Say hello.", "output": @""}', "empty"),
]
"""A code, a line that deserves it with an @ before the fault, and the record's id where the line can be read."""


def validated(path: Path, *words: str) -> tuple[int, list[Row], Row]:
    """Return the exit code of `curate validate`, its findings, and its summary."""
    done = outside.curate("validate", path, "--format", "json", *words)
    found = json.loads(done.stdout)
    return done.returncode, found["findings"], found


def test_each_damaged_line_is_found_at_its_place_and_the_clean_lines_around_it_are_all_read(tmp_path: Path) -> None:
    damaged = [line.replace(b"@", b"") for _, line, _ in DAMAGED]
    lines = [line for number, bad in enumerate(damaged) for line in (GOOD.format(number).encode(), bad)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([*lines, GOOD.format("last").encode()]) + b"\n")

    code, findings, summary = validated(path)

    assert code == 1
    expected = [(rule, 2 * n + 2, line.index(b"@") + 1, record) for n, (rule, line, record) in enumerate(DAMAGED)]
    errors = [one for one in findings if one["severity"] == "error"]
    assert [(one["code"], one["line"], one["column"], one["record"]) for one in errors] == expected
    assert {one["file"] for one in errors} == {str(path)}
    # A repeated id and an empty answer are faults of lines that can be read.
    assert summary["records"] == len(DAMAGED) + 1 + 2
    assert summary["lines"] == 2 * len(DAMAGED) + 1


def test_findings_beyond_those_that_are_shown_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"no JSON at all, {number}\n" for number in range(250)), encoding="utf-8")
    code, findings, summary = validated(path, "--limit", "3")
    assert (code, len(findings)) == (1, 3)
    assert sum(summary["counts"].values()) == 250


QUESTIONS = [f'What is wonder{n} of place{n * 7}?\nSecond line, "quoted", ä{n} 😀' for n in range(12)]
ANSWERS = [f"It is marvel{n * 3}; 'said' <b>{n}</b>,\ttabbed." for n in range(12)]
PAIRS = list(zip(QUESTIONS, ANSWERS, strict=True))
ALPACA: list[Row] = [{"instruction": q, "input": "", "output": a} for q, a in PAIRS]
ALPACA += [{"instruction": "This one has no output."}, {"instruction": 5, "input": "", "output": "For what?"}]
SHAREGPT: list[Row] = [
    {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]} for q, a in PAIRS
] + [{"conversations": [{"from": "martian", "value": "What am I?"}]}, {"conversations": "This is no list."}]
CHAT: list[Row] = [
    {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in PAIRS
] + [{"messages": [{"role": "user", "content": "Nobody answers."}]}, {"messages": "This is no list."}]


def jsonl(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *PAIRS, ["Only a question."], ["There", "are", "three"]])


def write_parquet(path: Path) -> None:
    columns = {"question": [*QUESTIONS, None, "A question alone."], "answer": [*ANSWERS, "An answer alone.", None]}
    polars.DataFrame(columns).write_parquet(path)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", jsonl(ALPACA))


SOURCES: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("table.csv", write_csv, ["Only a question.", "three"]),
    ("alpaca.json", lambda path: path.write_bytes(json.dumps(ALPACA).encode()), ["has no output", "For what?"]),
    ("rows.jsonl", lambda path: path.write_bytes(jsonl(ALPACA)), ["has no output", "For what?"]),
    ("sharegpt.json", lambda path: path.write_bytes(json.dumps(SHAREGPT).encode()), ["What am I?", "is no list"]),
    ("chat.jsonl", lambda path: path.write_bytes(jsonl(CHAT)), ["Nobody answers.", "is no list"]),
    ("rows.jsonl.gz", lambda path: path.write_bytes(gzip.compress(jsonl(ALPACA))), ["has no output", "For what?"]),
    ("rows.zip", write_zip, ["has no output", "For what?"]),
    ("table.parquet", write_parquet, ["An answer alone.", "A question alone."]),
]


@pytest.mark.parametrize(("name", "write", "aside"), SOURCES, ids=[name for name, _, _ in SOURCES])
def test_every_row_of_an_import_is_a_record_or_lies_in_quarantine_with_the_reason(
    name: str, write: Callable[[Path], object], aside: list[str], tmp_path: Path
) -> None:
    source, workspace = tmp_path / name, tmp_path / "work"
    write(source)

    done = outside.curate("init", workspace, source)

    assert done.returncode == 1
    with curate.open(workspace) as project:
        assert sorted((record.prompt, record.completion) for record in project.records()) == sorted(PAIRS)
    kept = [row for path in workspace.glob("quarantine/*") for row in outside.read_rows(path)]
    assert len(kept) == len(aside)
    for row, words in zip(kept, aside, strict=True):
        assert words in row["raw"]
        assert row["file"].endswith(name)
        assert row["line"] >= 1
        assert re.fullmatch(r"S1\d\d", row["code"])
        assert row["reason"]


def test_every_record_is_exported_or_listed_as_left_out_with_the_reason(tmp_path: Path) -> None:
    rows = outside.rows_on("cards", 30) + outside.rows_on("loans", 30)
    copies = [rows[number] | {"id": f"copy-{number}"} for number in range(3)]
    workspace = outside.make_workspace(tmp_path / "work", rows + copies)
    outside.succeed(outside.curate("drop", "cards-007", workspace, "--reason", "off topic", "--by", "ana"))

    outside.succeed(outside.curate("export", workspace))

    exported = [row["id"] for split in outside.read_export(workspace).values() for row in split]
    left_out = outside.read_rows(workspace / "dataset/v1/dropped.jsonl")
    assert sorted(exported + [row["id"] for row in left_out]) == sorted(row["id"] for row in rows + copies)
    reasons = {row["id"]: (row["code"], row["kept"]) for row in left_out}
    assert reasons.pop("cards-007") == ("decision", "")
    assert reasons == {f"copy-{number}": ("D301", f"cards-{number:03}") for number in range(3)}
    assert [row["reason"] for row in left_out if row["id"] == "cards-007"] == ["off topic"]


def decide(workspace: Path, by: str, *decisions: Any) -> None:
    with curate.open(workspace, by=by) as project:
        project.apply(list(decisions))


def test_two_people_who_decide_apart_are_shown_as_a_conflict_and_nobody_is_overruled(tmp_path: Path) -> None:
    ours = outside.make_workspace(tmp_path / "ours", outside.rows_on("cards", 10))
    theirs = Path(shutil.copytree(ours, tmp_path / "theirs"))
    decide(ours, "ana", curate.Edit("cards-001", {"output": "Ana says this."}), curate.Label("cards-002", "q", "good"))
    decide(theirs, "bo", curate.Edit("cards-001", {"output": "Bo says that."}), curate.Label("cards-002", "q", "bad"))
    assert validated(ours)[0] == 0

    shutil.copytree(theirs / "journal", ours / "journal", dirs_exist_ok=True)

    code, findings, _ = validated(ours)
    assert code == 1
    conflicts = [(one["code"], one["record"], one["line"]) for one in findings if one["code"].startswith("L")]
    assert conflicts == [("L403", "cards-001", 2), ("L402", "cards-002", 3)]
    assert outside.curate("export", ours).returncode == 1
    assert not (ours / "dataset").exists()
    shown = outside.curate("review", ours, "--plain").stdout
    assert "Ana says this." in shown
    assert "Bo says that." in shown


def test_what_a_person_wrote_is_not_overwritten_by_a_file_that_is_imported_again(tmp_path: Path) -> None:
    rows = outside.rows_on("cards", 6)
    source, workspace = outside.write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "work"
    outside.succeed(outside.curate("init", workspace, source))
    decide(workspace, "ana", curate.Edit("cards-001", {"output": "Ana wrote this."}))
    rows[1]["output"], rows[2]["output"] = "The file says another thing now.", "The file alone changed this."
    outside.write_rows(source, rows[:-1])

    done = outside.curate("import", source, "--into", workspace, "--update")

    assert "cards-001" in done.stderr
    # A record that the file has no more stays, and that is said.
    assert "cards-005" in done.stdout
    with curate.open(workspace) as project:
        answers = {record.id: record.completion for record in project.records()}
    assert len(answers) == len(rows)
    assert (answers["cards-001"], answers["cards-002"]) == ("Ana wrote this.", "The file alone changed this.")
    code, findings, _ = validated(workspace)
    assert code == 1
    assert [(one["code"], one["record"]) for one in findings if one["severity"] == "error"] == [("L403", "cards-001")]


def test_a_repair_changes_the_strings_that_it_names_and_no_other_byte(tmp_path: Path) -> None:
    spelled = b'{"id":"one",   "instruction":"Name\\u0020a colour.","output":"Blue\\/green.","meta":{"x":[1,2.0,3e2]}}'
    broken = (
        '{"id":"two" ,  "instruction":"CafÃ© was meant?","output": "It is\\u0020fine.  ", "meta":{"n": 1.50}}'.encode()
    )
    repaired = broken.replace("CafÃ©".encode(), "Café".encode()).replace(b"fine.  ", b"fine.")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(spelled + b"\n" + broken + b"\r\n\n" + spelled.replace(b"one", b"three") + b"\n")

    done = outside.curate("validate", path, "--fix", "--ignore", "D3")

    assert path.read_bytes() == spelled + b"\n" + repaired + b"\n" + spelled.replace(b"one", b"three") + b"\n"
    figures = re.findall(r"(\d+) (crlf|mojibake|trim|blank-line)", done.stdout + done.stderr)
    assert sorted(figures) == [("1", "blank-line"), ("1", "crlf"), ("1", "mojibake"), ("1", "trim")]
    once = path.read_bytes()
    outside.succeed(outside.curate("validate", path, "--fix", "--ignore", "D3"))
    assert path.read_bytes() == once


def test_redaction_counts_each_value_that_it_replaces_and_touches_nothing_else(tmp_path: Path) -> None:
    keys = [f"AKIA{'ABCDEFGHIJKLMNOP'[n:]}{'QRST'[:n]}" for n in range(4)]
    rows: list[Row] = [
        {
            "id": f"desk-{n}",
            "instruction": f"Who is at desk {n}?",
            "output": f"a{n % 3}@kestrel.dev or b@kestrel.dev, key {keys[n % 4]}",
        }
        for n in range(8)
    ]
    rows.append({"id": "none", "instruction": "Who is there?", "output": "Nobody at all."})
    path = outside.write_rows(tmp_path / "rows.jsonl", rows)

    done = outside.curate("redact", path, cwd=tmp_path)

    after = outside.read_rows(path)
    written = path.read_text(encoding="utf-8")
    assert not any(key in written for key in keys)
    found = re.findall(r"\[(EMAIL|SECRET)_(\d+)\]", written)
    assert len(found) == 24
    assert len(set(found)) == 4 + 4
    assert after[-1] == rows[-1]
    for before, now in zip(rows, after, strict=True):
        assert re.sub(r"\w+@kestrel\.dev|AKIA\w{16}", "", before["output"]) == re.sub(r"\[\w+_\d+\]", "", now["output"])
        assert {k: v for k, v in before.items() if k != "output"} == {k: v for k, v in now.items() if k != "output"}
    figures = {kind: int(count) for count, kind in re.findall(r"(\d+) (EMAIL|SECRET)", done.stdout + done.stderr)}
    assert figures == {"EMAIL": 16, "SECRET": 8}


DECISIONS = [
    curate.Drop("nobody", reason="x"),
    curate.Restore("nobody"),
    curate.Label("nobody", "q", "good"),
    curate.Edit("nobody", {"output": "x"}),
    curate.Assign("nobody", "train"),
    curate.Approve("nobody"),
]


def test_a_decision_on_a_record_that_is_not_there_is_an_error_and_nothing_of_it_is_saved(tmp_path: Path) -> None:
    workspace = outside.make_workspace(tmp_path / "work", outside.rows_on("cards", 3))
    with curate.open(workspace, by="ana") as project:
        for decision in DECISIONS:
            with pytest.raises(curate.CurateError) as caught:
                project.apply([curate.Drop("cards-000", reason="it comes with one that fails"), decision])
            assert caught.value.code == "E916 unknown-record"
            assert not project.state("cards-000").exclusion
    for verb in ("drop", "approve", "log"):
        words = ["log", workspace, "nobody"] if verb == "log" else [verb, "nobody", workspace, "--by", "ana"]
        done = outside.curate(*words, *(["--reason", "x"] if verb == "drop" else []))
        assert (done.returncode, "E916" in done.stderr) == (2, True), verb
    # There is nothing to take back, and that is no success.
    assert outside.curate("undo", workspace, "--by", "ana").returncode == 1


def test_a_record_that_is_too_long_is_never_cut_without_being_named(tmp_path: Path) -> None:
    rows = outside.rows_on("cards", 12)
    rows[4] |= {"output": "And so it goes on and on, word by word. " * 40, "split": "train"}
    workspace = outside.make_workspace(tmp_path / "work", rows)
    outside.succeed(outside.curate("export", workspace))
    num_rows = len(outside.read_export(workspace)["train"])
    call = ["plan", workspace / "dataset/v1", "--base", outside.TINY_BASE, "--no-measure", "--set", "max_length=200"]

    refused = outside.train(*call)

    assert refused.returncode == 2
    assert re.search(rf"E925.* 1 of {num_rows} .*cards-004", refused.stderr)
    cut = outside.train(*call, "--set", "on_too_long=cut")
    assert re.search(rf"records +{num_rows} ", outside.succeed(cut))
    assert re.search(r"1 train record .*cards-004", cut.stderr)


def test_a_category_that_its_scorer_cannot_score_is_told_before_a_step_is_trained(tmp_path: Path) -> None:
    rows = [row | {"category": "prose"} for row in outside.rows_on("cards", 40)]
    rows += [row | {"output": ("yes", "no")[n % 2]} for n, row in enumerate(outside.rows_on("sure", 40))]
    # No number stands in an answer of prose.
    rows = [row | {"output": re.sub(r"\d", "", row["output"])} for row in rows]
    scorers = '[categories.prose]\nscorer = "numeric"\n[categories.sure]\nscorer = "choice_logprob"\n'
    settings = f'[split]\nseed = 1\n{scorers}options = {{ choices = ["yes", "no"] }}\n'
    workspace = outside.make_workspace(tmp_path / "work", rows, settings)
    outside.succeed(outside.curate("export", workspace))
    asked = {split: sum(row["category"] == "prose" for row in part)
             for split, part in outside.read_export(workspace).items() if split != "train"}  # fmt: skip

    for verb, option in (("plan", "--no-measure"), ("run", "--dry-run")):
        done = outside.train(verb, workspace / "dataset/v1", "--base", outside.TINY_BASE, option)

        outside.succeed(done)
        told = re.findall(r"warning: (\S+): 0 of (\d+) (\w+) references suit the scorer numeric; .*", done.stderr)
        assert {split: int(n) for _, n, split in told} == asked
        assert {name for name, *_ in told} == {"prose"}
        assert 'Set [categories."prose"] scorer in curate.toml and export again.' in done.stderr
        assert "sure:" not in done.stderr
