"""Two runs side by side on the records that both were scored on, as `train compare` computes it.

The statistics are the trainer's: it is asked as a program, so that the screen and its command say the same.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curate.base.console import one_line
from curate.base.record import CurateError, Json
from curate.base.trainer import trainer_command
from curate.project.feedback import ChangeVerdict, verdict_of


@dataclass(frozen=True, slots=True)
class Paired:
    """One category in both runs: means, the paired difference second - first with its 95 % interval, and p values."""

    category: str
    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    test: str
    p: float
    p_adjusted: float
    """Holm over the categories."""
    better: int
    worse: int
    verdict: ChangeVerdict | None


@dataclass(frozen=True, slots=True)
class Macro:
    """The mean over the categories, each weighing the same."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    verdict: ChangeVerdict | None


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two runs on one split. What could not be compared is counted: records of one run only, and those that changed."""

    split: str
    rows: tuple[Paired, ...]
    macro: Macro | None
    num_shared: int
    num_lone: int
    num_changed: int
    num_unscored: int


def compare(first: Path, second: Path, split: str) -> PairedComparison:
    """Compare the tuned models of two finished runs on one split, category by category; takes about a second.

    Raises:
        CurateError: E918 with what the trainer says, when it cannot compare them or their files cannot be read.
    """
    done = subprocess.run(
        trainer_command("compare", str(first.absolute()), str(second.absolute()), "--json"), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        message = next((line for line in lines if line.startswith("error[")), f"exit code {done.returncode}")
        raise CurateError("E918 bad-report", one_line(message, 300), "Evaluate the run again with `train eval`.")
    document = json.loads(done.stdout)
    parts: dict[str, Mapping[str, Json]] = {part["split"]: part for part in document["report"]["splits"]}
    part = parts.get(split, {})
    # What has no score is compared by likelihood there, which is not in the unit of scores.
    fewest = document["report"]["fewest"]
    rows = tuple(_paired(row, fewest) for row in part.get("categories", ()) if row["higher_is_better"])
    counts = document["splits"].get(split, {})
    return PairedComparison(
        split, rows, _macro(part["macro"], fewest) if part.get("macro") else None,
        *(counts.get(name, 0) for name in ("shared", "lone", "changed", "unscored")),
    )  # fmt: skip


def _paired(row: Mapping[str, Json], fewest: int) -> Paired:
    change = row["difference"]
    return Paired(
        row["category"], row["n"], row["base"]["value"], row["tuned"]["value"], change["value"], change["low"],
        change["high"], row["test"], row["p"], row["p_adjusted"], row["better"], row["worse"], verdict_of(row, fewest),
    )  # fmt: skip


def _macro(row: Mapping[str, Json], fewest: int) -> Macro:
    change = row["difference"]
    return Macro(
        row["base"]["value"], row["tuned"]["value"], change["value"], change["low"], change["high"], row["p"],
        verdict_of(row, fewest),
    )  # fmt: skip
