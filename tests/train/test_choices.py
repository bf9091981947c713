"""Options that share the reading of their question are as likely as each one read alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from tests.train.tiny import KINDS, SHAPE, chat_row, louder, make_model, make_tokenizer, text_row
from train.base.errors import TrainError
from train.data.rendering import Renderer
from train.evaluate.answers import choice_nlls
from train.evaluate.evaluation import choice_examples, evaluate_model
from train.evaluate.scoring import category_specs
from train.recipe import Recipe

RECIPE = Recipe.model_validate({"bf16": False, "eval": {"max_new_tokens": 6, "batch_tokens": 300}})
CHOICES = ["red cat", "dog", "no"]


def made(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "window":
        return louder(MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=6, attn_implementation="sdpa")))
    if kind == "capped":
        return louder(Gemma2ForCausalLM(Gemma2Config(**SHAPE, attn_implementation="eager")))
    return louder(make_model(kind))


def alone(model: Any, prompt: Any, option: Any) -> float:
    with torch.no_grad():
        log_p = model(torch.tensor([[*prompt, *option]])).logits[0].float().log_softmax(-1)
    return -sum(float(log_p[len(prompt) + n - 1, token]) for n, token in enumerate(option))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_control", [False, True])
def test_a_choice_is_spelled_as_an_answer_without_its_end(kind: str, has_control: bool) -> None:
    renderer = Renderer(make_tokenizer(kind), "sft", 256, allow_special_tokens=has_control)
    row = chat_row("r", "the cat", "red cat", "who said no<|sep|>" if has_control else "who said no", "yes")
    (examples,) = choice_examples(renderer, [(row, CHOICES)])
    prompt = renderer.render_prompt(row)
    assert prompt is not None
    options = [example.ids[len(prompt.ids) :] for example in examples]
    assert all(example.ids[: example.mask.index(True)] == prompt.ids for example in examples)
    assert [renderer.encoder.decode(option, has_control=True).strip() for option in options] == CHOICES
    example = renderer.render_row(chat_row("r", *(m["content"] for m in (row.messages or [])[:3]), CHOICES[0]))
    assert example.ids[: len(examples[0].ids)] == examples[0].ids


def test_a_choice_that_cannot_stand_there_names_its_record() -> None:
    row = chat_row("r7", "who", "yes")
    with pytest.raises(TrainError, match=r"record r7: the control token '<\|sep\|>'") as caught:
        choice_examples(Renderer(make_tokenizer(), "sft"), [(row, ["yes", "no<|sep|>"])])
    assert caught.value.code == "E924 control-token-in-data"
    short = len(Renderer(make_tokenizer(), "sft").render_row(row).ids)
    with pytest.raises(TrainError, match="record r7: with the choice") as caught:
        choice_examples(Renderer(make_tokenizer(), "sft", short), [(row, ["yes", "the small dog ran far away"])])
    assert caught.value.code == "E925 too-long"


@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "window", "capped"])
def test_a_choice_is_as_likely_as_it_is_alone(kind: str) -> None:
    model, renderer = made(kind), Renderer(make_tokenizer(), "sft", 256)
    rows = [chat_row("a", "the cat", "no"), chat_row("b", "the small dog ran far away from home", "no")]
    questions = choice_examples(renderer, [(rows[0], CHOICES), (rows[1], ["no", "yes"]), (rows[1], CHOICES[::-1])])
    for batch_tokens in (8, 300):
        nlls = choice_nlls(model, questions, batch_tokens=batch_tokens)
        for question, each in zip(questions, nlls, strict=True):
            start = question[0].mask.index(True)
            expected = [alone(model, example.ids[:start], example.ids[start:]) for example in question]
            assert each == pytest.approx(expected, rel=1e-5)


def test_a_category_of_choices_is_scored_by_likelihood_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("qwen3")
    renderer = Renderer(make_tokenizer(), "sft", 256)
    rows = [chat_row(f"r{n}", f"the {word}", CHOICES[n % 3]) for n, word in enumerate(["cat", "mat", "dog", "home"])]
    rows += [chat_row("odd", "the mat", "maybe"), chat_row("free", "the dog", "no", category="other")]
    rows.append(text_row("raw", "the small dog ran"))
    specs = category_specs({"general": {"scorer": "choice_logprob", "options": {"choices": CHOICES}}})
    found = {one.id: one for one in evaluate_model(model, renderer, rows, specs, RECIPE, split="test")}
    for row in rows[:4]:
        one, prompt = found[row.id], renderer.render_prompt(row)
        assert prompt is not None
        logprobs = [-alone(model, prompt.ids, renderer.choice_ids(row, choice)[1]) for choice in CHOICES]
        best = CHOICES[logprobs.index(max(logprobs))]
        per_byte = [value / len(choice) for value, choice in zip(logprobs, CHOICES, strict=True)]
        right = CHOICES.index(one.reference)
        assert (one.text, one.stopped, one.metric) == (best, None, "choice_logprob.accuracy")
        assert one.score == float(best == one.reference)
        assert dict(one.scores or {}) == pytest.approx(
            {
                "choice_logprob.accuracy": one.score,
                "choice_logprob.logprob": logprobs[right],
                "choice_logprob.accuracy_per_byte": float(per_byte.index(max(per_byte)) == right),
            },
            rel=1e-5,
        )
    assert found["odd"].score is None
    assert found["odd"].text in CHOICES
    assert found["free"].stopped is not None
    assert found["raw"].text is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "needs choices"),
        ({"choices": ["yes"]}, "two texts or more"),
        ({"choices": ["Yes", " yes"]}, "none of them twice"),
        ({"choices": ["yes", " "]}, "at least 1 character"),
    ],
)
def test_choices_that_cannot_be_compared_are_known_before_training(options: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainError, match=f"category 'orders': .*{told}") as caught:
        category_specs({"orders": {"scorer": "choice_logprob", "options": options}})
    assert caught.value.code == "E932 bad-metric-option"
