"""How a run reports its steps: metrics.jsonl for programs, a line of progress for people."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from train.base import console
from train.base.errors import Exit, TrainError
from train.base.file_guard import MOST_DOCUMENT, read_file
from train.base.storage import write_whole, writing
from train.loop.state import TrainingState
from train.model.batch import BatchSampler, Step
from train.model.device import peak_flops, peak_memory
from train.recipe.schedule import validations_from

if TYPE_CHECKING:
    import torch

    from train.loop.gradients import Placement

METRICS = "metrics.jsonl"
PLAIN_SECONDS = 10.0
"""How often a log that is no terminal gets a line of progress."""
_RECENT = 20

OnEvent = Callable[[str, Mapping[str, Any]], None]
"""Is called with each event that is written: its name and its fields."""


class Events:
    """Appends one JSON object a line to `metrics.jsonl`; a resumed run drops the events after the step it resumes
    from, and evaluations after the step ``evaluated``; None drops none. Without a path (on all ranks but the first)
    nothing is kept.
    """

    def __init__(
        self, path: Path | None, *, resumed_from: int | None = 0, evaluated: int = 0, on_event: OnEvent | None = None
    ) -> None:
        self.file: FileIO | None = None
        self.on_event = on_event
        if path is None:
            return
        with writing(path):
            lines: list[str] = []
            if resumed_from and path.exists():
                text = read_file(path, most=MOST_DOCUMENT).decode("utf-8", "replace")
                lines = [f"{line}\n" for line in text.split("\n") if _is_before(line, resumed_from, evaluated)]
            if resumed_from is not None:
                write_whole(path, lines)
            # Without a buffer: what a full disk did not take must not be tried again when the file is closed.
            self.file = path.open("ab", buffering=0)

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file is None:
            return
        try:
            os.fsync(self.file.fileno())
        except OSError as fault:
            # Where the run ended with an error, that error is the one to report.
            if error is None:
                raise self._not_written(fault) from fault
        finally:
            self.file.close()

    def write(self, event: str, **fields: Any) -> None:
        """Append an event with its fields and the time (UTC); raises TrainError "E954 disk-full"."""
        if self.file is None:
            return
        # In UTC, since the machines of a run need not agree on a time zone.
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"event": event, **fields, "time": now}, ensure_ascii=False, allow_nan=False)
        rest = f"{line}\n".encode()
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as fault:
            raise self._not_written(fault) from fault
        if self.on_event is not None:
            self.on_event(event, fields)

    def _not_written(self, fault: OSError) -> TrainError:
        return TrainError(
            "E954 disk-full",
            f"metrics.jsonl: {fault.strerror}",
            "Make room, then call again with --resume.",
            exit_code=Exit.MISSING,
        )


def _is_before(line: str, step: int, evaluated: int) -> bool:
    # Torn last lines and events after ``step`` belong to work that is done again.
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return False
    at = event.get("step", 0) if isinstance(event, dict) else None
    if not isinstance(at, int) or event.get("event") in ("end", "measure"):
        return False
    return at <= (evaluated if event.get("event") in ("eval", "guard") else step)


@dataclass(frozen=True)
class TakenStep:
    """Step ``number`` (from 1), which was taken and whose loss and gradient norm may still be on their way."""

    number: int
    step: Step
    lr: float
    num_tokens: int
    total_tokens: int
    began: float
    numbers: Numbers


class Numbers:
    """The loss and the gradient norm of a step, on their way from the device.

    On a GPU they are copied as soon as they are there, beside what is computed next: to read them waits for the copy
    and for nothing that was started after it.
    """

    def __init__(self, loss: torch.Tensor, norm: torch.Tensor) -> None:
        import torch

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
class Expected:
    """What a plan knows of a run: floating-point operations of a token, seconds of a validation and of the evaluation
    after the training; 0 where unknown.
    """

    flops: float = 0.0
    validation_seconds: float = 0.0
    evaluation_seconds: float = 0.0


class StepLog:
    """Reads the numbers of steps once they have arrived, checks them, and writes an event for each step.

    On a GPU that is one step late.
    """

    # Reading a step's numbers waits until the device has taken it, so by then the next step must be under way.

    def __init__(
        self, sampler: BatchSampler, state: TrainingState, events: Events, placement: Placement, expected: Expected
    ) -> None:
        self.sampler, self.state, self.events = sampler, state, events
        self.device, self.expected = placement.device, expected
        self.peak = placement.context.world_size * (peak_flops(self.device) or math.inf)
        self.slower = 1.0
        """How much longer than expected the last validation took."""
        self.seconds, self.tokens = 0.0, 0
        """What all steps took, and the tokens that they read."""
        self._pending: deque[TakenStep] = deque()
        self._read_at = -math.inf
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._is_live, self._printed_at = sys.stderr.isatty(), time.monotonic()

    def add(self, taken: TakenStep, *, num_pending: int) -> None:
        """Queue a step, and read the numbers of all but the last ``num_pending``."""
        self._pending.append(taken)
        self.flush(num_pending=num_pending)

    def flush(self, *, num_pending: int = 0) -> None:
        """Read the numbers of all steps but the last ``num_pending``; raises TrainError "E930 diverged"."""
        while len(self._pending) > num_pending:
            taken = self._pending.popleft()
            loss, norm = taken.numbers.read()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._diverged(taken, loss, norm)
            self.state.loss = loss
            now = time.monotonic()
            seconds = now - max(taken.began, self._read_at)
            self._read_at = now
            self.seconds, self.tokens = self.seconds + seconds, self.tokens + taken.num_tokens
            figures = self._show(taken, loss, seconds)
            self.events.write(
                "step", step=taken.number, of=len(self.sampler), loss=loss, lr=taken.lr, grad_norm=norm,
                epoch=round(self.sampler.epochs_until(taken.number), 4), tokens=taken.total_tokens,
                supervised=taken.step.num_supervised, **figures,
            )  # fmt: skip

    def validated(self, seconds: float) -> None:
        """Take what a validation took as the measure of those to come, and of the evaluation after them."""
        self.slower = seconds / (self.expected.validation_seconds or 1)

    def _show(self, taken: TakenStep, loss: float, seconds: float) -> dict[str, float]:
        """Show a step in a line on stderr, and return its figures by their names: of speed over the last steps."""
        # Of the last steps alone: a laptop that slept would spoil an estimate over the whole run.
        self._recent.append((seconds, taken.num_tokens))
        spent = sum(s for s, _ in self._recent) or 1e-9
        speed = sum(n for _, n in self._recent) / spent
        num_steps = len(self.sampler)
        left = (num_steps - taken.number) * spent / len(self._recent)
        due = validations_from(self.sampler.recipe, taken.number, num_steps)
        left += self.slower * (due * self.expected.validation_seconds + self.expected.evaluation_seconds)
        figures = {"tokens_per_second": round(speed, 1), "eta_seconds": round(left, 1)}
        text = f"{speed:,.0f} tokens/s"
        if mfu := self.expected.flops * speed / self.peak:
            figures["mfu"] = round(mfu, 4)
            text += f"  MFU {mfu:.1%}"
        if taken_bytes := peak_memory(self.device):
            figures["peak_bytes"] = taken_bytes
            text += f"  {taken_bytes / 1e9:.1f} GB"
        done = round(20 * taken.number / num_steps)
        line = (
            f"[{'#' * done}{'.' * (20 - done)}] step {taken.number}/{num_steps}  loss {loss:.4f}"
            f"  {text}  {clock(left)} to go"
        )
        # A terminal's line is redrawn; a log gets one every ten seconds, and the last.
        if self._is_live:
            console.redraw(line)
        elif taken.number == num_steps or time.monotonic() - self._printed_at >= PLAIN_SECONDS:
            self._printed_at = time.monotonic()
            console.talk(line)
        return figures

    def _diverged(self, taken: TakenStep, loss: float, norm: float) -> TrainError:
        ids = console.join_names([self.sampler.examples[index].id for index in taken.step.indices], 20)
        return TrainError(
            "E930 diverged",
            f"step {taken.number}: loss {loss}, gradient norm {norm}; the batch's records: {ids}",
            "Lower learning_rate, or look at these records; this step has changed no weight.", exit_code=Exit.FAILED,
        )  # fmt: skip


def clock(seconds: float) -> str:
    """Return seconds as 1:02:03 or 2:03."""
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )
