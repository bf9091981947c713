"""Settings that have the names of transformers and TRL mean what they mean there; all of a foreign recipe that is none
here is refused at once, each key with what to do instead."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainingArguments, get_cosine_schedule_with_warmup, get_wsd_schedule

from tests.train.tiny import make_model
from train.base.errors import TrainError
from train.data.rendering import Example
from train.loop.trainer import Optimizer
from train.model.batch import BatchSampler
from train.recipe import Recipe, build_recipe, load_recipe
from train.recipe.schedule import lr_factor, warmup_steps

EXAMPLES = [Example(f"r{n}", "", "", [1] * 8, [True] * 8, 8) for n in range(64)]


def factors(num_steps: int, **settings: Any) -> list[float]:
    recipe = build_recipe(settings)
    return [lr_factor(recipe, step, num_steps) for step in range(num_steps)]


@pytest.mark.parametrize("kind", ["cosine", "wsd"])
@pytest.mark.parametrize("warmup", [0, 20])
def test_after_warmup_a_schedule_is_that_of_transformers(kind: str, warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = (
        get_cosine_schedule_with_warmup(optimizer, warmup, 100)
        if kind == "cosine"
        else get_wsd_schedule(optimizer, warmup, 30, num_training_steps=100, decay_type="linear")
    )
    expected = [theirs.lr_lambdas[0](step) for step in range(100)]
    more = {"lr_decay_ratio": 0.3} if kind == "wsd" else {}
    ours = factors(100, lr_scheduler_type=kind, warmup_steps=warmup, **more)
    assert ours[warmup:] == pytest.approx(expected[warmup:])
    # Ours is one step ahead in warmup, so that the first step is not lost; both begin with the peak at the same step.
    assert ours[:warmup] == pytest.approx([(n + 1) / (warmup + 1) for n in range(warmup)])
    assert all(factor > 0 for factor in ours)


def test_wsd_without_room_for_its_decay_decays_from_the_end_of_warmup() -> None:
    ours = factors(10, lr_scheduler_type="wsd", warmup_steps=8, lr_decay_ratio=0.9)
    assert ours[8:] == [1.0, 0.5]


def test_constant_has_no_warmup_and_constant_with_warmup_has() -> None:
    assert factors(100, lr_scheduler_type="constant") == [1.0] * 100
    warmed = factors(100, lr_scheduler_type="constant_with_warmup")
    assert warmed[9:] == [warmed[9], *[1.0] * 90]
    assert warmed[9] < 1


@pytest.mark.parametrize(("ratio", "num"), [(0.0, 0), (0.03, 31), (0.5, 501), (1.0, 1001)])
def test_a_warmup_ratio_is_a_share_of_all_steps_rounded_up(ratio: float, num: int) -> None:
    assert warmup_steps(build_recipe({"warmup_ratio": ratio}), 1001) == num


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_8bit"])
def test_the_optimizer_gets_betas_and_epsilon(optim: str) -> None:
    recipe = build_recipe(
        {"method": "full", "optim": optim, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6}
    )
    (group,) = Optimizer(make_model(), SimpleNamespace(), recipe).adamw.param_groups[:1]  # type: ignore[arg-type]
    assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-6)


@pytest.mark.parametrize(("ranks", "size"), [(1, 32), (2, 64)])
def test_records_per_device_are_converted_and_said(ranks: int, size: int) -> None:
    recipe = build_recipe({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "num_train_epochs": 1})
    steps = BatchSampler(EXAMPLES, recipe, num_ranks=ranks)
    assert (steps.global_batch_size, len(steps)) == (size, 64 // size)
    devices = "1 device" if ranks == 1 else "2 devices"
    assert steps.step_size == f"8 per device x 4 accumulation steps x {devices} = {size} records a step"
    # Each rank takes as many micro-batches as it would there.
    assert [len(part) for part in steps.shard(steps[0], ranks)] == [4] * ranks
    assert [len(group) for group in steps.shard(steps[0], ranks)[0]] == [8] * 4


def test_other_sizes_are_said_as_they_are() -> None:
    assert BatchSampler(EXAMPLES, build_recipe({"global_batch_size": 16})).step_size == "16 records a step"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"per_device_train_batch_size": 8, "global_batch_size": 32}, "give one of them"),
        ({"gradient_accumulation_steps": 4}, "per_device_train_batch_size"),
        ({"warmup_steps": 10, "warmup_ratio": 0.1}, "give one of them"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 10}, '"constant_with_warmup"'),
        ({"lr_scheduler_type": "constant", "warmup_ratio": 0.1}, '"constant_with_warmup"'),
        ({"lr_scheduler_type": "cosine", "lr_decay_ratio": 0.2}, '"wsd"'),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "write 'wsd'"),
        ({"optim": "adamw_torch"}, "write 'adamw_torch_fused'"),
        ({"optim": "adamw_bnb_8bit"}, "write 'adamw_8bit'"),
        ({"bf16": "bfloat16"}, "bf16 must be"),
        ({"num_train_epochs": 1.5}, "write max_steps for a part of one"),
        ({"max_steps": -1}, "leave it out"),
        ({"eval_steps": 0.1}, "write a number of steps"),
        ({"warmup_steps": 0.1}, "a share of all steps is warmup_ratio"),
        ({"lora_target_modules": "q_proj"}, 'write a list, such as ["q_proj", "v_proj"]'),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_write(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainError) as caught:
        load_recipe(None, settings)
    assert (caught.value.code, said in caught.value.message) == ("E920 bad-recipe", True), caught.value.message


def test_what_fits_is_taken() -> None:
    Recipe(lr_scheduler_type="constant", warmup_steps=0)
    Recipe(gradient_accumulation_steps=1, global_batch_size=8)


THEIRS = """
model_name_or_path: Qwen/Qwen3-0.6B
dataset_name: trl-lib/Capybara
output_dir: out
report_to: wandb
run_name: first
learning_rate: 2.0e-4
num_train_epochs: 1
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
gradient_checkpointing: true
lr_scheduler_type: cosine
warmup_ratio: 0.03
optim: adamw_torch_fused
bf16: true
fp16: false
tf32: true
packing: true
logging_steps: 10
eval_strategy: steps
eval_steps: 100
save_strategy: steps
save_total_limit: 2
per_device_eval_batch_size: 4
use_peft: true
lora_r: 32
lora_alpha: 16
lora_target_modules: all-linear
torch_dtype: bfloat16
attn_implementation: flash_attention_2
assistant_only_loss: true
dataloader_num_workers: 4
load_best_model_at_end: true
push_to_hub: true
max_seq_length: 2048
deepspeed: zero3.json
"""


def refusal(name: str) -> str:
    with pytest.raises(TrainError) as caught:
        load_recipe(None, {name: 1})
    return caught.value.message


def test_each_of_the_training_arguments_is_a_setting_or_has_an_answer() -> None:
    names = {field.name for field in dataclasses.fields(TrainingArguments)} - Recipe.model_fields.keys()
    assert [name for name in sorted(names) if f"unknown key {name!r}: " not in refusal(name)] == []


@pytest.mark.parametrize("name", ["packing_strategy", "train_sampling_strategy", "chat_template_path", "pad_token"])
def test_an_answer_is_no_guess_by_the_likeness_of_names(name: str) -> None:
    assert refusal(name).endswith("leave it out")


def test_a_recipe_of_trl_gets_one_refusal_with_what_to_do_for_each_key(tmp_path: Path) -> None:
    file = tmp_path / "sft.yaml"
    file.write_text(THEIRS, encoding="utf-8")
    with pytest.raises(TrainError) as caught:
        load_recipe(file)
    said = dict(re.findall(r"unknown key '(\w+)': (.+)", caught.value.message))
    expected = {
        "model_name_or_path": "base", "dataset_name": "DATASET", "output_dir": "--out", "report_to": "--report-to",
        "run_name": "--out", "fp16": "bf16", "tf32": "float32", "packing": "leave it out", "logging_steps": "each step",
        "eval_strategy": "eval_steps", "save_strategy": "save_steps", "per_device_eval_batch_size": "eval.batch_tokens",
        "use_peft": "method", "torch_dtype": "bf16", "attn_implementation": "leave it out",
        "assistant_only_loss": "objective", "dataloader_num_workers": "leave it out",
        "load_best_model_at_end": "leave it out", "push_to_hub": "train export", "max_seq_length": "max_length",
        "deepspeed": "torchrun",
    }  # fmt: skip
    assert said.keys() == expected.keys(), caught.value.message
    assert {key: what for key, what in expected.items() if what not in said[key]} == {}
    # Without them it is a recipe.
    kept = [line for line in THEIRS.splitlines() if line.partition(":")[0] not in expected]
    file.write_text("\n".join(kept), encoding="utf-8")
    recipe = load_recipe(file)
    assert (recipe.per_device_train_batch_size, recipe.lora_r, recipe.bf16) == (2, 32, True)
