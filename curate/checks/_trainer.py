"""What only the trainer's side can say of rows: it is a program of its own, which answers each line with a line."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Generator, Iterable, Mapping

import orjson

from curate.base.console import talk, visible
from curate.base.record import Json
from curate.base.resources import trainer_command


class TrainerError(Exception):
    """The trainer's side has failed, with ``exit_code``."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"ended with exit code {exit_code}")


def ask_trainer(rows: Iterable[Mapping[str, Json]], *words: str) -> Generator[Json]:
    """Yield the answer to each of ``rows``, a JSON value, of `train` called with ``words``.

    What it says on stderr follows on ours when it has ended.

    Raises:
        TrainerError: it fails.
        ValueError: an answer is not JSON.
    """
    with tempfile.TemporaryFile() as spool, tempfile.TemporaryFile() as messages:
        # All rows are written first: two pipes at once can wait for one another.
        spool.writelines(orjson.dumps(row) + b"\n" for row in rows)
        spool.seek(0)
        try:
            with subprocess.Popen(
                trainer_command(*words), stdin=spool, stdout=subprocess.PIPE, stderr=messages
            ) as child:
                assert child.stdout
                try:
                    yield from map(orjson.loads, child.stdout)
                except BaseException:
                    child.kill()
                    raise
        finally:
            # As our own talk: it quotes the model's name, which must control no terminal and command no build server.
            messages.seek(0)
            for line in messages:
                talk(visible(line.decode("utf-8", "replace").rstrip("\n")))
        if child.returncode:
            raise TrainerError(child.returncode)
