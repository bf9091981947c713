"""Norms and gated layers as one node of the graph each: fewer passes over memory and casts on a CPU, same numbers.

On a GPU `torch.compile` does this; on a CPU compiling costs more than a short run. A module is only replaced where ours
gives, on random input, what its own code gives, so a model that computes otherwise keeps its own.

N rows of all tokens, H width.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn import functional

from train.compute.tensors import are_close, working_dtype


def fuse(model: Any) -> dict[str, int]:
    """Replace what can be replaced and return how many modules of each kind were; twice is the same as once."""
    num = {"norms": 0, "gated layers": 0}
    verdicts: dict[tuple[type, str], bool] = {}
    for module in model.modules():
        kind = _kind(module)
        if kind is None or "forward" in vars(module):
            continue
        key = (type(module), kind)
        if key not in verdicts:
            verdicts[key] = _is_the_same(module, kind)
        if verdicts[key]:
            module.forward = MethodType(_FORWARD[kind], module)
            num[kind] += 1
    return num


def _kind(module: Any) -> str | None:
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return "norms"
    parts = ("gate_proj", "up_proj", "down_proj", "act_fn")
    return "gated layers" if all(hasattr(module, part) for part in parts) else None


def is_gated(module: Any) -> bool:
    """Return whether ``module`` is a gated layer, which computes each token by itself."""
    return _kind(module) == "gated layers"


@torch.no_grad()
def _is_the_same(module: Any, kind: str) -> bool:
    width = module.weight.shape[0] if kind == "norms" else module.gate_proj.in_features
    parameter = next(module.parameters())
    given = torch.linspace(-3, 3, 7 * width, device=parameter.device).sin().view(1, 7, width)
    return are_close(_FORWARD[kind](module, given), module(given))


def _norm(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    dtype = working_dtype(hidden_states)
    normed: torch.Tensor = _RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon, dtype)  # type: ignore[no-untyped-call]
    return normed


def _gated(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    gate, up = self.gate_proj(hidden_states), self.up_proj(hidden_states)
    if isinstance(self.act_fn, torch.nn.SiLU) or type(self.act_fn).__name__ == "SiLUActivation":
        mixed: torch.Tensor = _SwiGlu.apply(gate, up)  # type: ignore[no-untyped-call]
    else:
        mixed = self.act_fn(gate) * up
    down: torch.Tensor = self.down_proj(mixed)
    return down


_FORWARD = {"norms": _norm, "gated layers": _gated}


class _RmsNorm(torch.autograd.Function):
    """(x [.., H], weight [H], epsilon, format of the result) -> x / rms(x) * weight (Zhang and Sennrich 2019)."""

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


class _SwiGlu(torch.autograd.Function):
    """(gate, up) -> silu(gate) * up (Shazeer 2020); its inputs are kept, nothing between."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        d_up = d_out * silu
        # d silu = sigmoid + silu * (1 - sigmoid)
        return sigmoid.addcmul_(silu, 1 - sigmoid).mul_(d_out).mul_(up), d_up
