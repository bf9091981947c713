"""How rows are told apart and read, and what is said of those that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.base.record import CurateError
from curate.formats.import_plan import ImportPlan, Reading, plan_import
from curate.formats.importers import Rejected, importers
from curate.formats.importers.mapping import guess, parse_map
from curate.formats.intake import Imported, convert
from curate.schema import Shape, load_shape

PAIR = {"instruction": "Say hi.", "output": "Hi."}
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}


def lines(folder: Path, rows: list[Any], name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def through(plan: ImportPlan, shape: Shape) -> tuple[list[dict[str, Any]], list[Rejected]]:
    rows = list(convert(plan, shape))
    return [dict(one.value) for one in rows if isinstance(one, Imported)], [
        one for one in rows if isinstance(one, Rejected)
    ]


def test_lines_of_the_workspace_keep_their_bytes(tmp_path: Path) -> None:
    raw = b'{ "output":"Caf\\u00e9 1.50", "instruction": "x"}'
    path = tmp_path / "a.jsonl"
    path.write_bytes(raw + b'\n{"instruction": "no answer"}\n' + raw)
    shape = load_shape("instruction")
    got = list(convert(plan_import(path, shape), shape))
    assert [one.raw for one in got if isinstance(one, Imported)] == [raw, raw]
    bad = [one for one in got if isinstance(one, Rejected)]
    assert [(one.line, one.code, one.raw) for one in bad] == [(2, "S102", b'{"instruction": "no answer"}')]
    assert "/output" in bad[0].reason or "output" in bad[0].reason


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_other_containers_in_the_workspaces_shape_become_lines(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text = '[\n {"instruction":\n "x",\n "output": "y"}\n]' if name == "a.json" else "instruction,output\nx,y\n"
    path.write_text(text, encoding="utf-8")
    shape = load_shape("instruction")
    plan = plan_import(path, shape)
    assert plan.format_name == "workspace"
    got = list(convert(plan, shape))
    assert [one.raw for one in got if isinstance(one, Imported)] == [b'{"instruction":"x","output":"y"}']


def test_the_best_format_wins_and_rivals_are_told(tmp_path: Path) -> None:
    plan = plan_import(lines(tmp_path, [CHAT]), None)
    assert plan.format_name == "openai"
    assert not plan.rivals
    assert plan_import(lines(tmp_path, [CHAT]), load_shape("chat")).rivals == [("openai", 1.0)]
    assert plan_import(lines(tmp_path, [PAIR, PAIR, {"odd": 1}]), None).scores[0] == ("alpaca", 0.667)


def test_rows_that_nothing_knows_are_told_by_their_fields(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="columns: colour, size") as caught:
        plan_import(lines(tmp_path, [{"colour": "red", "size": 3}]), None)
    assert "--map" in caught.value.hint


def test_an_unknown_format_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="did you mean 'alpaca'"):
        plan_import(lines(tmp_path, [PAIR]), None, Reading(format="alpacca"))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["question", "answer"], {"instruction": "question", "output": "answer"}),
        (["Prompt", "Response"], {"instruction": "Prompt", "output": "Response"}),
        (["text", "category"], {"instruction": "text", "output": "category"}),
        (["text", "label", "topic"], {"instruction": "text", "output": "label", "category": "topic"}),
        (["question", "query", "db"], {"instruction": "question", "output": "query"}),
        (
            ["instruction", "context", "response", "category"],
            {"instruction": "instruction", "output": "response", "input": "context", "category": "category"},
        ),
        (["text", "is_toxic"], {"instruction": "text", "output": "is_toxic"}),
        (["colour"], {}),
    ],
)
def test_guesses(columns: list[str], expected: dict[str, str]) -> None:
    assert guess([dict.fromkeys(columns, "x")]) == expected


def test_a_map_says_which_column_is_which(tmp_path: Path) -> None:
    row = {"q": "Legs of an ant?", "answers": [{"text": 6}], "n": 3, "sure": True}
    mapping = parse_map("instruction=q, output=/answers/0/text,category=n")
    plan = plan_import(lines(tmp_path, [row]), None, Reading(mapping=mapping))
    good, bad = through(plan, load_shape("instruction"))
    assert not bad
    assert good == [
        {
            "instruction": "Legs of an ant?",
            "output": "6",
            "category": "3",
            "meta": {"extra": {"answers": [{"text": 6}], "n": 3, "sure": True}},
        }
    ]


@pytest.mark.parametrize("text", ["instruction", "instruction=", "colour=a", "output=a,output=b", ""])
def test_a_map_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(CurateError, match="FIELD=COLUMN"):
        parse_map(text)


def test_mapped_values_that_are_no_text_are_put_aside(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "answer": "b"},
        {"question": "a", "answer": None},
        {"question": "a", "answer": ["b"]},
        {"question": "a"},
    ]
    good, bad = through(plan_import(lines(tmp_path, rows), None, Reading(format="mapping")), load_shape("instruction"))
    assert len(good) == 1
    assert [one.line for one in bad] == [2, 3, 4]
    assert "--map output=/answer/0" in bad[1].reason


def test_a_category_fills_the_gaps_only(tmp_path: Path) -> None:
    rows = [PAIR, PAIR | {"category": "own"}]
    shape = load_shape("instruction")
    good, _ = through(plan_import(lines(tmp_path, rows), shape, Reading(category="given")), shape)
    assert [one["category"] for one in good] == ["given", "own"]


def test_what_a_shape_cannot_hold_is_put_aside_with_its_code(tmp_path: Path) -> None:
    long_chat = {"messages": [*CHAT["messages"], *CHAT["messages"]]}
    good, bad = through(
        plan_import(lines(tmp_path, [CHAT, long_chat]), load_shape("instruction")), load_shape("instruction")
    )
    assert good == [{"instruction": "Hi", "output": "Hello."}]
    assert [(one.line, one.code) for one in bad] == [(2, "E905")]
    assert "earlier turns, which the shape instruction has no place for" in bad[0].reason


def test_an_instruction_in_a_chat_workspace_keeps_its_parts(tmp_path: Path) -> None:
    row = PAIR | {"input": "Ann", "page": "7"}
    good, bad = through(plan_import(lines(tmp_path, [row]), None), load_shape("chat"))
    assert not bad
    assert good[0]["messages"][0] == {"role": "user", "content": "Say hi.\n\nAnn"}
    assert good[0]["meta"]["extra"] == {"instruction": "Say hi.", "input": "Ann", "page": "7"}


def test_turns_of_a_history_stand_in_the_messages_alone(tmp_path: Path) -> None:
    row = PAIR | {"history": [["Greet me.", "Hello."]]}
    good, bad = through(plan_import(lines(tmp_path, [row]), None), load_shape("chat"))
    assert not bad
    assert [turn["content"] for turn in good[0]["messages"]] == [
        "Greet me.",
        "Hello.",
        PAIR["instruction"],
        PAIR["output"],
    ]
    assert "history" not in good[0].get("meta", {}).get("extra", {})


def test_an_instruction_in_a_domain_workspace_is_a_grounded_pair(tmp_path: Path) -> None:
    rows = [PAIR | {"input": "The text."}, PAIR | {"system": "Be brief."}]
    good, bad = through(plan_import(lines(tmp_path, rows), None), load_shape("domain"))
    assert good == [{"context": "The text.", "question": "Say hi.", "answer": "Hi."}]
    assert [(one.line, one.code) for one in bad] == [(2, "E905")]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("alpaca", {"instruction": "a", "output": 3}),
        ("alpaca", {"instruction": "a"}),
        ("alpaca", {"instruction": "a", "output": "b", "input": 1}),
        ("alpaca", {"instruction": "a", "output": "b", "history": [["one"]]}),
        ("openai", {"messages": []}),
        ("openai", {"messages": [{"role": "boss", "content": "x"}]}),
        ("openai", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ("openai", {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 3}}]}]}),
        ("openai", CHAT | {"tools": "[{]"}),
        ("openai", CHAT | {"tools": [{"type": "function", "function": {}}]}),
        ("sharegpt", {"conversations": [{"from": "alien", "value": "x"}]}),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": "f("}]}),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": '{"a": 1, "a": 2}'}]}),
        ("sharegpt", {"conversations": [{"from": "gpt", "value": None}]}),
        ("trl", {"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}),
        ("text", {"text": 3}),
    ],
)
def test_rows_that_cannot_be_read_are_put_aside(name: str, row: dict[str, Any], tmp_path: Path) -> None:
    shape = load_shape("domain" if name == "text" else "chat")
    good, bad = through(plan_import(lines(tmp_path, [row]), shape, Reading(format=name)), shape)
    assert not good
    assert len(bad) == 1


def test_arguments_stay_as_they_are_written() -> None:
    for spelled in ('{"a":1}', {"a": 1}):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": spelled}}
        row = {
            "messages": [
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
            ]
        }
        draft = importers()["openai"].read(row)
        assert draft.line["messages"][1]["tool_calls"][0]["function"]["arguments"] == spelled
        assert not draft.extra
