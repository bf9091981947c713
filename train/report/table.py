"""The report as a table for the terminal."""

from __future__ import annotations

from unicodedata import combining, east_asian_width

from train.report import wording
from train.report.model import CategoryResult, Report
from train.say import visible

_LONGEST_NAME = 32
_HEADS = ("category", "n", "metric", "base", "tuned", "change", "95 %", "p", "verdict")
_ALIGNED_RIGHT = {"n", "base", "tuned", "change", "p"}


def table(report: Report, *, sides: tuple[str, str] = ("base", "tuned")) -> str:
    """Return the results by category of the split whose verdicts count, with notes, as text without colour.

    ``sides`` names what is compared, where it is not the base and the tuned model of one run.
    """
    main = report.main()
    rows = [_row(one) for one in main.categories]
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
                "",
            )
        )
    widths = [max(_width(row[i]) for row in (_HEADS, *rows)) for i in range(len(_HEADS))]
    rule = "  ".join("-" * width for width in widths)
    lines = [_title(report, sides), "", _line(_HEADS, widths), rule]
    lines += [_line(row, widths) for row in rows[: len(main.categories)]]
    if main.macro is not None:
        lines += [rule, _line(rows[-1], widths)]
    if report.forgetting is not None:
        lines += ["", visible(report.forgetting.sentence)]
    if report.notes or report.remarks:
        lines += ["", *(f"note: {visible(note)}" for note in report.notes + report.remarks)]
    return "\n".join(line.rstrip() for line in lines)


def _title(report: Report, sides: tuple[str, str]) -> str:
    split = report.headline
    if sides == ("base", "tuned"):
        return f"{visible(report.run.id)}: base against tuned on the {split} split"
    return f"base = {visible(sides[0])}, tuned = {visible(sides[1])}, on the {split} split"


def _row(one: CategoryResult) -> tuple[str, ...]:
    is_share = one.higher_is_better
    name = visible(one.category).replace("\n", " ").replace("\t", " ") or wording.NO_CATEGORY
    return (
        name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026",
        str(one.n),
        wording.label(one),
        wording.number(one.base.value, is_share=is_share),
        wording.number(one.tuned.value, is_share=is_share),
        wording.number(one.difference.value, is_share=is_share, sign=True),
        wording.spread(one.difference, is_share=is_share, sign=True),
        _bare(one.p_adjusted),
        one.verdict,
    )


def _bare(p: float) -> str:
    return wording.p_value(p).removeprefix("p ").removeprefix("= ")


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = []
    for head, cell, width in zip(_HEADS, cells, widths, strict=True):
        blank = " " * (width - _width(cell))
        padded.append(blank + cell if head in _ALIGNED_RIGHT else cell + blank)
    return "  ".join(padded)


def _width(text: str) -> int:
    """Return how many columns a terminal gives ``text``."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
