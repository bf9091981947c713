"""What a model that has learnt nothing scores: always the commonest training label, or a copy of the prompt.

A tuned model that is no better than that has not improved, however bad its base is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from train.data.dataset import Dataset, Row, RowFault, last_answer
from train.evaluate.metrics.choice import index_of_choice
from train.evaluate.predictions import Scored
from train.evaluate.scoring import Answer, CategorySpec, answer_scores, record_options, spec_of

LONGEST_LABEL = 40
EACH_LABEL = 3
"""Records that there are for a label on average, at least; else references are answers and not labels."""


def with_trivial(
    records: Sequence[Scored], dataset: Dataset, categories: Mapping[str, CategorySpec]
) -> list[Scored]:  # fmt: skip
    """Return ``records`` with what the trivial answer to each of them scores, where it can be scored.

    It is the commonest answer of the category's training records where these are a closed set of labels, else a copy of
    the last message before the answer.
    """
    labels = _labels(dataset.splits["train"], categories)
    rows = {(split, row.id): row for split in ("validation", "test") for row in dataset.splits[split]}
    return [_scored(record, rows.get((record.split, record.id)), labels, categories) for record in records]


def _labels(rows: Iterable[Row], categories: Mapping[str, CategorySpec]) -> dict[str, str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if not row.messages or row.is_liked is False:
            continue
        with suppress(RowFault):
            counts[row.category][(row.messages[last_answer(row.messages)]["content"] or "").strip()] += 1
    return {
        category: min(texts, key=lambda text: (-texts[text], text))
        for category, texts in counts.items()
        if spec_of(categories, category).metric.kind in ("choice", "likelihood") or is_closed(texts)
    }


def is_closed(texts: Counter[str]) -> bool:
    """Whether answers are labels, by how often there is each: short ones, which come again and again."""
    is_short = all(0 < len(text) <= LONGEST_LABEL and "\n" not in text for text in texts)
    return is_short and texts.total() >= EACH_LABEL * len(texts)


def _scored(
    record: Scored, row: Row | None, labels: Mapping[str, str], categories: Mapping[str, CategorySpec]
) -> Scored:
    if row is None or not row.messages or not record.metric:
        return record
    spec, label = spec_of(categories, row.category), labels.get(row.category)
    text = row.messages[max(0, last_answer(row.messages) - 1)]["content"] if label is None else label
    chosen = index_of_choice(text or "", spec.choices)
    likely = [] if chosen is None else [float(index == chosen) for index in range(len(spec.choices))]
    answer = Answer(row.id, text or "", True, logprobs=likely)
    scores = answer_scores(spec, answer, record.reference, record_options(spec, row, answer))
    return replace(record, trivial_answer=label, trivial_score=scores.get(record.metric))
