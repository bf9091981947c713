"""Execute a run, from Python or from `train run`: measure the base, train, measure again, report what changed."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from train.base import console
from train.base.errors import Exit, TrainError
from train.base.run_folder import (
    RECIPE,
    RUN,
    check_run_folder,
    locked_run,
    newest_run,
    next_run_folder,
    now,
    read_run,
    recipe_folder,
    versions,
    write_run,
)
from train.base.storage import whole_folder, write_whole, writing
from train.data.dataset import Dataset
from train.evaluate.general import general_name
from train.evaluate.predictions import PREDICTIONS, Scored
from train.loop import Checkpoint, FitResult, RunEstimate, fit, trainable_tensors
from train.loop.checkpoint import clear_leftovers
from train.model import check_finite, describe_init, is_lora
from train.model.device import MemoryMeter
from train.model.distributed import SINGLE_PROCESS, DistributedContext, gather_weights, join_group, unshard
from train.pipeline.export import write_card_and_tokenizer
from train.pipeline.measuring import BASE_RESULTS, base_score, compute_ref_logps, make_validation, measure, measure_base
from train.pipeline.plan import duration, explain_oom, make_plan, plan_sentence
from train.pipeline.prepare import Prepared, add_adapters, apply_plan, prepare, with_plan_choices
from train.pipeline.trackers import Trackers
from train.recipe import Recipe, load_recipe, recipe_toml
from train.recipe.schedule import describe_protection, find_remedies
from train.report import Report, Run, table
from train.report.build import summary_for_run_record, write_results
from train.report.judge import BAD_JUDGE, judge_answers
from train.report.model import JudgeSummary

MIN_CALIBRATED_STEPS = 20
"""Runs of fewer steps are not calibrated on a CPU: three more would be much of them."""


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
    """Fine-tune on ``dataset``, an export of `curate` or plain files, and return the finished run.

        finished = train.run("my-data/dataset/v1", "recipe.toml", settings={"lora_r": 8, "max_steps": 100})
        finished.report.failing()       # [] where no category got worse

    Checks, files and messages are those of `train run`: progress goes to stderr and the table of results to stdout.

    Args:
        recipe: a TOML or YAML file, or a `Recipe`; None is the defaults, or with ``resume`` the run's own recipe.
        settings: values by dotted key, which override those of the recipe: {"lora_r": 8}.
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
    threads = torch.get_num_threads()
    try:
        with join_group() as context:
            folder, code = start_run(
                Path(dataset), Path(recipe) if isinstance(recipe, str) else recipe, settings=settings or {}, base=base,
                out=Path(out) if out else None, is_resumed=resume, is_forced=force, is_cached=cache,
                report_to=report_to, context=context,
            )  # fmt: skip
    finally:
        # They are the caller's again.
        torch.set_num_threads(threads)
    if code is Exit.INTERRUPTED:
        raise KeyboardInterrupt
    if code in (Exit.TERMINATED, Exit.HUNG_UP):
        raise SystemExit(code)
    # A judge that scored no pair has been reported; the run itself is whole.
    return FinishedRun(folder)


def start_run(
    dataset: Path | Dataset,
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
    folder: Path | None = None,
    is_quiet: bool = False,
) -> tuple[Path, Exit]:
    """Run a recipe on a dataset and return the run's folder and exit code; results go to stdout unless ``is_quiet``.

    As `run`, which has the same arguments; ``is_dry`` stops before anything is written. ``folder`` is what the paths of
    a `Recipe` are read from. Each rank calls this; the first writes. Raises TrainError as `prepare`, `fit`,
    `write_results` and `Trackers` do, "E950 run-exists" of a folder in use, "E936 write-failed" of an unprintable name.
    """
    where = dataset.path if isinstance(dataset, Dataset) else dataset
    # Rank 0 chooses for all: the free or newest folder may change between two ranks' looks at the disk.
    run = context.broadcast_object(out or (newest_run(where) if is_resumed else next_run_folder(where)))
    check_run_folder(run, is_resumed=is_resumed, is_first=context.is_first)
    is_recorded = is_resumed and recipe is None
    folder = recipe.parent if isinstance(recipe, Path) else folder
    if is_recorded:  # Its relative paths are still those of the file that it came from.
        recipe, folder = run / RECIPE, recipe_folder(run)
    loaded = load_recipe(recipe, settings, base, is_recorded=is_recorded)
    if loaded.stage:
        raise TrainError("E883 bad-stage", "the recipe has stages, and this is one run",
                         "Run them with `train run DATASET --recipe FILE`.")  # fmt: skip
    earlier = read_run(run) if is_resumed else {}
    loaded = with_plan_choices(loaded, earlier["recipe"]) if is_resumed else loaded
    # A missing library is reported before the minutes that a base takes to load; only rank 0 reports to trackers.
    trackers = Trackers(report_to if context.is_first else ())
    prepared = prepare(dataset, loaded, folder=folder, context=context)
    checkpoint, changed = _find_checkpoint(run, prepared, is_forced=is_forced) if is_resumed else (None, [])
    if is_dry:
        plan = make_plan(add_adapters(prepared), prepared.steps, prepared.placement)
        console.info(f"plan: {plan_sentence(plan)}")
        console.info(f"dry run: nothing was written; the run would be {run}")
        return run, Exit.OK
    # No rank may still read the run's folder while rank 0 writes to it.
    context.barrier()
    with locked_run(run, is_first=context.is_first):
        record = _begin(run, prepared, earlier, changed)
        context.barrier()
        try:
            return run, _train(prepared, record, checkpoint, trackers, is_cached=is_cached, is_quiet=is_quiet)
        except TrainError as error:
            record.end("failed", error=error.code, message=error.message)
            raise
        except (KeyboardInterrupt, SystemExit):
            # Within a step it saves a checkpoint first; here it was measuring. What has finished stays so.
            if record.values["status"] == "running":
                record.end("stopped")
            raise


def _find_checkpoint(run: Path, prepared: Prepared, *, is_forced: bool) -> tuple[Checkpoint | None, list[str]]:
    checkpoint, faults = Checkpoint.newest(run)
    for fault in faults:
        console.info(f"warning: {fault}; it is passed over")
    if checkpoint is None and faults:
        raise TrainError("E951 checkpoint-damaged", f"{run} has no checkpoint that is whole", "Begin a new run.")
    if checkpoint is None:
        console.info(f"{run} has no checkpoint yet; the run begins again")
        return None, []
    changed = checkpoint.check_facts(prepared.facts, is_forced=is_forced)
    console.info(f"resuming from {checkpoint.path.name}" + (f", not exact: {'; '.join(changed)}" if changed else ""))
    return checkpoint, changed


@dataclass(frozen=True)
class RunRecord:
    """The run.json of a run in ``folder``, which the first rank writes anew with each change of its ``values``."""

    folder: Path
    values: dict[str, Any]
    is_first: bool

    def update(self, **values: Any) -> None:
        """Change values and write all of them."""
        self.values.update(values)
        if self.is_first:
            write_run(self.folder, self.values)

    def end(self, status: str, **values: Any) -> None:
        """Write how the run ended; what the disk refuses is said, as the error of the run itself is reported then."""
        try:
            self.update(status=status, ended=now(), **values)
        except TrainError as error:
            console.info(f"warning: {error.message}")


def _begin(run: Path, prepared: Prepared, earlier: Mapping[str, Any], changed: list[str]) -> RunRecord:
    sizes = Counter(example.category for example in prepared.steps.examples if not example.is_replay)
    dataset, recipe = prepared.dataset, prepared.recipe
    record = RunRecord(run, {
        "version": 1, "id": run.name, "status": "running", "created": earlier.get("created", now()),
        "recipe": recipe.model_dump(mode="json"), "recipe_folder": str(prepared.folder.resolve()),
        "objective": recipe.objective, "seed": recipe.seed, "examples": sizes.total(),
        "examples_by_category": dict(sorted(sizes.items())),
        "dataset": {"path": str(dataset.path), "name": dataset.manifest.get("name"), "sha256": dataset.digest},
        "rendered": prepared.rendered, "facts": prepared.facts, "versions": versions(),
        # Once a forced resume made it another run, it stays one.
        "not_exact": [*earlier.get("not_exact", []), *changed],
    }, prepared.placement.context.is_first)  # fmt: skip
    if record.is_first:
        if (run / RUN).exists() and not earlier:
            check_run_folder(run)
        with writing(run):
            clear_leftovers(run)
        write_whole(run / RECIPE, [recipe_toml(recipe)])
    record.update()
    return record


def _train(
    prepared: Prepared, record: RunRecord, checkpoint: Checkpoint | None, trackers: Trackers, *, is_cached: bool,
    is_quiet: bool,
) -> Exit:  # fmt: skip
    # Measure, train, measure, report; a run that fails on the way has no report and no saved model.
    placement, run = prepared.placement, record.folder
    context, device = placement.context, placement.device
    base, seconds = measure_base(prepared, run, is_cached=is_cached)
    reference = compute_ref_logps(prepared)
    model = add_adapters(prepared)
    plan = make_plan(
        # On a GPU three steps are little, and what they show decides.
        model, prepared.steps, placement,
        is_measured=device.type == "cuda" or len(prepared.steps) >= MIN_CALIBRATED_STEPS,
        validation_seconds=seconds * len(prepared.evaluated_rows) / max(1, len(base)), evaluation_seconds=seconds,
    )  # fmt: skip
    ranks = f"; {context.world_size} ranks, {placement.strategy}" if context.world_size > 1 else ""
    console.info(f"plan: {plan_sentence(plan)}{ranks}")
    console.info(f"forgetting: {console.one_line(describe_protection(prepared.recipe))}")
    prepared = apply_plan(prepared, plan)
    recipe = prepared.recipe.model_dump(mode="json")
    record.update(recipe=recipe, facts=prepared.facts, plan=plan)
    meter, start = MemoryMeter(device), base_score(prepared, base)
    # Each rank has measured its own steps.
    placement = replace(placement, is_compiled=bool(context.max(plan["compile"])))
    with explain_oom("training", plan), trackers:
        validation = make_validation(model, prepared, start, base)
        trackers.begin(run, recipe | {"dataset_sha256": prepared.dataset.digest})
        result = fit(
            model, prepared.steps, run, facts=prepared.facts, resume=checkpoint, placement=placement,
            validation=validation, on_event=trackers.on_event, reference=reference,
            expected=RunEstimate(flops=plan["flops"], validation_seconds=plan["validation_seconds"],
                              evaluation_seconds=plan["evaluation_seconds"]),
        )  # fmt: skip
    peak = meter.peak_increase_bytes() + sum(p.numel() * p.element_size() for p in model.parameters())
    console.info(f"the training took {peak / 1e6:,.0f} MB; its steps {duration(result.step_seconds)}")
    record.values.update(
        step=result.step, steps=result.num_steps, best_step=result.best_step, tokens=result.tokens,
        early_stop=result.early_stop, train_seconds=round(result.seconds, 3), cpu_seconds=round(time.process_time(), 3),
        step_seconds=round(result.step_seconds, 3), peak_bytes=peak,
    )  # fmt: skip
    if result.forgot is not None:
        raise _forgot(result.forgot, result.step, prepared)
    if result.stop_code is not None:
        record.end("stopped")
        # A series says itself how to go on.
        path = console.typed(prepared.dataset.path)
        on = "" if is_quiet else f"; go on with `train run {path} --resume --out {console.typed(run)}`"
        console.info(f"stopped after step {result.step} of {result.num_steps}{on}")
        context.barrier()
        return result.stop_code
    return _finish(model, prepared, record, base, result, is_quiet=is_quiet)


def _finish(
    model: Any, prepared: Prepared, record: RunRecord, base: list[Scored], result: FitResult, *, is_quiet: bool
) -> Exit:  # fmt: skip
    # Measure the tuned model, and let the first rank write the report, the model and the end of the record.
    run, context, recipe = record.folder, prepared.placement.context, prepared.recipe
    record.values["taken_step"] = _load_best_weights(model, prepared, run, result)
    console.info("measuring the tuned model")
    tuned = measure(model, prepared, run, "tuned", prepared.splits, result.step)
    weights = gather_weights(model) if prepared.placement.strategy != "ddp" else None
    code = Exit.OK
    if context.is_first:
        inputs: dict[str, Any] = {
            "dataset": prepared.dataset, "categories": prepared.categories, "recipe": recipe, "folder": run,
        }  # fmt: skip
        base, tuned, judged = judge_answers(base, tuned, **inputs)
        report = write_results(
            base,
            tuned,
            **inputs,
            run=_describe_run(prepared, record.values),
            dynamics=result.dynamics,
            judge_summary=judged,
            remarks=prepared.remarks,
        )
        shutil.rmtree(run / BASE_RESULTS, ignore_errors=True)
        saved = save_tuned(model, prepared, report, record, weights)
        record.update(status="finished", ended=now(), saved=saved.name, **summary_for_run_record(report, tuned, run))
        if not is_quiet:
            console.data(table(report, columns=console.columns()))
            console.info(f"report: {run / 'report.html'}")
        code = _exit_of(judged)
    context.barrier()
    return code


def _forgot(rise: float, step: int, prepared: Prepared) -> TrainError:
    steps = "; ".join(f"{remedy.text}: {'  '.join(remedy.lines)}" for remedy in find_remedies(prepared.tuning))
    return TrainError(
        "E899 forgetting",
        f"general text takes {rise:.1%} more bits per byte after step {step}, and guard.general allows "
        f"{prepared.recipe.guard.general:.1%}; checkpoint-{step} is kept",
        f"Begin a new run with less of it. {steps}. Or allow more: --set guard.general={rise * 1.5:.2g}",
        exit_code=Exit.FAILED,
    )


def _exit_of(summary: JudgeSummary | None) -> Exit:
    if summary is None or summary.n or not summary.num_unscored:
        return Exit.OK
    reasons = ", ".join(f"{num} {reason}" for reason, num in summary.reasons.items())
    console.error(
        BAD_JUDGE,
        f"the judge {summary.model} at {summary.host} left all {summary.num_unscored} pairs unscored ({reasons})",
        "Look at what the endpoint answers. The model is trained and the report written, without scores of the judge.",
    )
    return Exit.FAILED


def _load_best_weights(model: Any, prepared: Prepared, run: Path, result: FitResult) -> int:
    # Put the weights to keep into the model, whole on every rank, and return the step that they are of.
    context, in_shards, best = prepared.placement.context, prepared.placement.strategy != "ddp", None
    if context.is_first and result.best_step not in (None, result.step):
        try:
            best = Checkpoint.read(run / f"checkpoint-{result.best_step}")
        except TrainError as error:
            console.info(f"warning: {error.message}, so the last step's weights are taken instead of the best one's")
    # Rank 0 looks at the disk for all.
    best = context.broadcast_object(best)
    if best is not None and (in_shards or context.is_first):
        best.load_weights(model)
        console.info(f"step {best.step} was the best on validation; its weights are taken")
    if in_shards:
        # For measuring, as in a validation; they stay so.
        unshard(model)
    else:
        # From rank 0 and not from the disk of each node, which may lack the checkpoint.
        for weight in trainable_tensors(model).values():
            context.broadcast(weight)
    return result.step if best is None else int(best.step)


def _describe_run(prepared: Prepared, values: Mapping[str, Any]) -> Run:
    # What the report says of the run, of which ``values`` are in its run.json.
    recipe, steps, facts = prepared.recipe, prepared.steps, values["facts"]
    settings = {
        "begun": describe_init(recipe, prepared.base_path), "steps": values["steps"], "best step": values["best_step"],
        "batch": steps.global_batch_size, "replayed": len({each.id for each in steps.examples if each.is_replay}),
        "early stop": values["early_stop"], "dtype": recipe.dtype, "threads": recipe.threads,
        "not exact": "; ".join(values["not_exact"]),
        "share of the training records": recipe.mixing.share if recipe.mixing.share < 1 else None,
        "ranks": facts["ranks"] if steps.num_ranks > 1 else None,
    }  # fmt: skip
    return Run(
        id=values["id"], created=values["created"], base_model=recipe.base,
        dataset=str(values["dataset"]["name"] or ""), objective=recipe.objective, method=recipe.method,
        tuning=prepared.tuning, general_text=general_name(recipe.eval.general), seed=recipe.seed,
        device=str(prepared.placement.device), seconds=values["train_seconds"], versions=values["versions"],
        settings={name: value for name, value in settings.items() if value},
        digests={key: value for key, value in facts.items() if isinstance(value, str) and len(value) == 64},
    )  # fmt: skip


def save_tuned(
    model: Any, prepared: Prepared, report: Report, record: RunRecord, weights: dict[str, Any] | None = None
) -> Path:
    """Write run/adapter (LoRA) or run/model (all weights) in Hugging Face format and return it.

    ``weights`` are those of a model that is in shards.
    Raises TrainError "E934 not-finite" for weights that are no numbers, "E936 write-failed" where the disk refuses
    them; nothing is written then.
    """
    recipe, renderer = prepared.recipe, prepared.renderer
    library, folder = ("peft", "adapter") if is_lora(model) else ("transformers", "model")
    final = record.folder / folder
    check_finite((weights or trainable_tensors(model)).items(), "the tuned model")
    with whole_folder(final) as work:
        if is_lora(model):
            # A hub id is the same everywhere; a folder needs its whole path. One that was continued still lies on what
            # it lay on.
            path = prepared.base_path.resolve()
            is_local = Path(recipe.base).name in (path.name, path.parent.name)
            for config in () if recipe.continue_adapter else model.peft_config.values():
                config.base_model_name_or_path = str(path) if is_local else recipe.base.partition("@")[0]
            model.save_pretrained(work, save_embedding_layers=False)
        else:
            # Training may have had more stops than the base names: the end token of the template.
            model.generation_config.eos_token_id = renderer.stop_ids
            model.save_pretrained(work, state_dict=weights)
        write_card_and_tokenizer(renderer, report, record.values, prepared.dataset.manifest, work, library)
    return final
