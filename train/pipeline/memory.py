"""The memory of a training step by arithmetic, and what a token of it is worth.

The arithmetic counts the tensors that live at once at the height of a backward pass. H width, I width of the gated
layer, A width of all query heads, K width of all key heads, V vocabulary, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train.model import num_parameters
from train.model.batch import BatchSampler
from train.model.loss import CHUNK_BYTES, loss_chunk_bytes
from train.model.parallel import keeps_whole
from train.recipe import Checkpointing, Recipe

if TYPE_CHECKING:
    import torch

USABLE = 0.9
"""Share of a device's memory that is planned with; the rest is the context's, the kernels' and what lies scattered."""
_FLOAT = 4
# Bytes of both moments of a trained number; of 8 bits with the scale of each block of 256.
_MOMENTS = {"adamw_torch_fused": 8.0, "adamw_8bit": 2 + 8 / 256}


@dataclass(frozen=True)
class Shape:
    """What of a model and a recipe decides its memory; counts of parameters, widths, and bytes of a number."""

    parameters: int
    trained: int
    frozen_bytes: int
    matrices: int
    width: int
    gated: int
    queries: int
    keys: int
    heads: int
    vocabulary: int
    embeddings: int
    layers: int
    rank: int
    bytes_of_a_number: int
    has_head_gradient: bool
    checkpointing: Checkpointing
    moments: float = _MOMENTS["adamw_torch_fused"]
    """Bytes of the optimizer for a trained number."""
    chunk_bytes: int = CHUNK_BYTES
    """Of the logits that are there at once, in float32."""
    shards: int = 1
    """Into how many parts weights, gradients and optimizer are cut."""
    is_kept: bool = False
    """What is cut is whole within a step, and so are its gradients."""

    @property
    def gathered(self) -> int:
        """Parameters that a device has beside its shard: all, or the embeddings', a layer's and the next one's."""
        embeddings = self.vocabulary * self.width
        layers = self.layers if self.is_kept else min(2, self.layers)
        whole = embeddings + layers * (self.parameters - embeddings) // self.layers
        return whole * (self.shards - 1) // self.shards


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a step; ``activations`` are those of one micro-batch, ``head`` one chunk of logits.

    ``overhead`` is what a measurement found besides: pages of libraries, buffers of kernels, gaps of the allocator.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    overhead: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(vars(self).values())


def shape_of(
    model: Any, recipe: Recipe, bytes_of_a_number: int, *, checkpointing: Checkpointing, shards: int = 1,
    limit: int = 0,
) -> Shape:  # fmt: skip
    """Return the shape of a model that is ready to train: adapters added, or every weight trainable.

    ``limit`` is the memory of a device in bytes, which decides what is kept of several ``shards``.
    """
    config = getattr(model.config, "text_config", None) or model.config
    heads = int(config.num_attention_heads)
    width = int(config.hidden_size)
    per_head = int(getattr(config, "head_dim", None) or width // heads)
    trained = num_parameters(model, is_trained_only=True)
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2 and p.element_size() > bytes_of_a_number)
    head = model.get_output_embeddings()
    return Shape(
        parameters=num_parameters(model),
        trained=trained,
        frozen_bytes=sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad),
        matrices=matrices,
        width=width,
        gated=int(getattr(config, "intermediate_size", None) or 4 * width),
        queries=heads * per_head,
        keys=int(getattr(config, "num_key_value_heads", None) or heads) * per_head,
        heads=heads,
        vocabulary=int(config.vocab_size),
        embeddings=int(config.vocab_size) * width * (1 if model.config.tie_word_embeddings else 2),
        layers=int(config.num_hidden_layers),
        rank=recipe.lora_r if recipe.method == "lora" else 0,
        bytes_of_a_number=bytes_of_a_number,
        has_head_gradient=head is not None and any(p.requires_grad for p in head.parameters()),
        checkpointing=checkpointing,
        moments=_MOMENTS[recipe.optim],
        chunk_bytes=loss_chunk_bytes(next(model.parameters()).device),
        shards=shards,
        is_kept=keeps_whole(num_parameters(model), bytes_of_a_number, shards, limit),
    )


def useful_flops(shape: Shape, steps: BatchSampler) -> float:
    """Return the floating-point operations that a token of the run is worth in the mean, a multiplication and its
    addition being two: the head's of supervised tokens, attention within each text, nothing for padding or twice.
    """
    tokens, head = int(steps.lengths.sum()), shape.vocabulary * shape.width
    body = shape.trained - shape.embeddings * shape.has_head_gradient
    # Forward, and the gradients of what comes in and of the weight, which frozen ones do without.
    per_token = 4 * (shape.parameters - shape.embeddings) + 2 * body
    per_target = (4 + 2 * shape.has_head_gradient) * head
    # Scores and their use, half of the square.
    attention = 6 * shape.queries * shape.layers * int((steps.lengths**2).sum())
    return per_token + (per_target * int(steps.supervised.sum()) + attention) / tokens


def estimate(shape: Shape, *, tokens: int, longest: int, supervised: int, is_blocked: bool) -> Memory:
    """Return the memory of a micro-batch of ``tokens``, of which ``supervised`` are trained and the longest example has
    ``longest``; ``is_blocked``: attention keeps its weights (a CPU), else it makes them anew (fused kernels).
    """
    size = shape.bytes_of_a_number
    layer = _layer_bytes(shape, is_blocked=is_blocked, reach=longest / 2) * tokens
    # With checkpointing the input of each layer stays, and one layer at a time is there whole. Offloaded inputs are
    # there for the layer at work and the next one.
    inputs = min(2, shape.layers) if shape.checkpointing == "offload" else shape.layers
    thin = tokens * shape.width * _FLOAT * inputs + layer
    activations = thin if shape.checkpointing else layer * shape.layers
    activations += tokens * shape.width * (2 * _FLOAT + size)
    # Under autocast every matrix that is kept in float32 is there in the small format too.
    copies = min(shape.matrices, shape.gathered or shape.matrices) * size
    rows = min(supervised, max(16, shape.chunk_bytes // (_FLOAT * shape.vocabulary)))
    # Logits, which become their own gradient; their softmax is there for a few rows at a time, or else for all.
    wide = 0 if is_blocked else 2 * _FLOAT + size % _FLOAT - size
    head = rows * shape.vocabulary * (size + wide) + supervised * shape.width * 2 * size
    if shape.has_head_gradient:
        # The gradient of the chunks, and that of tied embeddings beside it until both are added up.
        head += shape.vocabulary * shape.width * (2 * _FLOAT + size % _FLOAT)
    return Memory(
        weights=(shape.trained * _FLOAT + shape.frozen_bytes) // shape.shards + shape.gathered * _FLOAT,
        gradients=shape.trained * _FLOAT // (1 if shape.is_kept else shape.shards),
        optimizer=int(shape.trained * shape.moments) // shape.shards,
        activations=int(activations + copies),
        head=int(head),
    )


def _layer_bytes(shape: Shape, *, is_blocked: bool, reach: float) -> float:
    # Bytes that one layer keeps of one token until its backward pass.
    size, full = shape.bytes_of_a_number, _FLOAT
    norms: float = 2 * shape.width * (full + size)
    # Queries and keys before and after their rotation, values, and the mixture twice (as it is, and transposed).
    attention: float = (2 * shape.queries + 2 * shape.keys) * full + (3 * shape.queries + 2 * shape.keys) * size
    attention += shape.heads * (reach * size if is_blocked else full)
    gated = 3 * shape.gated * size
    adapters = 7 * shape.rank * size
    if shape.rank and size < full:
        # An adapter computes in its own format from inputs that were cast for it.
        adapters += shape.rank * 7 * full
    return norms + attention + gated + adapters


def tokens_of(steps: BatchSampler, group: Sequence[int]) -> int:
    """Return the tokens of the micro-batch of the examples ``group`` (indices), padding included."""
    lengths = steps.lengths[group]
    return int(lengths.sum()) if steps.is_packed else int(lengths.max()) * len(lengths)


def peak(shape: Shape, steps: BatchSampler, group: Sequence[int], device: torch.device) -> Memory:
    """Return the memory of the micro-batch of the examples ``group`` (indices)."""
    return estimate(
        shape, tokens=tokens_of(steps, group), longest=int(steps.lengths[group].max()),
        supervised=int(steps.supervised[group].sum()), is_blocked=device.type == "cpu",
    )  # fmt: skip
