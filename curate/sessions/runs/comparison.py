"""Everything that is to be said of a run beside another one, or beside its own base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from curate.base.record import CurateError, Json
from curate.project.data import ProjectData
from curate.project.feedback import ChangeVerdict, Results, read_results
from curate.sessions.runs.contrast import Regression, RunDifference, differences, regressions
from curate.sessions.runs.paired import PairedComparison, compare
from curate.sessions.runs.run import Run


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One category, or the mean over all of them: the base, the first run if there is one, and the second.

    ``difference`` is second - first, or second - base, and ``verdict`` the trainer's on it; None is what nobody has
    reported.
    """

    category: str
    n: int | None
    base: float | None
    first: float | None
    second: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    better: int | None = None
    worse: int | None = None
    verdict: ChangeVerdict | None = None
    metric: str = ""
    bits: tuple[float | None, float | None, float | None] = (None, None, None)
    """Bits per byte of base, first and second; lower is better."""


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs, or one and its base, on the split whose verdicts count."""

    first: Run | None
    second: Run
    split: str
    rows: tuple[ScoreRow, ...]
    macro: ScoreRow | None
    notes: tuple[str, ...]
    general: tuple[str, ...]
    """What the run says of general text, with what to do next where it forgot; of one run beside its base."""
    changed: tuple[RunDifference, ...]
    regressions: tuple[Regression, ...]


def compare_runs(data: ProjectData, first: Run | None, second: Run) -> RunComparison:
    """Put ``second`` beside ``first``, or beside its base with None. Asks the trainer: call it in a thread.

    Raises:
        CurateError: E918 when a report or feedback cannot be read, E911 when the newest dataset was changed.
    """
    results = read_results(second.folder)
    other = read_results(first.folder) if first else None
    tests = {name for name, split in data.pins().items() if split == "test"}
    worse = tuple(regressions(other, results, tests))
    split = str(results.report["headline"])
    if first is None or other is None:
        rows = tuple(_from_report(row, results.verdict(row)) for row in results.categories)
        return RunComparison(None, second, split, rows, _macro_of(results), (), tuple(results.forgetting), (), worse)
    notes: list[str] = []
    comparison: PairedComparison | None = None
    try:
        comparison = compare(first.folder, second.folder, split)
        notes += _notes(comparison)
    except CurateError as error:
        notes.append(f"paired differences are not reported: {error.message}")
    if other.report["headline"] != split:
        notes.append(f"{first.id} was judged on its {other.report['headline']} split, {second.id} on {split}")
    changed = tuple(differences(data, first, second))
    rows = tuple(_both(other, results, comparison))
    return RunComparison(
        first, second, split, rows, _macro_of_both(comparison, results), tuple(notes), (), changed, worse
    )


def _from_report(row: Mapping[str, Json], verdict: ChangeVerdict | None) -> ScoreRow:
    change = row["difference"]
    bits = row["bits_per_byte"]
    return ScoreRow(
        row["category"], row["n"], row["base"]["value"], None, row["tuned"]["value"], change["value"], change["low"],
        change["high"], row["better"], row["worse"], verdict=verdict, metric=row["metric"],
        bits=(bits["base"], None, bits["tuned"]) if bits else (None, None, None),
    )  # fmt: skip


def _both(first: Results, second: Results, comparison: PairedComparison | None) -> Iterator[ScoreRow]:
    """Yield a row for each category of either run; the scores of both are those of the records that they share."""
    before = {entry["category"]: entry for entry in first.categories}
    after = {entry["category"]: entry for entry in second.categories}
    pairs = {row.category: row for row in comparison.rows} if comparison else {}
    for name in sorted({*before, *after}):
        old, new, pair = before.get(name), after.get(name), pairs.get(name)
        base = new["base"]["value"] if new else None
        metric = new["metric"] if new else old["metric"] if old else ""
        bits = (_bits(new, "base"), _bits(old, "tuned"), _bits(new, "tuned"))
        if pair is None:
            earlier, later = (entry["tuned"]["value"] if entry else None for entry in (old, new))
            yield ScoreRow(name, None, base, earlier, later, metric=metric, bits=bits)
        else:
            yield ScoreRow(
                name, pair.n, base, pair.first, pair.second, pair.difference, pair.low, pair.high, pair.better,
                pair.worse, verdict=pair.verdict, metric=metric, bits=bits,
            )  # fmt: skip


def _bits(row: Mapping[str, Json] | None, side: str) -> float | None:
    value = row["bits_per_byte"] if row else None
    return float(value[side]) if value else None


def _macro_of(results: Results) -> ScoreRow | None:
    macro = results.macro
    if macro is None:
        return None
    change = macro["difference"]
    return ScoreRow(
        "macro", None, macro["base"]["value"], None, macro["tuned"]["value"], change["value"], change["low"],
        change["high"], verdict=results.verdict(macro),
    )  # fmt: skip


def _macro_of_both(comparison: PairedComparison | None, second: Results) -> ScoreRow | None:
    macro = comparison.macro if comparison else None
    if macro is None:
        return None
    reported = second.macro
    base = reported["base"]["value"] if reported else None
    return ScoreRow(
        "macro", None, base, macro.first, macro.second, macro.difference, macro.low, macro.high, verdict=macro.verdict
    )


def _notes(comparison: PairedComparison) -> Iterator[str]:
    if comparison.num_lone:
        yield f"{comparison.num_lone:,} records were evaluated by one of the runs only; they are left out"
    if comparison.num_changed:
        yield f"{comparison.num_changed:,} records changed between the runs, or are scored otherwise; they are left out"
    if comparison.num_unscored:
        yield f"{comparison.num_unscored:,} records have no score in one of the runs"
