"""Instruction-following difficulty, asked of the trainer's side: rows go in, one line for each comes out."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

import orjson

from curate.record import CurateError, Exit, Json
from curate.say import one_line

_NEEDED = ("torch", "transformers")


def difficulties(rows: Iterable[Mapping[str, Json]], model: str) -> dict[str, float]:
    """Return the IFD of each row, as `train ifd` computes it; rows that it cannot score are left out.

    ``rows`` are as in a dataset; what comes back is in `schemas/difficulty.schema.json`.

    Raises:
        CurateError: E940 with exit code 3 without the extra [train]; E968 when the child fails.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise CurateError(
            "E940 missing-extra",
            f"difficulty needs {', '.join(missing)}, which this installation lacks",
            "Install it with `pip install 'pairsmith[train]'`, or sort by something else.",
            exit_code=Exit.MISSING,
        )
    found: dict[str, float] = {}
    with tempfile.TemporaryFile() as spool:
        spool.writelines(orjson.dumps(row) + b"\n" for row in rows)
        spool.seek(0)
        # -P keeps the folder we happen to stand in from shadowing the package.
        command = [sys.executable, "-P", "-m", "train", "ifd", "-", "--model", model]
        with subprocess.Popen(command, stdin=spool, stdout=subprocess.PIPE) as child:
            assert child.stdout
            for line in child.stdout:
                told = orjson.loads(line)
                if told["ifd"] is not None:
                    found[told["id"]] = told["ifd"]
        if child.returncode:
            raise CurateError(
                "E968 cannot-score",
                f"`train ifd` ended with exit code {child.returncode} on the model {one_line(model)}",
                "What stands above says why.",
            )
    return found
