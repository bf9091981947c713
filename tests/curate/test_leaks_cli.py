"""`curate leaks` as a user calls it, the files it can read, and the gate before an export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curate.base.record import CurateError, Exit
from curate.checks import SharedText
from curate.checks.splits import benchmark_contamination, shared_passage
from curate.cli.leaks import command
from curate.project.data import load_data
from curate.project.publish import export_dataset
from curate.schema.settings import Settings
from curate.similarity.leaks.reading import read_any

ASKED = "How many tokens may a context window of this size hold when each of its pages has forty lines of text?"
OTHER = "Which river runs through the old town before it reaches the sea, and who built the first bridge across it?"
SEED = "[split]\nseed = 1\n"


def call(*arguments: object) -> tuple[int, str, str]:
    """Run the verb and return its exit code, stdout and stderr."""
    done = CliRunner().invoke(command, [str(one) for one in arguments], standalone_mode=False)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return int(done.return_value), done.stdout, done.stderr


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def line(asked: str, answer: str = "No.", **more: Any) -> dict[str, Any]:
    return {"instruction": asked, "output": answer, **more}


def filler(count: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [
        line(f"What is item{n} beside thing{n * 7} and part{n * 13}?", f"stuff{n}", **more)
        for n in range(start, start + count)
    ]


def test_two_files_are_compared_and_the_pair_is_named(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [*filler(5), line(ASKED, "Many.")])
    exam = write(tmp_path / "exam.jsonl", [line(OTHER), line(ASKED)])
    code, out, err = call(train, "--against", exam)
    assert code == Exit.FINDINGS
    assert out.splitlines() == [
        f"{exam}: 2 records against 6 training records: 1 verbatim, 0 near, 0 partial",
        f"{exam}:2 <- {train}:6: verbatim prompt, 100% of 21 words, 21 in a row",
    ]
    assert f"{exam}: 2 records, read as alpaca" in err
    assert "context window" not in out + err
    shown = call(train, "--against", exam, "--explain")[1].splitlines()
    assert shown[2] == "    how many tokens may a context window of this size hold when…"


@pytest.mark.parametrize(
    ("level", "fail_on", "code"),
    [
        ("near", "error", 1),
        ("near", "warning", 1),
        ("near", "never", 0),
        ("partial", "error", 0),
        ("partial", "warning", 1),
        ("partial", "never", 0),
    ],
)
def test_the_level_decides_how_it_ends(tmp_path: Path, level: str, fail_on: str, code: int) -> None:
    words = ASKED.split()
    changed = (
        [*words[:9], "shelf", *words[10:]]
        if level == "near"
        else [*words, *OTHER.split()[:4], *(f"w{n}" for n in range(90))]
    )
    train = write(tmp_path / "train.jsonl", [line(ASKED)])
    exam = write(tmp_path / "exam.jsonl", [line(" ".join(changed))])
    found, out, _ = call(train, "--against", exam, "--fail-on", fail_on)
    assert f"1 {level}" in out
    assert found == code


def test_a_file_is_divided_by_the_split_of_its_lines(tmp_path: Path) -> None:
    rows = [
        line(ASKED, split="train"),
        line(OTHER, split="validation"),
        line(ASKED.upper(), "Yes.", split="validation"),
        line(OTHER, "Yes.", split="test"),
    ]
    code, out, _ = call(write(tmp_path / "all.jsonl", rows), "--format", "jsonl")
    assert code == Exit.FINDINGS
    pairs = [(one["exam"], one["record"]["line"], one["source"]["line"]) for one in map(json.loads, out.splitlines())]
    assert pairs == [("validation", 3, 1), ("test", 4, 2)]


def test_json_holds_counts_and_every_part(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [line(ASKED, OTHER)])
    exam = write(tmp_path / "exam.jsonl", [line(ASKED, OTHER, id="q1"), line("Who?")])
    document = json.loads(call(train, "--against", exam, "--format", "json")[1])
    assert document["exams"] == [
        {
            "exam": str(exam), "records": 2, "trained": 1, "templates": 0, "unread": 0,
            "counts": {"verbatim": 1, "near": 0, "partial": 0}, "errors": 1, "excused": 0,
        }
    ]  # fmt: skip
    (leak,) = document["leaks"]
    assert leak["record"] == {"file": str(exam), "line": 1, "record": "q1"}
    assert [part["part"] for part in leak["parts"]] == ["record", "prompt", "completion"]
    assert "passage" not in leak["parts"][0]
    (leak,) = json.loads(call(train, "--against", exam, "--format", "json", "--explain")[1])["leaks"]
    assert leak["parts"][1]["passage"] == ASKED.lower().replace("?", "").replace(",", "")


CHAT = {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": "5"}]}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("questions.jsonl", {"question": ASKED, "level": 3}, "questions in 'question'"),
        ("null.jsonl", {"question": ASKED, "answer": None}, "questions in 'question'"),
        ("turns.jsonl", {"question_id": 7, "topic": "x", "turns": [ASKED, "And why?"]}, "questions in 'turns'"),
        ("body.jsonl", {"key": "a1", "body": ASKED}, "questions in 'body'"),
        ("chat.jsonl", CHAT, "openai"),
        ("list.json", [{"problem": ASKED, "solution": "5"}], "mapping"),
        ("page.jsonl", {"text": f"{OTHER} {ASKED}"}, "text"),
        ("table.csv", f'question,answer\n"{ASKED}",5', "mapping"),
    ],
)
def test_any_form_of_exam_is_read(tmp_path: Path, name: str, content: Any, told: str) -> None:
    exam = tmp_path / name
    exam.write_text((content if isinstance(content, str) else json.dumps(content)) + "\n", encoding="utf-8")
    reading = read_any(exam)
    assert reading.description == told
    assert (len(reading.records), reading.num_unread) == (1, 0)
    train = write(tmp_path / "train.jsonl", [line(f"{OTHER} {ASKED}")])
    code, out, _ = call(train, "--against", exam)
    assert code == Exit.FINDINGS
    assert f"{exam}:{2 if name == 'table.csv' else 1} <- {train}:1: " in out


def test_parquet_is_read_and_a_column_can_be_named(tmp_path: Path) -> None:
    import polars

    exam = tmp_path / "exam.parquet"
    polars.DataFrame({"ctx": [OTHER], "endings": [[ASKED * 3, "b"]]}).write_parquet(exam)
    train = write(tmp_path / "train.jsonl", [line(OTHER)])
    code, _, err = call(train, "--against", exam)
    assert code == Exit.FINDINGS
    assert "read as questions in 'ctx'" in err
    assert call(train, "--against", exam, "--map", "text=/endings/0")[0] == Exit.OK


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    exam = tmp_path / "exam.jsonl"
    exam.write_text(
        "\n".join([json.dumps(line(ASKED)), "{broken", json.dumps({"instruction": 3}), ""]), encoding="utf-8"
    )
    assert read_any(exam).num_unread == 2
    train = write(tmp_path / "train.jsonl", [line(OTHER)])
    assert "1 record, read as alpaca; 2 rows could not be read" in call(train, "--against", exam)[2]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'{"a": 1}\n', b"[1, 2]\n", b"PK\x03\x04rest"])
def test_an_exam_without_text_is_refused(tmp_path: Path, content: bytes) -> None:
    exam = tmp_path / "exam.jsonl"
    exam.write_bytes(content)
    with pytest.raises(CurateError, match=r"exam\.jsonl") as caught:
        call(write(tmp_path / "train.jsonl", [line(OTHER)]), "--against", exam)
    assert caught.value.code == "E908 cannot-import"


def test_without_an_exam_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no exam") as caught:
        call(write(tmp_path / "train.jsonl", [line(OTHER)]))
    assert caught.value.code == "E964 nothing-to-compare"


@pytest.fixture
def workspace(make_workspace: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes a workspace of fillers and some lines, with a benchmark in its own folder."""

    def make(lines: list[dict[str, Any]], settings: str = "", benchmark: tuple[str, ...] = (ASKED,)) -> Any:
        made = make_workspace([*filler(40), *lines], f"{SEED}{settings}")
        (made.root / "benchmarks").mkdir()
        rows = [{"question": one, "x-ignore": 5} for one in benchmark]
        write(made.root / "benchmarks" / "exam.jsonl", rows)
        return load_data(made.root)

    return make


@pytest.mark.parametrize(
    ("judge", "level", "part", "split", "said"),
    [
        (benchmark_contamination, "verbatim", "prompt", "", "training record; it has the prompt of the benchmark "),
        (benchmark_contamination, "near", "prompt", "", "training record; it has most of the prompt of the benchmark "),
        (benchmark_contamination, "verbatim", "record", "", "training record; it has the whole of the benchmark "),
        (benchmark_contamination, "near", "record", "", "training record; it has most of the benchmark record X"),
        (shared_passage, "partial", "prompt", "", "training record; it has a passage of the prompt of the benchmark "),
        (shared_passage, "partial", "prompt", "test", "test record; a passage of its prompt also stands in X ("),
    ],
)  # fmt: skip
def test_a_finding_says_whose_text_stands_where(judge: Any, level: Any, part: Any, split: str, said: str) -> None:
    shared = SharedText(level=level, part=part, coverage=0.5, run=9, spot="X", split=split)
    (problem,) = judge(shared, Settings())
    assert problem.message.startswith(said)


AGAINST = '[leaks]\nagainst = ["benchmarks/*.jsonl"]\n'


def test_a_contaminated_dataset_is_not_written(workspace: Callable[..., Any]) -> None:
    made = workspace([line(ASKED, split="train", id="bad")], AGAINST)
    with pytest.raises(CurateError) as caught:
        export_dataset(made)
    assert caught.value.code == "E907 dirty-data"
    assert caught.value.exit_code == Exit.FINDINGS
    assert caught.value.message.splitlines() == [
        "1 error blocks the export: P504 benchmark-contamination x1",
        "  data/a.jsonl:41:1: P504 training record; it has the prompt of the benchmark record benchmarks/exam.jsonl:1 "
        "(verbatim: 100%, 21 words in a row)",
    ]
    assert not (made.root / "dataset").exists()
    write(made.root / "data" / "b.jsonl", [line(ASKED.upper(), "Yes.", split="train")])
    with pytest.raises(CurateError, match="2 errors") as caught:
        export_dataset(load_data(made.root))
    assert [told.split(": ")[0] for told in caught.value.message.splitlines()[1:]] == [
        "  data/a.jsonl:41:1",
        "  data/b.jsonl:1:1",
    ]
    code, out, _ = call(made.root)
    assert code == Exit.FINDINGS
    assert "benchmarks/exam.jsonl:1 <- data/a.jsonl:41: verbatim prompt" in out
    assert "; 1 other record too" in out
    assert "    also data/b.jsonl:1: verbatim prompt" in call(made.root, "--explain")[1]


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ({"split": "test"}, AGAINST),
        ({"split": "train"}, ""),
        ({"split": "train"}, f'{AGAINST}[checks]\nignore = ["P504"]\n'),
        ({"split": "train"}, f'{AGAINST}[checks]\nseverity = {{benchmark-contamination = "warning"}}\n'),
        ({"split": "train", "x-ignore": ["benchmark-contamination"]}, AGAINST),
    ],
)
def test_a_benchmark_may_be_named_where_it_is_no_matter(
    workspace: Callable[..., Any], more: dict[str, Any], settings: str
) -> None:
    made, planned = export_dataset(workspace([line(ASKED, **more)], settings))
    assert made.is_new
    is_told = "severity" in settings
    assert [one.code for one in planned.leaks] == ["P504"] * is_told
    assert made.manifest.findings.get("P504", 0) == is_told


def test_what_the_splits_share_is_told_and_counted_in_the_manifest(workspace: Callable[..., Any]) -> None:
    page = " ".join(f"page{n}" for n in range(15))
    asking = line("Who?", f"{page} {' '.join(f'w{n}' for n in range(60))}", split="train")
    made, planned = export_dataset(workspace([asking, line(f"{page} {OTHER}", split="test", id="t1")]))
    (finding,) = planned.leaks
    assert (finding.code, finding.severity, finding.line, finding.record) == ("P505", "warning", 42, "t1")
    assert finding.message == (
        "test record; a passage of its prompt also stands in data/a.jsonl:41 (partial: 43%, 15 words in a row)"
    )
    assert made.manifest.findings["P505"] == 1


def test_a_glob_that_matches_nothing_is_refused(workspace: Callable[..., Any]) -> None:
    made = workspace([], '[leaks]\nagainst = ["benchmark/*.jsonl"]\n')
    for act in (lambda: export_dataset(made), lambda: call(made.root)):
        with pytest.raises(CurateError, match=r"benchmark/\*\.jsonl") as caught:
            act()
        assert caught.value.code == "E964 nothing-to-compare"


def test_splits_hold_as_the_last_dataset_has_them(workspace: Callable[..., Any]) -> None:
    made = workspace([line(ASKED, id="a", split="test")])
    export_dataset(made)
    # Who edits the split of a record in a dataset moves nobody.
    path = made.root / "data" / "a.jsonl"
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"'))
    write(made.root / "data" / "b.jsonl", [line(f"{OTHER} {ASKED}", id="new", split="train")])
    code, out, _ = call(made.root)
    assert code == Exit.FINDINGS
    assert "data/a.jsonl:41 <- data/b.jsonl:1: verbatim prompt" in out


def test_records_without_a_split_are_compared_as_they_would_be_divided(workspace: Callable[..., Any]) -> None:
    twice = [line(ASKED, id="a"), line(ASKED, id="b")]
    code, out, err = call(workspace(twice).root)
    assert code == Exit.OK
    assert "records are split as in the next dataset, without duplicates" in err
    assert "the test split: " in out
    assert "0 verbatim, 0 near, 0 partial" in out


def test_without_a_seed_only_the_lines_say_who_is_examined(make_workspace: Callable[..., Any]) -> None:
    rows = [*filler(5), line(ASKED, split="train"), line(ASKED, "Yes.", split="test")]
    code, out, err = call(make_workspace(rows, "").root)
    assert code == Exit.FINDINGS
    assert "divided" not in err
    assert "the test split: 1 record against 6 training records: 1 verbatim" in out
    with pytest.raises(CurateError, match="one split only"):
        call(make_workspace(filler(5), "", "other").root)
