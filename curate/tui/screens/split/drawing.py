"""What the Split screen shows: the settings, figures of the preview, leaks, the frozen test set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from curate.base.record import SPLITS, Split
from curate.base.tables import counted
from curate.sessions.splitting import Basis, LeakReport, Preview
from curate.similarity.split import THIN, Drift
from curate.tui.border import shown

_SHORT: dict[Split, str] = {"train": "train", "validation": "valid", "test": "test"}
_MOST_KINDS = 6
_MOST_LISTED = 500


def fixed_text(basis: Basis) -> Text:
    """Return how many records no settings move."""
    free = len(basis.staying) - len(basis.fixed)
    text = Text(f"fixed {len(basis.fixed):,}  free {free:,}", no_wrap=True, end="")
    if gone := len(basis.repeats.left_out()):
        text.append(f"  repeats left out {gone:,}", "muted")
    return text


def result_rows(seen: Preview) -> list[tuple[str, ...]]:
    """Return a row for each category, and one for all."""
    totals = seen.totals
    everyone = sum(totals.values())
    asked = seen.rows[0].target if seen.rows else dict.fromkeys(SPLITS, 0.0)
    got = {name: number / max(1, everyone) for name, number in totals.items()}
    return [_row(row.category or "(none)", row) for row in seen.rows] + [_row("all", Drift("", totals, asked, got))]


def _row(name: str, row: Drift) -> tuple[str, ...]:
    drift = max(abs(row.actual[one] - row.target[one]) for one in SPLITS)
    counts = (f"{row.counts[one]:,}" for one in SPLITS)
    return (name, f"{sum(row.counts.values()):,}", *counts, f"{drift:.1%}")


def figures_text(seen: Preview, saved: Preview | None, *, name: str) -> Text:
    """Return the smallest cell, tokens, and what changes against the last dataset and the saved settings."""
    text = Text(no_wrap=True, end="")
    if seen.smallest:
        cell = seen.smallest[0]
        is_thin = cell.num_records < THIN
        place = Text.assemble("smallest ", shown(cell.category or "(none)", 24), f"/{cell.split} {cell.num_records:,}")
        text.append_text(place)
        text.append(f"  ~ warn fewer than {THIN}" if is_thin else "  ok", "warn" if is_thin else "ok")
    tokens = "  ".join(f"{_SHORT[one]} {_short(number)}" for one, number in seen.tokens.items())
    text.append(f"\ntokens, estimated  {tokens}")
    added = ", ".join(f"+{number:,} {one}" for one, number in seen.added.items() if number) or "none added"
    if seen.basis.repeats.pins:
        text.append(f"\nagainst {name}: {added}, {seen.num_moved:,} moved, {seen.num_gone:,} gone")
    else:
        text.append("\nno dataset yet: nothing is fixed by one", "muted")
    if saved is not None and saved.settings != seen.settings:
        elsewhere = sum(1 for _ in elsewhere_of(seen, saved))
        text.append(f"\nagainst the saved settings: {elsewhere:,} elsewhere", "accent")
    if held := len(seen.assignment.withheld):
        text.append(f"\n~ warn held back, for they would leak: {held:,}", "warn")
    return text


def _short(number: int) -> str:
    if number >= 1_000_000:
        return f"{number / 1_000_000:.2f} M"
    return f"{number / 1000:.1f} k" if number >= 10_000 else f"{number:,}"


def elsewhere_of(seen: Preview, saved: Preview) -> Iterator[tuple[str, Split | None, Split | None]]:
    """Yield the records that fall elsewhere than by the saved settings: id, where they would be, where they are."""
    before, after = saved.assignment.splits, seen.assignment.splits
    for record in seen.basis.staying:
        if before.get(record.id) != after.get(record.id):
            yield record.id, before.get(record.id), after.get(record.id)


def leaks_text(report: LeakReport | None, seen: Preview, *, is_running: bool) -> Text:
    """Return how many leaks of which kind there are."""
    text = Text("LEAKAGE CHECK", "strong", no_wrap=True, end="")
    if report is None:
        text.append("\n comparing the splits ..." if is_running else "\n not compared; l compares", "muted")
        return text
    if not report.pairs:
        text.append_text(Text.assemble("\n texts in common ", _coloured_count(0, is_error=False)))
    counts = list(report.counts().items())
    for (level, part, severity), number in counts[:_MOST_KINDS]:
        text.append_text(Text.assemble(f"\n {level} {part} ", _coloured_count(number, is_error=severity == "error")))
    if rest := sum(number for _, number in counts[_MOST_KINDS:]):
        text.append(f"\n other parts {rest:,}")
    if report.benchmarks:
        is_error = any(one.severity == "error" for one in report.benchmarks)
        number = sum(one.severity == "error" for one in report.benchmarks) if is_error else len(report.benchmarks)
        told = "benchmarks given away" if is_error else "passages of benchmarks"
        text.append_text(Text.assemble(f"\n {told} ", _coloured_count(number, is_error=is_error)))
    if report.num_templates:
        text.append(f"\n templates, no evidence {report.num_templates:,}", "muted")
    return text


def _coloured_count(number: int, *, is_error: bool) -> Text:
    if not number:
        return Text("0  ok", "ok")
    return Text(f"{number:,}  ! error" if is_error else f"{number:,}  ~ warn", "error" if is_error else "warn")


def leak_rows(report: LeakReport | None, seen: Preview) -> list[tuple[str, ...]]:
    """Return a row for each pair: the exam record, its split, how it is known, the fix, and from whom it is known."""
    return [
        (
            one.leak.exam.id,
            _SHORT[one.split],
            f"{one.leak.worst.level} {one.leak.worst.part}",
            seen.fixes.get(one.leak.exam.id, "-"),
            one.leak.source.id,
        )
        for one in (report.pairs if report else ())
    ]


def golden_text(seen: Preview) -> Text:
    """Return whether the test set is frozen, and how this one differs from what was frozen."""
    golden, change = seen.basis.golden, seen.golden_change
    tests = counted(len(seen.by_split["test"]), "test record")
    if golden is None or change is None:
        return Text(f"TEST SET not frozen; t freezes {tests}", no_wrap=True, end="")
    same = "the same" if not change.added and not change.gone else f"+{len(change.added):,} -{len(change.gone):,}"
    if golden.is_frozen:
        text = Text.assemble(("TEST SET frozen", "strong"), f": {len(golden.ids):,}, now {same}")
        return text.append("\n t unfreezes it, with a reason", "muted")
    text = Text.assemble(("TEST SET unfrozen", "warn"), f": {len(golden.ids):,}, now {same}")
    return text.append(f"\n t freezes {tests}", "muted")


def change_pages(seen: Preview, saved: Preview | None) -> Text:
    """Return the records that changed, against the last dataset and against the saved settings."""
    pins, splits = seen.basis.repeats.pins, seen.assignment.splits
    text = Text()
    if pins:
        _list(
            text, "new since the last dataset", [(one, "", place) for one, place in splits.items() if one not in pins]
        )
        _list(
            text, "gone since the last dataset", [(one, place, "") for one, place in pins.items() if one not in splits]
        )
    if saved is not None:
        rows = [
            (name, before or "held back", after or "held back") for name, before, after in elsewhere_of(seen, saved)
        ]
        _list(text, "elsewhere than by the saved settings", rows)
    _list(text, "held back", [(name, "", "") for name in seen.assignment.withheld])
    for finding in seen.assignment.findings:
        text.append_text(Text.assemble((f"\n{finding.code} ", "strong"), shown(finding.message, 400)))
    return text


def _list(text: Text, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    text.append(f"{title}: {len(rows):,}\n", "strong")
    for name, before, after in rows[:_MOST_LISTED]:
        place = " -> ".join(filter(None, (before, after)))
        text.append_text(Text.assemble("  ", shown(name, 60), f"  {place}\n"))
    if len(rows) > _MOST_LISTED:
        text.append(f"  not shown: {len(rows) - _MOST_LISTED:,} more\n", "muted")
