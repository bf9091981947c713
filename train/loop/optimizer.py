"""AdamW over the trainable parameters, clipped, and never by a step that is not finite."""

from __future__ import annotations

import math
from typing import Any

import torch

from train.model.parallel.parallel import Replicated, Sharded
from train.recipe import Recipe
from train.recipe.schedule import betas, peak_lr, weight_decay


class Optimizer:
    """Updates the trainable parameters of ``model``, which is spread over the ranks as ``parallel`` says.

    Nothing here waits for the device. A step that is not finite changes no weight, nor does one after it: the device
    decides that itself, and `StepLog` reports it once it reads the numbers.
    """

    def __init__(self, model: Any, parallel: Replicated | Sharded, recipe: Recipe) -> None:
        self.parallel = parallel
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.peak_lr = peak_lr(recipe, model.get_input_embeddings().weight.shape[1], str(model.config.model_type))
        self.max_norm = recipe.clip or math.inf
        # Norms and biases are scales, not maps: decay would only shrink them.
        groups = [
            {"params": [p for p in self.named.values() if p.dim() >= 2], "weight_decay": weight_decay(recipe)},
            {"params": [p for p in self.named.values() if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=self.peak_lr, betas=betas(recipe), fused=True
        )
        self.is_broken = torch.zeros((), device=next(iter(self.named.values())).device)
        """1 once a loss or a gradient was not finite."""

    def step(self, loss: torch.Tensor, lr: float) -> torch.Tensor:
        """Add the ranks' gradients up, clip them and update the weights; return the norm before clipping."""
        parameters = list(self.named.values())
        self.parallel.add_up(parameters)
        norm = self.parallel.norm(parameters)
        self.is_broken = torch.maximum(self.is_broken, (~(loss.isfinite() & norm.isfinite())).float())
        # What torch's GradScaler sets: the fused kernel reads it, and then leaves weights and moments as they are.
        self.adamw.found_inf = self.is_broken  # type: ignore[attr-defined]
        torch.nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return norm

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state of each parameter by name, where it is."""
        return {
            f"{name}/{key}": value.detach()
            for name, parameter in self.named.items()
            for key, value in self.adamw.state[parameter].items()
        }

    def allocate(self) -> dict[str, torch.Tensor]:
        """Begin the state of each parameter with zeros and return it, to be filled from a checkpoint."""
        for parameter in self.named.values():
            # The fused kernel wants the number of steps where the parameter is.
            self.adamw.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
        return self.tensors()
