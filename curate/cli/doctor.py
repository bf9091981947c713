"""`curate doctor`: what this machine and this workspace have, and what stands in the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from textwrap import wrap
from typing import Literal

import click

from curate import say
from curate.record import CurateError, Exit

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing looked at: ``note`` is neither good nor bad, ``problem`` stands in the way of some command."""

    topic: str
    state: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


@click.command("doctor")
@click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--json", "is_json", is_flag=True, help="Print JSON, for a bug report.")
def command(root: Path, is_json: bool) -> int:
    """Look at the installation, the terminal, git, the disk, the trainer and the workspace, if DIR is one.

    Exits 0 when nothing stands in the way, 3 when something does.

    Example: curate doctor my-data --json
    """
    signs = [*_packages(), *_machine(root), *_terminal(), *_git(root), *_trainer(), *_workspace(root)]
    if is_json:
        say.data(json.dumps([asdict(sign) for sign in signs], indent=2))
    else:
        for sign in signs:
            for line in _lines(sign):
                say.data(line)
    return Exit.MISSING if any(sign.state == "problem" for sign in signs) else Exit.OK


def _lines(sign: Sign) -> Iterator[str]:
    """Yield a sign in lines that fit the terminal."""
    mark = {"ok": "ok", "note": "note", "problem": "PROBLEM"}[sign.state]
    head = f"{mark:<7} {sign.topic:<10} "
    width = max(40, shutil.get_terminal_size().columns - len(head))
    parts = [*wrap(say.one_line(sign.found, 600), width), *wrap(say.one_line(sign.advice, 600), width)]
    for number, part in enumerate(parts):
        yield (head if number == 0 else " " * len(head)) + part


def _packages() -> Iterator[Sign]:
    yield Sign("pairsmith", "ok", f"{version('pairsmith')} on Python {sys.version.split()[0]}, {sys.platform}")
    extras: dict[str, list[str]] = {}
    base: list[str] = []
    for line in requires("pairsmith") or []:
        name = line.split(";")[0].split("[")[0].split(">")[0].split("<")[0].split("=")[0].strip()
        if "extra ==" in line:
            extras.setdefault(line.split("extra ==")[1].strip(" '\"()"), []).append(name)
        else:
            base.append(name)
    if lacking := [name for name in base if not _version(name)]:
        yield Sign("packages", "problem", f"missing: {', '.join(lacking)}", "Reinstall pairsmith.")
    yield Sign("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in base if _version(name)))
    for extra, names in sorted(extras.items()):
        if extra not in ("all", "dev"):
            missing = [name for name in names if name != "pairsmith" and not _version(name)]
            found = f"[{extra}] " + (f"lacks {', '.join(missing)}" if missing else "installed")
            advice = f"If you need it: pip install 'pairsmith[{extra}]'" if missing else ""
            yield Sign("extra", "note" if missing else "ok", found, advice)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _machine(root: Path) -> Iterator[Sign]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield Sign("machine", "ok", f"{len(os.sched_getaffinity(0))} CPUs for this process, {memory:.1f} GiB of memory")
    folder = root if root.is_dir() else Path()
    free = shutil.disk_usage(folder).free / 2**30
    advice = "Exports and checkpoints need more." if free < 1 else ""
    yield Sign("disk", "problem" if free < 1 else "ok", f"{free:.1f} GiB free at {folder.resolve()}", advice)
    if not os.access(folder, os.W_OK):
        yield Sign("disk", "problem", f"{folder.resolve()} cannot be written to", "Decisions could not be saved there.")


def _terminal() -> Iterator[Sign]:
    size = shutil.get_terminal_size()
    encoding = sys.stdout.encoding or ""
    is_utf8 = encoding.lower().replace("-", "") == "utf8"
    found = f"TERM={os.environ.get('TERM', '')}, {size.columns}x{size.lines}, {encoding}"
    colour = "colour" if say.is_colour_wanted(sys.stdout) else "no colour"
    advice = "" if is_utf8 else "Characters beyond this encoding are shown by number; LC_ALL=C.UTF-8 helps."
    yield Sign("terminal", "ok" if is_utf8 else "note", f"{found}, {colour}", advice)


def _git(root: Path) -> Iterator[Sign]:
    if shutil.which("git") is None:
        yield Sign("git", "note", "not installed", "`validate --since`, `diff REF` and the merge driver need it.")
        return
    yield Sign("git", "ok", _output(["git", "--version"]))
    folder = root if root.is_dir() else Path()
    if not _output(["git", "-C", str(folder), "rev-parse", "--show-toplevel"]):
        yield Sign("git", "note", f"{folder} is in no repository", "Records in git have a history and can be merged.")
    elif not _output(["git", "-C", str(folder), "config", "--get-regexp", r"^merge\..*\.driver$"]):
        yield Sign("git", "note", "no merge driver is configured here", "`curate merge-driver --install` does it.")
    else:
        yield Sign("git", "ok", "a merge driver is configured")


def _trainer() -> Iterator[Sign]:
    if not all(_version(name) for name in ("torch", "transformers", "peft")):
        yield Sign("trainer", "note", "not installed", "pip install 'pairsmith[train]' on the machine that trains.")
        return
    # The trainer speaks for itself: we never load what it loads.
    text = _output([sys.executable, "-P", "-m", "train", "doctor", "--json"])
    if not text:
        yield Sign("trainer", "problem", "`train doctor` does not answer", "Run it by hand to see why.")
        return
    told = json.loads(text)
    devices = ", ".join(f"{device['name']} ({device['memory_gib']} GiB)" for device in told["devices"]) or "CPU only"
    yield Sign("trainer", "ok", f"torch {told['versions']['torch']}, {devices}, {told['threads']} threads")


def _workspace(root: Path) -> Iterator[Sign]:
    from curate.settings import FILE_NAME, foreign_variables
    from curate.workspace import open_workspace

    for name in foreign_variables():
        yield Sign("variable", "note", f"{name} is no setting", "`curate config schema` lists the settings.")
    if not (root / FILE_NAME).is_file():
        yield Sign("workspace", "note", f"{root} is none", "Make one with `curate init`.")
        return
    try:
        workspace = open_workspace(root)
        num_records, remarks = len(workspace.records()), workspace.remarks()
    except CurateError as error:
        yield Sign("workspace", "problem", f"{error.code}: {error.message}", error.hint)
        return
    yield Sign("workspace", "ok", f"{num_records:,} records of the shape {workspace.shape.name}")
    for remark in remarks:
        yield Sign("journal", "note", remark)


def _output(command: list[str]) -> str:
    """Return what a program prints, "" where it fails or does not end in a minute."""
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
