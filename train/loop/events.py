"""How a run reports its steps: metrics.jsonl for programs, a line of progress for people."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from train.base import console
from train.base.errors import Exit, TrainError
from train.base.storage import MOST_DOCUMENT, appending, read_file, write_whole, writing
from train.loop.checkpoint import TrainingState
from train.loop.trainer import Placement
from train.model.batch import BatchSampler, Step
from train.model.device import peak_flops, peak_memory
from train.recipe.schedule import num_validations_left

METRICS = "metrics.jsonl"
_RECENT = 20

OnEvent = Callable[[str, Mapping[str, Any]], None]
"""Is called with each event that is written: its name and its fields."""


WriteEvent = Callable[..., None]
"""Writes an event of a name with fields and the time (UTC)."""


@contextmanager
def open_events(path: Path | None, on_event: OnEvent | None = None) -> Iterator[WriteEvent]:
    """Yield a function that appends an event to ``path`` as a JSON object on a line; without a path it does nothing.

    It raises TrainError "E936 write-failed".
    """
    if path is None:
        yield lambda _event, **_fields: None
        return
    with appending(path) as append:

        def write_event(event: str, **fields: Any) -> None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = {"event": event, **fields, "time": now}
            append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            if on_event is not None:
                on_event(event, fields)

        yield write_event


def drop_events_after(path: Path, step: int, evaluated: int) -> None:
    """Drop the events of ``path`` after ``step``, and evaluations after the step ``evaluated``: they come again."""

    def is_before(line: str) -> bool:
        try:
            event = json.loads(line)
            last = evaluated if event["event"] == "eval" else step
            return event["event"] not in ("end", "measure") and int(event["step"]) <= last
        except (ValueError, LookupError, TypeError, RecursionError):
            # The last line may be torn.
            return False

    with writing(path):
        text = read_file(path, most=MOST_DOCUMENT).decode("utf-8", "replace") if step and path.exists() else ""
    write_whole(path, [f"{line}\n" for line in text.split("\n") if is_before(line)])


class AsyncScalars:
    """The loss and the gradient norm of a step, on their way from the device.

    On a GPU they are copied as soon as they are there, beside what is computed next: to read them waits for the copy
    and for nothing that was started after it.
    """

    def __init__(self, loss: torch.Tensor, norm: torch.Tensor) -> None:
        self._both, self._arrived = torch.stack([loss.detach(), norm.detach()]), None
        if self._both.device.type == "cuda":
            # A copy into memory that is not pinned would wait at once.
            pinned = torch.empty(2, dtype=self._both.dtype, pin_memory=True)
            self._both, self._arrived = pinned.copy_(self._both, non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def read(self) -> tuple[float, float]:
        """Return the two numbers, as soon as they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        loss, norm = self._both.tolist()
        return loss, norm


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """What a plan knows of a run: floating-point operations of a token, seconds of a validation and of the evaluation
    after the training; 0 where unknown.
    """

    flops: float = 0.0
    validation_seconds: float = 0.0
    evaluation_seconds: float = 0.0


class StepLog:
    """Writes an event for each step once its loss and gradient norm have arrived.

    On a GPU the log is one step late: reading a step's numbers waits until the device has taken it, so by then the next
    step must be under way.
    """

    def __init__(
        self,
        sampler: BatchSampler,
        state: TrainingState,
        write_event: WriteEvent,
        expected: RunEstimate,
        placement: Placement,
    ) -> None:
        self.sampler, self.state, self.write_event, self.expected = sampler, state, write_event, expected
        self.placement = placement
        self.peak_flops = placement.context.world_size * (peak_flops(placement.device) or math.inf)
        self.slowdown = 1.0
        self._pending: deque[tuple[Step, AsyncScalars, float, int, dict[str, Any]]] = deque()
        self._read_at = -math.inf
        # Of the last steps alone: a laptop that slept would spoil an estimate over the whole run.
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)

    def add(self, step: Step, lr: float, scalars: AsyncScalars, began: float) -> None:
        """Log step ``state.step``, taken at the rate ``lr``, as soon as its loss and norm have arrived."""
        num_tokens = sum(int(self.sampler.lengths[index]) for index in step.indices)
        self.state.tokens += num_tokens
        fields = {"step": self.state.step, "of": len(self.sampler), "lr": lr, "tokens": self.state.tokens,
                  "epoch": round(self.state.step / self.sampler.steps_per_epoch, 4),
                  "supervised": step.num_supervised}  # fmt: skip
        self._pending.append((step, scalars, began, num_tokens, fields))
        self.flush(num_pending=self.placement.steps_in_flight)

    def flush(self, *, num_pending: int = 0) -> None:
        """Read the numbers of all steps but the last ``num_pending``; raises TrainError "E930 diverged"."""
        while len(self._pending) > num_pending:
            step, scalars, began, num_tokens, fields = self._pending.popleft()
            number, (loss, norm) = fields["step"], scalars.read()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                ids = console.join_names([self.sampler.examples[index].id for index in step.indices], 20)
                raise TrainError(
                    "E930 diverged", f"step {number}: loss {loss}, gradient norm {norm}; the batch's records: {ids}",
                    "Lower learning_rate, or look at these records; this step has changed no weight.",
                    exit_code=Exit.FAILED,
                )  # fmt: skip
            now = time.monotonic()
            seconds, self._read_at, self.state.loss = now - max(began, self._read_at), now, loss
            self.state.step_seconds += seconds
            self._recent.append((seconds, num_tokens))
            self.write_event("step", **fields, loss=loss, grad_norm=norm, **self._figures(number, loss))

    def calibrate(self, seconds: float) -> None:
        """Scale the expected seconds of validations, and of the evaluation after them, by those that one took."""
        self.slowdown = seconds / (self.expected.validation_seconds or 1)

    def _figures(self, number: int, loss: float) -> dict[str, float]:
        # Show a step in a line on stderr, and return its figures of speed by their names.
        spent, num_tokens = (sum(column) for column in zip(*self._recent, strict=True))
        speed, num_steps = num_tokens / (spent or 1e-9), len(self.sampler)
        due = num_validations_left(self.sampler.recipe, number, num_steps)
        left = (num_steps - number) * spent / len(self._recent)
        left += self.slowdown * (due * self.expected.validation_seconds + self.expected.evaluation_seconds)
        figures, text = {"tokens_per_second": round(speed, 1), "eta_seconds": round(left, 1)}, f"{speed:,.0f} tokens/s"
        if mfu := self.expected.flops * speed / self.peak_flops:
            figures["mfu"] = round(mfu, 4)
            text += f"  MFU {mfu:.1%}"
        if num_bytes := peak_memory(self.placement.device):
            figures["peak_bytes"] = num_bytes
            text += f"  {num_bytes / 1e9:.1f} GB"
        bar = "#" * round(20 * number / num_steps)
        console.progress(
            f"[{bar:.<20}] step {number}/{num_steps}  loss {loss:.4f}  {text}  {clock(left)} to go",
            is_last=number == num_steps,
        )
        return figures


def clock(seconds: float) -> str:
    """Return seconds as 1:02:03 or 2:03."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}" if minutes >= 60 else f"{minutes}:{second:02}"
