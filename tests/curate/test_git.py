"""Git asked about repositories that somebody hands over: whatever these name, no question runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest

from curate import cli
from curate.base import git as runner
from curate.base.git import GitError, ask_git, stream_git
from curate.base.record import CurateError, Exit
from curate.checks.runner import changed_lines
from curate.checks.runner.changes import unmerged_findings
from curate.project.data import load_data
from curate.project.publish import export_dataset

REAL = shutil.which("git") or ""
pytestmark = pytest.mark.skipif(not REAL, reason="needs the program git")
RECORDS = "data/a.jsonl"


def git(folder: Path, *words: str) -> str:
    options = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run([REAL, *options, *words], cwd=folder, check=False, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def root(make_workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed workspace with one more record on the disk."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder: Path = make_workspace().root
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")
    with (folder / RECORDS).open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "instruction": "Which one?", "output": "That one.", "category": "billing"}\n')
    return folder


def age(root: Path) -> None:
    """Make git compare files again whose time it knows, one that has changed and one that has not."""
    for name in (RECORDS, "curate.toml"):
        os.utime(root / name, (time.time() + 5, time.time() + 5))


# --- what a repository may name --------------------------------------------------------------------------------------


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def with_filter(root: Path, key: str, value: str, name: str = "own", *, scope: str = "--local") -> None:
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/attributes").write_text(f"*.jsonl filter={name}\n", encoding="utf-8")
    git(root, "config", scope, f"filter.{name}.{key}", value)


def with_driver(root: Path, key: str, value: str) -> None:
    (root / ".gitattributes").write_text("*.jsonl diff=own\n", encoding="utf-8")
    git(root, "config", f"diff.own.{key}", value)


def a_filter_of_the_worktree(root: Path, ran: Path) -> None:
    git(root, "config", "extensions.worktreeConfig", "true")
    with_filter(root, "clean", f"touch {ran}; cat", scope="--worktree")


def an_included_filter(root: Path, ran: Path) -> None:
    with_filter(root, "clean", f"touch {ran}; cat")
    (root / ".git/config").rename(root / ".git/more")
    git(root, "config", "include.path", "more")


def hooks_elsewhere(root: Path, ran: Path) -> None:
    script(root / "hooks/post-index-change", f"touch {ran}")
    git(root, "config", "core.hooksPath", str(root / "hooks"))


def a_partial_clone(root: Path, ran: Path) -> None:
    for key, value in {
        "core.repositoryFormatVersion": "1", "extensions.partialClone": "origin", "protocol.ext.allow": "always",
        "remote.origin.url": f"ext::sh -c touch% {ran}", "remote.origin.promisor": "true",
    }.items():  # fmt: skip
        git(root, "config", key, value)
    blob = git(root, "rev-parse", f"HEAD:{RECORDS}")
    (root / ".git/objects" / blob[:2] / blob[2:]).unlink()


Trap = Callable[[Path, Path], object]
TRAPS: dict[str, tuple[Trap, str]] = {
    "clean": (lambda root, ran: with_filter(root, "clean", f"touch {ran}; cat"), "diff"),
    "process": (lambda root, ran: with_filter(root, "process", f"touch {ran}"), "diff"),
    "a name of no letters": (lambda root, ran: with_filter(root, "clean", f"touch {ran}; cat", ""), "diff"),
    "a name with a dot": (lambda root, ran: with_filter(root, "clean", f"touch {ran}; cat", "a.b"), "diff"),
    "a name in capitals": (lambda root, ran: with_filter(root, "clean", f"touch {ran}; cat", "LfsÜ"), "diff"),
    "a name with =": (lambda root, ran: with_filter(root, "clean", f"touch {ran}; cat", "a=b"), "diff"),
    "worktree": (a_filter_of_the_worktree, "diff"),
    "include": (an_included_filter, "diff"),
    "fsmonitor": (lambda root, ran: git(root, "config", "core.fsmonitor", f"touch {ran}; false"), "status"),
    "hook": (lambda root, ran: script(root / ".git/hooks/post-index-change", f"touch {ran}"), "status"),
    "hooksPath": (hooks_elsewhere, "status"),
    "external": (lambda root, ran: git(root, "config", "diff.external", f"touch {ran}; true"), "diff"),
    "command": (lambda root, ran: with_driver(root, "command", f"touch {ran}; true"), "diff"),
    "textconv": (lambda root, ran: with_driver(root, "textconv", f"touch {ran}; cat"), "diff"),
    "transport": (a_partial_clone, "diff"),
}


def exported(root: Path) -> Any:
    # The same data is written once, with what git has said then.
    shutil.rmtree(root / "dataset", ignore_errors=True)
    return json.loads((export_dataset(load_data(root))[0].path / "manifest.json").read_bytes())["git"]


def compared(root: Path) -> Any:
    out = root.parent / "diff.json"
    arguments = ["diff", "--since", "HEAD", "--format", "json", "--output", str(out), str(root)]
    cli.cli.main(arguments, standalone_mode=False)
    # An export has given records a split.
    return [(one["id"], one["what"]) for one in json.loads(out.read_bytes())["changes"] if one["what"] != "moved"]


def unmerged(root: Path) -> Any:
    return unmerged_findings([root / RECORDS], root)


def since(root: Path) -> Any:
    changed = changed_lines([root / RECORDS], "HEAD")[str(root / RECORDS)]
    return [number for number in range(1, 63) if number in changed]


ASKERS: dict[str, Callable[[Path], Any]] = {"export": exported, "diff": compared, "unmerged": unmerged, "since": since}
OLD = {
    "new": "",
    # What they pass by in silence, and what they refuse.
    "before 2.44": "unset GIT_NO_LAZY_FETCH",
    "before 2.31": "unset GIT_NO_LAZY_FETCH GIT_CONFIG_COUNT",
    "before 2.26": "unset GIT_NO_LAZY_FETCH GIT_CONFIG_COUNT\n"
    'for word in "$@"; do [ "$word" = --show-scope ] && echo "unknown option" >&2 && exit 129; done',
}


def use(how: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a git before the real one that does something first."""
    script(root.parent / "bin/git", f'{how}\nexec {REAL} "$@"')
    monkeypatch.setenv("PATH", f"{root.parent / 'bin'}:{os.environ['PATH']}")


@pytest.mark.ci
@pytest.mark.parametrize("age_of_git", OLD)
@pytest.mark.parametrize("trap", TRAPS)
def test_no_question_runs_what_the_repository_names(
    trap: str, age_of_git: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = root.parent / "ran"
    lay, verb = TRAPS[trap]
    lay(root, ran)
    age(root)
    git(root, verb, *(["HEAD"] if verb == "diff" else []))
    assert ran.exists(), "the trap is none"
    use(OLD[age_of_git], root, monkeypatch)
    for name, ask in ASKERS.items():
        ran.unlink(missing_ok=True)
        age(root)
        with suppress(CurateError):
            ask(root)
        assert not ran.exists(), name


@pytest.mark.ci
def test_no_question_is_asked_within_a_submodule(root: Path) -> None:
    ran = root.parent / "ran"
    other = root.parent / "other"
    other.mkdir()
    git(other, "init", "-q", "-b", "main")
    for content in ("one\n", "two\n"):
        (other / "x").write_text(content, encoding="utf-8")
        git(other, "add", "-A")
        git(other, "commit", "-q", "-m", content)
    git(root, "submodule", "add", "-q", str(other), "sub")
    git(root, "commit", "-q", "-m", "sub")
    git(root / "sub", "checkout", "-q", "HEAD~1")
    git(root, "config", "diff.submodule", "diff")
    git(root / "sub", "config", "diff.external", f"touch {ran}; true")
    git(root / "sub", "config", "core.fsmonitor", f"touch {ran}; false")
    git(root, "diff", "HEAD")
    assert ran.exists(), "the trap is none"
    ran.unlink()
    assert b"Subproject commit" in ask_git(root, ["diff", "HEAD"])
    for ask in ASKERS.values():
        ask(root)
    assert not ran.exists()


def test_hooks_of_the_configuration_are_switched_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The git at hand may be older than these hooks.
    for key, value in {"event": "post-index-change", "command": "true"}.items():
        git(root, "config", f"hook.Own.x.{key}", value)
    told = root.parent / "told"
    use(f'echo "$@" >> {told}', root, monkeypatch)
    since(root)
    questions = [line for line in told.read_text(encoding="utf-8").splitlines() if " diff " in line]
    assert questions
    assert all(" -c hook.Own.x.enabled=false " in line for line in questions)


# --- what stays as it is ---------------------------------------------------------------------------------------------


def test_the_answers(root: Path) -> None:
    assert exported(root) == {"commit": git(root, "rev-parse", "HEAD"), "is_dirty": True}
    assert compared(root) == [("new", "added")]
    assert (unmerged(root), since(root)) == ([], [61])
    git(root, "commit", "-q", "-a", "-m", "y")
    assert exported(root) == {"commit": git(root, "rev-parse", "HEAD"), "is_dirty": False}
    assert (compared(root), since(root)) == ([], [])


def test_filters_of_the_person_stay_and_those_of_the_repository_go(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "mine"))
    git(root, "config", "--global", "filter.mine.clean", f"touch {ran}; cat")
    (root / ".gitattributes").write_text("*.jsonl filter=mine\n", encoding="utf-8")
    git(root, "commit", "-q", "-a", "-m", "y")
    age(root)
    assert exported(root)["is_dirty"]
    assert ran.exists()
    ran.unlink()
    age(root)
    assert since(root) == []
    assert ran.exists()
    # The same name, but no longer what the person has set up.
    git(root, "config", "filter.mine.clean", f"touch {tmp_path / 'theirs'}; cat")
    ran.unlink()
    age(root)
    assert since(root) == []
    assert not ran.exists()
    assert not (tmp_path / "theirs").exists()


@pytest.mark.ci
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GIT_DIR", "{other}/.git"), ("GIT_WORK_TREE", "{other}"), ("GIT_INDEX_FILE", "{other}/.git/index"),
        ("GIT_COMMON_DIR", "{other}/.git"), ("GIT_OBJECT_DIRECTORY", "{other}/.git/objects"), ("GIT_PREFIX", "x/"),
        ("GIT_CONFIG", os.devnull), ("GIT_EXTERNAL_DIFF", "touch {ran}; true"), ("GIT_NAMESPACE", "x"),
        ("GIT_DIFF_OPTS", "-u9"), ("GIT_LITERAL_PATHSPECS", "1"), ("GIT_SHALLOW_FILE", "{other}/x"),
        ("GIT_ATTR_SOURCE", "HEAD"),
    ],
)  # fmt: skip
def test_the_environment_leads_nowhere(name: str, value: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, other = root.parent / "ran", root.parent / "other"
    other.mkdir()
    git(other, "init", "-q")
    for folder in (root, other):
        with_filter(folder, "clean", f"touch {ran}; cat")
        git(folder, "config", "core.fsmonitor", f"touch {ran}; false")
    wanted = [ask(root) for ask in ASKERS.values()]
    monkeypatch.setenv(name, value.format(other=other, ran=ran))
    age(root)
    assert [ask(root) for ask in ASKERS.values()] == wanted
    assert not ran.exists()


# --- where git gives no answer ---------------------------------------------------------------------------------------


def test_a_git_that_cannot_tell_whose_a_filter_is_is_not_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(OLD["before 2.26"], root, monkeypatch)
    with pytest.raises(CurateError, match="git is too old") as raised:
        since(root)
    assert (raised.value.code, raised.value.exit_code) == ("E957 bad-revision", Exit.MISSING)
    assert raised.value.hint == "Install git 2.26 or newer."
    assert exported(root) is None
    assert compared(root) == [("new", "added")]
    assert unmerged(root) == []


def test_a_filter_that_cannot_be_switched_off_is_told(root: Path) -> None:
    with_filter(root, "clean", "cat", "a=b")
    with pytest.raises(CurateError, match=r"sets up 'filter\.a=b'") as raised:
        since(root)
    assert (raised.value.code, raised.value.exit_code) == ("E957 bad-revision", Exit.USAGE)
    assert exported(root) is None


@pytest.mark.ci
def test_git_that_refuses_is_slow_or_absent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GitError, match="git says: Needed a single revision") as refused:
        ask_git(root, ["rev-parse", "--verify", "nosuch"])
    assert not refused.value.is_missing
    with pytest.raises(GitError, match="git says: Not a valid"), stream_git(root, ["cat-file", "blob", "x"]) as answer:
        assert answer.read() == b""
    monkeypatch.setattr(runner, "_SECONDS", 1)
    use("sleep 2", root, monkeypatch)
    with pytest.raises(GitError, match="more than 1 seconds") as slow:
        ask_git(root, ["rev-parse", "HEAD"])
    assert slow.value.is_missing
    with stream_git(root, ["rev-parse", "HEAD"]) as answer:
        assert len(answer.read()) == 41
    monkeypatch.setenv("PATH", str(root))
    for ask in (lambda: ask_git(root, ["rev-parse"]), stream_git(root, ["rev-parse"]).__enter__):
        with pytest.raises(GitError, match="cannot be run") as absent:
            ask()
        assert absent.value.is_missing


def test_who_stops_reading_does_not_wait(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("echo one; exec sleep 60", root, monkeypatch)
    started = time.monotonic()
    with suppress(click.Abort), stream_git(root, ["cat-file", "--batch"]) as answer:
        assert answer.readline() == b"one\n"
        raise click.Abort
    assert time.monotonic() - started < 30


@pytest.mark.ci
def test_a_question_may_be_longer_than_a_pipe_holds(root: Path) -> None:
    names = b"HEAD:curate.toml\n" * 20_000
    with stream_git(root, ["cat-file", "--batch"], names) as answer:
        assert answer.read().count(b" blob ") == 20_000
