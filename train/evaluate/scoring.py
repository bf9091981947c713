"""How an answer is scored: by its category's metric, whatever model gave it; no model is needed here."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from train.base.errors import TrainError
from train.base.storage import digest_of
from train.data.dataset import Dataset, Row, RowFault, last_answer
from train.evaluate import metrics
from train.evaluate.predictions import REASONING_CUT, REASONING_TOKENS, Scored
from train.recipe import PREFERENCES, Objective

if TYPE_CHECKING:
    # Imports torch, which the answers of a model that is elsewhere do without.
    from train.model.loss import Nll


@dataclass(frozen=True, slots=True)
class CategorySpec:
    """How a category is scored: the metric, its options, and whether it is only the default.

    ``contract`` holds options of the metric of that name, which is measured beside the one that scores. ``label`` is
    the commonest answer of the training records where these are a closed set of labels.
    """

    metric: metrics.Metric
    options: Mapping[str, Any]
    is_default: bool
    contract: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    @property
    def choices(self) -> Sequence[str]:
        """The answers that are compared by likelihood instead of generating one; empty where one is generated."""
        return self.options.get("choices", ()) if "logprobs" in self.metric.options else ()

    def scores(self, answer: Answer, row: Row, reference: str) -> dict[str, float]:
        """Return the metric's scores of an answer to ``row``, without its reasoning."""
        row_options = {"logprobs": answer.logprobs, "calls": _parts(row)[1].get("tool_calls")}
        options = {name: value for name, value in row_options.items() if value and name in self.metric.options}
        scores = self.metric.scores(answer.text, reference, {**self.options, **options})
        # Reasoning that used up all tokens is no answer, also where a metric takes an empty one.
        if answer.reasoning is not None and not answer.text.strip() and self.metric.primary in scores:
            scores[self.metric.primary] = 0.0
        return scores


_THOUGHT = re.compile(
    r"""(?isx)\A\s*+ (<\|?(?:begin_of_|start_)?(?:think(?:ing)?|thought|reasoning)\|?> | \[think\] | ◁think▷)?+ (.*?)
    (?:[<\[◁]\|?(?:/|end)[^<>\[\]]{0,9}(?:think|thought|reason)[^<>\[\]]{0,9}[>\]▷] (?(1)|[^\S\n]*\n) \s*
    | (?(1)\Z|(?!)))"""
)
"""Reasoning that a text begins with, by the marks that are in use. It may be cut off; where the prompt has begun it, a
line ends with its end.
"""


def split_reasoning(text: str) -> tuple[str, str | None]:
    """Return ``text`` without the reasoning that it begins with, and that reasoning, None where it has none."""
    thought = _THOUGHT.match(text)
    return (text[thought.end() :], thought[2].strip()) if thought else (text, None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote, whether it ended by itself, and the ``reasoning`` before it, None where there was none.

    Whoever knows no marks of the model gives its text as it came, for `split_reasoning`; what is cut off while it
    reasons has an empty text.

    Where choices were compared: the likeliest, ``logprobs`` of all in nats, and no ``stopped``, which is None too where
    an endpoint does not tell. Tokens are counted by
    the model's own tokenizer, and are None where an endpoint does not tell; of a batch ``seconds`` are its share.
    ``cost`` is in the currency of the prices that were given, None without. ``is_cached``: it was known, so nothing was
    computed or sent.
    """

    id: str
    text: str
    stopped: bool | None
    reasoning: str | None = None
    logprobs: Sequence[float] = ()
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    seconds: float = 0.0
    cost: float | None = None
    is_cached: bool = False
    reasoning_tokens: int | None = None
    """Those of ``new_tokens`` that are reasoning; ``is_cut`` where it was ended because its budget was spent."""
    is_cut: bool = False

    def __post_init__(self) -> None:
        if self.reasoning is None:
            text, reasoning = split_reasoning(self.text)
            object.__setattr__(self, "text", text)
            object.__setattr__(self, "reasoning", reasoning)

    @property
    def usage(self) -> dict[str, float]:
        """What it took, as `Scored` has it; what was known took no time."""
        seconds = None if self.is_cached else round(self.seconds, 6)
        usage = [("prompt_tokens", self.prompt_tokens), ("new_tokens", self.new_tokens), ("seconds", seconds)]
        return {name: value for name, value in [*usage, ("cost", self.cost)] if value is not None}


MAX_LABEL_CHARS = 40
MIN_PER_LABEL = 3
"""Records that there are for a label on average, at least; else references are answers and not labels."""


def label_of(texts: Counter[str]) -> str | None:
    """Return the commonest of answers that are labels, short ones that come again and again; None where they are not.

    ``texts`` says how often there is each.
    """
    is_short = all(0 < len(text) <= MAX_LABEL_CHARS and "\n" not in text for text in texts)
    return max(texts, key=texts.__getitem__) if is_short and 0 < MIN_PER_LABEL * len(texts) <= texts.total() else None


def category_specs(categories: Mapping[str, Any], trained: Iterable[Row] = ()) -> dict[str, CategorySpec]:
    """Return how each category of a manifest is scored; call it first, so that a bad scorer costs no training.

    ``trained`` are the training records, which tell the labels.

    Raises TrainError: E912 bad-dataset, E931 unknown-metric, E932 bad-metric-option, each naming the category.
    """
    specs, texts = {}, defaultdict[str, Counter[str]](Counter)
    for row in trained:
        if row.is_liked is not False:
            # A record without an answer is refused, or counted, where it is rendered.
            with suppress(RowFault):
                texts[row.category][(_parts(row)[1].get("content") or "").strip()] += bool(row.messages)
    for name, entry in categories.items():
        # A scorer that cannot work would else end the run after hours of training.
        try:
            specs[name] = _spec(entry, label_of(+texts[name]))
        except TrainError as error:
            raise TrainError(error.code, f"category {name!r}: {error.message}", error.hint) from error
    return specs


def _spec(entry: Any, label: str | None) -> CategorySpec:
    table = entry if isinstance(entry, dict) else {"scorer": entry}
    chosen, options, contract = table.get("scorer") or "", table.get("options") or {}, table.get("contract") or {}
    if not isinstance(chosen, str) or not all(isinstance(part, dict) for part in (entry, options, contract)):
        fault = "not a table with a scorer's name, its options and a contract"
        raise TrainError("E912 bad-dataset", f"the manifest's entry is {fault}", "Export the dataset again.")
    metrics.discover_metrics()["contract"].check(contract)
    spec = CategorySpec(metrics.find_scorer(chosen, options), options, not chosen, contract, label)
    if "logprobs" in spec.metric.options and not spec.choices:
        message = f"the metric {chosen!r} needs choices"
        raise TrainError("E932 bad-metric-option", message, 'Set choices, such as ["yes", "no"].')
    return spec


def find_spec(categories: Mapping[str, CategorySpec], name: str) -> CategorySpec:
    """Return how a category is scored: by the default metric where ``categories`` does not know it."""
    return categories.get(name) or CategorySpec(metrics.find_scorer(""), {}, is_default=True)


def rows_with_choices(rows: Sequence[Row], categories: Mapping[str, CategorySpec]) -> list[tuple[Row, Sequence[str]]]:
    """Return the rows of which choices are compared, with their choices."""
    each = ((row, find_spec(categories, row.category).choices) for row in rows if row.messages)
    return [(row, choices) for row, choices in each if choices]


def score_answers(
    rows: Sequence[Row], references: Mapping[str, str], answers: Sequence[Answer], nlls: Sequence[Nll] | None,
    categories: Mapping[str, CategorySpec], *, split: str, rejected: Sequence[Nll] = (),
) -> list[Scored]:  # fmt: skip
    """Join completions and likelihoods by record id and score them; a row without a likelihood is left out.

    ``rejected`` are the likelihoods of the worse of two answers. None as ``nlls`` is a model that tells none: then a
    row without a completion is left out. A category that ``categories`` does not know, and the empty one, is scored by
    the default metric.
    """
    by_id = {answer.id: answer for answer in answers}
    nll_by_id, rejected_by_id = ({nll.id: nll for nll in each} for each in (nlls or (), rejected))
    scored = []
    for row in rows:
        if row.id not in (by_id if nlls is None else nll_by_id):
            continue
        spec, (reference, _) = find_spec(categories, row.category), split_reasoning(references.get(row.id, ""))
        answer, nll, other = by_id.get(row.id), nll_by_id.get(row.id), rejected_by_id.get(row.id)
        record = Scored(
            row.id, split, row.category, row.cluster, reference, None, 0, 0, scores={}, is_liked=row.is_liked,
            slices=row.slices, trivial_answer=spec.label, options=digest_of(spec.options) if spec.options else None,
            rejected=None if other is None else {"nll": other.nll, "num_tokens": other.num_tokens}, digest=row.digest,
        )  # fmt: skip
        if nll is not None:
            record = replace(record, nll=nll.nll, num_tokens=nll.num_tokens, num_bytes=nll.num_bytes)
        if answer is not None:
            record = replace(
                record, text=answer.text, reasoning=answer.reasoning, stopped=answer.stopped, usage=answer.usage,
                metric=spec.metric.primary, scores=_all_scores(spec, row, answer, reference),
                trivial_score=_trivial_score(spec, row, reference),
            )  # fmt: skip
        scored.append(record)
    return scored


def _all_scores(spec: CategorySpec, row: Row, answer: Answer, reference: str) -> dict[str, float]:
    """Return the scores of the metric, and those of behaviour, reasoning and contract beside it."""
    scores, shelf = spec.scores(answer, row, reference), metrics.discover_metrics()
    # A choice that was taken by likelihood was not written, so it has no behaviour.
    if answer.stopped is not None or not spec.choices:
        scores |= shelf["behaviour"].scores(answer.text, reference)
    if answer.reasoning_tokens is not None:
        scores |= {REASONING_TOKENS: float(answer.reasoning_tokens), REASONING_CUT: float(answer.is_cut)}
    before, message = _parts(row)
    # No contract applies where the answer is to call tools, nor to raw text.
    if spec.contract and message and not message.get("tool_calls"):
        # Citations must stand in the messages before the answer.
        prompt = "\n\n".join(part["content"] for part in before if part["content"] is not None)
        scores |= shelf["contract"].scores(answer.text, reference, {**spec.contract, "prompt": prompt})
    return scores


def _trivial_score(spec: CategorySpec, row: Row, reference: str) -> float | None:
    """Return the score of a model that has learnt nothing: it always says the label, or repeats what stands before.

    None where nothing does.
    """
    before, _ = _parts(row)
    text = spec.label if spec.label is not None else (before[-1]["content"] or "") if before else None
    if text is None or (spec.choices and metrics.index_of_choice(text, spec.choices) is None):
        return None
    return spec.scores(Answer(row.id, text, stopped=True), row, reference).get(spec.metric.primary)


def _parts(row: Row) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
    # The messages before the last answer, and that answer; nothing of raw text.
    if not row.messages:
        return (), {}
    last = last_answer(row.messages)
    return row.messages[:last], row.messages[last]


def comparison_remark(objective: Objective, dataset: Dataset) -> list[str]:
    """Return what cannot be told of an objective that compares answers where no exam record does; else nothing."""
    rows = (row for split in ("validation", "test") for row in dataset.splits[split])
    if objective not in PREFERENCES or any(row.rejected is not None or row.is_liked is not None for row in rows):
        return []
    return ["No validation or test record compares answers, so nothing shows whether training moved them as wanted."]


def rescore(
    sides: Sequence[Sequence[Scored]], dataset: Dataset, records: Mapping[str, int]
) -> list[list[Scored]]:  # fmt: skip
    """Return the results of a run on ``dataset``, on so many ``records`` of each split, scored again.

    Texts and likelihoods are taken as they stand, and so are the verdicts of a judge, which no text tells. Raises
    TrainError "E952 run-changed" where they are not the results on those records.
    """
    categories = category_specs(dataset.manifest.get("categories", {}), dataset.splits["train"])
    rows = {(split, row.id): row for split, part in dataset.splits.items() for row in part}
    matched = Counter(old.split for old in sides[-1] if old.split == "general" or (old.split, old.id) in rows)
    if matched != records:
        message = (
            f"predictions.jsonl has {matched.total():,} of the {sum(records.values()):,} records that were measured"
        )
        raise TrainError("E952 run-changed", message, "Put it back, or train again.")
    return [[_rescore_record(old, rows.get((old.split, old.id)), categories) for old in side] for side in sides]


def _rescore_record(old: Scored, row: Row | None, categories: Mapping[str, CategorySpec]) -> Scored:
    if row is None:
        return old
    _, message = _parts(row)
    if old.text is None or not message:
        return replace(old, category=row.category, cluster=row.cluster, slices=row.slices, is_liked=row.is_liked)
    # How a call is spelled is known to the template.
    content = old.reference if message.get("tool_calls") else message["content"] or ""
    reference = "" if row.is_liked is False else content
    answer = Answer(old.id, old.text, old.stopped, old.reasoning)
    [new] = score_answers([row], {row.id: reference}, [answer], None, categories, split=old.split)
    kept_scores = {name: v for name, v in (old.scores or {}).items() if name != new.metric or new.metric == "judge"}
    return replace(
        new, scores={**kept_scores, **(new.scores or {})}, nll=old.nll, num_tokens=old.num_tokens,
        num_bytes=old.num_bytes, rejected=old.rejected, usage=old.usage, asked=old.asked,
    )  # fmt: skip
