"""RMSNorm as one node of the graph: fewer passes over memory and casts on a CPU, and the same numbers.

On a GPU `torch.compile` does this; on a CPU compiling costs more than a short run. Without it a step of the small model
of `benchmarks/train_cpu.py` takes 3 to 5 % longer and a tenth more memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from train.model.compute.tensors import are_close, working_dtype


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
                verdicts[type(module)] = _gives_the_same(fused, module)
            if verdicts[type(module)]:
                setattr(parent, name, fused)
                num += 1
    return num


@torch.no_grad()
def _gives_the_same(fused: FusedRMSNorm, module: Any) -> bool:
    width = len(module.weight)
    sample = torch.linspace(-3, 3, 7 * width, device=module.weight.device).sin().view(1, 7, width)
    return are_close(fused(sample), module(sample))


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
