"""`train measure` as a child process: a row goes in, its lengths come out."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType

import orjson

from curate.base.console import one_line, talk, visible
from curate.base.record import CurateError, Json
from curate.base.resources import require_trainer, trainer_command
from curate.checks import TokenLengths


class Measurer:
    """Asks the trainer's side for the lengths of rows, one after the other; a context manager that ends it.

    What the child says goes to our stderr when it has ended, line by line as our own talk does: it quotes the model's
    name and may quote more, which must steer no terminal and order nothing of a build server.

    Raises:
        CurateError: E940 with exit code 3 when the extra ``train`` is not installed.
    """

    def __init__(self, model: str, max_length: int, options: Sequence[str]) -> None:
        require_trainer("counting tokens", "leave --model out")
        self._model, self._max_length = model, max_length
        command = trainer_command("measure", "-", "--model", model, "--max-length", str(max_length), *options)
        self._talk = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the child has ended)
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._talk)

    def lengths(self, row: Mapping[str, Json]) -> TokenLengths:
        """Return the lengths of a row.

        Raises:
            CurateError: E961, the child ended or answered with something else.
        """
        assert self._child.stdin
        assert self._child.stdout
        try:
            self._child.stdin.write(orjson.dumps(row) + b"\n")
            self._child.stdin.flush()
            answer = orjson.loads(self._child.stdout.readline())
            runs = [(int(start), int(stop)) for start, stop in answer["runs"]]
            lengths = TokenLengths(int(answer["tokens"]), runs, self._max_length, str(answer["fault"]))
        except (BrokenPipeError, ValueError, KeyError, TypeError) as error:
            raise self._failure() from error
        if answer.get("id") != row["id"]:
            raise self._failure()
        return lengths

    def _failure(self) -> CurateError:
        self._end()
        return CurateError(
            "E961 cannot-measure",
            f"the tokens could not be counted with the model {one_line(self._model)}: `train measure` ended with exit "
            f"code {self._child.returncode}",
            "The messages above say why; a model is a folder with a tokenizer.json and, mostly, a chat template.",
        )

    def _end(self) -> None:
        assert self._child.stdin
        assert self._child.stdout
        # Closing flushes what a dead child will never read.
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()
        if not self._talk.closed:
            self._talk.seek(0)
            for line in self._talk:
                talk(visible(line.decode("utf-8", "replace").rstrip("\n")))
            self._talk.close()

    def __enter__(self) -> Measurer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._child.poll() is None:
            self._child.kill()
        self._end()
