"""What a GPU needs, held on a CPU where that can be: nothing waits, layers are one graph, rows have few lengths."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from train.base.errors import TrainError
from train.data.rendering import Example
from train.loop import Placement, Trainer, fit
from train.loop.events import AsyncScalars
from train.model import add_lora, attention, autocasting, capabilities, pick_device, pick_dtype
from train.model.batch import BatchSampler, collate
from train.model.capabilities import (
    capabilities_of,
    checkpoint_activations,
    compile_layers,
)
from train.model.loss import supervised_loss
from train.pipeline import prepare as prepare_room
from train.recipe import Recipe, build_recipe

from .tiny import make_model


def _examples(lengths: list[int]) -> list[Example]:
    return [
        Example(f"e{n}", "", "", [(7 * n + k) % 90 + 3 for k in range(size)], [k > 0 for k in range(size)], size)
        for n, size in enumerate(lengths)
    ]


class _NoWaits(TorchDispatchMode):
    """Refuses what a GPU must end all its work for: a number, or a shape, that hangs on what a tensor holds."""

    WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten._unique2", "aten.equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not str(func).startswith(self.WAITS), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


def test_nothing_of_a_step_waits_for_the_device(varlen_on_cpu: list[int]) -> None:
    model = make_model("qwen3").requires_grad_(True)
    assert capabilities_of(model).has_packing
    sampler = BatchSampler(_examples([5, 9, 3, 12]), build_recipe({"global_batch_size": 4}), is_packed=True)
    trainer = Trainer(model, sampler)
    with _NoWaits():
        loss = trainer.backward(sampler[0])
        scalars = AsyncScalars(loss, trainer.optimizer.clip(loss))
        trainer.optimizer.step(1e-3)
    assert all(number > 0 for number in scalars.read())
    with pytest.raises(AssertionError, match="waits"), _NoWaits():
        float(loss)


class _Casts(TorchDispatchMode):
    """Counts by shape what is cast from float32 to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[tuple[int, ...]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith("aten._to_copy") and (kwargs or {}).get("dtype") == torch.bfloat16:
            self.counts[tuple(args[0].shape)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.ci
@pytest.mark.parametrize("method", ["full", "lora"])
def test_weights_are_cast_once_a_step(method: str) -> None:
    torch.manual_seed(0)
    whole = make_model("llama").requires_grad_(True)
    capabilities_of(whole)
    model = whole if method == "full" else add_lora(whole, Recipe(lora_r=5), dtype=torch.bfloat16, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    sampler = BatchSampler(
        _examples([50, 40, 45, 60]), build_recipe({"global_batch_size": 4, "micro_batch_tokens": 60}), is_packed=True
    )
    trainer = Trainer(model, sampler, Placement(dtype=torch.bfloat16))
    micro_batches = [group for group, _ in trainer.micro_batches(sampler[0])]
    assert len(micro_batches) == 4
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for group in micro_batches:
        with autocasting(torch.device("cpu"), torch.bfloat16):
            batch = collate([sampler.examples[index] for index in group], is_packed=True)
            loss, _ = supervised_loss(model, batch, scale=1 / sampler[0].weight)
        loss.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in named.items() if parameter.grad is not None}
    model.zero_grad()
    with _Casts() as casts:
        trainer.backward(sampler[0])
    matrices = [p for p in model.parameters() if p.dim() == 2 and p.dtype == torch.float32]
    shapes = Counter(tuple(p.shape) for p in matrices)
    # Tied tables are one tensor, and of an embedding alone rows are read.
    assert {shape: casts.counts[shape] for shape in shapes if casts.counts[shape] > shapes[shape]} == {}
    assert casts.counts[(400, 32)] == 1, "the head too"
    assert wanted.keys() == {name for name, p in named.items() if p.grad is not None}
    assert all(torch.equal(named[name].grad, gradient) for name, gradient in wanted.items())


@pytest.fixture
def varlen_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Give torch's attention of a GPU a kernel for the CPU, and return the lengths of the rows that it saw."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    seen: list[int] = []

    def shares(query: Any, key: Any, scale: float) -> tuple[torch.Tensor, ...]:
        # Queries, keys with their heads repeated, and softmax of the scores, each [heads, tokens, ..], of one example.
        q, k = (tensor.float().transpose(0, 1) for tensor in (query, key))
        k = k.repeat_interleave(len(q) // len(k), 0)
        hidden = torch.ones(len(query), len(key), dtype=torch.bool).triu(1 + len(key) - len(query))
        return q, k, torch.softmax((q @ k.transpose(1, 2) * scale).masked_fill(hidden, -torch.inf), -1)

    def edges_of(starts: torch.Tensor) -> list[tuple[int, int]]:
        # Not as a number of the tensor: what only this stand-in must know is no wait of the model's.
        return list(pairwise(starts.numpy().tolist()))

    def forward(query: Any, key: Any, value: Any, starts: Any, *others: Any) -> Any:
        seen.append(len(query))
        out = torch.zeros_like(query)
        for (begin, end), keys in zip(edges_of(starts), edges_of(others[0]), strict=True):
            q, _, share = shares(query[begin:end], key[slice(*keys)], others[4])
            v = value[slice(*keys)].float().transpose(0, 1)
            out[begin:end] = (share @ v.repeat_interleave(len(q) // len(v), 0)).transpose(0, 1).to(out.dtype)
        return out, torch.zeros(query.shape[1], len(query)), torch.zeros(2, dtype=torch.uint64)

    def backward(grad: Any, query: Any, key: Any, value: Any, out: Any, lse: Any, starts: Any, *others: Any) -> Any:
        grads = [torch.zeros_like(tensor) for tensor in (query, key, value)]
        heads = key.shape[1]
        for begin, end in edges_of(starts):
            q, k, share = shares(query[begin:end], key[begin:end], others[5])
            d, v = (tensor[begin:end].float().transpose(0, 1) for tensor in (grad, value))
            d_share = d @ v.repeat_interleave(len(q) // len(v), 0).transpose(1, 2)
            d_scores = share * (d_share - (d_share * share).sum(-1, keepdim=True)) * others[5]
            parts = d_scores @ k, d_scores.transpose(1, 2) @ q, share.transpose(1, 2) @ d
            for total, part in zip(grads, parts, strict=True):
                own = part if total is grads[0] else part.unflatten(0, (heads, -1)).sum(1)
                total[begin:end] = own.transpose(0, 1).to(total.dtype)
        return tuple(grads)

    with monkeypatch.context() as patched:
        for module in (attention, capabilities):
            patched.setattr(module, "has_varlen", lambda _device: True)
        library = torch.library.Library("torch_attn", "IMPL")
        library.impl("_varlen_attn", forward, "CPU")
        library.impl("_varlen_attn_backward", backward, "CPU")
        assert varlen
        yield seen
        library._destroy()


def test_the_kernel_of_a_gpu_is_proved_in_the_format_in_which_it_will_run(
    varlen_on_cpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert capabilities_of(make_model("qwen3")).has_packing
    assert varlen_on_cpu
    monkeypatch.setattr(attention, "varlen_attend", lambda query, *_: query.transpose(1, 2))
    assert not capabilities_of(make_model("qwen3")).has_packing


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Return the graphs that layers become; AOTAutograd splits each into its two passes, and runs them as written."""
    made: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        # AOTAutograd may ask Dynamo to begin a trace again, which is no other graph.
        compiled = torch._dynamo.lookup_backend("aot_eager")(graph, inputs)
        made.append(graph)
        return compiled

    monkeypatch.setattr(sys.modules[Trainer.__module__], "compile_layers", partial(compile_layers, backend=backend))
    yield made
    torch._dynamo.reset()


def _model(method: str, *, is_packed: bool, checkpointing: Any = False) -> Any:
    """Return a model to train; one that cannot be packed says that it has a dropout, which its layers do not know."""
    torch.manual_seed(0)
    whole = make_model("qwen3").requires_grad_(True)
    whole.config.attention_dropout = 0.0 if is_packed else 0.5
    assert capabilities_of(whole).has_packing == is_packed
    model = whole if method == "full" else add_lora(whole, Recipe(), dtype=torch.bfloat16, seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    if checkpointing:
        checkpoint_activations(model, checkpointing)
    return model.train()


def _trainer(model: Any, lengths: list[int], *, is_compiled: bool, **recipe: Any) -> Trainer:
    sampler = BatchSampler(_examples(lengths), build_recipe(recipe), is_packed=capabilities_of(model).has_packing)
    return Trainer(model, sampler, Placement(dtype=torch.bfloat16, is_compiled=is_compiled))


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True, "offload"])
def test_compiled_layers_train_as_plain_ones_also_where_activations_are_computed_again(
    varlen_on_cpu: list[int], graphs: list[Any], checkpointing: Any, method: str, is_packed: bool
) -> None:
    def step(*, is_compiled: bool, checkpointing: Any = False) -> tuple[float, dict[str, torch.Tensor]]:
        model = _model(method, is_packed=is_packed, checkpointing=checkpointing)
        trainer = _trainer(
            model, [12, 3, 18, 30, 9], is_compiled=is_compiled, global_batch_size=5, micro_batch_tokens=48
        )
        loss = trainer.backward(trainer.sampler[0])
        return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    loss, wanted = step(is_compiled=False)
    for is_compiled in (False, True):
        again, found = step(is_compiled=is_compiled, checkpointing=checkpointing)
        assert again == pytest.approx(loss, rel=1e-3)
        assert found.keys() == wanted.keys()
        for name, gradient in wanted.items():
            assert (found[name] - gradient).norm() <= 0.02 * gradient.norm() + 1e-6, name
        assert bool(graphs) == (is_compiled and checkpointing != "offload")


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_of_mixed_lengths_is_at_most_four_compilations(
    varlen_on_cpu: list[int], graphs: list[Any], method: str, is_packed: bool
) -> None:
    random = np.random.default_rng(0)
    model = _model(method, is_packed=is_packed)
    lengths = [int(length) for length in np.clip(random.lognormal(2, 0.8, 1800), 2, 90)]
    trainer = _trainer(model, lengths, is_compiled=True, global_batch_size=3, num_train_epochs=1, micro_batch_tokens=60)
    assert len(trainer.sampler) == 600
    for number in range(600):
        trainer.backward(trainer.sampler[number])
        model.zero_grad()
    assert 0 < len(graphs) <= 4


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_run_is_the_plain_one_and_sets_nothing_of_the_callers_torch(
    varlen_on_cpu: list[int], graphs: list[Any], tmp_path: Path
) -> None:
    own: list[Any] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        own.append(graph)
        return graph.forward

    # Of the caller, and first called in the middle of a backward pass.
    doubled = torch.compile(lambda grad: grad * 1.0, backend=backend)
    limits = torch._dynamo.config.recompile_limit, torch._dynamo.config.accumulated_recompile_limit
    losses = []
    for is_compiled in (False, True):
        model = _model("full", is_packed=True)
        model.model.norm.weight.register_hook(doubled)
        sampler = BatchSampler(
            _examples([12, 3, 18, 30, 9, 7]), build_recipe({"global_batch_size": 2, "max_steps": 3}), is_packed=True
        )
        (tmp_path / str(is_compiled)).mkdir()
        placement = Placement(dtype=torch.bfloat16, is_compiled=is_compiled)
        if is_compiled:
            # What the plain run had compiled of it.
            torch._dynamo.reset()
            own.clear()
        losses.append(fit(model, sampler, tmp_path / str(is_compiled), placement=placement).loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert len(graphs) == len(own) == 1
    assert torch.compile(lambda x: x + 1, backend=backend)(torch.ones(3)).tolist() == [2, 2, 2]
    assert len(own) == 2
    assert limits == (torch._dynamo.config.recompile_limit, torch._dynamo.config.accumulated_recompile_limit)


@pytest.mark.filterwarnings("ignore")
def test_layers_that_torch_cannot_compile_run_as_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def backend(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(sys.modules[Trainer.__module__], "compile_layers", partial(compile_layers, backend=backend))
    model = _model("full", is_packed=False)
    trainer = _trainer(model, [12, 3], is_compiled=True)
    assert trainer.backward(trainer.sampler[0]) > 0
    said = capsys.readouterr().err
    assert said.count("warning: layers are not compiled from here on: ") == 1
    assert "no C compiler" in said


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has one GPU, which has no bfloat16."""
    for name, value in (("is_available", True), ("device_count", 1), ("is_bf16_supported", False)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")


@pytest.mark.usefixtures("old_gpu")
def test_a_gpu_without_bfloat16_is_told_what_that_costs(capsys: pytest.CaptureFixture[str]) -> None:
    recipe, device = build_recipe({}), torch.device("cuda")
    dtype = pick_dtype(recipe, device, 10**9)
    assert dtype is torch.float32
    model = SimpleNamespace(
        parameters=lambda: iter([SimpleNamespace(device=device, requires_grad=True, numel=lambda: 10**9)])
    )
    assert prepare_room._place(model, recipe, Placement())[0].dtype == "float32"
    assert "warning: Tesla T4 has no bfloat16" in (said := capsys.readouterr().err)
    assert "8 times" in said
    prepare_room._place(model, build_recipe({"bf16": False}), Placement())
    assert not capsys.readouterr().err, "it was asked for"


@pytest.mark.usefixtures("old_gpu")
def test_bfloat16_that_a_gpu_lacks_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(TrainError, match="Tesla T4 has no bfloat16") as caught:
        prepare_room.prepare(tmp_path, build_recipe({"bf16": True, "device": "cuda"}))
    assert (caught.value.code, caught.value.exit_code) == ("E941 no-device", 3)
    assert "--set bf16=auto" in caught.value.hint


@pytest.fixture
def tf32() -> Iterator[Any]:
    """Where torch keeps how a GPU multiplies float32; as it was afterwards."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    yield matmul
    matmul.fp32_precision = before


@pytest.mark.parametrize("mine", ["ieee", "tf32"])
def test_products_of_float32_are_tf32_on_a_gpu_and_only_within(mine: str, tf32: Any) -> None:
    tf32.fp32_precision = mine
    for kind, wanted in (("cuda", "tf32"), ("cpu", mine)):
        with pytest.raises(KeyError), autocasting(torch.device(kind), torch.float32):  # noqa: PT012
            assert tf32.fp32_precision == wanted
            with autocasting(torch.device(kind), torch.float32):
                assert tf32.fp32_precision == wanted
            assert tf32.fp32_precision == wanted
            raise KeyError
        assert tf32.fp32_precision == mine


@pytest.mark.parametrize(
    ("mine", "wanted"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, None),
    ],
)
def test_the_command_lets_memory_of_a_gpu_grow_unless_the_user_said_how(mine: dict[str, str], wanted: str) -> None:
    code = (
        "import os, sys; sys.argv[1:] = ['--version']; from train.cli import main\n"
        "try: main()\nexcept SystemExit: print(os.environ.get('PYTORCH_CUDA_ALLOC_CONF'))"
    )
    clean = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name}
    done = subprocess.run([sys.executable, "-c", code], env=clean | mine, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == str(wanted)


def test_auto_finds_an_apple_gpu_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
