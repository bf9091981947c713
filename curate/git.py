"""How the program git is asked: nothing that a repository says of itself makes it run another, or ask a network.

A repository that somebody hands over carries its own configuration, hooks and attributes, and questions as tame as
`git status` run programs that these name: a watcher of files, a filter for what is compared, a hook, a transport for
objects that a partial clone lacks. What the person's own configuration names is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# Inside a hook git says which repository it means; here the folder says it.
_LEADING_AWAY = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_EXTERNAL_DIFF",
)  # fmt: skip
_SAFE = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "core.quotePath": "false"}
_QUIET = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    # Older versions of git know the second only: no transport is called so.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
# These look at files on disk, through filters, and into the folders of submodules, which have settings of their own.
_OF_FILES = ("diff", "status")
_SECONDS = 20


def git_command(folder: Path, question: Sequence[str]) -> list[str]:
    """Return the command line that asks git in ``folder``; it is to be run in `git_environment`."""
    verb, *rest = question
    tamed = ["--ignore-submodules=dirty"] if verb in _OF_FILES else []
    tamed += ["--no-ext-diff", "--no-textconv"] if verb == "diff" else []
    return ["git", "-C", str(folder), "--no-pager", verb, *tamed, *rest]


def git_environment(folder: Path, question: Sequence[str]) -> dict[str, str]:
    """Return the environment in which a question in ``folder`` runs no program that the repository there names."""
    settings = dict(_SAFE)
    if question[0] in _OF_FILES:
        for driver in _own_filters(folder):
            settings |= {f"filter.{driver}.clean": "", f"filter.{driver}.process": ""}
            settings[f"filter.{driver}.required"] = "false"
    return _with_settings(settings)


def _own_filters(folder: Path) -> set[str]:
    """Return the filters that the repository's own configuration defines."""
    import subprocess

    asked = ["config", "-z", "--show-scope", "--name-only", "--get-regexp", r"^filter\..*\."]
    try:
        answer = subprocess.run(
            git_command(folder, asked), capture_output=True, check=False, timeout=_SECONDS,
            stdin=subprocess.DEVNULL, env=_with_settings(_SAFE),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        # The question itself fails in the same way, and its asker says so.
        return set()
    fields = iter(os.fsdecode(answer.stdout).split("\0")[:-1])
    pairs = zip(fields, fields, strict=False)
    return {key.removeprefix("filter.").rpartition(".")[0] for scope, key in pairs if scope in ("local", "worktree")}


def _with_settings(settings: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _LEADING_AWAY} | _QUIET
    held = kept.get("GIT_CONFIG_COUNT", "")
    first = int(held) if held.isdecimal() else 0
    for number, (key, value) in enumerate(settings.items(), start=first):
        kept |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return kept | {"GIT_CONFIG_COUNT": str(first + len(settings))}
