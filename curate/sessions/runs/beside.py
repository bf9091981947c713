"""Everything that is to be said of a run beside another one, or beside its own base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from curate.base.record import CurateError, Json
from curate.project.data import ProjectData
from curate.project.feedback import ChangeVerdict, Results, read_results
from curate.sessions.runs.contrast import Difference, Regression, differences, regressions
from curate.sessions.runs.look import Run
from curate.sessions.runs.paired import Comparison, compare


@dataclass(frozen=True, slots=True)
class Row:
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
class Beside:
    """Two runs, or one and its base, on the split whose verdicts count."""

    first: Run | None
    second: Run
    split: str
    rows: tuple[Row, ...]
    macro: Row | None
    notes: tuple[str, ...]
    general: tuple[str, ...]
    """What the run says of general text, with what to do next where it forgot; of one run beside its base."""
    changed: tuple[Difference, ...]
    regressions: tuple[Regression, ...]


def beside(data: ProjectData, first: Run | None, second: Run) -> Beside:
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
        rows = tuple(_from_report(one, results.verdict(one)) for one in results.categories)
        return Beside(None, second, split, rows, _macro_of(results), (), tuple(results.forgetting), (), worse)
    notes: list[str] = []
    found: Comparison | None = None
    try:
        found = compare(first.folder, second.folder, split)
        notes += _notes(found)
    except CurateError as error:
        notes.append(f"paired differences are not reported: {error.message}")
    if other.report["headline"] != split:
        notes.append(f"{first.id} was judged on its {other.report['headline']} split, {second.id} on {split}")
    changed = tuple(differences(data, first, second))
    rows = tuple(_both(other, results, found))
    return Beside(first, second, split, rows, _macro_beside(found, results), tuple(notes), (), changed, worse)


def _from_report(one: Mapping[str, Json], verdict: ChangeVerdict | None) -> Row:
    change = one["difference"]
    bits = one["bits_per_byte"]
    return Row(
        one["category"], one["n"], one["base"]["value"], None, one["tuned"]["value"], change["value"], change["low"],
        change["high"], one["better"], one["worse"], verdict=verdict, metric=one["metric"],
        bits=(bits["base"], None, bits["tuned"]) if bits else (None, None, None),
    )  # fmt: skip


def _both(first: Results, second: Results, found: Comparison | None) -> Iterator[Row]:
    """Yield a row for each category of either run; the scores of both are those of the records that they share."""
    before = {one["category"]: one for one in first.categories}
    after = {one["category"]: one for one in second.categories}
    pairs = {row.category: row for row in found.rows} if found else {}
    for name in sorted({*before, *after}):
        old, new, pair = before.get(name), after.get(name), pairs.get(name)
        base = new["base"]["value"] if new else None
        metric = new["metric"] if new else old["metric"] if old else ""
        bits = (_bits(new, "base"), _bits(old, "tuned"), _bits(new, "tuned"))
        if pair is None:
            earlier, later = (one["tuned"]["value"] if one else None for one in (old, new))
            yield Row(name, None, base, earlier, later, metric=metric, bits=bits)
        else:
            yield Row(
                name, pair.n, base, pair.first, pair.second, pair.difference, pair.low, pair.high, pair.better,
                pair.worse, verdict=pair.verdict, metric=metric, bits=bits,
            )  # fmt: skip


def _bits(one: Mapping[str, Json] | None, side: str) -> float | None:
    value = one["bits_per_byte"] if one else None
    return float(value[side]) if value else None


def _macro_of(results: Results) -> Row | None:
    macro = results.macro
    if macro is None:
        return None
    change = macro["difference"]
    return Row(
        "macro", None, macro["base"]["value"], None, macro["tuned"]["value"], change["value"], change["low"],
        change["high"], verdict=results.verdict(macro),
    )  # fmt: skip


def _macro_beside(found: Comparison | None, second: Results) -> Row | None:
    macro = found.macro if found else None
    if macro is None:
        return None
    reported = second.macro
    base = reported["base"]["value"] if reported else None
    return Row(
        "macro", None, base, macro.first, macro.second, macro.difference, macro.low, macro.high, verdict=macro.verdict
    )


def _notes(found: Comparison) -> Iterator[str]:
    if found.num_lone:
        yield f"{found.num_lone:,} records were evaluated by one of the runs only; they are left out"
    if found.num_changed:
        yield f"{found.num_changed:,} records changed between the runs, or are scored otherwise; they are left out"
    if found.num_unscored:
        yield f"{found.num_unscored:,} records have no score in one of the runs"
