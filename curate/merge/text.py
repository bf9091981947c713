"""Files that are not records, merged line by line as git does without us."""

from __future__ import annotations

from pathlib import Path

from curate.record import CurateError, Exit
from curate.say import one_line


def merge_text(base: Path, ours: Path, theirs: Path, *, marker_size: int = 7) -> tuple[bytes, bool]:
    """Return what `git merge-file` makes of three files, and whether it is without conflict.

    Raises:
        CurateError: E965 when git is not there, or will not merge the files because they are binary; exit code 1,
            so that git takes the file for unmerged.
    """
    import subprocess

    names = ["-L", "ours", "-L", "base", "-L", "theirs"]
    files = [str(path.absolute()) for path in (ours, base, theirs)]
    command = ["git", "merge-file", "-p", "-q", f"--marker-size={marker_size}", *names, "--", *files]
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise _unmergeable(f"git cannot be run: {error.strerror}") from error
    # Up to 127 it is the number of conflicts; above, a refusal or a signal.
    if not 0 <= done.returncode <= 127:
        raise _unmergeable(one_line(done.stderr.decode("utf-8", "replace").strip(), 200) or "git merge-file failed")
    return done.stdout, done.returncode == 0


def _unmergeable(why: str) -> CurateError:
    hint = "The file holds our side only. Compare with `git show :3:FILE`, resolve by hand, and `git add` it."
    return CurateError("E965 cannot-merge", why, hint, exit_code=Exit.FINDINGS)
