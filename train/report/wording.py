"""Numbers and verdicts in plain words, the same in every form of the report, and the tables that are made of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from train.base.console import one_line
from train.report.model import CategoryResult, Estimate, Forgetting, Report, SplitResult, Unscored
from train.report.stats import MIN_CLUSTERS, Reason
from train.report.tables import ReportTable

MINUS = "\u2212"
NO_CATEGORY = "(no category)"
VERDICTS: Mapping[Reason, tuple[str, str, str]] = {
    "better": ("+", "improved", "better beyond chance"),
    "worse": ("!", "regressed", "worse beyond chance"),
    "within-noise": ("~", "inconclusive", "within noise"),
    "within-margin": ("=", "within margin", "worse beyond chance by less than the margin"),
    "too-few": ("?", "too few", "fewer independent records than a verdict takes"),
    "unanswered": ("?", "in part", "not all records were answered"),
    "chose": ("?", "no verdict", "these records chose the settings"),
    "trivial": ("~", "trivial", "better than base, and not shown to be better than the trivial answer"),
    "unscored": ("?", "not scored", "over 5 % of the records have no score, so there is no figure, and no mean"),
    "not-worse": ("=", "not worse", "the 95 % interval rules out a loss of the margin or more"),
    "worse-by-margin": ("!", "worse", "worse beyond chance, and by the margin or more"),
    "cannot-tell": ("?", "cannot tell", "a loss of the margin is not ruled out"),
}
"""Mark, word and meaning of each verdict, by its reason."""
_SENSES: Mapping[Reason, str] = {
    "better": "better", "not-worse": "held", "within-margin": "held", "worse": "worse", "worse-by-margin": "worse",
}  # fmt: skip
MARGIN_REASONS: Sequence[Reason] = ("not-worse", "worse-by-margin", "cannot-tell")
"""Those of a verdict on whether a loss of the margin is ruled out, and not on whether anything changed."""
ONE_SEED = "One seed was trained: one run cannot tell luck of training from a gain, which --seeds 3 counts, too."
BASE_AGAINST_TUNED = "base against tuned"
BEYOND_CHANCE = "Beyond chance: 95 % interval without 0, p < .05 (Holm)."


def format_number(value: float | None, *, is_share: bool = True, sign: bool = False, decimals: int = 2) -> str:
    """Return ``value`` with so many ``decimals``; a share in [-1, 1] without its leading zero, as papers print it."""
    if value is None:
        return "-"
    # The rounded text decides, so that -0.001 is shown without a minus.
    text = f"{abs(value):.{decimals}f}"
    if is_share and text.startswith("0."):
        text = text[1:]
    is_zero = float(text) == 0
    return ("" if is_zero else MINUS if value < 0 else "+" if sign else "") + text


def format_percent(share: float, *, sign: bool = False) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{format_number(100 * share, is_share=False, sign=sign, decimals=1)} %"


def format_interval(estimate: Estimate, *, is_share: bool = True, sign: bool = False, decimals: int = 2) -> str:
    """Return the interval of ``estimate`` as ".21 to .44"."""
    ends = (estimate.low, estimate.high)
    return " to ".join(format_number(end, is_share=is_share, sign=sign, decimals=decimals) for end in ends)


def format_p_value(p: float) -> str:
    """Return "p < .001" or "p = .04"."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.1 else f"p = {p:.2f}".replace("0.", ".")


def format_category(name: str) -> str:
    """Return what a category is called, on one line; the empty name gets one."""
    return one_line(name) or NO_CATEGORY


def format_names(categories: Collection[str]) -> str:
    """Return the names of categories in one line."""
    return ", ".join(map(format_category, categories))


def format_metric(result: CategoryResult) -> str:
    """Return the metric of a category, marked where its scores are those of an uncalibrated judge."""
    return "uncalibrated judge" if result.metric == "judge" and result.is_uncalibrated else result.metric


def format_count(num: int, num_left_out: int) -> str:
    """Return how many records count, and of how many where some are left out."""
    return f"{num} of {num + num_left_out}" if num_left_out else str(num)


def format_trivial(result: CategoryResult) -> str:
    """Return what a model that has learnt nothing does in a category, and what it scores."""
    label = result.trivial_answer
    what = "a copy of the prompt" if label is None else f"always saying {one_line(label)!r}"
    return f"{what} ({format_number(result.trivial)})"


def format_verdict(result: CategoryResult) -> str:
    """Return a verdict as "+ improved" or, with its counts, "? too few (24 of 30)"."""
    assert result.reason is not None, "a verdict has a reason"
    counts = {
        "too-few": f" ({result.num_clusters} of {MIN_CLUSTERS})",
        "unanswered": f" ({format_count(result.n, result.num_unanswered)})",
    }.get(result.reason, "")
    return " ".join(VERDICTS[result.reason][:2]) + counts


def format_legend(split: SplitResult) -> str:
    """Return what the verdicts of a split mean, those that occur, and what is trivial, in one line."""
    reasons = {row.reason for row in split.rows()}
    meanings = [f"{mark} {word}, {meaning}" for key, (mark, word, meaning) in VERDICTS.items() if key in reasons]
    known = [row for row in split.categories if row.trivial is not None]
    rivals = "; ".join(dict.fromkeys(f"in {format_category(row.category)} {format_trivial(row)}" for row in known))
    mean = (
        " MEAN: the average of the categories' scores, each by its own metric; not a share of right answers."
        if split.macro
        else ""
    )
    return f"Verdicts: {'; '.join(meanings)}. {BEYOND_CHANCE}" + (f" Trivial: {rivals}." if rivals else "") + mean


def format_sentence(result: CategoryResult) -> str:
    """Return one category's result as a sentence that a reader without statistics can take as it stands."""
    is_share, change = result.higher_is_better, result.difference
    before, after = (format_number(side.value, is_share=is_share) for side in (result.base, result.tuned))
    unit = "" if is_share else " bits per byte"
    judged = ", by an uncalibrated judge" if result.metric == "judge" and result.is_uncalibrated else ""
    value = format_number(change.value, is_share=is_share, sign=True)
    span = format_interval(change, is_share=is_share, sign=True)
    text = (
        f"{format_category(result.category)} went from {before} to {after}{unit}{judged} (n = {result.n}, {value}, "
        f"95 % {span}, {format_p_value(result.p_adjusted)})"
    )
    if result.reason in MARGIN_REASONS:
        return f"{text}: {result.note}."
    if result.verdict != "inconclusive":
        return f"{text}."
    if result.reason == "trivial":
        return f"{text}: no better than {format_trivial(result)}."
    effect, power = result.minimum_detectable_effect, ""
    # Where nothing is shown the reader needs to know what the records could have shown.
    if result.reason == "within-noise" and is_share:
        few = "changed records and seeds" if result.test == "two-way t" else "changed records"
        shown = f"no change could have been shown with so few {few}"
        power = f"; {shown}" if effect is None else f"; a change of {format_number(effect)} could have been shown"
    return f"{text}: {result.note}{power}."


def format_summary(split: SplitResult) -> str:
    """Return the mean over categories, and how many of them have which verdict, in one line."""
    counts = Counter(VERDICTS[row.reason][1] for row in split.rows() if row.reason and row is not split.macro)
    mean = [split.macro.sentence] if split.macro else []
    return " ".join([*mean, f"{', '.join(f'{num} {word}' for word, num in counts.most_common())}."])


_FORGOTTEN = {
    "forgot": "It forgot some of what it knew.",
    "held": "No forgetting beyond 1 % on the general text that was measured.",
    "inconclusive": "Whether it forgot anything cannot be told.",
}


def format_unformed(split: SplitResult) -> str:
    """Return in which categories the reference scores nothing, which its form alone may explain; "" in none."""
    rows = [row for row in split.categories if row.higher_is_better and row.base.value == 0 < row.tuned.value]
    names = format_names([row.category for row in rows])
    return (
        names and f"The base scores .00 in {names}: it may know the answer and not its form. Read what it says there."
    )


def format_outcome(report: Report) -> str:
    """Return in plain words whether a model got better, what it forgot and what to do next; "" of several or one."""
    if len(report.models) != 2:
        return ""
    main, general, named = report.main(), report.forgetting, defaultdict[str, list[str]](list)
    for row in main.categories:
        named[_SENSES.get(row.reason or "unscored", "open")].append(format_category(row.category))
    named["open"] += [format_category(row.category) for row in main.unscored]
    num = sum(map(len, named.values()))
    reference = report.models[0].name
    said = [
        f"better than {'the base' if reference == 'base' else reference} in {len(named['better'])} of {num} categories"
    ]
    said += [f"no worse in {len(named['held'])}"] * bool(named["held"])
    said += [f"worse in {format_names(named['worse'])}" if named["worse"] else "worse in none"]
    said += [f"for {len(named['open'])} it cannot be told"] * bool(named["open"])
    text = f"The {report.models[1].name} model is {', '.join(said[:-1])} and {said[-1]}. "
    text += _FORGOTTEN[general.word] if general else "What it forgot was not measured."
    if named["worse"]:
        return f"{text} Next: read its answers in {format_names(named['worse'])}, and mend or add records there."
    if general and general.remedies:
        return f"{text} Next: {general.remedies[0].text}"
    if named["open"]:
        return f"{text} Next: hold out more records of {format_names(named['open'])}."
    scored = [row for row in main.categories if row.higher_is_better]
    if not scored:
        return text
    lowest = min(scored, key=lambda row: row.tuned.value)
    score = format_number(lowest.tuned.value)
    return f"{text} Next: its lowest score is {score}, in {format_category(lowest.category)}."


BEHAVIOUR = {
    "stopped": "Ended by itself", "empty": "Empty", "repetition": "Repetition: share of word 4-grams said before",
    "length_ratio": "Length: characters, the reference being 1", "reasoning_tokens": "Reasoning: tokens an answer",
    "reasoning_cut": "Reasoning cut: its budget was spent",
}  # fmt: skip
"""What is measured of completions, by name; all but two of them are shares."""
_SHARES = ("stopped", "empty", "repetition", "reasoning_cut")
_IN_FILES = (
    "clusters", "base 95 %", "tuned 95 %", "up, down", "test", "could show", "other scores", "bits per byte", "note",
)  # fmt: skip
_LONGEST_NAME = 32


def tables_of(report: Report) -> Iterator[ReportTable]:
    """Yield the tables of all results: by category, behaviour, in words, forgetting, and costs."""
    each = [(pair.name, split) for pair in report.pairs() for split in pair.splits]
    # Those whose verdicts count come first.
    for name, split in sorted(each, key=lambda one: one[1].split != report.headline):
        yield _results_table(report, name, split)
    main = report.main()
    behaviour = [
        [BEHAVIOUR[name], *(format_percent(end) if name in _SHARES else format_number(end, is_share=False)
                            for end in (change.base, change.tuned))]
        for name, change in main.behaviour.items()
    ]  # fmt: skip
    if behaviour:
        about = f"Completions of the {main.split} split; greedy decoding."
        yield ReportTable(part="behaviour", title="Behaviour", heads=("measure", "base", "tuned"), rows=behaviour,
                          sentences=[about], is_in_terminal=False)  # fmt: skip
    yield ReportTable(part="words", title="In words", sentences=[row.sentence for row in main.categories],
                      is_in_terminal=False)  # fmt: skip
    for pair in report.pairs():
        if (general := pair.forgetting) is not None:
            whose = f"{pair.name}: " if len(report.models) > 2 else ""
            yield ReportTable(part="forgetting", sentences=[whose + forgetting_text(general)])
            for remedy in general.remedies:
                yield ReportTable(part="forgetting", sentences=[f"next: {remedy.text}"], code=remedy.lines)
    if report.judged is not None:
        yield ReportTable(part="judge", sentences=[report.judged.sentence, *report.judged.remarks])
    if any(model.seconds is not None or model.cost is not None for model in report.models):
        yield _cost_table(report)


def _results_table(report: Report, name: str, split: SplitResult) -> ReportTable:
    reference, is_in_terminal = report.models[0].name, split.split == report.headline
    rows = list(map(_cells, split.rows()))
    if split.macro:
        # Of no record alone.
        rows[-1] |= {"n": "", "up, down": ""}
    if len(report.models) == 1:
        # Beside itself it has scores alone.
        heads = {"category": "category", "n": "n", "metric": "metric", "trivial": "trivial", "base": "score",
                 "clusters": "clusters", "base 95 %": "95 %"}  # fmt: skip
        return ReportTable(
            part="results", title=f"{reference} on the {split.split} split", heads=[*heads.values()],
            rows=[[row[head] for head in heads] for row in rows], has_total=bool(split.macro),
            is_in_terminal=is_in_terminal,
        )  # fmt: skip
    sides = BASE_AGAINST_TUNED if (reference, name) == ("base", "tuned") else f"base = {reference}, tuned = {name},"
    is_asked = any(row.reason in MARGIN_REASONS for row in split.categories)
    question = f": is a loss of {format_number(report.margin)} ruled out?" if is_asked else ""
    questions = [row.sentence for row in split.categories if row.reason == "cannot-tell"]
    return ReportTable(
        part="results", title=f"{sides} on the {split.split} split{question}", heads=[*rows[0]],
        rows=[[*row.values()] for row in rows],
        files_only=_IN_FILES, sentences=[format_legend(split), *dict.fromkeys(questions)], has_total=bool(split.macro),
        left=("metric", "95 %", "verdict", "base 95 %", "tuned 95 %", "test", "other scores", "bits", "note"),
        is_in_terminal=is_in_terminal,
    )  # fmt: skip


def _cells(row: CategoryResult | Unscored) -> dict[str, str]:
    """Return the cells of a result by the heads of their columns, the last of which are in files alone."""
    name = format_category(row.category)
    name = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026"
    if isinstance(row, Unscored):
        dashes = dict.fromkeys(("trivial", "base", "tuned", "change", "95 %", "p"), "-")
        return {"category": name, "verdict": row.label, "n": format_count(row.n, row.num_unscored),
                "metric": row.metric, **dashes, **dict.fromkeys(_IN_FILES, "")}  # fmt: skip
    is_share = row.higher_is_better
    # A margin of .02 lies too near to an end of -.019 for two decimals.
    decimals = 3 if row.reason in MARGIN_REASONS else 2
    return {
        "category": name, "verdict": row.label, "n": format_count(row.n, row.num_unscored + row.num_unanswered),
        "metric": format_metric(row), "trivial": format_number(row.trivial),
        "base": format_number(row.base.value, is_share=is_share),
        "tuned": format_number(row.tuned.value, is_share=is_share),
        "change": format_number(row.difference.value, is_share=is_share, sign=True),
        "95 %": format_interval(row.difference, is_share=is_share, sign=True, decimals=decimals),
        "p": format_p_value(row.p_adjusted).removeprefix("p ").removeprefix("= "),
        "clusters": str(row.num_clusters), "base 95 %": format_interval(row.base, is_share=is_share),
        "tuned 95 %": format_interval(row.tuned, is_share=is_share), "up, down": f"{row.better}, {row.worse}",
        "test": row.test,
        "could show": format_number(row.minimum_detectable_effect),
        "other scores": "; ".join(f"{name} {format_number(score.base)} → {format_number(score.tuned)}"
                                  for name, score in row.other.items()),
        "bits per byte": f"{row.bits_per_byte.base:.3f} → {row.bits_per_byte.tuned:.3f}" if row.bits_per_byte else "",
        "note": row.note,
    }  # fmt: skip


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
    change, low, high = (format_percent(end / base, sign=True) for end in (
        general.difference.value, general.difference.low, general.difference.high
    ))  # fmt: skip
    return (
        f"General text ({general.text and general.text + ', '}n = {general.n}) went from {base:.3f} to "
        f"{general.tuned.value:.3f} bits per byte, fewer being better ({change}, 95 % {low} to {high}): "
        f"{meaning}."
    )


def facts_table(report: Report) -> ReportTable:
    """Return what made the numbers; pages alone show it, as its times are others when a run is made again."""
    run = report.run
    named = run.model_dump(include={"objective", "method", "seed", "device", "seconds", "created"})
    facts = {**named, **run.settings, **run.versions, **run.digests}
    cells = [[name, str(value)] for name, value in facts.items() if value not in (None, "")]
    return ReportTable(part="run", title="What made these numbers", heads=("fact", "value"), rows=cells,
                       left=("value",), is_in_terminal=False)  # fmt: skip


def _cost_table(report: Report) -> ReportTable:
    rows = [
        [one_line(model.name), model.prompting or "-", *(
            format_number(value, is_share=False, decimals=decimals)
            for value, decimals in ((model.seconds, 1), (model.new_tokens, 0), (model.cost, 4))
        )]
        for model in report.models
    ]  # fmt: skip
    heads = ("model", "prompting", "seconds", "tokens", "cost")
    return ReportTable(part="costs", title="A thousand answers take:", heads=heads, rows=rows, left=("prompting",))
