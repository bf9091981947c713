"""The answers of an endpoint that are known: a file of JSON Lines that only grows, shared by all processes.

An answer is on the disk as soon as it is there, so that a killed run sends nothing twice. Whoever asks claims the key
of the request first, so that two processes do not send the same. The file is private, and no secret is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from train.base import console
from train.evaluate.scoring import Answer

_MOST_READ = 1 << 30
_ANSWER = TypeAdapter(Answer)


class AnswerCache:
    """The answers in the file ``path`` by the digest of their request; without a path none is kept.

    A damaged line is ignored. Where the disk refuses, that is said, and the run goes on without it.
    """

    def __init__(self, path: Path | None) -> None:
        self._answers: dict[str, Answer] = {}
        self._handle: int | None = None
        self._offset = 0
        self._path = path
        if path is not None and path.exists():
            self._begin()

    def _begin(self) -> None:
        # The file is made for the first request that is sent.
        path, self._path = self._path, None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._handle = _open(path)
        except OSError as error:
            self._warn(error)

    def get(self, key: str) -> Answer | None:
        """Return the answer to the request ``key``, where any process has got one by now."""
        if key not in self._answers and self._handle is not None:
            try:
                self._read(self._handle)
            except OSError as error:
                self._warn(error)
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Add an answer, and bring it to the disk."""
        if self._handle is None:
            return
        self._answers[key] = answer
        # A line that a killed process left unfinished ends here.
        line = "\n" + json.dumps({"key": key, **asdict(answer)}) + "\n"
        try:
            os.write(self._handle, line.encode())
            os.fsync(self._handle)
        except OSError as error:
            self._warn(error)

    def claim(self, key: str) -> bool:
        """Claim the right to send the request ``key``; False while another process has it."""
        self._begin()
        if self._handle is None:
            return True
        try:
            # One byte for each key, far beyond any text. The system frees it when the process ends, however it does.
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset_of(key))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            # A file system without locks: twice sent is better than never.
            return True
        return True

    def release(self, key: str) -> None:
        """Let others send the request ``key``."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _offset_of(key))

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None

    def _read(self, handle: int) -> None:
        # Only what was added since the last time, up to the end of its last whole line.
        size = os.fstat(handle).st_size
        raw = os.pread(handle, min(size - self._offset, _MOST_READ), self._offset) if size > self._offset else b""
        raw = raw[: raw.rfind(b"\n") + 1]
        self._offset += len(raw)
        for line in raw.splitlines():
            with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
                entry = json.loads(line)
                key = str(entry.pop("key"))
                self._answers[key] = _ANSWER.validate_python({"id": "", **entry})

    def _warn(self, error: OSError) -> None:
        console.talk(f"warning: answers are not kept: {error}")
        self.close()


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is no regular file")
    return handle


def _offset_of(key: str) -> int:
    return (1 << 61) + int(key[:15], 16)
