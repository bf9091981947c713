"""A text in a person's own editor: handed over in a file, and taken back as what the editor has left there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.record import CurateError, Exit
from curate.base.storage import write_atomic

_USUAL = ("editor", "nano", "vi")


def editor_command() -> list[str]:
    """Return the command of the editor: VISUAL, else EDITOR, else what is usual where it is installed.

    Raises:
        CurateError: E987 when there is none.
    """
    for name in ("VISUAL", "EDITOR"):
        if value := os.environ.get(name, "").strip():
            try:
                command = shlex.split(value)
            except ValueError as error:
                raise _none(f"{name} is {one_line(value, 60)!r}, which is no command: {error}") from error
            if command and shutil.which(command[0]):
                return command
            raise _none(f"{name} names {one_line(value, 60)!r}, which is not there")
    usual = next((name for name in _USUAL if shutil.which(name)), None)
    if usual is None:
        raise _none("neither VISUAL nor EDITOR names one")
    return [usual]


def edited(text: str, path: Path) -> str | None:
    """Return ``text`` as it is after a person has edited it in ``path``, None where the editor gave up on it.

    The file is gone afterwards; where the system ends us before, it stays and nothing typed is lost. Line ends of
    Windows are read as line ends.

    Raises:
        CurateError: E987 when there is no editor, it cannot be started, or it has failed on a text that it changed: the
            file stays then. E972 when it left an empty file. E906 when the file cannot be written.
    """
    command = editor_command()
    write_atomic(path, [text.encode("utf-8", "surrogateescape")], mode=0o600)
    try:
        # A Python that is started from within it is the user's, and may import what lies beside its script.
        code = subprocess.run([*command, str(path)], check=False, env=os.environ | {"PYTHONSAFEPATH": ""}).returncode
    except OSError as error:
        raise _none(f"{one_line(command[0], 60)!r} cannot be started: {error.strerror}") from error
    try:
        # Bytes that are not UTF-8 come back as they are, to be shown and mended.
        after = read_file(path, most=MOST_DOCUMENT).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    # An editor that failed may have left half a text.
    if code and after != text:
        hint = "Nothing was changed; what it left is still there."
        raise CurateError("E987 no-editor", f"the editor has failed ({code}); see {one_line(str(path), 300)}", hint)
    path.unlink(missing_ok=True)
    if code:
        return None
    if text.strip() and not after.strip():
        hint = "Nothing was changed. `curate drop` leaves a record out, as `d` does in Browse."
        raise CurateError("E972 unfit-line", "the editor left an empty file", hint)
    return after if "\r\n" in text else after.replace("\r\n", "\n")


def _none(reason: str) -> CurateError:
    return CurateError("E987 no-editor", f"there is no editor: {reason}", "Set EDITOR.", exit_code=Exit.MISSING)
