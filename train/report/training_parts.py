"""The parts of a report that are about how a model was trained: on preferences, in stages."""

from __future__ import annotations

from typing import Literal

from train.report.part import Change, Estimate, ReportPart


class PreferenceResult(ReportPart):
    """How far training moved one category, or all for which it is empty; none where too few can be drawn from."""

    category: str
    n: int
    num_clusters: int
    agreement: Estimate
    """Share whose better answer gained more likelihood than the worse; where nothing changed a record counts half."""
    margin: Estimate | None
    """By how many nats on average."""
    likelier: Change | None
    """Share of the pairs of which the model finds the better answer likelier, whatever their lengths."""
    length: Change | None
    """Mean characters of the answers that were generated; the drift is their change as a share of the base's."""
    length_drift: Estimate | None


class Preferences(ReportPart):
    """Of records that compare answers: what training did to them, in the split whose verdicts count."""

    split: Literal["validation", "test"]
    total: PreferenceResult
    categories: list[PreferenceResult]
    sentence: str


class StageResult(ReportPart):
    """One stage: what it was trained on, and what changed against the stage before."""

    name: str
    data: str
    objective: str
    begun: str
    """How it went on from what was before; empty where that is the base."""
    n: int
    """Records that it was trained on."""
    num_left_out: int
    """Training records that are exam records too, word for word; they were not trained on."""
    num_overlapping: int
    """Exam records that share 13 words in a row with a training record."""
    overlapping: list[str]
    """The first of these, of the validation split alone."""
    scores: dict[str, float | None]
    """By category, after it; of raw text bits per byte. None where nothing could be scored."""
    mean: float | None
    improved: list[str]
    """Categories that got better by this stage, and below those that got worse."""
    regressed: list[str]
    likelier: Change | None
    """Share of pairs of which the better answer is likelier, before it and after."""
    general: Change | None
    """Bits per byte of general text, before it and after."""
    forgetting: str
    """What the stage made the model forget, in a sentence; empty where that was not measured."""


class Stages(ReportPart):
    """Several trainings one after another, all measured on the same records."""

    split: Literal["validation", "test"]
    base: dict[str, float | None]
    """Scores before the first one, by category."""
    base_mean: float | None
    results: list[StageResult]
    sentence: str
