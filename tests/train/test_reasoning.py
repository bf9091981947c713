"""Reasoning before answers: trained, shown or dropped as the recipe says, never swallowed, and never scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.calling import THINKING as CALLING
from tests.train.calling import call, calling_row, save_base
from tests.train.reasoning import ALWAYS, LAST, OPEN, RENAMED, SWALLOWING, TWO_TURNS, UNMARKED, thinking_row
from tests.train.tiny import chat_row, make_tokenizer, some_rows, write_dataset
from train.base.cache import Cache
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.data.dataset import Row, open_dataset
from train.data.rendering import Renderer, render_cached
from train.evaluate.scoring import Answer, category_specs, score_answers
from train.model.loss import Nll

MODES = ("train", "context", "drop-history")
END = "<|im_end|>"


def renderer(template: str, objective: Any = "sft", **more: Any) -> Renderer:
    tokenizer = make_tokenizer("unmarked")
    tokenizer.chat_template = template
    return Renderer(tokenizer, objective, **more)


def text_of(one: Renderer, row: Row, *, is_trained: bool = False) -> str:
    """The tokens of a row, or those in the loss, decoded."""
    example = one.render_uncut(row)
    pairs = zip(example.ids, example.mask, strict=True)
    return one.encoder.decode([token for token, is_on in pairs if is_on or not is_trained], has_control=True)


def refusal(one: Renderer, row: Row) -> str:
    with pytest.raises(TrainError) as caught:
        one.render([row])
    assert caught.value.code == "E923 bad-rows"
    assert row.id in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("template", "thought"),
    [(ALWAYS, "<think>\ntwo and three\n</think>\n\n"), (LAST, "<think>\ntwo and three\n</think>\n\n"),
     (OPEN, "two and three\n</think>\n\n"), (RENAMED, "<think>\ntwo and three\n</think>\n\n")],
    ids=["always", "last", "open", "renamed"],
)  # fmt: skip
@pytest.mark.parametrize("objective", ["sft", "chat"])
def test_one_turn_is_trained_with_its_reasoning_or_without(template: str, thought: str, objective: str) -> None:
    trained = {"train": thought + "5" + END, "context": "5" + END, "drop-history": thought + "5" + END}
    for mode in MODES:
        one = renderer(template, objective, reasoning=mode)
        assert text_of(one, thinking_row(), is_trained=True) == trained[mode]
        # Masked or not, it is read.
        assert "two and three\n</think>\n\n5" + END in text_of(one, thinking_row())
        assert one.render_uncut(thinking_row()).num_bytes == len(trained[mode].removesuffix(END).encode())


def test_earlier_turns_of_a_template_that_writes_all_of_it() -> None:
    row = thinking_row("r1", *TWO_TURNS)
    thoughts = [f"<think>\n{trace}\n</think>\n\n" for _, trace, _ in TWO_TURNS]
    trained = {
        "train": thoughts[0] + "the cat" + END + thoughts[1] + "the dog" + END,
        "context": "the cat" + END + "the dog" + END,
        "drop-history": thoughts[1] + "the dog" + END,
    }
    for mode in MODES:
        one = renderer(ALWAYS, "chat", reasoning=mode)
        assert text_of(one, row, is_trained=True) == trained[mode]
        assert ("a cat, I think" in text_of(one, row)) == (mode != "drop-history")
        assert "the cat" in text_of(one, row)
        notes = one.render([row]).notes
        assert (mode == "drop-history") == bool(notes), notes
    dropping = renderer(ALWAYS, "chat", reasoning="drop-history")
    assert "drops the reasoning of earlier turns" in dropping.render([row]).notes["r1"][0]
    # What had no reasoning loses none, and is trained.
    plain = chat_row("p", "who sat", "the cat", "who ran", "the dog")
    assert text_of(dropping, plain, is_trained=True) == "the cat" + END + "the dog" + END


def test_earlier_turns_of_a_template_that_writes_the_last() -> None:
    row = thinking_row("r1", *TWO_TURNS)
    for mode in ("train", "context"):
        # In the loss or not, each answer's reasoning must be there.
        reason = 'drops parts of reasoning_content (reasoning = "drop-history" does without it in earlier turns)'
        assert reason in refusal(renderer(LAST, "chat", reasoning=mode), row)
        skipping = renderer(LAST, "chat", reasoning=mode, on_unrenderable="skip").render([row, thinking_row("r2")])
        assert list(skipping.left_out) == ["r1"]
        assert [example.id for example in skipping.examples] == ["r2"]
    dropping = renderer(LAST, "chat", reasoning="drop-history")
    assert text_of(dropping, row, is_trained=True) == "<think>\nit was a dog\n</think>\n\nthe dog" + END


def test_steps_of_one_turn_keep_their_reasoning() -> None:
    # What was thought before a call, with the result after it, is no history: nobody has asked anew.
    row = calling_row(ends=False, reasoning_content="the town is known")
    assert row.messages is not None
    row.messages[-1]["reasoning_content"] = "a clear sky"
    template = CALLING.replace("m.reasoning_content and loop.last", "m.reasoning_content")
    one = renderer(template, "chat", reasoning="drop-history")
    trained = text_of(one, row, is_trained=True)
    assert "<think>\nthe town is known\n</think>\n\n<tool_call>" in trained
    assert "<think>\na clear sky\n</think>\n\nthe sky is clear" in trained
    masked = text_of(renderer(template, "chat", reasoning="context"), row, is_trained=True)
    assert masked.startswith("<tool_call>")
    assert "think" not in masked


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("objective", ["sft", "chat"])
def test_a_template_that_swallows_it_is_refused_or_counted(mode: str, objective: str) -> None:
    row = thinking_row()
    assert "has no place for reasoning_content" in refusal(renderer(SWALLOWING, objective, reasoning=mode), row)
    rendered = renderer(SWALLOWING, objective, reasoning=mode, on_unrenderable="skip").render([row, *some_rows(2)])
    assert rendered.left_out["r1"][0] == "E923 bad-rows"
    assert len(rendered.examples) == 2
    cut = ALWAYS.replace("(m.reasoning_content)", "m.reasoning_content[:8]")
    assert "reasoning_content" in refusal(renderer(cut, objective, reasoning=mode), row)


def test_reasoning_that_cannot_be_told_from_the_answer_is_refused() -> None:
    assert "no mark between reasoning and answer" in refusal(renderer(UNMARKED), thinking_row())
    behind = ALWAYS.replace("{{ m.content + '<|im_end|>\n' }}", "").replace(
        "{% endfor %}", "{{ m.content }}{{ m.reasoning_content }}{{ '<|im_end|>\n' }}{% endfor %}"
    ).replace("{% if m.reasoning_content %}", "{% if false %}")  # fmt: skip
    assert "at another place than before its answer" in refusal(renderer(behind), thinking_row())


@pytest.mark.parametrize("trace", ["t", "a", "<", "5", "think", "two\n\nlines", 'a "quoted" <b>'])
def test_short_and_odd_reasoning_is_found_between_its_marks(trace: str) -> None:
    row = thinking_row("r1", ("2 + 3", trace, "5"))
    for template in (ALWAYS, LAST, OPEN):
        assert text_of(renderer(template, reasoning="context"), row, is_trained=True) == "5" + END
        assert f"{trace}\n</think>\n\n5{END}" in text_of(renderer(template), row, is_trained=True)


def test_all_tokens_are_trained_alike_by_the_objective_domain() -> None:
    assert "two and three" in text_of(renderer(ALWAYS, "domain"), thinking_row(), is_trained=True)
    assert "trains all tokens alike" in refusal(renderer(ALWAYS, "domain", reasoning="context"), thinking_row())


@pytest.mark.parametrize("template", [ALWAYS, LAST, OPEN])
@pytest.mark.parametrize("mode", MODES)
def test_the_prompt_stands_before_the_reasoning_and_the_reference_is_the_answer(template: str, mode: str) -> None:
    for has_example in (True, False):
        one, row = renderer(template, reasoning=mode), thinking_row()
        if has_example:
            one.render([row])
        prompt = one.render_prompt(row)
        assert prompt is not None
        assert prompt.reference == "5"
        written = one.encoder.decode(prompt.ids, has_control=True)
        assert written.endswith("<think>\n" if template == OPEN else "<|im_start|>assistant\n")
        assert one.render_uncut(row).ids[: len(prompt.ids)] == prompt.ids
    row = calling_row(reasoning_content="the town is known", calls=[call(arguments={"city": "Rome"})])
    prompt = renderer(CALLING, reasoning=mode).render_prompt(row)
    assert prompt is not None
    assert prompt.reference.startswith("<tool_call>")
    assert "town" not in prompt.reference


def test_reasoning_that_is_text_of_the_answer_is_no_part_of_the_reference() -> None:
    for content, reference in (("<think>so</think>\n5", "5"), ("5 <think>", "5 <think>"), ("5", "5")):
        for has_example in (True, False):
            one, row = renderer(ALWAYS), chat_row("r1", "2 + 3", content)
            if has_example:
                one.render([row])
            prompt = one.render_prompt(row)
            assert prompt is not None
            assert prompt.reference == reference
            assert text_of(one, row, is_trained=True) == content + END


def test_rows_that_differ_in_reasoning_alone_are_rendered_side_by_side() -> None:
    # What is known of a conversation's frame by its roles must not be another row's reasoning.
    rows = [thinking_row("a"), chat_row("b", "2 + 3", "5"), thinking_row("c", ("2 + 3", "another way", "5"))]
    one = renderer(ALWAYS)
    assert [text_of(one, row, is_trained=True) for row in rows] == [
        "<think>\ntwo and three\n</think>\n\n5" + END, "5" + END, "<think>\nanother way\n</think>\n\n5" + END,
    ]  # fmt: skip
    assert [example.ids for example in one.render(rows).examples] == [one.render_uncut(row).ids for row in rows]


@pytest.mark.parametrize(
    ("template", "completion", "expected"),
    [
        (ALWAYS, "<think>\n2 and 3\n</think>\n\n5", ("5", "2 and 3")),
        (ALWAYS, " <think>2 and 3</think>5", ("5", "2 and 3")),
        (ALWAYS, "<think>\n\n</think>\n\n5", ("5", "")),
        (ALWAYS, "<think>a</think> say </think>", ("say </think>", "a")),
        (ALWAYS, "5", ("5", None)),
        (ALWAYS, "it ends with </think> in HTML", ("it ends with </think> in HTML", None)),
        (ALWAYS, "<think>\nand on and on", ("", "and on and on")),
        (ALWAYS, "<think>\n2 and 3\n</think>", ("", "2 and 3")),
        (ALWAYS, "", ("", None)),
        (OPEN, "2 and 3\n</think>\n\n5", ("5", "2 and 3")),
        (OPEN, "and on and on", ("", "and on and on")),
        (SWALLOWING, "<think>\n2 and 3\n</think>\n\n5", ("<think>\n2 and 3\n</think>\n\n5", None)),
    ],
)
def test_a_completion_is_parted_from_its_reasoning(template: str, completion: str, expected: tuple[str, str]) -> None:
    one = renderer(template)
    ids = one.tokenizer(completion, add_special_tokens=False).input_ids
    assert one.split_answer(ids) == expected


def test_control_tokens_around_reasoning_part_it_too() -> None:
    one = renderer(ALWAYS.replace("<think>\n", "<|sep|>").replace("\n</think>\n\n", "<|sep|>"))
    ids = one.tokenizer("<|sep|>2 and 3<|sep|>5", add_special_tokens=False).input_ids
    assert one.split_answer(ids)[0] == "5"


def test_scorers_see_the_answer_alone_and_no_empty_one_is_right() -> None:
    row = thinking_row()
    nll = Nll("r1", 1.0, 2, 3)
    specs = category_specs({"maths": {"scorer": "contract", "options": {"max_chars": 9}}})
    for text, reasoning, expected in (("5", "so", 1.0), ("", None, 1.0), ("", "so", 0.0), (" \n", "", 0.0)):
        told = Answer("r1", text, True, reasoning=reasoning)
        (scored,) = score_answers([row], {"r1": "5"}, [told], [nll], specs, split="test")
        assert (scored.score, scored.text, scored.reasoning) == (expected, text, reasoning)


def test_the_cache_knows_the_choice(tmp_path: Path) -> None:
    rows = [thinking_row()]
    sizes = {
        mode: render_cached(renderer(ALWAYS, reasoning=mode), rows, "d", Cache(tmp_path)).examples[0].num_supervised
        for mode in ("train", "context", "train")
    }
    assert sizes["context"] < sizes["train"]
    assert render_cached(renderer(ALWAYS), rows, "d", Cache(tmp_path)).examples[0].num_supervised == sizes["train"]


QUICK = [word for one in ("device=cpu", "threads=1", "max_steps=2", "global_batch_size=2", "eval.max_new_tokens=8",
                          "eval.resamples=100", "eval.during_training=0") for word in ("--set", one)]  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    splits = {
        "train": [thinking_row("t1"), thinking_row("t2", *TWO_TURNS), *some_rows(4, prefix="w")],
        "validation": [thinking_row("v1"), *some_rows(2, prefix="v0")],
        "test": [thinking_row("x1"), *some_rows(2, prefix="x0")],
    }
    return write_dataset(tmp_path / "v1", splits, categories={"maths": {"scorer": "exact"}, "cats": {}, "dogs": {}})


def train(verb: str, dataset: Path, base: Path, *more: str, **environment: str) -> Any:
    runner = CliRunner(env={"NO_COLOR": "", "FORCE_COLOR": "", **environment})
    return runner.invoke(cli, [verb, str(dataset), "--base", str(base), *more], standalone_mode=False)


@pytest.mark.parametrize(("mode", "mark"), [("train", "trained"), ("context", "       ")])
def test_preview_shows_it_as_a_kind_of_its_own(mode: str, mark: str, dataset: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", ALWAYS)
    shown = train("preview", dataset, base, "--id", "t1", "--set", f"reasoning={mode}")
    assert shown.return_value == Exit.OK
    assert f"{mark}  reasoning  |two and three|" in shown.stdout.splitlines()
    assert f"{mark}  template   |\\n</think>\\n\\n|" in shown.stdout.splitlines()
    assert "trained  assistant  |5|" in shown.stdout
    assert "of reasoning, category maths" in shown.stdout.splitlines()[0]


def test_preview_and_lengths_name_what_is_swallowed(dataset: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", SWALLOWING)
    shown = train("preview", dataset, base, "--id", "t1")
    assert shown.return_value == Exit.USAGE
    assert "record t1: the chat template has no place for reasoning_content" in shown.stderr
    measured = CliRunner().invoke(
        cli, ["preview", "-", "--base", str(base)], input=(dataset / "train.jsonl").read_bytes()
    )
    faults = {line["id"]: line["fault"] for line in map(json.loads, measured.stdout.splitlines())}
    assert "reasoning_content" in faults["t1"]
    assert not faults["w0"]


@pytest.mark.ci
def test_lengths_and_plan_count_its_tokens(dataset: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", ALWAYS)
    measured = CliRunner().invoke(
        cli, ["preview", "-", "--base", str(base)], input=(dataset / "train.jsonl").read_bytes()
    )
    lengths = {line["id"]: line for line in map(json.loads, measured.stdout.splitlines())}
    assert lengths["t1"]["supervised"] == renderer(ALWAYS).render_uncut(thinking_row("t1")).num_supervised
    supervised = {}
    for mode in MODES:
        done = train("plan", dataset, base, "--no-measure", "--json", *QUICK, "--set", f"reasoning={mode}")
        assert done.exception is None, done.exception
        supervised[mode] = json.loads(done.stdout)["supervised"]
        assert "2 of 6 train records have reasoning: " in done.stderr
    assert supervised["train"] == supervised["drop-history"] > supervised["context"]


@pytest.mark.ci
@pytest.mark.parametrize("mode", MODES)
def test_a_run_trains_scores_and_reports_by_the_choice(mode: str, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    base = save_base(tmp_path / "base", OPEN)
    done = train("run", dataset, base, "--out", str(out), *QUICK, "--set", f"reasoning={mode}")
    assert done.exception is None, done.exception
    lines = {line["id"]: line for line in map(json.loads, (out / "predictions.jsonl").read_text().splitlines())}
    # A model of random weights never ends what its prompt began.
    for side in ("base", "tuned"):
        assert lines["x1"][side]["text"] == ""
        assert lines["x1"][side]["reasoning"] is not None
        assert lines["x1"][side]["scores"]["exact"] == 0.0
    assert lines["x1"]["reference"] == "5"
    report = json.loads((out / "report.json").read_text())
    remark = {
        "train": "it is trained",
        "context": "cover the answers alone",
        "drop-history": "earlier turns is dropped",
    }
    assert any("1 of 3 test records have reasoning" in one and remark[mode] in one for one in report["remarks"])
    assert 'reasoning = "' + mode in (out / "recipe.toml").read_text()


@pytest.mark.ci
def test_a_run_is_refused_by_id_where_the_template_swallows_it(dataset: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", SWALLOWING)
    done = train("run", dataset, base, "--out", str(tmp_path / "r"), *QUICK)
    assert isinstance(done.exception, TrainError)
    assert "2 of 6 records: the chat template has no place for reasoning_content: t1, t2" in done.exception.message
    done = train("run", dataset, base, "--out", str(tmp_path / "r"), *QUICK, "--set", "on_unrenderable=skip")
    assert done.exception is None, done.exception
    assert "2 train records skipped, the chat template has no place for reasoning_content: t1, t2" in done.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"reasoning_content": 5}, "messages[1].reasoning_content: Input should be a valid string"),
     ({"thinking": ["a"]}, "messages[1].thinking: Input should be a valid string")],
)  # fmt: skip
def test_a_row_with_reasoning_that_is_no_text_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    row = thinking_row()
    assert row.messages is not None
    bad = replace(row, messages=[row.messages[0], row.messages[1] | change])
    with pytest.raises(TrainError, match="valid string") as caught:
        open_dataset(write_dataset(tmp_path / "v1", {"train": [bad]}))
    assert reason in caught.value.message
    user = replace(row, messages=[row.messages[0] | {"reasoning": "hm"}, row.messages[1]])
    with pytest.raises(TrainError, match="only what it says is trained"):
        open_dataset(write_dataset(tmp_path / "v2", {"train": [user]}))


@pytest.mark.parametrize("name", ["thinking", "reasoning"])
def test_rows_of_others_may_name_it_otherwise(name: str) -> None:
    row = thinking_row()
    assert row.messages is not None
    answer = {key: value for key, value in row.messages[1].items() if key != "reasoning_content"}
    other = replace(row, messages=[row.messages[0], answer | {name: "two and three"}])
    assert renderer(ALWAYS).render_uncut(other) == renderer(ALWAYS).render_uncut(row)
