"""Files of hosted fine-tunes and batches, from the command to the export: nothing that trains is lost or made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.record import SPLITS, CurateError
from curate.cli.export import command as export_command
from curate.cli.import_ import command as import_command
from curate.cli.init import command as init_command
from curate.project.data import load_data
from curate.project.project import open_project

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
    assert read(*(tmp_path / f"out/{split}.jsonl" for split in SPLITS)) == [expected or row]


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
    assert "blanks around" not in run(init_command, tmp_path / "plain/w", write(tmp_path / "p.jsonl", *rows)).stderr


def asked(name: str, text: str, **more: Any) -> Row:
    body = {"model": "m", "messages": [user(text)], "max_tokens": 9, **more}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def answer(name: str, *texts: Any, end: str = "stop", **more: Any) -> Row:
    choices = [{"message": said(text, refusal=None, **more), "finish_reason": end} for text in texts]
    return {"id": f"b-{name}", "custom_id": name, "error": None, "response": {
        "status_code": 200, "body": {"object": "chat.completion", "model": "m-2024", "choices": choices}}}  # fmt: skip


def failed(name: str, status: int = 400) -> Row:
    refused = {"status_code": status, "body": {"error": {"message": "bad"}}}
    return {
        "custom_id": name,
        "response": refused if status else None,
        "error": None if status else {"code": "expired"},
    }


def batch(folder: Path) -> list[Path]:
    requests = [asked(f"r{n}", f"Say {n}.") for n in range(8)]
    requests[1]["body"]["tools"] = TOOLS
    answers = [answer("r1", None, end="tool_calls", tool_calls=[called("c1")]), answer("r0", "Nought, that is.")]
    cut = [answer("r2", "Tw", end="length"), answer("r3", "Three.", "3"), answer("r9", "Nobody asked.")]
    return [
        write(folder / "ask.jsonl", *requests),
        write(folder / "out.jsonl", *answers, *cut),
        write(folder / "err.jsonl", failed("r4", 0), failed("r5")),
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_requests_and_answers_of_a_batch_are_joined_as_a_models_words(order: int, tmp_path: Path) -> None:
    done = run(init_command, tmp_path / "w", *batch(tmp_path)[::order])
    lines = came_in(tmp_path)
    assert [(line["id"], line["messages"][0], line["messages"][-1]["content"]) for line in lines] == [
        ("r0", user("Say 0."), "Nought, that is."),
        ("r1", user("Say 1."), None),
    ]
    assert (lines[1]["tools"], lines[1]["messages"][-1]["tool_calls"]) == (TOOLS, [called("c1")])
    for told in ("length: 1", "stop, stop: 1", "failed, or no chat completion: 2", "none: 2", "without a request: 1"):
        assert told in done.stderr
    assert len(aside(tmp_path)) == 6
    data = load_data(tmp_path / "w")
    states = [data.state(name) for name in ("r0", "r1")]
    assert [state and (state.machine, state.record.split, data.is_as_proposed(state)) for state in states] == [
        ("model:m-2024", "train", True)
    ] * 2


def test_a_batch_that_comes_once_more_says_nothing_of_an_edit(tmp_path: Path) -> None:
    from curate.base.events import Edit

    files = batch(tmp_path)
    run(init_command, tmp_path / "w", *files)
    with open_project(tmp_path / "w", "ann") as project:
        project.apply([Edit("r0", {"messages": [user("Say 0."), said("Zero, say I.")]})])
    done = run(import_command, *files, "--into", tmp_path / "w")
    assert "already there, unchanged" in done.stdout
    data = load_data(tmp_path / "w")
    state = data.state("r0")
    assert state is not None
    assert not data.is_as_proposed(state)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_half_a_batch_is_refused_with_what_to_type(number: int, tmp_path: Path) -> None:
    done = run(init_command, tmp_path / "w", batch(tmp_path)[number])
    assert isinstance(done.exception, CurateError)
    assert "curate import REQUESTS ANSWERS" in done.exception.hint


def test_an_id_of_two_requests_gets_nobodys_answer(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"{n}.jsonl", asked("r0", f"Say {n}."), asked(n, n)) for n in "ab")
    out = write(tmp_path / "out.jsonl", answer("r0", "For whom?"), answer("a", "A."), answer("b", "B."))
    run(init_command, tmp_path / "w", one, two, out)
    assert sorted(line["id"] for line in came_in(tmp_path)) == ["a", "b"]


def test_a_stored_completion_is_no_talk_without_its_answer(tmp_path: Path) -> None:
    talk = [user("Hi"), said("Hello."), user("Where?")]
    row = {"object": "chat.completion", "messages": talk, "choices": [{"index": 0, "message": said("At the depot.")}]}
    run(init_command, tmp_path / "w", write(tmp_path / "stored.jsonl", row, {"messages": TALK}))
    assert [len(line["messages"]) for line in came_in(tmp_path)] == [2]
    assert "its answer, a model's, stands in choices" in aside(tmp_path)[0]
