"""Models side by side: tuned models of runs, their bases, and evaluations, each against one of them.

Intervals are paired, record by record; p values are adjusted over the categories and over all models together. What a
reader asks of such a report, whether tuning beat a prompt, or whether a quantised file is as good as what was
measured, is answered in one sentence each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from train.base.errors import TrainError
from train.base.run_folder import EVALUATION, model_run, read_evaluation, read_run
from train.evaluate.predictions import PREDICTIONS, Scored, read_predictions
from train.report import wording
from train.report.build import assemble
from train.report.model import ComparedModel, Conclusion, Counts, Report, Run, SplitResult
from train.report.results import SPLITS, Pairs, Rules, several_results, without_lost, without_unanswered
from train.report.tables import ReportTable

_GENERAL = "general"
BASE_OF = ":base"
"""After a run's folder it names the base of the run."""


@dataclass(frozen=True)
class Side:
    """One of the models that are compared: its results, and what is known of how they came about."""

    name: str
    id: str
    kind: str
    records: Sequence[Scored]
    default_metric: Collection[str]
    general_text: str
    prompting: str = ""
    digest: str = ""
    unanswered: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By split and category how many records have no answer."""
    max_new_tokens: int | None = None
    max_reasoning_tokens: int | None = None
    rules: Rules = field(default_factory=Rules)
    series: str = ""
    """The series that the run stands for, which has other seeds too."""

    @property
    def is_tuned(self) -> bool:
        """Whether it was trained, and asked without further help."""
        return self.kind in ("run", "adapter") and not self.prompting


def read_side(name: str) -> Side:
    """Return what ``name`` means: a run's folder (its tuned model), RUN:base, or the folder of an evaluation.

    A series of runs stands for the one whose model is to be taken.

    Raises TrainError: E942 unfinished-run of an evaluation that was not brought to its end, E938 bad-report and E935
    bad-predictions.
    """
    is_base = name.endswith(BASE_OF)
    folder = Path(name.removesuffix(BASE_OF))
    if (folder / EVALUATION).is_file():
        return _read_evaluation(name, folder)
    series, folder = folder, model_run(folder)
    report = Report.load(folder)
    base, tuned = read_predictions(folder / PREDICTIONS)
    most, most_reasoning = _limits(folder)
    return Side(
        f"{folder}{BASE_OF if is_base else ''}", report.run.id, "base" if is_base else "run",
        base if is_base else tuned, report.default_metric, report.run.general_text,
        max_new_tokens=most, max_reasoning_tokens=most_reasoning,
        rules=Rules(report.margin, report.fewest, report.resamples),
        series="" if series == folder or is_base else str(series),
    )  # fmt: skip


def _limits(run: Path) -> tuple[int | None, int | None]:
    # How many tokens an answer of the run may have, and how many of them may be reasoning; None where nobody knows.
    try:
        recipe = read_run(run)["recipe"]["eval"]
        most, most_reasoning = recipe["max_new_tokens"], recipe["max_reasoning_tokens"]
    except (TrainError, LookupError, TypeError):
        return None, None
    return (most if isinstance(most, int) else None), (most_reasoning if isinstance(most_reasoning, int) else None)


def _read_evaluation(name: str, folder: Path) -> Side:
    record = read_evaluation(folder)
    try:
        contestant, prompting = record["contestant"], record["prompting"]
        number, has_system = int(prompting["shots"]), bool(prompting["system"])
        side = Side(
            name, folder.name, str(contestant["kind"]), [], [str(entry) for entry in record["default_metric"]],
            str(record["general_text"]), _prompting(number, has_system=has_system), str(contestant["digest"]),
            max_new_tokens=int(record["max_new_tokens"]),
            max_reasoning_tokens=int(record.get("max_reasoning_tokens") or 0) or None,
            unanswered={
                str(split): {str(name): int(num) for name, num in numbers.items()}
                for split, numbers in record.get("unanswered", {}).items()
            },
        )  # fmt: skip
    except (LookupError, TypeError, ValueError, AttributeError):
        raise TrainError(
            "E938 bad-report", f"{folder / EVALUATION} cannot be read", "Evaluate the model again."
        ) from None
    # Counted where all were asked, also those without an answer.
    if record.get("status") != "finished" and "counts" not in record:
        raise TrainError(
            "E942 unfinished-run", f"{folder}: the evaluation was not brought to its end",
            "Call `train eval` as before; it goes on.",
        )  # fmt: skip
    return replace(side, records=read_predictions(folder / PREDICTIONS)[1])


def _prompting(number: int, *, has_system: bool) -> str:
    examples = f"{number} example{'' if number == 1 else 's'}" if number else ""
    return " and ".join(part for part in ("a system text" if has_system else "", examples) if part)


def match_records(
    sides: Sequence[Sequence[Scored]], *, has_general: bool = True
) -> tuple[list[list[Scored]], dict[str, Counts]]:
    """Return the records that all ``sides`` scored in the same way, in the order of the first, and counts by split.

    Where one of them knows no likelihood of a record, none has one. Without ``has_general`` general text is no record.
    """
    # General text is measured by likelihoods, so that some models have nothing to say of it.
    has_general = has_general and all(any(record.split == _GENERAL for record in side) for side in sides)
    first, *others = [
        {(record.split, record.id): record for record in side if has_general or record.split != _GENERAL}
        for side in sides
    ]
    matched: list[list[Scored]] = [[] for _ in sides]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for key, record in first.items():
        twins = [record, *(other[key] for other in others if key in other)]
        count = counts[record.split]
        if len(twins) < len(sides):
            count["lone"] += 1
            continue
        is_likely = all(twin.nll is not None for twin in twins)
        if len({_key(twin, is_likely=is_likely) for twin in twins}) > 1:
            count["changed"] += 1
            continue
        count["shared"] += 1
        count["unscored"] += any(twin.score is None for twin in twins)
        for side, twin in zip(matched, twins, strict=True):
            side.append(twin if is_likely else replace(twin, nll=None, num_tokens=0, num_bytes=0))
    for split, _ in {key for other in others for key in other} - first.keys():
        counts[split]["lone"] += 1
    return matched, {split: Counts.model_validate(count) for split, count in sorted(counts.items())}


def _key(record: Scored, *, is_likely: bool) -> tuple[object, ...]:
    # What must be the same for two scores to be comparable. How a call of tools is spelled is the model's own affair.
    is_spelled = record.metric.startswith("tool_calls") and not is_likely
    num_bytes = is_likely and record.num_bytes
    return record.category, None if is_spelled else record.reference, record.metric, record.options, num_bytes


def compare_sides(sides: Sequence[Side]) -> Report:
    """Return the report of all ``sides`` against the first; one side alone is compared with itself.

    Raises TrainError: E937 nothing-to-report where no record can be compared.
    """
    texts = {side.general_text for side in sides}
    # Passages of two texts have the same ids.
    matched, counts = match_records([side.records for side in sides], has_general=len(texts) == 1)
    first, others = matched[0], matched[1:] or matched
    pairs, rules = [list(zip(first, other, strict=True)) for other in others], rules_of(sides)
    defaults = set.intersection(*(set(side.default_metric) for side in sides))
    splits: list[list[SplitResult]] = [[] for _ in pairs]
    for split in SPLITS:
        results = several_results(pairs, split, defaults, rules)
        for parts, part in zip(splits, with_gaps(results, split, sides, pairs, rules), strict=True):
            parts.extend([part] if part else [])
    if not any(side.unanswered for side in sides) and not any(part.categories for part in chain.from_iterable(splits)):
        splits = []
    notes = [*_left_out(counts.values()), *side_notes(sides, matched)]
    if len(texts - {""}) > 1:
        each = " there and ".join(side.general_text for side in sides)
        notes.append(f"General text is not compared: it is {each} here.")
    incomplete = {
        name for side in sides for numbers in side.unanswered.values() for name, num in numbers.items() if num
    }
    report = assemble(
        matched, splits, rules, models=[_model(side, records) for side, records in zip(sides, matched, strict=True)],
        run=Run(id=" and ".join(side.id for side in sides), general_text=texts.pop() if len(texts) == 1 else ""),
        default_metric=sorted(defaults), counts=counts, notes=notes, unsliced=incomplete,
        is_checkpoint_chosen=any(side.kind == "run" for side in sides),
    )  # fmt: skip
    concluded = _conclusions(sides, matched, report.headline, rules) if len(sides) > 1 else []
    table = ReportTable(part="conclusions", sentences=[conclusion.sentence for conclusion in concluded])
    return report.model_copy(update={"conclusions": concluded}).with_tables([table] * bool(concluded))


def _left_out(counts: Collection[Counts]) -> list[str]:
    lone, changed = sum(count.lone for count in counts), sum(count.changed for count in counts)
    notes = [f"{lone} records were evaluated by some of the models only; they are left out."] if lone else []
    if changed:
        notes.append(f"{changed} records changed between the models, or are scored otherwise; they are left out.")
    return notes


def rules_of(sides: Sequence[Side]) -> Rules:
    """Return the rules by which ``sides`` are judged: those of the first run, in whatever order they are named."""
    return next((side.rules for side in sides if side.kind == "run"), sides[0].rules)


def with_gaps(
    results: Sequence[SplitResult | None], split: Literal["validation", "test"], sides: Sequence[Side],
    pairs: Sequence[Pairs], rules: Rules,
) -> list[SplitResult | None]:  # fmt: skip
    """Return ``results`` of ``pairs`` with what some of ``sides`` did not answer, and categories without any pair.

    A split that not all were asked stays as it is.
    """
    # Of each side the records with an answer, by category.
    known = [Counter(record.category for record in side.records if record.split == split) for side in sides]
    if not all(counts or side.unanswered.get(split) for counts, side in zip(known, sides, strict=True)):
        return list(results)
    totals: Counter[str] = Counter()
    for counts, side in zip(known, sides, strict=True):
        for category, num in side.unanswered.get(split, {}).items():
            totals[category] = max(totals[category], counts[category] + num)
    matched = [before for before, _ in chain(*pairs[:1]) if before.split == split]
    shown, ids = Counter(record.category for record in matched), {record.id for record in matched}
    # Of one that some side answered it is known what repeats it; each of the rest is one record of every category.
    missing: dict[str, dict[str, str]] = {category: {} for category in totals}
    for record in chain.from_iterable(side.records for side in sides):
        if record.split == split and record.category in totals and record.id not in ids:
            missing[record.category][record.id] = record.cluster
    unanswered = {
        category: [*missing[category].values(), *(f"\0{number}" for number in range(num))][: num - shown[category]]
        for category, num in totals.items()
    }
    rows = {row.category for result in results if result is not None for row in result.rows()}
    lost = {}
    for name in {*totals, *chain.from_iterable(known)} - shown.keys() - rows:
        num = totals[name] or max(counts[name] for counts in known)
        why = "can be compared: some models lack them or score them otherwise"
        lost[name] = num, f"0 of {num} records {'were answered' if totals[name] else why}"
    empty = SplitResult(split=split, n=0, categories=[], macro=None, num_fixed=0, num_broken=0, behaviour=None)
    sure = without_unanswered(results, pairs, split, rules, unanswered)
    return [without_lost(part or empty, lost) if part or lost else None for part in sure]


def _model(side: Side, records: Sequence[Scored]) -> ComparedModel:
    usages = [record.usage for record in records if record.usage]

    def per_thousand(name: str) -> float | None:
        values = [usage[name] for usage in usages if name in usage]
        return 1000 * sum(values) / len(values) if values else None

    return ComparedModel(
        name=side.name, kind=side.kind, digest=side.digest, prompting=side.prompting, num_answers=len(usages),
        seconds=per_thousand("seconds"), new_tokens=per_thousand("new_tokens"), cost=per_thousand("cost"),
    )  # fmt: skip


def side_notes(sides: Sequence[Side], matched: Sequence[Sequence[Scored]]) -> list[str]:
    """Return what a reader must know of how the ``matched`` results of the models came about."""
    notes = [
        f"{side.name} stands for the series {side.series}; how far its other seeds lie apart is not counted here."
        for side in sides if side.series
    ]  # fmt: skip
    notes += [wording.ONE_SEED] if any(side.kind == "run" and not side.series for side in sides) else []
    if len({side.name for side in sides}) < len(sides):
        notes.append("Some of them are one and the same model.")
    for side, records in zip(sides, matched, strict=True):
        missing: Counter[str] = Counter()
        for numbers in side.unanswered.values():
            missing.update(numbers)
        if missing:
            each = ", ".join(f"{wording.category(name)} {num}" for name, num in sorted(missing.items()))
            notes.append(
                f"{side.name} gave no answer to {missing.total()} of the records that it was asked ({each}). "
                "Slices leave these categories out."
            )
        # Of choices that are compared by likelihood none is written.
        written = {
            record.category for record in records if record.metric.startswith("choice_logprob") and record.is_generated
        }
        if written:
            names = ", ".join(map(wording.category, sorted(written)))
            notes.append(
                f"{side.name} wrote its choices in {names}, as it tells no likelihoods; what it wrote is matched."
            )
        # Of a model that is here the report says how many ended by themselves.
        num_cut = sum(record.stopped is False for record in records)
        if num_cut and side.kind not in ("base", "run", "adapter"):
            notes.append(
                f"{side.name}: {num_cut} of {len(records)} answers ended at {side.max_new_tokens} tokens, "
                "and are scored as they stand."
            )
    if len(sides) > 1 and any(record.nll is None for record in matched[0]):
        notes.append("One of the models tells no likelihoods, so bits per byte are not compared.")
    most = {side.max_new_tokens for side in sides if side.max_new_tokens is not None}
    if len(most) > 1:
        notes.append(f"Answers ended after different numbers of tokens: {', '.join(map(str, sorted(most)))}.")
    budgets = {side.max_reasoning_tokens for side in sides if side.max_new_tokens is not None}
    if len(budgets) > 1:
        each = ", ".join(sorted("no limit" if budget is None else str(budget) for budget in budgets))
        notes.append(f"Reasoning ended after different numbers of tokens: {each}.")
    return notes


def _conclusions(
    sides: Sequence[Side], matched: Sequence[Sequence[Scored]], headline: Literal["validation", "test"], rules: Rules
) -> list[Conclusion]:
    tuned = [index for index, side in enumerate(sides) if side.is_tuned]
    prompted = [index for index, side in enumerate(sides) if side.prompting]
    questions: list[tuple[Literal["tuning-or-prompt", "quantised"], int, int]] = [
        ("tuning-or-prompt", first, second) for first in tuned for second in prompted
    ]
    for index, side in enumerate(sides):
        if side.kind != "gguf":
            continue
        # What was measured: the reference, or else the first tuned model.
        measured = [at for at in (0, *tuned) if sides[at].kind in ("run", "adapter", "base")]
        questions += [("quantised", index, at) for at in measured if sides[at].prompting == side.prompting][:1]
    pairs = [list(zip(matched[second], matched[first], strict=True)) for _, first, second in questions]
    results = several_results(pairs, headline, (), rules)
    parts = with_gaps(results, headline, sides, pairs, rules)
    return [
        _conclusion(question, sides[first].name, sides[second].name, part, rules)
        for (question, first, second), part in zip(questions, parts, strict=True)
        if part is not None and part.macro is not None
    ]


def _conclusion(
    question: Literal["tuning-or-prompt", "quantised"], first: str, second: str, result: SplitResult, rules: Rules
) -> Conclusion:
    macro = result.macro
    assert macro is not None, "only a mean over categories is concluded from"
    change, loss = macro.difference, wording.number(rules.margin)
    numbers = f"{wording.number(change.value, sign=True)}, 95 % {wording.spread(change, sign=True)}"
    word: Literal["yes", "no", "unclear"] = "unclear"
    if macro.reason == "unanswered":
        why = "some records have no answer"
    elif macro.reason == "too-few":
        why = f"there are too few records to say ({macro.num_clusters} of {rules.fewest})"
    elif question == "tuning-or-prompt":
        word = "yes" if macro.verdict == "improved" else "no" if macro.verdict == "regressed" else "unclear"
        is_trivial = macro.reason == "trivial"
        why = {
            "yes": f"{first} is better than {second} beyond chance",
            "no": f"{second} is better than {first} beyond chance",
            "unclear": f"{first} is better than {second}, and not shown to be better than the trivial answer"
            if is_trivial
            else f"between {first} and {second} no difference that counts is shown",
        }[word]
    else:
        # That no difference was found says nothing; a loss that matters has to be ruled out.
        word = "yes" if macro.is_no_worse else "no" if macro.verdict == "regressed" else "unclear"
        why = {
            "yes": f"against {second} a loss of {loss} or more is ruled out",
            "no": f"it is worse than {second} beyond chance, by {loss} or more",
            "unclear": f"against {second} a loss of {loss} or more is not ruled out",
        }[word]
    if question == "quantised":
        worse = [wording.category(row.category) for row in result.categories if row.verdict == "regressed"]
        why += f"; worse in {', '.join(worse)}" if worse else ""
    asking = (
        "Did tuning beat this prompt?"
        if question == "tuning-or-prompt"
        else f"Is {first} as good as what was measured?"
    )
    answer = {"yes": "Yes", "no": "No", "unclear": "Not shown"}[word]
    numbers = f"mean of {wording.num_categories(macro)}, {numbers}, {wording.p_value(macro.p)}"
    return Conclusion(
        question=question, first=first, second=second, word=word, difference=change,
        sentence=f"{asking} {answer}: {why} ({numbers}).",
    )  # fmt: skip
