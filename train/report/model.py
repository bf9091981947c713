"""What a report says, as data; `schemas/report.schema.json` is made from it.

Numbers that other programs need stand beside the finished tables that people read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from train.base.errors import TrainError, first_line
from train.base.run_folder import check_digest
from train.base.storage import MOST_DOCUMENT, read_file
from train.recipe.schedule import Remedy, Tuning
from train.report.stats import Reason, VerdictLabel
from train.report.tables import PARTS, Part, ReportPart, ReportTable
from train.report.tables import Change as Change  # noqa: PLC0414 - all parts of a report are found here
from train.report.tables import Estimate as Estimate  # noqa: PLC0414

REPORT = "report.json"
_OF_TRAINING: Sequence[Part] = ("over-fitting", "known by heart")
Gate = Literal["worse", "not-shown"]
"""What ends a command with exit code 1: what is worse, or also all that is not shown not to be."""


class Unscored(ReportPart):
    """A category without figures, as over 5 % of its records could not be scored, or none can be compared."""

    category: str
    metric: str
    n: int
    """Records that could be scored for both models."""
    num_unscored: int
    verdict: Literal["inconclusive"] = "inconclusive"
    reason: Literal["unscored"] = "unscored"
    label: str = "? not scored"
    sentence: str


class CategoryResult(ReportPart):
    """One category in one split, or the mean over the scored ones, which all weigh the same."""

    category: str
    metric: str
    """The score compared, e.g. "exact" or "json_schema.field_f1"; "bits_per_byte" where nothing could be scored; of the
    mean "3 categories"."""
    higher_is_better: bool = True
    n: int
    num_clusters: int
    """Groups of records that repeat one another; the independent evidence there is, of which a verdict takes 30."""
    num_unscored: int = 0
    num_unanswered: int = 0
    """Further records that one of the models did not answer."""
    base: Estimate
    tuned: Estimate
    difference: Estimate
    """Tuned minus base, paired."""
    test: str
    p: float
    p_adjusted: float
    """Holm over the categories of the split, of all models; of a mean over the models."""
    margin_p: float | None = None
    """One-sided, of a loss of the margin or more; none of bits per byte."""
    is_no_worse: bool = False
    """A loss beyond the margin is ruled out."""
    verdict: VerdictLabel = "inconclusive"
    reason: Reason | None = None
    """Why the verdict is that one."""
    label: str = ""
    """The verdict as tables have it, such as "+ improved" or "? too few (24 of 30)"."""
    note: str = ""
    sentence: str = ""
    better: int = 0
    """Records that scored more than before."""
    worse: int = 0
    minimum_detectable_effect: float | None = None
    trivial: float | None = None
    """The score of a model that has learnt nothing, which an improvement must beat, too; None where there is none."""
    trivial_p: float | None = None
    """Of the paired test of the tuned model against it, before Holm."""
    trivial_answer: str | None = None
    """The commonest training label, which it always says; none where it repeats the prompt, and of a mean."""
    bits_per_byte: Change | None = None
    other: dict[str, Change] = Field(default_factory=dict)
    """Further scores of the metric, e.g. "json_schema.parse"."""
    is_uncalibrated: bool = False
    """Its scores called "judge" come from a judge that nobody has shown to agree with people."""


class SplitResult(ReportPart):
    """All categories of one split."""

    split: Literal["validation", "test"]
    n: int
    categories: list[CategoryResult]
    macro: CategoryResult | None
    """None where nothing is scored, and where a category is `unscored`: what is left would be no mean of all."""
    unscored: list[Unscored] = Field(default_factory=list)
    behaviour: dict[str, Change] = Field(default_factory=dict)
    """Means over the completions of both models. stopped, empty, repetition, reasoning_cut: shares of those that ended
    by themselves before the limit of new tokens, that have no text, of word 4-grams that the same one had used before,
    and whose reasoning was ended; length_ratio: characters over those of the reference; reasoning_tokens: those before
    the answer."""

    def rows(self) -> list[CategoryResult | Unscored]:
        """Return the rows of its table: categories with figures and without, and last the mean, where there is one."""
        return [*self.categories, *self.unscored, *([self.macro] if self.macro else [])]


ForgettingWord = Literal["forgot", "held", "inconclusive"]


class Forgetting(ReportPart):
    """Bits per byte on text that has nothing to do with the dataset; lower is better."""

    n: int
    text: str = ""
    """The file of that text, as the recipe names it, or the one that is built in; empty where nobody said."""
    base: Estimate
    tuned: Estimate
    difference: Estimate
    word: ForgettingWord
    why: str = ""
    """Why it is inconclusive, where the interval does not say so."""
    remedies: list[Remedy] = Field(default_factory=list)
    """What to do next, where the model forgot."""
    parts: list[Forgetting] = Field(default_factory=list)
    """Each part that the file of the text names, where there are several; the figures above are those of the worst."""


class ComparedModel(ReportPart):
    """One of the models, and what a thousand of its answers took; None is what nobody measured."""

    name: str
    kind: str
    prompting: str = ""
    """What stood before each prompt in words, such as "4 examples"; empty for nothing."""
    seconds: float | None = None
    new_tokens: float | None = None
    cost: float | None = None
    """In the currency of the prices that were given."""


class PairedResults(ReportPart):
    """One of the models against the reference, which stands as the base there."""

    name: str
    splits: list[SplitResult]
    forgetting: Forgetting | None = None


class Curve(ReportPart):
    """Loss in nats a supervised token by optimizer step: of training, thinned out to what a chart can show, and of each
    validation, None where it measured none.
    """

    training: list[tuple[int, float]] = Field(default_factory=list)
    validation: list[tuple[int, float | None]] = Field(default_factory=list)


class JudgeSummary(ReportPart):
    """What a model that was asked for it made of the answers of base and tuned, each pair in both orders."""

    model: str
    host: str
    n: int
    num_tuned: int
    """Pairs of which the tuned model's answer was preferred, wherever it stood."""
    num_base: int
    num_tied: int
    num_swayed: int
    """Pairs whose preference went with the place; they count as ties."""
    num_unscored: int
    """Pairs without two answers that could be read; no score counts them."""
    num_retries: int = 0
    """Requests that were sent again, after no answer or one that is no verdict."""
    reasons: dict[str, int]
    """Why, by the number of pairs."""
    sentence: str
    min_human: int = 50
    """Pairs that people must have judged too, before the judge counts as calibrated."""
    min_kappa: float = 0.6
    """How far it must agree with them then."""
    is_calibrated: bool = False
    num_human: int = 0
    """Validation pairs that people have judged, too; pairs of two equal answers are left out."""
    kappa: Estimate | None = None
    """Cohen's kappa with people; None where one of the two always says the same."""
    num_outdated: int = 0
    """Verdicts of people on texts that are not those of this run; they do not count."""
    remarks: list[str] = Field(default_factory=list)
    """What stands beside its figures."""


class Run(ReportPart):
    """What made the numbers."""

    id: str
    created: str = ""
    base_model: str = ""
    dataset: str = ""
    objective: str = ""
    method: str = ""
    tuning: Tuning | None = None
    """What the recipe did against forgetting."""
    general_text: str = ""
    """The text that forgetting was measured on, as `Forgetting` names it."""
    seed: int | None = None
    device: str = ""
    seconds: float | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    """Further facts worth showing, by name."""
    versions: dict[str, str] = Field(default_factory=dict)
    digests: dict[str, str] = Field(default_factory=dict)


class Measured(ReportPart):
    """What predictions do not tell of a run; run.json keeps it, so that a report can be made again."""

    run: Run
    margin: float
    resamples: int
    remarks: list[str] = Field(default_factory=list)
    """What to keep in mind, as only the run could tell it."""
    judged: JudgeSummary | None = None
    tables: list[ReportTable] = Field(default_factory=list)
    """All that is shown beside notes and remarks, finished; run.json keeps those of what happened in training."""


class Report(Measured, title="A reference and the models compared with it: runs/ID/report.json, train compare."):
    """A reference model and others on the same records: the base and the tuned model of a run, or any that there are.

    A run, a series, `train compare`, an evaluation and the proof of a .gguf file are all of this form.
    """

    version: Literal[1] = 1
    models: list[ComparedModel]
    """The first is the reference, which the others are held against; one alone is compared with itself."""
    headline: Literal["validation", "test"]
    """The split whose verdicts count: test, or validation where the dataset has no test records."""
    splits: list[SplitResult]
    """Those of the second model, as is `forgetting`."""
    forgetting: Forgetting | None
    others: list[PairedResults] = Field(default_factory=list)
    """The third model, and those behind it."""
    curve: Curve = Curve()
    notes: list[str]
    """What to keep in mind, as the predictions tell it."""
    likelier: Change | None = None
    """Share of the pairs of which the model finds the better answer likelier, in the split whose verdicts count."""

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Return the report of a run: ``path`` is the run's folder or its report.json.

        Raises TrainError: E938 bad-report when it is missing or not what this version writes; E952 run-changed.
        """
        file = Path(path) if Path(path).is_file() else Path(path) / REPORT
        check_digest(file)
        try:
            # Not pydantic's own JSON reader: it refuses the lone surrogate that a hostile text may hold.
            return cls.model_validate(json.loads(read_file(file, most=MOST_DOCUMENT)))
        except (OSError, ValueError, RecursionError) as error:
            raise TrainError(
                "E938 bad-report", f"{file}: {first_line(error)}", "Name the folder of a finished run."
            ) from error

    def main(self) -> SplitResult:
        """Return the split whose verdicts count."""
        return next(split for split in self.splits if split.split == self.headline)

    def pairs(self) -> list[PairedResults]:
        """Return each model against the reference."""
        name = self.models[-1 - len(self.others)].name
        return [PairedResults(name=name, splits=self.splits, forgetting=self.forgetting), *self.others]

    def failing(self, gate: Gate = "worse") -> list[str]:
        """Return what closes ``gate`` in the split whose verdicts count, of several models as "category (model)".

        That is what got worse, or all that is not shown not to be, and of either gate what nobody can tell.
        """
        names = list[str]()
        for pair in self.pairs():
            (split,) = (split for split in pair.splits if split.split == self.headline)
            closed = [
                row.category + (" (not all answered)" if row.num_unanswered else "")
                for row in (*split.categories, *filter(None, [split.macro]))
                if row.num_unanswered
                or row.verdict == "regressed"
                or (gate == "not-shown" and row.reason != "not-worse")
            ]
            closed += [row.sentence for row in split.unscored]
            names += [name + (f" ({pair.name})" if self.others else "") for name in closed]
        return names

    def measured(self) -> Measured:
        """Return what run.json keeps of it."""
        kept = {name: getattr(self, name) for name in Measured.model_fields}
        return Measured(**kept | {"tables": [table for table in self.tables if table.part in _OF_TRAINING]})

    def with_tables(self, tables: Iterable[ReportTable]) -> Self:
        """Return the report with ``tables`` in place of those of the same parts, all in the order of `PARTS`."""
        new = list(tables)
        parts = {table.part for table in new}
        kept = [table for table in self.tables if table.part not in parts]
        ordered = sorted([*kept, *new], key=lambda table: PARTS.index(table.part))
        return self.model_copy(update={"tables": ordered})
