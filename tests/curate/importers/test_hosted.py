"""Files of hosted fine-tunes, from the command to the export: nothing that trains is lost or made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.record import CurateError
from curate.cli.export import command as export_command
from curate.cli.init import command as init_command

Row = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Of a city", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]
ROME = {"name": "weather", "arguments": '{"city": "Rome"}'}


def user(text: Any) -> Row:
    return {"role": "user", "content": text}


def said(text: Any, **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def called(name: str, function: Row = ROME) -> Row:
    return {"id": name, "type": "function", "function": function}


def run(command: Any, *words: object) -> Result:
    done = CliRunner().invoke(command, [*map(str, words)], standalone_mode=False)
    assert done.exception is None or isinstance(done.exception, CurateError), done.exception
    return done


def write(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(*paths: Path) -> list[Row]:
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def came_in(folder: Path) -> list[Row]:
    return read(*(folder / "w/data").glob("*"))


def aside(folder: Path) -> list[str]:
    return [row["reason"] for row in read(*(folder / "w/quarantine").glob("*"))]


TALK = [user("Rome?"), said("Sunny.")]
OLD_TALK = [
    user("Rome?"),
    {"role": "assistant", "function_call": ROME},
    {"role": "function", "name": "weather", "content": "20"},
    said("It is 20."),
]
NEW_TALK = [
    user("Rome?"),
    said(None, tool_calls=[called("call_2")]),
    {"role": "tool", "name": "weather", "content": "20", "tool_call_id": "call_2"},
    said("It is 20."),
]
# A row, and what an export to OpenAI has of it where that is something else.
ROUND: dict[str, tuple[Row, Row | None]] = {
    "weights": (
        {"messages": [{"role": "developer", "content": "Be odd."}, user("Hi"), said("Bad.", weight=0), *TALK]},
        None,
    ),
    "names": ({"messages": [user("Hi") | {"name": "ann"}, said("Hello.", name="bot")]}, None),
    "parallel": (
        {
            "messages": [
                {"role": "system", "content": "Use tools."},
                user("Rome, twice?"),
                said(None, tool_calls=[called("a"), called("b")]),
                {"role": "tool", "content": "20", "tool_call_id": "a"},
                {"role": "tool", "content": "21", "tool_call_id": "b"},
                said("20 and 21."),
            ],
            "tools": TOOLS,
        },
        None,
    ),
    "functions": ({"messages": OLD_TALK, "functions": [FUNCTION]}, {"messages": NEW_TALK, "tools": TOOLS}),
    "functions beside text": (
        {"messages": [user("Rome?"), said("I look.", function_call=ROME)], "functions": [FUNCTION]},
        {"messages": [user("Rome?"), said("I look.", tool_calls=[called("call_2")])], "tools": TOOLS},
    ),
    "parts": (
        {"messages": [user([{"type": "text", "text": "Ro"}, {"type": "text", "text": "me?"}]), said("Sunny.")]},
        {"messages": TALK},
    ),
    "Anthropic": (
        {
            "system": [{"type": "text", "text": "Be kind."}],
            "messages": TALK,
            "tools": [{"name": "weather", "description": "Of a city", "input_schema": SCHEMA}],
        },
        {"messages": [{"role": "system", "content": "Be kind."}, *TALK], "tools": TOOLS},
    ),
    "Bedrock": (
        {
            "schemaVersion": "bedrock-conversation-2024",
            "system": [{"text": "Be kind."}],
            "messages": [{"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in TALK],
        },
        {"messages": [{"role": "system", "content": "Be kind."}, *TALK]},
    ),
}


@pytest.mark.parametrize("name", ROUND)
def test_what_trains_comes_back_from_an_export(name: str, tmp_path: Path) -> None:
    row, expected = ROUND[name]
    run(init_command, tmp_path / "w", write(tmp_path / "rows.jsonl", row))
    run(export_command, tmp_path / "w", "--to", "openai", "--out", tmp_path / "out")
    assert read(*sorted((tmp_path / "out").glob("t*.jsonl"))) == [expected or row]


def test_what_is_no_text_is_put_aside_with_what_it_is(tmp_path: Path) -> None:
    image = user([{"type": "image_url", "image_url": {"url": "https://e.org/a.png"}}])
    rows = ({"messages": TALK}, {"messages": [image, *TALK]}, {"messages": [*TALK, said(None, refusal="No.")]})
    run(init_command, tmp_path / "w", write(tmp_path / "rows.jsonl", *rows))
    assert [row["messages"] for row in came_in(tmp_path)] == [TALK]
    assert ["image_url" in aside(tmp_path)[0], "a refusal" in aside(tmp_path)[1]] == [True, True]


def test_a_form_that_comes_late_is_read_all_the_same(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"{n} + {n}?"), said(f"It is {2 * n}.")]} for n in range(210)]
    late = {"messages": OLD_TALK, "functions": [FUNCTION], "parallel_tool_calls": False}
    done = run(init_command, tmp_path / "w", write(tmp_path / "rows.jsonl", *rows, late))
    assert "rows as workspace" in done.stderr
    last = came_in(tmp_path)[-1]
    assert (last["messages"], last["tools"]) == (NEW_TALK, TOOLS)


def test_separators_of_old_completions_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": f"A pen, {n}\n\n###\n\n", "completion": f" Pen {n} writes END"} for n in range(3)]
    done = run(init_command, tmp_path / "w", write(tmp_path / "rows.jsonl", *rows))
    assert r"each prompt has blanks around it, or ends with a separator (' 0\n\n###\n\n')" in done.stderr
    assert "each completion has blanks around it, or ends with a separator ('rites END')" in done.stderr
    (tmp_path / "plain").mkdir()
    rows = [{"prompt": f"Is it {n}?", "completion": f"It is {n}."} for n in range(3)]
    assert "separator" not in run(init_command, tmp_path / "plain/w", write(tmp_path / "p.jsonl", *rows)).stderr
