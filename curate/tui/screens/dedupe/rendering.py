"""What the Dedupe screen shows of a cluster: two of its records beside one another, and lines about both."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from curate.base.record import Record, estimated_tokens
from curate.base.tables import counted
from curate.project.blind import HIDDEN
from curate.project.diff.words import text_of
from curate.project.journal import CATEGORY
from curate.sessions.cluster_review import Choice, Summary
from curate.sessions.clusters import ClusterMember, RecordComparison, ReviewCluster
from curate.tui.answer_pair import marked
from curate.tui.border import safe_text

if TYPE_CHECKING:
    from curate.project.project import Project

MOST_FIELDS = 3
_MOST_NAMED = 2
_WORDS = {"keep": "keep A", "merge": "merge into A", "drop": "drop B", "leave": "leave"}


@dataclass(frozen=True)
class ViewedPair:
    """Two records that are looked at, with how they compare; ``frozen`` is the golden test set."""

    left: ClusterMember
    right: ClusterMember
    comparison: RecordComparison
    frozen: Collection[str]


def head_line(cluster: ReviewCluster, index: int, count: int, choice: Choice | None) -> Text:
    """Return the line that says which cluster this is."""
    numbers = "  ".join(
        f"{kind} {cluster.count(kind)}" for kind in ("exact", "near", "conflict") if cluster.count(kind)
    )
    size = counted(len(cluster.members), "record")
    text = Text(no_wrap=True, end="")
    text.append(f"cluster {index + 1:,}/{count:,}  ", "strong")
    standing = f"all in {cluster.splits[0]}" if cluster.splits else "not split yet"
    if cluster.splits and any(member.split is None for member in cluster.members):
        standing = f"in {cluster.splits[0]} and no split"
    text.append_text(Text("! LEAK cross-split", "error") if cluster.is_leak else Text(standing, "muted"))
    text.append(f"  {size}  likeness {cluster.score:.2f}  {numbers}")
    if choice:
        text.append(f"  staged: {_WORDS[choice.what] if choice.what != 'keep' else 'keep'}", "accent")
    return text


def first_change(table: Table, console: Console) -> int:
    """Return the line, from 0, of the first changed word in what `pair_table` made; 0 where there is none."""
    lines = console.render_lines(table, console.options.update(width=table.width or 0, height=None))
    changed = console.get_style("added")
    has_change = (any(segment.style == changed for segment in line) for line in lines)
    return next((number for number, is_first in enumerate(has_change) if is_first), 0)


def pair_table(pair: ViewedPair, choice: Choice | None, project: Project, width: int, *, is_narrow: bool) -> Table:
    """Return both records in ``width`` cells, part by part, so that what belongs together stands at one height.

    Of category and labels it has what the annotator of ``project`` may see.
    """
    # Of an odd number one cell parts the two sides, and both are as wide.
    table = Table.grid(expand=True, padding=(0, 1))
    table.width = max(3, width - (width + 1) % 2)
    for _ in range(1 if is_narrow else 2):
        table.add_column(ratio=1, overflow="fold")
    sides = [_title("A", pair.left, choice, pair.frozen), _title("B", pair.right, choice, pair.frozen)]
    _add(table, sides, is_narrow=is_narrow)
    for part in pair.comparison.parts:
        name = Text.assemble("\n", (safe_text(part.name.upper() or "TEXT", 20)), ("  same" if part.is_same else ""))
        if is_narrow:
            table.add_row(name)
            table.add_row(Text.assemble(("A  ", "strong"), marked(part.left)))
            table.add_row(
                Text("B  the same", "muted") if part.is_same else Text.assemble(("B  ", "strong"), marked(part.right))
            )
        else:
            table.add_row(name, name)
            table.add_row(marked(part.left), marked(part.right))
    if pair.comparison.num_omitted:
        table.add_row(Text(f"not shown: {counted(pair.comparison.num_omitted, 'more message')}", "warn"))
    table.add_row("")
    _add(table, [_facts(pair.left.record, project), _facts(pair.right.record, project)], is_narrow=is_narrow)
    return table


def _add(table: Table, sides: Sequence[Text], *, is_narrow: bool) -> None:
    if is_narrow:
        for side in sides:
            table.add_row(side)
    else:
        table.add_row(*sides)


def _title(letter: str, member: ClusterMember, choice: Choice | None, frozen: Collection[str]) -> Text:
    text = Text.assemble(
        (f"{letter} ", "strong"), safe_text(member.id, 40, "accent"), f"  {member.split or 'no split'}"
    )
    if member.id in frozen:
        text.append(" (frozen)", "warn")
    if member.is_wanted:
        text.append("  wanted", "muted")
    if choice and choice.what in ("keep", "merge") and member.id == choice.keeper:
        text.append("  *keeper*", "ok")
    if choice and member.id in choice.gone:
        text.append("  x dropped", "dropped")
    return text


def _facts(record: Record, project: Project) -> Text:
    visible, hidden = project.visible_record(record)
    values = {question: text_of(value) for question, value in visible.labels.items()}
    labels = ", ".join(f"{question}={value}" for question, value in (values | dict.fromkeys(hidden, HIDDEN)).items())
    category = visible.category or (HIDDEN if CATEGORY in hidden else "-")
    text = Text.assemble("category ", safe_text(category, 24), f"  tokens ~{estimated_tokens(record):,}")
    return text.append_text(Text.assemble("  labels ", safe_text(labels or "-", 60)))


def field_lines(comparison: RecordComparison) -> Text:
    """Return how many fields differ, and the first of them with both values."""
    text = Text(no_wrap=True, end="")
    text.append(f"field diff: {comparison.num_differing:,} of {comparison.num_fields:,} fields differ", "strong")
    text.append("   [..] marks changed words", "muted")
    for change in comparison.changes[:MOST_FIELDS]:
        text.append_text(
            Text.assemble(
                "\n  ", safe_text(change.pointer or "/", 30), "  ", _words(change.left), " -> ", _words(change.right)
            )
        )
    if rest := len(comparison.changes) - MOST_FIELDS:
        text.append(f"\n  and {rest:,} more" if rest > 0 else "", "muted")
    return text


# Return the words that one side has and the other has not; a dash where it has none.
def _words(words: str | None) -> Text:
    return Text("-", "muted") if not words else safe_text(words, 30)


def members_line(cluster: ReviewCluster, left: str, right: str) -> Text:
    """Return who else is in the cluster, and which pair this is."""
    names = [member.id for member in cluster.members]
    pair = f"{names.index(left) + 1}-{names.index(right) + 1}"
    if len(names) == 2:
        return Text("the pair is the whole cluster", "muted", no_wrap=True, end="")
    text = Text(f"pair {pair} of {len(names):,} records (tab: the next)", no_wrap=True, end="")
    others = [member for member in cluster.members if member.id not in (left, right)]
    for member in others[:_MOST_NAMED]:
        number = names.index(member.id) + 1
        split_text = f" {member.split}" if member.split else ""
        text.append_text(
            Text.assemble((f"  {number} ", "strong"), safe_text(member.id, 12), f"{split_text} {member.state}")
        )
    if len(others) > _MOST_NAMED:
        text.append("  ...", "muted")
    return text


def plan_line(summary: Summary, num_left: int) -> Text:
    """Return what is staged so far."""
    text = Text("staged: ", "strong", no_wrap=True, end="")
    text.append(", ".join(f"{number:,} {what}" for what, number in summary.counts.items() if number) or "nothing")
    if summary.num_gone:
        text.append(f"; {counted(summary.num_gone, 'record')} will be dropped")
    if summary.num_leaks_fixed:
        text.append(f"; {counted(summary.num_leaks_fixed, 'leak')} fixed")
    if num_left:
        text.append(f"; {counted(num_left, 'cluster')} left alone earlier", "muted")
    return text


def advice_line(pair: ViewedPair) -> Text:
    """Return what is to be said where the two are in different splits."""
    left, right = pair.left, pair.right
    if left.split is None or right.split is None or left.split == right.split:
        return Text("", end="")
    frozen = [letter for letter, member in (("A", left), ("B", right)) if member.id in pair.frozen]
    exam = "B" if left.split == "train" else "A"
    advice = (
        f"{frozen[0]} is in the frozen test set, drop the other"
        if len(frozen) == 1
        else f"drop {exam}, or move it in Split"
    )
    warning = f"LEAK  A is in {left.split}, B in {right.split}: {advice}."
    return Text.assemble(("! ", "error"), warning, no_wrap=True, end="")


def leak_line(pair: ViewedPair) -> Text:
    """Return the line above a training record and an exam record that are no cluster."""
    source, exam = (
        f"{member.id} ({member.split})" if member.split else member.id for member in (pair.left, pair.right)
    )
    return Text.assemble("leak pair: ", safe_text(f"{source} gives away {exam}", 80), ("  esc goes back", "muted"))
