"""How layers compute: norms as one node of the graph on a CPU, activations computed again, and compilation on a GPU.

The norms take fewer passes over memory and casts, with the same numbers. Without them a step of the small model of
`benchmarks/train_cpu.py` takes 3 to 5 % longer and a tenth more memory. Compiling on a CPU costs more than a short run.
Checkpointed layers keep their input only, and compute the rest again when its gradient is due: Chen et al. 2016
(arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from train.model.attention import packed_now, packing
from train.model.parts import are_close, inner_of, working_dtype


class FusedRMSNorm(nn.Module):
    """x [.., H] -> x / rms(x) * weight (Zhang and Sennrich 2019), with the weight [H] of another module."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.epsilon = epsilon

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the normed states, in the format that is computed with."""
        dtype = working_dtype(hidden_states)
        normed: torch.Tensor = _RMSNorm.apply(hidden_states, self.weight, self.epsilon, dtype)  # type: ignore[no-untyped-call]
        return normed


def fuse_norms(model: Any) -> int:
    """Replace each norm that gives the same numbers by `FusedRMSNorm`, and return how many were replaced.

    Names and parameters of the model stay. A norm that computes otherwise, such as one that scales by 1 + weight, stays
    too: one of each kind is tried.
    """
    num, verdicts = 0, dict[type, bool]()
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if not type(module).__name__.endswith("RMSNorm") or not hasattr(module, "variance_epsilon"):
                continue
            fused = FusedRMSNorm(module.weight, module.variance_epsilon)
            if type(module) not in verdicts:
                sample = torch.linspace(-3, 3, 7 * len(module.weight), device=module.weight.device).sin()
                sample = sample.view(1, 7, len(module.weight))
                with torch.no_grad():
                    verdicts[type(module)] = are_close(fused(sample), module(sample))
            if verdicts[type(module)]:
                setattr(parent, name, fused)
                num += 1
    return num


class _RMSNorm(torch.autograd.Function):
    """(x [.., H], weight [H], epsilon, format of the result) -> x / rms(x) * weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype) -> torch.Tensor:
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        normed = wide * scale
        ctx.save_for_backward(normed, scale, weight)
        ctx.dtype = x.dtype
        scaled: torch.Tensor = normed * weight
        return scaled.to(dtype)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        normed, scale, weight = ctx.saved_tensors
        wide = d_out.float()
        d_weight = (wide * normed).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, d_weight, None, None
        d_normed = wide * weight
        along = torch.linalg.vecdot(d_normed, normed).unsqueeze(-1).div_(normed.shape[-1])
        return d_normed.addcmul_(normed, along, value=-1).mul_(scale).to(ctx.dtype), d_weight, None, None


def checkpoint_activations(model: Any) -> None:
    """Turn it on for a model of transformers, with adapters or without; the gradients stay the same.

    Not reentrant, so that it needs no gradient of the inputs, of which frozen embeddings have none.
    """
    arguments = {"use_reentrant": False, "context_fn": _contexts}
    inner = inner_of(model)
    # Transformers 5 renamed it and warns of the old name.
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    enable(arguments)


def is_checkpointing(model: Any) -> bool:
    """True for a model whose layers compute their activations again."""
    inner = inner_of(model)
    # Transformers 5 renamed it, too.
    names = ("is_activation_checkpointing", "is_gradient_checkpointing")
    return bool(getattr(inner, next(name for name in names if hasattr(type(inner), name))))


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    # A layer is computed again after the forward pass has left its `packing`, without which it would see all as one.
    return nullcontext(), packing(packed_now())


_MOST_SHAPES = 64
"""Shapes that a layer is compiled for; torch's own limit is 8, after which it runs the layer plainly for good."""


def compile_layers(model: Any, *, backend: str = "inductor") -> int:
    """Compile the layers of ``model`` in place, adapters included, and return how many they are.

    It takes effect inside `compiling` only. No name in the model's state changes.
    """
    inner = inner_of(model)
    # What transformers never puts on two devices is one layer.
    names = set(getattr(inner, "_no_split_modules", None) or ())
    layers = [module for module in inner.modules() if type(module).__name__ in names]
    for layer in layers:
        layer.compile(backend=backend, dynamic=False)
    # Of this process, until `compiling` says otherwise.
    torch.compiler.set_stance("force_eager")
    return len(layers)


@contextmanager
def compiling(is_on: bool) -> Iterator[None]:
    """Within, the layers of `compile_layers` run compiled; elsewhere, and with False, they run as written.

    Evaluation has a new shape with each batch, and would compile for most of its time.
    """
    import torch._dynamo.config as limits

    if not is_on:
        yield
        return
    before = limits.recompile_limit
    limits.recompile_limit = _MOST_SHAPES
    try:
        with torch.compiler.set_stance("default"):
            yield
    finally:
        limits.recompile_limit = before
