"""What a template drops is never trained around in silence: tools, calls, results, reasoning, turns without answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.calling import (
    ARGUMENTS,
    DROPPING,
    FALSY,
    NO_RESULTS,
    TEMPLATES,
    THINKING,
    call,
    calling_row,
    save_base,
)
from tests.train.tiny import chat_row, make_tokenizer, some_rows, write_dataset
from train.base.cache import Cache
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.data.dataset import Row
from train.data.rendering import Renderer, render_cached

SETTINGS = ("device=cpu", "threads=1", "max_steps=2", "global_batch_size=2", "eval.max_new_tokens=4",
            "eval.resamples=100",
            "eval.during_training=0", "max_length=4096")  # fmt: skip
QUICK = [word for one in SETTINGS for word in ("--set", one)]


def renderer(template: str, objective: Any = "sft", **more: Any) -> Renderer:
    tokenizer = make_tokenizer("unmarked")
    tokenizer.chat_template = template
    return Renderer(tokenizer, objective, **more)


def text_of(one: Renderer, row: Row) -> str:
    return one.encoder.decode(one.render_uncut(row).ids, has_control=True)


def refusal(template: str, row: Row, objective: Any = "sft") -> str:
    with pytest.raises(TrainError) as caught:
        renderer(template, objective).render([row])
    assert caught.value.code == "E923 bad-rows"
    assert row.id in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("ends", [True, False], ids=["ends in a call", "goes on after it"])
@pytest.mark.parametrize("objective", ["sft", "chat", "domain"])
def test_a_template_that_holds_everything_is_taken(name: str, ends: bool, objective: str) -> None:
    one = renderer(TEMPLATES[name], objective)
    for arguments in (ARGUMENTS, json.dumps(ARGUMENTS), {}):
        row = calling_row(calls=[call(arguments=arguments), call(arguments={"city": "Rome"})], ends=ends)
        rendered = one.render([row])
        assert [example.id for example in rendered.examples] == ["r1"]
        text = text_of(one, row)
        assert text.count("get_weather") == 3
        assert "Rome" in text


@pytest.mark.parametrize("reason", DROPPING)
def test_what_is_dropped_is_named_with_the_record(reason: str) -> None:
    for ends in (True, False):
        assert f"the chat template {reason}: r1" in refusal(DROPPING[reason], calling_row(ends=ends))


def test_a_call_is_not_proved_by_what_others_say() -> None:
    row = calling_row(calls=[call("assistant", {"role": "im_start"})], tools=None)
    row.messages[0]["content"] = "call assistant with role im_start"  # type: ignore[index]
    assert "has no place for tool_calls" in refusal(DROPPING["has no place for tool_calls"], row)


@pytest.mark.parametrize("value", [None, False, 0, ""])
def test_a_value_that_is_left_out_for_what_it_is(value: Any) -> None:
    row = calling_row(calls=[call(arguments={"city": "Rome", "unit": value})])
    assert "drops arguments of tool_calls" in refusal(FALSY, row)
    assert renderer(FALSY).render([calling_row(calls=[call(arguments={"city": "Rome", "unit": "C"})])]).examples


def test_the_second_of_two_calls_and_a_cut_value_are_missed() -> None:
    first_alone = TEMPLATES["hermes"].replace("in m.tool_calls or []", "in (m.tool_calls or [])[:1]")
    assert "of tool_calls" in refusal(first_alone, calling_row(calls=[call(), call("help", {"a": "b"})]))
    cut = TEMPLATES["hermes"].replace("f.arguments | tojson", "(f.arguments | tojson)[:40]")
    assert "of tool_calls" in refusal(cut, calling_row(calls=[call(arguments={"city": "far away " * 9})]))


def test_results_are_proved_too() -> None:
    assert "has no place for what a tool answers" in refusal(NO_RESULTS, calling_row(ends=False))


def test_a_call_without_a_name_is_refused() -> None:
    assert "no name of a function" in refusal(TEMPLATES["hermes"], calling_row(calls=[{"function": {"arguments": {}}}]))


def test_reasoning_that_is_trained_must_be_there_and_other_may_be_left_out() -> None:
    last = calling_row(reasoning_content="the town is known")
    assert "<think>\nthe town is known\n</think>" in text_of(renderer(THINKING), last)
    assert "the chat template has no place for reasoning_content: r1" in refusal(TEMPLATES["hermes"], last)
    earlier = calling_row(ends=False, reasoning_content="the town is known")
    rendered = renderer(THINKING).render([earlier, calling_row("r2", ends=False)])
    assert rendered.notes == {
        "r1": ["the chat template leaves out the reasoning_content of answers that are not trained"]
    }
    assert "rewrites an answer with tool calls" in refusal(THINKING, earlier, "chat")
    talk = chat_row("r1", "who sat", "the cat", "and who ran", "one dog")
    assert talk.messages is not None
    talk.messages[1] |= {"reasoning_content": "it is small"}
    assert "has no place for reasoning_content" in refusal(THINKING, talk, "chat")
    assert renderer(THINKING).render([talk]).notes == rendered.notes
    untrained = replace(talk, messages=[talk.messages[0], talk.messages[1] | {"train": False}, *talk.messages[2:]])
    assert renderer(THINKING, "chat").render([untrained]).notes == rendered.notes


def test_descriptions_that_are_left_out_are_counted() -> None:
    assert renderer(TEMPLATES["typed signatures"]).render([calling_row()]).notes == {
        "r1": ["the chat template leaves out descriptions of tools"]
    }
    assert not renderer(TEMPLATES["hermes"]).render([calling_row()]).notes


def test_what_follows_the_last_answer_is_counted_by_its_record() -> None:
    turned = chat_row("open", "who sat", "the cat", "and who ran")
    rendered = renderer(TEMPLATES["hermes"]).render([chat_row("whole", "who sat", "the cat"), turned])
    assert [example.id for example in rendered.examples] == ["whole", "open"]
    assert rendered.notes == {"open": ["what follows the last answer (a turn of the user) is not trained"]}


def test_refused_records_are_skipped_where_the_recipe_says_so_also_from_the_cache(tmp_path: Path) -> None:
    rows = [*some_rows(3), calling_row("call"), chat_row("open", "who sat", "the cat", "and who ran")]
    for _ in range(2):
        one = renderer(DROPPING["has no place for tools"], on_unrenderable="skip")
        rendered = render_cached(one, rows, "d" * 64, Cache(tmp_path))
        assert [example.id for example in rendered.examples] == ["r0", "r1", "r2", "open"]
        assert rendered.left_out == {"call": ("E923 bad-rows", "the chat template has no place for tools")}
        assert rendered.notes == {"open": ["what follows the last answer (a turn of the user) is not trained"]}
        assert one.render(rows[2:]).left_out == rendered.left_out


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("bases") / "plain", DROPPING["has no place for tools and tool_calls"])


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("bases") / "hermes", TEMPLATES["hermes"])


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    splits = {
        "train": [calling_row("t1"), calling_row("t2", ends=False), *some_rows(4, prefix="w"),
                  chat_row("open", "who sat", "the cat", "and who ran")],
        "validation": [calling_row("v1"), *some_rows(2, prefix="v0")],
        "test": [calling_row("x1"), calling_row("x2"), *some_rows(2, prefix="x0")],
    }  # fmt: skip
    scorers = {"calls": {"scorer": "tool_calls"}, "cats": {"scorer": "token_f1"}, "dogs": {}, "general": {}}
    return write_dataset(tmp_path / "v1", splits, categories=scorers)


def train(verb: str, dataset: Path, base: Path, *more: str) -> Any:
    return CliRunner().invoke(cli, [verb, str(dataset), "--base", str(base), *more], standalone_mode=False)


REASON = "the chat template has no place for tools and tool_calls"


@pytest.mark.parametrize(
    "verb", [["plan", "--no-measure"], ["run", "--dry-run"], ["run"]], ids=["plan", "dry run", "run"]
)
def test_plan_dry_run_and_run_refuse_by_id(verb: list[str], dropping: Path, calls: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "r")] if verb[0] == "run" else []
    done = train(verb[0], calls, dropping, *verb[1:], *out, *QUICK)
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == "E923 bad-rows"
    assert f"2 of 7 records: {REASON}: t1, t2" in done.exception.message
    assert "on_unrenderable=skip" in done.exception.hint
    assert not (tmp_path / "r").exists()


def test_preview_and_lengths_refuse_by_id(dropping: Path, calls: Path) -> None:
    shown = train("preview", calls, dropping, "--id", "t1")
    assert shown.return_value == Exit.USAGE
    assert f"record t1: {REASON}" in shown.stderr
    measured = CliRunner().invoke(
        cli, ["preview", "-", "--base", str(dropping)], input=(calls / "train.jsonl").read_bytes()
    )
    faults = {line["id"]: line["fault"] for line in map(json.loads, measured.stdout.splitlines())}
    assert faults["t1"] == faults["t2"] == REASON
    assert not faults["w0"]


@pytest.mark.ci
def test_skipping_is_counted_in_run_and_report(dropping: Path, calls: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    done = train("run", calls, dropping, "--out", str(out), *QUICK, "--set", "on_unrenderable=skip")
    assert done.exception is None, done.exception
    assert f"warning: 2 train records skipped, {REASON}: t1, t2" in done.stderr
    assert f"warning: 2 test records skipped, {REASON}: x1, x2" in done.stderr
    report, record = (json.loads((out / name).read_text()) for name in ("report.json", "run.json"))
    for split in ("train", "test"):
        assert f"2 {split} records skipped, {REASON}." in report["remarks"], "without their ids"
        assert record["rendered"][split] == {"cut": 0, "skipped": {REASON: 2}}
    assert "calls" not in {one["category"] for split in report["splits"] for one in split["categories"]}


def test_a_turn_after_the_last_answer_is_shown_everywhere(holding: Path, calls: Path, tmp_path: Path) -> None:
    note = "what follows the last answer (a turn of the user) is not trained"
    shown = train("preview", calls, holding, "--id", "open")
    assert shown.return_value == Exit.OK
    assert f"record open: {note}" in shown.stderr
    for verb in (["plan", "--no-measure"], ["run", "--dry-run", "--out", str(tmp_path / "r")]):
        done = train(verb[0], calls, holding, *verb[1:], *QUICK)
        assert done.exception is None, done.exception
        assert f"warning: 1 train record rendered in part, {note}: open" in done.stderr


@pytest.mark.ci
def test_calls_are_trained_scored_and_never_an_empty_reference(holding: Path, calls: Path, tmp_path: Path) -> None:
    shown = train("preview", calls, holding, "--id", "t1", "--set", "max_length=4096")
    assert shown.return_value == Exit.OK
    trained = "".join(line for line in shown.stdout.splitlines() if line.startswith("trained"))
    assert "get_weather" in trained
    assert "Zürich" in trained
    out = tmp_path / "r"
    done = train("run", calls, holding, "--out", str(out), *QUICK)
    assert done.exception is None, done.exception
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    asked = {line["id"]: line for line in lines if line["category"] == "calls"}
    assert set(asked) == {"v1", "x1", "x2"}
    for line in asked.values():
        assert line["metric"] == "tool_calls.match"
        assert line["reference"].startswith('<tool_call>\n{"name": "get_weather"')
        assert line["base"]["scores"]["tool_calls.match"] == line["tuned"]["scores"]["tool_calls.match"] == 0.0
    report = json.loads((out / "report.json").read_text())
    results = {one["category"]: one for one in report["splits"][-1]["categories"]}
    assert (results["calls"]["metric"], results["calls"]["n"], results["calls"]["tuned"]["value"]) == (
        "tool_calls.match",
        2,
        0.0,
    )


def test_the_reference_of_a_call_is_what_must_be_written_and_scores_full_marks() -> None:
    from train.evaluate.scoring import Answer, category_specs, score_answers
    from train.model.loss import Nll

    specs = category_specs({"calls": {"scorer": "tool_calls"}})
    for name in ("hermes", "llama", "xml"):
        one = renderer(TEMPLATES[name])
        row = calling_row(calls=[call(), call(arguments={"city": "Rome", "days": 2})])
        prompt = one.render_prompt(row)
        assert prompt is not None
        nll = Nll(row.id, 1.0, 2, 3)
        for answer, expected in ((prompt.reference, 1.0), ("", 0.0), ("it is clear", 0.0)):
            scored = score_answers(
                [row], {row.id: prompt.reference}, [Answer(row.id, answer, True)], [nll], specs, split="test"
            )
            assert scored[0].score == expected, (name, answer)
    one = renderer(TEMPLATES["html"])
    prompt = one.render_prompt(row)
    assert prompt is not None
    scored = score_answers([row], {row.id: prompt.reference}, [Answer(row.id, "", True)], [nll], specs, split="test")
    assert scored[0].score is None, "a form that is not read is nobody's fault"
