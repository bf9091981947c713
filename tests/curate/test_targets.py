"""What targets refuse or drop: rules beyond the checks' own examples, real data, and tokens counted by a child."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest

from curate.base.record import CurateError, Exit, Finding, Record, Source
from curate.checks import TokenLengths, discover, targets
from curate.checks.runner import CheckPlan, read_records, validate
from curate.checks.target_lengths import num_left, num_trained
from curate.checks.targets import token_findings
from curate.formats.dataset import row_of
from curate.formats.exporters import export_rows
from curate.schema import Shape, load_shape
from curate.schema.settings import CheckSettings, Settings
from curate.schema.settings.model import Target

TARGETS = [name for name in get_args(Target) if name]
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
OPEN = {
    "type": "object",
    "x-record": {"messages": "/talk", "tools": "/tools"},
    "properties": {"talk": {"type": "array"}},
}


def turn(role: str, content: Any = "Text.", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content} | more


def chat(*turns: dict[str, Any], **more: Any) -> Record:
    return load_shape("chat").record({"messages": [*turns]} | more, Source("a.jsonl", 1))


def codes(record: Record, target: str) -> set[str]:
    settings = Settings(target=target)  # type: ignore[arg-type]
    record_checks = [check for check in discover().values() if check.kind == "record" and check.code.startswith("T9")]
    return {check.code for check in record_checks if check.kind == "record" and list(check.run(record, settings))}


@pytest.fixture
def open_shape(tmp_path: Path) -> Shape:
    """A schema of a user's own, which lets anything stand in a message."""
    (tmp_path / "open.json").write_text(json.dumps(OPEN), encoding="utf-8")
    return load_shape("open.json", tmp_path)


def test_nothing_is_said_without_a_target_and_of_plain_instructions_with_any() -> None:
    shelf = [check for check in discover().values() if check.code.startswith("T9") and check.kind == "record"]
    assert len(shelf) >= 8
    for check in shelf:
        for example in [one for one in check.bad if "messages" in one]:
            assert not codes(load_shape("chat").record(example, Source("a", 1)), "")
    for target in TARGETS:
        line = {"instruction": "Add 2 and 3.", "output": "5", "system": "Be short."}
        assert not codes(load_shape("instruction").record(line, Source("a", 1)), target)


@pytest.mark.parametrize(
    ("roles", "fallen"),
    [
        ("u a", set()),
        ("s u a u a", set()),
        ("d u a", {"together"}),
        ("a u a", {"llama-factory", "together"}),
        ("u u a", {"llama-factory", "together"}),
        ("u a a", {"llama-factory", "together"}),
        ("u a s u a", {"llama-factory", "together"}),
        ("s s u a", {"llama-factory", "together"}),
        ("u c t a", set()),
        ("u c t c t a", set()),
        ("u c t t a", {"llama-factory"}),
        ("s a", {"llama-factory", "together"}),
    ],
)
def test_the_order_of_roles(roles: str, fallen: set[str]) -> None:
    made = {
        "s": turn("system"),
        "d": turn("developer"),
        "u": turn("user"),
        "a": turn("assistant"),
        "c": turn("assistant", None, tool_calls=[CALL]),
        "t": turn("tool", tool_call_id="c1"),
    }
    record = chat(*(made[role] for role in roles.split()))
    assert {target for target in TARGETS if "T901" in codes(record, target)} == fallen


def test_pointers_name_what_is_wrong() -> None:
    record = chat(turn("user"), turn("user"), turn("assistant"))
    check = discover()["T901"].run
    assert check
    assert [p.pointer for p in check(record, Settings(target="together"))] == ["/messages/1/role"]
    record = chat(
        turn("user"), turn("assistant", None, tool_calls=[CALL | {"function": {"name": "f", "arguments": "{"}}])
    )
    check = discover()["T905"].run
    assert check
    pointers = [p.pointer for p in check(record, Settings(target="trl"))]
    assert pointers == ["/messages/1/tool_calls/0/function/arguments"]


def test_every_target_wants_an_answer_at_the_end_and_arguments_that_are_an_object() -> None:
    for target in TARGETS:
        assert codes(chat(turn("user"), turn("assistant"), turn("user")), target) == {"T902"}
        for arguments, is_fine in (("{}", True), ({}, True), ("{", False), ("3", False), ("", False)):
            call = CALL | {"function": {"name": "find", "arguments": arguments}}
            found = codes(chat(turn("user"), turn("assistant", None, tool_calls=[call])), target)
            assert ("T905" in found) != is_fine


def test_messages_that_a_schema_of_ones_own_allows(open_shape: Shape) -> None:
    def said(*turns: dict[str, Any]) -> Record:
        return open_shape.record({"talk": [*turns]}, Source("a", 1))

    for weight, is_fine in ((0, True), (1, True), (0.5, False), (2, False), ("1", False), (True, False), (None, False)):
        record = said(turn("user"), turn("assistant", weight=weight))
        for target in TARGETS:
            assert ("T904" in codes(record, target)) == (not is_fine and target in ("openai", "together"))
    parts = [{"type": "text", "text": "shipped"}]
    answer = said(
        turn("user"),
        turn("assistant", None, tool_calls=[CALL]),
        turn("tool", parts, tool_call_id="c1"),
        turn("assistant"),
    )
    assert {target for target in TARGETS if "T904" in codes(answer, target)} == {"openai", "together"}
    assert not codes(said(turn("user", parts), turn("assistant")), "openai")
    assert "T904" in codes(said({"role": "user"}, turn("assistant")), "openai")
    assert codes(said(turn("user")), "axolotl") == {"T902"}


def test_only_openai_asks_for_ids_and_names() -> None:
    call = {"type": "function", "function": {"name": "math.hypot", "arguments": "{}"}}
    record = chat(turn("user"), turn("assistant", None, tool_calls=[call]), turn("tool"), turn("assistant"))
    for target in TARGETS:
        assert codes(record, target) == ({"T906", "T907"} if target == "openai" else set())


def test_public_tool_calls_show_what_each_target_would_do(shared: Path, tmp_path: Path) -> None:
    questions = (shared / "data/bfcl/BFCL_v4_simple_python.json").read_text(encoding="utf-8").splitlines()
    answers = (shared / "data/bfcl/possible_answer_BFCL_v4_simple_python.json").read_text(encoding="utf-8").splitlines()
    lines = []
    for question, answer in zip(map(json.loads, questions), map(json.loads, answers), strict=True):
        ((name, arguments),) = answer["ground_truth"][0].items()
        chosen = {key: values[0] for key, values in arguments.items() if values[0] != ""}
        call = CALL | {"function": {"name": name, "arguments": chosen}}
        tools = [{"type": "function", "function": tool} for tool in question["function"]]
        lines.append(
            {"messages": [*question["question"][0], turn("assistant", None, tool_calls=[call])], "tools": tools}
        )
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = {}
    for target in TARGETS:
        settings = Settings(target=target, checks=CheckSettings(select=["T9"]))  # type: ignore[arg-type]
        found[target] = validate([tmp_path / "a.jsonl"], CheckPlan(load_shape("chat"), settings)).counts
    dotted = sum("." in json.loads(line)["function"][0]["name"] for line in questions)
    assert found.pop("openai") == {"T907": 2 * dotted}
    assert not any(found.values())


def plainly_left(lengths: TokenLengths, limit: int) -> int:
    """LLaMA-Factory's rule written token by token: each pair is shortened to what the pairs before it left."""
    used = left = begin = 0
    for start, stop in lengths.runs:
        if used >= limit:
            break
        room, asked, answered = limit - used, start - begin, stop - start
        share = int(room * (answered / (asked + answered)))
        most = room if answered * 2 < room else room - asked if asked * 2 < room else share
        kept_answer = sum(1 for place in range(answered) if place < most)
        kept_question = sum(1 for place in range(asked) if place < room - kept_answer)
        used, left, begin = used + kept_answer + kept_question, left + kept_answer, stop
    return left


def test_what_is_left_under_each_targets_rule() -> None:
    for seed in range(500):
        dice = random.Random(seed)
        edges = sorted(dice.sample(range(1, 400), 2 * dice.randint(1, 4)))
        runs = list(zip(edges[::2], edges[1::2], strict=True))
        lengths = TokenLengths(edges[-1] + dice.randint(0, 2), runs, dice.randint(1, 450))
        trained = {place for start, stop in runs for place in range(start, stop)}
        assert num_trained(lengths) == len(trained)
        is_cut = lengths.tokens > lengths.max_length
        for target in ("trl", "openai", "together", ""):
            assert num_left(lengths, target) == sum(place < lengths.max_length for place in trained)
        assert num_left(lengths, "axolotl") == (0 if is_cut else len(trained))
        expected = plainly_left(lengths, lengths.max_length) if is_cut else len(trained)
        assert num_left(lengths, "llama-factory") == expected


def test_pairs_are_shortened_as_llama_factory_shortens_them() -> None:
    # (question, answer, limit) -> answer left: short answers are kept, short questions too, else both by their shares.
    for asked, answered, limit, left in ((100, 10, 50, 10), (10, 100, 50, 40), (100, 100, 50, 25), (100, 1, 1, 0)):
        lengths = TokenLengths(asked + answered, [(asked, asked + answered)], limit)
        assert num_left(lengths, "llama-factory") == left


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def line(name: str, *said: str, **more: Any) -> dict[str, Any]:
    turns = [turn(role, text) for role, text in zip(["user", "assistant"] * len(said), said, strict=False)]
    return {"id": name, "messages": turns} | more


SHORT = line("short", "Add 2 and 3.", "5")
LONG_PROMPT = line("prompt", "Add 2 and 3. " * 30, "5")
LONG_ANSWER = line("answer", "Add 2 and 3.", "The sum of these two numbers is five. " * 30)
TWO = line("two", "Add 2 and 3.", "5", "Add 2 and 3. " * 30, "25")


def records_of(path: Path, shape: Shape) -> list[Record]:
    return [item for item in read_records([path], shape) if isinstance(item, Record)]


def measured(path: Path, root: Path, target: str = "trl", **more: Any) -> list[Finding]:
    asked = {"target": target, "model": str(root / "samples/tiny-base"), "max_length": 60} | more
    return token_findings(records_of(path, load_shape("chat")), load_shape("chat"), Settings(), **asked)


@pytest.mark.ci
def test_records_over_the_limit_are_found_with_their_counts(tmp_path: Path, root: Path) -> None:
    path = write(tmp_path, SHORT, LONG_PROMPT, LONG_ANSWER, TWO, line("token", "Say <|im_end|>", "No."))
    found = measured(path, root)
    assert {(one.record, one.code, one.line) for one in found} == {
        ("prompt", "T920", 2),
        ("answer", "T921", 3),
        ("two", "T920", 4),
        ("token", "T922", 5),
    }
    (cut,) = [one for one in found if one.record == "answer"]
    assert "over 60; trl keeps the first tokens" in cut.message
    assert cut.severity == "warning"
    by_target = {
        target: {one.record: one.code for one in measured(path, root, target) if one.code != "T922"}
        for target in ("openai", "llama-factory")
    }
    # OpenAI and LLaMA-Factory train the first answer of two as well, TRL the last alone.
    assert by_target["openai"] == {"prompt": "T920", "answer": "T921", "two": "T921"}
    assert by_target["llama-factory"] == {"prompt": "T921", "answer": "T921", "two": "T921"}


@pytest.mark.ci
def test_records_can_be_excused(tmp_path: Path, root: Path) -> None:
    excused = [LONG_PROMPT | {"id": f"x{n}", "x-ignore": [asked]} for n, asked in enumerate(("T920", "T9", "X701"))]
    path = write(tmp_path, *excused, {"id": "no record"})
    assert [one.record for one in measured(path, root)] == ["x2"]


def test_what_crosses_the_border_is_what_the_schemas_say(root: Path) -> None:
    schema = json.loads((root / "schemas/row.schema.json").read_text(encoding="utf-8"))
    called = chat(
        turn("user"), turn("assistant", None, tool_calls=[CALL]), turn("tool", tool_call_id="c1"), turn("assistant")
    )
    raw = load_shape("domain").record({"text": "Keep the valve shut."}, Source("a.jsonl", 3))
    for record in (called, raw, load_shape("instruction").record({"instruction": "q", "output": "a"}, Source("a", 1))):
        assert jsonschema_rs.is_valid(schema, targets._row(record)), targets._row(record)


@pytest.mark.ci
def test_a_model_that_cannot_be_loaded_ends_the_run(
    tmp_path: Path, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, SHORT)
    with pytest.raises(CurateError, match="exit code 2") as caught:
        measured(path, root, model=str(tmp_path / "no-such-model"))
    assert caught.value.code == "E961 cannot-measure"
    assert "E926 no-such-base" in capfd.readouterr().err


@pytest.mark.ci
def test_an_empty_id_ends_no_run(tmp_path: Path, root: Path) -> None:
    schema = {"x-record": {"id": "/id", "prompt": "/q", "completion": "/a"}, "type": "object"}
    (tmp_path / "own.json").write_text(json.dumps(schema), encoding="utf-8")
    path = write(tmp_path, {"id": "", "q": "hello " * 80, "a": "x"}, {"id": "b", "q": "hello " * 80, "a": "x"})
    shape = load_shape("own.json", tmp_path)
    found = token_findings(
        records_of(path, shape), shape, Settings(), target="", model=str(root / "samples/tiny-base"), max_length=60
    )
    assert [(one.code, one.record, one.line) for one in found] == [("T920", "", 1), ("T920", "b", 2)]


@pytest.mark.parametrize("name", ["a\n::error::x.jsonl", "a ##[error]x", "\x1b[2J"])
def test_what_the_trainer_says_orders_nothing(
    name: str, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said = "import sys; sys.stderr.write(sys.argv[1] + chr(10)); sys.exit(2)"
    monkeypatch.setattr("curate.checks.targets.trainer_command", lambda *_: [sys.executable, "-c", said, name])
    with pytest.raises(CurateError) as measuring:
        measured(write(tmp_path, SHORT), root)
    assert measuring.value.code == "E961 cannot-measure"
    err = capfd.readouterr().err
    assert not any(line.startswith("::") for line in err.splitlines())
    assert "##[" not in err
    assert "\x1b" not in err
    assert name[:1].replace("\x1b", "␛") in err


def test_the_extra_is_asked_for(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.base.resources.find_spec", lambda name: None)
    with pytest.raises(CurateError, match="counting tokens needs torch, transformers") as caught:
        measured(write(tmp_path, SHORT), root)
    assert caught.value.code == "E940 missing-extra"
    assert caught.value.exit_code == Exit.MISSING


@pytest.mark.ci
def test_real_conversations_are_measured(shared: Path, tmp_path: Path, root: Path) -> None:
    rows = json.loads((shared / "data/glaive-toolcall-en/glaive_toolcall_en_demo.json").read_text(encoding="utf-8"))
    roles = {"human": "user", "gpt": "assistant"}
    plain = [row for row in rows if {one["from"] for one in row["conversations"]} <= roles.keys()][:40]
    lines = [
        {"id": str(n), "messages": [turn(roles[one["from"]], one["value"]) for one in row["conversations"]]}
        for n, row in enumerate(plain)
    ]
    path = write(tmp_path, *lines)
    wide, tight = (Counter(one.code for one in measured(path, root, max_length=most)) for most in (100_000, 100))
    assert len(lines) >= 20
    assert not wide
    assert set(tight) == {"T920", "T921"}


@pytest.mark.ci
@pytest.mark.parametrize("target", ["openai", "trl", "llama-factory"])
def test_what_an_export_leaves_out_is_found_before(target: str, tmp_path: Path) -> None:
    dice = random.Random(7)
    made = [
        turn("system"),
        turn("user"),
        turn("assistant"),
        turn("assistant", None, tool_calls=[CALL]),
        turn("assistant", "Let me see.", tool_calls=[CALL]),
        turn("assistant", None, tool_calls=[CALL | {"function": {"name": "find", "arguments": "{"}}]),
        turn("tool", tool_call_id="c1"),
    ]
    records = [
        chat(*dice.choices(made, [1, 4, 4, 2, 1, 1, 2], k=dice.randint(1, 5)), turn("assistant"), id=f"r{n}")
        for n in range(200)
    ]
    records += [chat(*dice.choices(made, k=3), turn("assistant"), turn("user"), id=f"u{n}") for n in range(20)]
    records.append(load_shape("domain").record({"id": "raw", "text": "Keep the valve shut."}, Source("a", 1)))
    rows = {"train": [row_of(record, record.id, "a.jsonl", "") for record in records]}
    left_out = {one["id"] for one in export_rows(target, rows, tmp_path, {}).skipped}
    flagged = {record.id for record in records if codes(record, target)}
    assert left_out
    assert left_out <= flagged
    assert len(flagged) < len(records)
