"""Several runs as one, a *series*: members that differ from a recipe in some settings, run one after another.

A series is a folder with `series.json`, which says what was asked for, the recipe, and an ordinary run folder for each
member, which says how far it is: a series that was stopped or killed runs what is not finished there. What all cost is
said before the first one begins.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from train.base import console
from train.base.errors import Exit, TrainError, validation_fault
from train.base.run_folder import (
    RECIPE,
    RUN,
    SERIES,
    check_run_folder,
    locked_run,
    next_run_folder,
    now,
    read_run,
    shell_safe_name,
    weights_digest,
    write_run,
)
from train.base.storage import digest_of, open_file, sha256_of, write_whole
from train.data.dataset import Dataset, open_dataset
from train.evaluate.predictions import FEEDBACK, PREDICTIONS, read_predictions
from train.model import find_base
from train.model.batch import BatchSampler
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.pipeline.execute import start_run
from train.pipeline.plan import duration, make_plan
from train.pipeline.prepare import add_adapters, prepare
from train.pipeline.stages import Stage, open_stages, stage_report
from train.recipe import Recipe, load_recipe, recipe_digest, recipe_toml
from train.report import Report, table, write_report
from train.report.learning_curve import ShareResult, learning_curve
from train.report.model import REPORT
from train.report.series import TrialResult, choose_best, pool, sweep_report
from train.report.tables import ReportPart

SeriesKind = Literal["seeds", "curve", "sweep", "stages"]
Variants = Mapping[str, Mapping[str, Any]]
"""What is trained with each seed: settings by the name that the folders begin with."""
_STOPPED = (Exit.INTERRUPTED, Exit.TERMINATED, Exit.HUNG_UP)
_TOLERATED = ("E899 forgetting", "E930 diverged", "E934 not-finite", "E947 out-of-memory")
"""What a choice of settings may end with without ending the sweep."""
_MOST_TRIALS = 200
_SAME = {"seed", "base", "stage", "eval.splits", "mixing.share", "on_too_long", "on_unrenderable", "max_length"}
"""What all choices of a sweep have alike: what it sets itself, and what decides which records are measured."""
_WINNER = "winner-seed-"


class Member(ReportPart):
    """One run of a series, in the folder of its name; its run.json says how far it is."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    changes: dict[str, Any]
    """What it has otherwise than the recipe, by dotted key."""


class SeriesRecord(ReportPart, title="A series of runs: runs/ID/series.json."):
    """What a series was asked for, and whether it is finished."""

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
    num_seeds: Annotated[int, Field(ge=1, le=100)]
    """Seeds: of the whole, of each share, or of each choice."""
    members: Annotated[list[Member], Field(min_length=1)]
    selected: str = ""
    """The member whose model is the one to take."""
    files: dict[str, str] | None = None
    """The SHA-256 of report.json; none before it is written."""


def grid_variants(grid: Sequence[tuple[str, Sequence[Any]]]) -> Variants:
    """Return each combination of the values of a sweep, which is measured on validation alone.

    Raises TrainError "E871 bad-series" where there are too many or too few, or a key is not for a sweep.
    """
    for key, values in grid:
        # What a table sets is said by its keys, so that none that all have alike is among them.
        if key in _SAME or any(isinstance(value, dict) for value in values):
            message = f"--grid {key}: choices have the same base, seeds and records, and each key is named by itself"
            raise TrainError("E871 bad-series", message, "Remove it from the grid.")
    keys = [key for key, _ in grid]
    combined = islice(product(*(values for _, values in grid)), _MOST_TRIALS + 1)
    trials = [dict(zip(keys, values, strict=True)) for values in combined]
    variants = {_slug(trial): {"eval.splits": ["validation"], **trial} for trial in trials}
    if not 2 <= len(variants) == len(trials) <= _MOST_TRIALS:
        message = f"a grid has 2 to {_MOST_TRIALS} combinations, no two of which are the same"
        raise TrainError("E871 bad-series", message, "Write --grid KEY=A,B, each key and each value once.")
    return variants


def _slug(trial: Mapping[str, Any]) -> str:
    """The name of a trial's folder: "learning_rate-0.001-lora_r-8", with a digest where that is too long."""
    text = "-".join(f"{key}-{value}" for key, value in trial.items())
    name = shell_safe_name(text)
    return name if name == text and len(name) <= 60 else f"{name[:50]}-{digest_of(dict(trial))[:8]}"


def start_series(
    kind: SeriesKind, dataset: Path, recipe: Path | None, *, num_seeds: int = 1, variants: Variants | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (), base: str | None = None, out: Path | None = None,
    is_dry: bool = False, context: DistributedContext = SINGLE_PROCESS, **shared: Any,
) -> Exit:  # fmt: skip
    """Price and run a series; the results go to stdout. Returns FAILED where the judge of a member scored nothing.

    Each of ``variants`` is trained with ``num_seeds`` seeds; of a recipe with stages each stage is, with its one. The
    arguments are those of `start_run`, ``shared`` its ``is_cached`` and ``report_to``. Raises TrainError as it does,
    where it can be before anything is written.
    """
    folder = context.broadcast_object(out or next_run_folder(dataset))
    check_run_folder(folder)
    loaded, where = load_recipe(recipe, settings, base), (recipe.parent if recipe else Path()).resolve()
    if loaded.stage and (kind != "seeds" or num_seeds > 1):
        message = "the recipe has stages, which are a series of their own"
        raise TrainError("E883 bad-stage", message, "Run them with `train run DATASET --recipe FILE`.")
    if kind == "curve" and loaded.mixing.share != 1:
        message = f"the recipe has mixing.share = {loaded.mixing.share:g}, and a curve takes shares of the whole"
        raise TrainError("E871 bad-series", message, "Remove it from the recipe.")
    # Those of the recipe are kept for a winner, which no choice of a sweep has seen.
    first = loaded.seed + num_seeds * (kind == "sweep")
    members = [
        Member(name=f"{name}-seed-{seed}".removeprefix("-"), changes={**changes, "seed": seed})
        for name, changes in (variants or {"": {}}).items() for seed in range(first, first + num_seeds)
    ]  # fmt: skip
    for member in members:
        load_recipe(loaded, member.changes)
    opened = open_dataset(dataset)
    if stages := open_stages(loaded, where, opened):
        kind = "stages"
        members = [Member(name=stage.facts.name, changes=stage.changes) for stage in stages]
    record = SeriesRecord(
        id=folder.name, kind=kind, created=now(), recipe_folder=str(where), num_seeds=num_seeds, members=members,
        dataset={"path": str(dataset), "name": str(opened.manifest.get("name") or "")},
        digests=_digests(opened, loaded, where, stages),
    )  # fmt: skip
    series = Series(folder, opened, loaded, record, stages, context, shared)
    series.plan()
    if is_dry:
        console.info(f"dry run: nothing was written; the series would be {folder}")
        return Exit.OK
    with locked_run(folder, is_first=context.is_first):
        if context.is_first:
            write_whole(folder / RECIPE, [recipe_toml(loaded)])
        return series.finish()


def resume_series(
    dataset: Path, folder: Path, *, context: DistributedContext = SINGLE_PROCESS, **shared: Any
) -> Exit:  # fmt: skip
    """Go on with the series in ``folder``, as `start_series`.

    Raises TrainError "E870 series-changed" where dataset, recipe or base are not those that it was begun with,
    "E953 nothing-to-resume" where series.json is damaged, and "E977 run-busy" where another process is at work on it.
    """
    try:
        record = SeriesRecord.model_validate(read_run(folder, SERIES))
    except ValidationError as error:
        message = f"{folder / SERIES}: {validation_fault(error)}"
        hint = "Give its whole command again, with another --out."
        raise TrainError("E953 nothing-to-resume", message, hint) from None
    recipe, where, opened = (
        load_recipe(folder / RECIPE, is_recorded=True),
        Path(record.recipe_folder),
        open_dataset(dataset),
    )
    stages = open_stages(recipe, where, opened)
    digests = _digests(opened, recipe, where, stages)
    if changed := [name for name, digest in digests.items() if digest != record.digests.get(name)]:
        raise TrainError(
            "E870 series-changed", f"{folder} was begun with another {' and another '.join(changed)}",
            f"Bring back what it was begun with, its dataset from {record.dataset.get('path')}, or begin a new series.",
        )  # fmt: skip
    record = record.model_copy(update={"status": "running", "error": "", "message": "", "files": None})
    with locked_run(folder, is_first=context.is_first):
        return Series(folder, opened, recipe, record, stages, context, shared).finish()


def _digests(dataset: Dataset, recipe: Recipe, folder: Path, stages: Sequence[Stage]) -> dict[str, str]:
    data, base = [dataset.digest, *(stage.data.digest for stage in stages)], find_base(recipe.base, folder)
    return {"dataset": digest_of(data), "recipe": recipe_digest(recipe), "base": weights_digest(base)}


@dataclass
class Series:
    """A series at work in ``folder``. Each rank has one; the first writes.

    ``shared`` is what each `start_run` is called with besides; ``code`` is FAILED where a judge scored nothing.
    """

    folder: Path
    dataset: Dataset
    recipe: Recipe
    record: SeriesRecord
    stages: Sequence[Stage]
    context: DistributedContext
    shared: Mapping[str, Any]
    code: Exit = Exit.OK

    def plan(self) -> None:
        """Say the steps of all members, and the time that they train by three measured steps of the first one.

        The members of a curve get the steps of a run on all records, lest data and compute are mixed up. Raises
        TrainError as `prepare` does, and "E871 bad-series" where nothing is there that a sweep is measured on.
        """
        kind, num_seeds, members = self.record.kind, self.record.num_seeds, self.record.members
        # An adapter that is continued is not there yet, and decides nothing about the steps.
        sources = [
            (stage.data, load_recipe(self.recipe, {**member.changes, "continue_adapter": False}))
            for stage, member in zip(self.stages, members, strict=False)
        ] or [(self.dataset, self.recipe)]  # fmt: skip
        runs, seconds = list[BatchSampler](), None
        for data, recipe in sources:
            prepared = prepare(data, recipe, folder=Path(self.record.recipe_folder), context=self.context)
            if not runs:
                model = add_adapters(prepared)
                seconds = make_plan(model, prepared.steps, prepared.placement, is_measured=True)["seconds"]
                del model
            runs.append(prepared.steps)
            # Its model must be gone before the next is loaded.
            del prepared
        whole = runs[0]
        if kind == "curve":
            is_sized = self.recipe.per_device_train_batch_size
            size = {} if is_sized else {"global_batch_size": whole.global_batch_size}
            for member in members:
                member.changes.update(size, max_steps=len(whole))
        if kind == "sweep":
            if not self.dataset.splits["validation"]:
                message = f"{self.dataset.path} has no validation record, on which a sweep is measured"
                raise TrainError("E871 bad-series", message, "Export a validation split.")
            runs = [whole.with_recipe(load_recipe(self.recipe, member.changes)) for member in members[::num_seeds]]
            # As if the longest trial were the best.
            runs = [*runs, max(runs, key=BatchSampler.num_tokens)] * num_seeds
        if kind in ("seeds", "curve"):
            runs *= len(members)
        sizes = sorted(map(len, runs))
        span = " to ".join(f"{num:,}" for num in sorted({sizes[0], sizes[-1]}))
        # A step takes as long as its tokens. A model in shards is not measured.
        share = sum(run.num_tokens() for run in runs) / whole.num_tokens()
        time = "" if seconds is None else f"; {duration(seconds * share)} of training, without evaluation"
        console.info(f"plan: {len(runs)} runs of {span} steps, {sum(sizes):,} in all{time}")

    def finish(self) -> Exit:
        """Run what is not finished and write the report; returns FAILED where the judge of a member scored nothing.

        Raises TrainError as `start_run` does, and SystemExit with the exit code of a member that saved a checkpoint.
        """
        try:
            self._write()
            report, selected, advice = self._report()
        except (KeyboardInterrupt, SystemExit):
            self._write(status="stopped")
            path, folder = console.typed(self.dataset.path), console.typed(self.folder)
            console.info(f"the series is stopped; go on with `train run {path} --resume --out {folder}`")
            raise
        except TrainError as error:
            self._write(status="failed", error=error.code, message=error.message, ended=now())
            raise
        if self.context.is_first:
            # The scores by record that go back to curation are those of the model to take.
            with open_file(self.folder / selected / FEEDBACK) as lines:
                write_whole(self.folder / FEEDBACK, (line.decode("utf-8") for line in lines))
            write_report(report, self.folder)
            files = {REPORT: sha256_of(self.folder / REPORT)}
            self._write(status="finished", selected=selected, ended=now(), files=files)
            console.data(table(report, columns=console.columns()))
            console.info(advice or f"the model to take: {self.folder / selected}")
            console.info(f"report: {self.folder / 'report.html'}")
        return self.code

    def _write(self, **changes: Any) -> None:
        self.record = self.record.model_copy(update=changes)
        if self.context.is_first:
            write_run(self.folder, self.record.model_dump(mode="json"), SERIES)

    def _run(self, member: Member, data: Dataset, **changes: Any) -> Path:
        # The folder of a member, which is run unless it is finished; ``changes`` are further ones.
        folder, earlier = self.folder / member.name, {}
        if self.context.is_first and (folder / RUN).is_file():
            earlier = read_run(folder)
        elif self.context.is_first:
            # Killed before there was one; what the series did not begin stays, and is refused.
            (folder / RECIPE).unlink(missing_ok=True)
        earlier = self.context.broadcast_object(earlier)
        if earlier.get("status") != "finished":
            console.info(f"{self.record.kind}: {member.name}")
            _, code = start_run(
                data, self.recipe, settings={**member.changes, **changes}, out=folder, is_quiet=True,
                folder=Path(self.record.recipe_folder), is_resumed=bool(earlier), context=self.context, **self.shared,
            )  # fmt: skip
            if code in _STOPPED:
                raise SystemExit(code)
            self.code = max(self.code, code)
            # The model of the last one must be gone before the next is loaded.
            gc.collect()
        return folder

    def _report(self) -> tuple[Report, str, str]:
        # Run all; the report, the member whose model and feedback are taken, and what is said where none is worth it.
        record, folders, choices = self.record, list[Path](), list[TrialResult]()
        members = [member for member in record.members if not member.name.startswith(_WINNER)]
        if self.stages:
            for member, stage in zip(members, self.stages, strict=True):
                # Where its base lies now: the series may have moved.
                base = {"base": str(folders[-1].resolve())} if folders else {}
                folders.append(self._run(member, stage.data, **base))
            return stage_report([stage.facts for stage in self.stages], folders, record.id), folders[-1].name, ""
        seeds = range(self.recipe.seed, self.recipe.seed + record.num_seeds)
        if record.kind == "sweep":
            choices, trials = self._try(members), members
            chosen = choose_best(choices).changes
            members = [Member(name=f"{_WINNER}{seed}", changes={**chosen, "seed": seed}) for seed in seeds]
            self._write(members=[*trials, *members])
        folders = [self._run(member, self.dataset) for member in members]
        sides = [read_predictions(folder / PREDICTIONS) for folder in folders]
        last = {folder.name: Report.load(folder) for folder in folders[-record.num_seeds :]}
        report, selected, advice = pool(last, sides[-record.num_seeds :], record.id)
        if choices:
            report, warning = sweep_report(report, choices, seeds)
            advice = warning or advice
        if record.kind == "curve":
            plan = read_run(folders[-1])["plan"]
            results = [
                ShareResult(
                    float(members[n].changes["mixing.share"]), read_run(folders[n])["examples_by_category"],
                    [tuned for _, tuned in sides[n : n + record.num_seeds]],
                ) for n in range(0, len(folders), record.num_seeds)
            ]  # fmt: skip
            curve = learning_curve(
                sides[-1][0], results, seeds, split=report.headline, margin=report.margin,
                passes=plan["run_tokens"] / plan["tokens"],
            )  # fmt: skip
            report = report.with_tables([curve])
        return report, selected, advice

    def _try(self, members: Sequence[Member]) -> list[TrialResult]:
        # What each choice of a sweep scored by seed, nothing where one of its seeds ended with an error.
        choices, num_seeds = list[TrialResult](), self.record.num_seeds
        for trials in (members[start : start + num_seeds] for start in range(0, len(members), num_seeds)):
            changes = {key: value for key, value in trials[0].changes.items() if key not in ("seed", "eval.splits")}
            try:
                folders = [self._run(trial, self.dataset) for trial in trials]
                sides = [read_predictions(folder / PREDICTIONS)[1] for folder in folders]
                choices.append(TrialResult(changes, int(read_run(folders[0])["steps"]), sides))
            except TrainError as error:
                if error.code not in _TOLERATED:
                    raise
                console.info(f"warning: {trials[0].name}: {error.message}; the series goes on without this choice")
                choices.append(TrialResult(changes, 0, []))
        if not any(choice.sides for choice in choices):
            raise TrainError("E871 bad-series", "no combination of the grid could be trained", "Look at series.json.")
        return choices
