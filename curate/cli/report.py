"""`curate report`: what a training run says about the records."""

from __future__ import annotations

from pathlib import Path

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.cli._options import format_option
from curate.cli._output import print_lines

_FIELDS = ("id", "category", "verdict", "score_base", "score_tuned", "nll_base", "nll_tuned", "completion")


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path), metavar="[RUN]")
@click.option("--workspace", "root", default=".", type=click.Path(path_type=Path), help="Where the records are.")
@click.option("--worst", "count", type=click.IntRange(min=0), default=5, show_default=True, help="Records a category.")
@format_option("text", "jsonl")
def command(run: Path | None, root: Path, count: int, form: str) -> int:
    """Show a run's scores by category and the validation records it does worst on, with file and line.

    RUN is a folder, or the id of a run of the workspace; without it the newest one is shown. Test records are never
    named, and a record that says something else by now has no line.

    Example: curate report --workspace my-data --worst 10
    """
    from curate.base.file_guard import inside
    from curate.project.data import RUNS
    from curate.project.feedback import EVALUATION_FILE, latest_run, read_results, render_records, render_scores, worst
    from curate.project.notices import open_and_tell
    from curate.sessions.runs import evaluations_of

    project = open_and_tell(root)
    runs = inside(root, root / RUNS)
    folder = (runs / run if not run.is_dir() and (runs / run).is_dir() else run) if run else latest_run(runs)
    if folder is None:
        message, hint = f"{root / RUNS} holds no finished run", f"Make one with `curate train {console.typed(root)}`."
        if made := [run for run in evaluations_of(project.data)[::-1] if run.standing == "finished"]:
            message += f", and evaluations of one model, which have no report: {', '.join(run.id for run in made)}"
            others = [console.typed(run.folder) for run in made[1:]] or ["RUN"]
            hint = f"Compare them: `train compare {console.typed(made[0].folder)} {' '.join(others)}`."
        raise CurateError("E918 bad-report", message, hint)
    if (folder / EVALUATION_FILE).is_file():
        message = f"{folder} is an evaluation of one model, and has no report"
        raise CurateError("E918 bad-report", message, f"Compare it: `train compare {console.typed(folder)} RUN`.")
    results = read_results(folder)
    if form == "text":
        print_lines([*render_scores(results), *render_records(project.data, results, per_category=count)])
        return Exit.OK
    import json

    for outcomes in worst(project.data, results, per_category=count).values():
        # One line a record, so that a script can hand each to its own reviewer.
        for bad in outcomes:
            source = bad.record.source if bad.record else None
            said = {name: getattr(bad.outcome, name) for name in _FIELDS}
            place = {"file": source.file if source else None, "line": source.line if source else None}
            console.data(json.dumps(said | {"standing": bad.standing} | place))
    return Exit.OK
