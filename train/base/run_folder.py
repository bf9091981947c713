"""Where a run lives, its run.json (what was run, on what, how it ended), and the one process that works on it.

An evaluation of one model lies beside the runs, and has an eval.json in its place: nobody resumes or exports it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from train.base.errors import TrainError
from train.base.storage import MOST_STATE, installed_version, read_file, sha256_of, write_whole, writing

RUN = "run.json"
EVALUATION = "eval.json"
SERIES = "series.json"
"""What the folder of several runs as one has in place of a run.json."""
RECIPE = "recipe.toml"
PROCESS = "process.json"
"""Of the process that works on the folder. `curate` reads it; for what it starts it writes one itself, and a log."""
_LOG = "log"
_PROC = Path("/proc")


def shell_safe_name(text: str) -> str:
    """Return ``text`` as a name that needs no quotes in any shell and is one on any disk."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def next_run_folder(dataset: Path) -> Path:
    """Return the first free runs/DATE-a, -b ... beside the dataset/ folder, or else in the working directory."""
    today = runs_folder(dataset) / datetime.now(UTC).date().isoformat()
    # As columns of a spreadsheet are named: a to z, then aa.
    letters = ("".join(word) for size in count(1) for word in product(ascii_lowercase, repeat=size))
    return next(path for word in letters if not (path := today.with_name(f"{today.name}-{word}")).exists())


def newest_run(dataset: Path, *, is_series: bool = False) -> Path:
    """Return the run or series, or where ``is_series`` the series, that was begun last.

    Raises TrainError "E953 nothing-to-resume" where there is none.
    """
    # A recipe is written when its run begins or goes on; run.json is written by `train eval` too.
    recipes = [
        file for file in runs_folder(dataset).glob(f"*/{RECIPE}") if not is_series or (file.parent / SERIES).is_file()
    ]
    if recipes:
        return max(recipes, key=lambda file: file.stat().st_mtime_ns).parent
    raise TrainError(
        "E953 nothing-to-resume", f"no {'series' if is_series else 'run'} in {runs_folder(dataset)}",
        "Begin one without --resume, or name one with --out.",
    )  # fmt: skip


def write_run(folder: Path, record: Mapping[str, Any], name: str = RUN) -> None:
    """Replace run.json, or another record of a folder, in one step."""
    write_whole(folder / name, [json.dumps(record, indent=1) + "\n"])


def read_run(folder: Path, name: str = RUN) -> dict[str, Any]:
    """Return a run's run.json, or another record of a folder.

    Raises TrainError "E953 nothing-to-resume" where it is missing or damaged.
    """
    try:
        value = json.loads(read_file(folder / name, most=MOST_STATE))
        if not isinstance(value, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        hint = "Begin a new run." if name != SERIES else "Give its whole command again, with another --out."
        if isinstance(error, OSError):
            hint = "Begin a new run without --resume."
        reason = getattr(error, "strerror", None) or error
        raise TrainError("E953 nothing-to-resume", f"{folder / name}: {reason}", hint) from None
    return value


def check_digest(path: Path) -> None:
    """Raise TrainError "E952 run-changed" where ``path`` is not the file whose digest the record beside it keeps.

    A record has no "files" before it is finished; one that lacks the file was cut off while it was written again.
    """
    for name in (RUN, EVALUATION, SERIES):
        digests = read_run(path.parent, name).get("files") if (path.parent / name).is_file() else None
        with suppress(OSError):
            # Whoever reads it says why it cannot be read.
            if digests is not None and digests.get(path.name) != sha256_of(path):
                state = "changed after it was written" if path.name in digests else "cut off while it was written"
                raise TrainError(
                    "E952 run-changed", f"{path} was {state}",
                    f"Put it back, or score what a run answered again: `train eval {path.parent} --rescore`. A report "
                    f"of a series is written again by `train run DATASET --resume --out {path.parent}`.",
                )  # fmt: skip


def check_run_folder(run: Path, *, is_resumed: bool = False, is_first: bool = True) -> None:
    """Raise TrainError where a run cannot begin in a folder, or go on there: "E936 write-failed" for its name, "E950
    run-exists", or of one that ``is_resumed`` "E977 run-busy", which the first rank alone looks at.
    """
    if not str(run).isprintable():
        message = f"the run's folder {str(run)!a} has a name that files cannot be written under"
        raise TrainError("E936 write-failed", message, "Name another folder with --out.")
    if is_resumed:
        if is_first and run.is_dir():
            # Said before the minutes of preparing; what begins meanwhile is seen after them.
            with locked_folder(run):
                pass
    elif run.exists() and not all(file.name in (PROCESS, _LOG) or file.name[0] == "." for file in run.iterdir()):
        hint = "Go on with it by --resume, or name another folder with --out."
        raise TrainError("E950 run-exists", f"{run} is not empty", hint)


@contextmanager
def locked_run(folder: Path, *, is_first: bool = True) -> Iterator[None]:
    """Within, ``folder``, which is made where it is missing, is this process's alone, and its process.json says so.

    Of several ranks only the first does that. Raises TrainError "E977 run-busy" where another process has it.
    """
    if not is_first:
        yield
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        with suppress(OSError, IndexError):
            # The start in clock ticks tells it from a later process of the same number: proc_pid_stat(5), field 22.
            started = int((_PROC / "self/stat").read_bytes().rsplit(b")", 1)[-1].split()[19])
            boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            about = {"pid": os.getpid(), "started": started, "boot": boot, "at": now(), "stop_asked": ""}
            write_whole(folder / PROCESS, [json.dumps(about, indent=1) + "\n"])
        yield


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Within, no other process can claim ``folder``, which is there; raises TrainError "E977 run-busy"."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # The system gives it back when the process ends, however it ends. Some network disks lock no folders.
        with suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"another process is at work on {folder}"
                hint = "Wait for it, or stop it: Ctrl-C where it runs, or `curate runs --stop`."
                raise TrainError("E977 run-busy", message, hint) from None
        yield
    finally:
        os.close(handle)


def evaluation_folder(parent: Path, name: str, key: str) -> Path:
    """Return the folder of an evaluation below ``parent``: ``name``, with a number behind it where that is another's.

    ``key`` is a digest of all that decides what it finds, so that a second call goes on with the first one's.
    """
    stem = shell_safe_name(name).strip("-.") or "eval"
    folders = (parent / (stem if number == 1 else f"{stem}-{number}") for number in count(1))
    return next(path for path in folders if not path.exists() or read_evaluation(path).get("key") == key)


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Return the eval.json of an evaluation; empty where it is none or damaged."""
    with suppress(TrainError):
        return read_run(folder, EVALUATION)
    return {}


def resolve_run(folder: Path) -> Path:
    """Return the run whose model ``folder`` stands for: of a finished series the one to take, else itself.

    Raises TrainError "E942 unfinished-run" of a series that has none yet.
    """
    if not (folder / SERIES).is_file():
        return folder
    with suppress(TrainError):
        name = str(read_run(folder, SERIES).get("selected", ""))
        if Path(name).name == name not in ("", "..") and (folder / name / RUN).is_file():
            return folder / name
    raise TrainError(
        "E942 unfinished-run", f"{folder} is a series of runs that names no model yet",
        f"Go on with it, `train run DATASET --resume --out {folder}`, or name one of its runs, such as {folder}/NAME.",
    )  # fmt: skip


def read_finished_run(run: Path) -> dict[str, Any]:
    """Return the run.json of a run that made a model; raises TrainError "E942 unfinished-run"."""
    record = read_run(run) if (run / RUN).is_file() else {}
    facts, counts = record.get("facts"), [record.get("examples"), record.get("step")]
    is_known = isinstance(facts, dict) and {"base", "tokenizer and template"} <= facts.keys() and bool(record.get("id"))
    is_whole = record.get("saved") in ("adapter", "model") and all(isinstance(number, int) for number in counts)
    if record.get("status") == "finished" and is_known and is_whole:
        return record
    status = f"the run is {str(record['status'])[:40]!r}" if "status" in record else "it has no run.json with a status"
    raise TrainError(
        "E942 unfinished-run", f"{run}: no finished run: {status}",
        "Name a folder such as runs/ID, or go on with a stopped run: `train run DATASET --resume --out RUN`.",
    )  # fmt: skip


def recipe_folder(folder: Path) -> Path:
    """Return the folder that the paths of a run's recipe are read from; raises TrainError "E953 nothing-to-resume"."""
    recorded = read_run(folder).get("recipe_folder")
    if not isinstance(recorded, str):
        raise TrainError(
            "E953 nothing-to-resume", f"{folder / RUN}: no recipe_folder", "Name the recipe with --recipe."
        )
    return Path(recorded)


def versions() -> dict[str, str]:
    """Return the versions of everything that computes."""
    by_name = {"python": platform.python_version()}
    for name in ("pairsmith", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy"):
        by_name[name] = installed_version(name) or "not installed as a package"
    return by_name


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def weights_digest(path: Path) -> str:
    """Return a SHA-256 over the names and digests of a base's weight files."""
    hashed = hashlib.sha256()
    if (path / "adapter_config.json").is_file() and (path.parent / RUN).is_file():
        # That of a run: what it lies on is part of the model.
        hashed.update(str(read_finished_run(path.parent)["facts"]["base"]).encode())
    for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        hashed.update(f"{file.name} {sha256_of(file)}\n".encode())
    return hashed.hexdigest()


def runs_folder(dataset: Path) -> Path:
    """Return the folder of the runs on ``dataset``; raises TrainError "E955 outside" where it is a link elsewhere."""
    parent = dataset.resolve().parent
    home = parent.parent if parent.name == "dataset" else Path.cwd()
    # Beside the dataset/ folder of a workspace; an export that was copied elsewhere has no such home.
    runs = home / "runs"
    if not runs.resolve().is_relative_to(home.resolve()):
        raise TrainError(
            "E955 outside", f"{runs} is a link that leads out of {home}", "Name the run's folder with --out."
        )
    return runs
