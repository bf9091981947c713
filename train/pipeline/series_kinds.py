"""The kinds of series: which members each has, and what it makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.base.errors import TrainError
from train.evaluate.predictions import PREDICTIONS, read_predictions
from train.pipeline.series import Kind, Member, Outcome, Series, SeriesRecord, Whole
from train.recipe import Recipe
from train.report import Report, Rules
from train.report.seeds import seeds_report


@dataclass(frozen=True)
class Seeds:
    """The recipe with ``number`` seeds one after another, beginning with its own."""

    number: int
    name: Literal["seeds"] = "seeds"

    @property
    def request(self) -> Mapping[str, Any]:
        """How many."""
        return {"number": self.number}

    def check(self, recipe: Recipe) -> None:
        """Refuse seeds beyond 32 bits."""
        check_seeds(recipe, self.number)

    def steps(self, whole: Whole) -> list[int]:
        """Return as many steps for each."""
        return [whole.steps] * self.number

    def conclude(self, series: Series) -> Outcome:
        """Run all, and report them as one."""
        seeds = range(series.recipe.seed, series.recipe.seed + self.number)
        folders = series.run([Member(f"seed-{seed}", {"seed": seed}) for seed in seeds])
        return pool([folder for folder in folders if folder is not None], series.record.id)


def check_seeds(recipe: Recipe, number: int) -> None:
    """Raise TrainError "E871 bad-series" where ``number`` seeds from the recipe's on are more than there are."""
    if recipe.seed + number > 1 << 32:
        raise TrainError("E871 bad-series", f"seed {recipe.seed} has no {number - 1} seeds after it", "Lower the seed.")


def pool(folders: Sequence[Path], name: str, remarks: Sequence[str] = ()) -> Outcome:
    """Return the runs in ``folders``, which differ in the seed, as one report called ``name``; of one its own."""
    reports = [Report.load(folder) for folder in folders]
    sides = [read_predictions(folder / PREDICTIONS) for folder in folders]
    kept = max(range(len(folders)), key=lambda index: validation_score(reports[index]))
    first = reports[kept]
    if len(folders) == 1:
        return Outcome(first.model_copy(update={"remarks": [*first.remarks, *remarks]}), folders[0].name)
    report = seeds_report(
        sides[0][0], [tuned for _, tuned in sides], seeds=[int(each.run.seed or 0) for each in reports], kept=kept,
        name=folders[kept].name, run=first.run.model_copy(update={"id": name}), default_metric=first.default_metric,
        rules=Rules(first.margin, first.fewest, first.resamples), remarks=[*first.remarks, *remarks],
    )  # fmt: skip
    return Outcome(report.model_copy(update={"curve": first.curve, "noise": first.noise}), folders[kept].name)


def validation_score(report: Report) -> tuple[float, float]:
    """Return what runs are chosen by, higher being better: the mean score on validation, then fewer bits per byte.

    Without a validation split all are alike: the test split chooses nothing.
    """
    part = report.splits[0]
    if part.split != "validation":
        return 0.0, 0.0
    bits = [row.bits_per_byte.tuned for row in part.categories if row.bits_per_byte is not None]
    return part.macro.tuned.value if part.macro else 0.0, -sum(bits) / max(1, len(bits))


_KINDS: Mapping[str, Any] = {"seeds": Seeds}


def kind_of(record: SeriesRecord) -> Kind:
    """Return the kind that a series was begun with; raises TrainError "E871 bad-series" for one not known here."""
    try:
        kind: Kind = _KINDS[record.kind](**record.request)
    except (KeyError, TypeError) as error:
        raise TrainError(
            "E871 bad-series", f"{record.id}: a series of {record.kind}: {error}", "Begin a new series."
        ) from error
    return kind
