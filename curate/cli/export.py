"""`curate export`: write a dataset, and the formats of other trainers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import workspace_argument

if TYPE_CHECKING:
    from curate.formats.dataset import Export
    from curate.formats.exporters import ExportResult
    from curate.project.data import ProjectData
    from curate.project.plan import ExportPlan


@click.command()
@workspace_argument
@click.option("--to", "form", default="dataset", metavar="FORMAT", help="dataset, or a format of another trainer.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for --to; by default exports/FORMAT-vN.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(root: Path, form: str, out: Path | None, dry_run: bool) -> int:
    """Write dataset/vN: a file for each split, what was left out, and a manifest with the digest of each.

    Refused while the data has errors or an exam is given away. Repeats are left out, and nothing is left out without
    being listed in dropped.jsonl. Where nothing has changed since the last dataset, that one is named and nothing is
    written.

    Example: curate export my-data --to trl
    """
    from curate.base.registry import use_plugins
    from curate.formats.exporters import exporters
    from curate.project.notices import tell_machine, tell_plan, tell_preferences, tell_remarks
    from curate.project.plan import plan
    from curate.project.project import open_project
    from curate.project.publish import export_dataset, require_clean, require_machine_share, require_no_leaks

    if out is not None and form == "dataset":
        raise click.UsageError("--out goes with --to; a dataset belongs in the workspace.")
    project = open_project(root)
    use_plugins(project.settings.root, project.settings.plugins.path)
    # Only now: an exporter of a plug-in is known once the settings have named its folder.
    if form not in (known := ["dataset", *exporters()]):
        raise click.BadParameter(f"{form!r} is none of {', '.join(known)}", param_hint="--to")
    # It reads the files; all the others take the records from there.
    verdict = project.validate()
    tell_remarks(project.data)
    if dry_run:
        require_clean(verdict)
        planned = plan(project.data)
        require_no_leaks(planned)
        require_machine_share(project.data, planned)
        tell_plan(planned)
        console.talk("nothing was written")
        return Exit.OK
    # The verdict is handed on, so that each record is examined once in this call.
    export, planned = export_dataset(project.data, verdict=verdict)
    tell_plan(planned)
    tell_machine(export.manifest)
    if not export.is_new:
        console.talk(f"nothing has changed since {export.manifest.name}, which is used again")
    if form == "dataset":
        tell_preferences(project.data)
    console.data(console.visible(str(export.path)))
    return Exit.OK if form == "dataset" else _convert(project.data, export, planned, form, out)


def _convert(data: ProjectData, export: Export, planned: ExportPlan, form: str, out: Path | None) -> int:
    """Write the dataset in another format, and say what that format cannot hold."""
    from curate.base.file_guard import inside
    from curate.formats.exporters import export_rows
    from curate.project.publish import rows_with_lines

    folder = out or inside(data.root, data.root / "exports") / f"{form}-{export.manifest.name}"
    # Formats that can hold more than a dataset's row take it from the workspace's own line.
    rows = rows_with_lines(data, planned, export.path.parent)
    written = export_rows(form, rows, folder, export.manifest.model_dump(mode="json", by_alias=True))
    for reason, number in written.reasons.items():
        console.talk(f"warning: {form} cannot hold {counted(number, 'record')}: {reason}; see skipped.jsonl")
    for note in written.notes:
        console.talk(console.one_line(note))
    for category, number in _lost_categories(export, written).items():
        name = console.one_line(category, 40)
        console.talk(
            f"warning: category {name} is missing from {form}: all of its {counted(number, 'record')} are skipped"
        )
    for path in written.paths:
        console.data(console.visible(str(path)))
    # An empty export would look like a success to a script.
    if not written.num_rows:
        console.talk(f"no record can be written as {form}")
        return Exit.FINDINGS
    return Exit.OK


def _lost_categories(export: Export, written: ExportResult) -> dict[str, int]:
    """Return the categories of which the format holds no record, each with how many records it had."""
    counts = export.manifest.categories
    skipped = Counter(line["row"]["category"] for line in written.skipped)
    return {
        name: number
        for name, number in skipped.items()
        if number == counts[name].train + counts[name].validation + counts[name].test
    }
