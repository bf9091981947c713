"""Runs `curate` and `train` in processes of their own, forked from a server that has imported them once.

A program that starts anew spends more time on imports than on what a test asks of it. A forked one has its own
folder, environment, streams, memory and exit code, as any child has, and ends as the interpreter ends. What a test says
of starting itself (options of Python, PATH, a signal at start, what is imported) needs a real start.
"""

from __future__ import annotations

import array
import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

Program = Literal["curate", "train"]
_ROOT = Path(__file__).resolve().parent.parent
# Beside every module of the program but those of screens and clusters, which are slow to import and seldom used.
_PRELOADED = {
    "curate": ["polars", "jsonschema", "rich.markup"],
    "train": ["transformers.models.llama.modeling_llama", "peft"],
}
_SELDOM = ("curate.tui", "curate.scale", "train.report.judge", "curate.pairsmith", "train.__main__", "curate.__main__")
_LENGTH = struct.Struct("<q")


def run(
    program: Program,
    *words: object,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    input: str | bytes = b"",
    timeout: float = 120,
    memory: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its exit code and what it printed, as `subprocess.run` does.

    A negative exit code is the signal that ended it. ``memory`` bounds its address space in bytes.

    Raises:
        subprocess.TimeoutExpired: it took longer than ``timeout`` seconds, and was killed.
    """
    raw = input.encode() if isinstance(input, str) else input
    call = {
        "words": [program, *map(str, words)],
        "cwd": str(cwd or Path.cwd()),
        "env": dict(os.environ if env is None else env),
        "memory": memory,
    }
    server = _server(program, os.getpid())
    pipes = [os.pipe() for _ in range(3)]
    (stdin, feed), (out, stdout), (err, stderr) = pipes
    socket.send_fds(server, [_LENGTH.pack(len(body := json.dumps(call).encode()))], [stdin, stdout, stderr])
    server.sendall(body)
    for end in (stdin, stdout, stderr):
        os.close(end)
    printed: list[bytes] = [b"", b""]
    threads = [threading.Thread(target=_feed, args=(feed, raw))]
    threads += [threading.Thread(target=_drain, args=(end, printed, index)) for index, end in enumerate((out, err))]
    for thread in threads:
        thread.start()
    pid = _number(server)
    server.settimeout(timeout)
    try:
        status = _number(server)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        server.settimeout(None)
        _number(server)
        raise subprocess.TimeoutExpired([program, *map(str, words)], timeout) from None
    finally:
        server.settimeout(None)
    for thread in threads:
        thread.join()
    code = os.waitstatus_to_exitcode(status)
    return subprocess.CompletedProcess(call["words"], code, printed[0].decode(), printed[1].decode())


def _feed(end: int, raw: bytes) -> None:
    # A command that does not read its input closes the pipe; that is no error of the test.
    try:
        with open(end, "wb") as stream:
            stream.write(raw)
    except BrokenPipeError:
        pass


def _drain(end: int, printed: list[bytes], index: int) -> None:
    with open(end, "rb") as stream:
        printed[index] = stream.read()


@functools.cache
def _server(program: Program, _owner: int) -> socket.socket:
    """Start the server of a program; a process that was itself forked gets one of its own by ``_owner``."""
    ours, theirs = socket.socketpair()
    start = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from tests.commands import serve; serve()"
    # OpenBLAS starts threads when numpy is imported, and a process with threads does not fork well.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", start, str(theirs.fileno()), program],
        pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    # It ends when the socket is closed.
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _number(connection: socket.socket) -> int:
    raw = connection.recv(_LENGTH.size, socket.MSG_WAITALL)
    if len(raw) < _LENGTH.size:
        raise EOFError("the server of commands has ended")
    return int(_LENGTH.unpack(raw)[0])


def serve() -> None:
    """Fork a command for each call until the socket, whose number is the first word of argv, is closed."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    package = importlib.import_module(sys.argv[2])
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, f"{sys.argv[2]}.")]
    for name in _PRELOADED[sys.argv[2]] + [name for name in modules if not name.startswith(_SELDOM)]:
        importlib.import_module(name)
    # What the garbage collector never visits stays shared with the forked commands.
    gc.freeze()
    while (received := _receive(connection)) is not None:
        call, streams = received
        if (pid := os.fork()) == 0:
            connection.close()
            _become(call, streams)
        for end in streams:
            os.close(end)
        connection.sendall(_LENGTH.pack(pid))
        connection.sendall(_LENGTH.pack(os.waitpid(pid, 0)[1]))


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, streams, _, _ = socket.recv_fds(connection, _LENGTH.size, 3)
    if not head:
        return None
    body = connection.recv(_LENGTH.unpack(head)[0], socket.MSG_WAITALL)
    return json.loads(body), list(array.array("i", streams))


def _become(call: dict[str, Any], streams: list[int]) -> NoReturn:
    for number, end in enumerate(streams):
        os.dup2(end, number)
        os.close(end)
    # The streams of the server have read and written nothing, but know their files as they were at its start.
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["env"])
    folders = [folder for folder in call["env"].get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:0] = folders
    # Python imports one as it starts.
    if any(Path(folder, "sitecustomize.py").exists() for folder in folders):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    if call["memory"] is not None:
        resource.setrlimit(resource.RLIMIT_AS, (call["memory"], call["memory"]))
    sys.argv[:] = call["words"]
    importlib.import_module(f"{sys.argv[0]}.cli").main()
    raise SystemExit(0)
