"""Train a model: `fit` takes step after step, with evaluations, checkpoints and early stopping."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from train.base import console
from train.base.errors import Exit, TrainError
from train.evaluate.dynamics import TrainingDynamics
from train.evaluate.predictions import ValidationScore
from train.loop.checkpoint import Checkpoint, TrainingState
from train.loop.events import METRICS, AsyncScalars, OnEvent, RunEstimate, StepLog, drop_events_after, open_events
from train.loop.trainer import CPU, Placement, Trainer
from train.model.batch import BatchSampler
from train.model.distributed import seed_step
from train.recipe import GuardRecipe
from train.recipe.schedule import checkpoint_interval, lr_factor, validation_interval


@dataclass(frozen=True)
class Validation:
    """``evaluate`` scores the model after a step; ``base`` is what the base scores on the same records."""

    evaluate: Callable[[int], ValidationScore]
    base: ValidationScore = field(default_factory=lambda: ValidationScore(None, math.nan))


@dataclass(kw_only=True)
class FitResult(TrainingState):
    """How a run ended: its state then, and the exit code where a signal stopped it."""

    num_steps: int
    stop_code: Exit | None
    dynamics: Sequence[TrainingDynamics]
    """How each training record was learnt, over the whole run."""


def fit(
    model: Any, sampler: BatchSampler, run: Path, *, facts: Mapping[str, Any] | None = None,
    resume: Checkpoint | None = None, placement: Placement = CPU, validation: Validation | None = None,
    on_event: OnEvent | None = None, reference: torch.Tensor | None = None, expected: RunEstimate = RunEstimate(),  # noqa: B008 - it is frozen
) -> FitResult:  # fmt: skip
    """Train ``model``'s trainable parameters on the batches of ``sampler`` and return how it ended.

    Writes metrics.jsonl, and checkpoints that carry ``facts``, into ``run``; the best evaluation's is always kept. A
    run that goes on from ``resume`` ends bit for bit as the whole one on the CPU. All ranks call this with the same
    arguments, share each step's examples and get the same result. ``reference`` is that of `Trainer`; what is
    ``expected`` shows in the time to go.

    Raises TrainError "E930 diverged" (exit 1), naming the records, at the first loss or gradient that is not finite.
    """
    recipe, context, num_steps = sampler.recipe, placement.context, len(sampler)
    trainer = Trainer(model, sampler, placement, reference)
    state = TrainingState() if resume is None else trainer.restore(resume)
    began = time.monotonic() - state.seconds
    metrics = run / METRICS if context.is_first else None
    if metrics is not None:
        drop_events_after(metrics, state.step, state.evaluated)
    with graceful_stop() as stop, context.step_timeout(), open_events(metrics, on_event) as write_event:
        log = StepLog(sampler, state, write_event, expected, placement)
        saved_step = state.step

        def save() -> int:
            log.flush()
            state.seconds = time.monotonic() - began
            with context.long_timeout():
                folder = Checkpoint.save(run, state.progress(), trainer.tensors(), facts or {},
                                         keep=recipe.save_total_limit, context=context)  # fmt: skip
            write_event("checkpoint", step=state.step, path=folder.name)
            return state.step

        _write_start(trainer, state, log, validation)
        # A signal puts off the evaluation that is due after its step.
        if _evaluate(trainer, state, log, validation):
            saved_step = save()
        # A signal to one rank stops all of them after the same step.
        while state.step < num_steps and state.early_stop is None and not context.max(stop.exit_code):
            step, step_began = sampler[state.step], time.monotonic()
            lr = trainer.optimizer.peak_lr * lr_factor(recipe, state.step, num_steps)
            model.train()
            # Everything random of a step begins here, so a resumed run needs no state of any generator.
            seed_step(recipe.seed, context.rank, state.step)
            loss = trainer.backward(step)
            norm = trainer.optimizer.clip(loss)
            trainer.optimizer.step(lr)
            state.step += 1
            log.add(step, lr, AsyncScalars(loss, norm), step_began)
            is_due = state.step == num_steps or state.step % checkpoint_interval(recipe, num_steps) == 0
            must_save = not context.max(stop.exit_code) and _evaluate(trainer, state, log, validation)
            if must_save or is_due:
                saved_step = save()
        log.flush()
        code = context.max(stop.exit_code)
        if code and saved_step != state.step:
            save()
        state.seconds = time.monotonic() - began
        return _end(trainer, state, log, code)


def _write_start(trainer: Trainer, state: TrainingState, log: StepLog, validation: Validation | None) -> None:
    # The base's samples, which are answered once, before the first step.
    samples = list(validation.base.samples) if validation and not state.step else []
    log.write_event(
        "resume" if state.step else "start", step=state.step, of=len(trainer.sampler),
        examples=len(trainer.sampler.examples), lr=trainer.optimizer.peak_lr,
        **({"samples": samples} if samples else {}),
    )  # fmt: skip


def _end(trainer: Trainer, state: TrainingState, log: StepLog, code: int) -> FitResult:
    # The first rank to end makes torchrun stop the others, which may still be writing.
    trainer.placement.context.barrier()
    log.write_event(
        "end", step=state.step, best_step=state.best_step, tokens=state.tokens, seconds=round(state.seconds, 3),
        stopped=int(code) or None, early_stop=state.early_stop,
    )  # fmt: skip
    names = [(example.id, example.category) for example in trainer.sampler.examples]
    return FitResult(
        **vars(state), num_steps=len(trainer.sampler), stop_code=Exit(code) if code else None,
        dynamics=trainer.dynamics.by_record(names),
    )  # fmt: skip


def _evaluate(trainer: Trainer, state: TrainingState, log: StepLog, validation: Validation | None) -> bool:
    # Evaluate where that is due and not done; return whether the weights must be saved: they are the best or the last.
    # Raises TrainError "E930 diverged" for a loss that is not finite.
    sampler, num_steps = trainer.sampler, len(trainer.sampler)
    is_due = state.step == num_steps or state.step % validation_interval(sampler.recipe, num_steps) == 0
    if validation is None or not is_due or state.evaluated == state.step:
        return False
    log.flush()
    began = time.monotonic()
    with trainer.placement.context.long_timeout(), trainer.parallel.unsharded():
        score = validation.evaluate(state.step)
    log.calibrate(time.monotonic() - began)
    if not math.isfinite(score.loss):
        message = f"step {state.step}: the validation loss is {score.loss}"
        raise TrainError("E930 diverged", message, "Lower learning_rate.", exit_code=Exit.FAILED)
    # Samples are for people to watch: no checkpoint carries them along.
    state.evaluations.append(ValidationScore(score.score, score.loss, score.by_category))
    state.evaluated, early_stopping = state.step, EarlyStopping(sampler.recipe.guard, validation.base)
    is_best = early_stopping.is_best(state.evaluations)
    state.best_step = state.step if is_best else state.best_step
    fields = {name: part for name, part in asdict(score).items() if part or name not in ("fit", "general")}
    log.write_event("eval", step=state.step, **fields, best=is_best)
    text = "" if score.score is None else f"score {score.score:.4f}, "
    console.info(f"step {state.step}: validation {text}loss {score.loss:.4f}{' (best so far)' * is_best}")
    if state.step < num_steps:
        # The loop ends by itself at its next turn, after the checkpoint of this step.
        state.forgot = early_stopping.general_rise(fields.get("general"))
        is_lost = state.forgot is not None
        state.early_stop = "general text was forgotten" if is_lost else early_stopping.stop_reason(state.evaluations)
    if state.early_stop is not None:
        console.info(f"early stopping at step {state.step} of {num_steps}: {state.early_stop}")
    return is_best or state.early_stop is not None


class EarlyStopping:
    """Decides by a run's evaluations which is the best and whether the run ends; ``base`` is the base's evaluation.

    It is off by default: a validation split of a few records a category moves by more than any margin worth asking for,
    and a run that ends by chance is worse than a run that is a little too long.
    It keeps nothing between evaluations: recipe, base and the evaluations so far decide, so a resumed run ends where
    the whole one would have.
    """

    def __init__(self, recipe: GuardRecipe, base: ValidationScore) -> None:
        self.recipe, self.base = recipe, base

    def regressed_categories(self, evaluations: Sequence[ValidationScore]) -> list[set[str]]:
        """Return for each evaluation the categories that score below base or best by more than the margin."""
        reference, regressed = dict(self.base.by_category), []
        # Up to rounding: 0.9 - 0.8 is more than 0.1.
        margin = math.inf if self.recipe.regress is None else self.recipe.regress + 1e-9
        for scores in (evaluation.by_category for evaluation in evaluations):
            regressed.append({name for name, score in scores.items() if reference.get(name, score) - score > margin})
            if self.recipe.against == "best":
                reference |= {name: max(score, reference.get(name, score)) for name, score in scores.items()}
        return regressed

    def is_best(self, evaluations: Sequence[ValidationScore]) -> bool:
        """Return whether the newest evaluation is the best; one with a regressed category is worse than any without."""
        # A model that lost a category is never the best one, however good its mean is.
        pairs = zip(self.regressed_categories(evaluations), evaluations, strict=True)
        ranks = [(not names, *_rank(evaluation)) for names, evaluation in pairs]
        return ranks.index(max(ranks)) == len(ranks) - 1

    def general_rise(self, general: float | None) -> float | None:
        """Return by which share ``general``, bits per byte, is over the base's; None where the recipe allows that."""
        if self.recipe.general is None or general is None or not self.base.general:
            return None
        rise = general / self.base.general - 1
        return rise if rise > self.recipe.general else None

    def stop_reason(self, evaluations: Sequence[ValidationScore]) -> str | None:
        """Return why the run should end after the newest evaluation, None where it should go on."""
        patience, recent = self.recipe.patience, evaluations[-self.recipe.patience :]
        if len(recent) == patience and (lost := set.intersection(*self.regressed_categories(evaluations)[-patience:])):
            what = "the base" if self.recipe.against == "base" else "their best"
            scores = f"scored more than {self.recipe.regress} below {what} in {patience} validations"
            return f"{console.join_names(sorted(lost), 5)} {scores}"
        has_earlier = self.recipe.plateau and len(evaluations) > patience
        if has_earlier and max(map(_rank, recent)) <= max(map(_rank, evaluations[:-patience])):
            return f"validation did not improve in {patience} evaluations"
        return None


def _rank(evaluation: ValidationScore) -> tuple[float, float]:
    # Higher score, and on a tie (or without scores, as none of a run has one then) lower loss.
    return evaluation.score or 0.0, -evaluation.loss


class Stop:
    """The exit code that a signal asks for; `Exit.OK` until then."""

    exit_code = Exit.OK


@contextmanager
def graceful_stop() -> Iterator[Stop]:
    """Within, the first Ctrl-C, SIGTERM or SIGHUP sets the exit code of the `Stop`; the second acts as before."""
    stop, before = Stop(), dict[int, Any]()

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def ask(number: int, _frame: FrameType | None) -> None:
        # As a shell counts.
        stop.exit_code = Exit(128 + number)
        restore()
        console.info("\nfinishing this step, then a checkpoint; the same signal again ends at once")

    # Python lets only the main thread set handlers; a caller in another thread has its own way to stop.
    if threading.current_thread() is threading.main_thread():
        before.update({n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)})
    try:
        yield stop
    finally:
        restore()
