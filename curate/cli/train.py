"""`curate train`: from records to scores in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.cli._options import workspace_argument
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.project.data import ProjectData

_OPTIONS = f"{__name__}.options"


class _WithRecipeOptions(click.Command):
    """A command that leaves everything after ``--`` to the trainer, also where DIR is not given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the trainer's options apart before click sees the rest."""
        # click would take the first word after -- for DIR where no folder is named.
        index = args.index("--") if "--" in args else len(args)
        ctx.meta[_OPTIONS] = args[index + 1 :]
        return super().parse_args(ctx, args[:index])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Name the trainer's options in the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- RECIPE OPTIONS]"]


@click.command(cls=_WithRecipeOptions)
@workspace_argument
@click.option("--fail-on", type=click.Choice(["worse"]), help="Exit 1 when a category got worse.")
@click.option("--detach", is_flag=True, help="Start the training as a process of its own, print its folder and end.")
@click.option("--dry-run", is_flag=True, help="Check everything and say the plan; write nothing.")
@click.option("--plan", "is_plan", is_flag=True, help="Say what `train plan` says of what an export would write now.")
@click.pass_context
def command(ctx: click.Context, root: Path, fail_on: str | None, detach: bool, dry_run: bool, is_plan: bool) -> int:
    """Validate the records, export them, train on them, and show base against tuned, category by category.

    What follows -- goes to `train run` as it is; with --plan, to `train plan`. Its exit code is passed on when it
    fails. With --detach the run lives on when the terminal closes: `curate runs` follows and stops it. A run that
    --resume goes on with keeps the dataset that it was begun on, and nothing is exported for it.

    Example: curate train my-data --fail-on worse -- --set num_train_epochs=2
    """
    from curate.base.resources import require_trainer
    from curate.project.feedback import REPORT_FILE, read_results, render_records
    from curate.project.notices import open_and_tell
    from curate.sessions.runs import DRY_RUN, run_folder, train

    if detach and fail_on:
        raise click.UsageError("--fail-on waits for the run's end, and --detach does not: use `curate runs --follow`")
    options: list[str] = ctx.meta[_OPTIONS]
    if dry_run and DRY_RUN not in options:
        options = [*options, DRY_RUN]
    if detach and DRY_RUN in options:
        raise click.UsageError("--dry-run starts nothing that could live on: leave --detach out")
    if is_plan and (fail_on or detach or dry_run or "--resume" in options):
        raise click.UsageError("--plan starts nothing and takes no other option: leave them out")
    # Before the export, which writes a dataset.
    require_trainer("training", "take the dataset to a machine that has it")
    project = open_and_tell(root)
    if is_plan:
        return _rehearse(project.data, None, options)
    folder = run_folder(project.data, options)
    if DRY_RUN in options:
        return _rehearse(project.data, folder, options)
    dataset = _dataset(project.data, folder, options)
    if detach:
        return _detached(project.data, dataset, folder, options)
    code = train(project.data, dataset, folder, options)
    if code != Exit.OK:
        location = f"; see {console.visible(str(folder))}" if folder.exists() else ""
        console.talk(f"training ended with exit code {code}{location}")
        return code
    # A trainer that was asked for its help alone ends well and writes nothing.
    if not (folder / REPORT_FILE).is_file():
        console.talk("no run was made, so there is no report")
        return Exit.OK
    results = read_results(folder)
    # The trainer has just printed the scores; what is left to say is which records to look at.
    print_lines(render_records(project.data, results, per_category=2))
    if fail_on and results.regressed:
        console.talk(f"got worse: {', '.join(console.one_line(name, 40) for name in results.regressed)}")
        return Exit.FINDINGS
    return Exit.OK


def _rehearse(data: ProjectData, folder: Path | None, options: list[str]) -> int:
    """Have the trainer check everything and say its plan, on a dataset that is thrown away.

    With None in place of the run's folder it is the whole plan.
    """
    from tempfile import TemporaryDirectory

    from curate.sessions.runs import train

    with TemporaryDirectory(prefix="curate-") as name:
        return train(data, _dataset(data, folder, options, Path(name)), folder, options)


def _dataset(data: ProjectData, folder: Path | None, options: list[str], into: Path | None = None) -> Path:
    """Export what is to be trained on, and say so; a run that is resumed has its own.

    ``into`` is a folder in place of the workspace's datasets.
    """
    from curate.project.notices import tell_machine, tell_plan, tell_preferences
    from curate.project.publish import export_dataset
    from curate.sessions.runs import PLAN_ALONE, resumed_dataset

    if folder is not None and "--resume" in options:
        path = resumed_dataset(folder)
        console.talk(f"dataset: {console.visible(str(path))} (the one that the run was begun on)")
        return path
    export, planned = export_dataset(data, into)
    tell_plan(planned)
    tell_machine(export.manifest)
    tell_preferences(data)
    if into is not None:
        console.talk(PLAN_ALONE if folder is None else "dry run: no dataset is written")
        return export.path
    console.talk(
        f"dataset: {console.visible(str(export.path))}" + ("" if export.is_new else " (nothing has changed since)")
    )
    return export.path


def _detached(data: ProjectData, dataset: Path, folder: Path, options: list[str]) -> int:
    from curate.sessions.runs import train_detached

    process = train_detached(data, dataset, folder, options)
    console.data(console.visible(str(folder)))
    follow = f"`curate runs {console.typed(data.root)} --follow` follows it, --stop has it save and stop"
    console.talk(f"process {process.pid} trains; {follow}")
    return Exit.OK
