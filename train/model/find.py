"""From the name of a base to a folder or file on this disk."""

from __future__ import annotations

import re
from pathlib import Path

from train.base.errors import Exit, TrainError, first_line
from train.recipe.model import DEFAULT_BASE

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def find_base(name: str, folder: Path | None = None) -> Path:
    """Return the folder or .gguf file that ``name`` means: a path, "tiny-base", or a hub id, perhaps with @revision.

    A relative path is looked for in ``folder`` (that of the recipe) and then in the working directory. Of a hub model
    only configuration, tokenizer and safetensors are fetched, and nothing with HF_HUB_OFFLINE=1. Raises TrainError
    "E926 no-such-base".
    """
    for path in ([folder / name] if folder else []) + [Path(name)]:
        if path.is_dir() or (path.is_file() and path.suffix.lower() == ".gguf"):
            return path
        if path.is_file():
            raise TrainError("E921 bad-model", f"{path} is a file; a base is a folder or a .gguf file")
    if name == DEFAULT_BASE:
        return _shipped()
    if not _HUB_ID.fullmatch(name) or ".." in name:
        raise TrainError("E926 no-such-base", f"no folder {name!r} here, and it is not a hub id", "--base FOLDER")
    return _from_hub(name)


def _shipped() -> Path:
    """The embedded base: beside the package in an editable install, with curate's files in the wheel."""
    root = Path(__file__).resolve().parents[2]
    for path in (root / "samples" / DEFAULT_BASE, root / "curate" / "samples" / DEFAULT_BASE):
        if path.is_dir():
            return path
    raise TrainError("E926 no-such-base", f"the embedded {DEFAULT_BASE} is not installed", "--base FOLDER")


def _from_hub(name: str) -> Path:
    # Comes with transformers; only needed for hub ids.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=_WANTED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        message = f"{name} is not a folder here and could not be downloaded from the hub: {first_line(error)}"
        raise TrainError(
            "E926 no-such-base", message,
            "give a local folder with --base, or go online (HF_HUB_OFFLINE=0)", exit_code=Exit.MISSING,
        ) from None  # fmt: skip
