"""Train a model: `fit` takes step after step, with evaluations and checkpoints; `backward` is the heart of a step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from train.base import console
from train.base.errors import Exit, TrainError
from train.evaluate.predictions import ValidationScore
from train.loop.checkpoint import Checkpoint
from train.loop.events import METRICS, AsyncScalars, Events, Expected, OnEvent, StepLog, rewind
from train.loop.state import EarlyStopping, FitResult, TrainingState
from train.loop.trainer import CPU, Placement, Trainer
from train.model.batch import BatchSampler, Step
from train.model.distributed import seed_stream
from train.recipe.schedule import checkpoint_steps, lr_factor, validation_steps


@dataclass(frozen=True)
class Validation:
    """``evaluate`` scores the model after a step; ``base`` is what the base scores on the same records."""

    evaluate: Callable[[int], ValidationScore]
    base: ValidationScore = field(default_factory=lambda: ValidationScore(None, math.nan))


def backward(trainer: Trainer, step: Step) -> torch.Tensor:
    """Add this rank's gradients of ``step`` to the parameters and return the loss of the whole step, on all ranks.

    The loss stays on its device, so nothing waits for it.
    """
    placement, dynamics, chosen = trainer.placement, trainer.dynamics, trainer.sampler.chosen
    loss = torch.zeros((), device=placement.device)
    dynamics.begin_step(step.indices)
    with trainer.computing(is_whole_step=True):
        loss_of, turns = trainer.loss_of(step), trainer.turns(step)
        for number, (indices, weight) in enumerate(turns, 1):
            trainer.parallel.begin(is_last=number == len(turns))
            part, nll, owners = loss_of(indices, weight)
            with torch.autocast(placement.device.type, enabled=False):
                part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
            # One that is computed only since others wait for it belongs to another rank's records.
            if weight:
                # Chosen answers come first: of a pair the better answer is what is learnt.
                num = int(chosen[indices].sum())
                dynamics.add(indices, owners[:num], nll[:num])
    dynamics.end_step(placement.context.sum)
    return placement.context.sum(loss) / trainer.parallel.weight


def fit(
    model: Any, sampler: BatchSampler, run: Path, *, facts: Mapping[str, Any] | None = None,
    resume: Checkpoint | None = None, placement: Placement = CPU, validation: Validation | None = None,
    on_event: OnEvent | None = None, reference: torch.Tensor | None = None, expected: Expected = Expected(),  # noqa: B008 - it is frozen
) -> FitResult:  # fmt: skip
    """Train ``model``'s trainable parameters on the batches of ``sampler`` and return how it ended.

    Writes metrics.jsonl, and checkpoints that carry ``facts``, into ``run``; the best evaluation's is always kept. A
    run that goes on from ``resume`` ends bit for bit as the whole one on the CPU. All ranks call this with the same
    arguments, share each step's examples and get the same result. ``reference`` is that of `Trainer`; what is
    ``expected`` shows in the time to go.

    Raises TrainError "E930 diverged" (exit 1), naming the records, at the first loss or gradient that is not finite.
    """
    recipe, context, num_steps, began = sampler.recipe, placement.context, len(sampler), time.monotonic()
    trainer = Trainer(model, sampler, placement, reference)
    state = TrainingState() if resume is None else trainer.restore(resume)
    metrics = run / METRICS if context.is_first else None
    if metrics is not None:
        rewind(metrics, state.step, state.evaluated)
    with graceful_stop() as stop, context.stepping(), Events(metrics, on_event) as events:
        log = StepLog(sampler, state, events, expected, placement)
        saved_step = state.step

        def save() -> int:
            log.flush()
            with context.waiting():
                folder = Checkpoint.save(run, state.progress(), trainer.tensors(), facts or {},
                                         keep=recipe.save_total_limit, context=context)  # fmt: skip
            events.write("checkpoint", step=state.step, path=folder.name)
            return state.step

        # The base's samples, which are answered once, before the first step.
        samples = list(validation.base.samples) if validation and not state.step else []
        events.write("resume" if state.step else "start", step=state.step, of=num_steps, examples=len(sampler.examples),
                     lr=trainer.optimizer.peak_lr, **({"samples": samples} if samples else {}))  # fmt: skip
        # A signal puts off the evaluation that is due after its step.
        if _evaluate(trainer, state, log, validation):
            saved_step = save()
        # A signal to one rank stops all of them after the same step.
        while state.step < num_steps and state.early_stop is None and not context.max(stop.exit_code):
            step, step_began = sampler[state.step], time.monotonic()
            lr = trainer.optimizer.peak_lr * lr_factor(recipe, state.step, num_steps)
            model.train()
            # Everything random of a step begins here, so a resumed run needs no state of any generator.
            seed_stream(recipe.seed, context.rank, state.step)
            loss = backward(trainer, step)
            norm = trainer.optimizer.clip(loss)
            trainer.optimizer.step(lr)
            log.add(step, lr, AsyncScalars(loss, norm), step_began)

            is_due = state.step == num_steps or state.step % checkpoint_steps(recipe, num_steps) == 0
            if (not context.max(stop.exit_code) and _evaluate(trainer, state, log, validation)) or is_due:
                saved_step = save()
        log.flush()
        code = context.max(stop.exit_code)
        if code and saved_step != state.step:
            save()
        return _end(trainer, state, log, time.monotonic() - began, code)


def _end(trainer: Trainer, state: TrainingState, log: StepLog, seconds: float, code: int) -> FitResult:
    # The first rank to end makes torchrun stop the others, which may still be writing.
    trainer.placement.context.barrier()
    log.events.write("end", step=state.step, best_step=state.best_step, tokens=state.tokens, seconds=round(seconds, 3),
                     stopped=int(code) or None, early_stop=state.early_stop)  # fmt: skip
    names = [(example.id, example.category) for example in trainer.sampler.examples]
    return FitResult(
        **vars(state), num_steps=len(trainer.sampler), seconds=seconds, stopped=Exit(code) if code else None,
        step_seconds=log.seconds, step_tokens=log.tokens, dynamics=trainer.dynamics.by_record(names),
    )  # fmt: skip


def _evaluate(trainer: Trainer, state: TrainingState, log: StepLog, validation: Validation | None) -> bool:
    # Evaluate where that is due and not done; return whether the weights must be saved: they are the best or the last.
    # Raises TrainError "E930 diverged" for a loss that is not finite.
    sampler, num_steps = trainer.sampler, len(trainer.sampler)
    is_due = state.step == num_steps or state.step % validation_steps(sampler.recipe, num_steps) == 0
    if validation is None or not is_due or state.evaluated == state.step:
        return False
    log.flush()
    began = time.monotonic()
    with trainer.placement.context.waiting(), trainer.parallel.whole():
        score = validation.evaluate(state.step)
    log.validated(time.monotonic() - began)
    if not math.isfinite(score.loss):
        message = f"step {state.step}: the validation loss is {score.loss}"
        raise TrainError("E930 diverged", message, "Lower learning_rate.", exit_code=Exit.FAILED)
    # Samples are for people to watch: no checkpoint carries them along.
    state.evaluations.append(ValidationScore(score.score, score.loss, score.by_category))
    state.evaluated, early_stopping = state.step, EarlyStopping(sampler.recipe.guard, validation.base)
    is_best = early_stopping.is_best(state.evaluations)
    state.best_step = state.step if is_best else state.best_step
    fields = {name: part for name, part in asdict(score).items() if part or name not in ("fit", "general")}
    log.events.write("eval", step=state.step, **fields, best=is_best)
    text = "" if score.score is None else f"score {score.score:.4f}, "
    console.info(f"step {state.step}: validation {text}loss {score.loss:.4f}{' (best so far)' * is_best}")
    if state.step < num_steps:
        # The loop ends by itself at its next turn, after the checkpoint of this step.
        state.forgot = early_stopping.rise(fields.get("general"))
        is_lost = state.forgot is not None
        state.early_stop = "general text was forgotten" if is_lost else early_stopping.reason(state.evaluations)
    if state.early_stop is not None:
        console.info(f"early stopping at step {state.step} of {num_steps}: {state.early_stop}")
    return is_best or state.early_stop is not None


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
