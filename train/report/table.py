"""The report as a table for the terminal."""

from __future__ import annotations

import textwrap
from unicodedata import combining, east_asian_width

from train.base.console import visible
from train.report import wording
from train.report.model import CategoryResult, Flips, Report

_LONGEST_NAME = 32
_HEADS = ("category", "n", "metric", "base", "tuned", "change", "95 %", "p", "verdict")
_GIVEN_UP = ("metric", "p")
"""Columns that a narrow terminal leaves out, in this order; the files of the report have them all."""
_ALIGNED_RIGHT = {"n", "base", "tuned", "change", "p"}


def table(report: Report, *, sides: tuple[str, str] = ("base", "tuned"), columns: int | None = None) -> str:
    """Return the results by category of the split whose verdicts count, with notes, as text without colour.

    ``sides`` names what is compared, where it is not the base and the tuned model of one run. In a terminal of
    ``columns`` the metric and then the p value are left out where they do not fit, and prose is wrapped.
    """
    main = report.main()
    rows = [_row(result, report.fewest) for result in main.categories]
    if main.macro is not None:
        macro = main.macro
        rows.append(
            (
                "MEAN",
                "",
                f"{macro.num_categories} categories",
                wording.number(macro.base.value),
                wording.number(macro.tuned.value),
                wording.number(macro.difference.value, sign=True),
                wording.spread(macro.difference, sign=True),
                _bare(macro.p),
                wording.verdict(macro, report.fewest),
            )
        )
    everything = [_HEADS, *rows]
    widths = [max(_width(row[column]) for row in everything) for column in range(len(_HEADS))]
    chosen = list(range(len(widths)))
    for name in _GIVEN_UP:
        if columns is not None and sum(widths[column] for column in chosen) + 2 * (len(chosen) - 1) > columns:
            chosen.remove(_HEADS.index(name))
    rule = "  ".join("-" * widths[column] for column in chosen)
    lines = [_title(report, sides), "", _line(_HEADS, widths, chosen), rule]
    lines += [_line(row, widths, chosen) for row in rows[: len(main.categories)]]
    if main.macro is not None:
        lines += [rule, _line(rows[-1], widths, chosen)]
    lines += ["", *_prose(wording.legend(main.results()), columns)]
    if report.forgetting is not None:
        lines += ["", *_prose(report.forgetting.sentence, columns)]
        for remedy in report.forgetting.remedies:
            lines += [*_prose(f"next: {remedy.text}", columns), *(f"    {line}" for line in remedy.lines)]
    for measured in (report.noise, report.judged):
        if measured is not None:
            lines += ["", *_prose(measured.sentence, columns)]
    if report.notes or report.remarks:
        lines.append("")
    for note in report.notes + report.remarks:
        lines += _prose(f"note: {note}", columns)
    return "\n".join(line.rstrip() for line in lines)


def flip_lines(flips: Flips) -> list[str]:
    """Return the validation records that went from wrong to right and back, one a line, those that moved most first."""
    lines = [f"On validation {flips.num_fixed} records went from wrong to right and {flips.num_broken} back."]
    for word, some in (("fixed", flips.fixed), ("broken", flips.broken)):
        for flip in some:
            name, category = (visible(text).replace("\n", " ") for text in (flip.id, flip.category))
            scores = f"{wording.number(flip.score_base)} to {wording.number(flip.score_tuned)}"
            lines.append(f"  {word:6}  {name}  {wording.category(category)}  {scores}")
    hidden = flips.num_fixed + flips.num_broken - len(flips.fixed) - len(flips.broken)
    return [*lines, f"  and {hidden} more"] if hidden else lines


def _prose(text: str, columns: int | None) -> list[str]:
    return [visible(text)] if columns is None else textwrap.wrap(visible(text), max(20, columns))


def _title(report: Report, sides: tuple[str, str]) -> str:
    split = report.headline
    if sides == ("base", "tuned"):
        return f"{visible(report.run.id)}: base against tuned on the {split} split"
    return f"base = {visible(sides[0])}, tuned = {visible(sides[1])}, on the {split} split"


def _row(result: CategoryResult, fewest: int) -> tuple[str, ...]:
    is_share = result.higher_is_better
    name = visible(wording.category(result.category)).replace("\n", " ").replace("\t", " ")
    return (
        name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026",
        str(result.n),
        wording.label(result),
        wording.number(result.base.value, is_share=is_share),
        wording.number(result.tuned.value, is_share=is_share),
        wording.number(result.difference.value, is_share=is_share, sign=True),
        wording.spread(result.difference, is_share=is_share, sign=True),
        _bare(result.p_adjusted),
        wording.verdict(result, fewest),
    )


def _bare(p: float) -> str:
    return wording.p_value(p).removeprefix("p ").removeprefix("= ")


def _line(cells: tuple[str, ...], widths: list[int], chosen: list[int]) -> str:
    padded = []
    for column in chosen:
        cell = cells[column]
        blank = " " * (widths[column] - _width(cell))
        padded.append(blank + cell if _HEADS[column] in _ALIGNED_RIGHT else cell + blank)
    return "  ".join(padded)


def _width(text: str) -> int:
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
