"""The act: measure the base, train, measure again, and say per category what changed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from train import say
from train.checkpoint import Checkpoint, check_facts, clear_leftovers, newest_verified, open_checkpoint
from train.errors import Exit, TrainError
from train.evaluate import evaluate_model, evaluate_splits, publish, summary
from train.loop import FitResult, ValidationScore, fit, restore_weights
from train.plan import make_plan
from train.predictions import Scored, write_whole
from train.recipe import Recipe, recipe_toml
from train.report import Report, Run, table
from train.run.base_results import forget, key_of, recall, remember
from train.run.folder import RECIPE, git_commit, now, read_run, versions, write_run
from train.run.keep import save_tuned
from train.run.prepare import Prepared, add_adapters, chosen_for_training, general_path, prepare, shown_settings


def run_dataset(
    dataset: Path,
    recipe: Recipe,
    run: Path,
    *,
    folder: Path | None = None,
    is_resumed: bool = False,
    is_forced: bool = False,
    is_dry: bool = False,
    is_cached: bool = True,
) -> Exit:
    """Run ``recipe`` on a dataset into the folder ``run`` and return the exit code; the table of results goes to
    stdout.

    ``folder`` is that of the recipe file. ``is_resumed`` goes on from the newest whole checkpoint, ``is_forced`` even
    where facts changed, ``is_dry`` stops before anything is written, and without ``is_cached`` the base is measured
    although that was done before. Raises TrainError as `prepare`, `fit` and
    `publish` do, and "E950 run-exists" where ``run`` is in use.
    """
    if run.exists() and any(run.iterdir()) and not is_resumed:
        raise TrainError(
            "E950 run-exists", f"{run} is not empty", "--resume goes on with it; --out names another folder"
        )
    prepared = prepare(dataset, recipe, folder=folder)
    checkpoint, changed = _resumed(run, prepared, is_forced=is_forced) if is_resumed else (None, [])
    if is_dry:
        model = add_adapters(prepared)
        say.talk("plan: " + _plan(model, prepared))
        say.talk(f"dry run: nothing was written; the run would be {say.visible(str(run))}")
        return Exit.OK
    record = _begin(run, prepared, changed, folder, is_resumed=is_resumed)
    base = _measured_base(prepared, run, folder, is_cached=is_cached)
    model = add_adapters(prepared)
    say.talk("plan: " + _plan(model, prepared))
    result = _fitted(model, prepared, run, checkpoint, record)
    if result.stopped is not None:
        write_run(run, record | _ending(result, "stopped"))
        say.talk(
            f"stopped after step {result.step} of {result.num_steps}; go on with --resume --out {say.visible(str(run))}"
        )
        return result.stopped
    taken = _restore_best(model, run, result)
    say.talk("measuring the tuned model")
    tuned = _measured(model, prepared, folder)
    report = publish(
        base, tuned, dataset=prepared.dataset, categories=prepared.categories, recipe=prepared.recipe,
        run=_for_report(run, prepared, result, record), folder=run,
    )  # fmt: skip
    forget(run)
    saved = save_tuned(model, prepared, report, run)
    write_run(
        run,
        record | _ending(result, "finished") | {"taken_step": taken, "saved": saved.name, "results": _results(report)},
    )
    say.data(table(report, columns=say.columns()))
    say.talk(f"report: {say.visible(str(run / 'report.html'))}")
    return Exit.OK


def _resumed(run: Path, prepared: Prepared, *, is_forced: bool) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to go on from, and what changed since it was written."""
    read_run(run)
    checkpoint, faults = newest_verified(run)
    for fault in faults:
        say.talk(f"warning: {say.visible(fault)}; it is passed over")
    if checkpoint is None and faults:
        raise TrainError("E951 checkpoint-damaged", f"{run} has no checkpoint that is whole", "begin a new run")
    if checkpoint is None:
        say.talk(f"{say.visible(str(run))} has no checkpoint yet; the run begins again")
        return None, []
    changed = check_facts(checkpoint, prepared.facts, is_forced=is_forced)
    say.talk(
        f"resuming from {checkpoint.path.name}" + (say.visible(f", not exact: {'; '.join(changed)}") if changed else "")
    )
    return checkpoint, changed


def _begin(
    run: Path, prepared: Prepared, changed: list[str], folder: Path | None, *, is_resumed: bool
) -> dict[str, Any]:
    """Make the run's folder with its recipe and run.json."""
    run.mkdir(parents=True, exist_ok=True)
    clear_leftovers(run)
    earlier = read_run(run) if is_resumed else {}
    write_whole(run / RECIPE, [recipe_toml(prepared.recipe)])
    record = {
        "version": 1,
        "id": run.name,
        "status": "running",
        "created": earlier.get("created", now()),
        "recipe": dict(shown_settings(prepared.recipe)),
        "recipe_folder": str((folder or Path()).resolve()),
        "objective": prepared.objective,
        "seed": prepared.recipe.seed,
        "dataset": {
            "path": str(prepared.dataset.path),
            "name": prepared.dataset.manifest.get("name"),
            "sha256": prepared.dataset.digest,
        },
        "facts": prepared.facts,
        "git": git_commit(prepared.dataset.path),
        "versions": versions(),
        # Once a forced resume made it another run, it stays one.
        "not_exact": [*earlier.get("not_exact", []), *changed],
    }
    write_run(run, record)
    return record


def _fitted(
    model: Any, prepared: Prepared, run: Path, checkpoint: Checkpoint | None, record: dict[str, Any]
) -> FitResult:
    """Train; a run that fails says so in its run.json."""
    try:
        return fit(
            model, prepared.examples, prepared.recipe, run, validate=_validation(model, prepared), facts=prepared.facts,
            resume=checkpoint, device=prepared.device, dtype=prepared.dtype,
        )  # fmt: skip
    except TrainError as error:
        write_run(run, record | {"status": "failed", "ended": now(), "error": error.code, "message": error.message})
        raise


def _validation(model: Any, prepared: Prepared) -> Any:
    rows = chosen_for_training(prepared.dataset.splits["validation"], prepared.recipe.eval.during_training)
    if not rows:
        say.talk("warning: no validation records are scored while training, so the last step counts as the best")
        return None

    def validate(_step: int) -> ValidationScore:
        scored = evaluate_model(
            model, prepared.renderer, rows, prepared.categories, prepared.recipe, split="validation"
        )
        found = summary(scored)
        assert found.loss is not None, "every example has a trained token"
        return ValidationScore(found.score, found.loss, found.by_category)

    return validate


def _restore_best(model: Any, run: Path, result: FitResult) -> int:
    """Put the best step's weights into the model and return the step that its weights are now of."""
    if result.best_step is None or result.best_step == result.step:
        return result.step
    try:
        best = open_checkpoint(run / f"checkpoint-{result.best_step}", result.best_step)
    except TrainError as error:
        say.talk(
            f"warning: {say.visible(error.message)}, so the last step's weights are taken instead of the best one's"
        )
        return result.step
    restore_weights(model, best)
    say.talk(f"step {result.best_step} was the best on validation; its weights are taken")
    return result.best_step


def _measured(model: Any, prepared: Prepared, folder: Path | None) -> list[Scored]:
    """Everything that the report needs of one model; the recipe's general text is found from the recipe's folder."""
    recipe = prepared.recipe
    return evaluate_splits(
        model, prepared.renderer, prepared.dataset, prepared.categories, recipe, general=general_path(recipe, folder)
    )


def _measured_base(prepared: Prepared, run: Path, folder: Path | None, *, is_cached: bool) -> list[Scored]:
    """Everything that the report needs of the base, measured once for all runs in which nothing of it differs."""
    key = key_of(prepared, general_path(prepared.recipe, folder))
    base = recall(run, key, is_cached=is_cached)
    if base is None:
        say.talk(f"run {say.visible(run.name)}: measuring the base")
        base = _measured(prepared.model, prepared, folder)
        remember(run, key, base, is_cached=is_cached)
    return base


def _plan(model: Any, prepared: Prepared) -> str:
    return make_plan(
        model, prepared.examples, prepared.steps, prepared.recipe, device=prepared.device, dtype=prepared.dtype,
        threads=prepared.threads,
    ).sentence()  # fmt: skip


def _ending(result: FitResult, status: str) -> dict[str, Any]:
    return {
        "status": status,
        "ended": now(),
        "step": result.step,
        "steps": result.num_steps,
        "best_step": result.best_step,
        "tokens": result.tokens,
        "train_seconds": round(result.seconds, 3),
        "cpu_seconds": round(time.process_time(), 3),
    }


def _for_report(run: Path, prepared: Prepared, result: FitResult, record: dict[str, Any]) -> Run:
    settings: dict[str, Any] = {
        "steps": result.num_steps,
        "best step": result.best_step,
        "batch": prepared.steps.batch_size,
        "dtype": prepared.recipe.dtype,
        "threads": prepared.threads,
    }
    if record["not_exact"]:
        settings["not exact"] = "; ".join(record["not_exact"])
    return Run(
        id=run.name,
        created=record["created"],
        base_model=prepared.recipe.base,
        dataset=str(record["dataset"]["name"] or ""),
        objective=prepared.objective,
        method=prepared.recipe.method,
        seed=prepared.recipe.seed,
        device=str(prepared.device),
        seconds=round(result.seconds, 3),
        settings=settings,
        versions=record["versions"],
        digests={key: value for key, value in prepared.facts.items() if isinstance(value, str) and len(value) == 64},
    )


def _results(report: Report) -> dict[str, str]:
    return {one.category: one.verdict for one in report.main().categories}
