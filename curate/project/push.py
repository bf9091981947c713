"""From a workspace to the Hugging Face Hub: a folder is made, shown, asked about, and only then uploaded.

Nothing but that folder leaves the machine: no journal and no quarantine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from curate.base.console import one_line
from curate.base.file_guard import inside
from curate.base.record import CurateError, missing_extra
from curate.base.storage import make_folder
from curate.formats.dataset import Export
from curate.formats.exporters import export_rows
from curate.project.data import ProjectData

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MAX_NAME = 96
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Parcel:
    """What would be uploaded: the folder, its files, the dataset in it, and what its owner should think about."""

    folder: Path
    files: list[Path]
    export: Export
    doubts: list[str]

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files)


def require_repository(repo: str) -> None:
    """Make sure that ``repo`` is a name that the Hub could have.

    Raises:
        CurateError: E967 when it does not read owner/name.
    """
    if not _REPO.fullmatch(repo) or len(repo) > _MAX_NAME or ".." in repo or "--" in repo:
        raise CurateError("E967 push-refused", f"{one_line(repo)} is no repository", "It reads OWNER/NAME.")


def pack(data: ProjectData, export: Export) -> Parcel:
    """Write the folder that would become a repository; nothing is sent.

    Raises:
        CurateError: E967 when the folder holds what no export put there, E906 when writing fails.
    """
    folder = inside(data.root, data.root / "exports") / f"hub-{export.manifest.name}"
    make_folder(folder)
    # What lies there from an earlier export is replaced file by file; anything else is not ours to send.
    written = export_rows("hub", export.rows, folder, export.manifest.model_dump(mode="json", by_alias=True))
    strangers = sorted({path for path in folder.rglob("*") if path.is_file()} - set(written.paths))
    if strangers:
        names = ", ".join(str(path.relative_to(folder)) for path in strangers[:3])
        raise CurateError("E967 push-refused", f"{folder} holds what no export put there: {names}", "Take it away.")
    return Parcel(folder, written.paths, export, list(_doubts(export)))


def _doubts(export: Export) -> list[str]:
    manifest, doubts = export.manifest, []
    if private := manifest.findings.get("X701", 0):
        doubts.append(f"{private:,} warnings of personal data (X701) were let through")
    if unnamed := sum(origin.records for origin in manifest.provenance if not origin.license):
        doubts.append(f"{unnamed:,} records name no licence, and `about.license` is not set")
    return doubts


def send(parcel: Parcel, repo: str, *, is_public: bool) -> str:
    """Upload a parcel as one commit and return the address of what it made.

    A new repository is private unless ``is_public``. The token is the one that `hf auth login` or HF_TOKEN gives.

    Raises:
        CurateError: E940 without the extra [hub]; E967 when the Hub refuses, cannot be reached, or holds a public
            repository of that name while ``is_public`` is not set.
    """
    try:
        # An extra, and slow to import.
        from huggingface_hub import HfApi
    except ImportError as error:
        raise missing_extra("pushing", "hub") from error
    api = HfApi(library_name="pairsmith", endpoint=os.environ.get("HF_ENDPOINT"))
    _call_hub(lambda: api.create_repo(repo, repo_type="dataset", private=not is_public, exist_ok=True), repo)
    info = _call_hub(lambda: api.repo_info(repo, repo_type="dataset"), repo)
    if not info.private and not is_public:
        raise CurateError(
            "E967 push-refused", f"{repo} exists and is public", "Say --public if everybody may see it."
        )  # fmt: skip
    message = f"{parcel.export.manifest.name}: {len(parcel.files)} files made by pairsmith"
    commit: Any = _call_hub(
        lambda: api.upload_folder(
            repo_id=repo, folder_path=parcel.folder, repo_type="dataset", commit_message=message,
            allow_patterns=[path.relative_to(parcel.folder).as_posix() for path in parcel.files],
        ),
        repo,
    )  # fmt: skip
    return str(commit.commit_url)


def _call_hub(call: Callable[[], Answer], repo: str) -> Answer:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        return call()
    except OfflineModeIsEnabled as error:
        raise CurateError("E967 push-refused", "HF_HUB_OFFLINE is set", "Unset it to upload.") from error
    # The Hub's error is derived from that of the HTTP client below it, which changes its name between releases.
    except (*HfHubHTTPError.__bases__, LocalTokenNotFoundError, ValueError) as error:
        hint = "Nothing else was changed; `hf auth login` or HF_TOKEN says who you are."
        raise CurateError("E967 push-refused", f"{repo}: {one_line(str(error), 400)}", hint) from error
