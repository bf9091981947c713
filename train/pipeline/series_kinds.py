"""The kinds of series: which members each has, and what it makes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from train.base import console
from train.base.errors import TrainError, validation_fault
from train.base.run_folder import plain_name, read_run
from train.base.storage import digest_of
from train.evaluate.predictions import PREDICTIONS, read_predictions
from train.model.batch import BatchSampler
from train.pipeline.series import BEGIN_ANEW, Kind, Member, Outcome, Series, SeriesRecord
from train.pipeline.stages import StageSeries
from train.recipe import Recipe, load_recipe
from train.report import Report, Rules, wording
from train.report.choices import Exam, behind, without_choosing
from train.report.learning_curve import READ_ALL, ShareResult, learning_curve
from train.report.part_tables import settings_text
from train.report.seeds import seeds_report
from train.report.training_parts import Sweep, Trial

_Number = Annotated[int, Field(ge=1, le=100)]
_Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Seeds(Kind):
    """The recipe with ``number`` seeds one after another, beginning with its own."""

    number: _Number
    name = "seeds"

    def check(self, recipe: Recipe) -> None:
        """Refuse seeds beyond 32 bits."""
        check_seeds(recipe, self.number)

    def steps(self, series: Series, whole: BatchSampler) -> list[BatchSampler]:
        """Return the same for each."""
        return [whole] * self.number

    def conclude(self, series: Series) -> Outcome:
        """Run all, and report them as one."""
        seeds = range(series.recipe.seed, series.recipe.seed + self.number)
        folders = series.run([Member(f"seed-{seed}", {"seed": seed}) for seed in seeds])
        return pool(list(folders.values()), series.record.id)


@dataclass(frozen=True)
class LearningCurveSeries(Kind):
    """The recipe on each of ``shares`` of the training records, ascending to 1, with ``number`` seeds each.

    All have the steps of the whole, so that data and compute are not mixed up. The curve is that of the split whose
    verdicts count; nothing is chosen by it.
    """

    shares: Annotated[Sequence[_Share], Field(min_length=3)]
    number: _Number
    name = "curve"

    def check(self, recipe: Recipe) -> None:
        """Refuse shares that draw no curve, and a recipe that has one of its own."""
        check_seeds(recipe, self.number)
        if list(self.shares) != sorted(set(self.shares)) or self.shares[-1] != 1:
            raise TrainError("E871 bad-series", "shares of a curve ascend to 1, the whole", BEGIN_ANEW)
        if recipe.mixing.share != 1:
            message = f"the recipe has mixing.share = {recipe.mixing.share:g}, and a curve takes shares of the whole"
            raise TrainError("E871 bad-series", message, "Remove it from the recipe.")

    def steps(self, series: Series, whole: BatchSampler) -> list[BatchSampler]:
        """Return the same for each, and warn where they are too few to read all records."""
        passes = whole.num_tokens() / whole.tokens
        if passes <= READ_ALL:
            console.talk(
                f"warning: the steps are {math.floor(100 * passes)} % of an epoch, so that nothing can be said of "
                f"twice the records; --set max_steps={math.ceil(len(whole) / passes)} reads them all"
            )
        return [whole] * (len(self.shares) * self.number)

    def conclude(self, series: Series) -> Outcome:
        """Run all, and draw the curve beside the report on the whole."""
        seeds = range(series.recipe.seed, series.recipe.seed + self.number)
        folders = list(series.run([
            Member(f"share-{100 * share:g}-seed-{seed}", series.matched | {"mixing.share": share, "seed": seed})
            for share in self.shares for seed in seeds
        ]).values())  # fmt: skip
        base, results = read_predictions(folders[0] / PREDICTIONS)[0], list[ShareResult]()
        for n, share in enumerate(self.shares):
            mine = folders[n * self.number : (n + 1) * self.number]
            sizes = read_run(mine[0])["examples_by_category"]
            results.append(ShareResult(share, sizes, [read_predictions(each / PREDICTIONS)[1] for each in mine]))
        outcome = pool(folders[-self.number :], series.record.id)
        plan = read_run(folders[-1])["plan"]
        curve = learning_curve(
            base, results, seeds, split=outcome.report.headline, margin=outcome.report.margin,
            fewest=outcome.report.fewest, passes=plan["run_tokens"] / plan["tokens"],
        )  # fmt: skip
        return replace(outcome, report=outcome.report.model_copy(update={"learning_curve": curve}))


_TOLERATED = ("E899 forgetting", "E930 diverged", "E934 not-finite", "E947 out-of-memory")
"""What a choice of settings may end with without ending the sweep."""
_MOST_TRIALS = 200
_WHICH_RECORDS = "it decides which records are measured, and choices are compared on the same ones"
_NOT_SWEPT = dict.fromkeys(("seed", "base", "stage", "eval.splits", "mixing.share"), "a sweep sets it itself")
_NOT_SWEPT |= dict.fromkeys(("on_too_long", "on_unrenderable"), _WHICH_RECORDS)


@dataclass(frozen=True)
class SweepSeries(Kind):
    """Each combination of the values of ``grid`` with ``number`` seeds, chosen between on validation, and the winner
    on as many fresh ones.
    """

    grid: Mapping[str, Sequence[Any]]
    number: _Number
    name = "sweep"
    is_on_validation = True

    @property
    def trials(self) -> dict[str, dict[str, Any]]:
        """All combinations by the name of their folder, those of the last key together."""
        trials = (dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values()))
        return {_slug(trial): trial for trial in trials}

    def check(self, recipe: Recipe) -> None:
        """Refuse a grid with a combination that is no recipe, and one that nobody can go through."""
        check_seeds(recipe, 2 * self.number)
        num = math.prod(map(len, self.grid.values()))
        if not 2 <= num <= _MOST_TRIALS:
            raise TrainError("E871 bad-series", f"the grid has {num:,} combinations", f"Give 2 to {_MOST_TRIALS}.")
        refused = _NOT_SWEPT | ({"max_length": _WHICH_RECORDS} if recipe.on_too_long == "skip" else {})
        # What a table sets is said by its keys, so that none of those above is among them.
        refused |= {
            key: "a value is a table; name each of its keys, such as lora_r"
            for key, values in self.grid.items() if any(isinstance(value, dict) for value in values)
        }  # fmt: skip
        if taken := sorted(refused.keys() & self.grid.keys()):
            raise TrainError("E871 bad-series", f"--grid {taken[0]}: {refused[taken[0]]}", "Remove it from the grid.")
        for trial in self.trials.values():
            load_recipe(recipe, _settings(trial))

    def steps(self, series: Series, whole: BatchSampler) -> list[BatchSampler]:
        """Return those of all trials and of the winner's fresh seeds, as if the longest trial were the best."""
        recipes = [load_recipe(series.recipe, _settings(trial)) for trial in self.trials.values()]
        runs = [
            BatchSampler(whole.examples, recipe, is_packed=whole.is_packed, num_ranks=whole.num_ranks)
            for recipe in recipes
        ]
        return [*runs, max(runs, key=BatchSampler.num_tokens)] * self.number

    def conclude(self, series: Series) -> Outcome:
        """Try all, choose on validation, train the winner on fresh seeds, and measure the test split on these alone."""
        trials = self.trials
        folders = self._folders(series, trials)
        if not folders:
            raise TrainError("E871 bad-series", "no combination of the grid could be trained", "Look at series.json.")
        sides = {name: [read_predictions(each / PREDICTIONS)[1] for each in mine] for name, mine in folders.items()}
        exam = Exam(list(sides.values()))
        best = list(sides)[exam.best]
        seeds = [series.recipe.seed + self.number + n for n in range(self.number)]
        winners = series.run([Member(f"winner-seed-{seed}", {**trials[best], "seed": seed}) for seed in seeds])
        outcome = pool(list(winners.values()), series.record.id)
        report = without_choosing(outcome.report)
        others = [name for name in sides if name != best]
        lags = dict(zip(others, behind(sides[best], [sides[name] for name in others]), strict=True))
        found = dict(zip(sides, zip(exam.scores, exam.bits, strict=True), strict=True))
        tried = [
            Trial(name=name, changes=trial, steps=int(read_run(folders[name][0])["steps"]), bits=found[name][1],
                  score=found[name][0] if exam.is_score else None, behind=lags.get(name)) if name in found
            else Trial(name=name, changes=trial, steps=0, score=None, note="ended with an error")
            for name, trial in trials.items()
        ]  # fmt: skip
        sweep = Sweep(chosen=best, trials=tried, seeds=seeds, sentence=_swept(trials[best], tried, seeds, report, exam))
        advice = exam.advice or outcome.advice
        return Outcome(report.model_copy(update={"sweep": sweep}), outcome.selected, advice)

    def _folders(self, series: Series, trials: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Path]]:
        """Run the trials, and return the folders of each that no seed of ended with an error."""
        seeds = range(series.recipe.seed, series.recipe.seed + self.number)
        members = {
            name: [Member(f"{name}-seed-{seed}", _settings(trial) | {"seed": seed}) for seed in seeds]
            for name, trial in trials.items()
        }
        folders = series.run([member for mine in members.values() for member in mine], tolerated=_TOLERATED)
        return {
            name: [folders[member.name] for member in mine]
            for name, mine in members.items() if all(member.name in folders for member in mine)
        }  # fmt: skip


def _settings(trial: Mapping[str, Any]) -> dict[str, Any]:
    return {"eval.splits": ["validation"], **trial}


def _slug(trial: Mapping[str, Any]) -> str:
    """The name of a trial's folder: "learning_rate-0.001-lora_r-8", with a digest where that is too long."""
    text = "-".join(f"{key}-{value}" for key, value in trial.items())
    name = plain_name(text)
    return name if name == text and len(name) <= 60 else f"{name[:50]}-{digest_of(dict(trial))[:8]}"


def _swept(best: Mapping[str, Any], trials: Sequence[Trial], seeds: Sequence[int], report: Report, exam: Exam) -> str:
    close = sum(trial.behind is not None and trial.behind.low <= 0 for trial in trials)
    rest = f" {close} of the others cannot be told from it." if close else ""
    if exam.trivial is not None:
        rest += f" {exam.advice or f'The trivial answer has {wording.number(exam.trivial)}.'}"
    if lost := sum(bool(trial.note) for trial in trials):
        rest += f" {lost} ended with an error."
    if any(trial.behind for trial in trials):
        rest += (
            f" The intervals count records and {len(seeds)} seeds a choice, and hold for all pairs of them together."
        )
    elif len(seeds) < 2:
        rest += " One seed was trained of each, so none can be told from another."
    by = (
        " by bits per byte, as nothing there is scored" if not exam.is_score
        else f", {', '.join(exam.left_out)} left out as not scored" if exam.left_out else ""
    )  # fmt: skip
    fresh = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
    measured = (
        "the test split was measured once, after the choice, on these runs" if report.headline == "test"
        else "no test record was measured, and of validation scores, which chose, there is no verdict"
    )  # fmt: skip
    return (
        f"Of {len(trials)} choices {settings_text(best)} was the best on validation{by}.{rest} It was chosen "
        f"on validation alone and trained again with {fresh}, which no choice has seen; {measured}."
    )


def check_seeds(recipe: Recipe, number: int) -> None:
    """Raise TrainError "E920 bad-recipe" where ``number`` seeds from the recipe's on are more than there are."""
    load_recipe(recipe, {"seed": recipe.seed + number - 1})


def pool(folders: Sequence[Path], name: str) -> Outcome:
    """Return the runs in ``folders``, which differ in the seed, as one report called ``name``; of one its own."""
    reports = [Report.load(folder) for folder in folders]
    sides = [read_predictions(folder / PREDICTIONS) for folder in folders]
    exam = Exam([[tuned] for _, tuned in sides])
    best, advice = exam.best, exam.advice
    first = reports[best]
    if len(folders) == 1:
        return Outcome(first, folders[0].name, advice)
    report = seeds_report(
        sides[0][0], [tuned for _, tuned in sides], seeds=[int(each.run.seed or 0) for each in reports], selected=best,
        name=folders[best].name, run=first.run.model_copy(update={"id": name}), default_metric=first.default_metric,
        rules=Rules(first.margin, first.fewest, first.resamples), remarks=first.remarks, curve=first.curve,
    )  # fmt: skip
    own = {name: getattr(first, name) for name in ("noise", "fits", "memory", "data_map")}
    own["notes"] = [*report.notes, *filter(None, [advice])]
    return Outcome(report.model_copy(update=own), folders[best].name, advice)


_KINDS: Mapping[str, Any] = {kind.name: kind for kind in (Seeds, LearningCurveSeries, SweepSeries, StageSeries)}


def kind_of(record: SeriesRecord) -> Kind:
    """Return the kind that a series was begun with; raises TrainError "E871 bad-series" for a request it never had."""
    try:
        # Of Python's objects a strict reading takes none but the dataclass itself.
        kind: Kind = TypeAdapter(_KINDS[record.kind]).validate_json(json.dumps(record.request), strict=True)
    except ValidationError as error:
        message = f"{record.id}: a series of {record.kind}: {validation_fault(error)}"
        raise TrainError("E871 bad-series", message, BEGIN_ANEW) from None
    return kind
