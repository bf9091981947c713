"""Writing a division down: the decisions as one act, the settings into curate.toml with its comments and layout."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.base.file_guard import MOST_SETTINGS, inside, read_file
from curate.base.record import CurateError, Json
from curate.base.storage import write_atomic
from curate.project.project import Project
from curate.schema.settings import FILE_NAME, SplitSettings, origins
from curate.sessions.splitting.preview import Preview, preview

KEYS = ("ratios", "seed", "stratify", "group")


@dataclass(frozen=True, slots=True)
class SavedDivision:
    """What was written: how many records were assigned, how many dropped, which settings changed.

    ``overruled`` names variables of the environment that stand in for a setting that was written.
    """

    num_assigned: int
    num_dropped: int
    keys: Sequence[str]
    overruled: Sequence[str]


def write(project: Project, divided: Preview, *, is_saved: bool) -> SavedDivision:
    """Write the decisions of ``divided`` as one act, and its settings where ``is_saved``; the settings come first.

    What is written is the division of an export: where the splits of ``divided`` were not compared, they are now.

    Raises:
        CurateError: E906 when the system refuses; E902 when curate.toml cannot be changed without changing more.
    """
    root = divided.basis.data.root
    if divided.compared is None:
        divided = preview(divided.basis, divided.settings, divided.fixes, is_compared=True)
    keys = save_settings(root, divided.settings) if is_saved else []
    decisions = divided.decisions()
    if decisions:
        project.apply(decisions)
    num_dropped = sum(decision.op == "drop" for decision in decisions)
    known = origins(root) if keys else {}
    sources = [known.get(("split", key), "") for key in keys]
    overruled = [origin for origin in sources if origin and not origin.startswith(FILE_NAME)]
    return SavedDivision(len(decisions) - num_dropped, num_dropped, keys, overruled)


def save_settings(root: Path, settings: SplitSettings) -> list[str]:
    """Put ``settings`` under [split] in the workspace's curate.toml and return the keys that have changed.

    Comments, order and blank lines stay, and keys that say the same already are not touched.

    Raises:
        CurateError: E906 when it cannot be written; E902 when it could not be changed without changing anything else.
    """
    # Few commands write settings.
    import tomlkit

    path = inside(root, root / FILE_NAME)
    text = read_file(path, root, most=MOST_SETTINGS).decode()
    before: dict[str, Any] = tomllib.loads(text)
    saved = SplitSettings.model_validate(before.get("split", {}))
    wanted, there = _plain(settings), _plain(saved)
    changed = [key for key in KEYS if wanted[key] != there[key] and wanted[key] is not None]
    if not changed:
        return []
    document = tomlkit.parse(text)
    if "split" not in document:
        if text.strip():
            document.add(tomlkit.nl())
        document.add("split", tomlkit.table())
    for key in changed:
        document["split"][key] = wanted[key]
    after = tomlkit.dumps(document)
    if tomllib.loads(after) != {
        **before,
        "split": {**before.get("split", {}), **{key: wanted[key] for key in changed}},
    }:
        message = f"{path}: [split] cannot be changed without changing something else"
        raise CurateError("E902 bad-settings", message, f"Set {', '.join(changed)} in it by hand.")
    write_atomic(path, [after.encode()], mode=path.stat().st_mode & 0o777)
    return changed


def _plain(settings: SplitSettings) -> dict[str, Json]:
    """Return the settings with shares as people write them, which still add up to one."""
    shares = [round(share, 6) for share in settings.ratios]
    largest = shares.index(max(shares))
    shares[largest] = round(1 - sum(share for index, share in enumerate(shares) if index != largest), 6)
    fields: dict[str, Json] = settings.model_dump(mode="json")
    return {**fields, "ratios": shares}
