"""Instruction-following difficulty, asked of the trainer's side: rows go in, one line for each comes out."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Mapping

import orjson

from curate.base.console import one_line, talk, visible
from curate.base.record import CurateError, Json
from curate.base.resources import require_trainer, trainer_command


def difficulties(rows: Iterable[Mapping[str, Json]], model: str) -> dict[str, float]:
    """Return the IFD of each row, as `train ifd` computes it; rows that it cannot score are left out.

    ``rows`` are as in a dataset; what comes back is in `schemas/difficulty.schema.json`.

    Raises:
        CurateError: E940 with exit code 3 without the extra [train]; E968 when the child fails.
    """
    require_trainer("scoring difficulty", "sort by something else")
    scores: dict[str, float] = {}
    ids: list[str] = []
    with tempfile.TemporaryFile() as spool, tempfile.TemporaryFile() as said:
        for row in rows:
            # A row needs an id, which a record of one's own schema may have left empty; numbers are never that.
            spool.write(orjson.dumps({**row, "id": str(len(ids))}) + b"\n")
            ids.append(row["id"])
        spool.seek(0)
        command = trainer_command("ifd", "-", "--model", model)
        with subprocess.Popen(command, stdin=spool, stdout=subprocess.PIPE, stderr=said) as child:
            assert child.stdout
            for line in child.stdout:
                score = orjson.loads(line)
                if score["ifd"] is not None:
                    scores[ids[int(score["id"])]] = score["ifd"]
        # As our own talk: it quotes the model's name, which must steer no terminal and order nothing of a build server.
        said.seek(0)
        for line in said:
            talk(visible(line.decode("utf-8", "replace").rstrip("\n")))
        if child.returncode:
            raise CurateError(
                "E968 cannot-score",
                f"`train ifd` ended with exit code {child.returncode} on the model {one_line(model)}",
                "The messages above say why.",
            )
    return scores
