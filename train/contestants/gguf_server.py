"""The worker that holds a .gguf file open: llama.cpp behind a Unix socket, until standard input ends.

Started by its path, so nothing of ours is imported. It is a process of its own because llama.cpp ends the whole process
over a file that its asserts refuse, takes SIGINT and SIGTERM for itself, and always opens a port: the package has no
call that tokenizes or renders but over HTTP. A socket in a folder that only its owner may enter is no port.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

# What the library reads when it is loaded. A thread that waits for another lets others have the core: two that wait by
# turning in a loop took three to seventeen times as long as one thread on a busy machine of two cores.
os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GGML_NO_BACKTRACE": "1"}
import xllamacpp


def main() -> None:
    """Read the settings, a line of JSON; answer it and each further line with {} once the file can be asked."""
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    socket_path = Path(settings["socket"])
    errors = socket_path.with_name("errors")
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), sys.stderr.fileno())
    # That of a process that was killed.
    socket_path.unlink(missing_ok=True)
    try:
        # It holds the lock of the interpreter while it loads, and starts its threads on its own.
        server = xllamacpp.Server(_parameters(settings))
    except RuntimeError:
        # A thread of the library writes what is wrong to standard error, piece by piece, and nobody can wait for it.
        for _ in range(500):
            if b"\n" in errors.read_bytes():
                break
            time.sleep(0.01)
        os._exit(1)
    print("{}", flush=True)  # noqa: T201  the answer
    for _ in sys.stdin:
        print("{}", flush=True)  # noqa: T201  the answer
    shutil.rmtree(socket_path.parent, ignore_errors=True)
    # Not by the destructor of ``server``, which waits for an answer that is being written.
    os._exit(server is None)


def _parameters(settings: dict[str, Any]) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["path"]
    parameters.n_ctx = settings["context_length"]
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings["threads"]
    # A name that ends in .sock is bound as a Unix socket.
    parameters.hostnames, parameters.ui, parameters.endpoint_slots = [settings["socket"]], False, False
    # Errors alone, on standard error; its backtraces go to standard output.
    parameters.verbosity = 1
    # One slot: several at a time change the rounding of a product, and with it the likeliest token now and then.
    parameters.n_parallel = 1
    # By itself it would take a shorter context where memory is scarce, cut a conversation that is too long, keep 8 GB
    # of earlier prompts, and use a GPU whose memory nobody planned.
    parameters.fit_params, parameters.ctx_shift, parameters.cache_ram_mib = False, False, 0
    parameters.n_ctx_checkpoints, parameters.n_gpu_layers = 0, 0
    # The text as the model writes it: its parsers take calls and reasoning out, and force the form of calls.
    parameters.force_pure_content_parser, parameters.prefill_assistant = True, False
    parameters.use_jinja, parameters.warmup = True, False
    # Weights that are no numbers are refused and not computed with.
    parameters.check_tensors = True
    return parameters


if __name__ == "__main__":
    main()
