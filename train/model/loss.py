"""Cross-entropy of the supervised tokens only, in chunks, with the gradient made in the forward pass.

The logits of a large vocabulary are the largest tensor of a step. So only rows that are trained are projected, a
chunk at a time, and while a chunk's logits are there its gradients are made too: three matrix products, and nothing
to keep. Idea: Cut Your Losses (Wijmans et al. 2024, arXiv:2411.09009) and Liger Kernel (arXiv:2410.10989).

B examples, T tokens, H width, V vocabulary, S supervised tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from train.data.rendering import Example
from train.model.attention import compute_dtype, packing
from train.model.batch import Batch, batch_by_length, collate, pad_multiple
from train.model.capabilities import capabilities_of, decoder_of, eval_mode, unwrap_adapters
from train.model.device import cast_weight, memory_limit

CHUNK_BYTES, _TILE = 256 << 20, 64

OnDone = Callable[[int], None]
"""Is called after each batch with the number of its rows."""


def loss_chunk_bytes(device: torch.device) -> int:
    """Return how many bytes the float32 logits of a chunk may take: each chunk reads the head, and its gradient, anew.

    256 MiB, and up to 1 GiB on a GPU: a 64th of its memory.
    """
    return CHUNK_BYTES if device.type != "cuda" else max(CHUNK_BYTES, min(1 << 30, memory_limit(device) >> 6))


@dataclass(frozen=True)
class Nll:
    """Negative log-likelihood of one example's supervised tokens: nats in sum, their number, and their UTF-8 bytes."""

    id: str
    nll: float
    num_tokens: int
    num_bytes: int


class _LinearCrossEntropy(torch.autograd.Function):
    """(hidden [S, H], weight [V, H], bias [V] or None, targets [S], weights [S] or None) -> (loss, NLL [S]).

    The loss is scale * the sum of weights * NLL. ``w`` is the weight in the compute dtype.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor,
        weights: torch.Tensor | None, scale: float, w: torch.Tensor, chunk_bytes: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        x = hidden.detach().to(w.dtype)
        grads: list[Any] = [torch.empty_like(x) if needs_hidden else None, None, None]
        nll = torch.empty(len(x), dtype=torch.float32, device=x.device)
        # Whole tiles of a matrix product.
        step = max(1, chunk_bytes // (4 * _TILE * len(w))) * _TILE
        for start in range(0, len(x), step):
            chunk = slice(start, start + step)
            logits, target = x[chunk] @ w.t(), targets[chunk, None]
            logits = logits if bias is None else logits.float() + bias.detach().float()
            share = torch.softmax(logits, -1, dtype=torch.float32)
            # The likeliest token has a share of 1 / V or more, so its logit and share give the logarithm of the sum.
            # The two logits first: their difference is small where the target is likely, and so is its rounding.
            best, chosen = logits.amax(-1).float(), logits.gather(1, target)[:, 0].float()
            nll[chunk] = (best - chosen) - share.amax(-1).log()
            if not (needs_hidden or needs_weight or needs_bias):
                continue
            # d NLL / d logits = softmax - one-hot; the scale waits for the smaller tensors.
            share.scatter_add_(1, target, torch.full_like(target, -1, dtype=torch.float32))
            if weights is not None:
                share *= weights[chunk, None]
            d_logits = logits.copy_(share) if logits.dtype == w.dtype else share.to(w.dtype)
            if needs_hidden:
                torch.mm(d_logits, w, out=grads[0][chunk])
            if needs_weight and grads[1] is not None and w.dtype == torch.float32:
                grads[1].addmm_(d_logits.t(), x[chunk])
            elif needs_weight:
                grads[1] = _added(grads[1], d_logits.t() @ x[chunk])
            if needs_bias:
                grads[2] = _added(grads[2], share.sum(0))
        ctx.grads = [
            None if grad is None or to is None else grad.to(to.dtype)
            for grad, to in zip(grads, (hidden, weight, bias), strict=True)
        ]
        ctx.scale = scale
        ctx.mark_non_differentiable(nll)
        return _summed(nll, weights) * scale, nll

    @staticmethod
    def backward(ctx: Any, d_loss: torch.Tensor, _d_nll: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Made for this call alone, so they are scaled where they lie.
        grads = [None if grad is None else grad.mul_(d_loss * ctx.scale) for grad in ctx.grads]
        ctx.grads = [None] * 3
        return (*grads, None, None, None, None, None)


def _summed(nll: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    return nll.sum() if weights is None else nll @ weights


def _added(total: torch.Tensor | None, part: torch.Tensor) -> torch.Tensor:
    """Add up chunks in float32."""
    return part.float() if total is None else total.add_(part)


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor, *,
    weights: torch.Tensor | None = None, scale: float = 1.0, dtype: torch.dtype | None = None,
    chunk_bytes: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return ``scale`` * the summed NLL of ``targets`` [S] (differentiable), and each token's NLL [S] in nats
    (detached).

    ``weights`` [S], float32, multiply each token's NLL in the sum; None is 1 for all.
    ``dtype`` is that of the matrix products (default: that of ``hidden``); the softmax is always float32.
    ``chunk_bytes`` are `loss_chunk_bytes` unless given.
    """
    w = cast_weight(weight, dtype or hidden.dtype)
    chunk_bytes = chunk_bytes or loss_chunk_bytes(hidden.device)
    if not torch.is_grad_enabled():
        # Else a weight that is trained at other times would have its gradient made here too.
        hidden, weight, bias = hidden.detach(), weight.detach(), None if bias is None else bias.detach()
    # Autocast would cast the float32 softmax's inputs behind our back.
    with torch.autocast(hidden.device.type, enabled=False):
        apply: Callable[..., tuple[torch.Tensor, torch.Tensor]] = _LinearCrossEntropy.apply
        return apply(hidden, weight, bias, targets, weights, scale, w, chunk_bytes)


def supervised_loss(model: Any, batch: Batch, *, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``scale`` * the weighted sum of the supervised tokens' NLL (differentiable), and each one's NLL [S].

    Uses the chunked head where it gives what the model itself gives (see `capabilities_of`), else the full logits.
    """
    return _head_loss(model, batch)(batch.weights, scale)


def loss_from_nll(
    model: Any, batch: Batch, grad_fn: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a loss that is any function of the supervised tokens' NLL (differentiable), and each one's NLL [S].

    ``grad_fn`` gets these NLL and returns (the loss, its gradient by each of them [S]).
    """
    head_loss = _head_loss(model, batch)
    # The gradient of each token is known only after all of them were read, so the head is gone through twice.
    with torch.no_grad():
        _, nll = head_loss(None, 1.0)
    value, weights = grad_fn(nll)
    sum_of_weighted, _ = head_loss(weights, 1.0)
    # The value of the loss, with the gradient of the weighted sum, which is its own.
    return sum_of_weighted + (value - sum_of_weighted).detach(), nll


def _head_loss(
    model: Any, batch: Batch
) -> Callable[[torch.Tensor | None, float], tuple[torch.Tensor, torch.Tensor]]:  # fmt: skip
    # Read the batch up to its head, and return what makes a loss of weights [S] and a scale; see `supervised_loss`.
    inner = unwrap_adapters(model)
    placed = {} if batch.packed is None else batch.packed.model_kwargs()
    if capabilities_of(model).has_linear_head:
        with packing(batch.packed):
            hidden = decoder_of(inner)(input_ids=batch.ids, use_cache=False, **placed).last_hidden_state
        head = inner.get_output_embeddings()
        rows = hidden.flatten(0, 1)[batch.logit_indices]
        return lambda weights, scale: linear_cross_entropy(
            rows, head.weight, getattr(head, "bias", None), batch.targets,
            weights=weights, scale=scale, dtype=compute_dtype(hidden),
        )  # fmt: skip
    with packing(batch.packed):
        logits = model(input_ids=batch.ids, use_cache=False, **placed).logits.flatten(0, 1)[batch.logit_indices]
    nll = functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    return lambda weights, scale: (_summed(nll, weights) * scale, nll.detach())


def nll_per_example(
    model: Any, examples: Sequence[Example], *, batch_tokens: int = 8192, on_done: OnDone | None = None
) -> list[Nll]:
    """Return each example's NLL under the model as it is now (adapter on or off), in the order of ``examples``.

    ``on_done`` gets the number of examples of each batch that is done.
    """
    device = next(model.parameters()).device
    by_index: dict[int, Nll] = {}
    with eval_mode(model):
        is_packed = capabilities_of(model).has_packing
        for group in batch_by_length([len(example.ids) for example in examples], batch_tokens, is_packed=is_packed):
            chosen = [examples[index] for index in group]
            batch = collate(chosen, device, is_packed=is_packed, round_to=pad_multiple(device))
            _, nll = supervised_loss(model, batch)
            # In float64 on the CPU, since Apple's devices have none.
            sums = torch.zeros(len(chosen), dtype=torch.float64)
            sums.index_add_(0, batch.example_indices.cpu(), nll.cpu().double())
            for index, example, total in zip(group, chosen, sums.tolist(), strict=True):
                by_index[index] = Nll(example.id, total, example.num_supervised, example.num_bytes)
            if on_done is not None:
                on_done(len(group))
    return [by_index[index] for index in range(len(examples))]
