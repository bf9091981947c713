"""New tokens: one id each, rows that begin at the mean and are trained, and the same answers once loaded again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.train.tiny import chat_row, make_model, make_tokenizer, some_rows, steps_of, write_dataset
from train.base.errors import Exit, TrainError
from train.data.dataset import open_dataset
from train.data.rendering import Renderer
from train.evaluate.answers import generate
from train.loop import fit
from train.model import add_lora, add_tokens, grow, load_base
from train.model.batch import collate
from train.model.capabilities import capabilities_of
from train.model.loss import nll_per_example, supervised_loss
from train.pipeline.execute import start_run
from train.pipeline.prepare import open_renderer
from train.recipe import Recipe, build_recipe

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
# The tiny bases have rows to spare, as padded ones do; with the fillers they must grow.
FILLERS = [f"<{n}>" for n in range(400 - len(make_tokenizer()) + 3)]
WORDS = ["<note>", "</note>"]


def _rows(prefix: str = "n", number: int = 12) -> list[Any]:
    return [
        chat_row(f"{prefix}{n}", f"say {word}", f"<note>{word}</note>", category="notes")
        for n, word in zip(range(number), ["cat", "dog", "mat"] * number, strict=False)
    ]


def _ready(kind: str, method: str = "lora") -> tuple[Any, Any, list[int]]:
    model, tokenizer = make_model(kind), make_tokenizer()
    add_tokens(model, tokenizer, WORDS)
    ids = tokenizer.convert_tokens_to_ids(WORDS)
    if method == "lora":
        model = add_lora(model, Recipe(lora_r=4, lora_alpha=8), dtype=torch.float32, seed=0, new_ids=ids)
    return model, tokenizer, ids


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
@pytest.mark.parametrize("words", [WORDS, WORDS + FILLERS])
def test_rows_are_added_at_the_mean_and_old_ones_stay(kind: str, words: list[str]) -> None:
    model, tokenizer = make_model(kind), make_tokenizer()
    old = len(tokenizer)
    before = [model.get_input_embeddings().weight.clone(), model.get_output_embeddings().weight.clone()]
    add_tokens(model, tokenizer, words)
    assert tokenizer.convert_tokens_to_ids(words) == list(range(old, old + len(words)))
    after = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    assert (after[0] is after[1]) == (kind == "qwen3")
    assert model.config.vocab_size == len(after[0]) == max(len(before[0]), old + len(words))
    for old_rows, rows in zip(before, after, strict=True):
        assert torch.equal(rows[:old], old_rows[:old])
        torch.testing.assert_close(rows[old : old + len(words)], old_rows[:old].mean(0).expand(len(words), -1))


def test_new_tokens_are_one_id_in_data_and_no_control_tokens() -> None:
    _, tokenizer, ids = _ready("qwen3", "full")
    renderer = Renderer(tokenizer, "sft", 256)
    example = renderer.example(_rows()[0])
    trained = [i for i, m in zip(example.ids, example.mask, strict=True) if m]
    assert (trained[0], trained[-2]) == tuple(ids)
    assert renderer.decode(trained) == "<note>cat</note>", "what was said keeps them"
    assert not set(ids) & renderer.encoder.special_ids
    with pytest.raises(TrainError, match=r"control token '<\|sep\|>' stands in the data"):
        renderer.example(chat_row("a", "b", "<note><|sep|>"))
    plain = Renderer(tokenizer, "sft", 256, allow_special_tokens=True).example(chat_row("a", "b", "<note><|sep|>"))
    assert ids[0] in plain.ids, "where control tokens are plain text, declared ones are still tokens"


def test_a_token_that_the_base_has_is_refused() -> None:
    with pytest.raises(TrainError, match=r"the base has <\|sep\|> as a token already"):
        add_tokens(make_model(), make_tokenizer(), ["<note>", "<|sep|>"])


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_only_new_rows_are_trained_and_the_fast_head_sees_them(tmp_path: Path, kind: str) -> None:
    tuned, tokenizer, ids = _ready(kind)
    examples = Renderer(tokenizer, "sft", 256).examples(_rows()).examples
    names = [name for name, p in tuned.named_parameters() if p.requires_grad and "lora_" not in name]
    assert len(names) == (1 if kind == "qwen3" else 2), "tied rows are one parameter"
    base = nll_per_example(tuned, examples)
    assert capabilities_of(tuned).has_plain_head
    recipe = build_recipe({"global_batch_size": 12, "max_steps": 8, "learning_rate": 1e-2, "warmup_steps": 0})
    fit(tuned, steps_of(tuned, examples, recipe), tmp_path)
    after = nll_per_example(tuned, examples)
    assert sum(one.nll for one in after) < sum(one.nll for one in base)
    with tuned.disable_adapter():
        again = nll_per_example(tuned, examples)
        assert [one.nll for one in again] == pytest.approx([one.nll for one in base], rel=1e-5)
    rows = dict(tuned.named_parameters())[names[0]]
    assert not torch.equal(rows[0], rows[1]), "each has learnt something of its own"
    batch = collate(examples)
    fast, _ = supervised_loss(tuned, batch)
    fast_gradients = torch.autograd.grad(fast, [dict(tuned.named_parameters())[name] for name in names])
    logits = tuned(input_ids=batch.ids).logits.flatten(0, 1)[batch.rows]
    slow = functional.cross_entropy(logits, batch.targets, reduction="sum")
    slow_gradients = torch.autograd.grad(slow, [dict(tuned.named_parameters())[name] for name in names])
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(fast_gradients, slow_gradients, atol=1e-4, rtol=1e-4)
    assert ids[0] == len(tokenizer) - 2


def test_in_bfloat16_tables_with_trained_rows_stay_whole() -> None:
    model, tokenizer = make_model("llama"), make_tokenizer()
    add_tokens(model, tokenizer, WORDS)
    ids = tokenizer.convert_tokens_to_ids(WORDS)
    tuned = add_lora(model, Recipe(lora_r=4), dtype=torch.bfloat16, seed=0, new_ids=ids)
    inner = tuned.get_base_model()
    assert inner.get_output_embeddings().original_module.weight.dtype == torch.float32
    assert inner.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.bfloat16


def test_a_head_with_a_bias_is_refused_for_adapters() -> None:
    model, tokenizer = make_model("llama"), make_tokenizer()
    model.lm_head = torch.nn.Linear(32, 400)
    add_tokens(model, tokenizer, WORDS)
    new = len(tokenizer) - 1
    assert model.lm_head.bias[new].item() == pytest.approx(model.lm_head.bias[: new - 1].mean().item())
    with pytest.raises(TrainError, match="has a bias"):
        add_lora(model, Recipe(), dtype=torch.float32, seed=0, new_ids=[new])


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["qwen3", "llama"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_with_new_tokens_answers_the_same_when_loaded_again(
    tmp_path: Path, kind: str, method: str, bases: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = WORDS + FILLERS
    splits = {"train": [*_rows(), *some_rows(4)], "test": _rows("x", 3), "validation": _rows("v", 3)}
    dataset = write_dataset(tmp_path / "v1", splits)
    recipe = build_recipe({
        "base": str(bases(kind)), "device": "cpu", "max_steps": 40, "global_batch_size": 8, "learning_rate": 1e-2,
        "warmup_steps": 0,
        "method": method, "new_tokens": words, "lora_r": 4, "lora_alpha": 8, "eval": {"max_new_tokens": 6},
    })  # fmt: skip
    run = tmp_path / "run"
    assert start_run(dataset, recipe, out=run)[1] is Exit.OK
    assert f"{len(words)} new tokens" in capsys.readouterr().err
    said = {one["id"]: one for one in map(json.loads, (run / "predictions.jsonl").read_text().splitlines())}
    folder = run / ("adapter" if method == "lora" else "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if method == "full":
        models = [load_base(str(folder), device="cpu")[0]]
    else:
        model, _ = load_base(str(bases(kind)), device="cpu")
        grow(model, tokenizer, num_old=len(tokenizer) - len(words))
        models = [PeftModel.from_pretrained(model, folder), AutoPeftModelForCausalLM.from_pretrained(folder)]
        assert not [name for name in _names(folder) if "embed_tokens.weight" in name], "no whole table is saved"
    renderer = Renderer(tokenizer, "sft", 256)
    for row in splits["test"]:
        prompt = renderer.prompt(row)
        assert prompt is not None
        for model in models:
            done = generate(model, [prompt.ids], max_new_tokens=6, stop_ids=renderer.stop_ids, batch_tokens=8192)[0]
            assert renderer.decode(done.ids) == said[row.id]["tuned"]["text"]
    assert any("<note>" in one["tuned"]["text"] for one in said.values()), "it has learnt to say the new token"
    opened = open_dataset(dataset)
    shown, _ = open_renderer(opened, recipe)
    assert shown.example(opened.splits["train"][0]).ids == renderer.example(opened.splits["train"][0]).ids


def _names(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return list(file.keys())


def test_a_plain_model_of_the_same_size_needs_no_rows() -> None:
    model, tokenizer = make_model(), make_tokenizer()
    before = AutoModelForCausalLM.from_config(model.config).config.vocab_size
    add_tokens(model, tokenizer, [])
    assert model.config.vocab_size == before
