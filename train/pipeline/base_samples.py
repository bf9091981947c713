"""Text that the base writes by itself, to be trained along where no text is given that it should go on knowing.

Rehearsal on what a network says of itself: Robins 1995, Connection Science 7:123; for language models Huang et al. 2024
(arXiv:2403.01244). It is written once and cached by everything that it depends on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.base import console
from train.base.cache import open_cache
from train.base.errors import TrainError
from train.base.run_folder import versions, weights_digest
from train.base.storage import digest_of
from train.data.dataset import Row
from train.data.rendering import Renderer
from train.evaluate.answers import Draw, generate
from train.model import computing, pick_dtype
from train.model.capabilities import evaluating
from train.recipe import Recipe

_FEWEST, _MOST = 24, 512
"""Texts that are written; more of them would take longer than they teach."""
_TOKENS, _FEWEST_CHARACTERS = 128, 40


def base_samples(
    model: Any, tokenizer: Any, renderer: Renderer, recipe: Recipe, num_records: int, base_path: Path
) -> list[Row]:
    """Return texts that ``model``, the base without adapters, writes at temperature 1: the same ones for the same base.

    As many as an epoch of ``num_records`` replays, within bounds. Each begins with another first token, drawn by its
    probability. Raises TrainError "E898 no-samples" where hardly any is a text.
    """
    share = recipe.mixing.replay_share
    num = min(_MOST, max(_FEWEST, round(num_records * share / (1 - share))), int(model.config.vocab_size) // 2)
    key = digest_of({
        "weights": weights_digest(base_path), "tokenizer": renderer.digest, "num": num, "tokens": _TOKENS,
        "seed": recipe.seed, "dtype": recipe.dtype, "device": recipe.device, "versions": versions(),
    })  # fmt: skip
    cache = open_cache()
    entry = cache.get(key) if cache else None
    texts: list[str] = entry.values["texts"] if entry else _write(model, tokenizer, renderer, recipe, num)
    if cache and entry is None:
        cache.put(key, {}, {"texts": texts})
    chosen = [text for text in dict.fromkeys(texts) if len(text) >= _FEWEST_CHARACTERS]
    if len(chosen) < _FEWEST // 2:
        raise TrainError(
            "E898 no-samples", f"of {num} texts that the base wrote {len(chosen)} are long enough to be replayed",
            'Name a file of text like that which it was trained on: [mixing] replay = "FILE.jsonl".',
        )  # fmt: skip
    before = "were written by the base before" if entry else "were written by the base"
    left_out = f"; {num - len(chosen)} others are too short or repeat one" if len(chosen) < num else ""
    console.talk(f"replay: {len(chosen)} texts {before}{left_out}")
    return [Row(f"base-{number}", "", f"base-{number}", None, None, text, "the base") for number, text in
            enumerate(chosen, 1)]  # fmt: skip


def _write(model: Any, tokenizer: Any, renderer: Renderer, recipe: Recipe, num: int) -> list[str]:
    device = next(model.parameters()).device
    # What a document begins with; a tokenizer without such a token has one that ends them, which stands between two.
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else renderer.stop_ids[0]
    dtype = pick_dtype(recipe, device, sum(weights.numel() for weights in model.parameters()))
    with computing(device, dtype), evaluating(model), torch.no_grad():
        logits = model(input_ids=torch.tensor([[start]], device=device)).logits[0, -1].float().cpu().numpy()
        logits[[token for token in tokenizer.all_special_ids if token < len(logits)]] = -np.inf
        # The highest after Gumbel noise are draws without replacement (Yellott 1977).
        drawn = np.argsort(-(logits + np.random.default_rng(recipe.seed).gumbel(size=len(logits))))[:num]
        most = min(_TOKENS, (renderer.max_length or 4096) - 4)
        written = generate(
            model, [[start, int(token)] for token in drawn], max_new_tokens=most,
            stop_ids=renderer.stop_ids, batch_tokens=recipe.eval.batch_tokens, draw=Draw(1.0, recipe.seed),
        )  # fmt: skip
    texts = [
        tokenizer.decode([int(token), *answer.ids], skip_special_tokens=True)
        for token, answer in zip(drawn, written, strict=True)
    ]
    # A token that is half a letter leaves a mark that no text has.
    return [text.strip().strip("\ufffd") for text in texts]
