"""Parts of a model of transformers, and the faster ways of computing that it can use.

Models are foreign code, so nothing is concluded from their names: each way is tried on a few tokens, and where the
numbers differ the model keeps its own. Layers can be compiled, which a long run on a GPU earns back. Activations can be
computed again instead of kept: Chen et al. 2016 (arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.autograd.graph import save_on_cpu
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from train.base import console
from train.base.errors import first_line
from train.model.attention import (
    NAME,
    KVCache,
    current_attention,
    has_varlen,
    pack,
    packing,
    placeholder_mask,
    register_attention,
    use_attention,
)
from train.model.device import autocasting
from train.recipe import Checkpointing


def unwrap_adapters(model: Any) -> Any:
    """Return the model that adapters were added to, which has them in it; without adapters ``model`` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_of(model: Any) -> Any:
    """Return the model without its head, adapters included; None where it has no such part."""
    inner = unwrap_adapters(model)
    decoder = getattr(inner, inner.base_model_prefix, None)
    return decoder if decoder is not inner else None


@contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Within, ``model`` is in evaluation mode and no gradient is made; after that it is in the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def are_close(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Return whether two ways of computing the same gave the same, up to the number format's rounding."""
    is_exact = first.dtype == torch.float32 and not torch.is_autocast_enabled(first.device.type)
    tolerance = 1e-4 if is_exact else 3e-2
    # A broken model gives NaN on both sides; the loss finds that, and names it.
    largest = float(first.float().nan_to_num(0.0).abs().max())
    return torch.allclose(first.float(), second.float(), rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def first_not_finite(named: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """Return the name of the first tensor with a NaN or an infinity in it, None where there is none.

    Of a sharded tensor each rank checks its own part.
    """
    for name, weight in named:
        tensor = weight.to_local() if hasattr(weight, "to_local") else weight
        # The sum is a cheap first test; as finite numbers may overflow in it, the elements decide.
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            return name
    return None


_LENGTHS, _STEPS = (12, 4, 18), 3
_UNSUPPORTED = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError)
"""Errors of models that take no positions, have an attention of their own, or layers without a number."""


@dataclass(frozen=True)
class Capabilities:
    """Which of our ways to compute give what the model's own code gives."""

    has_packing: bool
    """Examples end to end give what each alone gives, and so do the rows of a `KVCache`."""
    has_linear_head: bool
    """logits = hidden @ weight.T + bias; soft caps, scales and adapted heads are not so."""


_CAPABILITIES: WeakKeyDictionary[torch.nn.Module, Capabilities] = WeakKeyDictionary()


def capabilities_of(model: Any) -> Capabilities:
    """Return what ``model`` can do, tried once for each model: ask first while it is whole and nothing disturbs it.

    Where examples can be packed, the model uses our attention from then on. Adapters change nothing of it, unless they
    replace the head.
    """
    inner = unwrap_adapters(model)
    if inner not in _CAPABILITIES:
        # With matrices that are kept in bfloat16 a model computes under autocast alone.
        is_half = torch.bfloat16 in {weight.dtype for weight in inner.parameters()}
        with torch.autocast(inner.device.type, torch.bfloat16, enabled=is_half), eval_mode(inner):
            _CAPABILITIES[inner] = _try(inner)
    found = _CAPABILITIES[inner]
    return replace(found, has_linear_head=found.has_linear_head and _is_linear(inner.get_output_embeddings()))


def _is_linear(head: Any) -> bool:
    return isinstance(head, torch.nn.Linear)


def _try(model: Any) -> Capabilities:
    weight = model.get_input_embeddings().weight
    ids = torch.arange(sum(_LENGTHS), device=weight.device) * 7919 % min(len(weight), 1000)
    texts = list(torch.split(ids, list(_LENGTHS)))
    try:
        alone = _logits(model, texts[-1])
    except _UNSUPPORTED:
        return Capabilities(has_packing=False, has_linear_head=False)
    has_packing = _has_packing(model, texts)
    if has_packing and has_varlen(ids.device):
        # Another kernel, and one that takes no float32: it is tried as it will run.
        with autocasting(ids.device, torch.bfloat16):
            has_packing = _has_packing(model, texts)
    return Capabilities(has_packing, has_linear_head=_has_linear_head(model, texts[-1], alone))


def _logits(model: Any, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids[None], use_cache=False, **arguments).logits[0]
    return logits


def _has_packing(model: Any, texts: list[torch.Tensor]) -> bool:
    if getattr(model.config, "attention_dropout", 0.0) or not hasattr(model, "set_attn_implementation"):
        return False
    register_attention()
    before, device = model.config._attn_implementation, texts[0].device
    # The texts as one row; then all but the last tokens of each, and those one by one.
    packed, cache = pack(_LENGTHS, device), KVCache([length - _STEPS for length in _LENGTHS], 24, device)
    begun = pack(cache.lengths, device)
    windows, store = set[int | None](), cache.prefill(begun)

    def attend(*arguments: Any) -> torch.Tensor:
        windows.add(arguments[-1])
        return store(*arguments)

    try:
        alone = [_logits(model, text) for text in texts]
        model.set_attn_implementation(NAME)
        with packing(packed):
            together = _logits(model, torch.cat(texts), **packed.model_kwargs())
        with use_attention(attend):
            row = torch.cat([text[:-_STEPS] for text in texts])
            _logits(model, row, position_ids=begun.positions, attention_mask=placeholder_mask(device))
        read = partial(cache.decode_step, lambda **arguments: model(**arguments).logits[:, -1])
        last = [read(ids) for ids in torch.stack([text[-_STEPS:] for text in texts], 1)][-1]
        wanted = torch.cat([*alone, torch.stack([logits[-1] for logits in alone])])
        has_packing = _has_windows(model, windows) and are_close(wanted, torch.cat([together, last]))
    except _UNSUPPORTED:
        has_packing = False
    if not has_packing:
        model.set_attn_implementation(before)
    return has_packing


def _has_windows(model: Any, windows: set[int | None]) -> bool:
    # Most windows are wider than the texts that are tried, so the config says which of them layers have to ask for.
    # Chunked layers forget at the end of each chunk, which is no window.
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    window = getattr(config, "sliding_window", None)
    return "chunked_attention" not in kinds and (
        window is None or window in windows or "sliding_attention" not in kinds
    )


def _has_linear_head(model: Any, text: torch.Tensor, logits: torch.Tensor) -> bool:
    head, decoder = model.get_output_embeddings(), decoder_of(model)
    if not _is_linear(head) or decoder is None:
        return False
    weight, bias = head.weight, head.bias
    hidden = decoder(input_ids=text[None], use_cache=False).last_hidden_state[0]
    ours = functional.linear(hidden, weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype))
    return are_close(ours, logits)


def checkpoint_activations(model: Any, mode: Checkpointing = True) -> None:
    """Turn it on for a model of transformers, with adapters or without; the gradients stay the same.

    With ``mode`` "offload" what a layer is computed from waits in the memory of the machine.
    """
    inner = unwrap_adapters(model)
    # Transformers 5 renamed it and warns of the old name.
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    enable()
    for module in inner.modules():
        if hasattr(module, "_gradient_checkpointing_func"):
            module._gradient_checkpointing_func = _offloading if mode == "offload" else _checkpoint


def _checkpoint(compute: Callable[..., Any], *arguments: Any) -> Any:
    # Dynamo refuses such contexts, and a compiled layer needs none: how its row lies is among its arguments. Not
    # reentrant, so that it needs no gradient of the inputs, of which frozen embeddings have none.
    contexts: dict[str, Any] = {} if torch.compiler.is_compiling() else {"context_fn": _contexts}
    return checkpoint(compute, *arguments, use_reentrant=False, **contexts)


def _offloading(compute: Callable[..., Any], *arguments: Any) -> Any:
    # Around a checkpoint, whose own hooks take what is saved inside it: only the inputs are left. Of pinned memory
    # nothing waits where torch is new enough: the copy back comes later in the same queue.
    with save_on_cpu(pin_memory=True):
        return _checkpoint(compute, *arguments)


def is_checkpointing(model: Any) -> bool:
    """Return True for a model whose layers compute their activations again."""
    # What transformers' own property asks, which version 5 renamed.
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    # A layer is computed again after the forward pass has left `use_attention`, and would else see all as one text.
    return nullcontext(), use_attention(current_attention())


def compile_layers(model: Any, *, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the layers of ``model`` for training, adapters included.

    In evaluation mode, and where no gradient is made, they run as written; so they do where torch cannot compile them,
    which is said.
    """
    # Slow to import, and nothing else needs it.
    from torch._dynamo import config
    from torch._dynamo.eval_frame import remove_from_cache
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    # What an earlier model in this process left would count against torch's limit of 8 graphs.
    remove_from_cache(_run_eager)
    # One graph for all lengths. Nothing of torch is set for the whole process, so a caller's own compiling stays.
    compiled: Callable[..., Any] = torch.compile(
        # Of TORCH_COMPILE_DISABLE=1 alone a full graph makes an error.
        _run_eager, backend=backend, dynamic=True, fullgraph=True, disable=config.disable
    )  # fmt: skip

    # `kernels` 0.19, which transformers 5.25 requires, notes the functions in use in a variable of its own at each
    # layer. Dynamo refuses that where activations are computed again, unless it may leave the note out the second time.
    permission = "skip_fwd_side_effects_in_bwd_under_checkpoint"
    permitted = {permission: True} if hasattr(config, permission) else {}

    def forward(layer: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal compiled
        if layer.training and torch.is_grad_enabled():
            try:
                with config.patch(permitted):
                    return compiled(layer, *arguments, **named)
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                reason = first_line(getattr(error, "inner_exception", error))
                console.info(f"warning: layers are not compiled from here on: {reason}")
                compiled = _run_eager
        return _run_eager(layer, *arguments, **named)

    inner = unwrap_adapters(model)
    # What transformers never puts on two devices is one layer.
    names = set(getattr(inner, "_no_split_modules", None) or ())
    for module in inner.modules():
        if type(module).__name__ in names:
            # No name in the model's state changes, and hooks, FSDP2's among them, stay outside the graph.
            module.forward = partial(forward, module)


def _run_eager(layer: Any, *arguments: Any, **named: Any) -> Any:
    # Of the type that it has by now: that which FSDP2 gives it has a forward of its own, which alone computes
    # activations again.
    return type(layer).forward(layer, *arguments, **named)
