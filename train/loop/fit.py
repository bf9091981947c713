"""Train a model: batch, gradients, one clipped AdamW update, and now and then an evaluation and a checkpoint.

The loop reads from top to bottom; what it calls is beside it: `gradients` for a step, `events` for what is said of it,
`checkpoint` for what is written, `state` for what it knows of itself.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from train.base import console
from train.base.errors import Exit, TrainError
from train.evaluate.dynamics import Dynamics
from train.evaluate.predictions import SampledScore, ValidationScore
from train.loop.checkpoint import Checkpoints
from train.loop.events import METRICS, Events, Expected, Numbers, OnEvent, StepLog, TakenStep
from train.loop.gradients import CPU, Gradients, Optimizer, Placement
from train.loop.state import EarlyStopping, FitResult, TrainingState
from train.model.batch import BatchSampler
from train.model.capabilities import capabilities_of, compile_layers
from train.model.distributed import DistributedContext, attention_share, seed_stream
from train.model.parallel import parallelize
from train.recipe.schedule import checkpoint_steps, lr_factor, validation_steps

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Validation:
    """``evaluate`` scores the model after a step; ``base`` is what the base scores on the same records."""

    evaluate: Callable[[int], ValidationScore]
    base: SampledScore = field(default_factory=lambda: SampledScore(None, math.nan))


def fit(
    model: Any, sampler: BatchSampler, checkpoints: Checkpoints, *, placement: Placement = CPU,
    validation: Validation | None = None, on_event: OnEvent | None = None, reference: torch.Tensor | None = None,
    expected: Expected = Expected(),  # noqa: B008 - it is frozen
) -> FitResult:  # fmt: skip
    """Train ``model``'s trainable parameters on the batches of ``sampler`` and return how it ended.

    Writes metrics.jsonl and checkpoints; the best evaluation's is always kept. A resumed run goes on bit for bit on the
    CPU. All ranks call this with the same arguments, share each step's examples and get the same result. ``reference``
    is that of `Gradients`; what is ``expected`` is told with each step.

    Raises TrainError "E930 diverged" (exit 1), naming the records, at the first loss or gradient that is not finite.
    """
    recipe, context, num_steps = sampler.recipe, placement.context, len(sampler)
    dynamics = Dynamics(sampler.chosen.tolist(), placement.device)
    gradients = _gradients(model, sampler, placement, dynamics, reference)
    optimizer = Optimizer(model, gradients.parallel, recipe)
    state = checkpoints.load(model, optimizer, dynamics)
    started = time.monotonic()
    metrics = checkpoints.run_dir / METRICS if context.is_first else None
    with (
        graceful_stop() as stop,
        context.stepping(),
        Events(metrics, resumed_from=state.step, evaluated=state.evaluated, on_event=on_event) as events,
    ):
        log, saved_step = StepLog(sampler, state, events, placement, expected), state.step

        def save() -> int:
            log.flush()
            folder = checkpoints.save(state, model, optimizer, dynamics, keep=recipe.save_total_limit, context=context)
            events.write("checkpoint", step=state.step, path=folder.name)
            return state.step

        _write_start(events, state.step, optimizer.peak_lr, sampler, checkpoints, validation)
        # A signal puts off the evaluation that is due after its step.
        if _evaluate(validation, state, gradients, log):
            save()
        # A signal to one rank stops all of them after the same step.
        while state.step < num_steps and not context.max(stop.exit_code) and state.early_stop is None:
            began, step = time.monotonic(), sampler[state.step]
            lr = optimizer.peak_lr * lr_factor(recipe, state.step, num_steps)
            model.train()
            # Everything random of a step begins here, so a resumed run needs no state of any generator.
            seed_stream(recipe.seed, context.rank, state.step)
            loss = gradients.backward(step)
            norm = optimizer.step(loss, lr)
            num_tokens = sum(int(sampler.lengths[index]) for index in step.indices)
            state.step, state.tokens = state.step + 1, state.tokens + num_tokens
            taken = TakenStep(state.step, step, lr, num_tokens, state.tokens, began, Numbers(loss, norm))
            log.add(taken, num_pending=placement.steps_in_flight)

            is_saved = state.step == num_steps or state.step % checkpoint_steps(recipe, num_steps) == 0
            if context.max(stop.exit_code) or _evaluate(validation, state, gradients, log) or is_saved:
                saved_step = save()
        log.flush()
        code = context.max(stop.exit_code)
        if code and saved_step != state.step:
            # The signal came during an evaluation, after which no checkpoint was due.
            save()
        return _end(state, sampler, dynamics, log, context, stopped=Exit(code) if code else None, started=started)


def _write_start(
    events: Events, step: int, peak_lr: float, sampler: BatchSampler, checkpoints: Checkpoints,
    validation: Validation | None,
) -> None:  # fmt: skip
    about: dict[str, Any] = {"of": len(sampler), "examples": len(sampler.examples), "lr": peak_lr}
    # The base answers the samples once, before the first step.
    if validation is not None and not checkpoints.resume and validation.base.samples:
        about["samples"] = [asdict(sample) for sample in validation.base.samples]
    events.write("resume" if checkpoints.resume else "start", step=step, **about)


def _gradients(
    model: Any, sampler: BatchSampler, placement: Placement, dynamics: Dynamics, reference: torch.Tensor | None
) -> Gradients:  # fmt: skip
    # Compile the model's layers where that was decided, spread it over the ranks, and return what trains it.
    attention = attention_share(model)
    # Probed and cached now, while the model is whole and without the noise of training.
    capabilities_of(model)
    if placement.is_compiled:
        # Before the model is cut: FSDP2 renames the classes that layers are known by.
        compile_layers(model)
    parallel = parallelize(model, placement.strategy, placement.context, dtype=placement.dtype)
    return Gradients(model, sampler, placement, parallel, dynamics, attention, reference)


def _evaluate(validation: Validation | None, state: TrainingState, gradients: Gradients, log: StepLog) -> bool:
    """Evaluate where that is due and not done, and return what `_record` does."""
    sampler = gradients.sampler
    is_due = state.step == len(sampler) or state.step % validation_steps(sampler.recipe, len(sampler)) == 0
    if validation is None or not is_due or state.evaluated == state.step:
        return False
    log.flush()
    began = time.monotonic()
    with gradients.placement.context.waiting(), gradients.parallel.whole():
        score = validation.evaluate(state.step)
    log.validated(time.monotonic() - began)
    return _record(score, state, validation, sampler, log.events)


def _record(
    score: ValidationScore, state: TrainingState, validation: Validation, sampler: BatchSampler, events: Events
) -> bool:
    """Add an evaluation to the state and return whether the weights must be saved: they are the best or the last.

    Raises TrainError "E930 diverged" for a loss that is not finite.
    """
    if not math.isfinite(score.loss):
        raise TrainError("E930 diverged", f"step {state.step}: the validation loss is {score.loss}",
                         "Lower learning_rate.", exit_code=Exit.FAILED)  # fmt: skip
    early_stopping = EarlyStopping(sampler.recipe.guard, validation.base.by_category)
    fields = asdict(score)
    for name in ("fit", "general"):
        if not fields.get(name):
            fields.pop(name, None)
    # Samples are for people to watch: no checkpoint carries them along.
    score = ValidationScore(score.score, score.loss, score.by_category)
    state.evaluations.append(score)
    state.evaluated = state.step
    is_best = early_stopping.is_best(state.evaluations)
    if is_best:
        state.best_step, state.best = state.step, score
    events.write("eval", step=state.step, **fields, best=is_best)
    text = "" if score.score is None else f"score {score.score:.4f}, "
    console.talk(f"step {state.step}: validation {text}loss {score.loss:.4f}" + (" (best so far)" if is_best else ""))
    if state.step < len(sampler) and (rise := _rise(fields.get("general"), validation, sampler)) is not None:
        state.forgot = rise
    reason = early_stopping.reason(state.evaluations) if state.forgot is None else "general text was forgotten"
    if state.step < len(sampler) and reason:
        # The loop ends by itself at its next turn, after the checkpoint of this step.
        state.early_stop = reason
        events.write("guard", step=state.step, of=len(sampler), reason=reason)
        console.talk(f"stopped by the guard after step {state.step} of {len(sampler)}: {reason}")
    return is_best or state.early_stop is not None


def _rise(bits: float | None, validation: Validation, sampler: BatchSampler) -> float | None:
    """Return by which share general text takes more bits than with the base; None where the recipe allows that."""
    base, margin = validation.base.general, sampler.recipe.guard.general
    if margin is None or bits is None or not base:
        return None
    rise = bits / base - 1
    return rise if rise > margin else None


def _end(
    state: TrainingState, sampler: BatchSampler, dynamics: Dynamics, log: StepLog, context: DistributedContext, *,
    stopped: Exit | None, started: float,
) -> FitResult:  # fmt: skip
    # The first rank to end makes torchrun stop the others, which may still be writing.
    context.barrier()
    seconds = time.monotonic() - started
    log.events.write(
        "end", step=state.step, best_step=state.best_step, tokens=state.tokens, seconds=round(seconds, 3),
        stopped=None if stopped is None else int(stopped), guarded=state.early_stop,
    )  # fmt: skip
    return FitResult(
        **vars(state), num_steps=len(sampler), seconds=seconds, stopped=stopped, step_seconds=log.seconds,
        step_tokens=log.tokens,
        dynamics=dynamics.by_record([(example.id, example.category) for example in sampler.examples]),
    )  # fmt: skip


_EXITS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED, signal.SIGHUP: Exit.HUNG_UP}


class Stop:
    """Whether a signal asks the run to end: ``exit_code`` is `Exit.OK` until then."""

    exit_code = Exit.OK


@contextmanager
def graceful_stop() -> Iterator[Stop]:
    """Within, the first Ctrl-C, SIGTERM or SIGHUP sets the exit code of the `Stop`; the second acts as before."""
    stop, before = Stop(), dict[signal.Signals, Any]()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.exit_code = _EXITS[signal.Signals(number)]
        restore()
        console.talk("\nfinishing this step, then a checkpoint; the same signal again ends at once")

    # Python lets only the main thread set handlers; a caller in another thread has its own way to stop.
    if threading.current_thread() is threading.main_thread():
        before.update({number: signal.signal(number, ask) for number in _EXITS})
    try:
        yield stop
    finally:
        restore()
