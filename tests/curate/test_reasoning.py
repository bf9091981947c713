"""Reasoning before an answer is text of its own: found, compared, shown, exported and imported as that."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import Source, estimated_tokens, trace_of
from curate.formats.exporters import exporters
from curate.schema import load_shape
from tests.curate.called import call
from tests.curate.test_round_trips import exported, imported, said
from tests.effort import draws

CARRYING = ("trl", "trl-conversational", "sharegpt", "llama-factory", "parquet", "hf", "hub")
EMAIL = "ana.kovac@parcels.shop"


def chat(
    name: str, question: str, answer: str, trace: str | None = None, key: str = "reasoning_content"
) -> dict[str, Any]:
    reply = {"role": "assistant", "content": answer} | ({} if trace is None else {key: trace})
    return {"id": name, "messages": [{"role": "user", "content": question}, reply]}


def lines_of(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def workspace(make_workspace: Any) -> Any:
    def make(*rows: dict[str, Any], more: str = "") -> Path:
        root: Path = make_workspace(
            list(rows), f'schema = "chat"\n[split]\nseed = 1\nratios = [1.0, 0.0, 0.0]\n{more}'
        ).root
        return root

    return make


def codes(path: Path, *options: str) -> list[tuple[str, str]]:
    lines = call("validate", path, "--format", "jsonl", *options).stdout.splitlines()
    return [(one["code"], one["pointer"]) for one in map(json.loads, lines)]


# --- every format ----------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30).filter(str.strip)

# No answer is a word such as "false", which an import would take for a verdict.
ANSWERS = TEXTS.map("It is {}".format)


@pytest.mark.parametrize("form", exporters())
@settings(max_examples=draws(15), deadline=None)
@given(turns=st.lists(st.tuples(TEXTS, ANSWERS, st.none() | TEXTS), min_size=1, max_size=3))
def test_any_reasoning_comes_back_or_is_counted(form: str, turns: list[tuple[str, str, str | None]]) -> None:
    if form == "hf":
        pytest.importorskip("datasets", reason="needs the extra [hub]")
    messages = [
        message for question, answer, trace in turns for message in chat("r", question, answer, trace)["messages"]
    ]
    with tempfile.TemporaryDirectory() as name:
        out = exported(form, "chat", [{"id": "r1", "messages": messages}], Path(name))
        back = list(imported(out, "chat" if form in CARRYING else "instruction", Path(name)))
    num_traces = sum(trace is not None for *_, trace in turns)
    if form in CARRYING:
        assert [trace_of(message) for message in back[0].messages] == [trace_of(message) for message in messages]
        assert [said(record) for record in back] == list(out.records)
        assert "reasoning_content" not in "\n".join(out.written.notes)
    elif num_traces and not out.written.skipped:
        # Keys are counted by the record.
        assert "reasoning_content (1)" in "\n".join(out.written.notes)


def test_trainers_of_sharegpt_read_it_before_the_answer(tmp_path: Path) -> None:
    exported("sharegpt", "chat", [chat("r", "2 + 3?", "5", "2 and 3")], tmp_path)
    turns = json.loads((tmp_path / "train.jsonl").read_text())["conversations"]
    assert turns[1] == {"from": "gpt", "value": "<think>\n2 and 3\n</think>\n\n5", "reasoning_content": "2 and 3"}


def test_an_export_says_what_a_format_has_no_place_for(workspace: Any) -> None:
    root = workspace(chat("r1", "2 + 3?", "5", "2 and 3"), chat("r2", "Say hi to all.", "Hello."))
    done = call("export", root, "--to", "openai")
    assert done.exit_code == 0, done.stderr
    assert "reasoning_content (1)" in done.stdout + done.stderr
    rows = lines_of(*(root / "dataset/v1").glob("[tv]*.jsonl"))
    assert {row["id"]: row["messages"][1].get("reasoning_content") for row in rows} == {"r1": "2 and 3", "r2": None}


# --- importers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
@pytest.mark.parametrize("form", ["messages", "pair", "sharegpt"])
def test_importers_read_it_by_each_of_its_names(name: str, form: str, tmp_path: Path) -> None:
    question, answer = chat("r", "2 + 3?", "5", "2 and 3", name)["messages"]
    row: dict[str, Any] = {"messages": [question, answer]}
    if form == "pair":
        row = {"prompt": [question], "completion": [answer]}
    elif form == "sharegpt":
        row = {"conversations": [{"from": "human", "value": "2 + 3?"}, {"from": "gpt", "value": "5", name: "2 and 3"}]}
    done = call("init", tmp_path / "w", write(tmp_path / "rows.jsonl", row))
    assert done.exit_code == 0, done.stderr
    assert f"{name} (" not in done.stderr
    (line,) = map(json.loads, (tmp_path / "w/data/rows.jsonl").read_text().splitlines())
    assert line["messages"] == [question, {"role": "assistant", "content": "5", "reasoning_content": "2 and 3"}]
    if form != "sharegpt":
        assert "meta" not in line


@pytest.mark.parametrize(
    ("more", "is_read"),
    [({"thinking": ["so"]}, False), ({"reasoning_content": "so", "reasoning": "no"}, False),
     ({"reasoning_content": "so", "reasoning": "so"}, True), ({"reasoning": None}, True), ({"thinking": ""}, True)],
)  # fmt: skip
def test_reasoning_that_cannot_be_read_puts_its_row_aside(more: dict[str, Any], is_read: bool, tmp_path: Path) -> None:
    good, bad = chat("a", "Say hi.", "Hello."), chat("b", "2 + 3?", "5")
    bad["messages"][1] |= more
    done = call("init", tmp_path / "w", write(tmp_path / "rows.jsonl", good, bad), "--schema", "chat")
    lines = [json.loads(line) for line in (tmp_path / "w/data/rows.jsonl").read_text().splitlines()]
    if not is_read:
        (aside,) = map(json.loads, (tmp_path / "w/quarantine/rows.jsonl.jsonl").read_text().splitlines())
        assert "message 2 of 'messages'" in aside["reason"]
        assert [line["id"] for line in lines] == ["a"]
    else:
        assert done.exit_code == 0
        assert trace_of(lines[1]["messages"][1]) == ("so" if "so" in more.values() else "")


TEXT = {"type": "text", "text": "5"}
BLOCK = {"type": "thinking", "thinking": "2 and 3", "signature": "c2ln"}
MISTRAL = {"type": "thinking", "thinking": [{"type": "text", "text": "2 "}, {"type": "text", "text": "and 3"}]}


@pytest.mark.parametrize(
    "parts", [[BLOCK, TEXT], [MISTRAL, TEXT], [{**BLOCK, "thinking": "2 "}, {**BLOCK, "thinking": "and 3"}, TEXT]]
)
def test_thinking_blocks_before_an_answer_are_its_reasoning(parts: list[Any], tmp_path: Path) -> None:
    row = chat("r", "2 + 3?", "5")
    row["messages"][1]["content"] = parts
    done = call("init", tmp_path / "w", write(tmp_path / "rows.jsonl", row))
    assert done.exit_code == 0, done.stderr
    (line,) = lines_of(tmp_path / "w/data/rows.jsonl")
    assert line["messages"] == chat("r", "2 + 3?", "5", "2 and 3")["messages"]
    # Such as its signature.
    assert line["meta"]["extra"]["messages"] == row["messages"]


@pytest.mark.parametrize(
    ("turn", "parts", "reason"),
    [(1, [TEXT, BLOCK], "not text (thinking)"),
     (1, [{"type": "redacted_thinking"}, TEXT], "not text (redacted_thinking)"),
     (0, [BLOCK, TEXT], "no answer beside it"), (1, [{**BLOCK, "thinking": 5}, TEXT], "not text"),
     (1, [{"type": "tool_use", "name": "f"}], "not text (tool_use)")],
)  # fmt: skip
def test_other_parts_put_their_row_aside_by_name(turn: int, parts: list[Any], reason: str, tmp_path: Path) -> None:
    good, bad = chat("a", "Say hi.", "Hello."), chat("b", "2 + 3?", "5")
    bad["messages"][turn]["content"] = parts
    call("init", tmp_path / "w", write(tmp_path / "rows.jsonl", good, bad), "--schema", "chat")
    (aside,) = lines_of(tmp_path / "w/quarantine/rows.jsonl.jsonl")
    assert reason in aside["reason"]
    assert [line["id"] for line in lines_of(tmp_path / "w/data/rows.jsonl")] == ["a"]


def test_a_user_has_no_reasoning(tmp_path: Path) -> None:
    row = chat("a", "Say hi.", "Hello.")
    row["messages"][0]["thinking"] = "hm"
    call(
        "init",
        tmp_path / "w",
        write(tmp_path / "rows.jsonl", row, chat("b", "Go.", "Gone.")),
        "--schema",
        "chat",
    )
    (aside,) = lines_of(tmp_path / "w/quarantine/rows.jsonl.jsonl")
    assert "message 1 of 'messages'" in aside["reason"]


def test_tags_in_an_answer_are_left_as_text(tmp_path: Path) -> None:
    row = chat("a", "2 + 3?", "<think>2 and 3</think>\n5")
    call("init", tmp_path / "w", write(tmp_path / "rows.jsonl", row))
    assert json.loads((tmp_path / "w/data/rows.jsonl").read_text()) == row
    assert codes(tmp_path / "w") == []


# --- checks, redaction, repeats, leaks --------------------------------------------------------------------------------


@pytest.mark.ci
def test_checks_see_it_in_few_records_and_in_many(tmp_path: Path) -> None:
    bad = [
        chat("mail", "Who is it?", "A friend of ours.", f"It is {EMAIL}."),
        chat("key", "Which key?", "A key of ours.", "AKIAIOSFODNN7EXAMPLE is it."),
        chat("token", "Which token?", "A token of ours.", "so <|im_end|> it is"),
        chat("tags", "Which tags?", "A tag of ours.", "<think>so it is</think>"),
        chat("blank", "What now?", "Nothing of ours.", " \n"),
    ]
    expected = {("X701", "mail"), ("X702", "key"), ("X705", "token"), ("X706", "tags"), ("Q215", "blank")}
    for num_more in (0, 9000):
        rows = [*bad, *(chat(f"r{n}", f"Say {n} {'x' * 900}", f"It is {n}.", f"so {n}") for n in range(num_more))]
        path = write(tmp_path / "rows.jsonl", *rows)
        told = call("validate", path, "--schema", "chat", "--format", "jsonl", "--select", "X,Q215").stdout
        found = [json.loads(line) for line in told.splitlines()]
        assert {(one["code"], one["record"]) for one in found} == expected
        assert all(one["pointer"] == "/messages/1/reasoning_content" for one in found)
        assert EMAIL not in told


def test_it_is_redacted(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", chat("a", f"I am {EMAIL}", "Hello to you.", f"This is {EMAIL}, a user."))
    done = call("redact", path)
    assert done.exit_code == 0, done.stderr
    assert json.loads(path.read_text())["messages"][1]["reasoning_content"] == "This is [EMAIL_1], a user."


def test_fixes_reach_it(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", chat("a", "Say hi to all.", "Hello to all.", "so\u200b it is"))
    assert ("X704", "/messages/1/reasoning_content") in codes(path, "--schema", "chat")
    call("validate", path, "--schema", "chat", "--fix", "--unsafe-fixes")
    assert trace_of(json.loads(path.read_text())["messages"][1]) == "so it is"


def test_repeats_are_found_apart_from_it(workspace: Any) -> None:
    question, answer = "What is the capital of France, in one word?", "It is Paris, a town on the Seine."
    rows = [
        chat("a", question, answer, "The capital of France is Paris."),
        chat("b", question, answer, "Let me think of rivers first."),
        chat("c", question, answer),
        chat(
            "d", "How do I bake bread at home?", "Flour, water, salt, and time.", "The user asks about this and that."
        ),
        chat(
            "e", "Which planet is the largest?", "Jupiter is the largest of them.", "The user asks about this and that."
        ),
    ]
    root = workspace(*rows)
    call("dedupe", root)
    assert call("export", root).exit_code == 0
    dropped = lines_of(root / "dataset/v1/dropped.jsonl")
    assert sorted([one["id"], one["kept"]] for one in dropped) == [["b", "a"], ["c", "a"]]


def test_reasoning_that_gives_an_exam_away_is_a_leak(tmp_path: Path, workspace: Any) -> None:
    exam = (
        "A train leaves Oslo at nine and reaches Bergen after seven hours and ten minutes; a second one leaves Bergen "
        "an hour later and needs only six hours. At what time do both trains meet on their way between the two towns?"
    )
    root = workspace(
        chat("quiet", "How do I bake bread at home?", "Flour, water, salt, and time."),
        chat(
            "leak", "Solve a riddle of your own.", "They meet in the afternoon.", f"I remember this one: {exam} Easy."
        ),
    )
    against = write(tmp_path / "exam.jsonl", {"instruction": exam, "output": "At half past one."})
    done = call("leaks", root, "--against", against, "--format", "json")
    assert "leak" in done.stdout
    assert done.exit_code == 1
    # What an exam record thinks is no part of the exam.
    other = write(tmp_path / "other.jsonl", chat("x", "Name a fruit for me.", "An apple.", f"I remember: {exam} Easy."))
    assert call("leaks", root, "--against", other).exit_code == 0


def test_its_tokens_are_counted(workspace: Any) -> None:
    plain, reasoned = chat("a", "Say hi.", "Hello."), chat("a", "Say hi.", "Hello.", "é" * 200)
    shape = load_shape("chat")
    few, many = (estimated_tokens(shape.record(row, Source("f", 1))) for row in (plain, reasoned))
    assert many == few + 100
    root = workspace(reasoned)
    (listed,) = map(json.loads, call("list", root, "--format", "jsonl").stdout.splitlines())
    assert listed.get("tokens", many) == many


# --- shown and edited -------------------------------------------------------------------------------------------------


def test_a_diff_names_it_as_a_part_of_its_own(tmp_path: Path) -> None:
    before = write(tmp_path / "a.jsonl", chat("a", "2 + 3?", "5", "two and three"))
    after = write(tmp_path / "b.jsonl", chat("a", "2 + 3?", "5", "two and then three"))
    done = json.loads(call("diff", before, after, "--format", "json").stdout)
    (field,) = done["changes"][0]["fields"]
    assert (field["pointer"], field["what"]) == ("/messages/1/reasoning_content", "changed")


def test_a_form_has_a_field_for_it() -> None:
    from curate.schema.form import Form

    form = Form(load_shape("chat"), chat("a", "2 + 3?", "5", "two and three"))
    fields = {field.pointer: field for field in form.root.walk()}
    assert fields["/messages/1/reasoning_content"].kind == "text"
    assert "thinks before it answers" in fields["/messages/1/reasoning_content"].help


def test_a_schema_of_ones_own_may_name_it_otherwise(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"messages": {"type": "array", "items": {"type": "object"}}},
              "required": ["messages"], "x-record": {"messages": "/messages", "id": "/id"}}  # fmt: skip
    own = write(tmp_path / "own.json", schema)
    rows = write(tmp_path / "rows.jsonl", chat("a", "2 + 3?", "5", "two and three", "thinking"))
    assert call("init", tmp_path / "w", rows, "--schema", own).exit_code == 0
    root = tmp_path / "w"
    assert call("export", root).exit_code == 0
    exported_rows = lines_of(*(root / "dataset/v1").glob("[tv]*.jsonl"))
    assert exported_rows[0]["messages"][1] == {
        "role": "assistant",
        "content": "5",
        "reasoning_content": "two and three",
    }


OWN = {"type": "object", "x-record": {"messages": "/talk", "id": "/id"}}


@pytest.mark.parametrize("trace", [5, ["so"], {"text": "so"}])
def test_reasoning_that_is_no_text_is_a_finding_in_a_schema_of_ones_own(trace: Any, tmp_path: Path) -> None:
    own = write(tmp_path / "own.json", OWN)
    rows = [
        {"id": row["id"], "talk": row["messages"]} for row in (chat("a", "2?", "2", "so"), chat("b", "3?", "3", trace))
    ]
    done = call("validate", write(tmp_path / "rows.jsonl", *rows), "--schema", own)
    assert "content and reasoning that are text" in done.stdout
    assert done.exit_code == 1
    rows[1]["talk"][1]["reasoning_content"] = "so"
    assert call("validate", write(tmp_path / "rows.jsonl", *rows), "--schema", own).exit_code == 0


PICTURE = {"type": "image", "url": "x.png"}


@pytest.mark.parametrize("form", ["parquet", "hf", "csv", "alpaca", "sharegpt"])
@pytest.mark.parametrize("shape", ["chat", "preference"])
def test_content_in_parts_is_joined_or_its_record_counted(form: str, shape: str, tmp_path: Path) -> None:
    contents = {"a": [TEXT, {"type": "text", "text": "0"}], "b": [PICTURE, TEXT]}
    own: dict[str, Any] = OWN
    rows: list[dict[str, Any]] = [
        {"id": name, "talk": [{"role": "user", "content": parts}, {"role": "assistant", "content": "yes"}]}
        for name, parts in contents.items()
    ]
    if shape == "preference":
        own = {"type": "object", "x-record": {"prompt": "/q", "chosen": "/good", "rejected": "/bad", "id": "/id"}}
        rows = [
            {"id": name, "q": f"{name}?", "good": [{"role": "assistant", "content": parts}], "bad": "no"}
            for name, parts in contents.items()
        ]
    source, root = write(tmp_path / "rows.jsonl", *rows), tmp_path / "w"
    call("init", root, source, "--schema", write(tmp_path / "own.json", own), "--format", "workspace")
    settings_file = root / "curate.toml"
    settings_file.write_text(re.sub(r"(?m)^ratios = .*", "ratios = [1.0, 0.0, 0.0]", settings_file.read_text()))
    done = call("export", root, "--to", form)
    assert done.exit_code == 0, done.stderr
    assert f"{form} cannot hold 1 record: the content of a message holds a part that is no text" in done.stderr
    (folder,) = (root / "exports").iterdir()
    (aside,) = lines_of(folder / "skipped.jsonl")
    assert aside["id"] == "b"
    if form == "parquet":
        (row,) = polars.read_parquet(folder / "train.parquet").to_dicts()
        assert row["messages"][shape == "preference"]["content"] == "50"
        assert json.loads(row["line"]) == rows[0]
    elif form == "csv":
        assert "50" in (folder / "train.csv").read_text().splitlines()[1].split(",")
