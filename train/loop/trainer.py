"""The model that is trained, spread over the ranks: the micro-batches of a step, their loss, and the optimizer.

The loss of a step is the weighted mean over its supervised tokens, however they are split into micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from train.base import console
from train.data.rendering import Example
from train.evaluate.dynamics import DynamicsMeter
from train.loop.checkpoint import Checkpoint, TrainingState, trainable_tensors
from train.model import autocasting
from train.model.attention import to_device
from train.model.batch import Batch, BatchSampler, Step, collate, pad_multiple
from train.model.capabilities import capabilities_of, compile_layers
from train.model.distributed import (
    SINGLE_PROCESS,
    DistributedContext,
    ParallelStrategy,
    Replicated,
    Sharded,
    gradient_norm,
)
from train.model.loss import supervised_loss
from train.model.preference import PreferenceLoss
from train.recipe import PREFERENCES, Recipe
from train.recipe.schedule import adam_betas, peak_lr, weight_decay


@dataclass(frozen=True)
class Placement:
    """Where a run computes: a device, the number format of its products, the ranks with how they hold the model, and
    whether its layers are compiled.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    context: DistributedContext = SINGLE_PROCESS
    strategy: ParallelStrategy = "ddp"
    is_compiled: bool = False

    @property
    def num_shards(self) -> int:
        """Number of parts that the model is cut into."""
        return 1 if self.strategy == "ddp" else self.context.world_size

    @property
    def steps_in_flight(self) -> int:
        """Steps that may be under way before the numbers of an earlier one are read."""
        return 1 if self.device.type == "cuda" else 0


CPU = Placement()
"""One process on a CPU."""


class Trainer:
    """``model`` with its optimizer and its learning dynamics, ready for the steps of ``sampler``.

    Layers are compiled and the model is spread over the ranks as ``placement`` says. Where answers are compared,
    ``reference`` [records, 2] has the log-probabilities of their texts in nats; None is zeros.
    """

    def __init__(
        self, model: Any, sampler: BatchSampler, placement: Placement = CPU, reference: torch.Tensor | None = None
    ) -> None:
        self.model, self.sampler, self.placement, self.reference = model, sampler, placement, reference
        # Probed and cached now, while the model is whole and without dropout.
        capabilities_of(model)
        if placement.is_compiled:
            # Before the model is cut: FSDP2 renames the classes that layers are known by.
            compile_layers(model)
        context = placement.context
        self.parallel = (
            Replicated(model, context) if placement.strategy == "ddp" else Sharded(model, context, placement.dtype)
        )
        self.optimizer = Optimizer(model, self.parallel, sampler.recipe)
        self.dynamics = DynamicsMeter(sampler.first_supervised.tolist(), placement.device)

    def restore(self, checkpoint: Checkpoint) -> TrainingState:
        """Take over the tensors of a checkpoint and return its state; raises TrainError where they do not fit."""
        checkpoint.load_weights(self.model)
        checkpoint.load_into("optimizer", self.optimizer.tensors())
        if not self.dynamics.restore(checkpoint.tensors("dynamics")):
            name = checkpoint.path.name
            console.info(f"{name} holds no learning dynamics of these records: they begin with this step")
        return TrainingState.from_progress(checkpoint.progress)

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the tensors of a checkpoint, where they are."""
        return {"weights": trainable_tensors(self.model), "optimizer": self.optimizer.tensors(),
                "dynamics": self.dynamics.tensors()}  # fmt: skip

    def autocast(self, *, is_whole_step: bool = False) -> AbstractContextManager[None]:
        """Within, products are in the dtype of the run; around a whole step weights are cast once for all of it."""
        # Of a sharded model that would gather every weight for the whole step.
        if is_whole_step and isinstance(self.parallel, Sharded):
            return nullcontext()
        return autocasting(self.placement.device, self.placement.dtype)

    def backward(self, step: Step) -> torch.Tensor:
        """Add this rank's gradients of ``step`` to the parameters and return the loss of the whole step, on all ranks.

        The loss stays on its device, so nothing waits for it.
        """
        context, device = self.placement.context, self.placement.device
        loss = torch.zeros((), device=device)
        self.dynamics.begin_step(step.indices)
        with self.autocast(is_whole_step=True):
            loss_of, micro_batches = self.loss_of(step), self.micro_batches(step)
            for number, (indices, weight) in enumerate(micro_batches, 1):
                self.parallel.begin_micro_batch(is_last=number == len(micro_batches))
                part, nll, example_indices = loss_of(indices, weight)
                with torch.autocast(device.type, enabled=False):
                    part.backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
                # One that is computed only since others wait for it belongs to another rank's records.
                if weight:
                    # Chosen answers come first: of a pair the better answer is what is learnt.
                    num = int(self.sampler.first_supervised[indices].sum())
                    self.dynamics.add(indices, example_indices[:num], nll[:num])
        self.dynamics.end_step(context.sum)
        return context.sum(loss) / self.parallel.loss_scale

    def micro_batches(self, step: Step) -> list[tuple[list[int], float]]:
        """Return this rank's micro-batches: indices of examples, and a weight, 0 where only others wait for them."""
        context = self.placement.context
        shares = self.sampler.shard(step, context.world_size)
        micro_batches = [(indices, 1.0) for indices in shares[context.rank]]
        if self.parallel.needs_equal_micro_batches:
            shortest = min(step.indices, key=lambda index: int(self.sampler.lengths[index]))
            micro_batches += [([shortest], 0.0)] * (max(map(len, shares)) - len(micro_batches))
        return micro_batches

    def loss_of(self, step: Step) -> Callable[[list[int], float], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Return a function of a micro-batch and its weight, which returns its part of the step's loss, and of each
        supervised token the NLL in nats [S] and the index of its text in the batch [S].
        """
        scale, comparison = self.parallel.loss_scale / step.weight, self._comparison(step)

        def loss_of(indices: list[int], weight: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            examples: list[Any] = [self.sampler.examples[index] for index in indices]
            batch = self._collate(examples if comparison is None else comparison.texts_of(examples))
            loss: Callable[..., Any] = supervised_loss
            if comparison is not None:
                loss = partial(comparison.loss, examples=examples, reference=self._reference(indices))
            with self.autocast():
                return *self.parallel.run(partial(loss, batch=batch, scale=weight * scale)), batch.example_indices

        return loss_of

    def _collate(self, texts: Sequence[Example]) -> Batch:
        device = self.placement.device
        return collate(texts, device, is_packed=self.sampler.is_packed, round_to=pad_multiple(device))

    def _reference(self, indices: Sequence[int]) -> torch.Tensor:
        # Of the texts of some records, in nats [records, 2].
        logps = torch.zeros(len(indices), 2) if self.reference is None else self.reference[list(indices)]
        return to_device(logps, self.placement.device)

    def _comparison(self, step: Step) -> PreferenceLoss | None:
        # The loss of a step's records where answers are compared.
        recipe = self.sampler.recipe
        if recipe.objective not in PREFERENCES:
            return None
        examples: list[Any] = [self.sampler.examples[index] for index in step.indices]
        kl = self._kl(step) if recipe.objective == "kto" else 0.0
        return PreferenceLoss(recipe, examples, kl)

    def _kl(self, step: Step) -> torch.Tensor:
        # KTO's estimate of how far the model has moved: by how many nats a record it finds the answers to other prompts
        # likelier than the reference does. Replayed text has none; it is read since other ranks may wait.
        total = torch.zeros((), device=self.placement.device)
        for indices, weight in self.micro_batches(step):
            examples: list[Any] = [self.sampler.examples[index] for index in indices]
            batch = self._collate([example.texts[-1] for example in examples])
            with self.autocast(), torch.no_grad():
                _, nll = self.parallel.run(partial(supervised_loss, batch=batch))
            counted = to_device(torch.tensor([weight * (not example.is_replay) for example in examples]), total.device)
            total -= nll.float() @ counted[batch.example_indices] + self._reference(indices)[:, 1] @ counted
        number = sum(not self.sampler.examples[index].is_replay for index in step.indices)
        return (self.placement.context.sum(total) / max(1, number)).clamp(min=0)


class Optimizer:
    """AdamW over the trainable parameters of ``model``, which is spread over the ranks as ``parallel`` says.

    A step that is not finite changes no weight, nor does one after it; `StepLog` reports it.
    """

    # Nothing here waits for the device, so the device itself decides whether a step counts.

    def __init__(self, model: Any, parallel: Replicated | Sharded, recipe: Recipe) -> None:
        self.parallel = parallel
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.peak_lr = peak_lr(recipe, model.get_input_embeddings().weight.shape[1], str(model.config.model_type))
        self.max_norm = recipe.max_grad_norm or math.inf
        parameters = list(self.named.values())
        # Norms and biases are scales, not maps: decay would only shrink them.
        groups = [{"params": [p for p in parameters if (p.dim() >= 2) == is_decayed],
                   "weight_decay": weight_decay(recipe) * is_decayed} for is_decayed in (True, False)]  # fmt: skip
        groups = [group for group in groups if group["params"]]
        settings: dict[str, Any] = {"lr": self.peak_lr, "betas": adam_betas(recipe), "eps": recipe.adam_epsilon}
        self.is_8bit = recipe.optim == "adamw_8bit"
        self.adamw: Any
        if self.is_8bit:
            from bitsandbytes.optim import AdamW8bit

            self.adamw = AdamW8bit(groups, **settings)
            # Else its first step moves what is in the state to the GPU, numbers of steps included, to read them there.
            self.adamw.initialized = True
        else:
            self.adamw = torch.optim.AdamW(groups, **settings, fused=True)
        # Zeros, before the first step: a checkpoint can be read into them.
        for number, group in enumerate(self.adamw.param_groups):
            for index, p in enumerate(group["params"]):
                if self.is_8bit:
                    self.adamw.init_state(group, p, number, index)
                    # A number there; as a tensor it is counted up in place, and its kernels take it as well.
                    self.adamw.state[p]["step"] = torch.tensor(0)
                else:
                    # The fused kernel wants the number of steps where the parameter is.
                    moments = {name: torch.zeros_like(p, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
                    self.adamw.state[p] = {"step": torch.zeros((), device=p.device), **moments}
        self.has_nonfinite = torch.zeros((), device=parameters[0].device)
        """1 once a loss or a gradient was not finite."""

    def clip(self, loss: torch.Tensor) -> torch.Tensor:
        """Add the ranks' gradients up, clip them and return their norm before that."""
        parameters = list(self.named.values())
        self.parallel.reduce_gradients(parameters)
        norm = gradient_norm(parameters)
        self.has_nonfinite = torch.maximum(self.has_nonfinite, (~(loss.isfinite() & norm.isfinite())).float())
        torch.nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        return norm

    def step(self, lr: float) -> None:
        """Update the weights by the gradients, and clear these."""
        # What torch's GradScaler sets: the fused kernel reads it, and then leaves weights and moments as they are.
        self.adamw.found_inf = self.has_nonfinite
        for group in self.adamw.param_groups:
            group["lr"] = lr
        # bitsandbytes does not read it. It waits for the device after each parameter, so it may be waited for here too.
        if not (self.is_8bit and self.has_nonfinite):
            self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state of each parameter by name, where it is: to be saved, or filled from a checkpoint."""
        return {
            f"{name}/{key}": value.detach()
            for name, parameter in self.named.items()
            for key, value in self.adamw.state[parameter].items()
            # The 256 values of a moment are constants, one tensor for all parameters.
            if not key.startswith("qmap")
        }
