"""`curate doctor`: what this machine and this workspace have, what stands in the way, and what is damaged."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.tables import counted
from curate.cli._options import workspace_argument
from curate.cli._output import print_json, print_lines

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing looked at.

    ``note`` is neither good nor bad, ``problem`` stands in the way of some command, ``damage`` is not as it was
    written.
    """

    topic: str
    state: Literal["ok", "note", "problem", "damage"]
    found: str  # The name that `curate doctor --json` prints.
    advice: str = ""


def examine(root: Path) -> Iterator[Sign]:
    """Yield what there is to say of the installation, the terminal, git, the disk, the trainer, and ``root``."""
    yield from _packages()
    yield from _machine(root)
    yield from _terminal()
    yield from _git(root)
    yield from _trainer()
    yield from _workspace(root)
    yield from _damage(root)


def _packages() -> Iterator[Sign]:
    # As other libraries below, it takes longer to load than all of `--help`.
    from importlib.metadata import requires, version

    yield Sign("pairsmith", "ok", f"{version('pairsmith')} on Python {sys.version.split()[0]}, {sys.platform}")
    # The metadata of the installation has one line a requirement, with its extra in a marker.
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
        if extra not in ("all", "dev", "docs"):
            missing = [name for name in names if name != "pairsmith" and not _version(name)]
            text = f"[{extra}] " + (f"lacks {', '.join(missing)}" if missing else "installed")
            advice = f"If you need it: pip install 'pairsmith[{extra}]'" if missing else ""
            yield Sign("extra", "note" if missing else "ok", text, advice)


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

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
    text = f"TERM={os.environ.get('TERM', '')}, {size.columns}x{size.lines}, {encoding}"
    colour = "colour" if console.is_colour_wanted(sys.stdout) else "no colour"
    advice = "" if is_utf8 else "Characters beyond this encoding are shown by number; LC_ALL=C.UTF-8 helps."
    yield Sign("terminal", "ok" if is_utf8 else "note", f"{text}, {colour}", advice)


def _git(root: Path) -> Iterator[Sign]:
    if shutil.which("git") is None:
        yield Sign("git", "note", "not installed", "`validate --since` and `diff REF` need it.")
        return
    yield Sign("git", "ok", _output(["git", "--version"]))
    folder = root if root.is_dir() else Path()
    if not _output(["git", "-C", str(folder), "rev-parse", "--show-toplevel"]):
        yield Sign("git", "note", f"{folder} is in no repository", "Records in git have a history and can be merged.")


_ASK_TORCH = """
import torch
cuda = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
devices = ", ".join(f"{each.name} ({each.total_memory / 2**30:.1f} GiB)" for each in cuda) or "CPU only"
print(f"torch {torch.__version__}, {devices}, {torch.get_num_threads()} threads")
"""


def _trainer() -> Iterator[Sign]:
    from curate.base.resources import python_command

    # Looked up and not imported: torch alone takes seconds.
    if not all(_version(name) for name in ("torch", "transformers", "peft")):
        yield Sign("trainer", "note", "not installed", "pip install 'pairsmith[train]' on the machine that trains.")
    elif found := _output([*python_command(), "-c", _ASK_TORCH]):
        yield Sign("trainer", "ok", found)
    else:
        yield Sign("trainer", "problem", "torch cannot be loaded", "Type `python -c 'import torch'` to see why.")


def _workspace(root: Path) -> Iterator[Sign]:
    from curate.project.project import open_project
    from curate.schema.settings import FILE_NAME, foreign_variables

    # A misspelt variable changes nothing, and nothing else would tell of it.
    for name in foreign_variables():
        yield Sign("variable", "note", f"{name} is no setting", "`curate config schema` lists the settings.")
    if not (root / FILE_NAME).exists():
        yield Sign("workspace", "note", f"{root} is none", "Make one with `curate init`.")
        return
    try:
        project = open_project(root)
        num_records, remarks = len(project.data.records()), project.data.remarks()
    except CurateError as error:
        yield Sign("workspace", "problem", f"{error.code}: {error.message}", error.hint)
        return
    yield Sign("workspace", "ok", f"{counted(num_records, 'record')} of the shape {project.shape.name}")
    for remark in remarks:
        yield Sign("journal", "note", remark)


def _damage(root: Path) -> Iterator[Sign]:
    from curate.project.integrity import check

    try:
        faults = check(root)
    except CurateError as error:
        yield Sign("files", "problem", f"{error.code}: {error.message}", error.hint)
        return
    for fault in faults:
        line = f":{fault.line}" if fault.line else ""
        offset = "" if fault.offset is None else f" (byte {fault.offset:,})"
        yield Sign("files", "damage", f"{fault.file}{line}{offset}: {fault.name}: {fault.message}", fault.fix)
    if not faults:
        yield Sign("files", "ok", "no damage of the journal, of datasets and of results")


def _output(command: list[str]) -> str:
    """Return what a program prints, "" where it fails or does not end in a minute."""
    import subprocess

    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@click.command("doctor")
@workspace_argument
@click.option("--json", "is_json", is_flag=True, help="Print JSON, for a bug report.")
@click.option("--recover", "is_recovery", is_flag=True, help="Set damaged journal lines aside; note what is missing.")
def command(root: Path, is_json: bool, is_recovery: bool) -> int:
    """Look at the installation, the terminal, git, the disk, the trainer and the workspace, if DIR is one.

    The journal is read byte by byte, and datasets and results of runs are held against their digests. Nothing is
    changed without --recover, which loses nothing: the torn end of a journal segment goes to SEGMENT.torn, damaged
    lines to SEGMENT.damaged, and journal/missing.txt says which decisions are gone, so that they are not told of again.

    Exits 1 when something is damaged, else 3 when something stands in the way.

    Example: curate doctor my-data --json
    """
    from dataclasses import asdict

    recovered = []
    if is_recovery:
        from curate.project.integrity import recover

        recovered = [Sign("recovered", "note", step) for step in recover(root)]
    signs = [*recovered, *examine(root)]
    if is_json:
        print_json([asdict(sign) for sign in signs], indent=2)
    else:
        for sign in signs:
            print_lines(_lines(sign))
    states = {sign.state for sign in signs}
    return Exit.FINDINGS if "damage" in states else Exit.MISSING if "problem" in states else Exit.OK


def _lines(sign: Sign) -> Iterator[str]:
    """Yield a sign in lines that fit the terminal."""
    from textwrap import wrap

    mark = sign.state.upper() if sign.state in ("problem", "damage") else sign.state
    head = f"{mark:<7} {sign.topic:<10} "
    # The name of a damaged file is not cut in two: what mends it has to be typed.
    width = 600 if sign.state == "damage" else max(40, shutil.get_terminal_size().columns - len(head))
    parts = [*wrap(console.one_line(sign.found, 600), width), *wrap(console.one_line(sign.advice, 600), width)]
    for number, part in enumerate(parts):
        yield (head if number == 0 else " " * len(head)) + part
