"""AdamW whose two moments take 8 bits a number instead of 32 (Dettmers et al. 2022, arXiv:2110.02861).

Each block of a moment is scaled by its largest magnitude, and of each number the nearest of 256 values is stored, which
lie the closer together the nearer they are to zero. An update is computed in float32 before the moments are rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import pad

BLOCK = 256
"""Numbers that have one scale."""
FEWEST = 4096
"""Numbers of a parameter from which on its moments are rounded; smaller ones are not worth it."""
# As many numbers of a parameter are there in float32 at once.
_CHUNK = 1 << 22


class AdamW8bit(torch.optim.Optimizer):
    """AdamW of ``groups``, each with its "weight_decay"; a step while ``found_inf`` is 1 changes nothing."""

    def __init__(self, groups: Sequence[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.found_inf: torch.Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update each parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    @staticmethod
    def begin(parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the state of a parameter before its first step: all zeros, where the parameter is."""
        device, state = parameter.device, {"step": torch.zeros((), device=parameter.device)}
        for name in ("exp_avg", "exp_avg_sq"):
            if parameter.numel() < FEWEST:
                state[name] = torch.zeros(parameter.numel(), device=device)
                continue
            num_blocks, zero = -(-parameter.numel() // BLOCK), int(_values(name, device)[0].abs().argmin())
            state[name] = torch.full((num_blocks, BLOCK), zero, dtype=torch.uint8, device=device)
            state[f"{name}_scale"] = torch.zeros(num_blocks, device=device)
        return state

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        if not self.state[parameter]:
            self.state[parameter] = self.begin(parameter)
        state, (first, second) = self.state[parameter], group["betas"]
        # Nothing waits for the device: it decides itself whether the step counts.
        broken = torch.zeros((), device=parameter.device) if self.found_inf is None else self.found_inf
        state["step"] += 1 - broken
        # How far the moments are still from means, as they begin with zeros.
        shares = [1 - beta ** state["step"] for beta in (first, second)]
        # A view of the parameter, unless it is a transposed one.
        weights, gradients = parameter.reshape(-1), parameter.grad.reshape(-1)  # type: ignore[union-attr]
        for begin in range(0, len(weights), _CHUNK):
            part = slice(begin, min(begin + _CHUNK, len(weights)))
            weight, gradient = weights[part], gradients[part].float()
            mean = _read(state, "exp_avg", part).lerp(gradient, 1 - first)
            square = _read(state, "exp_avg_sq", part).lerp(gradient.square(), 1 - second)
            scale = square.sqrt().div_(shares[1].sqrt()).add_(group["eps"])
            updated = weight * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * (mean / shares[0]) / scale
            weight.copy_(torch.where(broken > 0, weight, updated))
            for name, moment in (("exp_avg", mean), ("exp_avg_sq", square)):
                for key, stored in _rounded(state, name, moment).items():
                    target = state[key][_rows(state, name, part)]
                    target.copy_(torch.where(broken > 0, target, stored))
        if weights.data_ptr() != parameter.data_ptr():
            parameter.copy_(weights.view(parameter.shape))


def _rows(state: dict[str, torch.Tensor], name: str, part: slice) -> slice:
    # Of some numbers of a parameter: the blocks that they are in, or they themselves where there are none.
    return slice(part.start // BLOCK, -(-part.stop // BLOCK)) if f"{name}_scale" in state else part


def _read(state: dict[str, torch.Tensor], name: str, part: slice) -> torch.Tensor:
    stored = state[name][_rows(state, name, part)]
    if f"{name}_scale" not in state:
        return stored
    scales = state[f"{name}_scale"][_rows(state, name, part)]
    return (_values(name, stored.device)[0][stored.int()] * scales[:, None]).view(-1)[: part.stop - part.start]


def _rounded(state: dict[str, torch.Tensor], name: str, moment: torch.Tensor) -> dict[str, torch.Tensor]:
    if f"{name}_scale" not in state:
        return {name: moment}
    blocks = pad(moment, (0, -len(moment) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    # A block of zeros has no scale, and any does.
    codes = torch.bucketize(blocks / scales.clamp(min=1e-30)[:, None], _values(name, moment.device)[1], out_int32=True)
    return {name: codes.to(torch.uint8), f"{name}_scale": scales}


@lru_cache(maxsize=8)
def _values(name: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the 256 values of a moment, ascending, and the 255 borders between them.

    Seven decades, each with twice the values of the one below; a mean has both signs, a mean of squares has one.
    """
    is_signed = name == "exp_avg"
    decades = []
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (decade + (not is_signed)) + 1, dtype=torch.float64)
        decades.append((edges[1:] + edges[:-1]) / 2 * 10.0 ** (decade - 6))
    positive = torch.cat(decades)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    values = torch.cat([*([-positive] if is_signed else []), positive, ends]).sort().values
    return values.float().to(device), ((values[1:] + values[:-1]) / 2).float().to(device)
