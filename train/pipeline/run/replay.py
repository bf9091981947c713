"""General text that is trained along against forgetting, and never the text that forgetting is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from train.base import console
from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.rendering import Example, Renderer, RowFault
from train.evaluate.general import general_rows
from train.recipe import SHIPPED_TEXT, MixingRecipe


def load_replay(
    renderer: Renderer, recipe: MixingRecipe, measured: Sequence[Row], folder: Path | None
) -> tuple[list[Example], str]:
    """Return the examples of the recipe's general text and the SHA-256 of their texts; ([], "") where it names none.

    Texts that ``measured`` has too are left out, since bits per byte on trained text say nothing of what was forgotten,
    and so are texts over max_length; both are said. The path is read from ``folder``, that of the recipe file. Raises
    TrainError "E944 bad-general-text" where nothing is left, and "E924 control-token-in-data".
    """
    if recipe.replay is None:
        return [], ""
    try:
        rows = general_rows(None if recipe.replay == SHIPPED_TEXT else (folder or Path()) / recipe.replay)
    except TrainError as error:
        # Its hint speaks of the text that is measured.
        hint = f'mixing.replay names a JSONL or text file, or is "{SHIPPED_TEXT}"'
        raise TrainError(error.code, f"mixing.replay: {error.message}", hint) from None
    taken = {_words(row) for row in measured}
    fresh = [row for row in rows if _words(row) not in taken]
    examples, num_long = [], 0
    for row in fresh:
        try:
            example = renderer.whole(replace(row, id=f"replay-{row.id}"))
        except RowFault as fault:
            raise TrainError(
                fault.code, f"replayed text {row.id} of {row.source}: {fault.reason}", fault.hint
            ) from None
        if renderer.max_length and len(example.ids) > renderer.max_length:
            num_long += 1
        else:
            examples.append(replace(example, is_replay=True))
    num_measured = len(rows) - len(fresh)
    if not examples:
        raise TrainError(
            "E944 bad-general-text",
            f"mixing.replay: of {len(rows)} texts {num_measured} are those that eval.general measures and {num_long} "
            "are over max_length, so none is left to replay",
            "name another file for mixing.replay or for eval.general",
        )
    if num_measured:
        console.talk(f"warning: {num_measured} of {len(rows)} replayed texts are what eval.general measures; left out")
    if num_long:
        console.talk(f"warning: {num_long} of {len(rows)} replayed texts are over max_length; left out")
    digest = hashlib.sha256("\0".join(row.text or "" for row in fresh).encode()).hexdigest()
    return examples, digest


def _words(row: Row) -> str:
    return " ".join((row.text or "").split())
