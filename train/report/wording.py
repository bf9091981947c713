"""Numbers and verdicts in plain words, the same in every form of the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from train.report.model import CategoryResult, Estimate, Macro
from train.report.stats import Reason, Word

MINUS = "\u2212"
NO_CATEGORY = "(no category)"
VERDICTS: Mapping[Reason, tuple[str, str, str]] = {
    "better": ("+", "improved", "better beyond chance"),
    "worse": ("!", "regressed", "worse beyond chance"),
    "within-noise": ("~", "inconclusive", "within noise"),
    "within-margin": ("=", "within margin", "worse beyond chance by less than the margin"),
    "too-few": ("?", "too few", "fewer independent records than a verdict takes"),
}
"""What each verdict is called, by its reason: mark, word, meaning; `curate.project.feedback` has the same."""
BEYOND_CHANCE = "Beyond chance: 95 % interval without 0, p < .05 (Holm)."
_OF_WORDS: Mapping[Word, Reason] = {"improved": "better", "regressed": "worse", "inconclusive": "within-noise"}
"""Of a report that an earlier version wrote, which gives no reasons."""


def number(value: float | None, *, is_share: bool = True, sign: bool = False) -> str:
    """Return ``value`` with two decimals; a share in [-1, 1] without its leading zero, as papers print it."""
    if value is None:
        return "-"
    text = f"{abs(value):.2f}"
    if is_share and text.startswith("0."):
        text = text[1:]
    is_zero = float(text) == 0
    return ("" if is_zero else MINUS if value < 0 else "+" if sign else "") + text


def p_value(p: float) -> str:
    """Return "p < .001" or "p = .04"."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.1 else f"p = {p:.2f}".replace("0.", ".")


def verdict(result: CategoryResult | Macro, fewest: int) -> str:
    """Return a verdict as "+ improved" or, with its counts, "? too few (24 of 30)"; "" where a report has none."""
    reason = _reason(result)
    if reason is None:
        return ""
    mark, word, _ = VERDICTS[reason]
    return f"{mark} {word}" + (f" ({result.num_clusters} of {fewest})" if reason == "too-few" else "")


def legend(results: Collection[CategoryResult | Macro]) -> str:
    """Return what the verdicts on ``results`` mean, those that occur, in one line."""
    reasons = {_reason(result) for result in results}
    meanings = [f"{mark} {word}, {meaning}" for key, (mark, word, meaning) in VERDICTS.items() if key in reasons]
    return f"Verdicts: {'; '.join(meanings)}. {BEYOND_CHANCE}"


def verdict_counts(results: Collection[CategoryResult]) -> list[tuple[str, int]]:
    """Return how many of ``results`` there are by the word of their verdict: the usual three, and others that occur."""
    reasons = [_reason(result) for result in results]
    return [
        (word, reasons.count(key))
        for key, (_, word, _) in VERDICTS.items()
        if key in _OF_WORDS.values() or key in reasons
    ]


def _reason(result: CategoryResult | Macro) -> Reason | None:
    return result.reason or (None if result.verdict is None else _OF_WORDS[result.verdict])


def percent(share: float, *, sign: bool = False) -> str:
    """Return a share as a percentage with one decimal."""
    text = f"{abs(share) * 100:.1f}"
    return ("" if float(text) == 0 else MINUS if share < 0 else "+" if sign else "") + text + " %"


def spread(estimate: Estimate, *, is_share: bool = True, sign: bool = False) -> str:
    """Return the interval of ``estimate`` as ".21 to .44"."""
    low, high = (number(value, is_share=is_share, sign=sign) for value in (estimate.low, estimate.high))
    return f"{low} to {high}"


def category(name: str) -> str:
    """Return what a category is called; the empty name gets one."""
    return name or NO_CATEGORY


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
    text = f"{category(result.category)} {verb} {route}{unit} ({numbers})"
    if result.verdict != "inconclusive":
        return f"{text}."
    mde = result.minimum_detectable_effect
    power = "" if mde is None else f"; a change of {number(mde)} could have been shown"
    return f"{text}: {result.note}{power}."


def macro_sentence(macro: Macro) -> str:
    """Return the mean over categories as a sentence."""
    return (
        f"Mean of {macro.num_categories} categories: {number(macro.base.value)} before, "
        f"{number(macro.tuned.value)} after ({number(macro.difference.value, sign=True)}, "
        f"95 % {spread(macro.difference, sign=True)}, {p_value(macro.p)})."
    )


def label(result: CategoryResult) -> str:
    """Return the metric of a category, marked where it is only the default."""
    return f"{result.metric} (default)" if result.is_default_metric else result.metric
