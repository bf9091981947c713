"""Text that is trained along against forgetting, never the text that forgetting is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from train.base import console
from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.overlap import is_same_text
from train.data.rendering import Record, Renderer, RowFault
from train.evaluate.general import general_rows
from train.recipe import SHIPPED_TEXT, MixingRecipe


def load_replay(
    renderer: Renderer, recipe: MixingRecipe, measured: Sequence[Row], folder: Path | None
) -> tuple[list[Record], str]:  # fmt: skip
    """Return the records of the recipe's general text and the SHA-256 of their texts; ([], "") where it names none.

    Texts that ``measured`` has too are left out, and so are texts over max_length; both are said. The path is read from
    ``folder``, that of the recipe file. Raises TrainError "E944 bad-general-text" where
    nothing is left, and "E924 control-token-in-data".
    """
    if recipe.replay is None:
        return [], ""
    try:
        shipped = recipe.replay == SHIPPED_TEXT
        rows = general_rows(None if shipped else (folder or Path()) / recipe.replay)
    except TrainError as error:
        # Its hint speaks of the text that is measured.
        hint = f'Name a JSONL or text file with mixing.replay, or set it to "{SHIPPED_TEXT}".'
        raise TrainError(error.code, f"mixing.replay: {error.message}", hint) from None
    # What was trained says nothing of what was forgotten, and nothing of what was learnt.
    fresh = [row for row, is_same in zip(rows, is_same_text(rows, measured), strict=True) if not is_same]
    records = []
    for row in fresh:
        try:
            records.append(renderer.record(replace(row, id=f"replay-{row.id}")))
        except RowFault as fault:
            message = f"replayed text {row.id} of {row.source}: {fault.reason}"
            raise TrainError(fault.code, message, fault.hint) from None
    short = [record for record in records if not renderer.max_length or len(record.ids) <= renderer.max_length]
    left_out = {"are test records or those of eval.general": len(rows) - len(fresh),
                "are over max_length": len(records) - len(short)}  # fmt: skip
    reasons = [f"{num} of {len(rows)} replayed texts {reason}" for reason, num in left_out.items() if num]
    if not short:
        message = f"mixing.replay: {'; '.join(reasons)}: none is left to replay"
        hint = "Name another file for mixing.replay or for eval.general."
        raise TrainError("E944 bad-general-text", message, hint)
    for reason in reasons:
        console.info(f"warning: {reason}; left out")
    return short, hashlib.sha256("\0".join(row.text or "" for row in fresh).encode()).hexdigest()
