"""Several runs as one, a *series*: members that differ in some settings of a recipe, one after another.

A series is a folder with `series.json`, the recipe, and an ordinary run folder for each member. What is finished is not
run again, so a series that was stopped or killed goes on. What all cost is said before the first one begins. Which
members there are, and what is made of them, is up to its kind (`train.pipeline.series_kinds`).
"""

from __future__ import annotations

import gc
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError

from train.base import console
from train.base.errors import Exit, TrainError, validation_fault
from train.base.file_guard import open_file
from train.base.process import at_work
from train.base.run_folder import RECIPE, RUN, SERIES, next_run, now, read_run, weights_digest, write_run
from train.base.storage import sha256_of, write_whole
from train.data.dataset import open_dataset
from train.evaluate.predictions import FEEDBACK
from train.model import find_base
from train.model.batch import BatchSampler
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.pipeline.execute import FEWEST_STEPS, check_free, start_run
from train.pipeline.plan import duration
from train.pipeline.prepare import add_adapters, plan_run, prepare
from train.recipe import Recipe, load_recipe, recipe_digest, recipe_toml
from train.report import Report, table, write_report
from train.report.judge import BAD_JUDGE
from train.report.model import REPORT, ReportPart

SeriesKind = Literal["seeds", "curve", "sweep", "stages"]
BEGIN_ANEW = "Give its whole command again, with another --out."
"""What to do about a series.json that says what no command writes."""
_STOPPED = (Exit.INTERRUPTED, Exit.TERMINATED, Exit.HUNG_UP)


class MemberRecord(ReportPart):
    """One run of a series, which lies in the series' folder under its name."""

    name: str
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
    """The SHA-256 of its dataset, recipe and base, which are the same for all members."""
    recipe_folder: Annotated[str, Field(pattern=r"^[^\x00]*$")]
    request: dict[str, Any]
    """What the kind was asked for."""
    steps: int
    """Optimizer steps of a run of the recipe on the whole dataset."""
    global_batch_size: int | None
    seconds: float | None = None
    """The training of all members as it was planned; none where it was not measured."""
    cost: float | None = None
    members: list[MemberRecord] = Field(default_factory=list)
    selected: str = ""
    """The member whose model is the one to take."""
    files: dict[str, str] | None = None
    """The SHA-256 of report.json; none before it is written."""


@dataclass(frozen=True)
class Member:
    """A run to be made: its folder's name, what it changes in the recipe, and its dataset where that is another."""

    name: str
    changes: Mapping[str, Any]
    dataset: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a series found: its report, and the name of the member whose model and feedback are taken."""

    report: Report
    selected: str
    advice: str = ""
    """What is said in place of the model to take, where none is worth it."""


class Kind(ABC):
    """A kind of series, a dataclass: its fields are what it was asked for, by which series.json makes it again."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    name: ClassVar[SeriesKind]
    is_on_validation: ClassVar[bool] = False
    """Whether it compares its members on validation records."""

    @abstractmethod
    def check(self, recipe: Recipe) -> None:
        """Raise TrainError where a member could not be begun."""

    @abstractmethod
    def steps(self, series: Series, whole: BatchSampler) -> list[BatchSampler]:
        """Return the steps of each run, at the most; a run of the recipe on all records has those of ``whole``."""

    @abstractmethod
    def conclude(self, series: Series) -> Outcome:
        """Run the members by `Series.run`, and return the outcome."""


@dataclass
class Series:
    """A series at work. Each rank has one; the first writes."""

    folder: Path
    dataset: Path
    recipe: Recipe
    record: SeriesRecord
    is_cached: bool = True
    report_to: Sequence[str] = ()
    context: DistributedContext = field(default=SINGLE_PROCESS)
    code: Exit = Exit.OK
    """FAILED where the judge of a member scored nothing."""

    @property
    def matched(self) -> dict[str, Any]:
        """The settings by which a run on fewer records has the steps of one on all."""
        size = self.record.global_batch_size
        return {"max_steps": self.record.steps} | ({} if size is None else {"global_batch_size": size})

    def run(self, members: Sequence[Member], *, tolerated: Collection[str] = ()) -> dict[str, Path]:
        """Run those members that are not finished, in order, and return the folder of each by its name.

        A member that ends with an error of the codes ``tolerated`` has none. Raises TrainError as `start_run` does, and
        SystemExit with the exit code of a member that was stopped and saved a checkpoint.
        """
        known = {member.name for member in self.record.members}
        new = [MemberRecord(name=m.name, changes=dict(m.changes)) for m in members if m.name not in known]
        self.write(members=[*self.record.members, *new])
        folders = {member.name: self._run(member, tolerated) for member in members}
        return {name: folder for name, folder in folders.items() if folder is not None}

    def write(self, **changes: Any) -> None:
        """Replace series.json with these fields changed."""
        self.record = self.record.model_copy(update=changes)
        if self.context.is_first:
            write_run(self.folder, self.record.model_dump(mode="json"), SERIES)

    def _run(self, member: Member, tolerated: Collection[str]) -> Path | None:
        folder = self.folder / member.name
        own = next(each for each in self.record.members if each.name == member.name)
        is_begun = own.status != "waiting"
        about = self.context.broadcast_object(self._begun(folder, is_begun) if self.context.is_first else None)
        if about.get("status") == "finished":
            self.code = max(self.code, Exit.FAILED if own.error == BAD_JUDGE else Exit.OK)
            self._note(member.name, "finished", own.error)
            return folder
        if about.get("status") == "failed" and about.get("error") in tolerated:
            return None
        num = [each.name for each in self.record.members].index(member.name) + 1
        # Some kinds name their next members only when the last ones are finished, so how many there are is not told.
        console.talk(f"{self.record.kind}: {member.name}, run {num}")
        self._note(member.name, "running")
        try:
            _, code = start_run(
                member.dataset or self.dataset, self.recipe, settings=member.changes, out=folder,
                folder=Path(self.record.recipe_folder), is_resumed=bool(about), is_cached=self.is_cached,
                report_to=self.report_to, context=self.context, is_quiet=True,
            )  # fmt: skip
            if code in _STOPPED:
                raise SystemExit(code)
        except TrainError as error:
            self._note(member.name, "failed", error.code)
            if error.code not in tolerated:
                raise
            console.talk(f"warning: {member.name}: {error.message}; the series goes on without it")
            return None
        except (KeyboardInterrupt, SystemExit):
            self._note(member.name, "stopped")
            raise
        self.code = max(self.code, code)
        self._note(member.name, "finished", "" if code == Exit.OK else BAD_JUDGE)
        # The model of the last one must be gone before the next is loaded.
        gc.collect()
        return folder

    def _begun(self, folder: Path, is_begun: bool) -> dict[str, Any]:
        """The run.json of a member that was begun, empty for one that was not."""
        if (folder / RUN).is_file():
            return read_run(folder)
        # Killed before its run.json was written: there is nothing to go on with, and a run begins in an empty folder.
        # What the series did not begin stays, and is refused.
        if is_begun and folder.parent == self.folder:
            shutil.rmtree(folder, ignore_errors=True)
        return {}

    def _note(self, name: str, status: str, error: str = "") -> None:
        changed = {"status": status, "error": error}
        self.write(members=[
            member.model_copy(update=changed) if member.name == name else member for member in self.record.members
        ])  # fmt: skip


def start_series(
    kind: Kind, dataset: Path, recipe: Path | None, *, settings: Sequence[str] | Mapping[str, Any] = (),
    base: str | None = None, out: Path | None = None, is_dry: bool = False, is_cached: bool = True,
    cost_per_hour: float | None = None, report_to: Sequence[str] = (), context: DistributedContext = SINGLE_PROCESS,
) -> Exit:  # fmt: skip
    """Price and run a series; the results go to stdout. Returns FAILED where the judge of a member scored nothing.

    The arguments are those of `start_run`. Raises TrainError as it does, before anything is written where it can be
    known by then.
    """
    folder = context.broadcast_object(out or next_run(dataset))
    check_free(folder)
    loaded = load_recipe(recipe, settings, base)
    if loaded.stage and kind.name != "stages":
        raise TrainError("E883 bad-stage", "the recipe has stages, which are a series of their own",
                         "Run them with `train run DATASET --recipe FILE`, or take them out.")  # fmt: skip
    kind.check(loaded)
    recipe_folder = (recipe.parent if recipe else Path()).resolve()
    record, whole, seconds = _planned(kind, dataset, loaded, recipe_folder, folder.name, context)
    series = Series(folder, dataset, loaded, record, is_cached, report_to, context)
    runs = kind.steps(series, whole)
    steps = list(map(len, runs))
    # A step takes as long as its tokens.
    seconds = None if seconds is None else seconds * sum(run.num_tokens() for run in runs) / whole.num_tokens()
    cost = None if seconds is None or cost_per_hour is None else seconds / 3600 * cost_per_hour
    text = f"plan: {len(steps)} runs of {_span(steps)} steps, {sum(steps):,} in all"
    text += (
        f"; not priced: steps are measured only where a run has {FEWEST_STEPS} or more" if seconds is None
        else f"; {duration(seconds)} of training, without evaluation"
    )  # fmt: skip
    console.talk(text + ("" if cost is None else f"; {cost:,.2f} at {cost_per_hour:,.2f} an hour"))
    if is_dry:
        console.talk(f"dry run: nothing was written; the series would be {folder}")
        return Exit.OK
    with at_work(folder, is_first=context.is_first):
        if context.is_first:
            write_whole(folder / RECIPE, [recipe_toml(loaded)])
        series.write(seconds=seconds, cost=cost)
        return _drive(series, kind)


def resume_series(
    dataset: Path, folder: Path, kind_of: Callable[[SeriesRecord], Kind], *, is_cached: bool = True,
    report_to: Sequence[str] = (), context: DistributedContext = SINGLE_PROCESS,
) -> Exit:  # fmt: skip
    """Go on with the series in ``folder``, as `start_series`; ``kind_of`` makes its kind again.

    Raises TrainError "E870 series-changed" where dataset, recipe or base are not those that it was begun with, and
    "E953 nothing-to-resume", and "E977 run-busy" where another process is at work on it.
    """
    record = read_series(folder)
    loaded = load_recipe(folder / RECIPE, is_own=True)
    found = _digests(dataset, loaded, Path(record.recipe_folder))
    if changed := [name for name, digest in found.items() if digest != record.digests.get(name)]:
        raise TrainError(
            "E870 series-changed", f"{folder} was begun with another {' and another '.join(changed)}",
            f"Bring back what it was begun with, its dataset from {record.dataset.get('path')}, or begin a new series.",
        )  # fmt: skip
    kind = kind_of(record)
    kind.check(loaded)
    series = Series(folder, dataset, loaded, record, is_cached, report_to, context)
    with at_work(folder, is_first=context.is_first):
        series.write(status="running", error="", message="", files=None)
        return _drive(series, kind)


def _digests(dataset: Path, recipe: Recipe, folder: Path) -> dict[str, str]:
    base = weights_digest(find_base(recipe.base, folder))
    return {"dataset": open_dataset(dataset).digest, "recipe": recipe_digest(recipe), "base": base}


def read_series(folder: Path) -> SeriesRecord:
    """Return what series.json says; raises TrainError "E953 nothing-to-resume" where it is missing or damaged."""
    try:
        return SeriesRecord.model_validate(read_run(folder, SERIES))
    except ValidationError as error:
        message = f"{folder / SERIES}: {validation_fault(error)}"
        raise TrainError("E953 nothing-to-resume", message, BEGIN_ANEW) from None


def _planned(
    kind: Kind, dataset: Path, recipe: Recipe, folder: Path, name: str, context: DistributedContext
) -> tuple[SeriesRecord, BatchSampler, float | None]:
    """Return what a series begins with, and steps and seconds of a run on all records; the model is gone by then."""
    # Everything that can be wrong is known before the first member begins, and three steps say what a step takes.
    prepared = prepare(dataset, recipe, folder=folder, context=context)
    if kind.is_on_validation and not prepared.dataset.splits["validation"]:
        raise TrainError(
            "E871 bad-series", f"{dataset} has no validation record, on which a {kind.name} is measured",
            "Export a validation split.",
        )  # fmt: skip
    num_steps = len(prepared.steps)
    plan = plan_run(add_adapters(prepared), prepared, is_measured=num_steps >= FEWEST_STEPS)
    title = str(prepared.dataset.manifest.get("name") or "")
    record = SeriesRecord(
        id=name, kind=kind.name, created=now(), recipe_folder=str(folder), request=vars(kind), steps=num_steps,
        dataset={"path": str(dataset), "name": title}, digests=_digests(dataset, recipe, folder),
        global_batch_size=None if recipe.batch_tokens or recipe.per_device_train_batch_size
        else prepared.steps.global_batch_size,
    )  # fmt: skip
    return record, prepared.steps, plan.seconds


def _span(steps: Sequence[int]) -> str:
    low, high = min(steps), max(steps)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _drive(series: Series, kind: Kind) -> Exit:
    folder = series.folder
    try:
        outcome = kind.conclude(series)
    except (KeyboardInterrupt, SystemExit):
        series.write(status="stopped")
        console.talk(f"the series is stopped; go on with `train run {series.dataset} --resume --out {folder}`")
        raise
    except TrainError as error:
        series.write(status="failed", error=error.code, message=error.message, ended=now())
        raise
    if series.context.is_first:
        # The scores by record that go back to curation are those of the model to take.
        with open_file(folder / outcome.selected / FEEDBACK) as lines:
            write_whole(folder / FEEDBACK, (line.decode("utf-8") for line in lines))
        write_report(outcome.report, folder)
    files = {REPORT: sha256_of(folder / REPORT)} if series.context.is_first else None
    series.write(status="finished", selected=outcome.selected, ended=now(), files=files)
    if series.context.is_first:
        console.data(table(outcome.report, columns=console.columns()))
        console.talk(outcome.advice or f"the model to take: {folder / outcome.selected}")
        console.talk(f"report: {folder / 'report.html'}")
    return series.code
