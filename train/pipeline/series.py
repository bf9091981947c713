"""Several runs as one, a *series*: members that differ from a recipe in some settings, run one after another.

A series is a folder with `series.json`, the recipe, and an ordinary run folder for each member. `next_members` says
from the folders of those that were run which come next, and one loop runs them: what is finished is not run again, so
that a series which was stopped or killed goes on. What all cost is said before the first one begins.
"""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from train.base import console
from train.base.errors import Exit, TrainError, validation_fault
from train.base.file_guard import open_file
from train.base.run_folder import (
    RECIPE,
    RUN,
    SERIES,
    at_work,
    check_free,
    next_run,
    now,
    plain_name,
    read_run,
    weights_digest,
    write_run,
)
from train.base.storage import digest_of, sha256_of, write_whole
from train.data.dataset import open_dataset
from train.evaluate.predictions import FEEDBACK, PREDICTIONS, read_predictions
from train.model import find_base
from train.model.batch import BatchSampler
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.pipeline.execute import FEWEST_STEPS, start_run
from train.pipeline.plan import duration, make_plan
from train.pipeline.prepare import add_adapters, prepare
from train.pipeline.stages import Stage, open_stages, stage_report, stage_settings
from train.recipe import Recipe, load_recipe, recipe_digest, recipe_toml
from train.report import Report, table, write_report
from train.report.judge import BAD_JUDGE
from train.report.learning_curve import READ_ALL, ShareResult, learning_curve
from train.report.model import REPORT
from train.report.series import TrialResult, choose, pool, sweep_report
from train.report.tables import ReportPart

SeriesKind = Literal["seeds", "curve", "sweep", "stages"]
Variants = Mapping[str, Mapping[str, Any]]
"""What is trained with each seed: settings by the name that the folders begin with."""
_STOPPED = (Exit.INTERRUPTED, Exit.TERMINATED, Exit.HUNG_UP)
_TOLERATED = ("E899 forgetting", "E930 diverged", "E934 not-finite", "E947 out-of-memory")
"""What a choice of settings may end with without ending the sweep."""
_MOST_TRIALS = 200
_WHICH_RECORDS = "it decides which records are measured, and choices are compared on the same ones"
_NOT_SWEPT = dict.fromkeys(("seed", "base", "stage", "eval.splits", "mixing.share"), "a sweep sets it itself")
_NOT_SWEPT |= dict.fromkeys(("on_too_long", "on_unrenderable"), _WHICH_RECORDS)


class MemberRecord(ReportPart):
    """One run of a series, which lies in the series' folder under its name."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    changes: dict[str, Any]
    """What it has otherwise than the recipe, by dotted key."""
    status: Literal["waiting", "running", "stopped", "finished", "failed"] = "waiting"
    error: str = ""
    """The code of the error that it failed with, or of that of its judge where it finished."""


class SeriesRecord(ReportPart, title="A series of runs: runs/ID/series.json."):
    """What a series was asked for, and how far it is."""

    version: Literal[1] = 1
    id: str
    kind: SeriesKind
    status: Literal["running", "stopped", "finished", "failed"] = "running"
    created: str
    ended: str = ""
    error: str = ""
    """The code of the error that it failed with."""
    message: str = ""
    dataset: dict[str, str | None]
    """Its path and name."""
    digests: dict[str, str]
    """The SHA-256 of its dataset, with the data of its stages, of its recipe and of its base."""
    recipe_folder: Annotated[str, Field(pattern=r"^[^\x00]*$")]
    number: Annotated[int, Field(ge=1, le=100)]
    """Seeds: of the whole, of each share, or of each choice."""
    steps: int
    """Optimizer steps of a run of the recipe on the whole dataset."""
    seconds: float | None = None
    """The training of all members as it was planned; none where it was not measured."""
    cost: float | None = None
    members: Annotated[list[MemberRecord], Field(min_length=1)]
    selected: str = ""
    """The member whose model is the one to take."""
    files: dict[str, str] | None = None
    """The SHA-256 of report.json; none before it is written."""


@dataclass
class Series:
    """A series at work, its folder and series.json. Each rank has one; the first writes."""

    folder: Path
    dataset: Path
    recipe: Recipe
    record: SeriesRecord
    stages: Sequence[Stage]
    context: DistributedContext
    shared: Mapping[str, Any]
    """What each `start_run` is called with besides."""
    code: Exit = field(default=Exit.OK, init=False)
    """FAILED where the judge of a member scored nothing."""

    def write(self, **changes: Any) -> None:
        """Replace series.json with these fields changed."""
        self.record = self.record.model_copy(update=changes)
        if self.context.is_first:
            write_run(self.folder, self.record.model_dump(mode="json"), SERIES)

    def note(self, member: MemberRecord, **changes: str) -> None:
        """Replace a member in series.json, or add it."""
        known = {each.name: each for each in self.record.members}
        self.write(members=[*(known | {member.name: member.model_copy(update=changes)}).values()])

    def run(self, member: MemberRecord, before: Sequence[Path | None]) -> Path | None:
        """Run a member unless it is finished, and return its folder, None after an error that a sweep tolerates.

        A stage begins from the last folder ``before`` it. Raises TrainError as `start_run` does, and SystemExit with
        the exit code of a member that saved a checkpoint.
        """
        folder, number = self.folder / member.name, len(before)
        about = self.context.broadcast_object(_begun(folder, member) if self.context.is_first else None)
        tolerated = _TOLERATED if self.record.kind == "sweep" else ()
        if about.get("status") == "failed" and about.get("error") in tolerated:
            return None
        error = member.error
        if about.get("status") != "finished":
            # A sweep names its last members when the others are finished, so how many there are is not told.
            console.info(f"{self.record.kind}: {member.name}, run {number + 1}")
            self.note(member, status="running", error="")
            # Where its base lies now: the folder may have moved.
            base = {"base": str(before[-1].resolve())} if self.stages and before and before[-1] else {}
            try:
                _, code = start_run(
                    self.stages[number].data if self.stages else self.dataset, self.recipe,
                    settings={**member.changes, **base}, out=folder, folder=Path(self.record.recipe_folder),
                    is_resumed=bool(about), is_quiet=True, context=self.context, **self.shared,
                )  # fmt: skip
                if code in _STOPPED:
                    raise SystemExit(code)
            except TrainError as failure:
                self.note(member, status="failed", error=failure.code)
                if failure.code not in tolerated:
                    raise
                console.info(f"warning: {member.name}: {failure.message}; the series goes on without it")
                return None
            except (KeyboardInterrupt, SystemExit):
                self.note(member, status="stopped")
                raise
            error = "" if code == Exit.OK else BAD_JUDGE
            # The model of the last one must be gone before the next is loaded.
            gc.collect()
        self.note(member, status="finished", error=error)
        self.code = Exit.FAILED if error == BAD_JUDGE else self.code
        return folder


def _begun(folder: Path, member: MemberRecord) -> dict[str, Any]:
    """Return the run.json of a member that was begun, empty for one that was not."""
    if (folder / RUN).is_file():
        return read_run(folder)
    # Killed before its run.json was written: there is nothing to go on with, and a run begins in an empty folder.
    # What the series did not begin stays, and is refused.
    if member.status != "waiting":
        shutil.rmtree(folder, ignore_errors=True)
    return {}


def share_variants(shares: Sequence[float]) -> Variants:
    """Return what a learning curve trains on."""
    return {f"share-{100 * share:g}": {"mixing.share": share} for share in shares}


def grid_variants(grid: Mapping[str, Sequence[Any]]) -> Variants:
    """Return each combination of the values of a sweep, which is measured on validation alone.

    Raises TrainError "E871 bad-series" where there are too many or too few, or a key is not for a sweep.
    """
    num = math.prod(map(len, grid.values()))
    if not 2 <= num <= _MOST_TRIALS:
        raise TrainError("E871 bad-series", f"the grid has {num:,} combinations", f"Give 2 to {_MOST_TRIALS}.")
    for key, values in grid.items():
        # What a table sets is said by its keys, so that none that a sweep sets itself is among them.
        has_table = any(isinstance(value, dict) for value in values)
        why = "a value is a table; name each of its keys, such as lora_r" if has_table else _NOT_SWEPT.get(key)
        if why:
            raise TrainError("E871 bad-series", f"--grid {key}: {why}", "Remove it from the grid.")
    trials = (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))
    return {_slug(trial): {"eval.splits": ["validation"], **trial} for trial in trials}


def _slug(trial: Mapping[str, Any]) -> str:
    """The name of a trial's folder: "learning_rate-0.001-lora_r-8", with a digest where that is too long."""
    text = "-".join(f"{key}-{value}" for key, value in trial.items())
    name = plain_name(text)
    return name if name == text and len(name) <= 60 else f"{name[:50]}-{digest_of(dict(trial))[:8]}"


def start_series(
    kind: SeriesKind, dataset: Path, recipe: Path | None, *, number: int = 1,
    variants: Variants | None = None, settings: Sequence[str] | Mapping[str, Any] = (), base: str | None = None,
    out: Path | None = None, is_dry: bool = False, cost_per_hour: float | None = None,
    context: DistributedContext = SINGLE_PROCESS, **shared: Any,
) -> Exit:  # fmt: skip
    """Price and run a series; the results go to stdout. Returns FAILED where the judge of a member scored nothing.

    Each of ``variants`` is trained with ``number`` seeds. The arguments are those of `start_run`, ``shared`` its
    ``is_cached`` and ``report_to``. Raises TrainError as it does, where it can be before anything is written.
    """
    folder = context.broadcast_object(out or next_run(dataset))
    check_free(folder)
    loaded, variants = load_recipe(recipe, settings, base), variants or {"": {}}
    _check(kind, loaded, variants, number)
    where = (recipe.parent if recipe else Path()).resolve()
    stages = open_stages(loaded, where, dataset)
    # Everything that can be wrong is known before the first member begins, and three steps say what a step takes.
    prepared = prepare(dataset, loaded, folder=where, context=context)
    if kind == "sweep" and not prepared.dataset.splits["validation"]:
        message = f"{dataset} has no validation record, on which a sweep is measured"
        raise TrainError("E871 bad-series", message, "Export a validation split.")
    whole, title = prepared.steps, str(prepared.dataset.manifest.get("name") or "")
    model = add_adapters(prepared)
    seconds = make_plan(model, whole, prepared.placement, is_measured=len(whole) >= FEWEST_STEPS)["seconds"]
    # Its model must be gone before the next is loaded.
    del prepared, model
    matched = _matched(kind, loaded, whole)
    members = [
        MemberRecord(name=stage.facts.name, changes=stage_settings(stage, loaded.base, is_first=index == 0))
        for index, stage in enumerate(stages)
    ] or [
        MemberRecord(name=f"{name}-seed-{seed}".removeprefix("-"), changes={**matched, **changes, "seed": seed})
        for name, changes in variants.items() for seed in range(loaded.seed, loaded.seed + number)
    ]  # fmt: skip
    record = SeriesRecord(
        id=folder.name, kind=kind, created=now(), recipe_folder=str(where), number=number, steps=len(whole),
        dataset={"path": str(dataset), "name": title}, digests=_digests(dataset, loaded, where, stages),
        members=members,
    )  # fmt: skip
    series = Series(folder, dataset, loaded, record, stages, context, shared)
    runs = _planned_steps(series, variants, whole)
    # A step takes as long as its tokens.
    seconds = None if seconds is None else seconds * sum(run.num_tokens() for run in runs) / whole.num_tokens()
    cost = None if seconds is None or cost_per_hour is None else seconds / 3600 * cost_per_hour
    steps = sorted(map(len, runs))
    span = " to ".join(f"{num:,}" for num in sorted({steps[0], steps[-1]}))
    priced = (
        f"not priced: steps are measured only where a run has {FEWEST_STEPS} or more" if seconds is None
        else f"{duration(seconds)} of training, without evaluation"
    )  # fmt: skip
    price = "" if cost is None else f"; {cost:,.2f} at {cost_per_hour:,.2f} an hour"
    console.info(f"plan: {len(runs)} runs of {span} steps, {sum(steps):,} in all; {priced}{price}")
    if is_dry:
        console.info(f"dry run: nothing was written; the series would be {folder}")
        return Exit.OK
    with at_work(folder, is_first=context.is_first):
        if context.is_first:
            write_whole(folder / RECIPE, [recipe_toml(loaded)])
        series.write(seconds=seconds, cost=cost)
        return _drive(series)


def resume_series(
    dataset: Path, folder: Path, *, context: DistributedContext = SINGLE_PROCESS, **shared: Any
) -> Exit:  # fmt: skip
    """Go on with the series in ``folder``, as `start_series`.

    Raises TrainError "E870 series-changed" where dataset, recipe or base are not those that it was begun with,
    "E953 nothing-to-resume", and "E977 run-busy" where another process is at work on it.
    """
    record, recipe = read_series(folder), load_recipe(folder / RECIPE, is_own=True)
    where = Path(record.recipe_folder)
    stages = open_stages(recipe, where, dataset)
    digests = _digests(dataset, recipe, where, stages)
    if changed := [name for name, digest in digests.items() if digest != record.digests.get(name)]:
        raise TrainError(
            "E870 series-changed", f"{folder} was begun with another {' and another '.join(changed)}",
            f"Bring back what it was begun with, its dataset from {record.dataset.get('path')}, or begin a new series.",
        )  # fmt: skip
    with at_work(folder, is_first=context.is_first):
        series = Series(folder, dataset, recipe, record, stages, context, shared)
        series.write(status="running", error="", message="", files=None)
        return _drive(series)


def read_series(folder: Path) -> SeriesRecord:
    """Return what series.json says; raises TrainError "E953 nothing-to-resume" where it is missing or damaged."""
    try:
        return SeriesRecord.model_validate(read_run(folder, SERIES))
    except ValidationError as error:
        message = f"{folder / SERIES}: {validation_fault(error)}"
        hint = "Give its whole command again, with another --out."
        raise TrainError("E953 nothing-to-resume", message, hint) from None


def _digests(dataset: Path, recipe: Recipe, folder: Path, stages: Sequence[Stage] = ()) -> dict[str, str]:
    data = digest_of([stage.data.digest for stage in stages]) if stages else open_dataset(dataset).digest
    base = weights_digest(find_base(recipe.base, folder))
    return {"dataset": data, "recipe": recipe_digest(recipe), "base": base}


def _check(kind: str, recipe: Recipe, variants: Variants, number: int) -> None:
    """Raise TrainError where a member could not be begun."""
    if bool(recipe.stage) != (kind == "stages"):
        message = "the recipe has stages, which are a series of their own"
        raise TrainError("E883 bad-stage", message, "Run them with `train run DATASET --recipe FILE`.")
    if kind == "curve" and recipe.mixing.share != 1:
        message = f"the recipe has mixing.share = {recipe.mixing.share:g}, and a curve takes shares of the whole"
        raise TrainError("E871 bad-series", message, "Remove it from the recipe.")
    if recipe.on_too_long == "skip" and any("max_length" in changes for changes in variants.values()):
        raise TrainError("E871 bad-series", f"--grid max_length: {_WHICH_RECORDS}", "Remove it from the grid.")
    # Seeds end at 32 bits; those of a winner are as many fresh ones.
    last = recipe.seed + number * (2 if kind == "sweep" else 1) - 1
    for changes in variants.values():
        load_recipe(recipe, {**changes, "seed": last})


def _matched(kind: str, recipe: Recipe, whole: BatchSampler) -> dict[str, Any]:
    """Return the settings by which a run on a share has the steps of one on all, lest data and compute are mixed up."""
    if kind != "curve":
        return {}
    is_sized = recipe.batch_tokens or recipe.per_device_train_batch_size
    return {"max_steps": len(whole)} | ({} if is_sized else {"global_batch_size": whole.global_batch_size})


def _planned_steps(series: Series, variants: Variants, whole: BatchSampler) -> list[BatchSampler]:
    """Return the steps of each run, at the most, after the data of stages were checked as those of a run are."""
    record, recipe = series.record, series.recipe
    if series.stages:
        # An adapter that is continued is not there yet, and decides nothing about the steps.
        each = [load_recipe(recipe, {**member.changes, "continue_adapter": False}) for member in record.members]
        where = Path(record.recipe_folder)
        return [prepare(stage.data, own, folder=where).steps for stage, own in zip(series.stages, each, strict=True)]
    if record.kind != "sweep":
        passes = whole.num_tokens() / whole.tokens
        if record.kind == "curve" and passes <= READ_ALL:
            console.info(
                f"warning: the steps are {math.floor(100 * passes)} % of an epoch, so that nothing can be said of "
                f"twice the records; --set max_steps={math.ceil(len(whole) / passes)} reads them all"
            )
        return [whole] * len(record.members)
    runs = [
        BatchSampler(whole.examples, load_recipe(recipe, changes), is_packed=whole.is_packed, num_ranks=whole.num_ranks)
        for changes in variants.values()
    ]
    # As if the longest trial were the best.
    return [*runs, max(runs, key=BatchSampler.num_tokens)] * record.number


Folders = Mapping[str, Path | None]
"""The folder of each member that was run, in order; None of one that ended with a tolerated error."""


def next_members(series: Series, folders: Folders) -> list[MemberRecord]:
    """Return which members come after those in ``folders``, none where all are run: of a sweep at last its winner."""
    record = series.record
    waiting = [member for member in record.members if member.name not in folders]
    if waiting or record.kind != "sweep" or "eval.splits" not in record.members[-1].changes:
        return waiting
    chosen = choose(_choices(record, folders)).changes
    fresh = range(series.recipe.seed + record.number, series.recipe.seed + 2 * record.number)
    return [MemberRecord(name=f"winner-seed-{seed}", changes={**chosen, "seed": seed}) for seed in fresh]


def _choices(record: SeriesRecord, folders: Folders) -> list[TrialResult]:
    """Return what each trial of a sweep scored by seed, nothing where a seed of it ended with an error."""
    choices, trials = list[TrialResult](), [member for member in record.members if "eval.splits" in member.changes]
    for first in trials[:: record.number]:
        name = first.name.rpartition("-seed-")[0]
        mine = [folders[member.name] for member in trials if member.name.rpartition("-seed-")[0] == name]
        whole = [folder for folder in mine if folder is not None]
        changes = {key: value for key, value in first.changes.items() if key not in ("seed", "eval.splits")}
        is_whole = len(whole) == len(mine)
        choices.append(TrialResult(
            changes, int(read_run(whole[0])["steps"]) if is_whole else 0,
            [read_predictions(folder / PREDICTIONS)[1] for folder in whole] if is_whole else [],
        ))  # fmt: skip
    if not any(choice.sides for choice in choices):
        raise TrainError("E871 bad-series", "no combination of the grid could be trained", "Look at series.json.")
    return choices


def _drive(series: Series) -> Exit:
    folder, folders = series.folder, dict[str, Path | None]()
    try:
        while members := next_members(series, folders):
            for member in members:
                series.note(member)
            for member in members:
                folders[member.name] = series.run(member, [*folders.values()])
        report, selected, advice = _conclude(series, folders)
    except (KeyboardInterrupt, SystemExit):
        series.write(status="stopped")
        console.info(f"the series is stopped; go on with `train run {series.dataset} --resume --out {folder}`")
        raise
    except TrainError as error:
        series.write(status="failed", error=error.code, message=error.message, ended=now())
        raise
    files = None
    if series.context.is_first:
        # The scores by record that go back to curation are those of the model to take.
        with open_file(folder / selected / FEEDBACK) as lines:
            write_whole(folder / FEEDBACK, (line.decode("utf-8") for line in lines))
        write_report(report, folder)
        files = {REPORT: sha256_of(folder / REPORT)}
    series.write(status="finished", selected=selected, ended=now(), files=files)
    if series.context.is_first:
        console.data(table(report, columns=console.columns()))
        console.info(advice or f"the model to take: {folder / selected}")
        console.info(f"report: {folder / 'report.html'}")
    return series.code


def _conclude(series: Series, folders: Folders) -> tuple[Report, str, str]:
    """Return the report, the member whose model and feedback are taken, and what is said where none is worth it."""
    record, every = series.record, [folder for folder in folders.values() if folder is not None]
    last = every[-record.number :]
    if series.stages:
        return stage_report([stage.facts for stage in series.stages], every, record.id), last[-1].name, ""
    sides = {each: read_predictions(each / PREDICTIONS) for each in (every if record.kind == "curve" else last)}
    reports = {each.name: Report.load(each) for each in last}
    report, selected, advice = pool(reports, [sides[each] for each in last], record.id)
    if record.kind == "sweep":
        fresh = [int(each.name.rpartition("-")[2]) for each in last]
        report, warning = sweep_report(report, _choices(record, folders), fresh)
        advice = warning or advice
    if record.kind == "curve":
        plan, results = read_run(last[0])["plan"], list[ShareResult]()
        for first in range(0, len(every), record.number):
            mine = every[first : first + record.number]
            share = float(record.members[first].changes["mixing.share"])
            results.append(
                ShareResult(share, read_run(mine[0])["examples_by_category"], [sides[each][1] for each in mine])
            )
        curve = learning_curve(
            sides[last[0]][0], results, range(series.recipe.seed, series.recipe.seed + record.number),
            split=report.headline, margin=report.margin, fewest=report.fewest,
            passes=plan["run_tokens"] / plan["tokens"],
        )  # fmt: skip
        report = report.with_tables([curve])
    return report, selected, advice
