"""Prompts that are read end to end are continued as each alone would be, by models of many kinds."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.train.tiny import SHAPE, louder, make_model, one_by_one
from train.evaluate import answers
from train.evaluate.answers import Draw, can_decode_packed, generate, make_sampler
from train.model import add_lora
from train.model.capabilities import capabilities_of
from train.recipe import Recipe

STOP = [7, *range(20, 50)]


def made(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "window":
        model = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=9, attn_implementation="sdpa"))
    elif kind == "mixed windows":
        layers = ["sliding_attention", "full_attention"]
        model = Qwen2ForCausalLM(
            Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=9, layer_types=layers)
        )  # fmt: skip
    elif kind == "learned positions":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, eos_token_id=None))
    else:
        model = make_model(kind)
    return louder(model)


def prompts(num: int = 16) -> list[list[int]]:
    rng = random.Random(3)
    return [[rng.randrange(60, 400) for _ in range(rng.randint(1, 50))] for _ in range(num)]


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["qwen3", "llama", "window", "mixed windows", "learned positions"])
def test_each_continuation_is_that_of_its_prompt_alone(kind: str) -> None:
    model = made(kind)
    assert can_decode_packed(model)
    got = generate(model, prompts(), max_new_tokens=14, stop_ids=STOP, batch_tokens=100_000)
    expected = [one_by_one(model, prompt, 14, STOP) for prompt in prompts()]
    assert [(one.ids, one.stopped) for one in got] == expected
    # Rows must have left at different times, or nothing was moved.
    assert len({len(one.ids) for one in got}) > 4


def test_both_ways_of_decoding_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    model, limits = made("llama"), [3, 14] * 8
    packed = generate(model, prompts(), max_new_tokens=limits, stop_ids=STOP, batch_tokens=500)
    monkeypatch.setattr(answers, "can_decode_packed", lambda _model: False)
    assert packed == generate(model, prompts(), max_new_tokens=limits, stop_ids=STOP, batch_tokens=500)
    assert all(len(one.ids) <= limit for one, limit in zip(packed, limits, strict=True))


@pytest.mark.parametrize("kind", ["capped", "dropping"])
def test_a_model_that_cannot_be_packed_is_padded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    if kind == "capped":
        model: Any = Gemma2ForCausalLM(Gemma2Config(**SHAPE, attn_implementation="eager"))
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=4, attention_dropout=0.1))
    model = louder(model)
    monkeypatch.setattr(answers, "prefill_packed", lambda *_: pytest.fail("it cannot"))
    got = generate(model, prompts(5), max_new_tokens=6, stop_ids=STOP, batch_tokens=300)
    assert [(one.ids, one.stopped) for one in got] == [one_by_one(model, prompt, 6, STOP) for prompt in prompts(5)]


@pytest.mark.ci
def test_an_adapter_is_switched_on_and_off_in_one_process() -> None:
    base = made("qwen3")
    alone = generate(base, prompts(), max_new_tokens=8, stop_ids=STOP, batch_tokens=500)
    tuned = add_lora(base, Recipe(), dtype=torch.float32, seed=0)
    with torch.no_grad():
        for name, weights in tuned.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=1.0)
    got = generate(tuned, prompts(), max_new_tokens=8, stop_ids=STOP, batch_tokens=500)
    expected = [one_by_one(tuned, prompt, 8, STOP) for prompt in prompts()]
    assert [(one.ids, one.stopped) for one in got] == expected
    assert got != alone
    with tuned.disable_adapter():
        assert generate(tuned, prompts(), max_new_tokens=8, stop_ids=STOP, batch_tokens=500) == alone


def test_bfloat16_reads_and_continues() -> None:
    model = made("qwen3")
    with torch.autocast("cpu", torch.bfloat16):
        got = generate(model, prompts(), max_new_tokens=8, stop_ids=STOP, batch_tokens=500)
    exact = generate(model, prompts(), max_new_tokens=8, stop_ids=STOP, batch_tokens=500)
    # The first tokens agree where the likeliest one is clear, and it mostly is.
    assert sum(a.ids[:1] == b.ids[:1] for a, b in zip(got, exact, strict=True)) > 12


def test_a_model_whose_layers_have_no_number_is_not_continued() -> None:
    model = made("llama")
    for layer in model.model.layers:
        del layer.self_attn.layer_idx
    assert not capabilities_of(model).has_packing


@pytest.mark.parametrize("kind", ["qwen3", "capped"])
def test_drawn_answers_are_the_same_alone_and_beside_others(kind: str) -> None:
    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(Gemma2Config(**SHAPE, attn_implementation="eager"))
    model = louder(capped) if kind == "capped" else made(kind)

    def drawn(which: list[list[int]], temperature: float, seed: int) -> list[list[int]]:
        draw = Draw(temperature, seed)
        got = generate(model, which, max_new_tokens=8, stop_ids=STOP, batch_tokens=400, draw=draw)
        return [one.ids for one in got]

    together = drawn(prompts(6), 0.7, 5)
    assert together == [drawn([prompt], 0.7, 5)[0] for prompt in prompts(6)]
    assert together != drawn(prompts(6), 0.7, 6)
    greedy = generate(model, prompts(6), max_new_tokens=8, stop_ids=STOP, batch_tokens=400)
    assert drawn(prompts(6), 1e-4, 5) == [one.ids for one in greedy]


def test_draws_have_the_probabilities_of_the_model() -> None:
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.1]]))
    counts = [0, 0, 0]
    pick = make_sampler(Draw(1.0, 0), [[1]])
    for _ in range(3000):
        counts[int(pick(logits, [0]))] += 1
    # Five standard deviations of a share of 3,000.
    assert all(
        abs(n / 3000 - p) < 5 * (p * (1 - p) / 3000) ** 0.5 for n, p in zip(counts, (0.6, 0.3, 0.1), strict=True)
    )


def test_tokens_are_heard_as_they_are_written_and_an_answer_can_be_ended() -> None:
    model = made("qwen3")
    heard: dict[int, list[int]] = {}

    def hear(number: int, ids: list[int]) -> tuple[int, ...] | None:
        heard[number] = [*ids]
        return () if number != 3 or len(ids) < 2 else None

    whole = generate(model, prompts(6), max_new_tokens=8, stop_ids=[], batch_tokens=120)
    got = generate(model, prompts(6), max_new_tokens=8, stop_ids=[], batch_tokens=120, guide=hear)
    assert [heard[number] for number in range(6)] == [one.ids for one in got]
    assert [one.ids for one in got] == [one.ids[:2] if number == 3 else one.ids for number, one in enumerate(whole)]
    assert not got[3].stopped
