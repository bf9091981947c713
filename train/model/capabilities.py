"""Which of our kernels a model can use, found out by trying: where numbers differ, the model keeps its own code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional

from train.model.attention import NAME, KVCache, pack, packing, register
from train.model.layers import fuse_norms
from train.model.memory import keep_freed_memory
from train.model.parts import are_close, decoder_of, evaluating, head_weight, inner_of

_LENGTHS = (12, 3, 18)
_OTHER_WAYS = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError)
"""Errors of models that take no positions, have an attention of their own, or layers without a number."""


@dataclass(frozen=True)
class Capabilities:
    """Which of our ways to compute give what the model's own code gives."""

    has_packing: bool
    """Examples end to end give what each alone gives."""
    has_kv_cache: bool
    """So do `KVCache` and branches."""
    has_plain_head: bool
    """logits = hidden @ weight.T + bias; soft caps, scales and adapted heads are not so."""


_CAPABILITIES: WeakKeyDictionary[torch.nn.Module, Capabilities] = WeakKeyDictionary()


def optimize_for_device(model: Any) -> Any:
    """Return ``model``, made fast for its device; call it before adapters are added."""
    if next(model.parameters()).device.type == "cpu":
        keep_freed_memory()
        fuse_norms(model)
    capabilities_of(model)
    return model


def capabilities_of(model: Any) -> Capabilities:
    """Return what ``model`` can do, tried once for each model: ask first while it is whole and nothing disturbs it.

    Where examples can be packed, the model uses our attention from then on. Adapters change nothing of it, unless they
    replace the head.
    """
    inner = inner_of(model)
    if inner not in _CAPABILITIES:
        _CAPABILITIES[inner] = _try(inner)
    known = _CAPABILITIES[inner]
    return replace(known, has_plain_head=known.has_plain_head and _is_linear(inner.get_output_embeddings()))


def _is_linear(head: Any) -> bool:
    # Rows of new tokens are trained in a wrapper around the head.
    return isinstance(getattr(head, "original_module", head), torch.nn.Linear)


def _try(model: Any) -> Capabilities:
    weight = model.get_input_embeddings().weight
    ids = torch.arange(sum(_LENGTHS), device=weight.device) * 7919 % min(len(weight), 1000)
    texts = list(torch.split(ids, list(_LENGTHS)))
    try:
        with evaluating(model):
            alone = [_logits(model, text) for text in texts]
    except _OTHER_WAYS:
        return Capabilities(has_packing=False, has_kv_cache=False, has_plain_head=False)
    has_packing = _has_packing(model, texts, alone)
    return Capabilities(
        has_packing,
        has_kv_cache=has_packing and _has_kv_cache(model, texts, alone),
        has_plain_head=_has_plain_head(model, texts, alone),
    )


def _logits(model: Any, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids[None], use_cache=False, **arguments).logits[0]
    return logits


def _has_packing(model: Any, texts: list[torch.Tensor], alone: list[torch.Tensor]) -> bool:
    if getattr(model.config, "attention_dropout", 0.0) or not hasattr(model, "set_attn_implementation"):
        return False
    register()
    before = model.config._attn_implementation
    packed = pack(_LENGTHS, texts[0].device)
    try:
        model.set_attn_implementation(NAME)
        with evaluating(model), packing(packed):
            together = _logits(model, torch.cat(texts), position_ids=packed.positions)
        has_packing = are_close(torch.cat(alone), together)
    except _OTHER_WAYS:
        has_packing = False
    if not has_packing:
        model.set_attn_implementation(before)
    return has_packing


def _has_kv_cache(model: Any, texts: list[torch.Tensor], alone: list[torch.Tensor]) -> bool:
    # Read the texts but for two tokens each, then those one by one; and the last text as a branch of the first.
    device = texts[0].device
    begun = [text[:-2] for text in texts]
    cache = KVCache([len(text) for text in begun], [24] * len(begun), device)
    packed = pack(cache.lengths, device)
    branched = pack([_LENGTHS[0] + 5], device, [(2, 3)])
    trunk, second, third = texts
    try:
        with evaluating(model):
            with packing(packed, cache):
                _logits(model, torch.cat(begun), position_ids=packed.positions)
            for step in (-2, -1):
                ids = torch.stack([text[step] for text in texts])[:, None]
                with packing(None, cache):
                    last = model(input_ids=ids, position_ids=cache.positions, use_cache=False).logits[:, -1]
                cache.grow()
            branches = [second[:2], third[:3]]
            with packing(branched):
                together = _logits(model, torch.cat([trunk, *branches]), position_ids=branched.positions)
            joined = [_logits(model, torch.cat([trunk, branch]))[len(trunk) :] for branch in branches]
    except _OTHER_WAYS:
        return False
    is_continued = are_close(last, torch.stack([logits[-1] for logits in alone]))
    return is_continued and are_close(together[len(trunk) :], torch.cat(joined))


def _has_plain_head(model: Any, texts: list[torch.Tensor], alone: list[torch.Tensor]) -> bool:
    head, decoder = model.get_output_embeddings(), decoder_of(model)
    if not _is_linear(head) or decoder is None:
        return False
    weight, bias = head_weight(head), getattr(head, "bias", None)
    with evaluating(model):
        hidden = decoder(input_ids=texts[-1][None], use_cache=False).last_hidden_state[0]
        ours = functional.linear(hidden, weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype))
    return are_close(ours, alone[-1])
