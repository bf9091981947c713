"""Text that is trained along against forgetting: a file's, the shipped one, or what the base writes by itself.

It is never the text that forgetting is measured on. Rehearsal on what a network says of itself: Robins 1995, Connection
Science 7:123; for language models Huang et al. 2024 (arXiv:2403.01244).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.base import console
from train.base.cache import open_cache
from train.base.errors import TrainError
from train.base.run_folder import versions
from train.base.storage import digest_of
from train.data.dataset import Row
from train.data.overlap import is_same_text
from train.data.rendering import Record, Renderer, RowFault
from train.evaluate.answers import Draw, generate
from train.evaluate.general import general_rows
from train.model import computing
from train.model.capabilities import evaluating
from train.recipe import SHIPPED_TEXT, MixingRecipe, Recipe

_FEWEST, _MOST = 24, 512
"""Texts that a base writes; more of them would take longer than they teach."""
_TOKENS, _FEWEST_CHARACTERS = 128, 40


def load_replay(
    renderer: Renderer, recipe: MixingRecipe, measured: Sequence[Row], folder: Path | None,
    texts: Sequence[Row] | None = None,
) -> tuple[list[Record], str]:  # fmt: skip
    """Return the records of the recipe's general text and the SHA-256 of their texts; ([], "") where it names none.

    Texts that ``measured`` has too are left out, and so are texts over max_length; both are said. The path is read from
    ``folder``, that of the recipe file; ``texts`` stand in its place. Raises TrainError "E944 bad-general-text" where
    nothing is left, and "E924 control-token-in-data".
    """
    if recipe.replay is None:
        return [], ""
    try:
        shipped = recipe.replay == SHIPPED_TEXT
        rows = general_rows(None if shipped else (folder or Path()) / recipe.replay) if texts is None else texts
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


def base_samples(
    model: Any, renderer: Renderer, recipe: Recipe, dtype: torch.dtype, num_records: int, weights: str
) -> list[Row]:
    """Return texts that ``model``, the base without adapters, writes at temperature 1: the same ones for the same base.

    As many as an epoch of ``num_records`` replays, within bounds; ``weights`` is the digest by which they are cached.
    Each begins with another first token, drawn by its probability. Raises TrainError "E898 no-samples" where hardly any
    is a text.
    """
    share = recipe.mixing.replay_share
    num = min(_MOST, max(_FEWEST, round(num_records * share / (1 - share))), int(model.config.vocab_size) // 2)
    key = digest_of({
        "weights": weights, "tokenizer": renderer.digest, "num": num, "tokens": _TOKENS, "seed": recipe.seed,
        "dtype": str(dtype), "device": recipe.device, "versions": versions(),
    })  # fmt: skip
    cache = open_cache()
    entry = cache.get(key) if cache else None
    texts: list[str] = entry.values["texts"] if entry else _write(model, renderer, recipe, dtype, num)
    if cache and entry is None:
        cache.put(key, (), {"texts": texts})
    chosen = [text for text in dict.fromkeys(texts) if len(text) >= _FEWEST_CHARACTERS]
    if len(chosen) < _FEWEST // 2:
        raise TrainError(
            "E898 no-samples", f"of {num} texts that the base wrote {len(chosen)} are long enough to be replayed",
            'Name a file of text like that which it was trained on: [mixing] replay = "FILE.jsonl".',
        )  # fmt: skip
    left_out = f"; {num - len(chosen)} others are too short or repeat one" if len(chosen) < num else ""
    console.info(f"replay: {len(chosen)} texts were written by the base{' before' * bool(entry)}{left_out}")
    names = [f"base-{number}" for number in range(1, len(chosen) + 1)]
    return [Row(name, "", name, None, None, text, "the base") for name, text in zip(names, chosen, strict=True)]


def _write(model: Any, renderer: Renderer, recipe: Recipe, dtype: torch.dtype, num: int) -> list[str]:
    device, tokenizer = next(model.parameters()).device, renderer.tokenizer
    # What a document begins with; a tokenizer without such a token has one that ends them, which stands between two.
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else renderer.stop_ids[0]
    with computing(device, dtype), evaluating(model), torch.no_grad():
        logits = model(input_ids=torch.tensor([[start]], device=device)).logits[0, -1].float().cpu().numpy()
        logits[[token for token in tokenizer.all_special_ids if token < len(logits)]] = -np.inf
        # The highest after Gumbel noise are draws without replacement (Yellott 1977).
        noise = np.random.default_rng(recipe.seed).gumbel(size=len(logits))
        first = [int(token) for token in np.argsort(-(logits + noise))[:num]]
        written = generate(
            model, [[start, token] for token in first], max_new_tokens=min(_TOKENS, (renderer.max_length or 4096) - 4),
            stop_ids=renderer.stop_ids, batch_tokens=recipe.eval.batch_tokens, draw=Draw(1.0, recipe.seed),
        )  # fmt: skip
    ids = [[token, *answer.ids] for token, answer in zip(first, written, strict=True)]
    # A token that is half a letter leaves a mark that no text has.
    return [text.strip().strip("\ufffd") for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
