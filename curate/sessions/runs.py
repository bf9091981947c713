"""The runs of a workspace: how each is begun as a child process, and what its files and processes tell of it.

Nothing has to be remembered between two looks. What crosses the border to the trainer are files and signals.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Literal

from curate.base.console import one_line
from curate.base.file_guard import MOST_STATE, inside, open_file, read_file
from curate.base.record import CurateError, Exit, Json
from curate.base.resources import python_command, require_trainer, trainer_command
from curate.project.data import RUNS, ProjectData
from curate.project.feedback import EVALUATION_FILE, REPORT_FILE
from curate.sessions.detached import LOG_FILE, PROCESS_FILE, Process, note, read_process, release, reserve, start

DRY_RUN = "--dry-run"  # The trainer's option for a run that writes nothing.
PLAN_ALONE = "plan: no dataset is written"  # Stands between what the export tells and what the trainer does.
Standing = Literal["running", "stopping", "stopped", "finished", "failed", "dead", "unknown"]
# *stopping* was asked to save and stop and has not ended; *failed* ended by itself with an error; *dead* ended without
# having said so, as by a power cut; *unknown* says that it runs, and nobody has written down which process that is.
_RUN_FILE = "run.json"
_SERIES_FILE = "series.json"
_BEGUN = (_RUN_FILE, _SERIES_FILE, LOG_FILE)
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One run at one moment. ``about`` is what its run.json says, empty before there is one; ``why`` it stands so."""

    folder: Path
    standing: Standing
    why: str
    about: Mapping[str, Json]
    process: Process | None
    has_report: bool
    series: str = ""
    """The id of the series that it is a part of."""

    @property
    def id(self) -> str:
        """The name of its folder, behind that of its series where it is a part of one."""
        return f"{self.series}/{self.folder.name}" if self.series else self.folder.name

    @property
    def members(self) -> list[tuple[str, str]]:
        """The runs of a series, by name and status; none of a run."""
        members = self.about.get("members") or ()
        names = [str(member.get("name")) for member in members if isinstance(member, Mapping)]
        # Such a name is a folder's, and leads nowhere else; its run.json says how far it is.
        return [
            (name, str(_about(self.folder / name).get("status", "waiting"))) for name in names
            if Path(name).name == name not in ("", "..")
        ]  # fmt: skip

    @property
    def metrics_folder(self) -> Path:
        """Where its steps are told: of a series in the member that was begun last."""
        begun = [name for name, status in self.members if status != "waiting"]
        return self.folder / begun[-1] if begun else self.folder

    @property
    def selected(self) -> Run:
        """The run whose model is to be taken: of a finished series one of its members, else itself."""
        name = self.text_at("selected")
        chosen = name in [member for member, _ in self.members]
        return replace(read_run(self.folder / name), series=self.id) if chosen else self

    @property
    def evaluated(self) -> str:
        """What an evaluation of one model by `train eval --with` asked, in words; "" of a run."""
        name, shots = self.text_at("contestant", "name"), self.text_at("prompting", "shots")
        behind = ["a system text"] if self.text_at("prompting", "system") else []
        behind += [f"{shots} examples"] if shots not in ("", "0") else []
        return f"{name} behind {' and '.join(behind)}" if name and behind else name

    @property
    def is_alive(self) -> bool:
        """Whether its process is at work."""
        return self.standing in ("running", "stopping")

    @property
    def can_resume(self) -> bool:
        """Whether it can go on from a checkpoint, or begin again where there is none yet."""
        return bool(self.about) and self.standing in ("stopped", "failed", "dead")

    def text_at(self, *path: str) -> str:
        """Return what run.json says at ``path`` as text; "" where it says nothing there."""
        value: Json = self.about
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return "" if value is None or isinstance(value, Mapping | list) else str(value)


def runs_of(data: ProjectData) -> list[Run]:
    """Return the runs of a workspace, the newest first; E914 when its folder of runs lies elsewhere."""
    return [read_run(folder) for folder in _run_folders(data)]


def members_of(run: Run) -> list[Run]:
    """Return the runs of a series that were begun, in their order; none of a run."""
    folders = [run.folder / name for name, _ in run.members]
    return [replace(read_run(folder), series=run.id) for folder in folders if (folder / _RUN_FILE).is_file()]


def evaluations_of(data: ProjectData) -> list[Run]:
    """Return the evaluations that lie beside the runs, the newest first; they have results, and no report."""
    evaluations = []
    for folder in _run_folders(data, is_run=False):
        about = _about(folder, EVALUATION_FILE)
        standing, why = _standing(about, None)
        counts = about.get("counts")
        if standing == "stopped" and isinstance(counts, Mapping):
            number = sum(counts.get("unanswered", {}).values())
            why = f"{number:,} records have no answer; the same `train eval` asks them again"
        evaluations.append(Run(folder, standing, why, about, None, has_report=False))
    return evaluations


def read_run(folder: Path) -> Run:
    """Return how the run in ``folder`` stands now."""
    process, about = read_process(folder), _about(folder) or _about(folder, _SERIES_FILE)
    has_report = (folder / REPORT_FILE).is_file()
    if not about and (folder / _SERIES_FILE).is_file():
        # What its runs made is whole.
        members: Json = [{"name": path.parent.name} for path in sorted(folder.glob(f"*/{_RUN_FILE}"))]
        return Run(
            folder, "failed", f"{_SERIES_FILE} is damaged; its runs are listed below it", {"members": members}, process,
            has_report,
        )  # fmt: skip
    standing, why = _standing(about, process)
    run = Run(folder, standing, why, about, process, has_report)
    if run.members and not why:
        num = sum(status == "finished" for _, status in run.members)
        why = f"{run.text_at('kind')}: {num} of {len(run.members)} runs are finished"
    elif standing == "stopped" and not why:
        why = "it has no checkpoint and would begin again"
        if any(folder.glob("checkpoint-*")):
            why = "it can resume from its last checkpoint"
    run = replace(run, why=why)
    if about or not (lines := log_tail(run, 20)):
        return run
    # Without a run.json only the log tells the reason, and after an error comes a line of help. The process takes
    # seconds to end after it has said it.
    reason = next((line for line in reversed(lines) if line.startswith("error[")), None)
    if reason is None and standing != "failed":
        return run
    return replace(run, standing="failed", why=f"the run failed before step 1: {one_line(reason or lines[-1], 200)}")


def log_tail(run: Run, num_lines: int) -> list[str]:
    """Return the last lines of what the run has said, as they are; empty where it says nothing to a file."""
    try:
        with open_file(run.folder / LOG_FILE) as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    # A line of progress is written over itself.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-num_lines:]


def run_folder(data: ProjectData, options: Sequence[str]) -> Path:
    """Return the folder of the run, not made yet: ``--out``, the newest to resume, or today's date and free letters."""
    runs = inside(data.root, data.root / RUNS)
    if "--out" in options[:-1]:
        return Path(options[options.index("--out") + 1])
    if "--resume" in options and (known := _run_folders(data)):
        return known[0]
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    folders = (runs / f"{today}-{_letters(number)}" for number in count())
    return next(folder for folder in folders if not folder.exists())


def resumed_dataset(folder: Path) -> Path:
    """Return the dataset that the run in ``folder`` was begun on, to resume it; E978 where that is unknown or gone."""
    name = _SERIES_FILE if (folder / _SERIES_FILE).is_file() else _RUN_FILE
    try:
        path = Path(json.loads(read_file(folder / name, most=MOST_STATE))["dataset"]["path"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        message = f"{one_line(str(folder / name))} does not say what the run was begun on"
        raise CurateError("E978 cannot-resume", message, "Begin a new run.") from error
    if not path.is_dir():
        raise CurateError("E978 cannot-resume", f"the dataset {one_line(str(path))} is gone", "Begin a new run.")
    return path


def changed_at(folder: Path) -> int:
    """Return when something in ``folder`` was begun or replaced last (ns); 0 where it is not there."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def train(data: ProjectData, dataset: Path, folder: Path | None, options: Sequence[str]) -> int:
    """Run ``train run`` on ``dataset`` into ``folder``, and return its exit code; 128 + n where signal n killed it.

    Without a folder it is ``train plan`` that is run.

    Its stdin is closed; its data goes to our stdout and its talk to our stderr. SIGINT, SIGTERM and SIGHUP are passed
    on, and it is waited for. Others see it by the folder meanwhile; of a dry run there is none.

    Raises:
        CurateError: E906 when the folder cannot be written; E914 for a recipe outside of the workspace; E977 when
            another process has the run.
    """
    command = _command(data, dataset, folder, options)
    noted = None if DRY_RUN in options else folder
    if noted is not None:
        reserve(noted)
    try:
        # In a group of its own the child gets a signal once, from us, and not a second time from the terminal.
        # A plan has nothing to save: whoever ends us ends it too, at whatever moment.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=None if folder is None else 0)
        return _wait_for(child, noted)
    finally:
        if noted is not None and not any((noted / name).exists() for name in _BEGUN):
            release(noted)


def _wait_for(child: subprocess.Popen[bytes], noted: Path | None) -> int:
    before = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in _PASSED_ON}
    try:
        if noted is not None:
            note(child.pid, noted)
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        # One that nobody could see or stop must not live on.
        if child.poll() is None:
            child.terminate()
            child.wait()
    return code if code >= 0 else 128 - code


def train_detached(data: ProjectData, dataset: Path, folder: Path, options: Sequence[str]) -> Process:
    """Start what `train` runs as a process that outlives us and our terminal, as `detached.start` does."""
    return start(_command(data, dataset, folder, options), folder)


def _command(data: ProjectData, dataset: Path, folder: Path | None, options: Sequence[str]) -> list[str]:
    recipe = data.settings.recipe
    # A run that is resumed has its own recipe.
    is_chosen = bool(recipe) and "--resume" not in options
    chosen = ["--recipe", str(inside(data.root, data.root / recipe))] if is_chosen else []
    words = ["plan", str(dataset)] if folder is None else ["run", str(dataset), "--out", str(folder)]
    return trainer_command(*words, *chosen, *options)


def _run_folders(data: ProjectData, *, is_run: bool = True) -> list[Path]:
    runs = inside(data.root, data.root / RUNS)
    # Others are neither, such as one that `train eval --out` put evaluations into.
    names = (*_BEGUN, PROCESS_FILE, EVALUATION_FILE)
    everything = [path for path in runs.glob("[!.]*") if any((path / name).exists() for name in names)]
    folders = [path for path in everything if (path / EVALUATION_FILE).is_file() is not is_run]
    return sorted(folders, key=lambda folder: (changed_at(folder), folder.name), reverse=True)


def _letters(number: int) -> str:
    """Return a, b, ... z, ba, bb, ... for 0, 1, 2, ..."""
    digits = ""
    while True:
        number, rest = divmod(number, 26)
        digits = chr(ord("a") + rest) + digits
        if not number:
            return digits


def _about(folder: Path, name: str = _RUN_FILE) -> Mapping[str, Json]:
    try:
        value = json.loads(read_file(folder / name, most=MOST_STATE))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _standing(about: Mapping[str, Json], process: Process | None) -> tuple[Standing, str]:
    # One that has written down how it ended takes seconds to end, and a notebook goes on; an earlier process may have
    # ended so before this one began.
    has_ended = about.get("status") in ("failed", "finished") and process and str(about.get("ended")) > process.at
    if process is not None and process.is_alive and not has_ended:
        return ("stopping", "it finishes its step and saves a checkpoint") if process.stop_asked else ("running", "")
    status = about.get("status")
    if status == "finished":
        return "finished", ""
    if status == "stopped":
        return "stopped", ""
    if status == "failed":
        return "failed", f"{about.get('error', '')}: {about.get('message', '')}"
    if process is None:
        return ("unknown", "its process is not known") if about else ("failed", "its run.json cannot be read")
    if process.stop_asked:
        return "stopped", "it ended before it could save a last checkpoint"
    if about:
        return "dead", "its process ended and left no message"
    return "failed", "the run failed before step 1"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command answered: its exit code, its data, and its talk line by line."""

    code: int
    data: str
    talk: tuple[str, ...]

    def error(self, code: str, hint: str, about: str = "", exit_code: Exit = Exit.USAGE) -> CurateError:
        """Return the error that it ended with; ``code`` and ``hint`` where it told of none, ``about`` before its words.

        ``exit_code`` is that of this program.
        """
        trouble = next((line for line in reversed(self.talk) if line.startswith("error[")), "")
        message = trouble.partition("]: ")[2] or (self.talk[-1] if self.talk else f"exit code {self.code}")
        advice = next((line.partition("help: ")[2] for line in reversed(self.talk) if "help: " in line), hint)
        own = trouble.removeprefix("error[").partition("]: ")[0] or code
        return CurateError(own, about + one_line(message, 300), one_line(advice, 200), exit_code=exit_code)


class Errand:
    """One command at a time in a process of its own; `stop` may be called from another thread."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def run(self, command: Sequence[str]) -> CommandResult:
        """Run a command to its end and return what it said; E970 when it was stopped by `stop`."""
        # In a group of its own it is ended with all that it has started; what is detached has a session of its own.
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(
            command, stdin=null, stdout=pipe, stderr=pipe, text=True, errors="replace", process_group=0
        ) as child:
            self._child = child
            if self._is_stopped:
                self.stop()
            data, talk = child.communicate()
        self._child = None
        if self._is_stopped:
            raise CurateError("E970 worker-lost", f"{one_line(command[-1], 60)}: stopped", exit_code=Exit.INTERRUPTED)
        return CommandResult(child.returncode, data, tuple(line for line in talk.split("\n") if line))

    def stop(self) -> None:
        """End the command, if one is at work, and every later one at once."""
        self._is_stopped = True
        child = self._child
        if child and child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)


def trainer_output(words: Sequence[str], hint: str, text: str = "") -> str:
    """Return what `train` says with ``words`` behind it and ``text`` as its input; takes about a second.

    Raises:
        CurateError: the trainer's own, when it cannot do it; E918 with ``hint`` where it tells of none.
    """
    done = subprocess.run(
        trainer_command(*words), input=text, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise CommandResult(done.returncode, "", tuple(done.stderr.splitlines())).error("E918 bad-report", hint)
    return done.stdout


def _curate(*words: str) -> list[str]:
    return python_command("-m", "curate", *words)


def plan(errand: Errand, data: ProjectData, options: Sequence[str] = ()) -> Mapping[str, Json]:
    """Return what `curate train --plan` says of a run on what an export would write now; ``options`` are the trainer's.

    Raises:
        CurateError: E940 without the extra; what the command ended with, such as E907 when the data fails its
            validation; E961 where it told of nothing.
    """
    require_trainer("planning a run", "take the dataset to a machine that has it")
    result = errand.run(_curate("train", str(data.root), "--plan", "--", "--json", *options))
    try:
        value = json.loads(result.data) if result.code == 0 else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise result.error("E961 cannot-measure", "See the recipe.")
    # What the trainer tells beside its plan, such as records that are skipped; before it the export has told its own.
    talk = result.talk[result.talk.index(PLAN_ALONE) + 1 :] if PLAN_ALONE in result.talk else ()
    return value | {"warnings": [line for line in talk if line.startswith("warning: ")]}


def begin(errand: Errand, data: ProjectData, options: Sequence[str] = ()) -> Path:
    """Validate, export and start a run that outlives us, by `curate train --detach`; return its folder.

    Raises:
        CurateError: E979 with what the command said, when it refused.
    """
    words = ["train", str(data.root), "--detach", *(["--", *options] if options else [])]
    result = errand.run(_curate(*words))
    name = result.data.strip().rsplit("/", 1)[-1]
    if result.code != Exit.OK or not name:
        message = "\n".join(result.talk[-8:]) or f"exit code {result.code}"
        raise CurateError("E979 not-started", message, "Nothing was started.")
    return inside(data.root, data.root / RUNS) / name


def resume(errand: Errand, data: ProjectData, folder: Path) -> Path:
    """Go on with a run that was stopped, as `begin` starts one."""
    return begin(errand, data, ["--resume", "--out", str(folder)])
