"""`curate worklist`: what to write after a run, and which of the last tasks paid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.tables import counted
from curate.cli._options import by_option

if TYPE_CHECKING:
    from curate.base.record import Json
    from curate.project.project import Project
    from curate.sessions.worklist import Worklist


@click.command()
@click.argument("run", required=False, default="", metavar="[RUN]")
@click.option("--workspace", "root", default=".", type=click.Path(path_type=Path), help="Where the records are.")
@click.option("--with", "model", default="", metavar="MODEL", help="Have a model propose the records of each task.")
@click.option("--anew", is_flag=True, help="Make the list anew, from the records as they are now.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@by_option
def command(run: str, root: Path, model: str, anew: bool, as_json: bool, by: str) -> int:
    """Say by category why RUN is wrong, as far as that can be told, and how many records to write.

    Without RUN the newest run is looked at. Each cause comes with its figure; from a few wrong records none is claimed.
    The tasks are a queue in `curate` (g q, worklist), and stay in the run's folder, so that the worklist of the next
    run says which of them paid. Test records are never named.

    Example: curate worklist 2026-11-24-a --workspace my-data
    """
    from curate.base.file_guard import inside
    from curate.project.data import RUNS
    from curate.project.feedback import latest_run
    from curate.project.project import open_project
    from curate.sessions.worklist import num_written, paid, worklist_of

    with open_project(root, by or None) as project:
        project.load()
        runs = inside(root, root / RUNS)
        folder = (Path(run) if Path(run).is_dir() else runs / run) if run else latest_run(runs)
        if folder is None:
            hint = f"Make one with `curate train {console.typed(root)}`."
            raise CurateError("E918 bad-report", f"{runs} holds no finished run", hint)
        worklist = worklist_of(project, folder, is_anew=anew)
        before, rows = paid(project, folder)
        if as_json:
            from curate.cli._output import print_json

            print_json({**worklist.document(), "paid": {"run": before, "rows": rows}}, indent=2)
        else:
            _print(worklist, before, rows)
        if lapsed := {item.category for item in worklist.items} - num_written(project, worklist).keys():
            names = ", ".join(console.one_line(name, 40) for name in sorted(lapsed))
            console.talk(f"no record is in {names} any more: --anew makes the list from the records as they are now")
        return _propose(project, worklist, model) if model else Exit.OK


def _print(worklist: Worklist, before: str, rows: list[dict[str, Json]]) -> None:
    if num := worklist.num_changed:
        console.data(f"{counted(num, 'wrong record')} left out: changed since the run, gone, or now in test")
    if not worklist.items:
        console.data(f"run {worklist.run}: no validation record {'that is as it was ' * bool(num)}is wrong")
    for item in worklist.items:
        score = "" if item.score is None else f", score {item.score:.2f}"
        wrong = f"{item.num_wrong} of {counted(item.num_validation, 'validation record')} wrong"
        console.data(f"{console.one_line(item.category, 40)}: {wrong}{score}")
        for cause in item.causes:
            console.data(f"  {cause}")
        console.data(f"  {item.task}: {', '.join(console.one_line(name, 24) for name in item.nearest) or 'none near'}")
    if rows:
        console.data(f"what the worklist of run {console.one_line(before, 40)} came to:")
    for row in rows:
        console.data(f"  {console.one_line(row['category'], 40)}: {_change(row)}")


def _change(row: dict[str, Json]) -> str:
    written = "no record is in it any more" if row["written"] is None else f"{row['written']} written"
    if row["difference"] is None:
        return f"{written}; no paired difference"
    change = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    word = "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "no difference found"
    return f"{written}; {row['before']:.3f} -> {row['after']:.3f}, {change}: {word}"


def _propose(project: Project, worklist: Worklist, model: str) -> int:
    from curate.sessions.proposing import ModelTask, propose

    num = 0
    for item in worklist.items:
        records = [project.state(name).record for name in item.nearest if project.catalog.find(name) is not None]
        if records:
            result = propose(project, records, ModelTask(model, like=item.number))
            num += result.num_proposed
            category = console.one_line(item.category, 40)
            failed = f", {result.failed.total()} failed the checks" if result.failed else ""
            console.talk(f"{category}: {counted(result.num_proposed, 'proposal')}{failed}")
    console.talk(f"{counted(num, 'proposal')} to take or reject in `curate`, g q, proposals")
    return Exit.OK if num else Exit.FINDINGS
