"""Preferences from lines to checks, comparisons, datasets and the files of those who train on them."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import polars
import pytest

from curate.base.record import Source
from curate.schema import load_shape
from curate.schema.form import Form
from tests.curate.called import call

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"n": [4, 3]}}}],
}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
LINES: list[dict[str, Any]] = [
    {"id": "pair", "prompt": "Where is my parcel?", "chosen": "It is on its way to you.",
     "rejected": "No idea, sorry."},
    {"id": "rated", "system": "Be brief.", "prompt": "Add 2 and 3.",
     "answers": [{"content": "6", "rating": 1}, {"content": "5", "rating": 5}, {"content": "about 5", "rating": 3}]},
    {"id": "tie", "prompt": "Name a river of Italy.",
     "answers": [{"content": "Po", "rating": 1}, {"content": "Arno", "rating": 1}]},
    {"id": "liked", "prompt": "Greet Ana.", "completion": "Hello Ana.", "liked": True},
    {"id": "disliked", "prompt": "Say goodbye to Ben.", "completion": "Go away.", "liked": False},
    {"id": "tools", "messages": [{"role": "user", "content": "Add 4 and 3."}], "chosen": [CALL],
     "rejected": "I cannot add.", "tools": [TOOL]},
]  # fmt: skip
PAIRED = ["pair", "rated", "tools"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return made(tmp_path, LINES)


def made(folder: Path, lines: list[dict[str, Any]]) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "curate.toml").write_text('schema = "preference"\n[split]\nseed = 1\nratios = [1, 0, 0]\n')
    (folder / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def exported(workspace: Path, form: str) -> tuple[dict[str, Any], str]:
    """Return the rows that a format holds, by what is asked in them, and what was said."""
    run = call("export", workspace, "--to", form, "--out", workspace / form)
    assert run.exit_code == 0, run.stderr
    rows = [json.loads(line) for line in (workspace / form / "train.jsonl").read_text().splitlines()]
    return {json.dumps(row.get("prompt") or row.get("input") or row["messages"]): row for row in rows}, run.stderr


def test_a_row_holds_the_conversation_with_the_best_answer_and_all_answers(workspace: Path) -> None:
    run = call("export", workspace)
    assert "best answer" in run.stderr
    rows = {row["id"]: row for row in map(json.loads, (workspace / "dataset/v1/train.jsonl").read_text().splitlines())}
    row_shape = load_shape("row")
    assert all(row_shape.is_valid(row) for row in rows.values())
    assert {row["kind"] for row in rows.values()} == {"preference"}
    assert [message["content"] for message in rows["rated"]["messages"]] == ["Be brief.", "Add 2 and 3.", "5"]
    assert [answer["rating"] for answer in rows["rated"]["answers"]] == [5, 3, 1]
    # Whoever trains on messages alone learns no answer that nobody liked.
    assert rows["disliked"]["messages"][-1] == {"role": "assistant", "content": "Go away.", "train": False}
    assert "train" not in rows["liked"]["messages"][-1]
    assert rows["tools"]["messages"][-1]["tool_calls"] == CALL["tool_calls"]


def test_trl_gets_pairs_and_the_rest_is_counted(workspace: Path) -> None:
    rows, said = exported(workspace, "trl-preference")
    assert len(rows) == len(PAIRED)
    pair = next(row for row in rows.values() if row["prompt"][-1]["content"] == "Add 2 and 3.")
    assert pair["prompt"][0] == {"role": "system", "content": "Be brief."}
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("5", "6")
    assert next(row for row in rows.values() if "tools" in row)["tools"] == [TOOL]
    skipped = [json.loads(line) for line in (workspace / "trl-preference/skipped.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in skipped) == ["disliked", "liked", "tie"]
    assert "takes the best answer and the worst of more than two: 1" in said


def test_unpaired_rows_have_a_label_each(workspace: Path) -> None:
    call("export", workspace, "--to", "trl-unpaired", "--out", workspace / "out")
    rows = [json.loads(line) for line in (workspace / "out/train.jsonl").read_text().splitlines()]
    labels = {(row["prompt"][-1]["content"], row["completion"][-1]["content"]): row["label"] for row in rows}
    assert labels["Greet Ana.", "Hello Ana."] is True
    assert labels["Say goodbye to Ben.", "Go away."] is False
    assert labels["Where is my parcel?", "No idea, sorry."] is False
    assert labels["Add 2 and 3.", "5"] is True
    assert labels["Add 2 and 3.", "6"] is False
    assert len(rows) == 2 + 2 * len(PAIRED)


@pytest.mark.parametrize(
    ("form", "sides"),
    [
        ("openai-preference", ("preferred_output", "non_preferred_output")),
        ("axolotl-preference", ("chosen", "rejected")),
    ],
)
def test_other_trainers_get_pairs(workspace: Path, form: str, sides: tuple[str, str]) -> None:
    rows, _ = exported(workspace, form)
    row = next(row for key, row in rows.items() if "parcel" in key)
    said = [row[side][0] if isinstance(row[side], list) else row[side] for side in sides]
    assert [message["content"] for message in said] == ["It is on its way to you.", "No idea, sorry."]
    assert len(rows) == len(PAIRED)


def test_llama_factory_gets_a_ranking(workspace: Path) -> None:
    call("export", workspace, "--to", "llama-factory-ranking", "--out", workspace / "out")
    rows = json.loads((workspace / "out/train.json").read_text())
    assert len(rows) == len(PAIRED)
    rated = next(row for row in rows if row["system"] == "Be brief.")
    assert rated["conversations"] == [{"from": "human", "value": "Add 2 and 3."}]
    assert (rated["chosen"], rated["rejected"]) == ({"from": "gpt", "value": "5"}, {"from": "gpt", "value": "6"})
    info = json.loads((workspace / "out/dataset_info.json").read_text())
    assert all(entry["ranking"] for entry in info.values())


def test_a_table_has_both_conversations_and_the_line(workspace: Path) -> None:
    call("export", workspace, "--to", "parquet", "--out", workspace / "out")
    frame = polars.read_parquet(workspace / "out/train.parquet")
    rows = {row["id"]: row for row in frame.iter_rows(named=True)}
    assert [turn["content"] for turn in rows["pair"]["rejected"]] == ["Where is my parcel?", "No idea, sorry."]
    assert [turn["content"] for turn in rows["pair"]["chosen"]] == ["Where is my parcel?", "It is on its way to you."]
    assert rows["liked"]["chosen"] is None
    assert {name: json.loads(row["line"]) for name, row in rows.items()} == {line["id"]: line for line in LINES}


def test_formats_of_answers_take_the_chosen_one_and_say_so(workspace: Path) -> None:
    rows, said = exported(workspace, "trl-conversational")
    assert [row["messages"][-1]["content"] for key, row in rows.items() if "parcel" in key] == [
        "It is on its way to you."
    ]
    assert not any("Go away." in key for key in rows)
    # What is skipped is not counted.
    assert "takes the best answer of a preference, the first where several are the best: 5 records." in said
    assert len(rows) == 5
    assert "rejected (2)" in said


def findings_of(workspace: Path, *options: object) -> list[tuple[str, int]]:
    run = call("validate", workspace, "--format", "json", *options)
    return [(finding["code"], finding["line"]) for finding in json.loads(run.stdout)["findings"]]


def test_what_two_preferences_say_of_one_question(tmp_path: Path) -> None:
    pair = {"prompt": "Is tea better?", "chosen": "Yes, it is.", "rejected": "No, never."}
    lines = [
        pair,
        {"prompt": "is tea  better?", "chosen": "No, never.", "rejected": "yes, it is."},
        pair | {"rejected": "I will not say."},
        {"prompt": "Is tea better?", "chosen": "I will not say.", "rejected": "Go away."},
        pair,
        {"prompt": "Another?", "chosen": "Yes.", "rejected": "yes. "},
    ]
    codes = findings_of(made(tmp_path, lines))
    assert ("D304", 2) in codes
    assert any(code == "D305" and line in (3, 4) for code, line in codes)
    assert ("D301", 5) in codes
    assert ("Q216", 6) in codes
    # Several answers to one question are what preferences are for.
    assert not any(code == "D303" for code, _ in codes)


def test_a_baseline_forgives_contradictions_in_any_order_of_the_lines(tmp_path: Path) -> None:
    pairs = [("tea", "milk"), ("milk", "tea"), ("water", "tea"), ("tea", "juice"), ("juice", "tea"), ("tea", "milk")]
    lines = [{"prompt": "What is best?", "chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]
    workspace = made(tmp_path, lines)
    codes = {code for code, _ in findings_of(workspace, "--baseline", tmp_path / "known.json", "--update-baseline")}
    assert not codes
    for start, step in product(range(len(lines)), (1, -1)):
        order = (lines[start:] + lines[:start])[::step]
        (workspace / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in order))
        assert not findings_of(workspace, "--baseline", tmp_path / "known.json")


def test_another_worse_answer_is_no_repeat(tmp_path: Path) -> None:
    long = (
        "The parcel left our house on Monday and will be with you by Friday at noon, if all goes well on the road. " * 3
    )
    pair = {"prompt": "Where is the parcel that I have ordered last week?", "chosen": long, "rejected": "No idea."}
    run = call("dedupe", made(tmp_path, [pair, pair | {"rejected": "Ask somebody else, please."}, pair]))
    assert "1 exact duplicate" in run.stdout + run.stderr
    assert " 0 near" in run.stdout + run.stderr


def test_what_is_private_in_a_rejected_answer_is_found_and_redacted(tmp_path: Path) -> None:
    line = {
        "id": "p",
        "prompt": "Who is there?",
        "chosen": "Nobody.",
        "rejected": "Write to ana.lopez@example-mail.org.",
    }
    workspace = made(tmp_path, [line])
    assert ("X701", 1) in findings_of(workspace)
    call("redact", workspace)
    assert not any(code == "X701" for code, _ in findings_of(workspace))


def test_an_answer_that_nobody_liked_is_not_held_to_what_answers_should_be(tmp_path: Path) -> None:
    lines = [{"prompt": f"Question {liked}?", "completion": "I'm sorry, but I can't assist with that request.",
              "liked": liked} for liked in (True, False)]  # fmt: skip
    assert [finding for finding in findings_of(made(tmp_path, lines)) if finding[0] == "Q206"] == [("Q206", 1)]


def test_a_new_preference_begins_with_two_answers() -> None:
    shape = load_shape("preference")
    form = Form(shape, Form.blank_line(shape))
    assert {"chosen", "rejected"} <= form.to_line().keys()
    form.enter("/prompt", "Add 2 and 3.")
    form.enter("/chosen", "5")
    form.enter("/rejected", "6")
    assert shape.is_valid(form.to_line())


def test_turns_of_an_answer_are_edited_as_cards() -> None:
    shape = load_shape("preference")
    form = Form(shape, LINES[-1])
    assert form.field("/chosen").kind == "list"  # type: ignore[union-attr]
    assert form.field("/rejected").kind in ("line", "text")  # type: ignore[union-attr]


def test_no_other_shape_takes_a_preference() -> None:
    record = load_shape("preference").record(LINES[0], Source("a.jsonl", 1))
    for name in ("instruction", "chat", "domain"):
        with pytest.raises(Exception, match="does not fit"):
            load_shape(name).line(record)


def test_a_rejected_answer_that_an_exam_has_gives_it_away(tmp_path: Path) -> None:
    passage = (
        "The bridge over the river was built in 1901 by two engineers, and its four arches still carry every tram."
    )
    lines: list[dict[str, Any]] = [
        {
            "id": f"f{n}",
            "prompt": f"What is item{n} beside part{n * 7}?",
            "chosen": f"thing{n}",
            "rejected": f"stuff{n}",
        }
        for n in range(30)
    ]
    lines[0] |= {"prompt": "Tell me of the town's oldest crossing.", "chosen": passage, "split": "test"}
    lines[1] |= {"prompt": "Something quite different, please.", "rejected": passage, "split": "train"}
    run = call("leaks", made(tmp_path, lines), "--format", "json")
    assert "f0" in run.stdout
    assert "f1" in run.stdout
