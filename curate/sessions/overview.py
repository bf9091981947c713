"""A project in figures: how many records, in which state, of which category, how long; each figure is counted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.git import GitError, ask_git
from curate.base.record import SPLITS, CurateError
from curate.project.feedback import read_results
from curate.project.journal import CATEGORY
from curate.project.labels import questions_of
from curate.sessions.runs.run import Run

if TYPE_CHECKING:
    import polars as pl

    from curate.project.project import Project

NUM_BINS = 8
STATUSES = ("ok", "warning", "error", "dropped")


@dataclass(frozen=True, slots=True)
class CategoryTally:
    """The records of one category that are not dropped; ``num_ok`` is None as long as nobody has validated them."""

    name: str
    num_records: int
    num_ok: int | None
    num_labelled: int
    splits: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LengthHistogram:
    """How long records are, in estimated tokens, and how many fall into each of `NUM_BINS` parts up to ``top``."""

    median: int
    percentile_95: int
    longest: int
    top: int
    bins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProjectOverview:
    """What `overview` counted.

    ``statuses`` has "dropped" always, and the other three only after a validation.
    """

    num_records: int
    num_unread: int
    statuses: dict[str, int]
    categories: Sequence[CategoryTally]
    num_unlabelled: int
    num_unsplit: int
    lengths: LengthHistogram | None
    disk_free: int
    """Bytes."""
    num_changed: int | None
    """Files that git sees changed; None where git does not tell."""


def overview(project: Project, *, has_findings: bool) -> ProjectOverview:
    """Count the records of ``project``; a second or two for a million of them, so call it in a thread.

    With ``has_findings`` the catalogue's statuses come from a validation; without, nothing is known of what is in.
    Categories are counted as the annotator may see them; see `curate.project.labels.blind`.

    Raises:
        CurateError: E902 for a question that is called as notes or flags are.
    """
    # A screen without records must not wait for it.
    import polars as pl

    frame = project.catalog.frame(["category", "split", "status", "tokens", "labels"])
    answered = [_answered(question.name) for question in questions_of(project.settings)]
    frame = frame.with_columns(is_labelled=pl.all_horizontal(answered))
    statuses = {name: int((frame["status"] == name).sum()) for name in STATUSES}
    included = frame.filter(pl.col("status") != "dropped")
    return ProjectOverview(
        num_records=len(frame),
        num_unread=project.catalog.num_unread,
        statuses=statuses if has_findings else {"dropped": statuses["dropped"]},
        categories=_categories(included, has_findings=has_findings),
        num_unlabelled=int((~included["is_labelled"]).sum()),
        num_unsplit=int((included["split"] == "").sum()),
        lengths=_lengths(included["tokens"]),
        disk_free=disk_free(project.root),
        num_changed=_num_changed(project),
    )


def _answered(question: str) -> pl.Expr:
    """Return whether somebody has answered ``question``; the category may also be written in the line."""
    import polars as pl

    is_answered = pl.col("labels").list.eval(pl.element().struct.field("question") == question).list.any()
    return is_answered | (pl.col("category") != "") if question == CATEGORY else is_answered


def _categories(included: pl.DataFrame, *, has_findings: bool) -> list[CategoryTally]:
    import polars as pl

    counts = (
        included.group_by("category")
        .agg(
            pl.len().alias("n"),
            (pl.col("status") == "ok").sum().alias("ok"),
            pl.col("is_labelled").sum().alias("labelled"),
            *((pl.col("split") == name).sum().alias(name) for name in SPLITS),
        )
        .sort(["n", "category"], descending=[True, False])
    )
    return [
        CategoryTally(name, number, num_ok if has_findings else None, labelled, (train, validation, test))
        for name, number, num_ok, labelled, train, validation, test in counts.iter_rows()
    ]


def _lengths(tokens: pl.Series) -> LengthHistogram | None:
    if not len(tokens):
        return None
    median, high, longest = (int(tokens.quantile(share, "nearest") or 0) for share in (0.5, 0.95, 1.0))
    top = max(NUM_BINS, 2 ** (longest - 1).bit_length() if longest > 1 else 1)
    width = top // NUM_BINS
    bins = (tokens.cast(int) // width).clip(0, NUM_BINS - 1).value_counts()
    by_bin: dict[int, int] = dict(bins.iter_rows())
    return LengthHistogram(median, high, longest, top, tuple(by_bin.get(number, 0) for number in range(NUM_BINS)))


def disk_free(root: Path) -> int:
    """Return how many bytes may still be written where ``root`` lies."""
    return shutil.disk_usage(root).free


def _num_changed(project: Project) -> int | None:
    try:
        changes = ask_git(project.root, ["status", "--porcelain", "--", "."])
    except GitError:
        return None
    return len(changes.splitlines())


def scores(runs: Sequence[Run]) -> dict[str, str]:
    """Return, for each run that has a report, its mean over the categories and what training changed; or what is wrong.

    The split is the one whose verdicts count, as the report says.
    """
    return {run.id: _score(run) for run in runs if run.has_report}


def _score(run: Run) -> str:
    try:
        report = read_results(run.folder).report
    except CurateError as error:
        return f"{error.code}: its report cannot be read"
    macro = next((part["macro"] for part in report["splits"] if part["split"] == report["headline"]), None)
    if macro is None:
        return "nothing was scored"
    return f"macro {macro['tuned']['value']:.2f} ({macro['difference']['value']:+.2f})"
