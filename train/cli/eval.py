"""`train eval`: a run's report, computed again from its predictions; or other models, evaluated on a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from train.base import console
from train.base.errors import Exit, TrainError, validation_fault
from train.cli import cli, loss, report_exit
from train.cli.answer import takes_a_prompt

if TYPE_CHECKING:
    from train.report.model import Gate

RESCORED = (
    "The answers in predictions.jsonl were scored again after the run; they, likelihoods, choices by likelihood and "
    "what a judge said are as they stood there."
)
_TOKENS = click.IntRange(1, 1 << 20)


@cli.command("eval")
@click.argument("target", metavar="RUN|DATASET", type=click.Path(path_type=Path))
@click.option("--fail-on", type=click.Choice(["worse"]), help="Exit 1 when a category got worse.")
@click.option("--margin", type=loss, help="Tolerated score drop; the run's by default.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Print the table, or what would be asked; write nothing.")
@click.option("--rescore", "is_rescored", is_flag=True, help="Score the texts of RUN again, also where files changed.")
@click.option("--dataset", "moved", type=click.Path(path_type=Path), help="Where the data for --rescore is now.")
@click.option("--with", "names", multiple=True, metavar="MODEL", help="Evaluate MODEL on DATASET; may be given again.")
@click.option(
    "--split", "splits", multiple=True, type=click.Choice(["validation", "test"]), default=["validation", "test"],
    show_default=True, help="Records to answer; may be given again.",
)  # fmt: skip
@takes_a_prompt
@click.option("--max-new-tokens", type=_TOKENS, help="Default: the smallest of the given runs' recipes, else 256.")
@click.option("--max-reasoning-tokens", type=_TOKENS, help="How many may be reasoning; a run's by default.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Put evaluations here, not into runs/.")
def evaluate(
    target: Path, fail_on: Gate | None, margin: float | None, is_dry: bool, is_rescored: bool, moved: Path | None,
    names: tuple[str, ...], **asked: Any,
) -> int:  # fmt: skip
    """Score RUN again from its saved answers, or DATASET with MODEL.

    Of a RUN the report is computed again from predictions.jsonl, without a model, and printed.

    Numbers do not change by it unless the rules do: another margin, or a newer version of this tool. Verdicts of people
    in RUN/human.jsonl, as `curate compare --blind RUN:base RUN` writes them, are held beside those of the judge. A file
    that was changed after the run is refused; --rescore scores the texts that are there with the references and scorers
    of the dataset, and says so in the report.

    With --with the argument is a DATASET, and each MODEL answers its validation and test records: a base, a run, an
    adapter, a .gguf file or an endpoint, named as `train answer --help` says. What it answers is scored as a run is,
    and lies in runs/eval-MODEL, where `train compare` takes it. The same call goes on after an interruption. Exit 1
    when a record has no answer. What an endpoint will cost, and what the records can show, is said first.

    Example: train eval runs/2026-11-24-a --fail-on worse

    Example: train eval my-data/dataset/v1 --with samples/tiny-base --shots 4
    """
    if not names:
        return _computed_again(target, fail_on, margin, is_dry=is_dry, is_rescored=is_rescored, moved=moved)
    if fail_on or margin is not None or is_rescored:
        raise click.UsageError("--fail-on, --margin and --rescore are for a report of a run; see `train compare`.")
    return _evaluate(target, names, is_dry=is_dry, **asked)


def _evaluate(
    target: Path, names: Sequence[str], *, is_dry: bool, splits: Sequence[str], system: Path | None, shots: int,
    send_flagged: bool, max_new_tokens: int | None, max_reasoning_tokens: int | None, out: Path | None,
) -> int:  # fmt: skip
    # Loaded late: imports as much as each model's kind needs.
    from train.base.run_folder import runs_folder
    from train.contestants import open_contestant
    from train.contestants.contestant import FewShotPrompt
    from train.data.dataset import open_dataset
    from train.pipeline.contest import EvaluationSettings, evaluate_contestant, shared_lengths

    dataset = open_dataset(target)
    examples = [row for row in dataset.splits["train"] if row.messages] if shots else []
    own_most, own_reasoning = shared_lengths(names)
    most, reasoning = max_new_tokens or own_most, max_reasoning_tokens or own_reasoning
    if reasoning is not None and reasoning >= most:
        raise click.UsageError(f"{reasoning} tokens of reasoning leave none of {most} for the answer.")
    prompting = FewShotPrompt.of(system, shots, examples)
    settings = EvaluationSettings(list(dict.fromkeys(splits)), prompting, most, reasoning, send_flagged, is_dry)
    folders, code = [], Exit.OK
    for name in names:
        with closing(open_contestant(name)) as contestant:
            folder, record = evaluate_contestant(contestant, dataset, settings, out or runs_folder(target))
        if not is_dry and record["status"] != "finished":
            code = Exit.FAILED
        folders.append(folder)
    if not is_dry:
        _print_comparison(folders)
    return code


def _print_comparison(folders: Sequence[Path]) -> None:
    from train.report import table
    from train.report.comparison import compare_sides, read_side

    try:
        # They lie in one folder, which is said below.
        comparison = compare_sides([replace(read_side(str(folder)), name=folder.name) for folder in folders])
        console.data(table(comparison, console.columns()))
    except TrainError as error:
        # Nothing could be scored; what was answered is there all the same.
        console.info(f"warning: {error.message}")
    console.info("\n".join(f"written: {folder}" for folder in folders))
    console.info(f"Next: train compare {' '.join(map(str, folders))}{' OTHER' if len(folders) == 1 else ''}")


def _computed_again(
    run: Path, fail_on: Gate | None, margin: float | None, *, is_dry: bool, is_rescored: bool, moved: Path | None
) -> int:  # fmt: skip
    from pydantic import ValidationError  # Loaded late, as all that brings numpy.

    from train.base.run_folder import RUN, read_finished_run, write_run
    from train.base.storage import sha256_of
    from train.evaluate.predictions import PREDICTIONS, read_predictions, write_predictions
    from train.evaluate.scoring import rescore
    from train.pipeline.stages import open_run_dataset
    from train.report import Report, Rules, build_report, read_curve, read_human, table, write_report
    from train.report.build import summary_for_run_record
    from train.report.model import REPORT, Measured

    record = read_finished_run(run)
    try:
        measured = Measured.model_validate(record.get("report"))
    except ValidationError as error:
        raise TrainError("E938 bad-report", f"{run / RUN}: {validation_fault(error)}", "Train it again.") from None
    if is_rescored:
        changed = read_predictions(run / PREDICTIONS, allow_changed=True)
        sides = rescore(changed, open_run_dataset(run, record, moved), record["records"])
        measured = measured.model_copy(update={"remarks": list(dict.fromkeys([*measured.remarks, RESCORED]))})
    else:
        # One that is missing, or was cut off while it was written, is computed.
        if REPORT in record.get("files", {}) and (run / REPORT).exists():
            Report.load(run)
        sides = [*read_predictions(run / PREDICTIONS)]
    report = build_report(
        *sides,
        run=measured.run,
        curve=read_curve(run / "metrics.jsonl"),
        rules=Rules(measured.margin if margin is None else margin, measured.resamples),
        remarks=measured.remarks,
        judge_summary=measured.judged,
        human=read_human(run),
        tables=measured.tables,
    )
    console.data(table(report, columns=console.columns()))
    if not is_dry:
        # Without its digest nobody takes what is being written, should this be killed.
        write_run(run, record | {"files": {} if is_rescored else {PREDICTIONS: sha256_of(run / PREDICTIONS)}})
        if is_rescored:
            write_predictions(sides[0], sides[1], run)
        write_report(report, run)
        write_run(run, record | summary_for_run_record(report, sides[1], run))
        console.info(f"written: {run / 'report.html'}")
    return report_exit(report, fail_on)
