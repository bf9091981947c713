"""metrics.jsonl and the line of progress: what happened, for files and for people."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from train import say
from train.disk import write_whole, writing
from train.errors import Exit, TrainError
from train.file_guard import MOST_DOCUMENT, read_file

_PLAIN_SECONDS = 10.0
_RECENT = 20

HandOn = Callable[[str, Mapping[str, Any]], None]
"""Gets each event that is written: its name and its fields."""


class Events:
    """Appends one JSON object a line to `metrics.jsonl`; a resumed run drops the events after the step it resumes
    from. Without a path (on all ranks but the first) nothing is kept.
    """

    def __init__(self, path: Path | None, *, resumed_from: int = 0, hand_on: HandOn | None = None) -> None:
        self.file: FileIO | None = None
        self.hand_on = hand_on
        if path is None:
            return
        with writing(path):
            kept: list[str] = []
            if resumed_from and path.exists():
                text = read_file(path, most=MOST_DOCUMENT).decode("utf-8", "replace")
                kept = [line for line in text.split("\n") if _is_before(line, resumed_from)]
            write_whole(path, [f"{line}\n" for line in kept])
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
            # What ended the run is told already.
            if error is None:
                raise self._not_written(fault) from fault
        finally:
            self.file.close()

    def write(self, event: str, **fields: Any) -> None:
        """Append an event with its fields and the time (UTC); raises TrainError "E954 disk-full"."""
        if self.file is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"event": event, **fields, "time": now}, ensure_ascii=False, allow_nan=False)
        rest = f"{line}\n".encode()
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as fault:
            raise self._not_written(fault) from fault
        if self.hand_on is not None:
            self.hand_on(event, fields)

    def _not_written(self, fault: OSError) -> TrainError:
        return TrainError(
            "E954 disk-full",
            f"metrics.jsonl: {fault.strerror}",
            "make room and call again with --resume",
            exit_code=Exit.MISSING,
        )


def _is_before(line: str, step: int) -> bool:
    """Torn last lines and events after ``step`` belong to work that is done again."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return False
    at = event.get("step", 0) if isinstance(event, dict) else None
    return isinstance(at, int) and at <= step and event.get("event") != "end"


class Progress:
    """Speed, time to go, and one line on stderr: redrawn on a terminal, else printed every ten seconds."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self.is_live = sys.stderr.isatty()
        self.printed_at = time.monotonic()

    def step(self, number: int, loss: float, num_tokens: int, seconds: float) -> tuple[float, float]:
        """Show step ``number`` (from 1); return (tokens per second, seconds to go) over the last steps."""
        self.recent.append((seconds, num_tokens))
        spent = sum(s for s, _ in self.recent) or 1e-9
        speed = sum(n for _, n in self.recent) / spent
        left = (self.num_steps - number) * spent / len(self.recent)
        done = round(20 * number / self.num_steps)
        line = (
            f"[{'#' * done}{'.' * (20 - done)}] step {number}/{self.num_steps}  loss {loss:.4f}"
            f"  {speed:,.0f} tokens/s  {_clock(left)} to go"
        )
        is_last = number == self.num_steps
        if self.is_live:
            say.redraw(line)
        elif is_last or time.monotonic() - self.printed_at >= _PLAIN_SECONDS:
            self.printed_at = time.monotonic()
            say.talk(line)
        return speed, left


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )
