"""What Home shows, as rows and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from curate.base.tables import counted
from curate.tui.border import bar, columns, safe_lines, safe_text
from curate.tui.frame_table import Column, tone_of_sign
from curate.tui.help import event_line

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.sessions.overview import Act, NextStep, ProjectOverview, Stage
    from curate.sessions.runs import Run

SIGNS = {"error": "! error", "warn": "~ warn", "": "  to do"}
_STATES = {"done": "  done", "unknown": "  ?"}
_DONE = {
    "label": "labelled", "edit": "edited", "add": "added", "approve": "approved", "drop": "dropped",
    "restore": "restored", "assign": "assigned", "resolve": "settled", "prefer": "compared",
    "undo": "took back decisions on",
    "propose": "had a model propose for", "reject": "rejected what models proposed for",
}  # fmt: skip
_FIRST_NUMBER = 8  # Of what is not done: the stages have the numbers before it.
MOST_STEPS = 9  # That have a key; enter does for the others.
_BAR = 16
_THOUSANDS = 10_000
_STATUSES = (
    ("ok", "  ok", "ok"), ("warning", "~ warn", "warn"), ("waiting", ". waiting", "accent"),
    ("error", "! error", "error"), ("dropped", "x dropped", "muted"),
)  # fmt: skip


OFFER_COLUMNS = (Column("", 1), Column("HOW TO BEGIN (press the number, or enter)"))
STEP_COLUMNS = (Column("", 2), Column("", 7), Column("", 7, tone=tone_of_sign), Column("THE WAY"))
CATEGORY_COLUMNS = (
    Column("CATEGORY"), Column("n", 6, is_right=True), Column("ok", 4, is_right=True),
    Column("label", 5, is_right=True), Column("tr/val/test", 13, is_right=True),
)  # fmt: skip


@dataclass(frozen=True)
class HomeView:
    """What Home shows, as it was a moment ago."""

    overview: ProjectOverview
    stages: Sequence[Stage]
    not_done: Sequence[NextStep]
    runs: Sequence[Run]
    acts: Sequence[Act]
    scores: Mapping[str, str]  # By run, what its report comes to.
    remarks: Sequence[str]


def percent(part: int | None, whole: int) -> str:
    """Return a share as whole percent: "100%" only for all, "0%" only for none, "-" where it is not known."""
    if part is None or not whole:
        return "-"
    rounded = round(100 * part / whole)
    if part and not rounded:
        return "<1%"
    return "99%" if rounded == 100 and part < whole else f"{rounded}%"


def next_stage(stages: Sequence[Stage]) -> int:
    """Return the number of the first stage that is not done, 0 where all are."""
    return next((number for number, stage in enumerate(stages, 1) if stage.state != "done"), 0)


def step_columns(stages: Sequence[Stage]) -> tuple[Column, ...]:
    """Return the columns of the steps, with what to do first in their head."""
    number = next_stage(stages)
    head = f"NEXT: press {number} ({stages[number - 1].name})" if number else "ALL SEVEN ARE DONE"
    return (*STEP_COLUMNS[:-1], Column(head))


def step_rows(snapshot: HomeView, width: int) -> list[tuple[str, ...]]:
    """Return stages and what is not done as rows: number, stage, sign, words, and last what names the row.

    Words that are wider than ``width`` cells go on in the next row: the end of a sentence is what it says.
    """
    rows: list[tuple[str, ...]] = []

    def add(number: int, name: str, sign: str, text: str) -> None:
        first, *rest = wrap(text, max(3, width), subsequent_indent="  ") or [""]
        rows.append((str(number) if number <= MOST_STEPS else "", name, sign, first, str(number)))
        rows.extend(("", "", "", more, str(number)) for more in rest)

    for number, stage in enumerate(snapshot.stages, 1):
        add(number, stage.name, _STATES.get(stage.state) or SIGNS[stage.step.tone], stage.text)
    if snapshot.not_done:
        rows += [("", "", "", "", ""), ("", "", "", "NOT DONE", "")]
    for number, entry in enumerate(snapshot.not_done, _FIRST_NUMBER):
        add(number, "", SIGNS[entry.tone], entry.text)
    return rows


def category_rows(overview: ProjectOverview) -> list[tuple[str, ...]]:
    """Return the categories as rows."""
    return [
        (
            category.name or "(none)", f"{category.num_records:,}", percent(category.num_ok, category.num_records),
            percent(category.num_labelled, category.num_records),
            "/".join(str(number) if number < _THOUSANDS else f"{number / 1000:.0f}k" for number in category.splits),
        )
        for category in overview.categories
    ]  # fmt: skip


def dataset(project: Project, overview: ProjectOverview) -> Text:
    """Return how many records there are, in which state, and how long they are."""
    settings = project.settings
    name = settings.about.title or (project.file or project.root.resolve()).name
    text = Text.assemble(
        ("DATASET  ", "strong"), safe_text(name, 40), "  schema ",
        safe_text(settings.schema_, 30), "\n", f"  {'records':11}{overview.num_records:>9,}\n",
    )  # fmt: skip
    for name, word, style in _STATUSES:
        number = overview.statuses.get(name)
        if number is None:
            continue
        share = number / overview.num_records if overview.num_records else 0.0
        text.append(f"  {word:11}", style).append(f"{number:>9,} ")
        text.append(bar(share, _BAR), style).append(f" {percent(number, overview.num_records):>4}\n")
    if "ok" not in overview.statuses:
        text.append("  not validated yet: r counts errors and repeats\n", "muted")
    if overview.num_unread:
        verb = "is no record" if overview.num_unread == 1 else "are no records"
        text.append(f"  {counted(overview.num_unread, 'line')} that {verb}\n", "error")
    if overview.num_elsewhere:
        text.append(f"  {counted(overview.num_elsewhere, 'finding')} about no single record\n", "muted")
    if overview.lengths:
        lengths = overview.lengths
        text.append(
            f"  ~tokens a record  p50 {lengths.median:,}  p95 {lengths.percentile_95:,}  max {lengths.longest:,}\n"
        )
        text.append(f"  {columns(lengths.bins)}", "accent").append(f"  0 to {lengths.top:,}\n", "muted")
    text.rstrip()
    return text


def aside(snapshot: HomeView) -> Text:
    """Return what was decided last, and whether its answer is hidden; the runs and what they come to; the machine."""
    text = Text.assemble(("RECENT ACTIVITY", "strong"), "\n")
    for act in snapshot.acts:
        text.append_text(_act_line(act)).append(" (u)\n" if act.is_next_undone else "\n")
    text.append("" if snapshot.acts else "  nothing decided yet\n").append("\nRUNS\n", "strong")
    for run in snapshot.runs:
        score = safe_text(snapshot.scores.get(run.id, ""))
        text.append_text(Text.assemble("  ", safe_text(run.id, 24, "accent"), f"  {run.standing}  ", score, "\n"))
    text.append("" if snapshot.runs else "  none yet\n")
    overview = snapshot.overview
    changed = "" if overview.num_changed is None else f"   git {counted(overview.num_changed, 'file')} changed"
    text.append(f"\ndisk {overview.disk_free / 1e9:,.0f} GB free{changed}", "muted")
    for remark in snapshot.remarks:
        text.append_text(Text.assemble("\n", ("~ warn ", "warn"), safe_text(remark, 300)))
    return text


def _act_line(act: Act) -> Text:
    """Return one decision as the log has it, and of many at once how many they are."""
    if act.num_events == 1:
        return event_line(act.event, is_hidden=act.is_hidden, is_redo=act.is_redo)
    what = f"{'did again decisions on' if act.is_redo else _DONE[act.event.op]} {counted(act.num_events, 'record')}"
    return Text.assemble(f"  {act.event.at[11:16]} ", safe_text(act.event.by, 12), f"  {what}")


def welcome(root: Path, remarks: Sequence[str]) -> Text:
    """Return what a folder that is no workspace is told, with what is to be known of it."""
    text = Text.assemble(
        ("This folder is no workspace yet", "strong"), ": ", safe_text(str(root.resolve()), 200, "accent"), "\n\n",
        "A workspace is a folder with curate.toml, record files below data, and the journal of everybody's decisions.\n"
        "Nothing is written here before you choose a line and say yes.\n",
    )  # fmt: skip
    for remark in remarks:
        text.append_text(Text.assemble("\n", ("~ warn ", "warn"), safe_lines(remark), "\n"))
    return text
