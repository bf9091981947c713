"""Preferences of other tools become records; no other workspace takes them for answers to train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
