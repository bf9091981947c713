"""Plans: counts are exact, what is computed follows the model, and what does not fit is told with what would."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from tests.train.tiny import make_model, make_tokenizer, some_rows, steps_of
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.data.rendering import Example, Renderer
from train.loop import Placement
from train.model import add_lora, capabilities
from train.model.batch import BatchSampler, collate
from train.model.capabilities import capabilities_of, checkpoint_activations
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.model.loss import supervised_loss
from train.pipeline import plan as planning
from train.pipeline.plan import (
    advice,
    explain_oom,
    make_plan,
    needs_checkpointing,
    plan_facts,
    resized,
    useful_flops,
)
from train.pipeline.prepare import add_adapters, prepare
from train.recipe import Recipe, build_recipe

EXAMPLES = Renderer(make_tokenizer(), "sft", None).render(some_rows(40)).examples
CPU = torch.device("cpu")


def _planned(recipe: Recipe | None = None, **more: Any) -> dict[str, Any]:
    recipe = recipe or build_recipe({"method": "full", "global_batch_size": 8, "num_train_epochs": 2})
    model = make_model("llama").requires_grad_(True)
    steps = steps_of(model, EXAMPLES, recipe)
    return make_plan(model, steps, Placement(), **more)


def test_counts_and_state_are_exact() -> None:
    plan = _planned()
    parameters = sum(p.numel() for p in make_model("llama").parameters())
    assert (plan["steps"], plan["trained"], plan["parameters"]) == (10, parameters, parameters)
    assert plan["run_tokens"] == 2 * plan["tokens"]
    assert (plan["memory"]["weights"], plan["memory"]["gradients"], plan["memory"]["optimizer"]) == (
        4 * parameters, 4 * parameters, 8 * parameters,
    )  # fmt: skip
    assert plan["seconds"] is None
    assert plan["cost"] is None


def test_checkpointing_gives_the_same_gradients_of_packed_and_adapted_models(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.Tensor] = []
    offload = capabilities.save_on_cpu

    def counting(**named: Any) -> Any:
        hooks = offload(**named)
        away = hooks.pack_hook
        hooks.pack_hook = lambda tensor: moved.append(tensor) or away(tensor)
        return hooks

    monkeypatch.setattr(capabilities, "save_on_cpu", counting)
    for method in ("full", "lora"):
        grads = []
        for how in (False, True, "offload"):
            moved.clear()
            model = make_model()
            if method == "lora":
                model = add_lora(model, build_recipe({}), dtype=torch.float32, seed=0)
            if how:
                checkpoint_activations(model, how)  # type: ignore[arg-type]
            model.train()
            assert capabilities_of(model).has_packing
            batch = collate(EXAMPLES[:6], is_packed=True)
            loss, _ = supervised_loss(model, batch, scale=0.1)
            # The inputs of the layers, and nothing else.
            assert len(moved) == (model.config.num_hidden_layers if how == "offload" else 0)
            assert all(tensor.shape == (*batch.ids.shape, model.config.hidden_size) for tensor in moved)
            loss.backward()
            grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        assert grads[0].keys() == grads[1].keys() == grads[2].keys()
        assert all(torch.equal(grads[0][name], other[name]) for other in grads[1:] for name in grads[0]), method


def test_what_does_not_fit_is_told_what_to_set_what_costs_least_first() -> None:
    full: dict[str, Any] = {"method": "full", "global_batch_size": 8, "num_train_epochs": 2}
    plain = _planned(build_recipe(full), memory_bytes=10_000)
    assert not plain["fits"]
    assert plan_facts(plain)["advice"] == advice(plain)
    assert advice(plain).startswith(
        "Add --set micro_batch_tokens=1024 or --set gradient_checkpointing=true or --set optim=adamw_8bit; "
    )
    small = plain | {
        "micro_batch_tokens": 64, "longest": 64, "gradient_checkpointing": True, "optim": "adamw_8bit"
    }  # fmt: skip
    assert "--set max_length=32" in advice(small)
    assert "--set gradient_checkpointing=offload" in advice(small | {"device": "cuda"})
    assert "--set" not in " ".join(plan_facts(_planned(build_recipe(full))).values())


def test_moments_of_8_bits_are_refused_where_the_model_needs_shards(dataset: Path, bases: Callable[..., Path]) -> None:
    recipe = build_recipe({"base": str(bases()), "method": "full", "optim": "adamw_8bit"})
    with pytest.raises(TrainError, match="8 ranks cut the model") as caught:
        prepare(dataset, recipe, context=DistributedContext(0, 8, 8))
    assert caught.value.code == "E872 no-shards"


def test_a_run_belongs_to_the_bitsandbytes_that_it_computes_with(dataset: Path, bases: Callable[..., Path]) -> None:
    made = [prepare(dataset, build_recipe({"base": str(bases()), "method": "full", "optim": name}))
            for name in ("adamw_torch_fused", "adamw_8bit")]  # fmt: skip
    plain, small = (prepared.facts["versions"] for prepared in made)
    assert small == plain | {"bitsandbytes": version("bitsandbytes")} != plain


@pytest.mark.ci
def test_moments_of_8_bits_are_planned_and_said() -> None:
    full = {"method": "full", "global_batch_size": 8, "num_train_epochs": 2}
    plain, small = (_planned(build_recipe({**full, "optim": name})) for name in ("adamw_torch_fused", "adamw_8bit"))
    assert plain["memory"]["optimizer"] / 4 < small["memory"]["optimizer"] < plain["memory"]["optimizer"] / 3.9
    assert "moments in 8 bits" in plan_facts(small)["machine"]


def test_checkpointing_is_chosen_where_the_state_takes_much_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = build_recipe({"method": "full", "global_batch_size": 8})
    model = make_model("llama").requires_grad_(True)
    monkeypatch.setattr(
        planning, "memory_limit", lambda _: 2 * sum(planning.state_memory(model, recipe, Placement()).values())
    )
    assert needs_checkpointing(model, recipe, Placement(torch.device("cuda")))
    assert not needs_checkpointing(model, recipe, Placement())
    for told in (True, False):
        fixed = build_recipe({"method": "full", "gradient_checkpointing": told})
        assert needs_checkpointing(model, fixed, Placement()) is told


@pytest.mark.parametrize("optimizer", ["adamw_torch_fused", "adamw_8bit"])
def test_a_calibration_changes_no_weight_and_no_random_number(optimizer: str) -> None:
    recipe = build_recipe({"method": "full", "global_batch_size": 8, "optim": optimizer})
    model = make_model("llama").requires_grad_(True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    steps = steps_of(model, EXAMPLES, recipe)
    plan = make_plan(model, steps, Placement(), is_measured=True, cost_per_hour=36.0)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert plan["seconds"] is not None
    assert plan["cost"] == pytest.approx(plan["seconds"] / 100)
    assert all(p.grad is None for p in model.parameters())


def test_a_run_in_shards_is_planned_by_what_a_device_holds_and_not_calibrated_whole(
    dataset: Path, bases: Callable[..., Path]
) -> None:
    alone = prepare(dataset, build_recipe({"base": str(bases()), "method": "full", "global_batch_size": 8}))
    model = add_adapters(alone)
    whole = make_plan(model, alone.steps, alone.placement, is_measured=True)
    assert whole["seconds"] is not None
    for way, ranks, shards in (
        ("fsdp", DistributedContext(0, 8, 4), 8),
        ("ddp", DistributedContext(0, 8, 4), 1),
    ):
        placement = replace(alone.placement, context=ranks, strategy=way)  # type: ignore[arg-type]
        plan = make_plan(model, alone.steps, placement, is_measured=True)
        assert (plan["seconds"] is None) == (way != "ddp")
        assert plan["memory"]["optimizer"] == whole["memory"]["optimizer"] // shards
        assert plan["memory"]["weights"] <= whole["memory"]["weights"]


def test_what_a_device_cannot_hold_does_not_fit() -> None:
    assert _planned(memory_bytes=4 * _planned()["parameters"])["fits"] is False


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
)  # fmt: skip
def test_lack_of_memory_is_told_with_what_would_fit(error: Exception) -> None:
    plan = _planned()
    with pytest.raises(TrainError) as caught, explain_oom("training", plan):
        raise error
    told = caught.value
    assert (told.code, told.exit_code) == ("E947 out-of-memory", Exit.MISSING)
    assert "micro_batch_tokens = 2,048" in told.message
    assert "--set micro_batch_tokens=1024" in told.hint
    assert "gradient_checkpointing=true" in told.hint
    assert "optim=adamw_8bit" in told.hint
    with pytest.raises(RuntimeError, match="shape"), explain_oom("training", plan):
        raise RuntimeError("a shape is wrong")


_MB = 1_000_000


# A MB for each token, of which 90 % of what is free may be taken.
@pytest.mark.parametrize(("free", "expected"), [(10_000, 320), (290, 260), (90, 80), (50, 64)])
def test_a_gpu_gets_micro_batches_that_fill_its_free_memory(
    free: int, expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A card by its two figures: what a few steps take there, and what is free."""

    def measured(model: Any, steps: BatchSampler, placement: Placement) -> tuple[float, int]:
        state = planning.state_memory(model, steps.recipe, placement)
        tokens = int(steps.lengths[planning.largest(steps)[1]].sum())
        return 1e-6, tokens * _MB + state["gradients"] + state["optimizer"]

    monkeypatch.setattr(planning, "calibrate", measured)
    monkeypatch.setattr(planning, "free_memory", lambda _: free * _MB)
    monkeypatch.setattr(planning, "MICRO_BATCH_TOKENS", 64)
    examples = [Example(f"r{n}", "", "", [1] * 20, [True] * 20, 20) for n in range(64)]
    model = make_model("llama").requires_grad_(True)
    steps = BatchSampler(examples, build_recipe({"method": "full", "global_batch_size": 16}), is_packed=True)
    cuda = torch.device("cuda")

    def chosen(context: DistributedContext, *, is_measured: bool = True) -> int:
        sized = planning.size_micro_batches(model, steps, Placement(cuda, context=context), is_measured=is_measured)
        return sized.micro_batch_tokens

    assert chosen(SINGLE_PROCESS) == expected
    said = capsys.readouterr().err
    assert f"micro_batch_tokens = {expected}" in said
    # The share of each of four ranks is 80 tokens, and the rank with the least memory decides for all.
    assert chosen(_Four(0, 4, 4)) == min(expected, 70)
    assert chosen(SINGLE_PROCESS, is_measured=False) == 256


@pytest.mark.parametrize(
    ("kind", "method"), [("llama", "full"), ("qwen3", "full"), ("llama", "lora"), ("qwen3", "lora")]
)
def test_a_token_is_worth_the_products_of_its_weights(kind: str, method: str) -> None:
    """Counted map by map: 2 layers of width 32, 4 heads of 8 and 2 of keys, gated by 64; adapters of rank 16."""
    recipe = build_recipe({"method": method, "lora_r": 16})
    model = make_model(kind).requires_grad_(method == "full")
    if method == "lora":
        model = add_lora(model, recipe, dtype=torch.float32, seed=0)
    steps = BatchSampler(EXAMPLES, recipe)
    maps = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    tokens, passes = int(steps.lengths.sum()), 6 if method == "full" else 4
    body = passes * 2 * sum(one * other for one, other in maps) * tokens
    body += 6 * 2 * 16 * sum(one + other for one, other in maps) * tokens if method == "lora" else 0
    head = passes * 32 * 400 * int(steps.supervised.sum())
    attention = 6 * 32 * 2 * int((steps.lengths**2).sum())
    found = useful_flops(model, steps)
    # The norms, which are no products, are a few more.
    assert 1 <= found / ((body + head + attention) / tokens) < 1.02


def test_the_evaluation_is_planned_too() -> None:
    # Ten steps, validated after each third and the last one.
    assert "9 minutes of evaluation" in plan_facts(_planned(validation_seconds=60, evaluation_seconds=300))["time"]


class _Four(DistributedContext):
    """Of four ranks, another of which has memory for 70 tokens."""

    def max(self, value: int) -> int:
        return max(value, -70)


def test_a_gpu_without_room_for_the_smallest_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(planning, "calibrate", full)
    monkeypatch.setattr(planning, "free_memory", lambda _: _MB)
    monkeypatch.setattr(planning, "MICRO_BATCH_TOKENS", 64)
    model = make_model("llama").requires_grad_(True)
    steps = BatchSampler(EXAMPLES, build_recipe({"method": "full", "global_batch_size": 40}))
    with pytest.raises(TrainError, match="out of memory") as caught:
        planning.size_micro_batches(model, steps, Placement(torch.device("cuda")), is_measured=True)
    assert "--set micro_batch_tokens=" in caught.value.hint
    assert planning.size_micro_batches(model, steps, Placement(), is_measured=True) is steps


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_run_uses_and_records_what_the_plan_chose_and_a_resumed_run_takes_that(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    real = planning.BatchSampler._micro_batches
    monkeypatch.setattr(
        planning.BatchSampler, "_micro_batches",
        lambda self, *given: used.append(self.micro_batch_tokens) or real(self, *given),
    )  # fmt: skip
    run = tmp_path / "r"
    fast = ["max_steps=2", "eval.max_new_tokens=2", "eval.during_training=0", "eval.resamples=100"]
    call = ["run", str(dataset), "--base", str(bases()), "--out", str(run)]
    call += [word for one in fast for word in ("--set", one)]
    for chosen, more in ((64, []), (99, ["--resume"])):
        monkeypatch.setattr(
            "train.pipeline.plan.size_micro_batches", lambda _, steps, *__, n=chosen, **___: resized(steps, n)
        )
        done = CliRunner().invoke(cli, [*call, *more], standalone_mode=False)
        assert done.exception is None, done.exception
        record = json.loads((run / "run.json").read_text())
        assert record["recipe"]["micro_batch_tokens"] == record["plan"]["micro_batch_tokens"] == 64
        assert record["recipe"]["gradient_checkpointing"] is False
        assert record["not_exact"] == []
    assert used[-1] == 64


def _plan(dataset: Path, base: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, ["plan", str(dataset), "--base", str(base), *more], standalone_mode=False)


def test_the_command_says_it_as_text_and_as_json(dataset: Path, bases: Callable[..., Path]) -> None:
    size = ("--set", "per_device_train_batch_size=4", "--set", "gradient_accumulation_steps=2")
    said = _plan(dataset, bases(), "--cost-per-hour", "3600", *size)
    assert said.exception is None, said.exception
    assert "4 per device x 2 accumulation steps x 1 device = 8 records a step" in said.stdout
    for word in ("steps", "tokens", "memory", "time", "cost"):
        assert word in said.stdout, word
    # What is not measured is arithmetic, which knows of tensors alone.
    assert " MB at the most of " in said.stdout
    assert " MB at the least of " in _plan(dataset, bases(), "--no-measure").stdout
    shown = _plan(dataset, bases(), "--no-measure", "--memory", "80", "--json")
    value = json.loads(shown.stdout)
    assert (value["device_bytes"], value["seconds"], value["fits"]) == (80 * 10**9, None, True)
    assert value["peak_bytes"] == value["memory"]["total"]


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_run_keeps_what_was_planned_and_what_it_took(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    fast = [
        "eval.max_new_tokens=2",
        "eval.resamples=100",
        "eval.during_training=2",
        "global_batch_size=8",
        "max_steps=20",
    ]
    sets = [word for one in fast for word in ("--set", one)]
    call = ["run", str(dataset), "--base", str(bases()), "--out", str(tmp_path / "r"), *sets]
    done = CliRunner().invoke(cli, call, standalone_mode=False)
    assert done.exception is None, done.exception
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["plan"]["steps"] == 20
    assert record["plan"]["seconds"] > 0
    assert record["plan"]["evaluation_seconds"] > record["plan"]["validation_seconds"] > 0
    assert " of evaluation" in done.stderr
    assert record["step_seconds"] > 0
    assert record["peak_bytes"] > 0
    assert re.search(r"^the training took [\d,]+ MB; its steps \d+ seconds$", done.stderr, re.M)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_run_out_of_memory_fails_with_a_setting_and_changes_nothing(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("train.loop.trainer.supervised_loss", full)
    call = ["run", str(dataset), "--base", str(bases()), "--out", str(tmp_path / "r")]
    fast = ["--set", "max_steps=2", "--set", "eval.max_new_tokens=2", "--set", "eval.during_training=0"]
    done = CliRunner().invoke(cli, [*call, *fast], standalone_mode=False)
    assert isinstance(done.exception, TrainError)
    assert (done.exception.code, done.exception.exit_code) == ("E947 out-of-memory", Exit.MISSING)
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "E947 out-of-memory")
    assert record["recipe"]["micro_batch_tokens"] == 2048
    monkeypatch.setattr("train.pipeline.measuring.evaluate_splits", full)
    done = CliRunner().invoke(cli, [*call[:-1], str(tmp_path / "s"), *fast, "--no-cache"], standalone_mode=False)
    assert isinstance(done.exception, TrainError)
    assert done.exception.hint == "Add --set eval.batch_tokens=4096."


@pytest.mark.parametrize(
    ("changes", "kind", "seconds", "reason"),
    [
        ({}, "cpu", 1e6, 'compile = "auto" is for CUDA'),
        ({"compile": False}, "cuda", 1e6, "compile = false"),
        ({"compile": True}, "cuda", 1.0, ""),
        ({"compile": True}, "cpu", 1.0, "packed rows in torch.bfloat16 on cpu"),
        ({"load_in_4bit": True}, "cuda", 1e6, "weights in 4 bits"),
        ({"gradient_checkpointing": "offload", "compile": True}, "cuda", 1e6, 'checkpointing = "offload"'),
        ({}, "cuda", 299.0, "steps take under 5 minutes"),
        ({}, "cuda", 301.0, ""),
        ({}, "cuda", None, ""),
    ],
)
def test_layers_are_compiled_where_the_run_is_long(
    changes: dict[str, Any], kind: str, seconds: float | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "has_varlen", lambda device: device.type == "cuda")
    found = planning._why_not_compiled(
        build_recipe(changes), seconds, torch.device(kind), torch.bfloat16, is_packed=True
    )
    assert (reason in found) if reason else found == ""
