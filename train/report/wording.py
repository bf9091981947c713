"""Numbers and verdicts in plain words, the same in every form of the report, and their layout in a terminal.

The terminal UI of `curate` says the same verdicts in the same words, from `curate.project.feedback`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from unicodedata import combining, east_asian_width

from train.base.console import one_line, visible
from train.report.model import CategoryResult, Estimate, Flips, Macro, Unscored
from train.report.stats import Reason, VerdictLabel

MINUS = "\u2212"
NO_CATEGORY = "(no category)"
VERDICTS: Mapping[Reason, tuple[str, str, str]] = {
    "better": ("+", "improved", "better beyond chance"),
    "worse": ("!", "regressed", "worse beyond chance"),
    "within-noise": ("~", "inconclusive", "within noise"),
    "within-margin": ("=", "within margin", "worse beyond chance by less than the margin"),
    "too-few": ("?", "too few", "fewer independent records than a verdict takes"),
    "unanswered": ("?", "in part", "some records have no answer, which could change the verdict"),
    "chose": ("?", "no verdict", "these records chose the settings"),
    "trivial": ("~", "trivial", "better than base, and not shown to be better than the trivial answer"),
    "unscored": ("?", "not scored", "over 5 % of the records have no score, so there is no figure, and no mean"),
    "not-worse": ("=", "not worse", "the 95 % interval rules out a loss of the margin or more"),
    "worse-by-margin": ("!", "worse", "worse beyond chance, and by the margin or more"),
    "cannot-tell": ("?", "cannot tell", "a loss of the margin is not ruled out"),
}
"""What each verdict is called, by its reason: mark, word, meaning; `curate.project.feedback` has the same."""
MARGIN_REASONS: Sequence[Reason] = ("not-worse", "worse-by-margin", "cannot-tell")
"""Those of a verdict on whether a loss of the margin is ruled out, and not on whether anything changed."""
ONE_SEED = "One seed was trained: one run cannot tell luck of training from a gain, which --seeds 3 counts, too."
BEYOND_CHANCE = "Beyond chance: 95 % interval without 0, p < .05 (Holm)."
_OF_WORDS: Mapping[VerdictLabel, Reason] = {"improved": "better", "regressed": "worse", "inconclusive": "within-noise"}
"""Of a report that an earlier version wrote, which gives no reasons."""


def number(value: float | None, *, is_share: bool = True, sign: bool = False, decimals: int = 2) -> str:
    """Return ``value`` with so many ``decimals``; a share in [-1, 1] without its leading zero, as papers print it."""
    if value is None:
        return "-"
    # The rounded text decides, so that -0.001 is shown without a minus.
    text = f"{abs(value):.{decimals}f}"
    if is_share and text.startswith("0."):
        text = text[1:]
    is_zero = float(text) == 0
    return ("" if is_zero else MINUS if value < 0 else "+" if sign else "") + text


def p_value(p: float) -> str:
    """Return "p < .001" or "p = .04"."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.1 else f"p = {p:.2f}".replace("0.", ".")


Result = CategoryResult | Unscored | Macro


def verdict(result: Result, fewest: int) -> str:
    """Return a verdict as "+ improved" or, with its counts, "? too few (24 of 30)"; "" where a report has none."""
    reason = _reason(result)
    if reason is None:
        return ""
    mark, word, _ = VERDICTS[reason]
    counts = f" ({num_answered(result)})" if isinstance(result, CategoryResult) and result.num_unanswered else ""
    counts = f" ({result.num_clusters} of {fewest})" if reason == "too-few" else counts
    return f"{mark} {word}{counts}"


def num_answered(result: CategoryResult) -> str:
    """Return how many records of a category count, and of how many where some have no answer."""
    return f"{result.n} of {result.n + result.num_unanswered}" if result.num_unanswered else str(result.n)


def num_scored(result: CategoryResult | Unscored) -> str:
    """Return how many records of a category count, and of how many where some could not be scored."""
    return f"{result.n} of {result.n + result.num_unscored}" if result.num_unscored else str(result.n)


def trivial(result: CategoryResult) -> str:
    """Return what a model that has learnt nothing does in a category, and what it scores."""
    label = result.trivial_answer
    what = "a copy of the prompt" if label is None else f"always saying {one_line(label)!r}"
    return f"{what} ({number(result.trivial)})"


def legend(results: Collection[Result]) -> str:
    """Return what the verdicts on ``results`` mean, those that occur, and what is trivial, in one line."""
    reasons = {_reason(result) for result in results}
    meanings = [f"{mark} {word}, {meaning}" for key, (mark, word, meaning) in VERDICTS.items() if key in reasons]
    known = [row for row in results if isinstance(row, CategoryResult) and row.trivial is not None]
    rivals = "; ".join(dict.fromkeys(f"in {category(row.category)} {trivial(row)}" for row in known))
    return f"Verdicts: {'; '.join(meanings)}. {BEYOND_CHANCE}" + (f" Trivial: {rivals}." if rivals else "")


def margin_question(results: Collection[Result], margin: float) -> str:
    """Return how a heading ends where it is asked whether a loss of ``margin`` is ruled out; "" where it is not."""
    is_asked = any(result.reason in MARGIN_REASONS for result in results)
    return f": is a loss of {number(margin)} ruled out?" if is_asked else ""


def open_questions(results: Collection[Result]) -> list[str]:
    """Return the sentences on categories of which nobody can tell whether a loss is ruled out."""
    rows = [result for result in results if isinstance(result, CategoryResult)]
    return list(dict.fromkeys(row.sentence for row in rows if row.reason == "cannot-tell"))


def verdict_counts(results: Collection[Result]) -> list[tuple[str, int]]:
    """Return how many of ``results`` there are by the word of their verdict: the usual three, and others that occur."""
    reasons = [_reason(result) for result in results]
    return [
        (word, reasons.count(key))
        for key, (_, word, _) in VERDICTS.items()
        if key in _OF_WORDS.values() or key in reasons
    ]


def _reason(result: Result) -> Reason | None:
    return result.reason or (None if result.verdict is None else _OF_WORDS[result.verdict])


def percent(share: float, *, sign: bool = False) -> str:
    """Return a share as a percentage with one decimal."""
    text = f"{abs(share) * 100:.1f}"
    return ("" if float(text) == 0 else MINUS if share < 0 else "+" if sign else "") + text + " %"


def spread(estimate: Estimate, *, is_share: bool = True, sign: bool = False, decimals: int = 2) -> str:
    """Return the interval of ``estimate`` as ".21 to .44"."""
    low, high = (
        number(side, is_share=is_share, sign=sign, decimals=decimals) for side in (estimate.low, estimate.high)
    )
    return f"{low} to {high}"


def category(name: str) -> str:
    """Return what a category is called, on one line; the empty name gets one."""
    return one_line(name) or NO_CATEGORY


def num_categories(macro: Macro) -> str:
    """Return over how many categories a mean is."""
    return "1 category" if macro.num_categories == 1 else f"{macro.num_categories} categories"


def sentence(result: CategoryResult) -> str:
    """Return one category's result as a sentence that a reader without statistics can take as it stands."""
    is_share, change = result.higher_is_better, result.difference
    before, after = (number(side.value, is_share=is_share) for side in (result.base, result.tuned))
    if before == after:
        verb, route = "stayed at", after
    else:
        verb, route = "rose" if change.value > 0 else "fell", f"from {before} to {after}"
    unit = "" if is_share else " bits per byte"
    numbers = (
        f"n = {result.n}, {number(change.value, is_share=is_share, sign=True)}, "
        f"95 % {spread(change, is_share=is_share, sign=True)}, {p_value(result.p_adjusted)}"
    )
    judged = ", by an uncalibrated judge" if score_name(result.metric, result) != result.metric else ""
    text = f"{category(result.category)} {verb} {route}{unit}{judged} ({numbers})"
    if result.reason in MARGIN_REASONS:
        return f"{text}: {result.note}."
    if result.verdict != "inconclusive":
        return f"{text}."
    if result.reason == "trivial":
        return f"{text}: no better than {trivial(result)}."
    effect, power = result.minimum_detectable_effect, ""
    # Where nothing is shown the reader needs to know what the records could have shown.
    if result.reason == "within-noise" and is_share:
        few = "changed records and seeds" if result.test == "two-way t" else "changed records"
        shown = f"no change could have been shown with so few {few}"
        power = f"; {shown}" if effect is None else f"; a change of {number(effect)} could have been shown"
    return f"{text}: {result.note}{power}."


def macro_sentence(macro: Macro) -> str:
    """Return the mean over categories as a sentence."""
    return (
        f"Mean of {num_categories(macro)}: {number(macro.base.value)} before, "
        f"{number(macro.tuned.value)} after ({number(macro.difference.value, sign=True)}, "
        f"95 % {spread(macro.difference, sign=True)}, {p_value(macro.p)})."
    )


def label(result: CategoryResult) -> str:
    """Return the metric of a category, marked where it is only the default."""
    name = score_name(result.metric, result)
    return f"{name} (default)" if result.is_default_metric else name


def score_name(name: str, result: CategoryResult) -> str:
    """Return what one of a category's scores is called beside its figures."""
    return "uncalibrated judge" if name == "judge" and result.is_uncalibrated else name


_LONGEST_NAME = 32
HEADS = ("category", "n", "metric", "trivial", "base", "tuned", "change", "95 %", "p", "verdict")


def result_row(result: Result, fewest: int) -> tuple[str, ...]:
    """Return the cells of a result under `HEADS`."""
    if isinstance(result, Unscored):
        return category(result.category), num_scored(result), result.metric, *["-"] * 6, verdict(result, fewest)
    if isinstance(result, Macro):
        name, n, metric, p, is_share = "MEAN", "", num_categories(result), result.p, True
    else:
        name, n, metric, p = category(result.category), num_scored(result), label(result), result.p_adjusted
        is_share = result.higher_is_better
    return (
        name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026",
        n,
        metric,
        number(result.trivial),
        number(result.base.value, is_share=is_share),
        number(result.tuned.value, is_share=is_share),
        number(result.difference.value, is_share=is_share, sign=True),
        # A margin of .02 lies too near to an end of -.019 for two decimals.
        spread(result.difference, is_share=is_share, sign=True, decimals=3 if result.reason in MARGIN_REASONS else 2),
        p_value(p).removeprefix("p ").removeprefix("= "),
        verdict(result, fewest),
    )


def flip_lines(flips: Flips) -> list[str]:
    """Return the validation records that went from wrong to right and back, one a line, those that moved most first."""
    lines = [f"On validation {flips.num_fixed} records went from wrong to right and {flips.num_broken} back."]
    for word, some in (("fixed", flips.fixed), ("broken", flips.broken)):
        for flip in some:
            scores = f"{number(flip.score_base)} to {number(flip.score_tuned)}"
            lines.append(f"  {word:6}  {one_line(flip.id)}  {category(flip.category)}  {scores}")
    hidden = flips.num_fixed + flips.num_broken - len(flips.fixed) - len(flips.broken)
    return [*lines, f"  and {hidden} more"] if hidden else lines


def grid(
    heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None, *, right: Collection[str],
    given_up: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Return a table as lines: heads, a rule, and ``rows``; the columns ``right`` are aligned there.

    Where it is wider than ``columns``, those ``given_up`` are left out one by one.
    """
    widths = [max(_width(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    chosen = list(range(len(widths)))
    # Numbers are never cut, whole columns go: a cut number is a wrong number.
    for name in (name for name in given_up if name in heads):
        if columns is not None and sum(widths[column] for column in chosen) + 2 * (len(chosen) - 1) > columns:
            chosen.remove(heads.index(name))

    def line(row: Sequence[str]) -> str:
        blanks = {column: " " * (widths[column] - _width(row[column])) for column in chosen}
        return "  ".join(
            blanks[column] + row[column] if heads[column] in right else row[column] + blanks[column]
            for column in chosen
        )

    return [line(heads), "  ".join("-" * widths[column] for column in chosen), *map(line, rows)]


def prose(text: str, columns: int | None) -> list[str]:
    """Return a sentence as lines of at most ``columns``, made visible."""
    return [visible(text)] if columns is None else textwrap.wrap(visible(text), max(20, columns))


def _width(text: str) -> int:
    # In cells of the terminal: letters of East Asia take two, combining marks none.
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
