"""The only module that runs git; the configuration of a repository can make it run no other program."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import CompletedProcess

# Inside a hook git says which repository it means; here the folder says it. The others change what an answer is about.
_LEADING_AWAY = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE", "GIT_ATTR_SOURCE", "GIT_CONFIG", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS",
    "GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS",
)  # fmt: skip
# A repository that somebody hands over carries its own configuration, hooks and attributes. Even `git status` runs
# programs that these name: a file-system monitor, a filter, a hook, a transport for the objects of a partial clone. The
# person's own configuration is trusted. The protection uses options that every git knows; a git that is too old to say
# who has set up a filter is not asked about files.
_SAFE = (
    # Empty and not false: before 2.36 this was the name of a program.
    "core.fsmonitor=",
    f"core.hooksPath={os.devnull}",
    "core.quotePath=false",
)
_QUIET = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    # Older versions of git know the second only: no transport is called so.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
# These look at files on disk, through filters, and into the folders of submodules, which have settings of their own;
# and they may write the index, which calls a hook.
_OF_FILES = ("diff", "status")
# Since 2.54 a hook is named in the configuration as well, where `core.hooksPath` has no say.
_OFF = {"filter": ("clean=", "process=", "required=false"), "hook": ("enabled=false",)}
_TRUSTED = ("system", "global", "command")
_BAD_USAGE = 129
_SECONDS = 20


class GitError(Exception):
    """Why git gave no answer, in its own words; ``is_missing`` where it is absent, too old or too slow.

    The text may hold anything that the repository does: print it only through `one_line`.
    """

    def __init__(self, why: str, hint: str = "", *, is_missing: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint
        self.is_missing = is_missing


def ask_git(folder: Path, question: Sequence[str]) -> bytes:
    """Return what git answers in ``folder`` to a question that is quickly answered.

    Raises:
        GitError: git is not there, is too old, refuses, or needs more than 20 seconds.
    """
    done = _run(_command(folder, question))
    if done.returncode:
        raise _refusal(done.returncode, done.stderr)
    return done.stdout


@contextmanager
def stream_git(folder: Path, question: Sequence[str], given: bytes = b"") -> Iterator[IO[bytes]]:
    """Yield the answer to read from, however long and large it is, to a question with ``given`` on git's stdin.

    Raises:
        GitError: git is not there, is too old, or refuses; that it has broken off is known when all was read.
    """
    # Most commands ask nothing and should not pay for loading these.
    import subprocess
    import tempfile

    command = _command(folder, question)
    # Files and no pipes: neither side waits for the other, and a git that is gone does not end us by SIGPIPE.
    with tempfile.TemporaryFile() as input_file, tempfile.TemporaryFile() as error_file:
        input_file.write(given)
        input_file.seek(0)
        try:
            process = subprocess.Popen(
                command, stdin=input_file, stdout=subprocess.PIPE, stderr=error_file, env=_environment()
            )  # fmt: skip
        except OSError as error:
            raise _not_run(error) from error
        with process, ExitStack() as on_failure:
            # A reader that stops in the middle does not wait for the rest.
            on_failure.callback(process.kill)
            assert process.stdout is not None
            yield process.stdout
            on_failure.pop_all()
        if process.returncode:
            error_file.seek(0)
            raise _refusal(process.returncode, error_file.read())


def _command(folder: Path, question: Sequence[str]) -> list[str]:
    """Return the command line that asks; it runs no program that the repository in ``folder`` names."""
    verb, *rest = question
    settings, tamed = list(_SAFE), []
    if verb in _OF_FILES:
        tamed.append("--ignore-submodules=dirty")
        settings += [f"{name}.{off}" for name in _own_programs(folder) for off in _OFF[name.partition(".")[0]]]
    if verb == "diff":
        # The last one keeps git from asking within a submodule, whose settings would hold there.
        tamed += ["--no-ext-diff", "--no-textconv", "--submodule=short"]
    options = [word for setting in settings for word in ("-c", setting)]
    return ["git", "-C", str(folder), *options, "--no-pager", verb, *tamed, *rest]


def _own_programs(folder: Path) -> list[str]:
    """Return the filters and hooks that the repository's own configuration sets up, such as "filter.lfs".

    Raises:
        GitError: as `ask_git`; and where one of them cannot be switched off.
    """
    question = ["config", "-z", "--show-scope", "--name-only", "--get-regexp", rf"^({'|'.join(_OFF)})\..*\."]
    done = _run(_command(folder, question))
    if done.returncode == _BAD_USAGE:
        message = "git is too old to be asked about files safely"
        raise GitError(message, "Install git 2.26 or newer.", is_missing=True)
    # With 1 it says that there are none.
    if done.returncode not in (0, 1):
        raise _refusal(done.returncode, done.stderr)
    fields = os.fsdecode(done.stdout).split("\0")[:-1]
    keys = zip(fields[::2], fields[1::2], strict=True)
    own = {key.rpartition(".")[0] for scope, key in keys if scope not in _TRUSTED}
    if unfit := [name for name in own if "=" in name]:
        message = f"the repository's configuration sets up {min(unfit)!r}, which `git -c` cannot switch off"
        raise GitError(message, "Look at .git/config, and remove it.")
    return sorted(own)


def _run(command: Sequence[str]) -> CompletedProcess[bytes]:
    import subprocess

    try:
        return subprocess.run(
            command, capture_output=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL, env=_environment()
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git needs more than {_SECONDS} seconds", "Run it again.", is_missing=True) from error
    except OSError as error:
        raise _not_run(error) from error


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _LEADING_AWAY} | _QUIET


def _refusal(returncode: int, stderr: bytes) -> GitError:
    why = stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ")
    return GitError(f"git says: {why}" if why else f"git ended with {returncode}")


def _not_run(error: OSError) -> GitError:
    return GitError(f"git cannot be run: {error.strerror}", "Is it installed?", is_missing=True)
