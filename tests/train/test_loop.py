"""The loop: the same gradient however it is split, bit-exact resume, a stop at NaN, and signals that lose nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.tiny import make_model, make_tokenizer, sha256_of_tensors, some_rows, steps_of
from train.base.errors import Exit, TrainError
from train.data.rendering import Example, Renderer
from train.evaluate.predictions import ValidationScore
from train.loop import FitResult, Placement, RunEstimate, Validation, fit, trainable_tensors
from train.loop.checkpoint import Checkpoint
from train.loop.trainer import Optimizer
from train.model import add_lora
from train.model.device import peak_flops
from train.model.distributed import SINGLE_PROCESS, Replicated
from train.recipe import Recipe, build_recipe
from train.recipe.schedule import lr_factor, peak_lr, warmup_steps

EXAMPLES: list[Example] = Renderer(make_tokenizer(), "chat", 256).render(some_rows(32)).examples


def _fit(
    run: Path, changes: dict[str, Any], *, validate: Any = None, resume: Checkpoint | None = None, **options: Any
) -> tuple[Any, FitResult]:
    recipe = build_recipe({"global_batch_size": 8, "max_steps": 12, "learning_rate": 5e-3, "method": "full", **changes})
    run.mkdir(exist_ok=True)
    model = make_model()
    if recipe.method == "lora":
        model = add_lora(model, recipe, dtype=torch.float32, seed=0)
    validation = validate and Validation(validate)
    return model, fit(model, steps_of(model, EXAMPLES, recipe), run, resume=resume, validation=validation, **options)


def _events(run: Path, kind: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == kind]


def _losses(run: Path) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in _events(run, "step")}


@pytest.mark.ci
def test_it_learns_and_says_what_it_did(tmp_path: Path) -> None:
    _, result = _fit(tmp_path, {"max_steps": 40})
    losses = _losses(tmp_path)
    assert losses[40] < losses[1] - 1
    assert (result.step, result.num_steps, result.stop_code) == (40, 40, None)
    step = _events(tmp_path, "step")[0]
    assert step.keys() >= {"of", "lr", "grad_norm", "tokens", "supervised", "tokens_per_second", "eta_seconds", "time"}
    assert [event["event"] for kind in ("start", "end") for event in _events(tmp_path, kind)] == ["start", "end"]
    assert result.tokens == _events(tmp_path, "step")[-1]["tokens"]


@pytest.mark.parametrize(
    "changes", [{"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}, {"micro_batch_tokens": 40}]
)
def test_splitting_a_step_does_not_change_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    sizes = {"per_device_train_batch_size": 32, "max_steps": 1, "max_grad_norm": 0.0, "warmup_steps": 0}
    gradients = []
    for name, more in (("whole", {}), ("split", changes)):
        seen: dict[str, torch.Tensor] = {}
        model = make_model()
        for key, parameter in model.named_parameters():
            parameter.register_hook(lambda g, key=key, seen=seen: seen.__setitem__(key, seen.get(key, 0) + g))
        run = tmp_path / name
        run.mkdir()
        fit(model, steps_of(model, EXAMPLES, build_recipe({**sizes, "method": "full", **more})), run)
        gradients.append((seen, _losses(run)[1]))
    (whole, loss), (split, other) = gradients
    assert other == pytest.approx(loss, abs=1e-6)
    assert whole.keys() == split.keys()
    assert all(torch.allclose(whole[key], split[key], atol=1e-6) for key in whole)


def test_a_line_tells_the_share_of_a_known_card_its_memory_and_the_evaluation_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("train.loop.events.peak_flops", lambda _: 1e9)
    monkeypatch.setattr("train.loop.events.peak_memory", lambda _: 3_210_000_000)
    monkeypatch.setattr("train.base.console.PROGRESS_SECONDS", -1)
    expected = RunEstimate(flops=1e5, validation_seconds=1000.0, evaluation_seconds=50_000.0)
    changes = {"max_steps": 4, "eval_steps": 2}
    _fit(tmp_path, changes, validate=lambda step: ValidationScore(None, float(step)), expected=expected)
    steps = _events(tmp_path, "step")
    assert all(one["mfu"] == pytest.approx(one["tokens_per_second"] / 1e4, rel=0.01) for one in steps)
    assert [one["peak_bytes"] for one in steps] == [3_210_000_000] * 4
    # Two validations and the evaluation of the run are to come; the first takes a moment, and so will the rest.
    left = [one["eta_seconds"] for one in steps]
    assert left[0] == pytest.approx(52_000, abs=60)
    assert left[1] == pytest.approx(52_000, abs=60)
    assert max(left[2:]) < 1000
    line = next(line for line in capsys.readouterr().err.splitlines() if "step 1/4" in line)
    assert re.search(r"tokens/s  MFU [\d.]+%  3\.2 GB  14:2\d:\d\d to go$", line), line


def test_without_a_card_a_line_tells_neither(tmp_path: Path) -> None:
    _fit(tmp_path, {"max_steps": 1}, expected=RunEstimate(flops=1e3))
    assert not {"mfu", "peak_bytes"} & _events(tmp_path, "step")[0].keys()


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12), ("NVIDIA L4", 121e12), ("NVIDIA L40S", 362e12), ("Tesla T4", 65e12),
        ("NVIDIA GeForce RTX 4090", 165e12), ("NVIDIA RTX A1000", None),
    ],
)  # fmt: skip
def test_a_card_is_known_by_the_words_of_its_name(
    name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert peak_flops(torch.device("cuda")) == peak
    assert peak_flops(torch.device("cpu")) is None


@pytest.mark.ci
@pytest.mark.parametrize(
    ("method", "step", "optimizer"),
    [
        ("full", 3, "adamw_torch_fused"),
        ("full", 9, "adamw_8bit"),
        ("lora", 3, "adamw_8bit"),
        ("lora", 9, "adamw_torch_fused"),
    ],
)
def test_resume_is_bit_exact(tmp_path: Path, method: str, step: int, optimizer: str) -> None:
    changes = {
        "method": method,
        "optim": optimizer,
        "save_steps": 3,
        "save_total_limit": 9,
        "lora_dropout": 0.2,
    }
    whole, _ = _fit(tmp_path / "whole", changes)
    shutil_copy(tmp_path / "whole" / "metrics.jsonl", tmp_path / "again" / "metrics.jsonl")
    resumed, _ = _fit(tmp_path / "again", changes, resume=Checkpoint.read(tmp_path / "whole" / f"checkpoint-{step}"))
    assert _losses(tmp_path / "again") == _losses(tmp_path / "whole")
    assert len(_events(tmp_path / "again", "step")) == 12
    assert sha256_of_tensors(trainable_tensors(resumed)) == sha256_of_tensors(trainable_tensors(whole))


@pytest.mark.ci
def test_moments_of_8_bits_take_a_quarter_and_train_nearly_the_same(tmp_path: Path) -> None:
    losses, sizes, weights = [], [], []
    for name in ("adamw_torch_fused", "adamw_8bit"):
        _fit(tmp_path / name, {"max_steps": 40, "optim": name, "weight_decay": 0.1})
        losses.append(_losses(tmp_path / name))
        found = Checkpoint.read(tmp_path / name / "checkpoint-40")
        state = found.tensors("optimizer")
        # Small parameters stay as they are.
        large = [key for key, p in make_model().named_parameters() if p.numel() >= 4096]
        own = [tensor for key, tensor in state.items() if key.rpartition("/")[0] in large]
        sizes.append(sum(tensor.numel() * tensor.element_size() for tensor in own))
        weights.append(found.tensors("weights"))
    assert 0 < sizes[1] < sizes[0] / 3.9
    # From zeros the first update is the same; then the moments were rounded.
    assert losses[1][2] == pytest.approx(losses[0][2], abs=1e-5)
    assert losses[1][40] == pytest.approx(losses[0][40], rel=0.02)
    begun = dict(make_model().named_parameters())
    moved = sum(float((weights[0][name] - begun[name].detach()).square().sum()) for name in weights[0])
    apart = sum(float((weights[0][name] - weights[1][name]).square().sum()) for name in weights[0])
    assert apart < 0.05 * moved


def _stepped(optimizer: Optimizer, model: Any, number: int) -> torch.Tensor:
    # Give each parameter the gradient of step ``number``, and return the norm of the update.
    generator = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    norm = optimizer.clip(torch.zeros(()))
    optimizer.step(1e-2)
    return norm


def test_the_state_of_8_bits_goes_through_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    recipe = build_recipe({"method": "full", "optim": "adamw_8bit", "weight_decay": 0.1})

    def begin() -> tuple[Any, Optimizer]:
        model = make_model().requires_grad_(True)
        return model, Optimizer(model, Replicated(model, SINGLE_PROCESS), recipe)

    model, optimizer = begin()
    assert [group["weight_decay"] for group in optimizer.adamw.param_groups] == [0.1, 0.0]
    for number in range(3):
        _stepped(optimizer, model, number)
    weights, state = trainable_tensors(model), optimizer.tensors()
    parts = {"weights": weights, "optimizer": state, "dynamics": {"a": torch.zeros(1)}}
    Checkpoint.save(tmp_path, {"step": 3}, parts, {}, keep=1)
    for name, parameter in model.named_parameters():
        is_small = parameter.numel() < 4096
        assert state[f"{name}/state1"].dtype == (torch.float32 if is_small else torch.uint8)
        assert state[f"{name}/state1"].shape == parameter.shape
        assert (f"{name}/absmax1" in state) is not is_small
    other, again = begin()
    found = Checkpoint.read(tmp_path / "checkpoint-3")
    found.load_weights(other)
    found.load_into("optimizer", again.tensors())
    for number in range(3, 6):
        assert torch.equal(_stepped(optimizer, model, number), _stepped(again, other, number))
    assert sha256_of_tensors(trainable_tensors(other)) == sha256_of_tensors(trainable_tensors(model))
    assert sha256_of_tensors(again.tensors()) == sha256_of_tensors(optimizer.tensors())


def shutil_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(source.read_bytes())


@pytest.mark.ci
def test_another_number_of_threads_or_seed_is_another_run(tmp_path: Path) -> None:
    first, _ = _fit(tmp_path / "a", {"seed": 0})
    other, _ = _fit(tmp_path / "b", {"seed": 1})
    assert sha256_of_tensors(trainable_tensors(first)) != sha256_of_tensors(trainable_tensors(other))


def test_the_best_step_is_kept_and_can_be_restored(tmp_path: Path) -> None:
    scores = {3: 0.5, 6: 0.9, 9: 0.9, 12: 0.1}
    states: dict[int, str] = {}

    def validate(step: int) -> ValidationScore:
        states[step] = sha256_of_tensors(trainable_tensors(model))
        return ValidationScore(scores[step], {6: 1.0, 9: 2.0}.get(step, 3.0), {"cats": scores[step]})

    model = make_model()
    recipe = build_recipe({"global_batch_size": 8, "max_steps": 12, "method": "full", "learning_rate": 5e-3})
    result = fit(model, steps_of(model, EXAMPLES, recipe), tmp_path, validation=Validation(validate))
    assert result.best_step == 6, "a tie goes to the lower loss"
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-12",
        "checkpoint-6",
        "checkpoint-9",
    ]
    Checkpoint.read(tmp_path / "checkpoint-6").load_weights(model)
    assert sha256_of_tensors(trainable_tensors(model)) == states[6]
    assert [event["best"] for event in _events(tmp_path, "eval")] == [True, True, False, False]


def test_divergence_stops_the_run_and_names_the_records(tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        _fit(
            tmp_path,
            {
                "learning_rate": 10.0,
                "max_grad_norm": 0.0,
                "max_steps": 200,
                "lr_scheduler_type": "constant_with_warmup",
                "warmup_steps": 0,
                "adam_beta1": 0.0,
                "adam_beta2": 0.0,
                "global_batch_size": 4,
                "weight_decay": 0.9,
            },
        )
    assert (caught.value.code, caught.value.exit_code) == ("E930 diverged", Exit.FAILED)
    assert " r" in caught.value.message


def test_a_validation_loss_that_is_no_number_ends_the_run_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        _fit(tmp_path, {}, validate=lambda _step: ValidationScore(0.5, float("inf")))
    assert (caught.value.code, caught.value.exit_code) == ("E930 diverged", Exit.FAILED)
    assert not [*tmp_path.glob("checkpoint-*")]


def test_a_loss_that_is_no_number_is_never_hidden(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(TrainError, match="loss nan") as caught:
        fit(
            model,
            steps_of(model, EXAMPLES[:4], build_recipe({"max_steps": 2, "method": "full"})),
            tmp_path,
        )
    assert all(example.id in caught.value.message for example in EXAMPLES[:4])
    assert not list(tmp_path.glob("checkpoint-*"))


class Late(Placement):
    """As on a GPU, whose numbers are read one step late."""

    steps_in_flight = 1


@pytest.mark.ci
def test_steps_that_are_read_late_are_the_same_steps(tmp_path: Path) -> None:
    changes = {"max_steps": 7, "eval_steps": 4, "save_steps": 3}
    model, result = _fit(tmp_path / "now", changes, validate=lambda _step: ValidationScore(None, 1.0))
    late, other = _fit(tmp_path / "late", changes, validate=lambda _step: ValidationScore(None, 1.0), placement=Late())
    assert _losses(tmp_path / "late") == _losses(tmp_path / "now")
    assert sha256_of_tensors(trainable_tensors(late)) == sha256_of_tensors(trainable_tensors(model))
    assert (other.step, other.loss, other.tokens) == (result.step, result.loss, result.tokens)
    order = [
        (one["event"], one.get("step"))
        for one in map(json.loads, (tmp_path / "late" / "metrics.jsonl").read_text().splitlines())
    ]
    assert order.index(("eval", 4)) > order.index(("step", 4)), "a look waits for the steps before it"
    assert order.index(("checkpoint", 3)) > order.index(("step", 3))


@pytest.mark.parametrize(
    ("placement", "optimizer"),
    [(Placement(), "adamw_torch_fused"), (Late(), "adamw_torch_fused"), (Late(), "adamw_8bit")],
)
def test_a_step_that_is_not_finite_changes_no_weight(placement: Placement, optimizer: str, tmp_path: Path) -> None:
    before: list[dict[str, torch.Tensor]] = []
    model = make_model().requires_grad_(True)

    def spoil(_module: Any, _inputs: Any, hidden: torch.Tensor) -> torch.Tensor:
        if not model.training:
            return hidden
        before.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return hidden * float("nan") if len(before) == 3 else hidden

    model.model.norm.register_forward_hook(spoil)
    changes = {"max_steps": 6, "method": "full", "global_batch_size": 8, "optim": optimizer, "eval_steps": 6}
    recipe = build_recipe(changes)
    with pytest.raises(TrainError, match="step 3: loss nan"):
        fit(model, steps_of(model, EXAMPLES[:8], recipe), tmp_path, placement=placement)
    assert len(before) == 3 + placement.steps_in_flight
    assert not all(torch.equal(tensor, before[0][name]) for name, tensor in before[2].items()), "it did learn"
    assert all(torch.equal(p, before[2][name]) for name, p in model.named_parameters())
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.ci
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_and_leaves_a_checkpoint(tmp_path: Path, number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    asked: list[int] = []

    def validate(step: int) -> ValidationScore:
        asked.append(step)
        os.kill(os.getpid(), number)
        return ValidationScore(None, 1.0)

    whole, _ = _fit(tmp_path / "whole", {})
    _, result = _fit(tmp_path / "run", {}, validate=validate)
    assert (result.stop_code, result.step, asked) == (code, 3, [3])
    assert signal.getsignal(number) == before
    found, _ = Checkpoint.newest(tmp_path / "run")
    assert found is not None
    resumed, result = _fit(tmp_path / "run", {}, resume=found)
    assert (result.step, result.stop_code) == (12, None)
    assert result.step_seconds > found.progress["step_seconds"] > 0
    assert sha256_of_tensors(trainable_tensors(resumed)) == sha256_of_tensors(trainable_tensors(whole))


@pytest.mark.parametrize("step", [1, 2])
def test_a_signal_where_a_validation_is_due_puts_it_off_till_the_run_goes_on(tmp_path: Path, step: int) -> None:
    changes = {"max_steps": 2, "eval_steps": 1, "save_steps": 1, "save_total_limit": 9}

    def validate(step: int) -> ValidationScore:
        return ValidationScore(None, 9.0 - step)

    def ask(event: str, fields: Any) -> None:
        if event == "step" and fields["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    def die(event: str, _fields: Any) -> None:
        if event == "eval":
            raise RuntimeError("killed before what it found was saved")

    run = tmp_path / "run"
    whole, wanted = _fit(tmp_path / "whole", changes, validate=validate)
    assert _fit(run, changes, validate=validate, on_event=ask)[1].stop_code == 143
    assert len(_events(run, "eval")) == step - 1
    with pytest.raises(RuntimeError, match="killed"):
        _fit(run, changes, validate=validate, resume=Checkpoint.newest(run)[0], on_event=die)
    resumed, result = _fit(run, changes, validate=validate, resume=Checkpoint.newest(run)[0])
    assert (result.evaluations, result.best_step) == (wanted.evaluations, wanted.best_step)
    assert [(e["step"], e["loss"], e["best"]) for e in _events(run, "eval")] == [(1, 8.0, True), (2, 7.0, True)]
    assert sha256_of_tensors(trainable_tensors(resumed)) == sha256_of_tensors(trainable_tensors(whole))
    assert len(_fit(run, changes, validate=validate, resume=Checkpoint.newest(run)[0])[1].evaluations) == 2


def test_a_thread_can_train_too(tmp_path: Path) -> None:
    results: list[FitResult] = []
    thread = threading.Thread(target=lambda: results.append(_fit(tmp_path, {"max_steps": 2})[1]))
    thread.start()
    thread.join()
    assert results[0].step == 2


def test_the_rate_warms_up_and_ends_above_zero() -> None:
    recipe = Recipe()
    factors = [lr_factor(recipe, step, 1000) for step in range(1000)]
    warmup = warmup_steps(recipe, 1000)
    assert warmup == 30
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup] == 1.0
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert 0 < factors[-1] < 0.002
    assert warmup_steps(recipe, 100) == 10
    assert warmup_steps(recipe, 6) == 3
    assert lr_factor(build_recipe({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0}), 999, 1000) == 1.0


@pytest.mark.parametrize(
    ("method", "width", "kind", "rate"),
    [
        ("lora", 1024, "qwen3", 5.27e-4),
        ("lora", 2048, "llama", 4.91e-4),
        ("lora", 4096, "llama", 2.86e-4),
        ("full", 4096, "llama", 2e-5),
        ("lora", 512, "llama", 1.45e-3),
        ("lora", 512, "qwen3", 5.56e-4),
        ("lora", 511, "llama", 1e-3),
        ("lora", 160, "qwen3", 1e-3),
        ("lora", 64, "llama", 1e-3),
        ("full", 512, "llama", 2e-5),
        ("full", 160, "qwen3", 1.46e-3),
        ("full", 64, "llama", 3e-3),
    ],
)
def test_the_automatic_rate(method: str, width: int, kind: str, rate: float) -> None:
    assert peak_lr(build_recipe({"method": method}), width, kind) == pytest.approx(rate, rel=0.01)
    assert peak_lr(build_recipe({"method": method, "learning_rate": 0.5}), width, kind) == 0.5


def test_adapters_are_float32_and_the_base_stays(tmp_path: Path) -> None:
    model = make_model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    tuned = add_lora(model, Recipe(), dtype=torch.bfloat16, seed=0)
    kinds = {p.dtype for p in tuned.parameters() if p.requires_grad}
    assert kinds == {torch.float32}
    sampler = steps_of(tuned, EXAMPLES, build_recipe({"max_steps": 2, "global_batch_size": 4}))
    fit(tuned, sampler, tmp_path, placement=Placement(dtype=torch.bfloat16))
    after = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): p for name, p in tuned.named_parameters()
    }
    assert all(torch.equal(before[name].to(after[name].dtype), after[name]) for name in before)
