"""Numbers and verdicts in plain words, the same in every form of the report, and the tables that are made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from train.base.console import one_line
from train.report.model import CategoryResult, Estimate, Forgetting, Macro, Report, SplitResult, Unscored
from train.report.stats import Reason
from train.report.tables import ReportTable

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
"""Mark, word and meaning of each verdict, by its reason."""
MARGIN_REASONS: Sequence[Reason] = ("not-worse", "worse-by-margin", "cannot-tell")
"""Those of a verdict on whether a loss of the margin is ruled out, and not on whether anything changed."""
ONE_SEED = "One seed was trained: one run cannot tell luck of training from a gain, which --seeds 3 counts, too."
BASE_AGAINST_TUNED = "base against tuned"
BEYOND_CHANCE = "Beyond chance: 95 % interval without 0, p < .05 (Holm)."
Result = CategoryResult | Unscored | Macro


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


def percent(share: float, *, sign: bool = False) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{number(100 * share, is_share=False, sign=sign, decimals=1)} %"


def spread(estimate: Estimate, *, is_share: bool = True, sign: bool = False, decimals: int = 2) -> str:
    """Return the interval of ``estimate`` as ".21 to .44"."""
    ends = (estimate.low, estimate.high)
    return " to ".join(number(end, is_share=is_share, sign=sign, decimals=decimals) for end in ends)


def p_value(p: float) -> str:
    """Return "p < .001" or "p = .04"."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.1 else f"p = {p:.2f}".replace("0.", ".")


def category(name: str) -> str:
    """Return what a category is called, on one line; the empty name gets one."""
    return one_line(name) or NO_CATEGORY


def names(names: Collection[str]) -> str:
    """Return the names of categories in one line."""
    return ", ".join(map(category, names))


def num_categories(macro: Macro) -> str:
    """Return over how many categories a mean is."""
    return "1 category" if macro.num_categories == 1 else f"{macro.num_categories} categories"


def metric_of(result: CategoryResult) -> str:
    """Return the metric of a category, marked where it is only the default, or the scores of an uncalibrated judge."""
    name = "uncalibrated judge" if result.metric == "judge" and result.is_uncalibrated else result.metric
    return f"{name} (default)" if result.is_default_metric else name


def count_of(num: int, num_left_out: int) -> str:
    """Return how many records count, and of how many where some are left out."""
    return f"{num} of {num + num_left_out}" if num_left_out else str(num)


def trivial(result: CategoryResult) -> str:
    """Return what a model that has learnt nothing does in a category, and what it scores."""
    label = result.trivial_answer
    what = "a copy of the prompt" if label is None else f"always saying {one_line(label)!r}"
    return f"{what} ({number(result.trivial)})"


def verdict(result: Result, fewest: int) -> str:
    """Return a verdict as "+ improved" or, with its counts, "? too few (24 of 30)"; "" where there is none."""
    if result.reason is None:
        return ""
    counts = (
        f" ({count_of(result.n, result.num_unanswered)})"
        if isinstance(result, CategoryResult) and result.num_unanswered
        else ""
    )
    counts = f" ({result.num_clusters} of {fewest})" if result.reason == "too-few" else counts
    return " ".join(VERDICTS[result.reason][:2]) + counts


def legend(results: Sequence[Result]) -> str:
    """Return what the verdicts on ``results`` mean, those that occur, and what is trivial, in one line."""
    reasons = {result.reason for result in results}
    meanings = [f"{mark} {word}, {meaning}" for key, (mark, word, meaning) in VERDICTS.items() if key in reasons]
    known = [row for row in results if isinstance(row, CategoryResult) and row.trivial is not None]
    rivals = "; ".join(dict.fromkeys(f"in {category(row.category)} {trivial(row)}" for row in known))
    return f"Verdicts: {'; '.join(meanings)}. {BEYOND_CHANCE}" + (f" Trivial: {rivals}." if rivals else "")


def sentence(result: CategoryResult) -> str:
    """Return one category's result as a sentence that a reader without statistics can take as it stands."""
    is_share, change = result.higher_is_better, result.difference
    before, after = (number(side.value, is_share=is_share) for side in (result.base, result.tuned))
    if before == after:
        verb, route = "stayed at", after
    else:
        verb, route = "rose" if change.value > 0 else "fell", f"from {before} to {after}"
    unit = "" if is_share else " bits per byte"
    judged = ", by an uncalibrated judge" if result.metric == "judge" and result.is_uncalibrated else ""
    figures = _figures(change, result.p_adjusted, is_share=is_share)
    text = f"{category(result.category)} {verb} {route}{unit}{judged} (n = {result.n}, {figures})"
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


def _figures(change: Estimate, p: float, *, is_share: bool = True) -> str:
    value = number(change.value, is_share=is_share, sign=True)
    return f"{value}, 95 % {spread(change, is_share=is_share, sign=True)}, {p_value(p)}"


def summary(split: SplitResult) -> str:
    """Return the mean over categories, and how many of them have which verdict, in one line."""
    counts = Counter(VERDICTS[row.reason][1] for row in split.rows() if row.reason)
    words = f"{', '.join(f'{num} {word}' for word, num in counts.most_common())}."
    if (mean := split.macro) is None:
        return words
    return (
        f"Mean of {num_categories(mean)}: {number(mean.base.value)} before, {number(mean.tuned.value)} after "
        f"({_figures(mean.difference, mean.p)}); {words}"
    )


_OF_RECORDS = ("flips", "conclusions")
"""Tables of what records alone tell."""


def with_words(report: Report) -> Report:
    """Return ``report`` with the label and the sentence of each verdict, and with the tables that follow from its data.

    Of its present tables those stay that records alone tell.
    """

    def told(split: SplitResult) -> SplitResult:
        rows = [
            row.model_copy(update={"label": verdict(row, report.fewest), "sentence": sentence(row)})
            for row in split.categories
        ]
        unscored = [row.model_copy(update={"label": verdict(row, report.fewest)}) for row in split.unscored]
        mean = split.macro and split.macro.model_copy(update={"label": verdict(split.macro, report.fewest)})
        return split.model_copy(update={"categories": rows, "unscored": unscored, "macro": mean})

    others = [part.model_copy(update={"splits": list(map(told, part.splits))}) for part in report.others]
    kept = [table for table in report.tables if table.part in _OF_RECORDS]
    report = report.model_copy(update={"splits": list(map(told, report.splits)), "others": others, "tables": kept})
    return report.with_tables([*result_tables(report), *_forgetting_tables(report), *_further_tables(report)])


HEADS = ("category", "n", "metric", "trivial", "base", "tuned", "change", "95 %", "p", "verdict")
_IN_FILES = ("clusters", "base 95 %", "tuned 95 %", "up, down", "test", "finds", "other scores", "note")
_LONGEST_NAME = 32


def result_tables(report: Report) -> Iterator[ReportTable]:
    """Yield the results by category, of each model against the reference: those whose verdicts count come first."""
    shown = [(part, split) for part in report.pairs() for split in part.splits if split.split == report.headline]
    hidden = [(part, split) for part in report.pairs() for split in part.splits if split.split != report.headline]
    for part, split in shown + hidden:
        results, reference = split.results(), report.models[0].name
        asked = any(row.reason in MARGIN_REASONS for row in results)
        question = f": is a loss of {number(report.margin)} ruled out?" if asked else ""
        sides = (
            BASE_AGAINST_TUNED if (reference, part.name) == ("base", "tuned")
            else reference if len(report.models) == 1 else f"base = {reference}, tuned = {part.name},"
        )  # fmt: skip
        questions = [sentence(row) for row in split.categories if row.reason == "cannot-tell"]
        found = ReportTable(
            part="results", title=f"{sides} on the {split.split} split{question}", heads=HEADS + _IN_FILES,
            rows=[[*cells(row, report.fewest), *_file_cells(row)] for row in results], files_only=_IN_FILES,
            sentences=[legend(results), *dict.fromkeys(questions)], has_total=split.macro is not None,
            left=("metric", "95 %", "verdict", "base 95 %", "tuned 95 %", "test", "other scores", "note"),
            is_in_terminal=split.split == report.headline,
        )  # fmt: skip
        if len(report.models) == 1:
            # Beside itself it has scores alone.
            heads = ("category", "n", "metric", "trivial", "score", "clusters", "95 %")
            found = found.without([*HEADS[5:], *_IN_FILES[2:]])
            found = found.model_copy(update={"heads": heads, "files_only": (), "sentences": ()})
        yield found


def cells(result: Result, fewest: int) -> list[str]:
    """Return the cells of a result below `HEADS`."""
    if isinstance(result, Unscored):
        return [
            category(result.category),
            count_of(result.n, result.num_unscored),
            result.metric,
            *["-"] * 6,
            verdict(result, fewest),
        ]
    if isinstance(result, Macro):
        name, n, metric, p, is_share = "MEAN", "", num_categories(result), result.p, True
    else:
        n = count_of(result.n, result.num_unscored + result.num_unanswered)
        name, metric, p = category(result.category), metric_of(result), result.p_adjusted
        is_share = result.higher_is_better
    return [
        name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026", n, metric, number(result.trivial),
        number(result.base.value, is_share=is_share), number(result.tuned.value, is_share=is_share),
        number(result.difference.value, is_share=is_share, sign=True),
        # A margin of .02 lies too near to an end of -.019 for two decimals.
        spread(result.difference, is_share=is_share, sign=True, decimals=3 if result.reason in MARGIN_REASONS else 2),
        p_value(p).removeprefix("p ").removeprefix("= "), verdict(result, fewest),
    ]  # fmt: skip


def _file_cells(result: Result) -> list[str]:
    if isinstance(result, Unscored):
        return [""] * len(_IN_FILES)
    is_share = isinstance(result, Macro) or result.higher_is_better
    spreads = [spread(side, is_share=is_share) for side in (result.base, result.tuned)]
    if isinstance(result, Macro):
        return [str(result.num_clusters), *spreads, "", "sign-flip", "", "", ""]
    other = "; ".join(f"{name} {number(of.base)} → {number(of.tuned)}" for name, of in result.other.items())
    changes = f"{result.better}, {result.worse}"
    effect = number(result.minimum_detectable_effect)
    return [str(result.num_clusters), *spreads, changes, result.test, effect, other, result.note]


def _forgetting_tables(report: Report) -> Iterator[ReportTable]:
    sides = [(part.name, part.forgetting) for part in report.pairs() if part.forgetting is not None]
    for name, general in sides:
        whose = f"{name}: " if len(report.models) > 2 else ""
        yield ReportTable(part="forgetting", sentences=[whose + forgetting_text(general)])
        for remedy in general.remedies:
            yield ReportTable(part="forgetting", sentences=[f"next: {remedy.text}"], code=remedy.lines)


def forgetting_text(general: Forgetting) -> str:
    """Return what happened to general text, part by part, in one line."""
    if general.parts:
        return " ".join(map(forgetting_text, general.parts))
    base = general.base.value
    meaning = (
        general.why
        or {
            "forgot": "the model forgot some of what it knew",
            "held": "no forgetting beyond 1 %",
            "inconclusive": "forgetting beyond 1 % is neither shown nor ruled out",
        }[general.word]
    )
    change, low, high = (percent(end / base, sign=True) for end in (
        general.difference.value, general.difference.low, general.difference.high
    ))  # fmt: skip
    return (
        f"General text ({general.text and general.text + ', '}n = {general.n}) went from {base:.3f} to "
        f"{general.tuned.value:.3f} bits per byte ({change}, 95 % {low} to {high}): {meaning}."
    )


_BEHAVIOUR = {
    "stopped": "Ended by itself", "empty": "Empty", "repetition": "Repetition: share of word 4-grams said before",
    "length_ratio": "Length: characters, the reference being 1", "reasoning_tokens": "Reasoning: tokens an answer",
    "reasoning_cut": "Reasoning cut: its budget was spent",
}  # fmt: skip
_SHARES = ("stopped", "empty", "repetition", "reasoning_cut")


def _further_tables(report: Report) -> Iterator[ReportTable]:
    main = report.main()
    if main.behaviour is not None:
        rows = [[_BEHAVIOUR.get(name, name), *(percent(end) if name in _SHARES else number(end, is_share=False)
                 for end in (side.base, side.tuned))] for name, side in main.behaviour.means.items()]  # fmt: skip
        about = f"All {main.behaviour.n} completions of the {main.split} split; greedy decoding."
        heads = ("measure", "base", "tuned")
        yield ReportTable(
            part="behaviour", title="Behaviour", heads=heads, rows=rows, sentences=[about], is_in_terminal=False
        )
    spelled = [(category(row.category), row.bits_per_byte) for row in main.categories if row.bits_per_byte]
    bits = [[name, f"{change.base:.3f}", f"{change.tuned:.3f}"] for name, change in spelled]
    if bits:
        yield ReportTable(
            part="bits", title="Bits per byte", heads=("text", "base", "tuned"), rows=bits, is_in_terminal=False,
            sentences=["Code length of the references; lower is better. Comparable across tokenizers."],
        )  # fmt: skip
    yield ReportTable(part="words", title="In words", sentences=[row.sentence for row in main.categories],
                      is_in_terminal=False)  # fmt: skip
    if any(model.num_answers for model in report.models):
        yield _cost_table(report)


def facts_table(report: Report) -> ReportTable:
    """Return what made the numbers; pages alone show it, as its times are others when a run is made again."""
    run = report.run
    named = {"objective": run.objective, "method": run.method, "seed": run.seed, "device": run.device,
             "seconds": run.seconds, "created": run.created}  # fmt: skip
    facts = {**named, **run.settings, **run.versions, **run.digests}
    cells = [[name, str(value)] for name, value in facts.items() if value not in (None, "")]
    return ReportTable(part="run", title="What made these numbers", heads=("fact", "value"), rows=cells,
                       left=("value",), is_in_terminal=False)  # fmt: skip


def _cost_table(report: Report) -> ReportTable:
    def text(value: float | None, decimals: int) -> str:
        return "-" if value is None else f"{value:,.{decimals}f}"

    return ReportTable(
        part="costs", title="A thousand answers take:",
        heads=("model", "prompting", "answers", "seconds", "tokens", "cost"),
        rows=[
            [one_line(model.name), model.prompting or "-", f"{model.num_answers:,}", text(model.seconds, 1),
             text(model.new_tokens, 0), text(model.cost, 4)]
            for model in report.models
        ],
        left=("prompting",), given_up=("answers", "tokens"),
    )  # fmt: skip
