"""Fit: for each step, gradients of its micro-batches, one clipped AdamW update, and now and then a look at validation.

The loss of a step is the weighted mean over its supervised tokens, however they are split into micro-batches.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from train import say
from train.batch import Step, Steps, collate, few_lengths
from train.checkpoint import Checkpoint, check_finite, save_checkpoint
from train.compute import compile_layers, compiling
from train.dynamics import Dynamics
from train.errors import Exit, TrainError
from train.loop.events import Events, HandOn, Progress
from train.loop.guard import Guard
from train.loop.noise import noisy_embeddings
from train.loop.results import FitResult, State
from train.loop.signals import GracefulStop
from train.loss import supervised_loss, try_head
from train.model import computing
from train.predictions import ValidationScore
from train.ranks import ALONE, Ranks, Way, attention_share, seed_stream, spread
from train.schedule import betas, checkpoint_steps, lr_factor, peak_lr, validation_steps, weight_decay


@dataclass(frozen=True)
class _Done:
    """A step that was taken and whose numbers may still be on their way."""

    step: int
    planned: Step
    lr: float
    tokens: int
    all_tokens: int
    began: float
    loss: torch.Tensor
    norm: torch.Tensor


def fit(
    model: Any, steps: Steps, run_dir: Path, *,
    validate: Callable[[int], ValidationScore] | None = None, facts: Mapping[str, Any] | None = None,
    resume: Checkpoint | None = None, device: torch.device | None = None, dtype: torch.dtype = torch.float32,
    ranks: Ranks = ALONE, way: Way = "ddp", hand_on: HandOn | None = None, base: Mapping[str, float] | None = None,
) -> FitResult:  # fmt: skip
    """Train ``model``'s trainable parameters by ``steps`` and return how it ended.

    ``validate`` gets the step and returns a score; the best step's checkpoint is always kept. ``facts`` go into each
    checkpoint; ``resume`` is a verified one to go on from, bit for bit on the CPU. ``base`` has the base's validation
    score of each category, which the recipe's guard compares with. Writes metrics.jsonl and checkpoints; ``hand_on``
    gets each event too. All ``ranks`` call this with the same arguments, share each step's examples among them, and
    get the same result; ``way`` says how they hold the model, which stays in shards where it says so.

    Raises TrainError "E930 diverged" (exit 1) at the first loss or gradient that is not finite, naming the batch's
    records.
    """
    guard = Guard(steps.recipe.guard, base or {})
    run = _Run(model, steps, run_dir, facts or {}, device or torch.device("cpu"), dtype, ranks, way, guard)
    if resume is not None:
        run.load(resume)
    began = time.monotonic()
    log = run_dir / "metrics.jsonl" if ranks.is_first else None
    with GracefulStop() as stop, Events(log, resumed_from=run.state.step, hand_on=hand_on) as run.events:

        def stopped() -> Exit | None:
            """What a signal on any rank asks of all of them."""
            code = ranks.highest(stop.exit_code or 0)
            return Exit(code) if code else None

        run.events.write(
            "resume" if resume else "start", step=run.state.step, of=len(steps), examples=len(steps.examples), lr=run.lr
        )
        while run.state.step < len(steps) and stopped() is None and run.state.guarded is None:
            run.step()
            run.look(validate, is_stopping=stopped() is not None)
        run.settle()
        code = stopped()
        if code is not None and run.saved != run.state.step:
            # It came while validation was looked at, after which nothing asked for a checkpoint.
            run.save()
        # Whoever ends first makes torchrun stop the others, who may still be writing.
        ranks.barrier()
        seconds = time.monotonic() - began
        state = run.state
        run.events.write(
            "end", step=state.step, best_step=state.best_step, tokens=state.tokens, seconds=round(seconds, 3),
            stopped=None if code is None else int(code), guarded=state.guarded,
        )  # fmt: skip
        return FitResult(
            **vars(state), num_steps=len(steps), seconds=seconds, stopped=code,
            dynamics=run.dynamics.by_record([(example.id, example.category) for example in steps.examples]),
            step_seconds=run.step_seconds, step_tokens=run.step_tokens,
        )  # fmt: skip


class _Run:
    """The parts of a run that step together."""

    def __init__(
        self,
        model: Any,
        steps: Steps,
        run_dir: Path,
        facts: Mapping[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        ranks: Ranks,
        way: Way,
        guard: Guard,
    ) -> None:
        self.guard = guard
        self.model, self.steps = model, steps
        recipe = self.recipe = steps.recipe
        self.run_dir, self.facts, self.device, self.dtype = run_dir, facts, device, dtype
        self.ranks, self.attention = ranks, attention_share(model)
        with computing(device, dtype):
            # Before the model is cut into shards, and without the noise of training.
            try_head(model)
        self.spread = spread(model, way, ranks, dtype=dtype)
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.lr = peak_lr(recipe, model.get_input_embeddings().weight.shape[1], str(model.config.model_type))
        decay = weight_decay(recipe)
        # Norms and biases are scales, not maps: decay would only shrink them.
        groups = [
            {"params": [p for p in self.trained.values() if p.dim() >= 2], "weight_decay": decay},
            {"params": [p for p in self.trained.values() if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=self.lr, betas=betas(recipe), fused=True
        )
        self.validate_every, self.save_every = (
            validation_steps(recipe, len(steps)),
            checkpoint_steps(recipe, len(steps)),
        )
        self.state = State()
        self.saved = 0
        wants = self.device.type == "cuda" if recipe.compile == "auto" else recipe.compile
        self.is_compiled = wants and compile_layers(model) > 0
        # Few shapes to compile for, and little to fill up.
        self.round_to = max(1, steps.micro_batch_tokens // 4) if self.is_compiled else few_lengths(self.device)
        self.dynamics = Dynamics(steps.supervised.tolist(), device)
        self.step_seconds, self.step_tokens = 0.0, 0
        self.broken = torch.zeros((), device=device)
        """1 once a loss or a gradient was not finite."""
        self.pending: deque[_Done] = deque()
        self.settled = -math.inf
        self.progress = Progress(len(steps))
        self.events: Events
        """Opened when the run begins, since that cuts the log of the one it goes on with."""

    def step(self) -> None:
        """One optimizer step: gradients, checks, update, and its event.

        Nothing here waits for the device. A step that is not finite changes no weight, nor does one after it: that is
        decided where the numbers are, and found out here when they arrive, on a GPU with the next step under way.
        """
        began, state = time.monotonic(), self.state
        planned = self.steps[state.step]
        factor = lr_factor(self.recipe, state.step, len(self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * factor
        self.model.train()
        seed_stream(self.recipe.seed, self.ranks.rank, state.step)
        loss = self._gradients(planned)
        parameters = list(self.trained.values())
        self.spread.add_up(parameters)
        norm = self.spread.norm(parameters)
        self.broken = torch.maximum(self.broken, (~(loss.isfinite() & norm.isfinite())).float())
        # What torch's GradScaler sets: the fused kernel reads it, and then leaves weights and moments as they are.
        self.optimizer.found_inf = self.broken  # type: ignore[attr-defined]
        torch.nn.utils.clip_grads_with_norm_(parameters, self.recipe.clip or math.inf, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = int(sum(self.steps.lengths[place] for group in planned.micro_batches for place in group))
        state.step, state.tokens = state.step + 1, state.tokens + tokens
        self.pending.append(_Done(state.step, planned, self.lr * factor, tokens, state.tokens, began, loss, norm))
        self.settle(num_left=_num_ahead(self.device))

    def settle(self, *, num_left: int = 0) -> None:
        """Read the numbers of all steps but the last ``num_left``, check them, and write their events."""
        while len(self.pending) > num_left:
            done = self.pending.popleft()
            loss, norm = float(done.loss), float(done.norm)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._diverged(done, loss, norm)
            self.state.loss = loss
            now = time.monotonic()
            spent = now - max(done.began, self.settled)
            self.settled = now
            self.step_seconds, self.step_tokens = self.step_seconds + spent, self.step_tokens + done.tokens
            speed, left = self.progress.step(done.step, loss, done.tokens, spent)
            self.events.write(
                "step", step=done.step, of=len(self.steps), epoch=done.planned.epoch, loss=loss, lr=done.lr,
                grad_norm=norm, tokens=done.all_tokens, supervised=done.planned.num_supervised,
                tokens_per_second=round(speed, 1), eta_seconds=round(left, 1),
            )  # fmt: skip

    def _gradients(self, planned: Step) -> torch.Tensor:
        """Compute this rank's share of the step and return the loss of the whole step."""
        total = torch.zeros((), device=self.device)
        seen = self.dynamics.of_step([place for group in planned.micro_batches for place in group])
        for group, weight in self._turns(planned):
            batch = collate(
                [self.steps.examples[place] for place in group], self.device, is_packed=self.steps.is_packed,
                round_to=self.round_to,
            )  # fmt: skip
            # With that of the example that fills a packed row up.
            lengths = batch.packed.lengths if batch.packed else [int(self.steps.lengths[place]) for place in group]
            score = partial(supervised_loss, batch=batch, scale=weight * self.spread.weight / planned.weight)
            with (
                computing(self.device, self.dtype),
                compiling(self.is_compiled),
                noisy_embeddings(self.model, lengths, self.recipe.neftune),
            ):
                loss, nll = self.spread.run(score)
            if weight:
                seen.see(group, batch.owners, nll)
            loss.backward()
            total += loss.detach()
        self.dynamics.take(seen.places, self.ranks.sum(seen.values))
        return self.ranks.sum(total) / self.spread.weight

    def _turns(self, planned: Step) -> list[tuple[list[int], float]]:
        """This rank's micro-batches, each with its weight: 0 where it computes only since others wait for it."""
        dealt = self.steps.dealt(planned, self.ranks.world, attention=self.attention)
        turns = [(group, 1.0) for group in dealt[self.ranks.rank]]
        if self.spread.needs_equal_turns:
            places = [place for group in planned.micro_batches for place in group]
            shortest = min(places, key=lambda place: int(self.steps.lengths[place]))
            turns += [([shortest], 0.0)] * (max(map(len, dealt)) - len(turns))
        return turns

    def look(self, validate: Callable[[int], ValidationScore] | None, *, is_stopping: bool) -> None:
        """Validate and checkpoint where the step asks for it; the last step always does, and so does a stop."""
        state, is_last = self.state, self.state.step == len(self.steps)
        is_best = False
        is_looked_at = not is_stopping and (is_last or state.step % self.validate_every == 0)
        is_saved = is_last or is_stopping or state.step % self.save_every == 0
        if is_looked_at or is_saved:
            # Neither a score nor a checkpoint of what is not finite.
            self.settle()
        if validate is not None and is_looked_at:
            with self.spread.whole():
                score = validate(state.step)
            if not math.isfinite(score.loss):
                raise TrainError("E930 diverged", f"step {state.step}: the validation loss is {score.loss}",
                                 "lower lr", exit_code=Exit.FAILED)  # fmt: skip
            state.looks.append(score)
            is_best = self.guard.is_best(state.looks)
            if is_best:
                state.best_step, state.best = state.step, score
            self.events.write("eval", step=state.step, **asdict(score), best=is_best)
            shown = "" if score.score is None else f"score {score.score:.4f}, "
            say.talk(
                f"step {state.step}: validation {shown}loss {score.loss:.4f}" + (" (best so far)" if is_best else "")
            )
            if not is_last and (reason := self.guard.reason(state.looks)):
                state.guarded = reason
                self.events.write("guard", step=state.step, of=len(self.steps), reason=reason)
                say.talk(f"stopped by the guard after step {state.step} of {len(self.steps)}: {reason}")
        if is_saved or is_best or state.guarded:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of everything that the next step depends on."""
        state = self.state
        tensors = {
            "weights": trained_tensors(self.model),
            "optimizer": self._optimizer_tensors(),
            "dynamics": self.dynamics.tensors(),
        }
        always = [] if state.best_step is None else [state.best_step]
        path = save_checkpoint(
            self.run_dir,
            state.step,
            tensors,
            asdict(state),
            self.facts,
            keep=self.recipe.checkpoint.keep,
            always=always,
            ranks=self.ranks,
        )
        self.saved = state.step
        self.events.write("checkpoint", step=state.step, path=path.name)

    def load(self, checkpoint: Checkpoint) -> None:
        """Become the run that wrote ``checkpoint``."""
        restore_weights(self.model, checkpoint)
        for parameter in self.trained.values():
            # The fused kernel wants the number of steps where the parameter is.
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
        checkpoint.fill("optimizer", self._optimizer_tensors())
        if not self.dynamics.restore(checkpoint.tensors("dynamics")):
            say.talk(f"{checkpoint.path.name} holds no learning dynamics of these records: they begin with this step")
        saved_state = dict(checkpoint.progress)
        best = saved_state.pop("best")
        looks = [ValidationScore(**look) for look in saved_state.pop("looks")]
        self.state = State(**saved_state, best=None if best is None else ValidationScore(**best), looks=looks)
        self.saved = self.state.step

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        return {
            f"{name}/{key}": value.detach()
            for name, parameter in self.trained.items()
            for key, value in self.optimizer.state[parameter].items()
        }

    def _diverged(self, done: _Done, loss: float, norm: float) -> TrainError:
        ids = [self.steps.examples[place].id for group in done.planned.micro_batches for place in group]
        return TrainError(
            "E930 diverged",
            f"step {done.step}: loss {loss}, gradient norm {norm}; the batch's records: {say.named(ids, 20)}",
            "lower lr, or look at these records; the weights were not updated by this step", exit_code=Exit.FAILED,
        )  # fmt: skip


def _num_ahead(device: torch.device) -> int:
    """Steps that may be under way before the numbers of an earlier one are read."""
    return 1 if device.type == "cuda" else 0


def trained_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Return the trainable parameters by name, where they are."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def restore_weights(model: Any, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights into the model's trainable parameters.

    Raises TrainError "E952 run-changed" where names or shapes are not the model's, "E934 not-finite" for NaN.
    """
    weights = trained_tensors(model)
    checkpoint.fill("weights", weights)
    check_finite(weights.items(), checkpoint.path.name)
