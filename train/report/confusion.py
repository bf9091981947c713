"""Which label was answered for which, in categories whose references are a few labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from train.evaluate.metrics import normalise
from train.evaluate.predictions import Scored
from train.report.model import Confusion

MOST_LABELS = 12
LONGEST_LABEL = 40
EACH_LABEL = 3
"""Validation records that there are for a label on average, at least; else references are answers and not labels."""

_Pairs = Sequence[tuple[Scored, Scored]]


def confusions(pairs: _Pairs, split: Literal["validation", "test"]) -> list[Confusion]:
    """Return the matrix of each label-like category in ``split``, by name.

    Texts are equal as the metric "exact" sees them with case folded. What a label is, validation records say alone:
    test records must not be shown.
    """
    matrices = []
    for category in sorted({before.category for before, _ in pairs if before.split == split}):
        mine = [p for p in pairs if p[0].category == category and p[0].text is not None and p[1].text is not None]
        labels = _labels([before.reference for before, _ in mine if before.split == "validation"])
        counted = [p for p in mine if p[0].split == split]
        inside = [p for p in counted if _key(p[0].reference) in labels]
        if labels and inside:
            matrices.append(
                Confusion(
                    category=category,
                    split=split,
                    labels=list(labels.values()),
                    base=_matrix(list(labels), [before for before, _ in inside]),
                    tuned=_matrix(list(labels), [after for _, after in inside]),
                    num_left_out=len(counted) - len(inside),
                )
            )
    return matrices


def _labels(references: Sequence[str]) -> dict[str, str]:
    """Return the labels in order, by what they are compared by; none where these references are no labels."""
    labels: dict[str, str] = {}
    for reference in references:
        labels.setdefault(_key(reference), reference.strip())
    is_few = 2 <= len(labels) <= MOST_LABELS and len(references) >= EACH_LABEL * len(labels)
    is_short = all(0 < len(label) <= LONGEST_LABEL and "\n" not in label for label in labels.values())
    return dict(sorted(labels.items())) if is_few and is_short else {}


def _matrix(keys: Sequence[str], side: Sequence[Scored]) -> list[list[int]]:
    column_of = {key: column for column, key in enumerate(keys)}
    counts = [[0] * (len(keys) + 1) for _ in keys]
    for record in side:
        counts[column_of[_key(record.reference)]][column_of.get(_key(record.text or ""), len(keys))] += 1
    return counts


def _key(text: str) -> str:
    return normalise(text, casefold=True)
