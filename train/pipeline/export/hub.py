"""An export to the Hugging Face Hub: the folder is made, shown, asked about, and only then uploaded, privately."""

from __future__ import annotations

import os
import re
from pathlib import Path

from train.base import console
from train.base.errors import TrainError
from train.pipeline.export.source import Source
from train.report import licenses_of


def require_repository(repo: str) -> None:
    """Raise TrainError "E894 push-refused" where ``repo`` is no name that the Hub could have."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo):
        raise _refused(f"{repo} is no repository", "It reads OWNER/NAME.")


def form_of(source: Source, dtype: str) -> str:
    """Return the target that is uploaded: the adapter where others can load it, else the whole model."""
    return "adapter" if source.is_lora and not dtype and source.base.is_dir() else "merged"


def doubts_of(source: Source) -> list[str]:
    """Return what its owner should think about before others see the model."""
    base, has_licenses = source.recipe.base, all(licenses_of(source.dataset.manifest) or [""])
    doubts = [] if has_licenses else ["records of the dataset name no licence"]
    if os.path.lexists(base) or base.count("/") != 1:
        doubts.append(f"the card names the base as {base}, which is no name on the Hub")
    return doubts


def send(folder: Path, repo: str, name: str, *, is_public: bool) -> str:
    """Upload all files of ``folder`` as one commit and return its address; ``name`` is the run's.

    A new repository is private unless ``is_public``. The token is the one that `hf auth login` or HF_TOKEN gives.
    Raises TrainError "E894 push-refused" where the Hub refuses or cannot be reached, or where ``repo`` is public and
    ``is_public`` is not set.
    """
    # Slow to import; it comes with transformers.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi(library_name="pairsmith", endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        api.create_repo(repo, private=not is_public, exist_ok=True)
        if not api.repo_info(repo).private and not is_public:
            raise _refused(f"{repo} exists and is public", "Say --public if everybody may see it.")
        message = f"{name}: made by pairsmith"
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message).commit_url)
    except OfflineModeIsEnabled as error:
        raise _refused("HF_HUB_OFFLINE is set", "Unset it to upload.") from error
    # The Hub's error is derived from that of the HTTP client below it, which changes its name between releases.
    except (*HfHubHTTPError.__bases__, LocalTokenNotFoundError, ValueError) as error:
        what = " ".join(console.visible(str(error)).split())[:400]
        hint = "Nothing else was changed; `hf auth login` or HF_TOKEN says who you are."
        raise _refused(f"{repo}: {what}", hint) from error


def _refused(what: str, hint: str) -> TrainError:
    return TrainError("E894 push-refused", what, hint)
