"""`curate export`: write a dataset, the formats of other trainers, and upload it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import refuse_if, workspace_argument

if TYPE_CHECKING:
    from curate.formats.dataset import Export
    from curate.formats.exporters import ExportResult
    from curate.project.data import ProjectData
    from curate.project.plan import ExportPlan
    from curate.project.push import Parcel


@click.command()
@workspace_argument
@click.option("--to", "form", default="dataset", metavar="FORMAT", help="dataset, or a format of another trainer.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for --to; by default exports/FORMAT-vN.")
@click.option(
    "--push", "repo", default="", metavar="OWNER/NAME", help="Upload it to the Hugging Face Hub, after asking."
)
@click.option("--public", "is_public", is_flag=True, help="With --push: let everybody see it; private is the default.")
@click.option("--yes", "is_agreed", is_flag=True, help="With --push: do not ask; for scripts.")
@click.option("--dry-run", is_flag=True, help="Write nothing, and say what would be; with --push, send nothing.")
def command(root: Path, form: str, out: Path | None, repo: str, is_public: bool, is_agreed: bool, dry_run: bool) -> int:
    """Write dataset/vN: a file for each split, what was left out, and a manifest with the digest of each.

    Refused while the data has errors or an exam is given away. Repeats are left out, and nothing is left out without
    being listed in dropped.jsonl. Where nothing has changed since the last dataset, that one is named and nothing is
    written.

    --push uploads the dataset as Parquet files with its card and manifest; neither journal nor quarantine is sent.

    Example: curate export my-data --to trl

    Example: curate export my-data --push acme/support-desk --dry-run
    """
    from curate.base.registry import use_plugins
    from curate.formats.exporters import exporters
    from curate.project.notices import tell_machine, tell_plan, tell_preferences, tell_remarks
    from curate.project.plan import plan
    from curate.project.project import open_project
    from curate.project.publish import export_dataset, require_clean, require_machine_share, require_no_leaks

    refuse_if(
        (out is not None and form == "dataset", "--out goes with --to; a dataset belongs in the workspace."),
        (bool(repo) and form != "dataset", "--push uploads the dataset, and no other format: leave out --to."),
        ((is_public or is_agreed) and not repo, "--public and --yes are for --push OWNER/NAME."),
    )
    if repo:
        from curate.project.push import require_repository

        # Before the export, which may take minutes.
        require_repository(repo)
    project = open_project(root)
    use_plugins(project.settings.root, project.settings.plugins.path)
    # Only now: an exporter of a plug-in is known once the settings have named its folder.
    if form not in (known := ["dataset", *exporters()]):
        raise click.BadParameter(f"{form!r} is none of {', '.join(known)}", param_hint="--to")
    # It reads the files; all the others take the records from there.
    verdict = project.validate()
    tell_remarks(project.data)
    if dry_run and not repo:
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
    if repo:
        _send(project.data, export, repo, is_public=is_public, is_agreed=is_agreed, dry_run=dry_run)
    return Exit.OK if form == "dataset" else _convert(project.data, export, planned, form, out)


def _send(data: ProjectData, export: Export, repo: str, *, is_public: bool, is_agreed: bool, dry_run: bool) -> None:
    """Upload a dataset, once somebody who has seen what is sent agrees."""
    from curate.project.push import pack, send

    parcel = pack(data, export)
    _show(parcel, repo, is_public)
    # A script that nobody watches must say yes in its own words.
    if not (dry_run or is_agreed or sys.stdin.isatty()):
        raise click.UsageError("there is nobody to ask; --yes agrees beforehand, --dry-run only looks.")
    if dry_run or not (is_agreed or click.confirm("Upload?", default=False, err=True)):
        console.talk("nothing was sent")
        return
    console.data(console.visible(send(parcel, repo, is_public=is_public)))


def _show(parcel: Parcel, repo: str, is_public: bool) -> None:
    manifest = parcel.export.manifest
    records = manifest.counts.train + manifest.counts.validation + manifest.counts.test
    who = "PUBLIC" if is_public else "private"
    size = f"{parcel.num_bytes / 2**20:.1f} MiB"
    files = counted(len(parcel.files), "file")
    console.talk(f"{manifest.name} to {console.one_line(repo)} ({who}): {counted(records, 'record')}, {files}, {size}")
    for path in parcel.files:
        console.talk(f"  {console.visible(str(path.relative_to(parcel.folder)))}  {path.stat().st_size:,} bytes")
    licenses = sorted({origin.license for origin in manifest.provenance if origin.license})
    console.talk(f"  licence: {console.one_line(', '.join(licenses)) or 'none is named'}")
    for doubt in parcel.doubts:
        console.talk(f"  warning: {console.one_line(doubt)}")


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
