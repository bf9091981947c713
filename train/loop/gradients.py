"""The gradients of one step, and its update: micro-batches, one after another, of which each rank computes a share.

The loss of a step is the weighted mean over its supervised tokens, however they are split into micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from train.data.rendering import Example, PreferenceExample
from train.evaluate.dynamics import Dynamics
from train.loop.eight_bit import AdamW8bit
from train.model import computing
from train.model.attention import to_device
from train.model.batch import Batch, BatchSampler, Step, collate
from train.model.capabilities import compiling
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.model.loss import supervised_loss
from train.model.parallel import ParallelStrategy, Replicated, Sharded, gradient_norm
from train.model.preference import PreferenceLoss, StepTotals, texts_of, totals_of
from train.recipe import PREFERENCES, Recipe
from train.recipe.schedule import betas, peak_lr, weight_decay


@dataclass(frozen=True)
class Placement:
    """Where a run computes: a device, the number format of its products, and the ranks with how they hold the model."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    context: DistributedContext = SINGLE_PROCESS
    strategy: ParallelStrategy = "ddp"

    @property
    def steps_in_flight(self) -> int:
        """Steps that may be under way before the numbers of an earlier one are read."""
        return 1 if self.device.type == "cuda" else 0


CPU = Placement()
"""One process on a CPU."""


@dataclass(frozen=True)
class Gradients:
    """Computes the gradients of ``model`` for the steps of ``sampler``, and tells ``dynamics`` of each record's loss.

    ``attention`` is `attention_share` of the model; rows are rounded up to a multiple of ``round_to`` tokens. Where
    answers are compared, ``reference`` [records, 2] has the log-probabilities of their texts in nats; None is zeros.
    """

    model: Any
    sampler: BatchSampler
    placement: Placement
    parallel: Replicated | Sharded
    dynamics: Dynamics
    attention: float
    is_compiled: bool
    round_to: int
    reference: torch.Tensor | None = None

    def backward(self, step: Step) -> torch.Tensor:
        """Add this rank's gradients of ``step`` to the parameters and return the loss of the whole step, on all ranks.

        The loss stays on its device, so nothing waits for it.
        """
        context, scale = self.placement.context, self.parallel.weight / step.weight
        total = torch.zeros((), device=self.placement.device)
        observed = self.dynamics.of_step(step.indices)
        totals = self._totals(step)
        with self._casting_once():
            for indices, weight in self._micro_batches(step):
                examples = [self.sampler.examples[index] for index in indices]
                comparison = self._comparison
                compared = [example for example in examples if isinstance(example, PreferenceExample)]
                texts = examples if comparison is None else texts_of(compared, is_second_read=comparison.is_pairwise)
                batch = self._collate(texts)
                # With that of the example that fills a packed row up.
                lengths = batch.packed.lengths if batch.packed else [len(text.ids) for text in texts]
                if comparison is None:
                    loss_of = partial(supervised_loss, batch=batch, scale=weight * scale)
                else:
                    loss_of = partial(
                        comparison.loss, batch=batch, examples=compared, reference=self._reference(indices),
                        totals=totals, scale=weight * scale,
                    )  # fmt: skip
                with self._computing(), noisy_embeddings(self.model, lengths, self.sampler.recipe.neftune_noise_alpha):
                    loss, nll = self.parallel.run(loss_of)
                # A micro-batch that is computed only since others wait for it belongs to another rank's records.
                if weight:
                    # First parts come first: of a pair the better answer is what is learnt.
                    num = int(self.sampler.chosen[indices].sum())
                    observed.add(indices, batch.owners[:num], nll[:num])
                with torch.autocast(self.placement.device.type, enabled=False):
                    loss.backward()
                total += loss.detach()
        self.dynamics.take(observed.indices, context.sum(observed.values))
        return context.sum(total) / self.parallel.weight

    @property
    def _comparison(self) -> PreferenceLoss | None:
        recipe = self.sampler.recipe
        return PreferenceLoss(recipe.objective, recipe.preference) if recipe.objective in PREFERENCES else None

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with computing(self.placement.device, self.placement.dtype), compiling(self.is_compiled):
            yield

    def _casting_once(self) -> AbstractContextManager[None]:
        # Weights change with the step alone, so all its micro-batches share what they are cast to. Of a sharded model
        # that would gather every weight for the whole step.
        is_whole = isinstance(self.parallel, Replicated)
        return computing(self.placement.device, self.placement.dtype) if is_whole else nullcontext()

    def _collate(self, texts: Sequence[Example]) -> Batch:
        return collate(texts, self.placement.device, is_packed=self.sampler.is_packed, round_to=self.round_to)

    def _reference(self, indices: Sequence[int]) -> torch.Tensor:
        # Of the texts of some records, in nats [records, 2].
        if self.reference is None:
            return torch.zeros(len(indices), 2, device=self.placement.device)
        return to_device(self.reference[list(indices)], self.placement.device)

    def _totals(self, step: Step) -> StepTotals:
        # What the loss of a record depends on of the whole step; KTO reads texts for it, without a gradient.
        comparison = self._comparison
        if comparison is None:
            return _NO_TOTALS
        totals = totals_of([self.sampler.examples[index] for index in step.indices])
        if comparison.is_pairwise:
            return totals
        gains = torch.zeros(2, device=self.placement.device)
        for indices, weight in self._micro_batches(step):
            examples = [self.sampler.examples[index] for index in indices]
            both = [(index, example.parts[1]) for index, example in zip(indices, examples, strict=True)
                    if isinstance(example, PreferenceExample) and not example.is_replay]  # fmt: skip
            # Replayed text has no second part; where there is nothing else, a pass is made since others wait for it.
            own, texts = (
                ([index for index, _ in both], [text for _, text in both]) if both else (indices[:1], examples[:1])
            )
            batch = self._collate(texts)
            with self._computing(), torch.no_grad():
                gain = self.parallel.run(
                    partial(comparison.drift, batch=batch, num_texts=len(texts), reference=self._reference(own)[:, 1])
                )
            if weight and both:
                gains += torch.stack([gain.sum(), torch.full_like(gain[0], len(texts))])
        gains = self.placement.context.sum(gains)
        return replace(totals, drift=(gains[0] / gains[1].clamp(min=1)).clamp(min=0))

    def _micro_batches(self, step: Step) -> Iterator[tuple[list[int], float]]:
        # Yield this rank's micro-batches, each with its weight: 0 where it computes only since others wait for it.
        context = self.placement.context
        shares = self.sampler.shard(step, context.world_size, attention=self.attention)
        own = shares[context.rank]
        yield from ((indices, 1.0) for indices in own)
        if self.parallel.needs_equal_turns:
            shortest = min(step.indices, key=lambda index: int(self.sampler.lengths[index]))
            yield from [([shortest], 0.0)] * (max(map(len, shares)) - len(own))


_NO_TOTALS = StepTotals(0.0, 0.0)


@contextmanager
def noisy_embeddings(model: Any, lengths: Sequence[int], alpha: float) -> Iterator[None]:
    """Within, each example's embeddings [L, H] get uniform noise in (-1, 1) * alpha / sqrt(L * H); 0 adds none.

    NEFTune (Jain et al. 2023, arXiv:2310.05914).

    ``lengths`` are those of the examples of the batch, in its order: one a row of a padded batch, or end to end. What
    the model can do must be known before (`capabilities_of`): with noise it looks like another model.
    """
    if not alpha:
        yield
        return

    def add(_module: Any, _given: Any, embedded: torch.Tensor) -> torch.Tensor:
        return embedded + _noise(embedded, lengths, alpha)

    # On the embedding itself and not on the model: peft's wrapper of new tokens is one too.
    hook = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _noise(embedded: torch.Tensor, lengths: Sequence[int], alpha: float) -> torch.Tensor:
    # By the example's own length, so neither padding nor packing changes how loud its noise is.
    rows, tokens, width = embedded.shape
    each = torch.tensor(lengths, dtype=torch.float32)
    loudness = (alpha / math.sqrt(width) * each.rsqrt()).to(embedded.device)
    if rows == len(lengths):
        # Padding gets noise as well, which no token sees.
        loudness = loudness[:, None, None]
    else:
        assert (rows, tokens) == (1, sum(lengths)), "examples lie in rows of their own or end to end in one"
        loudness = loudness.repeat_interleave(torch.tensor(lengths, device=embedded.device))[None, :, None]
    # From torch's generator of the device, which each step begins anew (`seed_stream`): a resumed run draws the same.
    noise = torch.empty_like(embedded, dtype=torch.float32).uniform_(-1, 1)
    return (noise * loudness).to(embedded.dtype)


class Optimizer:
    """Updates the trainable parameters of ``model``, which is spread over the ranks as ``parallel`` says.

    A step that is not finite changes no weight, nor does one after it; `StepLog` reports it.
    """

    # Nothing here waits for the device, so the device itself decides whether a step counts.

    def __init__(self, model: Any, parallel: Replicated | Sharded, recipe: Recipe) -> None:
        self.parallel = parallel
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.peak_lr = peak_lr(recipe, model.get_input_embeddings().weight.shape[1], str(model.config.model_type))
        self.max_norm = recipe.max_grad_norm or math.inf
        # Norms and biases are scales, not maps: decay would only shrink them.
        groups = [
            {"params": [p for p in self.named.values() if p.dim() >= 2], "weight_decay": weight_decay(recipe)},
            {"params": [p for p in self.named.values() if p.dim() < 2], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        settings: dict[str, Any] = {"lr": self.peak_lr, "betas": betas(recipe), "eps": recipe.adam_epsilon}
        self.adamw: torch.optim.AdamW | AdamW8bit
        if recipe.optim == "adamw_8bit":
            self.adamw = AdamW8bit(groups, **settings)
        else:
            self.adamw = torch.optim.AdamW(groups, **settings, fused=True)
        self.is_broken = torch.zeros((), device=next(iter(self.named.values())).device)
        """1 once a loss or a gradient was not finite."""

    def step(self, loss: torch.Tensor, lr: float) -> torch.Tensor:
        """Add the ranks' gradients up, clip them and update the weights; return the norm before clipping."""
        parameters = list(self.named.values())
        self.parallel.add_up(parameters)
        norm = gradient_norm(parameters)
        self.is_broken = torch.maximum(self.is_broken, (~(loss.isfinite() & norm.isfinite())).float())
        # What torch's GradScaler sets: the fused kernel reads it, and then leaves weights and moments as they are.
        self.adamw.found_inf = self.is_broken  # type: ignore[union-attr]
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
            self.adamw.state[parameter] = (
                self.adamw.begin(parameter)
                if isinstance(self.adamw, AdamW8bit)
                else {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                    "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
                }
            )
        return self.tensors()
