"""Models side by side: tuned models of runs, their bases, and evaluations, each against one of them.

Intervals are paired, record by record; p values are adjusted over the categories and over all models together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from pathlib import Path

from train.base.errors import TrainError
from train.base.run_folder import EVALUATION, read_evaluation, read_run, resolve_run
from train.evaluate.predictions import PREDICTIONS, Scored, read_predictions
from train.report import wording
from train.report.build import make_report
from train.report.model import ComparedModel, Report, Run
from train.report.results import SPLITS, Rules

BASE_OF = ":base"
"""After a run's folder it names the base of the run."""


@dataclass(frozen=True)
class Side:
    """One of the models that are compared: its results, and what is known of how they came about."""

    name: str
    id: str
    kind: str
    records: Sequence[Scored]
    general_text: str
    prompting: str = ""
    unanswered: Mapping[str, Counter[str]] = field(default_factory=dict)
    """By split and category how many records have no answer."""
    lengths: tuple[int, int | None] | None = None
    """How many tokens an answer may have, and how many of them may be reasoning; None where nobody knows."""
    rules: Rules = field(default_factory=Rules)
    series: str = ""
    """The series that the run stands for, which has other seeds too."""


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
    series, folder = folder, resolve_run(folder)
    report, sides = Report.load(folder), read_predictions(folder / PREDICTIONS)
    lengths = None
    # A folder that was put together by hand may lack its run.json.
    with suppress(TrainError, LookupError, TypeError):
        recipe = read_run(folder)["recipe"]["eval"]
        lengths = (recipe["max_new_tokens"], recipe["max_reasoning_tokens"])
    return Side(
        f"{folder}{BASE_OF if is_base else ''}", report.run.id, "base" if is_base else "run",
        sides[not is_base], report.run.general_text, lengths=lengths,
        rules=Rules(report.margin, report.resamples),
        series="" if series == folder or is_base else str(series),
    )  # fmt: skip


def _read_evaluation(name: str, folder: Path) -> Side:
    record = read_evaluation(folder)
    # Counted where all were asked, also those without an answer.
    if record.get("status") != "finished" and "counts" not in record:
        raise TrainError(
            "E942 unfinished-run", f"{folder}: the evaluation was not brought to its end",
            "Call `train eval` as before; it goes on.",
        )  # fmt: skip
    try:
        contestant, prompting = record["contestant"], record["prompting"]
        num_shots, has_system = int(prompting["shots"]), bool(prompting["system"])
        return Side(
            name, folder.name, str(contestant["kind"]), read_predictions(folder / PREDICTIONS)[1],
            str(record["general_text"]),
            _describe_prompting(num_shots, has_system=has_system),
            lengths=(int(record["max_new_tokens"]), int(record.get("max_reasoning_tokens") or 0) or None),
            unanswered={
                str(split): Counter({str(name): int(num) for name, num in numbers.items()})
                for split, numbers in record.get("unanswered", {}).items()
            },
        )  # fmt: skip
    except (LookupError, TypeError, ValueError, AttributeError):
        raise TrainError(
            "E938 bad-report", f"{folder / EVALUATION} cannot be read", "Evaluate the model again."
        ) from None


def _describe_prompting(num_shots: int, *, has_system: bool) -> str:
    examples = f"{num_shots} example{'' if num_shots == 1 else 's'}" if num_shots else ""
    return " and ".join(part for part in ("a system text" if has_system else "", examples) if part)


def match_records(sides: Sequence[Sequence[Scored]]) -> tuple[list[list[Scored]], list[str]]:
    """Return the records that all ``sides`` scored in the same way, in the order of the first, and notes on the others.

    Where one of them knows no likelihood of a record, or that of other bytes, as its template spells the same answer
    otherwise or it was cut, none has one.
    """
    first, *others = [{(record.split, record.id): record for record in side} for side in sides]
    shared = [key for key in first if all(key in other for other in others)]
    num_lone, num_changed, num_spelled = len({*first}.union(*others)) - len(shared), 0, 0
    matched: list[list[Scored]] = [[] for _ in sides]
    for key in shared:
        twins = [first[key], *(other[key] for other in others)]
        is_likely = all(twin.nll is not None for twin in twins)
        # Raw text has nothing else by which it is known.
        is_spelled = is_likely and bool(twins[0].metric) and len({twin.num_bytes for twin in twins}) > 1
        is_likely &= not is_spelled
        if len({_key(twin, is_likely=is_likely) for twin in twins}) > 1:
            num_changed += 1
            continue
        num_spelled += is_spelled
        for side, twin in zip(matched, twins, strict=True):
            side.append(twin if is_likely else replace(twin, nll=None, num_tokens=0, num_bytes=0))
    left_out = {"were evaluated by some of the models only": num_lone,
                "changed between the models, or are scored otherwise": num_changed}  # fmt: skip
    notes = [f"{num} records {why}; they are left out." for why, num in left_out.items() if num]
    if num_spelled:
        notes.append(f"{num_spelled} records have other bytes for some of the models, as another template spells them "
                     "or they were cut; their scores are compared, and no likelihoods.")  # fmt: skip
    return matched, notes


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
    # Passages of two texts have the same ids; and a model that tells no likelihoods has nothing to say of them.
    has_general = len(texts) == 1 and all(any(r.split == "general" for r in side.records) for side in sides)
    matched, notes = match_records(
        [[r for r in side.records if has_general or r.split != "general"] for side in sides]
    )  # fmt: skip
    unanswered = _unanswered(sides, matched[0])
    # Those of the first run, in whatever order they are named.
    rules = next((side.rules for side in sides if side.kind == "run"), sides[0].rules)
    return make_report(
        matched, models=[_model(side, records) for side, records in zip(sides, matched, strict=True)], rules=rules,
        run=Run(id=" and ".join(side.id for side in sides), general_text=texts.pop() if len(texts) == 1 else ""),
        unanswered=unanswered,
        notes=[*notes, *_side_notes(sides, matched)], is_checkpoint_chosen=any(side.kind == "run" for side in sides),
    )  # fmt: skip


def _unanswered(sides: Sequence[Side], matched: Sequence[Scored]) -> dict[str, Counter[str]]:
    """Return by split and category how many records have no answer of one of ``sides``, or are none of ``matched``.

    Of a category that has ``matched`` records only those without an answer count, and a split that not all of them were
    asked is left out.
    """
    missing = dict[str, Counter[str]]()
    if not any(side.unanswered for side in sides) and not any(record.split in SPLITS for record in matched):
        return missing
    for split in SPLITS:
        unanswered_counts = [side.unanswered.get(split, Counter[str]()) for side in sides]
        asked_counts = [
            Counter(record.category for record in side.records if record.split == split) + without
            for side, without in zip(sides, unanswered_counts, strict=True)
        ]
        if all(asked_counts):
            matched_counts = Counter(record.category for record in matched if record.split == split)
            incomplete = {name for without in unanswered_counts for name in +without}
            max_counts = reduce(or_, asked_counts)
            missing[split] = Counter(
                {n: max_counts[n] - matched_counts[n] for n in max_counts if n in incomplete or n not in matched_counts}
            )
    return missing


def _model(side: Side, records: Sequence[Scored]) -> ComparedModel:
    usages = [record.usage for record in records if record.usage]

    def per_thousand(name: str) -> float | None:
        values = [usage[name] for usage in usages if name in usage]
        return 1000 * sum(values) / len(values) if values else None

    return ComparedModel(
        name=side.name, kind=side.kind, prompting=side.prompting, seconds=per_thousand("seconds"),
        new_tokens=per_thousand("new_tokens"), cost=per_thousand("cost"),
    )  # fmt: skip


def _side_notes(sides: Sequence[Side], matched: Sequence[Sequence[Scored]]) -> Iterator[str]:
    """Yield what a reader must know of how the ``matched`` results of the models came about."""
    for side in sides:
        if side.series:
            yield f"{side.name} stands for the series {side.series}; how far its other seeds lie apart is not counted."
    if any(side.kind == "run" and not side.series for side in sides):
        yield wording.ONE_SEED
    for side, records in zip(sides, matched, strict=True):
        if missing := sum(side.unanswered.values(), Counter[str]()):
            each = ", ".join(f"{wording.format_category(name)} {num}" for name, num in sorted(missing.items()))
            yield f"{side.name} gave no answer to {missing.total()} of the records that it was asked ({each})."
        # Of choices that are compared by likelihood none is written.
        written = {r.category for r in records if r.metric.startswith("choice_logprob")}
        if written and side.kind == "endpoint":
            names = wording.format_names(sorted(written))
            yield f"{side.name} wrote its choices in {names}, as it tells no likelihoods; what it wrote is matched."
        # Of a model that is here the report's behaviour says how many ended by themselves.
        if side.kind not in ("base", "run", "adapter"):
            ends = Counter(record.stopped for record in records if record.is_generated)
            for end, what in ((False, "were cut, and are scored as they stand"),
                              (None, "did not say whether they came to an end")):  # fmt: skip
                if ends[end]:
                    yield f"{side.name}: {ends[end]} of {len(records)} answers {what}."
    lengths = [side.lengths for side in sides if side.lengths]
    for what, most in (("Answers", {most for most, _ in lengths}), ("Reasoning", {most for _, most in lengths})):
        if len(most) > 1:
            each = ", ".join(sorted("no limit" if number is None else str(number) for number in most))
            yield f"{what} ended after different numbers of tokens: {each}."
    if len(texts := {side.general_text for side in sides} - {""}) > 1:
        yield f"General text is not compared: it is {' there and '.join(sorted(texts))} here."
