"""The parts of a report that are about how a model was trained: on preferences, in stages."""

from __future__ import annotations

from typing import Any, Literal

from train.report.tables import Change, Estimate, ReportPart


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


class SeedSpread(ReportPart):
    """How far training seeds lie apart in one category of the headline split; the mean of all has no name."""

    category: str
    changes: list[float]
    """Tuned minus base of each seed."""
    share: float
    """Of the variance behind the interval, what lies between seeds and not between records."""


class SeedsSummary(ReportPart):
    """Several runs that differ in the seed alone; the report's figures are their means."""

    seeds: list[int]
    selected: str
    """The run with the best validation score, whose answers are shown."""
    spreads: list[SeedSpread]
    sentence: str


class CurvePoint(ReportPart):
    """The runs on one share of the training records."""

    share: float
    num_records: int
    """Training records of the category, as they were taken: clusters are whole."""
    score: Estimate
    by_seed: list[float]


CurveWord = Literal["gain", "flat", "falls", "unclear"]


class CategoryCurve(ReportPart):
    """One category: its scores, and what a doubling of the training records brought, better being positive."""

    category: str
    """Empty for the mean, which has no metric."""
    metric: str
    higher_is_better: bool
    num_clusters: int
    base: float
    points: list[CurvePoint]
    trend: Estimate | None
    word: CurveWord
    sentence: str


class LearningCurve(ReportPart):
    """What shares of the training records brought, each under the same recipe and number of steps."""

    split: Literal["validation", "test"]
    seeds: list[int]
    shares: list[float]
    categories: list[CategoryCurve]
    sentence: str


class Trial(ReportPart):
    """One choice of settings in a sweep, at the most steps that it was trained for."""

    name: str
    changes: dict[str, Any]
    steps: int
    score: float | None
    """The mean score on validation; none where nothing is scored, or the run ended with an error."""
    bits: float | None = None
    """Bits per byte there, which decide between equal scores; none where the run ended with an error."""
    behind: Estimate | None = None
    """How much higher the chosen one scored on the same records, where both had the same steps; without a score, how
    many bits per byte fewer it took. The intervals of a sweep hold together."""
    note: str = ""


class Sweep(ReportPart):
    """Settings that were tried, and the one that validation chose; the report is that of its runs on fresh seeds."""

    chosen: str
    trials: list[Trial]
    seeds: list[int]
    sentence: str
