"""`curate push`: put a dataset on the Hugging Face Hub, privately, after asking."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import workspace_argument

if TYPE_CHECKING:
    from curate.project.push import Parcel


@click.command("push")
@click.argument("repo", metavar="OWNER/NAME")
@workspace_argument
@click.option("--public", "is_public", is_flag=True, help="Let everybody see it; private is the default.")
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask; for scripts.")
@click.option("--dry-run", is_flag=True, help="Make the folder, say what would be uploaded, and send nothing.")
def command(repo: str, root: Path, is_public: bool, is_agreed: bool, dry_run: bool) -> int:
    """Export the workspace DIR and upload the dataset: Parquet files, its card and manifest.

    Refused while the data has errors. Neither journal nor quarantine is uploaded.

    Example: curate push acme/support-desk my-data --dry-run
    """
    from curate.project.notices import open_and_tell, tell_plan
    from curate.project.publish import export_dataset
    from curate.project.push import pack, require_repository, send

    # Before the export, which may take minutes.
    require_repository(repo)
    project = open_and_tell(root)
    export, planned = export_dataset(project.data)
    tell_plan(planned)
    parcel = pack(project.data, export)
    _show(parcel, repo, is_public)
    if dry_run:
        console.talk("nothing was sent")
        return Exit.OK
    if not is_agreed:
        # A script that nobody watches must say yes in its own words.
        if not sys.stdin.isatty():
            raise click.UsageError("there is nobody to ask; --yes agrees beforehand, --dry-run only looks.")
        if not click.confirm("Upload?", default=False, err=True):
            console.talk("nothing was sent")
            return Exit.OK
    console.data(console.visible(send(parcel, repo, is_public=is_public)))
    return Exit.OK


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
