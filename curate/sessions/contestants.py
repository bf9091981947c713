"""Models that are asked from here: each in a process of its own, `train answer`, which stays warm and ends with us.

What crosses the border are the lines of `schemas/request.schema.json` and `schemas/answer.schema.json`.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from curate.base.console import one_line
from curate.base.file_guard import inside
from curate.base.record import CurateError, Exit, Json
from curate.base.resources import require_trainer, trainer_command
from curate.project.data import RUNS, ProjectData
from curate.project.feedback import latest_run
from curate.sessions.recipe import read_recipe
from curate.sessions.runs import CommandResult

BASE = "base"
"""The name of the model that the recipe tunes."""
_URLS = "http://", "https://"
_DEFAULT_BASE = "tiny-base"
_LAST_LINES = 20


def contestant_of(data: ProjectData, name: str) -> str:
    """Return what `train answer --with` takes for ``name``.

    "base" is the base of the recipe, then come the names in ``[contestants]`` of curate.toml, the ids of runs, and
    paths in the workspace; anything else is left as it is.
    """
    name = data.settings.contestants.get(name, name)
    if name.startswith(_URLS):
        return name
    folder = data.root
    if name == BASE:
        name = read_recipe(data).get("base") or _DEFAULT_BASE
        # A recipe's paths are read from its own folder.
        folder = (data.root / data.settings.recipe).parent if data.settings.recipe else data.root
    path, at, base = name.partition("@")
    for candidate in (data.root / RUNS / path, folder / path):
        if path and candidate.exists():
            return f"{candidate}{at}{base}"
    return name


def usual_names(data: ProjectData) -> list[str]:
    """Return whom to ask where nobody was named: the base, and the newest run that has a report."""
    run = latest_run(inside(data.root, data.root / RUNS))
    return [BASE, *([f"{RUNS}/{run.name}"] if run else [])]


def default_model(data: ProjectData) -> str:
    """Return who proposes where nobody was named: the first of `[contestants]`, else the newest run or the base."""
    return next(iter(data.settings.contestants), usual_names(data)[-1])


def source_of(name: str, digest: str) -> str:
    """Return what decisions call a model: the name that it was asked by, with the first digits of its digest."""
    return f"model:{name}@{digest[:12]}"


def is_endpoint(name: str) -> bool:
    """Return whether what is asked of ``name`` leaves this program for a url that it, or its .toml file, says."""
    return name.startswith(_URLS) or Path(name).suffix.lower() == ".toml"


def private_question(record: str, models: Sequence[str]) -> str:
    """Return what a person is asked before a private record is sent to endpoints."""
    return f"{record} has findings of personal data (X7xx). Send it to {', '.join(models)} all the same?"


class Talk:
    """One model and what it is asked; iterate over it, in a thread of its own, for the lines that it says.

    ``options`` are those of `train answer`. Raises CurateError: E940 where the model needs an extra that is not
    installed.
    """

    def __init__(self, data: ProjectData, name: str, options: Sequence[str] = ()) -> None:
        self.name = name
        chosen = contestant_of(data, name)
        self.is_endpoint = is_endpoint(chosen)
        if not self.is_endpoint:
            require_trainer(f"asking {one_line(name, 60)}", "ask a model behind an endpoint")
        pipe = subprocess.PIPE
        # In a group of its own: Ctrl-C is for the one who asks, and the end of its input ends the child in any case.
        self._child = subprocess.Popen(
            trainer_command("answer", "--stream", "--with", chosen, *options), stdin=pipe, stdout=pipe, stderr=pipe,
            text=True, encoding="utf-8", errors="replace", process_group=0,
        )  # fmt: skip
        self._talk: deque[str] = deque(maxlen=_LAST_LINES)
        self._listener = threading.Thread(target=self._listen, args=(self._child.stderr,), daemon=True)
        self._listener.start()
        self._is_closed = False

    def about(self) -> dict[str, Json]:
        """Return what the model is, its first line, once it is loaded; nothing where it was closed before."""
        return next(iter(self), {})

    def answers(self, requests: Sequence[Mapping[str, Json]]) -> Iterator[dict[str, Json]]:
        """Ask all ``requests``, and yield a line for each, an answer or an error with its id, as they come.

        Ends early where it is closed meanwhile.
        """
        for request in requests:
            self.ask(request)
        left = {str(request["id"]) for request in requests}
        for line in self if left else ():
            if line.get("id") in left and "delta" not in line:
                left.discard(str(line["id"]))
                yield line
            if not left:
                return

    def ask(self, request: Mapping[str, Json]) -> None:
        """Send one request; its answer, or why there is none, comes as a line with its id."""
        self._send(request)

    def cancel(self, name: str) -> None:
        """End the answer to a request where it stands; it comes as it is by then."""
        self._send({"cancel": name})

    def __iter__(self) -> Iterator[dict[str, Json]]:
        """Yield what is said, line by line, until `close`.

        Raises CurateError: E970 with the reason where the process ends by itself.
        """
        out = self._child.stdout
        assert out is not None, "it was started with a pipe"
        for line in out:
            yield json.loads(line)
        code = self._child.wait()
        if not self._is_closed:
            self._listener.join()
            raise self._ended(code)

    def close(self) -> None:
        """End the process, in the midst of an answer too."""
        self._is_closed = True
        self._child.kill()
        self._child.wait()
        self._listener.join()
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            # What was not sent any more is lost with it.
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _send(self, value: Mapping[str, Json]) -> None:
        pipe = self._child.stdin
        assert pipe is not None, "it was started with a pipe"
        # Whether it has ended the reader of its lines finds out, and says why.
        with suppress(BrokenPipeError):
            # In ASCII: a text may hold a lone surrogate.
            pipe.write(json.dumps(value) + "\n")
            pipe.flush()

    def _listen(self, lines: IO[str]) -> None:
        self._talk.extend(line.rstrip() for line in lines)

    def _ended(self, code: int) -> CurateError:
        lines = [line for line in self._talk if line.strip()]
        about = f"{one_line(self.name, 60)}: "
        return CommandResult(code, "", tuple(lines)).error("E970 worker-lost", "Ask it again.", about, Exit.MISSING)
