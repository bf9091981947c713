"""Start a run, from Python or from `train run`: choose its folder and recipe, then execute it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from train.base.errors import Exit, TrainError
from train.evaluate.predictions import PREDICTIONS
from train.model.distributed import SINGLE_PROCESS, DistributedContext, join_group
from train.pipeline.execute import run_dataset
from train.pipeline.folder import RECIPE, newest_run, next_run, read_run, recipe_folder
from train.recipe import Recipe, load_recipe
from train.report import Report


@dataclass(frozen=True)
class FinishedRun:
    """A run that ended well: its ``folder``, and what lies in it."""

    folder: Path

    @cached_property
    def report(self) -> Report:
        """The report, read from report.json at first use; raises TrainError "E938 bad-report"."""
        return Report.load(self.folder)

    @property
    def model(self) -> Path:
        """The folder of the tuned model in Hugging Face format: adapter/ of LoRA, else model/."""
        return self.folder / str(read_run(self.folder)["saved"])

    @property
    def predictions(self) -> Path:
        """The file with the answers of base and tuned, a record a line."""
        return self.folder / PREDICTIONS


def run(
    dataset: str | Path,
    recipe: str | Path | Recipe | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    base: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    cache: bool = True,
    report_to: Sequence[str] = (),
) -> FinishedRun:
    """Fine-tune on ``dataset``, a folder that `curate export` wrote, and return the finished run.

        finished = train.run("my-data/dataset/v1", "recipe.toml", settings={"lora.rank": 8, "max_steps": 100})
        finished.report.regressed()     # [] where no category got worse

    Checks, files and messages are those of `train run`: progress goes to stderr and the table of results to stdout.

    Args:
        recipe: a TOML or YAML file, or a `Recipe`; None is the defaults, or with ``resume`` the run's own recipe.
        settings: values by dotted key, which override those of the recipe: {"lora.rank": 8}.
        base: the model to tune: a folder, a .gguf file or a hub id; overrides that of the recipe.
        out: the run's folder; by default the next free runs/DATE-a beside the dataset, with ``resume`` the newest run.
        resume: go on with a stopped run from its newest whole checkpoint.
        force: resume although facts changed; the run is recorded as not exact.
        cache: use the results of the base that an earlier run measured on the same records.
        report_to: names of trackers ("tensorboard", "wandb", "mlflow", "trackio") that get each event too.

    Raises:
        TrainError: anything that stands in the way, with ``code``, ``message`` and ``hint``: "E920 bad-recipe",
            "E911 dataset-changed", "E950 run-exists", "E930 diverged" and the others; before a step is computed where
            it can be known by then.
        KeyboardInterrupt: Ctrl-C was pressed; the step was ended and a checkpoint written, so ``resume`` goes on.
        SystemExit: the same after SIGTERM (143) or SIGHUP (129).
    """
    with join_group() as context:
        folder, code = start_run(
            Path(dataset), Path(recipe) if isinstance(recipe, str) else recipe, settings=settings or {}, base=base,
            out=None if out is None else Path(out), is_resumed=resume, is_forced=force, is_cached=cache,
            report_to=report_to, context=context,
        )  # fmt: skip
    if code is Exit.INTERRUPTED:
        raise KeyboardInterrupt
    if code in (Exit.TERMINATED, Exit.HUNG_UP):
        raise SystemExit(code)
    # A judge that scored no pair has been reported; the run itself is whole.
    return FinishedRun(folder)


def start_run(
    dataset: Path,
    recipe: Path | Recipe | None,
    *,
    settings: Sequence[str] | Mapping[str, Any] = (),
    base: str | None = None,
    out: Path | None = None,
    is_resumed: bool = False,
    is_forced: bool = False,
    is_dry: bool = False,
    is_cached: bool = True,
    report_to: Sequence[str] = (),
    context: DistributedContext = SINGLE_PROCESS,
) -> tuple[Path, Exit]:
    """Run a recipe on a dataset and return the run's folder and exit code; see `run` and `run_dataset`.

    Raises TrainError as they do, and "E936 write-failed" for a folder whose name cannot be printed.
    """
    # Rank 0 chooses for all, since the free or newest folder may change between two ranks' looks at the disk.
    run = context.broadcast_object(out or (newest_run(dataset) if is_resumed else next_run(dataset)))
    if not str(run).isprintable():
        raise TrainError(
            "E936 write-failed", f"the run's folder {str(run)!a} has a name that files cannot be written under",
            "name another folder with --out",
        )  # fmt: skip
    is_own = is_resumed and recipe is None
    folder = recipe.parent if isinstance(recipe, Path) else None
    if is_own:
        # The relative paths of a run's own recipe are still those of the file that it came from.
        recipe, folder = run / RECIPE, recipe_folder(run)
    loaded = load_recipe(recipe, settings, base, is_own=is_own)
    code = run_dataset(
        dataset, loaded, run, folder=folder, is_resumed=is_resumed, is_forced=is_forced, is_dry=is_dry,
        report_to=report_to, is_cached=is_cached, context=context,
    )  # fmt: skip
    return run, code
