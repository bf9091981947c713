"""`curate runs`: the training runs of a workspace, also those that another terminal has started."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.cli._options import format_option, workspace_argument

if TYPE_CHECKING:
    from curate.project.data import ProjectData
    from curate.sessions.runs import Run

_SECONDS = 1.0


@click.command("runs")
@workspace_argument
@click.option("--run", "name", metavar="ID", help="Which run; by default the newest.")
@click.option("--follow", is_flag=True, help="Tell of the run's steps until it ends; Ctrl-C leaves it running.")
@click.option("--stop", "is_stop", is_flag=True, help="Have the run save a checkpoint and stop.")
@format_option("text", "jsonl")
def command(root: Path, name: str | None, follow: bool, is_stop: bool, form: str) -> int:
    """List the runs and evaluations of a workspace and how each stands, or follow or stop a run.

    A run that `curate train --detach` has started is found by its files alone, from any terminal of this machine.
    With --follow the exit code is 1 when the run fails.

    Example: curate runs my-data --follow
    """
    from curate.project.project import open_project
    from curate.sessions.runs import evaluations_of, members_of, runs_of

    project = open_project(root)
    runs = runs_of(project.data)
    if name or follow or is_stop:
        every = chain(runs, chain.from_iterable(map(members_of, runs)))
        chosen = next((run for run in every if name in (None, run.id)), None)
        if chosen is None:
            message = f"there is no run {name!r}" if name else "there is no run yet"
            raise CurateError("E976 unknown-run", message, f"Begin one with `curate train {console.typed(root)}`.")
        if is_stop and not _stopped(chosen):
            return Exit.FINDINGS
        if follow:
            return _followed(project.data, chosen)
        runs = [] if is_stop else [chosen]
    evaluations = evaluations_of(project.data) if not (name or follow or is_stop) else []
    listed = [*chain.from_iterable((run, *members_of(run)) for run in runs), *evaluations]
    width = max((len(_name(each)) for each in listed), default=0)
    for each in listed:
        console.data(_line(each, form, width))
    if not listed and not is_stop:
        console.talk(f"no run yet; `curate train {console.typed(root)}` begins one")
    return Exit.OK


def _name(run: Run) -> str:
    return console.one_line(run.id, 40)


def _line(run: Run, form: str, width: int) -> str:
    from curate.sessions.metrics import Metrics

    metrics = Metrics(run.metrics_folder)
    metrics.read()
    last, of = metrics.last, metrics.num_steps
    if form == "jsonl":
        import json

        row = {
            "id": run.id, "state": run.standing, "why": run.why, "pid": run.process.pid if run.process else None,
            "step": last.step if last else None, "steps": of, "loss": last.loss if last else None,
            "dataset": run.text_at("dataset", "name") or None, "has_report": run.has_report,
            "evaluated": run.evaluated or None, "series": run.series or None,
        }  # fmt: skip
        return json.dumps(row)
    step = f"step {last.step:,} of {of or 0:,}, loss {last.loss:.4f}" if last else "no step yet"
    if run.evaluated:
        step = f"evaluated {console.one_line(run.evaluated, 60)}"
    parts = [_name(run).ljust(width), f"{run.standing:<9}", step]
    parts += ["report"] if run.has_report else []
    parts += [console.one_line(run.why, 120)] if run.why else []
    return "  ".join(parts)


def _stopped(run: Run) -> bool:
    """Ask the run to save and stop, and say what came of it; return whether a process was there to be asked."""
    from curate.sessions.detached import ask_to_stop

    process = ask_to_stop(run.folder)
    if process is None:
        console.talk(f"{console.one_line(run.id)} has no process to stop: it is {run.standing}")
        return False
    console.talk(f"{console.one_line(run.id)}: process {process.pid} finishes its step, saves a checkpoint and stops")
    return True


def _followed(data: ProjectData, run: Run) -> int:
    """Tell of each step until the run ends, and return the exit code."""
    import time

    from curate.sessions.metrics import Metrics
    from curate.sessions.runs import log_tail, read_run

    folder = run.metrics_folder
    metrics, last_step, num_answers = Metrics(folder), -1, 0
    hidden = {name for name, split in data.pins().items() if split == "test"}
    while True:
        # Looked at before the metrics are read: what came between the last line and the end is not missed.
        is_last = not run.is_alive
        if run.metrics_folder != folder:
            folder = run.metrics_folder
            console.talk(f"{console.one_line(run.id, 40)}: {console.one_line(folder.name, 60)}")
            metrics, last_step, num_answers = Metrics(folder), -1, 0
        metrics.read()
        last = metrics.last
        if last and last.step != last_step:
            last_step = last.step
            speed = f"{last.tokens_per_second:,.0f} tokens/s, {last.eta_seconds:,.0f} s to go"
            console.progress(f"step {last.step:,} of {last.of:,}  loss {last.loss:.4f}  {speed}")
        elif (measured := metrics.measurement) is not None:
            eta = "" if measured.eta_seconds is None else f", {measured.eta_seconds:,.0f} s to go"
            model = console.one_line(measured.model, 10)
            console.progress(f"measuring the {model} model: {measured.done:,} of {measured.of:,}{eta}")
        answers = [(name, answer) for name, several in metrics.samples.items() for answer in several]
        answers = sorted(answers, key=lambda pair: pair[1].step)
        for name, answer in answers[num_answers:]:
            if name not in hidden:
                texts = f"want {console.one_line(answer.expected, 60)}  got {console.one_line(answer.got, 60)}"
                console.talk(
                    f"{'base' if not answer.step else f'step {answer.step:,}'}  {console.one_line(name, 40)}  {texts}"
                )
        num_answers = len(answers)
        if is_last:
            break
        time.sleep(_SECONDS)
        run = read_run(run.folder)
    # The line of progress gives way to the last word on the run.
    console.progress("")
    console.data(_line(run, "text", 0))
    if run.standing in ("failed", "dead"):
        for line in log_tail(run, 5):
            console.talk(console.one_line(line, 300))
        return Exit.FINDINGS
    return Exit.OK
