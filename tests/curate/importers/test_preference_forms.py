"""Preferences of other tools become records; no other workspace takes them for answers to train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.formats.import_plan import Reading
from curate.project.init import make_workspace
from tests.curate.called import call
from tests.curate.test_preference import LINES, made

ASK = {"role": "user", "content": "Say hi."}
HELLO = {"role": "assistant", "content": "Hello."}
AWAY = {"role": "assistant", "content": "Go away."}
PAIR = {"prompt": "Say hi.", "chosen": "Hello.", "rejected": "Go away."}
TALK = [ASK, HELLO, {"role": "user", "content": "Again."}]
HH = "\n\nHuman: Say hi.\n\nAssistant: Hello.\n\nHuman: Again.\n\nAssistant: "

ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "texts": (PAIR, PAIR),
    "messages": ({"prompt": [ASK], "chosen": [HELLO], "rejected": [AWAY]}, PAIR),
    "whole-conversations": ({"chosen": [*TALK, HELLO], "rejected": [*TALK, AWAY]},
                            {"messages": TALK, "chosen": "Hello.", "rejected": "Go away."}),
    "with-copies": ({"prompt": "Say hi.", "chosen": [ASK, HELLO], "rejected": [ASK, AWAY], "messages": [ASK, HELLO]},
                    PAIR | {"meta": {"extra": {"messages": [ASK, HELLO]}}}),
    "llama-factory": ({"conversations": [{"from": "human", "value": "Say hi."}],
                       "chosen": {"from": "gpt", "value": "Hello."}, "rejected": {"from": "gpt", "value": "Go away."}},
                      PAIR),
    "llama-factory-alpaca": ({"instruction": "Say", "input": "hi.", "chosen": "Hello.", "rejected": "Go away."},
                             PAIR | {"prompt": "Say\n\nhi."}),
    "system": (PAIR | {"system": "Be kind."}, PAIR | {"system": "Be kind."}),
    "hh": ({"chosen": HH + "Hello.", "rejected": HH + "Go away."},
           {"messages": TALK, "chosen": "Hello.", "rejected": "Go away."}),
    "openai": ({"input": {"messages": [ASK], "tools": [], "parallel_tool_calls": True}, "preferred_output": [HELLO],
                "non_preferred_output": [AWAY]}, PAIR | {"meta": {"extra": {"input": {"parallel_tool_calls": True}}}}),
    "rated": ({"instruction": "Say hi.", "completions": [{"model": "a", "response": "Hello.", "overall_score": 4.5},
                                                         {"model": "b", "response": "Go away.", "overall_score": 1}]},
              {"prompt": "Say hi.", "answers": [{"content": "Hello.", "rating": 4.5, "model": "a"},
                                                {"content": "Go away.", "rating": 1, "model": "b"}]}),
    "kto-messages": ({"messages": [ASK, HELLO], "kto_tag": True},
                     {"prompt": "Say hi.", "completion": "Hello.", "liked": True}),
}  # fmt: skip


def initialised(folder: Path, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Make a workspace of rows, and return its lines and what was said."""
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = call("init", folder / "made", source)
    assert run.exit_code in (0, 1), run.stderr
    assert 'schema = "preference"' in (folder / "made/curate.toml").read_text()
    lines = (folder / "made/data/rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], run.stdout + run.stderr


@pytest.mark.parametrize("name", ROWS)
def test_a_form_becomes_a_preference(name: str, tmp_path: Path) -> None:
    row, line = ROWS[name]
    assert initialised(tmp_path, [row])[0] == [line]


def test_verdicts_of_a_column_become_liked_or_not(tmp_path: Path) -> None:
    rows = [{"instruction": "Say hi.", "output": text, "label": label} for text, label in (("Hello.", 1), ("Go.", 0))]
    lines, _ = initialised(tmp_path, rows)
    assert [(line["completion"], line["liked"]) for line in lines] == [("Hello.", True), ("Go.", False)]


def test_a_workspace_of_answers_takes_no_pair_unasked(tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    call("init", workspace)
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(PAIR) + "\n")
    run = call("import", source, "--into", workspace)
    assert run.exit_code == 2
    assert "preference pairs" in run.stderr
    run = call(
        "import", source, "--into", workspace, "--map", "instruction=prompt,output=chosen", "--to-meta", "rejected"
    )
    assert run.exit_code == 0, run.stderr


def test_conversations_that_do_not_begin_alike_are_set_aside(tmp_path: Path) -> None:
    rows = [{"chosen": [ASK, HELLO], "rejected": [{"role": "user", "content": "Other."}, AWAY]}, PAIR]
    lines, said = initialised(tmp_path, rows)
    assert lines == [PAIR]
    assert "quarantine" in said


@pytest.mark.parametrize(
    "form",
    ["trl-preference", "openai-preference", "axolotl-preference", "llama-factory-ranking", "parquet", "dataset"],
)
def test_pairs_come_back_from_what_was_exported(form: str, tmp_path: Path) -> None:
    # Turns with tool calls have an id in one format and none in another.
    pairs = [line for line in LINES if "chosen" in line and "tools" not in line]
    workspace = made(tmp_path / "ws", pairs)
    out = workspace / "dataset/v1"
    if form == "dataset":
        call("export", workspace)
    else:
        out = tmp_path / "out"
        call("export", workspace, "--to", form, "--out", out)
    file = next(path for path in sorted(out.glob("train.*")))
    run = call("init", tmp_path / "back", file)
    assert run.exit_code == 0, run.stderr
    back = [json.loads(line) for line in (tmp_path / "back/data/train.jsonl").read_text().splitlines()]
    assert [(line["chosen"], line["rejected"]) for line in back] == [
        (line["chosen"], line["rejected"]) for line in pairs
    ]
    if form in ("parquet", "dataset"):
        assert [line["id"] for line in back] == [line["id"] for line in pairs]
    if form == "parquet":
        assert [{k: v for k, v in line.items() if k != "split"} for line in back] == pairs


def test_all_bodies_come_back_from_a_table(tmp_path: Path) -> None:
    workspace = made(tmp_path / "ws", LINES)
    call("export", workspace, "--to", "parquet", "--out", tmp_path / "out")
    call("init", tmp_path / "back", tmp_path / "out/train.parquet")
    back = [json.loads(line) for line in (tmp_path / "back/data/train.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in line.items() if k != "split"} for line in back] == LINES


def test_an_odd_verdict_among_others_makes_no_answer_to_train(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Say hi.", "completion": f"Hello {n}.", "label": label} for n, label in enumerate([1, 0, 1, "?"])
    ]
    lines, said = initialised(tmp_path, rows)
    assert [line["liked"] for line in lines] == [True, False, True]
    assert "quarantine" in said


BEGUN = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "What?"}, ASK]
# By name: a row as a published set has it, and where its columns go.
PLACES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "ultrafeedback": (
        {"instruction": "Say hi.", "models": ["a", "b"], "source": "evol", "completions": [
            {"model": "a", "response": "Hello.", "overall_score": 8.5, "annotations": {"helpfulness": {"Rating": 8.5}}},
            {"model": "b", "response": "Go away.", "overall_score": 2.0, "annotations": {}}]},
        {"instruction": "prompt", "models": "meta", "source": "meta", "completions": "rated answers"},
    ),
    "nectar": (
        {"prompt": "\n\nHuman: Say hi.\n\nAssistant: ", "turns": 7, "answers": [
            {"answer": "Hello.", "model": "a", "score": 7, "rank": 1.0}, {"answer": "No.", "model": "b", "score": 1}]},
        {"prompt": "prompt", "turns": "meta", "answers": "rated answers"},
    ),
    "binarized": (
        {"prompt": "Say hi.", "chosen": [ASK, HELLO], "rejected": [ASK, AWAY], "messages": [ASK, HELLO], "score": 1},
        {"prompt": "prompt", "chosen": "prompt and chosen answer", "rejected": "prompt and rejected answer",
         "messages": "meta", "score": "meta"},
    ),
    "ranking": (
        {"conversations": [{"from": "human", "value": "Say hi."}], "chosen": {"from": "gpt", "value": "Hello."},
         "rejected": {"from": "gpt", "value": "Go away."}, "system": "Be kind."},
        {"conversations": "prompt", "chosen": "chosen answer", "rejected": "rejected answer",
         "system": "prompt (system)"},
    ),
    "hh": (
        {"chosen": "\n\nHuman: Say hi.\n\nAssistant: Hello.", "rejected": "\n\nHuman: Say hi.\n\nAssistant: Go away."},
        {"chosen": "prompt and chosen answer", "rejected": "prompt and rejected answer"},
    ),
    "openai": (
        {"input": {"messages": BEGUN, "tools": [], "parallel_tool_calls": True},
         "preferred_output": [HELLO], "non_preferred_output": [AWAY]},
        {"input": "prompt", "preferred_output": "chosen answer", "non_preferred_output": "rejected answer"},
    ),
    "kto": (
        {"messages": [ASK, HELLO], "kto_tag": True, "score": 1, "topic": "Hello."},
        {"messages": "prompt and completion", "kto_tag": "verdict", "score": "meta", "topic": "meta"},
    ),
    "kto-words": (
        {"prompt": "Say hi.", "completion": "Hello.", "label": "good", "other": "Say hi."},
        {"prompt": "prompt", "completion": "completion", "label": "verdict", "other": "meta"},
    ),
    "rated": (
        {"prompt": "Say hi.", "answers": [{"content": "Hello.", "rating": 4}, {"content": "No.", "rating": 1}]},
        {"prompt": "prompt", "answers": "rated answers"},
    ),
    "kto-labels": (
        {"prompt": "Say hi.", "completion": "Hello.", "label": "good", "labels": {"tone": "dry"}},
        {"prompt": "prompt", "completion": "completion", "label": "verdict", "labels": "labels"},
    ),
    "tree": (
        {"message_tree_id": "t1", "prompt": {"text": "Say hi.", "role": "prompter", "replies": [
            {"text": "Hello.", "role": "assistant", "replies": []}]}},
        {"message_tree_id": "meta", "prompt": "prompt and completion"},
    ),
    "squad": (
        {"title": "Bridges", "paragraphs": [{"context": "Built in 1901.", "qas": [
            {"question": "When?", "answers": [{"text": "1901", "answer_start": 9}]}]}]},
        {"title": "meta", "paragraphs": "prompt and completion"},
    ),
    "begun": (
        {"messages": BEGUN, "chosen": [HELLO], "rejected": "Go away."},
        {"messages": "prompt", "chosen": "chosen answer", "rejected": "rejected answer"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_the_table_says_where_each_column_really_goes(name: str, tmp_path: Path) -> None:
    row, places = PLACES[name]
    (source := tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 30, encoding="utf-8")
    (intake,) = make_workspace(tmp_path / "w", files=[source]).intakes
    assert {use.column: use.target for use in intake.columns} == places
    assert {use.share for use in intake.columns} == {1.0}


def test_a_row_that_is_put_aside_does_not_count_for_the_table(tmp_path: Path) -> None:
    bad = {**PAIR, "chosen": [{"role": "assistant", "content": 5}], "id": "b"}
    (source := tmp_path / "rows.jsonl").write_text(f"{json.dumps({**PAIR, 'id': 'a'})}\n" + f"{json.dumps(bad)}\n" * 3)
    (intake,) = make_workspace(tmp_path / "w", files=[source], reading=Reading(format="preference")).intakes
    assert len(intake.rejected) == 3
    assert {use.target for use in intake.columns} == {"id", "prompt", "chosen answer", "rejected answer"}


def test_what_is_stored_as_asked_does_not_pass_for_an_answer(tmp_path: Path) -> None:
    row = {"instruction": "Say hi.", "output": "Hello.", "chosen": "Hello.", "rejected": "Go away."}
    (source := tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 30)
    reading = Reading(to_meta=("chosen", "rejected"))
    (intake,) = make_workspace(tmp_path / "w", files=[source], reading=reading).intakes
    assert {use.column: use.target for use in intake.columns} == {
        "instruction": "prompt", "output": "completion", "chosen": "meta", "rejected": "meta"
    }  # fmt: skip
