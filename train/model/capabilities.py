"""What a model of transformers is made of, and which faster ways of computing it can use.

Models are foreign code, so nothing is concluded from their names: each way is tried on a few tokens, and where the
numbers differ the model keeps its own. Norms become one node of the graph on a CPU (without that a step of the small
model of `benchmarks/train_cpu.py` takes 3 to 5 % longer and a tenth more memory), layers are compiled on a GPU, where a
run is long enough to earn the compilation back, and activations may be computed again instead of kept: Chen et al. 2016
(arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from train.base import console
from train.base.errors import first_line
from train.model.attention import NAME, has_varlen, pack, packed_now, packing, register, unread_mask, working_dtype
from train.model.device import computing
from train.model.kv_cache import KVCache, TokenSteps
from train.recipe import Checkpointing


def inner_of(model: Any) -> Any:
    """Return the model that adapters were added to, which has them in it; without adapters ``model`` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_of(model: Any) -> Any:
    """Return the model without its head, adapters included; None where it has no such part."""
    inner = inner_of(model)
    decoder = getattr(inner, inner.base_model_prefix, None)
    return decoder if decoder is not inner else None


def head_weight(head: Any) -> Any:
    """Return the matrix [V, H] that ``head`` multiplies by, with the trained rows of new tokens where they are on."""
    rows = getattr(head, "token_adapter", None)
    if rows is None:
        return head.weight
    # peft's own ``weight`` has the trained rows also while the adapter is switched off.
    return rows.base_layer.weight if rows.disable_adapters else rows.get_merged_weights(rows.active_adapters)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
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
        # With matrices that are kept in bfloat16 a model computes under autocast alone.
        is_half = torch.bfloat16 in {weight.dtype for weight in inner.parameters()}
        with torch.autocast(inner.device.type, torch.bfloat16, enabled=is_half):
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
    has_kv_cache = has_packing and _has_kv_cache(model, texts, alone)
    if has_packing and has_varlen(ids.device):
        # Another kernel, and one that takes no float32: it is tried as it will run.
        with computing(ids.device, torch.bfloat16):
            with evaluating(model):
                rounded = [_logits(model, text) for text in texts]
            has_packing = _has_packing(model, texts, rounded)
            has_kv_cache = has_kv_cache and has_packing and _has_kv_cache(model, texts, rounded)
    return Capabilities(has_packing, has_kv_cache, has_plain_head=_has_plain_head(model, texts, alone))


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
            together = _logits(model, torch.cat(texts), **packed.arguments())
        has_packing = are_close(torch.cat(alone), together)
    except _OTHER_WAYS:
        has_packing = False
    if not has_packing:
        model.set_attn_implementation(before)
    return has_packing


def _has_kv_cache(model: Any, texts: list[torch.Tensor], alone: list[torch.Tensor]) -> bool:
    # Read the texts but for a few tokens each, then those one by one; and the last text as a branch of the first.
    device = texts[0].device
    begun = [text[:-_STEPS] for text in texts]
    cache = KVCache([len(text) for text in begun], [24] * len(begun), device)
    packed = pack(cache.lengths, device)
    branched = pack([_LENGTHS[0] + 5], device, [(2, 3)])
    trunk, second, third = texts
    try:
        with evaluating(model):
            with packing(packed, cache):
                _logits(model, torch.cat(begun), position_ids=packed.positions, attention_mask=unread_mask(device))
            steps = TokenSteps(lambda arguments: model(**arguments).logits[:, -1], cache)
            for ids in torch.stack([text[-_STEPS:] for text in texts], 1):
                last = steps.read(ids)
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


class FusedRMSNorm(nn.Module):
    """x [.., H] -> x / rms(x) * weight (Zhang and Sennrich 2019), with the weight [H] of another module."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.epsilon = epsilon

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the normed states, in the format that is computed with."""
        dtype = working_dtype(hidden_states)
        normed: torch.Tensor = _RMSNorm.apply(hidden_states, self.weight, self.epsilon, dtype)  # type: ignore[no-untyped-call]
        return normed


def fuse_norms(model: Any) -> int:
    """Replace each norm that gives the same numbers by `FusedRMSNorm`, and return how many were replaced.

    Names and parameters of the model stay. A norm that computes otherwise, such as one that scales by 1 + weight, stays
    too: one of each kind is tried.
    """
    num, verdicts = 0, dict[type, bool]()
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if not type(module).__name__.endswith("RMSNorm") or not hasattr(module, "variance_epsilon"):
                continue
            fused = FusedRMSNorm(module.weight, module.variance_epsilon)
            if type(module) not in verdicts:
                sample = torch.linspace(-3, 3, 7 * len(module.weight), device=module.weight.device).sin()
                sample = sample.view(1, 7, len(module.weight))
                with torch.no_grad():
                    verdicts[type(module)] = are_close(fused(sample), module(sample))
            if verdicts[type(module)]:
                setattr(parent, name, fused)
                num += 1
    return num


class _RMSNorm(torch.autograd.Function):
    """(x [.., H], weight [H], epsilon, format of the result) -> x / rms(x) * weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype) -> torch.Tensor:
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        normed = wide * scale
        ctx.save_for_backward(normed, scale, weight)
        ctx.dtype = x.dtype
        scaled: torch.Tensor = normed * weight
        return scaled.to(dtype)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        normed, scale, weight = ctx.saved_tensors
        wide = d_out.float()
        d_weight = (wide * normed).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, d_weight, None, None
        d_normed = wide * weight
        along = torch.linalg.vecdot(d_normed, normed).unsqueeze(-1).div_(normed.shape[-1])
        return d_normed.addcmul_(normed, along, value=-1).mul_(scale).to(ctx.dtype), d_weight, None, None


def checkpoint_activations(model: Any, how: Checkpointing = True) -> None:
    """Turn it on for a model of transformers, with adapters or without; the gradients stay the same.

    With ``how`` "offload" what a layer is computed from waits in the memory of the machine.
    """
    inner = inner_of(model)
    # Transformers 5 renamed it and warns of the old name.
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for module in inner.modules():
        if hasattr(module, "_gradient_checkpointing_func"):
            module._gradient_checkpointing_func = _offloading if how == "offload" else _checkpoint


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
    """True for a model whose layers compute their activations again."""
    inner = inner_of(model)
    # Transformers 5 renamed it, too.
    names = ("is_activation_checkpointing", "is_gradient_checkpointing")
    return bool(getattr(inner, next(name for name in names if hasattr(type(inner), name))))


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    # A layer is computed again after the forward pass has left its `packing`, without which it would see all as one.
    return nullcontext(), packing(packed_now())


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
    remove_from_cache(_as_written)
    # One graph for all lengths. Nothing of torch is set for the whole process, so a caller's own compiling stays.
    compiled: Callable[..., Any] = torch.compile(
        # Of TORCH_COMPILE_DISABLE=1 alone a full graph makes an error.
        _as_written, backend=backend, dynamic=True, fullgraph=True, disable=config.disable
    )  # fmt: skip

    def forward(layer: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal compiled
        if layer.training and torch.is_grad_enabled():
            try:
                return compiled(layer, *arguments, **named)
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                reason = first_line(getattr(error, "inner_exception", error))
                console.talk(f"warning: layers are not compiled from here on: {reason}")
                compiled = _as_written
        return _as_written(layer, *arguments, **named)

    inner = inner_of(model)
    # What transformers never puts on two devices is one layer.
    names = set(getattr(inner, "_no_split_modules", None) or ())
    for module in inner.modules():
        if type(module).__name__ in names:
            # No name in the model's state changes, and hooks, FSDP2's among them, stay outside the graph.
            module.forward = partial(forward, module)


def _as_written(layer: Any, *arguments: Any, **named: Any) -> Any:
    # Of the type that it has by now: that which FSDP2 gives it has a forward of its own, which alone computes
    # activations again.
    return type(layer).forward(layer, *arguments, **named)
