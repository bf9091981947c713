"""Which of a workspace's own Python files may run on this machine: those whose content a person has trusted here.

A workspace travels by git, and code that travels with data must not run because somebody has cloned it. So the digest
of each file is written down outside of every workspace, in the user's own state. A file that has changed since is as
strange as a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import MOST_SETTINGS, inside, read_file
from curate.base.record import CurateError
from curate.base.storage import write_atomic

VARIABLE = "CURATE_TRUST_PLUGINS"
"""For CI: ``1`` trusts every file, a list of digests parted by commas trusts those."""
_HINT = "Read it, and type `curate config trust {}` if it may run on this machine."


def plugin_files(root: Path, path: str) -> dict[Path, tuple[str, bytes]]:
    """Return the digest (SHA-256 in hex) and the content of each plug-in in the folder ``path`` of ``root``, by name.

    Files whose name begins with an underscore, and folders, are none.

    Raises:
        CurateError: E914 when the folder leads out of the workspace; E984 when it is not there, or a file cannot be
            read or leads outside.
    """
    folder = inside(root, root / path)
    if not folder.is_dir():
        message = f"plugins.path: there is no folder {path} in {root}"
        raise CurateError("E984 bad-plugin", message, "Make it, or take the setting out of curate.toml.")
    files = {}
    for file in sorted(folder.glob("[!_]*.py")):
        try:
            content = read_file(file, folder, most=MOST_SETTINGS)
        except OSError as error:
            message = f"{one_line(str(file), 500)} cannot be read: {error}"
            raise CurateError("E984 bad-plugin", message, "Put the file itself into the folder.") from error
        files[file.resolve()] = hashlib.sha256(content).hexdigest(), content
    return files


def trusted_files(root: Path, path: str) -> dict[Path, tuple[str, bytes]]:
    """Return what `plugin_files` does, after making sure that a person has trusted every file.

    Raises:
        CurateError: E988 for a file that nobody has trusted here, or that has changed since; and as `plugin_files`.
    """
    files = plugin_files(root, path)
    variable = os.environ.get(VARIABLE, "")
    if variable == "1":
        return files
    digests, listed = read_trust(), variable.split(",")
    for file, (digest, _) in files.items():
        if digests.get(str(file)) == digest or digest in listed:
            continue
        why = "has changed since it was trusted" if str(file) in digests else "is not trusted on this machine"
        message = f"{one_line(str(file), 500)} {why}, so it was not run"
        raise CurateError("E988 untrusted-plugin", message, _HINT.format(one_line(str(root), 500)))
    return files


def trust_path() -> Path:
    """Return the file of what this user trusts: ``$XDG_STATE_HOME/pairsmith/trust.json``."""
    from platformdirs import user_state_path

    return user_state_path("pairsmith") / "trust.json"


def read_trust() -> dict[str, str]:
    """Return the digest of each trusted file by its absolute path.

    Raises:
        CurateError: E989 when the file of them cannot be read.
    """
    path = trust_path()
    try:
        files = json.loads(read_file(path, most=MOST_SETTINGS))["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{path} is no list of trusted files: {error}"
        raise CurateError("E989 bad-trust", message, "Delete it, and trust the plug-ins again.") from error


def write_trust(root: Path, path: str, *, is_trusted: bool = True) -> dict[Path, str]:
    """Trust the plug-ins of a workspace as they are now, or none of them any more; return their digests.

    Raises:
        CurateError: E906 when it cannot be written; and as `plugin_files` and `read_trust`.
    """
    files = {file: digest for file, (digest, _) in plugin_files(root, path).items()}
    folder = (root / path).resolve()
    digests = {name: digest for name, digest in read_trust().items() if Path(name).parent != folder}
    if is_trusted:
        digests |= {str(file): digest for file, digest in files.items()}
    text = json.dumps({"version": 1, "files": dict(sorted(digests.items()))}, indent=2, ensure_ascii=False)
    write_atomic(trust_path(), [text.encode() + b"\n"])
    return files
