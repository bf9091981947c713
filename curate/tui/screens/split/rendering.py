"""What the Split screen shows: the settings as fields, figures of the preview, leaks, the frozen test set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from re import fullmatch
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.binding import Binding
from textual.message import Message
from textual.widgets import Static

from curate.base.record import SPLITS, Split
from curate.base.tables import counted
from curate.schema.settings import SplitSettings
from curate.sessions.division import percents, shifted
from curate.sessions.splitting import Basis, LeakReport, Preview, ratios_of
from curate.similarity.split import THIN, Drift
from curate.tui.border import safe_text

if TYPE_CHECKING:
    from curate.tui.context import HostApp

_SHORT: dict[Split, str] = {"train": "train", "validation": "valid", "test": "test"}
_MOST_KINDS = 6
_MOST_LISTED = 500


def fixed_text(basis: Basis) -> Text:
    """Return how many records no settings move."""
    free = len(basis.staying) - len(basis.fixed)
    text = Text(f"locked {len(basis.fixed):,}, free {free:,}", no_wrap=True, end="")
    if gone := len(basis.repeats.left_out()):
        text.append(f", duplicates left out {gone:,}", "muted")
    return text


def result_rows(preview: Preview) -> list[tuple[str, ...]]:
    """Return a row for each category, and one for all."""
    totals = preview.totals
    everyone = sum(totals.values())
    ratios = preview.rows[0].target if preview.rows else dict.fromkeys(SPLITS, 0.0)
    got = {name: number / max(1, everyone) for name, number in totals.items()}
    return [_row(row.category or "(none)", row) for row in preview.rows] + [_row("all", Drift("", totals, ratios, got))]


def _row(name: str, row: Drift) -> tuple[str, ...]:
    drift = max(abs(row.actual[split] - row.target[split]) for split in SPLITS)
    counts = (f"{row.counts[split]:,}" for split in SPLITS)
    return (name, f"{sum(row.counts.values()):,}", *counts, f"{drift:.1%}")


def figures_text(preview: Preview, saved: Preview | None, *, name: str) -> Text:
    """Return the smallest cell, tokens, and what changes against the last dataset and the saved settings."""
    text = Text(no_wrap=True, end="")
    if preview.smallest:
        cell = preview.smallest[0]
        is_thin = cell.num_records < THIN
        smallest = Text.assemble(
            "smallest ", safe_text(cell.category or "(none)", 24), f"/{cell.split} {cell.num_records:,}"
        )
        text.append_text(smallest)
        text.append(f"  ~ warn fewer than {THIN}" if is_thin else "  ok", "warn" if is_thin else "ok")
    tokens = "  ".join(f"{_SHORT[split]} {_short(number)}" for split, number in preview.tokens.items())
    text.append(f"\ntokens, estimated  {tokens}")
    added = ", ".join(f"+{number:,} {split}" for split, number in preview.added.items() if number) or "none added"
    if preview.basis.repeats.pins:
        text.append(f"\nagainst {name}: {added}, {preview.num_moved:,} moved, {preview.num_gone:,} gone")
    else:
        basis = preview.basis
        who = counted(len(basis.staying) - len(basis.fixed), "record") if basis.fixed else "every record"
        text.append(f"\nno dataset exported yet, so {who} may still move", "muted")
    if saved is not None and saved.settings != preview.settings:
        elsewhere = sum(1 for _ in elsewhere_of(preview, saved))
        text.append(f"\n{counted(elsewhere, 'record')} in another split than by the saved settings", "accent")
    if num_left_out := len(preview.assignment.withheld):
        text.append(f"\n~ warn held back, because of leaks: {counted(num_left_out, 'record')}", "warn")
    return text


def _short(number: int) -> str:
    if number >= 1_000_000:
        return f"{number / 1_000_000:.2f} M"
    return f"{number / 1000:.1f} k" if number >= 10_000 else f"{number:,}"


def elsewhere_of(preview: Preview, saved: Preview) -> Iterator[tuple[str, Split | None, Split | None]]:
    """Yield the records that fall elsewhere than by the saved settings: id, where they would be, where they are."""
    before, after = saved.assignment.splits, preview.assignment.splits
    for name in preview.basis.staying.ids:
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def leaks_text(report: LeakReport | None, preview: Preview, *, is_running: bool) -> Text:
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
        is_error = any(finding.severity == "error" for finding in report.benchmarks)
        number = (
            sum(finding.severity == "error" for finding in report.benchmarks) if is_error else len(report.benchmarks)
        )
        label = "benchmarks given away" if is_error else "passages of benchmarks"
        text.append_text(Text.assemble(f"\n {label} ", _coloured_count(number, is_error=is_error)))
    if report.num_templates:
        text.append(f"\n shared templates {report.num_templates:,} (not counted as leaks)", "muted")
    return text


def _coloured_count(number: int, *, is_error: bool) -> Text:
    if not number:
        return Text("0  ok", "ok")
    return Text(f"{number:,}  ! error" if is_error else f"{number:,}  ~ warn", "error" if is_error else "warn")


def leak_rows(report: LeakReport | None, preview: Preview) -> list[tuple[str, ...]]:
    """Return a row for each pair: the exam record, its split, how it is known, the fix, and from whom it is known."""
    return [
        (
            pair.leak.exam.id,
            _SHORT[pair.split],
            f"{pair.leak.worst.level} {pair.leak.worst.part}",
            preview.fixes.get(pair.leak.exam.id, "-"),
            pair.leak.source.id,
        )
        for pair in (report.pairs if report else ())
    ]


def golden_text(preview: Preview) -> Text:
    """Return whether the test set is frozen, and how this one differs from what was frozen."""
    golden, change = preview.basis.golden, preview.golden_change
    tests = counted(len(preview.by_split["test"]), "test record")
    if golden is None or change is None:
        return Text(f"TEST SET not frozen; t freezes {tests}", no_wrap=True, end="")
    same = "the same" if not change.added and not change.gone else f"+{len(change.added):,} -{len(change.gone):,}"
    if golden.is_frozen:
        text = Text.assemble(("TEST SET frozen", "strong"), f": {len(golden.ids):,}, now {same}")
        return text.append("\n t unfreezes it, with a reason", "muted")
    text = Text.assemble(("TEST SET unfrozen", "warn"), f": {len(golden.ids):,}, now {same}")
    return text.append(f"\n t freezes {tests}", "muted")


def change_pages(preview: Preview, saved: Preview | None) -> Text:
    """Return the records that changed, against the last dataset and against the saved settings."""
    pins, splits = preview.basis.repeats.pins, preview.assignment.splits
    text = Text()
    if pins:
        _list(
            text,
            "new since the last dataset",
            [(record_id, "", split) for record_id, split in splits.items() if record_id not in pins],
        )
        _list(
            text,
            "gone since the last dataset",
            [(record_id, split, "") for record_id, split in pins.items() if record_id not in splits],
        )
    if saved is not None:
        rows = [
            (name, before or "held back", after or "held back") for name, before, after in elsewhere_of(preview, saved)
        ]
        _list(text, "in another split than by the saved settings", rows)
    _list(text, "held back", [(name, "", "") for name in preview.assignment.withheld])
    for finding in preview.assignment.findings:
        text.append_text(Text.assemble((f"\n{finding.code} ", "strong"), safe_text(finding.message, 400)))
    return text


def _list(text: Text, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    text.append(f"{title}: {len(rows):,}\n", "strong")
    for name, before, after in rows[:_MOST_LISTED]:
        change = " -> ".join(filter(None, (before, after)))
        text.append_text(Text.assemble("  ", safe_text(name, 60), f"  {change}\n"))
    if len(rows) > _MOST_LISTED:
        text.append(f"  not shown: {len(rows) - _MOST_LISTED:,} more\n", "muted")


FIELDS = (*SPLITS, "seed", "stratify", "group")


class SettingsPane(Static, can_focus=True):
    """The settings as they are tried out; `Changed` tells of what a person wants otherwise."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter", "type", "Type a value", id="split.type"),
        Binding("space", "change(1)", "Change", id="split.toggle", show=False),
    ]

    class Changed(Message):
        """Somebody wants other ``values`` of some settings."""

        def __init__(self, **values: object) -> None:
            super().__init__()
            self.values = values

    def __init__(self) -> None:
        super().__init__(id="settings")
        self._settings = SplitSettings()
        self._field = 0

    @property
    def _host(self) -> HostApp:
        return cast("HostApp", self.app)

    def show(self, settings: SplitSettings) -> None:
        """Show other settings."""
        self._settings = settings
        self._draw()

    def step(self, number: int) -> None:
        """Go so many fields ahead, or back; where this had not the focus, only take it."""
        if self.has_focus:
            self._field = (self._field + number) % len(FIELDS)
        self.focus()
        self._draw()

    def action_change(self, step: int) -> None:
        name, settings = FIELDS[self._field], self._settings
        if name in SPLITS:
            self._want(ratios=shifted(settings.ratios, FIELDS.index(name), step))
        elif name == "seed":
            self._want(seed=(settings.seed or 0) + step)
        elif name == "stratify":
            self._want(stratify=not settings.stratify)
        else:
            self.action_type()

    def action_type(self) -> None:
        name, settings = FIELDS[self._field], self._settings
        seed = "" if settings.seed is None else str(settings.seed)
        pointer = 'JSON pointer of what must stay together, such as "/meta/source_id"; empty for nothing:'
        shares = "Shares of train, validation and test:", "/".join(percents(settings))
        questions = {"seed": ("Seed, a whole number:", seed), "group": (pointer, settings.group)}
        if name == "stratify":
            self._want(stratify=not settings.stratify)
        else:
            question, value = questions.get(name, shares)
            self._host.prompt(question, partial(self._typed, name), value=value)

    def _typed(self, name: str, text: str) -> None:
        if name == "seed" and not fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
            self._host.tell(f"{text!r} is no whole number of at most 18 digits.", "warn")
        elif name == "group" and text and not text.startswith("/"):
            self._host.tell(f"{text!r} is no JSON pointer: it begins with a slash.", "warn")
        elif name in SPLITS:
            with self._host.attempt():
                self._want(ratios=ratios_of(text))
        else:
            self._want(**{name: int(text) if name == "seed" else text})

    def _want(self, **values: object) -> None:
        self.post_message(self.Changed(**values))

    def _draw(self) -> None:
        settings = self._settings
        text = Text(no_wrap=True, end="")
        for name, share in zip(SPLITS, percents(settings), strict=True):
            text.append_text(Text.assemble(f"{name} ", self._box(name, share), " %  "))
        seed = "none" if settings.seed is None else str(settings.seed)
        text.append_text(Text.assemble("\nseed ", self._box("seed", seed), "  divide each category "))
        text.append_text(self._box("stratify", "x" if settings.stratify else " "))
        text.append_text(Text.assemble("\nkeep together: ", self._box("group", settings.group or "duplicates only")))
        if not settings.group:
            text.append(" (enter: a field)", "muted")
        self.update(text, layout=False)

    on_focus = on_blur = _draw

    def _box(self, name: str, value: str) -> Text:
        is_here = FIELDS[self._field] == name
        style = "reverse" if is_here and self.has_focus else "strong" if is_here else ""
        mark = (">" if is_here else " ", "accent")
        return Text.assemble(mark, ("[", style), safe_text(value, 24, style), ("]", style))
