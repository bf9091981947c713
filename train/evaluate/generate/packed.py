"""Decoding without padding: prompts are read end to end, and their rows then grow in stores of keys and values.

B rows that are still written, N tokens of all prompts, H width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from train.evaluate.generate.answers import Answers
from train.model.compute import KVCache, capabilities_of, decoder_of, head_weight, pack, packing, working_dtype


def can_decode(model: Any) -> bool:
    """True where `decode` gives what the model itself gives; tried once for each model."""
    capabilities = capabilities_of(model)
    return capabilities.has_kv_cache and capabilities.has_plain_head


def decode(
    model: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int], stop_ids: set[int]
) -> list[tuple[list[int], bool]]:
    """Return the greedy continuation of each prompt, up to its limit, and whether a stop token ended it.

    Prompts come in falling order of the tokens that they and their answers may have.
    """
    decoder, head = decoder_of(model), _Head(model)
    device = next(model.parameters()).device
    lengths = [len(prompt) for prompt in prompts]
    answers = Answers(limits, stop_ids)
    kv_cache = KVCache(lengths, [length + limit for length, limit in zip(lengths, limits, strict=True)], device)
    ids = torch.from_numpy(np.concatenate([np.asarray(prompt, dtype=np.int64) for prompt in prompts])).to(device)
    packed = pack(lengths, device)
    last = packed.starts[1:].long() - 1
    with packing(packed, kv_cache):
        hidden = decoder(input_ids=ids[None], position_ids=packed.positions, use_cache=False).last_hidden_state[0]
    hidden = hidden[last]
    while True:
        tokens = head.likeliest(hidden)
        open_rows = answers.take(tokens.tolist())
        if not open_rows:
            return answers.done()
        order = kv_cache.select(open_rows)
        answers.keep(order)
        ids = tokens[torch.tensor(order, device=device)] if len(order) < len(tokens) else tokens
        with packing(None, kv_cache):
            hidden = decoder(
                input_ids=ids[:, None], position_ids=kv_cache.positions, use_cache=False
            ).last_hidden_state[:, 0]
        kv_cache.grow()


class _Head:
    """The model's plain head, its weights cast once and not at every step."""

    def __init__(self, model: Any) -> None:
        head = model.get_output_embeddings()
        weight, bias = head_weight(head), getattr(head, "bias", None)
        self._device = weight.device.type
        self._dtype = working_dtype(weight)
        self._weight = weight.to(self._dtype)
        self._bias = None if bias is None else bias.to(self._dtype)

    def likeliest(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the likeliest token [B] after each of ``hidden`` [B, H]."""
        with torch.autocast(self._device, enabled=False):
            logits = functional.linear(hidden.to(self._dtype), self._weight, self._bias)
        # On a CPU numpy's takes an eighth of the time.
        return torch.from_numpy(logits.float().numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)
